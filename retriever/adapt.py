"""Weights that follow the query: what looks like a code, or stands in quotation marks, is meant to the letter.

In the spirit of HyPA-RAG's query classifier (arXiv 2409.09046), by the look of the words alone. What a strand's own
scores say of a query is in the default normalisation already (`normalise.norm`).
"""

from __future__ import annotations

import re

import numpy as np

from .errors import QueryError
from .limits import within
from .ranking import Ranking

# A word with a digit and a letter (AB-1234, E0425), with signs inside (foo_bar, os.path, a/b.c), or humps (camelCase).
_CODE = re.compile(
    r"(?<!\w)(?:(?=[\w./:#-]*\d)(?=[\w./:#-]*[A-Za-z])[\w./:#-]+|\w+(?:[_.:/#]+\w+)+|[a-z]+(?:[A-Z][a-z0-9]*)+)(?!\w)"
)
_QUOTED = re.compile('"[^"]+"|“[^”]+”|«[^»]+»')
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th|s)|[\d.,]+(?:%|[kKmMgG]?[bBgmW])", re.ASCII)


def adapt(ranking: Ranking, *, codes: float = 3.0, quoted: float = 3.0, words: int = 0, short: float = 1.0) -> Ranking:
    """Returns the ranking with another weight of the lexical strand, where the query asks for it by its look.

    Factors multiply the strand's weight; the weights are then what they are, for a fused score compares within a query.

    Args:
        ranking: what was found so far.
        codes: the factor of a query with an identifier, a part number, a path.
        quoted: of one with a phrase in quotation marks.
        words: a query of no more words is short; 0 for none.
        short: the factor of a short query.
    """
    within("adapt", 0, codes=codes, quoted=quoted, words=words, short=short)
    column = ranking.column("lexical")
    if column is None or not ranking.weights[column]:
        return ranking
    told = {
        "codes": codes if code_like(ranking.text) else 1.0,
        "quoted": quoted if _QUOTED.search(ranking.text) else 1.0,
        "short": short if len(ranking.text.split()) <= words else 1.0,
    }
    factor = told["codes"] * told["quoted"] * told["short"]
    if factor == 1:
        return ranking
    if not np.isfinite(float(factor) * float(ranking.weights.sum())):
        raise QueryError(f"adapt multiplies a weight by {factor:g}; give smaller factors")
    weights = ranking.weights.copy()
    weights[column] *= factor
    if not weights.sum() > 0:  # the factor is 0, and no other strand has a weight
        return ranking
    return ranking.weighed(weights, adapt={name: value for name, value in told.items() if value != 1})


def code_like(text: str) -> list[str]:
    """Returns the words of a query that look like identifiers, codes or paths: they are meant to the letter."""
    return [word for word in _CODE.findall(text) if not _ORDINAL.fullmatch(word)]

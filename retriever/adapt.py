"""Weights that follow the query: codes and quotations are meant to the letter, questions are not.

In the spirit of HyPA-RAG's query classifier (arXiv 2409.09046), by the look of the words alone. What a strand's own
scores say of a query is in the default normalisation already (`normalise.norm`).
"""

from __future__ import annotations

import re

import numpy as np

from .errors import QueryError
from .limits import within
from .ranking import Ranking
from .strands import NEIGHBOURS

# A word with a digit and a letter (AB-1234, E0425), with signs inside (foo_bar, os.path, a/b.c), or humps (camelCase).
_CODE = re.compile(
    r"(?<!\w)(?:(?=[\w./:#-]*\d)(?=[\w./:#-]*[A-Za-z])[\w./:#-]+|\w+(?:[_.:/#]+\w+)+|[a-z]+(?:[A-Z][a-z0-9]*)+)(?!\w)"
)
QUOTED = re.compile('"([^"]+)"|“([^”]+)”|«([^»]+)»')
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_ASKING = {"what", "what's", "who", "who's", "whom", "whose", "which", "when", "where", "why", "how", "how's"}
_VERBS = {
    "is", "are", "was", "were", "am", "do", "does", "did", "can", "could", "should", "would", "will", "shall", "has",
    "have", "had", "may", "might", "must", "isn't", "aren't", "don't", "doesn't", "didn't", "can't",
}  # fmt: skip
_BEFORE = {"in", "on", "at", "for", "to", "by", "from", "with", "of", "about"}  # "in what year"
# Words with which these are more than a name or a title: "can opener", "who guidelines".
_LEAST_ASKING, _LEAST_VERB = 3, 4
# Ordinals, amounts, times, "and/or", "U.S.".
_NO_CODE = re.compile(
    r"\d+(?:st|nd|rd|th|s)|[\d.,]+(?:%|[kKmMgG]?[bBgmW])|[\d,]+(?:\.\d+)?|\d+(?::\d\d){1,2}|\d+/\d+"
    r"|(?:[A-Za-z]\.)+[A-Za-z]?|(?:and|either)/or|s?he/s?he|his/hers?|hers?/his|him/her|her/him|yes/no|[nNwW]/[aAoO]",
    re.ASCII,
)


def adapt(ranking: Ranking, *, codes: float = 1.5, quoted: float = 3.0, words: int = 0, short: float = 1.0) -> Ranking:
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
    columns = _lexical(ranking)
    if not columns:
        return ranking
    told = {
        "codes": codes if code_like(ranking.text) else 1.0,
        "quoted": quoted if QUOTED.search(ranking.text) else 1.0,
        "short": short if len(ranking.text.split()) <= words else 1.0,
    }
    factor = told["codes"] * told["quoted"] * told["short"]
    if factor == 1:
        return ranking
    return _weighed(ranking, columns, factor, "adapt", {name: value for name, value in told.items() if value != 1})


def questions(ranking: Ranking, *, lexical: float = 0.7) -> Ranking:
    """Returns the ranking with another weight of the lexical strand, where the query is a question in English.

    Who asks does not know the words of the answer; who states a claim, a title or keywords often does. (Questions that
    were written with the answer in sight, as SQuAD's were, hold its words: they lose a little by this.) Nothing changes
    where no dense strand hears the question too.

    Args:
        ranking: what was found so far.
        lexical: what the strand's weight is multiplied by.
    """
    within("questions", 0, lexical=lexical)
    columns, heard = _lexical(ranking), ranking.column("dense")
    if lexical == 1 or not columns or heard is None or not ranking.weights[heard] or not asks(ranking.text):
        return ranking
    return _weighed(ranking, columns, lexical, "questions", {"lexical": lexical})


def asks(text: str) -> bool:
    """Returns whether a query is a question in English, by its first words, or its question mark and any such word.

    A word all in capitals is a name (WHO, CAN), unless the whole query is.
    """
    found = _WORD.findall(text)
    words = ["" if word.isupper() and not text.isupper() else word.lower().replace("’", "'") for word in found]
    if text.rstrip().endswith("?"):
        return any(word in _ASKING or word in _VERBS for word in words)
    first, second = [*words, "", ""][:2]
    if first in _ASKING:
        return len(words) >= _LEAST_ASKING
    return len(words) >= _LEAST_VERB and (first in _VERBS or (first in _BEFORE and second in _ASKING))


def code_like(text: str) -> list[str]:
    """Returns the words of a query that look like identifiers, codes or paths: they are meant to the letter."""
    return [word for word in _CODE.findall(text) if not _NO_CODE.fullmatch(word)]


def _lexical(ranking: Ranking) -> list[int]:
    """Returns the columns of the lexical strand and of what stands beside it, where they weigh anything."""
    own = enumerate(NEIGHBOURS.get(name, name) for name in ranking.names)
    return [column for column, name in own if name == "lexical" and ranking.weights[column]]


def _weighed(ranking: Ranking, columns: list[int], factor: float, step: str, told: dict[str, float]) -> Ranking:
    """Returns the ranking with the weights of some strands multiplied."""
    if not np.isfinite(float(factor) * float(ranking.weights.sum())):
        raise QueryError(f"{step} multiplies a weight by {factor:g}; give a smaller factor")
    weights = ranking.weights.copy()
    weights[columns] *= factor
    if not weights.sum() > 0:  # the factor is 0, and no other strand has a weight
        return ranking
    return ranking.weighed(weights, **{step: told})

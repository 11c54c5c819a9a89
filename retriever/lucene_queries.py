"""How a query becomes weights of a Lucene impact index's terms: by a model, as it is written, or from a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..encoders.contract import SparseEncoder
from ..index.lucene import LuceneIndex
from .encoded import names_of, sparse_rows
from .errors import QueryError
from .streams import kind_of
from .vectors_json import SUFFIXES, read_vectors

QUANTISED = 256 / 5  # pyserini's steps to a unit of query weight: weights up to 5 in 256 steps
TOKENS = "tokens"
BIGGEST = 1e30  # weight that is read from a query: sums stay within Lucene's float32

QueryWeights: TypeAlias = Callable[[Sequence[str], LuceneIndex], list[dict[str, float]]]


def weights_by(encoder: Any, scale: float) -> QueryWeights:
    """Returns what weighs the terms of queries.

    Args:
        encoder: a `SparseEncoder`; the name or folder of one; "tokens"; or a file of queries weighed beforehand.
        scale: see `LuceneImpact`.
    """
    if not isinstance(encoder, (str, PathLike)):
        return ModelQueries(encoder, scale)
    given = fspath(encoder)
    if given == TOKENS:
        return token_queries
    if kind_of(Path(given)) in SUFFIXES:
        return WeighedQueries(Path(given))
    from ..encoders.load import load_learned

    return ModelQueries(load_learned(given), scale)


class ModelQueries:
    """Weighs queries by a sparse encoder; weights become whole numbers, as Anserini's searchers take them.

    Where the encoder leaves IDF to the index, it is Lucene's.
    """

    def __init__(self, encoder: SparseEncoder, scale: float = QUANTISED) -> None:
        self.encoder, self.scale = encoder, scale

    def __call__(self, texts: Sequence[str], index: LuceneIndex) -> list[dict[str, float]]:
        """Returns whole weights above 0 by token."""
        made = self.encoder.encode_queries(texts)
        rows = sparse_rows(made, self.encoder.identity, len(texts), "encode_queries")
        return [self._one(rows, i, text, index) for i, text in enumerate(texts)]

    def _one(self, rows: Any, i: int, text: str, index: LuceneIndex) -> dict[str, float]:
        inside = slice(rows.indptr[i], rows.indptr[i + 1])
        names = names_of(self.encoder.term_names(text), self.encoder.identity, "term_names")
        columns = rows.indices[inside].tolist()
        if lacking := [column for column in columns if column not in names]:
            raise QueryError(
                f"{self.encoder.identity.name} has no names for its terms {lacking[:5]}; Lucene needs them"
            )
        tokens, weights = [names[column] for column in columns], rows.data[inside].astype(np.float64)
        if self.encoder.identity.query_weights == "idf":
            weights = weights * index.idf(tokens)
        return rounded(dict(zip(tokens, weights.tolist(), strict=True)), self.scale)


def rounded(weights: Mapping[str, float], scale: float) -> dict[str, float]:
    """Returns weights times `scale`, rounded (half to even, as numpy does); what is 0 then is left out.

    Example:
        >>> rounded({"snow": 1.0, "ice": 0.5, "a": 0.001}, 256 / 5)
        {'snow': 51.0, 'ice': 26.0}
    """
    whole = {term: float(np.rint(weight * scale)) for term, weight in weights.items()}
    return {term: weight for term, weight in whole.items() if weight > 0}


def token_queries(texts: Sequence[str], index: LuceneIndex) -> list[dict[str, float]]:
    """Returns the weights that texts give their terms, as "snow^12 melt^7" or, as Anserini's topics do, "snow snow".

    What follows the last "^" of a word is its weight where it is a number above 0 and below 1e30; other words weigh 1,
    and a term that comes again weighs the sum.
    """
    return [_tokens(text) for text in texts]


def _tokens(text: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for word in text.split():
        term, _, weight = word.rpartition("^")
        number = _number(weight) if term else None
        found[word if number is None else term] += 1.0 if number is None else number
    return dict(found)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < BIGGEST else None


class WeighedQueries:
    """Takes a query's weights from a file: a line has its text as "contents" (or "text") and its "vector"."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = {vector.document.text.strip(): vector.weights for vector in read_vectors(path)}

    def __call__(self, texts: Sequence[str], index: LuceneIndex) -> list[dict[str, float]]:
        """Returns the weights that the file has for each text.

        Raises:
            QueryError: it has none for one of them.
        """
        for text in texts:
            if text.strip() not in self._known:
                raise QueryError(
                    f"{self.path} holds no weights of the query {text.strip()!r}; queries go by their text"
                )
        return [dict(self._known[text.strip()]) for text in texts]

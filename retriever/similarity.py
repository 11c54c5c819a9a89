"""How alike candidates are, by the vectors that the index keeps of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import QueryError
from .normalise import Floats
from .ranking import Ranking
from .strands import STRANDS

AUTO = "auto"
_PREFERRED = ("dense", "learned", "lexical")


def chosen_strands(ranking: Ranking, given: str) -> tuple[str, ...]:
    """Returns the strands to compare candidates by.

    They are those of the index, whether or not they take part in this search.

    Args:
        ranking: what was found so far.
        given: "auto" for the dense strand, or else the learned or the lexical one; or names joined by "+".

    Raises:
        QueryError: a name is no strand, or the index was made without it.
    """
    there = [name for name in STRANDS if name in ranking.search.snapshot.settings["encoders"]]
    if given == AUTO:
        return next((name,) for name in _PREFERRED if name in there)
    names = tuple(dict.fromkeys(name.strip() for name in given.split("+")))
    for name in names:
        if name not in STRANDS:
            raise QueryError(f"no strand {name!r}; there are: {AUTO}, {', '.join(STRANDS)}, and several joined by '+'")
        if name not in there:
            raise QueryError(f"this index was made without the strand {name!r}; it has: {', '.join(there)}")
    return names


def similarities(ranking: Ranking, rows: NDArray[np.intp], strands: tuple[str, ...]) -> Floats:
    """Returns the cosine of each two candidates, float64 (rows, rows), as the mean over some strands."""
    found = np.zeros((rows.size, rows.size))
    for strand in strands:
        vectors = unit_vectors(ranking, rows, strand)
        products = vectors @ vectors.T
        found += products if isinstance(products, np.ndarray) else products.toarray()
    return found / len(strands)


def unit_vectors(ranking: Ranking, rows: NDArray[np.intp], strand: str) -> Any:
    """Returns the stored vectors of candidates at length one, float64 (rows, columns), sparse for a sparse strand.

    Counts of the lexical strand are damped and weighed by IDF. A vector of zeros stays one.
    """
    if strand == "dense":
        return unit(ranking.dense_vectors(rows).astype(np.float64))
    values, terms = ranking.sparse_vectors(strand, rows)
    values = values.astype(np.float64)
    if strand == "lexical":
        values.data = np.log1p(values.data)
        values = values.multiply(ranking.search.snapshot.idf(terms).astype(np.float64)[None, :]).tocsr()
    norms = np.sqrt(np.asarray(values.multiply(values).sum(axis=1)).ravel())
    return values.multiply((1.0 / np.where(norms > 0, norms, 1.0))[:, None]).tocsr()


def unit(vectors: Floats) -> Floats:
    """Returns vectors at length one; those of zeros as they are."""
    norms = np.sqrt((vectors * vectors).sum(axis=1))
    return vectors / np.where(norms > 0, norms, 1.0)[:, None]

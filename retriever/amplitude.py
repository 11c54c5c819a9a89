"""Amplitude similarity: the fidelity of two states whose amplitudes are the vectors' components."""

from __future__ import annotations

import numpy as np

from .errors import QueryError
from .limits import weighing, within
from .normalise import Floats
from .ranking import Ranking
from .similarity import unit


def amplitude(ranking: Ranking, *, weight: float = 0.1, top: int = 0) -> Ranking:
    """Returns the ranking with |<q|d>|^2 added, times a weight: what a quantum kernel over amplitudes would measure.

    It is the squared cosine, so it grows faster than the dense score does, and sees no difference of sign.

    Args:
        ranking: what was found so far.
        weight: what a document adds whose vector is the query's, in units of the score so far.
        top: how many of the best take part, the others staying below them; 0 for all candidates.

    Raises:
        QueryError: the dense strand takes no part in the search.
    """
    weighing("amplitude", weight=weight)
    within("amplitude", 0, top=top)
    column = ranking.column("dense")
    if column is None:
        taking = ", ".join(ranking.names)
        raise QueryError(f"amplitude compares dense vectors; the dense strand takes no part in this search: {taking}")
    rows = ranking.top(top) if top else np.arange(ranking.positions.size)
    if not rows.size:
        return ranking
    found = fidelity(np.asarray(ranking.queries[column], np.float64), ranking.dense_vectors(rows).astype(np.float64))
    scores, told = ranking.fused[rows] + weight * found, {"weight": weight, "documents": int(rows.size)}
    return ranking.placed(rows, scores, amplitude=told) if top else ranking.scored(scores, amplitude=told)


def fidelity(query: Floats, vectors: Floats) -> Floats:
    """Returns the squared cosines of a vector (dim,) and others (n, dim), float64 (n,); 0 beside a vector of zeros."""
    # Each row by itself: a matrix product's last bits depend on how many rows there are.
    return (unit(vectors) * unit(query[None, :])).sum(axis=1) ** 2

"""Fusion: one score from several strands.

Every candidate is scored by every strand, and normalised by bounds that depend on the query alone: the least score a
strand can give (0 for impacts, minus the largest product of norms for inner products) and the best score it gave. So
a document's fused score does not depend on how many hits were asked for, nor on which strand found it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import QueryError

RRF_K = 60


@dataclass(frozen=True)
class Candidates:
    """What the strands say of one query's candidates; a column a strand.

    Attributes:
        scores: float64 (candidates, strands), raw.
        ranks: int64 (candidates, strands), from 1; 0 where a strand ranked a candidate below its depth.
        least: float64 (strands,), the lowest score a strand could give to this query.
        best: float64 (strands,), the highest score it gave to any document.
    """

    scores: NDArray[np.float64]
    ranks: NDArray[np.int64]
    least: NDArray[np.float64]
    best: NDArray[np.float64]

    @property
    def normalised(self) -> NDArray[np.float64]:
        """Returns scores on [0, 1]: 0 at the least possible score, 1 at the query's best; 0 where nothing matched."""
        span = self.best - self.least
        safe = np.where(span > 0, span, 1.0)
        return np.where(span > 0, (self.scores - self.least) / safe, 0.0)


def convex(candidates: Candidates, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the weighted mean of normalised scores, on [0, 1] (Bruch et al. 2022, arXiv 2210.11934)."""
    return candidates.normalised @ (weights / weights.sum())


def rrf(candidates: Candidates, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the weighted sum of 1 / (60 + rank) over the strands that rank a candidate (Cormack et al. 2009)."""
    shares = np.where(candidates.ranks > 0, 1.0 / (RRF_K + candidates.ranks), 0.0)
    return shares @ weights


@dataclass(frozen=True)
class Fusion:
    """A fusion function and the weights it takes when none are given."""

    function: Callable[[Candidates, NDArray[np.float64]], NDArray[np.float64]]
    weights: Mapping[str, float]


FUSIONS: dict[str, Fusion] = {
    "convex": Fusion(convex, {"lexical": 0.15, "learned": 0.1, "dense": 0.75}),
    "rrf": Fusion(rrf, {"lexical": 1.0, "learned": 1.0, "dense": 1.0}),
}


def chosen(name: str) -> Fusion:
    """Returns a fusion by name; an unknown one is an error that lists what there is."""
    if name not in FUSIONS:
        raise QueryError(f"no fusion {name!r}; there are: {', '.join(FUSIONS)}")
    return FUSIONS[name]


def weights_for(strands: Sequence[str], given: Mapping[str, float]) -> NDArray[np.float64]:
    """Returns the weights of these strands; one that is given no weight has weight 0.

    Raises:
        QueryError: a weight is negative or not finite, names no strand of this search, or all are 0.
    """
    values = np.array([given.get(strand, 0.0) for strand in strands], np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise QueryError(f"weights must be finite and not negative: {dict(given)}")
    if not values.sum() > 0:
        raise QueryError(f"no strand of {', '.join(strands)} has a weight above 0: {dict(given)}")
    return values

"""Normalisations: a strand's raw scores on a scale that other strands share.

None looks at how many hits or candidates were asked for: bounds belong to the query, and statistics are those of the
strand's own best `WINDOW` documents, always. So a document's normalised score is a matter of query and document alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import QueryError

WINDOW = 1000  # of a strand's own best: what statistics are taken of, and how far down ranks count

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """What the strands say of one query's candidates; a column a strand.

    Attributes:
        scores: float64 (candidates, strands), raw.
        ranks: int64 (candidates, strands), from 1; 0 where a strand ranked a candidate below what it was asked for.
        least: float64 (strands,), the lowest score a strand could give to this query.
        best: float64 (strands,), the highest score it gave to any document.
        most: float64 (strands,), the highest score it could give to this query, whatever the documents; None: `best`.
        norms: float64 (strands,), the norm of the query's weights times the largest impact; 0 for a dense strand.
        windows: the best scores that documents have by each strand, descending, those that do not match it among them;
            empty where no normalisation asked for them.
        strands: their names.
    """

    scores: Floats
    ranks: NDArray[np.int64]
    least: Floats
    best: Floats
    most: Floats | None = None
    norms: Floats | None = None
    windows: tuple[Floats, ...] = ()
    strands: tuple[str, ...] = ()


def bounds(candidates: Candidates, *, ceiling: float = 0.0) -> Floats:
    """Returns scores on [0, 1]: 0 at the least a strand could give, 1 at the query's best; 0 where nothing matched.

    With a `ceiling` above 0, a strand whose best document comes near what any document could score speaks louder
    than one whose best covers little of the query: values are multiplied by (best / possible) ** ceiling. At 0 the
    best document has 1 whatever it matches (Bruch et al. 2022, arXiv 2210.11934); at 1 the possible best has it.
    """
    if ceiling < 0:
        raise QueryError(f"bounds takes a ceiling of at least 0, not {ceiling:g}")
    span = candidates.best - candidates.least
    values = (candidates.scores - candidates.least) / _or_nothing(span)
    if not ceiling or candidates.most is None:
        return values
    possible = candidates.most - candidates.least
    share = np.where(possible > 0, np.clip(span / np.where(possible > 0, possible, 1.0), 0.0, 1.0), 0.0)
    return values * share**ceiling


def norm(candidates: Candidates) -> Floats:
    """Returns sparse scores over the norm of the query's weights, dense ones as by `bounds`.

    A sum over n terms that all match grows like n, the norm like the square root of n. So a document that holds two of
    five query terms counts for less than one that holds ten of twenty-five, as it should: two common words may be
    there by chance. `bounds` gives both queries' best documents the same 1, and lets the sparse strands speak as
    loudly of questions whose words are in no document as of others; on questions over single sentences that cost
    more than anything else in fusion. Values are near 1 at the top of a list, and may exceed it.
    """
    if candidates.norms is None:
        return bounds(candidates)
    known, span = candidates.norms > 0, candidates.best - candidates.least
    least = np.where(known, 0.0, candidates.least)
    return (candidates.scores - least) / np.where(known, candidates.norms, _or_nothing(span))


def minmax(
    candidates: Candidates,
    *,
    lower: float | Mapping[str, float] | None = None,
    upper: float | Mapping[str, float] | None = None,
    clip: bool = True,
) -> Floats:
    """Returns (score - lower) / (upper - lower).

    Args:
        candidates: what the strands say.
        lower: of every strand, or by strand; where there is none, the least of the strand's window.
        upper: the same; where there is none, the query's best.
        clip: hold values on [0, 1].

    Raises:
        QueryError: a lower bound that is not below the upper one.
    """
    _check_bounds(candidates.strands, lower, upper)
    low = _bound(candidates, lower, np.array([w[-1] if w.size else 0.0 for w in candidates.windows]))
    high = _bound(candidates, upper, candidates.best)
    span = high - low
    values = np.where(span > 0, (candidates.scores - low) / np.where(span > 0, span, 1.0), candidates.scores >= high)
    return np.clip(values, 0.0, 1.0) if clip else values


def zscore(candidates: Candidates) -> Floats:
    """Returns (score - mean) / standard deviation, both of the strand's window."""
    mean, deviation = _moments(candidates)
    return np.where(deviation > 0, (candidates.scores - mean) / np.where(deviation > 0, deviation, 1.0), 0.0)


def dbsf(candidates: Candidates) -> Floats:
    """Returns where a score lies between mean - 3 and mean + 3 deviations of the window, on [0, 1] (Qdrant's DBSF)."""
    return np.clip((zscore(candidates) + 3.0) / 6.0, 0.0, 1.0)


def l2(candidates: Candidates) -> Floats:
    """Returns scores over the Euclidean norm of the strand's window (OpenSearch's l2)."""
    norm = np.array([np.linalg.norm(window) for window in candidates.windows])
    return np.where(norm > 0, candidates.scores / np.where(norm > 0, norm, 1.0), 0.0)


def rank(candidates: Candidates) -> Floats:
    """Returns 1 for a strand's first, falling in a straight line to 0 behind its window (Borda)."""
    inside = (candidates.ranks > 0) & (candidates.ranks <= WINDOW)
    return np.where(inside, (WINDOW + 1.0 - candidates.ranks) / WINDOW, 0.0)


def raw(candidates: Candidates) -> Floats:
    """Returns the scores as they are."""
    return candidates.scores


def _or_nothing(span: Floats) -> Floats:
    """Returns what to divide by: the span, or infinity where there is none, so that 0 comes of it."""
    return np.where(span > 0, span, np.inf)


def _bound(candidates: Candidates, given: float | Mapping[str, float] | None, otherwise: Floats) -> Floats:
    if isinstance(given, Mapping):
        pairs = zip(candidates.strands, otherwise.tolist(), strict=True)
        return np.array([given.get(name, value) for name, value in pairs])
    return otherwise if given is None else np.full(otherwise.shape, float(given))


def _check_bounds(strands: Sequence[str], *given: float | Mapping[str, float] | None) -> None:
    for name in strands:
        low, high = (each.get(name) if isinstance(each, Mapping) else each for each in given)
        if low is not None and high is not None and not low < high:
            raise QueryError(f"minmax takes a lower bound below the upper one; of {name} they are {low:g} and {high:g}")


def _moments(candidates: Candidates) -> tuple[Floats, Floats]:
    windows = [window if window.size else np.zeros(1) for window in candidates.windows]
    return np.array([w.mean() for w in windows]), np.array([w.std() for w in windows])


NORMALISATIONS: dict[str, Callable[..., Floats]] = {
    "norm": norm,
    "bounds": bounds,
    "minmax": minmax,
    "zscore": zscore,
    "dbsf": dbsf,
    "l2": l2,
    "rank": rank,
    "raw": raw,
}
WINDOWED = {"minmax", "zscore", "dbsf", "l2", "rank"}  # those that look at each strand's own best


def identity(values: Floats) -> Floats:
    """Returns values as they are."""
    return values


def sigmoid(values: Floats, *, slope: float = 1.0) -> Floats:
    """Returns 1 / (1 + exp(-slope * x)): large differences far from 0 count little."""
    if not slope > 0:
        raise QueryError(f"sigmoid takes a slope above 0, not {slope:g}: a higher score must not count for less")
    return 1.0 / (1.0 + np.exp(-np.clip(slope * values, -700, 700)))


def square(values: Floats) -> Floats:
    """Returns x * |x|: the top of a list stands out."""
    return values * np.abs(values)


def root(values: Floats) -> Floats:
    """Returns the square root of what is above 0."""
    return np.sqrt(np.maximum(values, 0.0))


def log1p(values: Floats) -> Floats:
    """Returns log(1 + x) of what is above 0."""
    return np.log1p(np.maximum(values, 0.0))


TRANSFORMS: dict[str, Callable[..., Floats]] = {
    "none": identity,
    "sigmoid": sigmoid,
    "square": square,
    "root": root,
    "log1p": log1p,
}

"""How hard a first stage must look, found by asking it for neighbours that are known.

The questions are sample queries, where the index was made with some, or else means of a few stored vectors. Stored
vectors themselves are too easy: they lie where documents lie, and real queries do not. Means of three need as many
lists of an IVF as titles do. A graph finds fewer of their neighbours than of those of titles: less is asked of it.

Nothing made of stored vectors stands for queries about something else. On 530,000 passages in 1024 lists, questions of
another domain need some 700 lists for a recall of .98; means of 2 to 16 passages, sums with signs, and passages with
up to twice their length of noise all reach it with 182 or fewer. So "auto" takes a first stage that looks at all
documents (`ann.TABLE`), whose loss is in the codes: there, means of three do ask for enough rows to score. Who names an
IVF or a graph had better give sample queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .ann import First

DEPTHS = (10, 200)  # what people see, and what a strand proposes; other k's lie on the line through them
SAMPLED, MIXED = 100, 3  # questions, and the stored vectors that each is the mean of
TARGET = 0.98  # the recall to reach on sample queries
SLACK = 0.003  # what scoring fewer rows may cost of it
REFINES = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # rows to score for a hit
MOST_SCORED = 1600  # rows scored for a query, however many are wanted
_CHUNK = 65_536


class Point(NamedTuple):
    """What reaches the target for one k: the knob's value, rows to score for a hit; and the recall they reach."""

    k: int
    knob: float
    refine: float
    recall: float


@dataclass(frozen=True)
class Effort:
    """How hard to look, for any k.

    Attributes:
        points: for ascending k's.
        most: the knob's largest value.
    """

    points: tuple[Point, ...]
    most: int

    def knob(self, k: float) -> int:
        """Returns the knob's value where k rows are wanted of the whole segment."""
        return min(self.most, math.ceil(self._at(k, [p.knob for p in self.points])))

    def refine(self, k: float) -> float:
        """Returns how many rows to score for a hit, at least 1, where k are wanted."""
        return max(1.0, self._at(k, [p.refine for p in self.points]))

    def _at(self, k: float, values: list[float]) -> float:
        """Returns the value at k of the line through the outermost points, in logarithms; before the first, its own."""
        first, last = self.points[0].k, self.points[-1].k
        if k <= first or last == first:
            return values[0]
        slope = math.log(values[-1] / values[0]) / math.log(last / first)
        return values[0] * (k / first) ** slope


def calibrated(
    first: First, vectors: NDArray[np.float32], queries: NDArray[np.float32] | None = None
) -> tuple[Point, ...]:
    """Returns the least effort that reaches the target, for each depth.

    Args:
        first: what looks.
        vectors: float32 (n, dim), what it was filled with, in full.
        queries: float32 (m, dim), a sample of real queries, which then are the questions.
    """
    depths = [k for k in DEPTHS if k <= len(vectors)] or [len(vectors)]
    if queries is not None and len(queries):
        asked, target = _sample(queries), TARGET
    else:
        asked, target = _between(vectors), first.family.target
    trial = _Trial(first, vectors, asked, depths[-1])
    return tuple(_point(first, trial, k, target) for k in depths)


def _point(first: First, trial: _Trial, k: int, target: float) -> Point:
    knob = found = 0
    for knob in _steps(first.family.least, first.most):
        found = trial.recall(k, knob, REFINES[-1])
        if found >= target:
            break
    refine = next(r for r in REFINES if trial.recall(k, knob, r) >= found - SLACK)
    return Point(k, knob, refine, round(trial.recall(k, knob, refine), 4))


def _steps(least: int, most: int) -> Iterator[int]:
    """Yields ascending values, each about 1.4 times the last."""
    value = float(min(least, most))
    while value < most:
        yield math.ceil(value)
        value *= math.sqrt(2)
    yield most


class _Trial:
    """Queries, and what each finds among all vectors."""

    def __init__(self, first: First, vectors: NDArray[np.float32], queries: NDArray[np.float32], deepest: int) -> None:
        self._first, self._vectors, self._queries = first, vectors, queries
        self._best = self._nearest(deepest)
        self._scores: dict[Any, list[NDArray[np.float32]]] = {}

    def recall(self, k: int, knob: int, refine: float) -> float:
        """Returns the share of the k nearest neighbours that are found; of those that tie with the last, any do."""
        if (k, knob) not in self._scores:  # fewer rows to score are the first of many
            count = self._first.reach(min(math.ceil(REFINES[-1] * k), max(MOST_SCORED, k)), k, knob)
            self._scores = {(k, knob): [self._seen(query, count, knob) for query in self._queries]}
        least = self._best[:, k - 1] - 1e-5 * np.abs(self._best).max(axis=1)
        count = math.ceil(refine * k)
        seen = zip(self._scores[k, knob], least, strict=True)
        found = [min(k, int(np.count_nonzero(scores[:count] >= enough))) for scores, enough in seen]
        return sum(found) / (k * len(found))

    def _seen(self, query: NDArray[np.float32], count: int, knob: int) -> NDArray[np.float32]:
        return self._vectors[self._first.nearest(query, count, knob)] @ query

    def _nearest(self, k: int) -> NDArray[np.float32]:
        """Returns the scores of each query's k nearest, best first."""
        best = np.empty((len(self._queries), 0), np.float32)
        for start in range(0, len(self._vectors), _CHUNK):
            scores = self._queries @ self._vectors[start : start + _CHUNK].T
            if scores.shape[1] > k:
                scores = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:]
            best = -np.sort(-np.hstack([best, scores]), axis=1)[:, :k]
        return best


def _sample(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns some of the queries, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(queries) - 1, SAMPLED).astype(np.int64))
    return np.ascontiguousarray(queries[chosen])


def _between(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns means of stored vectors, chosen by a fixed seed."""
    rows = np.random.default_rng(0).integers(0, len(vectors), (MIXED, SAMPLED))
    return np.asarray(vectors[rows].mean(axis=0), np.float32)

"""What dense encoders find alike, as a target for a model of another width, over texts that nobody judged.

The vector of another model cannot be copied: it has other axes, and perhaps more of them. But it says which texts are
alike, and that can be learned from a step's texts compared with one another. The cosines of several teachers are
averaged. Each is taken about the mean of its teacher's vectors, since some models' vectors all point one way (those of
e5 have cosines of .7 and more); about their means all spread alike.

A step's documents are groups of neighbours, and a query of each: strangers are told apart by every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import TrainError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .prepare import Encodings

POOL = 8192  # documents, drawn anew for each step, among which neighbours are looked for


class Lesson(NamedTuple):
    """What a step is about.

    Attributes:
        documents: int64 (d,), positions, ascending.
        pairs: int64 (p,), pairs of a query and one of these documents; at most one each.
    """

    documents: NDArray[np.int64]
    pairs: NDArray[np.int64]


@dataclass(frozen=True)
class Alike:
    """Teachers' vectors side by side, such that inner products are the weighted mean of their cosines.

    Attributes:
        documents: float16 (documents, width).
        queries: float16 (pairs, width).
        positives: int64 (pairs,), each query's document.
    """

    documents: NDArray[np.float16]
    queries: NDArray[np.float16]
    positives: NDArray[np.int64]

    @classmethod
    def of(cls, teachers: Mapping[str, float], encodings: Encodings) -> Alike:
        """Returns what teachers, by name with their weights, find of a training set.

        Raises:
            TrainError: one is unknown, or gives no dense vectors.
        """
        whole = sum(teachers.values())
        sides: tuple[list[NDArray[np.float16]], list[NDArray[np.float16]]] = ([], [])
        for name, weight in teachers.items():
            if not weight:
                continue
            vectors = encodings(name)
            if vectors.strand != "dense":
                raise TrainError(
                    f"the teacher {name!r} is {vectors.strand}: the loss order takes dense encoders, which compare "
                    "any two texts"
                )
            for side, rows in zip(sides, (vectors.documents, vectors.queries), strict=True):
                side.append((about_mean(rows) * np.sqrt(weight / whole)).astype(np.float16))
        documents, queries = (np.concatenate(side, axis=1) for side in sides)
        return cls(documents, queries, np.asarray(encodings.training.positives, np.int64))

    def lesson(self, random: np.random.Generator, documents: int, seeds: int) -> Lesson:
        """Draws a step: at most so many documents, which are the neighbours of some, and a query of each that has one.

        Args:
            random: decides.
            documents: the most documents.
            seeds: how many of them bring their neighbours.
        """
        pool = random.choice(len(self.documents), min(POOL, len(self.documents)), replace=False)
        first = pool[:seeds]
        near = self.documents[first].astype(np.float32) @ self.documents[pool].astype(np.float32).T
        count = min(max(1, documents // len(first)), len(pool))
        chosen = np.unique(pool[np.argsort(-near, axis=1, kind="stable")[:, :count]])
        ordered, answered = self._by_document
        starts, ends = (np.searchsorted(answered, chosen, side) for side in ("left", "right"))
        picks = starts + (random.random(len(chosen)) * (ends - starts)).astype(np.int64)
        return Lesson(chosen, ordered[picks[ends > starts]])

    @cached_property
    def _by_document(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs in the order of their documents, and these."""
        ordered = np.argsort(self.positives, kind="stable")
        return ordered, self.positives[ordered]

    def wanted(self, lesson: Lesson) -> NDArray[np.float32]:
        """Returns how alike a step's texts are, (d + p, d): its documents, then its queries, against its documents."""
        rows = np.concatenate([self.documents[lesson.documents], self.queries[lesson.pairs]]).astype(np.float32)
        return rows @ rows[: len(lesson.documents)].T


def about_mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors less their mean, at length one; zeros where one is the mean."""
    moved = vectors - vectors.mean(axis=0, keepdims=True)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    return (moved / np.where(norms > 0, norms, 1)).astype(np.float32)

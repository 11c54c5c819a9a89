"""What each step trains on.

A step is made around documents, because they cost: each passes through layers and head. Seeds are drawn from the
queries, evenly over sources of unlike size; each brings its document and hard negatives. Then every query that knows
these documents joins: their own, and those of their neighbours. Inference-free queries cost nothing in training either,
so a document is judged by many, and each step's matrix of queries by documents is full of near misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import TrainError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recipe import Recipe
    from .sets import TrainingSet

    Ints = NDArray[np.int64]

EVENNESS = 0.75  # a source of n documents is drawn in proportion to n to this power
OWN_QUERIES = 2  # of a document's own queries, at most, in a step


@dataclass(frozen=True)
class Step:
    """Positions in a training set.

    Attributes:
        documents: int64, ascending; fewer than the recipe says where drawn ones are the same.
        queries: int64, ascending.
        positives: bool (queries, documents).
    """

    documents: Ints
    queries: Ints
    positives: NDArray[np.bool_]


class Batches:
    """Draws steps; the same seed and number give the same step, so that an interrupted training goes on as it would.

    Args:
        training: queries and their documents.
        recipe: sizes and seed.
        negatives: int32 (queries, n) of hard negatives, -1 where there are fewer; None for none.

    Raises:
        TrainError: there is no query, or the negatives are of another number of them.
    """

    def __init__(self, training: TrainingSet, recipe: Recipe, negatives: NDArray[np.int32] | None) -> None:
        if not len(training.queries):
            raise TrainError("a training set without a query has nothing to draw: give pairs, or make queries")
        if negatives is not None and len(negatives) != len(training.queries):
            raise TrainError(
                f"hard negatives of {len(negatives)} queries, expected {len(training.queries)}: mine them again"
            )
        self._positives = training.positives
        self._recipe = recipe
        self._negatives = negatives
        self._count = len(training.documents)
        self._known = _inverse(training.positives, self._count)
        self._near = None if negatives is None else _near(negatives, self._count)
        self._sources = [np.flatnonzero(training.groups == group) for group in np.unique(training.groups)]
        sizes = np.array([len(np.unique(training.positives[source])) for source in self._sources], float) ** EVENNESS
        self._shares = sizes / sizes.sum()
        texts: dict[str, int] = {}
        self._text = np.array([texts.setdefault(query, len(texts)) for query in training.queries])

    def __call__(self, number: int) -> Step:
        """Returns a step by its number."""
        rng = np.random.default_rng([self._recipe.seed, number])
        documents = self._documents(rng)
        queries = self._queries(rng, documents)
        return Step(documents, queries, self._judged(queries, documents))

    def _documents(self, rng: Any) -> Ints:
        recipe = self._recipe
        room = recipe.documents // recipe.seeds - 1
        found: set[int] = set()
        for source in rng.choice(len(self._sources), recipe.seeds, p=self._shares):
            query = int(rng.choice(self._sources[source]))
            found.add(int(self._positives[query]))
            if self._negatives is not None:
                hard = self._negatives[query]
                hard = hard[hard >= 0]
                found.update(rng.permutation(hard)[:room].tolist())
        missing = recipe.documents - len(found)
        found.update(rng.choice(self._count, missing).tolist())
        return np.array(sorted(found), np.int64)

    def _queries(self, rng: Any, documents: Ints) -> Ints:
        found: list[Any] = []
        for document in documents.tolist():
            found.append(rng.permutation(self._known[document])[:OWN_QUERIES])
            if self._near is not None and self._recipe.neighbours:
                found.append(rng.permutation(self._near[document])[: self._recipe.neighbours])
        queries = np.unique(np.concatenate(found)).astype(np.int64)
        if len(queries) > self._recipe.queries:
            queries = np.sort(rng.choice(queries, self._recipe.queries, replace=False))
        return queries

    def _judged(self, queries: Ints, documents: Ints) -> NDArray[np.bool_]:
        """Returns which documents answer which queries; equal query texts share their answers."""
        place = {document: at for at, document in enumerate(documents.tolist())}
        answers: dict[int, set[int]] = {}
        for document in documents.tolist():
            for query in self._known[document].tolist():
                answers.setdefault(int(self._text[query]), set()).add(place[document])
        judged = np.zeros((len(queries), len(documents)), bool)
        for row, query in enumerate(queries.tolist()):
            judged[row, sorted(answers.get(int(self._text[query]), ()))] = True
        return judged


def _inverse(positions: Ints, count: int) -> list[Ints]:
    """Returns for each document the queries that have it."""
    order = np.argsort(positions, kind="stable")
    return np.split(order, np.cumsum(np.bincount(positions, minlength=count))[:-1])


def _near(negatives: NDArray[np.int32], count: int) -> list[Ints]:
    """Returns for each document the queries that have it among their hard negatives."""
    queries, places = np.nonzero(negatives >= 0)
    documents = negatives[queries, places].astype(np.int64)
    order = np.argsort(documents, kind="stable")
    return np.split(queries[order], np.cumsum(np.bincount(documents, minlength=count))[:-1])

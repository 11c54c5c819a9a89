"""Diversity: the best candidates in another order, so that near copies of one another do not stand side by side.

Both steps give scores that fall along the new order, so that the score is still what hits are ordered by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .limits import within
from .normalise import Floats
from .ranking import Ranking
from .similarity import AUTO, chosen_strands, similarities, unit_vectors

ROUNDS = 25  # of k-means, at most


def mmr(ranking: Ranking, *, top: int = 50, trade: float = 0.7, strands: str = AUTO) -> Ranking:
    """Returns the ranking by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    A score is trade x s + (1 - trade) x (l - d x c): s is the score so far, l the lowest and d the span of those of
    the best, and c the cosine to the nearest document placed above, at least 0. With trade 1 nothing changes.

    Args:
        ranking: what was found so far.
        top: how many of the best take part; the others stay below them.
        trade: relevance against novelty, from 0 to 1.
        strands: whose vectors say what is alike: "auto", "dense", "learned", "lexical", or "dense+learned".
    """
    within("mmr", 1, top=top)
    within("mmr", 0, 1, trade=trade)
    names = chosen_strands(ranking, strands)
    rows = ranking.top(top)
    if rows.size < 2 or trade == 1:
        return ranking
    scores = marginal(ranking.fused[rows], np.maximum(similarities(ranking, rows, names), 0.0), trade)
    return ranking.placed(rows, scores, mmr={"documents": int(rows.size), "strands": list(names)})


def marginal(relevance: Floats, alike: Floats, trade: float) -> Floats:
    """Returns the marginal relevance of each document at the moment when it is chosen; the highest is chosen first.

    Args:
        relevance: float64 (n,), best first: of equal ones the first is chosen.
        alike: float64 (n, n), on [0, 1].
        trade: see `mmr`.
    """
    least, spread = float(relevance.min()), float(np.ptp(relevance)) or 1.0
    own, cost = trade * relevance + (1.0 - trade) * least, (1.0 - trade) * spread
    nearest, left, scores = np.zeros(own.size), np.ones(own.size, bool), np.empty(own.size)
    for _ in range(own.size):
        values = np.where(left, own - cost * nearest, -np.inf)
        best = int(values.argmax())
        scores[best], left[best] = values[best], False
        nearest = np.maximum(nearest, alike[best])
    return scores


def clusters(ranking: Ranking, *, top: int = 20, clusters: int = 5, strands: str = AUTO) -> Ranking:
    """Returns the ranking that takes the best of each cluster in turn, then the second of each, and so on.

    The best are clustered by k-means, which starts from the first and those farthest from it, so that it is the same
    each time; clusters are in the order of their best documents (as TopClustRAG does, arXiv 2506.15246). A document
    takes the score of the place that it comes to.

    Args:
        ranking: what was found so far.
        top: how many of the best take part; the others stay below them.
        clusters: how many there are, at most.
        strands: whose vectors are clustered: "auto", "dense", "learned" or "lexical".
    """
    within("clusters", 1, top=top, clusters=clusters)
    names = chosen_strands(ranking, strands)
    rows = ranking.top(top)
    if rows.size < 2:
        return ranking
    parts = [unit_vectors(ranking, rows, name) for name in names]
    vectors = np.hstack([part if isinstance(part, np.ndarray) else part.toarray() for part in parts])
    labels = kmeans(vectors, min(clusters, rows.size))
    scores = np.empty(rows.size)
    scores[in_turn(labels)] = falling(ranking.fused[rows])
    told: dict[str, Any] = {"documents": int(rows.size), "sizes": np.bincount(labels).tolist()}
    return ranking.placed(rows, scores, clusters=told)


def kmeans(vectors: Floats, count: int) -> NDArray[np.intp]:
    """Returns the cluster of each vector, intp (n,), numbered by the first vector of each; no cluster is empty.

    Lloyd's algorithm from the centres of `farthest`.
    """
    centres = vectors[farthest(vectors, count)]
    labels = np.full(len(vectors), -1)
    for _ in range(ROUNDS):
        nearest = ((centres * centres).sum(axis=1) - 2.0 * (vectors @ centres.T)).argmin(axis=1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        for cluster in np.unique(labels).tolist():
            centres[cluster] = vectors[labels == cluster].mean(axis=0)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def farthest(vectors: Floats, count: int) -> list[int]:
    """Returns the first vector, the one farthest from it, the one farthest from both, and so on; copies are left out.

    Source: Gonzalez 1985, Clustering to minimize the maximum intercluster distance.
    """
    chosen, distances = [0], np.full(len(vectors), np.inf)
    while len(chosen) < count:
        distances = np.minimum(distances, ((vectors - vectors[chosen[-1]]) ** 2).sum(axis=1))
        if not distances.max() > 0:
            break
        chosen.append(int(distances.argmax()))
    return chosen


def in_turn(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns the order that takes the first of each cluster, then the second of each, intp (n,)."""
    turns = np.zeros(labels.size, np.intp)
    for cluster in np.unique(labels).tolist():
        inside = np.flatnonzero(labels == cluster)
        turns[inside] = np.arange(inside.size)
    return np.lexsort((labels, turns))


def falling(scores: Floats) -> Floats:
    """Returns scores that fall at each place: equal ones are told apart by the least there is between numbers."""
    found = scores.copy()
    for i in range(1, found.size):
        found[i] = min(found[i], np.nextafter(found[i - 1], -np.inf))
    return found

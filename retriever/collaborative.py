"""Collaborative reranking: a candidate is as good as it seems itself, and as the candidates like it seem.

The idea is HybRank's (Zhang et al. 2023, arXiv 2305.17740), which feeds similarities among candidates to a trained
transformer. Here nothing is trained: scores are smoothed over the graph of neighbours, one step.
"""

from __future__ import annotations

import math

import numpy as np

from .limits import within
from .normalise import Floats
from .ranking import Ranking
from .similarity import AUTO, chosen_strands, similarities

STEEPEST = 100.0  # power: a cosine of .99 counts .37 by it, one of .9 nothing


def collaborative(
    ranking: Ranking,
    *,
    top: int = 50,
    weight: float = 0.3,
    power: float = 6.0,
    neighbours: int = 0,
    strands: str = AUTO,
) -> Ranking:
    """Returns the ranking in which the best candidates' scores are smoothed over their neighbours among them.

    Args:
        ranking: what was found so far.
        top: how many of the best take part; the others stay below them.
        weight: the neighbours' share of a new score, from 0 to 1.
        power: neighbours weigh their cosine to this power: the higher, the more the nearest count.
        neighbours: only so many of the nearest count; 0 for all.
        strands: whose vectors say what is near: "auto", "dense", "learned", "lexical", or "dense+learned".
    """
    within("collaborative", 1, top=top)
    within("collaborative", 0, 1, weight=weight)
    within("collaborative", 0, power=power, neighbours=neighbours)
    within("collaborative", -math.inf, STEEPEST, power=power)
    names = chosen_strands(ranking, strands)
    rows = ranking.top(top)
    if rows.size < 2 or not weight:
        return ranking
    near = np.maximum(similarities(ranking, rows, names), 0.0) ** power
    scores = smoothed(ranking.fused[rows], near, weight, neighbours)
    return ranking.placed(rows, scores, collaborative={"documents": int(rows.size), "strands": list(names)})


def smoothed(scores: Floats, near: Floats, weight: float, neighbours: int = 0) -> Floats:
    """Returns (1 - weight) x score + weight x the mean of the others' scores, weighed by how near they are.

    Who has no neighbour keeps its score.

    Args:
        scores: float64 (n,).
        near: float64 (n, n), not negative; the diagonal does not count.
        weight: see `collaborative`.
        neighbours: see `collaborative`.
    """
    near = near.copy()
    np.fill_diagonal(near, 0.0)
    if 0 < neighbours < near.shape[1]:
        farther = np.argsort(-near, axis=1, kind="stable")[:, neighbours:]
        np.put_along_axis(near, farther, 0.0, axis=1)
    total = near.sum(axis=1)
    means = np.where(total > 0, near @ scores / np.where(total > 0, total, 1.0), scores)
    return (1.0 - weight) * scores + weight * means

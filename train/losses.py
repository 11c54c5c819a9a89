"""Losses over a matrix of scores, queries by documents, and penalties on sparse vectors.

Formulas: InfoNCE (arXiv 1807.03748); KL to a teacher's distribution over the same candidates; MarginMSE (arXiv
2010.02666); FLOPS (arXiv 2004.05665); the l0 mask (arXiv 2504.14839), which leaves documents with few terms alone.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .heads import Sparse


def kl(scores: Tensor, teacher: Tensor, positives: Tensor) -> Tensor:
    """Returns the mean over queries of KL(teacher || student), both as a softmax over the documents.

    Args:
        scores: (queries, documents), the student's.
        teacher: (queries, documents).
        positives: bool (queries, documents); not looked at.
    """
    del positives
    target = teacher.softmax(dim=1)
    return torch.nn.functional.kl_div(scores.log_softmax(dim=1), target, reduction="batchmean")


def infonce(scores: Tensor, teacher: Tensor, positives: Tensor) -> Tensor:
    """Returns the mean of -log of the probability of the positives; queries without one do not count."""
    del teacher
    known = positives.any(dim=1)
    if not bool(known.any()):
        return scores.sum() * 0
    scores, positives = scores[known], positives[known]
    among = scores.masked_fill(~positives, -torch.inf).logsumexp(dim=1)
    return (scores.logsumexp(dim=1) - among).mean()


def margin_mse(scores: Tensor, teacher: Tensor, positives: Tensor) -> Tensor:
    """Returns the mean squared difference between the student's and the teacher's margins of positive over the rest."""
    query, positive = positives.nonzero(as_tuple=True)
    if not len(query):
        return scores.sum() * 0
    ours = scores[query, positive, None] - scores[query]
    theirs = teacher[query, positive, None] - teacher[query]
    rest = ~positives[query]
    if not bool(rest.any()):
        return scores.sum() * 0
    return ((ours - theirs) ** 2)[rest].mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "kl": kl,
    "infonce": infonce,
    "margin_mse": margin_mse,
}


def flops(vectors: Sparse, tau: float) -> Tensor:
    """Returns the sum over terms of the squared mean weight: the expected cost of a random pair."""
    del tau
    return _flops(vectors, vectors.values)


def flops_l0(vectors: Sparse, tau: float) -> Tensor:
    """Returns FLOPS over the documents with more than tau terms; the others count as empty."""
    terms = torch.bincount(vectors.rows, minlength=vectors.shape[0])
    return _flops(vectors, vectors.values * (terms > tau)[vectors.rows])


def l1(vectors: Sparse, tau: float) -> Tensor:
    """Returns the mean sum of a document's weights."""
    del tau
    return vectors.values.sum() / max(vectors.shape[0], 1)


def _flops(vectors: Sparse, values: Tensor) -> Tensor:
    sums = torch.zeros(vectors.shape[1], device=values.device).index_add(0, vectors.columns, values)
    return ((sums / max(vectors.shape[0], 1)) ** 2).sum()


def nothing(vectors: Sparse, tau: float) -> Tensor:
    """Returns zero."""
    del tau
    return vectors.values.sum() * 0


PENALTIES: dict[str, Callable[[Sparse, float], Tensor]] = {
    "flops": flops,
    "l0": flops_l0,
    "l1": l1,
    "none": nothing,
}

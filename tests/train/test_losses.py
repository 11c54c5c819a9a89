"""Losses and penalties against slow loops in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from plait.train.heads import Sparse  # noqa: E402
from plait.train.losses import LOSSES, PENALTIES  # noqa: E402
from plait.train.recipe import LOSS_NAMES, PENALTY_NAMES  # noqa: E402


def slow_kl(scores, teacher, positives):
    total = 0.0
    for ours, theirs in zip(scores, teacher, strict=True):
        p, q = np.exp(theirs) / np.exp(theirs).sum(), np.exp(ours) / np.exp(ours).sum()
        total += sum(p[d] * np.log(p[d] / q[d]) for d in range(len(p)))
    return total / len(scores)


def slow_infonce(scores, teacher, positives):
    found = []
    for row, right in zip(scores, positives, strict=True):
        if right.any():
            found.append(-np.log(np.exp(row[right]).sum() / np.exp(row).sum()))
    return np.mean(found) if found else 0.0


def slow_margin_mse(scores, teacher, positives):
    found = []
    for query, right in enumerate(positives):
        for positive in np.flatnonzero(right):
            for other in np.flatnonzero(~right):
                ours = scores[query, positive] - scores[query, other]
                found.append((ours - (teacher[query, positive] - teacher[query, other])) ** 2)
    return np.mean(found) if found else 0.0


def slow_flops(vectors, tau):
    return sum(np.mean(vectors[:, term]) ** 2 for term in range(vectors.shape[1]))


def slow_l0(vectors, tau):
    return slow_flops(np.array([row if (row > 0).sum() > tau else row * 0 for row in vectors]), tau)


def slow_l1(vectors, tau):
    return np.mean([row.sum() for row in vectors])


SLOW_LOSSES = {"kl": slow_kl, "infonce": slow_infonce, "margin_mse": slow_margin_mse}
SLOW_PENALTIES = {"flops": slow_flops, "l0": slow_l0, "l1": slow_l1, "none": lambda vectors, tau: 0.0}


def test_every_name_of_a_recipe_is_there():
    assert tuple(LOSSES) == LOSS_NAMES
    assert tuple(PENALTIES) == PENALTY_NAMES


@pytest.mark.parametrize("name", LOSSES)
@given(queries=st.integers(1, 5), documents=st.integers(1, 6), share=st.sampled_from([0, 0.3, 1]), seed=st.integers(0))
def test_losses(name, queries, documents, share, seed):
    random = np.random.default_rng(seed)
    scores, teacher = random.normal(size=(2, queries, documents)) * 3
    positives = random.random((queries, documents)) < share
    ours = torch.from_numpy(scores).requires_grad_()
    loss = LOSSES[name](ours, torch.from_numpy(teacher), torch.from_numpy(positives))
    assert float(loss) == pytest.approx(SLOW_LOSSES[name](scores, teacher, positives), rel=1e-9, abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, ours)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("name", PENALTIES)
@given(rows=st.integers(1, 5), density=st.sampled_from([0, 0.2, 0.8]), tau=st.integers(0, 6), seed=st.integers(0))
def test_penalties(name, rows, density, tau, seed):
    random = np.random.default_rng(seed)
    dense = (random.random((rows, 12)) * (random.random((rows, 12)) < density)).astype(np.float32)
    places = dense.nonzero()
    values = torch.from_numpy(dense[places]).requires_grad_()
    vectors = Sparse(torch.from_numpy(places[0]), torch.from_numpy(places[1]), values, dense.shape)
    penalty = PENALTIES[name](vectors, tau)
    assert float(penalty) == pytest.approx(SLOW_PENALTIES[name](dense.astype(float), tau), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, values)
    assert bool(gradient.isfinite().all())


def test_l0_leaves_documents_with_few_terms_alone():
    rows, columns = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 1])
    values = torch.ones(5, requires_grad=True)
    vectors = Sparse(rows, columns, values, (2, 3))
    (gradient,) = torch.autograd.grad(PENALTIES["l0"](vectors, 2), values)
    assert gradient.tolist() == [0.5, 0.5, 0.5, 0.0, 0.0]  # 2 * (1/2) * (1/2) each

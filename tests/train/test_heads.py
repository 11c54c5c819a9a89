"""The exact step against the textbook form, in value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from plait.train.heads import (  # noqa: E402
    ACTIVATIONS,
    TILE,
    Sparse,
    active,
    log1p,
    log1p_log1p,
    pooled_logits,
    textbook_logits,
)
from plait.train.recipe import ACTIVATION_NAMES  # noqa: E402


def summed(states, lengths, decoder, bias):
    """SPLADE's first form, every logit at once."""
    logits = (states @ decoder.T + bias).relu().log1p()
    return torch.stack([part.sum(dim=0) for part in torch.split(logits, list(lengths))])


TEXTBOOK = {"max": textbook_logits, "sum": summed}
problems = st.tuples(
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
    st.integers(1, 9),
    st.sampled_from([1, 2, 17, TILE - 1, TILE, TILE + 1, 2 * TILE + 3]),
    st.floats(-4, 1),
    st.integers(0, 2**31),
)


def made(lengths, width, vocabulary, bias, seed, kind=torch.float64):
    """Returns states, decoder and bias with gradient; float64, where a comparison needs no tolerance to speak of."""
    random = torch.Generator().manual_seed(seed)
    shapes = (sum(lengths), width), (vocabulary, width), (vocabulary,)
    states, decoder, offsets = (torch.randn(shape, generator=random, dtype=kind) for shape in shapes)
    return [tensor.requires_grad_() for tensor in (states, decoder, offsets.detach() + bias)]


def gradients(pooled, leaves):
    """Returns the gradient of a loss that weighs every entry in its own way."""
    weights = torch.linspace(-1, 2, pooled.numel(), dtype=pooled.dtype).view(pooled.shape)
    loss = (pooled * weights).sum() + (pooled**2).sum()
    return torch.autograd.grad(loss, leaves, allow_unused=True)


def in_float64(vectors):
    """Returns the dense form without going through float32."""
    return torch.zeros(vectors.shape, dtype=torch.float64).index_put((vectors.rows, vectors.columns), vectors.values)


@pytest.mark.parametrize("pooling", ["max", "sum"])
@given(problem=problems)
def test_value_and_gradient_are_the_textbooks(pooling, problem):
    lengths, width, vocabulary, bias, seed = problem
    leaves = made(lengths, width, vocabulary, bias, seed)
    found = pooled_logits(leaves[0], lengths, *leaves[1:], pooling=pooling, precise=True)
    expected = TEXTBOOK[pooling](leaves[0], lengths, *leaves[1:])
    ours = in_float64(found)
    # the mask is found in float32: what is that close to zero may be on either side
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-4)
    keep = (expected > 1e-4).double()
    for mine, theirs in zip(gradients(ours * keep, leaves), gradients(expected * keep, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@given(problem=problems)
def test_entries_are_sorted_and_once(problem):
    lengths, width, vocabulary, bias, seed = problem
    found = pooled_logits(
        (leaves := made(lengths, width, vocabulary, bias, seed, torch.float32))[0], lengths, *leaves[1:], precise=True
    )
    keys = found.rows * vocabulary + found.columns
    assert bool((keys[1:] > keys[:-1]).all())
    assert found.shape == (len(lengths), vocabulary)


def test_bfloat16_finds_all_but_what_is_barely_above_zero():
    lengths = [5, 5, 9, 1]
    states, decoder, bias = made(lengths, 16, 5000, -2.0, 0, torch.float32)
    ours = pooled_logits(states, lengths, decoder, bias).dense()
    theirs = textbook_logits(states, lengths, decoder, bias)
    missed = (ours == 0) & (theirs > 0)
    assert float(theirs[missed].max() if missed.any() else 0) < 0.1
    torch.testing.assert_close(ours[~missed], theirs[~missed])


def test_of_tokens_that_tie_one_gets_the_gradient():
    states = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]], requires_grad=True)
    decoder, bias = torch.tensor([[1.0, 1.0]], requires_grad=True), torch.zeros(1, requires_grad=True)
    found = pooled_logits(states, [3], decoder, bias, precise=True)
    assert found.values.tolist() == [3.0]
    gradient = torch.autograd.grad(found.values.sum(), [states, decoder, bias])
    assert sorted(gradient[0].tolist()) == [[0, 0], [0, 0], [1, 1]]  # not shared between the two
    assert [one.tolist() for one in gradient[1:]] == [[[1, 2]], [1]]


def test_no_active_term_has_no_value_and_a_gradient_of_zero():
    states, decoder, bias = made([2, 1], 4, 30, -100.0, 1, torch.float32)
    for pooling in TEXTBOOK:
        found = pooled_logits(states, [2, 1], decoder, bias, pooling=pooling)
        assert found.values.shape == (0,)
        assert found.dense().tolist() == [[0.0] * 30] * 2
        assert found.gathered(torch.tensor([3, 5])).tolist() == [[0.0, 0.0]] * 2
        for gradient in torch.autograd.grad(found.values.sum(), [states, decoder, bias]):
            assert not gradient.any()


def test_a_logit_that_is_no_number_is_not_lost():
    states, decoder, bias = made([2, 3], 4, 30, -100.0, 1, torch.float32)
    with torch.no_grad():
        states[0] = torch.nan
    found = pooled_logits(states, [2, 3], decoder, bias)
    assert set(found.rows.tolist()) == {0}
    assert bool(found.values.isnan().all())


def test_active_is_the_sign_of_the_largest_logit():
    states, decoder, bias = made([3, 3, 1], 8, 100, -2.0, 3, torch.float32)
    found = active(states, [3, 3, 1], decoder, bias, precise=True)
    assert torch.equal(found, textbook_logits(states, [3, 3, 1], decoder, bias) > 0)
    assert not found.requires_grad


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 19)), unique=True),
    st.lists(st.integers(0, 19), unique=True),
)
def test_gathered_columns_are_those_of_the_dense_form_with_gradient(entries, columns):
    entries, columns = sorted(entries), torch.tensor(sorted(columns), dtype=torch.int64)
    values = torch.arange(1.0, len(entries) + 1).requires_grad_()
    places = torch.tensor(entries, dtype=torch.int64).view(-1, 2)
    vectors = Sparse(places[:, 0], places[:, 1], values, (5, 20))
    dense = np.zeros((5, 20), np.float32)
    for at, (row, column) in enumerate(entries):
        dense[row, column] = at + 1
    assert np.array_equal(vectors.dense().detach().numpy(), dense)
    found = vectors.gathered(columns)
    assert np.array_equal(found.detach().numpy(), dense[:, columns.numpy()])
    if found.requires_grad:
        (gradient,) = torch.autograd.grad((found * 3).sum(), values)
        assert gradient.tolist() == [3.0 if column in columns.tolist() else 0.0 for _, column in entries]


def test_activations():
    values = torch.tensor([0.0, 1.0, 10.0])
    assert tuple(ACTIVATIONS) == ACTIVATION_NAMES
    np.testing.assert_allclose(log1p(values), np.log1p([0, 1, 10]), rtol=1e-6)
    np.testing.assert_allclose(log1p_log1p(values), np.log1p(np.log1p([0, 1, 10])), rtol=1e-6)

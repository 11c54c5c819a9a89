"""Document reordering: a permutation, always the same one, that brings similar documents together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.index import reorder as module
from plait.index.contract import LEXICAL_BASE
from plait.index.postings import Forward, impacts_of, invert
from plait.index.reorder import middle_of, reorder, skew_of, slopes

from .strategies import collections, forward_of

TOPICS, TERMS_OF_ONE, SHARED = 8, 40, 100


def planted(seed, documents, bases=(0,)):
    """Returns (forward, topic of each document): a topic's documents draw terms of its own, and some that all share."""
    rng = np.random.default_rng(seed)
    topics = rng.permutation(np.arange(documents) % TOPICS)
    rows = []
    for topic in topics:
        own = SHARED + topic * TERMS_OF_ONE + rng.choice(TERMS_OF_ONE, 12, replace=False)
        drawn = np.concatenate([own, rng.choice(SHARED, 6, replace=False)])
        rows.append({int(base + term): int(rng.integers(1, 9)) for base in bases for term in drawn})
    return forward_of(rows), topics


def permuted(forward, order):
    """Returns a forward copy with its documents in another order."""
    counts = np.diff(forward.starts)[order]
    starts = np.concatenate([[0], np.cumsum(counts)])
    at = np.arange(starts[-1]) - np.repeat(starts[:-1] - forward.starts[:-1][order], counts)
    return Forward(starts, forward.terms[at], forward.values[at], forward.literal[at], forward.lengths[order])


def cells(forward, window):
    """Returns how many cells the postings of a forward copy have."""
    impacts = impacts_of(forward, LEXICAL_BASE, 1.0, 0.9, 0.4)
    return invert(forward, impacts, np.arange(forward.size, dtype=np.uint32), window).cell_max.size


def purity(order, topics, window):
    """Returns the share of documents that are of their window's most frequent topic."""
    return sum(np.bincount(part).max() for part in topics[order].reshape(-1, window)) / topics.size


@settings(deadline=None, max_examples=25)
@given(collections(max_documents=40), st.sampled_from([1, 2, 7, 16]))
def test_an_order_is_a_permutation_and_always_the_same(collection, window):
    forward = collection[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAF", 2)
        order = reorder(forward, window=window)
        again = reorder(forward, window=window)
    assert order.dtype == np.int64
    assert np.sort(order).tolist() == list(range(forward.size))
    assert order.tolist() == again.tolist()


@pytest.mark.parametrize("rows", [[], [{}], [{3: 1}], [{}, {3: 1}, {LEXICAL_BASE: 2}]], ids=["0", "1 empty", "1", "3"])
def test_what_fits_into_one_window_stays(rows):
    assert reorder(forward_of(rows)).tolist() == list(range(len(rows)))


def test_exactly_one_window_stays():
    forward, _ = planted(0, 64)
    assert reorder(forward, window=64).tolist() == list(range(64))
    assert reorder(forward, window=32).tolist() != list(range(64))


def test_documents_without_terms_keep_their_order():
    assert reorder(forward_of([{}] * 100), window=10).tolist() == list(range(100))


@pytest.mark.parametrize(
    "bases", [(0,), (LEXICAL_BASE,), (0, LEXICAL_BASE), (2**32 - 500,)], ids=["learned", "lexical", "both", "last"]
)
def test_planted_topics_get_windows_of_their_own(bases):
    forward, topics = planted(1, 1024, bases)
    order = reorder(forward, window=128)
    assert purity(np.arange(1024), topics, 128) < 0.25
    assert purity(order, topics, 128) > 0.95
    everywhere, own = len(bases) * TOPICS * SHARED, len(bases) * TOPICS * TERMS_OF_ONE
    assert cells(forward, 128) > 0.98 * (everywhere + TOPICS * own)  # nearly every term is in every window
    assert cells(permuted(forward, order), 128) < everywhere + 1.5 * own


def test_a_shuffled_collection_is_put_together_as_well():
    forward, _ = planted(2, 1000)
    found = []
    for seed in range(3):
        shuffled = permuted(forward, np.random.default_rng(seed).permutation(1000))
        found.append(cells(permuted(shuffled, reorder(shuffled, window=100)), 100))
        assert found[-1] < 0.6 * cells(shuffled, 100)
    assert max(found) < 1.1 * min(found)


def test_documents_keep_their_order_inside_leaves():
    forward, _ = planted(3, 2048)
    order = reorder(forward, window=256)
    assert order.tolist() != list(range(2048))
    assert np.all(np.diff(order.reshape(-1, module.LEAF)) > 0)


def test_the_strongest_terms_decide(monkeypatch):
    # Half of a document's terms are its topic's and strong; the others are as many, weak, and cut across the topics.
    monkeypatch.setattr(module, "TERMS", 8)
    rng = np.random.default_rng(4)
    topics, others = rng.permutation(np.arange(512) % 4), rng.permutation(np.arange(512) % 4)
    draws = [rng.choice(16, (2, 8)) for _ in topics]
    rows = [
        {int(16 * topic + t): 200 for t in own} | {int(64 + 16 * other + t): 5 for t in weak}
        for topic, other, (own, weak) in zip(topics, others, draws, strict=True)
    ]
    order = reorder(forward_of(rows), window=128)
    assert purity(order, topics, 128) > 0.95
    assert purity(order, others, 128) < 0.45


def test_the_input_is_left_as_it_was():
    forward, _ = planted(5, 300)
    before = [values.copy() for values in forward]
    for values in forward:
        values.flags.writeable = False  # as mapped files are
    reorder(forward, window=100)
    assert all(np.array_equal(a, b) for a, b in zip(forward, before, strict=True))


@pytest.mark.parametrize(
    ("documents", "unit", "middle"), [(9, 4, 4), (8, 4, 4), (12, 4, 4), (13, 4, 8), (16, 4, 8), (5, 4, 4), (2, 1, 1)]
)
def test_cuts_fall_between_units(documents, unit, middle):
    assert middle_of(documents, unit) == middle


def cost(left, right, lefts, rights):
    """Returns the estimated bits of a cut, as the papers write it."""
    return np.sum(left * np.log2(lefts / (left + 1)) + right * np.log2(rights / (right + 1)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 30), st.data())
def test_a_preference_is_what_the_move_would_save(seed, n, data):
    from plait.index.reorder_kernels import STEPS, degrees, preferences, pulls

    rng = np.random.default_rng(seed)
    middle = data.draw(st.integers(1, n - 1))
    holds = rng.random((n, 12)) < 0.4
    starts = np.concatenate([[0], np.cumsum(holds.sum(1))])
    terms = np.nonzero(holds)[1].astype(np.uint32)
    side = (np.arange(n) >= middle).astype(np.uint8)
    left, total = degrees(starts, terms, 12, middle), degrees(starts, terms, 12, n)
    assert left.tolist() == holds[:middle].sum(0).tolist()
    from_left, from_right, keys = np.empty(12, np.int32), np.empty(12, np.int32), np.empty(n, np.int32)
    pulls(left, total, slopes(n), skew_of(middle, n - middle), from_left, from_right)
    preferences(starts, terms, side, from_left, from_right, keys)
    for d in range(n):
        moved = left - holds[d] if d < middle else left + holds[d]
        saved = cost(left, total - left, middle, n - middle) - cost(moved, total - moved, middle, n - middle)
        preference = (keys[d] - side[d]) / 2 / STEPS
        assert (preference if d < middle else -preference) == pytest.approx(saved, abs=12 * 1.5 / STEPS)


def test_a_halving_lowers_the_cost_and_counts_right():
    from plait.index.reorder_kernels import degrees, halve, part

    forward, _ = planted(6, 400)
    graph = (forward.starts, forward.terms, SHARED + TOPICS * TERMS_OF_ONE)
    before = degrees(*graph, 200)
    side, left, total = halve(*graph, 200, skew_of(200, 200), slopes(400), 20)
    assert side.sum() == 200
    halves = [part(*graph[:2], degree, side, which) for which, degree in ((0, left), (1, total - left))]
    again = [permuted(forward, np.flatnonzero(side == which)) for which in (0, 1)]
    for degree, (starts, terms, size), half in zip((left, total - left), halves, again, strict=True):
        assert degree.tolist() == np.bincount(half.terms, minlength=degree.size).tolist()
        assert size == (degree > 1).sum()
        names = np.flatnonzero(degree > 1)
        kept = degree[half.terms] > 1
        assert names[terms].tolist() == half.terms[kept].tolist()
        assert (
            np.diff(starts).tolist()
            == np.bincount(np.repeat(np.arange(200), np.diff(half.starts))[kept], minlength=200).tolist()
        )
    assert cost(left, total - left, 200, 200) < 0.9 * cost(before, total - before, 200, 200)

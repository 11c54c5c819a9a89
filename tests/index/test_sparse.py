"""The sparse index: what is built, and every search path against a plainer one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.index import compiled, kernels, reference
from plait.index.contract import LEXICAL_BASE
from plait.index.impacts import idf, integer_weights, quantised, saturated, step_for
from plait.index.postings import ROW_SHARE, WIDEST, invert
from plait.index.segment import NO_FLOOR

from .strategies import collections, dense_collections, forward_of, queries

ROOM = np.empty(WIDEST, np.uint32)
ALL = np.empty(0, np.uint8)
ROOT = Path(__file__).resolve().parents[2]
compiled.load_kernels()


def plain_scores(forward, impacts, terms, weights):
    """The definition, with nothing but Python loops: whole numbers."""
    weight = dict(zip(terms.tolist(), weights.tolist(), strict=True))
    scores = []
    for d in range(forward.size):
        score = 0
        for p in range(forward.starts[d], forward.starts[d + 1]):
            if int(forward.terms[p]) in weight:
                score += weight[int(forward.terms[p])] * int(impacts[p])
        scores.append(score)
    return np.array(scores, np.uint32)


@given(collections(), queries())
def test_reference_scores_are_the_definition(collection, query):
    forward, impacts, postings = collection
    np.testing.assert_array_equal(reference.accumulate(postings, *query), plain_scores(forward, impacts, *query))


@given(collections(), queries(), st.integers(1, 70), st.booleans(), st.randoms())
def test_kernel_equals_reference_bit_for_bit(collection, query, k, some_dead, random):
    _, _, postings = collection
    alive = np.array([random.random() < 0.6 for _ in range(postings.size)], np.uint8) if some_dead else ALL
    expected = reference.search(postings, *query, k, alive)
    if not postings.size:
        return
    found = kernels.search(*postings, *query, k, alive, 1.0, NO_FLOOR, ROOM)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@given(dense_collections(), queries(), st.integers(1, 300), st.sampled_from([0, 0.02, 0.5, 0.98]), st.integers(0, 99))
def test_kernel_equals_reference_with_rows_blocks_and_ties(postings, query, k, dead, seed):
    alive = (np.random.default_rng(seed).random(postings.size) >= dead).astype(np.uint8) if dead else ALL
    expected = reference.search(postings, *query, k, alive)
    found = kernels.search(*postings, *query, k, alive, 1.0, NO_FLOOR, ROOM)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@given(dense_collections(), queries(), st.integers(1, 300), st.integers(0, 99))
def test_a_floor_leaves_out_what_lies_below_it_and_nothing_else(postings, query, k, percent):
    sums, documents = reference.search(postings, *query, k, ALL)
    floor = np.uint32(np.percentile(sums, percent)) if sums.size else NO_FLOOR
    found = kernels.search(*postings, *query, k, ALL, 1.0, floor, ROOM)
    np.testing.assert_array_equal(found[0], sums[sums >= floor])
    np.testing.assert_array_equal(found[1], documents[sums >= floor])


@given(collections(), queries(), st.integers(1, 70))
def test_reference_search_is_a_full_sort(collection, query, k):
    forward, impacts, postings = collection
    scores = plain_scores(forward, impacts, *query)
    ranks = postings.id_rank.astype(int)
    order = sorted(range(scores.size), key=lambda d: (scores[d], ranks[d]), reverse=True)
    expected = [d for d in order if scores[d] > 0][:k]
    found_scores, found = reference.search(postings, *query, k, ALL)
    assert found.tolist() == expected
    np.testing.assert_array_equal(found_scores, scores[expected])


@given(collections(), queries())
def test_lookup_gives_what_was_stored(collection, query):
    forward, impacts, postings = collection
    documents = np.arange(postings.size)[::-1].astype(np.int64)
    stored = np.zeros((postings.size, query[0].size), np.uint8)
    column = {int(t): i for i, t in enumerate(query[0])}
    for row, d in enumerate(documents.tolist()):
        for p in range(forward.starts[d], forward.starts[d + 1]):
            if int(forward.terms[p]) in column:
                stored[row, column[int(forward.terms[p])]] = impacts[p]
    np.testing.assert_array_equal(reference.lookup(postings, query[0], documents), stored)
    np.testing.assert_array_equal(kernels.lookup(*postings, query[0], documents[::-1].copy()), stored[::-1])
    few = np.sort(np.random.default_rng(0).integers(postings.size, size=3)) if postings.size else documents
    np.testing.assert_array_equal(kernels.lookup(*postings, query[0], few), reference.lookup(postings, query[0], few))
    sums = stored.astype(np.int64) @ query[1].astype(np.int64)
    np.testing.assert_array_equal(reference.sums(postings, *query, documents), sums)
    np.testing.assert_array_equal(kernels.sums(*postings, *query, documents[::-1].copy()), sums[::-1])


@given(collections())
def test_layout_holds_every_posting_once(collection):
    forward, impacts, postings = collection
    window, stride = postings.shape.tolist()
    rebuilt, held = set(), 0
    for t, term in enumerate(postings.terms.tolist()):
        assert postings.row_start[t] == held
        for cell in range(postings.cells[t], postings.cells[t + 1]):
            inside = slice(postings.cell_start[cell], postings.cell_start[cell + 1])
            offsets, values = postings.offsets[inside], postings.impacts[inside]
            if not values.size:
                row = postings.rows[held * stride : (held + 1) * stride]
                offsets, held = np.flatnonzero(row), held + 1
                values = row[offsets]
                assert values.size * ROW_SHARE > stride
            assert values.size * ROW_SHARE <= stride or inside.start == inside.stop
            assert values.max() == postings.cell_max[cell]
            assert (np.diff(offsets.astype(int)) > 0).all()
            base = int(postings.cell_window[cell]) * window
            rebuilt |= {(term, base + o, i) for o, i in zip(offsets.tolist(), values.tolist(), strict=True)}
    assert held == postings.row_start[-1]
    document = np.repeat(np.arange(forward.size), np.diff(forward.starts))
    assert rebuilt == set(zip(forward.terms.tolist(), document.tolist(), impacts.tolist(), strict=True))
    assert (np.diff(postings.terms.astype(np.int64)) > 0).all()


def test_many_windows_and_a_threshold_that_skips_some():
    rng = np.random.default_rng(5)
    rows = [{t: int(rng.integers(1, 255)) for t in rng.choice(40, 6, replace=False).tolist()} for _ in range(3000)]
    forward = forward_of(rows)
    postings = invert(forward, forward.values, rng.permutation(3000).astype(np.uint32), 128)
    for _ in range(30):
        terms = np.sort(rng.choice(40, 5, replace=False)).astype(np.uint32)
        weights = integer_weights(rng.random(5))[0]
        for k in (1, 10, 100, 2999, 5000):
            expected = reference.search(postings, terms, weights, k, ALL)
            found = kernels.search(*postings, terms, weights, k, ALL, 1.0, NO_FLOOR, ROOM)
            np.testing.assert_array_equal(found[1], expected[1])


def test_equal_scores_are_settled_by_id_at_the_cutoff():
    forward = forward_of([{3: 9}] * 100)
    ranks = np.random.default_rng(0).permutation(100).astype(np.uint32)
    postings = invert(forward, forward.values, ranks, 16)
    one = np.array([3], np.uint32), np.array([1], np.uint32)
    for found in (
        reference.search(postings, *one, 7, ALL),
        kernels.search(*postings, *one, 7, ALL, 1.0, NO_FLOOR, ROOM),
    ):
        assert ranks[found[1]].tolist() == [99, 98, 97, 96, 95, 94, 93]


def test_an_offset_beyond_its_window_stays_inside_the_accumulator():
    forward = forward_of([{1: 5}, {1: 6}, *[{2: 1}] * 10])
    postings = invert(forward, forward.values, np.arange(12).astype(np.uint32), 64)
    damaged = postings._replace(offsets=np.array([65535, 1], np.uint16))
    sums, documents = kernels.search(
        *damaged, np.array([1], np.uint32), np.ones(1, np.uint32), 5, ALL, 1.0, NO_FLOOR, ROOM
    )
    assert documents.tolist() == [1]
    assert sums.tolist() == [6]


def test_bm25_saturation_is_lucenes_formula():
    # tf 3, document of 20 terms, average 10, k1 .9, b .4: 3 / (3 + .9 (.6 + .4 * 2)) = .70422...
    value = saturated(np.array([3], np.uint8), np.array([20], np.uint32), 10.0, 0.9, 0.4)
    assert value[0] == pytest.approx(3 / (3 + 0.9 * (0.6 + 0.8)))


def test_idf_is_lucenes_formula():
    # ln(1 + (10 - 2 + .5) / (2 + .5))
    assert idf(np.array([2, 0]), 10).tolist() == pytest.approx([np.log(1 + 8.5 / 2.5), np.log(1 + 10.5 / 0.5)])


def test_quantised_weights_never_vanish_and_fit():
    step = step_for(np.array([0.5, 2.0]))
    assert quantised(np.array([1e-9, 2.0, 9.0]), step).tolist() == [1, 204, 255]


def test_lexical_impacts_come_from_counts_and_learned_ones_stay():
    forward = forward_of([{5: 77, LEXICAL_BASE + 1: 2}], lengths=[10])
    from plait.index.postings import impacts_of

    impacts = impacts_of(forward, LEXICAL_BASE, 10.0, 0.9, 0.4)
    assert impacts.tolist() == [77, round(255 * 2 / 2.9)]


@given(st.lists(st.floats(2.0**-60, 2.0**60), max_size=50))
def test_integer_weights_leave_room_and_lose_less_than_float32(weights):
    whole, unit = integer_weights(np.array(weights))
    assert int(whole.sum(dtype=np.uint64)) * 255 < 2**31
    assert np.frexp(unit)[0] == 0.5  # a power of two: products with it are exact
    np.testing.assert_allclose(whole * unit, weights, atol=sum(weights) * 255 * 2.0**-30 or 0)


@given(collections())
def test_the_compiled_builder_equals_the_plain_one(collection):
    forward, impacts, postings = collection
    made = compiled.inverted(forward, impacts, postings.id_rank, int(postings.shape[0]))
    for name, values in made._asdict().items():
        np.testing.assert_array_equal(values, getattr(postings, name), err_msg=name)
        assert values.dtype == getattr(postings, name).dtype, name


def test_the_compiled_builder_takes_a_growing_vocabulary():
    rng = np.random.default_rng(2)
    rows = [{int(t): 7 for t in rng.integers(LEXICAL_BASE, 2**32, 30)} for _ in range(400)]
    forward = forward_of(rows)
    plain = invert(forward, forward.values, np.arange(400, dtype=np.uint32), 64)
    made = compiled.inverted(forward, forward.values, plain.id_rank, 64)
    assert all(np.array_equal(a, b) for a, b in zip(made, plain, strict=True))


@pytest.mark.parametrize("shape", [[0, 64], [65537, 128], [8192, 127], [8192, 64], [8192, 128, 1], [-64, 128]])
def test_a_shape_that_no_segment_has_does_not_fit(shape):
    forward = forward_of([{1: 5}] * 65)
    postings = invert(forward, forward.values, np.arange(65).astype(np.uint32), 8192)
    assert postings.fits(65)
    assert not postings.fits(64)
    assert not postings._replace(shape=np.array(shape, np.int64)).fits(65)


def test_cells_that_lie_beyond_their_end_are_not_read():
    """In a process of its own: reading there would end it."""
    script = textwrap.dedent("""
        import numpy as np
        from plait.index import compiled, kernels
        from plait.index.postings import WIDEST
        from plait.index.segment import NONE_DEAD, NO_FLOOR
        from tests.index.strategies import forward_of
        compiled.load_kernels()
        forward = forward_of([{1: 5, 2: 6, 3: 7}] * 20)
        postings = compiled.inverted(forward, forward.values, np.arange(20, dtype=np.uint32), 64)
        damaged = postings._replace(cells=np.array([2**32 - 1, 2**32 - 1, 2**32 - 1, 3], np.uint32))
        terms, sums = np.array([1, 2, 3], np.uint32), np.empty(WIDEST, np.uint32)
        for exactness in (1.0, 0.5):
            found = kernels.search(*damaged, terms, np.ones(3, np.uint32), 5, NONE_DEAD, exactness, NO_FLOOR, sums)
            print(found[1].size)
    """)
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "0\n0\n"), said.stderr

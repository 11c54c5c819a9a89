"""The gated inner product behind FAISS: exact, saved and read again, and refused where it is broken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.index import CorruptError, StoreError
from plait.index.densified import DensifiedIndex


def sample(documents, slices, places, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (documents, slices)).astype(np.float32)
    return values, rng.integers(0, places, (documents, slices))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 5), st.integers(1, 12), st.integers(0, 10**6))
def test_search_is_exact_for_every_k_and_depth(documents, slices, places, k, seed):
    values, where = sample(documents, slices, places, seed)
    (query,), (gate,) = sample(1, slices, places, seed + 1)
    index = DensifiedIndex(values, where)
    scores = (values * query * (where == gate)).sum(1)
    wanted = np.lexsort((np.arange(documents), -scores))[:k]
    for depth in (1, 7, documents):
        found = index.search(query, gate, k, depth=depth)
        assert found.exact
        assert found.scores.tolist() == scores[wanted].tolist()
        assert found.positions.tolist() == wanted.tolist() or found.scores[-1] == 0


def test_a_bounded_search_says_whether_it_is_exact():
    values = np.ones((50, 4), np.float32)
    places = np.zeros((50, 4), int)
    places[:49] = 1  # the plain product is the same for all: FAISS cannot tell the one that passes the gate
    found = DensifiedIndex(values, places).search(np.ones(4, np.float32), np.zeros(4, int), 1, depth=2, most=2)
    assert not found.exact
    assert found.proposed == 2


def test_saved_and_read_again(tmp_path):
    values, places = sample(20, 6, 300, 1)
    index = DensifiedIndex(values, places)
    assert index.places.dtype == np.uint16
    index.save(tmp_path / "sliced")
    found = DensifiedIndex.load(tmp_path / "sliced")
    assert len(found) == 20
    assert found.search(values[3], places[3], 1).positions.tolist() == [3]


def test_broken_ones_are_refused(tmp_path):
    with pytest.raises(StoreError, match="must have the same rows and columns"):
        DensifiedIndex(np.ones((2, 3), np.float32), np.ones((2, 2), int))
    with pytest.raises(StoreError, match="negative or no numbers"):
        DensifiedIndex(np.full((2, 3), np.nan, np.float32), np.ones((2, 3), int))
    with pytest.raises(StoreError, match=r"has no densified\.json"):
        DensifiedIndex.load(tmp_path)
    DensifiedIndex(np.ones((2, 3), np.float32), np.ones((2, 3), int)).save(tmp_path)
    (tmp_path / "values.npy").write_bytes(b"broken")
    with pytest.raises(CorruptError, match="cannot be read"):
        DensifiedIndex.load(tmp_path)
    np.save(tmp_path / "values.npy", np.ones((1, 3), np.float32))
    with pytest.raises(CorruptError, match="not the ones that densified"):
        DensifiedIndex.load(tmp_path)


def test_an_empty_index_has_no_hits():
    found = DensifiedIndex(np.empty((0, 4), np.float32), np.empty((0, 4), int)).search(
        np.ones(4, np.float32), np.zeros(4, int)
    )
    assert (found.positions.tolist(), found.exact) == ([], True)

"""Searches of few documents: their terms are looked up, and the answer is that of a scan."""

from __future__ import annotations

import numpy as np
import pytest
from plait.index import Snapshot, selections
from plait.index.snapshot import Searched

from .making import COLUMNS, made

SIZE = 3 * selections.FEW


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = made(tmp_path_factory.mktemp("few") / "i", [f"d{i}" for i in range(SIZE)])
    opened = Snapshot(folder)
    yield opened
    opened.close()


@pytest.mark.parametrize(("count", "looked_up"), [(1, True), (3, True), (4, False), (SIZE, False)])
def test_only_a_small_share_is_looked_up(snapshot, count, looked_up):
    chosen = snapshot.selected(np.arange(count))
    assert (chosen.few[0] is not None) is looked_up
    assert chosen.count == count


@pytest.mark.parametrize("terms", [1, 8, COLUMNS])
@pytest.mark.parametrize("strand", ["lexical", "learned"])
def test_looking_up_and_scanning_agree_for_any_number_of_terms(snapshot, strand, terms):
    rng = np.random.default_rng(terms)
    asked = snapshot.terms(strand, np.sort(rng.choice(COLUMNS, terms, replace=False)))
    weights = rng.integers(0, 50, terms).astype(np.uint32)
    rows = np.sort(rng.choice(SIZE, 3, replace=False))
    alive = np.zeros(SIZE, np.uint8)
    alive[rows] = 1
    (segment,) = snapshot.segments
    scanned, looked_up = (Searched(segment, alive, few).search([(asked, weights)] * 2, 2, 1.0) for few in (None, rows))
    for one, other in zip(scanned, looked_up, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])

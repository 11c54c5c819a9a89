"""Fusion: the arithmetic, and that a score means the same whatever was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever import QueryError
from plait.retriever.fusion import FUSIONS, Candidates, chosen, convex, rrf, weights_for


def candidates(scores, ranks=None, least=(0, -1), best=(4, 0.5)):
    scores = np.array(scores, float)
    ranks = np.zeros(scores.shape, np.int64) if ranks is None else np.array(ranks)
    return Candidates(scores, ranks, np.array(least, float), np.array(best, float))


def test_convex_written_out():
    fused = convex(candidates([[4, -1], [2, 0.5], [0, -0.25]]), np.array([1.0, 3.0]))
    # (1 * 4/4 + 3 * 0/1.5) / 4, (1 * 2/4 + 3 * 1.5/1.5) / 4, (1 * 0 + 3 * .75/1.5) / 4
    assert fused.tolist() == pytest.approx([0.25, 0.875, 0.375])


def test_a_strand_that_found_nothing_adds_nothing():
    fused = convex(candidates([[0, 0.5], [0, 0.2]], best=(0, 0.5)), np.array([0.5, 0.5]))
    assert fused.tolist() == pytest.approx([0.5, 0.4])


def test_rrf_written_out():
    fused = rrf(candidates([[1, 1]] * 3, ranks=[[1, 2], [3, 0], [0, 0]]), np.array([1.0, 2.0]))
    assert fused.tolist() == pytest.approx([1 / 61 + 2 / 62, 1 / 63, 0])


@given(
    st.lists(st.tuples(st.floats(0, 4), st.floats(-1, 0.5)), min_size=1, max_size=8),
    st.tuples(st.floats(0, 5), st.floats(0.01, 5)),
)
def test_convex_stays_between_0_and_1_and_never_falls_when_a_strand_rises(rows, weights):
    weights = np.array(weights)
    fused = convex(candidates(rows), weights)
    assert ((fused >= -1e-12) & (fused <= 1 + 1e-12)).all()
    higher = convex(candidates([(min(4, a + 0.1), b) for a, b in rows]), weights)
    assert (higher >= fused - 1e-12).all()


def test_unknown_names_and_impossible_weights_are_refused():
    with pytest.raises(QueryError, match="no fusion 'magic'; there are: convex, rrf"):
        chosen("magic")
    with pytest.raises(QueryError, match="must be finite and not negative"):
        weights_for(["lexical"], {"lexical": -1})
    with pytest.raises(QueryError, match="must be finite"):
        weights_for(["lexical"], {"lexical": float("nan")})
    with pytest.raises(QueryError, match="no strand of lexical, dense has a weight above 0"):
        weights_for(["lexical", "dense"], {"learned": 1})


def test_every_fusion_has_a_weight_for_every_strand():
    for fusion in FUSIONS.values():
        assert set(fusion.weights) == {"lexical", "learned", "dense"}

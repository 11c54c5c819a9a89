"""The gains that weights are chosen by, against ir_measures on the same rankings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import EvalError, score_run
from plait.eval.gains import measure_named
from plait.eval.judged import JudgedQuery

IDS = [f"d{number}" for number in range(9)]
SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=9, max_size=9)
GRADES = st.dictionaries(st.sampled_from([*IDS, "elsewhere", "nowhere"]), st.integers(-1, 3), min_size=1)
MEASURES = ["nDCG@3", "nDCG@10", "nDCG", "RR@3", "RR", "AP@5", "AP", "R@4"]


def judged_query(judged, fused=None):
    ids = sorted(IDS, reverse=True)
    relevance = np.array([judged.get(id, 0) for id in ids])
    scores = np.zeros(len(ids)) if fused is None else fused
    return JudgedQuery("q", "text", scores[:, None], scores, relevance, judged, ids=tuple(ids))


@pytest.mark.parametrize("name", MEASURES)
@given(scores=SCORES, judged=GRADES)
def test_gains_equal_ir_measures(name, scores, judged):
    query = judged_query(judged)
    run = {"q": dict(zip(query.ids, scores, strict=True))}
    measure = measure_named(name)
    (found,) = query.gains(np.array(scores)[:, None], measure)
    assert found == pytest.approx(score_run(run, {"q": judged}, [name]).means[measure.name], abs=1e-9)


def test_ranks_of_many_rankings_at_once():
    query = judged_query({"d8": 1, "d3": 2})
    rankings = np.stack([np.arange(9.0), -np.arange(9.0), np.zeros(9)], axis=1)
    assert query.ranks(rankings).tolist() == [[9, 1, 1], [4, 6, 6]]  # of equal scores the greater id is first


@pytest.mark.parametrize("name", ["P@10", "Success@1", "AP(rel=2)@10"])
def test_weights_are_chosen_by_some_measures(name):
    with pytest.raises(EvalError, match=r"weights are chosen by nDCG, RR, R, AP, with a cutoff, as nDCG@10; not by"):
        measure_named(name)


def test_an_unknown_measure():
    with pytest.raises(EvalError, match="there is no measure 'nDGC@10'"):
        measure_named("nDGC@10")

"""Measures are trec_eval's: numbers worked out by hand, and equal to pytrec_eval's on every run."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import DEFAULT_MEASURES, EvalError, parse_measures, score_run

TREC = {"nDCG@10": "ndcg_cut_10", "R@100": "recall_100", "AP@100": "map_cut_100", "P@5": "P_5", "RR": "recip_rank"}
DOCUMENTS = st.sampled_from([f"d{i}" for i in range(15)])
SCORES = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])


def test_numbers_worked_out_by_hand():
    qrels = {"q": {"a": 2, "b": 1, "c": 0}}
    scores = score_run({"q": {"c": 3.0, "a": 2.0, "x": 1.5, "b": 1.0}}, qrels, "nDCG@10 RR@10 AP@100 R@100 P@5 R@2")
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert scores.means == pytest.approx(
        {
            "nDCG@10": (2 / math.log2(3) + 1 / math.log2(5)) / ideal,
            "RR@10": 1 / 2,
            "AP@100": (1 / 2 + 2 / 4) / 2,
            "R@100": 1.0,
            "P@5": 2 / 5,
            "R@2": 1 / 2,
        }
    )


@given(
    run=st.dictionaries(st.sampled_from("abc"), st.dictionaries(DOCUMENTS, SCORES, min_size=1), max_size=3),
    qrels=st.dictionaries(
        st.sampled_from("abc"), st.dictionaries(DOCUMENTS, st.integers(0, 3), min_size=1), min_size=1, max_size=3
    ),
)
def test_every_run_scores_as_pytrec_eval_scores_it(run, qrels):
    expected = pytrec_eval.RelevanceEvaluator(qrels, set(TREC.values())).evaluate(run)
    scores = score_run(run, qrels, TREC)
    for name, trec in TREC.items():
        values = {query: expected.get(query, {}).get(trec, 0.0) for query in qrels}
        assert scores.per_query[name] == pytest.approx(values)
        assert scores.means[name] == pytest.approx(sum(values.values()) / len(qrels))


def test_scores_that_differ_only_in_64_bits_keep_their_order():
    hits = {"a": 1.0 + 1e-12, "b": 1.0}
    assert pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"}).evaluate({"q": hits})["q"] == {
        "recip_rank": 0.5  # trec_eval sees a tie, and puts b first
    }
    assert score_run({"q": hits}, {"q": {"a": 1}}, "RR RR@10").means == {"RR": 1.0, "RR@10": 1.0}


def test_the_query_itself_is_dropped_before_ranking():
    run, qrels = {"d1": {"d1": 9.0, "d2": 1.0}, "d2": {"d2": 1.0}}, {"d1": {"d2": 1, "d1": 1}, "d2": {"d1": 1}}
    scores = score_run(run, qrels, "RR@10 Judged@10")
    assert scores.per_query["RR@10"] == {"d1": 1.0, "d2": 0.0}
    assert run["d1"] == {"d1": 9.0, "d2": 1.0}


def test_queries_without_hits_count_as_zero_and_unjudged_ones_not_at_all():
    scores = score_run({"a": {"x": 1.0}, "b": {}, "z": {"x": 1.0}}, {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}})
    assert scores.per_query["nDCG@10"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert scores.means == pytest.approx(dict.fromkeys(DEFAULT_MEASURES, 1 / 3))
    assert score_run({}, {"a": {"x": 1}}).means == dict.fromkeys(DEFAULT_MEASURES, 0.0)


def test_a_measure_that_counts_is_summed():
    assert score_run({"a": {"x": 1.0}, "b": {"y": 1.0, "x": 0.5}}, {"a": {"x": 1}, "b": {"x": 1}}, "NumRet").means == {
        "NumRet": 3.0
    }


def test_names_are_read_in_any_case_and_with_parameters():
    assert parse_measures("ndcg@10 Recall@100 MRR@10 AP(rel=2)@100 nDCG@10 P(rel=2,judged_only=True)@5") == (
        "nDCG@10",
        "R@100",
        "RR@10",
        "AP(rel=2)@100",
        "P(rel=2,judged_only=True)@5",
    )
    assert parse_measures() == DEFAULT_MEASURES == ("nDCG@10", "RR@10", "AP@100", "R@100")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gain@10", "there is no measure 'gain@10'; expected such as nDCG@10, R@100"),
        ("nDCG@ten", "there is no measure 'nDCG@ten'"),
        ("nDCG@1.5", "the measure 'nDCG@1.5' cannot be read: invalid param cutoff=1.5; expected such as nDCG@10"),
        ("nDCG(depth=3)", "the measure 'nDCG(depth=3)' cannot be read: unsupported params found: ['depth']"),
        ("AP(2)", "the measure 'AP(2)' cannot be read: parameters are written name=value"),
        ("P", "the measure 'P' cannot be read: invalid param cutoff="),
        ("AP(rel=)", "the measure 'AP(rel=)' cannot be read: "),
        ("alpha_nDCG@10", "no installed package computes 'alpha_nDCG@10' (pip install"),
    ],
)
def test_a_measure_that_is_not_there(name, message):
    with pytest.raises(EvalError) as caught:
        parse_measures([name])
    assert str(caught.value).startswith(message)


def test_no_measure_and_no_query():
    with pytest.raises(EvalError, match="no measure given; expected one or more such as nDCG@10"):
        parse_measures("")
    with pytest.raises(EvalError, match="there are no judged queries"):
        score_run({}, {})


def test_importing_the_room_does_not_load_what_computes():
    code = "import sys, plait.eval; print(sorted({'ir_measures', 'pytrec_eval', 'pandas', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

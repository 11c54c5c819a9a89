"""Measures are trec_eval's: numbers worked out by hand, and equal to pytrec_eval's on every run."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import DEFAULT_MEASURES, EvalError, parse_measures, score_run

TREC = {
    "nDCG@10": "ndcg_cut_10", "nDCG@3": "ndcg_cut_3", "nDCG": "ndcg", "R@100": "recall_100", "R@5": "recall_5",
    "AP@100": "map_cut_100", "AP": "map", "P@5": "P_5", "RR": "recip_rank", "Rprec": "Rprec", "Bpref": "bpref",
    "Success@1": "success_1", "NumRet": "num_ret",
}  # fmt: skip
DOCUMENTS = st.sampled_from([*(f"d{i}" for i in range(12)), "a", "D1", "é", "10", "9", "\U0001f40d"])
SCORES = st.sampled_from([-1.5, 0.0, 0.25, 0.5, 0.5, 1.0, 3.0])  # few values: most rankings hold ties
RELEVANCE = st.integers(-2, 3)


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
    run=st.dictionaries(st.sampled_from("abcz"), st.dictionaries(DOCUMENTS, SCORES, max_size=15), max_size=4),
    qrels=st.dictionaries(
        st.sampled_from("abc"), st.dictionaries(DOCUMENTS, RELEVANCE, min_size=1), min_size=1, max_size=3
    ),
)
def test_every_run_scores_as_trec_eval_scores_it(run, qrels):
    """Ties, unjudged and unknown documents, queries without hits, unjudged queries, graded and negative relevance."""
    asked = {query: hits for query, hits in run.items() if hits}
    # trec_eval corrupts its memory over a query whose judgements are all negative; zeros are as little relevant.
    safe = {q: judged if max(judged.values()) >= 0 else dict.fromkeys(judged, 0) for q, judged in qrels.items()}
    expected = pytrec_eval.RelevanceEvaluator(safe, set(TREC.values())).evaluate(asked)
    scores = score_run(run, qrels, TREC)
    for name, trec in TREC.items():
        values = {query: expected.get(query, {}).get(trec, 0.0) for query in qrels}
        assert scores.per_query[name] == pytest.approx(values, abs=0.5e-4), name
        mean = sum(values.values()) / (1 if name == "NumRet" else len(qrels))
        assert scores.means[name] == pytest.approx(mean, abs=0.5e-4), name


def test_reciprocal_rank_looks_no_further_than_its_cutoff():
    run = {"q": {f"d{i:02}": -float(i) for i in range(20)}}
    for rank in (1, 3, 10, 11):
        scores = score_run(run, {"q": {f"d{rank - 1:02}": 1}}, "RR RR@10")
        assert scores.means == pytest.approx({"RR": 1 / rank, "RR@10": 1 / rank if rank <= 10 else 0.0})


def test_ties_are_broken_by_id_descending():
    run = {"q": {"a": 1.0, "b": 1.0, "c": 1.0}}
    for document, rank in (("c", 1), ("b", 2), ("a", 3)):
        assert score_run(run, {"q": {document: 1}}, "RR").means["RR"] == pytest.approx(1 / rank)


def test_unjudged_documents_are_not_relevant_and_judged_zero_neither():
    qrels = {"q": {"a": 1, "b": 0, "c": -1}}
    scores = score_run({"q": {"x": 5.0, "b": 4.0, "c": 3.0, "a": 2.0}}, qrels, "nDCG@10 AP@100 P@4 R@3 R@4 Judged@4")
    assert scores.means == pytest.approx(
        {"nDCG@10": 1 / math.log2(5), "AP@100": 1 / 4, "P@4": 1 / 4, "R@3": 0.0, "R@4": 1.0, "Judged@4": 3 / 4}
    )


def test_negative_relevance_gains_nothing_and_costs_nothing():
    qrels = {"q": {"spam": -2, "good": 2, "fair": 1}}
    for spam in (9.0, 0.1):
        hits = {"spam": spam, "good": 2.0, "fair": 1.0}
        expected = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "map_cut_100"}).evaluate({"q": hits})["q"]
        first = 2 if spam > 2 else 1
        ideal = 2 / math.log2(2) + 1 / math.log2(3)
        gain = 2 / math.log2(1 + first) + 1 / math.log2(2 + first)
        scores = score_run({"q": hits}, qrels, "nDCG@10 AP@100").means
        assert scores["nDCG@10"] == pytest.approx(gain / ideal) == expected["ndcg_cut_10"]
        assert scores["AP@100"] == pytest.approx(expected["map_cut_100"])


def test_relevance_levels_are_gains_and_a_measure_may_ask_for_more():
    qrels = {"q": {"a": 1, "b": 3, "c": 2}}
    scores = score_run({"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, qrels, "nDCG@3 AP(rel=2) P(rel=3)@3 RR(rel=2)")
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert scores.means == pytest.approx(
        {
            "nDCG@3": (1 / math.log2(2) + 3 / math.log2(3) + 2 / math.log2(4)) / ideal,
            "AP(rel=2)": (1 / 2 + 2 / 3) / 2,
            "P(rel=3)@3": 1 / 3,
            "RR(rel=2)": 1 / 2,
        }
    )


def test_queries_without_any_relevant_document_score_0():
    scores = score_run({"q": {"a": 1.0}}, {"q": {"a": 0, "b": -1}}, "nDCG@10 AP@100 R@100 RR@10")
    assert set(scores.means.values()) == {0.0}


def test_negative_judgements_alone_do_not_crash_trec_eval():
    """It writes before the beginning of an array then; a process of its own shows whether that still matters."""
    code = (
        "from plait.eval import score_run;"
        "hits = {f'd{i}': float(i) for i in range(12)};"
        "print([score_run({'q': hits}, {'q': {f'd{i}': -1 - i % 3 for i in range(n)}}, 'nDCG@10 AP Judged@12').means"
        " for n in range(1, 12) for _ in range(200)][-1])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert (said.returncode, said.stdout) == (0, f"{ {'nDCG@10': 0.0, 'AP': 0.0, 'Judged@12': 11 / 12} }\n")


def test_scores_beyond_numbers():
    hits = {"a": float("inf"), "b": 1e300, "c": -float("inf")}
    assert score_run({"q": hits}, {"q": {"c": 1}}, "RR").means == {"RR": pytest.approx(1 / 3)}
    with pytest.raises(EvalError, match="document 'b' has no number for a score in query 'q'; expected one"):
        score_run({"q": {"a": 1.0, "b": float("nan")}}, {"q": {"a": 1}}, "RR")


def test_scores_that_differ_only_in_64_bits_keep_their_order():
    hits = {"a": 1.0 + 1e-12, "b": 1.0}
    assert pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"}).evaluate({"q": hits})["q"] == {
        "recip_rank": 0.5  # trec_eval sees a tie, and puts b first
    }
    assert score_run({"q": hits}, {"q": {"a": 1}}, "RR RR@10").means == {"RR": 1.0, "RR@10": 1.0}


def test_a_document_may_have_the_id_of_its_query():
    run, qrels = {"5": {"5": 9.0, "7": 1.0}, "7": {"7": 2.0, "5": 1.0}}, {"5": {"5": 1, "7": 1}, "7": {"5": 1}}
    scores = score_run(run, qrels, "RR@10 AP NumRet")
    assert scores.per_query == {"RR@10": {"5": 1.0, "7": 0.5}, "AP": {"5": 1.0, "7": 0.5}, "NumRet": {"5": 2, "7": 2}}


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
        ("nDCG@0", "the measure 'nDCG@0' cannot be read: cutoff is 0; expected 1 to 1,000,000,000; expected such as"),
        ("nDCG@-1", "the measure 'nDCG@-1' cannot be read: cutoff is -1; expected 1 to"),
        ("P(cutoff=-2)", "the measure 'P(cutoff=-2)' cannot be read: cutoff is -2; expected 1 to"),
        ("R@1000000001", "the measure 'R@1000000001' cannot be read: cutoff is 1000000001; expected 1 to"),
        ("AP(rel=0)", "the measure 'AP(rel=0)' cannot be read: rel is 0; expected 1 to 1,000,000;"),
        ("nDCG(gains={1:1000001})", "the measure 'nDCG(gains={1:1000001})' cannot be read: a gain is beyond 1,000,000"),
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


@pytest.mark.parametrize("relevance", [1_000_001, -1_000_001, 2**31 - 1, 2**63])
def test_a_relevance_that_trec_eval_cannot_count(relevance):
    with pytest.raises(EvalError, match=f"document 'b' has the relevance {relevance} in query 'q'; expected 1,000,000"):
        score_run({"q": {"a": 1.0}}, {"q": {"a": 1, "b": relevance}}, "nDCG@10")
    assert score_run({"q": {"a": 1.0}}, {"q": {"a": 1_000_000, "b": -1_000_000}}, "nDCG@10").means == {"nDCG@10": 1.0}


@pytest.mark.parametrize("relevance", [1.5, "1", None])
def test_a_relevance_is_a_whole_number(relevance):
    with pytest.raises(EvalError, match=f"'b' has the relevance {relevance!r} in query 'q'; expected a whole number"):
        score_run({"q": {"a": 1.0}}, {"q": {"a": 1, "b": relevance}}, "RR")
    assert score_run({"q": {"a": 1.0}}, {"q": {"a": np.int64(1)}}, "RR").means == {"RR": 1.0}


@pytest.mark.parametrize("score", [None, "x", float("nan")])
def test_a_score_is_a_number_also_where_it_is_alone(score):
    with pytest.raises(EvalError, match="document 'a' has no number for a score in query 'q'; expected one"):
        score_run({"q": {"a": score}}, {"q": {"a": 1}}, "RR")
    assert score_run({"q": {"a": np.float32(1), "b": 2}}, {"q": {"a": 1}}, "RR").means == {"RR": 0.5}


@pytest.mark.skipif(shutil.which("perl") is None, reason="gdeval is a Perl script")
def test_gdeval_is_given_numbers_for_query_ids(capfd):
    run = {"b-1": {"x": 1.0}, "a-1": {"x": 2.0, "y": 1.0}}
    scores = score_run(run, {"a-1": {"y": 1}, "none": {"x": 1}, "b-1": {"x": 3}}, "ERR@5 RR")
    assert list(scores.per_query["ERR@5"].items()) == [("a-1", 0.03125), ("none", 0.0), ("b-1", 0.4375)]
    assert scores.per_query["RR"] == {"a-1": 0.5, "none": 0.0, "b-1": 1.0}
    with pytest.raises(EvalError, match=r"cannot compute ERR@5: gdeval, which .* takes relevance up to 4"):
        score_run(run, {"a-1": {"y": 5}}, "ERR@5")
    assert "format error" in capfd.readouterr().err


def test_a_measure_that_divides_by_nothing():
    with pytest.raises(EvalError, match="cannot compute Accuracy@3: float division by zero"):
        score_run({"q": {"a": 1.0}}, {"q": {"a": 1}}, "Accuracy@3")


def test_no_measure_and_no_query():
    with pytest.raises(EvalError, match="no measure given; expected one or more such as nDCG@10"):
        parse_measures("")
    with pytest.raises(EvalError, match="there are no judged queries"):
        score_run({}, {})


@pytest.mark.beside_torch
def test_importing_the_room_does_not_load_what_computes():
    code = "import sys, plait.eval; print(sorted({'ir_measures', 'pytrec_eval', 'pandas', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

"""Runs and qrels on disk: nothing is lost, order and ties are trec_eval's, broken lines are named."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import EvalError, read_qrels, read_run, run_lines, write_qrels, write_run
from plait.index.ranking import ranked

IDS = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=6)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
HITS = st.dictionaries(IDS, SCORES, min_size=1, max_size=12)


@given(run=st.dictionaries(IDS, HITS, max_size=4))
def test_a_run_that_was_written_reads_back_equal(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("runs") / "a.run"
    write_run(run, path)
    assert read_run(path) == run
    assert {query: ranked(hits) for query, hits in read_run(path).items()} == {
        query: ranked(hits) for query, hits in run.items()
    }


@given(hits=st.dictionaries(IDS, st.sampled_from([-1.0, 0.0, 0.5, 0.5000001, 2.0]), min_size=1, max_size=12))
def test_ties_are_settled_as_trec_eval_settles_them(hits):
    order = [document for document, _ in ranked(hits)]
    for rank, document in enumerate(order, start=1):
        judge = pytrec_eval.RelevanceEvaluator({"q": {document: 1}}, {"recip_rank"})
        assert judge.evaluate({"q": hits})["q"]["recip_rank"] == pytest.approx(1 / rank)


def test_the_written_form():
    run = {"q1": {"a": 1.5, "c": np.float32(0.1), "b": 1.5}, "q2": {}}
    target = io.StringIO()
    write_run(run, target, tag="x")
    assert target.getvalue() == (
        "q1 Q0 b 1 1.5 x\nq1 Q0 a 2 1.5 x\nq1 Q0 c 3 0.10000000149011612 x\n"
    )  # fmt: skip
    assert list(run_lines("q1", run["q1"], k=1)) == ["q1 Q0 b 1 1.5 plait\n"]


def test_the_rank_column_is_not_trusted_and_a_run_may_be_compressed(tmp_path):
    path = tmp_path / "a.run.gz"
    path.write_bytes(gzip.compress(b"q 0 a 1 1 t\n\nq 0\tb 2 2e0 t\n"))
    assert ranked(read_run(path)["q"]) == [("b", 2.0), ("a", 1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 1.0\n", "line 1: 5 fields; expected six: query Q0 document rank score tag"),
        ("q Q0 a 1 1.0 t\nq Q0 b 2 high t\n", "line 2: the score 'high' is no number"),
        ("q Q0 a 1 nan t\n", "line 1: the score 'nan' is no number"),
        ("q Q0 a 1 2 t\n\nq Q0 a 2 1 t\n", "line 3: document 'a' is ranked twice for query 'q'; keep one"),
    ],
)
def test_a_broken_run_line_is_named(tmp_path, text, message):
    path = tmp_path / "a.run"
    path.write_text(text)
    with pytest.raises(EvalError) as caught:
        read_run(path)
    assert str(caught.value) == f"{path}, {message}"


@pytest.mark.parametrize(
    ("query", "hits", "tag", "message"),
    [
        ("a b", {"d": 1.0}, "t", "the query id 'a b' holds ' '"),
        ("q", {"d e": 1.0}, "t", "the document id 'd e' holds ' '"),
        ("q", {"d": 1.0}, "my run", "the run tag 'my run' holds ' '"),
        ("q", {"d": float("nan")}, "t", "document 'd' has no number for a score in query 'q'"),
    ],
)
def test_what_a_run_cannot_hold_is_refused(query, hits, tag, message):
    with pytest.raises(EvalError, match=message):
        write_run({query: hits}, io.StringIO(), tag=tag)


@pytest.mark.parametrize(("name", "first"), [("a.tsv", "query-id\tcorpus-id\tscore\n"), ("a.qrels", "q1 0 d1 2\n")])
def test_qrels_round_trip_in_both_forms(tmp_path, name, first):
    qrels = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}
    write_qrels(qrels, tmp_path / name)
    assert (tmp_path / name).read_text().startswith(first)
    assert read_qrels(tmp_path / name) == qrels


def test_qrels_need_no_header_and_may_repeat_themselves(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_text("1\tdoc\t1\n1\tdoc\t1\n")
    assert read_qrels(path) == {"1": {"doc": 1}}


def test_qrels_are_parted_by_tabs_where_there_are_any_and_grades_may_be_whole_floats(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_text("q\td 1\t1\nq\t0\td2\t2.0\nq 0\td3 -1.00\n")
    assert read_qrels(path) == {"q": {"d 1": 1, "d2": 2, "d3": -1}}
    path.write_text("q\t0 d1\t1\nq\tQ0 d2\t1\nq\td3\t\t1\n")
    assert read_qrels(path) == {"q": {"d1": 1, "d2": 1, "d3": 1}}, "columns of both kinds, and an empty one"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query-id\tcorpus-id\tscore\n1\td\n", ", line 2: '1\\td' is no judgement; expected query, document and"),
        ("1\td\t1\n1\te\tyes\n", ", line 2: '1\\te\\tyes' is no judgement"),
        ("1\t\t1\n", ", line 1: '1\\t\\t1' is no judgement"),
        ("1\td\t1.5\n", ", line 1: '1\\td\\t1.5' is no judgement"),
        ("1\td\t1000000\n1\te\t1000001\n", ", line 2: the relevance 1000001 is beyond 1,000,000; expected a few"),
        ("1\td\t-2147483648\n", ", line 1: the relevance -2147483648 is beyond 1,000,000"),
        (f"1\td\t{'9' * 5000}\n", f", line 1: the relevance {'9' * 30} is beyond 1,000,000"),
        ("1 0 d 1 extra 4\n", ", line 1: '1 0 d 1 extra 4' is no judgement"),
        ("1\td\t1\n1\td\t2\n", ", line 2: 'd' is judged 2 for query '1', and before 1"),
        ("query-id\tcorpus-id\tscore\n", ": holds no judgement; expected query, document and relevance on each line"),
    ],
)  # fmt: skip
def test_a_broken_judgement_is_named(tmp_path, text, message):
    path = tmp_path / "test.tsv"
    path.write_text(text)
    with pytest.raises(EvalError) as caught:
        read_qrels(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_missing_and_undecodable_files(tmp_path):
    with pytest.raises(EvalError, match=r"no\.run: there is no such file; check the path"):
        read_run(tmp_path / "no.run")
    path = tmp_path / "a.run"
    path.write_bytes(b"q Q0 \xff 1 1 t\n")
    with pytest.raises(EvalError, match=r"a\.run, line 1: byte 6 \(0xff\) is not UTF-8"):
        read_run(path)

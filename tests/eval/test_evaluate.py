"""A searcher scored strand by strand and fused, run files scored alike, and the run card."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plait.eval import Dataset, EvalError, evaluate, evaluate_runs, read_run, write_run
from plait.eval.report import markdown, per_query, summary

HITS = {
    "sparse": {"q1": {"a": 2.0, "b": 1.0}, "q2": {"c": 1.0}},
    "dense": {"q1": {"b": 2.0, "a": 1.0}},
}
DATASET = Dataset(
    "tiny", "test", Path("corpus.jsonl"), {"q1": "one", "q2": "two"}, {"q1": {"a": 1}, "q2": {"c": 1}, "q3": {"c": 1}}
)


def search(queries, strands):
    """Adds up the scores of the strands: enough of a searcher."""
    run = {}
    for query in queries:
        for strand in strands:
            for document, score in HITS[strand].get(query, {}).items():
                hits = run.setdefault(query, {})
                hits[document] = hits.get(document, 0.0) + score
    return run


def test_each_strand_alone_and_all_fused():
    asked = []

    def searcher(queries, strands):
        asked.append((dict(queries), tuple(strands)))
        return search(queries, strands)

    report = evaluate(searcher, DATASET, strands=["sparse", "dense"], measures="RR@10 R@100")
    assert asked == [(DATASET.queries, names) for names in (("sparse",), ("dense",), ("sparse", "dense"))]
    assert [system.name for system in report.systems] == ["sparse", "dense", "fused"]
    assert report["sparse"].scores.per_query["RR@10"] == {"q1": 1.0, "q2": 1.0, "q3": 0.0}
    assert report["dense"].scores.means == pytest.approx({"RR@10": 0.5 / 3, "R@100": 1 / 3})
    assert report["fused"].scores.means == pytest.approx({"RR@10": 1.5 / 3, "R@100": 2 / 3})  # a tie: b before a
    assert [system.unanswered for system in report.systems] == [1, 2, 1]
    assert all(system.seconds >= 0 for system in report.systems)


def test_one_strand_is_not_fused():
    assert [s.name for s in evaluate(search, DATASET, strands=["sparse"]).systems] == ["sparse"]


@pytest.mark.parametrize("strands", [[], ["sparse", "sparse"]])
def test_strands_are_one_or_more_each_once(strands):
    with pytest.raises(EvalError, match=r"strands is \[.*\]; expected one or more, each once"):
        evaluate(search, DATASET, strands=strands)


def test_a_measure_is_refused_before_anything_is_searched():
    def searcher(queries, strands):
        raise AssertionError

    with pytest.raises(EvalError, match="there is no measure 'nope'"):
        evaluate(searcher, DATASET, strands=["sparse"], measures=["nope"])


def test_run_files_score_as_the_search_that_wrote_them(tmp_path):
    runs = {}
    report = evaluate(search, DATASET, strands=["sparse", "dense"], on_run=runs.__setitem__)
    for name, run in runs.items():
        write_run(run, tmp_path / f"{name}.run")
    again = evaluate_runs({name: read_run(tmp_path / f"{name}.run") for name in runs}, DATASET)
    assert [(s.name, s.scores, s.unanswered) for s in again.systems] == [
        (s.name, s.scores, s.unanswered) for s in report.systems
    ]
    assert all(system.seconds is None for system in again.systems)
    assert evaluate_runs(runs, DATASET.qrels).systems == again.systems
    assert evaluate_runs(runs, DATASET.qrels).dataset == {"queries": 3}


def test_the_run_card_is_json_and_says_what_moves_a_score():
    report = evaluate(
        search, DATASET, strands=["sparse"], encoders={"sparse": {"name": "x", "revision": "1"}}, settings={"depth": 10}
    )
    card = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert card["dataset"] == {"name": "tiny", "split": "test", "queries": 3, "judgements": 3, "sha256": {}}
    assert card["encoders"] == {"sparse": {"name": "x", "revision": "1"}}
    assert card["settings"] == {"depth": 10}
    assert card["measures"] == ["nDCG@10", "RR@10", "AP@100", "R@100"]
    assert card["environment"]["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert card["systems"][0]["means"] == report["sparse"].scores.means
    assert card["systems"][0]["per_query"]["nDCG@10"] == {"q1": 1.0, "q2": 1.0, "q3": 0.0}
    assert card["systems"][0]["unanswered"] == 1


def test_tables():
    report = evaluate_runs({"one": HITS["sparse"], "two": HITS["dense"]}, DATASET, measures="RR@10 R@100")
    assert summary(report).columns == ("system", "RR@10", "R@100")
    assert summary(report).rows == (("one", "0.6667", "0.6667"), ("two", "0.1667", "0.3333"))
    assert per_query(report).columns == ("query", "one", "two")
    assert per_query(report, "R@100").rows[0] == ("q1", "1.0000", "1.0000")
    assert markdown(summary(report)).splitlines()[:3] == [
        "| system | RR@10 | R@100 |",
        "| --- | ---: | ---: |",
        "| one | 0.6667 | 0.6667 |",
    ]
    timed = summary(evaluate(search, DATASET, strands=["sparse"]))
    assert timed.columns[-1] == "ms/query"
    assert float(timed.rows[0][-1]) >= 0


def test_numbers_and_their_order_do_not_depend_on_the_hash_seed():
    code = (
        "import json; from plait.eval import score_run;"
        "s = score_run({f'q{i}': {f'd{j}': 1 / (i * j + 1) for j in range(9)} for i in range(40)},"
        " {f'q{i}': {f'd{i % 11}': 1} for i in range(41)}); print(json.dumps([s.means, s.per_query]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1


def test_a_run_can_be_written_while_it_is_searched():
    target = io.StringIO()
    evaluate(search, DATASET, strands=["sparse"], on_run=lambda name, run: write_run(run, target, tag=name))
    assert target.getvalue().splitlines()[0] == "q1 Q0 a 1 2.0 sparse"

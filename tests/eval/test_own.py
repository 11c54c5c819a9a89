"""Queries that are documents themselves are not to find themselves; equal ids alone say nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from plait.eval import Collection, Plan, evaluate_many, evaluate_runs, judge, load_beir, size_curve, without_own
from plait.eval import own_in_index as in_index
from plait.eval import own_in_runs as in_runs
from plait.eval.calibrating import calibrate
from plait.eval.dataset import Dataset
from plait.eval.loading import IrDatasetsReader
from plait.retriever import Retriever

from .conftest import beir

# 1 is the query of that id, 2 its title, 3 its title and text; 4 is another text, and 5 is judged relevant for itself.
CORPUS = {
    "1": ("", "Apple  banana"), "2": ("Cherry", "a fruit of the garden"), "3": ("elder", "berry"), "4": ("", "apple"),
    "5": ("", "date"), "x": ("", "apple banana cherry elder berry date fig"), "y": ("", "fig and apple"),
}  # fmt: skip
QUERIES = {"1": "apple banana", "2": "cherry", "3": "Elder Berry", "4": "fig", "5": "date", "6": "berry"}
QRELS = {**{query: {"x": 1} for query in QUERIES}, "4": {"4": 1, "x": 1}, "5": {"5": 1}}
OWN = {"1", "2", "3"}
RUN = {query: {query: 2.0, "x": 1.0} for query in QUERIES}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Dataset:
    return load_beir(beir(tmp_path_factory.mktemp("data") / "numbered", CORPUS, QUERIES, QRELS))


@pytest.fixture(scope="module")
def index(numbered, tmp_path_factory):
    with Retriever.create(tmp_path_factory.mktemp("indexes") / "i", strands="lexical,dense") as retriever:
        retriever.add(numbered.documents())
        retriever.commit()
        yield retriever


def test_ids_and_texts_must_be_the_same(numbered, index):
    assert in_index(index, QUERIES, QRELS) == in_runs([RUN], numbered) == OWN
    assert in_index(index, QUERIES, {**QRELS, "1": {"1": 1}}) == OWN - {"1"}


def test_a_corpus_is_read_only_where_it_may_matter(numbered, tmp_path):
    missing = replace(numbered, corpus=tmp_path / "no.jsonl")
    assert in_runs([{"1": {"x": 1.0}}], missing) == set()
    assert in_runs([RUN], missing) == set(), "nothing is dropped where nothing is known"

    def unfetched():
        raise RuntimeError("could not download")

    offline = replace(numbered, reader=IrDatasetsReader(SimpleNamespace(docs_iter=unfetched)))
    (report,) = evaluate_many([Collection(offline, runs={"old": RUN})], measures="RR").reports
    assert report["old"].scores.means["RR"] == pytest.approx(4 / 6)


def test_a_run_without_them_is_cut_to_k():
    run = {"1": {"1": 3.0, "x": 2.0, "y": 1.0}, "4": {"4": 3.0, "x": 1.0, "y": 1.0}}
    assert without_own(run, {"1"}) == {"1": {"x": 2.0, "y": 1.0}, "4": run["4"]}
    assert without_own(run, {"1"}, 2) == {"1": {"x": 2.0, "y": 1.0}, "4": {"4": 3.0, "y": 1.0}}


def test_runs_and_searches_drop_the_same(numbered, index):
    expected = {"1": 1.0, "2": 1.0, "3": 1.0, "4": 1.0, "5": 1.0, "6": 0.5}
    kept = {}
    found = evaluate_many(
        [Collection(numbered, index, [Plan("all", {"strands": "dense"})], {"old": RUN})],
        measures="RR", on_run=lambda _collection, _name, run: kept.update(run),
    )  # fmt: skip
    assert found.reports[0]["old"].scores.per_query["RR"] == expected
    assert found.reports[0].dataset["queries_that_are_documents"] == 3
    assert {query for query, hits in kept.items() if query in hits} == {"4", "5"}
    for runs in (evaluate_runs({"old": RUN}, numbered), evaluate_many([Collection(numbered, runs={"old": RUN})])):
        report = runs if not hasattr(runs, "reports") else runs.reports[0]
        assert report["old"].scores.per_query["RR@10"] == expected
        assert report.dataset["queries_that_are_documents"] == 3
    plain = evaluate_runs({"old": RUN}, numbered.qrels, measures="RR")
    assert plain["old"].scores.means["RR"] == pytest.approx(4 / 6), "qrels alone know no texts"


def test_measures_without_a_cutoff_are_given_a_thousand_hits(tmp_path):
    corpus = {f"d{i:04}": ("", "apple") for i in range(1100)} | {"q": ("", "apple")}
    dataset = load_beir(beir(tmp_path / "deep", corpus, {"q": "apple", "r": "apple"}, {"q": {"x": 1}, "r": {"x": 1}}))
    with Retriever.create(tmp_path / "i", strands="lexical") as retriever:
        retriever.add(dataset.documents())
        retriever.commit()
        found = evaluate_many([Collection(dataset, retriever)], measures="NumRet", sizes=[1101], costs=False)
    assert found.reports[0]["lexical"].scores.per_query["NumRet"] == {"q": 1000, "r": 1000}
    assert found.curves["deep"].means == {"lexical": {"NumRet": (2000.0,)}}


def test_curves_calibration_and_tuning_drop_them_too(numbered, index):
    curve = size_curve(index, numbered, [], strands=["lexical"], measures="RR")
    (report,) = evaluate_many([Collection(numbered, index, [Plan("a", {"strands": "lexical"})])], measures="RR").reports
    assert curve.means["lexical"]["RR"] == (report["a"].scores.means["RR"],)
    judged = judge(index, QUERIES, QRELS)
    assert {each.query for each in judged.queries if each.query in each.ids} == {"4", "5"}
    hits = sum(len(hits) for hits in index.run(QUERIES, 100).values())
    assert calibrate(index, QUERIES, QRELS, kind="platt").all.hits == hits - len(OWN)

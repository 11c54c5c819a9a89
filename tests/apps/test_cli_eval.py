"""`plait eval` on a collection so small that every number can be worked out by hand."""

from __future__ import annotations

import json
from math import log2

import pytest
from plait.eval import read_run

from .conftest import jsonl

# "apple" finds the query's own document first, which is dropped, then d2 (shorter), then d1. "cherry" finds d3.
CORPUS = {"d1": "apple banana", "d2": "apple", "d3": "cherry", "q1": "apple apple"}
QUERIES = {"q1": "apple", "q2": "cherry", "q3": "zebra"}
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td3\t1\nq2\td3\t1\nq3\td1\t1\n"
# Per query: q1 has one of its two relevant documents, at rank 2; q2 is perfect; q3 finds nothing.
NDCG = {"q1": (1 / log2(3)) / (1 + 1 / log2(3)), "q2": 1.0, "q3": 0.0}
MEANS = {"nDCG@10": sum(NDCG.values()) / 3, "RR@10": 0.5, "R@100": 0.5, "P@1": 1 / 3}
MEASURES = ("--measures", " ".join(MEANS))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "tiny"
    jsonl(folder / "corpus.jsonl", [{"_id": id, "title": "", "text": text} for id, text in CORPUS.items()])
    jsonl(folder / "queries.jsonl", [{"_id": id, "text": text} for id, text in QUERIES.items()])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(QRELS)
    return folder


def test_the_numbers(plait, data, tmp_path):
    card = tmp_path / "new" / "card.json"
    said = plait("eval", "--data", data, "--strands", "lexical", *MEASURES, "--card", card, "--json")
    (system,) = said.json["systems"]
    assert system["name"] == "lexical"
    assert system["means"] == pytest.approx(MEANS)
    assert system["per_query"]["nDCG@10"] == pytest.approx(NDCG)
    assert system["unanswered"] == 1
    assert said.json["dataset"]["queries"] == 3
    assert said.json["encoders"]["lexical"]["name"] == "snowball-english"
    assert said.json["settings"]["documents"] == 4
    assert said.err == f"wrote {card}\n"
    assert json.loads(card.read_text()) == said.json


def test_the_table(plait, data):
    said = plait("eval", "--data", data, "--strands", "lexical", *MEASURES, "--per-query")
    rows = [line.replace("│", " ").split() for line in said.out.splitlines()]
    assert said.out.startswith("tiny test, 3 queries ")
    assert ["lexical", *(f"{value:.4f}" for value in MEANS.values())] in [row[:5] for row in rows]
    assert ["q1", f"{NDCG['q1']:.4f}"] in rows
    assert ["q2", "1.0000"] in rows
    assert ["q3", "0.0000"] in rows


def test_a_kept_index_is_used_again(plait, data, tmp_path):
    index = tmp_path / "kept" / "i"
    first = plait("eval", "--data", data, "--index", index, "--strands", "lexical", *MEASURES, "--json").json
    second = plait("eval", "--data", data, "--index", index, *MEASURES, "--json").json
    assert first["systems"][0]["means"] == second["systems"][0]["means"]
    assert len(plait("info", index, "--json").json["segments"]) == 1


def test_an_index_that_an_interrupted_run_left_empty_is_filled(plait, data, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    plait("index", tmp_path / "none.jsonl", "--out", tmp_path / "i", "--strands", "lexical")
    said = plait("eval", "--data", data, "--index", tmp_path / "i", *MEASURES, "--json")
    assert said.json["systems"][0]["means"] == pytest.approx(MEANS)
    assert said.err == ""


def test_an_index_of_another_corpus_is_noticed(plait, data, index):
    said = plait("eval", "--data", data, "--index", index, *MEASURES)
    assert said.err == (
        "2 of 2 relevant documents are not in the index; scores are low if it is not an index of "
        f"{data / 'corpus.jsonl'}\n"
    )


def test_runs_are_saved_and_measured_again(plait, data, tmp_path):
    runs = tmp_path / "runs" / "deep"
    plait("eval", "--data", data, "--strands", "lexical", "--save-runs", runs)
    path = runs / "lexical.run"
    assert list(read_run(path)["q1"]) == ["q1", "d2", "d1"]
    assert path.read_text().splitlines()[0].endswith(" plait-lexical")
    other = tmp_path / "lexical.run"
    other.write_text("q2 Q0 d3 1 1.0 x\n")
    said = plait("eval", "--data", data, "--run", path, *MEASURES, "--json").json
    assert [system["name"] for system in said["systems"]] == ["lexical.run"]
    assert said["systems"][0]["means"] == pytest.approx(MEANS)
    both = plait("eval", "--data", data, "--run", path, "--run", other, "--measures", "RR@10", "--json").json
    assert {system["name"]: system["means"]["RR@10"] for system in both["systems"]} == {
        str(path): pytest.approx(0.5),
        str(other): pytest.approx(1 / 3),
    }


def test_the_cutoff_of_a_measure_is_reached(plait, tmp_path):
    """1,200 documents match and the relevant one comes last: R@1100 must not see it and R@1200 must."""
    folder = tmp_path / "deep"
    jsonl(folder / "corpus.jsonl", [{"_id": f"{number:04}", "text": "apple"} for number in range(1200)])
    jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "apple"}])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("q\t0000\t1\n")
    (system,) = plait(
        "eval", "--data", folder, "--strands", "lexical", "--measures", "R@1199 R@1200 RR", "--json"
    ).json["systems"]
    assert system["means"] == pytest.approx({"R@1199": 0.0, "R@1200": 1.0, "RR": 1 / 1200})


def test_bad_input_can_be_skipped(plait, data):
    with (data / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "empty", "text": ""}\n')
    jsonl(data / "queries.jsonl", [{"_id": "q1", "text": "apple"}, {"_id": "q2", "text": ""}])
    command = ("eval", "--data", data, "--strands", "lexical", "--measures", "RR@10", "--json")
    said = plait(*command, code=1)
    assert said.err.startswith(f"error: {data / 'qrels/test.tsv'}: judged queries without a text in ")
    said = plait(*command, "--skip-bad")
    assert said.err.startswith("2 judged queries have no text; each counts as 0\nskipped: ")
    assert "line 5: document 'empty' is empty" in said.err
    assert said.json["systems"][0]["means"] == {"RR@10": pytest.approx(0.5 / 3)}


def test_three_strands_and_their_fusion(plait, data):
    said = plait("eval", "--data", data, "--measures", "RR@10", "--weights", "lexical=1,dense=0,learned=0", "--json")
    systems = {system["name"]: system for system in said.json["systems"]}
    assert list(systems) == ["lexical", "learned", "dense", "fused"]
    assert systems["dense"]["unanswered"] == 0
    assert systems["fused"]["per_query"]["RR@10"]["q2"] == systems["lexical"]["per_query"]["RR@10"]["q2"] == 1.0
    assert said.json["settings"]["weights"] == {"lexical": 1.0, "dense": 0.0, "learned": 0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "dev"), "missing; the splits here are test"),
        (("--measures", "nDCG@10 Foo"), "there is no measure 'Foo'; expected such as nDCG@10, R@100"),
        (("--measures", ""), "no measure given; expected one or more such as nDCG@10"),
        (("--fusion", "sum"), "no fusion 'sum'; there are: convex, rrf"),
        (("--strands", "bm25"), "no strand 'bm25'; there are: lexical, learned, dense"),
        (("--weights", "bm25=1"), "a weight is given for 'bm25'; strands are: lexical, learned, dense"),
        (("--depth", "0"), "--depth is how many are wanted: a whole number of at least 1, not 0"),
        (("--run", "no.run"), "no.run: there is no such file; check the path"),
        (
            ("--run", "no.run", "--strands", "lexical", "--weights", "lexical=1"),
            "--run measures finished runs, without searching; --weights, --strands would have no effect",
        ),
        (("--strands", "lexical", "--dense", "x"), "--dense is for the dense strand, which --strands lexical leaves"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(plait, data, tmp_path, options, message):
    index = () if "--run" in options else ("--index", tmp_path / "i")
    said = plait("eval", "--data", data, *index, *options, code=1)
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.out == ""
    assert not (tmp_path / "i").exists()


def test_a_folder_that_is_no_collection(plait, tmp_path):
    said = plait("eval", "--data", tmp_path / "no", code=1)
    assert said.err == (
        f"error: {tmp_path / 'no'}: there is no such folder; expected one with corpus.jsonl, queries.jsonl and qrels/\n"
    )

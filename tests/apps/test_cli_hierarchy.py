"""`plait index --parents`, `plait search --hierarchy` and `--group`: both levels, seen from the command line."""

from __future__ import annotations

import shutil

import pytest
from plait.retriever import parents

from .conftest import jsonl

TEXTS = {
    "amsterdam": "Amsterdam is the capital of the Netherlands. It lies on the river Amstel. "
    "Its canals were dug in the seventeenth century when merchants needed room.",
    "birmingham": "Birmingham is a city in the English Midlands. Its canals were dug to carry coal to the factories.",
    "cheese": "Cheese is made of milk.",
}
CUT = ("--passages", "always", "--words", "10", "--overlap", "0")


@pytest.fixture
def made(plait, tmp_path):
    path = jsonl(tmp_path / "docs.jsonl", [{"id": id, "text": text} for id, text in TEXTS.items()])
    plait("index", path, "--out", tmp_path / "i", "--strands", "lexical", *CUT, "--parents")
    return tmp_path / "i"


def test_passages_of_the_best_parents_come_first(plait, made):
    plain = [hit["id"] for hit in plait("search", made, "canals of Amsterdam", "--json").json["hits"]]
    assert plain == ["amsterdam#0", "birmingham#1", "amsterdam#1"]
    said = plait("search", made, "canals of Amsterdam", "--hierarchy", "--explain", "--json").json
    assert [hit["id"] for hit in said["hits"]][:3] == ["amsterdam#0", "amsterdam#1", "birmingham#1"]
    assert said["pipeline"] == "parents"
    scores = said["notes"]["parents"]["scores"]
    assert list(scores) == ["amsterdam", "birmingham"]
    shown = plait("search", made, "canals of Amsterdam", "--hierarchy", "--explain").out
    assert f"  parents: share 0.1; scores amsterdam {scores['amsterdam']:.3g}; birmingham" in shown


def test_a_check_tells_of_a_level_that_is_behind(plait, made, tmp_path, monkeypatch):
    assert plait("check", made, "--json").json["problems"] == []
    more = jsonl(tmp_path / "more.jsonl", [{"id": "delft", "text": "Delft has canals."}])
    with monkeypatch.context() as patched:
        patched.setattr(parents, "follow", lambda _snapshot: None)
        plait("add", made, more, *CUT)
    (problem,) = plait("check", made, "--json", code=1).json["problems"]
    assert problem == {
        "where": "parents",
        "what": "the level is behind the passages, so that searches by `parents` are refused",
        "advice": "bring it up to date with `plait index ... --parents` or the next commit",
    }
    plait("add", made, jsonl(tmp_path / "last.jsonl", [{"id": "edam", "text": "Edam makes cheese."}]), *CUT)
    assert plait("check", made, "--json").json["problems"] == []


def test_the_other_steps_are_those_of_the_same_search_without_it(plait, tmp_path):
    path = jsonl(tmp_path / "docs.jsonl", [{"id": id, "text": text} for id, text in TEXTS.items()])
    alone = ("--strands", "lexical,dense", "--weights", "lexical=1,dense=0")
    plait("index", path, "--out", tmp_path / "i", *alone, "--pipeline", "mmr", *CUT, "--parents")
    plait("index", path, "--out", tmp_path / "j", *alone, *CUT, "--parents")
    for index, weights, steps in (
        ("i", (), "parents"),
        ("i", ("--weights", "lexical=1,dense=1"), "parents,mmr"),
        ("j", (), "parents"),
        ("j", ("--weights", "lexical=1,dense=1"), "feedback,parents"),
    ):
        search = ("search", tmp_path / index, "canals", *weights, "--explain", "--json")
        assert plait(*search, "--hierarchy").json["pipeline"] == steps
        without = plait(*search).json["pipeline"].split(",")
        assert [step for step in steps.split(",") if step != "parents"] == [one for one in without if one != "none"]


def test_the_step_can_be_written_out_too(plait, made):
    by_flag = plait("search", made, "canals", "--hierarchy", "--json").json
    assert plait("search", made, "canals", "--pipeline", "parents", "--json").json == by_flag
    wide = plait("search", made, "canals", "--pipeline", "parents:share=0:parents=1:each=1", "--json").json["hits"]
    assert (
        plait("search", made, "canals", "--pipeline", "parents:share=0:parents=1:each=1", "--hierarchy", "--json").json[
            "hits"
        ]
        == wide
    )  # said twice it is taken once


def test_hits_of_a_parent_are_shown_together(plait, made):
    said = plait("search", made, "canals of Amsterdam", "--group")
    heads = [line for line in said.out.splitlines() if not line.startswith(" ")]
    assert heads == ["amsterdam  2 passages", "birmingham  1 passage"]
    said = plait("search", made, "canals of Amsterdam", "--hierarchy", "--group")
    heads = [line.split() for line in said.out.splitlines() if not line.startswith(" ")]
    assert [[head[0], *head[2:]] for head in heads] == [["amsterdam", "3", "passages"], ["birmingham", "2", "passages"]]
    groups = plait("search", made, "canals of Amsterdam", "--hierarchy", "--group", "--json").json["groups"]
    assert [group["parent"] for group in groups] == ["amsterdam", "birmingham"]
    assert [hit["id"] for hit in groups[0]["hits"]] == ["amsterdam#0", "amsterdam#1", "amsterdam#2"]
    alike = plait("search", made, "canals of Amsterdam", "--hierarchy", "--json").json["hits"]
    assert sorted((hit for group in groups for hit in group["hits"]), key=lambda hit: hit["rank"]) == alike
    assert plait("search", made, "xylophone", "--group").out == "nothing found\n"


def test_many_queries_become_a_run(plait, made):
    said = plait("search", made, "--queries", "-", "--hierarchy", "-k", "2", stdin="canals of Amsterdam\n")
    assert [line.split()[2] for line in said.out.splitlines()] == ["amsterdam#0", "amsterdam#1"]
    told = plait("search", made, "--queries", "-", "--group", stdin="canals\n", code=1)
    assert "--group is for one query: a run is a list of documents" in told.err


def test_added_and_deleted_documents_move_the_parents(plait, made, tmp_path):
    more = jsonl(tmp_path / "more.jsonl", [{"id": "venice", "text": "Venice has canals. It lies in a lagoon."}])
    plait("add", made, more, *CUT)
    assert "venice" in notes(plait, made, "canals lagoon")
    plait("delete", made, "amsterdam")
    assert set(notes(plait, made, "canals of Amsterdam")) == {"birmingham", "venice"}
    plait("compact", made)
    assert set(notes(plait, made, "canals of Amsterdam")) == {"birmingham", "venice"}


def notes(plait, made, query):
    found = plait("search", made, query, "--hierarchy", "--explain", "--json").json
    return found["notes"]["parents"]["scores"]


def test_the_level_can_be_made_later_and_made_again(plait, made, tmp_path):
    shutil.rmtree(made / "parents")
    said = plait("search", made, "canals", "--hierarchy", code=1)
    assert "keeps no level of parents: make one with `plait index ... --parents`" in said.err
    plait("index", tmp_path / "docs.jsonl", "--out", made, *CUT, "--parents")
    assert list(notes(plait, made, "canals of Amsterdam")) == ["amsterdam", "birmingham"]


def test_evaluation_takes_the_step_as_any_other(plait, made, tmp_path):
    data = tmp_path / "data"
    jsonl(data / "corpus.jsonl", [{"_id": "amsterdam#1", "text": "its canals"}])
    jsonl(data / "queries.jsonl", [{"_id": "q", "text": "canals of Amsterdam"}])
    (data / "qrels").mkdir()
    (data / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tamsterdam#1\t1\n")
    systems = ("--system", "flat=pipeline=none", "--system", "dhr=pipeline=parents:share=0.4", "--no-defaults")
    said = plait("eval", data, "--index", made, *systems, "--measures", "RR", "--json").json
    found = {system["name"]: system["means"]["RR"] for system in said["collections"][0]["systems"]}
    assert found == {"flat": pytest.approx(1 / 3), "dhr": pytest.approx(1 / 2)}


def test_a_check_reads_the_level_too(plait, made):
    whole = plait("check", made, "--json").json
    assert (whole["documents"], whole["problems"]) == (9, [])  # six passages, three parents
    assert whole["parents"] == 3
    assert plait("check", made).out.startswith(f"{made}: 6 documents, 3 parents and ")
    (damaged,) = (made / "parents" / "segments").glob("*/terms.npy")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    (problem, *_) = plait("check", made, "--json", code=1).json["problems"]
    assert problem["where"].startswith("parents: ")
    assert problem["advice"] == f"remove {made / 'parents'}, and make it again with `plait index ... --parents`"

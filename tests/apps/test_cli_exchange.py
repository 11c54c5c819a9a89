"""`plait dump` and `plait load`: files out and in, and what a person is told of what is kept."""

from __future__ import annotations

import json

import pytest
from plait.retriever import Retriever

from tests.conftest import LengthSparse

from .conftest import jsonl

QUERY = "honey of winter"


@pytest.fixture
def vectors(tmp_path):
    """A JsonVectorCollection of two documents."""
    records = [
        {"id": "a", "contents": "Snow melts.", "vector": {"snow": 7, "melt": 3}},
        {"id": "b", "contents": "Snow.", "vector": {"snow": 2}},
    ]
    return jsonl(tmp_path / "vectors" / "a.jsonl", records).parent


def test_a_lexical_index_goes_out_and_comes_back(plait, index, tmp_path):
    said = plait("dump", index, tmp_path / "t.ciff.gz", "--strand", "lexical")
    assert said.out == f"wrote {tmp_path / 't.ciff.gz'} (ciff, lexical): 3 documents, 16 terms, 18 postings\n"
    said = plait("load", tmp_path / "t.ciff.gz", "-o", tmp_path / "again.index")
    assert said.out.startswith(f"made {tmp_path / 'again.index'} of ciff, lexical: 3 documents, 16 terms")
    assert "queries are analysed as 'english'; --language changes that" in said.err
    before, after = (plait("search", each, QUERY, "--json").json["hits"] for each in (index, tmp_path / "again.index"))
    assert [(hit["id"], hit["score"]) for hit in before] == [(hit["id"], hit["score"]) for hit in after]
    assert before


def test_vectors_come_in_and_are_asked_by_weighted_terms(plait, vectors, tmp_path):
    said = plait("load", vectors, "-o", tmp_path / "v.index")
    assert said.out == f"made {tmp_path / 'v.index'} of jsonvectors, learned: 2 documents, 2 terms, 3 postings\n"
    assert said.err == ""
    hits = plait("search", tmp_path / "v.index", "melt^2.5 snow", "--json").json["hits"]
    assert [(hit["id"], hit["strands"]["learned"]["score"]) for hit in hits] == [("a", 14.5), ("b", 2.0)]
    said = plait("dump", tmp_path / "v.index", tmp_path / "out.jsonl", "--json")
    assert (said.json["documents"], said.json["scale"]) == (2, 1.0)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        json.loads(line) for line in (vectors / "a.jsonl").read_text().splitlines()
    ]


def test_what_is_lost_is_told(plait, tmp_path):
    path = jsonl(tmp_path / "v.jsonl", [{"id": "a", "vector": {"snow": 510, "melt": 0.5}}])
    said = plait("load", path, "-o", tmp_path / "v.index")
    assert said.err == "the largest weight is 510: weights were rounded to steps of 2, none of them to 0\n"
    path = jsonl(tmp_path / "f.jsonl", [{"id": "a", "vector": {"snow": 300}}])
    said = plait("load", path, "-o", tmp_path / "f.index", "--strand", "lexical", "--language", "none", "--json")
    assert said.json["exact"] is False
    assert said.json["language"] == "none"


def test_other_strands_are_made_of_texts(plait, vectors, tmp_path):
    plait("load", vectors, "-o", tmp_path / "v.index", "--strands", "learned,lexical")
    hits = plait("search", tmp_path / "v.index", "melts", "--strands", "lexical", "--json").json["hits"]
    assert [hit["id"] for hit in hits] == ["a"]


def test_the_scale_that_is_told_gives_the_scores_back(plait, tmp_path):
    class Spelled(LengthSparse):
        def vocabulary(self):
            return [f"t{column}" for column in range(64)]

    from plait.retriever.exchange import dump

    with Retriever.create(tmp_path / "a.index", strands="learned", learned=Spelled()) as made:
        made.add([{"id": "a", "text": "snow melts"}])
        made.commit()
        scale = dump(made, tmp_path / "v.jsonl").scale
    plait("load", tmp_path / "v.jsonl", "-o", tmp_path / "b.index", "--scale", repr(scale))
    (hit,) = plait("search", tmp_path / "b.index", "t4", "--json").json["hits"]
    assert hit["strands"]["learned"]["score"] == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("load", "none.ciff", "-o", "i"), "none.ciff cannot be opened: No such file or directory"),
        (("load", "none", "-o", "i"), "none: there is no such file or folder; check the path"),
        (("load", "v.jsonl", "-o", "i", "--format", "csv"), "no format 'csv'; there are: ciff, jsonvectors"),
        (("load", "v.jsonl", "-o", "i", "--strands", "dense"), "those of the learned strand, which strands='dense'"),
        (("dump", "none.index", "x.ciff"), "there is no index at none.index"),
    ],
)
def test_mistakes_end_in_one_line(plait, tmp_path, monkeypatch, command, told):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "v.jsonl", [{"id": "a", "vector": {"snow": 5}}])
    said = plait(*command, code=1)
    assert said.err.startswith("error: ")
    assert told in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["v.jsonl"]


def test_a_strand_that_the_index_lacks(plait, index, tmp_path):
    said = plait("dump", index, tmp_path / "x.ciff", code=1)
    assert said.err == "error: this index was made without the strand 'learned'; it has: lexical\n"

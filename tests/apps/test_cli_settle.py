"""`plait settle`: what searches of an index do when they do not say it themselves."""

from __future__ import annotations

import json

import pytest
from plait.retriever import Retriever

from .test_cli_errors import error


@pytest.fixture
def two(tmp_path):
    place = tmp_path / "two.index"
    with Retriever.create(place, strands="lexical,learned") as retriever:
        retriever.add([{"id": "a", "text": "snow in winter"}, {"id": "b", "text": "honey of bees"}])
        retriever.commit()
    return place


def test_what_is_settled_acts_and_can_be_taken_back(plait, two):
    own = plait("info", two, "--json").json
    said = plait("settle", two, "--fusion", "rrf:k=20", "--weights", "lexical=0.3,learned=0.7", "--pipeline", "mmr")
    assert said.out == f"searches of {two}: rrf:k=20 with lexical=0.3,learned=0.7 (the index), steps mmr\n"
    with Retriever.open(two) as retriever:
        told = retriever.search("snow")
    assert (told.fusion, told.weights, told.pipeline) == ("rrf:k=20", {"lexical": 0.3, "learned": 0.7}, "mmr")
    back = plait("settle", two, "--fusion", "plait", "--weights", "plait", "--pipeline", "plait", "--json").json
    assert back == {"index": str(two), **{name: own[name] for name in ("fusion", "weights", "pipeline")}}


def test_steps_in_a_file_and_what_an_index_was_made_with(plait, two, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[[step]]\nname = "recency"\nnow = 2021-01-01\n')
    plait("settle", two, "--pipeline", path)
    assert plait("info", two, "--json").json["pipeline"] == "recency:now=2021-01-01"
    with Retriever.open(two) as retriever:
        assert "recency" in retriever.search("snow").notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "plait settle takes --fusion, --weights or --pipeline; plait info tells what acts now"),
        (("--pipeline", "amplitude"), "the step amplitude needs the dense strand; this index has: lexical, learned"),
        (("--pipeline", "rescore:model=nowhere.json"), "nowhere.json: no model can be read there: No such file"),
        (("--weights", "lexical=-1"), "lexical"),
        (("--fusion", "best"), "no fusion 'best'; there are: convex"),
    ],
)
def test_what_cannot_be_settled_changes_nothing(plait, two, options, message):
    before = plait("info", two, "--json").json
    assert message in error(plait, "settle", two, *options)
    assert plait("info", two, "--json").json == before


def test_a_model_is_found_from_every_folder(plait, two, tmp_path, monkeypatch):
    """A relative path is kept as it is from everywhere."""
    model = {"plait_ranker": 1, "kind": "logistic", "strands": ["lexical", "learned"]}
    from plait.retriever.rescore import feature_names

    names = feature_names(model["strands"])
    numbers = {"mean": [0] * len(names), "scale": [1] * len(names), "weights": [0.1] * len(names), "bias": 0}
    (tmp_path / "r.json").write_text(json.dumps({**model, "features": names, **numbers}))
    monkeypatch.chdir(tmp_path)
    plait("settle", two, "--pipeline", "questions,rescore:model=r.json")
    monkeypatch.chdir(two)
    assert plait("search", two, "snow", "--json").json["hits"]


def test_steps_beside_one_strand_alone_are_kept_and_told_of(plait, two):
    said = plait("settle", two, "--weights", "lexical=1", "--pipeline", "mmr")
    assert "steps none" in said.out
    assert said.err == "one strand alone takes no step: the steps are kept for searches that fuse several\n"
    assert "steps mmr" in plait("settle", two, "--weights", "plait").out


def test_what_an_index_keeps_and_cannot_be_taken_is_named_and_changed_at_once(plait, two):
    with Retriever.open(two) as retriever:
        writer = retriever._writing()
        writer.put_setting("fusion", "rrf:normalise=minmax")
        writer.put_setting("pipeline", "mmr,questions")
        retriever.commit()
    said = error(plait, "search", two, "snow")
    assert said.startswith(
        "the index keeps the fusion 'rrf:normalise=minmax', which cannot be: the fusion 'rrf' has no"
    )
    assert said.endswith("; plait settle --fusion changes it")
    plait("settle", two, "--fusion", "plait", "--pipeline", "plait")
    told = plait("info", two, "--json").json
    assert (told["fusion"], told["pipeline"]) == ("convex", "questions,feedback")
    assert plait("search", two, "snow", "--json").json["hits"]

"""`plait models`: the list, one model, the page, and commands that can be given."""

from __future__ import annotations

import re
import shlex

import pytest
from plait.apps.models_command import commands, page
from plait.encoders.catalogue import entries, find

from ..tree import ROOT
from .conftest import COMMANDS
from .test_cli_errors import error


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path, monkeypatch):
    """The same output whatever this machine has fetched."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_every_model_is_in_the_list(plait):
    said = plait("models").out
    assert all(f"\n{entry.name} " in said for entry in entries())
    assert "without one, call nothing zero-shot" in said


def test_a_row_has_licence_figures_and_what_was_trained_on(plait):
    (row,) = [line for line in plait("models", "--family", "opensearch-doc-v3").out.splitlines() if "distill" in line]
    assert re.split(r" {2,}", row.strip())[1:] == [
        "opensearch-doc-v3", "66 M", "apache-2.0", "0.517/13", "0.394/6",
        "MS MARCO, NQ, HotpotQA, FEVER, FiQA, NFCorpus, SciFact, Quora, CQADupStack",
    ]  # fmt: skip


def test_the_list_is_grouped_by_what_models_are_for(plait):
    lines = [line.strip() for line in plait("models").out.splitlines()]
    titles = ["Both strands", "Learned sparse", "Dense", "Rerankers"]
    assert [line for line in lines if line in titles] == titles
    assert [line for line in map(str.strip, plait("models", "--family", "e5").out.splitlines()) if line in titles] == [
        "Dense"
    ]


def test_models_of_a_family_and_a_strand(plait):
    names = [model["name"] for model in plait("models", "--strand", "both", "--json").json["models"]]
    assert names == [entry.name for entry in entries() if entry.strands == ("learned", "dense")]
    assert "plait-mini" in names
    assert [model["family"] for model in plait("models", "--family", "unicoil", "--json").json["models"]] == ["unicoil"]
    assert plait("models", "--family", "e5", "--strand", "learned", "--json").json == {"models": []}


def test_one_model_with_its_sources_and_commands(plait):
    said = plait("models", "opensearch-neural-sparse-encoding-doc-v3-gte").out
    lines = [line.strip() for line in said.splitlines()]
    assert lines[-2:] == [
        "plait index corpus.jsonl -o my.index --learned "
        "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte:trust_remote_code=true",
        "plait search my.index 'a question'",
    ]
    assert "scifact 0.725*" in said
    assert "trec-covid 0.734," in said
    assert "paper            arXiv 2504.14839" in said
    assert 'pip install "plait[torch]"; trust_remote_code=true: it comes with code of its own' in said


def test_what_is_not_known_is_said(plait):
    said = plait("models", "ibm-granite/granite-embedding-30m-sparse").out
    assert "not published, or not known to us: call none of its figures zero-shot" in said
    assert "none that we could call zero-shot" in said
    assert "licence          unknown to us" in plait("models", "castorini/unicoil-msmarco-passage").out


def test_one_model_as_json(plait):
    told = plait("models", "bge-m3", "--json").json
    assert told["name"] == "BAAI/bge-m3"
    assert told["licence"] == "mit"
    assert told["overlaps"] == ["msmarco", "nq", "hotpotqa"]
    assert told["partly"] is True
    assert told["unseen"] is None
    assert told["here"] is False
    assert told["commands"][0] == "plait index corpus.jsonl -o my.index --learned BAAI/bge-m3 --dense BAAI/bge-m3"
    assert plait("models", "naver/splade-v3", "--json").json["mean"] == {"ndcg@10": 0.517, "collections": 13}


def test_a_model_in_the_hubs_cache_is_here(plait, tmp_path):
    file = tmp_path / "hub" / "models--naver--splade-v3" / "snapshots" / "0123abc" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert plait("models", "splade-v3", "--json").json["here"] is True
    assert "in the hub's cache" in plait("models", "splade-v3").out
    here = [line for line in plait("models").out.splitlines() if " yes " in line]
    assert [line.split()[0] for line in here] == ["plait-mini", "naver/splade-v3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("naver/splade-v5",), "no model 'naver/splade-v5' in the catalogue; did you mean naver/splade-v3, "),
        (("",), "no model '' in the catalogue; plait models lists those that there are"),
        (("--family", "bert"), "no family 'bert' in the catalogue; there are: plait, splade, "),
        (("--strand", "lexical"), "strand is 'lexical'; expected learned, dense or both"),
        (("splade-v3", "--strand", "dense"), "give a model, or --family and --strand to choose among all; not both"),
        (("--markdown", "--json"), "--markdown prints the whole catalogue; give it alone"),
    ],
)
def test_what_cannot_be_shown(plait, options, message):
    assert error(plait, "models", *options).startswith(message)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_the_commands_of_a_model_can_be_given(entry):
    for words in map(shlex.split, commands(entry)):
        assert words[0] == "plait"
        context = COMMANDS.commands[words[1]].make_context(words[1], words[2:])  # type: ignore[attr-defined]
        strands = {name for name in ("learned", "dense") if context.params.get(name) == entry.spec}
        if words[1] == "index":
            assert strands == (set() if entry.embedded else set(entry.strands))
        elif entry.strands == ("rerank",):
            assert context.params["pipeline"] == f"rerank:model={entry.name}"


def test_a_spec_with_spaces_is_one_word_for_the_shell():
    first, _ = commands(find("nomic-embed-text-v1.5"))
    assert shlex.split(first)[-1] == find("nomic-embed-text-v1.5").spec


def test_the_page_is_the_catalogue_of_today(plait):
    written = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert written == page(), "write it anew: plait models --markdown > docs/models.md"
    assert plait("models", "--markdown").out == written


def test_the_page_has_every_model_and_every_source():
    for entry in entries():
        assert f"### {entry.name}\n" in page()
        for figures in (*entry.figures, *entry.others):
            assert figures.source in page()

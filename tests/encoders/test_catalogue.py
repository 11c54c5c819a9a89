"""The catalogue: facts that hold together, names that are found, and zero-shot claimed where it may be."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders import EncoderError
from plait.encoders.catalogue import (
    COLLECTIONS,
    MEANS,
    NEEDS,
    Figures,
    Mean,
    chosen,
    entries,
    families,
    family_of,
    find,
    hub_cache,
    is_here,
    nearest,
    unseen,
)
from plait.encoders.families.recipes import FAMILIES

from ..tree import ROOT

FIGURES = [(entry, figures) for entry in entries() for figures in entry.figures]


# The facts


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_an_entry_is_made_of_known_words(entry):
    assert entry.strands in (("learned",), ("dense",), ("learned", "dense"), ("rerank",))
    assert set(entry.needs) <= set(NEEDS)
    assert set(entry.overlaps or ()) <= set(COLLECTIONS)
    assert entry.source
    assert ("/" in entry.name) or entry.embedded or entry.path
    assert (entry.overlaps is not None) == bool(entry.overlaps_source)
    assert entry.parameters is None or entry.parameters > 10**6
    assert "trust_remote_code=true" in entry.options or "remote-code" not in entry.needs
    if "export" in entry.needs:
        assert not {"torch", "gpu", "remote-code"} & set(entry.needs)


def test_names_are_there_once_and_every_strand_is_served():
    names = [entry.name.casefold() for entry in entries()]
    assert len(set(names)) == len(names) >= 45
    for strand in ("learned", "dense", "both"):
        assert len(chosen(strand=strand)) >= 4


def test_every_family_is_one_that_we_run_and_every_one_of_those_is_there_or_has_no_known_checkpoint():
    assert set(families()) - set(FAMILIES) == {"plait", "cross-encoder"}
    assert set(FAMILIES) - set(families()) == {"splade-v1"}


@pytest.mark.parametrize("entry", [entry for entry in entries() if entry.family in FAMILIES], ids=lambda e: e.name)
def test_a_family_fills_the_strands_that_an_entry_promises(entry):
    assert set(entry.strands) <= set(FAMILIES[entry.family].heads)


@pytest.mark.parametrize(("entry", "figures"), FIGURES, ids=lambda each: getattr(each, "name", None))
def test_figures_have_a_source_and_their_mean_is_that_of_their_collections(entry, figures):
    assert figures.source
    assert figures.strand in (*entry.strands, "fused")
    assert set(figures.collections) <= set(COLLECTIONS)
    assert all(0 < value < 1 for value in figures.collections.values())
    assert (figures.mean is None) == (figures.over is None)
    assert figures.mean is not None or figures.collections
    if figures.over is not None and figures.collections:
        assert set(figures.collections) == MEANS[figures.over]
        places = 3 if figures.over == 13 else 4  # OpenSearch publishes three digits
        assert figures.mean == pytest.approx(fmean(figures.collections.values()), abs=0.6 * 10**-places)


def test_other_figures_have_a_source_and_say_what_they_are():
    for other in (other for entry in entries() for other in entry.others):
        assert other.source.startswith("https://")
        assert other.what
        assert 0 < other.value < 1


def test_means_are_over_the_collections_that_their_papers_name():
    assert {number: len(names) for number, names in MEANS.items()} == {13: 13, 15: 15, 18: 18}
    assert MEANS[15] - MEANS[13] == {"msmarco", "cqadupstack"}
    assert MEANS[18] - MEANS[15] == {"bioasq", "signal1m", "trec-news", "robust04"}
    assert set(COLLECTIONS) == MEANS[15] | MEANS[18]


def test_our_own_model_has_the_figures_that_we_measured():
    measured = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text(encoding="utf-8"))["collections"]
    for figures in find("plait-mini").figures:
        for collection, value in figures.collections.items():
            assert value == round(measured[collection]["scores"][figures.strand]["nDCG@10"], 4)


def test_our_own_model_is_as_large_as_it_says():
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(ROOT / "encoders" / "models" / "plait-mini" / "model.onnx"))

    def tensors(graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from tensors(attribute.g)

    count = sum(math.prod(tensor.dims) for tensor in tensors(model.graph))
    assert round(count, -5) == find("plait-mini").parameters


# Zero-shot


def test_what_was_trained_on_is_not_called_zero_shot():
    entry = find("opensearch-neural-sparse-encoding-doc-v3-distill")
    assert entry.mean == Mean(0.517, 13)
    left = ["trec-covid", "arguana", "webis-touche2020", "dbpedia-entity", "scidocs", "climate-fever"]
    assert entry.unseen == Mean(fmean(entry.figures[0].collections[name] for name in left), 6)
    assert round(entry.unseen.value, 4) == 0.394


@pytest.mark.parametrize("name", ["plait-mini-static", "embedded/plait-mini", "Embedded/Plait-mini-static"])
def test_every_name_of_the_embedded_model_is_known(name):
    assert find(name) is find("plait-mini")


def test_a_mean_alone_is_zero_shot_where_nothing_of_it_was_trained_on():
    assert find("naver/splade-v3").unseen == Mean(0.517, 13)
    assert find("static-retrieval-mrl-en-v1").mean == Mean(0.3561, 15)
    assert find("static-retrieval-mrl-en-v1").unseen is None  # its mean has MS MARCO in it, its collections are unknown


@pytest.mark.parametrize("name", ["granite-embedding-30m-sparse", "gte-base-en-v1.5", "bge-base-en-v1.5", "e5-base-v2"])
def test_without_the_whole_training_data_nothing_is_zero_shot(name):
    entry = find(name)
    assert entry.mean is not None
    assert entry.overlaps is None or entry.partly
    assert entry.unseen is None


@given(
    st.dictionaries(st.sampled_from(sorted(COLLECTIONS)), st.floats(0.01, 0.99), min_size=1),
    st.sets(st.sampled_from(sorted(COLLECTIONS))),
)
def test_unseen_is_the_mean_over_the_rest(values, overlaps):
    figures = Figures("dense", "a paper", collections=values)
    rest = [value for name, value in values.items() if name not in overlaps]
    found = unseen(figures, overlaps)
    assert found == (None if not rest else (pytest.approx(sum(rest) / len(rest)), len(rest)))
    assert unseen(figures, None) is None


def test_unseen_of_no_figures_at_all():
    assert unseen(Figures("dense", "a paper"), ()) is None


# Names


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("naver/splade-v3", "splade"),
        ("NAVER/Splade-V3-Doc", "splade-doc"),
        ("opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte", "opensearch-doc-v3"),
        ("BAAI/bge-m3", "bge-m3"),
        (" intfloat/e5-mistral-7b-instruct ", "last-token"),
        ("plait-mini", "plait"),
        ("cross-encoder/ms-marco-MiniLM-L6-v2", None),
        ("somebody/something", None),
        ("splade-v3", None),
        ("", None),
    ],
)
def test_the_family_of_a_hub_name(name, family):
    assert family_of(name) == family


def test_a_model_is_found_by_its_name_in_any_case_and_by_the_part_after_the_slash():
    assert find("naver/SPLADE-v3").name == find("splade-v3").name == "naver/splade-v3"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("naver/splade-v4", "no model 'naver/splade-v4' in the catalogue; did you mean naver/splade-v3, "),
        ("bge-smal-en", "no model 'bge-smal-en' in the catalogue; did you mean BAAI/bge-small-en-v1.5, "),
        ("potion", "no model 'potion' in the catalogue; did you mean minishlab/potion-base-8M, "),
        ("xyzzy", "no model 'xyzzy' in the catalogue; plait models lists those that there are"),
        ("", "no model '' in the catalogue; plait models lists those that there are"),
    ],
)
def test_a_name_that_is_not_there_gets_those_that_are_near(name, message):
    with pytest.raises(EncoderError) as error:
        find(name)
    assert str(error.value).startswith(message)


def test_no_more_names_are_near_than_asked_for():
    assert len(nearest("splade", 2)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "spalde"}, "no family 'spalde' in the catalogue; there are: plait, splade, "),
        ({"strand": "lexical"}, "strand is 'lexical'; expected learned, dense or both"),
    ],
)
def test_a_choice_that_there_is_not(options, message):
    with pytest.raises(EncoderError) as error:
        chosen(**options)
    assert str(error.value).startswith(message)


def test_choosing_by_family_and_by_strand():
    assert {entry.family for entry in chosen(family="e5")} == {"e5"}
    assert {entry.strands for entry in chosen(strand="both")} == {("learned", "dense")}
    learned, dense = chosen(strand="learned"), chosen(strand="dense")
    assert [entry.name for entry in learned if entry in dense] == [entry.name for entry in chosen(strand="both")]
    assert chosen(family="e5", strand="learned") == []


def test_specs_have_the_options_that_a_model_needs():
    assert find("splade-v3").spec == "naver/splade-v3"
    assert find("Shitao/RetroMAE_BEIR").spec == "Shitao/RetroMAE_BEIR:pooling=cls:normalize=false"
    assert find("Mistral-SPLADE").spec == "FOLDER:family=mistral-splade"


# This machine


def test_a_model_is_here_when_the_hubs_cache_has_a_file_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    entry = find("naver/splade-v3")
    snapshot = tmp_path / "models--naver--splade-v3" / "snapshots" / "0123abc"
    assert not is_here(entry)
    snapshot.mkdir(parents=True)
    assert not is_here(entry)
    (snapshot / "config.json").write_text("{}")
    assert is_here(entry)
    assert is_here(find("plait-mini"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"HF_HUB_CACHE": "/somewhere/hub"},
        {"HUGGINGFACE_HUB_CACHE": "/somewhere/old"},
        {"HF_HOME": "~/hf", "XDG_CACHE_HOME": "/elsewhere"},
        {"XDG_CACHE_HOME": "/elsewhere"},
    ],
    ids=str,
)
def test_the_hubs_cache_is_where_huggingface_hub_looks(given, monkeypatch):
    pytest.importorskip("huggingface_hub")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code = "import sys; from huggingface_hub.constants import HF_HUB_CACHE; sys.stdout.write(str(HF_HUB_CACHE))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert str(hub_cache()) == told.stdout


def test_importing_it_reads_nothing_and_imports_nothing_heavy():
    code = (
        "import sys; from plait.encoders.catalogue import entries; "
        "sys.stdout.write(f'{entries.cache_info().misses} ' + ' '.join(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    misses, *modules = told.stdout.split()
    assert misses == "0"
    assert not {"numpy", "scipy", "torch", "onnxruntime", "huggingface_hub", "tokenizers"} & set(modules)

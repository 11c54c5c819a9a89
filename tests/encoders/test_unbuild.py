"""Built models made checkpoints again: in float32 the very tensors, in 8 bits what vectors are nearly the same by."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_joint, load_learned
from plait.encoders.build import build
from plait.encoders.checkpoint import JOINT_KEY, read_checkpoint
from plait.encoders.folders import unbuilt_folder
from plait.encoders.joint_checkpoint import read_query_table, read_sparse_half
from plait.encoders.manifest import MANIFEST, MODEL, open_folder
from plait.encoders.unbuild import unbuild

from .joint_folders import KINDS, Kind, change_config, make_joint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


def again(source, tmp_path, head, precision):
    build(source, tmp_path / "built", head=head, precision=precision)
    return unbuild(open_folder(tmp_path / "built", head), tmp_path / "again")


def least_cosine(ours, theirs):
    return float(((ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)).min())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_joint_model_in_float32_gives_back_its_tensors(kind, tmp_path):
    source = make_joint(kind, tmp_path / "checkpoint")
    change_config(source, prune=0.1, damping=0.2, expansion=1.5, gelu=False)
    theirs, ours = read_checkpoint(source), read_checkpoint(again(source, tmp_path, "joint", "fp32"))
    assert ours.config[JOINT_KEY] == theirs.config[JOINT_KEY]
    halves = read_sparse_half(ours), read_sparse_half(theirs)
    assert halves[0].tensors.keys() == halves[1].tensors.keys()
    for name, tensor in halves[1].tensors.items():
        np.testing.assert_array_equal(halves[0].tensors[name], tensor, err_msg=name)
    assert (halves[0].terms is None) == (halves[1].terms is None)
    assert halves[0].terms is None or halves[0].terms.tolist() == halves[1].terms.tolist()
    assert (halves[0].silent is None) == (halves[1].silent is None)
    assert halves[0].silent is None or halves[0].silent.tolist() == halves[1].silent.tolist()
    assert (halves[0].full_layers, halves[0].long_from) == (halves[1].full_layers, halves[1].long_from)
    folded = {"positions.weight", "types.weight"}
    for name, tensor in theirs.tensors.items():
        if name not in folded and not name.startswith("head."):
            np.testing.assert_array_equal(ours.tensors[name], tensor, err_msg=name)
    tables = read_query_table(ours), read_query_table(theirs)
    if kind.static:
        np.testing.assert_allclose(tables[0].table, tables[1].table, atol=np.abs(tables[1].table).max() / 254)
    assert (tables[0] is None) == (tables[1] is None)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_built_of_it_encodes_nearly_the_same(kind, precision, texts, tmp_path):
    source = make_joint(kind, tmp_path / "checkpoint")
    made = again(source, tmp_path, "joint", precision)
    first, second = (load_joint(folder, precision=precision) for folder in (tmp_path / "built", made))
    ours, theirs = second.encode_documents(texts), first.encode_documents(texts)
    assert least_cosine(ours[1], theirs[1]) > (1 - 1e-5 if precision == "fp32" else 0.999)
    assert least_cosine(ours[0].toarray(), theirs[0].toarray()) > (1 - 1e-5 if precision == "fp32" else 0.995)
    assert second.learned.identity.activation == first.learned.identity.activation
    assert second.max_length == first.max_length
    assert (second.learned.encode_queries(texts) != first.learned.encode_queries(texts)).nnz == 0
    if kind.static:
        tables = (load_dense(folder, queries="static").encode_queries(texts) for folder in (tmp_path / "built", made))
        np.testing.assert_allclose(*tables, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "head", "load"),
    [
        ("bert-pooled", "dense", load_dense), ("distilbert-pooled", "dense", load_dense),
        ("bert-masked", "learned", load_learned), ("distilbert-masked", "learned", load_learned),
    ],
)  # fmt: skip
def test_models_of_one_strand(name, head, load, golden, texts, tmp_path):
    made = again(golden / name, tmp_path, head, "fp32")
    first, second = load(tmp_path / "built"), load(made, precision="fp32")
    ours, theirs = second.encode_documents(texts), first.encode_documents(texts)
    if head == "learned":
        ours, theirs = ours.toarray(), theirs.toarray()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert second.identity.activation == first.identity.activation


def test_prompts_lengths_and_query_weights_come_with_it(tmp_path):
    source = make_joint(Kind(), tmp_path / "checkpoint")
    (source / "idf.json").write_text(json.dumps({"search": 2.5}))
    (source / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "search engine "}}))
    ours, theirs = read_checkpoint(again(source, tmp_path, "joint", "int8")), read_checkpoint(source)
    assert (ours.idf, ours.prompts, ours.pooling, ours.normalize) == (
        theirs.idf, theirs.prompts, theirs.pooling, theirs.normalize,
    )  # fmt: skip
    assert json.loads(ours.tokenizer_json) == json.loads(theirs.tokenizer_json)


def test_nothing_of_where_a_checkpoint_was_is_in_the_files(tmp_path):
    source = make_joint(Kind(), tmp_path / "checkpoint")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/me/secret"}))
    manifest = build(source, tmp_path / "built", head="joint")
    assert manifest.config is not None
    assert manifest.config["model_type"] == "bert"
    assert not [path.name for path in (tmp_path / "built").iterdir() if b"secret" in path.read_bytes()]


def test_the_cache_makes_it_once_and_calls_it_by_the_models_name(tmp_path):
    build(make_joint(Kind(), tmp_path / "checkpoint"), tmp_path / "built", head="joint", name="mine")
    made = unbuilt_folder(tmp_path / "built")
    assert made.name == "mine"
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert unbuilt_folder(tmp_path / "built") == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in made.parent.iterdir()] == ["mine"]


def test_a_name_leads_nowhere_else(tmp_path):
    build(make_joint(Kind(), tmp_path / "checkpoint"), tmp_path / "built", head="joint", name="../../../elsewhere")
    made = unbuilt_folder(tmp_path / "built")
    assert made.name == "elsewhere"
    assert made.parent.parent == tmp_path / "cache" / "bases"


@pytest.mark.parametrize(("text", "message"), [("{", "is not valid JSON"), ("{}", "has format None")])
def test_a_broken_manifest(text, message, tmp_path):
    build(make_joint(Kind(), tmp_path / "checkpoint"), tmp_path / "built", head="joint")
    (tmp_path / "built" / MANIFEST).write_text(text)
    with pytest.raises(EncoderError, match=message):
        unbuilt_folder(tmp_path / "built")


@pytest.mark.parametrize("config", [None, {"model_type": "mpnet"}])
def test_a_model_that_does_not_say_what_it_was_made_from(config, tmp_path):
    build(make_joint(Kind(), tmp_path / "checkpoint"), tmp_path / "built", head="joint")
    facts = json.loads((tmp_path / "built" / MANIFEST).read_text())
    (tmp_path / "built" / MANIFEST).write_text(json.dumps({**facts, "config": config}))
    with pytest.raises(EncoderError, match="does not say what the model was made from"):
        unbuilt_folder(tmp_path / "built")


def test_a_damaged_model_is_refused(tmp_path):
    build(make_joint(Kind(), tmp_path / "checkpoint"), tmp_path / "built", head="joint")
    path = tmp_path / "built" / MODEL
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EncoderError, match="does not match the checksum"):
        unbuilt_folder(tmp_path / "built")
    assert not list((tmp_path / "cache" / "bases").rglob("config.json"))

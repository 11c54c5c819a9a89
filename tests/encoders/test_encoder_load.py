"""Encoders by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_learned
from plait.encoders import extras as extras_module
from plait.encoders.folders import cache_folder
from plait.encoders.manifest import MANIFEST


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_checkpoint_is_built_once_into_the_cache(golden, cache, texts, built):
    first = load_dense(golden / "bert-pooled", precision="fp32")
    (made,) = (cache / "models").iterdir()
    written = (made / "model.onnx").stat().st_mtime_ns
    second = load_dense(golden / "bert-pooled", precision="fp32")
    assert [path.name for path in (cache / "models").iterdir()] == [made.name]
    assert (made / "model.onnx").stat().st_mtime_ns == written
    assert first.identity == second.identity
    np.testing.assert_array_equal(first.encode_documents(texts), second.encode_documents(texts))
    assert first.identity.differences(load_dense(built("bert-pooled")).identity) == []


def test_other_content_or_options_are_built_anew(golden, cache, tmp_path):
    folder = shutil.copytree(golden / "bert-pooled", tmp_path / "checkpoint")
    load_dense(folder)
    load_dense(folder, precision="fp32")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    assert load_dense(folder).identity.activation == "cls+l2"
    assert len(list((cache / "models").iterdir())) == 3


def test_a_failed_build_leaves_nothing(golden, cache):
    with pytest.raises(EncoderError, match="precision 'int4'"):
        load_dense(golden / "bert-pooled", precision="int4")
    assert list((cache / "models").iterdir()) == []


def test_the_name_is_what_was_asked_for(built):
    folder = built("bert-masked")
    assert load_learned(folder).identity.name == str(folder)
    assert load_learned(str(folder)).identity.name == str(folder)


def test_the_other_head(built):
    with pytest.raises(EncoderError, match="holds a dense encoder, a learned one was asked for: use load_dense"):
        load_learned(built("bert-pooled"))


def test_the_other_precision():
    assert load_dense(precision="int8").identity == load_dense().identity
    with pytest.raises(EncoderError, match="is built as int8, fp32 was asked for: give the original checkpoint"):
        load_dense(precision="fp32")


@pytest.mark.parametrize("name", ["", "nothing", "./nothing", "a/b/c", "~/model"])
def test_unknown_names_say_what_exists(name):
    with pytest.raises(
        EncoderError, match=r"no encoder .*'embedded' nor 'plait-mini' nor 'plait-mini-static', nor a folder"
    ):
        load_dense(name)


def test_an_unreachable_hub(tmp_path):
    code = "from plait.encoders import load_dense; load_dense('some-owner/some-model')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("plait.encoders.contract.EncoderError: 'some-owner/some-model' is no folder here")
    assert "check the name and the network, give the path of a folder, or use 'embedded'" in last


@pytest.mark.parametrize("load", [load_dense, load_learned])
def test_an_architecture_that_needs_torch(load, golden, tmp_path, monkeypatch):
    folder = shutil.copytree(golden / "bert-masked", tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "modernbert"}))
    real = extras_module.importlib.import_module

    def without(name, *rest):
        if name in ("torch", "sentence_transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(extras_module.importlib, "import_module", without)
    with pytest.raises(EncoderError, match="model type 'modernbert' is not one of") as caught:
        load(folder)
    assert 'pip install "plait[torch]"' in str(caught.value)


def test_a_manifest_of_another_format(built, tmp_path):
    folder = shutil.copytree(built("bert-pooled"), tmp_path / "copy")
    values = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(EncoderError, match="has format 99, this plait reads 1"):
        load_dense(folder)
    (folder / MANIFEST).write_text(json.dumps({"format": 1, "head": "dense"}))
    with pytest.raises(EncoderError, match="is not a plait manifest"):
        load_dense(folder)


def test_a_model_that_onnxruntime_refuses(built, tmp_path):
    from plait.encoders.manifest import sha256

    folder = shutil.copytree(built("bert-pooled"), tmp_path / "copy")
    (folder / "model.onnx").write_bytes(b"not a graph")
    values = json.loads((folder / MANIFEST).read_text())
    values["files"]["model.onnx"] = sha256(b"not a graph")
    (folder / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(EncoderError, match=r"onnxruntime refuses .*model\.onnx"):
        load_dense(folder).encode_documents(["text"])


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/plait"),
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache/plait"),
        ("darwin", {"HOME": "/home/me"}, "/home/me/Library/Caches/plait"),
        ("linux", {"PLAIT_CACHE": "/y"}, "/y"),
    ],
)
def test_where_the_cache_is(platform, variables, expected, monkeypatch):
    for variable in ("XDG_CACHE_HOME", "PLAIT_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert cache_folder().as_posix() == expected

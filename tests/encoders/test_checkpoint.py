"""Folders that are broken, incomplete or of another kind."""

from __future__ import annotations

import importlib
import json
import shutil

import numpy as np
import pytest
from plait.encoders import EncoderError, UnsupportedModelError
from plait.encoders import extras as extras_module
from plait.encoders.build import build
from plait.encoders.checkpoint import read_checkpoint
from safetensors.numpy import load_file, save_file


@pytest.fixture
def folder(golden, tmp_path):
    return shutil.copytree(golden / "bert-masked", tmp_path / "checkpoint")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def built(folder, head="learned", **options):
    return build(folder, folder.parent / "out", head=head, precision="fp32", **options)


def test_no_folder(tmp_path):
    with pytest.raises(EncoderError, match=r"is not a folder: give the folder that holds config\.json"):
        read_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(EncoderError, match=rf"{name} is missing"):
        built(folder)


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"neither tokenizer\.json nor vocab\.txt"):
        built(folder)


@pytest.mark.parametrize(("text", "reason"), [("{", "is not valid JSON"), ("[]", "holds a JSON list, expected dict")])
def test_broken_config(folder, text, reason):
    (folder / "config.json").write_text(text)
    with pytest.raises(EncoderError, match=rf"config\.json {reason}"):
        built(folder)


def test_config_without_a_setting(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=r"config\.json has no 'hidden_size'"):
        built(folder)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "roberta"}, "model type 'roberta' is not one of bert, distilbert"),
        ({"position_embedding_type": "relative_key"}, "only absolute position embeddings"),
        ({"hidden_act": "silu"}, "activation 'silu' is not one of gelu"),
    ],
)
def test_unsupported_models_name_the_extra(folder, values, reason):
    change(folder / "config.json", **values)
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        built(folder)
    assert 'pip install "plait[torch]"' in str(caught.value)


def test_only_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModelError, match="never unpickles") as caught:
        built(folder)
    assert 'pip install "plait[torch]"' in str(caught.value)


def test_weights_that_are_no_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(EncoderError, match="cannot be read as safetensors"):
        built(folder)


def test_a_missing_tensor_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(EncoderError, match=r"no tensor 'encoder\.layer\.1\.output\.dense\.bias' \(1 missing\)"):
        built(folder)


def test_no_head(golden, tmp_path):
    with pytest.raises(EncoderError, match=r"no masked-LM head .* would be random"):
        build(golden / "bert-pooled", tmp_path, head="learned")


def test_a_masked_model_is_also_a_dense_one(folder):
    assert built(folder, head="dense").activation == "mean"


def test_sharded_weights(folder):
    whole = built(folder).files["model.onnx"]
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / shard)
    weight_map = {name: shard for shard, part in shards.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    manifest = built(folder)
    assert manifest.files["model.onnx"] == whole
    assert set(shards) <= set(manifest.source)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"model-00002-of-00002\.safetensors is missing"):
        built(folder)


def test_half_precision_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.astype(np.float16) for name, tensor in tensors.items()}, folder / "model.safetensors")
    assert built(folder).dim == len(tensors["cls.predictions.bias"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({}, "mean"),
    ],
)
def test_pooling_settings(folder, settings, expected):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    assert read_checkpoint(folder).pooling == expected


@pytest.mark.parametrize(
    "settings",
    [{"pooling_mode": "lasttoken"}, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}],
)
def test_unsupported_pooling(folder, settings):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedModelError, match="is not mean, cls or max"):
        built(folder, head="dense")


def test_unsupported_module(folder):
    modules = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModelError, match="has a module Dense"):
        built(folder, head="dense")


@pytest.mark.parametrize(("function", "expected"), [("relu", "max+log1p"), ("log1p_relu", "max+log1p_log1p")])
def test_splade_pooling_settings(folder, function, expected):
    (folder / "1_SpladePooling").mkdir()
    settings = {"pooling_strategy": "max", "activation_function": function}
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(settings))
    assert built(folder).activation == expected
    change(folder / "1_SpladePooling" / "config.json", pooling_strategy="sum")
    with pytest.raises(UnsupportedModelError, match="SPLADE pooling 'sum' is not max"):
        built(folder)


@pytest.mark.parametrize("package", ["onnx", "safetensors"])
def test_a_missing_package_names_its_extra(folder, package, monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}")
        return real(name, *rest)

    monkeypatch.setattr(extras_module.importlib, "import_module", without)
    with pytest.raises(EncoderError, match=rf'needs the package {package} .*: pip install "plait\[export\]"'):
        built(folder)

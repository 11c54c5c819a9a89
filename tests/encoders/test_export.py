"""Checkpoints of every family as ONNX models: the same vectors in float32, close ones in 8 bits, without torch."""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import shutil
from functools import lru_cache

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_joint, load_learned
from plait.encoders.export import export_model

from . import tiny
from .tiny import BASE, BOTH_ENDS, CAUSAL, END, LENGTH, MASKED, TEXTS

LOAD = {"learned": load_learned, "dense": load_dense, "joint": load_joint}
SOME = [text for text in TEXTS if len(text.split()) > 1]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


def vectors(encoder, texts, side="documents"):
    found = getattr(encoder, f"encode_{side}")(texts)
    return [
        each.toarray() if hasattr(each, "toarray") else each
        for each in (found if isinstance(found, tuple) else [found])
    ]


def cosines(one, other):
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1)[norms > 0] / norms[norms > 0]


def check_top_terms(exact, coarse, margin=0.02):
    """The same five heaviest terms, where the sixth is not as heavy as the fifth but for what 8 bits can tell."""
    told = 0
    for one, other in zip(exact, coarse, strict=True):
        order = np.argsort(-one)
        if one[order[4]] - one[order[5]] > margin * one[order[0]]:
            told += 1
            assert set(order[:5]) == set(np.argsort(-other)[:5])
    assert told


# plait's own writer, which needs no torch


@pytest.mark.parametrize("family", ["splade", "splade-lexical", "splade-doc", "opensearch", "opensearch-doc-v3"])
@pytest.mark.parametrize("name", ["bert-masked", "distilbert-masked"])
def test_masked_lm_families_in_8_bits(name, family, golden, tmp_path):
    spec = f"{golden / name}:family={family}"
    export_model(spec, tmp_path / "exact", strand="learned", precision="fp32")
    export_model(spec, tmp_path / "coarse", strand="learned")
    exact, coarse = (load_learned(tmp_path / each) for each in ("exact", "coarse"))
    by_name = load_learned(f"{spec}:precision=fp32")
    for side in ("documents", "queries"):
        ((one,), (other,), (named,)) = (vectors(each, SOME, side) for each in (exact, coarse, by_name))
        np.testing.assert_array_equal(one, named)
        assert cosines(one, other).min() > 0.99
    check_top_terms(vectors(exact, SOME)[0], vectors(coarse, SOME)[0], margin=0.01)


def test_a_dense_family_in_8_bits(golden, tmp_path):
    spec = f"{golden / 'bert-pooled'}:family=e5:dimensions=16"
    export_model(spec, tmp_path / "coarse", strand="dense")
    coarse, exact = load_dense(tmp_path / "coarse"), load_dense(f"{spec}:precision=fp32")
    assert coarse.identity.dim == 16
    assert cosines(vectors(exact, SOME)[0], vectors(coarse, SOME)[0]).min() > 0.99
    assert np.abs(vectors(coarse, SOME)[0] - vectors(coarse, SOME, "queries")[0]).max() > 0.01  # prompts of their own


def test_what_cannot_be_exported_says_why(golden, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(EncoderError, match="'sparse' is not one of learned, dense, joint"):
        export_model(golden / "bert-masked", out, strand="sparse")
    with pytest.raises(EncoderError, match="'int4' is not one of int8, fp32"):
        export_model(f"{golden / 'bert-masked'}:family=splade", out, strand="learned", precision="int4")
    with pytest.raises(EncoderError, match="leave out runtime=torch"):
        export_model(f"{golden / 'bert-masked'}:runtime=torch", out, strand="learned")
    with pytest.raises(EncoderError, match="fills the strand learned, not dense"):
        export_model(f"{golden / 'bert-masked'}:family=splade", out, strand="dense")
    with pytest.raises(EncoderError, match="is no model: it has no config"):
        export_model(tmp_path, out, strand="dense")
    export_model(golden / "bert-masked", out, strand="learned")
    with pytest.raises(EncoderError, match="is exported already"):
        export_model(out, tmp_path / "again", strand="learned")


def test_an_exported_model_keeps_its_recipe(golden, tmp_path):
    export_model(f"{golden / 'bert-masked'}:family=splade", tmp_path / "out", strand="learned")
    assert load_learned(f"{tmp_path / 'out'}:top=4").encode_documents(SOME).getnnz(axis=1).max() == 4
    with pytest.raises(EncoderError, match="option 'activation' is for the checkpoint"):
        load_learned(f"{tmp_path / 'out'}:activation=relu")
    with pytest.raises(EncoderError, match="holds a learned encoder, a dense one was asked for"):
        load_dense(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "plait.json").read_text())
    manifest["recipe"]["unknown"] = 1
    (tmp_path / "out" / "plait.json").write_text(json.dumps(manifest))
    with pytest.raises(EncoderError, match="a recipe that this plait does not read"):
        load_learned(tmp_path / "out")


# torch's exporter


WIDE = {"hidden_size": 128, "intermediate_size": 256}  # 8 bits are for widths at which their errors cancel


@lru_cache
def calm(architecture, head, around=None):
    """A wider checkpoint, whose random weights are no larger than trained ones."""
    from safetensors.torch import load_file, save_file

    folder = tiny.copied(tiny.checkpoint(architecture, head, around=around, **WIDE))
    tensors = load_file(folder / "model.safetensors")
    smaller = {name: tensor / 4 if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    save_file(smaller, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def bge_m3():
    import torch

    folder = tiny.copied(calm("xlm-roberta", BASE))
    torch.save({"weight": tiny.numbers(1, 128), "bias": torch.ones(1)}, folder / "sparse_linear.pt")
    return folder


def with_tensors(architecture, head, name):
    import torch

    more = {f"{name}__weight": tiny.numbers(1, 128), f"{name}__bias": torch.full((1,), 8.0)}
    return tiny.add_tensors(tiny.copied(calm(architecture, head)), **more)


CASES = {
    "bge-m3": ("joint", bge_m3),
    "dupmae": ("joint", lambda: calm("bert", MASKED)),
    "promptreps": ("joint", lambda: calm("llama", CAUSAL)),
    "unicoil": ("learned", lambda: with_tensors("bert", BASE, "tok_proj")),
    "deepimpact": ("learned", lambda: with_tensors("bert", BASE, "impact_score_encoder__0")),
    "splade-v1": ("learned", lambda: calm("bert", MASKED)),
    "splade": ("learned", lambda: calm("modernbert", MASKED)),
    "mistral-splade": ("learned", lambda: calm("mistral", CAUSAL)),
    "prosper": ("learned", lambda: with_tensors("qwen2", CAUSAL, "literal")),
    "last-token": ("dense", lambda: calm("qwen3", BASE, around=END)),
    "contriever": ("dense", lambda: calm("mpnet", BASE, around=BOTH_ENDS)),
}
LENGTHS = {"promptreps": 400}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", CASES)
def test_every_other_family(family, tmp_path):
    pytest.importorskip("onnxscript")
    strand, make = CASES[family]
    spec = f"{make()}:family={family}:max_length={LENGTHS.get(family, LENGTH // 2)}"
    live = LOAD[strand](f"{spec}:runtime=torch")
    for precision in ("fp32", "int8"):
        export_model(spec, tmp_path / precision, strand=strand, precision=precision)
    exact, coarse = (LOAD[strand](tmp_path / precision) for precision in ("fp32", "int8"))
    for wanted, same, close in zip(*(vectors(each, SOME) for each in (live, exact, coarse)), strict=True):
        np.testing.assert_allclose(same, wanted, atol=1e-4, rtol=1e-4)
        assert cosines(wanted, close).min() > 0.99
        if strand != "dense" and wanted.shape[1] > 128:
            check_top_terms(wanted, close)
    assert (tmp_path / "int8" / "model.onnx").stat().st_size < (tmp_path / "fp32" / "model.onnx").stat().st_size
    shutil.rmtree(tmp_path / "fp32")

"""Tiny joint checkpoints, made from the golden ones with random additions."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parent.parent / "golden"
LAYER = {"bert": "encoder.layer.{}.", "distilbert": "transformer.layer.{}."}
PREFIX = {"bert": "bert.", "distilbert": "distilbert."}
NEW_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
LENGTH = 40


@dataclass(frozen=True)
class Kind:
    """One kind of joint checkpoint.

    Attributes:
        source: the golden checkpoint it starts from.
        branch_layers: layers of the sparse branch.
        width: r; None for a decoder that is the word table.
        terms: rows of the decoder where it has a part of the vocabulary only.
        literal: whether own words have weights.
        static: width of the query table; 0 for none.
        activation: of the sparse half.
        silent: every so manieth token of the vocabulary is silent; 0 for none, 1 for all but special tokens.
        full: layers below which equal tokens stay apart; None where they never merge.
        long: tokens of a text whose equal tokens merge, at least.
        repeats: what own words gain where they merge.
    """

    source: str = "bert-pooled"
    branch_layers: int = 1
    width: int | None = 12
    terms: int | None = None
    literal: bool = True
    static: int = 0
    activation: str = "log1p"
    silent: int = 0
    full: int | None = None
    long: int = 0
    repeats: float = 0.0

    def __str__(self) -> str:
        parts = (self.source, f"b{self.branch_layers}", f"r{self.width}", f"t{self.terms}", self.activation)
        silent = [f"silent{self.silent}"] if self.silent else []
        silent += [] if self.full is None else [f"merged{self.full}from{self.long}r{self.repeats:g}"]
        return "-".join([*parts, "own" if self.literal else "none", f"s{self.static}", *silent])


KINDS = [
    Kind(),
    Kind(branch_layers=0),
    Kind(branch_layers=2, width=None, activation="log1p_log1p"),
    Kind(branch_layers=0, width=None, literal=False, static=32),
    Kind(terms=70, static=8),
    Kind("distilbert-pooled", static=32),
    Kind("distilbert-pooled", branch_layers=0, terms=70, literal=False, activation="log1p_log1p"),
    Kind("distilbert-pooled", branch_layers=2, width=None, static=8),
    Kind("bert-masked", branch_layers=1, width=20, terms=179),
    Kind("distilbert-masked", branch_layers=2, width=None, literal=False),
    Kind(silent=2),
    Kind(branch_layers=0, terms=70, silent=2, static=8),
    Kind("distilbert-pooled", branch_layers=2, literal=False, silent=3),
    Kind(silent=2, full=1, long=12, width=20, static=8, repeats=0.5),
    Kind(full=1),
    Kind(branch_layers=0, terms=70, full=2, long=9, repeats=0.7),
    Kind("distilbert-pooled", branch_layers=0, silent=3, full=1),
    Kind("distilbert-masked", literal=False, silent=2, full=1, long=10),
]


def make_joint(kind: Kind, folder: Path, seed: int = 5) -> Path:
    """Writes a joint checkpoint and returns its folder."""
    shutil.copytree(GOLDEN / kind.source, folder)
    config = json.loads((folder / "config.json").read_text())
    facts = {"version": 1, "branch_layers": kind.branch_layers, "activation": kind.activation}
    config["plait"] = {**facts, "max_length": LENGTH, "literal": kind.literal}
    if kind.full is not None:
        config["plait"] |= {"full_layers": kind.full, "long_from": kind.long, "repeats": kind.repeats}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **additions(kind, tensors, config["model_type"], seed)}, folder / "model.safetensors")
    return folder


def additions(kind: Kind, tensors: dict[str, np.ndarray], family: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def noise(*shape: int, scale: float = 0.3) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    words = next(tensor for name, tensor in tensors.items() if name.endswith("word_embeddings.weight"))
    vocabulary, hidden = words.shape
    width, rows = kind.width or hidden, kind.terms or vocabulary
    found = _branch(kind.branch_layers, tensors, family, noise)
    found |= {"sparse.transform.weight": noise(width, hidden), "sparse.transform.bias": noise(width)}
    found |= {"sparse.norm.weight": 1 + noise(width), "sparse.norm.bias": noise(width)}
    found["sparse.decoder.bias"] = noise(rows, scale=1.0) - 1
    if kind.width:
        found["sparse.decoder.weight"] = noise(rows, width, scale=0.6)
    if kind.terms:
        found["sparse.terms"] = np.sort(rng.permutation(vocabulary)[:rows]).astype(np.int32)
    if kind.silent:
        found["sparse.silent"] = np.arange(5, vocabulary, kind.silent, dtype=np.int32)  # 0 to 4 are special tokens
    if kind.literal:
        found |= {"sparse.literal.weight": noise(hidden), "sparse.literal.bias": noise(vocabulary, scale=1.0)}
    if kind.static:
        found["static.table"] = noise(vocabulary, kind.static)
    if kind.static not in (0, hidden):
        found["static.projection"] = noise(kind.static, hidden)
    return found


def _branch(layers, tensors, family, noise) -> dict[str, np.ndarray]:
    """Copies of the trunk's layers, from the first on, with noise: the right names and shapes, other weights."""
    found = {}
    for number in range(layers):
        start = PREFIX[family] + LAYER[family].format(number)
        plain = LAYER[family].format(number)
        for name, tensor in tensors.items():
            for prefix in (start, plain):
                if name.startswith(prefix):
                    found[f"sparse.layer.{number}.{name.removeprefix(prefix)}"] = tensor + noise(*tensor.shape) / 2
    return found


def change_config(folder: Path, **values: object) -> None:
    """Changes what config.json says under "plait"."""
    config = json.loads((folder / "config.json").read_text())
    config["plait"] = {**config["plait"], **values}
    (folder / "config.json").write_text(json.dumps(config))


def change_tensors(folder: Path, **values: np.ndarray | None) -> None:
    """Replaces tensors, "__" for "."; None removes one."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in values.items():
        tensors.pop(name.replace("__", "."), None)
        if tensor is not None:
            tensors[name.replace("__", ".")] = tensor
    save_file(tensors, folder / "model.safetensors")

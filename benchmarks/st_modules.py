"""The sparse half of a joint checkpoint as modules of sentence-transformers, for st_worker.py."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from sentence_transformers.models import Transformer
from sentence_transformers.sparse_encoder.models import SpladePooling
from torch import Tensor, nn

Features = dict[str, Any]


def sparse_modules(folder: Path) -> list[nn.Module]:
    """Returns what a `SparseEncoder` is made of: trunk with branch, head, pooling, own words.

    Raises:
        ValueError: the checkpoint is of a kind that this comparison is not written for.
    """
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))["plait"]
    if settings.get("pooling", "max") != "max" or not settings["literal"]:
        raise ValueError("the comparison is written for max pooling and a literal residual")
    tensors = load_file(folder / "model.safetensors")
    trunk = Transformer(str(folder))
    layers = trunk.auto_model.encoder.layer
    for number, layer in enumerate(layers[len(layers) - settings["branch_layers"] :]):
        layer.load_state_dict(_below(tensors, f"sparse.layer.{number}."))
    rule = "log1p_relu" if settings["activation"] == "log1p_log1p" else "relu"
    head = Head(tensors, gelu=settings.get("gelu", True), epsilon=trunk.auto_model.config.layer_norm_eps)
    return [trunk, head, SpladePooling("max", activation_function=rule), OwnWords(tensors)]


def _below(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


class Head(nn.Module):
    """Token states to logits of the expansion terms; the states stay for the own words."""

    def __init__(self, tensors: dict[str, Tensor], *, gelu: bool, epsilon: float) -> None:
        super().__init__()
        self._parts = {name: tensors[f"sparse.{name}"] for name in (
            "transform.weight", "transform.bias", "norm.weight", "norm.bias", "decoder.weight", "decoder.bias",
        )}  # fmt: skip
        self._gelu, self._epsilon = gelu, epsilon
        self._silent = tensors.get("sparse.silent")

    def forward(self, features: Features) -> Features:
        """Puts logits where `SpladePooling` looks for them, and hides from it the places that are silent."""
        parts, states = self._parts, features["token_embeddings"]
        z = nn.functional.linear(states, parts["transform.weight"], parts["transform.bias"])
        z = nn.functional.gelu(z) if self._gelu else z
        z = nn.functional.layer_norm(z, z.shape[-1:], parts["norm.weight"], parts["norm.bias"], self._epsilon)
        if self._silent is not None:
            features["attention_mask"] = features["attention_mask"] * ~torch.isin(features["input_ids"], self._silent)
        features["states"] = states
        features["token_embeddings"] = nn.functional.linear(z, parts["decoder.weight"], parts["decoder.bias"])
        return features


class OwnWords(nn.Module):
    """Spreads expansion weights over the vocabulary and adds the largest weight of each own word."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._weight, self._bias = tensors["sparse.literal.weight"], tensors["sparse.literal.bias"]
        rows = len(tensors["sparse.decoder.bias"])
        self._terms = tensors["sparse.terms"].long() if "sparse.terms" in tensors else torch.arange(rows)

    def forward(self, features: Features) -> Features:
        """Replaces the pooled vector, (texts, terms), by one over the vocabulary."""
        ids, pooled = features["input_ids"], features["sentence_embedding"]
        own = (features["states"] @ self._weight + self._bias[ids]).relu() * features["attention_mask"]
        vectors = pooled.new_zeros(len(ids), len(self._bias)).scatter_reduce(1, ids, own, "amax")
        vectors[:, self._terms] += pooled
        features["sentence_embedding"] = vectors
        return features

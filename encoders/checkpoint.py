"""Reads a Hugging Face folder of the BERT family: settings, tensors under names of our own, tokenizer, pooling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contract import EncoderError
from .extras import require
from .model_files import TORCH_HINT, ModelFiles, UnsupportedModelError, read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Tensors = dict[str, "NDArray[np.float32]"]

JOINT_KEY = "plait"  # in the config.json of a joint checkpoint: what its sparse half is like


@dataclass(frozen=True)
class Family:
    """How one model type spells its settings and tensors.

    Attributes:
        prefix: what may stand before the names of the trunk.
        layer: what stands before the names in a layer; "{}" is its number.
        settings: our setting -> the key in config.json.
        trunk: our tensor -> its name, outside layers.
        layers: our tensor -> its name, inside a layer.
        head: our tensor -> its name, in the masked-LM head.
        decoder_bias: the names the decoder's bias may have.
        sizes: more keys of config.json without which the tensors do not fit.
    """

    prefix: str
    layer: str
    settings: Mapping[str, str]
    trunk: Mapping[str, str]
    layers: Mapping[str, str]
    head: Mapping[str, str]
    decoder_bias: tuple[str, ...]
    sizes: tuple[str, ...]


FAMILIES = {
    "bert": Family(
        prefix="bert.",
        layer="encoder.layer.{}.",
        settings={
            "hidden": "hidden_size",
            "layers": "num_hidden_layers",
            "heads": "num_attention_heads",
            "activation": "hidden_act",
        },
        trunk={
            "words": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "types": "embeddings.token_type_embeddings",
            "norm": "embeddings.LayerNorm",
        },
        layers={
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "output": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "up": "intermediate.dense",
            "down": "output.dense",
            "norm": "output.LayerNorm",
        },
        head={
            "transform": "cls.predictions.transform.dense",
            "norm": "cls.predictions.transform.LayerNorm",
            "decoder": "cls.predictions.decoder",
        },
        decoder_bias=("cls.predictions.bias", "cls.predictions.decoder.bias"),
        sizes=("intermediate_size", "type_vocab_size"),
    ),
    "distilbert": Family(
        prefix="distilbert.",
        layer="transformer.layer.{}.",
        settings={"hidden": "dim", "layers": "n_layers", "heads": "n_heads", "activation": "activation"},
        trunk={
            "words": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "norm": "embeddings.LayerNorm",
        },
        layers={
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "output": "attention.out_lin",
            "attention_norm": "sa_layer_norm",
            "up": "ffn.lin1",
            "down": "ffn.lin2",
            "norm": "output_layer_norm",
        },
        head={"transform": "vocab_transform", "norm": "vocab_layer_norm", "decoder": "vocab_projector"},
        decoder_bias=("vocab_projector.bias",),
        sizes=("hidden_dim", "sinusoidal_pos_embds"),
    ),
}

_SHAPE = ("model_type", "vocab_size", "max_position_embeddings", "layer_norm_eps")
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_GELU_NAMES = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
HIDDEN_ACTIVATIONS = {**_GELU_NAMES, "relu": "relu"}


@dataclass
class Checkpoint(ModelFiles):
    """A model folder of a family that we write, read lazily.

    Attributes:
        folder: where it is.
        config: config.json.
        family: how its model type spells things.
    """

    family: Family = field(repr=False)

    def setting(self, name: str) -> Any:
        """Returns one of the settings in `Family.settings`."""
        key = self.family.settings[name]
        if key not in self.config:
            raise EncoderError(f"{self.folder / 'config.json'} has no {key!r}")
        return self.config[key]

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return int(self.setting("layers"))

    @cached_property
    def activation(self) -> str:
        """The activation inside the layers: "gelu", "gelu_tanh" or "relu"."""
        name = self.setting("activation")
        if name not in HIDDEN_ACTIVATIONS:
            known = ", ".join(HIDDEN_ACTIVATIONS)
            raise UnsupportedModelError(f"{self.folder}: activation {name!r} is not one of {known}; {TORCH_HINT}")
        return HIDDEN_ACTIVATIONS[name]

    @property
    def epsilon(self) -> float:
        """What layer normalisation adds to the variance; distilbert has no setting for it."""
        return float(self.config.get("layer_norm_eps", 1e-12))

    @cached_property
    def raw(self) -> Mapping[str, Any]:
        """Every tensor in the folder as it is, under its own name without the family's prefix."""
        return {_plain(name, self.family.prefix): tensor for name, tensor in _read_tensors(self.folder).items()}

    @cached_property
    def tensors(self) -> Tensors:
        """The model's tensors as float32: "words", "0.query.weight", "head.decoder.bias" and so on."""
        return _named(self.raw, self.family, self.depth, self.folder)

    @property
    def shape(self) -> dict[str, Any]:
        """What config.json says of the model itself: what it is made of, not where it was or what it was trained on."""
        keys = {*self.family.settings.values(), *self.family.sizes, *_SHAPE, JOINT_KEY}
        return {key: value for key, value in sorted(self.config.items()) if key in keys}

    @property
    def has_head(self) -> bool:
        """Whether there is a masked-LM head."""
        return "head.transform.weight" in self.tensors


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Returns the checkpoint in a folder; weights are read when asked for.

    Raises:
        UnsupportedModelError: its model type is not one of `FAMILIES`.
        EncoderError: there is no such folder, or config.json is missing or broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EncoderError(f"{folder} is not a folder: give the folder that holds config.json and model.safetensors")
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UnsupportedModelError(f"{folder}: model type {model_type!r} is not one of {known}; {TORCH_HINT}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UnsupportedModelError(f"{folder}: only absolute position embeddings are supported; {TORCH_HINT}")
    return Checkpoint(folder, config, FAMILIES[model_type])


def is_joint(folder: Path) -> bool:
    """Tells whether a folder holds a joint checkpoint, by its config.json."""
    return JOINT_KEY in read_json(folder / "config.json", {})


def _read_tensors(folder: Path) -> Mapping[str, Any]:
    numpy_api = require("safetensors.numpy", f"reading {folder}")
    index = folder / "model.safetensors.index.json"
    shards = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise UnsupportedModelError(_missing_weights(folder, missing[0]))
    tensors: dict[str, Any] = {}
    for name in shards:
        try:
            tensors.update(numpy_api.load_file(folder / name))
        except Exception as error:  # safetensors raises a type of its own, which is not exported everywhere
            raise EncoderError(f"{folder / name} cannot be read as safetensors: {error}") from error
    return tensors


def _missing_weights(folder: Path, name: str) -> str:
    if (folder / "pytorch_model.bin").is_file():
        return f"{folder} has pytorch_model.bin but no {name}, and plait never unpickles a model itself; {TORCH_HINT}"
    return f"{folder / name} is missing"


def _named(plain: Mapping[str, Any], family: Family, layers: int, folder: Path) -> Tensors:
    import numpy as np

    names = dict(wanted(family, layers))
    found = {ours: plain[theirs] for ours, theirs in names.items() if theirs in plain}
    missing = [theirs for ours, theirs in names.items() if ours not in found and not ours.startswith("head.")]
    if missing:
        raise EncoderError(f"{folder}: the weights have no tensor {missing[0]!r} ({len(missing)} missing)")
    bias = [plain[name] for name in family.decoder_bias if name in plain]
    if bias:
        found["head.decoder.bias"] = bias[0]
    if "head.transform.weight" in found:
        found.setdefault("head.decoder.weight", found["words.weight"])
    return {name: np.asarray(tensor, dtype=np.float32) for name, tensor in found.items()}


def _plain(name: str, prefix: str) -> str:
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return re.sub("^" + re.escape(prefix), "", name)


def wanted(family: Family, layers: int) -> list[tuple[str, str]]:
    """Returns our name and the family's of each tensor of a trunk and of a masked-LM head."""
    trunk = [(f"{ours}.weight", f"{theirs}.weight") for ours, theirs in family.trunk.items()]
    pairs: list[tuple[str, str]] = []
    for number in range(layers):
        start = family.layer.format(number)
        pairs += [(f"{number}.{ours}", start + theirs) for ours, theirs in family.layers.items()]
    pairs += [(f"head.{ours}", theirs) for ours, theirs in family.head.items()]
    both = [(f"{ours}.{part}", f"{theirs}.{part}") for ours, theirs in pairs for part in ("weight", "bias")]
    return [*trunk, ("norm.bias", f"{family.trunk['norm']}.bias"), *both]

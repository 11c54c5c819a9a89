"""Makes a checkpoint of a built model again, so that a training can start from one: the embedded model too.

A build in float32 gives back the very tensors. One in 8 bits gives what its codes stand for, off by up to half a step
of each column or row; built again, its vectors differ from the first build's by about as much as rounding once did.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .bert_onnx import ATTENTION, POSITIONS, attention_bias
from .checkpoint import FAMILIES, JOINT_KEY, Family, wanted
from .contract import EncoderError
from .extras import require
from .graph import HEARD
from .manifest import MANIFEST, MERGED, MODEL, PROJECTION, SCALES, TABLE, TERMS, TOKENIZER, ModelFolder
from .precision import ZERO_POINT, codes_of, kernel, scales_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensors = dict[str, "NDArray[Any]"]


def unbuild(model: ModelFolder, out: Path) -> Path:
    """Writes a Hugging Face folder of a model that `build` wrote, and returns it.

    Args:
        model: what was built, of any head.
        out: the folder to write.

    Raises:
        EncoderError: a file is damaged, or the model was not written by `plait.encoders.build`, or by an older one.
    """
    from safetensors.numpy import save_file

    config = model.manifest.config or {}
    family = FAMILIES.get(config.get("model_type", ""))
    if family is None:
        raise EncoderError(
            f"{model.path / MANIFEST} does not say what the model was made from, as an older plait or another program "
            "wrote it: give the checkpoint itself, or build it again"
        )
    found = _Constants(require("onnx", f"reading {model.path}").load_from_string(model.read(MODEL)))
    tensors = found.trunk(family, config)
    if JOINT_KEY in config:
        tensors |= found.sparse_half(family, config[JOINT_KEY], model) | _query_table(model)
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, out / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    for name, content in _small_files(model, config).items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(content, encoding="utf-8")
    return out


class _Constants:
    """The tensors of an ONNX model by the names that `Trunk` and `joint_graph` give them."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        branches = [attribute.g for node in model.graph.node for attribute in node.attribute if attribute.HasField("g")]
        self.known: Tensors = {
            each.name: numpy_helper.to_array(each) for graph in (model.graph, *branches) for each in graph.initializer
        }

    def table(self, name: str) -> NDArray[np.float32] | None:
        """Returns a table (rows, columns)."""
        if codes_of(name) not in self.known:
            return self.known.get(name)
        codes = self.known[codes_of(name)].astype(np.float32) - ZERO_POINT
        return codes * self.known[scales_of(name)][:, None]

    def weight(self, name: str) -> NDArray[np.float32] | None:
        """Returns a weight (outputs, inputs)."""
        whole = kernel(name)
        if codes_of(whole) not in self.known:
            found = self.known.get(whole)
            return None if found is None else found.T
        return (self.known[codes_of(whole)].astype(np.float32) * self.known[scales_of(whole)]).T

    def tensor(self, name: str) -> NDArray[np.float32] | None:
        """Returns a tensor by the name that `Checkpoint.tensors` or `SparseHalf.tensors` has for it."""
        base, _, part = name.rpartition(".")
        layer, _, which = base.rpartition(".")
        if part == "bias" and which in ATTENTION:
            three = self.known.get(attention_bias(layer))
            return None if three is None else np.split(three, len(ATTENTION))[ATTENTION.index(which)]
        if name in self.known:
            return self.known[name]
        return self.weight(base) if part == "weight" else None

    def trunk(self, family: Family, config: dict[str, Any]) -> Tensors:
        """Returns embeddings, layers and masked-LM head under the family's names."""
        found = {}
        own = {"words.weight": self.table("words"), "positions.weight": self.known.get(POSITIONS)}
        for ours, theirs in wanted(family, int(config[family.settings["layers"]])):
            if ours == "types.weight":  # a text is one segment: the first type is part of the positions
                kinds = int(config.get("type_vocab_size", 2))
                tensor = np.zeros((kinds, int(config[family.settings["hidden"]])), np.float32)
            elif ours == "head.decoder.weight":  # absent where it is the word table
                tensor = self.table(ours)
            else:
                tensor = own[ours] if ours in own else self.tensor(ours)
            if tensor is not None:
                found[family.decoder_bias[0] if ours == "head.decoder.bias" else theirs] = tensor
        return found

    def sparse_half(self, family: Family, settings: dict[str, Any], model: ModelFolder) -> Tensors:
        """Returns the branch, head and own-word weights of a joint model, as `joint_checkpoint` tells."""
        names = {
            f"sparse.{number}.{ours}.{part}": f"sparse.layer.{number}.{theirs}.{part}"
            for number in range(settings["branch_layers"])
            for ours, theirs in family.layers.items()
            for part in ("weight", "bias")
        }
        for name in ("transform.weight", "transform.bias", "norm.weight", "norm.bias", "decoder.bias", "literal.bias"):
            names[f"sparse.{name}"] = f"sparse.{name}"
        found: Tensors = {theirs: tensor for ours, theirs in names.items() if (tensor := self.tensor(ours)) is not None}
        decoder, literal = self.table("sparse.decoder.weight"), self.known.get("sparse.literal.weight")
        found["sparse.decoder.bias"] = found["sparse.decoder.bias"].reshape(-1)
        if decoder is not None:
            found["sparse.decoder.weight"] = decoder
        if literal is not None:
            found["sparse.literal.weight"] = literal[:, 0]
        if TERMS in model.manifest.files:
            found["sparse.terms"] = model.array(TERMS)
        if HEARD in self.known:
            found["sparse.silent"] = np.flatnonzero(self.known[HEARD] == 0).astype(np.int32)
        return found


def _query_table(model: ModelFolder) -> Tensors:
    if TABLE not in model.manifest.files:
        return {}
    found = {"static.table": model.array(TABLE).astype(np.float32) * model.array(SCALES)[:, None]}
    if PROJECTION in model.manifest.files:
        found["static.projection"] = model.array(PROJECTION)
    return found


def _small_files(model: ModelFolder, config: dict[str, Any]) -> dict[str, str]:
    """Returns config.json, the tokenizer, and what sentence-transformers reads, by name."""
    manifest = model.manifest
    files: dict[str, Any] = {
        "config.json": config,
        "sentence_bert_config.json": {"max_seq_length": manifest.max_length, "do_lower_case": False},
    }
    if manifest.head != "learned":
        pooling, _, length_one = manifest.activation.partition("+")
        pooling = pooling.partition(MERGED)[0]
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if length_one else [])]
        files["modules.json"] = [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (path, kind) in enumerate(kinds)
        ]
        mode = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}[pooling]
        files["1_Pooling/config.json"] = {"word_embedding_dimension": manifest.dim, f"pooling_mode_{mode}": True}
    elif manifest.activation.endswith("log1p_log1p"):
        files["1_SpladePooling/config.json"] = {"pooling_strategy": "max", "activation_function": "log1p_relu"}
    if manifest.prompts:
        files["config_sentence_transformers.json"] = {"prompts": manifest.prompts}
    if manifest.idf:
        files["idf.json"] = manifest.idf
    texts = {name: json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1) for name, value in files.items()}
    return {**texts, TOKENIZER: model.read(TOKENIZER).decode("utf-8")}

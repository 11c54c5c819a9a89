"""A trained model as a folder: the base's own files, its weights, and the tensors that the joint format has more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders.build import build
from ..encoders.checkpoint import JOINT_KEY, Checkpoint, is_joint, read_checkpoint
from ..encoders.contract import EncoderError
from ..encoders.joint_checkpoint import NUMBERS, OPTIONS, VERSION
from ..encoders.model_files import read_json
from .errors import TrainError
from .recipe import MERGING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..encoders.manifest import Manifest
    from .model import SparseHead, Trunk
    from .prepare import Base
    from .recipe import Recipe

Tensors = dict[str, "NDArray[Any]"]

CHECKPOINT, MODEL = "checkpoint", "model"
WEIGHTS = "model.safetensors"
# Of a base, what makes its dense half for sentence-transformers and its tokenizer.
COPIED = (
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def write_checkpoint(
    out: str | Path,
    base: Base,
    trunk: Trunk,
    head: SparseHead,
    recipe: Recipe,
    idf: NDArray[np.float32] | None = None,
) -> Path:
    """Writes a joint checkpoint of a trained model, float32, and returns its folder.

    Args:
        out: the folder; one that is there is replaced.
        base: what the training started from.
        trunk: the shared layers and the dense half.
        head: the sparse half.
        recipe: how it was trained.
        idf: float32 (vocabulary,), the weights of query tokens that come with the model; None where the index weighs.
    """
    tensors = {**trunk_tensors(trunk, base.checkpoint), **head_tensors(head, trunk)}
    # A query table meets the dense vectors, which are the same where the trunk is.
    if base.checkpoint.config.get(JOINT_KEY) is not None and recipe.trunk == "frozen":
        tensors |= {name: base.checkpoint.raw[name] for name in base.checkpoint.raw if name.startswith("static.")}
    config = {
        **base.checkpoint.config,
        JOINT_KEY: _settings(recipe, base.checkpoint),
        "architectures": [type(trunk.model).__name__],
    }
    config.pop("torch_dtype", None)
    weights = None if idf is None else _by_token(idf, base)
    return _write(Path(out), base.checkpoint, {**config, "dtype": "float32"}, tensors, weights)


def write_lean(out: str | Path, base: Base, trunk: Trunk, head: SparseHead, recipe: Recipe) -> Path:
    """Writes a joint checkpoint that is its base with other weights and merging tokens, and returns its folder.

    A query table stays: the vectors that it is for were held.

    Args:
        out: the folder; one that is there is replaced.
        base: a joint model.
        trunk: the shared layers and the dense half.
        head: the sparse half.
        recipe: how it was trained.
    """
    checkpoint = base.checkpoint
    tensors = {**checkpoint.raw, **trunk_tensors(trunk, checkpoint), **head_tensors(head, trunk)}
    settings = {**checkpoint.config[JOINT_KEY], **merging(recipe, checkpoint)}
    return _write(Path(out), checkpoint, {**checkpoint.config, JOINT_KEY: settings}, tensors, _own_weights(checkpoint))


def merging(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    """Returns what config.json says of equal tokens that merge: as the recipe or else its base has it; {}: none does.

    Vectors that the base gives merged are given by its trunk no other way; a trunk that was tuned learned without.
    """
    theirs = checkpoint.config.get(JOINT_KEY) or {}
    if recipe.full_layers < 0 and recipe.trunk == "frozen" and recipe.pooling == "max":
        return {key: theirs[key] for key in MERGING if key in theirs}
    return {key: getattr(recipe, key) for key in MERGING} if recipe.full_layers > 0 else {}


def _settings(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    """Returns what config.json says of the sparse half; what is usual is not said."""
    activation = recipe.activation if recipe.pooling == "max" else "log1p"  # a sum of log1p has no other
    options = {"gelu": recipe.gelu, "pooling": recipe.pooling, "queries": recipe.query_side}
    unusual: dict[str, Any] = {key: value for key, value in options.items() if value != OPTIONS[key][0]}
    numbers = {key: (getattr(recipe, key), usual) for key, (usual, *_) in NUMBERS.items() if key not in MERGING}
    unusual |= {key: value for key, (value, usual) in numbers.items() if value != usual}
    return {
        "version": VERSION,
        "branch_layers": recipe.branch,
        "activation": activation,
        "max_length": recipe.encoder_length,
        "literal": recipe.literal,
        **unusual,
        **merging(recipe, checkpoint),
    }


def trunk_tensors(trunk: Trunk, checkpoint: Checkpoint) -> Tensors:
    """Returns the tensors of the shared layers and the dense half, as far as the base has them."""
    held = {name: _array(tensor) for name, tensor in trunk.model.state_dict().items()}
    return {name: tensor for name, tensor in held.items() if name in checkpoint.raw}


def head_tensors(head: SparseHead, trunk: Trunk) -> Tensors:
    """Returns the tensors of the sparse half under the names that `encoders.joint_checkpoint` gives them."""
    found = {f"sparse.layer.{name}": _array(tensor) for name, tensor in head.layers.state_dict().items()}
    for part in ("transform", "norm"):
        module = getattr(head, part)
        found |= {f"sparse.{part}.weight": _array(module.weight), f"sparse.{part}.bias": _array(module.bias)}
    found["sparse.decoder.bias"] = _array(head.bias)
    if head.decoder is not None or head.terms is not None:  # else the decoder is the word table
        found["sparse.decoder.weight"] = _array(head.table(trunk.words))
    if head.terms is not None:
        found["sparse.terms"] = _array(head.terms).astype(np.int32)
    if head.literal is not None and head.literal_bias is not None:
        found["sparse.literal.weight"] = _array(head.literal.weight)[0]
        found["sparse.literal.bias"] = _array(head.literal_bias)
    return found


def _array(tensor: Any) -> NDArray[Any]:
    held = tensor.detach().cpu()
    return np.array((held.float() if held.is_floating_point() else held).numpy())


def _by_token(idf: NDArray[np.float32], base: Base) -> dict[str, float]:
    named = ((base.tokenizer.id_to_token(number), float(weight)) for number, weight in enumerate(idf))
    return {token: round(weight, 6) for token, weight in named if token is not None and weight > 0}


def write_table(out: str | Path, base: Base, table: NDArray[np.float32], projection: Any) -> Path:
    """Writes a checkpoint that is the base with a static query table, and returns its folder.

    Args:
        out: the folder; one that is there is replaced.
        base: a dense model, or a joint one.
        table: float32 (vocabulary, d).
        projection: float32 (d, hidden); None where d is hidden.
    """
    checkpoint = base.checkpoint
    raw = {name: tensor for name, tensor in checkpoint.raw.items() if not name.startswith("static.")}
    tensors = {**raw, **_table_tensors(table, projection, checkpoint)}
    return _write(Path(out), checkpoint, checkpoint.config, tensors, _own_weights(checkpoint))


def _own_weights(checkpoint: Checkpoint) -> dict[str, float] | None:
    """Returns the weights of query tokens that come with a joint model; None where the index weighs."""
    return (read_json(checkpoint.folder / "idf.json", {}) or None) if is_joint(checkpoint.folder) else None


def with_query_table(folder: str | Path, table: NDArray[np.float32], projection: Any = None) -> Path:
    """Puts a static query table into a checkpoint folder, in place of one that is there; returns the folder.

    Args:
        folder: a checkpoint of the BERT family, joint or dense.
        table: float32 (vocabulary, d).
        projection: float32 (d, hidden); None where d is hidden.

    Raises:
        TrainError: the folder holds no checkpoint, or the shapes do not fit it.
    """
    try:
        checkpoint = read_checkpoint(folder)
        return rewritten(folder, _table_tensors(table, projection, checkpoint), without="static.")
    except EncoderError as error:
        raise TrainError(f"a query table cannot be put into {folder}: {error}") from error


def rewritten(folder: str | Path, tensors: Tensors, *, without: str | None = None) -> Path:
    """Puts tensors into a checkpoint folder, in place of those of their names; returns the folder.

    Args:
        folder: a checkpoint.
        tensors: by name.
        without: what the names of others begin with that go.
    """
    from safetensors.numpy import save_file

    checkpoint = read_checkpoint(folder)
    kept = {name: held for name, held in checkpoint.raw.items() if without is None or not name.startswith(without)}
    scratch = checkpoint.folder / f".{WEIGHTS}"
    whole = {name: np.ascontiguousarray(held) for name, held in {**kept, **tensors}.items()}
    save_file(whole, scratch, metadata={"format": "pt"})
    scratch.replace(checkpoint.folder / WEIGHTS)
    return checkpoint.folder


def _table_tensors(table: Any, projection: Any, checkpoint: Checkpoint) -> Tensors:
    vocabulary, hidden = checkpoint.tensors["words.weight"].shape
    table = np.ascontiguousarray(table, np.float32)
    if table.ndim != 2 or len(table) != vocabulary:
        raise TrainError(f"the query table is {table.shape}, expected ({vocabulary}, d), a row for each token id")
    if projection is None:
        if table.shape[1] != hidden:
            expected = f"({vocabulary}, {hidden})"
            raise TrainError(f"the query table is {table.shape}: without a projection, expected {expected}")
        return {"static.table": table}
    projection = np.ascontiguousarray(projection, np.float32)
    if projection.shape != (table.shape[1], hidden):
        raise TrainError(f"the projection is {projection.shape}, expected ({table.shape[1]}, {hidden})")
    return {"static.table": table, "static.projection": projection}


def _write(
    out: Path, checkpoint: Checkpoint, config: Mapping[str, Any], tensors: Tensors, idf: Mapping[str, float] | None
) -> Path:
    """Writes a checkpoint folder beside `out` and then puts it there."""
    from safetensors.numpy import save_file

    scratch = out.with_name(f".{out.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    _copy(checkpoint.folder, scratch)
    (scratch / "tokenizer.json").write_text(checkpoint.tokenizer_json, encoding="utf-8")
    (scratch / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if idf is not None:
        (scratch / "idf.json").write_text(json.dumps(idf, ensure_ascii=False) + "\n", encoding="utf-8")
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}
    save_file(whole, scratch / WEIGHTS, metadata={"format": "pt"})
    shutil.rmtree(out, ignore_errors=True)
    scratch.replace(out)
    return out


def _copy(folder: Path, out: Path) -> None:
    """Copies the base's small files; a module without files, as Normalize is one, still has its folder."""
    for name in COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    for path in sorted(folder.glob("*_*/config.json")):
        (out / path.parent.name).mkdir(exist_ok=True)
        shutil.copyfile(path, out / path.parent.name / path.name)
    for module in read_json(folder / "modules.json", []):
        if module.get("path"):
            (out / module["path"]).mkdir(exist_ok=True)


def build_model(checkpoint: str | Path, out: str | Path, *, name: str, precision: str = "int8") -> Manifest:
    """Builds the ONNX model of an exported checkpoint and returns its manifest.

    Raises:
        TrainError: it cannot be built; the message says why.
    """
    try:
        head = "joint" if is_joint(Path(checkpoint)) else "dense"
        return build(checkpoint, out, head=head, precision=precision, name=name)
    except EncoderError as error:
        raise TrainError(f"the trained model cannot be built as ONNX: {error}") from error

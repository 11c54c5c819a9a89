"""Encoders by name: embedded models, local folders, hub names."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contract import DenseEncoder, EncoderError, SparseEncoder
from .extras import require
from .manifest import FORMAT, ModelFolder, is_built, open_folder, sha256

EMBEDDED = "embedded"
MODELS = Path(__file__).parent / "models"
EMBEDDED_MODELS = {"dense": "minilm-l6", "learned": "splade-tiny"}
HUB_FILES = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class _Kind:
    """What is different between the two heads: the ONNX encoder, and the torch one for what we cannot build."""

    head: str
    onnx: Callable[..., Any]
    torch: Callable[..., Any]


def _onnx_dense(folder: ModelFolder, **options: Any) -> DenseEncoder:
    from .dense import OnnxDenseEncoder

    return OnnxDenseEncoder(folder, **options)


def _onnx_learned(folder: ModelFolder, **options: Any) -> SparseEncoder:
    from .learned import OnnxSparseEncoder

    return OnnxSparseEncoder(folder, **options)


def _torch_dense(folder: Path, **options: Any) -> DenseEncoder:
    from .torch_models import TorchDenseEncoder

    return TorchDenseEncoder(folder, **options)


def _torch_learned(folder: Path, **options: Any) -> SparseEncoder:
    from .torch_models import TorchSparseEncoder

    return TorchSparseEncoder(folder, **options)


_DENSE = _Kind("dense", _onnx_dense, _torch_dense)
_LEARNED = _Kind("learned", _onnx_learned, _torch_learned)


def load_dense(
    name: str | Path = EMBEDDED,
    *,
    max_length: int | None = None,
    threads: int | None = None,
    token_budget: int | None = None,
    precision: str | None = None,
) -> DenseEncoder:
    """Returns a dense encoder.

    Args:
        name: "embedded", a folder (one that `build` wrote, or a Hugging Face folder), or a hub name such as
            "sentence-transformers/all-MiniLM-L6-v2".
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it cannot be opened.
    """
    return _load(_DENSE, name, precision, max_length=max_length, threads=threads, token_budget=token_budget)


def load_learned(
    name: str | Path = EMBEDDED,
    *,
    max_length: int | None = None,
    threads: int | None = None,
    token_budget: int | None = None,
    precision: str | None = None,
) -> SparseEncoder:
    """Returns a learned sparse encoder, inference-free on the query side.

    Args:
        name: "embedded", a folder (one that `build` wrote, or a Hugging Face folder with a masked-LM head), or a hub
            name such as "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill".
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it cannot be opened.
    """
    return _load(_LEARNED, name, precision, max_length=max_length, threads=threads, token_budget=token_budget)


def _load(kind: _Kind, name: str | Path, precision: str | None, **options: Any) -> Any:
    folder = find_folder(str(name), kind.head)
    name = f"{EMBEDDED}/{folder.name}" if is_embedded(str(name)) else str(name)
    options = {key: value for key, value in options.items() if value is not None}
    if is_built(folder):
        return kind.onnx(_opened(folder, kind.head, precision), name=name, **options)
    from .checkpoint import UnsupportedModelError

    try:
        built = built_folder(folder, kind.head, precision or "int8")
    except UnsupportedModelError as error:
        return _through_torch(kind, folder, name, error, options)
    return kind.onnx(open_folder(built, kind.head), name=name, **options)


def _opened(folder: Path, head: str, precision: str | None) -> ModelFolder:
    opened = open_folder(folder, head)
    if precision not in (None, opened.manifest.precision):
        raise EncoderError(
            f"{folder} is built as {opened.manifest.precision}, {precision} was asked for: give the original checkpoint"
        )
    return opened


def _through_torch(kind: _Kind, folder: Path, name: str, error: EncoderError, options: dict[str, Any]) -> Any:
    try:
        return kind.torch(folder, name=name, **options)
    except EncoderError as second:
        raise EncoderError(f"{error}. But {second}") from second


def is_embedded(name: str) -> bool:
    """Returns whether a name is that of a model that comes with plait."""
    return name == EMBEDDED or name.removeprefix(f"{EMBEDDED}/") in EMBEDDED_MODELS.values()


def find_folder(name: str, head: str) -> Path:
    """Returns the folder of a named model, fetched from the hub if it must be.

    Raises:
        EncoderError: there is no such model, or the hub cannot be reached.
    """
    embedded = [EMBEDDED, *EMBEDDED_MODELS.values()]
    if is_embedded(name):
        return MODELS / (EMBEDDED_MODELS[head] if name == EMBEDDED else name.removeprefix(f"{EMBEDDED}/"))
    if name and Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise EncoderError(
            f"no encoder {name!r}: it is neither {' nor '.join(repr(one) for one in embedded)}, nor a folder that "
            'exists, nor a hub name ("owner/model")'
        )
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    hub = require("huggingface_hub", f"fetching {name!r}")
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=HUB_FILES))
        if not any(folder.glob("*.safetensors")):  # sentence-transformers may still read what it has
            hub.snapshot_download(name, allow_patterns="*.bin")
        return folder
    except Exception as error:  # network, permission, no such repository: the hub's own types, and httpx's
        reason = str(error).strip().splitlines()
        raise EncoderError(
            f"{name!r} is no folder here and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}: {reason[0] if reason else 'no reason given'}): check the name and the network, "
            f"give the path of a folder, or use {EMBEDDED!r}"
        ) from error


def cache_folder() -> Path:
    """Returns the folder for built models: $PLAIT_CACHE, or "plait" in the user's cache folder."""
    if os.environ.get("PLAIT_CACHE"):
        return Path(os.environ["PLAIT_CACHE"])
    defaults = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}
    variable, fallback = defaults.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    return Path(os.environ.get(variable) or Path.home() / fallback) / "plait"


def built_folder(folder: Path, head: str, precision: str) -> Path:
    """Returns the ONNX build of a Hugging Face folder, from the cache or built into it.

    Raises:
        EncoderError: the checkpoint is missing something, is broken, or is not of a kind that we write.
    """
    from .build import build, source_hashes

    parts = [FORMAT, head, precision, source_hashes(folder), _settings(folder)]
    key = sha256(json.dumps(parts, sort_keys=True).encode())[:24]
    target = cache_folder() / "models" / key
    if is_built(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as scratch:
        built = Path(scratch) / "model"
        build(folder, built, head=head, precision=precision)
        _move(built, target)
    return target


def _settings(folder: Path) -> dict[str, str]:
    """Returns the small files beside the weights that change what is built, by their hash."""
    found = [*folder.glob("*.json"), *folder.glob("*_*/config.json")]
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in sorted(found)}


def _move(built: Path, target: Path) -> None:
    try:
        built.rename(target)
    except OSError:
        if not is_built(target):  # else another process was first, with the same bytes
            raise

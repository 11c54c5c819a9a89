"""Encoders by name: embedded models, local folders, hub names."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from .checkpoint import UnsupportedModelError, is_joint
from .contract import QUERIES, STATIC, TRANSFORMER, DenseEncoder, EncoderError, SparseEncoder, no_table
from .extras import require
from .manifest import FORMAT, JOINT, TABLE, ModelFolder, checked_length, is_built, open_folder, sha256

if TYPE_CHECKING:
    from .joint import OnnxJointEncoder

EMBEDDED = "embedded"
MODELS = Path(__file__).parent / "models"
# What "embedded" stands for, by strand; and the names that stand for a model with its static queries.
EMBEDDED_MODELS = {"dense": "plait-mini", "learned": "plait-mini"}
STATIC_NAMES = {"plait-mini-static": "plait-mini"}
HUB_FILES = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class _Kind:
    """What is different between the strands: the ONNX encoder, a joint one's face, torch for what we cannot build."""

    head: str
    onnx: Callable[..., Any]
    face: Callable[..., Any]
    torch: Callable[..., Any]


def _onnx_dense(folder: ModelFolder, **options: Any) -> DenseEncoder:
    from .dense import OnnxDenseEncoder

    return OnnxDenseEncoder(folder, **options)


def _onnx_learned(folder: ModelFolder, **options: Any) -> SparseEncoder:
    from .learned import OnnxSparseEncoder

    return OnnxSparseEncoder(folder, **options)


def _dense_face(joint: OnnxJointEncoder, name: str, queries: str) -> DenseEncoder:
    from .joint import JointDense

    return JointDense(joint, queries=queries, name=name)


def _learned_face(joint: OnnxJointEncoder, name: str, queries: str) -> SparseEncoder:
    from .joint import JointLearned

    del queries
    return JointLearned(joint, name=name)


def _torch_dense(folder: Path, **options: Any) -> DenseEncoder:
    from .torch_models import TorchDenseEncoder

    return TorchDenseEncoder(folder, **options)


def _torch_learned(folder: Path, **options: Any) -> SparseEncoder:
    from .torch_models import TorchSparseEncoder

    return TorchSparseEncoder(folder, **options)


_DENSE = _Kind("dense", _onnx_dense, _dense_face, _torch_dense)
_LEARNED = _Kind("learned", _onnx_learned, _learned_face, _torch_learned)


def load_dense(
    name: str | Path = EMBEDDED,
    *,
    queries: str | None = None,
    max_length: int | None = None,
    threads: int | None = None,
    token_budget: int | None = None,
    precision: str | None = None,
) -> DenseEncoder:
    """Returns a dense encoder.

    Args:
        name: "embedded", a folder (one that `build` wrote, or a Hugging Face folder), or a hub name such as
            "sentence-transformers/all-MiniLM-L6-v2".
        queries: "transformer", or "static" for the query table of a joint model; where None, what the name says, and
            "transformer" where it says nothing. Document vectors are the same.
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it cannot be opened, or it has no such queries.
    """
    options = {"max_length": max_length, "threads": threads, "token_budget": token_budget}
    return _load(_DENSE, str(name), precision, options, _chosen_queries(str(name), queries))


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
        name: "embedded", a folder (one that `build` wrote, or a Hugging Face folder with a masked-LM head or of a joint
            model), or a hub name such as "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill".
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it cannot be opened.
    """
    options = {"max_length": max_length, "threads": threads, "token_budget": token_budget}
    _refuse_static(str(name), "load_learned")
    return _load(_LEARNED, str(name), precision, options)


def load_joint(
    name: str | Path = EMBEDDED,
    *,
    max_length: int | None = None,
    threads: int | None = None,
    token_budget: int | None = None,
    precision: str | None = None,
) -> OnnxJointEncoder:
    """Returns a joint encoder: both strands of a document in one forward pass.

    It is the one behind what `load_dense` and `load_learned` return for the same model and options, as long as any of
    them is in use: they share one onnxruntime session.

    Args:
        name: "embedded", a folder (one that `build` wrote, or a joint checkpoint), or a hub name.
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it is no joint one, or it cannot be opened.
    """
    options = {"max_length": max_length, "threads": threads, "token_budget": token_budget}
    _refuse_static(str(name), "load_joint")
    folder = find_folder(str(name), JOINT)
    return _shared(_built(folder, JOINT, precision), _full_name(str(name), folder), options)


def _load(
    kind: _Kind, name: str, precision: str | None, options: dict[str, Any], queries: str = TRANSFORMER
) -> Any:  # fmt: skip
    folder = find_folder(name, kind.head)
    full_name = _full_name(name, folder)
    given = {key: value for key, value in options.items() if value is not None}
    try:
        built = _built(folder, kind.head, precision)
    except UnsupportedModelError as error:
        _refuse_table(queries, name)
        return _through_torch(kind, folder, full_name, error, given)
    if built.manifest.head == JOINT:
        joint = _shared(built, _full_name(STATIC_NAMES.get(_plain(name), name), folder), options)
        return kind.face(joint, full_name, queries)
    if queries == STATIC and TABLE in built.manifest.files:
        return kind.onnx(built, name=full_name, queries=queries, **given)
    _refuse_table(queries, name)
    return kind.onnx(built, name=full_name, **given)


def _built(folder: Path, head: str, precision: str | None) -> ModelFolder:
    """Returns the built model in a folder, or the build of the checkpoint in it."""
    if is_built(folder):
        return _opened(folder, head, precision)
    head = JOINT if is_joint(folder) else head
    return open_folder(built_folder(folder, head, precision or "int8"), head)


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


_joints: WeakValueDictionary[tuple[Any, ...], OnnxJointEncoder] = WeakValueDictionary()
_joining = threading.Lock()


def _shared(folder: ModelFolder, name: str, options: dict[str, Any]) -> OnnxJointEncoder:
    """Returns the joint encoder over a folder with some options: one, while it is in use."""
    from .joint import OnnxJointEncoder

    length = checked_length(options["max_length"], folder.manifest)
    given = {key: value for key, value in options.items() if value is not None}
    rest = tuple((key, value) for key, value in given.items() if key != "max_length")
    key = (folder.path.resolve(), folder.manifest.to_text(), length, *rest)
    with _joining:
        found = _joints.get(key)
        if found is None:
            found = _joints[key] = OnnxJointEncoder(folder, name=name, **given)
        return found


def _chosen_queries(name: str, queries: str | None) -> str:
    says_static = _plain(name) in STATIC_NAMES
    if says_static and queries == TRANSFORMER:
        other = STATIC_NAMES[_plain(name)]
        raise EncoderError(f"{name!r} is the name for static queries: use {other!r} with queries={TRANSFORMER!r}")
    chosen = queries or (STATIC if says_static else TRANSFORMER)
    if chosen not in QUERIES:
        raise EncoderError(f"queries {queries!r} is not one of {', '.join(QUERIES)}")
    return chosen


def _refuse_static(name: str, asked: str) -> None:
    if _plain(name) in STATIC_NAMES:
        raise EncoderError(f"{name!r} is a name for load_dense alone: give {asked} {STATIC_NAMES[_plain(name)]!r}")


def _refuse_table(queries: str, name: str) -> None:
    if queries == STATIC:
        raise EncoderError(no_table(name))


def _plain(name: str) -> str:
    return name.removeprefix(f"{EMBEDDED}/")


def _full_name(name: str, folder: Path) -> str:
    """Returns what an identity calls a model: what was asked for, and where it is from for an embedded one."""
    if not is_embedded(name):
        return name
    return f"{EMBEDDED}/{_plain(name) if _plain(name) in STATIC_NAMES else folder.name}"


def is_embedded(name: str) -> bool:
    """Returns whether a name is that of a model that comes with plait."""
    return name == EMBEDDED or _plain(name) in (*EMBEDDED_MODELS.values(), *STATIC_NAMES)


def find_folder(name: str, head: str) -> Path:
    """Returns the folder of a named model, fetched from the hub if it must be.

    Raises:
        EncoderError: there is no such model, or the hub cannot be reached.
    """
    if name == EMBEDDED:
        return MODELS / EMBEDDED_MODELS["dense" if head == JOINT else head]
    if is_embedded(name):
        return MODELS / STATIC_NAMES.get(_plain(name), _plain(name))
    if name and Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        embedded = dict.fromkeys([EMBEDDED, *EMBEDDED_MODELS.values(), *STATIC_NAMES])
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

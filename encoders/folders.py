"""Where models lie: those that come with plait, folders, the hub, and the cache of those that were built on the way."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .contract import EncoderError
from .extras import require
from .manifest import FORMAT, JOINT, MANIFEST, ModelFolder, is_built, open_folder, sha256
from .model_files import read_json

if TYPE_CHECKING:
    from .families.reading import Source

EMBEDDED = "embedded"
MODELS = Path(__file__).parent / "models"
# What "embedded" stands for, by strand; and the names that stand for a model with its static queries.
EMBEDDED_MODELS = {"dense": "plait-mini", "learned": "plait-mini"}
STATIC_NAMES = {"plait-mini-static": "plait-mini"}
_SHOWN = 120  # characters of a name in an error
HUB_FILES = ["*.json", "*.txt", "*.safetensors", "*.model", "*.py", "sparse_linear.pt"]  # code is run on wish only


def plain_name(name: str) -> str:
    """Returns a name without the "embedded/" that may stand before it."""
    return name.removeprefix(f"{EMBEDDED}/")


def is_embedded(name: str) -> bool:
    """Returns whether a name is that of a model that comes with plait."""
    return name == EMBEDDED or plain_name(name) in (*EMBEDDED_MODELS.values(), *STATIC_NAMES)


def checked_name(name: object) -> str:
    """Returns a model's name, or raises an `EncoderError` where it is no text."""
    if not isinstance(name, str):
        raise EncoderError(
            f"a model is named by a text or the path of a folder, not by an object of the class {type(name).__name__}"
        )
    return name


def shown(name: str) -> str:
    """Returns a name in quotation marks, shortened where nobody would read all of it."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def is_folder(name: str) -> bool:
    """Returns whether a name is that of a folder that exists; what the system takes for no path is none."""
    try:
        return bool(name) and Path(name).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a home of nobody
        return False


def find_folder(name: str, head: str, revision: str | None = None) -> Path:
    """Returns the folder of a named model, fetched from the hub if it must be, there at a revision if one is given.

    Raises:
        EncoderError: there is no such model, or the hub cannot be reached.
    """
    here = is_embedded(name) or is_folder(name)
    if here and revision is not None:
        raise EncoderError(f"revision={revision} is for models of the hub; {name!r} is here, in one revision")
    if name == EMBEDDED:
        return MODELS / EMBEDDED_MODELS["dense" if head == JOINT else head]
    if is_embedded(name):
        return MODELS / STATIC_NAMES.get(plain_name(name), plain_name(name))
    if here:
        return Path(name).expanduser()
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        embedded = dict.fromkeys([EMBEDDED, *EMBEDDED_MODELS.values(), *STATIC_NAMES])
        raise EncoderError(
            f"no encoder {shown(name)}: it is neither {' nor '.join(repr(one) for one in embedded)}, nor a folder that "
            'exists, nor a hub name ("owner/model")'
        )
    return _from_hub(name, revision)


def _from_hub(name: str, revision: str | None) -> Path:
    hub = require("huggingface_hub", f"fetching {name!r}")
    try:
        folder = Path(hub.snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
        if not any(folder.rglob("*.safetensors")):  # torch may still read what it has
            hub.snapshot_download(name, revision=revision, allow_patterns="*.bin")
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


def unbuilt_folder(folder: Path) -> Path:
    """Returns a checkpoint of a model that `build` wrote, from the cache or made into it; see `plait.encoders.unbuild`.

    Raises:
        EncoderError: the model is damaged, or none that a checkpoint can be made of.
    """
    from .unbuild import unbuild

    model = open_folder(folder, str(read_json(folder / MANIFEST).get("head")))
    key = sha256(f"{FORMAT} {model.manifest.to_text()}".encode())[:24]
    target = cache_folder() / "bases" / key / (Path(model.manifest.name).name or "model")
    if not _is_checkpoint(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as scratch:
            _move(unbuild(model, Path(scratch) / "base"), target, _is_checkpoint)
    return target


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def exported_folder(source: Source, precision: str) -> ModelFolder:
    """Returns the ONNX model of a checkpoint of any family, from the cache or built into it.

    Raises:
        UnsupportedModelError: plait's own writer does not know the model, and torch, which would export it, is missing.
        EncoderError: the checkpoint is missing something, is broken, or cannot be exported.
    """
    from .families.export import export
    from .families.opening import weights_hash
    from .families.reading import recipe_hash

    parts = [FORMAT, precision, _settings(source.folder), weights_hash(source), recipe_hash(source.recipe)]
    target = cache_folder() / "models" / sha256(json.dumps(parts, sort_keys=True).encode())[:24]
    if not is_built(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as scratch:
            built = Path(scratch) / "model"
            export(source, built, precision=precision)
            _move(built, target)
    return open_folder(target, json.loads((target / MANIFEST).read_text("utf-8"))["head"])


def _settings(folder: Path) -> dict[str, str]:
    """Returns the small files beside the weights that change what is built, by their hash."""
    found = [*folder.glob("*.json"), *folder.glob("*_*/*.json")]
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in sorted(found)}


def _move(built: Path, target: Path, there: Callable[[Path], bool] = is_built) -> None:
    try:
        built.rename(target)
    except OSError:
        if not there(target):  # else another process was first, with the same bytes
            raise

"""Files that survive a crash, and that say so when they did not."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import FORMAT, CorruptError, StoreError

MANIFEST = "manifest.json"
_CHUNK = 1 << 22


def sync_folder(folder: Path) -> None:
    """Makes a folder's entries durable (a no-op where folders cannot be synced)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Makes a file's contents durable."""
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def checksum(path: Path) -> str:
    """Returns a file's CRC-32 as eight hex digits."""
    value = 0
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Writes an array as .npy; it is never pickled."""
    with path.open("wb") as handle:
        np.lib.format.write_array(handle, np.ascontiguousarray(values), allow_pickle=False)


def read_array(path: Path) -> NDArray[Any]:
    """Returns a .npy array, mapped read-only."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise CorruptError(f"{path} cannot be read as an array: {error}") from error


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> str:
    """Writes the manifest of a folder's files, with sizes and checksums, syncs all, returns its CRC-32."""
    files = sorted(p for p in folder.iterdir() if p.name != MANIFEST)
    for path in files:
        sync_file(path)
    table = {p.name: {"bytes": p.stat().st_size, "crc32": checksum(p)} for p in files}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, **facts, "files": table}, indent=1) + "\n", encoding="utf-8")
    sync_file(manifest)
    sync_folder(folder)
    return checksum(manifest)


def read_manifest(folder: Path, expected: str) -> dict[str, Any]:
    """Returns a folder's manifest after checking it, and the sizes of the files it names."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CorruptError(f"{path} is missing: the index has lost a segment; restore it from a copy or index again")
    if checksum(path) != expected:
        raise CorruptError(f"{path} does not match the checksum in plait.db")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise StoreError(f"{path} has format {manifest['format']}; this plait reads format {FORMAT}")
    for name, facts in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise CorruptError(f"{file} is missing")
        if (size := file.stat().st_size) != facts["bytes"]:
            raise CorruptError(f"{file} is {size} bytes long; {facts['bytes']} were written")
    return manifest


def verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Reads every file that a manifest names and compares its checksum."""
    for name, facts in manifest["files"].items():
        if (found := checksum(folder / name)) != facts["crc32"]:
            raise CorruptError(f"{folder / name} has checksum {found}; {facts['crc32']} was written: it was changed")

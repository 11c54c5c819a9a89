"""Files that survive a crash, and that say so when they did not."""

from __future__ import annotations

import json
import math
import os
import shutil
import tokenize
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .contract import FORMAT, CorruptError, StoreError

try:
    import fcntl
except ImportError:  # Windows: a file that somebody has open cannot be removed, which is all that is asked here
    fcntl = None

MANIFEST = "manifest.json"
READ_BYTES = 1 << 20  # arrays up to this size are read instead of mapped: an index of many segments has many files
_CHUNK = 1 << 22
# What numpy makes of a damaged .npy file; its header is a Python expression, and its shape may be of any size.
_UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError, TypeError, MemoryError, OverflowError)


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
    values = np.ascontiguousarray(values)
    with Growing(path, values.shape, values.dtype) as growing:
        growing.append(values)


class Growing:
    """An .npy file that is written a part at a time, and whose shape is known from the start.

    Python writes it: numpy's `tofile`, as FAISS, says nothing where the disk has no room for the last few bytes.

    Args:
        path: the file.
        shape: of the whole array.
        dtype: of its values.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._missing = math.prod(shape)
        self._handle = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._handle, header)

    def append(self, values: NDArray[Any]) -> None:
        """Appends rows."""
        self._missing -= values.size
        self._handle.write(np.ascontiguousarray(values, self.dtype).data)

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._handle.close()
        if kind is None and self._missing:
            raise ValueError(f"{self._missing} values were announced and not written")


def read_array(path: Path, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Returns a .npy array, read-only; a large one is mapped, which keeps a file open for as long.

    Args:
        path: the file.
        dtype: of its values, where it is known.

    Raises:
        CorruptError: it cannot be read, or holds values of another type.
    """
    try:
        mode = "r" if path.stat().st_size > READ_BYTES else None
        found = read_only(np.load(path, mmap_mode=mode, allow_pickle=False))
    except _UNREADABLE as error:
        raise CorruptError(f"{path} cannot be read as an array: {error}") from error
    if dtype is not None and found.dtype != dtype:
        raise CorruptError(f"{path} holds values of the type {found.dtype}; {np.dtype(dtype)} were written")
    return found


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Returns a plain view that cannot be written through: one type for the kernels, wherever an array comes from."""
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


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


def hold(folder: Path) -> int:
    """Returns a file descriptor; as long as it is open, nobody removes the folder. The end of a process closes it.

    Raises:
        CorruptError: the folder has no manifest, or is being removed.
    """
    path = folder / MANIFEST
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as error:
        raise _missing(path) from error
    if fcntl is None:
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise _missing(path) from error
    except OSError:
        pass  # a file system without locks: there no writer gets one either, and nothing is ever removed
    return handle


def remove_unused(folder: Path) -> bool:
    """Removes a folder unless somebody holds it; returns whether it is gone."""
    manifest = folder / MANIFEST
    handle = -1
    try:
        if manifest.exists():
            handle = _only_holder(manifest)
            manifest.unlink()  # first, so that nobody takes hold of what is half removed
        shutil.rmtree(folder)
    except OSError:
        return not folder.exists()
    finally:
        if handle >= 0:
            os.close(handle)
    return True


def _only_holder(path: Path) -> int:
    """Returns a descriptor that locks everybody else out, where the system has such locks (else -1).

    Raises:
        OSError: somebody holds the file.
    """
    if fcntl is None:
        return -1
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _missing(path: Path) -> CorruptError:
    return CorruptError(f"{path} is missing: the index has lost a segment; restore it from a copy or index again")


def read_manifest(folder: Path, expected: str) -> dict[str, Any]:
    """Returns a folder's manifest after checking it, and the sizes of the files it names."""
    path = folder / MANIFEST
    if not path.is_file():
        raise _missing(path)
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

"""Making and opening an index folder."""

from __future__ import annotations

import contextlib
import glob
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import attributes, database, files
from .ann import check_spec
from .contract import Layout, StoreError
from .dense import QUERIES
from .fields import shown

LARGEST = float(np.finfo(np.float32).max)
MOST_DIMENSIONS = 1 << 20
BOUNDS = {"b": 1.0}  # of BM25's length normalisation
LEFT_SECONDS = 3600  # nobody takes so long to make an empty index


def create(
    folder: Path,
    layout: Layout,
    settings: Mapping[str, Any],
    fields: Mapping[str, str] | None = None,
    *,
    queries: NDArray[np.float32] | None = None,
) -> None:
    """Makes an empty index.

    Args:
        folder: where; it must not exist yet, or be empty.
        layout: how impacts and vectors are laid out.
        settings: anything else to remember, as JSON values.
        fields: the types of declared columns, by name (see `Writer.declare`).
        queries: float32 (m, dim), dense vectors of queries like those to come; large segments are tuned to them.

    Raises:
        StoreError: there is something already, the folder cannot be written, or a field cannot be declared.
    """
    if fields is not None and not isinstance(fields, Mapping):
        raise StoreError(f"fields are names with types, as {{'year': 'integer'}}, not {shown(fields)}")
    if (folder / database.NAME).exists():
        raise StoreError(f"there is an index at {folder} already; open it, or choose another name")
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; choose another name for the index, which is a folder")
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} exists and is not empty; choose another name for the index")
    _check_numbers(layout)
    check_spec(layout.dense_index, layout.dim)
    if queries is not None:
        queries = _samples(queries, layout.dim)
    with database.explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made aside and renamed: a crash leaves either no index or a whole one.
        prefix = f".{folder.name}.plait-"
        _tidy(folder.parent, prefix)
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        try:
            kept = {**settings, "layout": asdict(layout), "made": secrets.token_hex(8)}
            if queries is not None and len(queries):
                files.write_array(made / QUERIES, queries)
                files.sync_file(made / QUERIES)
                kept[QUERIES] = files.checksum(made / QUERIES)
            _fill(made, kept, fields or {})
            made.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        files.sync_folder(folder.absolute().parent)


def _check_numbers(layout: Layout) -> None:
    """Raises a StoreError unless a layout's numbers are of the kind and within the bounds that they need."""
    if not _is_whole(layout.window) or not 1 <= layout.window <= 65536:
        raise StoreError(f"a window holds 1 to 65,536 documents, not {layout.window!r}")
    if not _is_whole(layout.dim) or not 0 <= layout.dim <= MOST_DIMENSIONS:
        raise StoreError(f"dim is a whole number, 0 (no dense strand) to {MOST_DIMENSIONS:,}, not {layout.dim!r}")
    for name in ("k1", "b", "learned_scale"):
        value: Any = getattr(layout, name)
        if not isinstance(value, (int, float)) or not 0 <= value <= BOUNDS.get(name, LARGEST):
            raise StoreError(f"{name} is a number from 0 to {BOUNDS.get(name, LARGEST):g}, not {value!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _samples(queries: Any, dim: int) -> NDArray[np.float32]:
    """Returns sample queries as they are kept, or raises a StoreError where they are none of an index."""
    found = np.asarray(queries)
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise StoreError(f"sample queries are an array of numbers, (any, {dim}), not {found.dtype} {found.shape}")
    if found.shape[1] != dim:
        raise StoreError(f"sample queries have {found.shape[1]} dimensions; the index is made for {dim}")
    if not (np.abs(found) <= LARGEST).all():
        raise StoreError("sample queries hold NaN or infinite values, or some that are too large for float32")
    return np.ascontiguousarray(found, np.float32)


def _tidy(parent: Path, prefix: str) -> None:
    """Removes what a crash left of making the same index, unless it is so new that somebody may be at it now."""
    for left in parent.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(left)


def _fill(folder: Path, settings: Mapping[str, Any], fields: Mapping[str, str]) -> None:
    (folder / "segments").mkdir()
    database.create(folder)
    connection = database.open_writer(folder)
    try:
        connection.execute("BEGIN IMMEDIATE")
        for key, value in settings.items():
            database.put_setting(connection, key, value)
        for name, type in fields.items():
            if (field := attributes.new_field(connection, name, type)) is not None:
                attributes.declare(connection, field)
        database.commit(connection)
    finally:
        connection.close()
    files.sync_folder(folder)

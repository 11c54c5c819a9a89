"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from .errors import StoreError


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """Lends a path beside `out` at which to write a file or a folder; it takes that name when the block ends well.

    Raises:
        StoreError: there is something at `out` already, or it cannot be written; nothing is left then.
    """
    if out.exists():
        raise StoreError(f"{out} exists already; choose another name, or remove it")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as scratch:
            made = Path(scratch) / out.name
            yield made
            made.rename(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror or error}; nothing is left of it") from error


@contextmanager
def output(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file for bytes, compressed where its name ends in .gz; the same bytes give the same file."""
    with path.open("wb") as raw:
        if path.suffix.lower() != ".gz":
            yield raw
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            yield cast("BinaryIO", packed)

"""Opening what one commit knows: a pinned connection, and every segment held before anybody can remove it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import database
from .contract import CorruptError, StoreError
from .database import SegmentRow
from .segment import Segment, folder_of

OPENINGS = 20  # tries to open an index that is compacted again and again meanwhile


def opened(
    folder: Path, verify: bool | None = None, before: Iterable[Segment] = ()
) -> tuple[sqlite3.Connection, list[Segment]]:
    """Returns a connection to the newest commit and its segments, held; those opened before are used again.

    Between reading which segments there are and taking hold of them, a writer may have merged them and removed their
    folders. Then there is a newer commit, and it is tried instead.

    Args:
        folder: the index.
        verify: see `Segment`.
        before: segments that may be used again.

    Raises:
        CorruptError: a file of the newest commit is missing or damaged.
    """
    for _ in range(OPENINGS):
        connection = database.open_reader(folder)
        try:
            rows = database.segments(connection)
            try:
                return connection, _held(folder, rows, verify, {segment.row.key: segment for segment in before})
            except (CorruptError, FileNotFoundError):
                if not _superseded(folder, rows):
                    raise
        except BaseException:
            connection.close()
            raise
        connection.close()
    raise StoreError(f"{folder} was compacted {OPENINGS} times while it was being opened; try again")


def _held(
    folder: Path, rows: Iterable[SegmentRow], verify: bool | None, before: Mapping[tuple[int, str], Segment]
) -> list[Segment]:
    held: list[Segment] = []
    try:
        for row in rows:
            known = before.get(row.key)
            if known is None or not known.hold():
                known = Segment(folder_of(folder, row), row, verify=verify)
            held.append(known)
    except BaseException:
        for segment in held:
            segment.release()
        raise
    return held


def _superseded(folder: Path, rows: Iterable[SegmentRow]) -> bool:
    """Returns whether the newest commit lacks one of these segments."""
    connection = database.open_reader(folder)
    try:
        newest = {row.key for row in database.segments(connection)}
    finally:
        connection.close()
    return any(row.key not in newest for row in rows)

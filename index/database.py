"""plait.db: the one source of truth, and the only place that speaks SQL."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .contract import FORMAT, CorruptError, Row, StoredDocument, StoreError

NAME = "plait.db"
_APPLICATION = int.from_bytes(b"plit", "big")

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (
  number INTEGER PRIMARY KEY, base INTEGER NOT NULL, size INTEGER NOT NULL, checksum TEXT NOT NULL
);
CREATE TABLE document (
  position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
  metadata TEXT NOT NULL, parent TEXT, start INTEGER NOT NULL, digest BLOB NOT NULL, length INTEGER NOT NULL
);
CREATE INDEX document_parent ON document (parent) WHERE parent IS NOT NULL;
CREATE TABLE tombstone (position INTEGER PRIMARY KEY);
"""


class SegmentRow(NamedTuple):
    """A line of the segment table."""

    number: int
    base: int
    size: int
    checksum: str


def digest(document: StoredDocument) -> bytes:
    """Returns a hash of all that is stored of a document: equal digests mean there is nothing to do."""
    values = [document.title, document.text, dict(document.metadata), document.parent, document.start]
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).digest()


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns what SQLite and the file system say into an error that names the index and says what was kept."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "malformed" in str(error) or "not a database" in str(error):
            raise CorruptError(f"{folder / NAME} is damaged: {error}") from error
        raise StoreError(f"{folder}: {error}; what was committed before is untouched") from error
    except OSError as error:
        raise StoreError(f"{folder}: {error}; what was committed before is untouched") from error


def create(folder: Path) -> None:
    """Makes an empty database."""
    connection = sqlite3.connect(folder / NAME, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
    finally:
        connection.close()


def check_is_index(folder: Path) -> None:
    """Raises an error that says what is wrong, unless the folder looks like an index."""
    if not folder.exists():
        raise StoreError(f"there is no index at {folder}; make one with: plait index PATH --out {folder}")
    if not folder.is_dir() or not (folder / NAME).is_file():
        raise StoreError(f"{folder} is not a plait index: it has no {NAME}")


def open_reader(folder: Path) -> sqlite3.Connection:
    """Returns a connection that is pinned to the newest commit and never blocks nor sees a later one."""
    path = (folder / NAME).absolute().as_uri()
    connection = sqlite3.connect(f"{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    try:
        _pin(connection, folder)
    except sqlite3.OperationalError:  # a read-only disk: no shared memory file can be made, and nobody can write
        connection.close()
        connection = sqlite3.connect(
            f"{path}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            _pin(connection, folder)
        except BaseException:
            connection.close()
            raise
    except BaseException:
        connection.close()
        raise
    return connection


def _pin(connection: sqlite3.Connection, folder: Path) -> None:
    connection.execute("BEGIN")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise StoreError(f"{folder / NAME} is not a plait database")
    if version != FORMAT:
        raise StoreError(
            f"{folder} has index format {version}; this plait reads format {FORMAT}: "
            f"use the plait that made it, or index again"
        )
    connection.execute("SELECT max(number) FROM segment").fetchone()  # the first read fixes the snapshot


def open_writer(folder: Path) -> sqlite3.Connection:
    """Returns a connection whose commits survive a crash."""
    open_reader(folder).close()
    connection = sqlite3.connect(folder / NAME, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def settings(connection: sqlite3.Connection) -> dict[str, Any]:
    """Returns every setting."""
    return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM setting")}


def put_setting(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Sets one setting."""
    connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, json.dumps(value)))


def segments(connection: sqlite3.Connection) -> list[SegmentRow]:
    """Returns the committed segments by position."""
    return [SegmentRow(*row) for row in connection.execute("SELECT * FROM segment ORDER BY base")]


def tombstones(connection: sqlite3.Connection) -> list[int]:
    """Returns the positions of deleted documents."""
    return [position for (position,) in connection.execute("SELECT position FROM tombstone ORDER BY position")]


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Returns how many documents live, and the sum of their lengths in lexical terms."""
    return connection.execute("SELECT count(*), coalesce(sum(length), 0) FROM document").fetchone()


def ids_at(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, str]:
    """Returns the ids of live documents by position."""
    sql = "SELECT position, id FROM document WHERE position IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (json.dumps(positions),)))


def rows_at(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, Row]:
    """Returns live documents by position."""
    sql = (
        "SELECT position, id, title, text, metadata, parent, start FROM document "
        "WHERE position IN (SELECT value FROM json_each(?))"
    )
    found = (Row(*row) for row in connection.execute(sql, (json.dumps(positions),)))
    return {row.position: row._replace(metadata=json.loads(str(row.metadata))) for row in found}


def positions_of(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """Returns the positions of live documents by id; unknown ids are left out."""
    sql = "SELECT id, position FROM document WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (json.dumps(list(ids)),)))


def digests_of(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, bytes]:
    """Returns the stored digests of live documents by id."""
    sql = "SELECT id, digest FROM document WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (json.dumps(list(ids)),)))


def passages_of(connection: sqlite3.Connection, parents: Iterable[str]) -> list[str]:
    """Returns the ids of the live passages of some parents."""
    sql = "SELECT id FROM document WHERE parent IN (SELECT value FROM json_each(?)) ORDER BY position"
    return [identifier for (identifier,) in connection.execute(sql, (json.dumps(list(parents)),))]


def all_ids(connection: sqlite3.Connection) -> Iterator[str]:
    """Yields the ids of all live documents in the order of their positions."""
    for (identifier,) in connection.execute("SELECT id FROM document ORDER BY position"):
        yield identifier


def bury(connection: sqlite3.Connection, positions: Iterable[int]) -> int:
    """Deletes documents: their rows go, their positions become tombstones. Returns how many."""
    buried = [(position,) for position in positions]
    connection.executemany("DELETE FROM document WHERE position = ?", buried)
    connection.executemany("INSERT OR IGNORE INTO tombstone VALUES (?)", buried)
    return len(buried)


def insert_documents(
    connection: sqlite3.Connection, base: int, documents: Sequence[StoredDocument], lengths: Sequence[int]
) -> None:
    """Inserts documents at base, base + 1, ...; a live document with the same id is replaced."""
    bury(connection, positions_of(connection, (d.id for d in documents)).values())
    rows = (
        (base + i, d.id, d.title, d.text, json.dumps(dict(d.metadata)), d.parent, d.start, digest(d), lengths[i])
        for i, d in enumerate(documents)
    )
    connection.executemany("INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def insert_segment(connection: sqlite3.Connection, row: SegmentRow) -> None:
    """Adds a segment."""
    connection.execute("INSERT INTO segment VALUES (?, ?, ?, ?)", row)

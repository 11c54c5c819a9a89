"""plait.db: the one source of truth. SQL is spoken here, in `attributes`, `conditions`, and to begin and check it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import sqlite3
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import attributes
from .contract import FORMAT, CorruptError, Row, StoredDocument, StoreError

NAME = "plait.db"
# SQLite's log of what was written begins anew when it is longer than this and nobody reads from it.
LOG_BYTES = 16 << 20
_APPLICATION = int.from_bytes(b"plit", "big")
# With less room than this, an I/O error of SQLite's comes of a full disk: it shares memory with readers by a file.
_ROOM = 1 << 20
# What SQLite's messages say of a damaged file, and only of one.
_DAMAGE = ("malformed", "not a database", "Could not decode")

_SORTED = json.JSONEncoder(sort_keys=True)
# Running totals and the next numbers to give out, so that no commit has to count: the last commit, living documents,
# the sum of their lengths, the next position, the last segment's number.
_COUNTERS = ("commit", "documents", "tokens", "position", "segment")

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (
  number INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, size INTEGER NOT NULL,
  postings INTEGER NOT NULL, dead INTEGER NOT NULL, checksum TEXT NOT NULL
);
CREATE TABLE document (
  position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
  metadata TEXT NOT NULL, parent TEXT, start INTEGER NOT NULL, digest BLOB NOT NULL, length INTEGER NOT NULL
);
CREATE INDEX document_parent ON document (parent) WHERE parent IS NOT NULL;
CREATE TABLE tombstone (position INTEGER PRIMARY KEY, buried INTEGER NOT NULL);
CREATE INDEX tombstone_buried ON tombstone (buried);
CREATE TABLE seal (checksum TEXT NOT NULL);
"""
# What a search depends on without reading it again: SQLite checks its structure, not its contents.
_SEALED = (
    "SELECT key, value FROM setting ORDER BY key",
    "SELECT name, value FROM counter ORDER BY name",
    "SELECT * FROM segment ORDER BY number",
    "SELECT * FROM field ORDER BY number",
    "SELECT count(*), total(position), total(buried), max(position * (buried + 1) % 65521) FROM tombstone",
)


class SegmentRow(NamedTuple):
    """A line of the segment table.

    Attributes:
        number: names the folder; never given twice.
        first, last: the smallest and the largest position inside; the ranges of two segments never meet.
        size: documents inside, deleted ones included.
        postings: postings of the forward copy.
        dead: how many of the documents are deleted.
        checksum: of the manifest.
    """

    number: int
    first: int
    last: int
    size: int
    postings: int
    dead: int
    checksum: str

    @property
    def key(self) -> tuple[int, str]:
        """What stays the same as long as the segment's files do."""
        return self.number, self.checksum


class Totals(NamedTuple):
    """What is counted along with every commit.

    Attributes:
        commit: rises with every transaction of a writer.
        documents: how many live.
        tokens: the sum of their lengths in lexical terms.
    """

    commit: int
    documents: int
    tokens: int


def digest(document: StoredDocument) -> bytes:
    """Returns a hash of all that is stored of a document: equal digests mean there is nothing to do."""
    values = [document.id, document.title, document.text, dict(document.metadata), document.parent, document.start]
    return hashlib.blake2b(_SORTED.encode(values).encode(), digest_size=16).digest()


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns what SQLite and the file system say into an error that names the index and says what was kept."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if any(sign in str(error) for sign in _DAMAGE):
            raise CorruptError(f"{folder / NAME} is damaged: {error}") from error
        raise _failure(folder, error) from error
    except OSError as error:
        raise _failure(folder, error) from error


def _failure(folder: Path, error: sqlite3.DatabaseError | OSError) -> StoreError:
    said, kept = str(error), "what was committed before is untouched"
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    else:
        full = "disk is full" in said or ("I/O error" in said and _free_bytes(folder) < _ROOM)
    if full:
        return StoreError(f"{folder}: the disk is full: {said}; {kept}; make room and try again")
    return StoreError(f"{folder}: {said}; {kept}")


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder if folder.exists() else folder.parent).free
    except OSError:
        return float("inf")


def create(folder: Path) -> None:
    """Makes an empty database."""
    connection = sqlite3.connect(folder / NAME, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA + attributes.SCHEMA)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO counter VALUES (?, 0)", [(name,) for name in _COUNTERS])
        connection.execute("INSERT INTO seal VALUES ('')")
        commit(connection)
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
    try:
        return _pinned(folder, "mode=ro")
    except sqlite3.OperationalError as error:  # the file by which a log is shared is not there and cannot be made
        if _log_size(folder):  # without it the newest commits would lack, and nobody would know
            raise StoreError(
                f"the newest commits of {folder} are in {NAME}-wal, which can only be read where one may write beside "
                f"it ({error}); open the index once where that is so, or make the folder writable"
            ) from error
        return _pinned(folder, "mode=ro&immutable=1")  # as on a read-only disk: nobody can write


def _log_size(folder: Path) -> int:
    log = folder / f"{NAME}-wal"
    return log.stat().st_size if log.exists() else 0


def _pinned(folder: Path, how: str) -> sqlite3.Connection:
    uri = f"{(folder / NAME).absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        _pin(connection, folder)
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
    sealed = connection.execute("SELECT checksum FROM seal").fetchone()
    if sealed != (_seal(connection),):
        raise CorruptError(f"{folder / NAME} is damaged: its settings, counters or lists of segments were changed")


def open_writer(folder: Path) -> sqlite3.Connection:
    """Returns a connection whose commits survive a crash."""
    open_reader(folder).close()
    connection = sqlite3.connect(folder / NAME, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    return connection


def settings(connection: sqlite3.Connection) -> dict[str, Any]:
    """Returns every setting."""
    return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM setting")}


def put_setting(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Sets one setting."""
    connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, json.dumps(value)))


def segments(connection: sqlite3.Connection) -> list[SegmentRow]:
    """Returns the segments by position."""
    return [SegmentRow(*row) for row in connection.execute("SELECT * FROM segment ORDER BY first")]


def tombstones(connection: sqlite3.Connection, row: SegmentRow, *, since: int = -1) -> NDArray[np.int64]:
    """Returns the positions of a segment's deleted documents, those deleted after the commit `since`, ascending."""
    sql = "SELECT position FROM tombstone WHERE position BETWEEN ? AND ?"
    if since >= 0:  # the plus sign: by the index on `buried`, few lines, not by the range
        sql = "SELECT position FROM tombstone WHERE buried > ? AND +position BETWEEN ? AND ?"
    found = connection.execute(sql, (row.first, row.last) if since < 0 else (since, row.first, row.last))
    return np.sort(np.fromiter((position for (position,) in found), np.int64))


def totals(connection: sqlite3.Connection) -> Totals:
    """Returns the running totals."""
    return Totals(*(_counter(connection, name) for name in Totals._fields))


def size(connection: sqlite3.Connection) -> int:
    """Returns the bytes of the database, also of pages that are in SQLite's log and not in its file yet."""
    pages, each = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return pages * each


def begin(connection: sqlite3.Connection) -> None:
    """Begins a writer's transaction."""
    connection.execute("BEGIN IMMEDIATE")
    _advance(connection, "commit", 1)


def commit(connection: sqlite3.Connection) -> None:
    """Ends a writer's transaction: all of it is durable and visible, and sealed."""
    connection.execute("UPDATE seal SET checksum = ?", (_seal(connection),))
    connection.execute("COMMIT")


def shorten_log(connection: sqlite3.Connection, folder: Path) -> bool:
    """Copies a long log into the database; returns whether all of it is there, so that new readers need no log.

    SQLite begins the log anew when no connection reads from it. A reader that always opens the next snapshot before it
    closes the last would keep it growing; so it is to open one more after this.
    """
    if connection.in_transaction or _log_size(folder) <= LOG_BYTES:
        return False
    _, written, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return written == copied


def _seal(connection: sqlite3.Connection) -> str:
    value = 0
    for sql in _SEALED:
        value = zlib.crc32(json.dumps(connection.execute(sql).fetchall()).encode(), value)
    return f"{value:08x}"


def _counter(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()[0]


def _advance(connection: sqlite3.Connection, name: str, by: int) -> int:
    """Adds to a counter and returns what it was before."""
    before = _counter(connection, name)
    connection.execute("UPDATE counter SET value = ? WHERE name = ?", (before + by, name))
    return before


def ids_at(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, str]:
    """Returns the ids of live documents by position."""
    sql = "SELECT position, id FROM document WHERE position IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (json.dumps(positions),)))


_DOCUMENTS = "SELECT position, id, title, text, metadata, parent, start, digest FROM document"
_DOCUMENTS_AT = f"{_DOCUMENTS} WHERE position IN (SELECT value FROM json_each(?))"  # noqa: S608  # constants only


def rows_at(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, Row]:
    """Returns live documents by position.

    Raises:
        CorruptError: a document is not what its digest says.
    """
    found = {}
    for *values, expected in connection.execute(_DOCUMENTS_AT, (json.dumps(positions),)):
        row = _whole(values, expected)
        if row is None:
            raise CorruptError(
                f"{NAME} is damaged: the document {values[1]!r} does not match its digest; `plait check` tells more"
            )
        found[row.position] = row
    return found


def ids_and_states(connection: sqlite3.Connection) -> Iterator[tuple[str, bool]]:
    """Yields the id of every live document, and whether the document is what its digest says."""
    for *values, expected in connection.execute(_DOCUMENTS):
        yield values[1], _whole(values, expected) is not None


def _whole(values: Sequence[Any], expected: bytes) -> Row | None:
    """Returns a stored document, or None where it is not what its digest says."""
    try:
        position, id, title, text, metadata, parent, start = values
        row = Row(position, id, title, text, json.loads(metadata), parent, start)
        return row if isinstance(row.metadata, dict) and digest(row) == expected else None
    except (TypeError, ValueError):
        return None


def _names(given: Iterable[str]) -> str:
    """Returns names as one value for json_each, which reads a name up to a NUL; no stored name has one."""
    return json.dumps([name for name in given if "\0" not in name])


def positions_of(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """Returns the positions of live documents by id; unknown ids are left out."""
    sql = "SELECT id, position FROM document WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (_names(ids),)))


def digests_of(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, bytes]:
    """Returns the stored digests of live documents by id."""
    sql = "SELECT id, digest FROM document WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (_names(ids),)))


def passages_of(connection: sqlite3.Connection, parents: Iterable[str]) -> list[str]:
    """Returns the ids of the live passages of some parents."""
    sql = "SELECT id FROM document WHERE parent IN (SELECT value FROM json_each(?)) ORDER BY position"
    return [identifier for (identifier,) in connection.execute(sql, (_names(parents),))]


def wholes_of(connection: sqlite3.Connection, ids: Iterable[str]) -> list[str]:
    """Returns those of the ids that are live documents and no passages."""
    sql = "SELECT id FROM document WHERE parent IS NULL AND id IN (SELECT value FROM json_each(?)) ORDER BY position"
    return [identifier for (identifier,) in connection.execute(sql, (_names(ids),))]


def state(connection: sqlite3.Connection) -> tuple[int, int]:
    """Returns the next position and how many documents live: equal at two commits where the same documents live.

    Every document that comes moves the one, every one that goes the other; merging segments moves neither.
    """
    return _counter(connection, "position"), _counter(connection, "documents")


_FAMILY = "SELECT coalesce(parent, id), position FROM document"


def families(connection: sqlite3.Connection, since: int = 0) -> list[tuple[str, int]]:
    """Returns (family, position) of living documents, from a position on, in their order.

    A family is a parent with its passages, named by the parent; a document that is no passage is one of its own.
    """
    return connection.execute(f"{_FAMILY} WHERE position >= ? ORDER BY position", (since,)).fetchall()


def families_at(connection: sqlite3.Connection, positions: Sequence[int]) -> list[tuple[str, int]]:
    """Returns (family, position) of the documents at positions that live."""
    sql = f"{_FAMILY} WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position"  # noqa: S608
    return connection.execute(sql, (json.dumps(positions),)).fetchall()


def members(connection: sqlite3.Connection, names: Iterable[str]) -> list[tuple[str, int]]:
    """Returns (family, position) of all living documents of some families, by position."""
    sql = (
        "SELECT parent, position FROM document WHERE parent IN (SELECT value FROM json_each(?1)) UNION ALL "
        "SELECT id, position FROM document WHERE parent IS NULL AND id IN (SELECT value FROM json_each(?1)) ORDER BY 2"
    )
    return connection.execute(sql, (_names(names),)).fetchall()


def all_ids(connection: sqlite3.Connection) -> Iterator[str]:
    """Yields the ids of all live documents in the order of their positions."""
    for (identifier,) in connection.execute("SELECT id FROM document ORDER BY position"):
        yield identifier


def by_id(connection: sqlite3.Connection, first: int, last: int, expected: int) -> NDArray[np.int64]:
    """Returns the positions of living documents by id, ascending: at least those from `first` to `last`.

    Args:
        connection: to the database.
        first: the smallest position.
        last: the largest.
        expected: about how many there are; a large part of the index is read in the order of its index of ids.
    """
    if 4 * expected >= totals(connection).documents:
        found = connection.execute("SELECT position FROM document ORDER BY id")
    else:  # the plus sign: sorted, not looked for in the index of all ids
        sql = "SELECT position FROM document WHERE position BETWEEN ? AND ? ORDER BY +id"
        found = connection.execute(sql, (first, last))
    return np.fromiter((position for (position,) in found), np.int64)


def bury(connection: sqlite3.Connection, positions: Iterable[int]) -> int:
    """Deletes living documents: their rows go, their positions become tombstones. Returns how many."""
    buried = sorted(positions)
    if not buried:
        return 0
    sql = "SELECT coalesce(sum(length), 0) FROM document WHERE position IN (SELECT value FROM json_each(?))"
    (tokens,) = connection.execute(sql, (json.dumps(buried),)).fetchone()
    connection.executemany("DELETE FROM document WHERE position = ?", [(position,) for position in buried])
    commit = _counter(connection, "commit")
    connection.executemany("INSERT INTO tombstone VALUES (?, ?)", [(position, commit) for position in buried])
    for row in segments(connection):
        if dead := bisect_right(buried, row.last) - bisect_left(buried, row.first):
            connection.execute("UPDATE segment SET dead = dead + ? WHERE number = ?", (dead, row.number))
    _advance(connection, "documents", -len(buried))
    _advance(connection, "tokens", -tokens)
    return len(buried)


def insert_documents(
    connection: sqlite3.Connection, documents: Sequence[StoredDocument], lengths: Sequence[int]
) -> int:
    """Inserts documents at new positions, in a row, and returns the first; one with a known id replaces the older.

    Raises:
        StoreError: an id holds a NUL, or a value does not fit its field's type.
    """
    if bad := next((d.id for d in documents if "\0" in d.id or "\0" in (d.parent or "")), None):
        raise StoreError(f"the id of the document {bad!r}, or of its parent, holds a NUL, by which none can be found")
    bury(connection, positions_of(connection, (d.id for d in documents)).values())
    first = _advance(connection, "position", len(documents))
    rows = (
        (first + i, d.id, d.title, d.text, json.dumps(dict(d.metadata)), d.parent, d.start, digest(d), lengths[i])
        for i, d in enumerate(documents)
    )
    connection.executemany("INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    attributes.insert(connection, ((first + i, d.id, d.metadata) for i, d in enumerate(documents)))
    _advance(connection, "documents", len(documents))
    _advance(connection, "tokens", sum(lengths))
    return first


def new_number(connection: sqlite3.Connection) -> int:
    """Returns a number that no segment ever had."""
    return _advance(connection, "segment", 1) + 1


def insert_segment(connection: sqlite3.Connection, row: SegmentRow) -> None:
    """Adds a segment."""
    connection.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def remove_segment(connection: sqlite3.Connection, row: SegmentRow) -> None:
    """Removes a segment and the tombstones of its documents: another one holds those that live."""
    connection.execute("DELETE FROM segment WHERE number = ?", (row.number,))
    connection.execute("DELETE FROM tombstone WHERE position BETWEEN ? AND ?", (row.first, row.last))

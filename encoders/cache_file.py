"""The file of a vector cache: where it is, how it is opened and laid out, and how damage shows."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .contract import EncoderError

NAME = "vectors-1.db"  # with the version of what is inside: another version's file is left alone
PAGE = 16384  # several vectors to a page, so that little of it stays empty
_AT_ONCE = 500  # keys in a query; SQLite may be built for 999
_WAIT_SECONDS = 30.0
_DAMAGE = ("malformed", "not a database", "no such table", "no such column")

_SCHEMA = (
    "CREATE TABLE setting (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE space (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL)",
    # Apart from the vectors, so that noting a use writes a few bytes.
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, space INTEGER NOT NULL, key BLOB NOT NULL, used INTEGER NOT NULL, "
    "size INTEGER NOT NULL, UNIQUE (space, key))",
    "CREATE TABLE vector (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "PRAGMA user_version = 1",
)


def made(folder: str | Path | None) -> Path:
    """Returns the folder of a cache, made where it is missing; "vectors" in plait's cache folder where None.

    Raises:
        EncoderError: it cannot be made.
    """
    if folder is None:
        from .folders import cache_folder

        folder = cache_folder() / "vectors"
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EncoderError(f"the cache folder {path} cannot be made ({error.strerror}): name another") from error
    return path


def connected(path: Path) -> sqlite3.Connection:
    """Returns a connection to a cache's file, made where it is missing."""
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is computed again
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            for statement in ("BEGIN IMMEDIATE", *_SCHEMA, "COMMIT"):
                connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def checked(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Returns a connection whose tables are sound; it reads them all, which is for the rare case alone.

    Raises:
        sqlite3.DatabaseError: they are not.
    """
    try:
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("malformed")
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """Returns whether an error says that the file itself is no longer what was written."""
    return any(sign in str(error) for sign in _DAMAGE)


def sealed(value: bytes) -> bytes:
    """Returns a value as it is kept: with a checksum before it."""
    return zlib.crc32(value).to_bytes(4, "little") + value


def unsealed(value: bytes) -> bytes | None:
    """Returns a value, or None where a disk has changed it: then it is computed again."""
    inside = value[4:]
    return inside if zlib.crc32(inside).to_bytes(4, "little") == value[:4] else None


def portions(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Returns keys in portions of what one query takes."""
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))


def marks(keys: Sequence[bytes] | Mapping[bytes, bytes]) -> str:
    """Returns the question marks for some keys."""
    return ", ".join("?" * len(keys))

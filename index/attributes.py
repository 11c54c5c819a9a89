"""The tables of declared columns: filled with each document, emptied with it, and asked by filters.

`attribute` has a row for every living document and a column f1, f2, ... for every field; `item` holds the items of
lists, whose column in `attribute` only says how many there are. No column has an index of its own: a scan of half a
million rows takes 0.05 s whatever is asked, where an index that SQLite chose wrongly took 2 s.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .contract import CorruptError, StoreError
from .fields import MOST_FIELDS, Field, Scalar, Value, check_field, shown, value_of

if TYPE_CHECKING:
    from .conditions import Condition

SCHEMA = """
CREATE TABLE field (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL);
CREATE TABLE attribute (position INTEGER PRIMARY KEY);
CREATE TABLE item (field INTEGER, value, position INTEGER, PRIMARY KEY (field, value, position)) WITHOUT ROWID;
CREATE INDEX item_position ON item (position);
CREATE TRIGGER document_gone AFTER DELETE ON document BEGIN
  DELETE FROM attribute WHERE position = old.position;
  DELETE FROM item WHERE position = old.position;
END;
"""


def fields(connection: sqlite3.Connection) -> tuple[Field, ...]:
    """Returns the declared columns by number."""
    return tuple(Field(*row) for row in connection.execute("SELECT number, name, type FROM field ORDER BY number"))


def new_field(connection: sqlite3.Connection, name: str, type: str) -> Field | None:
    """Returns the field that a declaration would make, or None where it is made already.

    Raises:
        StoreError: the name or the type cannot be, the name has another type already, or there are too many fields.
    """
    check_field(name, type)
    known = fields(connection)
    for field in known:
        if field.name == name:
            if field.type == type:
                return None
            raise StoreError(f"the field {name!r} is declared {field.type} already; drop it before it becomes {type}")
    if len(known) >= MOST_FIELDS:
        raise StoreError(f"an index has at most {MOST_FIELDS} fields; drop one before {name!r} is declared")
    taken = {field.number for field in known}
    return Field(next(number for number in range(1, MOST_FIELDS + 1) if number not in taken), name, type)


def known_field(connection: sqlite3.Connection, name: str) -> Field:
    """Returns a declared column by its name.

    Raises:
        StoreError: there is none.
    """
    known = {field.name: field for field in fields(connection)}
    if name not in known:
        raise StoreError(f"no field {shown(name)} is declared; there are: {', '.join(known) or 'none'}")
    return known[name]


def stored(connection: sqlite3.Connection, field: Field) -> Iterator[tuple[int, Value]]:
    """Yields (position, value) of every stored document that has a value for a field.

    Raises:
        StoreError: a value does not fit the field's type.
        CorruptError: a document's metadata cannot be read.
    """
    for position, id, metadata in connection.execute("SELECT position, id, metadata FROM document ORDER BY position"):
        value = value_of(field, id, _metadata(id, metadata))
        if value is not None:
            yield position, value


def _metadata(id: str, stored: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        if isinstance(found := json.loads(stored), dict):
            return found
    raise CorruptError(f"the metadata of the document {id!r} cannot be read; `plait check` tells more")


def declare(connection: sqlite3.Connection, field: Field) -> None:
    """Adds a column and fills it from the stored metadata.

    Raises:
        StoreError: a value does not fit the field's type.
    """
    connection.execute("INSERT INTO field VALUES (?, ?, ?)", field)
    # A dropped field leaves its column behind, empty: dropping columns needs SQLite 3.35.
    columns = {row[1] for row in connection.execute("PRAGMA table_info(attribute)")}
    if _column(field) not in columns:
        connection.execute(f"ALTER TABLE attribute ADD COLUMN {_column(field)}")
    sql = f"UPDATE attribute SET {_column(field)} = ? WHERE position = ?"  # noqa: S608  # a number of our own
    rows = ((_put(connection, field, position, value), position) for position, value in stored(connection, field))
    connection.executemany(sql, rows)


def undeclare(connection: sqlite3.Connection, field: Field) -> None:
    """Empties a column and forgets it."""
    connection.execute("DELETE FROM field WHERE number = ?", (field.number,))
    connection.execute("DELETE FROM item WHERE field = ?", (field.number,))
    connection.execute(f"UPDATE attribute SET {_column(field)} = NULL")  # noqa: S608  # a number of our own


def insert(connection: sqlite3.Connection, documents: Iterable[tuple[int, str, Mapping[str, Any]]]) -> None:
    """Adds the rows of new documents.

    Args:
        connection: in a transaction.
        documents: each one's position, id and metadata.

    Raises:
        StoreError: a value does not fit its field's type.
    """
    known = fields(connection)
    columns = ", ".join(["position", *map(_column, known)])
    sql = f"INSERT INTO attribute ({columns}) VALUES ({', '.join('?' * (1 + len(known)))})"  # noqa: S608  # our numbers

    def row(position: int, id: str, metadata: Mapping[str, Any]) -> Iterator[Scalar | None]:
        yield position
        for field in known:
            yield _put(connection, field, position, value_of(field, id, metadata))

    connection.executemany(sql, (tuple(row(*document)) for document in documents))


def damage(connection: sqlite3.Connection) -> Iterator[str]:
    """Yields what is wrong with the tables, as `check` tells it: they must follow from the stored metadata."""
    sql = "SELECT position FROM {} ORDER BY position"
    if _differ(*(connection.execute(sql.format(table)) for table in ("attribute", "document"))):
        yield "the table of declared fields has not the rows of the documents"
    for field in fields(connection):
        column = _column(field)
        sql = f"SELECT position, {column} FROM attribute WHERE {column} IS NOT NULL ORDER BY position"  # noqa: S608
        items = "SELECT position, value FROM item WHERE field = ? ORDER BY position, value"
        try:
            wrong = _differ(connection.execute(sql), map(_counted, stored(connection, field))) or _differ(
                connection.execute(items, (field.number,)), _items(stored(connection, field))
            )
        except ValueError:  # metadata that cannot be read or does not fit: its digest tells more
            wrong = True
        if wrong:
            yield f"the field {field.name!r} differs from the documents' metadata"


def select(connection: sqlite3.Connection, condition: Condition) -> NDArray[np.int64]:
    """Returns the positions of the living documents that match, ascending.

    They come as one text, read in one go: row by row would take twice as long, and would hold up other threads.
    """
    sql = f"SELECT group_concat(position) FROM {condition.table} WHERE {condition.sql}"  # noqa: S608  # written by us
    (found,) = connection.execute(sql, condition.parameters).fetchone()
    return np.sort(np.fromstring(found or "", np.int64, sep=","))


def _differ(kept: Iterable[object], expected: Iterable[object]) -> bool:
    return any(left != right for left, right in zip_longest(kept, expected))


def _counted(pair: tuple[int, Value]) -> tuple[int, Value]:
    position, value = pair
    return position, len(value) if isinstance(value, tuple) else value


def _items(filled: Iterable[tuple[int, Value]]) -> Iterator[tuple[int, Scalar]]:
    for position, value in filled:
        if isinstance(value, tuple):
            yield from ((position, item) for item in sorted(value))  # type: ignore[type-var]  # of one type


def _column(field: Field) -> str:
    return f"f{int(field.number)}"


def _put(connection: sqlite3.Connection, field: Field, position: int, value: Value) -> Scalar | None:
    """Returns what stands in a field's own column: the value, or, once its items are inserted, a list's length."""
    if not isinstance(value, tuple):
        return value
    connection.executemany("INSERT INTO item VALUES (?, ?, ?)", [(field.number, item, position) for item in value])
    return len(value)

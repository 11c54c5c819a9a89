"""Declared columns: a metadata name, its type, and what the database keeps of a document's own value.

A missing value and null are NULL; so is an empty string where the type is not text, as in an empty cell of a table.
Strings that spell a number, a boolean or a date are taken as such, because tables hold nothing else.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .contract import StoredDocument, StoreError

Scalar = str | int | float
Value = Scalar | tuple[Scalar, ...] | None

LIST = "[]"
# Every document has these, undeclared; they are text.
OWN = ("id", "title", "parent")
MOST_FIELDS = 200  # SQLite before 3.32 binds 999 values at most, and a document's values are bound together
LONGEST_NAME = 200

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)? ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_NOT_IN_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BOOLEANS = {"true": 1, "false": 0}

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel = 2


class Field(NamedTuple):
    """A declared column.

    Attributes:
        number: names the column inside the database.
        name: the metadata name that its values come from.
        type: a name of `TYPES`, followed by "[]" where a document has a list of them.
    """

    number: int
    name: str
    type: str

    @property
    def many(self) -> bool:
        """Whether a document has a list of values."""
        return self.type.endswith(LIST)

    @property
    def kind(self) -> str:
        """The type of one value."""
        return self.type.removesuffix(LIST)


def check_field(name: object, type: object) -> None:
    """Raises an error unless a column may be declared so.

    Raises:
        StoreError: the name is empty, too long, has control characters or is taken; or there is no such type.
    """
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or _NOT_IN_NAME.search(name):
        raise StoreError(
            f"a field is named by 1 to {LONGEST_NAME} characters without control characters, not {shown(name)}"
        )
    if name in OWN:
        raise StoreError(f"every document has {name!r} already: it is a text column without being declared")
    if not isinstance(type, str) or type.removesuffix(LIST) not in TYPES:
        raise StoreError(
            f"the field {name!r} cannot have the type {shown(type)}; there are {', '.join(TYPES)}, "
            f"and lists of them, as text{LIST}"
        )


def value_of(field: Field, id: str, metadata: Mapping[str, Any]) -> Value:
    """Returns what the database keeps of a document's value: a scalar, a tuple for a list, or None for NULL.

    Args:
        field: the column.
        id: the document's id, for the error.
        metadata: the document's metadata.

    Raises:
        StoreError: the value does not fit the type; the message names document, field, value and type.
    """
    given = metadata.get(field.name)
    if given is None:
        return None
    try:
        return _items(field.kind, given) if field.many else TYPES[field.kind].read(given)
    except (ValueError, OverflowError):
        expected = TYPES[field.kind].expected
        expected = f"a list, each item {expected}" if field.many else expected
        raise StoreError(
            f"document {id!r}: {field.name!r} is declared {field.type}, and {shown(given)} does not fit; "
            f"expected {expected}"
        ) from None


def check_values(fields: Iterable[Field], documents: Iterable[StoredDocument]) -> None:
    """Raises an error where the metadata of a document does not fit the declared columns; see `value_of`."""
    known = tuple(fields)
    for document in documents:
        for field in known:
            value_of(field, document.id, document.metadata)


def _items(kind: str, given: Any) -> tuple[Scalar, ...] | None:
    """Returns the distinct items of a list; one value alone is a list of one, a string may spell a JSON list."""
    if isinstance(given, str) and given.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):  # a text that begins with a bracket
            given = json.loads(given)
    if isinstance(given, str) and not given.strip():
        return None
    items = [TYPES[kind].read(item) for item in (given if isinstance(given, (list, tuple)) else [given])]
    if None in items:
        raise ValueError("null in a list")
    return tuple(dict.fromkeys(item for item in items if item is not None))


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError("no string")
    given.encode()  # half a surrogate pair is an error here
    return given


def _integer(given: Any) -> int | None:
    if isinstance(given, str):
        if not (text := given.strip()):
            return None
        given = int(text) if _INTEGER.fullmatch(text) else None
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if not isinstance(given, int) or isinstance(given, bool) or not -(2**63) <= given < 2**63:
        raise ValueError("no integer of 64 bits")
    return given


def number(given: int | float) -> int | float:
    """Returns a number as SQLite holds it: an integer of 64 bits, or a finite float64.

    Raises:
        OverflowError: it is too large for either, infinite or NaN.
    """
    if isinstance(given, int) and -(2**63) <= given < 2**63:
        return given
    if not math.isfinite(given):
        raise OverflowError("not finite")
    return float(given)


def number_of(text: str) -> int | float:
    """Returns the number that a text of digits spells; see `number`.

    Raises:
        OverflowError: as `number`.
        ValueError: the text spells none.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("no number")
    return number(int(text) if len(text) <= 20 and _INTEGER.fullmatch(text) else float(text))


def _number(given: Any) -> int | float | None:
    if isinstance(given, str):
        return number_of(text) if (text := given.strip()) else None
    if not isinstance(given, (int, float)) or isinstance(given, bool):
        raise ValueError("no number")
    return number(given)


def _boolean(given: Any) -> int | None:
    if isinstance(given, str):
        if not (text := given.strip().lower()):
            return None
        given = bool(_BOOLEANS[text]) if text in _BOOLEANS else None
    if not isinstance(given, bool):
        raise ValueError("no boolean")
    return int(given)


def date(given: Any) -> str | None:
    """Returns a date or time so that text order is order in time, and one moment has one form.

    That is ISO 8601 in UTC, to the microsecond: "2021-03-04" for midnight, else "2021-03-04T05:06:07" with a fraction
    where there is one. A time without an offset is taken as UTC.

    Raises:
        ValueError, OverflowError: no such date.
    """
    if not isinstance(given, str):
        raise ValueError("no string")
    if not (text := given.strip()):
        return None
    if not (found := _DATE.fullmatch(text)):
        raise ValueError("no date")
    *parts, fraction, offset = found.groups()
    moment = datetime(*(int(part or 0) for part in parts), int(f"{fraction or ''}000000"[:6]))  # type: ignore[arg-type]
    moment -= _offset(offset or "Z")
    return moment.date().isoformat() if moment.time() == moment.min.time() else moment.isoformat()


def _offset(text: str) -> timedelta:
    if text in "Zz":
        return timedelta()
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("no offset")
    return timedelta(hours=hours, minutes=minutes) * (-1 if text[0] == "-" else 1)


def shown(value: object) -> str:
    """Returns a value for a message, cut short."""
    try:
        return _short.repr(value)
    except ValueError:  # an integer of more digits than Python will print
        return f"a value of type {type(value).__name__}"


class Type(NamedTuple):
    """How a value of a type is read, and what is expected of it."""

    read: Callable[[Any], Scalar | None]
    expected: str


TYPES: dict[str, Type] = {
    "text": Type(_text, "a string"),
    "integer": Type(_integer, "a whole number of 64 bits, as 2021"),
    "number": Type(_number, "a finite number, as 0.5"),
    "boolean": Type(_boolean, "true or false"),
    "date": Type(date, "an ISO 8601 date or time, as '2021-03-04' or '2021-03-04T05:06:07Z'"),
}

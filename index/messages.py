"""Protobuf messages as CIFF has them: flat ones by a table of types, and postings many at a time.

The codec is our own. A postings list holds a message for every posting, of each of which protobuf's classes make an
object; numpy reads and writes many thousands at a time, and no package is needed. Tests compare it with protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 2**31 - 1  # of an int32, and of the bytes of a message

_PIECE = 1 << 20  # bytes of postings that are decoded together
_POSTINGS = 1 << 16  # postings that are encoded together
_POSTING = (int, int)

NUMBER, DOUBLE, BYTES, SINGLE = 0, 1, 2, 5  # wire types
_FIXED = {DOUBLE: 8, SINGLE: 4}
_WIRES = {int: NUMBER, float: DOUBLE, str: BYTES}
_REPEATED = 4  # the field number of the postings in their list
# What is before a posting, its gap and its value: field number and wire type in one.
_TAGS = np.array([_REPEATED << 3 | BYTES, 1 << 3 | NUMBER, 2 << 3 | NUMBER])

NO_CIFF = "this is no CIFF file, or it is damaged"


class BrokenError(Exception):
    """What is wrong with the bytes at hand; whoever knows the place adds it."""


def encoded(values: Sequence[Any], types: Sequence[type]) -> bytes:
    """Returns a message; as proto3 has it, what is 0 or empty is left out."""
    parts = []
    for number, (value, kind) in enumerate(zip(values, types, strict=True), start=1):
        if value:
            parts += [varint(number << 3 | _WIRES[kind]), _ENCODE[kind](value)]
    return b"".join(parts)


def decoded(data: bytes, types: Sequence[type]) -> list[Any]:
    """Returns the fields of a message in the order of their numbers; unknown ones are passed over.

    Raises:
        BrokenError: it is no such message.
    """
    found = [kind() for kind in types]
    for number, wire, value, _ in _fields(data):
        if number <= len(types):
            found[number - 1] = _value(number, wire, value, types[number - 1])
    return found


def decoded_list(
    data: bytes, types: Sequence[type]
) -> tuple[list[Any], NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Returns the fields of a postings list other than its postings, and the postings' gaps and values.

    Raises:
        BrokenError: it is no such message.
    """
    head = [kind() for kind in types]
    pairs: list[list[int]] = []
    for number, wire, value, end in _fields(data):
        if number == _REPEATED and wire == BYTES:
            pairs.append(decoded(value, _POSTING))
            if len(pairs) == 1 and (rest := _unpacked(data, end)) is not None:
                found = np.concatenate([np.array(pairs, np.int64), rest])
                return head, found[:, 0], found[:, 1]
        elif number <= len(types):
            head[number - 1] = _value(number, wire, value, types[number - 1])
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return head, found[:, 0], found[:, 1]


def packed(gaps: NDArray[np.int64], values: NDArray[np.int64]) -> bytes:
    """Returns postings as fields of a message; a gap of 0, which only a first posting has, is left out."""
    if gaps.size and gaps[0] == 0:
        first = encoded((0, int(values[0])), _POSTING)
        return varint(int(_TAGS[0])) + varint(len(first)) + first + packed(gaps[1:], values[1:])
    pieces = (slice(start, start + _POSTINGS) for start in range(0, gaps.size, _POSTINGS))
    return b"".join(_packed(gaps[piece], values[piece]) for piece in pieces)


def varint(value: int) -> bytes:
    """Returns a number, not negative, in as many groups of seven bits as it needs, the lowest first."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _text(value: str) -> bytes:
    data = value.encode()
    return varint(len(data)) + data


_ENCODE: Mapping[type, Callable[[Any], bytes]] = {
    int: varint,
    float: lambda value: struct.pack("<d", value),
    str: _text,
}


def _value(number: int, wire: int, value: Any, kind: type) -> Any:
    if wire != _WIRES[kind]:
        raise BrokenError(f"has field {number} of another type: {NO_CIFF}")
    if kind is str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise BrokenError(f"has text that is not UTF-8 in field {number}") from None
    return struct.unpack("<d", value)[0] if kind is float else value


def _fields(data: bytes) -> Iterator[tuple[int, int, Any, int]]:
    """Yields (field number, wire type, value, where it ends) of a message."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == NUMBER:
            value, at = _read_varint(data, at)
        elif wire == BYTES or wire in _FIXED:
            size, start = (_FIXED[wire], at) if wire in _FIXED else _read_varint(data, at)
            value, at = data[start : start + size], start + size if size >= 0 else len(data) + 1
        else:
            raise BrokenError(f"is no protobuf message: {NO_CIFF}")
        if number <= 0 or at > len(data):
            raise BrokenError(f"has a field that goes beyond its end: {NO_CIFF}")
        yield number, wire, value, at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns a signed 64-bit number and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 70:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            value &= 2**64 - 1
            return value - (value >> 63 << 64), at
    raise BrokenError(f"has a number that does not end: {NO_CIFF}")


def _unpacked(data: bytes, at: int) -> NDArray[np.int64] | None:
    """Returns the (gap, value) of postings up to the end of a message; None where it is not as everybody writes it.

    As everybody writes it, a posting is six numbers: tag, size, tag, gap, tag, value. Protobuf allows other orders.
    """
    tables, whole = [np.empty((0, 2), np.int64)], np.frombuffer(data, np.uint8)
    while at < whole.size:
        piece = whole[at : at + _PIECE]
        ends = np.flatnonzero(piece < 128)
        ends = ends[: ends.size - ends.size % 6]
        sizes = np.diff(ends, prepend=-1)
        if not ends.size or sizes.max() > 5:
            return None
        table, widths = _numbers(piece, ends, sizes).reshape(-1, 6), sizes.reshape(-1, 6)
        if (table[:, ::2] != _TAGS).any() or (table[:, 1] != widths[:, 2:].sum(axis=1)).any():
            return None
        tables.append(table[:, [3, 5]])
        at += int(ends[-1]) + 1
    return np.concatenate(tables)


def _numbers(data: NDArray[np.uint8], ends: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.int64]:
    """Returns the varints that end at `ends`."""
    starts = ends - sizes + 1
    values = (data[starts] & 127).astype(np.int64)
    for place in range(1, int(sizes.max())):
        longer = np.flatnonzero(sizes > place)
        values[longer] |= (data[starts[longer] + place] & 127).astype(np.int64) << 7 * place
    return values


def _packed(gaps: NDArray[np.int64], values: NDArray[np.int64]) -> bytes:
    table = np.empty((gaps.size, 6), np.int64)
    table[:, ::2] = _TAGS
    table[:, 3], table[:, 5] = gaps, values
    sizes = np.ones_like(table)
    for column in (3, 5):
        for place in range(1, 5):
            sizes[:, column] += table[:, column] >= 1 << 7 * place
    table[:, 1] = sizes[:, 2:].sum(axis=1)
    return _as_varints(table.ravel(), sizes.ravel())


def _as_varints(numbers: NDArray[np.int64], sizes: NDArray[np.int64]) -> bytes:
    ends = np.cumsum(sizes)
    data = np.zeros(int(ends[-1]), np.uint8)
    for place in range(int(sizes.max())):
        longer = np.flatnonzero(sizes > place)
        more = np.where(sizes[longer] > place + 1, 128, 0)
        data[ends[longer] - sizes[longer] + place] = (numbers[longer] >> 7 * place & 127) | more
    return data.tobytes()

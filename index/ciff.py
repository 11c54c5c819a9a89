"""CIFF, the Common Index File Format, as a stream: a header, a postings list a term, a record a document.

Lin et al., "Supporting Interoperability Between Open-Source Search Engines with the Common Index File Format", arXiv
2003.08276. Each is a protobuf message behind its length; document numbers in a postings list are gaps.

`messages` is the codec, and says why it is our own.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from .contract import StoreError
from .messages import LARGEST, BrokenError, decoded, decoded_list, encoded, packed, varint

VERSION = 1
_READ = 1 << 24  # bytes read at once
_GZIP = b"\x1f\x8b"
_DAMAGE = (EOFError, OSError, zlib.error)

# Messages: the type of each field, in the order of its numbers, which count from 1.
_HEADER = (int, int, int, int, int, int, float, str)
_LIST = (str, int, int)
_RECORD = (int, str, int)


class Header(NamedTuple):
    """What a file says of itself, in the order of the format's field numbers.

    Attributes:
        version: of the format.
        lists: postings lists that follow.
        documents: document records that follow them.
        total_lists: terms of the collection; more than `lists` in a partial export.
        total_documents: documents of the collection.
        total_terms: the sum of all document lengths.
        average_length: mean document length.
        description: for people.
    """

    version: int = VERSION
    lists: int = 0
    documents: int = 0
    total_lists: int = 0
    total_documents: int = 0
    total_terms: int = 0
    average_length: float = 0.0
    description: str = ""

    @property
    def limit(self) -> int:
        """The document number below which all of the file's are."""
        return max(self.documents, self.total_documents)


class Postings(NamedTuple):
    """One term's postings: document numbers, int64 ascending, and frequencies or impacts, int64."""

    term: str
    documents: NDArray[np.int64]
    values: NDArray[np.int64]


class Record(NamedTuple):
    """A document: its number in the postings lists, its external id, its length."""

    number: int = 0
    id: str = ""
    length: int = 0


class Reader:
    """A CIFF file, also compressed with gzip, from its beginning to its end: header, `postings`, then `documents`.

    A context manager. Memory holds one message at a time.

    Args:
        path: the file.
        on_bytes: told how many more bytes of the file, as stored, have been read.

    Raises:
        StoreError: the file cannot be opened, or is damaged, cut short or of another kind; the message says where.
    """

    def __init__(self, path: Path, *, on_bytes: Callable[[int], None] | None = None) -> None:
        self.path, self._on_bytes = path, on_bytes or (lambda _count: None)
        self._closing, self._at, self._told = ExitStack(), 0, 0
        try:
            self._raw = self._closing.enter_context(path.open("rb"))
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
        packed = self._raw.peek(2)[:2] == _GZIP
        data = self._closing.enter_context(gzip.GzipFile(fileobj=self._raw)) if packed else self._raw
        self._data = cast("BinaryIO", data)
        try:
            self.header = self._header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._closing.close()

    def postings(self) -> Iterator[Postings]:
        """Yields the postings lists as they come.

        Raises:
            StoreError: one is broken; its documents do not ascend, or are not among those of the header.
        """
        for number in range(1, self.header.lists + 1):
            yield self._decoded(f"postings list {number:,} of {self.header.lists:,}", self._postings)

    def documents(self) -> Iterator[Record]:
        """Yields the document records, which follow the postings lists, and checks that nothing follows them.

        Raises:
            StoreError: one is broken, or their numbers do not ascend.
        """
        last = -1
        for number in range(1, self.header.documents + 1):
            what = f"document record {number:,} of {self.header.documents:,}"
            found = self._decoded(what, lambda data: Record(*decoded(data, _RECORD)))
            if not last < found.number < self.header.limit:
                raise self._broken(what, f"has number {found.number} after {last}; they ascend, below the header's "
                                   f"{self.header.limit:,}")  # fmt: skip
            if not 0 <= found.length <= LARGEST:
                raise self._broken(what, f"has length {found.length}; expected 0 to {LARGEST:,}")
            last = found.number
            yield found
        if self._take(1, "end", most=True):
            raise self._broken("end", "has more bytes behind the last document record")

    def _header(self) -> Header:
        header = self._decoded("header", lambda data: Header(*decoded(data, _HEADER)))
        if header.version != VERSION:
            raise self._broken("header", f"is of version {header.version}; version {VERSION} is read")
        if min(header.lists, header.documents, header.total_documents) < 0:
            raise self._broken("header", "announces a negative number of lists or documents")
        if header.limit > LARGEST:  # room is made by it
            raise self._broken("header", f"announces {header.limit:,} documents; their numbers end at {LARGEST:,}")
        return header

    def _postings(self, data: bytes) -> Postings:
        (term, announced, _), gaps, values = decoded_list(data, _LIST)
        if not term:
            raise BrokenError("has no term")
        if announced != gaps.size:
            raise BrokenError(f"({term!r}) announces {announced} postings and holds {gaps.size}")
        if gaps.size and (gaps[0] < 0 or (gaps[1:] <= 0).any()):
            raise BrokenError(f"({term!r}) has documents that do not ascend")
        documents = np.cumsum(np.minimum(gaps, LARGEST))
        if gaps.size and documents[-1] >= self.header.limit:
            raise BrokenError(
                f"({term!r}) names document {documents[-1]:,}, the file has {self.header.limit:,} (numbers are stored "
                "as gaps: was it written with whole numbers?)"
            )
        if values.size and not 1 <= values.min() <= values.max() <= LARGEST:
            wrong = values[(values < 1) | (values > LARGEST)][0]
            raise BrokenError(f"({term!r}) has a frequency of {wrong}; expected 1 to {LARGEST:,}")
        return Postings(term, documents, values)

    def _decoded(self, what: str, decode: Callable[[bytes], Any]) -> Any:
        data = self._message(what)
        try:
            return decode(data)
        except BrokenError as error:
            raise self._broken(what, str(error)) from None

    def _message(self, what: str) -> bytes:
        size = shift = 0
        while True:
            byte = self._take(1, what)[0]
            size |= (byte & 127) << shift
            shift += 7
            if size > LARGEST or shift > 35:
                raise self._broken(what, "is longer than a message can be: this is no CIFF file, or it is damaged")
            if byte < 128:
                return self._take(size, what)

    def _take(self, size: int, what: str, *, most: bool = False) -> bytes:
        """Returns the next bytes; fewer, with `most`, at the end. A wrong size of gigabytes allocates nothing."""
        parts, missing = [], size
        try:
            while missing and (part := self._data.read(min(missing, _READ))):
                parts.append(part)
                missing -= len(part)
        except _DAMAGE as error:
            raise self._broken(what, f"cannot be read, the file is damaged or cut short ({error})") from error
        if missing and not most:
            raise self._broken(what, f"is cut short, bytes missing: {missing:,}")
        self._at += size - missing
        if (now := self._raw.tell()) > self._told:
            self._on_bytes(now - self._told)
            self._told = now
        return b"".join(parts)

    def _broken(self, what: str, problem: str) -> StoreError:
        return StoreError(f"{self.path}, before byte {self._at:,}: the {what} {problem}")


class Writer:
    """Writes a CIFF file into an open handle: the header, then all postings lists, then all document records."""

    def __init__(self, handle: BinaryIO, header: Header) -> None:
        self._handle = handle
        self._write(encoded(header, _HEADER))

    def postings(self, term: str, documents: NDArray[np.integer], values: NDArray[np.integer]) -> None:
        """Writes one term's postings: document numbers, ascending, and what each is worth, from 1."""
        head = encoded((term, documents.size, int(values.sum(dtype=np.int64))), _LIST)
        gaps = np.diff(documents.astype(np.int64), prepend=0)
        self._write(head + packed(gaps, values.astype(np.int64)))

    def document(self, record: Record) -> None:
        """Writes a document record."""
        self._write(encoded(record, _RECORD))

    def _write(self, message: bytes) -> None:
        self._handle.write(varint(len(message)))
        self._handle.write(message)

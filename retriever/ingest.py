"""Files to documents, in a stream: what `plait index` reads."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Literal

from .documents import Document, IngestError, place
from .passages import OVERLAP, WORDS, check_lengths, split_document
from .queries import read_queries
from .readers import Found
from .sources import Paths, Source, find_sources, total_bytes
from .streams import Reject, rejecter

__all__ = ["Passages", "Seen", "read_documents", "read_queries", "total_bytes"]

Passages = Literal["auto", "always", "never"]
# Which documents are cut, by policy, given whether a file is one document.
SPLITS: dict[str, Callable[[bool], bool]] = {
    "auto": lambda whole: whole,
    "always": lambda _whole: True,
    "never": lambda _whole: False,
}


def read_documents(
    paths: Paths,
    *,
    skip_bad: bool = False,
    on_bad: Callable[[IngestError], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    passages: Passages = "auto",
    words: int = WORDS,
    overlap: int = OVERLAP,
) -> Iterator[Document]:
    """Returns an iterator over the documents in files and folders, read as it is consumed.

    Args:
        paths: one path or several: files with a suffix in `READERS` (also compressed), folders, "-" for JSONL on
            standard input. They are looked up now; a path that does not exist fails here, not an hour later.
        skip_bad: pass over bad input instead of raising.
        on_bad: told of each piece of bad input that was passed over.
        on_bytes: told how many more bytes of input, as stored, have been used up; over a whole reading that adds up
            to `total_bytes(paths)`.
        passages: "auto" cuts text files into passages and leaves records as they are; "always" cuts both; "never"
            neither.
        words: the greatest length of a passage, in words.
        overlap: how many words a passage shares with the one before, at most.

    Raises:
        IngestError: bad input; the message names the file and the line.
        ValueError: an option that is out of range.
    """
    if passages not in SPLITS:
        raise ValueError(f"passages is {passages!r}; expected one of {', '.join(map(repr, SPLITS))}")
    check_lengths(words, overlap)
    reject = rejecter(skip_bad=skip_bad, on_bad=on_bad)
    sources = find_sources(paths, reject)
    return _read(sources, reject, on_bytes or (lambda _count: None), SPLITS[passages], words, overlap)


def _read(
    sources: list[Source],
    reject: Reject,
    on_bytes: Callable[[int], None],
    splits: Callable[[bool], bool],
    words: int,
    overlap: int,
) -> Iterator[Document]:
    seen = Seen()
    for number, source in enumerate(sources):
        split = splits(source.format.whole)
        for document, line in _found(source, reject, on_bytes):
            first = seen.add(document.id, number, line or 0)
            if first is None and split:  # its passages have ids of their own, which may be those of records
                first = seen.add(f"{document.id}#0", number, line or 0)
            if first is not None:
                reject(_duplicate(document, source, line, place(sources[first[0]].name, first[1] or None)))
            elif split:
                yield from split_document(document, words=words, overlap=overlap)
            else:
                yield document


def _found(source: Source, reject: Reject, on_bytes: Callable[[int], None]) -> Iterator[Found]:
    """Yields a source's documents; what is wrong with the file as a whole is rejected, and ends it."""
    counted, size = 0, source.size
    try:
        with source.open() as stream:
            for found in source.format.read(stream, source.inside, reject):
                position = stream.position()
                on_bytes(position - counted)
                counted = position
                yield found
    except IngestError as error:
        reject(error)
    if size is not None:
        on_bytes(size - counted)


def _duplicate(document: Document, source: Source, line: int | None, first: str) -> IngestError:
    problem = f"duplicate document id {document.id!r}, first seen in {first}; give each document an id of its own"
    return IngestError(problem, path=source.name, line=line)


class Seen:
    """The ids met so far and where, in 24 bytes a slot: an open-addressing table of 127-bit digests.

    Two different ids share a digest with a probability of about n^2 / 2^128: under 1e-22 for a hundred million.
    """

    def __init__(self) -> None:
        self._count = 0
        self._keys = array("Q", bytes(2 * 8 * 1024))
        self._places = array("Q", bytes(8 * 1024))

    def __len__(self) -> int:
        return self._count

    def add(self, name: str, source: int, line: int) -> tuple[int, int] | None:
        """Returns None and remembers a new id, or returns the (source, line) at which it was met before."""
        digest = blake2b(name.encode(), digest_size=16).digest()
        low, high = int.from_bytes(digest[:8], "little") | 1, int.from_bytes(digest[8:], "little")  # low 0: a free slot
        slot = self._slot(low, high)
        if self._keys[2 * slot]:
            return divmod(self._places[slot], 1 << 32)
        self._put(slot, low, high, source << 32 | line)
        self._count += 1
        if 3 * self._count > 2 * len(self._places):
            self._grow()
        return None

    def _slot(self, low: int, high: int) -> int:
        keys, mask = self._keys, len(self._places) - 1
        slot = high & mask
        while keys[2 * slot] and (keys[2 * slot] != low or keys[2 * slot + 1] != high):
            slot = (slot + 1) & mask
        return slot

    def _put(self, slot: int, low: int, high: int, where: int) -> None:
        self._keys[2 * slot], self._keys[2 * slot + 1], self._places[slot] = low, high, where

    def _grow(self) -> None:
        keys, places = self._keys, self._places
        self._keys, self._places = array("Q", bytes(32 * len(places))), array("Q", bytes(16 * len(places)))
        for slot, where in enumerate(places):
            if keys[2 * slot]:
                low, high = keys[2 * slot], keys[2 * slot + 1]
                self._put(self._slot(low, high), low, high, where)

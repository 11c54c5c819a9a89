"""Anserini's JsonVectorCollection: a line of JSON a document, with the weight of each of its terms.

    {"id": "doc1", "contents": "Snow falls.", "vector": {"snow": 123, "fall": 45}}

Anserini reads weights as whole numbers and cuts off what is behind the point.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .documents import Document, IngestError, check_document, check_id, kind_of_value
from .outputs import output
from .readers import ID_KEYS, TEXT_KEYS, parse_object, record_id
from .streams import OPENERS, kind_of, open_stream, rejecter

SUFFIXES = (".jsonl", ".json", ".ndjson")
PART = 100_000  # documents to a file of a folder
_OTHERS = {*ID_KEYS, *TEXT_KEYS, "title", "metadata", "vector"}


class Vector(NamedTuple):
    """A document, whose text may be empty, with its terms' weights, each above 0, and the line it is on."""

    document: Document
    weights: dict[str, float]
    file: str
    line: int


def find_files(path: Path) -> list[Path]:
    """Returns the files of a collection in sorted order: the one named, or those in a folder, hidden ones left out.

    Raises:
        IngestError: there is no such file, or none in the folder.
    """
    if path.is_dir():
        below = (file for file in sorted(path.rglob("*")) if file.is_file())
        found = [file for file in below if kind_of(file) in SUFFIXES and not _hidden(file.relative_to(path))]
        if not found:
            raise IngestError(f"this folder holds no file of vectors; expected {_known()}", path=str(path))
        return found
    if not path.exists():
        raise IngestError("there is no such file or folder; check the path", path=str(path))
    return [path]


def read_vectors(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[Vector]:
    """Yields the documents of a file or folder with their vectors.

    Args:
        path: a .jsonl, .json or .ndjson file, also compressed, or a folder of them.
        on_bytes: told how many more bytes, as stored, have been read.

    Raises:
        IngestError: bad input; the message names the file and the line.
    """
    reject = rejecter(skip_bad=False, on_bad=None)
    for file in find_files(path):
        with open_stream(file, str(file)) as stream:
            counted = 0
            for number, line in stream.lines(reject):
                if line.strip():
                    yield _on_line(line, str(file), number)
                if on_bytes is not None:
                    counted, before = stream.position(), counted
                    on_bytes(counted - before)


def _on_line(line: str, file: str, number: int) -> Vector:
    try:
        return _vector(parse_object(line), file, number)
    except IngestError as error:
        raise error.at(file, number) from None


def _vector(record: Mapping[str, Any], file: str, line: int) -> Vector:
    id = check_id(record_id(_first(record, ID_KEYS)))
    weights = _weights(record.get("vector"), id)
    text, title = (_or_nothing(_first(record, names), "") for names in (TEXT_KEYS, ("title",)))
    metadata = _or_nothing(record.get("metadata"), {})
    if not isinstance(metadata, dict):
        raise IngestError(f"the metadata of document {id!r} is {kind_of_value(metadata)}; expected names and values")
    others = {name: value for name, value in record.items() if name not in _OTHERS}
    document = Document(id, text, title, metadata={**others, **metadata})
    # A document of vectors may be without words, and so no other document may.
    check_document(document if document.full_text else replace(document, text="-"))
    return Vector(document, weights, file, line)


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if name in record), None)


def _or_nothing(value: Any, nothing: Any) -> Any:
    return nothing if value is None else value


def _weights(vector: Any, id: str) -> dict[str, float]:
    if isinstance(vector, list):
        raise IngestError(
            f"the vector of document {id!r} is a list of numbers, a dense one; expected terms and weights"
        )
    if not isinstance(vector, dict):
        raise IngestError(f"the vector of document {id!r} is {kind_of_value(vector)}; expected terms and weights")
    return {_term(term, id): weight for term, given in vector.items() if (weight := _weight(term, given, id))}


def _weight(term: str, given: Any, id: str) -> float:
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    try:
        weight = float(given) if number else math.nan
    except OverflowError:
        weight = math.inf
    if not 0 <= weight < 1e38:
        raise IngestError(f"the weight of {term!r} in document {id!r} is {given!r}; expected a number, 0 or more")
    return weight


def _term(term: str, id: str) -> str:
    try:
        term.encode()
    except UnicodeEncodeError:
        raise IngestError(f"the term {term!r} of document {id!r} cannot be held by UTF-8; remove it") from None
    if not term:
        raise IngestError(f"the vector of document {id!r} has an empty term; remove it")
    return term


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _known() -> str:
    return f"{' '.join(SUFFIXES)}, each also compressed as {' '.join(OPENERS)}"


class VectorsWriter:
    """Writes a collection: one file, or a folder of files of `PART` documents each. A context manager.

    Args:
        path: what to write; it must not exist.
        single: one file, not a folder.
    """

    def __init__(self, path: Path, *, single: bool) -> None:
        self._path, self._single, self._count = path, single, 0
        self._open = ExitStack()
        if not single:
            path.mkdir()
        self._handle = self._next()

    def add(self, id: str, text: str, weights: Mapping[str, int]) -> None:
        """Writes a document."""
        if self._count and self._count % PART == 0 and not self._single:
            self._handle = self._next()
        record = {"id": id, "contents": text, "vector": weights}
        self._handle.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
        self._count += 1

    def __enter__(self) -> VectorsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _next(self) -> BinaryIO:
        self._open.close()
        name = self._path if self._single else self._path / f"vectors-{self._count // PART:05d}.jsonl"
        return self._open.enter_context(output(name))

"""One reader a file format: JSONL, CSV, TSV and single text files, each a generator of documents and their lines."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

from . import markup
from .documents import Document, IngestError, check_document, kind_of_value
from .streams import OPENERS, Reject, Stream

ID_KEYS = ("_id", "id")  # BEIR's key, then everybody's
TEXT_KEYS = ("text", "contents")  # "contents" is Anserini's
# A field of a comma-separated row with what ends it; a quote inside an unquoted one is text, as to the csv module.
_FIELD = re.compile(r'(?:"[^"]*(?:""[^"]*)*"|(?:[^",\n][^,\n]*)?)[,\n]')


class Found(NamedTuple):
    """A document and the line it began on; None for a whole file."""

    document: Document
    line: int | None = None


class Format(NamedTuple):
    """How a kind of file is read.

    Attributes:
        read: (open stream, path inside its folder, what to tell of bad input) -> documents.
        whole: a file is one document, split into passages unless asked otherwise.
    """

    read: Callable[[Stream, str, Reject], Iterator[Found]]
    whole: bool


def read_jsonl(stream: Stream, _path: str, reject: Reject) -> Iterator[Found]:
    """Yields the document on each line; blank lines are passed over."""
    for number, line in stream.lines(reject):
        if not line.strip():
            continue
        try:
            document = check_document(from_record(parse_object(line)))
        except IngestError as error:
            reject(error.at(stream.name, number))
        else:
            yield Found(document, number)


def parse_object(line: str) -> dict[str, Any]:
    """Returns the JSON object on a line, or raises `IngestError` with the column."""
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise IngestError(f"broken JSON at column {error.colno}: {error.msg}; one object a line is expected") from None
    except (ValueError, RecursionError) as error:
        raise IngestError(f"JSON that cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise IngestError(f'expected a JSON object such as {{"id": ..., "text": ...}}, got {kind_of_value(value)}')
    return value


def from_record(record: Mapping[str, Any]) -> Document:
    """Returns the document in a record with an id and a text; keys of no other meaning become metadata."""
    id_key, text_key = _first_key(record, ID_KEYS, "id"), _first_key(record, TEXT_KEYS, "text")
    metadata = record.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise IngestError(f"the metadata is {kind_of_value(metadata)}; expected a JSON object")
    used = {id_key, text_key, "title", "metadata"}
    others = {key: value for key, value in record.items() if key not in used}
    title = record.get("title")
    return Document(
        id=record_id(record[id_key]),
        text=record[text_key],
        title="" if title is None else title,
        metadata={**others, **(metadata or {})},
    )


def record_id(value: object) -> Any:
    """Returns an id as it is, and an integer one as a string."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_table(stream: Stream, _path: str, reject: Reject, **dialect: Any) -> Iterator[Found]:
    """Yields the document in each row of a table whose first row names the columns; empty cells are left out."""
    _lift_field_limit()
    columns: list[str] | None = None
    for line, row in _numbered_rows(stream, reject, dialect):
        if columns is None:
            columns = _columns(row, stream.name, line)
            continue
        try:
            document = check_document(from_record(_cells(columns, row)))
        except IngestError as error:
            reject(error.at(stream.name, line))
        else:
            yield Found(document, line)
    if columns is None:
        raise IngestError("is empty; expected a first row that names the columns, id and text", path=stream.name)


def read_csv(stream: Stream, path: str, reject: Reject) -> Iterator[Found]:
    """Yields the rows of a comma-separated table, quoted as RFC 4180 says."""
    return read_table(stream, path, reject)


def read_tsv(stream: Stream, path: str, reject: Reject) -> Iterator[Found]:
    """Yields the rows of a tab-separated table; quotes are text, as in IANA's definition and in TREC's files."""
    return read_table(stream, path, reject, delimiter="\t", quoting=csv.QUOTE_NONE)


def whole_file(page: Callable[[str], markup.Page]) -> Callable[[Stream, str, Reject], Iterator[Found]]:
    """Returns a reader that makes a file one document: id from its path, title from its heading or its name."""

    def read(stream: Stream, path: str, _reject: Reject) -> Iterator[Found]:
        try:
            title, text = page(stream.text())
        except IngestError as error:  # one of the stream's own has its place already
            raise error if error.path else error.at(stream.name) from error
        if not text.strip():
            raise IngestError("holds no text; remove it, or fill it", path=stream.name)
        shown = os.fsencode(path).decode(errors="replace")
        document = Document(path_id(path), text, title or _stem(shown), metadata={"path": shown})
        yield Found(check_document(document))

    return read


def path_id(path: str) -> str:
    """Returns a path as an id: white space, control characters, and % itself percent-encoded."""
    return re.sub(r"[\s%\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda match: quote(os.fsencode(match[0])), path)


READERS: dict[str, Format] = {
    ".jsonl": Format(read_jsonl, whole=False),
    ".ndjson": Format(read_jsonl, whole=False),
    ".csv": Format(read_csv, whole=False),
    ".tsv": Format(read_tsv, whole=False),
    ".txt": Format(whole_file(markup.plain), whole=True),
    ".md": Format(whole_file(markup.markdown), whole=True),
    ".markdown": Format(whole_file(markup.markdown), whole=True),
    ".rst": Format(whole_file(markup.restructured), whole=True),
    ".html": Format(whole_file(markup.html), whole=True),
    ".htm": Format(whole_file(markup.html), whole=True),
}


def known_suffixes() -> str:
    """Returns the suffixes that can be read, for messages and help."""
    return f"{' '.join(READERS)}, each also compressed as {' '.join(OPENERS)}"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _first_key(record: Mapping[str, Any], names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in record:
            return name
    found = ", ".join(map(repr, list(record)[:8])) or "nothing"
    raise IngestError(f"no {what}: expected {' or '.join(map(repr, names))}, found {found}")


def _lift_field_limit() -> None:
    # The csv module refuses fields above 128 KiB, process-wide; documents are longer. A C long holds this anywhere.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))


def _numbered_rows(stream: Stream, reject: Reject, dialect: Mapping[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yields (the line a row begins on, its cells), without blank rows."""
    taken: list[tuple[int, str]] = []  # the lines of the row; the csv module's own count misses rejected ones

    def lines() -> Iterator[str]:
        for number, text in stream.lines(reject):
            taken.append((number, text + "\n"))
            yield taken[-1][1]

    rows = csv.reader(lines(), strict=True, **dialect)
    while True:
        taken.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            line, advice = _broken_quote(taken)
            reject(IngestError(f"broken row: {error}; {advice}", path=stream.name, line=line))
            continue
        if row is None:
            return
        if row:
            yield taken[0][0], row


def _broken_quote(taken: list[tuple[int, str]]) -> tuple[int, str]:
    """Returns where in the lines of a broken row a quote opens that goes astray, as a line number, and what to do."""
    text, place = "".join(part for _, part in taken), 0
    while field := _FIELD.match(text, place):
        place = field.end()
    line, last = taken[min(text.count("\n", 0, place), len(taken) - 1)][0], taken[-1][0]
    if line == last:
        return line, "check its quotes"
    lost = f"the quote that opens here takes in the text up to line {last}, which is lost with it"
    return line, f"{lost}: it must close before a comma or the end of a line, and quotes inside it be written twice"


def _columns(row: list[str], name: str, line: int) -> list[str]:
    roles = {*ID_KEYS, *TEXT_KEYS, "title"}
    columns = [role if (role := cell.strip().lower()) in roles else cell.strip() for cell in row]
    shown = ", ".join(map(repr, columns[:8]))
    for keys in (ID_KEYS, TEXT_KEYS):
        if not set(keys) & set(columns):
            wanted = " or ".join(map(repr, keys))
            problem = f"the first row must name the columns, one of them {wanted}; it reads {shown}: add a header row"
            raise IngestError(problem, path=name, line=line)
    if len(set(columns)) < len(columns):
        raise IngestError(f"two columns have one name; the first row reads {shown}", path=name, line=line)
    return columns


def _cells(columns: list[str], row: list[str]) -> dict[str, Any]:
    if len(row) != len(columns):
        raise IngestError(f"the row has {len(row)} fields where the first row has {len(columns)}; check its separators")
    cells: dict[str, Any] = dict(zip(columns, row, strict=True))
    kept = {name: cell for name, cell in cells.items() if cell or name in ID_KEYS or name in TEXT_KEYS}
    others = {name: kept.pop(name) for name in list(kept) if name == "metadata"}
    return {**kept, **({"metadata": others} if others else {})}


def _stem(path: str) -> str:
    name = Path(path)
    while name.suffix.lower() in OPENERS or name.suffix.lower() in READERS:
        name = name.with_suffix("")
    return name.name

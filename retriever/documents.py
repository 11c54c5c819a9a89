"""What is indexed: a document, what makes one valid, and the error that says where input went wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

# TREC runs and qrels are split on white space, and a lone surrogate cannot be written as UTF-8.
_NOT_IN_ID = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MOST = 2**63  # what a column of the database has no room for


class IngestError(ValueError):
    """Input that cannot become a document or a query; the message says where it is and what to do.

    Attributes:
        problem: what is wrong, without the place.
        path: the file, or None where the input is not a file.
        line: the line in it, counted from 1, or None where the whole file is meant.
    """

    def __init__(self, problem: str, *, path: str | None = None, line: int | None = None) -> None:
        self.problem, self.path, self.line = problem, path, line
        super().__init__(": ".join(filter(None, (place(path, line), problem))))

    def at(self, path: str, line: int | None = None) -> IngestError:
        """Returns the same problem with its place."""
        return IngestError(self.problem, path=path, line=line)


def place(path: str | None, line: int | None) -> str:
    """Returns a readable place: 'corpus.jsonl, line 3', 'corpus.jsonl' or ''."""
    return ", ".join(filter(None, (path, None if line is None else f"line {line}")))


@dataclass(frozen=True, slots=True)
class Document:
    """One unit of retrieval: a whole document, or a passage of one.

    Attributes:
        id: the external id, unique in an index; no white space.
        text: the text that is searched and shown.
        title: searched together with the text.
        metadata: JSON values by name, for filters and for display.
        parent: the id of the document that a passage was cut from; None for a whole document.
        start: where a passage begins in its parent's text, in characters.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    parent: str | None = None
    start: int = 0

    @property
    def full_text(self) -> str:
        """What encoders read: title, a space, text, stripped (BEIR's convention)."""
        return f"{self.title} {self.text}".strip()


def check_document(document: Document) -> Document:
    """Returns the document itself where it can be indexed, so that the check fits into an expression.

    Raises:
        IngestError: an id that is empty or holds white space, a field of the wrong type, no text, text that UTF-8
            cannot hold, or metadata that JSON cannot hold.
    """
    check_id(document.id)
    for name in ("title", "text"):
        _check_text(name, getattr(document, name), document.id)
    if not document.text.strip() and not document.title.strip():
        raise IngestError(f"document {document.id!r} is empty: give it a text or a title, or leave it out")
    if document.parent is not None:
        check_id(document.parent, "parent id")
    _check_start(document)
    _check_metadata(document)
    return document


def check_id(value: object, what: str = "document id") -> str:
    """Returns the id, a non-empty string without white space or control characters, or raises `IngestError`."""
    if not isinstance(value, str):
        raise IngestError(f"the {what} is {kind_of_value(value)} ({value!r}); expected a string")
    if not value:
        raise IngestError(f"the {what} is empty; expected a string such as 'doc-17'")
    if bad := _NOT_IN_ID.search(value):
        raise IngestError(
            f"the {what} {value!r} holds {bad[0]!r} at character {bad.start() + 1}; TREC runs are split on white "
            "space, so ids have none and no control characters: replace it, as in 'doc-17' or 'my%20file'"
        )
    return value


def _check_text(name: str, value: object, document_id: str) -> None:
    if not isinstance(value, str):
        raise IngestError(f"the {name} of document {document_id!r} is {kind_of_value(value)}; expected a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise IngestError(
            f"the {name} of document {document_id!r} holds half a surrogate pair at character {error.start + 1}, "
            "which UTF-8 cannot hold; repair or remove it"
        ) from None


def _check_start(document: Document) -> None:
    start: object = document.start
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < MOST:
        raise IngestError(
            f"the start of document {document.id!r} is {start!r}; expected a character offset, 0 or more, below 2**63"
        )


def _odd_names(value: object) -> Iterator[object]:
    """Yields the names in nested metadata that are no strings: JSON makes strings of them, so others would be read."""
    inside: Iterable[object] = ()
    if isinstance(value, Mapping):
        yield from (name for name in value if not isinstance(name, str))
        inside = value.values()
    elif isinstance(value, (list, tuple)):
        inside = value
    for part in inside:
        yield from _odd_names(part)


def _check_metadata(document: Document) -> None:
    metadata: object = document.metadata
    if not isinstance(metadata, Mapping):
        raise IngestError(
            f"the metadata of document {document.id!r} is {kind_of_value(metadata)}; expected names and values"
        )
    if not metadata:
        return
    try:
        odd = list(islice(_odd_names(metadata), 1))
        if not odd:
            json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise IngestError(
            f"the metadata of document {document.id!r} cannot be written as JSON ({error}); use strings, finite "
            "numbers, true, false, null, lists and objects of these"
        ) from None
    for name in odd:
        raise IngestError(
            f"a metadata name of document {document.id!r} is {kind_of_value(name)} ({name!r}), not a string"
        )


KINDS = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "dict": "an object",
}


def kind_of_value(value: object) -> str:
    """Returns what a value is, in JSON's words: 'null', 'a string', 'an object'."""
    name = type(value).__name__
    return KINDS.get(name, f"a {name}")

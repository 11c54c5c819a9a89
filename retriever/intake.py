"""What users hand to `Retriever.add`, as checked documents in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..index import Field, StoreError
from ..index.fields import check_values
from .documents import Document, IngestError, check_document


def as_document(given: Any) -> Document:
    """Returns a checked Document; a mapping may use BEIR's "_id"."""
    if isinstance(given, Document):
        return check_document(given)
    if not isinstance(given, Mapping):
        raise IngestError(f"a document is a Document or a mapping with 'id' and 'text', not {type(given).__name__}")
    values = dict(given)
    if "_id" in values:
        values["id"] = values.pop("_id")
    try:
        return check_document(Document(**values))
    except TypeError as error:
        fields = ", ".join(Document.__dataclass_fields__)
        raise IngestError(f"a document takes {fields}, not {', '.join(map(repr, values))}") from error


def unique(documents: Iterable[Document], seen: set[str]) -> Iterator[Document]:
    """Yields the documents; an id that comes twice is an error. `seen` gets the ids."""
    for document in documents:
        if document.id in seen:
            raise IngestError(f"the id {document.id!r} comes twice in one call of add; give each document its own id")
        seen.add(document.id)
        yield document


def fitting(
    documents: Iterable[Document], fields: Sequence[Field], on_bad: Callable[[IngestError], None] | None
) -> Iterator[Document]:
    """Yields the documents whose metadata fits the declared fields; of others `on_bad` is told, or an error raised."""
    for document in documents:
        try:
            check_values(fields, [document])
        except StoreError as error:
            if on_bad is None:
                raise IngestError(str(error)) from None
            on_bad(IngestError(str(error)))
        else:
            yield document


def chunks(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    """Yields lists of `size` documents; those read before an error are yielded before it is raised."""
    while True:
        chunk: list[Document] = []
        try:
            for document in islice(documents, size):
                chunk.append(document)
        except Exception:
            if chunk:
                yield chunk
            raise
        if not chunk:
            return
        yield chunk

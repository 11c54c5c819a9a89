"""A test collection: judged queries, their judgements, and documents that are read when they are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ..retriever.documents import Document, IngestError
from ..retriever.ingest import read_documents
from .contract import Qrels
from .own import own_among


class Reader(Protocol):
    """Reads a collection's documents where they are no files that `read_documents` knows."""

    def __call__(
        self,
        *,
        skip_bad: bool,
        on_bad: Callable[[IngestError], None] | None,
        on_bytes: Callable[[int], None] | None,
    ) -> Iterator[Document]:
        """Returns an iterator over the documents, whole; the arguments are those of `read_documents`."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A test collection: the judged queries of one split, their judgements, and where the documents are.

    Attributes:
        name: the folder's name.
        split: which judgements: "test", "dev", "train".
        corpus: the file or folder of documents; of a collection that comes from a package, its name.
        queries: text by query id, of the queries that have judgements.
        qrels: relevance by query id and document id.
        files: the files it was read from, by part: "corpus", "queries" and "qrels".
        reader: how its documents are read; None where `corpus` is a file that `read_documents` knows.
        digests: SHA-256 of parts that are in no file, by part.
    """

    name: str
    split: str
    corpus: Path
    queries: Mapping[str, str]
    qrels: Qrels
    files: Mapping[str, Path] = field(default_factory=dict)
    reader: Reader | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def documents(
        self,
        *,
        skip_bad: bool = False,
        on_bad: Callable[[IngestError], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Iterator[Document]:
        """Returns an iterator over the documents, whole: judgements are of documents, not of passages.

        Args:
            skip_bad: pass over bad input instead of raising.
            on_bad: told of each piece of bad input that was passed over.
            on_bytes: told how many more bytes of input have been used up.
        """
        if self.reader is not None:
            return self.reader(skip_bad=skip_bad, on_bad=on_bad, on_bytes=on_bytes)
        return read_documents(self.corpus, skip_bad=skip_bad, on_bad=on_bad, on_bytes=on_bytes, passages="never")

    @cached_property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file, as stored, by its part, and of parts that are in no file."""
        return {**self.digests} | {part: sha256(path) for part, path in self.files.items()}

    @cached_property
    def own(self) -> frozenset[str]:
        """Ids of queries that are documents themselves: the corpus is read for it; none where it cannot be."""
        return own_among(self.documents(skip_bad=True), self.queries, self.qrels)


def digest(part: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of queries or qrels that are in no file: of their JSON, with sorted names."""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, as stored, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

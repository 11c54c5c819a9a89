"""A query -> ranked, explained hits: the room a user enters.

    from plait.retriever import Document, Retriever

Importing it loads neither torch nor FAISS nor the kernels' compiler, and no reader of files; each is loaded where it is
first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .documents import Document, IngestError
from .errors import (
    CorruptError,
    EncoderError,
    FilterError,
    LevelError,
    LockedError,
    MismatchError,
    PlaitError,
    QueryError,
    StoreError,
)
from .fusion import FUSIONS
from .hierarchy import Group, grouped
from .hits import Answer, Hit, Match, StrandScore
from .log import QueryLog, read_log
from .pipeline import STEPS, read_pipeline
from .proof import Proof
from .ranking import Ranking
from .retriever import Added, Retriever

if TYPE_CHECKING:
    from .ingest import read_documents
    from .queries import read_queries

# public name -> module that has it; imported when first asked for: who only searches reads no files
_HOME = {"read_documents": "ingest", "read_queries": "queries"}

__all__ = [
    "FUSIONS",
    "STEPS",
    "Added",
    "Answer",
    "CorruptError",
    "Document",
    "EncoderError",
    "FilterError",
    "Group",
    "Hit",
    "IngestError",
    "LevelError",
    "LockedError",
    "Match",
    "MismatchError",
    "PlaitError",
    "Proof",
    "QueryError",
    "QueryLog",
    "Ranking",
    "Retriever",
    "StoreError",
    "StrandScore",
    "grouped",
    "read_documents",
    "read_log",
    "read_pipeline",
    "read_queries",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""A query -> ranked, explained hits: the room a user enters.

    from plait.retriever import Document, Retriever

Importing it loads neither torch nor FAISS nor the kernels' compiler; each is loaded where it is first needed.
"""

from .documents import Document, IngestError
from .errors import (
    CorruptError,
    EncoderError,
    FilterError,
    LockedError,
    MismatchError,
    PlaitError,
    QueryError,
    StoreError,
)
from .fusion import FUSIONS
from .hierarchy import Group, grouped
from .hits import Answer, Hit, Match, StrandScore
from .ingest import read_documents
from .log import QueryLog, read_log
from .pipeline import STEPS, read_pipeline
from .proof import Proof
from .queries import read_queries
from .ranking import Ranking
from .retriever import Added, Retriever

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

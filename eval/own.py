"""Queries that are documents themselves, as in ArguAna and Quora: BEIR drops such a document from its own ranking.

An id alone does not say so: many collections count queries and documents alike, from 1. So their texts are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from ..index.ranking import ranked
from ..retriever.documents import Document, IngestError
from .contract import Qrels, Run

if TYPE_CHECKING:
    from ..retriever import Retriever
    from .dataset import Dataset

NONE: frozenset[str] = frozenset()


def own_in_index(retriever: Retriever, queries: Mapping[str, str], qrels: Qrels) -> frozenset[str]:
    """Returns the ids of judged queries that are documents of an index, of the same id and text.

    A document that is judged relevant for the query of its id is to be found, whatever its text.
    """
    found = (retriever.get(query) for query in queries if query in qrels and query in retriever)
    return _own(filter(None, found), queries, qrels)


def own_in_runs(runs: Iterable[Run], dataset: Dataset) -> frozenset[str]:
    """Returns the same of a collection's documents, which are read once, and only where a run ranks a query's id.

    Where they cannot be read, none is taken for a query.
    """
    ranks_one = any(query in run.get(query, ()) for run in runs for query in dataset.queries)
    return dataset.own if ranks_one else NONE


def own_among(documents: Iterable[Document], queries: Mapping[str, str], qrels: Qrels) -> frozenset[str]:
    """Returns the same of documents that are read; none where reading, or fetching them, fails."""
    try:
        return _own(documents, queries, qrels)
    except (IngestError, OSError, RuntimeError):
        return NONE


def without_own(run: Run, own: Collection[str], k: int | None = None) -> Run:
    """Returns a run without the documents that are its queries, and no more than k hits of each where k is given.

    Args:
        run: is not changed.
        own: queries that are documents themselves.
        k: how many hits to keep.
    """
    return {query: _cut(_others(query, hits) if query in own else hits, k) for query, hits in run.items()}


def _own(documents: Iterable[Document], queries: Mapping[str, str], qrels: Qrels) -> frozenset[str]:
    asked = {query: text for query, text in queries.items() if query in qrels and qrels[query].get(query, 0) <= 0}
    return frozenset(each.id for each in documents if each.id in asked and _is_same(asked[each.id], each))


def _is_same(query: str, document: Document) -> bool:
    return _folded(query) in {_folded(text) for text in (document.text, document.title, document.full_text)}


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _others(query: str, hits: Mapping[str, float]) -> Mapping[str, float]:
    return {document: score for document, score in hits.items() if document != query}


def _cut(hits: Mapping[str, float], k: int | None) -> Mapping[str, float]:
    return hits if k is None or len(hits) <= k else dict(ranked(hits, k))

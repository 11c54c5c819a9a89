"""A strand: one way of scoring. It turns query texts into queries, proposes candidates, and scores any document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..encoders.contract import DenseEncoder, FullQueries, Identity, SparseEncoder, full_queries
from ..index import Hits, Selection, Snapshot
from ..index.contract import SparseStrand
from .encoded import dense_rows, names_of, sparse_rows
from .errors import QueryError

STRANDS = ("lexical", "learned", "dense")
LUCENE, LUCENE_IMPACT = "lucene", "lucene-impact"
# Strands over an index of somebody else's, and the strand of ours that each stands beside: weights are alike.
NEIGHBOURS = {LUCENE: "lexical", LUCENE_IMPACT: "learned"}
ALL_STRANDS = (*STRANDS, *NEIGHBOURS)


class SparseQuery(NamedTuple):
    """A query for a sparse strand: terms uint32 ascending, weights float32 (before IDF, if the index weighs them)."""

    terms: NDArray[np.uint32]
    weights: NDArray[np.float32]
    names: dict[int, str]

    @property
    def named(self) -> dict[str, float]:
        """The weights by the terms' names."""
        pairs = zip(self.terms.tolist(), self.weights.tolist(), strict=True)
        return {self.names[term]: weight for term, weight in pairs}


class Bounds(NamedTuple):
    """What a query says of its scores before a document is seen.

    Attributes:
        least: the lowest score that any document could have.
        most: the highest.
        norm: the Euclidean norm of the query's weights times the largest impact there can be; 0 for a dense strand.
    """

    least: float
    most: float
    norm: float


class Strand(Protocol):
    """What the retriever asks of a strand; `query` is what its own `encode` returned."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def identity(self) -> Identity: ...  # noqa: D102

    @property
    def complete(self) -> bool:
        """Whether the strand ranks every document; a sparse one those that share a term."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Returns the vectors to store of these texts; None where the strand stores none."""
        ...

    def literal_terms(self, texts: Sequence[str]) -> Any:
        """Returns the terms that the texts themselves hold, or None where that is all that is stored."""
        ...

    def encode(self, texts: Sequence[str], snapshot: Snapshot, *, full: bool = False) -> list[Any]:
        """Returns a query for each text; `full` where no dense strand hears it, so that it must say all by itself."""
        ...

    def search(
        self,
        snapshot: Snapshot,
        queries: Sequence[Any],
        k: int,
        *,
        within: Selection | None,
        exactness: float,
        exact: bool,
    ) -> list[Hits]:
        """Returns the strand's own top k of each query, of all documents or of those selected.

        `exact` scans every dense vector.
        """
        ...

    def scores(self, snapshot: Snapshot, query: Any, positions: NDArray[np.int64]) -> NDArray[np.floating]:
        """Returns the scores of given documents, equal to those that `search` gives."""
        ...

    def bounds(self, snapshot: Snapshot, query: Any) -> Bounds:
        """Returns what the query alone says of the scores to come."""
        ...

    def matches(self, snapshot: Snapshot, query: Any, positions: NDArray[np.int64]) -> list[list[tuple[str, float]]]:
        """Returns for each document the terms it shares with the query and what each adds to its score."""
        ...


@dataclass
class Sparse:
    """The lexical or the learned strand."""

    name: SparseStrand
    encoder: SparseEncoder

    complete = False

    @property
    def identity(self) -> Identity:
        """The encoder's identity."""
        return self.encoder.identity

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Returns sparse vectors: weights or counts."""
        return self.stored(self.encoder.encode_documents(texts), len(texts))

    def stored(self, rows: Any, texts: int) -> Any:
        """Returns the vectors of so many documents as they are stored, or raises an `EncoderError`."""
        return sparse_rows(rows, self.identity, texts, "encode_documents")

    def literal_terms(self, texts: Sequence[str]) -> Any:
        """Returns the texts' own terms where a model adds others and the index weighs queries by IDF."""
        expands = self.name == "learned" and self.identity.query_weights == "idf"
        # A chunked encoder knows all terms of a long text; as a query the text would be cut.
        if not expands:
            return None
        verb = "document_terms" if hasattr(self.encoder, "document_terms") else "encode_queries"
        return sparse_rows(getattr(self.encoder, verb)(texts), self.identity, len(texts), verb)

    def encode(self, texts: Sequence[str], snapshot: Snapshot, *, full: bool = False) -> list[SparseQuery]:
        """Returns a query for each text, weighted by the snapshot's IDF where the encoder leaves that to the index."""
        whole = full_queries(self.encoder) if full else None
        asked, verb = (self.encoder, "encode_queries") if whole is None else (whole, "encode_full_queries")
        rows = sparse_rows(getattr(asked, verb)(texts), self.identity, len(texts), verb)
        return [self._query(rows, i, text, snapshot, whole) for i, text in enumerate(texts)]

    def _query(self, rows: Any, i: int, text: str, snapshot: Snapshot, whole: FullQueries | None) -> SparseQuery:
        inside = slice(rows.indptr[i], rows.indptr[i + 1])
        terms = snapshot.terms(self.name, rows.indices[inside])
        weights = rows.data[inside].astype(np.float32)
        if self.identity.query_weights == "idf":
            weights = weights * snapshot.idf(terms)
        columns = rows.indices[inside].tolist()
        verb = "term_names" if whole is None else "column_names"
        names = names_of(
            self.encoder.term_names(text) if whole is None else whole.column_names(columns), self.identity, verb
        )
        known = weights > 0
        named = {int(t): names.get(c, str(c)) for t, c in zip(terms.tolist(), columns, strict=True)}
        return SparseQuery(terms[known], weights[known], named)

    def readable(self, snapshot: Snapshot, terms: NDArray[np.uint32], texts: Sequence[str]) -> dict[int, str]:
        """Returns the names of terms: the encoder's where it can tell them, else those that stand in some texts."""
        if (tell := getattr(self.encoder, "column_names", None)) is not None:
            return tell(terms.tolist())  # a learned term is its column
        names: dict[int, str] = {}
        for text in texts:
            found = names_of(self.encoder.term_names(text), self.identity, "term_names")
            columns = np.fromiter(found, np.int64, len(found))
            names |= zip(snapshot.terms(self.name, columns).tolist(), found.values(), strict=True)
        return names

    def search(
        self,
        snapshot: Snapshot,
        queries: Sequence[SparseQuery],
        k: int,
        *,
        within: Selection | None,
        exactness: float,
        exact: bool = False,
    ) -> list[Hits]:
        """Returns the top k of documents that share a term with each query."""
        pairs = [(query.terms, query.weights) for query in queries]
        return snapshot.sparse_search_batch(self.name, pairs, k, within=within, exactness=exactness)

    def scores(self, snapshot: Snapshot, query: SparseQuery, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns sums of weight x impact; 0 where a document shares no term."""
        return snapshot.sparse_scores(self.name, query.terms, query.weights, positions)

    def bounds(self, snapshot: Snapshot, query: SparseQuery) -> Bounds:
        """Returns 0, since impacts and weights are not negative, every term's largest impact, and the query's norm."""
        largest = snapshot.largest_impact(self.name)
        weights = query.weights.astype(np.float64)
        return Bounds(0.0, float(weights.sum()) * largest, float(np.linalg.norm(weights)) * largest)

    def matches(
        self, snapshot: Snapshot, query: SparseQuery, positions: NDArray[np.int64]
    ) -> list[list[tuple[str, float]]]:
        """Returns the shared terms, largest contribution first."""
        (found,) = matches(snapshot, [(self, query)], positions)
        return found


@dataclass
class Dense:
    """The dense strand."""

    encoder: DenseEncoder
    name: str = "dense"

    complete = True

    @property
    def identity(self) -> Identity:
        """The encoder's identity."""
        return self.encoder.identity

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Returns dense vectors."""
        return self.stored(self.encoder.encode_documents(texts), len(texts))

    def stored(self, rows: Any, texts: int) -> NDArray[np.float32]:
        """Returns the vectors of so many documents as they are stored, or raises an `EncoderError`."""
        return dense_rows(rows, self.identity, texts, "encode_documents")

    def literal_terms(self, texts: Sequence[str]) -> None:
        """Returns None: a dense vector has no terms."""

    def encode(self, texts: Sequence[str], snapshot: Snapshot, *, full: bool = False) -> list[NDArray[np.float32]]:
        """Returns one vector a text."""
        return list(self.query_rows(texts))

    def query_rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors of queries, float32 (texts, dim), C-contiguous."""
        return dense_rows(self.encoder.encode_queries(texts), self.identity, len(texts), "encode_queries")

    def search(
        self,
        snapshot: Snapshot,
        queries: Sequence[NDArray[np.float32]],
        k: int,
        *,
        within: Selection | None,
        exactness: float,
        exact: bool = False,
    ) -> list[Hits]:
        """Returns the k nearest documents of each query; how hard a dense index looks is a matter of its own."""
        return snapshot.dense_search_batch(queries, k, within=within, exact=exact)

    def scores(
        self, snapshot: Snapshot, query: NDArray[np.float32], positions: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Returns inner products."""
        return snapshot.dense_scores(query, positions)

    def bounds(self, snapshot: Snapshot, query: NDArray[np.float32]) -> Bounds:
        """Returns minus and plus the product of the query's norm and the largest stored norm: -1 and 1 for cosine."""
        least = float(np.linalg.norm(query)) * snapshot.least_inner_product
        return Bounds(least, -least, 0.0)

    def matches(
        self, snapshot: Snapshot, query: NDArray[np.float32], positions: NDArray[np.int64]
    ) -> list[list[tuple[str, float]]]:  # fmt: skip
        """Returns no terms: a dense vector has none."""
        return [[] for _ in positions]


def with_neighbours(weights: Mapping[str, float]) -> dict[str, float]:
    """Returns weights in which a neighbour that has none has that of the strand it stands beside."""
    lacking = {name: weights[own] for name, own in NEIGHBOURS.items() if own in weights and name not in weights}
    return {**weights, **lacking}


def parse_strands(given: str | Sequence[str], available: Sequence[str] = ALL_STRANDS) -> tuple[str, ...]:
    """Returns strand names in their fixed order, from "lexical,dense" or a sequence.

    Raises:
        QueryError: a name is no strand, or the index was made without it.
    """
    if not isinstance(given, Iterable):
        raise QueryError(f"strands are names, as 'lexical,dense'; not {given!r}")
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    for name in names:
        if name not in ALL_STRANDS:
            raise QueryError(f"no strand {name!r}; there are: {', '.join(ALL_STRANDS)}")
        if name not in available:
            how = f"; name a Lucene index for it: --{name} PATH" if name in NEIGHBOURS else ""
            raise QueryError(f"this index was made without the strand {name!r}; it has: {', '.join(available)}{how}")
    return tuple(strand for strand in ALL_STRANDS if strand in names)


def matches(
    snapshot: Snapshot, asked: Sequence[tuple[Strand, Any]], positions: NDArray[np.int64]
) -> list[list[list[tuple[str, float]]]]:
    """Returns what `Strand.matches` gives for several strands and their queries; sparse ones are looked up at once."""
    ours: list[tuple[SparseStrand, Any, Any]] = [
        (cast("SparseStrand", strand.name), query.terms, query.weights)
        for strand, query in asked
        if isinstance(strand, Sparse)
    ]
    tables = iter(snapshot.contributions(ours, positions) if ours else ())
    found = []
    for strand, query in asked:
        if not isinstance(strand, Sparse):
            found.append(strand.matches(snapshot, query, positions))
            continue
        names = [query.names[term] for term in query.terms.tolist()]
        ordered = (sorted([(-v, n) for n, v in zip(names, row, strict=True) if v > 0]) for row in next(tables).tolist())
        found.append([[(n, -v) for v, n in row] for row in ordered])
    return found

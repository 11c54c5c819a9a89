"""Teachers: what scores queries against documents during training, one encoder or several of different kinds.

An ensemble of a dense and a sparse teacher, each normalised, averaged and scaled, is what inference-free encoders are
distilled from (arXiv 2411.04403, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..index.impacts import idf, saturated
from .encoded import Encoder, Progress, Vectors, encode, load_encoder
from .errors import TrainError
from .pairs import TrainingSet

Positions = NDArray[np.integer]
Scores = NDArray[np.float32]

K1, B = 0.9, 0.4  # the index's own


@runtime_checkable
class Teacher(Protocol):
    """Scores of a training set's queries and documents."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def scores(self, queries: Positions, documents: Positions) -> Scores:
        """Returns float32 (q, d): each query's score of each document.

        Args:
            queries: positions (q,) of queries in the training set.
            documents: positions (d,) of documents in the training set.
        """
        ...


@dataclass(frozen=True)
class DenseTeacher:
    """Inner products of dense vectors.

    Attributes:
        query_vectors: float32 (queries, dim); may be memory-mapped.
        document_vectors: float32 (documents, dim); the same.
        name: what reports call it.
    """

    query_vectors: NDArray[np.float32]
    document_vectors: NDArray[np.float32]
    name: str = "dense"

    def scores(self, queries: Positions, documents: Positions) -> Scores:
        """Returns float32 (q, d)."""
        # Not by BLAS, whose threads would wait for those of the training: this is done in half a millisecond.
        found = np.einsum("id,jd->ij", self.query_vectors[queries], self.document_vectors[documents])
        return np.asarray(found, np.float32)


class SparseTeacher:
    """Inner products of sparse vectors, whose weights are final: idf, where there is one, is in the queries.

    Terms that no query has are let go of, so that a space of 2 ** 32 terms costs no more than a small one.

    Args:
        query_vectors: csr_matrix (queries, terms).
        document_vectors: csr_matrix (documents, terms).
        name: what reports call it.
    """

    def __init__(self, query_vectors: Any, document_vectors: Any, *, name: str = "sparse") -> None:
        if query_vectors.shape[1] != document_vectors.shape[1]:
            shapes = f"{query_vectors.shape} and {document_vectors.shape}"
            raise TrainError(f"queries and documents have different terms: {shapes}; encode both with one encoder")
        self.name = name
        terms = np.unique(query_vectors.indices)
        self._terms = terms.size
        self._queries = _Rows.of(query_vectors, terms)
        self._documents = _Rows.of(document_vectors, terms)

    def scores(self, queries: Positions, documents: Positions) -> Scores:
        """Returns float32 (q, d)."""
        from scipy.sparse import csr_matrix

        row, term, value = self._queries.entries(queries)
        asked, column = np.unique(term, return_inverse=True)
        starts = np.searchsorted(row, np.arange(len(queries) + 1))
        left = csr_matrix((value, column + 1, starts), shape=(len(queries), asked.size + 1))
        place = np.zeros(self._terms, np.int64)  # a term's column; pages that nobody touches cost nothing
        place[asked] = np.arange(1, asked.size + 1)
        row, term, value = self._documents.entries(documents)
        right = np.zeros((asked.size + 1, len(documents)), np.float32)
        right[place[term], row] = value  # line 0 takes what no query asks for
        return left @ right  # sparse times dense: no BLAS, whose threads would wait for those of the training


@dataclass(frozen=True)
class _Rows:
    """Sparse rows over the terms that queries have, each row's terms distinct."""

    starts: NDArray[np.int64]
    terms: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, matrix: Any, terms: NDArray[np.integer]) -> _Rows:
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        place, known = _places(matrix.indices, terms)
        starts = np.concatenate([[0], np.cumsum(known)])[matrix.indptr].astype(np.int64)
        return cls(starts, place[known].astype(np.int32), matrix.data[known].astype(np.float32))

    def entries(self, rows: Positions) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Returns (0, 1, ... of the row asked for, term, value) of all entries of some rows."""
        counts = self.starts[rows + 1] - self.starts[rows]
        ends = np.cumsum(counts)
        at = np.arange(counts.sum()) + np.repeat(self.starts[rows] - ends + counts, counts)
        return np.repeat(np.arange(len(rows)), counts), self.terms[at], self.values[at]


def _places(columns: NDArray[np.integer], terms: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Returns where each column is among the terms (ascending), and whether it is there at all."""
    if not terms.size:
        return np.zeros(columns.size, np.intp), np.zeros(columns.size, bool)
    place = np.minimum(np.searchsorted(terms, columns), terms.size - 1)
    return place, terms[place] == columns


def teacher(
    encoder: Encoder | str,
    training: TrainingSet,
    cache_folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Teacher:
    """Returns an encoder as a teacher of a training set; it encodes everything now, once.

    Args:
        encoder: any encoder of ours or of the same protocol, or a name, see `encoded.load_encoder`.
        training: what it will be asked about.
        cache_folder: where vectors are kept, so that an interrupted or later run goes on from there.
        progress: called with ("documents", "queries" or "literal", done, total).

    Raises:
        EncoderError: there is no such encoder, or it cannot encode a text.
    """
    chosen = load_encoder(encoder) if isinstance(encoder, str) else encoder
    vectors = encode(chosen, training, cache_folder=cache_folder, on_progress=progress)
    return from_vectors(vectors, name=encoder if isinstance(encoder, str) else chosen.identity.name)


def from_vectors(vectors: Vectors, *, name: str = "", k1: float = K1, b: float = B) -> Teacher:
    """Returns a teacher over vectors: BM25 for counts, else inner products, with idf where queries lack it.

    Args:
        vectors: of the training set.
        name: what reports call it; the strand where empty.
        k1: BM25's saturation.
        b: BM25's share of length normalisation.
    """
    name = name or vectors.strand
    if vectors.strand == "dense":
        return DenseTeacher(vectors.queries, vectors.documents, name)
    documents = bm25_documents(vectors.documents, k1=k1, b=b) if vectors.strand == "lexical" else vectors.documents
    return SparseTeacher(weighed_queries(vectors), documents, name=name)


def bm25_documents(counts: Any, *, k1: float = K1, b: float = B) -> Any:
    """Returns term counts csr_matrix (documents, terms) as BM25's document side, by the index's own formula."""
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    average = float(lengths.mean()) if lengths.size else 0.0
    tf = np.clip(np.rint(counts.data), 1, 255).astype(np.uint8)
    held = np.repeat(lengths.astype(np.uint32), np.diff(counts.indptr))
    return _valued(counts, saturated(tf, held, average, k1, b).astype(np.float32))


def weighed_queries(vectors: Vectors) -> Any:
    """Returns query vectors with final weights: times the idf of the documents, where that is still to be done."""
    queries = vectors.queries
    if not vectors.idf:
        return queries
    terms = np.unique(queries.indices)
    weights = idf(_frequencies(vectors, terms), vectors.documents.shape[0])
    return _valued(queries, queries.data * weights[np.searchsorted(terms, queries.indices)])


def _frequencies(vectors: Vectors, terms: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns how many documents hold each term; where terms are added by a model, hold it themselves."""
    held = vectors.documents
    place, known = _places(held.indices, terms)
    if vectors.literal is not None:
        row = np.repeat(np.arange(held.shape[0], dtype=np.int64), np.diff(held.indptr))
        own = np.repeat(np.arange(held.shape[0], dtype=np.int64), np.diff(vectors.literal.indptr))
        known &= np.isin(row * held.shape[1] + held.indices, own * held.shape[1] + vectors.literal.indices)
    return np.bincount(place[known & (held.data > 0)], minlength=terms.size).astype(np.int64)


def _valued(matrix: Any, values: NDArray[np.float32]) -> Any:
    """Returns a matrix of the same entries with other values."""
    from scipy.sparse import csr_matrix

    return csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)


# Several teachers as one


def _spread(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    return low, high, high > low


def _minmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high, differs = _spread(scores)
    return np.where(differs, (scores - low) / np.where(differs, high - low, 1), 0)


def _zscore(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    _, _, differs = _spread(scores)
    deviation = scores.std(axis=1, keepdims=True)
    usable = differs & (deviation > 0)
    return np.where(usable, (scores - scores.mean(axis=1, keepdims=True)) / np.where(usable, deviation, 1), 0)


NORMALISERS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "minmax": _minmax,
    "zscore": _zscore,
    "none": lambda scores: scores,
}


def normalised(scores: NDArray[np.floating], how: str = "minmax") -> Scores:
    """Returns scores (queries, documents), float32, normalised row by row; a row of equal scores becomes zeros.

    Args:
        scores: finite.
        how: "minmax" to 0 .. 1, "zscore" to mean 0 and deviation 1, "none" as they are.
    """
    _check_normaliser(how)
    wide = np.asarray(scores, np.float64)
    return (NORMALISERS[how](wide) if wide.size else wide).astype(np.float32)


@dataclass(frozen=True)
class Ensemble:
    """Several teachers as one: each normalised over the candidates at hand, averaged, scaled. See `ensemble`."""

    teachers: tuple[Teacher, ...]
    normalise: str
    weights: tuple[float, ...]
    scale: float

    @property
    def name(self) -> str:
        """Returns the teachers' names."""
        return " + ".join(each.name for each in self.teachers)

    def scores(self, queries: Positions, documents: Positions) -> Scores:
        """Returns float32 (q, d); where normalised, a score depends on which documents are given."""
        return self.combined([each.scores(queries, documents) for each in self.teachers])

    def combined(self, scores: Sequence[NDArray[np.floating]]) -> Scores:
        """Returns scores float32 (q, d) made of one such matrix a teacher, however they were come by."""
        total = sum(self.weights)
        parts = zip(self.weights, scores, strict=True)
        mean = sum(weight / total * normalised(each, self.normalise).astype(np.float64) for weight, each in parts)
        return np.asarray(self.scale * mean, np.float32)


def ensemble(
    teachers: Sequence[Teacher],
    normalise: str = "minmax",
    weights: Sequence[float] | None = None,
    scale: float = 10.0,
) -> Ensemble:
    """Returns teachers of different kinds as one (arXiv 2411.04403, section 3.2).

    Args:
        teachers: one or more.
        normalise: a name from `NORMALISERS`, done for each query over the documents it is asked about.
        weights: one a teacher, not negative; they are made to sum to 1. None weighs all alike.
        scale: what the mean is multiplied by; the greater, the more a softmax of it prefers the best.

    Raises:
        TrainError: no teacher, an unknown normalisation, or weights or a scale that cannot be.
    """
    _check_normaliser(normalise)
    given = tuple(1.0 for _ in teachers) if weights is None else tuple(map(float, weights))
    if not teachers or len(given) != len(teachers):
        raise TrainError(
            f"an ensemble takes one teacher or more and a weight each, not {len(teachers)} and {len(given)}"
        )
    if not (all(0 <= weight < np.inf for weight in given) and sum(given) > 0 and 0 < scale < np.inf):
        raise TrainError(f"weights are not negative and not all 0, the scale is above 0; not {given} and {scale}")
    return Ensemble(tuple(teachers), normalise, given, scale)


def _check_normaliser(name: str) -> None:
    if name not in NORMALISERS:
        raise TrainError(f"no normalisation {name!r}; there are: {', '.join(NORMALISERS)}")

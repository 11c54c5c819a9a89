"""A reader's view: one commit, frozen; searched strand by strand over all its segments."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import database
from .contract import TERM_BASE, Hits, Layout, Row, SparseStrand
from .impacts import idf
from .segment import COLD_POSTINGS, NONE_DEAD, Segment, kernels_loaded, load_kernels


class Snapshot:
    """An index as it was at one commit. Safe to use from several threads; later commits do not show.

    As a context manager it stays open while the block runs, even if another thread closes it meanwhile.

    Args:
        folder: the index.
        verify: read every file and compare checksums; None does so for small segments only.
        older: an earlier snapshot of the same index, whose opened segments are used again.

    Raises:
        StoreError: there is no index, or its format is another.
        CorruptError: a file is missing, damaged or cut short.
    """

    def __init__(self, folder: Path, *, verify: bool | None = None, older: Snapshot | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._users, self._closed = 0, False
        self._searches = 0
        database.check_is_index(folder)
        with database.explained(folder):
            self._connection = database.open_reader(folder)
            try:
                self.settings = database.settings(self._connection)
                self.layout = Layout(**self.settings["layout"])
                opened = {segment.row: segment for segment in older.segments} if older is not None else {}
                self.segments = [
                    opened.get(row) or Segment(folder / "segments" / f"{row.number:06d}", row, verify=verify)
                    for row in database.segments(self._connection)
                ]
                self.documents, self.tokens = database.totals(self._connection)
                dead = np.array(database.tombstones(self._connection), np.int64)
            except BaseException:
                self._connection.close()
                raise
        self._dead = [dead[(dead >= s.base) & (dead < s.base + s.size)] - s.base for s in self.segments]
        self._alive = [_alive(s.size, d) for s, d in zip(self.segments, self._dead, strict=True)]

    def close(self) -> None:
        """Lets go of the snapshot, as soon as nobody is inside it."""
        with self._lock:
            self._closed = True
            if not self._users:
                self._connection.close()

    def __enter__(self) -> Snapshot:
        with self._lock:
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and not self._users:
                self._connection.close()

    # Documents

    def ids(self, positions: NDArray[np.int64]) -> list[str]:
        """Returns the external ids of positions."""
        with self._lock, database.explained(self.folder):
            found = database.ids_at(self._connection, positions.tolist())
        return [found[p] for p in positions.tolist()]

    def rows(self, positions: Sequence[int]) -> list[Row]:
        """Returns the stored documents at positions, in the same order."""
        with self._lock, database.explained(self.folder):
            found = database.rows_at(self._connection, positions)
        return [found[p] for p in positions]

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """Returns the positions of documents by id; unknown ids are left out."""
        with self._lock, database.explained(self.folder):
            return database.positions_of(self._connection, ids)

    def passages(self, parent: str) -> list[str]:
        """Returns the ids of a parent's passages, in the order they were added."""
        with self._lock, database.explained(self.folder):
            return database.passages_of(self._connection, [parent])

    def all_ids(self) -> Iterator[str]:
        """Yields every document's id."""
        with self._lock, database.explained(self.folder):
            yield from list(database.all_ids(self._connection))

    # Sparse strands

    def terms(self, strand: SparseStrand, columns: NDArray[np.integer]) -> NDArray[np.uint32]:
        """Returns a strand's columns as terms of the shared space."""
        return (columns.astype(np.int64) + TERM_BASE[strand]).astype(np.uint32)

    def idf(self, terms: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Returns the inverse document frequency of terms over the documents that live in this snapshot."""
        frequencies = sum((s.postings.frequencies(terms) for s in self.segments), np.zeros(terms.size, np.int64))
        return idf(frequencies - self._dead_frequencies(terms), self.documents)

    def sparse_search(
        self, strand: SparseStrand, terms: NDArray[np.uint32], weights: NDArray[np.float32], k: int
    ) -> Hits:
        """Returns the exact top k of sum of weight x impact, by score, then id, both descending.

        Args:
            strand: which strand's impacts; it decides what a step of an impact is worth.
            terms: uint32, ascending, distinct, in the shared space.
            weights: float32, not negative.
            k: how many are wanted, at least 1.
        """
        weights = self._stepped(strand, weights)
        self._warm_up()
        found = [
            (scores, documents + segment.base)
            for segment, alive in zip(self.segments, self._alive, strict=True)
            for scores, documents in [segment.search(terms, weights, k, alive)]
        ]
        if len(found) == 1:  # a segment's answer is in order already
            return Hits(*found[0])
        return self._merged(found, k)

    def sparse_impacts(self, terms: NDArray[np.uint32], positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the impacts uint8 (positions, terms), 0 where a document does not hold a term."""
        found = np.zeros((positions.size, terms.size), np.uint8)
        for segment, inside in self._by_segment(positions):
            found[inside] = segment.lookup(terms, positions[inside] - segment.base)
        return found

    def sparse_scores(
        self,
        strand: SparseStrand,
        terms: NDArray[np.uint32],
        weights: NDArray[np.float32],
        positions: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Returns the scores of given documents: the very numbers that `sparse_search` would give them."""
        scores = np.zeros(positions.size, np.float32)
        impacts = self.sparse_impacts(terms, positions)
        for column, weight in enumerate(self._stepped(strand, weights)):
            scores += weight * impacts[:, column].astype(np.float32)
        return scores

    def contributions(
        self,
        strand: SparseStrand,
        terms: NDArray[np.uint32],
        weights: NDArray[np.float32],
        positions: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Returns what each term adds to each document's score, float32 (positions, terms)."""
        return self._stepped(strand, weights) * self.sparse_impacts(terms, positions).astype(np.float32)

    # The dense strand

    @property
    def least_inner_product(self) -> float:
        """Returns the bound below which no inner product with a unit query falls: minus the largest norm stored."""
        return -max((s.manifest["largest_norm"] for s in self.segments), default=0.0)

    def dense_search(self, query: NDArray[np.float32], k: int) -> Hits:
        """Returns the k nearest by inner product, by score, then id, both descending.

        Args:
            query: float32 (dim,).
            k: how many are wanted, at least 1.
        """
        found = [
            (scores, documents + segment.base)
            for segment, alive in zip(self.segments, self._alive, strict=True)
            if segment.dense is not None and segment.size
            for scores, documents in [segment.dense.search(query, k, alive)]
        ]
        return self._merged(found, k)

    def dense_scores(self, query: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the inner products of given documents: the very numbers that `dense_search` would give them."""
        from .dense import row_scores

        scores = np.zeros(positions.size, np.float32)
        for segment, inside in self._by_segment(positions):
            if segment.dense is not None:
                scores[inside] = row_scores(segment.dense.vectors[positions[inside] - segment.base], query)
        return scores

    # Order

    def settle(self, scores: NDArray[np.floating], positions: NDArray[np.int64], k: int) -> NDArray[np.intp]:
        """Returns the indices of the k best, by score, then id, both descending; ids are read only where scores tie."""
        if scores.size > k:
            least = np.partition(scores, scores.size - k)[scores.size - k]
            chosen = np.flatnonzero(scores >= least)
        else:
            chosen = np.arange(scores.size)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        values = scores[chosen]
        ends = np.flatnonzero(np.append(values[1:] != values[:-1], True)) + 1
        start = 0
        for end in ends.tolist():
            if end - start > 1:
                tied = chosen[start:end]
                ids = self.ids(positions[tied])
                chosen[start:end] = tied[sorted(range(end - start), key=ids.__getitem__, reverse=True)]
            start = end
        return chosen[:k]

    def _merged(self, found: list[tuple[NDArray[np.float32], NDArray[np.int64]]], k: int) -> Hits:
        if not found:
            return Hits(np.empty(0, np.float32), np.empty(0, np.int64))
        scores, positions = (np.concatenate(parts) for parts in zip(*found, strict=True))
        best = self.settle(scores, positions, k)
        return Hits(scores[best], positions[best])

    # Inside

    def _stepped(self, strand: SparseStrand, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return weights * np.float32(self.layout.scales[strand])

    def _by_segment(self, positions: NDArray[np.int64]) -> Iterator[tuple[Segment, NDArray[np.intp]]]:
        for segment in self.segments:
            inside = np.flatnonzero((positions >= segment.base) & (positions < segment.base + segment.size))
            if inside.size:
                yield segment, inside

    def _dead_frequencies(self, terms: NDArray[np.uint32]) -> NDArray[np.int64]:
        known, counts = self._dead_terms
        if not known.size:
            return np.zeros(terms.size, np.int64)
        at = np.minimum(np.searchsorted(known, terms), known.size - 1)
        return np.where(known[at] == terms, counts[at], 0)

    @cached_property
    def _dead_terms(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        terms = [s.literal_terms(dead) for s, dead in zip(self.segments, self._dead, strict=True)]
        return np.unique(np.concatenate([np.empty(0, np.uint32), *terms]), return_counts=True)

    def _warm_up(self) -> None:
        """Loads the compiled kernels once they will pay: on a large index, or from the third search on."""
        self._searches += 1
        if not kernels_loaded() and (self._searches > 2 or self._postings > COLD_POSTINGS):
            load_kernels()

    @cached_property
    def _postings(self) -> int:
        return sum(s.postings.impacts.size for s in self.segments)

    def facts(self) -> dict[str, Any]:
        """Returns what `plait info` tells of the index."""
        return {
            "documents": self.documents,
            "deleted": int(sum(d.size for d in self._dead)),
            "average_length": self.tokens / self.documents if self.documents else 0.0,
            "postings": self._postings,
            "bytes": sum(s.bytes for s in self.segments) + (self.folder / database.NAME).stat().st_size,
            "segments": [s.facts() for s in self.segments],
        }


def _alive(size: int, dead: NDArray[np.int64]) -> NDArray[np.uint8]:
    if not dead.size:
        return NONE_DEAD
    alive = np.ones(size, np.uint8)
    alive[dead] = 0
    return alive

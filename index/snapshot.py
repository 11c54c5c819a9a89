"""A reader's view: one commit, frozen; searched strand by strand over all its segments."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import attributes, database, stored
from .asked import check_k, check_terms, dense_query
from .compiled import kernels_loaded, load_kernels
from .contract import TERM_BASE, Hits, Layout, Row, SparseStrand, StoreError
from .deleted import Deleted
from .impacts import STEPS, idf, integer_weights
from .opening import opened
from .parallel import cores, spread
from .segment import COLD_POSTINGS, NO_FLOOR, Segment
from .selections import Selection, Selections, selection
from .tokens import check_text

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Terms = NDArray[np.uint32]
Rows = NDArray[np.int64]

BATCH = 32  # queries that a thread answers without coming back to Python


class Searched(NamedTuple):
    """A segment, and which of its rows may be returned: `alive` as in `reference.search`, or the `few` there are."""

    segment: Segment
    alive: NDArray[np.uint8]
    few: NDArray[np.int64] | None

    def search(
        self, queries: Sequence[tuple[Terms, Terms]], k: int, exactness: float, floors: Sequence[np.uint32] = ()
    ) -> list[tuple[Terms, Rows]]:
        """Returns the k best (sums, rows) of each query; sums below its floor may be left out."""
        if self.few is None:
            return self.segment.search_batch(queries, k, self.alive, exactness, floors)
        return [self.segment.best_of(terms, weights, k, self.few) for terms, weights in queries]


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
        self.folder = folder.absolute()  # files are opened later too, wherever the process works by then
        self._lock = threading.Lock()
        self._users, self._closed = 0, False
        self._searches = 0
        database.check_is_index(folder)
        with database.explained(folder):
            self._connection, self.segments = opened(self.folder, verify, older.segments if older is not None else ())
            try:
                self.settings = database.settings(self._connection)
                self.layout = Layout(**self.settings["layout"])
                if older is not None and older.settings.get("made") != self.settings.get("made"):
                    older = None  # another index in the same place; equal segments do not make equal documents
                self.commit, self.documents, self.tokens = database.totals(self._connection)
                self.state = database.state(self._connection)
                self._deleted = self._deletions(older)
                self.fields = attributes.fields(self._connection)
            except BaseException:
                self._end()
                raise
        self._alive = [deleted.alive for deleted in self._deleted]
        same = older is not None and (older.commit, older.segments) == (self.commit, self.segments)
        self._selections = older._selections if older is not None and same else Selections()

    def close(self) -> None:
        """Lets go of the snapshot, as soon as nobody is inside it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._users:
                self._end()

    def __enter__(self) -> Snapshot:
        with self._lock:
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and not self._users:
                self._end()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Keeps the database to one thread, and tells in the index's words what goes wrong with it."""
        with self._lock, database.explained(self.folder):
            self._check_open()
            yield

    def _check_open(self) -> None:
        if self._closed and not self._users:
            raise StoreError(f"this snapshot of {self.folder} is closed; open another one")

    def _end(self) -> None:
        self._connection.close()
        for segment in self.segments:
            segment.release()

    # Documents

    def ids(self, positions: NDArray[np.int64]) -> list[str]:
        """Returns the external ids of positions."""
        with self._asking():
            found = database.ids_at(self._connection, positions.tolist())
        return [found[p] for p in positions.tolist()]

    def rows(self, positions: Sequence[int]) -> list[Row]:
        """Returns the stored documents at positions, in the same order."""
        with self._asking():
            found = database.rows_at(self._connection, positions)
        return [found[p] for p in positions]

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """Returns the positions of documents by id; unknown ids are left out."""
        with self._asking():
            return database.positions_of(self._connection, ids)

    def passages(self, parent: str) -> list[str]:
        """Returns the ids of a parent's passages, in the order they were added."""
        with self._asking():
            return database.passages_of(self._connection, [parent])

    def families(self, since: int = 0) -> list[tuple[str, int]]:
        """Returns (family, position) of every document from a position on: its parent's id, its own if it has none."""
        with self._asking():
            return database.families(self._connection, since)

    def families_at(self, positions: NDArray[np.int64]) -> list[tuple[str, int]]:
        """Returns (family, position) of the documents at positions, by position."""
        with self._asking():
            return database.families_at(self._connection, positions.tolist())

    def members(self, families: Iterable[str]) -> list[tuple[str, int]]:
        """Returns (family, position) of all documents of some families, by position."""
        with self._asking():
            return database.members(self._connection, families)

    def all_ids(self) -> Iterator[str]:
        """Yields every document's id."""
        with self._asking():
            found = list(database.all_ids(self._connection))
        yield from found  # without the lock: whoever asks may ask the snapshot more in between

    # Filters

    def select(self, expression: str) -> Selection:
        """Returns the documents that match a filter; asked again, it costs nothing.

        Args:
            expression: conditions over declared columns, as "year >= 2020 AND 'ml' IN tags"; see `filters`.

        Raises:
            FilterError: the expression cannot be read, or asks what the declared columns cannot answer.
        """
        found = self._selections.get(check_text(expression))
        if found is None:
            from .conditions import condition  # 10 ms that a search without a filter does not need

            asked = condition(expression, self.fields)
            with self._asking():
                positions = attributes.select(self._connection, asked)
            found = self._selections.put(expression, selection(self.segments, positions, self._selections, self._alive))
        return found

    def selected(self, positions: NDArray[np.int64]) -> Selection:
        """Returns the selection of the living documents at positions, int64, in any order; the others fall out."""
        self._check_open()
        return selection(self.segments, np.unique(positions), self._selections, self._alive)

    def positions_in(self, within: Selection) -> NDArray[np.int64]:
        """Returns the positions that a selection of this snapshot lets through, int64, ascending."""
        chosen = zip(self.segments, self._selections.check(within).alive, strict=True)
        found = [segment.positions_of(np.flatnonzero(alive)) for segment, alive in chosen]
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    # Sparse strands

    def terms(self, strand: SparseStrand, columns: NDArray[np.integer]) -> NDArray[np.uint32]:
        """Returns a strand's columns as terms of the shared space."""
        return (columns.astype(np.int64) + TERM_BASE[strand]).astype(np.uint32)

    def idf(self, terms: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Returns the inverse document frequency of terms over the documents that live in this snapshot."""
        frequencies = sum((s.postings.frequencies(terms) for s in self.segments), np.zeros(terms.size, np.int64))
        gone = sum((deleted.frequencies(terms) for deleted in self._deleted), np.zeros(terms.size, np.int64))
        return idf(frequencies - gone, self.documents)

    def sparse_search(
        self,
        strand: SparseStrand,
        terms: NDArray[np.uint32],
        weights: NDArray[np.float32],
        k: int,
        *,
        within: Selection | None = None,
        exactness: float = 1.0,
    ) -> Hits:
        """Returns the top k of sum of weight x impact, by score, then id, both descending.

        Args:
            strand: which strand's impacts; it decides what a step of an impact is worth.
            terms: uint32, ascending, distinct, in the shared space.
            weights: float32, not negative.
            k: how many are wanted, at least 1.
            within: only these documents; they are chosen before anything is scored.
            exactness: 1 finds the exact top k; less, above 0, may miss some of it and is faster on large indexes: light
                terms only complete the scores of what the others find, and windows that come near the threshold are
                left out. Scores are true all the same.
        """
        check_k(k)
        self._prepare(1, exactness)
        whole, unit = self._whole(strand, terms, weights)
        return self._best(self._searched(within), [(terms, whole)], [unit], k, exactness)[0]

    def sparse_search_batch(
        self,
        strand: SparseStrand,
        queries: Sequence[tuple[NDArray[np.uint32], NDArray[np.float32]]],
        k: int,
        *,
        within: Selection | None = None,
        exactness: float = 1.0,
        threads: int | None = None,
    ) -> list[Hits]:
        """Returns `sparse_search` of every (terms, weights), computed on `threads` cores (None: on all there are)."""
        check_k(k)
        self._prepare(len(queries), exactness)
        searched = self._searched(within)
        size = max(1, min(BATCH, -(-len(queries) // (4 * cores()))))
        pieces = [queries[i : i + size] for i in range(0, len(queries), size)]

        def answer(piece: Sequence[tuple[NDArray[np.uint32], NDArray[np.float32]]]) -> list[Hits]:
            whole = [self._whole(strand, *query) for query in piece]
            asked = [(terms, steps) for (terms, _), (steps, _) in zip(piece, whole, strict=True)]
            return self._best(searched, asked, [unit for _, unit in whole], k, exactness)

        return [hits for piece in spread(answer, pieces, threads) for hits in piece]

    def sparse_impacts(self, terms: NDArray[np.uint32], positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the impacts uint8 (positions, terms), 0 where a document does not hold a term."""
        found = np.zeros((positions.size, terms.size), np.uint8)
        for segment, inside, rows in self._by_segment(positions):
            found[inside] = segment.lookup(terms, rows)
        return found

    def sparse_scores(
        self,
        strand: SparseStrand,
        terms: NDArray[np.uint32],
        weights: NDArray[np.float32],
        positions: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Returns the scores of given documents: the very numbers that `sparse_search` would give them."""
        whole, unit = self._whole(strand, terms, weights)
        sums = np.zeros(positions.size, np.int64)
        for segment, inside, rows in self._by_segment(positions):
            sums[inside] = segment.sums(terms, whole, rows)
        return sums.astype(np.float64) * np.float64(unit)

    def contributions(
        self,
        queries: Sequence[tuple[SparseStrand, NDArray[np.uint32], NDArray[np.float32]]],
        positions: NDArray[np.int64],
    ) -> list[NDArray[np.float64]]:
        """Returns what each term adds to each document's score, float64 (positions, terms), of several strands at once.

        Args:
            queries: of each strand its name, terms and weights.
            positions: int64, of the documents.
        """
        whole = [self._whole(*query) for query in queries]
        steps = [weights * np.float64(unit) for weights, unit in whole]
        impacts = self.sparse_impacts(np.concatenate([terms for _, terms, _ in queries]), positions)
        parts = np.split(impacts, np.cumsum([step.size for step in steps])[:-1], axis=1)
        return [part.astype(np.float64) * step for part, step in zip(parts, steps, strict=True)]

    # The dense strand

    @property
    def least_inner_product(self) -> float:
        """Returns the bound below which no inner product with a unit query falls: minus the largest norm stored."""
        return -max((s.manifest["largest_norm"] for s in self.segments), default=0.0)

    def dense_search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        within: Selection | None = None,
        effort: float = 1.0,
        exact: bool = False,
    ) -> Hits:
        """Returns the k nearest by inner product, by score, then id, both descending.

        Small segments are scanned, so they give their exact nearest; a large one is asked for candidates by an index
        that misses one in a hundred or fewer (`plait info` shows which). Scores are exact in either case.

        Args:
            query: float32 (dim,).
            k: how many are wanted, at least 1.
            within: only these documents.
            effort: how hard large segments look for candidates; 2 takes about twice as long and misses fewer.
            exact: scan every vector.
        """
        if not 0 < effort < np.inf:
            raise StoreError(f"effort must be a number above 0, not {effort}")
        check_k(k)
        query = dense_query(query, self.layout.dim)
        found = [
            (scores, segment.positions_of(rows))
            for segment, alive, _ in self._searched(within)
            if segment.dense is not None and segment.size
            for scores, rows in [segment.dense.search(query, k, alive, effort=effort, exact=exact)]
        ]
        return self._merged(found, k)

    def dense_search_batch(
        self,
        queries: Sequence[NDArray[np.float32]],
        k: int,
        *,
        within: Selection | None = None,
        exact: bool = False,
        threads: int | None = None,
    ) -> list[Hits]:
        """Returns `dense_search` of every query, computed on `threads` cores (None: on all there are)."""
        return spread(lambda query: self.dense_search(query, k, within=within, exact=exact), queries, threads)

    def dense_scores(self, query: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the inner products of given documents: the very numbers that `dense_search` would give them."""
        from .dense import scores_at

        query, scores = dense_query(query, self.layout.dim), np.zeros(positions.size, np.float32)
        for segment, inside, rows in self._by_segment(positions):
            if segment.dense is not None:
                scores[inside] = scores_at(segment.dense.vectors, rows, query)
        return scores

    # What is stored of given documents

    def dense_vectors(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the stored dense vectors of given documents, float32 (positions, dim)."""
        return stored.dense_vectors(self._by_segment(positions), positions.size, self.layout.dim)

    @cached_property
    def mean_vector(self) -> NDArray[np.float32]:
        """The mean of all documents' dense vectors, float32 (dim,); zeros in an index without documents.

        It is the same to the bit whatever segments hold the documents and in which order they came.
        """
        from .dense import UNIT

        total = np.zeros(self.layout.dim, np.int64)
        for deleted in self._deleted:
            total += deleted.segment.vector_total - deleted.vector_total
        return (total / (UNIT * max(self.documents, 1))).astype(np.float32)

    def sparse_vectors(
        self, strand: SparseStrand, positions: NDArray[np.int64]
    ) -> tuple[csr_matrix, NDArray[np.uint32]]:
        """Returns the stored weights of given documents: learned weights, or counts of lexical terms.

        Returns:
            csr_matrix float32 (positions, terms), and the terms, uint32 ascending in the shared space.
        """
        scale = self.layout.scales["learned"] if strand == "learned" else 1.0
        return stored.sparse_vectors(self._by_segment(positions), positions.size, strand, scale)

    def lengths(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the lengths of given documents in lexical terms, int64 (positions,)."""
        return stored.lengths(self._by_segment(positions), positions.size)

    def largest_impact(self, strand: SparseStrand) -> float:
        """Returns the largest impact that a term of a sparse strand can have in a document."""
        return STEPS * self.layout.scales[strand]

    # Order

    def settle(
        self,
        scores: NDArray[np.floating],
        positions: NDArray[np.int64],
        k: int,
        origin: NDArray[np.integer] | None = None,
    ) -> NDArray[np.intp]:
        """Returns the indices of the k best, by score, then id, both descending; ids are read only where scores tie.

        Args:
            scores: of the candidates.
            positions: int64, of the candidates.
            k: how many are wanted.
            origin: which list each candidate is from; ties inside one list are in their order already.
        """
        if scores.size > k:
            least = np.partition(scores, scores.size - k)[scores.size - k]
            chosen = np.flatnonzero(scores >= least)
        else:
            chosen = np.arange(scores.size)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        values = scores[chosen]
        ends = np.flatnonzero(np.append(values[1:] != values[:-1], True)) + 1
        starts = np.append(0, ends[:-1])
        several = ends - starts > 1
        if origin is not None and chosen.size:
            lists = origin[chosen]
            several &= np.minimum.reduceat(lists, starts) < np.maximum.reduceat(lists, starts)
        runs = [slice(*run) for run in zip(starts[several].tolist(), ends[several].tolist(), strict=True)]
        if runs:
            tied = np.concatenate([chosen[run] for run in runs])
            ids = dict(zip(tied.tolist(), self.ids(positions[tied]), strict=True))
            for run in runs:
                chosen[run] = sorted(chosen[run].tolist(), key=ids.__getitem__, reverse=True)
        return chosen[:k]

    def _best(
        self,
        searched: Sequence[Searched],
        queries: Sequence[tuple[Terms, Terms]],
        units: Sequence[float],
        k: int,
        exactness: float,
    ) -> list[Hits]:
        """Returns the top k of each query (terms, whole weights) over segments, the largest first.

        The k-th best sum of one segment is a floor for the others: they return, and look at, less.
        """
        found, floors = [], [NO_FLOOR] * len(queries)
        for each in searched:
            answers = each.search(queries, k, exactness, floors)
            found.append((each.segment, answers))
            if exactness == 1 and len(searched) > 1:
                floors = [
                    max(f, sums[k - 1]) if sums.size >= k else f for f, (sums, _) in zip(floors, answers, strict=True)
                ]
        return [self._joined([(each[i], segment) for segment, each in found], unit, k) for i, unit in enumerate(units)]

    def _joined(
        self, found: list[tuple[tuple[NDArray[np.uint32], NDArray[np.int64]], Segment]], unit: float, k: int
    ) -> Hits:
        """Returns one query's answer from those of the segments, each of them in order."""
        parts = [(sums * unit, segment.positions_of(rows)) for (sums, rows), segment in found]
        return Hits(*parts[0]) if len(parts) == 1 else self._merged(parts, k, ordered=True)

    def _merged(
        self, found: list[tuple[NDArray[np.floating], NDArray[np.int64]]], k: int, *, ordered: bool = False
    ) -> Hits:
        """Returns the best of several lists; `ordered` says that each is settled in itself."""
        if not found:
            return Hits(np.empty(0), np.empty(0, np.int64))
        scores, positions = (np.concatenate(parts) for parts in zip(*found, strict=True))
        origin = np.repeat(np.arange(len(found)), [part.size for part, _ in found]) if ordered else None
        best = self.settle(scores, positions, k, origin)
        return Hits(scores[best], positions[best])

    # Inside

    def _searched(self, within: Selection | None) -> list[Searched]:
        """Returns the segments to search, the largest first, each with the rows that may be returned."""
        self._check_open()
        if within is None:
            return self._every
        chosen = self._selections.check(within)
        found = zip(self.segments, chosen.alive, chosen.few, chosen.counts, strict=True)
        return _by_size(Searched(segment, alive, few) for segment, alive, few, count in found if count)

    def _whole(self, strand: SparseStrand, terms: Terms, weights: NDArray[np.float32]) -> tuple[Terms, float]:
        """Returns what a step of an impact is worth, as whole numbers of a unit, and the unit."""
        check_terms(strand, terms, weights)
        return integer_weights(weights.astype(np.float64) * self.layout.scales[strand])

    def _by_segment(
        self, positions: NDArray[np.int64]
    ) -> Iterator[tuple[Segment, NDArray[np.intp], NDArray[np.int64]]]:
        """Yields segments with the indices of the positions they hold, and the rows of those."""
        self._check_open()
        if len(self.segments) == 1:
            rows = self.segments[0].rows_of(positions)
            known = np.flatnonzero(rows >= 0)
            yield self.segments[0], known, rows[known]
            return
        for segment in self.segments:
            near = np.flatnonzero((positions >= segment.row.first) & (positions <= segment.row.last))
            if near.size:
                rows = segment.rows_of(positions[near])
                known = rows >= 0
                yield segment, near[known], rows[known]

    def _deletions(self, older: Snapshot | None) -> list[Deleted]:
        """Returns each segment's deleted documents; what an older snapshot knows of them is not read again."""
        known: dict[Segment, Deleted] = {}
        since = -1
        if older is not None and older.commit <= self.commit:
            known, since = {deleted.segment: deleted for deleted in older._deleted}, older.commit
        found = []
        for segment, row in zip(self.segments, database.segments(self._connection), strict=True):
            deleted = known.get(segment, Deleted(segment))
            if row.dead > deleted.rows.size:
                new = database.tombstones(self._connection, row, since=since if segment in known else -1)
                deleted = deleted.and_more(segment.rows_of(new))
            found.append(deleted)
        return found

    def _prepare(self, searches: int, exactness: float) -> None:
        """Checks the exactness; loads the compiled kernels once they pay: on a large index, or at the third search."""
        if not 0 < exactness <= 1:
            raise StoreError(f"exactness lies above 0 and is at most 1, which is exact; not {exactness!r}")
        self._searches += searches
        if not kernels_loaded() and (self._searches > 2 or self._postings > COLD_POSTINGS):
            load_kernels()

    @cached_property
    def _every(self) -> list[Searched]:
        return _by_size(
            Searched(segment, alive, None) for segment, alive in zip(self.segments, self._alive, strict=True)
        )

    @cached_property
    def _postings(self) -> int:
        return sum(s.row.postings for s in self.segments)

    def facts(self) -> dict[str, Any]:
        """Returns what `plait info` tells of the index."""
        with self._asking():
            size = database.size(self._connection)
        return {
            "documents": self.documents,
            "deleted": int(sum(deleted.rows.size for deleted in self._deleted)),
            "average_length": self.tokens / self.documents if self.documents else 0.0,
            "postings": self._postings,
            "bytes": sum(s.bytes for s in self.segments) + size,
            "segments": [s.facts() for s in self.segments],
        }


def _by_size(searched: Iterable[Searched]) -> list[Searched]:
    """Returns segments with the largest first."""
    return sorted(searched, key=lambda each: -each.segment.size)

"""A segment: immutable arrays in a folder, searched strand by strand."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import files, reference
from .compiled import inverted, kernels, sums_of
from .contract import LEXICAL_BASE, CorruptError, Layout
from .database import SegmentRow
from .dense import DenseSegment, has_first, sample_queries, vector_total, write_dense
from .positions import TYPES as POSITION_TYPES
from .positions import Positions, position_arrays
from .postings import FORWARD_TYPES, POSTINGS_TYPES, Forward, Postings, impacts_of

NONE_DEAD = np.empty(0, np.uint8)
NO_FLOOR = np.uint32(0)

# Below this many postings the numpy search answers sooner than the compiler's runtime can be loaded (about 0.4 s).
COLD_POSTINGS = 20_000_000
# A file set below this size is read through, and its checksums compared, whenever it is opened.
VERIFIED_BYTES = 64 << 20
_ROWS = 16_384  # rows whose terms are looked at together


def write_segment(
    folder: Path,
    forward: Forward,
    vectors: NDArray[np.float32] | None,
    *,
    positions: NDArray[np.int64],
    id_rank: NDArray[np.uint32],
    average: float,
    layout: Layout,
) -> str:
    """Writes a segment's files durably into a new folder and returns the checksum of its manifest.

    Args:
        folder: must not exist.
        forward: the documents' terms.
        vectors: float32 (n, dim), or None without a dense strand.
        positions: int64 (n,), each document's position.
        id_rank: uint32 (n,), each document's place in ascending order of the external ids.
        average: the mean document length that lexical impacts are frozen with.
        layout: the index's settings.
    """
    folder.mkdir(parents=True)
    for name, values in forward._asdict().items():
        files.write_array(folder / f"forward_{name}.npy", values)
    return seal_segment(folder, forward, vectors, positions=positions, id_rank=id_rank, average=average, layout=layout)


def seal_segment(
    folder: Path,
    forward: Forward,
    vectors: NDArray[np.float32] | None,
    *,
    positions: NDArray[np.int64],
    id_rank: NDArray[np.uint32],
    average: float,
    layout: Layout,
    reordered: bool = False,
) -> str:
    """Writes what `write_segment` does into a folder that has the forward copy already, and perhaps the vectors.

    `reordered` is kept in the manifest, so that nobody puts the rows in order twice.
    """
    forward = Forward(*map(files.read_only, forward))
    impacts = impacts_of(forward, LEXICAL_BASE, average, layout.k1, layout.b)
    postings = inverted(forward, impacts, id_rank, layout.window)
    for name, values in {**postings._asdict(), **position_arrays(positions)}.items():
        files.write_array(folder / f"{name}.npy", values)
    facts: dict[str, Any] = {"documents": forward.size, "dim": layout.dim, "reordered": reordered}
    facts |= {"average_length": average, "largest_norm": 0.0}
    if vectors is not None:
        queries = _samples(folder.parent.parent, len(vectors), layout)
        facts["dense"] = write_dense(folder, vectors, layout.dense_index, queries=queries)
        facts["largest_norm"] = float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0.0)))
        facts["vector_total"] = " ".join(map(str, vector_total(vectors).tolist()))  # one line of the manifest
    written = files.write_manifest(folder, facts)
    files.sync_folder(folder.parent)
    return written


def _samples(index: Path, size: int, layout: Layout) -> NDArray[np.float32] | None:
    """Returns the sample queries of an index for a segment that is tuned to them; None, with a warning, if damaged."""
    if not has_first(size, layout.dim, layout.dense_index):
        return None
    try:
        return sample_queries(index, layout.dim)
    except CorruptError as error:
        warnings.warn(f"{error}; the segment is made without sample queries", RuntimeWarning, stacklevel=2)
        return None


def folder_of(index: Path, row: SegmentRow) -> Path:
    """Returns the folder of a segment of an index."""
    return index / "segments" / f"{row.number:06d}"


class Segment:
    """A committed segment, opened for reading. Its folder stays as long as anybody holds it.

    Whoever makes a Segment holds it, others may `hold` it too, and each lets go with `release`; what nobody refers to
    any more lets go by itself.

    Args:
        folder: where its files are.
        row: what plait.db says of it: its positions, its size, its manifest's checksum.
        verify: read every file and compare checksums; None does so for small segments.

    Raises:
        CorruptError: a file is missing, damaged or cut short.
    """

    def __init__(self, folder: Path, row: SegmentRow, *, verify: bool | None = None) -> None:
        self.folder, self.row, self.size = folder, row, row.size
        self._holders, self._holding = 1, threading.Lock()
        self._let_go = weakref.finalize(self, os.close, files.hold(folder))
        try:
            self.manifest = files.read_manifest(folder, row.checksum)
            self.bytes = sum(facts["bytes"] for facts in self.manifest["files"].values())
            if verify or (verify is None and self.bytes <= VERIFIED_BYTES):
                files.verify_files(folder, self.manifest)
        except BaseException:
            self._let_go()
            raise

    def hold(self) -> bool:
        """Keeps the segment for one more holder; returns whether it was still held, and so can be."""
        with self._holding:
            self._holders += self._holders > 0
            return self._holders > 0

    def release(self) -> None:
        """Lets go of the segment; the last one to do so closes its files."""
        with self._holding:
            self._holders -= 1
            if self._holders:
                return
        for name in ("postings", "forward", "places", "dense"):
            self.__dict__.pop(name, None)
        self._let_go()

    @cached_property
    def dense(self) -> DenseSegment | None:
        """The dense index, mapped at first use; None without a dense strand."""
        dim = self.manifest["dim"]
        return DenseSegment(self.folder, self.size, dim, self.manifest) if dim else None

    @cached_property
    def places(self) -> Positions:
        """The translation between rows and positions."""
        names = [name for name in POSITION_TYPES if f"{name}.npy" in self.manifest["files"]]
        arrays = {name: files.read_array(self.folder / f"{name}.npy", POSITION_TYPES[name]) for name in names}
        return Positions(self.row.first, self.size, arrays)

    def positions_of(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Returns the positions of rows, int64."""
        return self.places.of_rows(rows)

    def rows_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the rows of positions, int64; -1 where a position is not in this segment."""
        return self.places.rows_of(positions)

    @cached_property
    def postings(self) -> Postings:
        """The searchable arrays, mapped."""
        types = POSTINGS_TYPES.items()
        found = Postings(**{name: files.read_array(self.folder / f"{name}.npy", type) for name, type in types})
        if not found.fits(self.size):  # the kernels rely on it, and a large segment's checksums are not computed
            raise CorruptError(
                f"{self.folder / 'shape.npy'} is damaged: {found.shape.tolist()} is no shape of a segment"
            )
        return found

    @cached_property
    def forward(self) -> Forward:
        """The forward copy, mapped."""
        types = FORWARD_TYPES.items()
        return Forward(**{name: files.read_array(self.folder / f"forward_{name}.npy", type) for name, type in types})

    def search(
        self,
        terms: NDArray[np.uint32],
        weights: NDArray[np.uint32],
        k: int,
        alive: NDArray[np.uint8] = NONE_DEAD,
        exactness: float = 1.0,
        floor: np.uint32 = NO_FLOOR,
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Returns the k best (sums, documents) of this segment; see `reference.search` and `kernels.search`."""
        if not self.size:
            return np.empty(0, np.uint32), np.empty(0, np.int64)
        if (compiled := kernels()) is None:
            return reference.search(self.postings, terms, weights, k, alive)
        return compiled.search(*self.postings, terms, weights, self._most(k), alive, float(exactness), floor, sums_of())

    def search_batch(
        self,
        queries: Sequence[tuple[NDArray[np.uint32], NDArray[np.uint32]]],
        k: int,
        alive: NDArray[np.uint8] = NONE_DEAD,
        exactness: float = 1.0,
        floors: Sequence[np.uint32] = (),
    ) -> list[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
        """Returns what `search` returns, for several (terms, weights), without coming back to Python in between."""
        compiled, floors = kernels(), floors or [NO_FLOOR] * len(queries)
        if compiled is None or not self.size or len(queries) < 2:
            asked = zip(queries, floors, strict=True)
            return [self.search(terms, weights, k, alive, exactness, floor) for (terms, weights), floor in asked]
        starts = np.cumsum([0, *(terms.size for terms, _ in queries)])
        terms, weights = (np.concatenate(parts) for parts in zip(*queries, strict=True))
        least = np.array(floors, np.uint32)
        ends, sums, rows = compiled.search_many(
            *self.postings, starts, terms, weights, self._most(k), alive, float(exactness), least, sums_of()
        )
        return list(zip(np.split(sums, ends[:-1]), np.split(rows, ends[:-1]), strict=True))

    def _most(self, k: int) -> int:
        """Returns as many of k as there can be: kernels make room for what is asked for."""
        return min(k, self.size)

    def best_of(
        self, terms: NDArray[np.uint32], weights: NDArray[np.uint32], k: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Returns the k best (sums, documents) among some rows; see `reference.search`."""
        sums = self.sums(terms, weights, rows).astype(np.uint32)
        best = np.lexsort((self.postings.id_rank[rows], sums))[::-1][:k]
        best = best[sums[best] > 0]
        return sums[best], rows[best]

    def lookup(self, terms: NDArray[np.uint32], documents: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the impacts of terms in documents; see `reference.lookup`."""
        if (compiled := kernels()) is None:
            return reference.lookup(self.postings, terms, documents)
        return _ascending(documents, lambda rows: compiled.lookup(*self.postings, terms, rows))

    def sums(
        self, terms: NDArray[np.uint32], weights: NDArray[np.uint32], documents: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Returns the sums of weight x impact of terms in documents; see `reference.sums`."""
        if (compiled := kernels()) is None:
            return reference.sums(self.postings, terms, weights, documents)
        return _ascending(documents, lambda rows: compiled.sums(*self.postings, terms, weights, rows))

    def literal_counts(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Returns how many of some rows hold each of `postings.terms` in their own text, uint32 (T,)."""
        found = np.zeros(self.postings.terms.size, np.uint32)
        for terms in self._literal_terms(rows):
            held, counts = np.unique(terms, return_counts=True)
            found[np.searchsorted(self.postings.terms, held)] += counts.astype(np.uint32)
        return found

    def literal_frequencies(self, terms: NDArray[np.uint32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns how many of some rows hold each of a few terms in their own text, sooner than `literal_counts`."""
        known, places = np.unique(terms, return_inverse=True)
        near = np.zeros(1 << 16, bool)
        near[known & 0xFFFF] = True
        found = np.zeros(known.size, np.int64)
        for held in self._literal_terms(rows):
            likely = held[near[held & 0xFFFF]]
            at = np.minimum(np.searchsorted(known, likely), known.size - 1)
            found += np.bincount(at[known[at] == likely], minlength=known.size)
        return found[places]

    def _literal_terms(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint32]]:
        """Yields the terms that the texts of some rows hold, those of several thousand rows at a time."""
        for start in range(0, rows.size, _ROWS):
            at = spans(self.forward.starts, rows[start : start + _ROWS])
            yield self.forward.terms[at][self.forward.literal[at] > 0]

    @cached_property
    def vector_total(self) -> NDArray[np.int64]:
        """The sum of all dense vectors, int64 (dim,); see `dense.vector_total`."""
        known = self.manifest.get("vector_total")  # which segments of before do not tell
        return self.total_of(None) if known is None else np.array(known.split(), np.int64)

    def total_of(self, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Returns the sum of some rows' dense vectors, or of all, int64 (dim,)."""
        return np.zeros(0, np.int64) if self.dense is None else vector_total(self.dense.vectors, rows)

    def facts(self) -> dict[str, Any]:
        """Returns what `plait info` tells of a segment."""
        return {
            "folder": self.folder.name,
            "documents": self.size,
            "postings": self.row.postings,
            "bytes": self.bytes,
            "dense": self.manifest.get("dense"),
        }


def _ascending(rows: NDArray[np.int64], look: Callable[[NDArray[np.int64]], NDArray[Any]]) -> NDArray[Any]:
    """Returns what `look` gives for rows, a line each, though it takes them in ascending order alone."""
    if rows.size < 2 or (rows[1:] >= rows[:-1]).all():
        return look(rows)
    order = np.argsort(rows, kind="stable")
    found = look(rows[order])
    back = np.empty_like(found)
    back[order] = found
    return back


def spans(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the indices of all entries of some rows, where row r has starts[r] up to starts[r + 1]."""
    counts = starts[rows + 1] - starts[rows]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if ends.size else 0
    return np.repeat(starts[rows] - (ends - counts), counts) + np.arange(total)

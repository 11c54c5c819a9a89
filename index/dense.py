"""The dense index of one segment: FAISS Flat, memory-mapped, and for a large segment a first stage that proposes rows.

FAISS proposes; `row_scores` decides. BLAS sums in an order that depends on how many vectors it is given, and codes are
only near the vectors, so the score of a document is always taken from one fixed row-wise sum over its full vector and
is the same whoever asks, with whatever k and whatever first stage.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import ann
from .compiled import dense_kernels
from .contract import CorruptError
from .files import read_array

DENSE, QUERIES = "dense.faiss", "queries.npy"

MORE = 8  # neighbours asked for beyond k, so that one look usually shows where the top k ends
ROUNDING = 1e-5  # how far FAISS's inner products and ours may be apart, relative to the largest
SCANNED, SCANNED_SHARE = 2_000, 32  # so many matching rows, or one in so many, are all scored: no slower, and exact
LEAST_RECALL = 0.95  # what finds less is never chosen unasked
_BLOCK = 256  # rows scored at a time: what is in between stays in the cache
UNIT = float(1 << 20)  # vectors are summed as whole numbers of 1 / UNIT, so that no order of documents changes a sum
_LARGEST = 1e6  # what a component counts for at most in a sum, so that those of millions stay within 64 bits
_HEADER = struct.Struct("<4siqqqBiQ")


def row_scores(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns each row's inner product with the query, float32 (n,): the definition of a dense score."""
    scores = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        products = np.multiply(vectors[start : start + _BLOCK], query, dtype=np.float32)
        products.sum(axis=1, dtype=np.float32, out=scores[start : start + _BLOCK])
    return scores


def scores_at(
    vectors: NDArray[np.float32], rows: NDArray[np.integer], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns `row_scores` of some rows, without a copy of all of them."""
    if (compiled := dense_kernels()) is not None and query.size >= compiled.LANES and vectors.flags.c_contiguous:
        values, chosen = vectors.reshape(-1), np.ascontiguousarray(rows, np.int64)
        return compiled.row_scores(values, chosen, np.ascontiguousarray(query), compiled.order(query.size))
    parts = [row_scores(vectors[rows[start : start + _BLOCK]], query) for start in range(0, rows.size, _BLOCK)]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def vector_total(vectors: NDArray[np.float32], rows: NDArray[np.integer] | None = None) -> NDArray[np.int64]:
    """Returns the sum of all vectors, or of some rows, int64 (dim,) in units of 1 / `UNIT`: the same in any order."""
    total = np.zeros(vectors.shape[1], np.int64)
    for start in range(0, len(vectors) if rows is None else rows.size, _BLOCK):
        at = slice(start, start + _BLOCK)
        part = vectors[at] if rows is None else vectors[rows[at]]
        total += np.rint(np.clip(part, -_LARGEST, _LARGEST) * UNIT).astype(np.int64).sum(axis=0)
    return total


def write_flat(vectors: NDArray[np.float32], path: Path) -> None:
    """Writes vectors float32 (n, dim) as a FAISS Flat index, byte for byte as FAISS would, without a copy in memory."""
    (size, dim), step = vectors.shape, _BLOCK * 64
    write_flat_parts((vectors[start : start + step] for start in range(0, size, step)), size, dim, path)


def write_flat_parts(parts: Iterable[NDArray[np.float32]], size: int, dim: int, path: Path) -> None:
    """Writes what `write_flat` does, from parts float32 (any, dim) that hold `size` vectors together."""
    with path.open("wb") as handle:
        handle.write(_flat_header(size, dim))
        for part in parts:
            handle.write(np.ascontiguousarray(part, np.dtype("<f4")).data)


def write_dense(
    folder: Path,
    vectors: NDArray[np.float32],
    spec: str = ann.AUTO,
    *,
    queries: NDArray[np.float32] | None = None,
    table: tuple[ann.Choice, ...] = ann.TABLE,
) -> dict[str, Any]:
    """Writes a segment's vectors, and a first stage where it pays; returns what the manifest keeps of it as "dense".

    A Flat file that is in the folder already holds these vectors, and stays.

    Args:
        folder: the segment's.
        vectors: float32 (n, dim); may be mapped, and is read a part at a time.
        spec: "auto", "flat", or a FAISS factory string, perhaps after "LeanVecN,".
        queries: float32 (m, dim), sample queries: effort is calibrated on them, and a LeanVec projection suits them.
        table: what "auto" chooses from.
    """
    if not (folder / DENSE).exists():
        write_flat(vectors, folder / DENSE)
    size, dim = vectors.shape
    if not has_first(size, dim, spec, table):
        return {"spec": ann.FLAT}
    least_recall = LEAST_RECALL if spec == ann.AUTO else 0.0
    return ann.build(folder, vectors, ann.chosen(spec, size, dim, table), queries, least_recall=least_recall)


def has_first(size: int, dim: int, spec: str = ann.AUTO, table: tuple[ann.Choice, ...] = ann.TABLE) -> bool:
    """Returns whether a segment of so many documents gets a first stage; up to `SCANNED` no search would ask it."""
    return size > SCANNED and ann.chosen(spec, size, dim, table) != ann.parsed(ann.FLAT)


def sample_queries(index: Path, dim: int) -> NDArray[np.float32] | None:
    """Returns the sample queries that an index was made with, float32 (m, dim), or None.

    Raises:
        CorruptError: their file is damaged.
    """
    path = index / QUERIES
    if not path.exists():
        return None
    found = read_array(path, "f4")
    if found.ndim != 2 or found.shape[1] != dim:
        raise CorruptError(f"{path} holds an array of the shape {found.shape}; the index expects (any, {dim})")
    if not np.isfinite(found).all():
        raise CorruptError(f"{path} holds NaN or infinite numbers")
    return found


class Proposed(NamedTuple):
    """Rows of a segment, in no promised order, and their scores float32."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


class DenseSegment:
    """A segment's FAISS files, mapped at first use.

    Args:
        folder: where they are.
        size: documents they must hold.
        dim: their dimensions.
        manifest: of the segment; None for a Flat file alone.
    """

    def __init__(self, folder: Path, size: int, dim: int, manifest: Mapping[str, Any] | None = None) -> None:
        self.path, self.size, self.dim = folder / DENSE, size, dim
        self._folder, self._manifest = folder, manifest
        self._flat: Any = None
        self._vectors: NDArray[np.float32] | None = None
        self._first: ann.First | None = None
        self._first_is_open = manifest is None or size == 0

    @property
    def flat(self) -> Any:
        """Returns the FAISS Flat index."""
        import faiss

        if self._flat is None:
            self._check_file()
            self._flat = faiss.read_index(str(self.path), faiss.IO_FLAG_MMAP_IFC)
        return self._flat

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Returns the stored vectors, float32 (size, dim), mapped read-only."""
        if self._vectors is None:
            self._check_file()
            self._vectors = _mapped(self.path, self.size, self.dim)
        return self._vectors

    @property
    def first(self) -> ann.First | None:
        """Returns the first stage, or None where every search scans all vectors."""
        if not self._first_is_open:
            assert self._manifest is not None
            self._first = ann.read(self._folder, self._manifest, self.flat)
            self._first_is_open = True
        return self._first

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        alive: NDArray[np.uint8] = ann.EVERYTHING,
        *,
        effort: float = 1.0,
        exact: bool = False,
    ) -> Proposed:
        """Returns rows and scores among which the top k are, whatever breaks ties; k of them whenever k are alive.

        Without a first stage, or with `exact`, they are the exact top k; with one, nearly always.

        Args:
            query: float32 (dim,).
            k: how many are wanted.
            alive: uint8 (size,), 0 where a row is left out; empty when all may be returned.
            effort: how hard the first stage looks: 1 is what it was calibrated to, 2 takes about twice as long.
            exact: scan all vectors.
        """
        matching = int(np.count_nonzero(alive)) if alive.size else self.size
        wanted = min(k, matching)
        if not wanted:
            return Proposed(np.empty(0, np.float32), np.empty(0, np.int64))
        few = matching <= max(SCANNED, self.size // SCANNED_SHARE, wanted)
        if not (exact or few) and (first := self.first) is not None:
            rows = first.propose(query, wanted, alive, matching / self.size, effort)
            if alive.size:  # some FAISS indexes of some versions overlook the selector
                rows = rows[alive[rows] > 0]
            if rows.size >= wanted:
                return self._best_of(query, wanted, rows)
        return self._exact(query, wanted, matching, _chosen(alive, matching))

    def _best_of(self, query: NDArray[np.float32], wanted: int, rows: NDArray[np.int64]) -> Proposed:
        """Returns the best of some rows by their vectors; more than wanted where the last have the same score."""
        scores = scores_at(self.vectors, rows, query)
        kept = ~(scores < np.partition(scores, rows.size - wanted)[rows.size - wanted])  # also what is no number
        return Proposed(scores[kept], rows[kept])

    def _exact(self, query: NDArray[np.float32], wanted: int, matching: int, chosen: Any) -> Proposed:
        asked = min(wanted + MORE, matching)
        while True:
            rough, rows = self._nearest(query, asked, chosen)
            scores = scores_at(self.vectors, rows, query)
            if rows.size < asked or asked == matching:
                return Proposed(scores, rows)
            # What FAISS left out scores no more than the last it gave, but for rounding: could that reach the k-th?
            reach = np.partition(scores, scores.size - wanted)[scores.size - wanted] - ROUNDING * np.abs(rough).max()
            if rough[-1] < reach:
                return Proposed(scores, rows)
            asked = min(2 * asked, matching)

    def _nearest(
        self, query: NDArray[np.float32], k: int, chosen: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns the top k (scores, rows) by FAISS's own inner products, best first."""
        import faiss

        swig: Any = faiss
        parameters = None if chosen is None else swig.SearchParameters(sel=chosen)
        scores, found = self.flat.search(query[None, :], k, params=parameters)
        known = found[0] >= 0
        return scores[0][known], found[0][known].astype(np.int64)

    def _check_file(self) -> None:
        """Raises a CorruptError unless the file's size and header, which FAISS would trust, are what was written."""
        header = _flat_header(self.size, self.dim)
        with self.path.open("rb") as handle:
            found = handle.read(len(header))
        if found != header or self.path.stat().st_size != len(header) + 4 * self.size * self.dim:
            raise CorruptError(self._what_is_wrong(found))

    def _what_is_wrong(self, header: bytes) -> str:
        if len(header) == _HEADER.size:
            kind, dim, size, *_ = _HEADER.unpack(header)
            if kind == b"IxFI" and (size, dim) != (self.size, self.dim):
                expected = f"{self.size} vectors of {self.dim}"
                return f"{self.path} holds {size} vectors of {dim}; the index expects {expected}"
        return f"{self.path} cannot be read as a FAISS index: it is damaged or cut short"


def _flat_header(size: int, dim: int) -> bytes:
    """Returns what a FAISS file of IndexFlatIP begins with; the vectors follow."""
    return _HEADER.pack(b"IxFI", dim, size, 1 << 20, 1 << 20, True, 0, size * dim)


def _mapped(path: Path, size: int, dim: int) -> NDArray[np.float32]:
    if not size:  # nothing can be mapped of no bytes
        return np.empty((0, dim), np.float32)
    return np.asarray(np.memmap(path, np.dtype("<f4"), "r", _HEADER.size, (size, dim)))


def _chosen(alive: NDArray[np.uint8], matching: int) -> Any:
    """Returns FAISS's selector of the rows that are alive, the faster of two; None where all are."""
    if 2 * matching <= alive.size:  # only these vectors are touched; a bitmap is asked for every row
        return _only(np.flatnonzero(alive.view(bool)))
    return ann.selector(alive)


def _only(rows: NDArray[np.int64]) -> Any:
    """Returns FAISS's selector of some rows."""
    import faiss

    swig: Any = faiss
    return swig.IDSelectorArray(rows)

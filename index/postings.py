"""The inverted index of one segment as a few arrays, and how they are built from the forward copy.

Postings are sorted by term, then window, then document. A *cell* is one term's postings inside one window of
documents: it has a start pointer and a maximal impact, and only cells that hold something are stored, so a term that
occurs once costs one cell. A posting is 3 bytes: a uint16 offset inside its window and a uint8 impact. A cell that
more than a fifth of its window's documents are in is kept as a row instead, an impact for every document: no larger in
sum, added several documents at a time, and looked into at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .impacts import saturated

BLOCK = 64  # documents of a row that are skipped together
WIDEST = 65536  # documents to a window at most: an offset is a uint16
ROW_SHARE = 5  # a cell with more than 1 / ROW_SHARE of a window's documents becomes a row
_PART = 1024  # documents whose impacts are computed together


class Forward(NamedTuple):
    """Documents -> terms: the copy that segments are built, merged and explained from.

    Attributes:
        starts: int64 (n + 1,), where each document's terms begin.
        terms: uint32 (postings,), ascending inside a document, in the shared term space.
        values: uint8 (postings,): quantised impacts of learned terms, counts (at most 255) of lexical ones.
        literal: uint8 (postings,): 1 where the text itself holds the term, 0 where a model added it. IDF counts the 1s:
            weighing a query term by how often a model activates it costs .002 nDCG@10, up to .008 (benchmarks/).
        lengths: uint32 (n,), document lengths in lexical terms.
    """

    starts: NDArray[np.int64]
    terms: NDArray[np.uint32]
    values: NDArray[np.uint8]
    literal: NDArray[np.uint8]
    lengths: NDArray[np.uint32]

    @property
    def size(self) -> int:
        """Returns the number of documents."""
        return self.lengths.size


class Postings(NamedTuple):
    """The searchable arrays of one segment.

    Attributes:
        terms: uint32 (T,), ascending.
        frequency: uint32 (T,), documents whose own text holds the term.
        cells: uint32 (T + 1,), where each term's cells begin.
        row_start: uint32 (T + 1,), how many cells before each term's first are kept as rows.
        cell_window: uint16 (C,), the window of a cell.
        cell_start: uint32 (C + 1,), where each cell's postings begin; a cell without any is kept as a row.
        cell_max: uint8 (C,), the largest impact inside a cell.
        offsets: uint16 (P,), document minus the window's first document.
        impacts: uint8 (P,).
        rows: uint8 (R * stride,), an impact for every document of a window, 0 where it lacks the term.
        peaks: uint8 (R * blocks,), the largest impact in each block of `BLOCK` documents of each row.
        id_rank: uint32 (n,), each document's place in ascending order of external ids: ties are broken by it.
        shape: int64 (2,), documents to a window, and the stride: bytes to a row.
    """

    terms: NDArray[np.uint32]
    frequency: NDArray[np.uint32]
    cells: NDArray[np.uint32]
    row_start: NDArray[np.uint32]
    cell_window: NDArray[np.uint16]
    cell_start: NDArray[np.uint32]
    cell_max: NDArray[np.uint8]
    offsets: NDArray[np.uint16]
    impacts: NDArray[np.uint8]
    rows: NDArray[np.uint8]
    peaks: NDArray[np.uint8]
    id_rank: NDArray[np.uint32]
    shape: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Returns the number of documents."""
        return self.id_rank.size

    def fits(self, size: int) -> bool:
        """Returns whether the shape is one that a segment of so many documents can have."""
        window = int(self.shape[0]) if self.shape.shape == (2,) else 0
        fits = 0 < window <= WIDEST and self.shape[1] == stride_of(size, window)
        return bool(fits and self.id_rank.size == size)

    def frequencies(self, terms: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Returns how many documents hold each term in their own text, deleted ones included."""
        if not self.terms.size:
            return np.zeros(terms.size, np.int64)
        row = np.minimum(np.searchsorted(self.terms, terms), self.terms.size - 1)
        return np.where(self.terms[row] == terms, self.frequency[row].astype(np.int64), 0)


def impacts_of(forward: Forward, base: int, average: float, k1: float, b: float) -> NDArray[np.uint8]:
    """Returns each forward posting's impact: values below `base` as they are, counts from there up through BM25."""
    impacts = np.array(forward.values)
    for start in range(0, forward.size, _PART):  # memory for some documents at a time
        starts = forward.starts[start : start + _PART + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        lexical = forward.terms[inside] >= base
        if lexical.any():
            lengths = np.repeat(forward.lengths[start : start + _PART], np.diff(starts))[lexical]
            weights = saturated(impacts[inside][lexical], lengths, average, k1, b)
            impacts[inside][lexical] = np.clip(np.rint(weights * 255), 1, 255)
    return impacts


def peaks_of(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the largest value in each block of `BLOCK` of each of the rows uint8 (R, stride), row by row."""
    return np.maximum.reduceat(rows, np.arange(0, rows.shape[1], BLOCK), axis=1).ravel()


def stride_of(documents: int, window: int) -> int:
    """Returns the bytes of a row: a window's documents, or all there are, in whole blocks."""
    return max(1, -(-min(documents, window) // BLOCK)) * BLOCK


def invert(forward: Forward, impacts: NDArray[np.uint8], id_rank: NDArray[np.uint32], window: int) -> Postings:
    """Returns the postings of a forward copy whose impacts are given."""
    order = np.argsort(forward.terms, kind="stable")
    documents = np.repeat(np.arange(forward.size, dtype=np.uint32), np.diff(forward.starts))[order]
    terms, windows = forward.terms[order], documents // window
    new_cell = np.ones(order.size, bool)
    new_cell[1:] = (terms[1:] != terms[:-1]) | (windows[1:] != windows[:-1])
    first = np.flatnonzero(new_cell)
    cell_terms, counts = terms[first], np.diff(np.append(first, order.size))
    term_at = np.flatnonzero(np.append(True, cell_terms[1:] != cell_terms[:-1])) if first.size else first
    ordered, offsets = impacts[order], documents - windows * np.uint32(window)
    stride = stride_of(forward.size, window)
    as_row = counts * ROW_SHARE > stride
    in_row = np.repeat(as_row, counts)
    rows = np.zeros((int(as_row.sum()), stride), np.uint8)
    rows[np.repeat(np.cumsum(as_row) - 1, counts)[in_row], offsets[in_row]] = ordered[in_row]
    return Postings(
        terms=cell_terms[term_at],
        frequency=_frequency(forward.literal[order], first[term_at]),
        cells=np.append(term_at, first.size).astype(np.uint32),
        row_start=np.append(0, np.cumsum(as_row))[np.append(term_at, first.size)].astype(np.uint32),
        cell_window=windows[first].astype(np.uint16),
        cell_start=np.append(0, np.cumsum(np.where(as_row, 0, counts))).astype(np.uint32),
        cell_max=np.maximum.reduceat(ordered, first) if first.size else ordered,
        offsets=offsets[~in_row].astype(np.uint16),
        impacts=ordered[~in_row],
        rows=rows.ravel(),
        peaks=peaks_of(rows),
        id_rank=id_rank,
        shape=np.array([window, stride], np.int64),
    )


def _frequency(literal: NDArray[np.uint8], starts: NDArray[np.intp]) -> NDArray[np.uint32]:
    return np.add.reduceat(literal, starts, dtype=np.uint32) if starts.size else np.empty(0, np.uint32)


# The types of their values, as they are stored.
FORWARD_TYPES = {"starts": "i8", "terms": "u4", "values": "u1", "literal": "u1", "lengths": "u4"}
POSTINGS_TYPES = {
    "terms": "u4",
    "frequency": "u4",
    "cells": "u4",
    "row_start": "u4",
    "cell_window": "u2",
    "cell_start": "u4",
    "cell_max": "u1",
    "offsets": "u2",
    "impacts": "u1",
    "rows": "u1",
    "peaks": "u1",
    "id_rank": "u4",
    "shape": "i8",
}

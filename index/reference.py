"""The slow, plain search: the definition of a sparse score, and the oracle of every kernel's tests.

A score is the sum of integer weight x impact (see `impacts.integer_weights`): exact, whatever the order of its terms.
The first searches of a process also come here: answering one query in numpy is quicker than loading a compiler.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .postings import Postings


def accumulate(p: Postings, terms: NDArray[np.uint32], weights: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Returns the sum of every document, uint32 (n,).

    Args:
        p: the postings.
        terms: uint32, distinct.
        weights: uint32; the sum of weight x 255 stays below 2 ** 32.
    """
    sums = np.zeros(p.size, np.uint32)
    for row, weight in zip(_rows(p, terms), weights, strict=True):
        if row >= 0:
            for documents, impacts in _postings(p, row):
                sums[documents] += weight * impacts.astype(np.uint32)
    return sums


def search(
    p: Postings, terms: NDArray[np.uint32], weights: NDArray[np.uint32], k: int, alive: NDArray[np.uint8]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Returns the k best (sums, documents) with a positive sum, by sum, then by id, both descending.

    Args:
        p: the postings.
        terms: uint32, distinct.
        weights: uint32; the sum of weight x 255 stays below 2 ** 32.
        k: how many are wanted.
        alive: uint8 (n,), 0 where a document may not be returned; empty when all may.
    """
    sums = accumulate(p, terms, weights)
    keep = sums > 0
    if alive.size:
        keep &= alive > 0
    documents = np.flatnonzero(keep)
    if documents.size > k:
        threshold = np.partition(sums[documents], documents.size - k)[documents.size - k]
        documents = documents[sums[documents] >= threshold]
    best = documents[np.lexsort((p.id_rank[documents], sums[documents]))[::-1][:k]]
    return sums[best], best.astype(np.int64)


def lookup(p: Postings, terms: NDArray[np.uint32], documents: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Returns the impacts uint8 (len(documents), len(terms)) of these terms in these documents; 0 where absent."""
    found = np.zeros((documents.size, terms.size), np.uint8)
    for column, row in enumerate(_rows(p, terms)):
        if row >= 0:
            for held, impacts in _postings(p, row):
                at = np.minimum(np.searchsorted(held, documents), held.size - 1)
                found[:, column] = np.where(held[at] == documents, impacts[at], found[:, column])
    return found


def sums(
    p: Postings, terms: NDArray[np.uint32], weights: NDArray[np.uint32], documents: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the sums int64 (len(documents),) of weight x impact of these terms in these documents."""
    return lookup(p, terms, documents) @ weights.astype(np.int64)


def _postings(p: Postings, row: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yields a term's (documents int64, ascending, impacts uint8), cell by cell."""
    (window, stride), held = p.shape.tolist(), int(p.row_start[row])
    for cell in range(int(p.cells[row]), int(p.cells[row + 1])):
        first = int(p.cell_window[cell]) * window
        a, b = int(p.cell_start[cell]), int(p.cell_start[cell + 1])
        if a < b:
            yield p.offsets[a:b].astype(np.int64) + first, p.impacts[a:b]
        else:
            values = p.rows[held * stride : (held + 1) * stride]
            offsets = np.flatnonzero(values)
            yield offsets + first, values[offsets]
            held += 1


def _rows(p: Postings, terms: NDArray[np.uint32]) -> list[int]:
    """Returns each term's row, -1 where no document holds it."""
    if not p.terms.size:
        return [-1] * terms.size
    rows = np.minimum(np.searchsorted(p.terms, terms), p.terms.size - 1)
    return np.where(p.terms[rows] == terms, rows, -1).tolist()

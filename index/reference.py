"""The slow, plain search: the definition of a sparse score, and the oracle of every kernel's tests.

A score is the float32 sum, in ascending order of terms, of weight x impact. Because that order is fixed, a compiled
kernel that adds in the same order gives the same bits. The first searches of a process also come here: answering one
query in numpy is quicker than loading a compiler.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .postings import Postings


def accumulate(p: Postings, terms: NDArray[np.uint32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the score of every document, float32 (n,).

    Args:
        p: the postings.
        terms: uint32, ascending, distinct.
        weights: float32, what one step of a term's impact is worth; not negative.
    """
    scores = np.zeros(p.size, np.float32)
    window = int(p.window[0])
    for row, weight in zip(_rows(p, terms), weights, strict=True):
        if row < 0:
            continue
        for cell in range(int(p.cells[row]), int(p.cells[row + 1])):
            a, b = int(p.cell_start[cell]), int(p.cell_start[cell + 1])
            documents = p.offsets[a:b].astype(np.int64) + int(p.cell_window[cell]) * window
            scores[documents] += weight * p.impacts[a:b].astype(np.float32)
    return scores


def search(
    p: Postings, terms: NDArray[np.uint32], weights: NDArray[np.float32], k: int, alive: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the k best (scores, documents) with a positive score, by score, then by id, both descending.

    Args:
        p: the postings.
        terms: uint32, ascending, distinct.
        weights: float32, not negative.
        k: how many are wanted.
        alive: uint8 (n,), 0 where a document may not be returned; empty when all may.
    """
    scores = accumulate(p, terms, weights)
    keep = scores > 0
    if alive.size:
        keep &= alive > 0
    documents = np.flatnonzero(keep)
    if documents.size > k:
        threshold = np.partition(scores[documents], documents.size - k)[documents.size - k]
        documents = documents[scores[documents] >= threshold]
    best = documents[np.lexsort((p.id_rank[documents], scores[documents]))[::-1][:k]]
    return scores[best], best.astype(np.int64)


def lookup(p: Postings, terms: NDArray[np.uint32], documents: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Returns the impacts uint8 (len(documents), len(terms)) of these terms in these documents; 0 where absent."""
    found = np.zeros((documents.size, terms.size), np.uint8)
    window = int(p.window[0])
    windows, offsets = documents // window, documents % window
    for column, row in enumerate(_rows(p, terms)):
        if row < 0:
            continue
        for cell in range(int(p.cells[row]), int(p.cells[row + 1])):
            inside = np.flatnonzero(windows == int(p.cell_window[cell]))
            a, b = int(p.cell_start[cell]), int(p.cell_start[cell + 1])
            at = np.minimum(a + np.searchsorted(p.offsets[a:b], offsets[inside]), b - 1)
            found[inside, column] = np.where(p.offsets[at] == offsets[inside], p.impacts[at], 0)
    return found


def _rows(p: Postings, terms: NDArray[np.uint32]) -> list[int]:
    """Returns each term's row, -1 where no document holds it."""
    if not p.terms.size:
        return [-1] * terms.size
    rows = np.minimum(np.searchsorted(p.terms, terms), p.terms.size - 1)
    return np.where(p.terms[rows] == terms, rows, -1).tolist()

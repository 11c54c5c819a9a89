"""What an index keeps of given documents: vectors and lengths, as feedback and reranking read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .contract import LEXICAL_BASE, TERM_BASE, SparseStrand
from .postings import Forward
from .segment import Segment, spans

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# A segment, the indices of the documents that it holds, and their rows in it.
Part = tuple[Segment, NDArray[np.intp], NDArray[np.int64]]


def dense_vectors(parts: Iterable[Part], count: int, dim: int) -> NDArray[np.float32]:
    """Returns the stored dense vectors, float32 (count, dim); zeros where there is none."""
    found = np.zeros((count, dim), np.float32)
    for segment, inside, rows in parts:
        if segment.dense is not None:
            found[inside] = segment.dense.vectors[rows]
    return found


def lengths(parts: Iterable[Part], count: int) -> NDArray[np.int64]:
    """Returns the documents' lengths in lexical terms, int64 (count,)."""
    found = np.zeros(count, np.int64)
    for segment, inside, rows in parts:
        found[inside] = segment.forward.lengths[rows]
    return found


def sparse_vectors(
    parts: Iterable[Part], count: int, strand: SparseStrand, scale: float
) -> tuple[csr_matrix, NDArray[np.uint32]]:
    """Returns the stored values of a sparse strand times a scale, csr_matrix float32 (count, terms), and the terms."""
    from scipy.sparse import csr_matrix

    rows, terms, values = [np.empty(0, np.intp)], [np.empty(0, np.uint32)], [np.empty(0, np.uint8)]
    for segment, inside, found in parts:
        at, owner = _entries(segment.forward, found)
        own = (segment.forward.terms[at] >= LEXICAL_BASE) == (TERM_BASE[strand] >= LEXICAL_BASE)
        rows.append(inside[owner[own]])
        terms.append(segment.forward.terms[at[own]])
        values.append(segment.forward.values[at[own]])
    distinct, columns = np.unique(np.concatenate(terms), return_inverse=True)
    weights = np.concatenate(values).astype(np.float32) * np.float32(scale)
    made = csr_matrix((weights, (np.concatenate(rows), columns)), shape=(count, distinct.size))
    return made, distinct


def _entries(forward: Forward, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Returns the places of all postings of some rows, and which of the rows each belongs to."""
    counts = forward.starts[rows + 1] - forward.starts[rows]
    return spans(forward.starts, rows), np.repeat(np.arange(rows.size), counts)

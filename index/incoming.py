"""From the vectors that a writer is given to the forward copy of a segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import LEXICAL_BASE, TERM_BASE, Layout, StoreError
from .impacts import quantised
from .postings import Forward

# Terms of a strand, at most: both have their place among 2 ** 32.
COLUMNS = {"learned": LEXICAL_BASE, "lexical": 2**32 - LEXICAL_BASE}
LARGEST = float(np.finfo(np.float32).max)  # NaN is not below it either


def check_vectors(sparse: Mapping[str, Any], dense: NDArray[np.float32] | None, count: int, dim: int) -> None:
    """Raises an error unless the vectors of `count` documents fit them and the index; see `Writer.add`.

    Raises:
        StoreError: they do not.
    """
    if not sparse and dense is None:
        raise StoreError(f"{count} documents came without any vectors")
    for strand, rows in sparse.items():
        if strand not in TERM_BASE:
            raise StoreError(f"no sparse strand {strand!r}; there are: {', '.join(TERM_BASE)}")
        if rows.shape[0] != count:
            raise StoreError(f"{count} documents came with {rows.shape[0]} {strand} vectors")
        if not ((rows.data >= 0) & (rows.data <= LARGEST)).all():
            raise StoreError(f"{strand} vectors must be finite and not negative, and fit into float32")
        if rows.shape[1] > COLUMNS[strand]:
            raise StoreError(f"{strand} vectors have {rows.shape[1]} columns; at most {COLUMNS[strand]} fit")
    if dense is not None and dense.ndim != 2:
        raise StoreError(f"dense vectors come as an array ({count}, {dim}), not {dense.shape}")
    found = 0 if dense is None else dense.shape[1]
    if found != dim:
        raise StoreError(f"dense vectors have {found} dimensions; the index was made for {dim}")
    if dense is not None and dense.shape[0] != count:
        raise StoreError(f"{count} documents came with {dense.shape[0]} dense vectors")
    if dense is not None and not (np.abs(dense) <= LARGEST).all():
        raise StoreError("dense vectors hold NaN or infinite values, or some that are too large for float32")


def canonical(rows: Any) -> Any:
    """Returns sparse rows as float32 CSR, each entry once, in order, and none that is 0."""
    from scipy.sparse import csr_matrix

    kept: Any = csr_matrix(rows, dtype=np.float32)  # which shares its arrays with `rows` where it can
    if not kept.has_canonical_format or not kept.data.all():
        kept = kept.copy()
        kept.sum_duplicates()
        kept.eliminate_zeros()
    return kept


def forward_of(
    strand: str, kept: Any, literal: Any, layout: Layout, lengths: NDArray[np.integer] | None = None
) -> Forward:
    """Returns one strand's `canonical` vectors as forward rows: counts stay counts, weights become steps.

    `lengths` are the documents' lengths in lexical terms where they are not the sums of their counts.
    """
    lexical = strand == "lexical"
    values = (
        np.clip(np.rint(kept.data), 1, 255).astype(np.uint8) if lexical else quantised(kept.data, layout.learned_scale)
    )
    if lengths is None or not lexical:
        lengths = np.asarray(kept.sum(axis=1)).ravel() if lexical else np.zeros(kept.shape[0])
    elif lengths.shape != (kept.shape[0],) or lengths.min(initial=0) < 0:
        raise StoreError(f"{kept.shape[0]} documents came with {lengths.shape} lengths, or negative ones")
    terms = kept.indices.astype(np.uint32) + np.uint32(TERM_BASE[strand])
    return Forward(kept.indptr.astype(np.int64), terms, values, _literal(kept, literal), lengths.astype(np.uint32))


def _literal(rows: Any, literal: Any) -> NDArray[np.uint8]:
    """Returns 1 for the stored entries of `rows` that `literal` holds too; 1 everywhere without it."""
    if literal is None:
        return np.ones(rows.nnz, np.uint8)
    document = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)) * rows.shape[1]
    own = np.repeat(np.arange(rows.shape[0]), np.diff(literal.indptr)) * rows.shape[1]
    return np.isin(document + rows.indices, own + literal.indices).astype(np.uint8)


def side_by_side(parts: list[Forward], count: int) -> Forward:
    """Returns the strands of the same documents as one forward copy; learned terms come first."""
    if len(parts) == 1:
        return parts[0]
    parts = sorted(parts, key=lambda part: int(part.terms.min(initial=LEXICAL_BASE)))  # ascending in each already
    starts = sum((part.starts for part in parts), np.zeros(count + 1, np.int64))
    terms = np.empty(starts[-1], np.uint32)
    values, literal = np.empty(terms.size, np.uint8), np.empty(terms.size, np.uint8)
    free = starts[:-1]
    for part in parts:
        held = np.diff(part.starts)
        at = np.arange(part.terms.size) + np.repeat(free - part.starts[:-1], held)
        terms[at], values[at], literal[at] = part.terms, part.values, part.literal
        free = free + held
    return Forward(starts, terms, values, literal, sum((p.lengths for p in parts), np.zeros(count, np.uint32)))


def stacked(parts: list[Forward]) -> Forward:
    """Returns forward copies of different documents one below the other."""
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([np.diff(p.starts) for p in parts])
    return Forward(
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([p.terms for p in parts]),
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.literal for p in parts]),
        np.concatenate([p.lengths for p in parts]),
    )


def taken(forward: Forward, keep: NDArray[np.int64]) -> Forward:
    """Returns the forward rows of some documents."""
    counts = np.diff(forward.starts)
    mask = np.zeros(forward.size, bool)
    mask[keep] = True
    postings = np.repeat(mask, counts)
    starts = np.concatenate([[0], np.cumsum(counts[keep])])
    return Forward(
        starts,
        forward.terms[postings],
        forward.values[postings],
        forward.literal[postings],
        forward.lengths[keep],
    )

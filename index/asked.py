"""What a snapshot is asked, checked before compiled code trusts it: a few microseconds a query."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import TERM_BASE, StoreError


def check_k(k: object) -> None:
    """Raises a StoreError unless `k` is a whole number of at least 1."""
    if type(k) is int and k >= 1:  # nearly always
        return
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise StoreError(f"k, how many hits are wanted, is a whole number of at least 1, not {k!r}")


def check_terms(strand: str, terms: NDArray[Any], weights: NDArray[Any]) -> None:
    """Raises a StoreError unless a sparse query has a strand, and for each of its terms a weight that is one."""
    if strand not in TERM_BASE:
        raise StoreError(f"no sparse strand {strand!r}; there are: {', '.join(TERM_BASE)}")
    if terms.ndim != 1 or terms.shape != weights.shape:
        raise StoreError(f"a query has a weight for each of its terms: {terms.shape} terms came with {weights.shape}")
    held = weights.tolist()  # a list: over some dozen numbers numpy's own functions take several times as long
    if held and not (min(held) >= 0 and math.fsum(held) < math.inf):  # a sum with NaN is NaN, which is not below
        raise StoreError(f"a query's weights are finite and not negative, not {weights.min()} to {weights.max()}")


def dense_query(query: NDArray[Any], dim: int) -> NDArray[np.float32]:
    """Returns a dense query as FAISS and the kernels read it, float32 (dim,), C-contiguous.

    Raises:
        StoreError: it has another shape, or holds what is no finite number.
    """
    if np.shape(query) != (dim,):
        raise StoreError(f"a dense query of this index has the shape ({dim},), not {np.shape(query)}")
    found = np.ascontiguousarray(query, np.float32)
    if not np.isfinite(found).all():
        raise StoreError("a dense query holds NaN or infinite values, or some that are too large for float32")
    return found

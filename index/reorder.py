"""An order of documents in which similar ones share windows: fewer cells, denser ones, and lower bounds to skip by.

Recursive graph bisection: a set of documents is halved so that terms gather on one side of the cut, then each half is
halved, down to a few dozen documents. What a halving lowers is the estimated number of bits of the postings' gaps,

    sum over terms of  l log2(L / (l + 1)) + r log2(R / (r + 1)),

for a term that is in l of the L documents on the left and in r of the R on the right. (Dhulipala et al., "Compressing
graphs and indexes with recursive graph bisection", KDD 2016; selecting who changes sides instead of sorting: Mackenzie,
Petri, Moffat, "Faster index reordering with bipartite graph partitioning", SIGIR 2021.) Only the strongest terms of a
document take part: they are what bounds are made of, and more of them cost time and change little.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiled import load_kernels
from .postings import Forward

TERMS = 32  # of a document and strand
ROUNDS = 20
LEAF = 64  # documents that keep the order they had
RARE = 1 / 16384  # a term in a smaller share of the documents gathers too few of them


def reorder(forward: Forward, *, window: int = 8192) -> NDArray[np.int64]:
    """Returns a permutation p int64 (n,): old row p[i] becomes row i. The same input always gives the same one.

    Documents come in their old order inside runs of `LEAF`, and altogether where they fit into one window.

    Args:
        forward: the documents, with learned terms, lexical ones or both.
        window: documents to a window of the segment to be; cuts are made between windows first.
    """
    order = np.arange(forward.size)
    if forward.size <= window:
        return order
    kernels, leaf = _kernels(), min(LEAF, window)
    table = slopes(forward.size)
    todo = [(0, forward.size, _graph(forward, kernels))]
    while todo:
        first, last, graph = todo.pop()
        middle = middle_of(last - first, window if last - first > window else leaf)
        side, left, total = kernels.halve(*graph, middle, skew_of(middle, last - first - middle), table, ROUNDS)
        order[first:last] = order[first:last][np.argsort(side, kind="stable")]
        for which, start, stop in ((1, first + middle, last), (0, first, first + middle)):
            if stop - start > leaf:
                half = kernels.part(*graph[:2], total - left if which else left, side, which)
                todo.append((start, stop, half))
    return order


def middle_of(documents: int, unit: int) -> int:
    """Returns where to cut: after half of the units that so many documents need, rounded down."""
    return -(-documents // unit) // 2 * unit


def slopes(n: int) -> NDArray[np.int32]:
    """Returns int32 (n + 2,): what the x-th document of a term on one side saves there, x log2(x+1) - (x-1) log2(x).

    The unit is `reorder_kernels.STEPS` to a bit.
    """
    x = np.arange(1, n + 2, dtype=np.float64)
    return _in_steps(np.append(0.0, np.log2(x) + x * np.log1p(1 / x) / math.log(2)))


def skew_of(left: int, right: int) -> np.int32:
    """Returns what any term of a document pulls it to the right, because the right has fewer documents."""
    return np.int32(_in_steps(np.float64(math.log2(left) - math.log2(right))))


def _in_steps(bits: Any) -> NDArray[np.int32]:
    return np.rint(bits * _kernels().STEPS).astype(np.int32)


def _graph(forward: Forward, kernels: Any) -> tuple[NDArray[np.int64], NDArray[np.uint32], int]:
    """Returns the documents with the strongest of their terms that are not rare; see the kernels."""
    wanted = kernels.frequencies(forward.terms) >= max(2, RARE * forward.size)
    room = int(np.minimum(np.diff(forward.starts), 2 * TERMS).sum())
    starts, nodes = kernels.strongest(forward.starts, forward.terms, forward.values, wanted, TERMS, room)
    everyone = np.zeros(forward.size, np.uint8)
    return kernels.part(starts, nodes, kernels.degrees(starts, nodes, wanted.size, forward.size), everyone, 0)


def _kernels() -> Any:
    load_kernels()  # finds where a cache can be kept
    from . import reorder_kernels

    return reorder_kernels

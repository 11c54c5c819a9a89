"""Compiled parts of `reorder`: the strongest terms of each document, and the halving of a set of documents.

A graph here is (starts int64 (n + 1,), terms uint32 (edges,), size): each document's terms, numbered from 0 to size - 1.
All sums are of integers, so an order does not depend on the processor that it was computed on.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

LEARNED = 1 << 20  # below it a node of the first graph is a learned term, from it up a bucket of lexical ones
BUCKETS = 1 << 22
STEPS = 1 << 14  # a gain is counted in 1 / STEPS of a bit
LONELY = 2  # a term of fewer documents pulls nothing together


@njit(nogil=True, cache=True)
def _node(term):  # noqa: ANN001, ANN202
    return term if term < LEARNED else LEARNED + (term & (BUCKETS - 1))


@njit(nogil=True, cache=True)
def frequencies(terms: NDArray[np.uint32]) -> NDArray[np.int32]:
    """Returns how many postings each node has, int32 (LEARNED + BUCKETS,). Lexical hashes that share a bucket are one."""
    counts = np.zeros(LEARNED + BUCKETS, np.int32)
    for i in range(terms.size):
        counts[_node(np.int64(terms[i]))] += 1
    return counts


@njit(nogil=True, cache=True)
def kth(values, k):  # noqa: ANN001, ANN201
    """Returns the k-th smallest value (from 0) and leaves `values` in another order (quickselect)."""
    low, high = 0, values.size - 1
    while low < high:
        a, b, c = values[low], values[(low + high) >> 1], values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@njit(nogil=True, cache=True)
def _keep_strongest(nodes, scores, scratch, count, most):  # noqa: ANN001, ANN202
    """Moves the `most` best-scored of nodes[:count] to the front; of equal ones the first."""
    if count <= most:
        return count
    scratch[:count] = scores[:count]
    least = kth(scratch[:count], count - most)
    above = 0
    for i in range(count):
        above += scores[i] > least
    ties, kept = most - above, 0
    for i in range(count):
        tie = scores[i] == least
        if scores[i] > least or (tie and ties > 0):
            ties -= tie
            nodes[kept] = nodes[i]
            kept += 1
    return kept


@njit(nogil=True, cache=True)
def strongest(starts, terms, values, weights, most, room):  # noqa: ANN001, ANN201
    """Returns (starts, nodes): each document's `most` learned and `most` lexical nodes of largest value x weight.

    `weights` is float32 (LEARNED + BUCKETS,); nodes of weight 0 are left out. `room` is a bound on the edges.
    """
    n = starts.size - 1
    longest = 0
    for d in range(n):
        longest = max(longest, starts[d + 1] - starts[d])
    nodes, scores, scratch = np.empty(longest, np.uint32), np.empty(longest, np.float32), np.empty(longest, np.float32)
    new_starts, edges = np.zeros(n + 1, np.int64), np.empty(room, np.uint32)
    at = 0
    for d in range(n):
        i, last = starts[d], starts[d + 1]
        for end in (LEARNED, 1 << 32):
            count = 0
            while i < last and terms[i] < end:
                node = _node(np.int64(terms[i]))
                if weights[node] > 0:
                    nodes[count], scores[count] = node, weights[node] * values[i]
                    count += 1
                i += 1
            count = _keep_strongest(nodes, scores, scratch, count, most)
            edges[at : at + count] = nodes[:count]
            at += count
        new_starts[d + 1] = at
    return new_starts, edges[:at]


@njit(nogil=True, cache=True)
def part(starts, terms, degrees, side, wanted):  # noqa: ANN001, ANN201
    """Returns the graph of the documents with side[d] == wanted, its terms numbered anew, without lonely ones.

    `degrees` (size,) counts each term's documents among those wanted.
    """
    names, size = np.empty(degrees.size, np.int64), 0
    for t in range(degrees.size):
        names[t] = size if degrees[t] >= LONELY else -1
        size += degrees[t] >= LONELY
    documents = edges = 0
    for d in range(side.size):
        if side[d] == wanted:
            documents += 1
            edges += starts[d + 1] - starts[d]
    new_starts, new_terms = np.zeros(documents + 1, np.int64), np.empty(edges, np.uint32)
    row = at = 0
    for d in range(side.size):
        if side[d] != wanted:
            continue
        for e in range(starts[d], starts[d + 1]):
            name = names[terms[e]]
            if name >= 0:
                new_terms[at] = name
                at += 1
        row += 1
        new_starts[row] = at
    return new_starts, new_terms[:at], size


@njit(nogil=True, cache=True)
def degrees(starts, terms, size, last):  # noqa: ANN001, ANN201
    """Returns in how many of the first `last` documents each term occurs, int32 (size,)."""
    counts = np.zeros(size, np.int32)
    for e in range(starts[last]):
        counts[terms[e]] += 1
    return counts


@njit(nogil=True, cache=True)
def pulls(left, total, table, skew, from_left, from_right):  # noqa: ANN001, ANN201
    """Sets how strongly each term pulls a document to the right, where the document is left, and where it is right."""
    for t in range(total.size):
        here, there = left[t], total[t] - left[t]
        from_left[t] = skew - table[here] + table[there + 1]
        from_right[t] = skew + table[there] - table[here + 1]


@njit(nogil=True, cache=True)
def preferences(starts, terms, side, from_left, from_right, keys):  # noqa: ANN001, ANN201
    """Sets each document's key: twice the sum of its terms' pulls, plus its side, so that ties stay where they are."""
    for d in range(side.size):
        pulled = np.int32(0)
        if side[d]:
            for t in terms[starts[d] : starts[d + 1]]:
                pulled += from_right[t]
        else:
            for t in terms[starts[d] : starts[d + 1]]:
                pulled += from_left[t]
        keys[d] = 2 * pulled + side[d]


@njit(nogil=True, cache=True)
def _move(starts, terms, keys, scratch, middle, side, left):  # noqa: ANN001, ANN202
    """Puts the `middle` smallest keys on the left, of equal ones the first; returns how many documents moved."""
    scratch[:] = keys
    border = kth(scratch, middle)
    ties = middle
    for d in range(keys.size):
        ties -= keys[d] < border
    moved = 0
    for d in range(keys.size):
        goes_right = keys[d] > border
        if keys[d] == border:
            goes_right = ties <= 0
            ties -= 1
        if goes_right == side[d]:
            continue
        change = -1 if goes_right else 1
        for t in terms[starts[d] : starts[d + 1]]:
            left[t] += change
        side[d] = goes_right
        moved += 1
    return moved


@njit(nogil=True, cache=True)
def halve(starts, terms, size, middle, rounds, table):  # noqa: ANN001, ANN201
    """Returns (side uint8 (n,), left, total): a halving of a graph's documents with similar ones on the same side.

    Args:
        starts, terms, size: the graph; at first its first `middle` documents are left.
        middle: how many documents are left in the end.
        rounds: most rounds of moving; fewer where little moves any more.
        table: see `reorder.step_costs`.
    """
    n = starts.size - 1
    total, left = degrees(starts, terms, size, n), degrees(starts, terms, size, middle)
    side = (np.arange(n) >= middle).astype(np.uint8)
    skew = np.int32(np.rint((np.log2(middle) - np.log2(n - middle)) * STEPS))
    from_left, from_right = np.empty(size, np.int32), np.empty(size, np.int32)
    keys, scratch = np.empty(n, np.int32), np.empty(n, np.int32)
    for _ in range(rounds):
        pulls(left, total, table, skew, from_left, from_right)
        preferences(starts, terms, side, from_left, from_right, keys)
        if _move(starts, terms, keys, scratch, middle, side, left) <= n >> 8:
            break
    return side, left, total

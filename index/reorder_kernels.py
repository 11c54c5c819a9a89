"""Compiled parts of `reorder`: the strongest terms of each document, and the halving of a set of documents.

A graph here is (starts, terms, size): document d has the terms terms[starts[d] : starts[d + 1]], numbered from 0 to
size - 1; starts is int64 (n + 1,), terms uint32. Sums are of integers: an order does not depend on the processor.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LEARNED = 1 << 20  # nodes below are learned terms; those from here up are buckets of lexical hashes
NODES = LEARNED + (1 << 22)
STEPS = 1 << 14  # a pull is counted in 1 / STEPS of a bit
SETTLED = 8  # rounds end when no more than n >> SETTLED documents move


@njit(nogil=True, cache=True)
def _node(term):
    return term if term < LEARNED else LEARNED + (term & (NODES - LEARNED - 1))


@njit(nogil=True, cache=True)
def frequencies(terms):
    """Returns how many postings each node has, int32 (NODES,). Lexical terms that share a bucket count as one."""
    counts = np.zeros(NODES, np.int32)
    for i in range(terms.size):
        counts[_node(np.int64(terms[i]))] += 1
    return counts


@njit(nogil=True, cache=True)
def _kth(values, k):
    """Returns the k-th smallest value, counted from 0, and leaves `values` in another order (quickselect)."""
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
def _keep_strongest(nodes, values, scratch, count, most):
    """Moves the `most` nodes of largest value among the first `count` to the front, of equal ones the first."""
    if count <= most:
        return count
    scratch[:count] = values[:count]
    least = _kth(scratch[:count], count - most)
    ties = most
    for i in range(count):
        ties -= values[i] > least
    kept = 0
    for i in range(count):
        tie = values[i] == least
        if values[i] > least or (tie and ties > 0):
            ties -= tie
            nodes[kept] = nodes[i]
            kept += 1
    return kept


@njit(nogil=True, cache=True)
def strongest(starts, terms, values, wanted, most, room):
    """Returns (starts, nodes): each document's `most` learned and `most` lexical nodes of largest value.

    `wanted` is bool (NODES,); other nodes are left out. `room` is at least the number of edges.
    """
    n = starts.size - 1
    longest = 0
    for d in range(n):
        longest = max(longest, starts[d + 1] - starts[d])
    nodes = np.empty(longest, np.uint32)
    found, scratch = np.empty(longest, values.dtype), np.empty(longest, values.dtype)
    new_starts, edges = np.zeros(n + 1, np.int64), np.empty(room, np.uint32)
    at = 0
    for d in range(n):
        i, last = starts[d], starts[d + 1]
        for end in (LEARNED, 1 << 32):
            count = 0
            while i < last and terms[i] < end:
                node = _node(np.int64(terms[i]))
                if wanted[node]:
                    nodes[count], found[count] = node, values[i]
                    count += 1
                i += 1
            count = _keep_strongest(nodes, found, scratch, count, most)
            edges[at : at + count] = nodes[:count]
            at += count
        new_starts[d + 1] = at
    return new_starts, edges[:at]


@njit(nogil=True, cache=True)
def degrees(starts, terms, size, first):
    """Returns in how many of the first `first` documents each term is, int32 (size,)."""
    counts = np.zeros(size, np.int32)
    for e in range(starts[first]):
        counts[terms[e]] += 1
    return counts


@njit(nogil=True, cache=True)
def part(starts, terms, degree, side, wanted):
    """Returns the graph of the documents with side[d] == wanted.

    `degree` counts each term's documents among them. Terms of a single one pull nothing together and are left out; the
    others are numbered anew.
    """
    names, size = np.empty(degree.size, np.int64), 0
    for t in range(degree.size):
        names[t] = size if degree[t] > 1 else -1
        size += degree[t] > 1
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
def pulls(left, total, table, skew, from_left, from_right):
    """Sets how much each term pulls a document to the right: one that is on the left, and one that is on the right.

    The arrays are int32 (size,), in STEPS; `left` and `total` count the term's documents; see `reorder.slopes` for
    `table`, and `reorder.skew_of`.
    """
    for t in range(total.size):
        right = total[t] - left[t]
        from_left[t] = skew - table[left[t]] + table[right + 1]
        from_right[t] = skew + table[right] - table[left[t] + 1]


@njit(nogil=True, cache=True)
def preferences(starts, terms, side, from_left, from_right, keys):
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
def _move(starts, terms, keys, scratch, middle, side, left):
    """Puts the `middle` smallest keys on the left, of equal ones the first; returns how many documents moved."""
    scratch[:] = keys
    border = _kth(scratch, middle)
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
def halve(starts, terms, size, middle, skew, table, rounds):
    """Returns (side uint8 (n,), left, total): a graph halved so that similar documents are on the same side.

    Side 0 gets `middle` documents; it starts with the first ones. In each of at most `rounds` rounds as many change
    sides as lowers the cost. `left` and `total`, int32 (size,), count each term's documents on side 0 and on both.
    """
    n = starts.size - 1
    total, left = degrees(starts, terms, size, n), degrees(starts, terms, size, middle)
    side = (np.arange(n) >= middle).astype(np.uint8)
    from_left, from_right = np.empty(size, np.int32), np.empty(size, np.int32)
    keys, scratch = np.empty(n, np.int32), np.empty(n, np.int32)
    for _ in range(rounds):
        pulls(left, total, table, skew, from_left, from_right)
        preferences(starts, terms, side, from_left, from_right, keys)
        if _move(starts, terms, keys, scratch, middle, side, left) <= n >> SETTLED:
            break
    return side, left, total

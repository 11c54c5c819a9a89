"""Compiled twins of `reference`: exact top-k, term at a time inside windows of documents.

Windows are visited by descending upper bound and left when no window can still hold a better document. Scores are
float32 sums in ascending order of terms, so they equal the reference bit for bit. A score's bits and the rank of the
document's id make one 64-bit key whose order is the order of the ranking; ties need no second look.

Slices, not signed indices into the whole array, let the inner loops compile to plain loads. Accumulators have room
for every uint16 offset, so a damaged file cannot make a kernel write outside them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 128
ROOM = 65536


@njit(nogil=True, cache=True)
def _row(terms, term):
    low, high = 0, terms.size
    while low < high:
        middle = (low + high) >> 1
        if terms[middle] < term:
            low = middle + 1
        else:
            high = middle
    return low if low < terms.size and terms[low] == term else -1


@njit(nogil=True, cache=True, boundscheck=False)
def _add(accumulator, offsets, impacts, weight):
    for i in range(offsets.shape[0]):
        accumulator[offsets[i]] += weight * np.float32(impacts[i])


@njit(nogil=True, cache=True)
def _maximum(values):
    largest = values[0]
    for i in range(values.shape[0]):
        largest = max(largest, values[i])
    return largest


@njit(nogil=True, cache=True)
def _keep_best(keys, size, k):
    """Moves the k largest of keys[:size] to the front and returns the smallest of them (quickselect)."""
    low, high = 0, size - 1
    while low < high:
        pivot = keys[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return keys[k - 1]


@njit(nogil=True, cache=True)
def _scan(bits, first, id_rank, alive, keys, size, k, least):
    """Collects the keys of a window's documents that beat `least`; returns the new size and the new least key."""
    threshold = np.uint32(least >> np.uint64(32))
    for start in range(0, bits.size, BLOCK):
        block = bits[start : start + BLOCK]
        if _maximum(block) < threshold:
            continue
        for i in range(block.size):
            if block[i] < threshold or block[i] == 0:
                continue
            document = first + start + i
            key = (np.uint64(block[i]) << np.uint64(32)) | np.uint64(id_rank[document])
            if key <= least or (alive.size and not alive[document]):
                continue
            keys[size] = key
            size += 1
            if size == keys.size:
                least = _keep_best(keys, size, k)
                threshold = np.uint32(least >> np.uint64(32))
                size = k
    return size, least


@njit(nogil=True, cache=True)
def search(
    p_terms, frequency, p_cells, cell_window, cell_start, cell_max, offsets, impacts, id_rank, by_rank, p_window,
    terms, weights, k, alive, accumulator,
):  # fmt: skip
    """Returns the k best (scores float32, documents int64); see `reference.search`.

    `accumulator` is float32 (ROOM,), scratch space of the calling thread. `k` is at least 1.
    """
    window, n = p_window[0], id_rank.size
    n_windows = (n + window - 1) // window
    bounds = np.zeros(n_windows, np.float64)
    cell_of = np.full((terms.size, n_windows), -1, np.int64)
    for t in range(terms.size):
        row = _row(p_terms, terms[t])
        if row < 0:
            continue
        for cell in range(p_cells[row], p_cells[row + 1]):
            w = cell_window[cell]
            if w < n_windows:
                bounds[w] += np.float64(weights[t]) * cell_max[cell]
                cell_of[t, w] = cell
    k = min(k, n)
    keys = np.empty(2 * k + 62, np.uint64)
    size, least = 0, np.uint64(0)
    for w in np.argsort(-bounds):
        # A float32 sum may round above the exact bound; the factor covers it.
        if bounds[w] == 0 or np.float32(bounds[w] * 1.00001) < _score(least):
            break
        length = min(window, n - w * window)
        accumulator[:length] = 0
        for t in range(terms.size):
            cell = cell_of[t, w]
            if cell >= 0:
                a, b = cell_start[cell], cell_start[cell + 1]
                _add(accumulator, offsets[a:b], impacts[a:b], weights[t])
        bits = accumulator[:length].view(np.uint32)
        size, least = _scan(bits, w * window, id_rank, alive, keys, size, k, least)
        if size >= k:  # tighten before the next window's bound is tested
            least = max(least, _keep_best(keys, size, k))
            size = k
    best = np.sort(keys[:size])[::-1][:k]
    scores = (best >> np.uint64(32)).astype(np.uint32).view(np.float32)
    documents = np.empty(best.size, np.int64)
    for i in range(best.size):
        documents[i] = by_rank[best[i] & np.uint64(0xFFFFFFFF)]
    return scores, documents


@njit(nogil=True, cache=True)
def _score(key):
    return np.array([np.uint32(key >> np.uint64(32))], np.uint32).view(np.float32)[0]


@njit(nogil=True, cache=True)
def lookup(
    p_terms,
    frequency,
    p_cells,
    cell_window,
    cell_start,
    cell_max,
    offsets,
    impacts,
    id_rank,
    by_rank,
    p_window,
    terms,
    documents,
):
    """Returns impacts uint8 (len(documents), len(terms)); see `reference.lookup`."""
    found = np.zeros((documents.size, terms.size), np.uint8)
    window = p_window[0]
    cell_of = np.empty((id_rank.size + window - 1) // window, np.int64)
    for t in range(terms.size):
        row = _row(p_terms, terms[t])
        if row < 0:
            continue
        cell_of[:] = -1
        for cell in range(p_cells[row], p_cells[row + 1]):
            if cell_window[cell] < cell_of.size:
                cell_of[cell_window[cell]] = cell
        for d in range(documents.size):
            cell = cell_of[documents[d] // window]
            if cell < 0:
                continue
            a, b = cell_start[cell], cell_start[cell + 1]
            at = _row(offsets[a:b], documents[d] % window)
            if at >= 0:
                found[d, t] = impacts[a + at]
    return found

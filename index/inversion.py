"""The compiled twin of `postings.invert`: counts, then places, window by window, without sorting the postings.

Learned terms find their row in a table, lexical ones (hashes) in an open-addressing hash table. Only the cells of one
window are open at a time, so writes stay in the processor's cache, and no array is larger than what comes out.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_FREE = np.uint32(0)  # no hashed term is 0: they lie above the table


@njit(nogil=True, cache=True)
def _slot(keys, term):
    mask = np.uint32(keys.size - 1)
    at = np.uint32((np.uint64(term) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while keys[at] != _FREE and keys[at] != term:
        at = (at + np.uint32(1)) & mask
    return at


@njit(nogil=True, cache=True)
def _vocabulary(terms, base):
    """Returns (distinct terms ascending, row by learned term, hash keys, row by hash slot)."""
    seen = np.zeros(base, np.bool_)
    keys, used = np.zeros(1 << 12, np.uint32), 0
    for term in terms:
        if term < base:
            seen[term] = True
            continue
        at = _slot(keys, term)
        if keys[at] == _FREE:
            keys[at] = term
            used += 1
            if 2 * used > keys.size:
                wider = np.zeros(2 * keys.size, np.uint32)
                for key in keys:
                    if key != _FREE:
                        wider[_slot(wider, key)] = key
                keys = wider
    learned = np.flatnonzero(seen)
    distinct = np.empty(learned.size + used, np.uint32)
    distinct[: learned.size] = learned
    distinct[learned.size :] = np.sort(keys[keys != _FREE])
    table = np.zeros(base, np.uint32)
    rows = np.zeros(keys.size, np.uint32)
    for row in range(distinct.size):
        if distinct[row] < base:
            table[distinct[row]] = row
        else:
            rows[_slot(keys, distinct[row])] = row
    return distinct, table, keys, rows


@njit(nogil=True, cache=True)
def _found(term, table, keys, rows):
    return table[term] if term < table.size else rows[_slot(keys, term)]


@njit(nogil=True, cache=True)
def invert(starts, terms, impacts, literal, base, window, stride, share):
    """Returns the arrays of `Postings` from `terms` to `rows`.

    Args:
        starts: of the `Forward`.
        terms: of the `Forward`.
        impacts: uint8, one a posting.
        literal: of the `Forward`.
        base: where lexical terms begin.
        window: documents to a window.
        stride: bytes to a row.
        share: a cell with more than 1 / share of the stride becomes a row.
    """
    distinct, table, keys, hashed = _vocabulary(terms, base)
    n, n_terms = starts.size - 1, distinct.size
    n_windows = (n + window - 1) // window
    frequency = np.zeros(n_terms, np.uint32)
    count, largest = np.zeros(n_terms, np.uint32), np.zeros(n_terms, np.uint8)
    touched = np.empty(n_terms, np.uint32)
    # Cells as they are met, window by window.
    met_row, met_count, met_max = np.empty(1024, np.uint32), np.empty(1024, np.uint32), np.empty(1024, np.uint8)
    met_start, met = np.zeros(n_windows + 1, np.int64), 0
    cells = np.zeros(n_terms + 1, np.uint32)
    for w in range(n_windows):
        open_cells = 0
        for p in range(starts[w * window], starts[min(n, (w + 1) * window)]):
            row = _found(terms[p], table, keys, hashed)
            if not count[row]:
                touched[open_cells] = row
                open_cells += 1
            count[row] += 1
            largest[row] = max(largest[row], impacts[p])
            frequency[row] += literal[p]
        while met + open_cells > met_row.size:
            met_row = np.append(met_row, np.empty(met_row.size, np.uint32))
            met_count = np.append(met_count, np.empty(met_count.size, np.uint32))
            met_max = np.append(met_max, np.empty(met_max.size, np.uint8))
        for i in range(open_cells):
            row = touched[i]
            met_row[met], met_count[met], met_max[met] = row, count[row], largest[row]
            met += 1
            cells[row + 1] += 1
            count[row], largest[row] = 0, 0
        met_start[w + 1] = met
    for row in range(n_terms):
        cells[row + 1] += cells[row]
    # The same cells by term, and where their postings go.
    next_cell = cells[:-1].copy()
    cell_of = np.empty(met, np.uint32)
    cell_window, cell_max = np.empty(met, np.uint16), np.empty(met, np.uint8)
    cell_start = np.zeros(met + 1, np.uint32)
    as_row = np.zeros(met + 1, np.uint32)  # first whether, then how many before
    for w in range(n_windows):
        for i in range(met_start[w], met_start[w + 1]):
            cell = next_cell[met_row[i]]
            next_cell[met_row[i]] += 1
            cell_of[i], cell_window[cell], cell_max[cell] = cell, w, met_max[i]
            as_row[cell + 1] = np.int64(met_count[i]) * share > stride
            cell_start[cell + 1] = 0 if as_row[cell + 1] else met_count[i]
    for cell in range(met):
        cell_start[cell + 1] += cell_start[cell]
        as_row[cell + 1] += as_row[cell]
    row_start = np.empty(n_terms + 1, np.uint32)
    for row in range(n_terms + 1):
        row_start[row] = as_row[cells[row]]
    offsets, values = np.empty(cell_start[met], np.uint16), np.empty(cell_start[met], np.uint8)
    rows = np.zeros(np.int64(as_row[met]) * stride, np.uint8)
    place = np.zeros(n_terms, np.int64)  # the next posting's place; below zero: minus one, minus the row's first byte
    for w in range(n_windows):
        for i in range(met_start[w], met_start[w + 1]):
            cell = cell_of[i]
            kept = as_row[cell + 1] > as_row[cell]
            place[met_row[i]] = -1 - np.int64(as_row[cell]) * stride if kept else np.int64(cell_start[cell])
        for d in range(w * window, min(n, (w + 1) * window)):
            offset = d - w * window
            for p in range(starts[d], starts[d + 1]):
                row = _found(terms[p], table, keys, hashed)
                at = place[row]
                if at < 0:
                    rows[offset - 1 - at] = impacts[p]
                else:
                    offsets[at], values[at] = offset, impacts[p]
                    place[row] = at + 1
    return distinct, frequency, cells, row_start, cell_window, cell_start, cell_max, offsets, values, rows

"""Compiled twins of `reference`: exact top-k, term at a time inside windows of documents.

Windows are visited by descending upper bound and left when none can still hold a better document. Inside a window the
postings are added first; rows are added only to blocks where the largest sum so far and the rows' peaks together reach
the threshold. The threshold comes from a histogram of the sums kept so far: at least k of them lie at or above it,
always, so nothing that belongs to the answer is dropped, ties included; those are settled at the end. Sums are
integers: the order of terms is free.

Unsigned indices let the inner loops compile to plain loads. Ranges are cut where their array ends and accumulators have
room for every uint16 offset: a damaged file cannot make a kernel read or write elsewhere.
"""

# pyright: reportCallIssue=false
# (an intrinsic is called without its first parameter, which is the compiler's)

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .postings import BLOCK

BUCKETS = 2048
AHEAD = 2  # cells: while one is added, a later one is fetched
LOOKUP = 100  # postings are added in the time of looking up one
EVERY = ~np.uint64(0)  # document of a block may be returned
FEW = 24  # documents that are put in order one by one sooner than by any sort
LINES = 6  # cache lines fetched of a cell: from there on the processor's own prefetcher has seen where things go


@intrinsic
def fetch(typing, array, index):
    """Asks for the cache line of array[index]; never faults, whatever the index."""

    def code(context, builder, signature, arguments):
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        address = builder.bitcast(builder.gep(made.data, [arguments[1]]), byte)
        builder.call(function, [address, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), code


def _block(context, builder, array_type, array, index):
    """Returns the address of a block's values in an array, and their type."""
    made = context.make_array(array_type)(context, builder, array)
    wide = ir.VectorType(context.get_data_type(array_type.dtype), BLOCK)
    return builder.bitcast(builder.gep(made.data, [index]), wide.as_pointer()), wide


def _every(builder, value):
    """Returns a block that holds one value 64 times."""
    wide, lanes = ir.VectorType(value.type, BLOCK), ir.VectorType(ir.IntType(32), BLOCK)
    nothing = ir.Constant(wide, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(lanes, [0] * BLOCK))


@intrinsic
def _reaching(typing, values, start, least):
    """Returns which of 64 values, from values[start], are at least `least`: bit i of a uint64 is values[start + i].

    One comparison of a whole block at the width the processor has. The caller sees to it that 64 values are there.
    """

    def code(context, builder, signature, arguments):
        address, wide = _block(context, builder, signature.args[0], *arguments[:2])
        values = builder.load(address)
        values.align = wide.element.width // 8
        return builder.bitcast(builder.icmp_unsigned(">=", values, _every(builder, arguments[2])), ir.IntType(64))

    return types.uint64(values, types.intp, values.dtype), code


@intrinsic
def _add_rows(typing, sums, to, rows, stride, held, weights, count):
    """Adds weights[j] x rows[held[j] * stride + to :] to the 64 sums from `to`, for each j below `count`.

    The sums stay in registers meanwhile. The caller sees to it that all is there.
    """

    def code(context, builder, signature, arguments):
        address, wide = _block(context, builder, signature.args[0], *arguments[:2])
        before = builder.load(address)
        before.align = wide.element.width // 8
        total = cgutils.alloca_once_value(builder, before)
        firsts, factors = (context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (4, 5))
        with cgutils.for_range(builder, arguments[6]) as loop:
            row = builder.load(builder.gep(firsts, [loop.index]))
            start = builder.add(builder.mul(row, arguments[3]), arguments[1])
            source, _ = _block(context, builder, signature.args[2], arguments[2], start)
            values = builder.load(source)
            values.align = 1
            weight = _every(builder, builder.load(builder.gep(factors, [loop.index])))
            added = builder.mul(builder.zext(values, wide), weight)
            builder.store(builder.add(builder.load(total), added), total)
        builder.store(builder.load(total), address).align = wide.element.width // 8
        return context.get_dummy_value()

    return types.void(sums, types.intp, rows, types.intp, held, weights, types.intp), code


@intrinsic
def _lowest(typing, bits):
    """Returns the index of the lowest bit that is set."""

    def code(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), code


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


@njit(nogil=True, cache=True)
def _maximum(values):
    largest = values[0]
    for i in range(values.shape[0]):
        largest = max(largest, values[i])
    return largest


@njit(nogil=True, cache=True)
def _living(alive, start, size):
    """Returns which of the documents of a block, up to 64 from `start`, may be returned: a bit each."""
    if size == BLOCK and start + BLOCK <= alive.size:
        return _reaching(alive, start, np.uint8(1))
    bits = np.uint64(0)
    for i in range(size):
        if alive[start + i]:
            bits |= np.uint64(1) << np.uint64(i)
    return bits


@njit(nogil=True, cache=True)
def _impact(offsets, impacts, rows, stride, start, size, offset):
    """Returns the impact of one document in one cell, 0 where it is not there."""
    if size < 0:
        at = start * stride + offset
        return np.uint32(rows[at]) if offset < stride and at < rows.size else np.uint32(0)
    inside = offsets[start : start + size]
    at = start + _row(inside, offset)
    return np.uint32(impacts[at]) if start <= at < impacts.size else np.uint32(0)


@njit(nogil=True, cache=True)
def _cells(p_terms, p_cells, row_start, cell_window, cell_start, cell_max, terms, weights, bounds, starts, sizes):
    """Fills, for each (window, term), where its cell starts and its size (-1 for a row, 0 for none); sums bounds."""
    last = cell_window.size
    for t in range(terms.size):
        row = _row(p_terms, terms[t])
        if row < 0:
            continue
        held, weight = np.int64(row_start[row]), np.int64(weights[t])
        for cell in range(p_cells[row], min(np.int64(p_cells[row + 1]), last)):
            size = np.int64(cell_start[cell + 1]) - np.int64(cell_start[cell])
            w = cell_window[cell]
            if w < bounds.size:
                bounds[w] += weight * cell_max[cell]
                starts[w, t] = cell_start[cell] if size > 0 else held
                sizes[w, t] = size if size > 0 else -1
            held += size == 0


@njit(nogil=True, cache=True)
def _fetch_cell(offsets, impacts, start, size):
    if size > 0:
        for line in range(min(LINES, (size >> 5) + 1)):
            fetch(offsets, start + 32 * line)
        for line in range(min(LINES, (size >> 6) + 1)):
            fetch(impacts, start + 64 * line)


@njit(nogil=True, cache=True, boundscheck=False)
def _scatter(sums, offsets, impacts, starts, sizes, weights, length):
    """Sets sums[:length] from the cells of a window that are kept as postings."""
    for t in range(min(AHEAD, starts.size)):
        _fetch_cell(offsets, impacts, starts[t], sizes[t])
    for i in range(np.uintp((length + BLOCK - 1) // BLOCK * BLOCK)):
        sums[i] = np.uint32(0)
    last = min(offsets.size, impacts.size)
    for t in range(starts.size):
        if t + AHEAD < starts.size:
            _fetch_cell(offsets, impacts, starts[t + AHEAD], sizes[t + AHEAD])
        if sizes[t] > 0:
            weight = weights[t]
            for p in range(np.uintp(min(starts[t], last)), np.uintp(min(starts[t] + sizes[t], last))):
                sums[offsets[p]] += weight * np.uint32(impacts[p])


@njit(nogil=True, cache=True, boundscheck=False)
def _peaks(limits, peaks, per_row, held, weights, blocks):
    """Sets limits[:blocks]: what the rows can add to any document of each block."""
    for b in range(np.uintp(blocks)):
        limits[b] = np.uint32(0)
    for j in range(held.size):
        first, weight = np.uintp(held[j] * per_row), weights[j]
        for b in range(np.uintp(blocks)):
            limits[b] += weight * np.uint32(peaks[first + b])


@njit(nogil=True, cache=True)
def _grown(kept, size, least):
    """Returns room for more: the kept sums that still count, in an array at least half empty."""
    to = 0
    for i in range(size):
        if (kept[i] >> np.uint64(32)) >= least:
            kept[to] = kept[i]
            to += 1
    if 2 * to <= kept.size - BLOCK:
        return kept, to
    wider = np.empty(2 * kept.size, np.uint64)
    wider[:to] = kept[:to]
    return wider, to


@njit(nogil=True, cache=True)
def _settle(run, id_rank):
    """Sorts (sum << 32 | document) in place, by sum, then rank of the id, both descending."""
    if run.size > FEW:
        keys = np.empty(run.size, np.uint64)
        for i in range(run.size):
            keys[i] = (run[i] & ~np.uint64(0xFFFFFFFF)) | np.uint64(id_rank[run[i] & np.uint64(0xFFFFFFFF)])
        run[:] = run[np.argsort(~keys)]
        return
    for i in range(1, run.size):
        one, j = run[i], i
        total, rank = one >> np.uint64(32), id_rank[one & np.uint64(0xFFFFFFFF)]
        while j and (
            run[j - 1] >> np.uint64(32) < total
            or (run[j - 1] >> np.uint64(32) == total and id_rank[run[j - 1] & np.uint64(0xFFFFFFFF)] < rank)
        ):
            run[j] = run[j - 1]
            j -= 1
        run[j] = one


@njit(nogil=True, cache=True)
def _ranking(kept, id_rank, k, histogram, bucket, shift):
    """Returns the k best of (sum << 32 | document), in order; histogram[bucket:] counts them by sum >> shift."""
    if kept.size <= FEW:
        _settle(kept, id_rank)
        return kept[:k]
    top = BUCKETS
    while not histogram[top]:
        top -= 1
    ordered, ends, at = np.empty(kept.size, np.uint64), np.empty(top + 1, np.int64), 0
    for b in range(top, bucket - 1, -1):
        ends[b] = at
        at += histogram[b]
    for one in kept:
        b = min(np.int64(one >> np.uint64(32)) >> shift, BUCKETS)
        ordered[ends[b]] = one
        ends[b] += 1
    start = 0
    for b in range(top, bucket - 1, -1):
        if start >= k:
            break
        if ends[b] > start + 1:
            _settle(ordered[start : ends[b]], id_rank)
        start = ends[b]
    return ordered[:k]


@njit(nogil=True, cache=True)
def _light(p_terms, p_cells, cell_start, cell_max, terms, weights, exactness, least):
    """Returns which terms, the lightest first, could add at most 1 - exactness of the highest possible sum.

    Those with fewer than `least` postings outside rows are not among them: nothing is saved by leaving them out.
    """
    highest, postings = np.zeros(terms.size, np.int64), np.zeros(terms.size, np.int64)
    for t in range(terms.size):
        row = _row(p_terms, terms[t])
        if row >= 0:
            for cell in range(p_cells[row], min(np.int64(p_cells[row + 1]), cell_max.size)):
                postings[t] += np.int64(cell_start[cell + 1]) - np.int64(cell_start[cell])
                highest[t] = max(highest[t], np.int64(weights[t]) * cell_max[cell])
    order, count, total = np.argsort(highest), 0, np.int64(0)
    for t in order[:-1]:
        if total + highest[t] > (1 - exactness) * highest.sum():
            break
        if postings[t] >= least:
            total += highest[t]
            order[count] = t
            count += 1
    return order[:count]


@njit(nogil=True, cache=True)
def search(
    p_terms, frequency, p_cells, row_start, cell_window, cell_start, cell_max, offsets, impacts, rows, peaks, id_rank,
    p_shape, terms, weights, k, alive, exactness, floor, sums,
):  # fmt: skip
    """Returns the k best (sums uint32, documents int64); see `reference.search`.

    `sums` is uint32 (WIDEST,), scratch space of the calling thread. `k` is at least 1. Sums below `floor` are not
    wanted: so many better ones are known from elsewhere. With an exactness e below 1 the lightest terms wait as long as
    they could add no more than 1 - e of the highest possible sum, and windows are left out whose bound, times e, does
    not reach the threshold ("term pruning" and "heap factor" in the literature). If a term waited, the 2 k best
    documents found so then get their whole sums.
    """
    window, stride, n = p_shape[0], p_shape[1], id_rank.size
    n_windows, n_terms = (n + window - 1) // window, terms.size
    bounds = np.zeros(n_windows, np.int64)
    starts, sizes = np.empty((n_windows, n_terms), np.int64), np.zeros((n_windows, n_terms), np.int64)
    _cells(p_terms, p_cells, row_start, cell_window, cell_start, cell_max, terms, weights, bounds, starts, sizes)
    wanted, left_out, every = k, np.empty(0, np.int64), sizes
    if exactness < 1:
        left_out = _light(p_terms, p_cells, cell_start, cell_max, terms, weights, exactness, 2 * k * LOOKUP)
    if left_out.size:
        wanted, sizes, floor = 2 * k, sizes.copy(), np.uint32(0)
        for t in left_out:
            sizes[:, t] = 0
    shift, largest = np.int64(0), bounds.max() if n_windows else 0
    while (largest >> shift) >= BUCKETS:
        shift += 1
    histogram = np.zeros(BUCKETS + 1, np.int64)
    per_row = (stride + BLOCK - 1) // BLOCK
    rows_there = min(rows.size // stride, peaks.size // per_row)
    held, factors = np.empty(n_terms, np.int64), np.empty(n_terms, np.uint32)
    limits = np.empty((window + BLOCK - 1) // BLOCK, np.uint32)
    kept, size = np.empty(max(1024, 2 * wanted), np.uint64), 0
    floor = max(floor, np.uint32(1))
    bucket, above, least = 0, 0, floor  # `above` of the sums kept lie in `bucket` or higher
    for w in np.argsort(-bounds):
        if bounds[w] * exactness < least:
            break
        first = w * window
        length = min(window, n - first)
        if alive.size and _maximum(alive[first : first + length]) == 0:
            continue
        _scatter(sums, offsets, impacts, starts[w], sizes[w], weights, length)
        rows_here = 0
        for t in range(n_terms):
            if sizes[w, t] < 0 and starts[w, t] < rows_there:
                held[rows_here], factors[rows_here] = starts[w, t], weights[t]
                rows_here += 1
        _peaks(limits, peaks, per_row, held[:rows_here], factors, (length + BLOCK - 1) // BLOCK)
        for s in range(0, length, BLOCK):
            living = _living(alive, first + s, min(BLOCK, length - s)) if alive.size else EVERY
            limit = limits[np.uintp(s) // np.uintp(BLOCK)]
            need = np.uint32(max(np.int64(least) - np.int64(limit), 0))  # so far, or all its rows would not do
            if not living & _reaching(sums, s, need):
                continue
            if rows_here:
                _add_rows(sums, s, rows, stride, held, factors, rows_here)
            reaching = living & _reaching(sums, s, least)
            if not reaching:
                continue
            if size + BLOCK > kept.size:
                kept, size = _grown(kept, size, least)
            before = size
            while reaching:
                i = np.uintp(s + _lowest(reaching))
                reaching &= reaching - np.uint64(1)
                value = np.uint64(sums[i])
                kept[np.uintp(size)] = (value << np.uint64(32)) | (np.uint64(first) + i)
                histogram[min(value >> np.uint64(shift), np.uint64(BUCKETS))] += 1
                size += 1
            above += size - before
            while above - histogram[bucket] >= wanted:
                above -= histogram[bucket]
                bucket += 1
            least = max(floor, np.uint32(bucket << shift))
    kept, size = _grown(kept, size, least)
    best = _ranking(kept[:size], id_rank, wanted, histogram, bucket, shift)
    if left_out.size:
        for i in range(best.size):
            document = np.int64(best[i] & np.uint64(0xFFFFFFFF))
            w = document // window
            for t in left_out:
                if every[w, t]:
                    impact = _impact(offsets, impacts, rows, stride, starts[w, t], every[w, t], document % window)
                    best[i] += np.uint64(weights[t] * impact) << np.uint64(32)
        _settle(best, id_rank)
        best = best[:k]
    found = np.empty(best.size, np.uint32)
    documents = np.empty(best.size, np.int64)
    for i in range(best.size):
        found[i] = np.uint32(best[i] >> np.uint64(32))
        documents[i] = np.int64(best[i] & np.uint64(0xFFFFFFFF))
    return found, documents


@njit(nogil=True, cache=True)
def search_many(
    p_terms, frequency, p_cells, row_start, cell_window, cell_start, cell_max, offsets, impacts, rows, peaks, id_rank,
    p_shape, queries, terms, weights, k, alive, exactness, floors, sums,
):  # fmt: skip
    """Returns (ends int64, sums uint32, documents int64) of many queries, one after the other.

    Query i has the terms and weights from queries[i] up to queries[i + 1], and its answer ends at ends[i].
    """
    n = queries.size - 1
    ends = np.zeros(n, np.int64)
    room = n * min(k, id_rank.size)
    all_sums, all_documents = np.empty(room, np.uint32), np.empty(room, np.int64)
    end = 0
    for i in range(n):
        a, b = queries[i], queries[i + 1]
        found, documents = search(
            p_terms, frequency, p_cells, row_start, cell_window, cell_start, cell_max, offsets, impacts, rows,
            peaks, id_rank, p_shape, terms[a:b], weights[a:b], k, alive, exactness, floors[i], sums,
        )  # fmt: skip
        all_sums[end : end + found.size] = found
        all_documents[end : end + found.size] = documents
        end += found.size
        ends[i] = end
    return ends, all_sums[:end], all_documents[:end]


@njit(nogil=True, cache=True)
def _spans(documents, window, n_windows):
    """Returns where the documents of each window begin, int64 (n_windows + 1,); documents are ascending."""
    begins = np.full(n_windows + 1, documents.size, np.int64)
    w = 0
    for d in range(documents.size):
        while w <= min(documents[d] // window, n_windows):
            begins[w] = d
            w += 1
    return begins


@njit(nogil=True, cache=True)
def _merged(inside, values, documents, base, found):
    """Fills the impacts (documents,) of ascending documents in one cell of postings, going through both once."""
    # Strides of the root of the mean gap: about as many strides as single steps after them.
    at, step = 0, np.int64(np.sqrt(inside.size / max(documents.size, 1)))
    step = step if step > 1 else 0
    for d in range(documents.size):
        offset = documents[d] - base
        while step and at + step < inside.size and inside[at + step] < offset:
            at += step
        while at < inside.size and inside[at] < offset:
            at += 1
        if at < inside.size and inside[at] == offset:
            found[d] = values[at]


@njit(nogil=True, cache=True)
def lookup(
    p_terms, frequency, p_cells, row_start, cell_window, cell_start, cell_max, offsets, impacts, rows, peaks, id_rank,
    p_shape, terms, documents,
):  # fmt: skip
    """Returns impacts uint8 (len(documents), len(terms)); see `reference.lookup`. Documents are ascending here."""
    return _looked_up(
        p_terms, p_cells, row_start, cell_window, cell_start, offsets, impacts, rows, id_rank, p_shape, terms,
        documents,
    ).T  # fmt: skip


@njit(nogil=True, cache=True)
def sums(
    p_terms, frequency, p_cells, row_start, cell_window, cell_start, cell_max, offsets, impacts, rows, peaks, id_rank,
    p_shape, terms, weights, documents,
):  # fmt: skip
    """Returns the sums int64 (len(documents),) of weight x impact; documents are ascending here."""
    found = np.zeros(documents.size, np.int64)
    held = _looked_up(
        p_terms, p_cells, row_start, cell_window, cell_start, offsets, impacts, rows, id_rank, p_shape, terms,
        documents,
    )  # fmt: skip
    for t in range(terms.size):
        weight = np.int64(weights[t])
        for d in range(documents.size):
            found[d] += weight * held[t, d]
    return found


@njit(nogil=True, cache=True)
def _looked_up(
    p_terms, p_cells, row_start, cell_window, cell_start, offsets, impacts, rows, id_rank, p_shape, terms, documents
):
    """Returns impacts uint8 (len(terms), len(documents)), of ascending documents.

    Sorted, the documents and a cell's postings are gone through together; a search of each document in each cell would
    take several times as long, most of it in branches that the processor cannot foresee.
    """
    found = np.zeros((terms.size, documents.size), np.uint8)
    window, stride = p_shape[0], p_shape[1]
    n_windows = (id_rank.size + window - 1) // window
    begins = _spans(documents, window, n_windows)
    last = min(np.int64(cell_window.size), np.int64(cell_start.size - 1))
    for t in range(terms.size):
        row = _row(p_terms, terms[t])
        if row < 0:
            continue
        held = np.int64(row_start[row])
        for cell in range(p_cells[row], min(np.int64(p_cells[row + 1]), last)):
            start, end = np.int64(cell_start[cell]), np.int64(cell_start[cell + 1])
            w = np.int64(cell_window[cell])
            if w < n_windows and begins[w] < begins[w + 1]:
                near, into = documents[begins[w] : begins[w + 1]], found[t, begins[w] : begins[w + 1]]
                if end > start:
                    size = min(offsets.size, impacts.size)
                    start, end = min(start, size), min(end, size)
                    _merged(offsets[start:end], impacts[start:end], near, w * window, into)
                else:
                    values = rows[held * stride : (held + 1) * stride]
                    for d in range(near.size):
                        if near[d] - w * window < values.size:
                            into[d] = values[near[d] - w * window]
            held += end == start
    return found

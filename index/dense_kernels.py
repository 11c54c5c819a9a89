"""Compiled twin of `dense.row_scores`: inner products of chosen rows, without a copy of them.

It adds in the order in which numpy's float32 sums do: halves down to at most 128 numbers, each summed in eight lanes.
So it gives the same bits, which is checked once when it is loaded; where another numpy adds otherwise, numpy is used.
"""

# pyright: reportCallIssue=false
# (an intrinsic is called without its first parameter, which is the compiler's)

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from .kernels import fetch

LANES, LEAF = 8, 128  # numpy's own
AHEAD, LINES = 4, 24  # rows: while one is multiplied, the cache lines of a later one are fetched


@intrinsic
def _lanes(typing, values, start, query, begin, size):
    """Returns the sum of values[start + i] * query[begin + i] over i < size, a multiple of 8, in eight lanes.

    The caller sees to it that all are there.
    """

    def code(context, builder, signature, arguments):
        wide = ir.VectorType(ir.FloatType(), LANES)
        made = [context.make_array(signature.args[n])(context, builder, arguments[n]) for n in (0, 2)]
        places = [builder.gep(array.data, [arguments[n]]) for array, n in zip(made, (1, 3), strict=True)]

        def product(at):
            parts = []
            for place in places:
                part = builder.load(builder.bitcast(builder.gep(place, [at]), wide.as_pointer()))
                part.align = 1  # what is mapped from a file begins anywhere
                parts.append(part)
            return builder.fmul(*parts)

        word = arguments[4].type
        sums = cgutils.alloca_once_value(builder, product(word(0)))
        with cgutils.for_range_slice(builder, word(LANES), arguments[4], word(LANES), word) as (at, _):
            builder.store(builder.fadd(builder.load(sums), product(at)), sums)
        lanes = builder.load(sums)
        level = [builder.extract_element(lanes, ir.IntType(32)(n)) for n in range(LANES)]
        while len(level) > 1:
            level = [builder.fadd(*level[n : n + 2]) for n in range(0, len(level), 2)]
        return level[0]

    return types.float32(values, types.intp, query, types.intp, types.intp), code


@lru_cache(maxsize=16)
def order(size: int) -> NDArray[np.int64]:
    """Returns the order in which numpy sums so many numbers, at least 8, int64 (steps, 2).

    A step (start, count) sums some of them and lays the sum on a stack; (0, 0) adds up the two that lie on top.
    """
    return np.array(list(_order(0, size)), np.int64)


def _order(start: int, size: int) -> Iterator[tuple[int, int]]:
    if size <= LEAF:
        yield start, size
        return
    half = size // 2 - size // 2 % LANES
    yield from _order(start, half)
    yield from _order(start + half, size - half)
    yield 0, 0


@njit(nogil=True, cache=True)
def _some(values, start, query, begin, size):
    """Returns the sum of at least 8 products."""
    whole = size - size % LANES
    total = _lanes(values, start, query, begin, whole)
    for i in range(whole, size):
        total += values[start + i] * query[begin + i]
    return total


# Of files that are mapped: read-only, and where a vector begins is no multiple of 4. Others pass for such.
_FLOATS = types.Array(types.float32, 1, "C", readonly=True, aligned=False)
_ROWS = types.Array(types.int64, 1, "C", readonly=True)
_STEPS = types.Array(types.int64, 2, "C", readonly=True)


@njit(types.float32[::1](_FLOATS, _ROWS, _FLOATS, _STEPS), nogil=True, cache=True)
def row_scores(values, rows, query, steps):
    """Returns the inner products of some rows with a query, float32 (rows,).

    Args:
        values: float32 (n * dim,), the rows one after the other.
        rows: int64; those that are not there get 0.
        query: float32 (dim,), at least 8 numbers.
        steps: `order(dim)`. (Not computed here: numba's cache does not hold functions that call themselves.)
    """
    found = np.zeros(rows.size, np.float32)
    stack = np.empty(steps.shape[0], np.float32)
    size = query.size
    count = values.size // size
    for i in range(rows.size):
        if i + AHEAD < rows.size:
            later = rows[i + AHEAD] * size
            for line in range(LINES):
                fetch(values, later + 16 * line)
        row = rows[i]
        if 0 <= row < count:
            top = 0
            for step in range(steps.shape[0]):
                begin, some = steps[step, 0], steps[step, 1]
                if some:
                    stack[top] = _some(values, row * size + begin, query, begin, some)
                    top += 1
                else:
                    top -= 1
                    stack[top - 1] += stack[top]
            found[i] = stack[0]
    return found

"""From weights and counts to 8-bit impacts, and the query-side inverse document frequency."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STEPS = 255
_PIECE = 1 << 15
SUM_BITS = 31  # a sum of integer weight x impact stays below 2 ** 31


def saturated(
    counts: NDArray[np.uint8], lengths: NDArray[np.uint32], average: float, k1: float, b: float
) -> NDArray[np.float64]:
    """Returns the document side of BM25 as Lucene writes it, in [0, 1): tf / (tf + k1 (1 - b + b dl / avgdl)).

    Args:
        counts: term frequencies, one a posting.
        lengths: the length in terms of each posting's document.
        average: mean document length.
        k1: saturation.
        b: share of the length normalisation.
    """
    tf = counts.astype(np.float64)
    return tf / (tf + k1 * (1 - b + b * lengths / max(average, 1e-9)))


def quantised(weights: NDArray[np.floating], scale: float) -> NDArray[np.uint8]:
    """Returns weights (n,) as steps of `scale`, rounded, at least 1 (a posting never vanishes) and at most 255."""
    found = np.empty(weights.size, np.uint8)
    for start in range(0, weights.size, _PIECE):  # what is in between stays in the processor's cache
        steps = np.rint(weights[start : start + _PIECE].astype(np.float64) / scale)
        found[start : start + _PIECE] = np.clip(steps, 1, STEPS)
    return found


def step_for(weights: NDArray[np.floating]) -> float:
    """Returns the step that lets the largest of these weights, and a quarter more, fit into 8 bits."""
    largest = float(weights.max()) if weights.size else 0.0
    return (largest * 1.25 or 1.0) / STEPS


def integer_weights(weights: NDArray[np.floating]) -> tuple[NDArray[np.uint32], float]:
    """Returns weights as whole numbers of a unit, uint32, and the unit, a power of two.

    The unit is the smallest for which no sum of weight x impact reaches 2 ** 31, so weights are rounded by less than a
    float32 sum of as many terms would be, and sums are exact whatever their order.
    """
    exact = np.asarray(weights, np.float64)
    total = math.fsum(exact.tolist()) * STEPS
    if total <= 0:
        return np.zeros(exact.size, np.uint32), 1.0
    unit = math.ldexp(1.0, math.frexp(total)[1] - SUM_BITS)
    if total / unit + exact.size * STEPS / 2 >= 2**SUM_BITS:  # where rounding could carry it over
        unit *= 2
    return np.rint(exact / unit).astype(np.uint32), unit


def idf(frequencies: NDArray[np.int64], documents: int) -> NDArray[np.float32]:
    """Returns ln(1 + (N - df + 0.5) / (df + 0.5)), Lucene's BM25 IDF, float32."""
    df = frequencies.astype(np.float64)
    return np.log1p((documents - df + 0.5) / (df + 0.5)).astype(np.float32)

"""Could it be chance? Paired tests, Holm's correction and bootstrap intervals, over many columns at once.

A column is one comparison or one system; a row is a query. All columns share the permutations and the resamples, so
that a table of systems and measures costs two matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import EvalError

Columns = NDArray[np.float64]  # (queries, columns)

SAMPLES = 10_000
EXACT = 14  # with so many pairs that differ, or fewer, every assignment of signs is gone through
LEVEL = 0.95
_CELLS = 1 << 21  # numbers held at a time
_SLACK = 1e-12  # sums of the same numbers in another order are the same sum


def randomisation_test(differences: Columns, *, samples: int = SAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Returns the two-sided p-value of each column's mean difference, float64 (columns,).

    Under the null hypothesis the two systems' values of a query could as well be swapped, so each difference keeps its
    size and takes either sign (Fisher's randomisation test; Smucker et al., CIKM 2007). With up to `EXACT` queries
    that differ it is exact: the share of all sign assignments whose mean is at least as far from 0. Otherwise it is
    (1 + such samples) / (1 + samples), which is never 0 and valid as a test (Phipson and Smyth 2010).

    Args:
        differences: system minus baseline, float64 (queries, columns).
        samples: how many sign assignments are drawn.
        seed: of the random generator.
    """
    rows = differences[_differ(differences)]
    seen = np.abs(rows.sum(axis=0)) - _SLACK * np.abs(rows).sum(axis=0)
    exact = is_exact(differences)
    beyond, drawn = np.zeros(differences.shape[1], np.int64), 0
    most = max(1, _CELLS // max(differences.shape[1], 1))  # how many are drawn at a time settles what is drawn
    for signs in _every_sign(len(rows)) if exact else _random_signs(len(rows), samples, seed):
        for start in range(0, len(signs), most):
            beyond += (np.abs(signs[start : start + most] @ rows) >= seen).sum(axis=0)
        drawn += len(signs)
    return beyond / drawn if exact else (1 + beyond) / (1 + drawn)


def is_exact(differences: Columns) -> bool:
    """Returns whether `randomisation_test` goes through every assignment of signs: no more queries than that differ.

    A query counts where any of the columns differs, for all of them see the same signs.
    """
    return int(_differ(differences).sum()) <= EXACT


def _differ(differences: Columns) -> NDArray[np.bool_]:
    return np.any(differences != 0, axis=1)


def _every_sign(pairs: int) -> Iterator[NDArray[np.float64]]:
    """Yields all assignments of -1 and 1, float64 (2 ** pairs, pairs)."""
    bits = np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1
    yield 1 - 2 * bits.astype(np.float64)


def _random_signs(pairs: int, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yields random assignments of -1 and 1, float64 (some, pairs), until there are `samples`."""
    random = np.random.default_rng(seed)
    for size in _parts(samples, pairs):
        bits = np.unpackbits(random.integers(256, size=(size, -(-pairs // 8)), dtype=np.uint8), axis=1)[:, :pairs]
        yield 1 - 2 * bits.astype(np.float64)


def t_test(differences: Columns) -> NDArray[np.float64]:
    """Returns the two-sided p-value of Student's paired t test of each column, float64 (columns,).

    1 where no query differs; NaN with fewer than two queries, and where all differ by the same amount: the test
    divides by their deviation.
    """
    from scipy.special import stdtr  # scipy.stats takes a second to import

    count = len(differences)
    if count < 2:
        return np.full(differences.shape[1], np.nan)
    deviation = differences.std(axis=0, ddof=1)
    mean = differences.mean(axis=0)
    constant = deviation <= _SLACK * np.abs(mean)
    statistic = np.divide(mean * np.sqrt(count), deviation, out=np.zeros_like(mean), where=~constant)
    return np.where(constant, np.where(mean == 0, 1.0, np.nan), 2 * stdtr(count - 1, -np.abs(statistic)))


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns p-values adjusted for a family of tests, in their order (Holm 1979); NaN stays and does not count."""
    adjusted = np.array(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted


def bootstrap_means(values: Columns, *, samples: int = SAMPLES, seed: int = 0) -> Columns:
    """Returns the columns' means in resamples of the rows, float64 (samples, columns).

    All columns see the same resample, so the difference of two columns of the result is that of paired systems.
    """
    random, count = np.random.default_rng(seed), len(values)
    means = []
    for size in _parts(samples, count):
        drawn = random.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        often = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means.append(often.astype(np.float64) @ values / count)
    return np.concatenate(means)


def percentile_interval(means: Columns, level: float = LEVEL) -> Columns:
    """Returns the bootstrap percentile interval of each column, float64 (2, columns): low, high."""
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)


def check_folds(folds: int) -> None:
    """Raises an error unless a cross-validation can have so many folds.

    Raises:
        EvalError: fewer than two: there would be nothing to learn from.
    """
    if folds < 2:
        raise EvalError(f"a cross-validation has at least 2 folds, not {folds}")


def check_seed(seed: Any) -> None:
    """Raises an error unless a random generator takes such a seed.

    Raises:
        EvalError: it is no whole number, or negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise EvalError(f"a seed is a whole number of at least 0, not {seed!r}")


def _parts(samples: int, count: int) -> Iterator[int]:
    """Yields how many samples to hold at a time."""
    size = max(1, _CELLS // max(count, 1))
    yield from (min(size, samples - start) for start in range(0, samples, size))

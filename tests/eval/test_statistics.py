"""Tests of significance: equal to scipy's, to enumeration by hand, and to what the papers say."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.eval.statistics import bootstrap_means, holm, percentile_interval, randomisation_test, t_test

VALUES = st.sampled_from([0.0, 0.0, 0.25, 0.375, 0.5, 1.0])  # exact in binary: scipy takes a rounded 0 for a mean


def column(values):
    return np.array(values, np.float64).reshape(-1, 1)


def test_a_randomisation_test_by_hand():
    # Of the 8 assignments of signs to 3, 1, 1 the sums at least as far from 0 as 5 are 5 and -5.
    assert randomisation_test(column([3, 1, 1])) == pytest.approx([2 / 8])
    # Of 3, -1, 1: |sum| >= 3 holds for 3 with (+, +), (+, -), (-, +), and as many with -3.
    assert randomisation_test(column([3, -1, 1])) == pytest.approx([6 / 8])
    assert randomisation_test(column([0, 0, 0])) == pytest.approx([1.0])
    assert randomisation_test(np.zeros((0, 1))) == pytest.approx([1.0])
    assert randomisation_test(column([2])) == pytest.approx([1.0])


@given(pairs=st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=8))
def test_the_exact_test_is_scipys(pairs):
    from scipy import stats

    differences = np.array([a - b for a, b in pairs])
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    # scipy doubles the smaller tail; with a mean of exactly 0 that is 1, as every assignment counts here.
    assert randomisation_test(differences[:, None])[0] == pytest.approx(min(1.0, expected.pvalue))


@given(numbers=st.lists(st.integers(-12, 12), min_size=1, max_size=8))
def test_rounding_breaks_no_tie(numbers):
    whole = np.array(numbers, np.float64)
    assert randomisation_test(column(whole / 30)).tolist() == randomisation_test(column(whole)).tolist()


def test_the_sampled_test_comes_near_the_exact_one_and_is_never_0():
    random = np.random.default_rng(3)
    differences = random.normal(0.15, 0.5, (14, 2))
    exact = randomisation_test(differences)
    more = np.concatenate([differences, np.full((3, 2), 1e-13)])  # too many pairs to go through them all
    sampled = randomisation_test(more, samples=50_000, seed=1)
    assert sampled == pytest.approx(exact, abs=0.01)
    assert (sampled != exact).any()
    assert randomisation_test(np.ones((40, 1)), samples=999) == pytest.approx([1 / 1000])


def test_the_sampled_test_is_scipys_within_sampling_error():
    from scipy import stats

    differences = np.random.default_rng(5).normal(0.05, 0.3, 200)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0)
    ).pvalue
    assert randomisation_test(differences[:, None], samples=20_000)[0] == pytest.approx(expected, abs=0.01)


def test_a_seed_settles_the_sample():
    differences = np.random.default_rng(0).normal(0.1, 1, (50, 3))
    first, again, other = (randomisation_test(differences, samples=500, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_t_test_is_scipys():
    from scipy import stats

    random = np.random.default_rng(0)
    a, b = random.random((30, 4)), random.random((30, 4))
    assert t_test(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert t_test(column([1, 1, 4])) == pytest.approx([stats.ttest_rel([1, 1, 4], [0, 0, 0]).pvalue])


def test_where_the_t_test_is_not_defined():
    assert t_test(column([0, 0, 0])) == pytest.approx([1.0])
    assert np.isnan(t_test(column([0.5, 0.5, 0.5]))).all()
    assert np.isnan(t_test(column([0.5]))).all()
    assert t_test(np.zeros((0, 2))).shape == (2,)


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04, times 4, 3, 2, 1: .02 .03 .06 .04, and no smaller than the one before.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.02])) == pytest.approx([0.02])
    assert holm(np.array([])).size == 0
    assert holm(np.array([np.nan, 0.01, 0.02])) == pytest.approx([np.nan, 0.02, 0.02], nan_ok=True)


def test_bootstrap_means_are_means_of_resamples():
    values = np.array([[0.0, 1.0], [0.0, 1.0], [3.0, 4.0]])
    means = bootstrap_means(values, samples=2000, seed=4)
    assert means.shape == (2000, 2)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(2000)), "both columns see the same resample"
    seen = {round(mean, 9) for mean in means[:, 0].tolist()}
    assert seen == {round(sum(rows) / 3, 9) for rows in product([0.0, 0.0, 3.0], repeat=3)}
    assert means[:, 0].mean() == pytest.approx(1.0, abs=0.05)


def test_the_percentile_interval_is_scipys():
    from scipy import stats

    values = np.random.default_rng(2).random(80)
    found = percentile_interval(bootstrap_means(values[:, None], samples=10_000))
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found[:, 0] == pytest.approx([expected.low, expected.high], abs=0.005)


def test_many_rows_are_drawn_in_parts_and_come_to_the_same_thing():
    values = np.random.default_rng(0).random((5000, 1))
    low, high = percentile_interval(bootstrap_means(values, samples=1000))[:, 0]
    error = values.std() / np.sqrt(5000)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.002)


def test_nothing_heavy_is_imported_to_compare():
    code = (
        "import sys, numpy as np; from plait.eval.statistics import *;"
        "randomisation_test(np.ones((20, 1))); bootstrap_means(np.ones((20, 1)), samples=10);"
        "print(any(name.startswith('scipy') for name in sys.modules));"
        "t_test(np.random.random((20, 1))); print('scipy.stats' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]

"""Calibration: isotonic regression against oracles, Platt's sigmoid, and how far probabilities can be relied on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import EvalError
from plait.eval.calibrating import (
    KINDS,
    Calibrated,
    Pairs,
    Reliability,
    calibrate,
    crossed,
    isotonic,
    logistic,
    pairs_of,
    platt,
    pooled,
    reliability,
    sigmoid,
)
from plait.eval.diagram import reliability_page
from plait.retriever import Retriever
from plait.retriever.calibration import Calibration

from .conftest import QRELS, QUERIES


def by_minima_and_maxima(values, weights):
    """Isotonic regression by its min-max formula (Robertson, Wright and Dykstra 1988), slow and plain."""
    mean = {
        (i, j): np.average(values[i : j + 1], weights=weights[i : j + 1])
        for i in range(len(values))
        for j in range(i, len(values))
    }
    last = len(values) - 1
    return [max(min(mean[i, j] for j in range(at, last + 1)) for i in range(at + 1)) for at in range(len(values))]


@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.integers(1, 5)), min_size=1, max_size=12))
def test_pooled_violators_are_the_isotonic_regression(rows):
    values, weights = np.array(rows, np.float64).T
    levels, sizes = pooled(values, weights)
    assert sizes.sum() == weights.sum()
    owned = np.searchsorted(np.cumsum(sizes), np.cumsum(weights))
    assert levels[owned].tolist() == pytest.approx(by_minima_and_maxima(values, weights))


def test_by_hand():
    levels, sizes = pooled(np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4))
    assert levels.tolist() == [0.0, 0.5, 1.0]
    assert sizes.tolist() == [1, 2, 1]


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=80))
def test_isotonic_never_falls_and_keeps_the_mean(rows):
    scores, relevant = np.array([[score / 8, float(hit)] for score, hit in rows]).T
    at, level = isotonic(scores, relevant)
    assert (np.diff(at) >= 0).all()
    assert (np.diff(level) >= 0).all()
    assert level.min() >= 0
    assert level.max() <= 1
    if np.unique(scores).size == 1:
        assert level.tolist() == pytest.approx([relevant.mean()] * 2)


def drawn(count, seed=0):
    random = np.random.default_rng(seed)
    scores = random.random(count)
    relevant = (random.random(count) < sigmoid(8 * scores - 5)).astype(np.float64)
    return Pairs(scores, relevant, np.arange(count) // 20, np.arange(count) % 20 + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_found_again(kind):
    pairs = drawn(20_000)
    at, level = KINDS[kind](pairs.scores, pairs.relevant)
    wanted = np.linspace(0.05, 0.95, 19)
    assert np.abs(np.interp(wanted, at, level) - sigmoid(8 * wanted - 5)).max() < 0.06
    guessed = crossed(pairs, kind)
    found = reliability(guessed, pairs.relevant)
    assert found.error < 0.015
    assert found.brier < found.base
    assert sum(count for _, _, count in found.bins) == found.hits == 20_000


@pytest.mark.parametrize("folds", [1, 0, -1])
def test_folds(folds, hybrid):
    with pytest.raises(EvalError, match=f"a cross-validation has at least 2 folds, not {folds}"):
        crossed(drawn(200), "platt", folds=folds)
    queries, qrels = {**QUERIES, "q": "apple"}, {**QRELS, "q": {"a": 1}}
    with pytest.raises(EvalError, match=f"a cross-validation has at least 2 folds, not {folds}"):
        calibrate(hybrid, queries, qrels, folds=folds)


def test_pairs_of_one_query_cannot_be_parted():
    with pytest.raises(EvalError, match="a cross-validation leaves out queries: it needs at least 2 of them, not 1"):
        crossed(drawn(20), "platt")


def test_a_sigmoid_that_would_fall_is_level():
    _, level = platt(np.array([0.0, 0.1, 0.9, 1.0]), np.array([1.0, 1.0, 0.0, 0.0]))
    assert np.ptp(level) == 0


def test_logistic_regression_stands_where_its_slope_is_nothing():
    pairs = drawn(500)
    rows = np.stack([np.ones(500), pairs.scores], axis=1)
    ridge = np.array([0.0, 2.0])
    weights = logistic(rows, pairs.relevant, ridge)
    slope = rows.T @ (sigmoid(rows @ weights) - pairs.relevant) + ridge * weights
    assert np.abs(slope).max() < 1e-4


def test_reliability_by_hand():
    found = reliability(np.array([0.05, 0.15, 0.15, 1.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert found.bins == ((0.05, 0.0, 1), (0.15, 0.5, 2), (1.0, 1.0, 1))
    assert found.error == pytest.approx((0.05 + 2 * 0.35) / 4)
    assert found.brier == pytest.approx((0.05**2 + 0.85**2 + 0.15**2) / 4)
    assert found.base == 0.25


@pytest.mark.parametrize(("brier", "better"), [(0.2, True), (0.25, False), (0.3, False)])
def test_what_says_less_than_the_mean_is_not_better(brier, better):
    near = Reliability(0.0, brier, 0.25, (), 4)
    assert Calibrated(Calibration((0.0,), (0.5,), "platt", "", {}), near, near, 5).better is better


def test_pairs_by_hand():
    pairs = pairs_of({"q": {"a": 2.0, "b": 1.0}, "r": {"a": 5.0}}, {"q": {"a": 2, "b": -1}})
    assert pairs.scores.tolist() == [2.0, 1.0, 5.0]
    assert pairs.relevant.tolist() == [1, 0, 0]
    assert pairs.rank.tolist() == [1, 2, 1]
    assert pairs.query.tolist() == [0, 0, 1]


def test_an_index_keeps_it_for_its_own_settings(tmp_path, fruit):
    queries = {f"{query}-{part}": text for part in range(3) for query, text in QUERIES.items()}
    qrels = {query: QRELS[query.partition("-")[0]] for query in queries}
    with Retriever.create(tmp_path / "i", strands="lexical,dense") as retriever:
        retriever.add(fruit.documents())
        retriever.commit()
        found = calibrate(retriever, queries, qrels, kind="platt")
        assert found.queries == 12
        assert "not judged counts as not relevant" in found.calibration.source
        retriever.settle(calibration=found.calibration.to_json())
        retriever.commit()
        hit = retriever.search("elder")[0]
        expected = np.interp(hit.score, found.calibration.scores, found.calibration.probabilities)
        assert hit.probability == pytest.approx(expected)
        assert retriever.search("elder", weights={"lexical": 1, "dense": 1})[0].probability is None
    page = reliability_page(found)
    assert page.count("<svg") == 2
    assert "Expected calibration error" in page


def test_the_floor_is_what_nineteen_of_twenty_judged_queries_reach(hybrid, lexical):
    """The queries, and the document that is one of them does not count."""
    queries, qrels = {**QUERIES, "b": "apple apple apple"}, {**QRELS, "b": {"a": 1}}
    found = calibrate(hybrid, queries, qrels).calibration
    nearest = []
    for query, ranking in zip(queries, hybrid.candidates(list(queries.values())), strict=True):
        ids = ranking.search.snapshot.ids(ranking.positions)
        cosines = dict(zip(ids, ranking.candidates.scores[:, ranking.column("dense")].tolist(), strict=True))
        cosines.pop(query, None)
        nearest.append(max(cosines.values()))
    assert found.floor == pytest.approx(np.quantile(nearest, 0.05))
    assert Calibration.from_json(found.to_json()) == found
    assert calibrate(lexical, queries, qrels).calibration.floor is None
    older = {name: value for name, value in found.to_json().items() if name != "floor"}
    assert Calibration.from_json(older).floor is None


@pytest.mark.parametrize("kind", KINDS)
def test_one_query_with_hits_is_too_few(lexical, kind):
    """The text of the four others matches no document."""
    queries = {"1": "cherry date", **dict.fromkeys("2345", "zebra")}
    with pytest.raises(EvalError, match="only one judged query has hits; a calibration needs at least two"):
        calibrate(lexical, queries, {query: {"c": 1} for query in queries}, kind=kind)


@pytest.mark.parametrize(
    ("qrels", "options", "message"),
    [
        (QRELS, {"kind": "beta"}, "no calibration 'beta'; there are: isotonic, platt"),
        (QRELS, {"seed": -1}, "a seed is a whole number of at least 0, not -1"),
        ({"q1": {"a": 0.5}}, {}, "grades are whole numbers"),
        ({"q1": {"a": 1}}, {}, "1 queries are judged and have a text; a calibration needs at least 5"),
        ({query: {"nothing": 1} for query in "12345"}, {}, "no hit is judged relevant"),
    ],
)
def test_what_cannot_be_fitted(hybrid, qrels, options, message):
    queries = {**QUERIES, **dict.fromkeys("12345", "apple")}
    with pytest.raises(EvalError, match=message):
        calibrate(hybrid, queries, qrels, **options)

"""Systems against a baseline: differences, families, intervals, and what several collections add."""

from __future__ import annotations

import numpy as np
import pytest
from plait.eval import EvalError, Report, Scores, System, compare, comparing, statistics
from plait.eval.report import out_of_reach
from plait.eval.statistics import holm

M = "nDCG@10"


def report(name, values, measures=(M,)):
    """A report of systems with these values of each query, the same for every measure."""
    queries = [f"q{i}" for i in range(len(next(iter(values.values()))))]
    systems = []
    for system, column in values.items():
        per_query = {measure: dict(zip(queries, column, strict=True)) for measure in measures}
        systems.append(System(system, Scores({m: sum(column) / len(column) for m in measures}, per_query)))
    return Report({"name": name, "queries": len(queries)}, tuple(measures), tuple(systems))


def test_a_difference_its_tests_and_its_interval():
    compared = compare([report("x", {"old": [0, 0, 0, 0.5], "new": [1, 1, 0, 0]})])
    (found,) = compared.comparisons
    assert compared.baseline == "old"
    assert (found.collection, found.system, found.measure) == ("x", "new", M)
    assert found.difference == pytest.approx(1.5 / 4)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    # Signs of 1, 1, .5 that sum to at least 1.5 either way: + + +, + + -, and their opposites.
    assert found.randomisation == found.holm == pytest.approx(4 / 8)
    assert found.t_test == pytest.approx(0.3910, abs=1e-4)
    low, high = found.interval
    assert low < found.difference < high
    assert compared.intervals["x"]["new"][M] == pytest.approx((0.0, 1.0))
    assert compared.intervals["x"]["old"][M] == pytest.approx((0.0, 0.375), abs=0.01)


def test_the_family_is_all_systems_and_collections_of_a_measure():
    values = {"a": [0, 0, 0, 0, 0, 0], "b": [1, 1, 1, 1, 1, 0], "c": [1, -1, 1, -1, 1, 1]}
    reports = [report(name, values, (M, "RR")) for name in ("x", "y")]
    compared = compare(reports)
    inside = [each for each in compared.comparisons if each.collection is not None]
    assert [(each.collection, each.system, each.measure) for each in inside] == [
        (collection, system, measure) for collection in "xy" for system in "bc" for measure in (M, "RR")
    ]
    family = [each for each in inside if each.measure == M]
    assert [each.holm for each in family] == pytest.approx(holm([each.randomisation for each in family]))
    assert family[0].randomisation == pytest.approx(2 / 32)
    assert family[0].holm == pytest.approx(8 / 32)


def test_over_collections_means_are_the_pairs():
    gains = [0.1, 0.2, 0.3]
    reports = [report(f"c{i}", {"a": [0.5, 0.5], "b": [0.5 + gain, 0.5 + gain]}) for i, gain in enumerate(gains)]
    (over,) = [each for each in compare(reports).comparisons if each.collection is None]
    assert over.difference == pytest.approx(0.2)
    assert over.randomisation == pytest.approx(2 / 8), "as small as it gets with three collections"
    assert (over.interval, over.holm) == (None, None)
    assert (over.wins, over.ties, over.losses) == (3, 0, 0)


def test_the_baseline_is_the_first_unless_named():
    reports = [report("x", {"a": [0, 1], "b": [1, 1], "c": [0, 0]})]
    assert [each.system for each in compare(reports).comparisons] == ["b", "c"]
    named = compare(reports, baseline="b")
    assert [(each.system, each.difference) for each in named.comparisons] == [("a", -0.5), ("c", -1.0)]
    with pytest.raises(EvalError, match="no system 'd' to compare with; there are: a, b, c"):
        compare(reports, baseline="d")


def test_a_baseline_is_in_every_collection():
    one, other = report("x", {"a": [0], "b": [1]}), report("y", {"b": [1], "c": [0]})
    assert compare([one, other]).baseline == "b"
    with pytest.raises(EvalError, match="no system 'a' to compare with; there are: b"):
        compare([one, other], baseline="a")
    with pytest.raises(EvalError, match="no system was measured on all collections"):
        compare([one, report("y", {"c": [0]})])


def test_nothing_to_compare():
    with pytest.raises(EvalError, match="there is no collection to compare systems on"):
        compare([])
    with pytest.raises(EvalError, match="samples is how many are drawn: a whole number of at least 1, not 0"):
        compare([report("x", {"a": [0]})], samples=0)
    for seed in (-1, True, 0.0):
        with pytest.raises(EvalError, match=f"a seed is a whole number of at least 0, not {seed}"):
            compare([report("x", {"a": [0]})], seed=seed)
    with pytest.raises(EvalError, match="samples is how many are drawn: a whole number of at least 1, not True"):
        compare([report("x", {"a": [0]})], samples=True)
    counted = compare([report("x", {"a": [0, 1], "b": [1, 1]})], seed=np.int64(3), samples=np.int64(9))
    assert counted == compare([report("x", {"a": [0, 1], "b": [1, 1]})], seed=3, samples=9)
    assert (type(counted.seed), type(counted.samples)) == (int, int), "as JSON takes them"
    alone = compare([report("x", {"a": [0.5, 0.5]})])
    assert alone.comparisons == ()
    assert alone.intervals["x"]["a"][M] == pytest.approx((0.5, 0.5))


def test_one_query_has_no_interval_and_no_t_test_nor_have_equal_differences():
    compared = compare([report("x", {"a": [0.5], "b": [1.0]})])
    (one,) = compared.comparisons
    assert (one.t_test, one.interval, one.randomisation) == (None, None, 1.0)
    assert compared.intervals == {"x": {"a": {}, "b": {}}}
    (same,) = compare([report("x", {"a": [0, 0, 0], "b": [0.5, 0.5, 0.5]})]).comparisons
    assert same.t_test is None
    assert same.randomisation == pytest.approx(2 / 8)


def test_systems_are_resampled_alike_however_many_fit_into_memory(monkeypatch):
    random = np.random.default_rng(0)
    values = {name: random.random(30).tolist() for name in "abcdefg"}
    together = compare([report("x", values, (M, "RR"))], baseline="c", samples=200)
    monkeypatch.setattr(comparing, "HELD", 1000)
    monkeypatch.setattr(statistics, "_CELLS", 5000)
    apart = compare([report("x", values, (M, "RR"))], baseline="c", samples=200)
    for one, other in zip(together.comparisons, apart.comparisons, strict=True):
        assert one.interval == pytest.approx(other.interval)
    for name in values:
        assert together.intervals["x"][name][M] == pytest.approx(apart.intervals["x"][name][M])


@pytest.mark.parametrize(("systems", "queries", "far"), [(6, 20, False), (7, 20, True), (7, 14, False)])
def test_a_family_too_large_for_its_samples(systems, queries, far):
    compared = compare([report("x", {f"s{i}": [i] * queries for i in range(systems)})], samples=99)
    assert (compared.family, compared.out_of_reach) == (systems - 1, far), "with 14 queries the test is exact"
    said = "p Holm is over 6 comparisons of a measure: with 99 samples none can be below 0.06, whatever differs; "
    assert out_of_reach(compared) == (f"{said}draw more with --samples" if far else None)
    assert not far or min(each.holm for each in compared.comparisons) == pytest.approx(0.06)


def test_a_family_is_out_of_reach_where_every_test_is_sampled():
    """Each of these systems differs for eight queries, and all together for sixteen: their signs are drawn."""
    half = {f"s{i}": [float(place % 2 == i % 2) for place in range(16)] for i in range(7)}
    systems = {"old": [0.0] * 16, **half}
    together = compare([report("x", systems)], samples=99)
    assert max(each.wins + each.losses for each in together.comparisons) == 8
    assert together.out_of_reach
    assert min(each.randomisation for each in together.comparisons) >= 1 / 100
    few = report("y", {name: values[:4] for name, values in systems.items()})
    mixed = compare([report("x", systems), few], samples=99)
    assert not mixed.out_of_reach, "one collection's test is exact"
    assert not compare([few], samples=9).out_of_reach


def test_a_measure_that_counts_has_no_interval_of_its_mean():
    queries = {"q0": 2.0, "q1": 3.0}
    systems = (System("a", Scores({"NumRet": 5.0}, {"NumRet": queries})),)
    assert compare([Report({"name": "x"}, ("NumRet",), systems)]).intervals == {"x": {"a": {}}}

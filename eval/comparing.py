"""Systems against a baseline: intervals, paired tests and their correction, per collection and over collections."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import EvalError
from .evaluate import Report
from .statistics import (
    SAMPLES,
    bootstrap_means,
    check_seed,
    holm,
    is_exact,
    percentile_interval,
    randomisation_test,
    t_test,
)

Interval = tuple[float, float]
SEED = 0
SIGNIFICANT = 0.05
HELD = 1 << 24  # numbers held at a time


@dataclass(frozen=True)
class Comparison:
    """A system against the baseline, by one measure.

    Attributes:
        collection: its name; None: over the means of all collections, each a pair.
        system: its name.
        measure: as in the report.
        difference: mean of the paired differences, system minus baseline.
        interval: 95 %, bootstrap percentile; None over collections, which are too few to resample, and of one query.
        randomisation: p-value of the paired randomisation test, two-sided.
        holm: the same, adjusted for the family: all systems and collections of this measure; None over collections,
            which repeat what is in the family already.
        t_test: p-value of the paired t test, two-sided, not adjusted; None where it is not defined.
        wins: pairs in which the system is better.
        ties: pairs in which both are equal.
        losses: pairs in which the baseline is better.
    """

    collection: str | None
    system: str
    measure: str
    difference: float
    interval: Interval | None
    randomisation: float
    holm: float | None
    t_test: float | None
    wins: int
    ties: int
    losses: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """What the numbers of a call can bear.

    Attributes:
        baseline: what the systems are compared with.
        comparisons: per collection, then over collections where there are several.
        intervals: of means, 95 %, by collection, system and measure; none of one query.
        seed: of permutations and resamples.
        samples: how many of each were drawn.
        sampled: whether the randomisation test drew samples on every collection: on none was it exact.
    """

    baseline: str
    comparisons: tuple[Comparison, ...] = ()
    intervals: Mapping[str, Mapping[str, Mapping[str, Interval]]] = field(default_factory=dict)
    seed: int = SEED
    samples: int = SAMPLES
    sampled: bool = False

    @property
    def family(self) -> int:
        """How many comparisons of a measure Holm's correction is over."""
        return max(Counter(each.measure for each in self.comparisons if each.holm is not None).values(), default=0)

    @property
    def out_of_reach(self) -> bool:
        """Whether all p-values of the family are sampled, and it is so large that none, adjusted, can be .05."""
        return self.sampled and self.family / (1 + self.samples) > SIGNIFICANT


def compare(
    reports: Sequence[Report], *, baseline: str | None = None, seed: int = SEED, samples: int = SAMPLES
) -> Compared:
    """Returns intervals of all means, and every system's tests against the baseline.

    Tests are of queries, paired, within a collection. Over collections, the pairs are their means: that says whether a
    difference holds for other collections, of which there are few, so small differences are not seen.

    Args:
        reports: one a collection, of the same measures.
        baseline: the name of a system that every report has; None takes the first, which no score has chosen.
        seed: of permutations and resamples.
        samples: how many of each.

    Raises:
        EvalError: no report, no such system, fewer than one sample, or a seed below 0.
    """
    if not reports:
        raise EvalError("there is no collection to compare systems on")
    check_sampling(seed, samples)
    baseline = check_baseline(reports, baseline)
    measures = reports[0].measures
    intervals, found, exact = {}, [], []
    for report in reports:
        names = [system.name for system in report.systems]
        values = _values(report, measures)
        old = names.index(baseline)
        spans = _spans(values, old, seed, samples) if len(values) > 1 else None
        intervals[report.name] = _intervals(report, names, measures, None if spans is None else spans[0])
        rest = [i for i in range(len(names)) if i != old]
        if rest:
            apart = (values[:, rest] - values[:, [old]]).reshape(len(values), -1)
            pairs = [(names[i], measure) for i in rest for measure in measures]
            between = None if spans is None else spans[1][:, rest].reshape(2, -1)
            found += _tested(report.name, pairs, apart, between, seed, samples)
            exact.append(is_exact(apart))
    found = _adjusted(found, measures)
    over = _over_collections(reports, baseline, measures, seed, samples) if len(reports) > 1 else []
    return Compared(baseline, (*found, *over), intervals, int(seed), int(samples), bool(exact) and not any(exact))


def check_sampling(seed: int, samples: int) -> None:
    """Raises an error for a seed or a number of samples that cannot be.

    Raises:
        EvalError: fewer than one sample, or a seed below 0.
    """
    check_seed(seed)
    if isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or samples < 1:
        raise EvalError(f"samples is how many are drawn: a whole number of at least 1, not {samples!r}")


def check_baseline(reports: Sequence[Report], baseline: str | None) -> str:
    """Returns the baseline's name, the first system's where none is given."""
    everywhere = [s.name for s in reports[0].systems if all(s.name in report for report in reports)]
    if not everywhere:
        raise EvalError("no system was measured on all collections; there is nothing to compare with")
    return baseline_among(everywhere, baseline)


def baseline_among(names: Sequence[str], baseline: str | None) -> str:
    """Returns the baseline's name, the first of the names where none is given.

    Raises:
        EvalError: no system of that name is among them.
    """
    if baseline is not None and baseline not in names:
        raise EvalError(f"no system {baseline!r} to compare with; there are: {', '.join(names)}")
    return names[0] if baseline is None else baseline


def _values(report: Report, measures: Sequence[str]) -> NDArray[np.float64]:
    """Returns the values of all queries, float64 (queries, systems, measures)."""
    columns = [[list(s.scores.per_query[measure].values()) for measure in measures] for s in report.systems]
    return np.ascontiguousarray(np.array(columns, np.float64).transpose(2, 0, 1))


def _spans(values: NDArray[np.float64], old: int, seed: int, samples: int) -> NDArray[np.float64]:
    """Returns the intervals of means, and of differences from the baseline's, float64 (2, 2, systems, measures).

    Systems are taken so many at a time as memory allows, each time by the same resamples.

    Args:
        values: float64 (queries, systems, measures).
        old: the baseline's place.
        seed: of resamples.
        samples: how many.
    """
    count, systems, measures = values.shape
    spans = np.empty((2, 2, systems, measures))
    most = max(1, HELD // (samples * measures))
    for start in range(0, systems, most):
        block = list(range(start, min(start + most, systems)))
        chosen = block if old in block else [*block, old]
        means = bootstrap_means(values[:, chosen].reshape(count, -1), samples=samples, seed=seed)
        means = means.reshape(samples, len(chosen), measures)
        inside = means[:, : len(block)]
        for span, each in zip(spans, (inside, inside - means[:, [chosen.index(old)]]), strict=True):
            span[:, block] = percentile_interval(each.reshape(samples, -1)).reshape(2, len(block), measures)
    return spans


def _intervals(
    report: Report, names: Sequence[str], measures: Sequence[str], spans: NDArray[np.float64] | None
) -> dict[str, dict[str, Interval]]:
    if spans is None:  # one query: every resample is the same
        return {name: {} for name in names}
    return {
        name: {
            measure: (float(spans[0, i, j]), float(spans[1, i, j]))
            for j, measure in enumerate(measures)
            if report[name].averages(measure)
        }
        for i, name in enumerate(names)
    }


def _tested(
    collection: str | None,
    pairs: Iterable[tuple[str, str]],
    apart: NDArray[np.float64],
    spans: NDArray[np.float64] | None,
    seed: int,
    samples: int,
) -> list[Comparison]:
    """Returns a comparison for each column of paired differences, not adjusted yet."""
    chance, student = randomisation_test(apart, samples=samples, seed=seed), t_test(apart)
    return [
        Comparison(
            collection=collection,
            system=system,
            measure=measure,
            difference=float(apart[:, i].mean()),
            interval=None if spans is None else (float(spans[0, i]), float(spans[1, i])),
            randomisation=float(chance[i]),
            holm=None,
            t_test=None if math.isnan(student[i]) else float(student[i]),
            wins=int((apart[:, i] > 0).sum()),
            ties=int((apart[:, i] == 0).sum()),
            losses=int((apart[:, i] < 0).sum()),
        )
        for i, (system, measure) in enumerate(pairs)
    ]


def _adjusted(found: Sequence[Comparison], measures: Sequence[str]) -> list[Comparison]:
    """Returns the comparisons with Holm's p-values, a family a measure."""
    adjusted: dict[int, Comparison] = {}
    for measure in measures:
        family = [i for i, each in enumerate(found) if each.measure == measure]
        values = holm(np.array([found[i].randomisation for i in family]))
        adjusted |= {i: replace(found[i], holm=float(p)) for i, p in zip(family, values, strict=True)}
    return [adjusted[i] for i in range(len(found))]


def _over_collections(
    reports: Sequence[Report], baseline: str, measures: Sequence[str], seed: int, samples: int
) -> list[Comparison]:
    shared = [s.name for s in reports[0].systems if all(s.name in report for report in reports)]
    pairs = [(name, measure) for name in shared if name != baseline for measure in measures]
    if not pairs:
        return []
    apart = [
        [report[name].scores.means[m] - report[baseline].scores.means[m] for name, m in pairs] for report in reports
    ]
    return _tested(None, pairs, np.array(apart, np.float64), None, seed, samples)

"""Several systems on several collections in one call: scores, costs, tests, wins and losses, size curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ..index import Snapshot
from ..retriever import Retriever
from ..retriever.strands import ALL_STRANDS, parse_strands
from .comparing import SEED, Compared, baseline_among, check_baseline, check_sampling, compare
from .contract import EvalError, Run
from .costs import TIMED_K, Cost, Latency, measure_latency, strand_costs
from .dataset import Dataset
from .evaluate import TIES, Report, System, about, environment, scored
from .measures import DEFAULT_MEASURES, parse_measures
from .moves import Shift, shifts
from .own import own_in_index, own_in_runs, without_own
from .plans import Plan, default_plans, unique
from .sizes import SizeCurve, asked_for, check_sizes, size_curve
from .statistics import SAMPLES

CARD_VERSION = 2

# What `Retriever.info` tells beside settings; whatever else it tells, now or later, may move a score.
_NO_SETTINGS = {
    "path", "strands", "fields", "encoders", "documents", "deleted", "average_length", "postings", "bytes", "segments",
    "weights_from",
}  # fmt: skip

Answer = Callable[[Retriever, Plan, Mapping[str, str], int], Run]


@dataclass(frozen=True)
class Collection:
    """A test collection, and what to measure on it.

    Attributes:
        dataset: queries and judgements.
        retriever: an index of its documents; None where only finished runs are measured.
        plans: ways of searching it; None: every strand of the index alone, then all fused.
        runs: finished runs by name.
        files: name and SHA-256 of the files that runs were read from, by the run's name.
        settings: what else moves a score, for the run card.
    """

    dataset: Dataset
    retriever: Retriever | None = None
    plans: Sequence[Plan] | None = None
    runs: Mapping[str, Run] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What was measured, of which systems, on which collections, and what the numbers can bear.

    Attributes:
        reports: one a collection, in their order.
        compared: intervals and tests; its `baseline` is what systems are compared with.
        shifts: by collection, the greatest wins and losses by the first measure.
        curves: by collection, scores against corpus size, where sizes were asked for.
    """

    reports: tuple[Report, ...]
    compared: Compared
    shifts: Mapping[str, tuple[Shift, ...]] = field(default_factory=dict)
    curves: Mapping[str, SizeCurve] = field(default_factory=dict)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures, in ir_measures' spelling."""
        return self.reports[0].measures

    @property
    def baseline(self) -> str:
        """What systems are compared with."""
        return self.compared.baseline

    def __getitem__(self, name: str) -> Report:
        """Returns a collection's report.

        Raises:
            KeyError: there is none of that name.
        """
        return {report.name: report for report in self.reports}[name]

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Means over collections, each of equal weight, by system and measure; of systems that all collections have."""
        shared = [s.name for s in self.reports[0].systems if all(s.name in report for report in self.reports)]
        count = len(self.reports)
        return {
            name: {m: sum(report[name].scores.means[m] for report in self.reports) / count for m in self.measures}
            for name in shared
        }

    def to_json(self) -> dict[str, Any]:
        """Returns the run card: everything that moves a score, and every value, as plain JSON values."""
        return {
            "card": CARD_VERSION,
            "measures": list(self.measures),
            "ties": TIES,
            "baseline": self.baseline,
            "seed": self.compared.seed,
            "samples": self.compared.samples,
            "environment": environment(),
            "means": self.means,
            "comparisons": [each.to_json() for each in self.compared.comparisons],
            "collections": [self._part(report) for report in self.reports],
        }

    def _part(self, report: Report) -> dict[str, Any]:
        curve = self.curves.get(report.name)
        return {
            **report.part(),
            "intervals": self.compared.intervals[report.name],
            "shifts": [each.to_json() for each in self.shifts.get(report.name, ())],
            **({} if curve is None else {"sizes": curve.to_json()}),
        }


def evaluate_many(
    collections: Iterable[Collection],
    *,
    measures: Iterable[str] | str = DEFAULT_MEASURES,
    baseline: str | None = None,
    latency: int = 0,
    costs: bool = True,
    sizes: Iterable[int] = (),
    seed: int = SEED,
    samples: int = SAMPLES,
    answer: Answer | None = None,
    on_run: Callable[[str, str, Run], None] | None = None,
) -> Evaluation:
    """Returns what each plan and each finished run scores on each collection, and how they compare.

    Args:
        collections: taken one after the other, so that a generator may open and close indexes.
        measures: names as ir_measures spells them; wins and losses are told by the first.
        baseline: the name of the system that others are compared with; None: the first.
        latency: how many queries to time one by one, at most; 0: none.
        costs: count active terms and FLOPS.
        sizes: corpus sizes to score every strand of the plans alone at, too.
        seed: of permutations, resamples, and the samples of latency and sizes.
        samples: how many permutations and resamples.
        answer: searches instead of `Plan.run`, to show progress.
        on_run: told of each collection's name, system's name and run as it is scored, to write it to a file.

    Raises:
        EvalError: no collection, no system, two of one name, a measure or baseline that is not known, a seed or number
            of samples that cannot be, or an option that the retriever refuses.
    """
    wanted, sizes = parse_measures(measures), tuple(sizes)
    check_sampling(seed, samples)
    reports: list[Report] = []
    moved, curves = {}, {}
    for collection in collections:
        dataset, retriever = collection.dataset, collection.retriever
        if dataset.name in moved:
            raise EvalError(f"two collections are called {dataset.name!r}; rename a folder, or measure them apart")
        _check(collection, baseline, sizes)
        own = _own(collection)
        systems = [
            *_searched(collection, wanted, own, latency, costs, seed, answer or _plain, on_run),
            *_finished(collection, wanted, own),
        ]
        if not systems:
            raise EvalError("there is no system to measure: name plans with an index, or runs")
        report = _report(collection, wanted, systems, own)
        reports.append(report)
        moved[dataset.name] = shifts(
            report, dataset.qrels, baseline=check_baseline([report], baseline), measure=wanted[0],
            texts=dataset.queries, title=None if retriever is None else _titles(retriever),
        )  # fmt: skip
        if sizes and retriever is not None:
            curves[dataset.name] = _curve(retriever, collection, sizes, wanted, seed, answer or _plain)
    return Evaluation(
        tuple(reports), compare(reports, baseline=baseline, seed=seed, samples=samples), moved, curves
    )  # fmt: skip


def check_runs(runs: Mapping[str, Run], dataset: Dataset) -> None:
    """Raises an error where a finished run is none of a collection.

    Raises:
        EvalError: a run holds no query that is judged there.
    """
    for name, run in runs.items():
        if not any(query in dataset.qrels for query in run):
            shown = ", ".join(map(repr, list(run)[:3])) or "none"
            raise EvalError(
                f"{name}: holds no query that {dataset.name} {dataset.split} has judged; its queries are {shown}: is "
                "it a run of this collection?"
            )


def _check(collection: Collection, baseline: str | None, sizes: Sequence[int]) -> None:
    """Raises an error for runs, a baseline or sizes that cannot be, before anything is searched."""
    check_runs(collection.runs, collection.dataset)
    names = [*(plan.name for plan in _plans(collection)), *collection.runs]
    unique(names)
    if names:
        baseline_among(names, baseline)
    if sizes and collection.retriever is not None:
        with closing(Snapshot(collection.retriever.folder, verify=False)) as snapshot:
            check_sizes(sizes, snapshot.all_ids(), collection.dataset.qrels)


def _plans(collection: Collection) -> Sequence[Plan]:
    if collection.retriever is None:
        return ()
    return default_plans(collection.retriever.strands) if collection.plans is None else collection.plans


def _searched(
    collection: Collection,
    measures: Sequence[str],
    own: frozenset[str],
    latency: int,
    costs: bool,
    seed: int,
    answer: Answer,
    on_run: Callable[[str, str, Run], None] | None,
) -> list[System]:
    """Returns the plans, searched, scored and dropped one by one: a run can be large."""
    dataset, retriever = collection.dataset, collection.retriever
    if retriever is None:
        return []
    chosen = _plans(collection)
    for plan in chosen:
        plan.check(retriever)
    texts = list(dataset.queries.values())

    @cache
    def known(alone: bool) -> Mapping[str, Cost]:
        return strand_costs(retriever, texts, seed=seed, alone=alone) if costs else {}

    k = asked_for(measures)
    systems = []
    for plan in chosen:
        began = time.perf_counter()
        run = answer(retriever, plan, dataset.queries, k + bool(own))  # one more, which may be dropped
        seconds = time.perf_counter() - began
        run = without_own(run, own, k)
        if on_run is not None:
            on_run(dataset.name, plan.name, run)
        timed = _timed(retriever, plan, texts, latency, seed) if latency else None
        facts = {"seconds": seconds, "options": plan.options, "latency": timed}
        cost = _cost(plan, retriever, known)
        systems.append(scored(plan.name, run, dataset.qrels, measures, cost=cost, **facts))
    return systems


def _finished(collection: Collection, measures: Sequence[str], own: frozenset[str]) -> list[System]:
    qrels, runs = collection.dataset.qrels, collection.runs.items()
    return [scored(name, without_own(run, own), qrels, measures, file=collection.files.get(name)) for name, run in runs]


def _own(collection: Collection) -> frozenset[str]:
    """Returns the queries that are documents themselves, of the index where there is one."""
    dataset, retriever = collection.dataset, collection.retriever
    if retriever is None:
        return own_in_runs(collection.runs.values(), dataset)
    return own_in_index(retriever, dataset.queries, dataset.qrels)


def _report(
    collection: Collection, measures: tuple[str, ...], systems: Sequence[System], own: frozenset[str]
) -> Report:
    retriever = collection.retriever
    facts = {} if retriever is None else retriever.info()
    settings = {name: value for name, value in facts.items() if name not in _NO_SETTINGS}
    return Report(
        about(collection.dataset, own),
        measures,
        tuple(systems),
        encoders=facts.get("encoders", {}),
        settings={**settings, **collection.settings},
        index={name: facts[name] for name in ("documents", "postings", "bytes") if name in facts},
    )


def _timed(retriever: Retriever, plan: Plan, texts: Sequence[str], most: int, seed: int) -> Latency:
    return measure_latency(
        lambda text: plan.run(retriever, {"query": text}, TIMED_K), texts, most=most, k=TIMED_K, seed=seed
    )  # fmt: skip


def _cost(plan: Plan, retriever: Retriever, known: Callable[[bool], Mapping[str, Cost]]) -> Cost | None:
    """Returns what the plan's sparse strands cost together."""
    named = plan.options.get("strands")
    names = parse_strands(retriever.strands if named is None else named)
    found = known("dense" not in names)
    used = [found[name] for name in names if name in found]
    return sum(used[1:], used[0]) if used else None


def _titles(retriever: Retriever) -> Callable[[str], str]:
    def title(id: str) -> str:
        document = retriever.get(id)
        return "" if document is None else document.title

    return title


def _curve(
    retriever: Retriever, collection: Collection, sizes: Sequence[int], measures: Sequence[str], seed: int, by: Answer
) -> SizeCurve:
    alone = {plan.name: plan for plan in default_plans(retriever.strands) if plan.name in ALL_STRANDS}

    def ask(queries: Mapping[str, str], k: int, strand: str) -> Run:
        return by(retriever, alone[strand], queries, k)

    named = [plan.options.get("strands") for plan in _plans(collection)]
    used = {name for names in named for name in (retriever.strands if names is None else parse_strands(names))}
    strands = [name for name in retriever.strands if name in used or not named]
    return size_curve(retriever, collection.dataset, sizes, strands=strands, measures=measures, seed=seed, ask=ask)


def _plain(retriever: Retriever, plan: Plan, queries: Mapping[str, str], k: int) -> Run:
    return plan.run(retriever, queries, k)

"""A searcher, or run files, scored on a test collection: one report, and its run card."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from .contract import Qrels, Run, Searcher
from .costs import Cost, Latency
from .dataset import Dataset
from .measures import DEFAULT_MEASURES, Scores, parse_measures, score_run
from .moves import Places, places_of
from .own import NONE, own_in_runs, without_own
from .plans import default_plans

TIES = "score descending, then document id descending"
PACKAGES = ("plait", "ir-measures", "pytrec-eval-terrier", "numpy", "scipy", "faiss-cpu", "onnxruntime", "tokenizers")


@dataclass(frozen=True)
class System:
    """One way of searching, and what it scored.

    Attributes:
        name: a strand, "fused", or a run file's name.
        scores: means and per-query values.
        unanswered: judged queries without a hit; each counts as 0.
        seconds: wall time of the whole batch, query encoding included; None for a run file.
        options: keyword arguments of `Retriever.run`; None where it is not known how the run came about.
        file: name and SHA-256 of the run file; None of a search.
        latency: of single queries; None where it was not measured.
        cost: of the sparse strands it searches; None where there is none, or it was not counted.
        places: ranks by query and document: the first ten, and those of all relevant documents.
    """

    name: str
    scores: Scores
    unanswered: int = 0
    seconds: float | None = None
    options: Mapping[str, Any] | None = None
    file: Mapping[str, str] | None = None
    latency: Latency | None = None
    cost: Cost | None = None
    places: Places = field(default_factory=dict, repr=False, compare=False)

    def averages(self, measure: str) -> bool:
        """Returns whether a measure's value for all queries is their mean; of measures that count, it is their sum."""
        values = self.scores.per_query[measure].values()
        return math.isclose(self.scores.means[measure], sum(values) / max(len(values), 1), abs_tol=1e-9)

    def to_json(self) -> dict[str, Any]:
        """Returns the system's part of a run card; what is not known is left out."""
        more = {
            "options": None if self.options is None else dict(self.options),
            "file": self.file,
            "latency": self.latency and self.latency.to_json(),
            "cost": self.cost and self.cost.to_json(),
        }
        return {
            "name": self.name,
            "means": self.scores.means,
            "unanswered": self.unanswered,
            "seconds": self.seconds,
            **{name: value for name, value in more.items() if value is not None},
            "per_query": self.scores.per_query,
        }


@dataclass(frozen=True)
class Report:
    """What was measured on one collection, of which systems.

    Attributes:
        dataset: name, split, number of judged queries, checksums.
        measures: in ir_measures' spelling.
        systems: in the order in which they were asked for.
        encoders: identity by strand, as plain JSON values.
        settings: whatever else moves a score: depth, weights, pruning.
        index: documents and bytes, where an index was searched.
    """

    dataset: Mapping[str, Any]
    measures: tuple[str, ...]
    systems: tuple[System, ...]
    encoders: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The collection's name; "" of bare qrels."""
        return self.dataset.get("name", "")

    def __getitem__(self, name: str) -> System:
        """Returns a system by name.

        Raises:
            KeyError: there is none.
        """
        for system in self.systems:
            if system.name == name:
                return system
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return any(system.name == name for system in self.systems)

    def to_json(self) -> dict[str, Any]:
        """Returns everything that moves a score, and every value, as plain JSON values."""
        return {
            "measures": list(self.measures),
            "ties": TIES,
            "environment": environment(),
            **self.part(),
        }

    def part(self) -> dict[str, Any]:
        """Returns the collection's part of a run card: what other collections do not share."""
        return {
            "dataset": dict(self.dataset),
            "encoders": dict(self.encoders),
            "settings": dict(self.settings),
            "index": dict(self.index),
            "systems": [system.to_json() for system in self.systems],
        }


def evaluate(
    searcher: Searcher,
    dataset: Dataset,
    *,
    strands: Sequence[str],
    measures: Iterable[str] | str = DEFAULT_MEASURES,
    encoders: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    on_run: Callable[[str, Run], None] | None = None,
) -> Report:
    """Returns what each strand alone and all of them fused score on a test collection.

    Args:
        searcher: answers (queries, strands) with a run, one hit deeper than the deepest measure where a query may be a
            document itself, which is dropped.
        dataset: the test collection.
        strands: which strands; of a single one there is nothing to fuse.
        measures: names as ir_measures spells them.
        encoders: identity by strand, for the run card.
        settings: whatever else moves a score, for the run card.
        on_run: told of each system's name and run as it is scored, to write it to a file.

    Raises:
        EvalError: no strand, or a measure that is not known.
    """
    wanted = parse_measures(measures)
    systems, own = [], NONE
    for plan in default_plans(strands):
        began = time.perf_counter()
        run = searcher(dataset.queries, tuple(plan.options["strands"]))
        seconds = time.perf_counter() - began
        own |= own_in_runs([run], dataset)
        run = without_own(run, own)
        if on_run is not None:
            on_run(plan.name, run)
        systems.append(scored(plan.name, run, dataset.qrels, wanted, seconds=seconds))
    return Report(about(dataset, own), wanted, tuple(systems), encoders or {}, settings or {})


def evaluate_runs(
    runs: Mapping[str, Run],
    dataset: Dataset | Qrels,
    *,
    measures: Iterable[str] | str = DEFAULT_MEASURES,
) -> Report:
    """Returns what finished runs score, without searching; qrels are enough for it.

    Of a dataset, documents that are their queries are dropped; bare qrels cannot tell which these are.
    """
    wanted = parse_measures(measures)
    if isinstance(dataset, Dataset):
        own = own_in_runs(runs.values(), dataset)
        qrels, facts = dataset.qrels, about(dataset, own)
        runs = {name: without_own(run, own) for name, run in runs.items()}
    else:
        qrels, facts = dataset, {"queries": len(dataset)}
    return Report(facts, wanted, tuple(scored(name, run, qrels, wanted) for name, run in runs.items()))


def environment() -> dict[str, Any]:
    """Returns the versions and the hardware that a run card names."""
    return {
        **{name: version for name in PACKAGES if (version := _version(name))},
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def scored(name: str, run: Run, qrels: Qrels, measures: Sequence[str], **facts: Any) -> System:
    """Returns a system with the scores of its run; `facts` are attributes of `System` that no run tells."""
    unanswered = sum(1 for query in qrels if not run.get(query))
    return System(name, score_run(run, qrels, measures), unanswered, places=places_of(run, qrels), **facts)


def about(dataset: Dataset, own: Collection[str] = ()) -> dict[str, Any]:
    """Returns what a report tells of a collection, and how many of its queries are documents themselves, if any."""
    return {
        "name": dataset.name,
        "split": dataset.split,
        "queries": len(dataset.qrels),
        "judgements": sum(map(len, dataset.qrels.values())),
        "sha256": dataset.checksums,
        **({"queries_that_are_documents": len(own)} if own else {}),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

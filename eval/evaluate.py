"""A searcher, or run files, scored on a test collection: one report, and its run card."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from .beir import Dataset
from .contract import EvalError, Qrels, Run, Searcher
from .measures import DEFAULT_MEASURES, Scores, parse_measures, score_run

FUSED = "fused"
CARD_VERSION = 1


@dataclass(frozen=True)
class System:
    """One way of searching, and what it scored.

    Attributes:
        name: a strand, "fused", or a run file's name.
        scores: means and per-query values.
        unanswered: judged queries without a hit; each counts as 0.
        seconds: wall time of the whole batch, query encoding included; None for a run file.
    """

    name: str
    scores: Scores
    unanswered: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Report:
    """What was measured, of which systems, on what.

    Attributes:
        dataset: name, split, number of judged queries, checksums.
        measures: in ir_measures' spelling.
        systems: in the order in which they were asked for.
        encoders: identity by strand, as plain JSON values.
        settings: whatever else moves a score: depth, weights, pruning.
    """

    dataset: Mapping[str, Any]
    measures: tuple[str, ...]
    systems: tuple[System, ...]
    encoders: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> System:
        """Returns a system by name."""
        return next(system for system in self.systems if system.name == name)

    def to_json(self) -> dict[str, Any]:
        """Returns the run card: everything that moves a score, and every value, as plain JSON values."""
        return {
            "card": CARD_VERSION,
            "dataset": dict(self.dataset),
            "measures": list(self.measures),
            "ties": "score descending, then document id descending",
            "encoders": dict(self.encoders),
            "settings": dict(self.settings),
            "environment": environment(),
            "systems": [_system_card(system) for system in self.systems],
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
        searcher: answers (queries, strands) with a run; ask it for one hit more than the deepest measure, because the
            document that is the query itself is dropped.
        dataset: the test collection.
        strands: which strands; of a single one there is nothing to fuse.
        measures: names as ir_measures spells them.
        encoders: identity by strand, for the run card.
        settings: whatever else moves a score, for the run card.
        on_run: told of each system's name and run, to write it to a file.

    Raises:
        EvalError: no strand, or a measure that is not known.
    """
    wanted = parse_measures(measures)
    systems = []
    for name, used in _systems(strands).items():
        began = time.perf_counter()
        run = searcher(dataset.queries, used)
        seconds = time.perf_counter() - began
        if on_run is not None:
            on_run(name, run)
        systems.append(_system(name, run, dataset.qrels, wanted, seconds))
    return Report(_about(dataset), wanted, tuple(systems), encoders or {}, settings or {})


def evaluate_runs(
    runs: Mapping[str, Run],
    dataset: Dataset | Qrels,
    *,
    measures: Iterable[str] | str = DEFAULT_MEASURES,
) -> Report:
    """Returns what finished runs score, without searching; qrels are enough for it."""
    wanted = parse_measures(measures)
    qrels = dataset.qrels if isinstance(dataset, Dataset) else dataset
    about = _about(dataset) if isinstance(dataset, Dataset) else {"queries": len(qrels)}
    return Report(about, wanted, tuple(_system(name, run, qrels, wanted) for name, run in runs.items()))


def environment() -> dict[str, Any]:
    """Returns the versions and the hardware that a run card names."""
    return {
        "plait": metadata.version("plait"),
        "ir-measures": metadata.version("ir-measures"),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def _systems(strands: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the strands of each system: every strand alone, then all together."""
    if not strands or len(set(strands)) < len(strands):
        raise EvalError(f"strands is {list(strands)}; expected one or more, each once")
    alone = {name: (name,) for name in strands}
    return {**alone, FUSED: tuple(strands)} if len(strands) > 1 else alone


def _system(name: str, run: Run, qrels: Qrels, measures: Sequence[str], seconds: float | None = None) -> System:
    unanswered = sum(1 for query in qrels if not run.get(query))
    return System(name, score_run(run, qrels, measures), unanswered, seconds)


def _about(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "split": dataset.split,
        "queries": len(dataset.qrels),
        "judgements": sum(map(len, dataset.qrels.values())),
        "sha256": dataset.checksums,
    }


def _system_card(system: System) -> dict[str, Any]:
    return {
        "name": system.name,
        "means": system.scores.means,
        "unanswered": system.unanswered,
        "seconds": system.seconds,
        "per_query": system.scores.per_query,
    }

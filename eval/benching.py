"""How long searches of one's own index take with one's own queries: by stage, by setting, one and many at a time.

What a stage takes is what `Answer.milliseconds` tells; the whole is measured from outside. Settings take turns, round
by round, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..index.compiled import load_kernels
from ..retriever import Retriever
from .contract import EvalError

STAGES = ("encode", "propose", "fuse", "steps", "read")
TOTAL = "total"
WARM_UP = 10  # queries that are asked before the clock starts: files are mapped, models loaded
SHARES = (50, 95, 99)


@dataclass(frozen=True)
class Spread:
    """Milliseconds of many searches.

    Attributes:
        mean: of all.
        p50: the median.
        p95: one search in twenty takes longer.
        p99: one search in a hundred does.
    """

    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        """Returns the spread of some times; percentiles lie between two where there are few."""
        return cls(float(np.mean(times)), *np.percentile(times, SHARES).tolist())


@dataclass(frozen=True)
class Setting:
    """A way to search: options of `Retriever.search`, and how a table calls them."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a setting takes.

    Attributes:
        setting: its name.
        options: of `Retriever.search`.
        searches: how many were timed.
        hits: mean number of hits.
        milliseconds: of one search at a time, by stage, and "total".
        per_second: searches a second with so many threads, by their number.
    """

    setting: str
    options: Mapping[str, Any]
    searches: int
    hits: float
    milliseconds: Mapping[str, Spread]
    per_second: Mapping[int, float]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def settings_of(choices: Mapping[str, Sequence[Any]], **fixed: Any) -> list[Setting]:
    """Returns every combination of choices, named by what differs between them.

    Args:
        choices: values to try by option of `Retriever.search`; an option without values is left to the index.
        fixed: options that all share; None leaves one to the index.
    """
    given = {name: list(dict.fromkeys(values)) for name, values in choices.items() if values}
    shared = {name: value for name, value in fixed.items() if value is not None}
    found = []
    for values in itertools.product(*given.values()):
        chosen = dict(zip(given, values, strict=True))
        differing = {name: value for name, value in chosen.items() if len(given[name]) > 1}
        found.append(Setting(_named(differing) or _named(chosen) or "the index's own", {**shared, **chosen}))
    return found


def _named(chosen: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in chosen.items())


def bench(
    retriever: Retriever,
    queries: Sequence[str],
    settings: Iterable[Setting],
    *,
    rounds: int = 1,
    threads: Sequence[int] = (),
    warm_up: int = WARM_UP,
    on_progress: Callable[[int], None] | None = None,
) -> list[Bench]:
    """Returns what each setting takes, in the order of the settings.

    Args:
        retriever: an index; a query log of it would hold what is asked here.
        queries: texts; each is asked once a round.
        settings: ways to search; all are tried once before anything is timed, so that a mistake shows at once.
        rounds: how often all queries are asked with each setting, one at a time.
        threads: numbers of threads to measure throughput with; one more round for each.
        warm_up: so many queries are asked with each setting before the clock starts.
        on_progress: called with the number of searches done since the last call.

    Raises:
        EvalError: no query, no setting, or a number below 1.
        QueryError: a setting cannot be searched with.
    """
    ways, tell = list(settings), on_progress or (lambda _count: None)
    _check(queries, ways, rounds, threads)
    load_kernels()  # searches would wait for them in the midst of a few queries
    for way in ways:
        for text in queries[: max(warm_up, 1)]:
            retriever.search(text, **way.options)
    timed = [_Timed() for _ in ways]
    for _ in range(rounds):
        for way, times in zip(ways, timed, strict=True):
            for text in queries:
                times.ask(retriever, text, way.options)
            tell(len(queries))
    rates: list[dict[int, float]] = [{} for _ in ways]
    for count in threads:
        for way, found in zip(ways, rates, strict=True):
            found[count] = _rate(retriever, queries, way.options, count)
            tell(len(queries))
    return [
        Bench(way.name, way.options, times.searches, times.hits / times.searches, times.spreads(), found)
        for way, times, found in zip(ways, timed, rates, strict=True)
    ]


class _Timed:
    """The times of one setting's searches."""

    def __init__(self) -> None:
        self.searches = self.hits = 0
        self._times: dict[str, list[float]] = {name: [] for name in (*STAGES, TOTAL)}

    def ask(self, retriever: Retriever, text: str, options: Mapping[str, Any]) -> None:
        """Asks one query and keeps what it took."""
        began = time.perf_counter()
        answer = retriever.search(text, **options)
        self._times[TOTAL].append(1000 * (time.perf_counter() - began))
        for name in STAGES:
            self._times[name].append(answer.milliseconds[name])
        self.searches, self.hits = self.searches + 1, self.hits + len(answer)

    def spreads(self) -> dict[str, Spread]:
        """Returns the spread of every stage and of the whole."""
        return {name: Spread.of(times) for name, times in self._times.items()}


def _rate(retriever: Retriever, queries: Sequence[str], options: Mapping[str, Any], threads: int) -> float:
    """Returns searches a second by so many threads that take one query after the other."""
    with ThreadPoolExecutor(threads, thread_name_prefix="plait-bench") as pool:
        began = time.perf_counter()
        for _ in pool.map(lambda text: retriever.search(text, **options), queries):
            pass
        return len(queries) / (time.perf_counter() - began)


def _check(queries: Sequence[str], settings: Sequence[Setting], rounds: int, threads: Sequence[int]) -> None:
    if not queries:
        raise EvalError("there is no query to time; give at least one")
    if not settings:
        raise EvalError("there is no setting to time; give at least one")
    if rounds < 1 or min(threads, default=1) < 1:
        raise EvalError(f"rounds and threads are numbers from 1 on, not {rounds} and {', '.join(map(str, threads))}")

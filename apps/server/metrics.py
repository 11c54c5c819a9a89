"""What is counted, as Prometheus reads it. Written by the event loop alone, so that nothing is locked."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
KIND = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts of requests by route and status, their durations, and where searches spend their time."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._durations: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._stages: defaultdict[str, float] = defaultdict(float)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts a request that is answered; the names come from the table of routes, never from a client."""
        self._requests[route, method, status] += 1
        buckets = self._durations.setdefault(route, [0] * (len(BOUNDS) + 1))
        buckets[bisect_left(BOUNDS, seconds)] += 1
        self._seconds[route] += seconds

    def searched(self, milliseconds: Mapping[str, float]) -> None:
        """Adds what a search spent, by stage."""
        for stage, spent in milliseconds.items():
            self._stages[stage] += spent / 1000

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Returns all counts, and some values of the moment as {name: (help, value)}."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, tuple[str, float]]) -> Iterator[str]:
        yield from _head("plait_requests_total", "counter", "Requests by route, method and status.")
        for (route, method, status), count in sorted(self._requests.items()):
            yield f"plait_requests_total{_labels(route=route, method=method, status=str(status))} {count}"
        yield from _head("plait_request_seconds", "histogram", "From the request's head to the end of the answer.")
        for route, buckets in sorted(self._durations.items()):
            yield from self._histogram(route, buckets)
        yield from _head("plait_search_stage_seconds_total", "counter", "Time in searches, by stage.")
        for stage, spent in sorted(self._stages.items()):
            yield f"plait_search_stage_seconds_total{_labels(stage=stage)} {spent:.6f}"
        for name, (about, value) in gauges.items():
            yield from _head(name, "gauge", about)
            yield f"{name} {value!r}"  # with all digits: counts pass a million

    def _histogram(self, route: str, buckets: Iterable[int]) -> Iterator[str]:
        total = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
            total += count
            yield f"plait_request_seconds_bucket{_labels(route=route, le=bound)} {total}"
        yield f"plait_request_seconds_sum{_labels(route=route)} {self._seconds[route]:.6f}"
        yield f"plait_request_seconds_count{_labels(route=route)} {total}"


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

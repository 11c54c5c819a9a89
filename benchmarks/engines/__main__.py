"""One engine in a process of its own, for sparse.py: `python -m engines NAME CORE`, in the engine's own Python.

Reads one JSON request a line on stdin and answers each with one JSON line on stdout, `{"error"}` where it failed:

    {"do": "build", "documents": FOLDER, "index": FOLDER}  -> {"seconds", "bytes", "before", "peak"}
    {"do": "open", "index": FOLDER}                        -> {"facts", "resident"}
    {"do": "search", "queries": FOLDER, "k", "settings", "out": FILE or null}
                                                           -> {"seconds": one a query, "resident"}; documents in FILE
    {"do": "touched", "queries": FOLDER, "k"}              -> {"share"}: of plait only

`before`, `peak` and `resident` are the process's resident bytes before building, at most while building, and now.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import common

common.pin_threads(1)

import numpy as np  # noqa: E402  # threads are pinned before numpy is loaded
from rows import load  # noqa: E402

from . import TABLE  # noqa: E402


class Worker:
    """Answers requests."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter

    def build(self, documents: str, index: str) -> dict[str, Any]:
        """Builds an index and tells what it cost."""
        rows = load(Path(documents))
        before = forget_peak()
        began = time.perf_counter()
        self.adapter.build(rows, Path(index))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "bytes": folder_bytes(Path(index)), "before": before, "peak": peak()}

    def open(self, index: str) -> dict[str, Any]:
        """Opens an index."""
        self.adapter.open(Path(index))
        return {"facts": self.adapter.facts(), "resident": _status("VmRSS")}

    def search(self, queries: str, k: int, settings: Mapping[str, Any], out: str | None) -> dict[str, Any]:
        """Answers every query once."""
        calls = self.adapter.calls(load(Path(queries)), k, **settings)
        gc.collect()
        gc.disable()
        seconds = [self._timed(call) for call in calls] if out is None else self._kept(calls, k, Path(out))
        gc.enable()
        return {"seconds": seconds, "resident": _status("VmRSS")}

    def touched(self, queries: str, k: int) -> dict[str, Any]:
        """Returns the share of the queries' postings that is looked at."""
        return {"share": self.adapter.touched(load(Path(queries)), k)}

    def _timed(self, call: Callable[[], Any]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    def _kept(self, calls: list[Callable[[], Any]], k: int, out: Path) -> list[float]:
        """Returns the seconds, and writes the documents that were found, -1 where there are fewer than k."""
        seconds, found = [], np.full((len(calls), k), -1, np.int64)
        for i, call in enumerate(calls):
            began = time.perf_counter()
            answer = call()
            seconds.append(time.perf_counter() - began)
            documents = list(self.adapter.documents(answer))[:k]
            found[i, : len(documents)] = documents
        np.save(out, found)
        return seconds


def main() -> None:
    """Answers requests until stdin ends."""
    name, core = sys.argv[1], int(sys.argv[2])
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)  # what an engine prints is no answer
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            worker = worker or Worker(adapter(name))
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # told to the one who asked, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def adapter(name: str) -> Any:
    """Returns an engine's adapter."""
    module, found = TABLE[name].adapter.split(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), found)()


def folder_bytes(folder: Path) -> int:
    """Returns what the files below a folder occupy: some engines reserve far more than they write."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(512 * each.st_blocks if hasattr(each, "st_blocks") else each.st_size for each in found)


def forget_peak() -> int:
    """Returns the resident bytes, and starts their maximum anew where the system can."""
    with contextlib.suppress(OSError):  # the maximum then counts from the start of the process
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Returns the most resident bytes since `forget_peak`."""
    return _status("VmHWM")


def _status(key: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    (line,) = [line for line in status.read_text().splitlines() if line.startswith(f"{key}:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()

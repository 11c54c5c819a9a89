"""What the commands share: where text goes, how errors end, how progress looks, how Ctrl-C is heard."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Prints one JSON value on a line of its own."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def note(message: str) -> None:
    """Says something to the person at the terminal, on stderr."""
    err.print(message, markup=False)


class _Rate(ProgressColumn):
    """Documents a second since the start."""

    def render(self, task: Task) -> Text:
        """Returns the column's text."""
        done, elapsed = task.fields["documents"], task.elapsed or 0.0
        return Text(f"{done:,} documents, {done / elapsed:,.0f}/s" if elapsed > 0 else f"{done:,} documents")


class Meter:
    """Progress through input of known or unknown size, counted in bytes, told in documents.

    On a terminal it is a bar with rate and time left; elsewhere a line every 15 seconds. Nothing shows in the first
    two seconds.
    """

    LINE_SECONDS = 15.0

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._bytes = self._documents = 0
        self._began = time.monotonic()
        self._told = self._began
        self._bar: Progress | None = None
        self._task: Any = None

    def bytes_read(self, count: int) -> None:
        """Counts input."""
        self._bytes += count

    def documents_done(self, count: int) -> None:
        """Counts documents and shows where things stand."""
        self._documents += count
        now = time.monotonic()
        if err.is_terminal:
            self._draw(now)
        elif now - self._told > self.LINE_SECONDS:
            self._told = now
            note(self._line(now - self._began))

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, now: float) -> None:
        if self._bar is None and now - self._began > 2:
            columns = [
                TextColumn("{task.description}"),
                BarColumn(),
                _Rate(),
                TimeRemainingColumn(elapsed_when_finished=True),
            ]
            self._bar = Progress(*columns, console=err, transient=True)
            self._task = self._bar.add_task(self._label, total=self._total, documents=0)
            self._bar.tasks[0].start_time = self._bar.get_time() - (now - self._began)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._bytes, documents=self._documents)

    def _line(self, seconds: float) -> str:
        told = f"{self._label}: {self._documents:,} documents, {self._documents / seconds:,.0f}/s"
        if self._total and 0 < self._bytes < self._total:
            left = seconds * (self._total - self._bytes) / self._bytes
            told += f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        return told


class Stop:
    """Hears the first Ctrl-C (or SIGTERM) and remembers it; a second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        note("\nstopping: finishing the current batch, then committing it (again to stop at once)")

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """Yields items until asked to stop."""
        for item in items:
            if self.asked:
                return
            yield item


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Lets a long job end by itself on Ctrl-C, with everything done so far kept."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

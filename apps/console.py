"""What the commands share: where text goes, how errors end, how progress looks, how Ctrl-C is heard."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..encoders.counting import Tokens
from ..retriever import Document


class _Terminal(Console):
    """A console that shows text as it is: [bold], :smile: and backslashes have no meaning in documents and paths."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; a text is never broken where no terminal limits a line, so that others can look for words in it."""
        if all(isinstance(each, (str, Text)) for each in objects):
            options.setdefault("soft_wrap", not self.is_terminal)
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Passes the error on, so that it ends in one place."""
        raise BrokenPipeError


out = _Terminal()
err = _Terminal(stderr=True)

# Control characters in documents could move the cursor or recolour the terminal: they show as pictures instead.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}


def visible(text: str) -> str:
    """Returns a text whose control characters, tabs and newlines aside, are visible."""
    return text.translate(_PICTURES)


def counted(count: int, name: str) -> str:
    """Returns "1 document" or "2 documents"."""
    return f"{count:,} {name}{'s' * (count != 1)}"


def print_json(value: Any) -> None:
    """Prints one JSON value on a line of its own."""
    sys.stdout.write(json_text(value, ensure_ascii=False) + "\n")


def json_text(value: Any, **options: Any) -> str:
    """Returns a JSON value as a text; a number that JSON does not know, as NaN, is null.

    Args:
        value: the value.
        options: of `json.dumps`.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    """Returns plain JSON values with None where a number is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def print_table(table: Table) -> None:
    """Prints a table, in full width where no terminal limits it."""
    (out if out.is_terminal else _Terminal(width=10_000)).print(table)


def note(message: str) -> None:
    """Says something to the person at the terminal, on stderr."""
    err.print(visible(message), soft_wrap=True)


class _Rate(ProgressColumn):
    """Documents or queries, and tokens, a second since the start."""

    def render(self, task: Task) -> Text:
        """Returns the column's text."""
        return Text(_rates(task.fields["done"], task.fields["unit"], task.fields["tokens"], task.elapsed or 0.0))


def _rates(done: int, unit: str, tokens: int, seconds: float) -> str:
    """Returns "2,000 documents, 100/s, 9,000 tokens/s"; without tokens where no model reads any."""
    rates = [f"{done / seconds:,.0f}/s"] if seconds > 0 else []
    rates += [f"{tokens / seconds:,.0f} tokens/s"] if seconds > 0 and tokens else []
    return ", ".join([f"{done:,} {unit}", *rates])


class Meter:
    """Progress through input of known or unknown size, counted in bytes, told in documents (or what the unit is).

    On a terminal it is a bar with rate and time left; elsewhere a line every 15 seconds. Nothing shows in the first
    two seconds.
    """

    LINE_SECONDS = 15.0

    def __init__(self, label: str, total: int | None, *, unit: str = "documents") -> None:
        self._label, self._total, self._unit = label, total, unit
        self._bytes = self.documents = 0
        self.tokens = Tokens()  # for `counting`: what models read meanwhile
        self._began = time.monotonic()
        self._told = self._began
        self._bar: Progress | None = None
        self._task: Any = None

    def bytes_read(self, count: int) -> None:
        """Counts input."""
        self._bytes += count

    def documents_done(self, count: int) -> None:
        """Counts documents and shows where things stand."""
        self.documents += count
        now = time.monotonic()
        if err.is_terminal and not err.is_dumb_terminal:
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
            self._task = self._bar.add_task(self._label, total=self._total, done=0, tokens=0, unit=self._unit)
            self._bar.tasks[0].start_time = self._bar.get_time() - (now - self._began)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._bytes, done=self.documents, tokens=self.tokens.total)

    def _line(self, seconds: float) -> str:
        told = f"{self._label}: {_rates(self.documents, self._unit, self.tokens.total, seconds)}"
        if self._total and 0 < self._bytes < self._total:
            left = seconds * (self._total - self._bytes) / self._bytes
            told += f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        return told


class _Stopped(KeyboardInterrupt):
    """Ctrl-C while input was waited for."""


class Stop:
    """Hears the first Ctrl-C (or SIGTERM) and remembers it; a second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = self._reading = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Hears a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        note("\nstopping: finishing the current batch, then committing it (again to stop at once)")
        if self._reading:
            raise _Stopped

    def until(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yields documents until asked to stop; of one parent's passages all or none, so that none seems removed."""
        held: list[Document] = []
        for document in self._read(iter(documents)):
            if held and document.parent != held[0].parent:
                yield from held
                held.clear()
            if document.parent is None:
                yield document
            else:
                held.append(document)
        if not self.asked:
            yield from held

    def _read(self, documents: Iterator[Document]) -> Iterator[Document]:
        """Yields documents until asked to stop, also while the next one is waited for."""
        while not self.asked:
            try:
                try:
                    self._reading = True
                    document = next(documents, None)
                finally:
                    self._reading = False
            except _Stopped:
                return
            if document is None:
                return
            yield document


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

"""`plait train`: a recipe, data and a base in; a model folder, a report and a card out."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..retriever import QueryError
from ..retriever.toml import parse_toml
from ..train import RECIPES, Event, Recipe, recipe_of
from ..train.events import EVALUATION, STEPS
from . import console
from .render import scores_table

if TYPE_CHECKING:
    from ..train import TrainReport

GO_ON = "run the same command again to go on"
SMOOTH = 0.9  # of the loss shown, what is kept of the steps before


@dataclass(frozen=True)
class Request:
    """What `plait train` was asked for."""

    recipe: str
    data: Sequence[Path]
    base: str | None
    out: Path
    settings: Sequence[str]
    options: Mapping[str, Any]
    fresh: bool
    as_json: bool


def train(request: Request) -> None:
    """Trains and tells; exits with code 130 where Ctrl-C stopped it."""
    chosen = recipe_of(request.recipe, parsed_settings(request.settings))
    from ..train import train as start

    teller, given = Teller(), {name: value for name, value in request.options.items() if value is not None}
    with hearing(teller):
        try:
            report = start(
                chosen,
                list(request.data),
                base=request.base,
                out=request.out,
                resume=not request.fresh,
                command=command_of(request, given),
                on_event=teller,
                stop=lambda: teller.asked,
                **given,
            )
        except KeyboardInterrupt:
            console.note(f"interrupted; {GO_ON}")
            raise typer.Exit(130) from None
        finally:
            teller.close()
    if request.as_json:
        console.print_json(report.to_json())
    elif report.finished:
        _print(report)
    if not report.finished:
        console.note(f"stopped after {report.steps:,} of {chosen.steps:,} steps, which are saved; {GO_ON}")
        raise typer.Exit(130)


def parsed_settings(given: Sequence[str]) -> dict[str, Any]:
    """Returns {"steps": 100} from ["steps=100"]; values are TOML, and a bare word is a string.

    Raises:
        QueryError: one has no "=", or a key comes twice.
    """
    found: dict[str, Any] = {}
    for part in given:
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise QueryError(f"--set takes key=value, as steps=2000 or teachers={{dense=0.6,bm25=0.4}}; not {part!r}")
        if name.strip() in found:
            raise QueryError(f"--set names {name.strip()} twice")
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def command_of(request: Request, given: Mapping[str, Any]) -> str:
    """Returns the command that was given, for the card."""
    words = ["plait", "train", request.recipe, *map(str, request.data), "--out", str(request.out)]
    words += ["--base", request.base] if request.base is not None else []
    words += [word for one in request.settings for word in ("--set", one)]
    names = {"evaluate": "eval", "evaluate_every": "eval-every"}
    for name, value in given.items():
        flag = f"--{names.get(name, name).replace('_', '-')}"
        if isinstance(value, (list, tuple)):
            words += [word for one in value for word in (flag, str(one))]
        elif value is True:
            words.append(flag)
        elif value is not False:
            words += [flag, str(value)]
    return shlex.join(words)


# Recipes


def list_recipes(*, as_json: bool) -> None:
    """Prints the recipes, and in what each differs from the plain one."""
    plain = Recipe("").to_json()
    found = {
        name: {key: value for key, value in recipe.to_json().items() if value != plain[key] and key != "name"}
        for name, recipe in RECIPES.items()
    }
    if as_json:
        console.print_json(found)
        return
    table = Table(header_style="bold", title="recipes", title_justify="left")
    table.add_column("recipe")
    table.add_column("what is not as usual")
    for name, values in found.items():
        table.add_row(name, ", ".join(f"{key}={_shown(value)}" for key, value in values.items()) or "nothing")
    console.print_table(table)
    usual = ", ".join(f"{key}={_shown(value)}" for key, value in plain.items() if key != "name")
    console.out.print(f"usual: {usual}", soft_wrap=True)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}={one:g}" for key, one in value.items()) + "}"
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


# Progress


class Teller:
    """Shows where a training stands, and hears Ctrl-C: between steps it stops after the current one."""

    LINE_SECONDS = 15.0

    def __init__(self) -> None:
        self.asked = False
        self._phase = ""
        self._bar: Progress | None = None
        self._task: Any = None
        self._first = 0
        self._began = self._told = time.monotonic()
        self._means: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        if event.phase == EVALUATION and event.values:
            values = ", ".join(f"{name} {_number(name, value)}" for name, value in event.values.items())
            console.note(f"step {event.done:,}, {event.note}: {values}")
            return
        if event.phase != self._phase:
            self._begin(event)
        if event.note:
            console.note(event.note)
        for name in ("loss", "active"):
            if name in event.values:
                before = self._means.get(name, event.values[name])
                self._means[name] = SMOOTH * before + (1 - SMOOTH) * event.values[name]
        self._show(event)

    def signal(self, _number: int, _frame: FrameType | None) -> None:
        """Hears Ctrl-C; where nothing would be lost, or when heard again, it interrupts at once."""
        if self.asked or self._phase != STEPS:
            raise KeyboardInterrupt
        self.asked = True
        console.note("\nstopping: finishing this step, then saving (again to stop at once)")

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _begin(self, event: Event) -> None:
        self.close()
        self._phase, self._first = event.phase, event.done
        self._began = self._told = time.monotonic()
        if not console.err.is_terminal or console.err.is_dumb_terminal:
            return
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
        ]
        self._bar = Progress(*columns, console=console.err, transient=True)
        self._task = self._bar.add_task(event.phase, total=event.total or None, told="")
        self._bar.start()

    def _show(self, event: Event) -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(
                self._task, total=event.total or None, completed=event.done, told=self._details(event, now)
            )
        elif now - self._told > self.LINE_SECONDS:
            self._told = now
            console.note(": ".join(part for part in (event.phase, self._details(event, now)) if part))

    def _details(self, event: Event, now: float) -> str:
        done = event.done - self._first
        told = f"{event.done:,} of {event.total:,}" if event.total else ""
        if event.phase == STEPS and done > 0:
            parts = [f"{name} {_number(name, value)}" for name, value in self._means.items()]
            told = ", ".join([told, *parts, f"{(now - self._began) / done:.2f} s/step"])
        return told


def _number(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "active" else f"{value:.4f}"


@contextmanager
def hearing(teller: Teller) -> Iterator[None]:
    """Lets a teller hear Ctrl-C and SIGTERM."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, teller.signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(report: TrainReport) -> None:
    rows = [
        (
            one["name"],
            system,
            f"{value:.4f}",
            "{:.4f} to {:.4f}".format(*one["intervals"][system]),
            *_costs(one, system),
        )
        for one in report.evaluation
        for system, value in one["ndcg"].items()
    ]
    if rows:
        header = ("collection", "system", "nDCG@10", "95 % interval", "terms a document", "FLOPS")
        console.print_table(scores_table(header, rows, title=f"{report.recipe['name']}, {report.steps:,} steps"))
    console.out.print(f"dense half {report.dense}", soft_wrap=True)
    for what, path in (
        ("model", report.model),
        ("checkpoint", report.checkpoint),
        ("card", report.out / "MODEL_CARD.md"),
    ):
        console.out.print(f"{what}: {path}", soft_wrap=True)


def _costs(one: Mapping[str, Any], system: str) -> tuple[str, str]:
    known = system == "learned" and one["active"] is not None
    return (f"{one['active']:.1f}", f"{one['flops']:.3g}") if known else ("", "")

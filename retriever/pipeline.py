"""The pipeline: steps that take a ranking and return one, by name, in the order in which they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from . import specs
from .errors import QueryError
from .ranking import Ranking
from .toml import read_toml

Step: TypeAlias = Callable[[Ranking], Ranking]
Given: TypeAlias = "str | Mapping[str, Any] | Step | Sequence[str | Mapping[str, Any] | Step]"


@dataclass(frozen=True)
class Row:
    """A step of the table.

    Attributes:
        home: the module and the function in it, as "boosts.host"; imported when the step is first asked for.
        reach: the option that says how many of the best it looks at; None where it looks at none.
        moves: "query" or "weights" where it moves those, so that candidates are scored and fused anew.
        needs: the strand without which it cannot be taken; "" where there is none.
    """

    home: str
    reach: str | None = "top"
    moves: str = ""
    needs: str = ""

    @property
    def function(self) -> Callable[..., Ranking]:
        """The step: ranking and options -> ranking."""
        module, name = self.home.split(".")
        return getattr(import_module(f".{module}", __package__), name)


#: The steps by name: what changes a ranking after fusion. docs/ranking.md describes each.
STEPS: dict[str, Row] = {
    "feedback": Row("feedback.feedback", "documents", moves="query"),
    "questions": Row("adapt.questions", None, moves="weights"),
    "adapt": Row("adapt.adapt", None, moves="weights"),
    "parents": Row("hierarchy.parents", None),
    "rerank": Row("rerank.rerank"),
    "rescore": Row("rescore.rescore"),
    "collaborative": Row("collaborative.collaborative"),
    "mmr": Row("diversity.mmr"),
    "clusters": Row("diversity.clusters"),
    "fields": Row("fields.fields", needs="lexical"),
    "amplitude": Row("amplitude.amplitude", needs="dense"),
    "boost": Row("boosts.boost"),
    "recency": Row("boosts.recency"),
    "host": Row("boosts.host"),
}
# Of a search that fuses strands; one strand alone is left as it is. Weights that somebody chose are not touched, for
# they were chosen for the queries that come.
DEFAULT_PIPELINE, PIPELINE_OF_CHOSEN = "questions,feedback", "feedback"
NONE = "none"
FIRST = tuple(name for name, row in STEPS.items() if row.moves)  # what comes before steps that give scores


@dataclass(frozen=True)
class Pipeline:
    """Steps, ready to be taken.

    Attributes:
        name: for people: options that are lists or maps, and functions, cannot be read again.
        reach: how many of each strand's own best the steps look at, at most.
    """

    name: str
    reach: int
    _steps: tuple[tuple[str, Step], ...]

    def __call__(self, ranking: Ranking) -> Ranking:
        """Returns the ranking after all steps.

        Raises:
            QueryError: a step's own, or it gave no ranking, or one without a finite score for each candidate.
        """
        for name, step in self._steps:
            ranking = _checked(name, step(ranking))
        return ranking


def _checked(name: str, made: object) -> Ranking:
    """Returns what a step made, if it is a ranking: a score that is no number would drop documents unseen."""
    if not isinstance(made, Ranking):
        raise QueryError(f"the step {name} gave {made!r:.60}; a step takes a Ranking and returns one")
    if made.fused.shape != made.positions.shape:
        raise QueryError(f"the step {name} gave {made.fused.size} scores for {made.positions.size} candidates")
    if not np.isfinite(made.fused).all():
        raise QueryError(f"the step {name} gave a candidate a score that is no finite number")
    return made


def pipeline(given: Given) -> Pipeline:
    """Returns a pipeline.

    Args:
        given: "feedback,mmr:trade=0.5", or a list whose items are such a text, a mapping {"step": "mmr", "trade": 0.5},
            or a function of a ranking; one mapping or function alone is a list of it; "none" or an empty list for no
            step.

    Raises:
        QueryError: a step or an option is unknown, an option lacks, a value is of another type, or a step would undo
            another.
    """
    steps = [_step(item) for item in listed(given)]
    _check_order([item for item, _, step in steps if isinstance(step, partial)])  # of named ones
    name = ",".join(str(item) for item, _, _ in steps) or NONE
    return Pipeline(name, max((reach for _, reach, _ in steps), default=0), tuple((str(i), s) for i, _, s in steps))


def listed(given: Given) -> list[Any]:
    """Returns the steps of a pipeline one by one, each a `Spec`, a mapping or a function.

    Raises:
        QueryError: it is neither text, list, mapping nor function.
    """
    if isinstance(given, str):
        return [] if given.strip() == NONE else specs.parse_list(given)
    if isinstance(given, Mapping) or callable(given):
        return [given]
    if not isinstance(given, Sequence):
        raise QueryError(f"a pipeline is a text, as feedback,mmr, or a list of steps; not {given!r}")
    if list(given) == [NONE]:
        return []
    return [specs.parse(item) if isinstance(item, str) else item for item in given]


def _check_order(items: Sequence[specs.Spec]) -> None:
    """Raises a QueryError where weights are moved after scores were given, which are fused anew by them.

    Feedback may come after them: it is fed what they put first.
    """
    scoring = ""
    for item in items:
        row = STEPS.get(item.name)
        if row is not None and row.moves == "weights" and scoring:
            raise QueryError(f"{item.name} weighs the strands anew, which undoes {scoring}: put {item.name} before it")
        scoring = item.name if row is not None and not row.moves else scoring
        if row is not None and row.moves == "query":
            scoring = ""


def read_pipeline(path: str | Path) -> list[dict[str, Any]]:
    """Returns the steps in a TOML file: a table [[step]] for each, with `name` and its options.

    Raises:
        QueryError: there is no such file, it is no TOML, or holds something else than steps that can be taken.
    """
    held = read_toml(path, QueryError)
    steps = held.get("step")
    if set(held) != {"step"} or not isinstance(steps, list) or not all(_is_table(one) for one in steps):
        raise QueryError(f'{path}: expected a table [[step]] for each step, with the line name = "feedback"')
    found = [plain({"step" if key == "name" else key: value for key, value in one.items()}) for one in steps]
    try:
        pipeline(found)
    except QueryError as error:
        raise QueryError(f"{path}: {error}") from None
    return found


def _is_table(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("name"), str) and "step" not in one


def kept(given: Given, strands: Sequence[str]) -> str | list[Any]:
    """Returns a pipeline as an index of these strands can keep it; the path of a model that is there becomes absolute.

    Raises:
        QueryError: it cannot be read, holds a function, or a step needs a strand that the index has not.
    """
    pipeline(given)
    items = listed(given)
    if any(callable(item) for item in items):
        raise QueryError("an index keeps steps by name; a function of your own goes with each search")
    steps = [{"step": item.name, **item.options} if isinstance(item, specs.Spec) else plain(item) for item in items]
    for step in steps:
        needed = STEPS[step["step"]].needs
        if needed and needed not in strands:
            raise QueryError(f"the step {step['step']} needs the {needed} strand; this index has: {', '.join(strands)}")
    found = [{**step, **model} if (model := _model(step)) else None for step in steps]
    if isinstance(given, str) and not any(found):
        return given
    return [
        new or (str(item) if isinstance(item, specs.Spec) else step)
        for new, item, step in zip(found, items, steps, strict=True)
    ]


def _model(step: Mapping[str, Any]) -> dict[str, str]:
    """Returns where a step's model lies, if it is a file or a folder here: whoever searches may stand elsewhere."""
    given = step.get("model")
    if not isinstance(given, (str, Path)) or not str(given):
        return {}
    with suppress(OSError, ValueError):  # a text too long for a path, or with a NUL, is none
        if Path(given).exists():
            return {"model": str(Path(given).resolve())}
    return {"model": str(given)} if isinstance(given, Path) else {}


def plain(step: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a step as JSON can hold it: dates and times, which TOML has, as text."""
    return {name: value.isoformat() if isinstance(value, (date, time)) else value for name, value in step.items()}


def _step(item: Any) -> tuple[specs.Spec, int, Step]:
    if isinstance(item, Mapping):
        options = dict(item)
        name = options.pop("step", None)
        if not isinstance(name, str):
            raise QueryError(f"a step needs its name, as {{'step': 'feedback'}}; not {dict(item)!r}")
        item = specs.Spec(name, options)
    if callable(item):
        return specs.Spec(getattr(item, "__name__", type(item).__name__), {}), 0, cast(Step, item)
    if not isinstance(item, specs.Spec):
        raise QueryError(f"a step is a name, a mapping or a function; not {item!r}")
    row: Row = specs.named(STEPS, "step", item.name)
    function = row.function
    (options,) = specs.checked(f"the step {item.name!r}", item.options, function)
    for option, each in specs.options_of(function).items():
        if each.default is each.empty and option not in options:
            raise QueryError(f"{item.name} needs a {option}: {item.name}:{option}={option.upper()}")
    reach = 0
    if row.reach is not None:
        reach = int(options.get(row.reach, specs.options_of(function)[row.reach].default))
    return item, reach, partial(function, **options)

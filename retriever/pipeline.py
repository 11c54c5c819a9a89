"""The pipeline: steps that take a ranking and return one, by name, in the order in which they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, cast

from . import specs
from .errors import QueryError
from .ranking import Ranking
from .toml import read_toml

Step: TypeAlias = Callable[[Ranking], Ranking]
Given: TypeAlias = "str | Sequence[str | Mapping[str, Any] | Step]"


@dataclass(frozen=True)
class Row:
    """A step of the table.

    Attributes:
        home: the module and the function in it, as "boosts.host"; imported when the step is first asked for.
        reach: the option that says how many of the best it looks at; None where it looks at none.
    """

    home: str
    reach: str | None = "top"

    @property
    def function(self) -> Callable[..., Ranking]:
        """The step: ranking and options -> ranking."""
        module, name = self.home.split(".")
        return getattr(import_module(f".{module}", __package__), name)


#: The steps by name: what changes a ranking after fusion. docs/ranking.md describes each.
STEPS: dict[str, Row] = {
    "feedback": Row("feedback.feedback", "documents"),
    "questions": Row("adapt.questions", None),
    "adapt": Row("adapt.adapt", None),
    "parents": Row("hierarchy.parents", None),
    "rerank": Row("rerank.rerank"),
    "rescore": Row("rescore.rescore"),
    "collaborative": Row("collaborative.collaborative"),
    "mmr": Row("diversity.mmr"),
    "clusters": Row("diversity.clusters"),
    "fields": Row("fields.fields"),
    "amplitude": Row("amplitude.amplitude"),
    "boost": Row("boosts.boost"),
    "recency": Row("boosts.recency"),
    "host": Row("boosts.host"),
}
# Of a search that fuses strands; one strand alone is left as it is. Weights that somebody chose are not touched, for
# they were chosen for the queries that come.
DEFAULT_PIPELINE, PIPELINE_OF_CHOSEN = "questions,feedback", "feedback"
NONE = "none"


@dataclass(frozen=True)
class Pipeline:
    """Steps, ready to be taken.

    Attributes:
        name: as it can be written; a step of the caller's own by its function's name.
        reach: how many of each strand's own best the steps look at, at most.
    """

    name: str
    reach: int
    _steps: tuple[Step, ...]

    def __call__(self, ranking: Ranking) -> Ranking:
        """Returns the ranking after all steps."""
        for step in self._steps:
            ranking = step(ranking)
        return ranking


def pipeline(given: Given) -> Pipeline:
    """Returns a pipeline.

    Args:
        given: "feedback,mmr:trade=0.5", or a list whose items are such a text, a mapping {"step": "mmr", "trade": 0.5},
            or a function of a ranking; "none" or an empty list for no step.

    Raises:
        QueryError: a step or an option is unknown, an option lacks, or a value is of another type.
    """
    if isinstance(given, str):
        items: Sequence[Any] = [] if given.strip() == NONE else specs.parse_list(given)
    else:
        items = [specs.parse(item) if isinstance(item, str) else item for item in given]
    steps = [_step(item) for item in items]
    name = ",".join(name for name, _, _ in steps) or NONE
    return Pipeline(name, max((reach for _, reach, _ in steps), default=0), tuple(step for _, _, step in steps))


def read_pipeline(path: str | Path) -> list[dict[str, Any]]:
    """Returns the steps in a TOML file: a table [[step]] for each, with `name` and its options.

    Raises:
        QueryError: there is no such file, it is no TOML, or holds something else.
    """
    held = read_toml(path, QueryError)
    steps = held.get("step")
    if set(held) != {"step"} or not isinstance(steps, list) or not all(isinstance(one, dict) for one in steps):
        raise QueryError(f'{path}: expected a table [[step]] for each step, with the line name = "feedback"')
    return [{"step" if key == "name" else key: value for key, value in one.items()} for one in steps]


def _step(item: Any) -> tuple[str, int, Step]:
    if isinstance(item, Mapping):
        options = dict(item)
        name = options.pop("step", None)
        if not isinstance(name, str):
            raise QueryError(f"a step needs its name, as {{'step': 'feedback'}}; not {dict(item)!r}")
        item = specs.Spec(name, options)
    if callable(item):
        return getattr(item, "__name__", type(item).__name__), 0, cast(Step, item)
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
    return str(item), reach, partial(function, **options)

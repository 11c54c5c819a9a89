"""Names with options, as they are written: `rrf:k=20`, `feedback:documents=3,mmr:trade=0.5`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any, NamedTuple, get_args

from ..encoders.specs import split
from .errors import QueryError


class Spec(NamedTuple):
    """A name and its options; values given as text are still text."""

    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        """Returns the form that `parse` reads, where no value is a list or a map, or holds a comma."""
        return ":".join([self.name, *(f"{name}={value}" for name, value in self.options.items())])


def parse(text: str) -> Spec:
    """Returns the spec written as `name:option=value:option=value`; a colon inside a value stays in it.

    Raises:
        QueryError: an option without a value, or given twice.
    """
    name, pairs = split(text.strip())
    options = {option: value.strip() for option, value in pairs}
    if len(options) < len(pairs):
        raise QueryError(f"{text!r} gives an option twice")
    if ":" in name:
        raise QueryError(f"{text!r} cannot be read; options are written as name:option=value:option=value")
    return Spec(name.strip(), options)


def parse_list(text: str) -> list[Spec]:
    """Returns the specs of a list separated by commas; a comma inside a value needs the list form of the API."""
    return [parse(part) for part in text.split(",") if part.strip()]


@cache
def options_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns a function's options: its keyword-only parameters; annotations are read once, not in every search."""
    parameters = inspect.signature(function, eval_str=True).parameters
    return {name: each for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}


def checked(what: str, given: Mapping[str, Any], *functions: Callable[..., Any]) -> list[dict[str, Any]]:
    """Returns for each function those of the options that it takes, as values of the types it declares.

    Raises:
        QueryError: an option that none takes, or a value of another type.
    """
    known = [options_of(function) for function in functions]
    every = {name for options in known for name in options}
    for name in given:
        if name not in every:
            there = f"its options are: {', '.join(sorted(every))}" if every else "it has none"
            raise QueryError(f"{what} has no option {name!r}; {there}")
    return [
        {name: _typed(what, name, given[name], each) for name, each in options.items() if name in given}
        for options in known
    ]


def named(table: Mapping[str, Any], what: str, name: str) -> Any:
    """Returns an entry of a table by name; an unknown one is an error that lists what there is."""
    if name not in table:
        raise QueryError(f"no {what} {name!r}; there are: {', '.join(table)}")
    return table[name]


def _typed(what: str, name: str, value: Any, parameter: inspect.Parameter) -> Any:
    wanted = get_args(parameter.annotation) or (parameter.annotation,)
    if str in wanted and isinstance(value, str):  # "01234" and "2021" say more than their numbers
        return value
    for kind in (bool, int, float):
        if kind in wanted and (found := _READERS[kind](value)) is not None:
            return found
    if any(_fits(value, kind) for kind in wanted):
        return value
    kinds = " or ".join(dict.fromkeys(_kind(kind) for kind in wanted if kind is not type(None)))
    raise QueryError(f"{what} takes {kinds} as {name}, not {value!r}")


def _kind(wanted: Any) -> str:
    """Returns what to call a type."""
    plain = getattr(wanted, "__origin__", wanted)
    named = {Mapping: "a mapping", Callable: "a function"}
    return _KINDS.get(plain) or named.get(plain) or getattr(plain, "__name__", str(plain))


def _fits(value: Any, kind: Any) -> bool:
    plain = getattr(kind, "__origin__", kind)
    if isinstance(value, Sequence) and not isinstance(value, str) and plain is tuple:
        return True
    return isinstance(plain, type) and isinstance(value, plain) and not isinstance(value, (bool, int, float))


def _whole(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):  # a whole number may be too large
        return None
    return found if abs(found) < float("inf") else None


def _switch(value: Any) -> bool | None:
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())


_READERS: dict[Any, Callable[[Any], Any]] = {bool: _switch, int: _whole, float: _number}
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    tuple: "a list",
    date: "a date",
}

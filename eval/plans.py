"""A plan: a named way of searching. From strands, from the command line, or from a TOML file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..retriever import PlaitError, Retriever
from ..retriever.toml import read_toml
from .contract import EvalError, Run

FUSED = "fused"
EXAMPLE = "rrf=fusion=rrf; weights=lexical=1,dense=2; depth=500"
_GIVEN = ("self", "queries", "k")  # of `Retriever.run`: what evaluation itself decides
_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]+")  # it becomes a run file's name
_PAIRS = re.compile(r"[^=,]+=[^=,]+(?:,[^=,]+=[^=,]+)*")


@dataclass(frozen=True)
class Plan:
    """A named way of searching.

    Attributes:
        name: what tables call it.
        options: keyword arguments of `Retriever.run`; none: the index's own defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, retriever: Retriever, queries: Mapping[str, str], k: int) -> Run:
        """Returns the k best documents of each query.

        Raises:
            EvalError: an option that the retriever refuses; the message names the system.
        """
        try:
            return retriever.run(queries, k, **self.options)
        except PlaitError as error:
            raise EvalError(f"system {self.name!r}: {error}") from error

    def check(self, retriever: Retriever) -> None:
        """Asks one query, to refuse options that cannot be before hours are spent.

        Raises:
            EvalError: an option of a wrong type or value.
        """
        try:
            self.run(retriever, {"check": "check"}, 1)
        except (TypeError, AttributeError) as error:
            raise EvalError(f"system {self.name!r}: an option is of a wrong type: {error}") from error


def options_of_run() -> dict[str, str]:
    """Returns the options a plan may set, and their types as written: those that `Retriever.run` has."""
    parameters = inspect.signature(Retriever.run).parameters
    return {name: str(parameter.annotation) for name, parameter in parameters.items() if name not in _GIVEN}


def default_plans(
    strands: Sequence[str], *, alone: Mapping[str, Any] | None = None, fused: Mapping[str, Any] | None = None
) -> tuple[Plan, ...]:
    """Returns each strand alone, then all of them fused.

    Args:
        strands: which; of a single one there is nothing to fuse.
        alone: more options of the single strands.
        fused: more options of the fusion.

    Raises:
        EvalError: no strand, or one twice.
    """
    if not strands or len(set(strands)) < len(strands):
        raise EvalError(f"strands is {list(strands)}; expected one or more, each once")
    single = [
        Plan(name, {"strands": [name], "weights": {name: 1.0}, **(alone or {})}) for name in strands
    ]  # fmt: skip
    return (*single, *([Plan(FUSED, {"strands": list(strands), **(fused or {})})] if len(strands) > 1 else []))


def parse_plan(text: str) -> Plan:
    """Returns the plan in NAME=OPTIONS, where options are written key=value and parted by semicolons.

    Numbers, true and false are read as such, weights as strand=number pairs, everything else as text. An option alone
    is true; no option at all is the index's defaults.

    Raises:
        EvalError: no name, or an option that `Retriever.run` does not have.
    """
    name, equals, rest = text.partition("=")
    if not equals or not name.strip():
        raise EvalError(f"a system is written NAME=OPTIONS, as {EXAMPLE!r}; not {text!r}")
    pairs = [part.partition("=") for part in rest.split(";") if part.strip()]
    options = {key.strip(): value.strip() if given else "true" for key, given, value in pairs}
    if len(options) < len(pairs):
        raise EvalError(f"system {name.strip()!r} has an option twice: {rest.strip()!r}")
    found = checked(name.strip(), options)
    return Plan(found.name, {key: _value(found.name, key, value) for key, value in found.options.items()})


def read_plans(path: str | Path) -> tuple[Plan, ...]:
    """Returns the plans in a TOML file: a table for each, with keyword arguments of `Retriever.run`.

    Raises:
        EvalError: a missing or broken file, no table, or an option that `Retriever.run` does not have.
    """
    found = read_toml(path, EvalError)
    if not found or not all(isinstance(options, dict) for options in found.values()):
        raise EvalError(f"{path}: expected a table for each system, as [rrf] with the line: fusion = 'rrf'")
    try:
        return tuple(checked(name, options) for name, options in found.items())
    except EvalError as error:
        raise EvalError(f"{path}: {error}") from None


def unique(names: Iterable[str]) -> None:
    """Raises an error where two systems have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise EvalError(f"two systems are called {name!r}; give each a name of its own")
        seen.add(name)


def checked(name: str, options: Mapping[str, Any]) -> Plan:
    """Returns a plan, its name and its options' names checked; their values are checked where they are used.

    Raises:
        EvalError: a name that cannot be a file's, or an option that `Retriever.run` does not have.
    """
    known = options_of_run()
    if not _NAME.fullmatch(name):
        raise EvalError(f"a system cannot be called {name!r}: no slash, no control character, not nothing")
    if "k" in options:
        raise EvalError(f"system {name!r}: k follows from the measures; leave it out")
    if unknown := [key for key in options if key not in known]:
        raise EvalError(f"system {name!r}: no option {', '.join(map(repr, unknown))}; there are: {', '.join(known)}")
    return Plan(name, dict(options))


def _value(system: str, key: str, text: str) -> Any:
    """Returns an option's text as what the option's type takes."""
    kind = options_of_run()[key]
    if "Mapping" in kind and _PAIRS.fullmatch(text):
        try:
            return {name.strip(): float(number) for name, number in (pair.split("=") for pair in text.split(","))}
        except ValueError:
            pass
    if kind.startswith("Mapping"):
        raise EvalError(f"system {system!r}: {key} takes name=number pairs, as lexical=0.2,dense=0.8; not {text!r}")
    if kind in ("str", "str | None"):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text

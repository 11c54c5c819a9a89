"""Run cards read again, and two of them compared: what is equal, what differs most, and which facts differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .contract import EvalError
from .many import CARD_VERSION
from .plans import Plan, checked

DECIMALS = 0.5e-4  # values that agree to four decimals are equal: what tables show

# Card key -> what it holds; a file without one of them is damaged.
_PARTS: dict[str, type] = {"measures": list, "environment": dict, "collections": list}
_COLLECTION_PARTS: dict[str, type] = {"dataset": dict, "encoders": dict, "settings": dict, "systems": list}


class Value(NamedTuple):
    """Where a value belongs."""

    collection: str
    system: str
    measure: str
    query: str


@dataclass(frozen=True)
class Largest:
    """The value of a measure that differs most.

    Attributes:
        measure: as in the card.
        collection: its name.
        system: its name.
        query: its id.
        before: as the card says.
        after: as measured now.
    """

    measure: str
    collection: str
    system: str
    query: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """After minus before, without its sign."""
        return abs(self.after - self.before)


@dataclass(frozen=True)
class Fact:
    """A fact that two cards state differently; None: one of them does not state it."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Reproduction:
    """How a second measurement compares with the first.

    Attributes:
        values: how many per-query values both have.
        equal: how many of them are the same number.
        within: how many differ by no more than the tolerance.
        lacking: values that only one has: systems or queries that were not measured both times.
        largest: the largest difference of each measure.
        facts: what else differs.
        tolerance: what a value may differ by.
    """

    values: int
    equal: int
    within: int
    lacking: int
    largest: tuple[Largest, ...]
    facts: tuple[Fact, ...]
    tolerance: float

    @property
    def succeeded(self) -> bool:
        """Whether there are values, both times the same ones, and all within the tolerance."""
        return bool(self.values) and self.within == self.values and not self.lacking

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"succeeded": self.succeeded, **asdict(self)}


def read_card(path: str | Path) -> dict[str, Any]:
    """Returns the run card in a file.

    Raises:
        EvalError: a missing file, no JSON, no run card, one of another version, or one with a part missing.
    """
    try:
        card = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EvalError(f"{path}: there is no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{path}: cannot be read: {error}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise EvalError(f"{path}: damaged, or no run card: {error}") from None
    if not isinstance(card, dict) or "card" not in card:
        raise EvalError(f"{path}: no run card; expected what plait eval --card FILE writes")
    if card["card"] != CARD_VERSION:
        raise EvalError(
            f"{path}: a run card of version {card['card']!r}, and this plait reads version {CARD_VERSION}; measure "
            "again with plait eval --card, or use the plait that wrote it"
        )
    _check(path, card, _PARTS)
    for part in card["collections"]:
        _check(path, part, _COLLECTION_PARTS)
        _check(path, part["dataset"], {"name": str, "split": str, "sha256": dict})
        for system in part["systems"]:
            _check(path, system, {"name": str, "per_query": dict})
            for measure in card["measures"]:
                _check(path, system["per_query"], {measure: dict})
                if not all(isinstance(value, (int, float)) for value in system["per_query"][measure].values()):
                    raise EvalError(f"{path}: a damaged run card: a value of {measure!r} is no number")
    return card


def plans_of(part: Mapping[str, Any]) -> tuple[Plan, ...]:
    """Returns the plans of a collection's part of a card; finished runs have none.

    Raises:
        EvalError: an option that this plait's retriever does not have.
    """
    return tuple(checked(s["name"], s["options"]) for s in part["systems"] if isinstance(s.get("options"), dict))


def compare_cards(before: Mapping[str, Any], after: Mapping[str, Any], *, tolerance: float = 0.0) -> Reproduction:
    """Returns how the values and facts of a second card compare with those of a first.

    Args:
        before: a card.
        after: another, of the same collections and systems.
        tolerance: what a value may differ by; values that agree to four decimals are within any.

    Raises:
        EvalError: a tolerance that is negative or no number.
    """
    if not tolerance >= 0:
        raise EvalError(f"tolerance is what a value may differ by: a number of at least 0, not {tolerance}")
    old, new = dict(_values(before)), dict(_values(after))
    both = [value for value in old if value in new]
    apart = {value: abs(new[value] - old[value]) for value in both}
    largest = []
    for measure in before["measures"]:
        values = [value for value in both if value.measure == measure]
        if values:
            worst = max(values, key=lambda value: apart[value])
            where = {"collection": worst.collection, "system": worst.system, "query": worst.query}
            largest.append(Largest(measure=measure, before=old[worst], after=new[worst], **where))
    return Reproduction(
        values=len(both),
        equal=sum(1 for difference in apart.values() if difference == 0),
        within=sum(1 for difference in apart.values() if difference <= max(tolerance, DECIMALS)),
        lacking=len(old.keys() ^ new.keys()),
        largest=tuple(largest),
        facts=tuple(_facts(before, after)),
        tolerance=tolerance,
    )


def _check(path: str | Path, part: Any, expected: Mapping[str, type]) -> None:
    for name, kind in expected.items():
        if not isinstance(part, dict) or not isinstance(part.get(name), kind):
            raise EvalError(f"{path}: a damaged run card: {name!r} is missing or of another kind")


def _values(card: Mapping[str, Any]) -> Iterator[tuple[Value, float]]:
    for part in card["collections"]:
        for system in part["systems"]:
            for measure in card["measures"]:
                for query, value in system["per_query"][measure].items():
                    yield Value(part["dataset"]["name"], system["name"], measure, query), float(value)


def _facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Fact]:
    """Yields what may explain a difference: data, encoders, settings, and what computed."""
    old = {part["dataset"]["name"]: part for part in before["collections"]}
    new = {part["dataset"]["name"]: part for part in after["collections"]}
    for name in old:
        for about in ("dataset", "encoders", "settings"):
            yield from _differences(f"{name} {about}", old[name].get(about), new.get(name, {}).get(about))
        parts = (old[name], new.get(name, {}))
        documents = [each.get("index", {}).get("documents") for each in parts]
        yield from _differences(f"{name} documents", *documents)  # bytes and segments move no score
        options = [
            {s["name"]: s.get("options") for s in each.get("systems", ())} for each in (old[name], new.get(name, {}))
        ]
        yield from _differences(f"{name} options", *options)
    yield from _differences("environment", before["environment"], after["environment"])


def _differences(name: str, before: Any, after: Any) -> Iterator[Fact]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            yield from _differences(f"{name} {key}", before.get(key), after.get(key))
    elif _plain(before) != _plain(after):
        yield Fact(name, before, after)


def _plain(value: Any) -> Any:
    """Returns a value as JSON would give it back: tuples are lists there."""
    return list(value) if isinstance(value, tuple) else value

"""Run cards read again, and two of them compared: what is equal, what differs most, and which facts differ."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .comparing import Compared, compare
from .contract import EvalError
from .evaluate import Report, System, environment
from .many import CARD_VERSION, Evaluation
from .measures import Scores, mean_of
from .plans import Plan, checked

DECIMALS = 0.5e-4  # values that agree to four decimals are equal: what tables show

# Card key -> what it holds; a file without one of them is damaged.
_PARTS: dict[str, type] = {"measures": list, "environment": dict, "collections": list}
_COLLECTION_PARTS: dict[str, type] = {"dataset": dict, "encoders": dict, "settings": dict, "systems": list}
# The same of what may be missing.
_SETTINGS: dict[str, type] = {"sources": dict, "bm25": dict, "distractors": dict}
_FILE: dict[str, type] = {"name": str, "sha256": str}


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
        contradictions: means, intervals and tests of the first card that its own values do not give.
    """

    values: int
    equal: int
    within: int
    lacking: int
    largest: tuple[Largest, ...]
    facts: tuple[Fact, ...]
    tolerance: float
    contradictions: tuple[Fact, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether there are values, both times the same ones, all within the tolerance, and no contradictions."""
        return bool(self.values) and self.within == self.values and not self.lacking and not self.contradictions

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
    _check_known(path, card, {"baseline": str, "seed": int, "samples": int, "comparisons": list})
    if not all(isinstance(measure, str) for measure in card["measures"]):
        raise EvalError(f"{path}: a damaged run card: a measure is no name")
    if not card["measures"]:
        raise EvalError(f"{path}: a damaged run card: it names no measure")
    for part in card["collections"]:
        _check_collection(path, part)
        for system in part["systems"]:
            _check_system(path, system, card["measures"])
    return card


def contradictions(
    card: Mapping[str, Any], *, tolerance: float = 0.0, queries: Mapping[str, Sequence[str]] | None = None
) -> tuple[Fact, ...]:
    """Returns the means, intervals and tests of a card that its own values do not give.

    Args:
        card: as `read_card` returns it, with all its systems.
        tolerance: what a mean, a difference or an interval may differ by. P-values, wins and losses say how exactly
            values agree: they are looked at with a tolerance of 0 alone.
        queries: each collection's, in the order of its judgements, as resamples were drawn. Without them, or of others
            than the card's, it is the order in which the card has them, which a program that sorts keys has changed.

    Raises:
        EvalError: its values cannot be compared: no collection, systems of different queries, or a baseline that is
            none of them.
    """
    if not card["collections"]:
        raise EvalError("the run card holds no collection; there is nothing to compare")
    order, allowed = queries or {}, max(tolerance, DECIMALS)
    reports = [_report(part, card["measures"], order.get(part["dataset"]["name"])) for part in card["collections"]]
    pairs = [*_means(card, reports), *_tests(card, reports, exact=not tolerance)]
    return tuple(Fact(*pair) for pair in pairs if not _agree(pair[1], pair[2], allowed))


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


def _check_known(path: str | Path, part: Mapping[str, Any], expected: Mapping[str, type]) -> None:
    _check(path, part, {name: kind for name, kind in expected.items() if name in part})


def _check_collection(path: str | Path, part: Any) -> None:
    _check(path, part, _COLLECTION_PARTS)
    _check(path, part["dataset"], {"name": str, "split": str, "sha256": dict})
    _check_known(path, part, {"index": dict, "intervals": dict})
    settings = part["settings"]
    _check_known(path, settings, _SETTINGS)
    _check(path, settings.get("sources", {}), {k: str for k, v in settings.get("sources", {}).items() if v is not None})
    if "distractors" in settings:
        _check(path, settings["distractors"], _FILE)


def _check_system(path: str | Path, system: Any, measures: list[str]) -> None:
    _check(path, system, {"name": str, "means": dict, "per_query": dict})
    _check_known(path, system, {"options": dict, "file": dict})
    if "file" in system:
        _check(path, system["file"], _FILE)
    for measure in dict.fromkeys([*measures, *system["per_query"]]):
        _check(path, system["per_query"], {measure: dict})
        values = system["per_query"][measure].values()
        if not values:
            raise EvalError(f"{path}: a damaged run card: {measure!r} has no value")
        if not all(map(_is_number, values)):
            raise EvalError(f"{path}: a damaged run card: a value of {measure!r} is no number")


def _is_number(value: object) -> bool:
    """Returns whether a value is one that a 64-bit float can be: JSON's whole numbers have no end."""
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def _report(part: Mapping[str, Any], measures: list[str], queries: Sequence[str] | None) -> Report:
    """Returns a collection's part as a report whose means are made of its values, its queries in that order."""
    told = {tuple(values) for system in part["systems"] for values in system["per_query"].values()}
    if len({frozenset(each) for each in told}) > 1:
        raise EvalError(f"{part['dataset']['name']}: a damaged run card: its systems are of different queries")
    first = next(iter(told), ())
    order = first if queries is None or {*queries} != {*first} else queries
    systems = [
        System(s["name"], _scores({m: {query: s["per_query"][m][query] for query in order} for m in measures}))
        for s in part["systems"]
    ]
    return Report(part["dataset"], tuple(measures), tuple(systems))


def _scores(per_query: dict[str, dict[str, float]]) -> Scores:
    return Scores({measure: mean_of(measure, values.values()) for measure, values in per_query.items()}, per_query)


def _means(card: Mapping[str, Any], reports: list[Report]) -> Iterator[tuple[str, Any, Any]]:
    """Yields (name, what the card says, what its values give) of each mean."""
    for part, report in zip(card["collections"], reports, strict=True):
        for told, system in zip(part["systems"], report.systems, strict=True):
            for measure, mean in system.scores.means.items():
                yield f"{report.name} {system.name} mean {measure}", told["means"].get(measure), mean
    for system, means in Evaluation(tuple(reports), Compared("")).means.items() if "means" in card else ():
        for measure, mean in means.items():
            yield f"means {system} {measure}", _of(_of(card["means"], system), measure), mean


def _tests(card: Mapping[str, Any], reports: list[Report], *, exact: bool) -> Iterator[tuple[str, Any, Any]]:
    """Yields the same of each interval and of each number of a comparison.

    Where numpy may draw other random numbers, what resampling decides is left out.
    """
    if not all(name in card for name in ("baseline", "seed", "samples", "comparisons")):
        return
    drawn = card["environment"].get("numpy") == environment().get("numpy")
    found = compare(reports, baseline=card["baseline"], seed=card["seed"], samples=card["samples"])
    for part, report in zip(card["collections"], reports, strict=True):
        for system, spans in found.intervals[report.name].items() if drawn else ():
            told = part.get("intervals", {}).get(system)
            for measure, span in spans.items():
                yield f"{report.name} {system} interval {measure}", _of(told, measure), span
    told = {_place(each): each for each in card["comparisons"]}
    wanted = {
        "difference": True, "interval": drawn, "randomisation": exact and drawn, "holm": exact and drawn,
        "t_test": exact, "wins": exact, "ties": exact, "losses": exact,
    }  # fmt: skip
    for each in found.comparisons:
        where = _place(each.to_json())
        for name in (name for name, asked in wanted.items() if asked):
            if name != "interval" or each.interval is not None:  # once one query had an interval
                title = " ".join(filter(None, (each.collection or "means", each.system, each.measure, name)))
                yield title, _of(told.get(where), name), getattr(each, name)
    if len(told) > len(found.comparisons):
        yield "comparisons", len(told), len(found.comparisons)


def _place(comparison: Any) -> tuple[str | None, ...]:
    told = (_of(comparison, name) for name in ("collection", "system", "measure"))
    return tuple(None if each is None else str(each) for each in told)  # a collection may be called "None"


def _of(mapping: Any, name: str) -> Any:
    return mapping.get(name) if isinstance(mapping, Mapping) else None


def _agree(told: Any, found: Any, allowed: float) -> bool:
    if isinstance(found, tuple):
        return (
            isinstance(told, (list, tuple))
            and len(told) == len(found)
            and all(_agree(*pair, allowed) for pair in zip(told, found, strict=True))
        )
    if found is None:
        return told is None
    return _is_number(told) and abs(told - found) <= allowed


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
        for about, key in (("options", None), ("file", "sha256")):  # a file may be called otherwise
            told = [{s["name"]: _kept(s.get(about), key) for s in each.get("systems", ())} for each in parts]
            yield from _differences(f"{name} {about}", *told)
    yield from _differences("environment", before["environment"], after["environment"])


def _differences(name: str, before: Any, after: Any) -> Iterator[Fact]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            yield from _differences(f"{name} {key}", before.get(key), after.get(key))
    elif _plain(before) != _plain(after):
        yield Fact(name, before, after)


def _kept(value: Any, key: str | None) -> Any:
    return value if key is None or value is None else value.get(key)


def _plain(value: Any) -> Any:
    """Returns a value as JSON would give it back: tuples are lists there."""
    return list(value) if isinstance(value, tuple) else value

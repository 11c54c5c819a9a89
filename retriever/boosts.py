"""Boosts: what metadata say of a document, as terms added to its score (linear, as in arXiv 2412.03736).

A term lies between 0 and the step's weight, in units of the score so far: near 1 at the top of a list of the default
fusion, below 0.05 in one of "rrf". A document without the field, or with a value that cannot be read, gets 0.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..index.fields import date as in_order
from ..index.fields import shown
from .errors import QueryError
from .limits import weighing, within
from .normalise import Floats
from .ranking import Ranking

DAY = 86400.0
SHORTEST = 0.001  # half-life, in days
LEAST = 0.001  # of the weight: what adds less is not counted as boosted
YEARS = range(1000, 10_000)
Boost = Callable[[Sequence[Any]], Floats]  # metadata values of some documents, None where there is none -> on [0, 1]


def boost(
    ranking: Ranking,
    *,
    field: str = "",
    weight: float = 0.1,
    equals: str | int | float | bool | None = None,
    low: float | None = None,
    high: float | None = None,
    top: int = 100,
) -> Ranking:
    """Returns the ranking with a term for a metadata value: `boost:field=lang:equals=en`, or `boost:field=year`.

    Args:
        ranking: what was found so far.
        field: the metadata name.
        weight: what the highest boost adds.
        equals: documents whose value is this, or a list that holds it, get the whole weight, others nothing; a number
            or a truth may be given as text. Where it is not given, the value is a number and boosts in proportion
            between `low` and `high`.
        low: the number that adds nothing; the least among the best where None.
        high: the number that adds the whole weight; the largest among the best where None. It may lie below `low`.
        top: how many of the best take part; the others stay below them.
    """
    if low is not None and low == high:
        raise QueryError(f"boost takes a low and a high that differ, not {low:g} twice")
    if equals is not None:
        return _boosted(ranking, "boost", field, weight, top, lambda values: _matching(values, equals))
    return _boosted(ranking, "boost", field, weight, top, lambda values: _between(values, low, high), number)


def recency(
    ranking: Ranking,
    *,
    field: str = "date",
    weight: float = 0.1,
    halflife: float = 365.0,
    now: float | str | date | None = None,
    top: int = 100,
) -> Ranking:
    """Returns the ranking with a term for the age of documents: weight x 0.5 ** (age / halflife).

    Args:
        ranking: what was found so far.
        field: the metadata name of a date: ISO 8601, as "2021-03-04T05:06:07Z", "2021-03-04", "20210304", "2021-03" or
            "2021", or a number: a year from 1000 to 9999, else seconds since 1970.
        weight: what a document of now adds.
        halflife: days after which it adds half as much, at least 0.001.
        now: what age is reckoned from, in the same forms, in the API and TOML also a date; the beginning of today (UTC)
            where None. What lies after it adds the whole weight.
        top: how many of the best take part; the others stay below them.
    """
    within("recency", SHORTEST, halflife=halflife)
    moment = DAY * (datetime.now(timezone.utc).timestamp() // DAY) if now is None else seconds(now)
    if moment is None:
        raise QueryError(f"recency takes an ISO 8601 date or seconds since 1970 as now, not {now!r}")

    def fresh(values: Sequence[Any]) -> Floats:
        ages = np.array([math.inf if (at := seconds(value)) is None else moment - at for value in values])
        return 0.5 ** (np.maximum(ages, 0.0) / DAY / halflife)

    return _boosted(ranking, "recency", field, weight, top, fresh, seconds)


def host(
    ranking: Ranking,
    *,
    field: str = "url",
    weight: float = 0.1,
    equals: str | None = None,
    hosts: Mapping[str, float] | None = None,
    top: int = 100,
) -> Ranking:
    """Returns the ranking with a term for the host in a document's URL; "www." does not count.

    Args:
        ranking: what was found so far.
        field: the metadata name of the URL.
        weight: what a host with boost 1 adds.
        equals: this host and those below it have boost 1, others 0: "arxiv.org" is also "export.arxiv.org".
        hosts: boosts by host, from 0 to 1, for the API and TOML. Where neither is given, a host's boost is its share of
            the best documents: a site that is found again and again is about the matter.
        top: how many of the best take part; the others stay below them.
    """
    if equals is not None and hosts is not None:
        raise QueryError("host takes equals or hosts, not both")
    table = {equals: 1.0} if equals is not None else hosts
    boosts = {_named_host(name): _checked_boost(name, value) for name, value in (table or {}).items()}

    def known(values: Sequence[Any]) -> Floats:
        names = [host_of(value) for value in values]
        if table is not None:
            return np.array([_of_host(name, boosts) for name in names])
        counts = Counter(name for name in names if name)
        return np.array([counts[name] / len(names) if name else 0.0 for name in names])

    return _boosted(ranking, "host", field, weight, top, known, lambda value: host_of(value) or None)


def _named_host(name: object) -> str:
    """Returns the host that an option names, as a host or a URL."""
    if found := host_of(name):
        return found
    raise QueryError(f"host takes names of hosts, as arxiv.org; not {name!r}")


def _checked_boost(name: object, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise QueryError(f"host takes boosts from 0 to 1 as hosts, not {value!r} for {name!r}")
    return float(value)


def _boosted(
    ranking: Ranking,
    step: str,
    field: str,
    weight: float,
    top: int,
    function: Boost,
    read: Callable[[Any], object] = lambda value: value,
) -> Ranking:
    """Returns the ranking in which the best have what the function makes of a field, times a weight, added.

    `read` gives None for a value that cannot be read, which is told: a date in another form would go unseen.
    """
    within(step, 1, top=top)
    weighing(step, weight=weight)
    if not field:
        raise QueryError(f"{step} needs the name of a metadata field: {step}:field=NAME")
    rows = ranking.top(top)
    if not rows.size:
        return ranking
    values = [row.metadata.get(field) for row in ranking.documents(rows)]
    terms = weight * function(values)
    told: dict[str, Any] = {"weight": weight, "documents": int((terms > weight * LEAST).sum())}
    there = [value for value in values if value is not None]
    if not there:
        told["note"] = f"none of the {rows.size} best documents has the metadata field {field!r}"
    elif unread := [value for value in there if read(value) is None]:
        told["note"] = f"{len(unread)} of {len(there)} values cannot be read, as {shown(unread[0])}"
    return ranking.placed(rows, ranking.fused[rows] + terms, **{step: {**ranking.notes.get(step, {}), field: told}})


def _matching(values: Sequence[Any], wanted: Any) -> Floats:
    lists = (value if isinstance(value, (list, tuple)) else [value] for value in values)
    return np.array([float(any(_same(one, wanted) for one in held)) for held in lists])


def _same(value: Any, wanted: Any) -> bool:
    """Returns whether a stored value is the wanted one, which a command line can only give as text.

    Texts are the same letter by letter: "01234" is no "1234", "1.10" no "1.1".
    """
    if isinstance(value, str) == isinstance(wanted, str):
        return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
    text, other = (value, wanted) if isinstance(value, str) else (wanted, value)
    if isinstance(other, bool):
        return text.lower() == str(other).lower()
    return isinstance(other, (int, float)) and (text == str(other) or number(text) == other)


def _between(values: Sequence[Any], low: float | None, high: float | None) -> Floats:
    numbers = np.array([math.nan if (found := number(value)) is None else found for value in values])
    there = np.isfinite(numbers)
    if not there.any():
        return np.zeros(len(values))
    least, largest = float(numbers[there].min()), float(numbers[there].max())
    start = low if low is not None else least if high is None else min(least, high)
    end = high if high is not None else max(largest, start)
    span = end / 2 - start / 2  # in halves: the span of two numbers may be no number
    shares = np.where(there, numbers / 2 - start / 2, 0.0) / span if span else (numbers >= end).astype(np.float64)
    return np.where(there, np.clip(shares, 0.0, 1.0), 0.0)


def number(value: Any) -> float | None:
    """Returns a finite number, also one spelt as text, and 0 or 1 for a truth; None for what is none."""
    if not isinstance(value, (bool, int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def seconds(value: Any) -> float | None:
    """Returns the seconds since 1970 of a date or a number of them; None for what is neither.

    Four digits are a year, as a number too: nobody means a moment of the first three hours of 1970.
    """
    if isinstance(value, date):  # or a datetime, which is one
        value = value.isoformat()
    if not isinstance(value, str):
        found = None if isinstance(value, bool) else number(value)
        if found is None or found not in YEARS:
            return found
        value = str(int(found))
    text = value.strip()
    if re.fullmatch(r"\d{8}", text, re.ASCII):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    missing = {4: "-01-01", 7: "-01"}.get(len(text), "")
    try:
        found = in_order(text + missing)
        return None if found is None else datetime.fromisoformat(found).replace(tzinfo=timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return number(value)


def host_of(value: Any) -> str:
    """Returns the host of a URL in lower case, without "www."; an empty text for what has none."""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    try:
        return _bare(urlsplit(text if "//" in text else f"//{text}").hostname or "")
    except ValueError:
        return ""


def _bare(name: str) -> str:
    return name.strip().lower().rstrip(".").removeprefix("www.")


def _of_host(name: str, boosts: Mapping[str, float]) -> float:
    """Returns the boost of a host, or else that of the nearest domain above it."""
    parts = name.split(".")
    return next((boosts[at] for i in range(len(parts)) if (at := ".".join(parts[i:])) in boosts), 0.0)

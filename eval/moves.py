"""Wins and losses against a baseline, query by query, with the documents that moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..index.ranking import ranked
from .contract import Qrels, Run

if TYPE_CHECKING:
    from .evaluate import Report

TOP = 10  # ranks in which a document is worth telling of, whether or not it was judged
MOST = 10  # wins, and losses, that are kept of each system
DOCUMENTS = 10  # that are told of a query

Places = Mapping[str, Mapping[str, int]]  # query id -> document id -> rank, from 1


@dataclass(frozen=True)
class Moved:
    """A document whose rank changed.

    Attributes:
        id: the document's.
        title: "" where it is not known.
        relevance: as judged; None where it was not.
        before: its rank by the baseline; None: not found, or, of one that is not relevant, below `TOP`.
        after: the same by the system.
    """

    id: str
    title: str
    relevance: int | None
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Shift:
    """A query that a system answers better or worse than the baseline.

    Attributes:
        system: its name.
        query: the query's id.
        text: the query's text; "" where it is not known.
        before: the baseline's value of the measure.
        after: the system's.
        documents: what moved, relevant ones first.
    """

    system: str
    query: str
    text: str
    before: float
    after: float
    documents: tuple[Moved, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def places_of(run: Run, qrels: Qrels, top: int = TOP) -> dict[str, dict[str, int]]:
    """Returns the ranks of the first documents of each judged query, and of all relevant ones that were found."""
    places = {}
    for query, judged in qrels.items():
        places[query] = {
            document: rank
            for rank, (document, _score) in enumerate(ranked(run.get(query, {})), 1)
            if rank <= top or judged.get(document, 0) > 0
        }
    return places


def shifts(
    report: Report,
    qrels: Qrels,
    *,
    baseline: str,
    measure: str,
    texts: Mapping[str, str] | None = None,
    title: Callable[[str], str] | None = None,
    most: int = MOST,
) -> tuple[Shift, ...]:
    """Returns each system's greatest wins over the baseline, then its greatest losses.

    Args:
        report: one collection's; of systems whose places it holds.
        qrels: the collection's judgements.
        baseline: the name of the system to compare with.
        measure: by which values are compared.
        texts: of the queries.
        title: a document's title by its id.
        most: how many wins, and how many losses, of each system.
    """
    old = report[baseline]
    found = []
    for system in report.systems:
        if system is old:
            continue
        values = system.scores.per_query[measure]
        gains = {query: value - old.scores.per_query[measure][query] for query, value in values.items()}
        order = sorted((query for query in gains if gains[query]), key=lambda query: (-gains[query], query))
        wins = [query for query in order if gains[query] > 0][:most]
        losses = [query for query in reversed(order) if gains[query] < 0][:most]
        for query in (*wins, *losses):
            moved = _moved(old.places.get(query, {}), system.places.get(query, {}), qrels[query], title)
            before = old.scores.per_query[measure][query]
            found.append(Shift(system.name, query, (texts or {}).get(query, ""), before, values[query], moved))
    return tuple(found)


def _moved(
    before: Mapping[str, int], after: Mapping[str, int], judged: Mapping[str, int], title: Callable[[str], str] | None
) -> tuple[Moved, ...]:
    """Returns what changed its rank: relevant documents first, then by the better of the two ranks."""
    changed = [document for document in {**before, **after} if before.get(document) != after.get(document)]
    last = max([*before.values(), *after.values(), 0]) + 1

    def worth(document: str) -> tuple[int, int, str]:
        best = min(before.get(document, last), after.get(document, last))
        return -max(judged.get(document, 0), 0), best, document

    chosen = sorted(changed, key=worth)[:DOCUMENTS]
    return tuple(
        Moved(id, title(id) if title else "", judged.get(id), before.get(id), after.get(id)) for id in chosen
    )  # fmt: skip

"""Hierarchical retrieval: first the parents, then the passages inside them, with the scores of both levels.

The scheme is that of dense hierarchical retrieval (DHR; Liu et al. 2021, arXiv 2110.15439), here over every strand: a
passage's score is its own and its parent's, mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import specs
from .errors import QueryError
from .hits import Answer, Hit
from .limits import within
from .normalise import Floats
from .parents import level_of
from .pipeline import FIRST, Given, listed
from .ranking import Ranking, Search
from .strands import Dense, Sparse

STEP = "parents"
LEAST_DEPTH = 200  # parents that each strand proposes, at least
_LISTED = f"{', '.join(FIRST[:-1])} and {FIRST[-1]}"


def parents(ranking: Ranking, *, share: float = 0.1, parents: int = 20, each: int = 0) -> Ranking:
    """Returns the ranking whose first passages are those of the best parents, by both levels' scores.

    Parents are ranked by the same query, strands, fusion and weights as passages; the weights of a sparse query hold
    the IDF of the passages on both levels. All passages of the best parents take part, whoever proposed them, and every
    strand scores them. Others stay below, as they were. A filter chooses passages; a parent is ranked where it has one.

    Args:
        ranking: what was found so far, by steps that move the query or weights alone.
        share: the parent's share of a score, from 0 to 1: (1 - share) x passage + share x parent, both fused scores.
        parents: how many of the best parents.
        each: only so many of the best passages of a parent come first; 0 for all.
    """
    within(STEP, 0, 1, share=share)
    within(STEP, 1, parents=parents)
    within(STEP, 0, each=each)
    _check_strands(ranking)
    if not ranking.plain:
        raise QueryError(f"{STEP} comes before steps that give scores of their own, and after {_LISTED}")
    names, worth = _best(ranking, parents)
    positions, owners = _passages(ranking, names)
    ranking = ranking.widened(positions)
    rows = np.searchsorted(ranking.positions, positions)
    scores = (1.0 - share) * ranking.fused[rows] + share * worth[owners]
    kept = _first(ranking, rows, scores, owners, each) if each else slice(None)
    told = {"share": share, "scores": dict(zip(names, worth.tolist(), strict=True))}
    return ranking.placed(rows[kept], scores[kept], **{STEP: told})


def _check_strands(ranking: Ranking) -> None:
    if others := [strand.name for strand in ranking.search.strands if not isinstance(strand, (Sparse, Dense))]:
        raise QueryError(
            f"{STEP} goes with strands whose vectors are in the index; {' and '.join(others)} are elsewhere: name the "
            "strands to search, as --strands learned,dense"
        )


def _best(ranking: Ranking, count: int) -> tuple[list[str], Floats]:
    """Returns the best parents and their fused scores, best first."""
    search, level = ranking.search, level_of(ranking.search.snapshot)
    depth = max(LEAST_DEPTH, count, search.fusion.window)
    chosen = None
    if search.within is not None:
        families = search.snapshot.families_at(search.snapshot.positions_in(search.within))
        known = level.positions(list({family for family, _ in families}))
        chosen = level.selected(np.array(sorted(known.values()), np.int64))
    asked = Search(level, search.strands, search.fusion, depth, chosen, search.exactness, search.exact)
    pairs = zip(search.strands, ranking.queries, strict=True)
    proposed = [asked.propose(strand, [query], depth)[0] for strand, query in pairs]
    found = Ranking.of(asked, ranking.text, ranking.queries, proposed, ranking.weights)
    rows = level.settle(found.fused, found.positions, count)
    return level.ids(found.positions[rows]), found.fused[rows]


def _passages(ranking: Ranking, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Returns the positions of all passages of some parents that the search may find, and whose each is."""
    number = {name: i for i, name in enumerate(names)}
    pairs = ranking.search.snapshot.members(names)
    positions = np.array([position for _, position in pairs], np.int64)
    owners = np.array([number[name] for name, _ in pairs], np.intp)
    if ranking.search.within is None:
        return positions, owners
    inside = np.isin(positions, ranking.search.snapshot.positions_in(ranking.search.within))
    return positions[inside], owners[inside]


def _first(
    ranking: Ranking, rows: NDArray[np.intp], scores: Floats, owners: NDArray[np.intp], each: int
) -> NDArray[np.intp]:
    """Returns which of the passages are among the first `each` of their parent."""
    order = ranking.search.snapshot.settle(scores, ranking.positions[rows], rows.size)
    seen = np.zeros(int(owners.max(initial=-1)) + 1, np.int64)
    kept = []
    for i in order.tolist():
        seen[owners[i]] += 1
        if seen[owners[i]] <= each:
            kept.append(i)
    return np.array(sorted(kept), np.intp)


def hierarchical(steps: Given) -> list[Any]:
    """Returns a pipeline with the step `parents`, where it has none: behind the steps that move the query."""
    items = [str(item) if isinstance(item, specs.Spec) else item for item in listed(steps)]
    names = [_name(item) for item in items]
    if STEP in names:
        return items
    place = max((i + 1 for i, name in enumerate(names) if name in FIRST), default=0)
    return [*items[:place], STEP, *items[place:]]


def _name(item: Any) -> Any:
    if isinstance(item, Mapping):
        return item.get("step")
    return specs.parse(item).name if isinstance(item, str) else None


@dataclass(frozen=True, slots=True)
class Group:
    """The hits of one parent.

    Attributes:
        parent: its id; of a hit that is no passage the document's own.
        score: the parent's fused score; None where the step `parents` did not rank it.
        hits: best first.
    """

    parent: str
    score: float | None
    hits: tuple[Hit, ...]


def grouped(answer: Answer, *, each: int | None = None) -> list[Group]:
    """Returns the hits by parent: the parent with the best hit first.

    Args:
        answer: of a search, best with the step `parents`.
        each: at most so many hits of a parent; None for all.
    """
    scores = answer.notes.get(STEP, {}).get("scores", {})
    found: dict[str, list[Hit]] = {}
    for hit in answer:
        found.setdefault(hit.parent if hit.parent is not None else hit.id, []).append(hit)
    return [Group(parent, scores.get(parent), tuple(hits[:each])) for parent, hits in found.items()]

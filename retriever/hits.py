"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StrandScore:
    """What one strand says of one hit.

    Attributes:
        score: the strand's own score: a sum of impacts, or an inner product.
        normalised: the same on [0, 1], between the strand's least possible and its best score for this query.
        rank: the place among the strand's own candidates, from 1; None when it lies below them.
        weight: the strand's weight in this search.
    """

    score: float
    normalised: float
    rank: int | None
    weight: float


@dataclass(frozen=True, slots=True)
class Match:
    """A query term that a hit holds, and what it adds to its strand's score."""

    strand: str
    term: str
    contribution: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        rank: from 1.
        id: the document's id.
        score: the fused score; comparable between searches of one index with the same settings, whatever k was.
        title, text, metadata: as they were added.
        parent: the id of the document that a passage was cut from; None for a whole document.
        start: where a passage begins in its parent's text, in characters.
        strands: each strand's view, by name.
        matches: the query's terms found in this document, largest contribution first; filled by explain=True.
    """

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: Mapping[str, Any] = field(hash=False)
    parent: str | None
    start: int
    strands: Mapping[str, StrandScore] = field(hash=False)
    matches: tuple[Match, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the hit as plain JSON values."""
        return asdict(self)

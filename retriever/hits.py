"""What a search returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .proof import Proof


class StrandScore(NamedTuple):
    """What one strand says of one hit.

    Attributes:
        score: the strand's own score: a sum of impacts, or an inner product.
        normalised: the same as the fusion takes it: with most normalisations on [0, 1]; a sparse score over the norm of
            the query, as the default fusion has it, may be above 1.
        rank: the place among the strand's own candidates, from 1; None when it lies below them.
        weight: the strand's weight in this search.
    """

    score: float
    normalised: float
    rank: int | None
    weight: float


class Match(NamedTuple):
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
        probability: of being relevant, where the index has a calibration for these settings that knows such queries;
            None elsewhere.
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
    probability: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the hit as plain JSON values."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        strands = {name: view._asdict() for name, view in self.strands.items()}
        matches = [match._asdict() for match in self.matches]
        return {**plain, "metadata": deepcopy(dict(self.metadata)), "strands": strands, "matches": matches}


class Answer(list[Hit]):
    """The hits of a query, best first, and how they came about.

    Attributes:
        query: as it was given.
        fusion: how strands were combined.
        weights: by strand.
        weights_from: who chose them: "this search", "the index" or "plait".
        pipeline: the steps that were taken.
        notes: what steps tell of themselves, by step.
        proof: what it took to prove the top k exact, where that was asked for.
        milliseconds: by stage; of a batch, encoding and proposing are shares of the whole batch's time.
    """

    def __init__(
        self,
        hits: Iterable[Hit],
        *,
        query: str = "",
        fusion: str = "",
        weights: Mapping[str, float] | None = None,
        weights_from: str = "",
        pipeline: str = "",
        notes: Mapping[str, Any] | None = None,
        proof: Proof | None = None,
        milliseconds: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(hits)
        self.query, self.fusion, self.pipeline, self.proof = query, fusion, pipeline, proof
        self.weights, self.weights_from = dict(weights or {}), weights_from
        self.notes, self.milliseconds = dict(notes or {}), dict(milliseconds or {})

    def to_json(self) -> dict[str, Any]:
        """Returns the answer as plain JSON values."""
        about = ("query", "fusion", "weights", "weights_from", "pipeline", "notes", "milliseconds")
        proof = None if self.proof is None else asdict(self.proof)
        return {name: getattr(self, name) for name in about} | {"proof": proof, "hits": [hit.to_json() for hit in self]}

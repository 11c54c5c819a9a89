"""From a query to ranked hits: propose, score every candidate by every strand, fuse, take the steps, explain."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..index import Snapshot
from .calibration import Calibration
from .errors import QueryError
from .fusion import Fusion, check_weights, chosen, weights_for
from .hits import Answer, Hit, Match, StrandScore
from .limits import check_real
from .pipeline import NONE, Pipeline, pipeline
from .proof import Proof, prove
from .ranking import Ranking, Search
from .strands import Strand, matches

DEPTH = 200
AT_ONCE = 256  # queries of a batch whose candidates are held at the same time


@dataclass(frozen=True)
class Options:
    """A search's settings, checked."""

    k: int
    strands: tuple[str, ...]
    fusion: Fusion
    weights: NDArray[np.float64]
    depth: int
    explain: bool
    filter: str | None = None
    exactness: float = 1.0
    pipeline: Pipeline = field(default_factory=lambda: pipeline(NONE))
    prove: bool = False
    min_score: float | None = None
    weights_from: str = "this search"
    calibration: Calibration | None = None
    min_probability: float | None = None
    full: bool = False  # no dense strand is heard: the sparse ones say all that there is to say

    @property
    def reach(self) -> int:
        """Returns how many candidates each strand proposes."""
        return max(self.depth, self.k, self.fusion.window, self.pipeline.reach)


class Ranked(NamedTuple):
    """The best candidates of one query, in rank order."""

    ranking: Ranking
    rows: NDArray[np.intp]
    proof: Proof | None
    milliseconds: dict[str, float]
    calibration: Calibration | None  # where it knows such queries

    @property
    def positions(self) -> NDArray[np.int64]:
        """Returns the positions of the hits."""
        return self.ranking.positions[self.rows]

    @property
    def fused(self) -> NDArray[np.float64]:
        """Returns the scores of the hits."""
        return self.ranking.fused[self.rows]


def check_numbers(k: int, depth: int, exactness: float, min_score: float | None) -> None:
    """Raises a QueryError where a number of a search is none, or out of range."""
    check_real("exactness", exactness)
    if min_score is not None:
        check_real("min_score", min_score)
    for name, value in (("k", k), ("depth", depth)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise QueryError(f"{name} is how many are wanted: a whole number of at least 1, not {value!r}")
    if not 0 < exactness <= 1:
        raise QueryError(f"exactness lies above 0 and is at most 1, which is exact; not {exactness!r}")
    if min_score is not None and not np.isfinite(min_score):
        raise QueryError(f"min_score is a finite number, not {min_score!r}")


def check_switches(**given: bool) -> None:
    """Raises a QueryError where what is on or off is neither: a text such as "no" would count as on."""
    for name, value in given.items():
        if not isinstance(value, (bool, np.bool_)):
            raise QueryError(f"{name} is True or False, not {value!r}")


def check_fusion(fusion: str, weights: Mapping[str, float] | None, strands: Sequence[str]) -> NDArray[np.float64]:
    """Returns the weights that a fusion takes for these strands.

    Raises:
        QueryError: the fusion is unknown, or a weight is.
    """
    taken = chosen(fusion)
    if weights is None:
        return weights_for(strands, taken.weights_among(strands))
    check_weights(weights)
    for name in weights:
        if name not in taken.weights:
            raise QueryError(f"a weight is given for {name!r}; strands are: {', '.join(taken.weights)}")
    return weights_for(strands, weights)


def search(snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options) -> Iterator[Answer]:
    """Yields the hits of each query."""
    for found in _ranked(snapshot, strands, texts, settings):
        yield _answer(found, settings)


def rankings(
    snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options
) -> Iterator[dict[str, float]]:
    """Yields {document id: fused score} for each query, best first."""
    for found in _ranked(snapshot, strands, texts, settings):
        yield dict(zip(snapshot.ids(found.positions), found.fused.tolist(), strict=True))


def candidates(
    snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options
) -> Iterator[Ranking]:
    """Yields the fused candidates of each query, before any step."""
    for ranking, _took, _clock in _fused(snapshot, strands, texts, settings):
        yield ranking


def _ranked(snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options) -> Iterator[Ranked]:
    for ranking, took, clock in _fused(snapshot, strands, texts, settings):
        yield _settled(ranking, settings, took, clock)


def _fused(
    snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options
) -> Iterator[tuple[Ranking, dict[str, float], _Clock]]:
    check_texts(texts)
    within = None if settings.filter is None else snapshot.select(settings.filter)
    # What a strand proposes last bounds what is unseen only where it missed nothing.
    exactness = 1.0 if settings.prove else settings.exactness
    asked = Search(snapshot, tuple(strands), settings.fusion, settings.reach, within, exactness, exact=settings.prove)
    clock = _Clock()
    encoded = [strand.encode(texts, snapshot, full=settings.full) for strand in strands]
    encoding = clock.lap() / max(len(texts), 1)
    for start in range(0, len(texts), AT_ONCE):
        chunk = [queries[start : start + AT_ONCE] for queries in encoded]
        clock.lap()
        lists = [asked.propose(strand, queries, asked.depth) for strand, queries in zip(strands, chunk, strict=True)]
        proposing = clock.lap() / len(chunk[0])
        for text, queries, hits in zip(
            texts[start : start + AT_ONCE], zip(*chunk, strict=True), zip(*lists, strict=True), strict=True
        ):
            clock.lap()
            ranking = Ranking.of(asked, text, queries, hits, settings.weights)
            took = {"encode": encoding, "propose": proposing, "fuse": clock.lap()}
            yield ranking, took, clock


def check_texts(texts: Sequence[str]) -> None:
    """Raises a QueryError where a query is empty or no text."""
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            which = "the query" if len(texts) == 1 else f"query {number} of {len(texts)}"
            raise QueryError(f"{which} is empty" if isinstance(text, str) else f"{which} is no text: {text!r}")


def _settled(ranking: Ranking, settings: Options, took: dict[str, float], clock: _Clock) -> Ranked:
    """Returns the hits after the steps."""
    calibration, far = _calibration(ranking, settings)
    ranking, proof = settings.pipeline(ranking), None
    if far:
        ranking = replace(ranking, notes={**ranking.notes, "calibration": far})
    if settings.prove:
        ranking, proof = prove(ranking, settings.k)
    rows = ranking.search.snapshot.settle(ranking.fused, ranking.positions, settings.k)
    if settings.min_score is not None:
        rows = rows[ranking.fused[rows] >= settings.min_score]
    if settings.min_probability is not None:  # what no probability is known of has not so much
        least, none = settings.min_probability, rows[:0]
        rows = none if calibration is None else rows[calibration(ranking.fused[rows]) >= least]
    return Ranked(ranking, rows, proof, {**took, "steps": clock.lap()}, calibration)


def _calibration(ranking: Ranking, settings: Options) -> tuple[Calibration | None, dict[str, float]]:
    """Returns the calibration where it knows such queries; where it does not, None and what to tell of that.

    Args:
        ranking: before any step, so that a step which moves the query towards documents does not bring it near them.
        settings: of the search.
    """
    column, held = ranking.column("dense"), settings.calibration
    if held is None or column is None:
        return held, {}
    nearest = float(ranking.candidates.best[column])
    return (held, {}) if held.knows(nearest) else (None, {"nearest": nearest, "floor": held.floor or 0.0})


class _Clock:
    """Milliseconds since it was last asked."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        took, self._last = 1000 * (now - self._last), now
        return took


def _answer(found: Ranked, settings: Options) -> Answer:
    clock, ranking = _Clock(), found.ranking
    hits = _hits(found, settings)
    return Answer(
        hits,
        query=ranking.text,
        fusion=settings.fusion.name,
        weights=dict(zip(ranking.names, ranking.weights.tolist(), strict=True)),
        weights_from=settings.weights_from,
        pipeline=settings.pipeline.name,
        notes=ranking.notes,
        proof=found.proof,
        milliseconds={**found.milliseconds, "read": clock.lap()},
    )


def _hits(found: Ranked, settings: Options) -> list[Hit]:
    ranking = found.ranking
    shared = _matches(found) if settings.explain else [()] * found.rows.size
    sure = [None] * found.rows.size
    if found.calibration is not None:
        sure = found.calibration(found.fused).tolist()
    told = ranking.candidates.ranks[found.rows]
    # Lists, not arrays: numpy takes ten times as long to hand out one number.
    views = zip(
        ranking.candidates.scores[found.rows].tolist(),
        ranking.values[found.rows].tolist(),
        # Ranks are told down to the depth, never to k: a larger k must not change an explanation.
        np.where(told > settings.depth, 0, told).tolist(),
        strict=True,
    )
    names, weights = ranking.names, ranking.weights.tolist()
    rows = ranking.search.snapshot.rows(found.positions.tolist())
    hits = []
    for i, (row, fused, view) in enumerate(zip(rows, found.fused.tolist(), views, strict=True)):
        strands = {
            name: StrandScore(score, value, rank or None, weight)
            for name, weight, score, value, rank in zip(names, weights, *view, strict=True)
        }
        hits.append(
            Hit(
                i + 1, row.id, fused, row.title, row.text, row.metadata, row.parent, row.start, strands, shared[i],
                sure[i],
            )
        )  # fmt: skip
    return hits


def _matches(found: Ranked) -> list[tuple[Match, ...]]:
    search, names = found.ranking.search, found.ranking.names
    asked = list(zip(search.strands, found.ranking.queries, strict=True))
    tables = list(zip(names, matches(search.snapshot, asked, found.positions), strict=True))
    return [tuple([Match(name, *pair) for name, table in tables for pair in table[i]]) for i in range(found.rows.size)]

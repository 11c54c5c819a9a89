"""From a query to ranked hits: propose, score every candidate by every strand, fuse, settle the order, explain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..index import Hits, Snapshot
from .errors import QueryError
from .fusion import Candidates, Fusion, chosen, weights_for
from .hits import Hit, Match, StrandScore
from .strands import Strand

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


class Ranked(NamedTuple):
    """The best candidates of one query, in rank order."""

    positions: NDArray[np.int64]
    fused: NDArray[np.float64]
    candidates: Candidates
    rows: NDArray[np.intp]
    queries: list[Any]


def options(
    k: int,
    strands: Sequence[str],
    fusion: str,
    weights: Mapping[str, float] | None,
    *,
    depth: int,
    explain: bool,
    filter: str | None = None,
    exactness: float = 1.0,
) -> Options:
    """Returns checked settings.

    Raises:
        QueryError: k or depth is below 1, or a fusion or weight is unknown or out of range.
    """
    for name, value in (("k", k), ("depth", depth)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise QueryError(f"{name} is how many are wanted: a whole number of at least 1, not {value!r}")
    if not strands:
        raise QueryError("no strand was named")
    if not 0 < exactness <= 1:
        raise QueryError(f"exactness lies above 0 and is at most 1, which is exact; not {exactness!r}")
    checked = check_fusion(fusion, weights, strands)
    return Options(int(k), tuple(strands), chosen(fusion), checked, int(depth), explain, filter, exactness)


def check_fusion(fusion: str, weights: Mapping[str, float] | None, strands: Sequence[str]) -> NDArray[np.float64]:
    """Returns the weights that a fusion takes for these strands.

    Raises:
        QueryError: the fusion is unknown, or a weight is.
    """
    known = chosen(fusion).weights
    if weights is None:
        return weights_for(strands, known)
    for name in weights:
        if name not in known:
            raise QueryError(f"a weight is given for {name!r}; strands are: {', '.join(known)}")
    return weights_for(strands, weights)


def search(
    snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options
) -> Iterator[list[Hit]]:
    """Yields the hits of each query."""
    for found in _ranked(snapshot, strands, texts, settings):
        yield _hits(snapshot, strands, found, settings)


def rankings(
    snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options
) -> Iterator[dict[str, float]]:
    """Yields {document id: fused score} for each query, best first."""
    for found in _ranked(snapshot, strands, texts, settings):
        yield dict(zip(snapshot.ids(found.positions), found.fused.tolist(), strict=True))


def _ranked(snapshot: Snapshot, strands: Sequence[Strand], texts: Sequence[str], settings: Options) -> Iterator[Ranked]:
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            which = "the query" if len(texts) == 1 else f"query {number} of {len(texts)}"
            raise QueryError(f"{which} is empty" if isinstance(text, str) else f"{which} is no text: {text!r}")
    within = None if settings.filter is None else snapshot.select(settings.filter)
    encoded = [strand.encode(texts, snapshot) for strand in strands]
    depth = max(settings.depth, settings.k)
    for start in range(0, len(texts), AT_ONCE):
        chunk = [queries[start : start + AT_ONCE] for queries in encoded]
        proposed = [
            strand.search(snapshot, queries, depth, within=within, exactness=settings.exactness)
            for strand, queries in zip(strands, chunk, strict=True)
        ]
        for queries, hits in zip(zip(*chunk, strict=True), zip(*proposed, strict=True), strict=True):
            yield _one(snapshot, strands, list(queries), list(hits), settings)


def _one(
    snapshot: Snapshot, strands: Sequence[Strand], queries: list[Any], proposed: list[Hits], settings: Options
) -> Ranked:
    pairs = list(zip(strands, queries, strict=True))
    positions = np.unique(np.concatenate([hits.positions for hits in proposed]))
    least = [strand.least(snapshot, query) for strand, query in pairs]
    candidates = Candidates(
        scores=np.stack([s.scores(snapshot, q, positions) for s, q in pairs], axis=1).astype(np.float64),
        # Ranks count down to the depth, never to k: a larger k must not change a score.
        ranks=np.stack([_ranks(hits.positions[: settings.depth], positions) for hits in proposed], axis=1),
        least=np.array(least),
        best=np.array([float(h.scores[0]) if h.scores.size else low for h, low in zip(proposed, least, strict=True)]),
    )
    fused = settings.fusion.function(candidates, settings.weights)
    rows = snapshot.settle(fused, positions, settings.k)
    return Ranked(positions[rows], fused[rows], candidates, rows, queries)


def _ranks(listed: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns each position's place in a list, from 1; 0 where it is not listed. `positions` is sorted."""
    ranks = np.zeros(positions.size, np.int64)
    ranks[np.searchsorted(positions, listed)] = np.arange(1, listed.size + 1)
    return ranks


def _hits(snapshot: Snapshot, strands: Sequence[Strand], found: Ranked, settings: Options) -> list[Hit]:
    matches = _matches(snapshot, strands, found) if settings.explain else [()] * found.positions.size
    normalised = found.candidates.normalised
    hits = []
    for i, row in enumerate(snapshot.rows(found.positions.tolist())):
        at = found.rows[i]
        views = {
            strand.name: StrandScore(
                score=float(found.candidates.scores[at, column]),
                normalised=float(normalised[at, column]),
                rank=int(found.candidates.ranks[at, column]) or None,
                weight=float(settings.weights[column]),
            )
            for column, strand in enumerate(strands)
        }
        rest = {name: getattr(row, name) for name in ("id", "title", "text", "metadata", "parent", "start")}
        hits.append(Hit(rank=i + 1, score=float(found.fused[i]), strands=views, matches=matches[i], **rest))
    return hits


def _matches(snapshot: Snapshot, strands: Sequence[Strand], found: Ranked) -> list[tuple[Match, ...]]:
    tables = [s.matches(snapshot, q, found.positions) for s, q in zip(strands, found.queries, strict=True)]
    return [
        tuple(Match(strand.name, *pair) for strand, table in zip(strands, tables, strict=True) for pair in table[i])
        for i in range(found.positions.size)
    ]

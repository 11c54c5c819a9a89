"""A query on its way through a pipeline: its candidates, what the strands say of them, and one score for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..index import Hits, Row, Selection, Snapshot
from .errors import QueryError
from .fusion import Fusion
from .normalise import Candidates, Floats
from .strands import Strand

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Search:
    """What stays the same while a query is answered.

    Attributes:
        snapshot: of the index.
        strands: those that take part.
        fusion: how they are combined.
        depth: how many candidates each strand proposes, at least.
        within: only these documents; None for all.
        exactness: of the sparse strands, see `Snapshot.sparse_search`.
        exact: scan every dense vector.
    """

    snapshot: Snapshot
    strands: tuple[Strand, ...]
    fusion: Fusion
    depth: int
    within: Selection | None = None
    exactness: float = 1.0
    exact: bool = False

    def propose(self, strand: Strand, queries: Sequence[Any], depth: int) -> list[Hits]:
        """Returns the strand's own best for each query."""
        return strand.search(
            self.snapshot, queries, depth, within=self.within, exactness=self.exactness, exact=self.exact
        )


@dataclass(frozen=True)
class Ranking:
    """The candidates of one query. Steps of a pipeline take one and return another; none is ever changed.

    Attributes:
        search: what the query is asked of.
        text: the query as it was given.
        queries: each strand's own form of it.
        proposed: each strand's own best, best first.
        weights: float64 (strands,).
        positions: int64 (candidates,), ascending.
        candidates: what the strands say.
        fused: float64 (candidates,), what the candidates are ordered by.
        notes: what the steps tell of themselves, by step, for an explanation.
        plain: whether `fused` is the fusion's own; False after a step has given other scores.
    """

    search: Search
    text: str
    queries: tuple[Any, ...]
    proposed: tuple[Hits, ...]
    weights: Floats
    positions: NDArray[np.int64]
    candidates: Candidates
    fused: Floats
    notes: dict[str, Any] = field(default_factory=dict)
    plain: bool = True

    @classmethod
    def of(
        cls,
        search: Search,
        text: str,
        queries: Sequence[Any],
        proposed: Sequence[Hits],
        weights: Floats,
        notes: dict[str, Any] | None = None,
        older: Ranking | None = None,
    ) -> Ranking:
        """Returns the fused ranking of everything that the strands propose, and of the candidates of an older one.

        A strand scores what it has not proposed itself; what the older one knows of the same query stays.

        Raises:
            QueryError: a score is no number: the query's vector is not.
        """
        listed = [hits.positions for hits in proposed]
        positions = _distinct(np.concatenate([*listed, *([] if older is None else [older.positions])]))
        candidates = _candidates(search, queries, proposed, positions, older)
        values = search.fusion.values(candidates)
        fused = _finite(search.fusion.combine(values, candidates, weights), search)
        made = cls(
            search, text, tuple(queries), tuple(proposed), weights, positions, candidates, fused, dict(notes or {})
        )
        vars(made)["values"] = values  # what the property would compute once more
        return made

    def asked(self, queries: Sequence[Any], **notes: Any) -> Ranking:
        """Returns the ranking of other queries: strands whose query changed propose anew, and everything is scored.

        What was a candidate stays one.
        """
        search = self.search
        proposed = [
            hits if new is old else search.propose(strand, [new], search.depth)[0]
            for strand, new, old, hits in zip(search.strands, queries, self.queries, self.proposed, strict=True)
        ]
        return Ranking.of(search, self.text, queries, proposed, self.weights, {**self.notes, **notes}, self)

    def widened(self, positions: NDArray[np.int64]) -> Ranking:
        """Returns the ranking with more candidates, scored and fused as those that are there.

        Args:
            positions: int64, of documents that the search may find; those that are candidates already change nothing.
        """
        every = _distinct(np.concatenate([self.positions, positions]))
        if every.size == self.positions.size:
            return self
        candidates = _candidates(self.search, self.queries, self.proposed, every, self)
        fused = self.search.fusion(candidates, self.weights)
        return replace(self, positions=every, candidates=candidates, fused=fused)

    def weighed(self, weights: Floats, **notes: Any) -> Ranking:
        """Returns the ranking by other weights of the strands."""
        fused = _finite(self.search.fusion.combine(self.values, self.candidates, weights), self.search)
        made = replace(self, weights=weights, fused=fused, notes={**self.notes, **notes}, plain=True)
        vars(made)["values"] = self.values  # weights come after them
        return made

    def scored(self, fused: Floats, **notes: Any) -> Ranking:
        """Returns the same candidates with other scores."""
        return replace(self, fused=np.asarray(fused, np.float64), notes={**self.notes, **notes}, plain=False)

    def placed(self, rows: NDArray[np.intp], scores: Floats, **notes: Any) -> Ranking:
        """Returns the ranking in which some candidates come first, by other scores, and the others below as before.

        The others keep their order; their scores become `min(scores) - 1 + x / (1 + |x|)`, a matter of their own score
        x alone: how many candidates there are must not move a score.

        Args:
            rows: which candidates.
            scores: float64 (rows,), their new scores.
            notes: what to tell of it.
        """
        if not rows.size:
            return self.scored(self.fused, **notes)
        fused = float(np.min(scores)) - 1.0 + self.fused / (1.0 + np.abs(self.fused))
        fused[rows] = scores
        return self.scored(fused, **notes)

    def top(self, count: int) -> NDArray[np.intp]:
        """Returns the rows of the best candidates, in rank order, the same ones whatever k and depth are.

        Only candidates that some strand has among its own first `count` are taken, for those are always there.
        """
        ranks = self.candidates.ranks
        near = np.flatnonzero(((ranks > 0) & (ranks <= count)).any(axis=1))
        return near[self.search.snapshot.settle(self.fused[near], self.positions[near], count)]

    # What candidates are

    @cached_property
    def values(self) -> Floats:
        """The strands' scores as they are combined, float64 (candidates, strands)."""
        return self.search.fusion.values(self.candidates)

    @property
    def names(self) -> tuple[str, ...]:
        """The strands' names."""
        return tuple(strand.name for strand in self.search.strands)

    def column(self, strand: str) -> int | None:
        """Returns the column of a strand; None where it takes no part."""
        return self.names.index(strand) if strand in self.names else None

    def dense_vectors(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Returns the stored vectors of candidates, float32 (rows, dim); (rows, 0) in an index without a dense strand.

        They are there also where the dense strand takes no part in this search.
        """
        return self.search.snapshot.dense_vectors(self.positions[rows])

    def sparse_vectors(self, strand: Any, rows: NDArray[np.intp]) -> tuple[csr_matrix, NDArray[np.uint32]]:
        """Returns the stored weights (or counts) of candidates and the terms of the columns."""
        return self.search.snapshot.sparse_vectors(strand, self.positions[rows])

    def lengths(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Returns the lengths of candidates in words."""
        return self.search.snapshot.lengths(self.positions[rows])

    def documents(self, rows: NDArray[np.intp]) -> list[Row]:
        """Returns candidates as they are stored: id, title, text, metadata."""
        return self.search.snapshot.rows(self.positions[rows].tolist())


def _finite(fused: Floats, search: Search) -> Floats:
    """Returns fused scores, if they are numbers that can be compared; else an option is beyond all measure."""
    if not np.isfinite(fused).all():
        raise QueryError(f"the fusion {search.fusion.name!r} makes scores that are no finite numbers: see its options")
    return fused


def _candidates(
    search: Search,
    queries: Sequence[Any],
    proposed: Sequence[Hits],
    positions: NDArray[np.int64],
    older: Ranking | None,
) -> Candidates:
    snapshot, pairs = search.snapshot, list(zip(search.strands, queries, strict=True))
    bounds = np.array([strand.bounds(snapshot, query) for strand, query in pairs], np.float64)
    places = [np.searchsorted(positions, hits.positions) for hits in proposed]
    scores = np.empty((positions.size, len(pairs)))
    for column, (strand, query) in enumerate(pairs):
        at, known = places[column], proposed[column].scores
        if older is not None and query is older.queries[column]:
            at, known = np.searchsorted(positions, older.positions), older.candidates.scores[:, column]
        fresh = np.ones(positions.size, bool)
        fresh[at] = False
        scores[at, column] = known
        scores[fresh, column] = strand.scores(snapshot, query, positions[fresh])
    if not np.isfinite(scores).all():
        names = [s.name for s, column in zip(search.strands, scores.T, strict=True) if not np.isfinite(column).all()]
        raise QueryError(f"the {' and '.join(names)} strand scores this query with what is no number")
    window = search.fusion.window
    return Candidates(
        scores=scores,
        ranks=_ranks(places, positions.size),
        least=bounds[:, 0],
        best=np.array(
            [float(h.scores[0]) if h.scores.size else b for h, b in zip(proposed, bounds[:, 0], strict=True)]
        ),
        most=bounds[:, 1],
        norms=bounds[:, 2],
        windows=_windows(search, proposed, bounds[:, 0]) if window else (),
        strands=tuple(strand.name for strand in search.strands),
    )


def _windows(search: Search, proposed: Sequence[Hits], least: Floats) -> tuple[Floats, ...]:
    """Returns each strand's best scores of all documents that may be found: those that match nothing have its least."""
    findable = search.snapshot.documents if search.within is None else search.within.count
    size, windows = min(search.fusion.window, findable), []
    for strand, hits, low in zip(search.strands, proposed, least.tolist(), strict=True):
        held = hits.scores[: search.fusion.window].astype(np.float64)
        lacking = 0 if strand.complete else max(0, size - held.size)
        windows.append(np.append(held, np.full(lacking, low)))
    return tuple(windows)


def _distinct(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns positions ascending, each once: `np.unique`, which hashes first and takes four times as long here."""
    ordered = np.sort(positions)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if ordered.size else ordered


def _ranks(places: Sequence[NDArray[np.intp]], size: int) -> NDArray[np.int64]:
    """Returns each candidate's place in each list, int64 (size, lists), from 1; 0 where it is not listed.

    Args:
        places: of each list, the rows of its candidates, best first.
        size: how many candidates there are.
    """
    ranks = np.zeros((size, len(places)), np.int64)
    for column, rows in enumerate(places):
        ranks[rows, column] = np.arange(1, rows.size + 1)
    return ranks

"""Judged queries with what the strands say of their candidates: searched once, then ranked by any weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..index.ranking import id_ranks
from ..retriever.fusion import CONVEX, chosen
from .contract import EvalError, Qrels
from .gains import Floats, Measure
from .own import own_in_index

if TYPE_CHECKING:
    from ..retriever import Ranking, Retriever

FEW = 5  # judged queries; with fewer there is nothing to choose by
DEPTH = 200
_CELLS = 1 << 22  # comparisons held at a time


@dataclass(frozen=True)
class JudgedQuery:
    """A query's candidates, in descending order of their ids, so that of equal scores the earlier row comes first.

    Attributes:
        query: its id.
        text: the query.
        values: normalised scores, float64 (candidates, strands).
        fused: scores as the index fuses them now, or as the fusion does that was asked for, float64 (candidates,).
        relevance: of each candidate, int64 (candidates,); 0 where it is not judged.
        judged: relevance by document id, of all judged documents.
        features: what a ranker learns from, float64 (candidates, features); empty where nobody asked.
        ids: of the candidates.
    """

    query: str
    text: str
    values: Floats
    fused: Floats
    relevance: NDArray[np.int64]
    judged: Mapping[str, int]
    features: Floats = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    ids: tuple[str, ...] = field(default=(), repr=False)

    def ranks(self, scores: Floats) -> NDArray[np.int64]:
        """Returns the ranks of relevant candidates, from 1, int64 (relevant, rankings).

        Args:
            scores: float64 (candidates, rankings).
        """
        rows = np.flatnonzero(self.relevance > 0)
        ranks = np.empty((rows.size, scores.shape[1]), np.int64)
        for place, row in enumerate(rows.tolist()):
            ahead = (scores[:row] >= scores[row]).sum(axis=0) + (scores[row + 1 :] > scores[row]).sum(axis=0)
            ranks[place] = ahead + 1
        return ranks

    def gains(self, scores: Floats, measure: Measure) -> Floats:
        """Returns the measure of each ranking, float64 (rankings,)."""
        grades = self.relevance[self.relevance > 0].astype(np.float64)
        return measure.of(self.ranks(scores), self.judged, grades)


@dataclass(frozen=True)
class Judged:
    """Judged queries of an index.

    Attributes:
        queries: one a judged query that has a text.
        strands: the columns of their values.
        depth: how many candidates each strand proposed.
        unknown: judged relevant documents that the index does not hold.
        source: where the judgements came from: "qrels", "log" or "pseudo".
        fusion: whose values they are.
        names: of the features.
    """

    queries: tuple[JudgedQuery, ...]
    strands: tuple[str, ...]
    depth: int = DEPTH
    unknown: int = 0
    source: str = "qrels"
    fusion: str = CONVEX
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Returns the number of queries."""
        return len(self.queries)

    def part(self, rows: Iterable[int]) -> Judged:
        """Returns some of the queries."""
        return replace(self, queries=tuple(self.queries[row] for row in rows))

    def table(self, weights: Floats, measure: Measure) -> Floats:
        """Returns the measure of every query by every weighting, float64 (queries, weightings).

        Args:
            weights: float64 (weightings, strands), rows summing to 1.
            measure: what is measured.
        """
        return np.stack([self._row(query, weights, measure) for query in self.queries])

    def likelihood(self, weights: Floats, temperatures: Floats) -> NDArray[np.float32]:
        """Returns how likely each query's relevant candidates are to be chosen, by weighting and temperature.

        The logarithm of a softmax over the candidates' scores (Luce 1959; ListNet, Cao et al. 2007), mean over the
        relevant candidates, by grade; 0 for a query without any. Unlike a measure it says by how much a document is
        ahead, so that it tells weightings apart by far fewer queries.

        Args:
            weights: float64 (weightings, strands), rows summing to 1.
            temperatures: float64 (temperatures,), above 0; scores are divided by them.

        Returns:
            float32 (queries, temperatures, weightings).
        """
        found = np.zeros((len(self), len(temperatures), len(weights)), np.float32)
        for query, row in zip(self.queries, found, strict=True):
            if not (query.relevance > 0).any():
                continue
            step = max(1, _CELLS // max(len(query.values), 1))
            for start in range(0, len(weights), step):
                row[:, start : start + step] = _chosen(query, weights[start : start + step], temperatures)
        return found

    def spread(self, weights: Floats) -> float:
        """Returns the standard deviation of candidates by some weights, mean over queries; 1 where all are alike.

        Args:
            weights: float64 (strands,).
        """
        found = [float(np.std(_mixed(query.values, weights[None]))) for query in self.queries if len(query.values)]
        return float(np.mean(found)) if found and max(found) > 0 else 1.0

    def present(self, measure: Measure) -> Floats:
        """Returns the measure of every query as the index ranks now, before any step, float64 (queries,)."""
        scored = (query.gains(query.fused[:, None], measure)[0] for query in self.queries)
        return np.fromiter(scored, np.float64, len(self.queries))

    def _row(self, query: JudgedQuery, weights: Floats, measure: Measure) -> Floats:
        if not (query.relevance > 0).any():
            return np.zeros(len(weights))
        step = max(1, _CELLS // max(len(query.values), 1))
        parts = [weights[start : start + step] for start in range(0, len(weights), step)]
        return np.concatenate([query.gains(_mixed(query.values, part), measure) for part in parts])


def _mixed(values: Floats, weights: Floats) -> Floats:
    """Returns the convex fusion by many weights, float64 (candidates, weightings).

    Strands are added one after the other: BLAS would round equal rows differently at its blocks' edges, and break ties.
    """
    total = values[:, :1] * weights[:, 0]
    for column in range(1, values.shape[1]):
        total += values[:, column : column + 1] * weights[:, column]
    return total


def _chosen(query: JudgedQuery, weights: Floats, temperatures: Floats) -> Floats:
    """Returns what `Judged.likelihood` does, of one query, float64 (temperatures, weightings)."""
    rows = np.flatnonzero(query.relevance > 0)
    grades = query.relevance[rows] / query.relevance[rows].sum()
    scores = _mixed(query.values, weights)
    scores -= scores.max(axis=0)
    relevant = grades @ scores[rows]
    held = scores.astype(np.float32)
    return np.stack([relevant / t - np.log(np.exp(held / np.float32(t)).sum(axis=0)) for t in temperatures.tolist()])


def judge(
    retriever: Retriever,
    queries: Mapping[str, str],
    qrels: Qrels,
    *,
    depth: int = DEPTH,
    source: str = "qrels",
    look: Callable[[Ranking], Floats] | None = None,
    names: Sequence[str] = (),
    least: int = FEW,
    fusion: str | None = None,
    steps: Callable[[Ranking], Ranking] | None = None,
    on_query: Callable[[int], None] | None = None,
) -> Judged:
    """Returns judged queries with the candidates that an index finds for them.

    Args:
        retriever: the index.
        queries: text by query id; those without judgements are left out.
        qrels: judgements; those of queries without a text, and queries without a relevant document, are left out.
        depth: how many candidates each strand proposes.
        source: where the judgements come from.
        look: what a ranker learns from: features of a ranking's candidates, in the order of its positions.
        names: of these features.
        least: how many judged queries there must be.
        fusion: a convex fusion whose candidates and values are taken, and by which they are fused; None for the index's
            own. Where that is not convex, candidates and values are of plait's, so that what is chosen by them does not
            depend on it, and they are fused by the index's own; with a look or steps they are those of its searches.
        steps: of a pipeline, taken before candidates are looked at; None for none.
        on_query: told of every query that is done.

    Raises:
        EvalError: a grade or the depth is no whole number, queries and qrels do not overlap, too few queries are
            judged, or the judged documents are not those of this index.
    """
    if isinstance(depth, bool) or not isinstance(depth, (int, np.integer)) or depth < 1:
        raise EvalError(
            f"depth is how many candidates each strand proposes: a whole number of at least 1, not {depth!r}"
        )
    check_grades(qrels)
    shared = [query for query, judged in qrels.items() if query in queries and any(g > 0 for g in judged.values())]
    _check(queries, qrels, shared, least)
    given, kept = fusion, str(fusion or retriever.info()["fusion"])
    fusion = kept if chosen(kept).convex else CONVEX
    found: list[JudgedQuery] = []
    own = own_in_index(retriever, queries, {query: qrels[query] for query in shared})
    texts = [queries[query] for query in shared]
    rankings = retriever.candidates(texts, depth=depth, fusion=given)
    if fusion != kept and look is None and steps is None:
        rankings = map(_fused_as, retriever.candidates(texts, depth=depth, fusion=fusion), rankings)
    for query, ranking in zip(shared, rankings, strict=True):
        taken = ranking if steps is None else steps(ranking)
        found.append(_of(query, taken, qrels[query], fusion, look, dropped={query} & own))
        if on_query is not None:
            on_query(1)
    relevant = {document for query in shared for document, grade in qrels[query].items() if grade > 0}
    unknown = [document for document in sorted(relevant) if document not in retriever]
    if len(unknown) == len(relevant):
        raise EvalError(
            f"none of the {len(relevant):,} documents judged relevant is in the index, as {unknown[0]!r}; "
            "are these the qrels of another collection?"
        )
    return Judged(tuple(found), retriever.strands, depth, len(unknown), source, fusion, tuple(names))


def _fused_as(ranking: Ranking, other: Ranking) -> Ranking:
    """Returns a ranking with the fused scores that its candidates have in another of the same query."""
    whole = other.widened(ranking.positions)
    return ranking.scored(whole.fused[np.searchsorted(whole.positions, ranking.positions)])


def check_grades(qrels: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that all judgements are whole numbers.

    Raises:
        EvalError: one is not, as .5, which would count as 0.
    """
    for query, judged in qrels.items():
        for document, grade in judged.items():
            if not isinstance(grade, Real) or grade != grade // 1:  # NaN and infinity are not equal to theirs
                raise EvalError(f"grades are whole numbers; that of {document!r} for the query {query!r} is {grade!r}")


def _check(queries: Mapping[str, str], qrels: Qrels, shared: Sequence[Any], least: int) -> None:
    if not set(queries) & set(qrels):
        raise EvalError(
            f"none of the {len(qrels):,} judged queries is among the {len(queries):,} queries, as "
            f"{next(iter(qrels), None)!r} and {next(iter(queries), None)!r}: do queries and qrels belong together?"
        )
    if len(shared) < least:
        raise EvalError(
            f"{len(shared)} queries have a document judged relevant; at least {least} are needed, and 30 say much more"
        )


def _of(
    query: str,
    ranking: Ranking,
    judged: Mapping[str, int],
    fusion: str,
    look: Callable[[Ranking], Floats] | None,
    *,
    dropped: Collection[str],
) -> JudgedQuery:
    """Returns a judged query with its candidates, without the document that it is itself, if any."""
    ids = ranking.search.snapshot.ids(ranking.positions)
    order = np.argsort(-id_ranks(ids).astype(np.int64), kind="stable")
    order = order[np.array([ids[row] not in dropped for row in order.tolist()], bool)]
    kept = tuple(ids[row] for row in order.tolist())
    relevance = np.array([judged.get(id, 0) for id in kept], np.int64)
    values = chosen(fusion).values(ranking.candidates)[order]
    features = np.empty((0, 0)) if look is None else look(ranking)[order]
    return JudgedQuery(query, ranking.text, values, ranking.fused[order], relevance, judged, features, kept)

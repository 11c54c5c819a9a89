"""Feedback: the query moves towards the documents that came first, and everything is scored again.

Vector feedback is Rocchio's (1971; Li et al. 2022, arXiv 2205.00235, on when to interpolate): towards the mean of what
is taken for relevant, away from the mean of what is not, for which the whole collection stands, since nearly all of it
answers something else. Without the second part, documents that lie near everything, which Radovanovic et al. (2010)
call hubs, gain by every movement. The sparse form puts the weightiest terms of the feedback documents beside the
query's own, which gives an inference-free query an expansion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import QueryError
from .limits import weighing, within
from .ranking import Ranking
from .strands import Dense, Sparse, SparseQuery

SOURCES = ("fused", "own", "both")
# Lexical terms to a word of text: .66 to .75 in English collections, the rest are stop words.
TERMS_A_WORD = 2 / 3
FEW = 100  # documents; of so many the best are still much of the mean, which therefore counts half
MOST_WORDS = 10_000  # that are counted of a text: a longer one would be trusted hardly more


def feedback(
    ranking: Ranking,
    *,
    documents: int = 2,
    dense: float = 1.5,
    away: float = 0.5,
    learned: float = 0.0,
    lexical: float = 0.0,
    terms: int = 20,
    source: str = "fused",
    length: float = 200.0,
    floor: float = 0.0,
) -> Ranking:
    """Returns the ranking of the query that has moved towards its best documents.

    Everything is scored and fused anew: of steps before it remains which documents they put first.

    Args:
        ranking: what was found so far.
        documents: how many of the best count as relevant.
        dense: how much their mean vector weighs beside the query's; 0 leaves the dense query as it is.
        away: how much the mean vector of all N documents of the index weighs against the query, whatever the filter;
            it is multiplied by N / (N + 100), as the mean of few documents is not yet that of what is not relevant.
        learned: how much their terms weigh beside the query's in the learned strand (Rocchio on stored impacts).
        lexical: the same in the lexical strand, where a term weighs its mean share of the documents' words, times IDF
            (RM3, but that all documents weigh alike).
        terms: how many terms a sparse query takes from them.
        source: which documents: the best of the fused ranking ("fused": strands are interpolated before feedback),
            each strand's own best ("own": interpolated after), or those of both lists ("both").
        length: the drift guard. A short document says little beside the query: weights are multiplied by
            L / (L + length), L being the documents' mean length in lexical terms, in an index without that strand two
            thirds of their words; 0 switches it off.
        floor: no dense feedback from documents whose mean similarity to the query is below it.
    """
    if source not in SOURCES:
        raise QueryError(f"feedback takes its documents from {', '.join(SOURCES)}, not {source!r}")
    within("feedback", 1, documents=documents, terms=terms)
    weighing("feedback", dense=dense, away=away, learned=learned, lexical=lexical)
    within("feedback", 0, length=length)
    within("feedback", -1, floor=floor)
    best = ranking.top(documents)
    away *= ranking.search.snapshot.documents / (ranking.search.snapshot.documents + FEW)
    weights, told, queries, fed = {"dense": dense, "learned": learned, "lexical": lexical}, {}, [], {}
    for column, (strand, query) in enumerate(zip(ranking.search.strands, ranking.queries, strict=True)):
        rows = _rows(ranking, best, column, documents, source)
        # A neighbour's terms are not stored here, so its query stays as it is.
        weight = weights.get(strand.name, 0.0)
        weight *= _trust(ranking, rows, length) if weight else 0.0
        if not weight or not rows.size:
            queries.append(query)
        elif isinstance(strand, Dense):
            near = ranking.candidates.scores[rows, column].mean() >= floor
            queries.append(_moved(ranking, query, rows, weight, away) if near else query)
        else:
            queries.append(_expanded(ranking, strand, query, rows, weight, terms))  # pyright: ignore[reportArgumentType]
        told[strand.name] = weight if queries[-1] is not query else 0.0
        if told[strand.name]:
            fed[strand.name] = ranking.search.snapshot.ids(ranking.positions[rows])
    told_away = away if told.get("dense") else 0.0
    return ranking.asked(queries, feedback={"documents": _told(ranking, best, fed), "weights": told, "away": told_away})


def _told(ranking: Ranking, best: NDArray[np.intp], fed: Mapping[str, list[str]]) -> Any:
    """Returns the ids of the feedback documents; by strand where strands were fed different ones."""
    alike = all(ids == next(iter(fed.values())) for ids in fed.values())
    return (next(iter(fed.values()), None) or ranking.search.snapshot.ids(ranking.positions[best])) if alike else fed


def _rows(ranking: Ranking, best: NDArray[np.intp], column: int, documents: int, source: str) -> NDArray[np.intp]:
    ranks = ranking.candidates.ranks[:, column]
    own = np.flatnonzero((ranks > 0) & (ranks <= documents))
    return {"fused": best, "own": own, "both": np.union1d(best, own)}[source]


def _trust(ranking: Ranking, rows: NDArray[np.intp], length: float) -> float:
    """Returns the share of a weight that documents of their length deserve."""
    if not length or not rows.size:
        return 1.0
    mean = float(_lengths(ranking, rows).mean())
    return mean / (mean + length)


def _lengths(ranking: Ranking, rows: NDArray[np.intp]) -> NDArray[np.floating] | NDArray[np.integer]:
    """Returns the documents' lengths in lexical terms; where the index stores none, about what they would be."""
    if ranking.search.snapshot.tokens:
        return ranking.lengths(rows)
    from .passages import word_spans

    texts = _texts(ranking, rows)
    return np.array([sum(1 for _ in islice(word_spans(text), MOST_WORDS)) for text in texts]) * TERMS_A_WORD


def _texts(ranking: Ranking, rows: NDArray[np.intp]) -> list[str]:
    return [f"{document.title} {document.text}" for document in ranking.documents(rows)]


def _moved(
    ranking: Ranking, query: NDArray[np.float32], rows: NDArray[np.intp], weight: float, away: float
) -> NDArray[np.float32]:
    """Returns (query + weight x mean of the documents - away x mean of all) / (1 + weight)."""
    moved = query + np.float32(weight) * ranking.dense_vectors(rows).mean(axis=0)
    if away:
        moved = moved - np.float32(away) * ranking.search.snapshot.mean_vector
    return (moved / np.float32(1 + weight)).astype(np.float32)


def _expanded(
    ranking: Ranking, strand: Sparse, query: SparseQuery, rows: NDArray[np.intp], weight: float, terms: int
) -> SparseQuery:
    """Returns the query with the documents' weightiest terms; theirs and its own have largest weights 1 to `weight`."""
    snapshot = ranking.search.snapshot
    values, known = ranking.sparse_vectors(strand.name, rows)
    if not known.size or not query.terms.size:
        return query
    if strand.name == "lexical":
        values = values.multiply(1.0 / np.maximum(ranking.lengths(rows), 1)[:, None]).tocsr()
    found = np.asarray(values.mean(axis=0)).ravel()
    if strand.identity.query_weights == "idf":
        found = found * snapshot.idf(known)
    kept = np.sort(np.argsort(-found, kind="stable")[:terms])
    kept = kept[found[kept] > 0]
    if not kept.size:
        return query
    scale = weight * float(query.weights.max()) / float(found[kept].max())
    joined, places = np.unique(np.concatenate([query.terms, known[kept]]), return_inverse=True)
    weights = np.zeros(joined.size)
    np.add.at(weights, places, np.concatenate([query.weights, found[kept] * scale]) / (1 + weight))
    names = _Names(query.names, lambda: strand.readable(snapshot, known[kept], _texts(ranking, rows)))
    return SparseQuery(joined.astype(np.uint32), weights.astype(np.float32), names)


class _Names(dict[int, str]):
    """The names of a query's terms; those that feedback added are looked up when somebody reads one of them."""

    def __init__(self, own: Mapping[int, str], look_up: Callable[[], Mapping[int, str]]) -> None:
        super().__init__(own)
        self._own, self._look_up = own, cache(look_up)

    def __missing__(self, term: int) -> str:
        found = self._look_up()
        with suppress(KeyError):  # `_own` may look up names of an earlier feedback
            return found[term] if term in found else self._own[term]
        return f"#{term}"

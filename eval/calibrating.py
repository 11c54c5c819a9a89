"""Calibration of fused scores: how probably a document with this score is relevant, fitted on judged queries.

Documents that nobody judged count as not relevant, so probabilities are those of being *judged* relevant: where
judgements are few, they are too low, and their order is still right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..retriever.calibration import Calibration, fitted_for
from .contract import EvalError, Qrels, Run
from .gains import Floats
from .judged import FEW, check_grades
from .own import own_in_index, without_own
from .statistics import check_folds, check_seed

if TYPE_CHECKING:
    from ..retriever import Retriever

DEPTH = 100  # hits of each query
NEAR = 10  # hits that a person looks at; their errors are told apart
LEAST = 10  # pairs that share a probability, at least
MOST = 1000  # groups of equally many pairs, at most
POINTS = 65  # of a sigmoid
BINS = 10  # of a reliability diagram
FAR = 0.05  # of judged queries: those farthest from all documents, and what is as far is told no probability

Bin = tuple[float, float, int]
Points = tuple[Floats, Floats]


class Pairs(NamedTuple):
    """Hits of judged queries, query after query.

    Attributes:
        scores: float64 (hits,).
        relevant: float64 (hits,), 1 or 0.
        query: the number of each hit's query, int64 (hits,).
        rank: from 1, int64 (hits,).
    """

    scores: Floats
    relevant: Floats
    query: NDArray[np.int64]
    rank: NDArray[np.int64]

    def where(self, rows: NDArray[np.bool_]) -> Pairs:
        """Returns some of the hits."""
        return Pairs(self.scores[rows], self.relevant[rows], self.query[rows], self.rank[rows])


@dataclass(frozen=True)
class Reliability:
    """How far probabilities can be relied on, measured on queries that had no say in them.

    Attributes:
        error: expected calibration error: mean of |predicted - observed| over ten bins, by their counts.
        brier: mean of (predicted - relevant)^2.
        base: the Brier score of always predicting the share of relevant hits.
        bins: (mean of the predicted, observed share, count) of each bin that is not empty.
        hits: how many pairs.
    """

    error: float
    brier: float
    base: float
    bins: tuple[Bin, ...]
    hits: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "expected_calibration_error": self.error, "brier": self.brier, "brier_of_the_mean": self.base,
            "hits": self.hits, "bins": [list(each) for each in self.bins],
        }  # fmt: skip


@dataclass(frozen=True)
class Calibrated:
    """A calibration and what it is worth.

    Attributes:
        calibration: fitted on all queries.
        all: cross-validated, over the first 100 hits of each query.
        near: the same over the first 10.
        queries: how many.
    """

    calibration: Calibration
    all: Reliability
    near: Reliability
    queries: int

    @property
    def better(self) -> bool:
        """Whether it says more of the first 10 hits of queries that had no say in it than their mean does."""
        return self.near.brier < self.near.base

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "kind": self.calibration.kind, "source": self.calibration.source, "queries": self.queries,
            "first_100": self.all.to_json(), "first_10": self.near.to_json(),
            "calibration": self.calibration.to_json(),
        }  # fmt: skip


def isotonic(scores: Floats, relevant: Floats) -> Points:
    """Returns the never-falling step function of least squared error, as points (pool adjacent violators).

    Equal scores, and groups of at least ten neighbours, share a probability, so that one lucky hit at the very top is
    no certainty.

    Args:
        scores: float64 (pairs,).
        relevant: 1 or 0, float64 (pairs,).
    """
    order = np.argsort(scores, kind="stable")
    ordered, hits = scores[order], relevant[order]
    starts = _groups(ordered)
    counts = np.diff(np.append(starts, ordered.size)).astype(np.float64)
    level, size = pooled(np.add.reduceat(hits, starts) / counts, counts)
    ends = np.cumsum(size).astype(np.int64)
    lows, highs = ordered[ends - size.astype(np.int64)], ordered[ends - 1]
    return np.stack([lows, highs], axis=1).ravel(), np.repeat(level, 2)


def pooled(values: Floats, weights: Floats) -> Points:
    """Returns the levels of the isotonic regression of values in order, and the weight of each (Barlow et al. 1972)."""
    levels: list[float] = []
    sizes: list[float] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        while levels and levels[-1] >= value:
            before, size = levels.pop(), sizes.pop()
            value = (before * size + value * weight) / (size + weight)
            weight += size
        levels.append(value)
        sizes.append(weight)
    return np.array(levels), np.array(sizes)


def platt(scores: Floats, relevant: Floats) -> Points:
    """Returns points of 1 / (1 + exp(-(a + b * score))), fitted by Newton's method to smoothed targets (Platt 1999)."""
    positive = relevant.sum()
    targets = np.where(relevant > 0, (positive + 1) / (positive + 2), 1 / (relevant.size - positive + 2))
    low, span = float(scores.min()), float(np.ptp(scores)) or 1.0
    weights = logistic(np.stack([np.ones(scores.size), (scores - low) / span], axis=1), targets, np.zeros(2))
    at = np.linspace(0, 1, POINTS)
    level = sigmoid(weights[0] + max(weights[1], 0.0) * at)
    return low + at * span, level


def logistic(rows: Floats, targets: Floats, ridge: Floats, *, steps: int = 100) -> Floats:
    """Returns the weights of a logistic regression with an L2 penalty, by Newton's method with halved steps.

    Args:
        rows: float64 (examples, features).
        targets: on [0, 1], float64 (examples,).
        ridge: what each squared weight costs, half of it, float64 (features,).
        steps: at most.
    """
    weights = np.zeros(rows.shape[1])
    loss = _loss(rows, targets, ridge, weights)
    for _ in range(steps):
        chance = sigmoid(rows @ weights)
        slope = rows.T @ (chance - targets) + ridge * weights
        bend = (rows.T * (chance * (1 - chance))) @ rows + np.diag(ridge + 1e-9)
        step = np.linalg.solve(bend, slope)
        scale = 1.0
        while (tried := _loss(rows, targets, ridge, weights - scale * step)) > loss and scale > 1e-6:
            scale /= 2
        weights, gained, loss = weights - scale * step, loss - tried, tried
        if gained <= 1e-9 * max(1.0, abs(loss)):
            break
    return weights


def sigmoid(values: Floats) -> Floats:
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-np.clip(values, -700, 700)))


def _loss(rows: Floats, targets: Floats, ridge: Floats, weights: Floats) -> float:
    at = rows @ weights
    return float((np.logaddexp(0, at) - targets * at).sum() + 0.5 * (ridge * weights**2).sum())


KINDS: dict[str, Callable[[Floats, Floats], Points]] = {"isotonic": isotonic, "platt": platt}


def pairs_of(run: Run, qrels: Qrels) -> Pairs:
    """Returns the hits of a run with what is known of them."""
    rows: list[tuple[float, float, int, int]] = []
    for number, (query, hits) in enumerate(run.items()):
        judged = qrels.get(query, {})
        for rank, (document, score) in enumerate(hits.items(), 1):
            rows.append((score, float(judged.get(document, 0) > 0), number, rank))
    scores, relevant, query, rank = np.array(rows, np.float64).reshape(-1, 4).T
    return Pairs(scores, relevant, query.astype(np.int64), rank.astype(np.int64))


def calibrate(
    retriever: Retriever,
    queries: Mapping[str, str],
    qrels: Qrels,
    *,
    kind: str = "isotonic",
    source: str = "qrels",
    folds: int = 5,
    seed: int = 0,
) -> Calibrated:
    """Returns a calibration of the scores that the index's searches give now, its steps included.

    Args:
        retriever: the index.
        queries: text by query id.
        qrels: their judgements.
        kind: "isotonic" or "platt".
        source: where the judgements come from, for people.
        folds: of the cross-validation, which leaves out whole queries.
        seed: of the folds.

    Raises:
        EvalError: an unknown kind, a grade that is no whole number, a seed below 0, fewer than two folds, fewer than
            five judged queries, fewer than two of them with hits, or no relevant document among these.
    """
    check_folds(folds)
    check_seed(seed)
    check_grades(qrels)
    if kind not in KINDS:
        raise EvalError(f"no calibration {kind!r}; there are: {', '.join(KINDS)}")
    asked = {query: queries[query] for query in qrels if query in queries and any(g > 0 for g in qrels[query].values())}
    if len(asked) < FEW:
        raise EvalError(f"{len(asked)} queries are judged and have a text; a calibration needs at least {FEW}")
    own = own_in_index(retriever, asked, qrels)
    pairs = pairs_of(without_own(retriever.run(asked, DEPTH), own), qrels)
    if not pairs.relevant.any() or pairs.relevant.all():
        what = "no hit is" if not pairs.relevant.any() else "every hit is"
        raise EvalError(f"{what} judged relevant: there is nothing to tell apart; are these the index's qrels?")
    if np.unique(pairs.query).size < 2:
        raise EvalError("only one judged query has hits; a calibration needs at least two judged queries with hits")
    facts = retriever.info()
    scores, levels = KINDS[kind](pairs.scores, pairs.relevant)
    told = f"{source}: {len(asked):,} queries, {int(pairs.relevant.sum()):,} relevant of {pairs.scores.size:,} hits"
    made = Calibration(
        tuple(scores.tolist()), tuple(levels.tolist()), kind, f"{told}; not judged counts as not relevant",
        fitted_for(facts), _floor(retriever, asked, own) if facts["weights"].get("dense") else None,
    )  # fmt: skip
    guessed = crossed(pairs, kind, folds=folds, seed=seed)
    near = pairs.rank <= NEAR
    return Calibrated(
        made, reliability(guessed, pairs.relevant), reliability(guessed[near], pairs.relevant[near]), len(asked)
    )


def _floor(retriever: Retriever, queries: Mapping[str, str], own: Collection[str]) -> float | None:
    """Returns the dense score that the best document of 19 queries in 20 reaches.

    Queries of other collections fall below it where the collections have little in common: 98 to 100 in 100 of them on
    medline and lisa, 13 to 100 on scifact. On nfcorpus, whose queries are words and titles of pages, 0 to 46.
    """
    nearest = []
    for query, ranking in zip(queries, retriever.candidates(list(queries.values())), strict=True):
        column, ids = ranking.names.index("dense"), ranking.search.snapshot.ids(ranking.positions)
        others = np.array([id != query or query not in own for id in ids], bool)
        if others.any():
            nearest.append(float(ranking.candidates.scores[others, column].max()))
    return float(np.quantile(nearest, FAR)) if nearest else None


def crossed(pairs: Pairs, kind: str, *, folds: int = 5, seed: int = 0) -> Floats:
    """Returns each hit's probability as fitted on the other folds' queries, float64 (hits,).

    Raises:
        EvalError: fewer than two folds, or fewer than two queries.
    """
    check_folds(folds)
    random, guessed = np.random.default_rng(seed), np.empty(pairs.scores.size)
    numbers = np.unique(pairs.query)
    if numbers.size < 2:
        raise EvalError(f"a cross-validation leaves out queries: it needs at least 2 of them, not {numbers.size}")
    for left_out in np.array_split(random.permutation(numbers), min(folds, numbers.size)):
        inside = np.isin(pairs.query, left_out)
        others = pairs.where(~inside)
        guessed[inside] = np.interp(pairs.scores[inside], *KINDS[kind](others.scores, others.relevant))
    return guessed


def reliability(predicted: Floats, relevant: Floats, *, bins: int = BINS) -> Reliability:
    """Returns calibration error, Brier score and the rows of a reliability diagram, bins of equal width."""
    place = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    found: list[Bin] = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            found.append((float(predicted[inside].mean()), float(relevant[inside].mean()), int(inside.sum())))
    apart = sum(abs(predicted - observed) * count for predicted, observed, count in found)
    return Reliability(
        error=apart / max(predicted.size, 1),
        brier=float(((predicted - relevant) ** 2).mean()),
        base=float(relevant.mean() * (1 - relevant.mean())),
        bins=tuple(found),
        hits=int(predicted.size),
    )


def _groups(ordered: Floats) -> NDArray[np.int64]:
    """Returns where groups of neighbours start: of at least `LEAST`, at most `MOST` of them, never between equals."""
    size = max(LEAST, -(-ordered.size // MOST))
    new = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    starts = [0]
    for start in new.tolist():
        if start - starts[-1] >= size and ordered.size - start >= size:
            starts.append(start)
    return np.array(starts, np.int64)

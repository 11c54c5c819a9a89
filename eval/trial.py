"""Tuned weights tried as people will search: with the index's own steps, each query by weights that others chose.

Weights that rank better before feedback or another step need not do so behind it: of five collections, those best
before feedback were worse than plait's own behind it on three. So what counts as better is measured here, and by more
than a standard error: a gain of less is taken for luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..retriever.fusion import CONVEX, chosen
from ..retriever.pipeline import DEFAULT_PIPELINE, NONE, pipeline
from .gains import EVERY, measure_named
from .judged import Judged
from .measures import score_run
from .own import own_in_index, without_own
from .statistics import bootstrap_means, check_folds, check_seed, percentile_interval
from .tuning import FOLDS, Tuned, choosing, folded

if TYPE_CHECKING:
    from ..retriever import Retriever

DEEPEST = 1000  # hits asked for by a measure without a cutoff


@dataclass(frozen=True)
class Trial:
    """What tuned weights do for searches, steps included.

    Attributes:
        pipeline: the steps of searches with the tuned weights.
        before: the mean of searches as they are now.
        after: the mean with weights chosen without the query itself; of one strand alone, with that.
        interval: of `after`, 95 %, bootstrap percentile over queries.
        gain: of `after - before`, the same.
        error: the standard error of `after - before`.
        own: the mean of searches by plait's own fusion and weights, with the steps that the index keeps, or plait's own
            where it keeps none; None where that is what searches have now.
    """

    pipeline: str
    before: float
    after: float
    interval: tuple[float, float]
    gain: tuple[float, float]
    error: float
    own: float | None = None

    @property
    def better(self) -> bool:
        """Whether the weights are better than the index's by more than a standard error, and no worse than plait's."""
        return self.after - self.before > self.error and (self.own is None or self.after >= self.own)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        held = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**held, "better": self.better}


def try_out(
    retriever: Retriever,
    judged: Judged,
    found: Tuned,
    *,
    prior: Mapping[str, float] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Trial:
    """Returns what tuned weights do for the searches of an index: two searches a query, three where it has weights.

    Args:
        retriever: the index.
        judged: the queries that chose.
        found: what they chose.
        prior: as it was given to `tune`.
        folds: of the cross-validation, drawn once.
        seed: of folds and resamples.

    Raises:
        EvalError: fewer than two folds, or a seed below 0.
    """
    check_folds(folds)
    check_seed(seed)
    measure = measure_named(found.measure)
    qrels = {query.query: query.judged for query in judged.queries}
    texts = {query.query: query.text for query in judged.queries}
    own = own_in_index(retriever, texts, qrels)
    k = (DEEPEST if measure.k == EVERY else measure.k) + bool(own)  # one more, which may be dropped
    options: dict[str, Any] = {"fusion": found.fusion, "depth": judged.depth}
    asked = choosing(judged, measure, prior=prior)
    after: dict[str, Mapping[str, float]] = {}
    for left_out, others in folded(len(judged), folds, np.random.default_rng(seed)):
        weights = dict(zip(judged.strands, asked.grid[asked.best(others)].tolist(), strict=True))
        part = {judged.queries[row].query: judged.queries[row].text for row in left_out.tolist()}
        after.update(retriever.run(part, k, weights=found.weights if found.strand else weights, **options))
    runs = [after, retriever.run(texts, k, depth=judged.depth)]
    if (plain := _plain(retriever)) is not None:
        runs.append(retriever.run(texts, k, depth=judged.depth, **plain))
    runs = [without_own(run, own, k - bool(own)) for run in runs]
    scores = [score_run(run, qrels, [measure.name]).per_query[measure.name] for run in runs]
    values = np.array([[each[query] for each in scores] for query in qrels], np.float64)
    means = bootstrap_means(np.stack([values[:, 0], values[:, 0] - values[:, 1]], axis=1), seed=seed)
    low, high = percentile_interval(means).tolist()
    steps = pipeline(retriever.steps(fusion=found.fusion, weights=found.weights)).name
    apart = values[:, 0] - values[:, 1]
    error = float(apart.std(ddof=1) / np.sqrt(len(apart)))
    spans = (low[0], high[0]), (low[1], high[1])
    by_own = None if plain is None else float(values[:, 2].mean())
    return Trial(steps, float(values[:, 1].mean()), float(values[:, 0].mean()), *spans, error, by_own)


def _plain(retriever: Retriever) -> dict[str, Any] | None:
    """Returns how searches would rank by plait's own fusion and weights; None where they do."""
    kept = retriever.settings
    if kept["fusion"] == CONVEX and kept["weights"] is None:
        return None
    weights = chosen(CONVEX).weights_among(retriever.strands)
    default = DEFAULT_PIPELINE if len(retriever.strands) > 1 else NONE
    return {
        "fusion": CONVEX,
        "weights": {strand: weights[strand] for strand in retriever.strands},
        "pipeline": default if kept["pipeline"] is None else kept["pipeline"],
    }

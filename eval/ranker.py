"""Rankers trained on judged queries: logistic regression, or trees by lightgbm; cross-validated over queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..retriever.rescore import TOP, Ranker, feature_names, features
from .calibrating import logistic
from .contract import EvalError
from .gains import Floats, measure_named
from .judged import Judged, JudgedQuery
from .statistics import bootstrap_means, check_folds, check_seed, percentile_interval

if TYPE_CHECKING:
    from ..retriever import Ranking

RIDGE = 10.0  # what a squared weight costs, of features with deviation 1
TREES = {
    "objective": "lambdarank", "num_leaves": 7, "learning_rate": 0.05, "min_data_in_leaf": 50, "lambda_l2": 10.0,
    "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "lambdarank_truncation_level": 20,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip
ROUNDS = 100
MISSING = 'LambdaMART needs the package lightgbm: pip install "plait[rank]"'


@dataclass(frozen=True)
class Trained:
    """A ranker and what it is worth.

    Attributes:
        ranker: trained on all queries.
        measure: what it was measured by.
        queries: how many.
        before: the mean as the index ranks now, with the steps that the queries were judged with.
        after: the mean by rankers that other queries trained.
        interval: of `after`, 95 %, bootstrap percentile over queries.
        gain: of `after - before`, the same.
    """

    ranker: Ranker
    measure: str
    queries: int
    before: float
    after: float
    interval: tuple[float, float]
    gain: tuple[float, float]

    @property
    def better(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return self.gain[0] > 0

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the model as plain JSON values."""
        return {
            "kind": self.ranker.kind, "measure": self.measure, "queries": self.queries, "before": self.before,
            "after": self.after, "interval": list(self.interval), "gain": list(self.gain),
        }  # fmt: skip


def seen(ranking: Ranking) -> Floats:
    """Returns the features of the candidates that a ranker would order, NaN for the others (see `judge`)."""
    kept = np.full((ranking.positions.size, len(feature_names(ranking.names))), np.nan)
    rows = ranking.top(TOP)
    kept[rows] = features(ranking)[rows]
    return kept


def train(
    judged: Judged, *, kind: str = "logistic", measure: str = "nDCG@10", folds: int = 5, seed: int = 0
) -> Trained:
    """Returns a ranker trained on judged queries whose features are `seen`.

    Args:
        judged: the queries.
        kind: "logistic" or "lambdamart".
        measure: one of `GAINS` with a cutoff.
        folds: of the cross-validation.
        seed: of folds, resamples and trees.

    Raises:
        EvalError: an unknown kind or measure, fewer than two folds, a seed below 0, queries without features, or
            lightgbm is not there.
    """
    check_folds(folds)
    check_seed(seed)
    if kind not in TRAINERS:
        raise EvalError(f"no ranker {kind!r}; there are: {', '.join(TRAINERS)}")
    if any(query.features.ndim != 2 or not query.features.shape[1] for query in judged.queries):
        raise EvalError("these queries hold no features to learn from: judge them with look=seen")
    wanted, learn = measure_named(measure), TRAINERS[kind]
    count, random = len(judged), np.random.default_rng(seed)
    values = np.empty(count)
    for left_out in np.array_split(random.permutation(count), min(folds, count)):
        others = [judged.queries[i] for i in range(count) if i not in set(left_out.tolist())]
        ranker = learn(others, judged.strands, seed)
        for row in left_out.tolist():
            query = judged.queries[row]
            values[row] = query.gains(placed(ranker, query)[:, None], wanted)[0]
    before = judged.present(wanted)
    low, high = percentile_interval(bootstrap_means(np.stack([values, values - before], axis=1), seed=seed)).tolist()
    return Trained(
        learn(judged.queries, judged.strands, seed), wanted.name, count, float(before.mean()), float(values.mean()),
        (low[0], high[0]), (low[1], high[1]),
    )  # fmt: skip


def placed(ranker: Ranker, query: JudgedQuery) -> Floats:
    """Returns the scores that the step `rescore` gives, float64 (candidates,): what it does not see stays below."""
    inside = ~np.isnan(query.features[:, 0])
    scores = query.fused.copy()
    rescored = ranker(query.features[inside])
    if (~inside).any() and rescored.size:
        scores[~inside] -= max(0.0, float(scores[~inside].max() - rescored.min()))
    scores[inside] = rescored
    return scores


def _rows(queries: Sequence[JudgedQuery]) -> tuple[Floats, Floats, list[int]]:
    """Returns features, relevance and how many rows each query has, of queries with both kinds of document."""
    parts = [(q.features[inside], q.relevance[inside]) for q in queries for inside in [~np.isnan(q.features[:, 0])]]
    parts = [(x, np.maximum(y, 0)) for x, y in parts if (y > 0).any() and (y <= 0).any()]
    if not parts:
        raise EvalError("no query has a relevant document among its candidates: there is nothing to learn from")
    rows, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return rows, labels.astype(np.float64), [len(x) for x, _ in parts]


def _logistic(queries: Sequence[JudgedQuery], strands: Sequence[str], seed: int) -> Ranker:
    rows, labels, _ = _rows(queries)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    design = np.concatenate([(rows - mean) / scale, np.ones((len(rows), 1))], axis=1)
    weights = logistic(design, (labels > 0).astype(np.float64), np.append(np.full(rows.shape[1], RIDGE), 0.0))
    held = {"mean": mean, "scale": scale, "weights": weights[:-1]}
    return Ranker("logistic", tuple(strands), {**{k: v.tolist() for k, v in held.items()}, "bias": float(weights[-1])})


def _lambdamart(queries: Sequence[JudgedQuery], strands: Sequence[str], seed: int) -> Ranker:
    try:
        import lightgbm
    except ImportError:
        raise EvalError(MISSING) from None
    rows, labels, groups = _rows(queries)
    data = lightgbm.Dataset(rows, labels.astype(np.int64), group=groups, free_raw_data=False)
    gains = [float(gain) for gain in range(int(labels.max()) + 1)]
    booster = lightgbm.train({**TREES, "seed": seed, "label_gain": gains}, data, num_boost_round=ROUNDS)
    trees = [_flat(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]
    return Ranker("lambdamart", tuple(strands), {"trees": trees})


def _flat(root: dict[str, Any]) -> dict[str, list[Any]]:
    """Returns a tree as columns of nodes: a leaf has the feature -1."""
    table: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "left", "right", "value")}

    def add(node: dict[str, Any]) -> int:
        at = len(table["feature"])
        split = "split_feature" in node
        row = (node["split_feature"], node["threshold"], 0, 0, 0.0) if split else (-1, 0.0, 0, 0, node["leaf_value"])
        for name, value in zip(table, row, strict=True):
            table[name].append(value)
        if split:
            table["left"][at], table["right"][at] = add(node["left_child"]), add(node["right_child"])
        return at

    add(root)
    return table


TRAINERS: dict[str, Callable[[Sequence[JudgedQuery], Sequence[str], int], Ranker]] = {
    "logistic": _logistic,
    "lambdamart": _lambdamart,
}

"""Rescoring: a light model reads what the strands say of the best candidates, and orders them anew.

Features are strand scores, ranks, and a few facts about the query that tell how far a strand can be trusted with it
(the lightweight rescoring of arXiv 2402.13350). A model is a JSON file that `plait tune --ranker` wrote; trees are
walked by numpy, so that no other package is needed to search.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import QueryError
from .limits import within
from .normalise import Floats
from .ranking import Ranking
from .strands import SparseQuery

FORMAT = 1
TOP = 100  # candidates that are rescored, and how far down a strand's own ranks count
NEAR = 10  # of a strand's own list: how far its best is ahead
PER_STRAND = ("value", "score", "rank", "gap", "share", "trusted")
OF_QUERY = ("terms", "rarest", "fused")


def rescore(ranking: Ranking, *, model: str | Path, top: int = TOP) -> Ranking:
    """Returns the ranking whose best candidates are ordered by a trained model; the others stay below, as they were.

    Args:
        ranking: what was found so far.
        model: the JSON file of `plait tune --ranker`.
        top: how many candidates are rescored.
    """
    within("rescore", 1, top=top)
    ranker = read_ranker(model)
    if ranker.strands != ranking.names:
        raise QueryError(
            f"{model} was trained for the strands {', '.join(ranker.strands)}, not {', '.join(ranking.names)}"
        )
    rows = ranking.top(top)
    return ranking.placed(
        rows, ranker(features(ranking)[rows]), rescore={"model": ranker.kind, "candidates": rows.size}
    )


def feature_names(strands: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the features, in the order of the columns."""
    return (*(f"{strand} {name}" for strand in strands for name in PER_STRAND), *OF_QUERY)


def features(ranking: Ranking) -> Floats:
    """Returns what a ranker looks at, float64 (candidates, features).

    Of each strand: the normalised and the raw score, 1 / (1 + rank), how far its best is ahead of its tenth, its best
    score as a share of what was possible, and the normalised score times that share. Of the query: how many terms it
    has, the largest weight of one, and the candidate's fused score.
    """
    held = ranking.candidates
    span = held.best - held.least
    most = held.best if held.most is None else held.most
    possible = np.where(most > held.least, most - held.least, 1.0)
    share = np.clip(span / possible, 0.0, 1.0)
    tenth = np.array(
        [hits.scores[min(NEAR, hits.scores.size) - 1] if hits.scores.size else 0 for hits in ranking.proposed]
    )
    gap = np.where(span > 0, (held.best - tenth) / np.where(span > 0, span, 1.0), 0.0)
    inside = (held.ranks > 0) & (held.ranks <= TOP)
    rank = np.where(inside, 1.0 / (1.0 + np.maximum(held.ranks, 1)), 0.0)
    values = np.where(span > 0, (held.scores - held.least) / np.where(span > 0, span, 1.0), 0.0)
    columns: list[NDArray[Any]] = []
    for i in range(len(ranking.names)):
        same = np.ones(len(values))
        columns += [
            values[:, i],
            held.scores[:, i],
            rank[:, i],
            gap[i] * same,
            share[i] * same,
            values[:, i] * share[i],
        ]
    query = next((query for query in ranking.queries if isinstance(query, SparseQuery)), None)
    terms, rarest = (
        (0, 0.0) if query is None or not query.terms.size else (query.terms.size, float(query.weights.max()))
    )
    return np.stack([*columns, np.full(len(values), float(terms)), np.full(len(values), rarest), ranking.fused], axis=1)


@dataclass(frozen=True)
class Ranker:
    """A trained model: features -> scores.

    Attributes:
        kind: "logistic" or "lambdamart".
        strands: whose features it reads.
        held: its numbers, as the file has them.
    """

    kind: str
    strands: tuple[str, ...]
    held: Mapping[str, Any]

    def __call__(self, rows: Floats) -> Floats:
        """Returns a score for each row of features, float64 (rows,)."""
        return KINDS[self.kind](self.held, rows)

    def to_json(self) -> dict[str, Any]:
        """Returns what a file holds."""
        return {
            "plait_ranker": FORMAT, "kind": self.kind, "strands": list(self.strands),
            "features": list(feature_names(self.strands)), **self.held,
        }  # fmt: skip


def read_ranker(path: str | Path) -> Ranker:
    """Returns a model from its file; one that has not changed is read once.

    Raises:
        QueryError: there is no such file, or it holds no model of this version.
    """
    try:
        return _read(str(path), Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise QueryError(f"{path}: no model can be read there: {error.strerror or error}") from None


@lru_cache(maxsize=8)
def _read(path: str, _changed: int) -> Ranker:
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
        if held["plait_ranker"] != FORMAT or held["kind"] not in KINDS:
            raise ValueError("another format")
        made = Ranker(held["kind"], tuple(held["strands"]), held)
        if tuple(held["features"]) != feature_names(made.strands):
            raise ValueError("other features")
        made(np.zeros((1, len(held["features"]))))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise QueryError(f"{path}: is no ranker that this plait knows ({error}); train one with plait tune") from None
    return made


def _linear(held: Mapping[str, Any], rows: Floats) -> Floats:
    scaled = (rows - np.array(held["mean"])) / np.array(held["scale"])
    return 1.0 / (1.0 + np.exp(-np.clip(scaled @ np.array(held["weights"]) + held["bias"], -700, 700)))


def _trees(held: Mapping[str, Any], rows: Floats) -> Floats:
    total = np.zeros(len(rows))
    for tree in held["trees"]:
        split, threshold = np.array(tree["feature"], np.int64), np.array(tree["threshold"], np.float64)
        ways = np.array([tree["left"], tree["right"]], np.int64)
        at = np.zeros(len(rows), np.int64)
        for _ in range(split.size):  # no path is longer; a damaged file may hold a circle
            if not (going := np.flatnonzero(split[at] >= 0)).size:
                break
            node = at[going]
            at[going] = ways[(rows[going, split[node]] > threshold[node]).astype(np.int64), node]
        total += np.array(tree["value"], np.float64)[at]
    return total


KINDS: dict[str, Callable[[Mapping[str, Any], Floats], Floats]] = {"logistic": _linear, "lambdamart": _trees}

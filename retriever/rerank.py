"""Reranking: a model that reads the query and a document together scores the best candidates anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..encoders.cross import CrossEncoder, shared_cross
from .errors import QueryError
from .limits import within
from .normalise import Floats, sigmoid
from .ranking import Ranking

Scorer: TypeAlias = Callable[..., Any]  # query, texts -> a number for each text


def rerank(
    ranking: Ranking,
    *,
    model: str | Path | CrossEncoder | Callable[..., Any] = "",
    top: int = 30,
    weight: float = 1.0,
    normalise: str = "sigmoid",
    max_length: int | None = None,
) -> Ranking:
    """Returns the ranking in which the best candidates are ordered by a cross-encoder (Nogueira and Cho 2019).

    A new score is weight x the model's + (1 - weight) x the score so far, held on [0, 1] between the least and the
    largest of the best.

    Args:
        ranking: what was found so far.
        model: a folder with model.onnx and tokenizer.json, or what sentence-transformers opens (a folder, a hub name).
            It is loaded once. In the API also a CrossEncoder, or a function of a query and texts that returns a number
            for each.
        top: how many of the best are read; the others stay below them.
        weight: the model's share of a new score, from 0 to 1; with 1 it decides alone.
        normalise: how its numbers come to lie on [0, 1]: "sigmoid", or "minmax" over the best.
        max_length: tokens read of query and document together; the model's own limit where None.
    """
    within("rerank", 1, top=top)
    within("rerank", 0, 1, weight=weight)
    if normalise not in NORMALISE:
        raise QueryError(f"rerank brings scores to [0, 1] by {' or '.join(NORMALISE)}, not {normalise!r}")
    name, score = _scorer(model, max_length)
    rows = ranking.top(top)
    if not rows.size:
        return ranking
    texts = [f"{row.title} {row.text}".strip() for row in ranking.documents(rows)]  # as encoders read them
    found = NORMALISE[normalise](_checked(name, score(ranking.text, texts), len(texts)))
    scores = weight * found + (1.0 - weight) * on_unit(ranking.fused[rows]) if weight < 1 else found
    return ranking.placed(rows, scores, rerank={"model": name, "documents": int(rows.size)})


def on_unit(scores: Floats) -> Floats:
    """Returns (score - least) / (largest - least); 1 for each where all are equal."""
    span = scores.max() - scores.min()
    return (scores - scores.min()) / span if span > 0 else np.ones(scores.size)


NORMALISE: dict[str, Callable[[Floats], Floats]] = {"sigmoid": sigmoid, "minmax": on_unit}


def _scorer(model: Any, max_length: int | None) -> tuple[str, Scorer]:
    """Returns what to call a model, and what scores by it."""
    if isinstance(model, (str, Path)):
        if not str(model):
            raise QueryError(
                "rerank needs a model: rerank:model=FOLDER, with model.onnx and tokenizer.json, or a name that "
                'sentence-transformers knows (pip install "plait[torch]")'
            )
        model, max_length = shared_cross(model, max_length), None
    if max_length is not None:
        raise QueryError("rerank takes max_length with the name of a model; one that is open already has its own")
    if isinstance(model, CrossEncoder):
        return model.identity.name, model.score
    return getattr(model, "__name__", type(model).__name__), model


def _checked(name: str, scores: Any, count: int) -> Floats:
    found = np.asarray(scores, np.float64)
    if found.shape != (count,):
        raise QueryError(f"the cross-encoder {name!r} gave scores of shape {found.shape} for {count} texts")
    if not np.isfinite(found).all():
        raise QueryError(f"the cross-encoder {name!r} scores a document with what is no number")
    return found

"""Calibration: a fused score as a probability of relevance.

Isotonic regression (pool adjacent violators) or Platt's sigmoid, fitted by `plait tune --calibrate` and kept by the
index for the settings that it was fitted with; with others a score means something else, and no probability is told.

A fused score is measured from the query's own best, so the best document for nonsense scores nearly as high as an
answer. How near the query's vector comes to any document is no matter of its best: what is farther from all documents
than nearly all queries that were judged is told no probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import QueryError

KINDS = ("isotonic", "platt")
UNREADABLE = "this calibration cannot be used: {}; fit one with plait tune --calibrate, or plait tune --reset"


def fitted_for(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what makes a score, of what `Retriever.info` and a choice tell: fusion, steps, and weights above 0."""
    heard = {strand: weight for strand, weight in facts["weights"].items() if weight}
    return {"fusion": facts["fusion"], "weights": heard, "pipeline": facts["pipeline"]}


@dataclass(frozen=True)
class Calibration:
    """A map from fused scores to probabilities, straight between its points and level outside.

    Attributes:
        scores: ascending.
        probabilities: as many, never falling.
        kind: "isotonic" or "platt".
        source: what it was fitted on, for people.
        settings: what the scores came from, see `fitted_for`.
        floor: the least that a query's best dense score, before any step, may be; None where there is no dense strand.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    kind: str
    source: str
    settings: Mapping[str, Any]
    floor: float | None = None

    def __call__(self, fused: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the probability of each score, float64 (n,) on [0, 1]."""
        return np.interp(fused, self.scores, self.probabilities)

    def knows(self, nearest: float | None) -> bool:
        """Tells whether a query is as near to the documents as those that it was fitted on.

        Args:
            nearest: the query's best dense score, before any step; None where there is no dense strand.
        """
        return self.floor is None or nearest is None or nearest >= self.floor

    def to_json(self) -> dict[str, Any]:
        """Returns what an index keeps of it."""
        return {
            "scores": list(self.scores),
            "probabilities": list(self.probabilities),
            "kind": self.kind,
            "source": self.source,
            "settings": dict(self.settings),
            "floor": self.floor,
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Calibration:
        """Returns the calibration that `to_json` wrote.

        Raises:
            QueryError: something else is held.
        """
        try:
            scores, levels = (np.array(held[name], np.float64) for name in ("scores", "probabilities"))
            floor = held.get("floor")
            made = cls(
                tuple(scores.tolist()), tuple(levels.tolist()), held["kind"], held["source"], dict(held["settings"]),
                None if floor is None else float(floor),
            )  # fmt: skip
        except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise QueryError(UNREADABLE.format(f"it lacks {error}" if isinstance(error, KeyError) else error)) from None
        if wrong := _wrong(scores, levels, made.kind, made.floor):
            raise QueryError(UNREADABLE.format(wrong))
        return made


def _wrong(scores: NDArray[np.float64], levels: NDArray[np.float64], kind: Any, floor: float | None) -> str | None:
    """Returns what is wrong with the points of a calibration."""
    if scores.ndim != 1 or scores.shape != levels.shape or not scores.size:
        return f"scores and probabilities are lists of one length, not of shape {scores.shape} and {levels.shape}"
    if not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
        return "scores are finite and ascend"
    if not ((levels >= 0) & (levels <= 1)).all() or (np.diff(levels) < 0).any():
        return "probabilities lie between 0 and 1 and never fall"
    if floor is not None and not np.isfinite(floor):
        return f"its floor is a finite number, not {floor!r}"
    return None if kind in KINDS else f"its kind is one of {', '.join(KINDS)}, not {kind!r}"

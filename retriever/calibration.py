"""Calibration: a fused score as a probability of relevance.

Isotonic regression (pool adjacent violators) or Platt's sigmoid, fitted by `plait tune --calibrate` and kept by the
index for the settings that it was fitted with; with others a score means something else, and no probability is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """A map from fused scores to probabilities, straight between its points and level outside.

    Attributes:
        scores: ascending.
        probabilities: as many, never falling.
        kind: "isotonic" or "platt".
        source: what it was fitted on, for people.
        settings: the strands, fusion, weights and pipeline that the scores came from.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    kind: str
    source: str
    settings: Mapping[str, Any]

    def __call__(self, fused: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the probability of each score, float64 (n,) on [0, 1]."""
        return np.interp(fused, self.scores, self.probabilities)

    def fits(self, settings: Mapping[str, Any]) -> bool:
        """Tells whether it was fitted with these settings."""
        return dict(self.settings) == dict(settings)

    def to_json(self) -> dict[str, Any]:
        """Returns what an index keeps of it."""
        return {
            "scores": list(self.scores),
            "probabilities": list(self.probabilities),
            "kind": self.kind,
            "source": self.source,
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Calibration:
        """Returns the calibration that `to_json` wrote."""
        return cls(
            tuple(held["scores"]), tuple(held["probabilities"]), held["kind"], held["source"], dict(held["settings"])
        )

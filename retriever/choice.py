"""What acts in a search: what it says itself, else what the index keeps, else plait's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .errors import QueryError
from .fusion import CONVEX, Fusion, check_weights, chosen, weights_for
from .limits import check_real
from .normalise import Floats
from .pipeline import DEFAULT_PIPELINE, NONE, PIPELINE_OF_CHOSEN, Given, Pipeline, kept, pipeline
from .strands import with_neighbours

Steps = Given
SETTINGS = ("fusion", "weights", "pipeline", "calibration", "tuned")


@dataclass(frozen=True)
class Choice:
    """How a search ranks, and who chose the weights.

    Attributes:
        strands: those that take part.
        fusion: how they combine.
        weights: of the strands, float64 (strands,).
        weights_from: "this search", "the index" or "plait".
        pipeline: the steps, ready to be taken.
        steps: the same as they were given: a pipeline's name is for people, and need not be readable again.
        calibration: where one fits these settings.
    """

    strands: tuple[str, ...]
    fusion: Fusion
    weights: Floats
    weights_from: str
    pipeline: Pipeline
    steps: Steps
    calibration: Calibration | None

    @property
    def heard(self) -> NDArray[np.bool_]:
        """Which strands a search asks, bool (strands,): those without a weight only where something else looks at them.

        They would be encoded for nothing, and what they propose would be hits with a score of 0.
        """
        if self.pipeline.name != NONE or not self.fusion.convex:
            return np.ones(len(self.strands), bool)
        return self.weights > 0

    def to_json(self) -> dict[str, Any]:
        """Returns what acts, by name."""
        return {**self.settings, "weights_from": self.weights_from, "calibrated": self.calibration is not None}

    @property
    def settings(self) -> dict[str, Any]:
        """What a calibration is fitted for."""
        return {
            "fusion": self.fusion.name,
            "weights": dict(zip(self.strands, self.weights.tolist(), strict=True)),
            "pipeline": self.pipeline.name,
        }


def chosen_for(
    settings: Mapping[str, Any],
    strands: Sequence[str],
    fusion: str | None,
    weights: Mapping[str, float] | None,
    steps: Steps | None,
    *,
    every: Sequence[str],
) -> Choice:
    """Returns what acts in a search that says so much, of an index with these settings.

    One strand alone takes no step, unless the index has no other and keeps steps for it.

    Args:
        settings: of the index.
        strands: those that take part.
        fusion: as the search gives it.
        weights: as the search gives them.
        steps: as the search gives them.
        every: all strands of the index.

    Raises:
        QueryError: a name is unknown, or a weight out of range.
    """
    name = fusion or settings["fusion"]
    found = chosen(name)
    own = settings["weights"] if name == settings["fusion"] else None
    own = None if own is None else with_neighbours(own)
    given = weights if weights is not None else own
    for strand in given or {}:
        if strand not in found.weights:
            raise QueryError(f"a weight is given for {strand!r}; strands are: {', '.join(found.weights)}")
    values = weights_for(strands, found.weights_among(strands) if given is None else given)
    source = "this search" if weights is not None else "plait" if own is None else "the index"
    taken, held = steps, settings.get("pipeline")
    if taken is None and int((values > 0).sum()) == 1 and (held is None or len(every) > 1):
        taken = NONE
    if taken is None:
        taken = held
    if taken is None:
        taken = DEFAULT_PIPELINE if source == "plait" and found.convex else PIPELINE_OF_CHOSEN
    choice = Choice(tuple(strands), found, values, source, pipeline(taken), taken, None)
    fitted = settings.get("calibration")
    calibration = None if fitted is None else Calibration.from_json(fitted)
    fits = calibration is not None and calibration.fits(choice.settings)
    return replace(choice, calibration=calibration) if fits else choice


def checked_settings(settings: Mapping[str, Any], strands: Sequence[str], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings to keep; where other weights or another fusion come, the record of tuned ones goes.

    Raises:
        QueryError: one is unknown, or its value is.
    """
    for name in changed:
        if name not in SETTINGS:
            raise QueryError(f"no setting {name!r}; there are: {', '.join(SETTINGS)}")
    made = dict(changed)
    if made.get("pipeline") is not None:
        made["pipeline"] = kept(made["pipeline"], strands)
    if "fusion" in made and made["fusion"] is None:
        made["fusion"] = CONVEX
    if made.get("weights") is not None:
        check_weights(made["weights"])
        # As numbers that JSON has, whatever kind of number they were.
        made["weights"] = {strand: float(weight) for strand, weight in made["weights"].items()}
    if made.keys() & {"fusion", "weights"}:
        made.setdefault("tuned", None)
    chosen_for({**settings, **made}, strands, None, None, None, every=strands)
    return made


def check_probability(calibration: Calibration | None, probability: float | None, *, filtered: bool = False) -> None:
    """Checks the least probability that a search asks for.

    Raises:
        QueryError: there is no calibration for these settings, a filter acts, or it is no probability.
    """
    if probability is None:
        return
    check_real("min_probability", probability)
    if not 0 <= probability <= 1:
        raise QueryError(f"min_probability lies between 0 and 1, not {probability!r}")
    if filtered:
        raise QueryError(
            "min_probability does not go with a filter: a calibration is fitted to searches of all documents, and says "
            "nothing of those that a filter leaves; use min_score"
        )
    if calibration is None:
        raise QueryError(
            "the index has no calibration for these settings: fit one with plait tune --calibrate, or use min_score"
        )

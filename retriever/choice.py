"""What acts in a search: what it says itself, else what the index keeps, else plait's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, fitted_for
from .errors import QueryError
from .fusion import CONVEX, Fusion, check_weights, chosen, weights_for
from .limits import check_real
from .normalise import Floats
from .pipeline import DEFAULT_PIPELINE, NONE, PIPELINE_OF_CHOSEN, Given, Pipeline, kept, pipeline
from .strands import with_neighbours

Steps = Given
FEW = 8  # calibrations that are held ready
T = TypeVar("T")
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

    @property
    def dense(self) -> bool:
        """Whether a dense strand has a weight."""
        return any(weight > 0 for strand, weight in zip(self.strands, self.weights, strict=True) if strand == "dense")

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
        QueryError: a name is unknown, or a weight out of range; of what the index keeps the message says so.
    """
    name = fusion or settings["fusion"]
    found = chosen(name) if fusion else _kept("fusion", name, chosen)
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
    if taken is None and held is not None:
        ready, taken = _kept("pipeline", held, pipeline), held
    else:
        taken = (
            (DEFAULT_PIPELINE if source == "plait" and found.convex else PIPELINE_OF_CHOSEN) if taken is None else taken
        )
        ready = pipeline(taken)
    choice = Choice(tuple(strands), found, values, source, ready, taken, None)
    fitted = settings.get("calibration")
    readable = isinstance(fitted, Mapping) and "settings" in fitted
    if fitted is None or (readable and fitted_for(choice.settings) != fitted["settings"]):
        return choice
    return replace(choice, calibration=_calibration(fitted))


def _kept(setting: str, held: Any, read: Callable[[Any], T]) -> T:
    """Returns what an index keeps, read; what cannot be is no mistake of whoever searches."""
    try:
        return read(held)
    except QueryError as error:
        raise QueryError(
            f"the index keeps the {setting} {held!r}, which cannot be: {error}; plait settle --{setting} changes it"
        ) from None


_read: dict[int, tuple[Mapping[str, Any], Calibration]] = {}  # of the latest few


def _calibration(held: Mapping[str, Any]) -> Calibration:
    """Returns a calibration as a snapshot holds it, which is checked once: that takes as long as a small search."""
    known = _read.get(id(held))
    if known is None or known[0] is not held:
        if len(_read) >= FEW:
            _read.clear()
        known = _read[id(held)] = held, Calibration.from_json(held)
    return known[1]


def as_numbers(weights: Mapping[str, float]) -> dict[str, float]:
    """Returns weights as numbers that JSON has, whatever kind of number they were.

    Raises:
        QueryError: one is none.
    """
    check_weights(weights)
    return {strand: float(weight) for strand, weight in weights.items()}


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
        made["weights"] = as_numbers(made["weights"])
    if made.get("calibration") is not None:
        Calibration.from_json(made["calibration"])
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

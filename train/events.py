"""What a training tells while it runs, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

STEPS, EVALUATION = "training", "evaluating"


@dataclass(frozen=True)
class Event:
    """Where a training stands.

    Attributes:
        phase: what is being done: "reading", "training" and so on; `STEPS` and `EVALUATION` carry values.
        done: how much of it is done.
        total: of how much; 0 where nobody knows.
        values: what was measured: of a step its losses, of an evaluation its scores.
        note: something to say to a person.
    """

    phase: str
    done: int = 0
    total: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


Tell = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Tells nobody."""

"""Ranges of a step's options: one check, one way of saying it."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from .errors import QueryError

HEAVIEST = 1e6  # weight: beside it a score of the fusion keeps ten digits


def check_real(name: str, value: Any) -> None:
    """Checks that an argument is a number.

    Raises:
        QueryError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise QueryError(f"{name} is a number, not {value!r}")


def within(step: str, least: float, most: float = math.inf, **values: float) -> None:
    """Checks that options of a step lie in a range.

    Raises:
        QueryError: one does not, or is no number.
    """
    for name, value in values.items():
        if not least <= value <= most or math.isinf(value):
            wanted = f"from {least:g} to {most:g}"
            if math.isinf(most) or math.isinf(least):
                wanted = f"of at least {least:g}" if math.isinf(most) else f"of at most {most:g}"
            raise QueryError(f"{step} takes {name} {wanted}, not {value!r}")


def weighing(step: str, **values: float) -> None:
    """Checks weights, which are not negative, and not so large that nothing counts beside them.

    Raises:
        QueryError: one is, or is no number.
    """
    within(step, 0, **values)
    within(step, -math.inf, HEAVIEST, **values)

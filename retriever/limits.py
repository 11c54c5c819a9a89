"""Ranges of a step's options: one check, one way of saying it."""

from __future__ import annotations

import math

from .errors import QueryError


def within(step: str, least: float, most: float = math.inf, **values: float) -> None:
    """Checks that options of a step lie in a range.

    Raises:
        QueryError: one does not, or is no number.
    """
    for name, value in values.items():
        if not least <= value <= most or math.isinf(value):
            wanted = f"of at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
            raise QueryError(f"{step} takes {name} {wanted}, not {value!r}")

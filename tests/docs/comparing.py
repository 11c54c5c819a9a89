"""Whether a page shows what is printed: "..." stands for anything, and decimal fractions may be a little off.

Vectors in 8 bits differ in their last digits between processors, so scores do; words, ids and counts do not.
"""

from __future__ import annotations

import re

FRACTION = re.compile(r"-?\d+\.\d+")
NEAR = 0.03  # of the number shown, or of 1 where that is more


def agrees(shown: str, said: str) -> bool:
    """Returns whether what was said is what a page shows."""
    expected, found = _plain(shown), _plain(said)
    pieces = FRACTION.split(expected)
    pattern = r"(-?\d+\.\d+)".join(re.escape(piece).replace(r"\.\.\.", ".*?") for piece in pieces)
    match = re.fullmatch(pattern, found, re.DOTALL)
    numbers = map(float, FRACTION.findall(expected))
    return match is not None and all(
        abs(float(one) - number) <= NEAR * max(1.0, abs(number))
        for one, number in zip(match.groups(), numbers, strict=True)
    )


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())

"""Where rows and positions meet: a document's position stays as long as it lives, its row belongs to one segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a segment's rows hold, and, where rows are out of order, the same ascending and the row of each.
POSITIONS, SORTED, SORTED_ROWS = "positions", "positions_sorted", "positions_row"
TYPES = {POSITIONS: "i8", SORTED: "i8", SORTED_ROWS: "u4"}


def position_arrays(positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Returns the arrays, by file name, that a segment keeps to translate; a run of positions needs none.

    Args:
        positions: int64 (n,), the position of each row.
    """
    steps = np.diff(positions)
    if (steps == 1).all():
        return {}
    if (steps > 0).all():
        return {POSITIONS: positions}
    order = np.argsort(positions)
    return {POSITIONS: positions, SORTED: positions[order], SORTED_ROWS: order.astype(np.uint32)}


class Positions:
    """Translates between the rows of a segment and positions, both ways.

    Args:
        first: the smallest position.
        size: how many rows there are.
        arrays: what `position_arrays` returned, mapped or not.
    """

    def __init__(self, first: int, size: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.first, self.size = first, size
        self._positions = arrays.get(POSITIONS)
        self._sorted = arrays.get(SORTED, self._positions)
        self._rows = arrays.get(SORTED_ROWS)

    def of_rows(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Returns the positions of rows."""
        return rows.astype(np.int64) + self.first if self._positions is None else self._positions[rows]

    def rows_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the rows of positions, -1 where a position is not among them."""
        if self._sorted is None:
            inside = (positions >= self.first) & (positions < self.first + self.size)
            return np.where(inside, positions - self.first, -1)
        at = np.minimum(np.searchsorted(self._sorted, positions), self.size - 1)
        rows = at if self._rows is None else self._rows[at]
        return np.where(self._sorted[at] == positions, rows.astype(np.int64), -1)

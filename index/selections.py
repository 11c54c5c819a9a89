"""Which documents a filter lets through, and the memory of a snapshot for filters it has answered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .contract import StoreError
from .segment import Segment

MOST_KEPT = 64
MOST_BYTES = 64 << 20
# From one row in so many on, a search looks its terms up in the rows instead of going through their postings. Both take
# longer with more terms, so how many there are has little to do with it. Microseconds at 400,000 documents, one thread,
# scanning / looking up, of lexical queries (8 terms), learned ones (19) and long ones (39):
#   1 row in  256       432 / 512     565 / 888   1228 / 1769
#   1 row in  512       418 / 322     548 / 582   1081 / 1320
#   1 row in 1024       402 / 186     356 / 367    1066 / 816
#   1 row in 2048       366 / 115     394 / 210     875 / 514
# At 131,072 documents the two meet at 1 in 480, 600 and 530.
FEW = 640


@dataclass(frozen=True, eq=False)
class Selection:
    """The documents of a snapshot that match a filter.

    Attributes:
        counts: for each segment of the snapshot, how many living documents match.
        alive: for each segment of the snapshot uint8 (size,), 1 where the row's document lives and matches. Shared by
            all who ask for the same filter: not to be written to.
        few: for each segment its matching rows, where they are so few that a search looks each of them up.
        owner: what it was made for; another snapshot refuses it.
    """

    counts: tuple[int, ...]
    alive: tuple[NDArray[np.uint8], ...]
    few: tuple[NDArray[np.int64] | None, ...]
    owner: object = field(repr=False)

    @property
    def count(self) -> int:
        """How many living documents match."""
        return sum(self.counts)


def selection(
    segments: Sequence[Segment], positions: NDArray[np.int64], owner: object, living: Sequence[NDArray[np.uint8]]
) -> Selection:
    """Returns the selection of given documents; those that do not live fall out.

    Args:
        segments: those of the snapshot; their ranges of positions ascend and never meet.
        positions: int64, ascending.
        owner: see `Selection`.
        living: for each segment uint8 (size,), 0 in the rows of deleted documents; empty where there are none.
    """
    rows = [_rows(segment, positions, alive) for segment, alive in zip(segments, living, strict=True)]
    pairs = list(zip(segments, rows, strict=True))
    few = tuple(found if found.size * FEW <= segment.size else None for segment, found in pairs)
    return Selection(tuple(found.size for found in rows), tuple(_alive(*pair) for pair in pairs), few, owner)


def _rows(segment: Segment, positions: NDArray[np.int64], living: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the rows of those of the positions whose documents live in a segment."""
    first, last = np.searchsorted(positions, [segment.row.first, segment.row.last + 1])
    rows = segment.rows_of(positions[first:last])
    rows = rows[rows >= 0]  # a compaction has forgotten the others
    return rows[living[rows] > 0] if living.size else rows


def _alive(segment: Segment, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    alive = np.zeros(segment.size, np.uint8)
    alive[rows] = 1
    return alive


class Selections:
    """The selections of one snapshot by expression, the least recently used forgotten first. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Selection] = OrderedDict()
        self._bytes = 0

    def get(self, expression: str) -> Selection | None:
        """Returns what was put for an expression, if it is still kept."""
        with self._lock:
            if expression not in self._kept:
                return None
            self._kept.move_to_end(expression)
            return self._kept[expression]

    def put(self, expression: str, found: Selection) -> Selection:
        """Keeps a selection, the newest always, and returns the one that is kept."""
        with self._lock:
            if expression in self._kept:  # another thread was as quick
                return self._kept[expression]
            self._kept[expression] = found
            self._bytes += _bytes(expression, found)
            while len(self._kept) > 1 and (len(self._kept) > MOST_KEPT or self._bytes > MOST_BYTES):
                self._bytes -= _bytes(*self._kept.popitem(last=False))
        return found

    def check(self, found: Selection) -> Selection:
        """Returns the selection.

        Raises:
            StoreError: it is of another snapshot.
        """
        if found.owner is not self:
            raise StoreError("this selection was made by another snapshot; select again with the one that searches")
        return found


def _bytes(expression: str, found: Selection) -> int:
    return 4 * len(expression) + sum(alive.nbytes for alive in found.alive)

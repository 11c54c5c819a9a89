"""Sparse rows of small integers in three arrays: what every engine of sparse.py is given. Needs numpy and scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BATCH = 65_536  # rows that are moved at a time


class Rows(NamedTuple):
    """Documents with their impacts, or queries with their weights.

    Attributes:
        starts: int64 (n + 1,), where each row begins.
        terms: uint16 (entries,), ascending inside a row: a vocabulary has fewer than 65,536 terms.
        values: uint8 (entries,), from 1 to 255.
    """

    starts: NDArray[np.int64]
    terms: NDArray[np.uint16]
    values: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Returns the number of rows."""
        return self.starts.size - 1

    @property
    def width(self) -> int:
        """Returns the number of columns: the largest term, and one."""
        return int(self.terms.max(initial=0)) + 1

    def row(self, i: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Returns the terms and values of one row."""
        inside = slice(int(self.starts[i]), int(self.starts[i + 1]))
        return self.terms[inside], self.values[inside]

    def part(self, start: int, stop: int) -> Rows:
        """Returns rows from `start` to `stop`, as views where that is possible."""
        starts = self.starts[start : min(stop, self.size) + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        return Rows(starts - starts[0], self.terms[inside], self.values[inside])

    def taken(self, order: NDArray[np.integer]) -> Rows:
        """Returns some rows in a given order."""
        lengths = np.diff(self.starts)[order]
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        terms, values = np.empty(starts[-1], np.uint16), np.empty(starts[-1], np.uint8)
        for first in range(0, len(order), BATCH):
            last = min(first + BATCH, len(order))
            shifts = self.starts[:-1][order[first:last]] - starts[first:last]
            inside = slice(starts[first], starts[last])
            at = np.arange(inside.start, inside.stop) + np.repeat(shifts, lengths[first:last])
            terms[inside], values[inside] = self.terms[at], self.values[at]
        return Rows(starts, terms, values)

    def matrix(self, dtype: Any, width: int | None = None) -> Any:
        """Returns a csr_matrix with values of a type."""
        from scipy.sparse import csr_matrix

        shape = self.size, width or self.width
        return csr_matrix((self.values.astype(dtype), self.terms.astype(np.int32), self.starts), shape=shape)

    def inverted(self) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.uint8]]:
        """Returns for all columns where their documents begin, the documents ascending, and the values."""
        columns = self.matrix(np.uint8).tocsc()
        return columns.indptr, columns.indices, columns.data

    def save(self, folder: Path) -> None:
        """Writes the arrays into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in self._asdict().items():
            np.save(folder / f"{name}.npy", values)


def load(folder: Path) -> Rows:
    """Returns the rows of a folder, memory-mapped."""
    return Rows(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in Rows._fields})

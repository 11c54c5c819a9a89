"""Postings on disk in buckets of neighbouring keys: any number of them can be turned round in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BUFFER = 1 << 20  # postings kept in memory before they are written


class Spool:
    """Takes postings (key, other, value) in any order, and gives them back a bucket of keys at a time, sorted.

    Memory holds `BUFFER` postings while it takes them, and one bucket while it gives them back.

    Args:
        folder: an empty folder, which the caller removes.
        starts: the first key of each bucket, ascending, the first of them 0.
    """

    def __init__(self, folder: Path, starts: NDArray[np.int64]) -> None:
        self._folder, self._starts = folder, starts
        self._waiting: list[NDArray[np.uint32]] = []
        self._count = 0

    def add(self, keys: NDArray[np.integer], others: NDArray[np.integer], values: NDArray[np.integer]) -> None:
        """Takes postings; each of the three is below 2 ** 32."""
        if keys.size:
            self._waiting.append(np.stack([keys, others, values], axis=1).astype(np.uint32))
            self._count += keys.size
            if self._count >= BUFFER:
                self._write()

    def bucket(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
        """Returns the keys, others and values of a bucket, sorted by key, then other."""
        self._write()
        path = self._path(number)
        if not path.exists():
            nothing = np.empty(0, np.uint32)
            return nothing, nothing, nothing
        rows = np.fromfile(path, np.uint32).reshape(-1, 3)
        path.unlink()
        rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
        return rows[:, 0], rows[:, 1], rows[:, 2]

    def _write(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        buckets = np.searchsorted(self._starts, rows[:, 0], side="right") - 1
        order = np.argsort(buckets, kind="stable")
        found, first = np.unique(buckets[order], return_index=True)
        for bucket, part in zip(found.tolist(), np.split(rows[order], first[1:]), strict=True):
            with self._path(bucket).open("ab") as handle:  # Python writes it: numpy says nothing of a full disk
                handle.write(np.ascontiguousarray(part).data)

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:06d}.postings"

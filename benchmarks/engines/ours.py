"""plait itself: the learned strand of an index, through its public classes."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plait.index import Layout, Snapshot, Writer, create
from plait.index.compiled import load_kernels
from plait.index.postings import Forward, Postings
from plait.index.reorder import reorder
from plait.retriever import Document
from rows import Rows

BATCH = 65_536


class Plait:
    """An index of the documents; `reordered` lets plait put similar documents next to one another."""

    reordered = False

    def build(self, rows: Rows, folder: Path) -> None:
        """Writes the index. The impacts are given as weights with a step of 1, so they are stored as they are."""
        write(rows, folder / "index", reordered=self.reordered)

    def open(self, folder: Path) -> None:
        """Opens the index and loads the compiled search."""
        load_kernels()
        self.snapshot = Snapshot(folder / "index")

    def calls(self, queries: Rows, k: int) -> list[Callable[[], Any]]:
        """Returns a search for each query; a whole one, as the Retriever asks for candidates."""
        return [self._call(*queries.row(i), k) for i in range(queries.size)]

    def _call(self, columns: Any, values: Any, k: int) -> Callable[[], Any]:
        snapshot, weights = self.snapshot, values.astype(np.float32)
        terms = snapshot.terms("learned", columns)
        return lambda: snapshot.sparse_search("learned", terms, weights, k)

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the positions: documents are numbered in the order in which they were added."""
        return answer.positions.tolist()

    def touched(self, queries: Rows, k: int) -> float:
        """Returns the mean share of a query's postings in windows that may hold one of the k best: others are left."""
        shares = []
        (segment,) = self.snapshot.segments
        held = self._held(segment.postings)
        for i in range(queries.size):
            columns, weights = queries.row(i)
            found = segment.search(columns.astype(np.uint32), weights.astype(np.uint32), k)[0]
            bounds = np.zeros(-(-segment.size // int(segment.postings.shape[0])), np.int64)
            postings = np.zeros_like(bounds)
            for cells, weight in zip(_cells(segment.postings, columns), weights.tolist(), strict=True):
                windows = segment.postings.cell_window[cells]
                bounds[windows] += weight * segment.postings.cell_max[cells].astype(np.int64)
                postings[windows] += held[cells]
            least = int(found[-1]) if found.size == k else 1
            shares.append(postings[bounds >= least].sum() / max(1, postings.sum()))
        return float(np.mean(shares))

    def _held(self, postings: Postings) -> NDArray[np.int64]:
        """Returns how many documents each cell holds."""
        held = np.diff(postings.cell_start.astype(np.int64))
        held[held == 0] = np.count_nonzero(postings.rows.reshape(-1, int(postings.shape[1])), axis=1)
        return held

    def facts(self) -> dict[str, Any]:
        """Returns how many segments there are."""
        return {"segments": len(self.snapshot.segments)}


class PlaitReordered(Plait):
    """The same with its documents reordered."""

    reordered = True


def write(rows: Rows, folder: Path, *, reordered: bool) -> None:
    """Writes an index and merges its segments into one. All that depends on how plait builds is here."""
    create(folder, Layout(learned_scale=1.0), {})
    width = rows.width
    with closing(Writer(folder, compaction="off")) as writer:
        for start in range(0, rows.size, BATCH):
            part = rows.part(start, start + BATCH)
            documents = [Document(id=str(start + i), text="-") for i in range(part.size)]
            writer.add(documents, {"learned": part.matrix(np.float32, width)}, None)
        writer.commit()
        writer.compact(reorder="similar" if reordered else None)


def _cells(postings: Postings, columns: NDArray[np.integer]) -> Iterator[slice]:
    """Yields the cells of each term."""
    for row, term in zip(np.searchsorted(postings.terms, columns).tolist(), columns.tolist(), strict=True):
        known = row < postings.terms.size and postings.terms[row] == term
        yield slice(int(postings.cells[row]), int(postings.cells[row + 1])) if known else slice(0)


def order_of(rows: Rows) -> NDArray[np.int64]:
    """Returns the order that plait gives to documents."""
    ones, none = np.ones(rows.terms.size, np.uint8), np.zeros(rows.size, np.uint32)
    forward = Forward(rows.starts, rows.terms.astype(np.uint32), np.array(rows.values), ones, none)
    return reorder(forward, window=Layout().window)

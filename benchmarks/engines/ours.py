"""plait itself: the learned strand of an index, through its public classes."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plait.index import Layout, Snapshot, Writer, create
from plait.index.compiled import load_kernels
from plait.index.postings import Forward
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


def order_of(rows: Rows) -> NDArray[np.int64]:
    """Returns the order that plait gives to documents."""
    ones, none = np.ones(rows.terms.size, np.uint8), np.zeros(rows.size, np.uint32)
    forward = Forward(rows.starts, rows.terms.astype(np.uint32), np.array(rows.values), ones, none)
    return reorder(forward, window=Layout().window)

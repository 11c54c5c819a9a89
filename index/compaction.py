"""Merging segments: the documents that live, copied from the forward copies of old segments into a new one.

Nothing is encoded again and no document changes its position. What is copied goes to disk a part at a time, so that
memory holds one part, some bytes a document, and what inverting needs.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import database, files, policy
from .contract import LEXICAL_BASE, CorruptError, Layout, StoreError
from .database import SegmentRow
from .dense import DENSE, DenseSegment, write_flat_parts
from .postings import Forward
from .segment import Segment, folder_of, seal_segment, spans

# Documents copied at a time.
PART = 8_192
# Windows of one segment, at most: cells name them with 16 bits.
MOST_WINDOWS = 2**16

# From the forward copy of a new segment to the order its rows shall have: row i becomes what row order[i] was.
Reorder = Callable[[Forward], NDArray[np.int64]]


@dataclass(frozen=True)
class Chosen:
    """Rows of several segments, in the order in which a new segment is to hold them.

    Attributes:
        segments: where they come from.
        part: which of the segments, uint16 (n,).
        row: which row there, uint32 (n,).
    """

    segments: Sequence[Segment]
    part: NDArray[np.uint16]
    row: NDArray[np.uint32]

    @property
    def size(self) -> int:
        """Returns the number of rows."""
        return self.row.size

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Chosen:
        return Chosen(self.segments, self.part[rows], self.row[rows])

    def pieces(self) -> Iterator[tuple[Segment, NDArray[np.intp], NDArray[np.int64]]]:
        """Yields each segment with the places here that it fills, and the rows there that fill them."""
        for number, segment in enumerate(self.segments):
            at = np.flatnonzero(self.part == number)
            if at.size:
                yield segment, at, self.row[at].astype(np.int64)

    def parts(self) -> Iterator[Chosen]:
        """Yields the rows, a part at a time."""
        for start in range(0, self.size, PART):
            yield self[start : start + PART]

    def positions(self) -> NDArray[np.int64]:
        """Returns the positions of the rows."""
        found = np.empty(self.size, np.int64)
        for segment, at, rows in self.pieces():
            found[at] = segment.positions_of(rows)
        return found

    def counts(self) -> NDArray[np.int64]:
        """Returns how many postings each row has."""
        found = np.empty(self.size, np.int64)
        for segment, at, rows in self.pieces():
            starts = segment.forward.starts
            found[at] = starts[rows + 1] - starts[rows]
        return found


def groups(rows: Sequence[SegmentRow], window: int) -> list[list[SegmentRow]]:
    """Returns segments in groups of neighbours, as few as can be such that each group fits into one segment.

    Args:
        rows: the segments by position.
        window: documents to a window of postings.
    """
    found: list[list[SegmentRow]] = []
    documents = postings = 0
    for row in rows:
        documents, postings = documents + row.size - row.dead, postings + row.postings
        if not found or documents > MOST_WINDOWS * window or postings > policy.MOST_POSTINGS:
            found.append([])
            documents, postings = row.size - row.dead, row.postings
        found[-1].append(row)
    return found


def living(segments: Sequence[Segment], deleted: Sequence[NDArray[np.int64]]) -> Chosen:
    """Returns what is left of segments without their deleted rows, in the order they have."""
    rows = [np.delete(np.arange(s.size, dtype=np.uint32), gone) for s, gone in zip(segments, deleted, strict=True)]
    part = np.repeat(np.arange(len(segments), dtype=np.uint16), [r.size for r in rows])
    return Chosen(segments, part, np.concatenate(rows))


def merge(
    index: Path,
    rows: Sequence[SegmentRow],
    connection: sqlite3.Connection,
    layout: Layout,
    reorder: Reorder | None = None,
    *,
    steps: NDArray[np.uint8] | None = None,
) -> None:
    """Replaces segments by one, or as few as `groups` says, that hold what lives in them, inside a transaction.

    Args:
        index: the folder of the index.
        rows: neighbouring segments.
        connection: a writer's, in a transaction.
        layout: the index's settings.
        reorder: the order of rows to give; None keeps the one they have.
        steps: uint8 (256,), what becomes of each step of a learned impact; None leaves them.

    Raises:
        CorruptError: a file of the old segments is damaged; every one is checked before it is copied.
        StoreError: `reorder` returned no order.
    """
    for group in groups(rows, layout.window):
        _merge(index, group, connection, layout, reorder, steps)


def _merge(
    index: Path,
    rows: Sequence[SegmentRow],
    connection: sqlite3.Connection,
    layout: Layout,
    reorder: Reorder | None,
    steps: NDArray[np.uint8] | None,
) -> None:
    with ExitStack() as stack:
        segments: list[Segment] = []
        for row in rows:
            segments.append(Segment(folder_of(index, row), row, verify=True))
            stack.callback(segments[-1].release)
        gone = [s.rows_of(database.tombstones(connection, s.row)) for s in segments]
        chosen = living(segments, gone)
        for row in rows:
            database.remove_segment(connection, row)
        if chosen.size:
            database.insert_segment(connection, _written(index, chosen, connection, layout, reorder, steps))


def _written(
    index: Path,
    chosen: Chosen,
    connection: sqlite3.Connection,
    layout: Layout,
    reorder: Reorder | None,
    steps: NDArray[np.uint8] | None,
) -> SegmentRow:
    """Writes a new segment and returns its line."""
    row = SegmentRow(database.new_number(connection), 0, 0, chosen.size, 0, 0, "")
    folder = folder_of(index, row)
    if reorder is not None:
        chosen = _reordered(folder, chosen, reorder)
    folder.mkdir()
    forward, positions = _write_forward(folder, chosen, steps), chosen.positions()
    dense = _write_vectors(folder, chosen, layout.dim) if layout.dim else None
    totals = database.totals(connection)
    checksum = seal_segment(
        folder,
        forward,
        None if dense is None else dense.vectors,
        positions=positions,
        id_rank=_id_rank(index, positions, connection),
        average=totals.tokens / totals.documents,
        layout=layout,
        reordered=reorder is not None,
    )
    first, last = int(positions.min()), int(positions.max())
    return row._replace(first=first, last=last, postings=forward.terms.size, checksum=checksum)


def _reordered(folder: Path, chosen: Chosen, reorder: Reorder) -> Chosen:
    """Returns rows in the order that `reorder` gives them; it sees their forward copy, on disk for the time being."""
    scratch = folder.with_name(f"{folder.name}.scratch")
    scratch.mkdir()
    try:
        order = reorder(_write_forward(scratch, chosen))
        if not np.array_equal(np.sort(order), np.arange(chosen.size)):
            raise StoreError(f"reorder is to return each of the rows 0 to {chosen.size - 1:,} once, in their new order")
        return chosen[order]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_forward(folder: Path, chosen: Chosen, steps: NDArray[np.uint8] | None = None) -> Forward:
    """Writes the forward copy of some rows into a folder, and returns it mapped; `steps` as of `merge`."""
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen.counts())])
    lengths = np.concatenate([np.empty(0, np.uint32), *(_lengths(part) for part in chosen.parts())])
    files.write_array(folder / "forward_starts.npy", starts)
    files.write_array(folder / "forward_lengths.npy", lengths)
    types = {"terms": np.uint32, "values": np.uint8, "literal": np.uint8}
    with ExitStack() as stack:
        growing = {
            name: stack.enter_context(files.Growing(folder / f"forward_{name}.npy", (int(starts[-1]),), dtype))
            for name, dtype in types.items()
        }
        for part in chosen.parts():
            _append(part, growing, steps)
    return Forward(**{name: files.read_array(folder / f"forward_{name}.npy") for name in Forward._fields})


def _append(chosen: Chosen, growing: dict[str, files.Growing], steps: NDArray[np.uint8] | None) -> None:
    """Appends the postings of some rows to their files."""
    counts = chosen.counts()
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    pieces = [(s.forward, spans(starts, at), spans(s.forward.starts, rows)) for s, at, rows in chosen.pieces()]
    for name, file in growing.items():
        values = np.empty(int(starts[-1]), file.dtype)
        for forward, to, source in pieces:
            held: NDArray[Any] = getattr(forward, name)[source]
            if steps is not None and name == "values":
                held = np.where(forward.terms[source] < LEXICAL_BASE, steps[held.astype(np.intp)], held)
            values[to] = held
        file.append(values)


def _lengths(chosen: Chosen) -> NDArray[np.uint32]:
    found = np.empty(chosen.size, np.uint32)
    for segment, at, rows in chosen.pieces():
        found[at] = segment.forward.lengths[rows]
    return found


def _write_vectors(folder: Path, chosen: Chosen, dim: int) -> DenseSegment:
    """Writes the dense vectors of some rows into a folder, and returns them opened."""
    write_flat_parts((_vectors(part, dim) for part in chosen.parts()), chosen.size, dim, folder / DENSE)
    return DenseSegment(folder, chosen.size, dim)


def _vectors(chosen: Chosen, dim: int) -> NDArray[np.float32]:
    found = np.empty((chosen.size, dim), np.float32)
    for segment, at, rows in chosen.pieces():
        assert segment.dense is not None
        found[at] = segment.dense.vectors[rows]
    return found


def _id_rank(index: Path, positions: NDArray[np.int64], connection: sqlite3.Connection) -> NDArray[np.uint32]:
    """Returns each position's place in ascending order of external ids, which SQLite keeps in order."""
    order = np.argsort(positions)
    ascending = positions[order]
    by_id = database.by_id(connection, int(ascending[0]), int(ascending[-1]), positions.size)
    at = np.minimum(np.searchsorted(ascending, by_id), positions.size - 1)
    known = at[ascending[at] == by_id]
    if known.size != positions.size:
        raise CorruptError(f"{index / database.NAME} lacks documents that the segments hold; restore it from a copy")
    rank = np.empty(positions.size, np.uint32)
    rank[order[known]] = np.arange(known.size, dtype=np.uint32)
    return rank

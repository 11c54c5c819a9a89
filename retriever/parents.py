"""The level of parents: a small index inside the index, of one document for each parent, made of its passages.

It lies in the folder `parents` and is an ordinary index, which opens by itself too. Vectors are aggregated from what
the index stores of the passages: the largest learned weight of each term, the sum of the lexical counts, the mean of
the dense vectors. No model runs for it. The stored learned weights are 8-bit steps, and the largest of steps is the
step of the largest: the result is what aggregating before storing would have given.

The level belongs to one state of the passages, which it names; the two are compared before every use. Commits bring it
up to date after the passages are safe. A process that dies in between leaves a level that is refused until the next
commit, or `keep`, has caught up; it is never taken for what it is not.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..index import Snapshot, StoreError, Writer, create
from ..index.contract import TERM_BASE
from ..index.incoming import COLUMNS
from .documents import Document
from .errors import LevelError, QueryError

NAME = "parents"
MADE_OF = "made_of"  # the setting that names the state of the passages
MEMBERS = "passages"  # of a parent's metadata: the positions of its passages
AGGREGATES = {"learned": "max", "lexical": "sum"}
COPIED = ("encoders", "fusion", "weights", "pipeline")  # settings that searches of the level alone need
AT_ONCE = 4096  # passages whose vectors are in memory together, unless one parent has more
ROWS = 1024

Members = dict[str, list[int]]  # positions of passages by parent


class Changes(NamedTuple):
    """What a level lacks: parents that are new or have other passages, and those that are no more."""

    changed: Members
    gone: list[str]


def keep(snapshot: Snapshot) -> None:
    """Makes the level of an index, or brings it up to date; the caller holds the index's writer.

    Raises:
        StoreError: it cannot be written.
    """
    if not is_kept(snapshot):
        settings = {name: snapshot.settings[name] for name in COPIED if name in snapshot.settings}
        layout = replace(snapshot.layout, dense_index="auto")
        create(snapshot.folder / NAME, layout, {**settings, MADE_OF: [0, 0]})
    follow(snapshot)


def is_kept(snapshot: Snapshot) -> bool:
    """Returns whether an index keeps a level of parents."""
    return (snapshot.folder / NAME / "plait.db").is_file()


def follow(snapshot: Snapshot) -> None:
    """Brings the level up to the newest commit, where the index keeps one: all of it, or nothing.

    Where documents were only added, it costs what the parents of the new ones cost; else all parents are compared.

    Raises:
        StoreError: it cannot be written; the message says that the passages themselves are committed.
    """
    if not is_kept(snapshot):
        return
    try:
        with closing(Snapshot(snapshot.folder / NAME)) as level:
            rescaled = level.layout.learned_scale != snapshot.layout.learned_scale
            whole = rescaled and level.layout.learned_scale > 0
            changes = None if _made_of(level) == snapshot.state else _changes(snapshot, level, whole=whole)
        if changes is None:
            return
        if rescaled:  # every parent's weights are made of passages whose weights were rounded anew
            _rescale(snapshot)
        _write(snapshot, changes)
    except StoreError as error:
        raise StoreError(f"the documents are committed, but the level of parents is behind: {error}") from error


def handed_on(older: Snapshot, newer: Snapshot) -> None:
    """Brings the level up to a newer snapshot, while searches of the older one keep theirs.

    Raises:
        StoreError: see `follow`.
    """
    if is_kept(older):
        with suppress(QueryError):  # it was behind before
            level_of(older)
    follow(newer)


_levels: WeakKeyDictionary[Snapshot, Snapshot] = WeakKeyDictionary()
_opening = threading.Lock()


def level_of(snapshot: Snapshot) -> Snapshot:
    """Returns the level that belongs to a snapshot; it stays open as long as the snapshot is there.

    Raises:
        QueryError: the index keeps none.
        LevelError: it is that of another state of the passages.
    """
    with _opening:
        if snapshot not in _levels:
            level = _opened(snapshot)
            _levels[snapshot] = level
            weakref.finalize(snapshot, level.close)
        return _levels[snapshot]


def _opened(snapshot: Snapshot) -> Snapshot:
    if not is_kept(snapshot):
        raise QueryError(
            "this index keeps no level of parents: make one with `plait index ... --parents`, or with "
            "Retriever.keep_parents"
        )
    level = Snapshot(snapshot.folder / NAME)
    if _made_of(level) != snapshot.state:
        level.close()
        raise LevelError(
            "the level of parents is not of the passages that are searched: a commit is going "
            "on, was cut short, or came after this index was opened; open it again (Retriever.refresh), and if that "
            "does not help, `plait index ... --parents` (Retriever.keep_parents) brings the level up to date"
        )
    return level


def _made_of(level: Snapshot) -> tuple[int, ...]:
    return tuple(level.settings.get(MADE_OF, ()))


def _changes(snapshot: Snapshot, level: Snapshot, *, whole: bool = False) -> Changes:
    (then, lived), (now, live) = _made_of(level) or (0, 0), snapshot.state
    if whole:
        current = _gathered(snapshot.families())
        return Changes(current, [family for family, _ in _stored(level) if family not in current])
    if now - then == live - lived:  # nothing went, so only families of the new can differ
        return Changes(_gathered(snapshot.members({family for family, _ in snapshot.families(then)})), [])
    current = _gathered(snapshot.families())
    stored = dict(_stored(level))
    changed = {family: positions for family, positions in current.items() if stored.get(family) != positions}
    return Changes(changed, [family for family in stored if family not in current])


def _gathered(pairs: Sequence[tuple[str, int]]) -> Members:
    found: Members = {}
    for family, position in pairs:
        found.setdefault(family, []).append(position)
    return found


def _stored(level: Snapshot) -> Iterator[tuple[str, list[int]]]:
    ids = level.all_ids()
    while batch := list(islice(ids, ROWS)):
        for row in level.rows(list(level.positions(batch).values())):
            yield row.id, row.metadata[MEMBERS]


def _rescale(snapshot: Snapshot) -> None:
    with closing(Writer(snapshot.folder / NAME)) as writer:
        writer.rescale(snapshot.layout.learned_scale)
        writer.commit()


def _write(snapshot: Snapshot, changes: Changes) -> None:
    with closing(Writer(snapshot.folder / NAME)) as writer:
        for group in _groups(changes.changed):
            writer.add(*_made(snapshot, group))
        if changes.gone:
            writer.delete(changes.gone)
        writer.put_setting(MADE_OF, list(snapshot.state))
        writer.commit()


def _groups(members: Members) -> Iterator[Members]:
    group: Members = {}
    count = 0
    for family, positions in members.items():
        if group and count + len(positions) > AT_ONCE:
            yield group
            group, count = {}, 0
        group[family] = positions
        count += len(positions)
    if group:
        yield group


def _made(snapshot: Snapshot, group: Members) -> tuple[list[Document], Mapping[str, Any], Any]:
    """Returns parents with their vectors, as a writer takes them."""
    from ..encoders.chunked import pool_dense, pool_sparse

    positions = np.array([position for members in group.values() for position in members], np.int64)
    owners = np.repeat(np.arange(len(group)), [len(members) for members in group.values()])
    strands = snapshot.settings["encoders"]
    sparse = {
        strand: pool_sparse([_columns(snapshot, strand, positions)], [owners], len(group), how=how)
        for strand, how in AGGREGATES.items()
        if strand in strands
    }
    dense = pool_dense([snapshot.dense_vectors(positions)], [owners], len(group)) if snapshot.layout.dim else None
    documents = [Document(id=family, text="", metadata={MEMBERS: members}) for family, members in group.items()]
    return documents, sparse, dense


def _columns(snapshot: Snapshot, strand: Any, positions: NDArray[np.int64]) -> Any:
    """Returns the stored weights of documents in the strand's own columns, csr_matrix (positions, columns)."""
    from scipy.sparse import csr_matrix

    rows, terms = snapshot.sparse_vectors(strand, positions)
    columns = terms.astype(np.int64) - TERM_BASE[strand]
    return csr_matrix((rows.data, columns[rows.indices], rows.indptr), shape=(positions.size, COLUMNS[strand]))

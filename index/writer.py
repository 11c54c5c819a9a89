"""The one writer: buffers documents, writes segments, commits."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from . import attributes, compaction, database, files
from .compaction import Reorder
from .contract import Layout, LockedError, StoredDocument, StoreError
from .database import SegmentRow
from .fields import Field, check_values
from .impacts import STEPS, quantised, step_for
from .incoming import canonical, check_vectors, forward_of, side_by_side, stacked, taken
from .policy import UNHURRIED, Shape, plan
from .postings import Forward
from .ranking import id_ranks
from .reorder import reorder as similar
from .segment import folder_of, write_segment

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Compaction = Literal["auto", "off"]

# Old segments removed after a commit: removing a file can take as long as writing one.
TIDIED = 4
# Learned weights for which the step is too small are cut off where they are no more than one in so many of those that
# come, or the index has over so many times as many postings: it would have to be written anew.
FEW_CUT, FEW_STORED = 1000, 64
# Documents held in memory before a segment is written out (it still becomes visible only with the commit).
SEGMENT_DOCUMENTS = 65_536


class Writer:
    """Adds, replaces and deletes documents. Nothing is seen by readers, or survives a crash, before `commit`.

    Args:
        folder: the index.
        segment_documents: how many documents are buffered before a segment is written.
        compaction: "auto" merges small segments after a commit, in bounded time (see `policy`); "off" leaves all to
            `compact`.

    Raises:
        LockedError: another writer is at work.
    """

    def __init__(
        self, folder: Path, *, segment_documents: int = SEGMENT_DOCUMENTS, compaction: Compaction = "auto"
    ) -> None:
        from filelock import FileLock, Timeout  # 10 ms, which who only searches need not wait

        check_compaction(compaction)
        self.folder = folder.absolute()  # files are written later too, wherever the process works by then
        self.segment_documents, self.compaction = segment_documents, compaction
        database.check_is_index(folder)
        # Not of a thread: a writer may be closed by another one than made it.
        self._lock = FileLock(self.folder / "writer.lock", blocking=False, thread_local=False)
        with database.explained(folder):
            try:
                self._lock.acquire()
            except Timeout as error:
                message = (
                    f"{folder} is being written by another process or another Retriever; try again when it is done"
                )
                raise LockedError(message) from error
            try:
                self._opened: sqlite3.Connection | None = database.open_writer(folder)
                self.layout = Layout(**database.settings(self._connection)["layout"])
                self.tidy()
            except BaseException:
                self._lock.release()
                raise
        self._documents: list[StoredDocument] = []
        self._waiting: dict[str, StoredDocument] = {}  # what of `_documents` will be stored, by id
        self._sparse: list[list[Forward]] = []
        self._dense: list[NDArray[np.float32]] = []
        self._fresh = Shape()  # what the open transaction has written

    def add(
        self,
        documents: Sequence[StoredDocument],
        sparse: Mapping[str, csr_matrix],
        dense: NDArray[np.float32] | None,
        *,
        literal: Mapping[str, csr_matrix] | None = None,
        lengths: NDArray[np.integer] | None = None,
    ) -> None:
        """Adds documents with their vectors; one whose id is known replaces the older.

        Args:
            documents: what to store.
            sparse: for "learned" weights and for "lexical" counts, float32 (len(documents), columns); either may lack.
            dense: float32 (len(documents), dim), or None for an index without a dense strand.
            literal: for a strand whose vectors hold terms that the text does not, the terms that it does: IDF counts
                only those. Without it every term counts.
            lengths: the documents' lengths in lexical terms, (len(documents),); the sums of their counts without it.

        Raises:
            StoreError: vectors do not fit the documents or the index, or hold NaN, infinite or negative values; or
                metadata does not fit the declared fields. Nothing of the call is stored then.
        """
        if not documents:
            return
        check_vectors(sparse, dense, len(documents), self.layout.dim)
        check_values(self.fields, documents)
        with database.explained(self.folder), self._undone():
            self._begin()
            given, own = {strand: canonical(rows) for strand, rows in sparse.items()}, literal or {}
            self._fit_scale(given.get("learned"))
            self._sparse.append([forward_of(s, rows, own.get(s), self.layout, lengths) for s, rows in given.items()])
            self._documents.extend(documents)
            self._waiting.update((document.id, document) for document in documents)
            if dense is not None:
                self._dense.append(np.ascontiguousarray(dense, np.float32))
            if len(self._documents) >= self.segment_documents:
                self._flush()

    def delete(self, ids: Iterable[str], *, passages: bool = True) -> int:
        """Deletes documents by id, and with `passages` all passages of a parent by its id; returns how many went."""
        wanted = list(ids)
        for id in wanted:
            if not isinstance(id, str):
                raise StoreError(f"documents are deleted by their ids, which are texts, not {id!r}")
        with database.explained(self.folder), self._undone():
            self._begin()
            if self._buffers(set(wanted), passages) or (passages and self._replaces(wanted)):
                self._flush()
            named = [*wanted, *(database.passages_of(self._connection, wanted) if passages else ())]
            return database.bury(self._connection, set(database.positions_of(self._connection, named).values()))

    def digests(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Returns the digests of documents, those that await the commit included, by id."""
        wanted = list(ids)
        with database.explained(self.folder):
            stored = database.digests_of(self._connection, wanted)
        newer = {id: database.digest(self._waiting[id]) for id in wanted if id in self._waiting}
        return {**stored, **newer}

    def passages(self, parents: Iterable[str]) -> list[str]:
        """Returns the ids of the passages of parents, those that await the commit included."""
        named = set(parents)
        return self._found(named, database.passages_of, lambda document: document.parent in named)

    def wholes(self, ids: Iterable[str]) -> list[str]:
        """Returns those of the ids that are documents and no passages, those that await the commit included."""
        named = set(ids)
        return self._found(named, database.wholes_of, lambda document: document.id in named and document.parent is None)

    def put_setting(self, key: str, value: Any) -> None:
        """Changes a setting with the next commit.

        Raises:
            StoreError: the value is none of JSON's; what was added before still awaits its commit.
        """
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise StoreError(f"the setting {key!r} cannot be kept: {error}") from error
        with database.explained(self.folder), self._undone():
            self._begin()
            database.put_setting(self._connection, key, value)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Returns the declared columns, those that await the commit included."""
        with database.explained(self.folder):
            return attributes.fields(self._connection)

    def declare(self, name: str, type: str) -> None:
        """Declares a column for filters, filled from the metadata of the documents; declared so already, it stays.

        Args:
            name: the metadata name that holds the value.
            type: "text", "integer", "number", "boolean", "date", or a list of them, as "text[]".

        Raises:
            StoreError: the name or type cannot be, the name has another type already, or a document's value does not
                fit; then nothing is declared, and what was added before still awaits its commit.
        """
        with database.explained(self.folder):
            field = attributes.new_field(self._connection, name, type)
        if field is None:
            return
        with database.explained(self.folder), self._undone():
            self._begin()
            self._flush()
        with database.explained(self.folder):
            for _ in attributes.stored(self._connection, field):
                pass  # what does not fit shows before anything changes
        with database.explained(self.folder), self._undone():
            attributes.declare(self._connection, field)

    def undeclare(self, name: str) -> None:
        """Forgets a declared column; the documents keep their metadata.

        Raises:
            StoreError: no such column is declared.
        """
        with database.explained(self.folder):
            field = attributes.known_field(self._connection, name)
        with database.explained(self.folder), self._undone():
            self._begin()
            attributes.undeclare(self._connection, field)

    @property
    def pending(self) -> bool:
        """Returns whether there is anything to commit."""
        return self._connection.in_transaction

    def commit(self) -> None:
        """Makes everything since the last commit durable and visible, or, when it fails, none of it.

        Raises:
            StoreError: a full disk or another failure; the index is as it was after the last commit.
        """
        if not self.pending:
            return
        fresh = self._commit()
        if self.compaction == "auto":
            with contextlib.suppress(StoreError):  # what was asked for is done; the segments stay as they are
                self._merge_as_planned(fresh)
        self.tidy(most=TIDIED)

    def compact(
        self,
        *,
        everything: bool = True,
        reorder: Reorder | Literal["similar"] | None = "similar",
        anew: bool = False,
    ) -> int:
        """Commits, merges segments, forgets what was deleted, and refreshes the average length that BM25 uses.

        Documents keep their positions; readers keep what they see. Room on the disk is needed for the new segment
        beside the old ones; those go when nobody reads them any more.

        Args:
            everything: merge all segments into one (or as few as their format allows); otherwise only what "auto" would
                merge, had it the time.
            reorder: "similar" puts similar documents next to one another (see `reorder.reorder`), which makes searches
                faster; a function gives the order of the rows of a new segment from its forward copy; None leaves it.
            anew: write segments anew that are compact already, too: what `check` found wrong is then made again.

        Returns:
            How many segments were merged, or written anew.

        Raises:
            StoreError: a full disk or another failure; the index is as it was after the last commit.
            CorruptError: a file of a segment is damaged.
        """
        self._commit()
        order = partial(similar, window=self.layout.window) if reorder == "similar" else reorder
        if everything:
            groups = compaction.groups(database.segments(self._connection), self.layout.window)
            done = self._merge([g for g in groups if anew or self._is_loose(g, order)], order)
        else:
            done = self._merge_as_planned(UNHURRIED, order)
        self.tidy()
        return done

    def tidy(self, most: int | None = None) -> None:
        """Removes the folders that a crash, a rollback or a merge left, except those that somebody reads.

        Args:
            most: leave the rest for later after so many.
        """
        if self._connection.in_transaction:  # what an open transaction has replaced is still what readers see
            return
        known = {folder_of(self.folder, row) for row in database.segments(self._connection)}
        unknown = (folder for folder in (self.folder / "segments").iterdir() if folder not in known)
        removed = (folder for folder in unknown if files.remove_unused(folder))
        for _ in islice(removed, most):
            pass

    def shorten_log(self) -> bool:
        """Keeps SQLite's log from growing; returns whether a snapshot that is opened now lets it begin anew."""
        with database.explained(self.folder):
            return database.shorten_log(self._connection, self.folder)

    def rollback(self) -> None:
        """Forgets everything since the last commit."""
        self._documents, self._sparse, self._dense, self._fresh = [], [], [], Shape()
        self._waiting = {}
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self.layout = Layout(**database.settings(self._connection)["layout"])
        self.tidy()

    def close(self) -> None:
        """Rolls back what is not committed and lets the next writer in."""
        if self._opened is None:
            return
        try:
            self.rollback()
        except (sqlite3.Error, OSError):
            pass  # the next writer removes what is left
        finally:
            self._connection.close()
            self._opened = None
            self._lock.release()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            raise StoreError(f"this writer of {self.folder} is closed; open another one")
        return self._opened

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            database.shorten_log(self._connection, self.folder)
            database.begin(self._connection)

    def _undone(self) -> _Undone:
        return _Undone(self)

    def rescale(self, scale: float) -> None:
        """Changes the step of learned impacts with the next commit; what is stored is rounded to the new one."""
        with database.explained(self.folder), self._undone():
            self._begin()
            self._rescale(scale)

    def _fit_scale(self, learned: Any) -> None:
        """Sets the step of learned impacts from the first weights there are, and anew where later ones do not fit.

        A first document of a word or two says little of the weights to come, which would all be cut off alike. Where
        the index is large beside what comes, a few that are cut off are no reason to write it anew.
        """
        if learned is None or not learned.nnz:
            return
        if scale := self.layout.learned_scale:
            if np.count_nonzero(learned.data > (STEPS + 0.5) * scale) <= learned.nnz / FEW_CUT:
                return
            rows = database.segments(self._connection)
            stored = sum(row.postings for row in rows) + sum(p.terms.size for parts in self._sparse for p in parts)
            if stored > FEW_STORED * learned.nnz:
                return
        self._rescale(step_for(learned.data))

    def _rescale(self, scale: float) -> None:
        self._flush()
        old, self.layout = self.layout.learned_scale, replace(self.layout, learned_scale=scale)
        database.put_setting(self._connection, "layout", asdict(self.layout))
        if old:
            steps = quantised(np.arange(STEPS + 1) * old, scale)
            for rows in compaction.groups(database.segments(self._connection), self.layout.window):
                compaction.merge(self.folder, rows, self._connection, self.layout, steps=steps)

    def _found(
        self, named: set[str], stored: Callable[[sqlite3.Connection, set[str]], list[str]],
        waiting: Callable[[StoredDocument], bool],
    ) -> list[str]:  # fmt: skip
        """Returns the ids of stored documents that nothing replaces, and of those that await the commit and match."""
        with database.explained(self.folder):
            kept = [id for id in stored(self._connection, named) if id not in self._waiting]
        return [*kept, *(id for id, document in self._waiting.items() if waiting(document))]

    def _buffers(self, ids: Collection[str], passages: bool) -> bool:
        """Returns whether the buffer holds one of these ids, or with `passages` a passage of one."""
        return any(d.id in ids or (passages and d.parent in ids) for d in self._documents)

    def _replaces(self, parents: Collection[str]) -> bool:
        """Returns whether the buffer holds new versions of stored passages of some parents."""
        return bool(self._waiting) and any(
            id in self._waiting for id in database.passages_of(self._connection, parents)
        )

    def _commit(self) -> Shape:
        """Commits what is pending and returns how much was written."""
        with database.explained(self.folder), self._undone():
            self._flush()
            if self.pending:
                database.commit(self._connection)
        fresh, self._fresh = self._fresh, Shape()
        return fresh

    def _merge_as_planned(self, fresh: Shape, reorder: Reorder | None = None) -> int:
        rows = database.segments(self._connection)
        planned = plan(list(map(_shape, rows)), fresh)
        return self._merge([rows[group.start : group.stop] for group in planned], reorder)

    def _merge(self, groups: Sequence[Sequence[SegmentRow]], reorder: Reorder | None = None) -> int:
        """Replaces each group of neighbouring segments by one, all in one transaction."""
        if groups:
            with database.explained(self.folder), self._undone():
                self._begin()
                for rows in groups:
                    compaction.merge(self.folder, rows, self._connection, self.layout, reorder)
                database.commit(self._connection)
        return sum(map(len, groups))

    def _is_loose(self, rows: Sequence[SegmentRow], reorder: Reorder | None) -> bool:
        """Returns whether these are not yet one segment of what lives, with today's average length, and in order."""
        if len(rows) > 1 or rows[0].dead:
            return True
        _, documents, tokens = database.totals(self._connection)
        manifest = files.read_manifest(folder_of(self.folder, rows[0]), rows[0].checksum)
        out_of_order = reorder is not None and not manifest["reordered"]
        return out_of_order or manifest["average_length"] != tokens / documents

    def _flush(self) -> None:
        """Writes the buffer as a segment, or several where windows would be too many, into the open transaction."""
        if not self._documents:
            return
        sizes = [parts[0].size if parts else self._dense[i].shape[0] for i, parts in enumerate(self._sparse)]
        forward = stacked([side_by_side(parts, size) for parts, size in zip(self._sparse, sizes, strict=True)])
        self._sparse = []  # so that memory holds it once
        vectors = np.concatenate(self._dense) if self._dense else None
        last = {document.id: i for i, document in enumerate(self._documents)}
        documents = self._documents
        if len(last) < len(documents):  # an id was added twice: the later one stays
            keep = np.array(sorted(last.values()))
            documents = [documents[i] for i in keep.tolist()]
            forward, vectors = taken(forward, keep), None if vectors is None else vectors[keep]
        most = compaction.MOST_WINDOWS * self.layout.window
        for start in range(0, len(documents), most):
            piece = slice(start, start + most)
            part = forward if len(documents) <= most else taken(forward, np.arange(len(documents))[piece])
            self._write(documents[piece], part, None if vectors is None else vectors[piece])
        self._documents, self._dense, self._waiting = [], [], {}

    def _write(
        self, documents: Sequence[StoredDocument], forward: Forward, vectors: NDArray[np.float32] | None
    ) -> None:
        """Writes documents as a segment and inserts both into the open transaction."""
        first = database.insert_documents(self._connection, documents, forward.lengths.tolist())
        row = database.SegmentRow(
            number=database.new_number(self._connection),
            first=first,
            last=first + len(documents) - 1,
            size=len(documents),
            postings=forward.terms.size,
            dead=0,
            checksum="",
        )
        totals = database.totals(self._connection)
        written = write_segment(
            folder_of(self.folder, row),
            forward,
            vectors,
            positions=np.arange(first, row.last + 1),
            id_rank=id_ranks([d.id for d in documents]),
            average=totals.tokens / totals.documents,
            layout=self.layout,
        )
        database.insert_segment(self._connection, row._replace(checksum=written))
        self._fresh += _shape(row)


class _Undone:
    """Rolls a writer back when the block fails, whatever the reason, Ctrl-C included."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._writer.rollback()


def check_compaction(given: str) -> None:
    """Raises a StoreError unless it is a way of compaction."""
    if given not in get_args(Compaction):
        raise StoreError(f"compaction is one of {', '.join(get_args(Compaction))}, not {given!r}")


def _shape(row: SegmentRow) -> Shape:
    return Shape(row.size - row.dead, row.dead, row.postings)

"""`check`: everything an index says of itself, compared with what is there; and what to do where it differs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from . import attributes, database, files
from .compiled import inverted, load_kernels
from .contract import LEXICAL_BASE, CorruptError, Layout, StoreError
from .dense import QUERIES, sample_queries
from .opening import opened
from .postings import Postings, impacts_of
from .segment import Segment, folder_of

AGAIN = "restore the index from a copy, or index the documents again"
# Added again without being deleted it would be taken for unchanged: its digest is the one that was stored.
REWRITE = "delete the document and add it again, or restore the index from a copy"
DECLARE = "drop the field and declare it again (`plait fields`): it is then filled anew"
SAMPLES = "documents are whole, and large segments are tuned without sample queries: restore the file from a copy"
COMPACT = "the documents are whole: `plait compact --anew` writes the segment anew from its forward copy"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was written.

    Attributes:
        where: the file, or the documents.
        what: what was found, and what was expected.
        advice: how to repair it.
    """

    where: str
    what: str
    advice: str


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        files: how many were read.
        bytes: how much that was.
        documents: how many texts were compared with their digests.
        problems: empty where all is well.
    """

    files: int
    bytes: int
    documents: int
    problems: tuple[Problem, ...]


def check(folder: Path) -> Report:
    """Reads a whole index: the database's own structure, every text's digest, every file's checksum, every posting.

    Writers may go on meanwhile; what was committed when the check began is checked.

    Args:
        folder: the index.

    Raises:
        StoreError: there is no index, or its format is another.
        CorruptError: the database is so damaged that it cannot be asked.
    """
    database.check_is_index(folder)
    with database.explained(folder):
        connection, held = _opened(folder)
        # Bytes that are no text show by their document's digest, instead of ending the check.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            return _checked(folder, connection)
        finally:
            connection.close()
            for segment in held:
                segment.release()


def _opened(folder: Path) -> tuple[sqlite3.Connection, list[Segment]]:
    """Returns a connection, and every segment held, so that nobody removes it meanwhile; none where one is damaged."""
    try:
        return opened(folder, verify=False)
    except StoreError:
        return database.open_reader(folder), []


def _checked(folder: Path, connection: sqlite3.Connection) -> Report:
    problems = list(_database(folder, connection))
    documents, hurt = _texts(connection)
    problems += [Problem(f"document {id!r}", "its text does not match its digest", REWRITE) for id in hurt]
    settings = database.settings(connection)
    layout = Layout(**settings["layout"])
    problems += _queries(folder, settings.get(QUERIES), layout)
    rows, count, size = database.segments(connection), 1, (folder / database.NAME).stat().st_size
    if (samples := folder / QUERIES).is_file():
        count, size = count + 1, size + samples.stat().st_size
    load_kernels()
    for row in rows:
        problems += _segment(folder, row, layout)
        inside = [path for path in folder_of(folder, row).glob("*") if path.is_file()]
        count, size = count + len(inside), size + sum(path.stat().st_size for path in inside)
    return Report(count, size, documents, tuple(problems))


def _queries(folder: Path, written: str | None, layout: Layout) -> Iterator[Problem]:
    """Yields what is wrong with the sample queries; `written` is their checksum, which older indexes do not tell."""
    path = folder / QUERIES
    try:
        if sample_queries(folder, layout.dim) is None:
            if written is not None:
                yield Problem(str(path), "it is missing", SAMPLES)
        elif written is not None and files.checksum(path) != written:
            yield Problem(str(path), "its checksum is not the one that was written", SAMPLES)
    except CorruptError as error:
        yield Problem(str(path), str(error), SAMPLES)


def _database(folder: Path, connection: sqlite3.Connection) -> Iterator[Problem]:
    path = str(folder / database.NAME)
    for (said,) in connection.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield Problem(path, said, AGAIN)
    totals = database.totals(connection)
    count, tokens = connection.execute("SELECT count(*), coalesce(sum(length), 0) FROM document").fetchone()
    if (count, tokens) != (totals.documents, totals.tokens):
        counted = f"{totals.documents:,} of {totals.tokens:,}"
        yield Problem(path, f"{count:,} documents of {tokens:,} terms are there, {counted} were counted", AGAIN)
    rows = database.segments(connection)
    living = sum(row.size - row.dead for row in rows)
    if living != count:
        yield Problem(path, f"{living:,} documents live in segments, {count:,} have a text", AGAIN)
    for row in rows:
        if (dead := database.tombstones(connection, row).size) != row.dead:
            yield Problem(path, f"segment {row.number} has {dead:,} tombstones, {row.dead:,} were counted", AGAIN)
    for said in attributes.damage(connection):
        yield Problem(path, said, DECLARE)


def _texts(connection: sqlite3.Connection) -> tuple[int, list[str]]:
    """Returns how many documents there are, and the ids of those whose digest differs."""
    count, hurt = 0, list[str]()
    for id, whole in database.ids_and_states(connection):
        count += 1
        if not whole:
            hurt.append(id)
    return count, hurt


def _segment(folder: Path, row: database.SegmentRow, layout: Layout) -> Iterator[Problem]:
    path = folder_of(folder, row)
    try:
        segment = Segment(path, row, verify=False)
    except (CorruptError, StoreError) as error:
        yield Problem(str(path), str(error), AGAIN)
        return
    try:
        broken = [name for name, facts in segment.manifest["files"].items() if _differs(path / name, facts)]
        for name in broken:
            yield Problem(str(path / name), "its checksum is not the one that was written", AGAIN)
        if not broken and (name := _unlike(segment, layout)):
            yield Problem(str(path / f"{name}.npy"), "it does not follow from the forward copy", COMPACT)
    finally:
        segment.release()


def _differs(path: Path, facts: dict[str, str]) -> bool:
    return files.checksum(path) != facts["crc32"]


def _unlike(segment: Segment, layout: Layout) -> str | None:
    """Returns the first array that building the postings again does not give."""
    if not segment.size:
        return None
    average = segment.manifest["average_length"]
    impacts = impacts_of(segment.forward, LEXICAL_BASE, average, layout.k1, layout.b)
    made = inverted(segment.forward, impacts, segment.postings.id_rank, int(segment.postings.shape[0]))
    pairs = zip(Postings._fields, made, segment.postings, strict=True)
    return next((name for name, new, old in pairs if not np.array_equal(new, old)), None)

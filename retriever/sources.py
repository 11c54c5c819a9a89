"""From the paths a person names to the files that will be read, in order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .documents import IngestError
from .readers import READERS, Format, known_suffixes
from .streams import OPENERS, STANDARD_INPUT, Reject, Stream, kind_of, open_stream

Paths = str | Path | Iterable[str | Path]
INDEX = "plait.db"  # makes a folder an index, whose files nobody means to be read
SHOWN = 8  # files, or kinds of them, that are named where they are not read
FILE, LINKED, SPECIAL = "file", "linked", "special"  # what is in a folder
_NOT_READ = {
    LINKED: "links to folders are not followed: name the folders themselves",
    SPECIAL: "no regular files: pipes, sockets and devices of a folder are not read",
}
_MISSING = "there is no such file or folder; check the path"


@dataclass(frozen=True, slots=True)
class Source:
    """One input.

    Attributes:
        name: what messages call it.
        file: where it is; None is standard input.
        inside: its path inside the folder that was named, with forward slashes; ids of text files come from it.
        kind: its key in `READERS`.
    """

    name: str
    file: Path | None
    inside: str
    kind: str

    @property
    def format(self) -> Format:
        """How it is read."""
        return READERS[self.kind]

    @property
    def size(self) -> int | None:
        """Bytes as stored; None where that cannot be known."""
        try:
            return None if self.file is None else self.file.stat().st_size
        except OSError:
            return None

    def open(self) -> Stream:
        """Returns the open input."""
        return open_stream(self.file, self.name)


def find_sources(paths: Paths, reject: Reject) -> list[Source]:
    """Returns the inputs that the paths name: files, folders, "-" for JSONL on standard input.

    A folder that holds corpus.jsonl is a BEIR folder: only that file is read. In any other the text files are taken,
    one document each, in sorted order, hidden ones left out; where there are none, its JSONL, CSV and TSV files are.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    sources: list[Source] = []
    for path in given:
        try:
            sources.extend(_sources_of(path, reject))
        except IngestError as error:
            reject(error)
    return sources


def check_paths(paths: Paths) -> None:
    """Raises an error where a path is missing: that is a slip, even where bad input is to be skipped.

    Raises:
        IngestError: there is no such file or folder, or standard input is named and closed.
    """
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        if str(path) == STANDARD_INPUT:
            open_stream(None, "standard input")
        elif not Path(path).exists():
            raise IngestError(_MISSING, path=str(path))


def total_bytes(paths: Paths) -> int | None:
    """Returns how many bytes `read_documents` will count off for these paths, or None where that cannot be known.

    Paths that cannot be read count nothing; `read_documents` says what is wrong with them.
    """
    sizes = [source.size for source in find_sources(paths, lambda _error: None)]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def passed_over(paths: Paths) -> Iterator[str]:
    """Yields for each folder what it holds that `read_documents` does not read, where there is such."""
    named = [paths] if isinstance(paths, (str, Path)) else list(paths)
    read = {source.file.absolute() for source in find_sources(named, lambda _error: None) if source.file is not None}
    for path in named:
        folder = Path(path)
        if str(path) != STANDARD_INPUT and folder.is_dir() and _corpus(folder) is None:
            with suppress(IngestError):  # `read_documents` tells of it
                if told := _passed_over(folder, read):
                    yield f"{folder}: not read: {'; '.join(told)}"


def _passed_over(folder: Path, read: set[Path]) -> list[str]:
    entries = list(_entries(folder, lambda _error: None))
    files = [path for path, kind in entries if kind == FILE]
    indexes = {file.parent for file in files if file.name == INDEX}
    left = [file for file in files if file.absolute() not in read and indexes.isdisjoint(file.parents)]
    records = [file.relative_to(folder).as_posix() for file in left if kind_of(file) in READERS]
    others = [kind_of(file) or "no suffix" for file in left if kind_of(file) not in READERS]
    told = []
    if records:
        told.append(f"{_some(records)} (beside texts, records are not read: name these files themselves)")
    if others:
        told.append(f"{len(others):,} of other kinds ({_some(sorted(set(others)))})")
    for wanted, why in _NOT_READ.items():
        if names := [path.relative_to(folder).as_posix() for path, kind in entries if kind == wanted]:
            told.append(f"{_some(names)} ({why})")
    return told


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _sources_of(path: str | Path, reject: Reject) -> list[Source]:
    name = str(path)
    if name == STANDARD_INPUT:
        return [Source("standard input", None, "", ".jsonl")]
    path = Path(path)
    if path.is_dir():
        return _folder(path, reject)
    if not path.exists():
        raise IngestError(_MISSING, path=name)
    if kind_of(path) not in READERS:
        raise IngestError(f"cannot tell what is in it from its name; known are {known_suffixes()}", path=name)
    return [Source(name, path, path.name, kind_of(path))]


def _folder(folder: Path, reject: Reject) -> list[Source]:
    if (corpus := _corpus(folder)) is not None:
        return [Source(str(corpus), corpus, corpus.name, ".jsonl")]
    found = [
        Source(str(file), file, file.relative_to(folder).as_posix(), kind_of(file))
        for file, kind in _entries(folder, reject)
        if kind == FILE and kind_of(file) in READERS
    ]
    texts = [source for source in found if source.format.whole]
    if not found:
        raise IngestError(f"this folder holds no file that can be read; known are {known_suffixes()}", path=str(folder))
    return texts or found


def _corpus(folder: Path) -> Path | None:
    """Returns the corpus of a BEIR folder."""
    named = (folder / f"corpus.jsonl{suffix}" for suffix in ("", *OPENERS))
    return next((corpus for corpus in named if corpus.is_file()), None)


def _entries(folder: Path, reject: Reject) -> Iterator[tuple[Path, str]]:
    """Yields what is below a folder, sorted by path, without what is hidden: files, and what is not looked into.

    A folder below it that cannot be listed is rejected, and the others go on.

    Raises:
        IngestError: the folder itself cannot be listed.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise IngestError(f"cannot be listed: {error.strerror}", path=str(folder)) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            try:
                yield from _entries(path, reject)
            except IngestError as error:
                reject(error)
        elif entry.is_dir():
            yield path, LINKED
        else:  # a link to nothing is told of when it is opened
            yield path, FILE if entry.is_file() or _is_nowhere(path) else SPECIAL


def _is_nowhere(path: Path) -> bool:
    """Returns whether a link leads to nothing, or to what may not be looked at."""
    try:
        return not path.exists()
    except OSError:
        return True

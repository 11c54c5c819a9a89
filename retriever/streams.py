"""Input opened as bytes, decompressed by its suffix, decoded line by line with errors that name the line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from .documents import IngestError

Reject = Callable[[IngestError], None]  # told of each piece of bad input: raises, or notes it and returns

OPENERS: dict[str, Callable[[BinaryIO], object]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
}
STANDARD_INPUT = "-"
_BOM = b"\xef\xbb\xbf"
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


def kind_of(path: Path) -> str:
    """Returns the suffix that says what a file holds, in lower case and without compression: '.jsonl', '.md', ''."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@dataclass
class Stream:
    """One open input: `data` decompressed, `raw` as stored (its position is what progress counts).

    Of the line that was read last, `ended` tells whether it has a line end.
    """

    name: str
    raw: BinaryIO
    data: BinaryIO
    closing: ExitStack
    ended: bool = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.close()

    def lines(self, reject: Reject) -> Iterator[tuple[int, str]]:
        """Yields (line number from 1, text without its line end); a line that is not UTF-8 is rejected."""
        for number, line in enumerate(self._lines(), start=1):
            self.ended = line.endswith(b"\n")
            if number == 1:
                line = line.removeprefix(_BOM)
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                reject(IngestError(_undecodable(line, error), path=self.name, line=number))
                continue
            yield number, text.rstrip("\r\n")

    def text(self) -> str:
        """Returns the whole text, with line ends as newlines."""
        try:
            data = self.data.read().removeprefix(_BOM)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        try:
            return data.decode().replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            start = data.rfind(b"\n", 0, error.start) + 1
            line = data[start : error.end]
            inside = UnicodeDecodeError("utf-8", line, error.start - start, error.end - start, error.reason)
            number = data.count(b"\n", 0, error.start) + 1
            raise IngestError(_undecodable(data[:2] + line, inside), path=self.name, line=number) from None

    def position(self) -> int:
        """Returns how many stored bytes have been read; 0 where that cannot be known."""
        return self.raw.tell() if self.raw.seekable() else 0

    def _lines(self) -> Iterator[bytes]:
        try:
            yield from self.data
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> IngestError:
        return IngestError(f"cannot be read to its end, it is damaged or cut short ({error})", path=self.name)


def open_stream(path: Path | None, name: str) -> Stream:
    """Returns an open file, or standard input where the path is None.

    Raises:
        IngestError: the file is missing or may not be read, or standard input is closed.
    """
    if path is None:
        if sys.stdin is None:
            raise IngestError("is closed; give it something to read, or name a file", path=name)
        return Stream(name, sys.stdin.buffer, sys.stdin.buffer, ExitStack())
    closing = ExitStack()
    try:
        raw = closing.enter_context(path.open("rb"))
    except FileNotFoundError:
        raise IngestError("there is no such file; check the path", path=name) from None
    except OSError as error:
        raise IngestError(f"cannot be opened: {error.strerror}", path=name) from error
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        return Stream(name, raw, raw, closing)
    unpacked = closing.enter_context(cast("BinaryIO", opener(raw)))
    return Stream(name, raw, unpacked, closing)


def rejecter(*, skip_bad: bool, on_bad: Callable[[IngestError], None] | None) -> Reject:
    """Returns what to call with bad input: it raises, or where bad input is skipped it tells `on_bad`."""

    def reject(error: IngestError) -> None:
        if not skip_bad:
            raise error from error.__cause__
        if on_bad is not None:
            on_bad(error)

    return reject


def _undecodable(line: bytes, error: UnicodeDecodeError) -> str:
    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "this is UTF-16, expected UTF-8; convert it, as in: iconv -f UTF-16 -t UTF-8"
    found = error.object[error.start]
    return f"byte {error.start + 1} (0x{found:02x}) is not UTF-8 ({error.reason}); convert the file to UTF-8"

"""The server's log: a line of JSON for each request and each failure.

No query, no text and no token is in it, unless an error that is a bug of ours names one.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from ...retriever import StoreError

STDERR = "-"


class Journal:
    """Writes lines of JSON to a file or to standard error.

    Args:
        place: a file that lines are appended to, or "-" for standard error; None keeps requests out and writes only
            failures, to standard error.
        write: takes a line instead; for tests.

    Raises:
        StoreError: the file cannot be opened.
    """

    def __init__(self, place: str | None = None, *, write: Callable[[str], Any] | None = None) -> None:
        self.requests = place is not None or write is not None
        self._lock = threading.Lock()
        self._file = _appending(Path(place)) if place not in (None, STDERR) and write is None else None
        self._write = write or (sys.stderr if self._file is None else self._file).write

    def request(self, **facts: Any) -> None:
        """Writes a line about a request, where requests are wanted."""
        if self.requests:
            self._line("request", facts)

    def failure(self, error: BaseException, doing: str) -> None:
        """Writes what went wrong and where, for whoever runs the server; clients are told nothing of it."""
        where = traceback.format_exception(type(error), error, error.__traceback__)
        self._line("failure", {"doing": doing, "error": f"{type(error).__name__}: {error}", "trace": where})

    def told(self, event: str, **facts: Any) -> None:
        """Writes a line about something that happened to the server."""
        self._line(event, facts)

    def close(self) -> None:
        """Closes the file, where there is one; lines that come later are not written."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _line(self, event: str, facts: dict[str, Any]) -> None:
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "event": event, **facts})  # control characters are escaped: no line is forged
        with self._lock:
            try:
                self._write(line + "\n")
            except (OSError, ValueError):  # a full disk, a closed stream: answering goes on
                return


def _appending(path: Path) -> TextIO:
    try:
        return path.open("a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: no log can be written there: {error.strerror or error}") from None

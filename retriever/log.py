"""A log of queries: what was asked, what was found, how long it took; and which hits were the right ones.

A line of JSON for each. `plait tune --log` learns from those that say what was relevant.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any

from .documents import IngestError, check_id
from .errors import QueryError, StoreError
from .hits import Answer
from .streams import open_stream, rejecter

SEARCH, RELEVANCE = "search", "relevance"
MOST = 1_000_000  # of a relevance: trec_eval counts each level up to the largest
# A pipe that nobody reads is an error at once, and one that is full never holds up a search.
_AS_IT_IS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


class QueryLog:
    """A file to which searches and judgements are appended, a line each, by any number of processes.

    A line is written whole, by one call, to the end of the file; behind one that was cut short, by whomever, it begins
    anew. Where it cannot be written, the search goes on: the first failure is told, and the next line is tried again.

    Example:
        >>> from plait.retriever import Retriever
        >>> from plait.retriever.log import QueryLog
        >>> log = QueryLog("queries.jsonl")  # doctest: +SKIP
        >>> hits = Retriever.open("my.index", log=log).search("insects")  # doctest: +SKIP
        >>> log.clicked("insects", hits[0].id)  # doctest: +SKIP
    """

    def __init__(self, path: str | PathLike[str], *, on_failure: Callable[[str], None] = _warn) -> None:
        """Opens a log, or makes one.

        Args:
            path: the file.
            on_failure: told once, when a line cannot be written; a RuntimeWarning unless said otherwise.

        Raises:
            StoreError: the file cannot be opened for writing.
        """
        self.path, self._on_failure = Path(path), on_failure
        self._told = False
        self._lock = threading.Lock()
        try:
            os.close(self._opened())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise StoreError(f"{self.path}: no query log can be written there: {why}") from None

    def searched(self, answer: Answer, *, k: int, filter: str | None = None) -> None:
        """Appends a search: when, what was asked and how, milliseconds by stage, and the hits."""
        hits = [
            {"id": hit.id, "score": hit.score, "strands": {name: view.normalised for name, view in hit.strands.items()}}
            for hit in answer
        ]
        about = {name: getattr(answer, name) for name in ("fusion", "weights", "pipeline")}
        told = {name: round(value, 3) for name, value in answer.milliseconds.items()}
        self._append(
            {
                "event": SEARCH, "query": answer.query, "k": k, "strands": list(answer.weights), **about,
                "filter": filter, "milliseconds": told, "hits": hits,
            }
        )  # fmt: skip

    def clicked(self, query: str, id: str) -> bool:
        """Appends that somebody took this document for this query, which counts as relevant; returns as `judged`."""
        return self.judged(query, id, 1)

    def judged(self, query: str, id: str, relevance: int) -> bool:
        """Appends a judgement, 0 for not relevant, above it for how relevant; returns whether it was written.

        Raises:
            QueryError: the query is empty, or the relevance no whole number.
            IngestError: it can be no document's id.
        """
        _check_judgement(query, id, relevance)
        return self._append({"event": RELEVANCE, "query": query, "id": id, "relevance": relevance})

    def _append(self, event: Mapping[str, Any]) -> bool:
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        text = json.dumps({"time": time, **event}, ensure_ascii=False) + "\n"
        line = text.encode("utf-8", "backslashreplace")
        try:
            with self._lock:  # another thread's line, half written, looks like one that was cut short
                self._write(b"\n" + line if self._cut_short() else line)
        except OSError as error:
            if not self._told:
                self._told = True
                self._on_failure(f"{self.path}: searches are not logged: {error.strerror or error}")
            return False
        return True

    def _write(self, line: bytes) -> None:
        place = self._opened()
        try:
            written = os.write(place, line)
        finally:
            os.close(place)
        if written < len(line):
            raise OSError(f"only {written} of {len(line)} bytes could be written")

    def _opened(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _AS_IT_IS, 0o644)

    def _cut_short(self) -> bool:
        """Returns whether the last line has no end: there was no room for it, here or in another process."""
        with suppress(OSError):  # empty, or not to be read
            place = os.open(self.path, os.O_RDONLY | _AS_IT_IS)
            try:
                os.lseek(place, -1, os.SEEK_END)
                return os.read(place, 1) not in (b"\n", b"")
            finally:
                os.close(place)
        return False


@dataclass(frozen=True)
class Learnt:
    """What a log says of relevance.

    Attributes:
        queries: text by query id; a text is one query, however often it was asked.
        qrels: the latest judgement by query id and document id.
        searches: lines that tell of a search.
    """

    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    searches: int


def read_log(
    path: str | PathLike[str], *, skip_bad: bool = False, on_bad: Callable[[IngestError], None] | None = None
) -> Learnt:
    """Returns the judgements in a log.

    A last line without an end that cannot be read is passed over in any case: somebody may be writing it now.

    Args:
        path: the file, also compressed.
        skip_bad: pass over lines that are none of a log, as a full disk leaves them, instead of raising.
        on_bad: told of each line that was passed over.

    Raises:
        IngestError: there is no such file, or a line is none of a log.
    """
    reject, pass_over = (rejecter(skip_bad=skip, on_bad=on_bad) for skip in (skip_bad, True))
    names: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    searches = 0
    with open_stream(Path(path), str(path)) as stream:

        def bad(error: IngestError) -> None:
            (reject if stream.ended else pass_over)(error)

        for number, line in stream.lines(bad):
            if not line.strip():
                continue
            try:
                event = _event(line)
            except IngestError as error:
                bad(error.at(str(path), number))
                continue
            searches += event["event"] == SEARCH
            if event["event"] == RELEVANCE:
                name = names.setdefault(event["query"].strip(), f"log-{len(names) + 1}")
                qrels.setdefault(name, {})[event["id"]] = event["relevance"]
    return Learnt({name: text for text, name in names.items()}, qrels, searches)


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not all(isinstance(event.get(name), str) for name in ("event", "query")):
        raise IngestError('is no line of a query log; expected {"event": ..., "query": ...}')
    if event["event"] == RELEVANCE:
        try:
            _check_judgement(event["query"], event.get("id"), event.get("relevance"))
        except (QueryError, IngestError) as error:
            raise IngestError(f"is no line of a query log: {error}") from None
    return event


def _check_judgement(query: object, id: object, relevance: object) -> None:
    if not isinstance(query, str) or not query.strip():
        raise QueryError("a judgement needs the query that it is about")
    if isinstance(relevance, bool) or not isinstance(relevance, int) or abs(relevance) > MOST:
        raise QueryError(f"relevance is a whole number up to {MOST:,}, 0 for not relevant; not {relevance!r}")
    check_id(id, "document id")

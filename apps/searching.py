"""`plait search`: one query for a person, many as a TREC run or as JSON, with progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ..retriever import LevelError, QueryError, Retriever, read_queries
from ..retriever.log import QueryLog
from . import console
from .ingesting import Skipped

T = TypeVar("T")
BATCH = 64  # queries answered between two looks at the clock
WAITS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds before a search is tried again whose level of parents is not there


def search_one(retriever: Retriever, query: str, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints the hits of a query."""
    from .render import answer_text, hit_text

    hits = retriever.search(query, **options)
    if as_json:
        told = hits.to_json()
        brief = {"query": query, "hits": told["hits"]}
        console.print_json(told if options["explain"] or options["prove"] else brief)
        return
    if not hits:
        console.out.print("nothing found")
    for hit in hits:
        console.out.print(hit_text(hit, console.out.width), soft_wrap=True)
    if (about := answer_text(hits, explain=options["explain"])) is not None:
        console.out.print(about, soft_wrap=True)


def search_many(
    retriever: Retriever, queries: Mapping[str, str], options: Mapping[str, Any], *, run: Path | None
) -> None:
    """Writes the hits of many queries as a TREC run, to a file or, while they are found, to stdout."""
    from ..eval import run_lines, write_run

    if run is not None:
        run.parent.mkdir(parents=True, exist_ok=True)
        found = answered(retriever, queries, "searching", options)
        write_run(found, run)
        console.note(f"wrote {run}: {sum(map(len, found.values())):,} lines for {len(found):,} queries")
        return
    for batch in batches(queries, "searching"):
        for identifier, hits in retriever.run(batch, **options).items():
            sys.stdout.writelines(run_lines(identifier, hits))


def search_many_as_json(retriever: Retriever, queries: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Prints a JSON value a query, with its hits."""
    for batch in batches(queries, "searching"):
        answers = retriever.search_batch(list(batch.values()), **options)
        for (identifier, text), hits in zip(batch.items(), answers, strict=True):
            console.print_json({"id": identifier, "query": text, "hits": [hit.to_json() for hit in hits]})


def queries_from(source: Path, *, skip_bad: bool) -> dict[str, str]:
    """Returns query texts by id; what is skipped is told."""
    return dict(read_queries(source, skip_bad=skip_bad, on_bad=Skipped()))


def answered(
    retriever: Retriever, queries: Mapping[str, str], label: str, options: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Returns the run of many queries, with progress where it takes time."""
    found: dict[str, dict[str, float]] = {}
    for batch in batches(queries, label):
        found.update(retriever.run(batch, **options))
    return found


def batches(queries: Mapping[str, str], label: str) -> Iterator[dict[str, str]]:
    """Yields the queries in parts, and shows how many are done."""
    meter = console.Meter(label, len(queries), unit="queries")
    pairs = iter(queries.items())
    try:
        while batch := dict(islice(pairs, BATCH)):
            yield batch
            meter.bytes_read(len(batch))
            meter.documents_done(len(batch))
    finally:
        meter.close()


def query_log(path: Path | None, *, many: bool, as_json: bool) -> QueryLog | None:
    """Returns the log to append to; what cannot be written there is told, and no search is lost."""
    if path is None:
        return None
    if many and not as_json:
        raise QueryError("a TREC run is not logged; with --queries, --log goes with --json")
    if str(path) == "-":
        raise QueryError("--log takes a file, which others append to; not - for standard output")
    return QueryLog(path, on_failure=console.note)


def check_options(
    query: str | None,
    queries: Path | None,
    run: Path | None,
    *,
    skip_bad: bool,
    explain: bool,
    prove: bool,
    as_json: bool,
) -> None:
    """Raises an error where an option lacks, or would be ignored."""
    if (query is None) == (queries is None):
        raise QueryError("give one query, or many with --queries FILE (one of the two)")
    if queries is None and (run is not None or skip_bad):
        raise QueryError(f"{'--skip-bad' if run is None else '--run'} goes with --queries")
    if run is not None and as_json:
        raise QueryError("--run writes a TREC run and --json prints JSON; give one of the two")
    if queries is not None and explain and not as_json:
        raise QueryError("a TREC run holds no explanation; with --queries, --explain goes with --json")
    if queries is not None and prove:
        raise QueryError("--prove is for one query: with --queries no proof is shown; leave --prove or --queries out")
    if run is not None:
        check_no_folder("--run", run)


class Patience:
    """Asks again where a commit of another process is between its passages and their level of parents.

    Who polls for commits may also hold passages whose level has moved on already. A level that stays behind, since a
    process died, is waited for once a commit.

    Args:
        retriever: what is searched.
        refresh: moves it on to the newest commit.
    """

    def __init__(self, retriever: Retriever, refresh: Callable[[], None]) -> None:
        self._retriever, self._refresh = retriever, refresh
        self._behind: int | None = None

    def __call__(self, search: Callable[[], T]) -> T:
        """Returns what the search returns.

        Raises:
            LevelError: the level of parents is still of another commit than the passages.
        """
        waits = iter(WAITS)
        while True:
            version = self._retriever.version
            try:
                return search()
            except LevelError:
                seconds = next(waits, None)
                if seconds is None or (seconds and version == self._behind):
                    self._behind = version
                    raise
            time.sleep(seconds)
            self._refresh()


def check_no_folder(option: str, path: Path) -> None:
    """Raises an error where a file is to be written and a folder is there."""
    if path.is_dir():
        raise QueryError(f"{path} is a folder; {option} takes the file to write")


def warm(retriever: Retriever) -> None:
    """Loads models and kernels, so that the first client does not wait for them; a missing model shows at once."""
    from ..index.compiled import load_kernels

    load_kernels()
    if len(retriever):
        retriever.run({"warm": "warm up"}, k=1)

"""Reading files into an index, with progress, skipped lines counted, and an end that keeps what was done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from ..encoders.cache import VectorCache
from ..encoders.counting import counting
from ..retriever import Document, IngestError, QueryError, Retriever, read_documents
from ..retriever.sources import check_paths, passed_over, total_bytes
from . import console
from .upkeep import merge_where_it_pays

SHOWN = 10  # skipped pieces of input that are shown; the rest is only counted


class Skipped:
    """Counts bad input and shows the first few."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: IngestError) -> None:
        """Hears of one."""
        self.count += 1
        if self.count <= SHOWN:
            console.note(f"skipped: {error}")
        if self.count == SHOWN:
            console.note("more bad input is skipped without a word and counted")


@dataclass(frozen=True)
class Reading:
    """Input that was found and is about to be read."""

    documents: Iterator[Document]
    meter: console.Meter
    skipped: Skipped
    skip_bad: bool


def reading(paths: Sequence[str], *, passages: str, words: int, overlap: int, skip_bad: bool) -> Reading:
    """Returns what the paths hold; a missing path or an option out of range fails here, before anything is made."""
    check_paths(paths)
    skipped = Skipped()
    meter = console.Meter("indexing", total_bytes(paths))
    try:
        documents = read_documents(
            paths, skip_bad=skip_bad, on_bad=skipped, on_bytes=meter.bytes_read,
            passages=passages, words=words, overlap=overlap,  # type: ignore[arg-type]
        )  # fmt: skip
    except IngestError:
        raise
    except ValueError as error:  # an option out of range
        raise QueryError(str(error)) from error
    for told in passed_over(paths):
        console.note(told)
    return Reading(documents, meter, skipped, skip_bad)


def ingest(
    retriever: Retriever,
    given: Reading,
    *,
    commit_every: int,
    as_json: bool,
    cache: VectorCache | None = None,
    new: bool = False,
) -> None:
    """Adds what was read and commits; on Ctrl-C commits what was finished and exits with code 130.

    Raises:
        IngestError: bad input; or the index is new, and all of the input was bad.
    """
    began = time.monotonic()
    with console.stoppable() as stop, counting(given.meter.tokens) as tokens:
        try:
            done = retriever.add(
                stop.until(given.documents),
                commit_every=commit_every,
                replace_parents=True,
                on_progress=given.meter.documents_done,
                on_bad=given.skipped if given.skip_bad else None,
            )
        except IngestError:
            retriever.commit()
            if len(retriever):
                console.note(f"kept: {len(retriever):,} documents are in {retriever.folder}")
            raise
        finally:
            given.meter.close()
        retriever.commit()
    if new and given.skipped.count and not len(retriever) and not stop.asked:
        raise IngestError(f"nothing to index: all input was bad, {given.skipped.count:,} skipped; no index is made")
    seconds = max(time.monotonic() - began, 1e-3)  # some clocks tick slowly
    if not stop.asked:
        merge_where_it_pays(retriever, done.added)
    facts: dict[str, Any] = {
        "index": str(retriever.folder), "added": done.added, "new": done.new, "replaced": done.replaced,
        "unchanged": done.unchanged, "removed": done.removed,
        "skipped": given.skipped.count, "documents": len(retriever), "stopped": stop.asked,
        "tokens": tokens.total, "seconds": round(seconds, 3), "tokens_per_second": round(tokens.total / seconds, 1),
    }  # fmt: skip
    if cache is not None:
        facts["cache"] = {"folder": str(cache.folder), "asked": cache.asked, "found": cache.found}
    if as_json:
        console.print_json(facts)
    else:
        _tell(facts)
    if stop.asked:
        console.note("stopped early; run the same command again to go on")
        raise typer.Exit(130)


def _tell(facts: dict[str, Any]) -> None:
    of_them = f" ({facts['new']:,} new, {facts['replaced']:,} replaced)" if facts["replaced"] else ""
    parts = [f"added {facts['added']:,}{of_them}"]
    parts += [f"{name} {facts[name]:,}" for name in ("unchanged", "removed", "skipped") if facts[name]]
    told = [", ".join(parts), f"{facts['index']} holds {facts['documents']:,} documents"]
    if facts["tokens"]:
        told.append(f"{facts['tokens']:,} tokens in {facts['seconds']:,.1f} s, {facts['tokens_per_second']:,.0f}/s")
    if "cache" in facts:
        told.append(f"{facts['cache']['found']:,} of {facts['cache']['asked']:,} texts were in the cache")
    console.out.print("; ".join(told), soft_wrap=True)

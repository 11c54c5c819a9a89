"""Retriever.search end to end: each strand and all fused, with the encoding of the query and without."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import common

FUSED = "fused"
RATIO = 3.0  # fused to the slowest strand alone, without query encoding, at 500 k passages: the design's budget
BUDGET_DOCUMENTS = 500_000


class Remembering:
    """An encoder that remembers the queries it has encoded: asked again, it answers without work."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.identity = encoder.identity
        self.encode_documents = encoder.encode_documents
        self._vectors: dict[tuple[str, ...], Any] = {}
        self._names: dict[str, dict[int, str]] = {}

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Returns what the encoder returned the first time, as a copy."""
        key = tuple(texts)
        if key not in self._vectors:
            self._vectors[key] = self._encoder.encode_queries(texts)
        return self._vectors[key].copy()

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the names of a query's terms."""
        if text not in self._names:
            self._names[text] = self._encoder.term_names(text)
        return self._names[text]


def main() -> None:
    """Measures and writes the table."""
    args = _arguments()
    common.existing(args.index / "plait.db", "an index that `plait index` made")
    common.existing(args.queries, "queries: .jsonl, .tsv or one a line")
    if args.repeats < 1:
        common.fail(f"repeats must be at least 1, not {args.repeats}")
    common.pin_threads(args.threads)
    where = common.machine()
    from plait.retriever import PlaitError, Retriever, read_queries

    try:
        queries = [text for _, text in islice(read_queries(args.queries), args.limit)]
        with closing(Retriever.open(args.index)) as plain:
            facts = plain.info()
            seconds = {"with query encoding": _measure(plain, queries, args)}
        with closing(Retriever.open(args.index, **_remembering(facts["encoders"]))) as ready:
            seconds["without query encoding"] = _measure(ready, queries, args)
    except PlaitError as error:
        common.fail(str(error))
    print(_report(args, where, facts, len(queries), seconds))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=3)
    parser.add_argument("index", type=Path, metavar="INDEX", help="an index with encoders that can be named")
    parser.add_argument("queries", type=Path, metavar="QUERIES", help=".jsonl, .tsv or one query a line")
    parser.add_argument("-k", type=int, default=10, help="hits a query")
    parser.add_argument("--limit", type=int, default=300, help="the first so many queries")
    parser.add_argument("--threads", type=int, default=1, help="threads of numpy, FAISS and the tokenizers")
    return parser.parse_args()


def _remembering(identities: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the index's encoders by strand, each remembering its queries."""
    from plait.encoders import load_dense, load_learned
    from plait.encoders.lexical import LexicalEncoder

    makers: dict[str, Callable[[str], Any]] = {
        "lexical": lambda name: LexicalEncoder(name.removeprefix("snowball-")),
        "learned": load_learned,
        "dense": load_dense,
    }
    return {strand: Remembering(makers[strand](identity["name"])) for strand, identity in identities.items()}


def _measure(retriever: Any, queries: Sequence[str], args: argparse.Namespace) -> dict[str, list[float]]:
    """Returns the median seconds of each query, by strand and fused; strands take turns, after a round of warm-up."""
    from plait.index.compiled import load_kernels

    load_kernels()
    systems = {**{name: (name,) for name in retriever.strands}, FUSED: retriever.strands}
    rounds: dict[str, list[list[float]]] = {name: [] for name in systems}
    for number in range(args.repeats + 1):
        for name, strands in systems.items():
            seconds = _round(retriever, queries, strands, args.k)
            if number:
                rounds[name].append(seconds)
    return {name: [statistics.median(each) for each in zip(*found, strict=True)] for name, found in rounds.items()}


def _round(retriever: Any, queries: Sequence[str], strands: Sequence[str], k: int) -> list[float]:
    found = []
    for query in queries:
        began = time.perf_counter()
        retriever.search(query, k, strands=strands)
        found.append(time.perf_counter() - began)
    return found


def _report(
    args: argparse.Namespace, where: Mapping[str, Any], facts: Mapping[str, Any], queries: int,
    seconds: Mapping[str, Mapping[str, Sequence[float]]],
) -> str:  # fmt: skip
    documents = facts["documents"]
    middle = common.medians(seconds["without query encoding"])
    ratio = middle[FUSED] / max(value for name, value in middle.items() if name != FUSED)
    check = common.Check("fused / slowest strand, without query encoding", ratio, RATIO, "x", digits=2)
    notes = [
        f"Milliseconds of `Retriever.search`, texts of the hits included; {queries} queries, each the median of "
        f"{args.repeats} repetitions after a warm-up; {args.threads} thread(s).",
        f"Fused / slowest strand, p50, without query encoding: {ratio:.2f}. The design asks for less than {RATIO:g} at "
        f"{BUDGET_DOCUMENTS:,} passages; this index has {documents:,}.",
        "Fused does more than its parts: every candidate is scored by every strand.",
    ]
    index = {name: facts[name] for name in ("documents", "postings", "bytes", "strands", "fusion", "weights")}
    raw = {"index": index, "k": args.k, "queries": queries, "ratio_to_slowest_strand": ratio, "seconds": seconds}
    return common.write(
        "hybrid", args.results, where=where, about=f"Searches of {documents:,} documents, k={args.k}, end to end.",
        raw=raw, checks=[check] if documents >= BUDGET_DOCUMENTS else [], tables=[_table(seconds)], notes=notes,
    )  # fmt: skip


def _table(seconds: Mapping[str, Mapping[str, Sequence[float]]]) -> common.Table:
    columns = ("strands", *(f"{way}, p50 / p95" for way in seconds))
    rows = [(name, *map(_points, (each[name] for each in seconds.values()))) for name in next(iter(seconds.values()))]
    return common.Table("Milliseconds a query", columns, rows)


def _points(seconds: Sequence[float]) -> str:
    return " / ".join(f"{1000 * common.percentile(seconds, share):.2f}" for share in (0.5, 0.95))


if __name__ == "__main__":
    main()

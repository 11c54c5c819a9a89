"""A sparse index in use: filters, deletes, small commits, batches, and what exactness below 1 costs and saves."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)
# ruff: noqa: E402 (threads are pinned before numpy is loaded)

from __future__ import annotations

import common

common.pin_threads(1)

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plait.index import Layout, Snapshot, Writer, create
from plait.index.compiled import load_kernels
from plait.retriever import Document
from rows import Rows
from shards import documents, queries

KS = (10, 100, 1000)
CHUNK = 16_384
SHARES = {"50 %": 500, "5 %": 50, "0.1 %": 1}  # of a field with the values 0 to 999
EXACTNESS = (1.0, 0.95, 0.9, 0.8, 0.7)
ADDED, FRESH_SECONDS, FILTER_RATIO = 1000, 1.0, 1.5

Query = tuple[NDArray[np.uint32], NDArray[np.float32]]


def main() -> None:
    """Measures and writes the tables."""
    parser = common.parser(__doc__ or "", repeats=5)
    parser.add_argument("vectors", type=Path, metavar="VECTORS", help="folder that `sparse.py prepare` filled")
    parser.add_argument("--documents", type=int, default=300_000, help="how many are indexed")
    parser.add_argument("--queries", type=int, default=100, help="of each form")
    args = parser.parse_args()
    where = common.machine()
    load_kernels()
    rows = documents(args.vectors, args.documents)
    asked = {form: _as_asked(queries(args.vectors, form, args.queries)) for form in ("short", "long")}
    with tempfile.TemporaryDirectory(prefix="plait-live-") as folder:
        index = Path(folder) / "index"
        create(index, Layout(), {}, {"r": "integer"})
        with closing(Writer(index)) as writer:
            _fill(writer, rows)
            raw = _measured(args, index, writer, rows, asked)
    print(_report(args, where, raw))


def _as_asked(rows: Rows) -> list[Query]:
    pairs = [rows.row(i) for i in range(rows.size)]
    return [(terms.astype(np.uint32), weights.astype(np.float32)) for terms, weights in pairs]


def _fill(writer: Writer, rows: Rows) -> None:
    """Indexes the documents, each with a number from 0 to 999, and compacts."""
    numbers = np.random.default_rng(1).integers(0, 1000, rows.size)
    for start in range(0, rows.size, CHUNK):
        part = rows.part(start, min(start + CHUNK, rows.size))
        _add(writer, [f"d{start + i}" for i in range(part.size)], part, numbers[start : start + part.size])
        writer.commit()
    writer.compact()


def _add(writer: Writer, ids: list[str], rows: Rows, numbers: NDArray[np.int64]) -> None:
    made = [Document(id=id, text=id, metadata={"r": int(r)}) for id, r in zip(ids, numbers, strict=True)]
    writer.add(made, {"learned": rows.matrix(np.float32)}, None)


def _measured(
    args: argparse.Namespace, index: Path, writer: Writer, rows: Rows, asked: Mapping[str, list[Query]]
) -> dict[str, Any]:
    raw: dict[str, Any] = {"documents": args.documents, "filters": {}, "deletes": {}, "batches": {}, "exactness": {}}
    with closing(Snapshot(index)) as snapshot:
        began = {name: common.timed(partial(snapshot.select, f"r < {below}")) for name, below in SHARES.items()}
        raw["first use of a filter, s"] = began
        chosen = {"all": None, **{name: snapshot.select(f"r < {below}") for name, below in SHARES.items()}}
        for form, each in asked.items():
            for k in KS:
                turns = {name: partial(_all, snapshot, each, k, within=found) for name, found in chosen.items()}
                raw["filters"][f"{form}, k={k}"] = _milliseconds(turns, args.repeats, len(each))
                raw["exactness"][f"{form}, k={k}"] = _exactness(snapshot, each, k, args.repeats)
            pairs = {f"{n} thread(s)": partial(_batch, snapshot, each, n) for n in (1, 2)}
            raw["batches"][form] = _milliseconds(pairs, args.repeats, len(each))
    raw["commits, s"] = [_fresh(writer, index, rows, i) for i in range(5)]
    gone = np.random.default_rng(2).permutation(args.documents)
    before = _latencies(index, asked, args.repeats)
    for share in (0.1, 0.2):
        writer.delete(f"d{d}" for d in gone[int((share - 0.1) * args.documents) : int(share * args.documents)])
        writer.commit()
        raw["deletes"][f"{share:.0%} deleted"] = _latencies(index, asked, args.repeats)
    raw["deletes"] = {"none deleted": before, **raw["deletes"]}
    return raw


def _all(snapshot: Snapshot, each: list[Query], k: int, **options: Any) -> None:
    for terms, weights in each:
        snapshot.sparse_search("learned", terms, weights, k, **options)


def _batch(snapshot: Snapshot, each: list[Query], threads: int) -> None:
    snapshot.sparse_search_batch("learned", each, 100, threads=threads)


def _milliseconds(turns: Mapping[str, Callable[[], object]], repeats: int, count: int) -> dict[str, float]:
    return {name: 1000 * s / count for name, s in common.medians(common.alternating(turns, repeats)).items()}


def _exactness(snapshot: Snapshot, each: list[Query], k: int, repeats: int) -> dict[str, Any]:
    exact = [snapshot.sparse_search("learned", *query, k) for query in each]
    turns = {str(e): partial(_all, snapshot, each, k, exactness=e) for e in EXACTNESS}
    recall = {}
    for e in EXACTNESS:
        found = [snapshot.sparse_search("learned", *query, k, exactness=e) for query in each]
        shares = [(f.scores >= x.scores[-1]).sum() / x.scores.size for f, x in zip(found, exact, strict=True)]
        recall[str(e)] = float(np.mean(shares))
    return {"milliseconds": _milliseconds(turns, repeats, len(each)), "recall": recall}


def _fresh(writer: Writer, index: Path, rows: Rows, number: int) -> float:
    """Returns the seconds from adding a thousand documents until a reader finds them."""
    rng = np.random.default_rng(number)
    part = rows.taken(rng.integers(0, rows.size, ADDED))
    part = part._replace(values=rng.permutation(part.values))  # no copies: they would tie with what they copy
    ids = [f"new{number}-{i}" for i in range(ADDED)]
    began = time.perf_counter()
    _add(writer, ids, part, np.zeros(ADDED, np.int64))
    writer.commit()
    with closing(Snapshot(index)) as snapshot:
        terms, _ = part.row(0)
        snapshot.sparse_search("learned", terms.astype(np.uint32), np.ones(terms.size, np.float32), 10)
    return time.perf_counter() - began


def _latencies(index: Path, asked: Mapping[str, list[Query]], repeats: int) -> dict[str, float]:
    with closing(Snapshot(index)) as snapshot:
        turns = {f"{form}, k={k}": partial(_all, snapshot, each, k) for form, each in asked.items() for k in KS}
        found = common.medians(common.alternating(turns, repeats))
        return {name: 1000 * s / len(asked[name.split(",")[0]]) for name, s in found.items()}


def _report(args: argparse.Namespace, where: Mapping[str, Any], raw: Mapping[str, Any]) -> str:
    worst = {n: max(row[n] / row["all"] for row in raw["filters"].values()) for n in SHARES}
    checks = [
        common.Check(f"filter that lets {name} through, worst case, times unfiltered", ratio, FILTER_RATIO)
        for name, ratio in worst.items()
    ]
    fresh = float(np.median(raw["commits, s"]))
    checks.append(common.Check(f"{ADDED:,} documents added until they are found", fresh, FRESH_SECONDS, unit="s"))
    tables = [
        _table("Filters, ms a query", ["all", *SHARES], raw["filters"]),
        _table("Deletes, ms a query", list(next(iter(raw["deletes"].values()))), raw["deletes"]),
        _table("Batches at k=100, ms a query", ["1 thread(s)", "2 thread(s)"], raw["batches"]),
        common.Table(
            "Exactness: ms a query (recall)",
            ["", *map(str, EXACTNESS)],
            [
                [name, *(f"{v['milliseconds'][str(e)]:.3f} ({v['recall'][str(e)]:.3f})" for e in EXACTNESS)]
                for name, v in raw["exactness"].items()
            ],
        ),
    ]
    began = ", ".join(f"{name}: {s:.2f} s" for name, s in raw["first use of a filter, s"].items())
    notes = [
        f"{args.documents:,} documents with learned vectors, compacted and reordered; {args.queries} queries of a "
        f"form. One thread but for batches; median of {args.repeats} repetitions over all queries of a row.",
        f"Filters are cached when they are timed; their first use took {began}.",
        "Recall is the share of the exact top k, by score, that is found.",
        "A commit is timed with opening a new snapshot and a search in it.",
    ]
    about = "What filters, deletes, small commits, batches and inexact search cost on a large sparse index."
    return common.write(
        "live", args.results, about=about, raw=raw, checks=checks, tables=tables, notes=notes, where=where
    )


def _table(title: str, columns: list[str], values: Mapping[str, Mapping[str, float]]) -> common.Table:
    rows = [[name, *(f"{row[c]:.3f}" for c in columns)] for name, row in values.items()]
    return common.Table(title, ["", *columns], rows)


if __name__ == "__main__":
    main()

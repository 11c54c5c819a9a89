"""What `plait plan` predicts beside what happens: seconds, bytes on disk, memory, milliseconds of a search.

Each prediction comes from a sample of a few hundred documents. Each prediction and each run has a process of its own:
memory that others have used would count with it. Memory is the peak while indexing; searches are the collection's own
queries, one at a time, of which the median counts.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import common

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
WITHIN = 0.25  # of what happens: the target
COLLECTIONS = ("lisa", "mlquestions", "wikiqa-test")
SETTINGS = ("lexical,learned,dense", "lexical,dense", "lexical")
PREDICTED = ("time", "size", "memory", "latency")
TARGETED = ("time", "size")


def main() -> None:
    """Measures and writes the tables; with --only it is one of the processes that measure."""
    args = _arguments()
    common.pin_threads(args.threads)
    if args.only:
        print(json.dumps(_PARTS[args.only](args, args.data / "beir" / args.collections[0], args.strands[0])))
        return
    where = common.machine()
    folders = [common.existing(args.data / "beir" / name, "a BEIR folder") for name in args.collections]
    print(_report(args, where, [_compared(args, folder, strands) for folder in folders for strands in args.strands]))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/")
    parser.add_argument("collections", nargs="*", default=list(COLLECTIONS), help="which collections")
    parser.add_argument("--strands", nargs="+", default=list(SETTINGS), help="settings, by their strands")
    parser.add_argument("--limit", type=int, default=3000, help="the first so many documents are the corpus")
    parser.add_argument("--sample", type=int, default=256, help="documents that the plan encodes")
    parser.add_argument("--kept", type=int, default=500, help="documents of the plan's small index")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="processor: seconds of all cores, on a busy machine"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of numeric libraries; encoders use all cores")
    parser.add_argument("--queries", type=int, default=200, help="of the collection, to search with; asked twice")
    parser.add_argument("--only", choices=list(_PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def _compared(args: argparse.Namespace, folder: Path, strands: str) -> dict[str, Any]:
    """Returns the prediction and what happened, each from a process of its own."""
    told = {part: _apart(args, folder.name, strands, part) for part in _PARTS}
    found = {
        "collection": folder.name, "strands": strands, "documents": told["plan"]["documents"],
        "planning": told["plan"]["planning"], "queries": told["run"]["queries"], "parts": told["plan"]["parts"],
        **{name: {"predicted": told["plan"][name], "actual": told["run"][name]} for name in PREDICTED},
    }  # fmt: skip
    print(f"{folder.name}, {strands}: " + ", ".join(f"{n} {_off(found[n]):+.0%}" for n in PREDICTED), file=sys.stderr)
    return found


def _apart(args: argparse.Namespace, collection: str, strands: str, part: str) -> dict[str, Any]:
    """Returns what a process of its own measures."""
    options = {name: str(getattr(args, name)) for name in ("limit", "sample", "kept", "clock", "threads", "queries")}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [sys.executable, __file__, str(args.data), collection, "--strands", strands, "--only", part, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        common.fail(f"the {part} of {collection}, {strands}, ended with status {done.returncode}")
    return json.loads(done.stdout)


def _planned(args: argparse.Namespace, folder: Path, strands: str) -> dict[str, Any]:
    """Returns the prediction, and the seconds that it takes to make."""
    from plait.eval.planning import combinations, plan
    from plait.eval.probing import survey
    from plait.retriever import read_documents

    began = time.perf_counter()
    corpus = survey(islice(read_documents(folder), args.limit), sample=args.sample, kept=args.kept)
    (prediction,) = plan(corpus, combinations([strands], {}, [], ["auto"]), clock=CLOCKS[args.clock]).predictions
    return {**prediction.to_json(), "planning": time.perf_counter() - began}


def _made(args: argparse.Namespace, folder: Path, strands: str) -> dict[str, Any]:
    """Returns what happens.

    Seconds to index, opening the models included; bytes on disk afterwards; the peak of the resident set meanwhile, in
    bytes; and the median milliseconds of a search of the index, opened anew.
    """
    from plait.eval.memory import Memory
    from plait.eval.probing import sizes
    from plait.retriever import Retriever, read_documents

    clock, memory = CLOCKS[args.clock], Memory()
    with TemporaryDirectory(prefix="plait-planning-") as work:
        place = Path(work) / "index"
        began = clock()
        with closing(Retriever.create(place, strands=strands)) as retriever:
            retriever.add(islice(read_documents(folder), args.limit), commit_every=16_384)
            retriever.commit()
        seconds, peak = clock() - began, memory.peak()
        latency, asked = _searched(place, folder, args.queries)
        size = sum(sizes(place).values())
    return {"time": seconds, "size": size, "memory": peak, "latency": latency, "queries": asked}


def _searched(place: Path, folder: Path, most: int) -> tuple[float, int]:
    """Returns the median milliseconds of a search, and the number of queries."""
    from plait.eval.benching import TOTAL, bench, settings_of
    from plait.retriever import Retriever

    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = [json.loads(line)["text"] for line in islice(lines, most)]
    with closing(Retriever.open(place)) as retriever:
        (timed,) = bench(retriever, queries, settings_of({}), rounds=2)
    return timed.milliseconds[TOTAL].p50, len(queries)


_PARTS = {"plan": _planned, "run": _made}


def _off(one: Mapping[str, float]) -> float:
    """Returns how far a prediction is off, as a share of what happened."""
    return one["predicted"] / one["actual"] - 1


def _report(args: argparse.Namespace, where: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    checks = [
        common.Check(f"{one['collection']}, {one['strands']}: {what} off by", abs(_off(one[what])), WITHIN)
        for one in found
        for what in TARGETED
    ]
    notes = [
        f"The plan encodes {args.sample} documents and builds an index of {args.kept}.",
        f"Each plan and each run has a process of its own; seconds are those of the {args.clock} clock.",
        "By the wall clock, what else the machine does falls on either; on a busy one times differ by themselves.",
        "Memory is the peak of the resident set, Python and all libraries included.",
        f"Searches: up to {args.queries} queries of the collection, twice; the plan makes its own of titles and texts.",
    ]
    return common.write(
        "planning", args.results, about="What `plait plan` predicts beside what indexing takes.", raw={"found": found},
        checks=checks, tables=_tables(found), notes=notes, where=where,
    )  # fmt: skip


def _tables(found: Sequence[Mapping[str, Any]]) -> list[common.Table]:
    def row(one: Mapping[str, Any], units: Mapping[str, float]) -> list[str]:
        pairs = [(one[name], unit) for name, unit in units.items()]
        return [
            f"{one['collection']}, {one['strands']}",
            *(
                text
                for pair, unit in pairs
                for text in (f"{pair['predicted'] / unit:.1f}", f"{pair['actual'] / unit:.1f}", f"{_off(pair):+.0%}")
            ),
        ]

    indexing = [
        [*row(one, {"time": 1, "size": 1e6}), f"{one['documents']:,}", f"{one['planning']:.1f}"] for one in found
    ]
    others = [[*row(one, {"memory": 1e6, "latency": 1}), f"{one['queries']:,}"] for one in found]
    return [
        common.Table(
            "Prediction and run",
            ("", "s, plan", "s, run", "off", "MB, plan", "MB, run", "off", "documents", "s to plan"), indexing,
        ),
        common.Table(
            "Memory while indexing, and searches",
            ("", "MB, plan", "MB, run", "off", "ms, plan", "ms, run", "off", "queries"), others,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main()

"""What `plait plan` predicts beside what happens: seconds to index and bytes on disk, on three collections.

Each prediction comes from a sample of a few hundred documents; then the index is made, in the same process.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
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


def main() -> None:
    """Measures and writes the table."""
    args = _arguments()
    common.pin_threads(args.threads)
    where = common.machine()
    found = [
        _compared(args, common.existing(args.data / "beir" / name, "a BEIR folder"), strands)
        for name in args.collections
        for strands in args.strands
    ]
    print(_report(args, where, found))


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
    return parser.parse_args()


def _compared(args: argparse.Namespace, folder: Path, strands: str) -> dict[str, Any]:
    """Returns the prediction and what happened."""
    from plait.eval.planning import combinations, plan
    from plait.eval.probing import survey
    from plait.retriever import read_documents

    began = time.perf_counter()
    corpus = survey(islice(read_documents(folder), args.limit), sample=args.sample, kept=args.kept)
    (prediction,) = plan(corpus, combinations([strands], {}, [], ["auto"]), clock=CLOCKS[args.clock]).predictions
    planning = time.perf_counter() - began
    seconds, size = _made(folder, strands, args.limit, CLOCKS[args.clock])
    told = f"{prediction.time:.1f} s predicted, {seconds:.1f} s; {prediction.size:,.0f} bytes predicted, {size:,}"
    print(f"{folder.name}, {strands}: {told}", file=sys.stderr)
    return {
        "collection": folder.name, "strands": strands, "documents": corpus.documents, "planning": planning,
        "time": {"predicted": prediction.time, "actual": seconds},
        "size": {"predicted": prediction.size, "actual": size},
        "parts": dict(prediction.parts),
    }  # fmt: skip


def _made(folder: Path, strands: str, limit: int, clock: Callable[[], float]) -> tuple[float, int]:
    """Returns the seconds that indexing takes, opening the models included, and the bytes on disk afterwards."""
    from plait.eval.probing import sizes
    from plait.retriever import Retriever, read_documents

    with TemporaryDirectory(prefix="plait-planning-") as work:
        began = clock()
        with closing(Retriever.create(Path(work) / "index", strands=strands)) as retriever:
            retriever.add(islice(read_documents(folder), limit), commit_every=16_384)
            retriever.commit()
        return clock() - began, sum(sizes(Path(work) / "index").values())


def _off(one: Mapping[str, float]) -> float:
    """Returns how far a prediction is off, as a share of what happened."""
    return one["predicted"] / one["actual"] - 1


def _report(args: argparse.Namespace, where: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    checks = [
        common.Check(f"{one['collection']}, {one['strands']}: {what} off by", abs(_off(one[what])), WITHIN)
        for one in found
        for what in ("time", "size")
    ]
    rows = [
        (
            f"{one['collection']}, {one['strands']}", f"{one['documents']:,}",
            *(f"{one['time'][key]:.1f}" for key in ("predicted", "actual")), f"{_off(one['time']):+.0%}",
            *(f"{one['size'][key] / 1e6:.1f}" for key in ("predicted", "actual")), f"{_off(one['size']):+.0%}",
            f"{one['planning']:.1f}",
        )
        for one in found
    ]  # fmt: skip
    columns = ("", "documents", "s, plan", "s, run", "off", "MB, plan", "MB, run", "off", "s to plan")
    notes = [
        f"The plan encodes {args.sample} documents and builds an index of {args.kept}.",
        f"Both happen in one process, one after the other; seconds are those of the {args.clock} clock.",
        "By the wall clock, what else the machine does falls on either; on a busy one times differ by themselves.",
    ]
    return common.write(
        "planning", args.results, about="What `plait plan` predicts beside what indexing takes.", raw={"found": found},
        checks=checks, tables=[common.Table("Prediction and run", columns, rows)], notes=notes, where=where,
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""Sparse top-k at scale, one thread: plait beside PISA, BMP, Seismic, qdrant-edge, Lucene and others.

`prepare` encodes a collection; `run` indexes samples of it, and larger collections generated from it, with every
engine, in processes of their own on one core, and lets them answer the same queries in turns; `calibrate` compares
generated documents with real ones.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)
# ruff: noqa: E402 (threads are pinned before numpy is loaded)

from __future__ import annotations

import common

common.pin_threads(1)

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generate
import shards
import sparse_report
from contest import Collection, Setup, held
from engines import TABLE
from engines.ours import order_of
from rows import load

SIZES = ("65536", "250000", "all")
GENERATED = (1_000_000,)
GROWTH = (500_000, 1_000_000, 2_000_000, 4_000_000)
LEVELS = {8: 255, 6: 32}  # of query weights, by bits of impacts: BMP has 32 levels, whatever it is given
OURS = ("plait", "plait-reordered")


def main() -> None:
    """Does what the sub-command says."""
    args = _arguments()
    args.do(args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    _prepare_arguments(commands.add_parser("prepare", help="encode a collection into a folder of vectors"))
    _run_arguments(commands.add_parser("run", help="measure"))
    _calibrate_arguments(commands.add_parser("calibrate", help="compare generated documents with real ones"))
    return parser.parse_args()


class _Command(argparse.ArgumentParser):
    """A sub-command, its help written as that of the other scripts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=common.Help)


def _measuring(parser: argparse.ArgumentParser, do: Any) -> None:
    parser.add_argument("vectors", type=Path, metavar="VECTORS", help="folder that `prepare` filled")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="folder for the result files")
    parser.set_defaults(do=do)


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with scale/mixed-en.jsonl.xz")
    parser.add_argument("vectors", type=Path, metavar="VECTORS", help="folder to fill; a run that stopped goes on")
    parser.add_argument("--held-out", type=int, default=shards.HELD_OUT, help="passages that become queries")
    parser.add_argument("--threads", type=int, default=1, help="of the encoder")
    parser.set_defaults(do=_prepare)


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    _measuring(parser, _calibrate)
    parser.add_argument("--documents", type=_size, metavar="N", help="how many to compare; else all there are")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    _measuring(parser, _run)
    add = parser.add_argument
    add("--documents", nargs="*", type=_size, default=[*SIZES], metavar="N", help="real collections; or `all`")
    add("--generated", nargs="*", type=int, default=[*GENERATED], metavar="N", help="generated collections")
    add("--parents", type=int, metavar="N", help="real documents that generated ones are made of; else all")
    add("--growth", nargs="*", type=int, default=[*GROWTH], metavar="N", help="generated ones for plait alone")
    add("--peer", action="append", default=[], metavar="NAME=PYTHON", help=f"one of {', '.join(_peers())}")
    add("--beside", type=Path, metavar="FILE", help="yardstick: Python with build(csr) and search(...)")
    add("--engines", nargs="+", choices=TABLE, default=[*TABLE], metavar="NAME", help="leave the others out")
    add("--order", choices=sparse_report.ORDERS, default="file", help="in which all engines get the documents")
    add("--queries", type=int, default=300, help="of each form")
    add("--repeats", type=int, default=5, help="rounds; a query's median counts")
    add("--budget", type=float, default=20, help="seconds for an engine in a cell; past it, two rounds are enough")
    add("--work", type=Path, metavar="FOLDER", help="keep documents, indexes and logs there, and use them again")
    add("--core", type=int, default=_last_core(), help="where engines run")
    add("--name", default="sparse", help="of the result files")


def _size(text: str) -> int | None:
    return None if text == "all" else int(text)


def _peers() -> list[str]:
    return [name for name, engine in TABLE.items() if engine.peer]


def _last_core() -> int:
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def _prepare(args: argparse.Namespace) -> None:
    path = common.existing(args.data / "scale" / "mixed-en.jsonl.xz", "the passages for measuring at scale")
    shards.prepare(path, args.vectors, held_out=args.held_out, threads=args.threads)


def _calibrate(args: argparse.Namespace) -> None:
    count = args.documents or shards.available(args.vectors)
    with tempfile.TemporaryDirectory(prefix="plait-sparse-") as folder:
        tables = generate.calibration(args.vectors, count, Path(folder))
    page = common.write(
        "sparse-generated", args.results, raw=tables,
        about="Generated documents beside real ones, for the generated collections of sparse.py.",
        tables=[generate.table(title, figures) for title, figures in tables.items()], notes=generate.NOTES,
    )  # fmt: skip
    print(page)


@dataclass(frozen=True)
class Plan:
    """A collection that is still to be made, and who takes part.

    Attributes:
        name: of its folder.
        size: documents.
        generated: whether they are made up.
        bits: of the largest impact.
        engines: who takes part.
    """

    name: str
    size: int
    generated: bool
    bits: int
    engines: Sequence[str]


def _run(args: argparse.Namespace) -> None:
    where, available = common.machine(), shards.available(args.vectors)
    pythons = _pythons(args)
    absent = [name for name in args.engines if name not in pythons]
    with tempfile.TemporaryDirectory(prefix="plait-sparse-") as temporary:
        work = (args.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        setup = Setup(pythons, args.core, args.repeats, args.budget, work, keep=args.work is not None)
        found = []
        for plan in _plans(args, available, list(pythons)):
            found.append(held(_made(plan, args, work), plan.engines, shards.FORMS, setup))
            print(sparse_report.written(args, where, found, absent), flush=True)


def _pythons(args: argparse.Namespace) -> dict[str, str]:
    """Returns the Python of each engine that takes part; tells the yardstick's adapter where its file is."""
    given = dict(each.split("=", 1) for each in args.peer if "=" in each)
    for name in _peers():  # a second index of an engine needs no second Python
        if name.split("-")[0] in given:
            given.setdefault(name, given[name.split("-")[0]])
    if unknown := set(given) - set(_peers()) or [each for each in args.peer if "=" not in each]:
        common.fail(f"--peer {', '.join(sorted(unknown))}: expected NAME=PYTHON with one of {', '.join(_peers())}")
    for name, python in given.items():
        common.existing(Path(python), f"a Python that has {TABLE[name].peer}")
    if args.beside is not None:
        path = common.existing(args.beside, "a Python file with build(csr) and search(index, terms, weights, k)")
        os.environ["SPARSE_YARDSTICK"] = str(path.resolve())
    ours = [name for name, engine in TABLE.items() if not engine.peer and (args.beside or name != "yardstick")]
    return {name: given.get(name, sys.executable) for name in args.engines if name in given or name in ours}


def _plans(args: argparse.Namespace, available: int, names: Sequence[str]) -> list[Plan]:
    """Returns the contests in order: small before large, impacts of 8 bits before those for engines with fewer."""
    sizes = [available if size in (None, "all") else int(size) for size in args.documents]
    wanted = [(size, False) for size in sizes] + [(size, True) for size in args.generated]
    plans = []
    for size, generated in wanted:
        name = f"{'generated' if generated else 'real'}-{size}"
        plans.append(Plan(name, size, generated, 8, [each for each in names if TABLE[each].bits == 8]))
        for bits in sorted({TABLE[each].bits for each in names} - {8}):
            narrow = [each for each in names if TABLE[each].bits == bits or each in OURS]
            plans.append(Plan(f"{name}-{bits}bits", size, generated, bits, narrow))
    ours = [name for name in names if name in OURS]
    alone = [size for size in args.growth if size not in args.generated]
    return plans + [Plan(f"generated-{size}", size, True, 8, ours) for size in alone]


def _made(plan: Plan, args: argparse.Namespace, work: Path) -> Collection:
    """Returns a collection with its queries, made now or before."""
    folder = work / f"{plan.name}-{args.order}"
    if not (folder / "documents").exists():
        print(f"{plan.name}: collecting {plan.size:,} documents", file=sys.stderr, flush=True)
        made = _collect(plan, args, folder)
        made.rename(folder / "documents")
    for form in shards.FORMS:
        shards.queries(args.vectors, form, args.queries, levels=LEVELS[plan.bits]).save(folder / form)
    rows = load(folder / "documents")
    return Collection(plan.name, folder, rows.size, int(rows.starts[-1]), plan.generated, plan.bits)


def _collect(plan: Plan, args: argparse.Namespace, folder: Path) -> Path:
    """Writes a collection's documents and returns where they are for the time being."""
    made, ordered = folder / "made", folder / "ordered"
    order = "random" if args.order == "random" else "file"
    if plan.generated:
        generate.write(args.vectors, made, plan.size, bits=plan.bits, order=order, parents=args.parents)
    else:
        shards.documents(args.vectors, plan.size, bits=plan.bits, in_file_order=order == "file").save(made)
    if args.order != "plait":
        return made
    rows = load(made)
    rows.taken(order_of(rows)).save(ordered)
    shutil.rmtree(made)
    return ordered


if __name__ == "__main__":
    main()

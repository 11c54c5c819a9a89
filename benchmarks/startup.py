"""How long a fresh process takes: importing plait.retriever, and answering one query from the command line."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import common

IMPORT_SECONDS, SEARCH_SECONDS = 0.4, 1.5
KEPT_OUT = ("torch", "transformers", "faiss", "numba", "pandas")  # of `import plait.retriever`
QUERY = "how do I read a file line by line"

# Each runs in a fresh process, and prints what it measured as JSON.
IMPORT = """
import json, sys, time
began = time.perf_counter()
import plait.retriever
print(json.dumps({"seconds": time.perf_counter() - began, "loaded": sorted(sys.modules)}))
"""
STEPS = """
import json, sys, time
marks = [("", time.perf_counter())]
mark = lambda name: marks.append((name, time.perf_counter()))
import plait.apps.cli; mark("import the command line")
from plait.retriever import Retriever
retriever = Retriever.open(sys.argv[1]); mark("open the index and its encoders")
for strand in retriever.strands:
    retriever.search(sys.argv[2], strands=strand); mark(f"first search, {strand}")
steps = {name: end - start for (_, start), (name, end) in zip(marks, marks[1:])}
print(json.dumps({"steps": steps, "loaded": sorted(sys.modules)}))
"""


def main() -> None:
    """Measures and writes the table."""
    args = _arguments()
    common.existing(args.index / "plait.db", "an index that `plait index` made")
    where = common.machine()
    turns = {
        "python alone": [sys.executable, "-c", "pass"],
        "plait version": [*_plait(), "version"],
        "plait search": [*_plait(), "search", str(args.index), args.query],
    }
    walls = common.alternating({name: partial(_run, command) for name, command in turns.items()}, args.repeats)
    imports = [_told(IMPORT) for _ in range(args.repeats + 1)][1:]
    steps = [_told(STEPS, str(args.index), args.query) for _ in range(args.repeats + 1)][1:]
    print(_report(args, where, walls, imports, steps))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=9)
    parser.add_argument("index", type=Path, metavar="INDEX", help="an index, such as that of scripts/demo")
    parser.add_argument("--query", default=QUERY, help="what to search for")
    return parser.parse_args()


def _plait() -> list[str]:
    """Returns the command beside this Python, or else one that does the same."""
    found = shutil.which("plait", path=str(Path(sys.executable).parent))
    return [found] if found else [sys.executable, "-c", "from plait.apps.cli import main; main()"]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        common.fail(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _told(code: str, *arguments: str) -> dict[str, Any]:
    return json.loads(_run([sys.executable, "-c", code, *arguments]))


def _report(
    args: argparse.Namespace, where: Mapping[str, Any], walls: Mapping[str, Sequence[float]],
    imports: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]],
) -> str:  # fmt: skip
    imported = statistics.median(each["seconds"] for each in imports)
    wall = common.medians(walls)
    heavy = [name for name in KEPT_OUT if name in imports[0]["loaded"]]
    checks = [
        common.Check("import plait.retriever", imported, IMPORT_SECONDS, "s"),
        common.Check(f"of {', '.join(KEPT_OUT)}: loaded by the import", len(heavy), 0, digits=0),
        common.Check("plait search, cold process", wall["plait search"], SEARCH_SECONDS, "s"),
    ]
    parts = {name: statistics.median(each["steps"][name] for each in steps) for name in steps[0]["steps"]}
    after = [name for name in KEPT_OUT if name in steps[0]["loaded"]]
    index = _about(args.index)
    notes = [
        f"Every figure is of a fresh process with a warm disk: the median of {args.repeats}, after one that does not "
        "count.",
        "The steps are measured inside a process that does them one after the other; a strand's first search loads "
        "what the strand needs.",
        f"Index: {index['documents']:,} documents, {index['postings']:,} postings, {index['bytes'] / 1e6:.1f} MB.",
        f"Loaded after a search, of the modules named above: {', '.join(after) or 'none'}.",
    ]
    raw = {
        "query": args.query, "index": index, "wall_seconds": walls, "loaded_after_search": after,
        "import_seconds": [each["seconds"] for each in imports], "loaded_by_import": heavy,
        "step_seconds": [each["steps"] for each in steps],
    }  # fmt: skip
    return common.write(
        "startup", args.results, where=where, about="How long a fresh process takes.", raw=raw, checks=checks,
        tables=[_seconds("Wall time of a process", wall), _seconds("Steps of a search", parts)], notes=notes,
    )  # fmt: skip


def _about(index: Path) -> dict[str, Any]:
    from plait.retriever import Retriever

    with closing(Retriever.open(index)) as retriever:
        facts = retriever.info()
    return {name: facts[name] for name in ("documents", "postings", "bytes", "strands")}


def _seconds(title: str, values: Mapping[str, float]) -> common.Table:
    return common.Table(title, ("what", "seconds"), [(name, f"{value:.3f}") for name, value in values.items()])


if __name__ == "__main__":
    main()

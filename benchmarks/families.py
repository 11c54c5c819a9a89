"""Any checkpoint, encoded by plait and by sentence-transformers: documents and tokens a second, and peak memory.

Each engine runs in a process of its own and they take turns: plait's int8 ONNX model, plait over torch in float32, and
sentence-transformers in float32. Peak memory is that of fresh processes, over documents of 512 tokens.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import common

ENGINES = ("plait int8", "plait fp32", "plait torch", "sentence-transformers")
THEIRS = ENGINES[-1]
TARGETS = {"learned": 4.0, "dense": 2.0}  # times sentence-transformers' documents a second
FULL = 512  # tokens of the documents whose memory is measured
SIZES = (1, 8, 32)  # documents given at once there


class Worker:
    """One engine in a process of its own, which waits, without work, while others are timed."""

    def __init__(self, python: str, engine: str, strand: str, folder: Path, threads: int) -> None:
        script = Path(__file__).with_name("families_worker.py")
        command = [python, str(script), engine, strand, str(folder), str(threads)]
        self.engine = engine
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._answer()

    def __enter__(self) -> Worker:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def encode(self, texts: Path) -> dict[str, Any]:
        """Returns the seconds, tokens and peak memory so far of encoding a file of texts."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{texts}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended without an answer"}
        if "error" in answer:
            common.fail(f"{self.engine}: {answer['error']}")
        return answer


def main() -> None:
    """Measures and writes the table."""
    args = _arguments()
    corpus = common.existing(args.data / "beir" / args.collection, "a BEIR folder")
    common.pin_threads(args.threads, cores=True)
    where = common.machine()
    checkpoints = [_checkpoint(each) for each in args.checkpoint]
    with tempfile.TemporaryDirectory(prefix="plait-families-") as folder:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps(_texts(corpus, args.documents)), encoding="utf-8")
        found = [_measured(args, *each, texts, Path(folder)) for each in checkpoints]
    print(_report(args, where, found))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=3)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/")
    parser.add_argument(
        "--checkpoint", action="append", required=True, metavar="NAME:STRAND:FOLDER",
        help="what is encoded, as splade-tiny:learned:FOLDER; once for each",
    )  # fmt: skip
    parser.add_argument("--collection", default="medline", help="whose documents are encoded")
    parser.add_argument("--documents", type=int, default=256, help="so many of them, evenly spaced")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores")
    parser.add_argument("--python", default=sys.executable, help="a Python with plait[torch]")
    return parser.parse_args()


def _checkpoint(given: str) -> tuple[str, str, Path]:
    name, strand, folder = [*given.split(":", 2), "", ""][:3]
    if strand not in TARGETS or not Path(folder).is_dir():
        common.fail(f"--checkpoint takes NAME:learned:FOLDER or NAME:dense:FOLDER, not {given!r}")
    return name, strand, Path(folder)


def _texts(folder: Path, count: int) -> list[str]:
    from plait.eval import load_beir

    found = [document.full_text for document in load_beir(folder).documents()]
    return [found[i * len(found) // count] for i in range(min(count, len(found)))]


def _measured(
    args: argparse.Namespace, name: str, strand: str, checkpoint: Path, texts: Path, folder: Path
) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(args.python, engine, strand, checkpoint, args.threads)) for engine in ENGINES
        ]
        for number in range(args.repeats + 1):
            for worker in workers:
                found = worker.encode(texts)
                if number:  # the first time warms up
                    runs[worker.engine].append(found)
    memory = {engine: _memory(args, engine, strand, checkpoint, folder) for engine in ENGINES}
    rates = {
        engine: {
            "documents": statistics.median(each["documents"] / each["seconds"] for each in found),
            "tokens": statistics.median(each["tokens"] / each["seconds"] for each in found),
        }
        for engine, found in runs.items()
    }
    return {"name": name, "strand": strand, "runs": runs, "rates": rates, "memory_mb": memory}


def _memory(args: argparse.Namespace, engine: str, strand: str, checkpoint: Path, folder: Path) -> dict[str, float]:
    """Returns the peak memory, in MB, of a fresh process for each number of documents given at once."""
    found = {}
    for size in SIZES:
        texts = folder / f"{size}.json"
        texts.write_text(json.dumps([" ".join(["word"] * (FULL + 40))] * size), encoding="utf-8")
        with Worker(args.python, engine, strand, checkpoint, args.threads) as worker:
            found[str(size)] = worker.encode(texts)["peak_mb"]
    return found


def _report(args: argparse.Namespace, where: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    checks, tables = [], []
    for each in found:
        what, rates, memory = f"{each['name']} ({each['strand']})", each["rates"], each["memory_mb"]
        ratio = rates[ENGINES[0]]["documents"] / rates[THEIRS]["documents"]
        checks.append(
            common.Check(f"{what}, times {THEIRS}", ratio, TARGETS[each["strand"]], "x", at_least=True, digits=2)
        )
        share = max(memory[ENGINES[0]][size] / memory[THEIRS][size] for size in map(str, SIZES))
        checks.append(common.Check(f"{what}, peak memory over theirs, at worst", share, 1.0, digits=2))
        rows = [
            (
                engine, f"{rates[engine]['documents']:.1f}", f"{rates[engine]['tokens']:,.0f}",
                f"{rates[engine]['documents'] / rates[THEIRS]['documents']:.2f}",
                *(f"{memory[engine][str(size)]:,.0f}" for size in SIZES),
            )
            for engine in ENGINES
        ]  # fmt: skip
        columns = ("engine", "documents/s", "tokens/s", "times theirs", *(f"MB, {size} at once" for size in SIZES))
        tables.append(common.Table(f"{what}, {args.documents} documents", columns, rows))
    notes = [
        f"{args.threads} threads on as many cores; {args.repeats} repetitions in turns after one to warm up, medians.",
        f"Memory: the peak of a fresh process, libraries and model included, over documents of {FULL} tokens.",
        f"{THEIRS}: its defaults, batches of 32 sorted by length. plait: its defaults, all documents at once.",
    ]
    return common.write(
        "families", args.results, where=where, raw={"collection": args.collection, "checkpoints": list(found)},
        checks=checks, tables=tables, notes=notes,
        about=f"The same checkpoints run by plait and by sentence-transformers, documents of {args.collection}.",
    )  # fmt: skip


if __name__ == "__main__":
    main()

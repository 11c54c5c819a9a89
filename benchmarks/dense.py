"""Dense top-k, one thread: plait's default and its alternatives beside FAISS, hnswlib and usearch, same vectors."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)
# ruff: noqa: E402 (threads are pinned before numpy is loaded)

from __future__ import annotations

import common

common.pin_threads(1)

import argparse
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from dense_engines import EVERYTHING, Alive, contestants
from numpy.typing import NDArray
from plait.encoders import load_dense

KS = (10, 200)  # what people see; what a strand proposes
SHARES = (0.5, 0.05, 0.001)  # of documents that match a filter
RECALL = 0.98
SHARD, SEED, TITLE_WORDS, MAX_LENGTH = 8192, 7, 8, 64
FILTERED = ("plait", "FAISS Flat", "FAISS IVF", "FAISS HNSW32", "hnswlib")  # whose names begin so


def main() -> None:
    """Measures and writes the table."""
    args = _arguments()
    where = common.machine()
    if args.encode is not None:
        _encode(args.encode, args.vectors, args.held_out, args.max_length)
    if args.encode_only:
        return
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="plait-dense-") as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        vectors, queries = _gathered(args, work)
        measured = _Measured(vectors, queries, args.repeats)
        names = [name for name in contestants(*vectors.shape) if not args.only or name in args.only]
        built = {name: _built(name, work) for name in names}
        for name in names:
            measured.open(name, work / _folder(name) / "index")
        print(_report(args, where, built, measured))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=3)
    add = parser.add_argument
    add("vectors", type=Path, metavar="VECTORS", help="folder of 0000.npy, 0001.npy, ..., or one .npy: float32 rows")
    add("--queries", type=Path, nargs="*", default=[], metavar="FILE", help="more queries: .npy, named by their file")
    add("--held-out", type=int, default=1000, help="last rows that are not indexed but asked for")
    add("--asked", type=int, default=300, help="queries of each kind")
    add("--documents", type=int, help="first rows to index; else all but those held out")
    add("--encode", type=Path, metavar="DATA", help="first encode DATA/scale/mixed-en.jsonl.xz into VECTORS")
    add("--encode-only", action="store_true", help="stop when the vectors are there")
    add("--max-length", type=int, default=MAX_LENGTH, help="wordpieces that --encode reads of a passage")
    add("--only", nargs="*", metavar="NAME", help="these contestants only")
    add("--work", type=Path, metavar="FOLDER", help="keep what is built there, and use it again")
    add("--name", default="dense", help="of the result files")
    return parser.parse_args()


# Vectors


def _encode(data: Path, folder: Path, held_out: int, max_length: int) -> None:
    """Encodes passages in a random order, and the titles of the last ones; what is there already stays."""
    path = common.existing(data / "scale" / "mixed-en.jsonl.xz", "the passages for measuring at scale")
    folder.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    order = np.random.default_rng(SEED).permutation(len(rows)).tolist()
    encoder = load_dense(max_length=max_length, threads=1)
    _saved(folder / "titles.npy", lambda: encoder.encode_queries([_title(rows[i]) for i in order[-held_out:]]))
    for number in range(-(-len(rows) // SHARD)):
        texts = [_text(rows[i]) for i in order[number * SHARD : (number + 1) * SHARD]]
        _saved(folder / f"{number:04d}.npy", lambda texts=texts: encoder.encode_documents(texts))


def _saved(path: Path, encode: Callable[[], NDArray[np.float32]]) -> None:
    if path.exists():
        return
    print(f"encoding {path.name}", file=sys.stderr, flush=True)
    made = path.with_name(f".{path.name}")
    with made.open("wb") as handle:
        np.save(handle, encode())
    made.rename(path)


def _text(row: Mapping[str, Any]) -> str:
    return f"{row.get('title') or ''} {row['text']}".strip()


def _title(row: Mapping[str, Any]) -> str:
    """Returns the first words of a title, or of the text where the title is only a name."""
    title = row.get("title") or ""
    return " ".join((title if len(title.split()) > 2 else row["text"]).split()[:TITLE_WORDS])


def _gathered(args: argparse.Namespace, work: Path) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Returns the vectors to index, mapped from one file, and the queries by kind."""
    common.existing(args.vectors, "a folder of 0000.npy, 0001.npy, ... with float32 rows; --encode makes one")
    files = sorted(args.vectors.glob("[0-9]*.npy")) if args.vectors.is_dir() else [args.vectors]
    parts = [np.load(file, mmap_mode="r") for file in files]
    count = sum(len(part) for part in parts) - args.held_out
    if count < 1:
        common.fail(
            f"{args.vectors} has {count + args.held_out:,} rows; expected more than the {args.held_out:,} held out"
        )
    rows = np.concatenate(parts)
    kept, queries = rows[: args.documents or count][:count], {"passages": rows[count:][: args.asked]}
    titles = [args.vectors / "titles.npy"] if args.vectors.is_dir() else []
    for file in [*(path for path in titles if path.exists()), *args.queries]:
        queries[file.stem] = np.load(common.existing(file, "queries as float32 rows"))[: args.asked]
    np.save(work / "vectors.npy", kept)
    return np.load(work / "vectors.npy", mmap_mode="r"), {k: np.ascontiguousarray(v) for k, v in queries.items()}


# Contestants


def _folder(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _built(name: str, work: Path) -> dict[str, Any]:
    """Returns what it took to build a contestant, in a process of its own; what is kept there is used again."""
    folder = work / _folder(name)
    facts = folder / "facts.json"
    if not facts.exists():
        print(f"building {name}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "index").mkdir(parents=True)
        command = [sys.executable, str(Path(__file__).with_name("dense_engines.py")), name]
        done = subprocess.run([*command, work / "vectors.npy", folder / "index"], capture_output=True, text=True)
        if done.returncode:
            common.fail(f"{name} could not be built: {done.stderr.strip().splitlines()[-1:]}")
        facts.write_text(done.stdout, encoding="utf-8")
    return json.loads(facts.read_text(encoding="utf-8"))


class _Measured:
    """Opened contestants, the true neighbours, and what has been measured.

    Args:
        vectors: float32 (n, dim).
        queries: float32 (m, dim), by kind.
        repeats: rounds; a query's median counts.
    """

    def __init__(self, vectors: NDArray[np.float32], queries: Mapping[str, NDArray[np.float32]], repeats: int) -> None:
        self.vectors, self.queries, self.repeats = vectors, queries, repeats
        self.opened: dict[str, Any] = {}
        self._enough: dict[tuple[str, int, int], NDArray[np.float32]] = {}
        self._exact = faiss.IndexFlatIP(vectors.shape[1])
        self._exact.add(np.ascontiguousarray(vectors))

    @property
    def tuned_on(self) -> str:
        """Returns the kind of queries that contestants' knobs are chosen by."""
        return "titles" if "titles" in self.queries else "passages"

    def open(self, name: str, folder: Path) -> None:
        """Opens a contestant."""
        made = contestants(*self.vectors.shape)[name]
        made.open(folder, self.vectors)
        self.opened[name] = made

    def rows(self, k: int) -> list[dict[str, Any]]:
        """Returns for each contestant and setting: recall by kind of query, and latencies."""
        settings = [pair for name in self.opened for pair in self._settings(name, k)]
        seconds = self._timed(settings, k)
        return [
            {
                "name": name, "knob": knob, "k": k,
                "recall": {kind: self.recall(name, kind, k, knob) for kind in self.queries},
                "milliseconds": {kind: self._summary(seconds[name, knob, kind]) for kind in self.queries},
            }
            for name, knob in settings
        ]  # fmt: skip

    def _settings(self, name: str, k: int) -> list[tuple[str, float]]:
        """Returns a contestant with its default, and with the least setting that reaches the wanted recall."""
        knobs = self.opened[name].knobs
        reach = (knob for knob in knobs if self.recall(name, self.tuned_on, k, knob) >= RECALL)
        return [(name, knob) for knob in dict.fromkeys([knobs[0], next(reach, knobs[-1])])]

    def _timed(self, settings: Sequence[tuple[str, float]], k: int) -> dict[tuple[str, float, str], list[float]]:
        """Returns each query's median seconds; contestants take turns."""
        found: dict[tuple[str, float, str], list[list[float]]] = {}
        for _ in range(self.repeats):
            for name, knob in settings:
                search = self.opened[name].search
                for kind, queries in self.queries.items():
                    round_ = [common.timed(lambda q=q, s=search, n=knob: s(q, k, n)) for q in queries]
                    found.setdefault((name, knob, kind), []).append(round_)
        return {key: np.median(rounds, axis=0).tolist() for key, rounds in found.items()}

    def _summary(self, seconds: Sequence[float]) -> dict[str, float]:
        milliseconds = [1000 * each for each in seconds]
        return {
            "p50": common.percentile(milliseconds, 0.5), "p95": common.percentile(milliseconds, 0.95),
            "mean": sum(milliseconds) / len(milliseconds),
        }  # fmt: skip

    def recall(self, name: str, kind: str, k: int, knob: float, alive: Alive = EVERYTHING) -> float:
        """Returns the share of the k nearest that come back; of those that tie with the last, any do."""
        return float(np.mean([found for found, _ in self._answers(name, kind, k, knob, alive)]))

    def complete(self, name: str, kind: str, k: int, knob: float, alive: Alive) -> float:
        """Returns the share of queries that get as many hits as there can be."""
        return float(np.mean([full for _, full in self._answers(name, kind, k, knob, alive)]))

    def _answers(self, name: str, kind: str, k: int, knob: float, alive: Alive) -> list[tuple[float, bool]]:
        queries, least = self.queries[kind], self._least(kind, k, alive)
        wanted = min(k, int(alive.sum()) if alive.size else len(self.vectors))
        answers = []
        for query, enough in zip(queries, least, strict=True):
            rows = self.opened[name].search(query, k, knob, alive)
            good = np.count_nonzero(self.vectors[rows] @ query >= enough)
            answers.append((min(int(good), wanted) / wanted, len(rows) >= wanted))
        return answers

    def _least(self, kind: str, k: int, alive: Alive) -> NDArray[np.float32]:
        """Returns the score that each query's k-th neighbour has, a little less for rounding."""
        swig: Any = faiss
        matching = int(alive.sum()) if alive.size else len(self.vectors)
        if (kind, k, matching) not in self._enough:  # no two filters let the same number through
            chosen = swig.IDSelectorBitmap(np.packbits(alive, bitorder="little")) if alive.size else None
            options = swig.SearchParameters(sel=chosen)
            scores = self._exact.search(self.queries[kind], min(k, matching), params=options)[0]
            self._enough[kind, k, matching] = scores[:, -1] - 1e-5 * np.abs(scores).max(axis=1)
        return self._enough[kind, k, matching]

    def filtered(self, settings: Mapping[str, float], k: int = 10) -> list[dict[str, Any]]:
        """Returns recall, completeness and latency under filters of several shares."""
        rng, found = np.random.default_rng(0), []
        for share in SHARES:
            alive = (rng.random(len(self.vectors)) < share).astype(np.uint8)
            alive[0] = 1
            found += [{"share": share, **self._filtered(name, k, knob, alive)} for name, knob in settings.items()]
        return found

    def _filtered(self, name: str, k: int, knob: float, alive: Alive) -> dict[str, Any]:
        search, kind = self.opened[name].search, self.tuned_on
        asked = self.queries[kind]
        rounds = [[common.timed(lambda q=q: search(q, k, knob, alive)) for q in asked] for _ in range(self.repeats)]
        return {
            "name": name, "knob": knob, "recall": self.recall(name, kind, k, knob, alive),
            "complete": self.complete(name, kind, k, knob, alive),
            "milliseconds": self._summary(np.median(rounds, axis=0).tolist()),
        }  # fmt: skip


# The page


def _report(
    args: argparse.Namespace, where: Mapping[str, Any], built: Mapping[str, Mapping[str, Any]], measured: _Measured
) -> str:
    began = time.perf_counter()
    searches = {k: measured.rows(k) for k in KS if k <= len(measured.vectors)}
    tuned = {row["name"]: row["knob"] for row in searches[KS[0]]}  # the last of a name is the one that was chosen
    filtered = measured.filtered(
        {name: tuned[name] for name in tuned if name.startswith(FILTERED) and _filters(measured, name)}
    )
    facts = {name: made.facts() for name, made in measured.opened.items()}
    raw = {
        "documents": len(measured.vectors), "dim": measured.vectors.shape[1], "tuned_on": measured.tuned_on,
        "queries": {kind: len(each) for kind, each in measured.queries.items()}, "built": built, "facts": facts,
        "searches": searches, "filtered": filtered, "measuring_seconds": time.perf_counter() - began,
    }  # fmt: skip
    tables = [_search_table(rows, measured, k) for k, rows in searches.items()]
    tables += [_build_table(built), _filter_table(filtered, measured.tuned_on)]
    return common.write(
        args.name, args.results, where=where, raw=raw, checks=_checks(searches, filtered), tables=tables,
        notes=_notes(measured, args),
        about="Dense top-k by inner product, one thread: recall, latency, building, filters.",
    )  # fmt: skip


def _filters(measured: _Measured, name: str) -> bool:
    return measured.opened[name].filters


def _checks(searches: Mapping[int, list[dict[str, Any]]], filtered: list[dict[str, Any]]) -> list[common.Check]:
    made = [
        common.Check(f"plait, recall@{KS[0]}, {kind}", recall, RECALL, at_least=True)
        for row in searches[KS[0]]
        if row["name"] == "plait"
        for kind, recall in row["recall"].items()
    ]
    made += [
        common.Check(f"plait, {row['share']:.1%} match: queries that get k hits", row["complete"], 1.0, at_least=True)
        for row in filtered
        if row["name"] == "plait"
    ]  # fmt: skip
    return made


def _search_table(rows: Sequence[Mapping[str, Any]], measured: _Measured, k: int) -> common.Table:
    kinds, timed = list(measured.queries), measured.tuned_on
    lines = [
        (
            row["name"], _setting(measured, row), *(f"{row['recall'][kind]:.3f}" for kind in kinds),
            *(f"{row['milliseconds'][kind]['p50']:.3f}" for kind in kinds),
            *(f"{row['milliseconds'][timed][part]:.3f}" for part in ("p95", "mean")),
        )
        for row in rows
    ]  # fmt: skip
    columns = (
        "", "setting", *(f"recall, {kind}" for kind in kinds), *(f"p50 ms, {kind}" for kind in kinds),
        f"p95 ms, {timed}", f"mean ms, {timed}",
    )  # fmt: skip
    return common.Table(f"k = {k}, {len(measured.vectors):,} documents", columns, lines)


def _setting(measured: _Measured, row: Mapping[str, Any]) -> str:
    made = measured.opened[row["name"]]
    if row["name"].startswith("plait"):
        facts = made.facts()
        points = facts.get("effort", [])
        return f"{facts['spec']}{''.join(', ' + str(p['knob']) + ' x ' + str(p['refine']) for p in points[:1])}"
    default = " (default)" if row["knob"] == made.knobs[0] and len(made.knobs) > 1 else ""
    return f"{getattr(made, 'knob', '') or 'ef'} {row['knob']:g}{default}" if len(made.knobs) > 1 else ""


def _build_table(built: Mapping[str, Mapping[str, Any]]) -> common.Table:
    rows = [
        (name, f"{facts['seconds']:.1f}", f"{facts['bytes'] / 1e6:,.0f}", f"{(facts['peak_bytes'] or 0) / 1e6:,.0f}")
        for name, facts in built.items()
    ]
    return common.Table("Building, one thread", ("", "seconds", "MB on disk", "peak MB"), rows)


def _filter_table(filtered: Sequence[Mapping[str, Any]], kind: str) -> common.Table:
    names = list(dict.fromkeys(row["name"] for row in filtered))
    cells = {(row["name"], row["share"]): row for row in filtered}

    def cell(row: Mapping[str, Any]) -> str:
        lacking = "" if row["complete"] == 1 else f", {1 - row['complete']:.0%} short"
        return f"{row['milliseconds']['mean']:.2f} ({row['recall']:.3f}{lacking})"

    rows = [(name, *(cell(cells[name, share]) for share in SHARES)) for name in names]
    title = f"Filters, k = {KS[0]}, {kind}: mean ms (recall, queries that got fewer hits than there are)"
    return common.Table(title, ("", *(f"{share:.1%} match" for share in SHARES)), rows)


def _notes(measured: _Measured, args: argparse.Namespace) -> list[str]:
    return [
        '`plait` is the default (`dense_index="auto"`) as one segment; `plait, segments` the same in segments of '
        "65,536, as they are before they are merged; the other rows of plait name another `dense_index`. Every "
        "answer of plait is scored by the full vectors. Its setting is what was built, then, for k = 10, the "
        "calibrated knob and how many rows are scored for a hit.",
        "FAISS, hnswlib and usearch stand with their default and with the least setting that reaches recall "
        f"{RECALL} on {measured.tuned_on}, or with the largest that was tried. IVF has about as many lists as the "
        "square root of the documents.",
        "`passages` are held-out vectors; `titles` the first words of their titles, or of their texts, encoded as "
        "queries; other queries are named by their file. Recall counts every hit that scores as much as the k-th "
        "neighbour.",
        f"One thread; contestants take turns; each query's median of {args.repeats} rounds. Latency is that of a "
        "Python call for one query. Peak memory is that of the building process, the input included "
        f"({measured.vectors.nbytes / 1e6:,.0f} MB, mapped).",
        "usearch's Python package has no filters; hnswlib's are a Python function.",
    ]


if __name__ == "__main__":
    main()

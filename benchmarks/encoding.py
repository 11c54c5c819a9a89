"""Documents encoded a second for both strands: in one pass by plait, one after the other by sentence-transformers.

Both have the same weights, in the same run: plait the built int8 model, sentence-transformers its float32 checkpoint.
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
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

RATE = 60.0  # documents a second for both strands: the target
TIMES = 5.0  # sentence-transformers' rate for both: the target
STRANDS = ("learned", "dense")
BOTH = "both"  # one pass of plait's, one after the other of theirs


class Worker:
    """sentence-transformers in another process; it waits, without work, while plait is timed."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, lengths: Mapping[str, int]) -> None:
        self._process, self._folder, self._lengths = process, folder, lengths
        self.versions: dict[str, str] = self._read()["versions"]

    def encode(self, strand: str, texts: Sequence[str]) -> float:
        """Returns the seconds that its own clock measured; the vectors are in `vectors(strand)`."""
        path = self._folder / "texts.json"
        path.write_text(json.dumps(list(texts)), encoding="utf-8")
        assert self._process.stdin is not None
        request = {
            "strand": strand, "texts": str(path), "max_length": self._lengths[strand], "out": str(self._out(strand)),
        }  # fmt: skip
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"])

    def vectors(self, strand: str) -> Any:
        """Returns what it encoded last: dense rows or a csr_matrix."""
        import numpy as np
        from scipy.sparse import csr_matrix

        with np.load(self._out(strand)) as found:
            if strand == "dense":
                return found["rows"]
            return csr_matrix((found["values"], tuple(found["indices"])), shape=tuple(found["shape"]))

    def _out(self, strand: str) -> Path:
        return self._folder / f"{strand}.npz"

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended without an answer"}
        if "error" in answer:
            common.fail(f"sentence-transformers: {answer['error']}")
        return answer


def main() -> None:
    """Measures and writes the table."""
    args = _arguments()
    corpus = common.existing(args.data / "beir" / args.collection, "a BEIR folder")
    common.pin_threads(args.threads, cores=True)
    where = common.machine()
    texts = _texts(corpus, args.limit)
    if args.st and args.checkpoint is None:
        common.fail("--st needs --checkpoint: the folder `checkpoint` that `plait train` wrote beside the model")
    encoders = _encoders(args.model, args.threads)
    beside = _beside(args, encoders, texts) if args.st else None  # first: it may find something missing
    full = _plait_alone(encoders, texts, args.repeats)
    print(_report(args, where, encoders, full, beside))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=3)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/")
    parser.add_argument("--collection", default="scifact", help="whose documents are encoded")
    parser.add_argument(
        "--limit", type=int, help="encode so many documents only, evenly spaced (results: encoding-try)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads and cores, for plait and sentence-transformers")
    parser.add_argument("--st", action="store_true", help="also measure sentence-transformers fp32")
    parser.add_argument("--st-python", default=sys.executable, help="a Python with sentence-transformers and torch")
    parser.add_argument("--st-documents", type=int, default=1024, help="documents of that comparison, evenly spaced")
    parser.add_argument("--model", default="embedded", help="a joint model: embedded, or a folder that was built")
    parser.add_argument("--checkpoint", type=Path, help="the float32 checkpoint that the model was built from")
    return parser.parse_args()


def _texts(folder: Path, limit: int | None) -> list[str]:
    from plait.eval import load_beir

    return _spread([document.full_text for document in load_beir(folder).documents()], limit)


def _spread(texts: Sequence[str], count: int | None) -> list[str]:
    """Returns so many texts, evenly spaced over all of them."""
    if count is None or count >= len(texts):
        return list(texts)
    return [texts[i * len(texts) // count] for i in range(count)]


def _encoders(model: str, threads: int) -> dict[str, Any]:
    from plait.encoders import load_joint

    joint = load_joint(model, threads=threads)
    return {"learned": joint.learned, "dense": joint.dense, BOTH: joint}


def _plait_alone(encoders: Mapping[str, Any], texts: Sequence[str], repeats: int) -> dict[str, Any]:
    """Returns the seconds of each strand alone and of both, chunk by chunk as `Retriever.add` encodes them."""
    for encoder in encoders.values():  # opens the session
        encoder.encode_documents(texts[:8])
    contestants = {name: partial(_in_chunks, encoder, texts) for name, encoder in encoders.items()}
    seconds = common.alternating(contestants, repeats, warm_up=False)
    return {"documents": len(texts), "seconds": seconds, "rates": _rates(len(texts), seconds)}


def _in_chunks(encoder: Any, texts: Sequence[str]) -> None:
    from plait.retriever.encoders import CHUNK

    for start in range(0, len(texts), CHUNK):
        encoder.encode_documents(texts[start : start + CHUNK])


def _rates(documents: int, seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: documents / statistics.median(each) for name, each in seconds.items()}


def _beside(args: argparse.Namespace, encoders: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Returns plait's and sentence-transformers' seconds on the same documents, taking turns, and the cosines."""
    sample = _spread(texts, args.st_documents)
    lengths = {strand: encoders[strand].identity.max_length for strand in STRANDS}
    with _worker(args, lengths) as worker:
        plait: dict[str, list[float]] = {name: [] for name in encoders}
        theirs: dict[str, list[float]] = {name: [] for name in encoders}
        for strand in STRANDS:
            worker.encode(strand, sample[:8])  # loads the model
        for _ in range(args.repeats):
            for name, encoder in encoders.items():
                plait[name].append(common.timed(partial(_in_chunks, encoder, sample)))
            for strand in STRANDS:
                theirs[strand].append(worker.encode(strand, sample))
            theirs[BOTH].append(sum(theirs[strand][-1] for strand in STRANDS))
        fidelity = {strand: _fidelity(strand, encoders[strand], sample, worker.vectors(strand)) for strand in STRANDS}
        versions = worker.versions
    return {
        "documents": len(sample), "versions": versions, "fidelity": fidelity,
        "plait": {"seconds": plait, "rates": _rates(len(sample), plait)},
        "sentence-transformers": {"seconds": theirs, "rates": _rates(len(sample), theirs)},
    }  # fmt: skip


@contextmanager
def _worker(args: argparse.Namespace, lengths: Mapping[str, int]) -> Iterator[Worker]:
    script = Path(__file__).with_name("st_worker.py")
    with tempfile.TemporaryDirectory(prefix="plait-encoding-") as folder:
        try:
            process = subprocess.Popen(
                [args.st_python, str(script), str(args.threads), str(args.checkpoint)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        except OSError as error:
            common.fail(f"--st-python {args.st_python} cannot be started: {error}")
        with process:
            try:
                yield Worker(process, Path(folder), lengths)
            finally:
                assert process.stdin is not None
                process.stdin.close()


def _fidelity(strand: str, encoder: Any, texts: Sequence[str], theirs: Any) -> dict[str, float]:
    """Returns the mean and the least cosine between our vectors and theirs."""
    ours = encoder.encode_documents(texts)
    if strand == "learned":
        theirs = _finished(theirs, encoder.joint, texts)
    values = _cosines(ours, theirs)
    return {"mean": float(values.mean()), "least": float(values.min())}


def _finished(theirs: Any, joint: Any, texts: Sequence[str]) -> Any:
    """Returns their vectors finished as ours are: without what is no term, pruned, expanded, damped; not timed."""
    import numpy as np
    from plait.encoders.queries import csr, damped, expanded

    facts, rows = joint.facts, theirs.toarray()
    rows[:, [*joint.folder.manifest.specials, *facts.silent]] = 0
    finished = []
    for row, own in zip(rows, joint.model.tokenizer.ids(texts), strict=True):
        columns = np.flatnonzero(row > facts.prune * row.max())
        values = damped(expanded(columns, row[columns], own, facts.expansion), facts.damping)
        finished.append((columns.astype(np.int32), values))
    return csr(finished, facts.dim)


def _cosines(ours: Any, theirs: Any) -> NDArray[np.float64]:
    """Returns the cosine of each pair of rows; 0 where one is empty."""
    import numpy as np
    from scipy.sparse import csr_matrix

    a, b = csr_matrix(ours, dtype=np.float64), csr_matrix(theirs, dtype=np.float64)
    products = np.asarray(a.multiply(b).sum(axis=1)).ravel()
    norms = [np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel()) for rows in (a, b)]
    return products / np.maximum(norms[0] * norms[1], 1e-12)


def _report(
    args: argparse.Namespace, where: Mapping[str, Any], encoders: Mapping[str, Any], full: dict[str, Any],
    beside: dict[str, Any] | None,
) -> str:  # fmt: skip
    what = f"both strands, {args.collection}"
    checks = [common.Check(what, full["rates"][BOTH], RATE, "documents/s", at_least=True, digits=1)]
    tables = [_rates_table("plait", full)]
    raw = {
        "collection": args.collection, "threads": args.threads, "repeats": args.repeats, "plait": full,
        "encoders": {strand: encoders[strand].identity.to_json() for strand in STRANDS},
        "beside_sentence_transformers": beside,
    }  # fmt: skip
    notes = [
        f"{args.threads} threads on as many cores; {args.repeats} repetitions, medians; models are loaded beforehand.",
        f"256 documents at a time, as `Retriever.add` does; `{BOTH}` is one pass of plait's joint model.",
    ]
    if beside is not None:
        checks.append(_ratio_check(beside))
        tables.append(_beside_table(beside))
        found = ", ".join(f"{name} {version}" for name, version in beside["versions"].items())
        notes.append(
            "sentence-transformers: fp32, its default batches of 32 sorted by length, plait's limits of tokens, in a "
            f"process of its own that takes turns with plait ({found}). `{BOTH}` is one strand after the other. Its "
            "sparse model is the trunk with the branch, the same head, `SpladePooling`, and own words added."
        )
        if "merged" in encoders["dense"].identity.activation:
            notes.append(
                "Equal tokens of long texts merge in plait's model; sentence-transformers computes each: lower cosines."
            )
    name = "encoding" if args.limit is None else "encoding-try"
    return common.write(
        name, args.results, where=where, raw=raw, checks=checks, tables=tables, notes=notes,
        about=f"Documents of {args.collection} encoded a second, on {args.threads} cores.",
    )  # fmt: skip


def _ratio_check(beside: Mapping[str, Any]) -> common.Check:
    ratio = beside["plait"]["rates"][BOTH] / beside["sentence-transformers"]["rates"][BOTH]
    return common.Check("both strands, times sentence-transformers", ratio, TIMES, "x", at_least=True, digits=2)


def _rates_table(title: str, facts: Mapping[str, Any]) -> common.Table:
    rows = [
        (name, f"{rate:.1f}", f"{statistics.median(facts['seconds'][name]):.1f}")
        for name, rate in facts["rates"].items()
    ]
    return common.Table(f"{title}, {facts['documents']:,} documents", ("strand", "documents/s", "seconds"), rows)


def _beside_table(beside: Mapping[str, Any]) -> common.Table:
    ours, theirs = (beside[name]["rates"] for name in ("plait", "sentence-transformers"))
    rows = []
    for name in ours:
        cosines = beside["fidelity"].get(name)
        shown = (f"{cosines['mean']:.4f}", f"{cosines['least']:.4f}") if cosines else ("-", "-")
        rows.append((name, f"{ours[name]:.1f}", f"{theirs[name]:.1f}", f"{ours[name] / theirs[name]:.2f}", *shown))
    columns = ("strand", "plait, documents/s", "sentence-transformers", "ratio", "mean cosine", "least cosine")
    return common.Table(f"Side by side, {beside['documents']:,} documents", columns, rows)


if __name__ == "__main__":
    main()

"""sentence-transformers in a process of its own, for encoding.py: its Python has torch, plait's has not.

Both strands of a joint checkpoint, each as a model of its own: the dense half is an ordinary `SentenceTransformer`; the
sparse half a `SparseEncoder` of its trunk with the branch on top, its head, `SpladePooling`, and own words.

Reads one JSON request a line on stdin, `{"strand", "texts": FILE, "max_length", "out": FILE}`, encodes the texts,
writes the vectors, and answers with one JSON line on stdout: `{"seconds"}`, or `{"error"}`. The first line that it
writes, once its libraries are loaded, names their versions.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import common

DENSE, LEARNED = "dense", "learned"


def main() -> None:
    """Answers requests until stdin ends."""
    threads, folder = int(sys.argv[1]), Path(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is no answer
    common.pin_threads(threads, cores=True)
    try:
        library, torch = (importlib.import_module(name) for name in ("sentence_transformers", "torch"))
    except ImportError as error:
        _answer(answers, {"error": f"{error}: give --st-python a Python that has sentence-transformers and torch"})
        return
    torch.set_num_threads(threads)
    _answer(answers, {"versions": common.versions()})
    models: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _answer(answers, {"seconds": _encode(library, models, folder, **request)})
        except Exception as error:  # told to the one who asked, whatever it is
            _answer(answers, {"error": f"{type(error).__name__}: {error}"})


def _answer(stream: Any, values: dict[str, Any]) -> None:
    print(json.dumps(values), file=stream, flush=True)


def _encode(
    library: Any, models: dict[str, Any], folder: Path, strand: str, texts: str, max_length: int, out: str
) -> float:
    if strand not in models:
        models[strand] = _dense(library, folder) if strand == DENSE else _learned(library, folder)
        models[strand].max_seq_length = max_length
    documents = json.loads(Path(texts).read_text(encoding="utf-8"))
    began = time.perf_counter()
    vectors = models[strand].encode(documents, show_progress_bar=False)
    seconds = time.perf_counter() - began
    _save(strand, vectors, out)
    return seconds


def _dense(library: Any, folder: Path) -> Any:
    return library.SentenceTransformer(str(folder), device="cpu")


def _learned(library: Any, folder: Path) -> Any:
    return library.SparseEncoder(modules=importlib.import_module("st_modules").sparse_modules(folder), device="cpu")


def _save(strand: str, vectors: Any, out: str) -> None:
    import numpy as np

    if strand == "dense":
        np.savez(out, rows=vectors)
        return
    found = vectors.coalesce()
    np.savez(out, indices=found.indices().numpy(), values=found.values().numpy(), shape=np.array(found.shape))


if __name__ == "__main__":
    main()

"""One engine for families.py: reads the name of a file of texts a line, answers with what encoding it took."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common

LENGTH = 512
OPTIONS = {
    "plait int8": {"learned": ":family=splade", "dense": ""},
    "plait fp32": {"learned": ":family=splade:precision=fp32", "dense": ":precision=fp32"},
    "plait torch": {"learned": ":family=splade:runtime=torch", "dense": ":runtime=torch"},
}


def main() -> None:
    """Answers requests until stdin ends."""
    engine, strand, folder, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    answers, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is no answer
    common.pin_threads(threads, cores=True)
    try:
        encode = _theirs(strand, folder, threads) if engine not in OPTIONS else _ours(engine, strand, folder, threads)
        _say(answers, {"versions": common.versions()})
        for line in sys.stdin:
            texts = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
            began = time.perf_counter()
            tokens = encode(texts)
            seconds = time.perf_counter() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            _say(answers, {"seconds": seconds, "tokens": tokens, "documents": len(texts), "peak_mb": peak})
    except Exception as error:  # told to the one who asked, whatever it is
        _say(answers, {"error": f"{type(error).__name__}: {error}"})


def _say(stream: Any, values: dict[str, Any]) -> None:
    print(json.dumps(values), file=stream, flush=True)


def _ours(engine: str, strand: str, folder: str, threads: int) -> Callable[[Sequence[str]], int]:
    from plait.encoders import load_dense, load_learned
    from plait.encoders.onnx_runtime import TextTokenizer

    load: Any = {"learned": load_learned, "dense": load_dense}[strand]
    encoder = load(folder + OPTIONS[engine][strand], threads=threads, max_length=LENGTH)
    content = (Path(folder) / "tokenizer.json").read_text(encoding="utf-8")
    counter = TextTokenizer(content, folder, LENGTH)

    def encode(texts: Sequence[str]) -> int:
        encoder.encode_documents(texts)
        return sum(len(ids) for ids in counter.id_lists(texts))

    return encode


def _theirs(strand: str, folder: str, threads: int) -> Callable[[Sequence[str]], int]:
    import sentence_transformers
    import torch

    torch.set_num_threads(threads)
    kind: Any = {"learned": sentence_transformers.SparseEncoder, "dense": sentence_transformers.SentenceTransformer}
    model = kind[strand](folder, device="cpu")
    model.max_seq_length = LENGTH

    def encode(texts: Sequence[str]) -> int:
        model.encode_document(list(texts), show_progress_bar=False)
        return sum(len(ids) for ids in model.tokenizer(list(texts), truncation=True, max_length=LENGTH)["input_ids"])

    return encode


if __name__ == "__main__":
    main()

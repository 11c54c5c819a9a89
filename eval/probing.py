"""What `plait plan` measures: a sample of the corpus encoded, and a small real index of it, built and searched.

The sample is spread evenly over the lengths of the texts that were read, and encoded in three parts, short, middling
and long: what a part costs a document, times how many documents of that length there are, is what the corpus costs.
The small index holds more documents than were encoded: those beyond have the vectors of others.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..encoders.contract import full_queries
from ..encoders.counting import counting
from ..index import Writer, ann
from ..index.compiled import load_kernels
from ..retriever import Document, Retriever
from ..retriever.encoders import CHUNK, Encoders, Vectors, made_with
from .benching import TOTAL, bench, settings_of
from .contract import EvalError
from .costs import strand_costs
from .memory import Memory

READ = 100_000  # documents of a corpus that are looked at, at most
STOCK = 2000  # of them are kept, for the small index
SAMPLE = CHUNK  # of these are encoded
PARTS = 3
ASKED = 30  # queries, made of titles and first words
WORDS = 8
TINY = 8

Clock = Callable[[], float]


@dataclass(frozen=True)
class Corpus:
    """What a look at a corpus says of it.

    Attributes:
        documents: how many there are, or will be.
        counted: whether that was counted, not estimated or given.
        characters: of a text, mean over all that were read.
        stock: documents chosen at random, in ascending order of length.
        sample: the texts to encode, in parts from short to long; each stands for an equal share of the documents.
    """

    documents: int
    counted: bool
    characters: float
    stock: Sequence[Document]
    sample: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Probe:
    """What encoding the sample and building a small index took, with one choice of strands and models.

    Attributes:
        load: seconds to open the models.
        encode: seconds a document, mean over all lengths.
        tokens: that models read of a document.
        store: seconds a document, to write and commit it.
        merge: seconds a document, to merge its segment with others.
        start: seconds for any index, however small, loading the kernels included.
        postings: of a document.
        dim: dimensions of a dense vector; 0 without.
        terms: how many different terms the sample holds, by strand, for half and for all of it.
        empty: bytes of an index without documents.
        database: bytes of plait.db a document.
        arrays: bytes a document of all files that grow with it.
        encoding_memory: peak bytes while encoding, of all that the process has loaded.
        buffer_memory: bytes a document waiting for a commit, at the peak.
        latency: median milliseconds of a search of the small index.
        touched: postings that a query meets in a document, expected.
        held: documents of the small index.
    """

    load: float
    encode: float
    tokens: float
    store: float
    merge: float
    start: float
    postings: float
    dim: int
    terms: Mapping[str, tuple[int, int, int]]
    empty: int
    database: float
    arrays: float
    encoding_memory: float
    buffer_memory: float
    latency: float
    touched: float
    held: int


def survey(
    documents: Iterable[Document],
    *,
    expected: int | None = None,
    sample: int = SAMPLE,
    kept: int = STOCK,
    most: int = READ,
    share_read: Callable[[], float | None] = lambda: None,
    seed: int = 0,
) -> Corpus:
    """Returns what the beginning of a corpus says of it, with a sample.

    Args:
        documents: the corpus; no more than `most` are read.
        expected: how many documents there will be; None: as many as there are.
        sample: how many to encode.
        kept: how many to keep for the small index, chosen at random.
        most: how many to read.
        share_read: which share of the input has been read; asked where there is more than `most`.
        seed: of the choice.

    Raises:
        EvalError: there is no document, or a number is out of range.
    """
    if sample < PARTS or most < 1 or (expected is not None and expected < 1):
        raise EvalError(f"a plan takes a sample of {PARTS} or more and 1 document or more, not {sample} and {expected}")
    stock, count, characters, ended = _reservoir(iter(documents), most, max(kept, sample), random.Random(seed))
    if not count:
        raise EvalError("the corpus holds no document; there is nothing to plan")
    share = None if ended else share_read()
    found = count if ended or not share else round(count / share)
    stock.sort(key=lambda document: (len(document.full_text), document.id))
    return Corpus(expected or found, ended and not expected, characters / count, stock, _parts(stock, sample))


def _reservoir(
    documents: Iterator[Document], most: int, size: int, chance: random.Random
) -> tuple[list[Document], int, int, bool]:
    """Returns documents chosen at random, how many were read, their characters, and whether that was all."""
    stock: list[Document] = []
    count = characters = 0
    for document in documents:
        if count == most:
            return stock, count, characters, False
        count, characters = count + 1, characters + len(document.full_text)
        place = len(stock) if len(stock) < size else chance.randrange(count)
        if place < size:
            stock[place : place + 1] = [document]
    return stock, count, characters, True


def _parts(stock: Sequence[Document], sample: int) -> list[list[str]]:
    """Returns texts spread evenly over the lengths, in parts of equal shares."""
    wanted = min(sample, len(stock))
    chosen = [stock[(2 * i + 1) * len(stock) // (2 * wanted)].full_text for i in range(wanted)]
    cuts = [wanted * part // PARTS for part in range(PARTS + 1)]
    return [chosen[low:high] for low, high in itertools.pairwise(cuts) if high > low]


def probe(
    corpus: Corpus,
    strands: Sequence[str],
    models: Mapping[str, str],
    *,
    dense_indexes: Iterable[str] = (),
    clock: Clock = time.perf_counter,
    **options: Any,
) -> Probe:
    """Returns what a choice of strands and models takes.

    Args:
        corpus: with its sample.
        strands: which the index would have.
        models: names of models, or a language, by strand; those that lack are plait's own.
        dense_indexes: how vectors would be searched; nothing of it is measured, but one that cannot be is told at once.
        clock: tells seconds; `time.process_time` those of the processors, whatever else the machine does.
        options: further options of `Retriever.create`.

    Raises:
        EncoderError: a model cannot be opened.
        StoreError: its vectors cannot be searched so.
    """
    given = {"lexical": "english", "learned": "embedded", "dense": "embedded", **models}
    kernels = _kernels(clock)  # first, so that memory while encoding has them, as that of a real index has
    memory = Memory()
    began = clock()
    encoders = made_with(strands, given)
    for spec in dense_indexes if "dense" in strands else ():
        ann.check_spec(spec, encoders.strand("dense").identity.dim)
    encoders.encode_documents([text for part in corpus.sample for text in part[:: len(part) // 2 or 1]][:TINY])
    load = clock() - began
    with counting() as tokens:
        seconds, parts = _encoded(_models(strands, encoders), corpus.sample, clock)
    more, words = _analysed(encoders, corpus.stock, clock)
    encoding_memory = memory.peak()
    kept = _kept(encoders, corpus, parts, words)
    with TemporaryDirectory(prefix="plait-plan-") as folder:
        built = _built(
            Path(folder),
            corpus.stock,
            clock,
            partial(_filled, strands=strands, kept=kept, options=options, clock=clock),
            kept,
        )
    built["start"] += kernels
    return Probe(
        load=load, encode=seconds + more, tokens=tokens.total / sum(map(len, corpus.sample)), dim=kept.dim,
        terms=_terms(kept), encoding_memory=encoding_memory, held=len(corpus.stock), **built,
    )  # fmt: skip


@cache
def _kernels(clock: Clock) -> float:
    """Returns the seconds that loading the kernels takes; a process does it once, beside encoding, but not for free."""
    began = clock()
    load_kernels()
    return clock() - began


def _models(strands: Sequence[str], encoders: Encoders) -> Encoders | None:
    """Returns the encoders of strands that have a model; None where none has."""
    found = {name: encoders.strand(name) for name in strands if name != "lexical"}
    return Encoders(found, dict.fromkeys(found)) if found else None


def _encoded(models: Encoders | None, sample: Sequence[Sequence[str]], clock: Clock) -> tuple[float, list[Vectors]]:
    """Returns the seconds that a document takes, the mean over parts that stand for equal shares, and the vectors."""
    if models is None:
        return 0.0, []
    seconds, vectors = [], []
    for texts in sample:
        began = clock()
        vectors.append(models.encode_documents(texts))
        seconds.append((clock() - began) / len(texts))
    return float(np.mean(seconds)), vectors


def _analysed(encoders: Encoders, stock: Sequence[Document], clock: Clock) -> tuple[float, Any]:
    """Returns the seconds that counting the words of a document takes, and the counts of the whole stock.

    An analyser remembers words: it is as fast as with a large corpus only after some hundred documents.
    """
    from scipy.sparse import vstack

    if "lexical" not in encoders.names:
        return 0.0, None
    texts, encoder = [document.full_text for document in stock], encoders.strand("lexical").encoder  # type: ignore[attr-defined]
    times, rows = [], []
    for start in range(0, len(texts), CHUNK):
        began = clock()
        rows.append(encoder.encode_documents(texts[start : start + CHUNK]))
        times.append((clock() - began) / len(texts[start : start + CHUNK]))
    return float(np.mean(times[1:] or times)), vstack(rows, "csr")


class Kept:
    """An encoder whose documents are encoded already, or have the vectors of others; queries are real."""

    def __init__(self, encoder: Any, rows: Any, literal: Any, places: Mapping[str, int]) -> None:
        self._encoder, self._rows, self._literal, self._places = encoder, rows, literal, places
        self.identity = encoder.identity
        self.term_names = getattr(encoder, "term_names", None)
        self.encode_queries, self.full_queries = encoder.encode_queries, full_queries(encoder)

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Returns the rows kept for these texts."""
        return self._rows[[self._places[text] for text in texts]]

    def document_terms(self, texts: Sequence[str]) -> Any:
        """Returns the terms that the texts themselves hold, likewise."""
        return self._literal[[self._places[text] for text in texts]]


class _AllKept(dict[str, Kept]):
    """Kept encoders by strand, the sparse rows of each, and the dimensions of the dense one."""

    sparse: dict[str, Any]
    dim: int


def _kept(encoders: Encoders, corpus: Corpus, parts: Sequence[Vectors], words: Any) -> _AllKept:
    """Returns encoders of the stock: lexical vectors are its own, others those of a sampled text about as long."""
    from scipy.sparse import vstack

    texts = [document.full_text for document in corpus.stock]
    encoded = sum(map(len, corpus.sample))
    near = {text: i * encoded // len(texts) for i, text in enumerate(texts)}
    own = {text: i for i, text in enumerate(texts)}
    kept = _AllKept()
    kept.sparse, kept.dim = {}, 0
    for name in encoders.names:
        encoder = encoders.strand(name).encoder  # type: ignore[attr-defined]
        if name == "lexical":
            kept.sparse[name] = words
            kept[name] = Kept(encoder, words, None, own)
        elif name == "dense":
            rows = np.concatenate([part.dense for part in parts])
            kept[name], kept.dim = Kept(encoder, rows, None, near), rows.shape[1]
        else:
            kept.sparse[name] = vstack([part.sparse[name] for part in parts], "csr")
            literal = vstack([part.literal[name] for part in parts], "csr") if parts[0].literal else None
            kept[name] = Kept(encoder, kept.sparse[name], literal, near)
    return kept


def _terms(kept: _AllKept) -> dict[str, tuple[int, int, int]]:
    """Returns for each sparse strand: documents, different terms in every second of them, different terms in all."""
    return {
        name: (rows.shape[0], int(np.unique(rows[::2].indices).size), int(np.unique(rows.indices).size))
        for name, rows in kept.sparse.items()
    }


def _built(
    folder: Path, stock: Sequence[Document], clock: Clock, fill: Callable[..., Filled], kept: _AllKept
) -> dict[str, Any]:
    """Returns what writing, merging and searching the small index takes."""
    start = min(fill(folder / f"tiny{n}", stock[:TINY])[0] for n in range(2))
    empty = fill(folder / "empty", [])[1]
    memory = Memory()
    seconds, size = fill(folder / "index", stock)
    buffer = memory.peak(above=True) / len(stock)
    with closing(Writer(folder / "index")) as writer:
        began = clock()
        writer.compact(anew=True)
        merge = (clock() - began) / len(stock)
    with closing(Retriever.open(folder / "index", **dict[str, Any](kept))) as retriever:
        facts = retriever.info()
        alone = "dense" not in retriever.strands
        queries = [text for document in stock[:: max(1, len(stock) // ASKED)] if (text := _query(document))]
        (timed,) = bench(retriever, queries or ["?"], settings_of({}), rounds=2)
        touched = sum(cost.flops for cost in strand_costs(retriever, queries, alone=alone).values())
    return {
        "store": max(0.0, seconds - start) / len(stock), "merge": merge, "start": start, "touched": touched,
        "postings": facts["postings"] / len(stock), "latency": timed.milliseconds[TOTAL].p50,
        "empty": empty["database"],
        "database": max(0, size["database"] - empty["database"]) / len(stock), "arrays": size["arrays"] / len(stock),
        "buffer_memory": buffer,
    }  # fmt: skip


Filled = tuple[float, dict[str, int]]  # seconds, bytes by kind


def _filled(
    folder: Path,
    documents: Sequence[Document],
    *,
    strands: Sequence[str],
    kept: _AllKept,
    options: Mapping[str, Any],
    clock: Clock,
) -> Filled:
    """Returns the seconds that an index of these documents took, and its bytes."""
    began = clock()
    with closing(Retriever.create(folder, strands=strands, **kept, **options)) as retriever:
        retriever.add(documents)
        retriever.commit()
    seconds = clock() - began
    return seconds, sizes(folder)


BY_TERM = ("terms", "frequency", "cells", "row_start", "cell_window", "cell_start", "cell_max")
FIXED = ("manifest", "shape")


def sizes(folder: Path) -> dict[str, int]:
    """Returns the bytes of an index: its database, files that grow by document, and those that grow by term."""
    found = {"database": (folder / "plait.db").stat().st_size, "arrays": 0, "terms": 0}
    for path in folder.glob("segments/*/*"):
        if path.stem not in FIXED:
            found["terms" if path.stem in BY_TERM else "arrays"] += path.stat().st_size
    return found


def _query(document: Document) -> str:
    return " ".join((document.title.strip() or document.text).split()[:WORDS])

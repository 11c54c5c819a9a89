"""What a search costs: milliseconds a query, active terms, and SPLADE's FLOPS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..index import Snapshot
from ..index.contract import TERM_BASE
from ..retriever import Retriever
from .contract import EvalError

TIMED = 200  # queries of the sample that is timed
WARM_UP = 10  # of them are asked before the clock starts: files are mapped, kernels compiled, models loaded
TIMED_K = 10
ENCODED = 1000  # queries whose terms are counted
_PART = 1 << 22  # postings looked at at a time


@dataclass(frozen=True)
class Latency:
    """Wall time of one query at a time, its encoding included, in milliseconds.

    Attributes:
        p50: the median.
        p95: one query in twenty takes longer.
        mean: of all.
        queries: how many were timed.
        k: how many hits each asked for.
    """

    p50: float
    p95: float
    mean: float
    queries: int
    k: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Cost:
    """What one or more sparse strands hold and multiply.

    Attributes:
        document_terms: terms of a document, mean over those that are not deleted.
        query_terms: terms of a query that weigh more than 0, mean.
        flops: multiplications expected for a query and a document: the sum over terms of the share of documents that
            hold it times the share of queries that do (Formal et al., SPLADE, SIGIR 2021).
    """

    document_terms: float
    query_terms: float
    flops: float

    def __add__(self, other: Cost) -> Cost:
        """Returns the cost of searching both."""
        return Cost(
            self.document_terms + other.document_terms,
            self.query_terms + other.query_terms,
            self.flops + other.flops,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def measure_latency(
    ask: Callable[[str], object], texts: Sequence[str], *, most: int = TIMED, k: int = TIMED_K, seed: int = 0
) -> Latency:
    """Returns how long single queries take: a random sample of at most `most`, one after the other.

    The first `WARM_UP` of them are asked once more before the clock starts.

    Args:
        ask: searches for one text.
        texts: of the queries.
        most: the size of the sample.
        k: how many hits `ask` wants, for the record.
        seed: of the sample.

    Raises:
        EvalError: there is no query, or nothing to time.
    """
    if most < 1 or not texts:
        raise EvalError("latency is measured of one query or more; there is none")
    chosen = _sample(texts, most, seed)
    for text in chosen[:WARM_UP]:
        ask(text)
    times = []
    for text in chosen:
        began = time.perf_counter()
        ask(text)
        times.append(1000 * (time.perf_counter() - began))
    p50, p95 = np.percentile(times, [50, 95]).tolist()
    return Latency(p50, p95, float(np.mean(times)), len(times), k)


def strand_costs(retriever: Retriever, texts: Sequence[str], *, seed: int = 0, alone: bool = True) -> dict[str, Cost]:
    """Returns the cost of each sparse strand of an index.

    Documents are counted from the index itself, all of them; queries from a random sample of at most `ENCODED`.

    Args:
        retriever: the index, with its encoders.
        texts: of the queries.
        seed: of the sample.
        alone: whether strands are searched by themselves; beside a dense one a learned query may hold fewer terms.
    """
    names = [name for name in retriever.strands if name in TERM_BASE]
    if not names or not texts or not len(retriever):
        return {}
    chosen = _sample(texts, ENCODED, seed)
    with closing(Snapshot(retriever.folder, verify=False)) as snapshot:
        # The encoders are at hand: to load a model twice would cost more than all the counting.
        asked = {
            name: [query.terms for query in retriever.strand(name).encode(chosen, snapshot, full=alone)]
            for name in names
        }
        return _counted(snapshot, {name: _shares(queries) for name, queries in asked.items()})


def _sample(texts: Sequence[str], most: int, seed: int) -> list[str]:
    """Returns some of the texts, or all in random order where they are fewer."""
    return [texts[int(i)] for i in np.random.default_rng(seed).permutation(len(texts))[:most]]


@dataclass(frozen=True)
class _Asked:
    """What queries ask for: uint32 terms ascending, the share of queries with each, and the mean number of terms."""

    terms: NDArray[np.uint32]
    shares: NDArray[np.float64]
    mean: float


def _shares(queries: Sequence[NDArray[np.uint32]]) -> _Asked:
    terms, counts = np.unique(np.concatenate(queries), return_counts=True)
    return _Asked(terms, counts / len(queries), float(counts.sum() / len(queries)))


def _counted(snapshot: Snapshot, asked: Mapping[str, _Asked]) -> dict[str, Cost]:
    held = {name: np.zeros(each.terms.size, np.int64) for name, each in asked.items()}
    active = dict.fromkeys(asked, 0)
    first = max(TERM_BASE.values())  # lexical terms are at or above, learned ones below
    for terms in _live_terms(snapshot):
        for name, each in asked.items():
            own = terms[terms >= first] if TERM_BASE[name] == first else terms[terms < first]
            active[name] += own.size
            held[name] += _often(own, each.terms)
    documents = max(snapshot.documents, 1)
    return {
        name: Cost(active[name] / documents, each.mean, float(each.shares @ (held[name] / documents)))
        for name, each in asked.items()
    }


def _often(terms: NDArray[np.uint32], wanted: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Returns how often each wanted term (ascending) is among some terms."""
    if not wanted.size:
        return np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(wanted, terms), wanted.size - 1)
    return np.bincount(at[wanted[at] == terms], minlength=wanted.size)


def _live_terms(snapshot: Snapshot) -> Iterator[NDArray[np.uint32]]:
    """Yields the terms of the documents that are not deleted, some millions at a time."""
    gone = snapshot.facts()["deleted"] > 0
    alive = np.array(sorted(snapshot.positions(list(snapshot.all_ids())).values()), np.int64) if gone else None
    for segment in snapshot.segments:
        forward = segment.forward
        keep = None
        if alive is not None:
            rows = segment.rows_of(alive[(alive >= segment.row.first) & (alive <= segment.row.last)])
            living = np.zeros(forward.size, bool)
            living[rows[rows >= 0]] = True
            keep = np.repeat(living, np.diff(forward.starts))
        for start in range(0, forward.terms.size, _PART):
            terms = np.asarray(forward.terms[start : start + _PART])
            yield terms if keep is None else terms[keep[start : start + _PART]]

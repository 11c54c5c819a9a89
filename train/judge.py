"""How good a model is: on pairs that were held out, and on test collections through our own index.

Beside nDCG@10 it counts what a sparse model costs: active terms a document, and FLOPS as the SPLADE papers mean it for
retrieval (arXiv 2109.10086): the sum over terms of P(a query has the term) x P(a document has the term).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders.contract import DenseEncoder, FullQueries, SparseEncoder, full_queries
from ..eval import EvalError, evaluate, load_beir, score_run
from ..retriever import PlaitError, Retriever
from .encoded import Vectors
from .errors import TrainError
from .teachers import from_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .sets import TrainingSet

MEASURE, CUTOFF = "nDCG@10", 10
LEAST_DOCUMENTS = 2000  # of the held-out collection, as far as there are so many
MOST_QUERIES = 500
RESAMPLED = 1000
HELD_OUT = "held out"


@dataclass(frozen=True)
class Judged:
    """What a model scored on one collection.

    Attributes:
        name: the folder's name, or "held out".
        queries: judged ones.
        documents: in the collection.
        ndcg: mean nDCG@10 by system: a strand, "fused", "dense, static queries".
        intervals: its 95 % bootstrap interval over queries, by system.
        active: mean terms of a document; None without a sparse strand.
        query_terms: mean terms of a query.
        flops: expected products of a random query and a random document.
    """

    name: str
    queries: int
    documents: int
    ndcg: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    active: float | None = None
    query_terms: float | None = None
    flops: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        values = asdict(self)
        return {**values, "intervals": {name: list(bounds) for name, bounds in self.intervals.items()}}

    @property
    def values(self) -> dict[str, float]:
        """Its numbers under one name each."""
        return {**self.ndcg, **({} if self.active is None else {"active": self.active})}


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of a mean (the percentile method, 1,000 samples)."""
    given = np.asarray(values, np.float64)
    if not given.size:
        return 0.0, 0.0
    random = np.random.default_rng(seed)
    means = [float(given[random.integers(given.size, size=given.size)].mean()) for _ in range(RESAMPLED)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


# Terms


class Terms:
    """Counts in how many texts each term is.

    Args:
        columns: how many terms there are.
    """

    def __init__(self, columns: int) -> None:
        self.texts, self.often = 0, np.zeros(columns, np.int64)

    def count(self, rows: Any) -> Any:
        """Counts a csr_matrix (texts, columns) and returns it."""
        self.texts += rows.shape[0]
        self.often += np.bincount(rows.indices[rows.data > 0], minlength=len(self.often))
        return rows

    @property
    def mean(self) -> float:
        """Mean terms of a text."""
        return float(self.often.sum() / max(self.texts, 1))

    def together(self, other: Terms) -> float:
        """Returns the sum over terms of both probabilities."""
        return float(np.dot(self.often / max(self.texts, 1), other.often / max(other.texts, 1)))


class Counting:
    """A learned encoder that counts the terms it gives; half of a joint one, it leaves the pass joint.

    Args:
        encoder: what encodes.
    """

    def __init__(self, encoder: SparseEncoder) -> None:
        self._encoder = encoder
        self.documents, self.queries = Terms(encoder.identity.dim), Terms(encoder.identity.dim)
        joint = getattr(encoder, "joint", None)
        self.joint = None if joint is None else _CountingJoint(joint, self.documents)

    @property
    def identity(self) -> Any:
        """That of the encoder."""
        return self._encoder.identity

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Returns what the encoder returns."""
        return self.documents.count(self._encoder.encode_documents(texts))

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Returns what the encoder returns."""
        return self.queries.count(self._encoder.encode_queries(texts))

    def term_names(self, text: str) -> dict[int, str]:
        """Returns what the encoder returns."""
        return self._encoder.term_names(text)

    @property
    def full_queries(self) -> FullQueries | None:
        """What gives full queries for the encoder, their terms counted, too; None where nothing does."""
        whole = full_queries(self._encoder)
        return None if whole is None else _CountingFull(whole, self.queries)

    def of(self, dense: Any) -> Any:
        """Returns the dense half of the same joint encoder such that one pass still serves both."""
        same = self.joint is not None and getattr(dense, "joint", None) is self.joint.inner
        return _Half(dense, self.joint) if same else dense


class _CountingFull:
    def __init__(self, whole: FullQueries, terms: Terms) -> None:
        self._whole, self._terms, self.column_names = whole, terms, whole.column_names

    def encode_full_queries(self, texts: Sequence[str]) -> Any:
        return self._terms.count(self._whole.encode_full_queries(texts))


class _CountingJoint:
    def __init__(self, joint: Any, terms: Terms) -> None:
        self.inner, self._terms = joint, terms

    def encode_documents(self, texts: Sequence[str]) -> Any:
        rows, vectors = self.inner.encode_documents(texts)
        return self._terms.count(rows), vectors


class _Half:
    def __init__(self, dense: Any, joint: Any) -> None:
        self._dense, self.joint = dense, joint
        self.identity = dense.identity
        self.encode_documents, self.encode_queries = dense.encode_documents, dense.encode_queries


# Test collections


def on_beir(
    folder: str | Path,
    encoders: Mapping[str, Any],
    scratch: str | Path,
    *,
    static: Any = None,
    split: str = "test",
) -> Judged:
    """Returns what encoders score on a BEIR folder: every strand alone, and all of them fused.

    Args:
        folder: the collection.
        encoders: by strand; "lexical" is a language.
        scratch: a folder that does not exist yet, for the index.
        static: another dense encoder whose queries meet the same documents; measured too.
        split: which judgements.

    Raises:
        TrainError: the folder is none.
    """
    given = dict(encoders)
    counting = Counting(given["learned"]) if "learned" in given else None
    if counting is not None:
        given["learned"] = counting
        if "dense" in given:
            given["dense"] = counting.of(given["dense"])
    try:
        dataset = load_beir(folder, split, skip_bad=True)
        with Retriever.create(scratch, strands=list(given), **given) as retriever:
            retriever.add(dataset.documents())
            retriever.commit()
            if counting is not None:
                counting.queries = Terms(len(counting.queries.often))  # indexing asked for documents as queries, too
            scores = _scores(retriever, dataset, list(given))
            documents = len(retriever)
        if static is not None:
            models = {name: value for name, value in given.items() if name not in ("dense", "lexical")}
            with Retriever.open(scratch, dense=static, **models) as retriever:
                scores["dense, static queries"] = _scores(retriever, dataset, ["dense"])["dense"]
    except (*PlaitError, EvalError) as error:
        raise TrainError(f"{folder} cannot be evaluated on: {error}") from error
    return _judged(dataset.name, documents, scores, counting)


def _scores(retriever: Retriever, dataset: Any, strands: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns nDCG@10 by system and query."""

    def answer(queries: Mapping[str, str], used: Sequence[str]) -> Any:
        alone: dict[str, Any] = {"weights": {used[0]: 1.0}} if len(used) == 1 else {}
        return retriever.run(queries, k=CUTOFF + 1, strands=used, **alone)

    report = evaluate(answer, dataset, strands=strands, measures=[MEASURE])
    return {system.name: system.scores.per_query[MEASURE] for system in report.systems}


def _judged(
    name: str, documents: int, scores: Mapping[str, Mapping[str, float]], counting: Counting | None
) -> Judged:  # fmt: skip
    values = {system: list(by_query.values()) for system, by_query in scores.items()}
    made = Judged(
        name=name,
        queries=len(next(iter(values.values()))),
        documents=documents,
        ndcg={system: float(np.mean(found)) for system, found in values.items()},
        intervals={system: interval(found) for system, found in values.items()},
    )
    if counting is None:
        return made
    asked, held = counting.queries, counting.documents
    return replace(made, active=held.mean, query_terms=asked.mean, flops=held.together(asked))


# Held-out pairs


@dataclass(frozen=True)
class HeldOut:
    """Held-out pairs as a collection: their documents, and others so that it is not too easy.

    Attributes:
        documents: texts.
        queries: texts.
        answers: for each query the position of its document.
    """

    documents: list[str]
    queries: list[str]
    answers: NDArray[np.int64]

    @classmethod
    def of(cls, held: TrainingSet, training: TrainingSet, seed: int) -> HeldOut:
        """Returns a collection of held-out pairs and, among others, documents that are trained on."""
        random = np.random.default_rng(seed)
        chosen = np.sort(random.permutation(len(held))[:MOST_QUERIES])
        room = max(0, LEAST_DOCUMENTS - len(held.documents))
        others = np.sort(random.permutation(len(training.documents))[:room])
        documents = [*held.documents, *(training.documents[other] for other in others)]
        return cls(documents, [held.queries[query] for query in chosen], held.positives[chosen])

    def judge_learned(self, encoder: SparseEncoder) -> Judged:
        """Returns what a learned encoder scores, every document compared with every query."""
        counting = Counting(encoder)
        documents, queries = counting.encode_documents(self.documents), counting.encode_queries(self.queries)
        weighed = encoder.identity.query_weights == "idf"
        own = encoder.encode_queries(self.documents) if weighed else None
        vectors = Vectors("learned", documents, queries, idf=weighed, literal=own)
        scores = from_vectors(vectors).scores(np.arange(len(self.queries)), np.arange(len(self.documents)))
        return _judged(HELD_OUT, len(self.documents), {"learned": self._measured(scores)}, counting)

    def judge_dense(self, systems: Mapping[str, tuple[DenseEncoder, DenseEncoder]]) -> Judged:
        """Returns what dense encoders score, by name: one of the documents and one of the queries."""
        distinct = {id(of): of for of, _ in systems.values()}
        encoded = {key: of.encode_documents(self.documents) for key, of in distinct.items()}
        scores = {
            name: self._measured(asks.encode_queries(self.queries) @ encoded[id(of)].T)
            for name, (of, asks) in systems.items()
        }
        return _judged(HELD_OUT, len(self.documents), scores, None)

    def _measured(self, scores: NDArray[np.float32]) -> dict[str, float]:
        """Returns nDCG@10 by query; equal texts share their answers."""
        answers: dict[str, dict[str, int]] = {}
        for query, answer in zip(self.queries, self.answers.tolist(), strict=True):
            answers.setdefault(query, {})[f"d{answer}"] = 1
        qrels = {f"q{row}": answers[query] for row, query in enumerate(self.queries)}
        run: dict[str, dict[str, float]] = {}
        for row, found in enumerate(scores):
            best = np.argsort(-found, kind="stable")[: 2 * CUTOFF]
            run[f"q{row}"] = {f"d{place}": float(found[place]) for place in best.tolist() if found[place] > 0}
        return score_run(run, qrels, [MEASURE]).per_query[MEASURE]

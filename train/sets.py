"""Queries with the documents that answer them: a set in memory, held out from, and cleared of what it must not know."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from .errors import TrainError

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Count:
    """What one source gave.

    Attributes:
        name: of the source, as in `TrainingSet.sources`.
        kind: "pairs", "beir" or "documents".
        pairs: how many pairs were kept.
        dropped: how many were not, by reason.
    """

    name: str
    kind: str
    pairs: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.dropped.items()))
        made = "queries made" if self.kind == "documents" else "pairs"
        return f"{self.name}: {self.pairs:,} {made}{f' (left out: {reasons})' if reasons else ''}"


@dataclass(frozen=True)
class TrainingSet:
    """Queries, the documents that answer them, and where they come from.

    Attributes:
        documents: texts, no two the same.
        queries: texts; the same one comes again where several documents answer it.
        positives: int64 (queries,), the position of each query's document.
        groups: int32 (queries,), each query's source, a position in `sources`.
        sources: the names of the sources.
        negatives: for each query the positions, int64, of the wrong answers that the input names; None where it names
            none at all.
        counts: what each source gave, for a report.
    """

    documents: list[str]
    queries: list[str]
    positives: Positions
    groups: NDArray[np.int32]
    sources: tuple[str, ...]
    negatives: list[Positions] | None = None
    counts: tuple[Count, ...] = ()

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.queries)

    def __str__(self) -> str:
        total = f"{len(self):,} queries, {len(self.documents):,} documents"
        return "\n".join([*map(str, self.counts), total])


def split(training: TrainingSet, amount: float, seed: int = 0) -> tuple[TrainingSet, TrainingSet]:
    """Returns a set without, and a set with nothing but, the held-out documents and all their queries.

    Which are held out follows from a hash of their texts, so that it stays when others come or go. A query that has
    answers on both sides is in neither.

    Args:
        training: what is split.
        amount: a share of the documents, below 1, or how many documents that have a query, 1 or more.
        seed: another one holds out others.

    Raises:
        TrainError: the amount is not above 0 or not finite, or leaves nothing to train on.
    """
    if not 0 < amount < float("inf"):
        raise TrainError(f"held out is a share or a number of documents, above 0 and finite, not {amount}")
    keys = np.array([_hash(text, seed) for text in training.documents], np.uint64)
    held = keys < np.uint64(min(amount, 1.0) * (2**64 - 2048)) if amount < 1 else _least(keys, training, int(amount))
    aside = held[training.positives]
    asked = [normalised(query) for query in training.queries]
    both = _of(asked, aside) & _of(asked, ~aside)
    alone = np.array([query not in both for query in asked], bool)
    if not (~aside & alone).any():
        raise TrainError(f"holding out {amount} leaves none of {len(training)} pairs to train on; hold out fewer")
    return _chosen(training, ~held, ~aside & alone), _chosen(training, held, aside & alone)


def without(training: TrainingSet, texts: Iterable[str]) -> tuple[TrainingSet, int]:
    """Returns a set none of whose queries and documents is among some texts, and how many pairs went.

    For honesty: give it the queries and documents of the collections on which the model will be judged. Texts are
    compared as `normalised`; give a document both with and without its title.

    Raises:
        TrainError: nothing is left.
    """
    known = {digest(normalised(text)) for text in texts}
    documents = np.array([digest(normalised(text)) not in known for text in training.documents], bool)
    queries = np.array([digest(normalised(text)) not in known for text in training.queries], bool)
    pairs = queries & documents[training.positives]
    if not pairs.any():
        raise TrainError(f"every one of {len(training)} pairs is among the texts to leave out; give other pairs")
    return _chosen(training, documents, pairs), len(training) - int(pairs.sum())


def normalised(text: str) -> str:
    """Returns what two texts share that count as the same: NFKC, case-folded, one space, no full stop at the end."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split()).rstrip(" .?!。？！")


def _chosen(training: TrainingSet, documents: NDArray[np.bool_], pairs: NDArray[np.bool_]) -> TrainingSet:
    """Returns the set of some documents and of some pairs, whose documents are among them."""
    place = np.where(documents, np.cumsum(documents) - 1, -1)
    kept = np.flatnonzero(pairs).tolist()
    negatives = None
    if training.negatives is not None:
        moved = (place[training.negatives[pair]] for pair in kept)
        negatives = [positions[positions >= 0] for positions in moved]
    by_source = np.bincount(training.groups[pairs], minlength=len(training.sources)).tolist()
    counts = tuple(replace(count, pairs=left) for count, left in zip(training.counts, by_source, strict=False))
    return TrainingSet(
        [training.documents[at] for at in np.flatnonzero(documents).tolist()],
        [training.queries[pair] for pair in kept],
        place[training.positives[pairs]].astype(np.int64),
        training.groups[pairs],
        training.sources,
        negatives,
        counts,
    )


def _least(keys: NDArray[np.uint64], training: TrainingSet, count: int) -> NDArray[np.bool_]:
    """Returns which documents have, of those with a query, the `count` smallest keys."""
    asked = np.unique(training.positives)
    held = np.zeros(keys.size, bool)
    held[asked[np.argsort(keys[asked], kind="stable")[:count]]] = True
    return held


def _of(texts: list[str], chosen: NDArray[np.bool_]) -> set[str]:
    return {texts[at] for at in np.flatnonzero(chosen).tolist()}


def _hash(text: str, seed: int) -> int:
    return int.from_bytes(blake2b(normalised(text).encode(), digest_size=8, key=b"%d" % seed).digest(), "little")


def digest(text: str) -> bytes:
    """Returns 16 bytes that stand for a text."""
    return blake2b(text.encode(), digest_size=16).digest()

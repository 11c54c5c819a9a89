"""Hard negatives: documents that a search ranks high for a query and that do not answer it.

Sparse strands are searched by our own index, in a scratch folder; dense vectors by blocked products (FAISS's `knn`),
which for many queries at once cost about what the multiplications alone do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..index import Layout, Snapshot, Writer, create
from ..index.contract import SparseStrand
from ..retriever import Document
from .encoded import Encoder, Progress, Vectors, encode
from .errors import TrainError
from .sets import TrainingSet, digest, normalised

Pick = Literal["sample", "top"]
Array = NDArray[Any]

BLOCK = 4096  # queries at a time: what is held of them is BLOCK x depth x ways
ADDED = 16_384  # documents written to the scratch index at a time
NONE = -1  # no document
# What each strand is encoded with unless told otherwise; names for `encoded.load_encoder`.
ENCODERS: dict[str, str] = {"lexical": "bm25", "learned": "learned", "dense": "dense", "base": "base"}


class Search(Protocol):
    """One way of looking for negatives."""

    def top(self, queries: slice, depth: int) -> tuple[Array, Array]:
        """Returns the best documents of some queries, int64 (q, depth), -1 where there are no more, and their scores.

        Best first; of equal scores the greater position.
        """
        ...

    def scores(self, queries: slice, documents: Array) -> Array:
        """Returns each query's score (q,) of one document each (q,)."""
        ...


def mined(
    training: TrainingSet,
    *,
    ways: str | Sequence[str] = ("lexical", "dense"),
    negatives: int = 8,
    depth: int = 100,
    skip: int = 0,
    margin: float | None = None,
    pick: Pick = "sample",
    seed: int = 0,
    vectors: Mapping[str, Vectors] | None = None,
    encoders: Mapping[str, Encoder | str] | None = None,
    cache_folder: str | Path | None = None,
    scratch: str | Path | None = None,
    on_progress: Progress | None = None,
) -> NDArray[np.int32]:
    """Returns negatives for every query, positions of documents int32 (queries, negatives), all different in a row.

    Each way proposes `depth` documents. Those that answer the same query, and texts that count as the same as these,
    are left out. The ways are dealt out in turn; where all of them together do not suffice, random documents do.

    Args:
        training: the pairs.
        ways: "lexical", "learned", "dense", or names of your own for which `vectors` or `encoders` holds something.
        negatives: how many a query.
        depth: how many documents each way looks at.
        skip: this many of the best are passed over, unseen: they are the likeliest to answer the query.
        margin: only documents that score below this share of the positive's score in the same way (the positive-aware
            guard of NV-Retriever, arXiv 2407.15831; they found 0.95 best). None takes all.
        pick: "sample" chooses at random among what a way proposes, "top" takes the best.
        seed: of all choices.
        vectors: by way; used as they are.
        encoders: by way, for ways without vectors.
        cache_folder: where vectors that are made are kept, see `encoded.encode`.
        scratch: a folder on a disk with room for an index; the system's own for such files where None.
        on_progress: called with ("documents"..., done, total) while encoding, ("mining", done, total) then.

    Raises:
        TrainError: an option out of range, a way without vectors or encoder, vectors that do not fit, or fewer
            documents than negatives.
        EncoderError: an encoder cannot be loaded.
    """
    names = [way.strip() for way in ways.split(",")] if isinstance(ways, str) else list(ways)
    _check(names, negatives, depth, skip, margin, pick)
    report = on_progress or (lambda _what, _done, _total: None)
    given = _vectors(training, names, dict(vectors or {}), dict(encoders or {}), cache_folder, on_progress)
    rules = _Rules.of(training)
    found = np.empty((len(training), negatives), np.int32)
    random = np.random.default_rng(seed)
    with ExitStack() as stack:
        searches = [_opened(given[name], stack, scratch) for name in names]
        for start in range(0, len(training), BLOCK):
            block = slice(start, min(start + BLOCK, len(training)))
            proposed = [_proposals(one, rules, block, depth, skip, margin) for one in searches]
            ordered = proposed if pick == "top" else [_shuffled(one, random) for one in proposed]
            found[block] = rules.first(_dealt(ordered), block, negatives, random)
            report("mining", block.stop, len(training))
    return found


def _check(names: Sequence[str], negatives: int, depth: int, skip: int, margin: float | None, pick: str) -> None:
    if not names or len(set(names)) < len(names):
        raise TrainError(f"ways are one or more different names, as 'lexical,dense', not {list(names)}")
    if negatives < 1 or depth < 1 or not 0 <= skip < depth:
        raise TrainError(
            f"negatives and depth are 1 or more, skip is 0 or more and below depth; not {negatives}, {depth} and {skip}"
        )
    if margin is not None and not 0 < margin < np.inf:
        raise TrainError(f"margin is a share of the positive's score, as 0.95, not {margin}")
    if pick not in ("sample", "top"):
        raise TrainError(f"negatives are picked by 'sample' or 'top', not {pick!r}")


def _vectors(
    training: TrainingSet,
    names: Sequence[str],
    vectors: dict[str, Vectors],
    encoders: dict[str, Encoder | str],
    cache_folder: str | Path | None,
    on_progress: Progress | None,
) -> dict[str, Vectors]:
    """Returns the vectors of every way, made where they are not given."""
    for name in names:
        if name not in vectors:
            encoder = encoders.get(name, ENCODERS.get(name))
            if encoder is None:
                known = ", ".join(ENCODERS)
                raise TrainError(f"no way {name!r}: there are {known}; of others give the vectors or the encoder")
            vectors[name] = encode(encoder, training, cache_folder=cache_folder, on_progress=on_progress)
        found = vectors[name].queries.shape[0], vectors[name].documents.shape[0]
        wanted = len(training), len(training.documents)
        if found != wanted:
            raise TrainError(f"the vectors of {name!r} are of {found} queries and documents; the set has {wanted}")
    return vectors


def _opened(vectors: Vectors, stack: ExitStack, scratch: str | Path | None) -> Search:
    if vectors.strand == "dense":
        return DenseSearch(vectors.queries, vectors.documents)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-mining-", dir=scratch)))
    made = SparseSearch.over(vectors, folder / "index")
    stack.callback(made.snapshot.close)
    return made


# Looking


@dataclass(frozen=True)
class DenseSearch:
    """Exact inner products, in blocks: never a matrix of all queries and documents."""

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]

    def top(self, queries: slice, depth: int) -> tuple[Array, Array]:
        """Returns the best documents; see `Search`."""
        import faiss

        asked = np.ascontiguousarray(self.queries[queries], np.float32)
        held = np.ascontiguousarray(self.documents, np.float32)
        wanted = min(depth, len(held))
        knn: Any = faiss.knn  # its stubs know only the classes
        scores, found = knn(asked, held, wanted, metric=faiss.METRIC_INNER_PRODUCT)
        order = np.lexsort((-found, -scores), axis=1)
        return np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)

    def scores(self, queries: slice, documents: Array) -> Array:
        """Returns each query's inner product with one document each."""
        return np.einsum("ij,ij->i", self.queries[queries], self.documents[documents])


@dataclass(frozen=True)
class SparseSearch:
    """An index of the documents in a scratch folder.

    Attributes:
        snapshot: the index.
        strand: which of its strands.
        queries: csr_matrix (queries, columns), weights final.
        place: the training set's position of each position of the index.
        positions: the other way round.
    """

    snapshot: Snapshot
    strand: SparseStrand
    queries: Any
    place: NDArray[np.int64]
    positions: NDArray[np.int64]

    @classmethod
    def over(cls, vectors: Vectors, folder: Path) -> SparseSearch:
        """Returns a search of sparse vectors; the index is written to a folder that does not exist yet."""
        strand: SparseStrand = "lexical" if vectors.strand == "lexical" else "learned"
        count = vectors.documents.shape[0]
        names = [f"{number:010}" for number in range(count)]  # in order, as ties are settled by name
        create(folder, Layout(), {})
        writer = Writer(folder, segment_documents=max(count, 1), compaction="off")
        try:
            for start in range(0, count, ADDED):
                rows = slice(start, start + ADDED)
                literal = None if vectors.literal is None else {strand: vectors.literal[rows]}
                documents = [Document(name, "") for name in names[rows]]
                writer.add(documents, {strand: vectors.documents[rows]}, None, literal=literal)
            writer.commit()
        finally:
            writer.close()
        snapshot = Snapshot(folder, verify=False)
        found = snapshot.positions(names)
        positions = np.array([found[name] for name in names], np.int64)
        place = np.full(int(positions.max(initial=-1)) + 1, NONE)
        place[positions] = np.arange(count)
        return cls(snapshot, strand, _with_idf(vectors, snapshot, strand), place, positions)

    def top(self, queries: slice, depth: int) -> tuple[Array, Array]:
        """Returns the best documents; see `Search`."""
        asked = list(self._asked(queries))
        found = np.full((len(asked), depth), NONE, np.int64)
        scores = np.zeros((len(asked), depth), np.float64)
        for row, hits in enumerate(self.snapshot.sparse_search_batch(self.strand, asked, depth)):
            found[row, : hits.positions.size] = self.place[hits.positions]
            scores[row, : hits.scores.size] = hits.scores
        return found, scores

    def scores(self, queries: slice, documents: Array) -> Array:
        """Returns each query's score of one document each: the numbers that `top` would give."""
        pairs = zip(self._asked(queries), self.positions[documents][:, None], strict=True)
        found = [self.snapshot.sparse_scores(self.strand, *query, position)[0] for query, position in pairs]
        return np.array(found, np.float64)

    def _asked(self, queries: slice) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.float32]]]:
        rows = self.queries[queries]
        terms = self.snapshot.terms(self.strand, rows.indices)
        for start, end in zip(rows.indptr[:-1].tolist(), rows.indptr[1:].tolist(), strict=True):
            yield terms[start:end], rows.data[start:end]


def _with_idf(vectors: Vectors, snapshot: Snapshot, strand: SparseStrand) -> Any:
    """Returns query vectors with final weights, above 0, terms ascending."""
    from scipy.sparse import csr_matrix

    queries = csr_matrix(vectors.queries, dtype=np.float32, copy=True)
    queries.sum_duplicates()
    if vectors.idf:
        terms, place = np.unique(queries.indices, return_inverse=True)
        queries.data *= snapshot.idf(snapshot.terms(strand, terms))[place]
    queries.eliminate_zeros()
    return queries


def _proposals(search: Search, rules: _Rules, block: slice, depth: int, skip: int, margin: float | None) -> Array:
    """Returns what one way proposes, int64 (q, depth - skip), best first, -1 for what is not allowed."""
    found, scores = search.top(block, depth)
    found, scores = found[:, skip:].copy(), scores[:, skip:]
    if margin is not None:
        least = search.scores(block, rules.positives[block])
        found[scores >= margin * least[:, None]] = NONE
    found[rules.forbidden(found, block)] = NONE
    return found


# Choosing


def _shuffled(found: Array, random: np.random.Generator) -> Array:
    """Returns each row in a random order."""
    return np.take_along_axis(found, np.argsort(random.random(found.shape), axis=1), 1)


def _dealt(proposed: Sequence[Array]) -> Array:
    """Returns the ways' proposals in turn, int64 (q, columns): the first of each that is allowed, then the second."""
    forward = [np.take_along_axis(one, np.argsort(one == NONE, axis=1, kind="stable"), 1) for one in proposed]
    widest = max(one.shape[1] for one in forward)
    padded = [np.pad(one, ((0, 0), (0, widest - one.shape[1])), constant_values=NONE) for one in forward]
    return np.stack(padded, axis=2).reshape(len(padded[0]), widest * len(padded))


@dataclass(frozen=True)
class _Rules:
    """What may be a negative of what.

    Attributes:
        positives: int64 (queries,).
        same: int64 (documents,), equal for texts that count as the same.
        asked: int64 (queries,), equal for the same query.
        answers: int64 ascending, asked x documents + same of every pair.
    """

    positives: NDArray[np.int64]
    same: NDArray[np.int64]
    asked: NDArray[np.int64]
    answers: NDArray[np.int64]

    @classmethod
    def of(cls, training: TrainingSet) -> _Rules:
        same, asked = _numbered(training.documents), _numbered(training.queries)
        return cls(training.positives, same, asked, np.unique(asked * same.size + same[training.positives]))

    def forbidden(self, found: Array, block: slice) -> NDArray[np.bool_]:
        """Returns which proposals, int64 (q, n), answer their query, or are no document."""
        keys = self.asked[block, None] * self.same.size + self.same[found]
        at = np.minimum(np.searchsorted(self.answers, keys), self.answers.size - 1)
        return (self.answers[at] == keys) | (found == NONE)

    def first(self, found: Array, block: slice, count: int, random: np.random.Generator) -> Array:
        """Returns the first `count` different documents of each row, random ones where there are fewer."""
        drawn = random.integers(self.same.size, size=(len(found), 2 * count))
        drawn[self.forbidden(drawn, block)] = NONE
        every = np.concatenate([found, drawn], axis=1)
        every[self._repeated(every)] = NONE
        order = np.argsort(every == NONE, axis=1, kind="stable")[:, :count]
        chosen = np.take_along_axis(every, order, 1)
        for row in np.flatnonzero((chosen == NONE).any(axis=1)).tolist():
            chosen[row] = self._completed(chosen[row], block.start + row, random)
        return chosen

    def _repeated(self, found: Array) -> NDArray[np.bool_]:
        """Returns which documents of a row count as the same as one before."""
        same = np.where(found == NONE, NONE, self.same[found])
        order = np.argsort(same, axis=1, kind="stable")
        ordered = np.take_along_axis(same, order, 1)
        again = np.zeros(found.shape, bool)
        again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        repeated = np.empty_like(again)
        np.put_along_axis(repeated, order, again, 1)
        return repeated

    def _completed(self, chosen: Array, query: int, random: np.random.Generator) -> Array:
        """Returns a row filled up from all that is left, slowly; for small sets and unlucky draws."""
        kept = chosen[chosen != NONE]
        every = random.permutation(self.same.size)
        every = every[np.sort(np.unique(self.same[every], return_index=True)[1])]  # one of each text
        every = every[~self.forbidden(every[None], slice(query, query + 1))[0]]
        every = every[~np.isin(self.same[every], self.same[kept])]
        filled = np.concatenate([kept, every])[: chosen.size]
        if filled.size < chosen.size:
            raise TrainError(
                f"{chosen.size} negatives were asked for, but only {filled.size} of {self.same.size} documents can be "
                f"one of query {query}; ask for fewer, or give more documents"
            )
        return filled


def _numbered(texts: Sequence[str]) -> NDArray[np.int64]:
    """Returns a number for each text, equal for texts that count as the same."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(digest(normalised(text)), len(numbers)) for text in texts], np.int64)

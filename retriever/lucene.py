"""Lucene as strands: `lucene`, BM25 over text, and `lucene-impact`, impact search with weights of the query's terms.

A Lucene index lies beside plait's and is named by its folder. Its documents are plait's where ids are the same; those
that plait does not know, has deleted, or that a filter leaves out are passed over. Nothing of it is stored with plait's
documents, so Java starts with the first search and not before.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..encoders.contract import Identity, SparseEncoder
from ..encoders.specs import parse, split
from ..index import Hits, Selection, Snapshot
from ..index.lucene import BETWEEN, BM25, BOOST, ENGLISH, IMPACT, PRETOKENIZED, LuceneHits, LuceneIndex, Similarity
from . import specs
from .errors import MismatchError, QueryError
from .lucene_queries import QUANTISED, QueryWeights, rounded, weights_by
from .strands import LUCENE, LUCENE_IMPACT, Bounds, Sparse

NAMED = 10_000  # so many documents Lucene is told by name; of more, it is asked for more hits until enough are known
GROWTH = 4  # how many times more

Given: TypeAlias = "str | PathLike[str] | LuceneStrand"


class LuceneQuery(NamedTuple):
    """A query for Lucene, of one snapshot.

    Attributes:
        weights: by term.
        query: Lucene's own form of it; None without a term.
        known: scores by position, of the documents that a search has found: Lucene need not be asked again.
    """

    weights: dict[str, float]
    query: Any
    known: dict[int, float]


class LuceneStrand(ABC):
    """What both strands share. See `Strand` for what the methods are for.

    Attributes:
        folder: of the Lucene index.
        expected: the identity that an index remembers; None takes the Lucene index as it is now.
    """

    name: str
    complete = False

    def __init__(self, folder: str | PathLike[str], similarity: Similarity, analyzer: str) -> None:
        self.folder, self._similarity, self._analyzer = Path(folder), similarity, analyzer
        self.expected: Identity | None = None
        self._index: LuceneIndex | None = None
        self._opening = threading.Lock()

    @property
    def source(self) -> str | None:
        """What an index remembers to find it again: its folder and options; None where that does not say it all."""
        options = {name: value for name, value in self._options().items() if value is not None}
        return ":".join([str(self.folder.resolve()), *(f"{name}={value}" for name, value in options.items())])

    @property
    def index(self) -> LuceneIndex:
        """The Lucene index, opened when it is first asked for.

        Raises:
            StoreError: there is none, or Java or pyserini is missing.
            MismatchError: it has changed since it was remembered.
        """
        with self._opening:
            if self._index is None:
                opened = LuceneIndex(self.folder, self._similarity, analyzer=self._analyzer)
                try:
                    self._check(self._identity(opened))
                except MismatchError:
                    opened.close()
                    raise
                self._index = opened
            return self._index

    def close(self) -> None:
        """Lets go of the Lucene index."""
        with self._opening:
            if self._index is not None:
                self._index.close()
                self._index = None

    @property
    def identity(self) -> Identity:
        """What the Lucene index holds, and how it scores."""
        return self.expected if self.expected is not None else self._identity(self.index)

    def encode_documents(self, texts: Sequence[str]) -> None:
        """Returns None: Lucene has its documents already."""
        return

    def literal_terms(self, texts: Sequence[str]) -> None:
        """Returns None: see `encode_documents`."""
        return

    def encode(self, texts: Sequence[str], snapshot: Snapshot, *, full: bool = False) -> list[LuceneQuery]:
        """Returns a query for each text.

        Raises:
            QueryError: a term holds a character that separates terms on their way to Lucene.
        """
        every = self._weights(texts, snapshot, full=full)
        if odd := next((term for weights in every for term in weights if BETWEEN in term or BOOST in term), None):
            raise QueryError(f"the query's term {odd!r} holds a control character; leave it out")
        return [LuceneQuery(dict(weights), self.index.query(weights), {}) for weights in every]

    def search(
        self,
        snapshot: Snapshot,
        queries: Sequence[LuceneQuery],
        k: int,
        *,
        within: Selection | None,
        exactness: float = 1.0,
        exact: bool = False,
    ) -> list[Hits]:
        """Returns the k best documents that plait knows, of all or of those selected."""
        chosen = None if within is None else _selected(snapshot, within)
        return [self._search(snapshot, query, k, chosen) for query in queries]

    def scores(self, snapshot: Snapshot, query: LuceneQuery, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns Lucene's scores; 0 where a document shares no term, or Lucene does not have it."""
        found = np.array([query.known.get(position, np.nan) for position in positions.tolist()], np.float64)
        rest = np.isnan(found)
        if rest.any():
            found[rest] = self.index.scores(query.query, snapshot.ids(positions[rest]))
        return found

    def bounds(self, snapshot: Snapshot, query: LuceneQuery) -> Bounds:
        """Returns 0, and what the query's terms could add together, as a sum and as a norm."""
        terms = list(query.weights)
        weights = np.array([query.weights[term] for term in terms], np.float64)
        most, norm = self._limits(terms, weights) if terms else (0.0, 0.0)
        return Bounds(0.0, most, norm)

    def matches(
        self, snapshot: Snapshot, query: LuceneQuery, positions: NDArray[np.int64]
    ) -> list[list[tuple[str, float]]]:
        """Returns the shared terms, largest contribution first: what a query of the term alone scores."""
        found, ids = [[] for _ in range(positions.size)], snapshot.ids(positions)
        for term, weight in query.weights.items():
            values = self.index.scores(self.index.query({term: weight}), ids).tolist()
            for row, value in zip(found, values, strict=True):
                if value > 0:
                    row.append((term, value))
        return [sorted(row, key=lambda pair: (-pair[1], pair[0])) for row in found]

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Returns what the strand was given beside its folder."""

    @abstractmethod
    def _weights(self, texts: Sequence[str], snapshot: Snapshot, *, full: bool) -> list[dict[str, float]]:
        """Returns the terms of each query with their weights, all above 0."""

    @abstractmethod
    def _limits(self, terms: Sequence[str], weights: NDArray[np.float64]) -> tuple[float, float]:
        """Returns the highest score that there could be, and the norm of the weights times the largest impact."""

    def _identity(self, index: LuceneIndex) -> Identity:
        return Identity(
            name=f"{self.name} {self.folder.resolve().name}", revision=str(index.facts), tokenizer=self._analyzer,
            activation=str(self._similarity), max_length=0, dim=0,
        )  # fmt: skip

    def _check(self, found: Identity) -> None:
        if self.expected is None or not (changed := self.expected.differences(found)):
            return
        values = [f"{field}: {getattr(self.expected, field)} then, {getattr(found, field)} now" for field in changed]
        option = self.name.replace("-", "_")
        raise MismatchError(
            f"the Lucene index {self.folder} has changed since it was named ({'; '.join(values)}). To use it as it is "
            f"now, name it again: --{self.name} {self.source or self.folder}, or Retriever.open(..., {option}=...)"
        )

    def _search(self, snapshot: Snapshot, query: LuceneQuery, k: int, chosen: NDArray[np.int64] | None) -> Hits:
        few = snapshot.documents if chosen is None else chosen.size
        if chosen is not None and few <= NAMED:
            return self._among(snapshot, query, k, chosen)
        asked = k
        while True:
            hits = self.index.search(query.query, asked)
            found = _known(snapshot, query, hits, chosen)
            if found.positions.size >= k or len(hits.ids) < asked:
                return _first(snapshot, found, k)
            if few <= NAMED:  # plait has a small part of what Lucene has
                everything = snapshot.positions(list(snapshot.all_ids()))
                return self._among(snapshot, query, k, np.sort(np.array(list(everything.values()), np.int64)))
            asked *= GROWTH

    def _among(self, snapshot: Snapshot, query: LuceneQuery, k: int, positions: NDArray[np.int64]) -> Hits:
        hits = self.index.search(query.query, min(k, max(positions.size, 1)), among=snapshot.ids(positions))
        return _first(snapshot, _known(snapshot, query, hits, positions), k)


class Lucene(LuceneStrand):
    """BM25 over a Lucene index of texts.

    Args:
        folder: of the Lucene index.
        k1, b: BM25's saturation and length normalisation.
        analyzer: how queries become terms, as the index was made; see `plait.index.lucene.LuceneIndex`.
        exact_lengths: see `plait.index.lucene.Similarity`.
    """

    name = LUCENE

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        k1: float = BM25.k1 or 0.0,
        b: float = BM25.b,
        analyzer: str = ENGLISH,
        exact_lengths: bool = False,
    ) -> None:
        if not (0 <= k1 < np.inf and 0 <= b <= 1):
            raise QueryError(f"BM25 takes k1 >= 0 and 0 <= b <= 1, not k1={k1}, b={b}")
        super().__init__(folder, Similarity(k1, b, exact_lengths), analyzer)

    def _options(self) -> dict[str, Any]:
        k1, b, exact = self._similarity
        given = {"k1": k1, "b": b, "analyzer": self._analyzer, "exact_lengths": exact}
        own = {"k1": BM25.k1, "b": BM25.b, "analyzer": ENGLISH, "exact_lengths": False}
        return {name: value for name, value in given.items() if value != own[name]}

    def _weights(self, texts: Sequence[str], snapshot: Snapshot, *, full: bool) -> list[dict[str, float]]:
        counted = [Counter(self.index.analyse(text)) for text in texts]
        return [{term: float(count) for term, count in counts.items()} for counts in counted]

    def _limits(self, terms: Sequence[str], weights: NDArray[np.float64]) -> tuple[float, float]:
        """Returns sums over weight x IDF: Lucene's tf part is below 1, as is the impact of plait's lexical strand."""
        parts = weights * self.index.idf(terms)
        return float(parts.sum()), float(np.linalg.norm(parts))


class LuceneImpact(LuceneStrand):
    """Impact search over a Lucene index of weighted terms, as SPLADE, uniCOIL or DeepImpact make them.

    Args:
        folder: of the Lucene index.
        encoder: what weighs a query's terms: a `SparseEncoder`; a model by name or folder; "tokens" where queries are
            terms already, as "snow^12 melt^7"; a .jsonl file, also compressed, of queries weighed beforehand, in
            Anserini's form of vectors; None takes the queries of the learned strand of the index that is searched.
        scale: query weights of a model are multiplied by it, rounded to whole numbers, and left out where that is 0;
            pyserini's is 256 / 5.
    """

    name = LUCENE_IMPACT

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        encoder: str | PathLike[str] | SparseEncoder | None = None,
        scale: float = QUANTISED,
    ) -> None:
        if not 0 < scale < np.inf:
            raise QueryError(f"scale is a finite number above 0, not {scale!r}")
        super().__init__(folder, IMPACT, PRETOKENIZED)
        self.encoder, self.scale = encoder, scale
        self._learned: Sparse | None = None
        self._weigh: QueryWeights | None = None

    @property
    def source(self) -> str | None:
        """See `LuceneStrand.source`."""
        return super().source if self.encoder is None or isinstance(self.encoder, (str, PathLike)) else None

    def paired(self, learned: Sparse | None) -> None:
        """Takes the queries of a learned strand, its IDF included, where no encoder was given.

        Raises:
            QueryError: there is none either.
        """
        if self.encoder is not None:
            return
        if learned is None:
            raise QueryError(
                f"{self.name} does not know how a query's terms weigh, for there is no learned strand: give the model "
                f'of the Lucene index, as --{self.name} "{self.folder}:encoder=MODEL", or :encoder=tokens where '
                "queries are weighted terms"
            )
        self._learned = learned

    def _options(self) -> dict[str, Any]:
        encoder = None if self.encoder is None else _absolute(fspath(self.encoder))  # pyright: ignore[reportArgumentType, reportCallIssue]
        return {"encoder": encoder, "scale": None if self.scale == QUANTISED else repr(self.scale)}

    def _weights(self, texts: Sequence[str], snapshot: Snapshot, *, full: bool) -> list[dict[str, float]]:
        if self._learned is not None:
            return [rounded(query.named, self.scale) for query in self._learned.encode(texts, snapshot, full=full)]
        if self._weigh is None:
            self._weigh = weights_by(self.encoder, self.scale)
        return self._weigh(texts, self.index)

    def _limits(self, terms: Sequence[str], weights: NDArray[np.float64]) -> tuple[float, float]:
        """Returns limits by the largest impact that each of the terms has in a document, and that any of them has."""
        largest = self.index.largest(terms)
        return float(weights @ largest), float(np.linalg.norm(weights) * largest.max())


def strand_of(name: str, given: Given) -> LuceneStrand:
    """Returns a strand from a folder, perhaps with options, as "path/to/index:k1=0.82:b=0.68".

    Raises:
        QueryError: an option is unknown or its value is.
    """
    made = _STRANDS[name]
    if isinstance(given, LuceneStrand):
        if not isinstance(given, made):
            raise QueryError(f"the strand {name} was given a {type(given).__name__}; it takes a {made.__name__}")
        return given
    folder, pairs = split(fspath(given))
    options = {option: value.strip() for option, value in pairs}
    if len(options) < len(pairs):
        raise QueryError(f"{given!r} gives an option twice")
    if not folder:
        raise QueryError(f"{name} is given the folder of a Lucene index, perhaps with options, as path:k1=0.9")
    (chosen,) = specs.checked(f"the strand {name}", options, made.__init__)
    return made(folder, **chosen)


_STRANDS: Mapping[str, Any] = {LUCENE: Lucene, LUCENE_IMPACT: LuceneImpact}


def _absolute(encoder: str) -> str:
    """Returns a model's name, or, of a folder or file, its full path; its options in the form that holds no others'."""
    spec = parse(encoder)
    name = str(Path(spec.name).resolve()) if Path(spec.name).exists() else spec.name
    return f"{name}:{json.dumps(dict(spec.options))}" if spec.options else name


def _selected(snapshot: Snapshot, within: Selection) -> NDArray[np.int64]:
    """Returns the positions of a selection, ascending."""
    pairs = zip(snapshot.segments, within.alive, strict=True)
    return np.concatenate([np.zeros(0, np.int64), *(s.positions_of(np.flatnonzero(alive)) for s, alive in pairs)])


def _known(snapshot: Snapshot, query: LuceneQuery, hits: LuceneHits, chosen: NDArray[np.int64] | None) -> Hits:
    """Returns the hits that plait has, as positions, in their order, and lets the query remember them."""
    known = snapshot.positions(hits.ids)
    here = np.array([known.get(id, -1) for id in hits.ids], np.int64)
    kept = here >= 0 if chosen is None else (here >= 0) & np.isin(here, chosen)
    found = Hits(hits.scores[kept].astype(np.float64), here[kept])
    query.known.update(zip(found.positions.tolist(), found.scores.tolist(), strict=True))
    return found


def _first(snapshot: Snapshot, hits: Hits, k: int) -> Hits:
    kept = snapshot.settle(hits.scores, hits.positions, k)
    return Hits(hits.scores[kept], hits.positions[kept])

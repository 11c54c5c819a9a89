"""A Lucene index on disk, as Anserini makes them, beside ours: BM25 or impact search, by external ids.

Scores are Lucene's own, float32, not those of Anserini's searchers, which round them to four decimals and lower those
that tie. Ties go by id, descending, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .contract import StoreError
from .java import Java, java

FIELD, ID = "contents", "id"  # Anserini's names
# Terms and ids reach Java as one text, split there: a call for each of them would cost more than the search.
BETWEEN, BOOST = "\u0001", "\u0002"
MOST_CLAUSES = 1 << 20  # terms of a query, ids of a filter; Lucene's own limit is 1,024
MOST_HITS = 2**31 - 1  # Java counts no further
ENGLISH, KROVETZ, PRETOKENIZED = "english", "krovetz", "pretokenized"

_SEARCH, _INDEX, _ANALYSIS = "org.apache.lucene.search", "org.apache.lucene.index", "org.apache.lucene.analysis"


class LuceneHits(NamedTuple):
    """What Lucene found, best first: external ids, and scores float32."""

    ids: list[str]
    scores: NDArray[np.float32]


class Similarity(NamedTuple):
    """How terms score: by BM25, or, where `k1` is None, by the impacts that were indexed as frequencies.

    Attributes:
        k1, b: BM25's saturation and length normalisation; the defaults are Anserini's.
        exact_lengths: the index keeps lengths whole (Anserini's -bm25.accurate); Lucene's own keep a few bits of them.
    """

    k1: float | None = 0.9
    b: float = 0.4
    exact_lengths: bool = False

    def __str__(self) -> str:
        """Returns the similarity and its parameters."""
        exact = ":exact_lengths=true" if self.exact_lengths else ""
        return "impact" if self.k1 is None else f"bm25:k1={self.k1:g}:b={self.b:g}{exact}"


BM25, IMPACT = Similarity(), Similarity(None)


class LuceneFacts(NamedTuple):
    """What a Lucene index holds; whatever changes a score changes one of these.

    Attributes:
        documents: that live.
        postings: pairs of a term and a document, deleted documents included.
        tokens: the sum of frequencies, or of impacts.
    """

    documents: int
    postings: int
    tokens: int

    def __str__(self) -> str:
        """Returns the facts as a person reads them."""
        return f"{self.documents:,} documents, {self.postings:,} postings, {self.tokens:,} tokens"


class LuceneIndex:
    """A Lucene index, open for searching; what is committed to it later does not show. Safe between threads.

    Args:
        folder: that holds Lucene's files.
        similarity: BM25 with its parameters, or `IMPACT`.
        analyzer: how texts become terms; it must be the one that the index was made with: "english" (Anserini's
            default: Porter's stemmer, stop words out), "krovetz", "pretokenized" (words as they stand between blanks),
            or a language that Anserini knows, as "de".

    Raises:
        StoreError: there is no Lucene index, it is none of Anserini's, or Java or pyserini is missing.
    """

    def __init__(self, folder: Path, similarity: Similarity = BM25, *, analyzer: str = ENGLISH) -> None:
        self.folder, self.similarity, self.analyzer = folder, similarity, analyzer
        if not any(folder.glob("segments_*")):
            raise StoreError(f"{folder}: there is no Lucene index; give the folder that holds its file segments_N")
        self._java = started = java()
        self._what = f"Lucene index {folder}"
        self._analyzer = query_analyzer(started, analyzer)
        with started.explained(self._what):
            directory = started("org.apache.lucene.store.FSDirectory").open(_path(started, folder))
            self._reader = started(f"{_INDEX}.DirectoryReader").open(directory)
        try:
            with started.explained(self._what):
                self._prepare(started)
        except BaseException:
            self.close()
            raise
        self._should = started(f"{_SEARCH}.BooleanClause$Occur").SHOULD
        self._largest: dict[str, float] = {}

    def _prepare(self, started: Java) -> None:
        """Makes what searches with the open index."""
        reader = started.cast(f"{_INDEX}.IndexReader", self._reader)
        self._sort = self._order(started(f"{_INDEX}.FieldInfos").getMergedFieldInfos(reader))
        self._searcher = started(f"{_SEARCH}.IndexSearcher")(reader)
        self._searcher.setSimilarity(_similarity(started, self.similarity))
        self._searcher.setQueryCache(None)  # a filter by ids is used once
        started(f"{_SEARCH}.IndexSearcher").setMaxClauseCount(MOST_CLAUSES)
        self._weighted = started("org.apache.lucene.util.QueryBuilder")(_splitting(started, weighted=True))
        self._plain = started("org.apache.lucene.util.QueryBuilder")(_splitting(started, weighted=False))

    def close(self) -> None:
        """Lets go of the files."""
        self._reader.close()

    @property
    def facts(self) -> LuceneFacts:
        """What the index holds."""
        with self._java.explained(self._what):
            found = self._searcher.collectionStatistics(FIELD)
        postings, tokens = (0, 0) if found is None else (found.sumDocFreq(), found.sumTotalTermFreq())
        return LuceneFacts(int(self._reader.numDocs()), int(postings), int(tokens))

    def analyse(self, text: str) -> list[str]:
        """Returns the terms of a text in their order."""
        analyze = self._java("io.anserini.analysis.AnalyzerUtils").analyze
        with self._java.explained(self._what):
            return list(analyze(self._analyzer, _whole(text)).toArray())

    def query(self, weights: Mapping[str, float]) -> Any:
        """Returns the query that sums weight x score over terms, for `search` and `scores`; None where it has no term.

        Raises:
            StoreError: a weight is not above 0, or a term cannot be one.
        """
        for term, weight in weights.items():
            if not 0 < weight < np.inf:
                raise StoreError(f"Lucene takes weights above 0, not {weight!r} for {term!r}")
            if not term or BETWEEN in term or BOOST in term:
                raise StoreError(f"{term!r} is no term that Lucene could hold")
        if not weights:
            return None
        text = BETWEEN.join(f"{term}{BOOST}{float(weight)!r}" for term, weight in weights.items())
        with self._java.explained(self._what):
            return self._weighted.createBooleanQuery(FIELD, _whole(text), self._should)

    def search(self, query: Any, k: int, *, among: Sequence[str] | None = None) -> LuceneHits:
        """Returns the k best documents, by score, then id, both descending.

        Args:
            query: of `query`.
            k: how many are wanted, at least 1.
            among: only documents with these ids.
        """
        if query is None or (among is not None and not len(among)):
            return LuceneHits([], np.zeros(0, np.float32))
        with self._java.explained(self._what):
            asked = query if among is None else self._filtered(query, among)
            top = self._searcher.search(asked, min(k, MOST_HITS), self._sort, True)
            found = self._java("io.anserini.search.ScoredDocs").fromTopDocs(top, self._searcher)
            return LuceneHits(list(found.docids), np.array(found.scores, np.float32))

    def scores(self, query: Any, ids: Sequence[str]) -> NDArray[np.float32]:
        """Returns the scores of given documents, float32 (ids,): those that `search` gives, 0 where no term matches."""
        found = self.search(query, max(len(ids), 1), among=ids)
        known = dict(zip(found.ids, found.scores.tolist(), strict=True))
        return np.array([known.get(id, 0.0) for id in ids], np.float32)

    def idf(self, terms: Sequence[str]) -> NDArray[np.float64]:
        """Returns ln(1 + (N - df + 0.5) / (df + 0.5)), Lucene's BM25 IDF, float64 (terms,)."""
        term_of = self._java(f"{_INDEX}.Term")
        with self._java.explained(self._what):
            df = np.array([self._reader.docFreq(term_of(FIELD, term)) for term in terms], np.float64)
            found = self._searcher.collectionStatistics(FIELD)
        documents = 0 if found is None else int(found.docCount())
        return np.log1p((documents - df + 0.5) / (df + 0.5))

    def largest(self, terms: Sequence[str]) -> NDArray[np.float64]:
        """Returns the largest score that each term alone gives with weight 1, float64 (terms,); 0 if unknown."""
        for term in terms:
            if term not in self._largest:
                best = self.search(self.query({term: 1.0}), 1).scores
                self._largest[term] = float(best[0]) if best.size else 0.0
        return np.array([self._largest[term] for term in terms], np.float64)

    def _filtered(self, query: Any, ids: Sequence[str]) -> Any:
        occur, builder = self._java(f"{_SEARCH}.BooleanClause$Occur"), self._java(f"{_SEARCH}.BooleanQuery$Builder")()
        builder.add(query, occur.MUST)
        builder.add(self._plain.createBooleanQuery(ID, BETWEEN.join(ids), self._should), occur.FILTER)
        return builder.build()

    def _order(self, fields: Any) -> Any:
        """Returns Lucene's sort by score, then id, both descending.

        Raises:
            StoreError: the index has no such fields, or its ids cannot be sorted by.
        """
        for name in (FIELD, ID):
            if self._reader.maxDoc() and fields.fieldInfo(name) is None:
                raise StoreError(
                    f"{self.folder} has no field {name!r}; an index that Anserini made has {ID} and {FIELD}"
                )
        field, kind = self._java(f"{_SEARCH}.SortField"), self._java(f"{_SEARCH}.SortField$Type")
        by_id = field(ID, kind.STRING_VAL, True)
        return self._java(f"{_SEARCH}.Sort")(field.FIELD_SCORE, by_id)


def query_analyzer(started: Java, name: str) -> Any:
    """Returns an analyzer by name, see `LuceneIndex`.

    Raises:
        StoreError: there is none of that name.
    """
    english = started("io.anserini.analysis.DefaultEnglishAnalyzer")
    if name in (ENGLISH, "en"):
        return english.newDefaultInstance()
    if name == KROVETZ:
        return english.newStemmingInstance(KROVETZ)
    if name == PRETOKENIZED:
        return started(f"{_ANALYSIS}.core.WhitespaceAnalyzer")()
    languages = started("io.anserini.analysis.AnalyzerMap")
    known = sorted(str(each) for each in languages.analyzerMap.keySet().toArray())
    if name not in known:
        there = ", ".join((ENGLISH, KROVETZ, PRETOKENIZED, *known))
        raise StoreError(f"no Lucene analyzer {name!r}; there are: {there}")
    return languages.getLanguageSpecificAnalyzer(name)


def _whole(text: str) -> str:
    """Returns a text that Java can take: half a surrogate pair, which no document holds, is a question mark."""
    return text.encode("utf-8", "replace").decode()


def _path(started: Java, folder: Path) -> Any:
    return started("java.nio.file.Paths").get(str(folder.absolute()))


def _similarity(started: Java, chosen: Similarity) -> Any:
    if chosen.k1 is None:
        return started("io.anserini.search.similarity.ImpactSimilarity")()
    exact, own = "io.anserini.search.similarity.AccurateBM25Similarity", f"{_SEARCH}.similarities.BM25Similarity"
    return started(exact if chosen.exact_lengths else own)(float(chosen.k1), float(chosen.b))


def _splitting(started: Java, *, weighted: bool) -> Any:
    """Returns an analyzer that only splits what `query` and `search` have joined."""
    builder = started(f"{_ANALYSIS}.custom.CustomAnalyzer").builder().withTokenizer("pattern", "pattern", BETWEEN)
    return (builder.addTokenFilter("delimitedBoost", "delimiter", BOOST) if weighted else builder).build()

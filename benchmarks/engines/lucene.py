"""Lucene's impact search, on the Lucene that pyserini brings with it."""

# pyright: reportMissingImports=false
# (the package is in the engine's own Python)

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rows import Rows

FIELD, NUMBER = "terms", "number"


class Lucene:
    """One segment of terms with their impacts as frequencies; a score is Anserini's: weight times impact, summed."""

    def __init__(self) -> None:
        os.environ.setdefault("OPENAI_API_KEY", "none")  # or the import fails
        import pyserini.pyclass  # noqa: F401  # starts Java with Lucene on its path

        jnius = importlib.import_module("jnius")  # after it, and untyped: it is made when Java runs
        self.java, self.cast = jnius.autoclass, jnius.cast

    def build(self, rows: Rows, folder: Path) -> None:
        """Adds the documents one by one, each as a line of `term|impact`, and merges them into one segment."""
        java = self.java
        options = java("org.apache.lucene.index.IndexWriterConfig")(self._analyzer())
        options.setMergePolicy(java("org.apache.lucene.index.LogDocMergePolicy")())  # keeps the order of documents
        options.setRAMBufferSizeMB(256.0)
        writer = java("org.apache.lucene.index.IndexWriter")(self._directory(folder), options)
        empty = self.cast("java.lang.CharSequence", java("java.lang.String")(""))
        field = java("org.apache.lucene.document.Field")(FIELD, empty, self._field_type())
        number = java("org.apache.lucene.document.NumericDocValuesField")(NUMBER, 0)
        document = java("org.apache.lucene.document.Document")()
        document.add(field)
        document.add(number)
        for i in range(rows.size):
            terms, impacts = rows.row(i)
            field.setStringValue(" ".join(f"{t}|{v}" for t, v in zip(terms.tolist(), impacts.tolist(), strict=True)))
            number.setLongValue(i)
            writer.addDocument(document)
        writer.forceMerge(1)
        writer.close()

    def _directory(self, folder: Path) -> Any:
        path = self.java("java.nio.file.Paths").get(str(folder / "index"))
        return self.java("org.apache.lucene.store.FSDirectory").open(path)

    def _analyzer(self) -> Any:
        builder = self.java("org.apache.lucene.analysis.custom.CustomAnalyzer").builder()
        return builder.withTokenizer("whitespace").addTokenFilter("delimitedTermFrequency").build()

    def _field_type(self) -> Any:
        made = self.java("org.apache.lucene.document.FieldType")()
        made.setIndexOptions(self.java("org.apache.lucene.index.IndexOptions").DOCS_AND_FREQS)
        made.setOmitNorms(True)
        return made

    def open(self, folder: Path) -> None:
        """Opens the index for Anserini's impact similarity."""
        self.reader = self.java("org.apache.lucene.index.DirectoryReader").open(self._directory(folder))
        reader = self.cast("org.apache.lucene.index.IndexReader", self.reader)
        self.searcher = self.java("org.apache.lucene.search.IndexSearcher")(reader)
        self.searcher.setSimilarity(self.java("io.anserini.search.similarity.ImpactSimilarity")())

    def calls(self, queries: Rows, k: int) -> list[Callable[[], Any]]:
        """Returns a search for each query: the call from Python into Java is part of it, reading the hits is not."""
        searcher = self.searcher

        def made(terms: Any, weights: Any) -> Callable[[], Any]:
            query = self._query(terms.tolist(), weights.tolist())
            return lambda: searcher.search(query, k)

        return [made(*queries.row(i)) for i in range(queries.size)]

    def _query(self, terms: list[int], weights: list[int]) -> Any:
        names = ("BooleanQuery$Builder", "BoostQuery", "TermQuery", "BooleanClause$Occur")
        builder_of, boosted, term_query, occur = (self.java(f"org.apache.lucene.search.{name}") for name in names)
        term_of, builder = self.java("org.apache.lucene.index.Term"), builder_of()
        for term, weight in zip(terms, weights, strict=True):
            builder.add(boosted(term_query(term_of(FIELD, str(term))), float(weight)), occur.SHOULD)
        return builder.build()

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the answer's documents: in one segment they are numbered as they were added."""
        return [hit.doc for hit in answer.scoreDocs]

    def facts(self) -> dict[str, Any]:
        """Returns the versions, and how many segments there are."""
        return {
            "lucene": self.java("org.apache.lucene.util.Version").LATEST.toString(),
            "java": self.java("java.lang.System").getProperty("java.version"),
            "segments": self.reader.leaves().size(),
        }

"""Making a Lucene index with Anserini's IndexCollection, from texts or from impacts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .contract import StoreError
from .java import Java, java
from .lucene import ENGLISH, KROVETZ, PRETOKENIZED, query_analyzer

LARGEST = 2**31 - 1  # an impact is a frequency to Lucene
_GENERATOR = "DefaultLuceneDocumentGenerator"


def write_texts(
    folder: Path, documents: Iterable[tuple[str, str]], *, analyzer: str = ENGLISH, exact_lengths: bool = False
) -> int:
    """Makes a Lucene index for BM25 and returns the number of its documents; Anserini leaves out empty ones.

    Args:
        folder: to make; it must not exist, or be empty.
        documents: ids and texts.
        analyzer: see `LuceneIndex`.
        exact_lengths: keep documents' lengths whole, for `Similarity(exact_lengths=True)`; Lucene's own norms keep a
            few bits of them.

    Raises:
        StoreError: the folder is taken, an id comes twice, or Java or pyserini is missing.
    """
    rows = ({"id": id, "contents": text} for id, text in _distinct(documents))
    return _written(folder, rows, analyzer=analyzer, bm25Accurate=exact_lengths)


def write_impacts(folder: Path, documents: Iterable[tuple[str, Mapping[str, int]]]) -> int:
    """Makes a Lucene index of impacts and returns the number of its documents.

    Args:
        folder: to make; it must not exist, or be empty.
        documents: ids, and whole weights above 0 by term.

    Raises:
        StoreError: the folder is taken, an id comes twice, a weight is no impact, or Java or pyserini is missing.
    """
    rows = ({"id": id, "contents": "", "vector": _checked(id, vector)} for id, vector in _distinct(documents))
    return _written(folder, rows, impact=True)


def index_collection(
    source: Path, folder: Path, *, impact: bool = False, analyzer: str = ENGLISH, threads: int = 1, **more: Any
) -> int:
    """Makes a Lucene index of a folder of JSON files in Anserini's form, and returns the number of its documents.

    Args:
        source: a folder of JsonCollection or JsonVectorCollection files.
        folder: to make; it must not exist, or be empty.
        impact: the files hold vectors of impacts, not texts.
        analyzer: see `LuceneIndex`; vectors are never analysed.
        threads: how many files are read at a time.
        more: further arguments of IndexCollection, by the names of its fields.

    Raises:
        StoreError: there is no source, the folder is taken, Lucene refuses the files, or Java or pyserini is missing.
    """
    if not source.is_dir():
        raise StoreError(f"{source} is no folder; expected one with .json or .jsonl files in Anserini's form")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"there is something at {folder} already; name a folder that does not exist, or empty it")
    started = java()
    chosen = {
        "collectionClass": "JsonVectorCollection" if impact else "JsonCollection", "generatorClass": _GENERATOR,
        "input": str(source), "index": str(folder), "threads": threads, "impact": impact, "quiet": True,
        "optimize": True, **_analysis(started, PRETOKENIZED if impact else analyzer), **more,
    }  # fmt: skip
    given = started("io.anserini.index.IndexCollection$Args")()
    for name, value in chosen.items():
        setattr(given, name, value)
    with started.explained(f"{source} cannot be indexed"):
        indexer = started("io.anserini.index.IndexCollection")(given)
        indexer.run()
        return int(indexer.getCounters().indexed.get())


def _written(folder: Path, rows: Iterator[Mapping[str, Any]], **options: Any) -> int:
    """Makes an index of rows, through a file that Anserini reads."""
    with tempfile.TemporaryDirectory(prefix="plait-lucene-") as place:
        with (Path(place) / "documents.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return index_collection(Path(place), folder, **options)


def _distinct(documents: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for id, value in documents:
        if id in seen:
            raise StoreError(f"two documents have the id {id!r}; ids are names, each for one document")
        seen.add(id)
        yield id, value


def _checked(id: str, vector: Mapping[str, int]) -> dict[str, int]:
    for term, weight in vector.items():
        if isinstance(weight, bool) or not float(weight).is_integer() or not 0 < weight <= LARGEST:
            raise StoreError(f"document {id!r}: an impact is a whole number above 0, not {weight!r} for {term!r}")
        if term.split() != [term]:  # Anserini writes a vector as a text
            raise StoreError(f"document {id!r}: a term of Anserini's holds no blanks and is not empty, unlike {term!r}")
    return {term: int(weight) for term, weight in vector.items()}


def _analysis(started: Java, name: str) -> dict[str, Any]:
    """Returns IndexCollection's arguments for an analyzer."""
    query_analyzer(started, name)  # for its error
    named = {ENGLISH: {}, "en": {}, KROVETZ: {"stemmer": KROVETZ}, PRETOKENIZED: {"pretokenized": True}}
    return named.get(name, {"language": name})

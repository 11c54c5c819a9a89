"""The vectors that kernel.py searches: two collections and their queries, encoded once and kept in a folder."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import hashlib
import json
import lzma
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.encoders import load_learned
from plait.encoders.lexical import LexicalEncoder
from plait.eval import load_beir
from scipy.sparse import csr_matrix, load_npz, save_npz

CHUNK = 4096  # documents encoded between two lines of progress
SIAMESE_TERMS = 40
TITLE_WORDS = 4  # of a title that serves as a short query: about six wordpieces


@dataclass(frozen=True)
class Texts:
    """A collection to encode.

    Attributes:
        name: names its folder of vectors.
        documents: what is indexed.
        short: what people type: encoded without a model.
        long: what the document encoder turns into long queries; None of them is indexed.
        long_lexical: whether `long` also makes BM25 queries (a claim is a short one already).
    """

    name: str
    documents: list[str]
    short: list[str]
    long: list[str]
    long_lexical: bool


@dataclass(frozen=True)
class Vectors:
    """A collection, encoded.

    Attributes:
        name: of the collection.
        learned: csr_matrix (documents, vocabulary), weights.
        literal: the terms that the documents' texts hold themselves: IDF counts these.
        lexical: csr_matrix (documents, hashes), counts.
        queries: by (strand, form), as the encoders return them.
    """

    name: str
    learned: Any
    literal: Any
    lexical: Any
    queries: dict[tuple[str, str], Any]


def scifact(data: Path, limit: int | None, queries: int) -> Texts:
    """Returns SciFact: its documents and its claims."""
    folder = common.existing(data / "beir" / "scifact", "BEIR's scifact")
    dataset = load_beir(folder)
    documents = [document.full_text for document in islice(dataset.documents(), limit)]
    claims = list(dataset.queries.values())[:queries]
    return Texts(f"scifact-{len(documents)}", documents, claims, claims, long_lexical=False)


def scale(data: Path, documents: int, queries: int) -> Texts:
    """Returns passages evenly spaced over the file; some more, evenly spaced among them, are held out for queries."""
    path = common.existing(data / "scale" / "mixed-en.jsonl.xz", "the passages for measuring at scale")
    rows = _evenly(path, documents + queries)
    step = len(rows) / queries
    held = {int(i * step) for i in range(queries)}
    asked = [rows[i] for i in sorted(held)]
    kept = [_full_text(row) for i, row in enumerate(rows) if i not in held]
    titles = [" ".join((row.get("title") or row["text"]).split()[:TITLE_WORDS]) for row in asked]
    return Texts(f"scale-{len(kept)}", kept, titles, [_full_text(row) for row in asked], long_lexical=True)


def cached(texts: Texts, folder: Path) -> Vectors:
    """Returns the vectors of a collection, from the folder where they are there, or encoded and put there."""
    learned, lexical = load_learned(), LexicalEncoder()
    key = f"{texts.name}-{_digest(texts, learned.identity.to_json(), lexical.identity.to_json())}"
    encoded = _Store(folder / key)

    queries = {
        ("learned", "short"): encoded("short-learned", learned.encode_queries, texts.short),
        ("learned", "long"): strongest(encoded("long-learned", learned.encode_documents, texts.long), SIAMESE_TERMS),
        ("lexical", "short"): encoded("short-lexical", lexical.encode_queries, texts.short),
    }
    if texts.long_lexical:
        queries["lexical", "long"] = encoded("long-lexical", lexical.encode_queries, texts.long)
    return Vectors(
        texts.name,
        learned=encoded("learned", learned.encode_documents, texts.documents),
        literal=encoded("literal", learned.encode_queries, texts.documents),
        lexical=encoded("lexical", lexical.encode_documents, texts.documents),
        queries=queries,
    )


def _digest(texts: Texts, *identities: dict[str, Any]) -> str:
    """Returns what names the vectors of these texts by these encoders."""
    return hashlib.sha256(json.dumps([asdict(texts), identities]).encode()).hexdigest()[:16]


def strongest(rows: Any, count: int) -> Any:
    """Returns rows with their largest entries only, at most so many each, columns ascending."""
    kept = [_strongest_row(rows, i, count) for i in range(rows.shape[0])]
    pointers = np.cumsum([0, *(columns.size for columns, _ in kept)])
    columns = np.concatenate([columns for columns, _ in kept])
    values = np.concatenate([values for _, values in kept])
    return csr_matrix((values, columns, pointers), shape=rows.shape)


def _strongest_row(rows: Any, i: int, count: int) -> tuple[Any, Any]:
    inside = slice(rows.indptr[i], rows.indptr[i + 1])
    columns, values = rows.indices[inside], rows.data[inside]
    best = np.argsort(-values, kind="stable")[:count]
    best = best[np.argsort(columns[best])]
    return columns[best], values[best]


class _Store:
    """A folder of .npz matrices; a file is renamed into place, so an interrupted run leaves none that is half."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, encode: Any, texts: Sequence[str]) -> Any:
        path = self.folder / f"{name}.npz"
        if not path.exists():
            rows = _in_chunks(f"{self.folder.name}/{name}", encode, texts)
            made = path.with_name(f".{name}.npz")
            save_npz(made, rows, compressed=False)
            made.rename(path)
        rows = load_npz(path).tocsr()
        rows.sort_indices()
        return rows


def _in_chunks(what: str, encode: Any, texts: Sequence[str]) -> Any:
    parts = []
    for start in range(0, len(texts), CHUNK):
        print(f"encoding {what}: {start:,} of {len(texts):,}", file=sys.stderr)
        parts.append(encode(texts[start : start + CHUNK]))
    return _stacked(parts)


def _stacked(parts: Sequence[Any]) -> Any:
    """Returns parts one below the other; scipy's own vstack is made for fewer columns than there are hashes."""
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    pointers = np.concatenate([[0], np.cumsum(counts)])
    columns, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "data"))
    return csr_matrix((values, columns, pointers), shape=(counts.size, parts[0].shape[1]))


def _evenly(path: Path, count: int) -> list[dict[str, Any]]:
    """Returns so many lines of a file, evenly spaced over it."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        total = sum(1 for _ in lines)
    if total < count:
        common.fail(f"{path} has {total:,} passages; {count:,} were asked for, queries included")
    wanted = {i * total // count for i in range(count)}
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for i, line in enumerate(lines) if i in wanted]


def _full_text(row: dict[str, Any]) -> str:
    return f"{row.get('title', '')} {row['text']}".strip()

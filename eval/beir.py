"""A test collection in BEIR's form: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..retriever.documents import Document, IngestError
from ..retriever.ingest import read_documents
from ..retriever.queries import read_queries
from ..retriever.streams import OPENERS
from .contract import EvalError, Qrels
from .runs import read_qrels


@dataclass(frozen=True)
class Dataset:
    """A test collection: the judged queries of one split, their judgements, and where the documents are.

    Attributes:
        name: the folder's name.
        split: which judgements: "test", "dev", "train".
        corpus: the file of documents.
        queries: text by query id, of the queries that have judgements.
        qrels: relevance by query id and document id.
        files: the files it was read from: "corpus", "queries" and "qrels".
    """

    name: str
    split: str
    corpus: Path
    queries: Mapping[str, str]
    qrels: Qrels
    files: Mapping[str, Path] = field(default_factory=dict)

    def documents(self) -> Iterator[Document]:
        """Returns an iterator over the documents, whole: judgements are of documents, not of passages."""
        return read_documents(self.corpus, passages="never")

    @cached_property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file, as stored, by its part."""
        return {part: _sha256(path) for part, path in self.files.items()}


def load_beir(folder: str | Path, split: str = "test", *, skip_bad: bool = False) -> Dataset:
    """Returns the test collection in a folder; files may be compressed.

    Args:
        folder: holds corpus.jsonl, queries.jsonl and qrels/.
        split: which judgements.
        skip_bad: judged queries without a text are not asked, and count as 0, instead of being an error.

    Raises:
        EvalError: a missing file, a malformed judgement, or a judged query that has no text.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvalError(f"{folder}: there is no such folder; expected one with corpus.jsonl, queries.jsonl and qrels/")
    corpus, queries, judgements = _files(folder, split)
    qrels = read_qrels(judgements)
    texts, problem = _texts(queries, judgements, qrels)
    if problem and not skip_bad:
        raise EvalError(problem)
    files = {"corpus": corpus, "queries": queries, "qrels": judgements}
    return Dataset(folder.resolve().name, split, corpus, texts, qrels, files)


def _files(folder: Path, split: str) -> tuple[Path, Path, Path]:
    names = ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")
    found = {name: _existing(folder, name) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        splits = sorted(path.name.split(".")[0] for path in (folder / "qrels").glob("*.tsv*"))
        hint = f"; the splits here are {', '.join(splits)}" if splits and names[2] in missing else ""
        raise EvalError(f"{folder} is no BEIR folder for the split {split!r}: {', '.join(missing)} missing{hint}")
    corpus, queries, judgements = (path for path in found.values() if path is not None)
    return corpus, queries, judgements


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for suffix in ("", *OPENERS) if (path := folder / f"{name}{suffix}").is_file()), None)


def _texts(path: Path, judgements: Path, qrels: Qrels) -> tuple[dict[str, str], str]:
    """Returns the texts of the judged queries, and what is wrong where some have none.

    A broken line matters only then: many collections hold lines that no judgement needs.
    """
    broken: list[IngestError] = []
    try:
        texts = dict(read_queries(path, skip_bad=True, on_bad=broken.append))
    except IngestError as error:
        raise EvalError(str(broken[0] if broken else error)) from None
    missing = [query for query in qrels if query not in texts]
    problem = _missing(path, judgements, missing, broken) if missing else ""
    return {query: texts[query] for query in qrels if query in texts}, problem


def _missing(path: Path, judgements: Path, missing: list[str], broken: list[IngestError]) -> str:
    shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
    also = f" ({len(broken)} bad lines there, the first: {broken[0]})" if broken else ""
    return (
        f"{judgements}: judged queries without a text in {path}: {len(missing)}, namely {shown}{also}; add their "
        "texts, or skip bad input to count them as 0"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

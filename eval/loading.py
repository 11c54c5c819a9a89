"""A test collection from whatever a path or a name is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..retriever.documents import Document, IngestError, check_document
from ..retriever.log import MOST
from ..retriever.queries import RepeatedQueryError, check_query
from ..retriever.streams import rejecter
from .beir import judged_texts, load_beir
from .contract import EvalError
from .dataset import Dataset, digest
from .trec import is_trec, load_trec

IR_DATASETS = "ir_datasets:"
FORMS = (
    "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv), a folder of topics*, qrels* and documents as TREC, "
    f"MIRACL and Mr. TyDi have them, or {IR_DATASETS}NAME"
)


def load_dataset(spec: str | Path, split: str = "test", *, skip_bad: bool = False) -> Dataset:
    """Returns the test collection that a path or a name stands for.

    Args:
        spec: a BEIR folder, a folder of topics, qrels and documents, or "ir_datasets:NAME".
        split: which judgements; a name of ir_datasets has its split inside.
        skip_bad: judged queries without a text are not asked, and count as 0, instead of being an error.

    Raises:
        EvalError: it is none of these, or one with something missing or malformed.
    """
    if str(spec).startswith(IR_DATASETS):
        return load_ir_dataset(str(spec).removeprefix(IR_DATASETS), split, skip_bad=skip_bad)
    folder = Path(spec)
    if not folder.is_dir():
        there = "is a file" if folder.exists() else "there is no such folder"
        raise EvalError(f"{folder}: {there}; expected {FORMS}")
    if not any(folder.glob("queries.jsonl*")) and is_trec(folder):
        return load_trec(folder, split, skip_bad=skip_bad)
    if not any(any(folder.glob(name)) for name in ("corpus.jsonl*", "queries.jsonl*", "qrels")):
        raise EvalError(f"{folder}: no test collection; expected {FORMS}")
    return load_beir(folder, split, skip_bad=skip_bad)


def load_ir_dataset(name: str, split: str = "test", *, skip_bad: bool = False) -> Dataset:
    """Returns a collection of the package ir_datasets, which fetches it where it is not on this machine.

    Args:
        name: as that package has it: "beir/scifact/test".
        split: what to call its judgements.
        skip_bad: judged queries without a text are not asked, and count as 0, instead of being an error.

    Raises:
        EvalError: the package is missing, knows no such collection, cannot fetch it, it has no judgements, or a judged
            query has no text.
    """
    try:
        package = import_module("ir_datasets")
    except ImportError:
        raise EvalError(f"{IR_DATASETS}{name} needs the package ir_datasets: pip install ir_datasets") from None
    try:
        found = package.load(name)
        lacking = [part for part in ("docs", "queries", "qrels") if not getattr(found, f"has_{part}")()]
        if lacking:
            raise EvalError(f"{IR_DATASETS}{name} has no {', '.join(lacking)}; name a collection with judgements")
        qrels: dict[str, dict[str, int]] = {}
        for judgement in found.qrels_iter():
            relevance = int(judgement.relevance)
            if abs(relevance) > MOST:
                where = f"document {judgement.doc_id!r} for query {judgement.query_id!r}"
                raise EvalError(f"{IR_DATASETS}{name} judges {where} {relevance}; expected {MOST:,} at most")
            qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = relevance
        asked = [(query.query_id, _text(query)) for query in found.queries_iter() if query.query_id in qrels]
    except KeyError:
        raise EvalError(f"ir_datasets knows no {name!r}; see https://ir-datasets.com") from None
    except (OSError, RuntimeError) as error:
        raise EvalError(f"{IR_DATASETS}{name} cannot be fetched or read: {error}") from error
    if not qrels:
        raise EvalError(f"{IR_DATASETS}{name} has no judgement; name a collection with judgements")
    place = Path(f"{IR_DATASETS}{name}")
    queries = judged_texts(place, place, qrels, _checked(asked), skip_bad=skip_bad)
    digests = {"queries": digest(queries), "qrels": digest(qrels)}
    return Dataset(str(place), split, place, queries, qrels, reader=IrDatasetsReader(found), digests=digests)


def _checked(queries: Sequence[tuple[str, str]]) -> Callable[..., list[tuple[str, str]]]:
    """Returns what gives queries as `read_queries` does, without a file."""

    def read(_path: Path, *, skip_bad: bool, on_bad: Callable[[IngestError], None]) -> list[tuple[str, str]]:
        reject = rejecter(skip_bad=skip_bad, on_bad=on_bad)
        found: dict[str, str] = {}
        for name, given in queries:
            try:
                query, text = check_query(name, given)
                if found.setdefault(query, text) != text:
                    raise RepeatedQueryError(query, f"duplicate query id {query!r}, with another text")
            except IngestError as error:
                reject(error)
        return list(found.items())

    return read


class IrDatasetsReader:
    """Reads the documents of a collection of ir_datasets.

    Args:
        found: what its `load` returned.
    """

    def __init__(self, found: Any) -> None:
        self._found = found

    def __call__(
        self,
        *,
        skip_bad: bool = False,
        on_bad: Callable[[IngestError], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Iterator[Document]:
        """Yields the documents, whole; how many bytes they took is not known.

        Raises:
            IngestError: a document that cannot be indexed.
        """
        reject = rejecter(skip_bad=skip_bad, on_bad=on_bad)
        for record in self._found.docs_iter():
            try:
                title = getattr(record, "title", "") or ""
                text = _text(record).removeprefix(title).strip() if title else _text(record)
                yield check_document(Document(record.doc_id, text, title))
            except IngestError as error:
                reject(error)


def _text(record: Any) -> str:
    """Returns what a query or a document says, as the package's own `default_text` has it where there is one."""
    default = getattr(record, "default_text", None)
    return default() if default is not None else record.text

"""The formats of other engines, read: CIFF, which is by term, is turned round; JsonVectorCollection is by document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..index import StoreError, ciff
from ..index.spool import Spool
from .documents import Document, IngestError, check_id, place
from .encoders import Encoders, Vectors
from .errors import QueryError
from .exchange import CIFF, SPARSE, VECTORS, Loaded, facts_in
from .exchange_in import Options, Target, Weights, check_free, loaded, making, strands_of, target_for, workroom
from .ingest import Seen
from .strands import Sparse
from .vectors_json import Vector, find_files, read_vectors

BUCKET = 16_384  # documents that a file's postings are sorted for together
CHUNK = 1024  # documents with vectors that are added together

# CIFF: by term


def read_ciff(path: Path, out: Path, options: Options) -> Loaded:
    """Makes an index of a CIFF file; see `exchange.load`."""
    check_free(out)
    with ciff.Reader(path, on_bytes=options.on_bytes) as reader, workroom(out) as folder:
        told = facts_in(reader.header.description)
        weights = Weights(_strand_of(path, options.strand or told.get("strand")), told)
        names = strands_of(options, weights.strand)
        if len(names) > 1:
            raise QueryError(f"a CIFF file holds no texts, of which other strands could be made: leave out {names}")
        spool = Spool(folder, np.arange(0, max(1, reader.header.limit), BUCKET))
        _turn_round(reader, weights, spool, str(path))
        target = target_for(weights, names, options, str(path))
        with making(out, target) as writer:
            for records, postings in _by_document(reader, spool, weights, str(path)):
                _add(writer, records, postings, weights, target)
        return loaded(out, CIFF, weights, target)


def _strand_of(path: Path, named: Any) -> str:
    if named not in SPARSE:
        raise QueryError(
            f"{path} does not say what its numbers are; name the strand: learned for impacts, lexical for frequencies"
        )
    return named


def _turn_round(reader: ciff.Reader, weights: Weights, spool: Spool, source: str) -> None:
    """Takes all postings lists into the spool, by document."""
    seen = Seen()
    for number, (term, documents, values) in enumerate(reader.postings()):
        if (first := seen.add(term, 0, number)) is not None:
            problem = f"the term {term!r} has the postings lists {first[1] + 1:,} and {number + 1:,}; each has one"
            raise StoreError(f"{source}: {problem}")
        weights.term(term, source)
        weights.seen(values)
        spool.add(documents, np.full(documents.size, number), values)


def _by_document(
    reader: ciff.Reader, spool: Spool, weights: Weights, source: str
) -> Iterator[tuple[list[ciff.Record], tuple[Any, Any, Any]]]:
    """Yields documents a bucket at a time, and their postings as rows, terms and values.

    Raises:
        StoreError: a posting names a document without a record.
        IngestError: an id cannot be one, or comes twice.
    """
    buckets = iter(range(-(-reader.header.limit // BUCKET)))
    for bucket, found in groupby(_checked(reader, source), lambda record: record.number // BUCKET):
        for empty in iter(lambda: next(buckets), bucket):
            _rows([], spool.bucket(empty), weights, source)
        records = list(found)
        yield records, _rows(records, spool.bucket(bucket), weights, source)
    for empty in buckets:
        _rows([], spool.bucket(empty), weights, source)


def _checked(reader: ciff.Reader, source: str) -> Iterator[ciff.Record]:
    seen = Seen()
    for line, record in enumerate(reader.documents(), start=1):
        where = f"{source}, document record {line:,}"
        try:
            check_id(record.id)
        except IngestError as error:
            raise error.at(where) from None
        if (first := seen.add(record.id, 0, line)) is not None:
            raise IngestError(f"the id {record.id!r} is that of record {first[1]:,} too; each has its own", path=where)
        yield record


def _rows(
    records: list[ciff.Record], postings: tuple[Any, Any, Any], weights: Weights, source: str
) -> tuple[Any, Any, Any]:  # fmt: skip
    documents, terms, values = postings
    numbers = np.array([-1, *(record.number for record in records)], np.int64)
    rows = np.searchsorted(numbers, documents.astype(np.int64), side="right") - 1
    if (lost := np.flatnonzero(numbers[rows] != documents)).size:
        term, document = weights.terms[terms[lost[0]]], documents[lost[0]]
        raise StoreError(f"{source}: a posting of {term!r} names document {document:,}, which has no document record")
    return rows - 1, terms, values.astype(np.int64)


def _add(
    writer: Any, records: list[ciff.Record], postings: tuple[Any, Any, Any], weights: Weights, target: Target
) -> None:  # fmt: skip
    rows, _, values = postings
    matrix = target.matrix(weights, *postings, len(records))
    lengths = None
    if weights.strand == "lexical":
        lengths = np.array([record.length for record in records], np.int64)
        sums = np.bincount(rows, weights=values, minlength=len(records))
        weights.other_lengths += int((sums != lengths).sum())
    writer.add([Document(record.id, "") for record in records], {weights.strand: matrix}, None, lengths=lengths)
    weights.documents += len(records)


# JsonVectorCollection: by document


def read_json(path: Path, out: Path, options: Options) -> Loaded:
    """Makes an index of a JsonVectorCollection, which is read twice; see `exchange.load`."""
    check_free(out)
    weights = Weights(options.strand or "learned", texts=True)
    names = strands_of(options, weights.strand)
    numbers = _looked_through(path, weights, others=len(names) > 1, on_bytes=options.on_bytes)
    target = target_for(weights, names, options, str(path))
    vectors = read_vectors(path)
    with making(out, target) as writer:
        while chunk := list(islice(vectors, CHUNK)):
            rows = np.repeat(np.arange(len(chunk)), [len(one.weights) for one in chunk])
            terms = np.array([numbers[term] for one in chunk for term in one.weights], np.int64)
            values = np.array([weight for one in chunk for weight in one.weights.values()], np.float64)
            matrix = target.matrix(weights, rows, terms, values, len(chunk))
            dense, sparse, literal = _made_of_texts(chunk, weights, target)
            writer.add([one.document for one in chunk], {weights.strand: matrix, **sparse}, dense, literal=literal)
    return loaded(out, VECTORS, weights, target)


def _made_of_texts(chunk: list[Vector], weights: Weights, target: Target) -> tuple[Any, Any, Any]:
    """Returns the vectors of the other strands, dense and sparse, and the terms that texts hold themselves."""
    texts = [one.document.full_text for one in chunk]
    others = {name: target.encoders.strand(name) for name in target.encoders.names if name != weights.strand}
    made = Encoders(others, dict.fromkeys(others)).encode_documents(texts) if others else Vectors({}, None, {})
    own = cast("Sparse", target.encoders.strand(weights.strand)).literal_terms(texts) if weights.texts else None
    return made.dense, made.sparse, made.literal if own is None else {**made.literal, weights.strand: own}


def _looked_through(
    path: Path, weights: Weights, *, others: bool, on_bytes: Callable[[int], None]
) -> dict[str, int]:  # fmt: skip
    """Takes note of all terms and weights, and returns the terms' numbers.

    Raises:
        IngestError: a line is broken, an id comes twice, a text that is needed is missing.
    """
    files = {str(file): number for number, file in enumerate(find_files(path))}
    seen, numbers = Seen(), {}
    for vector in read_vectors(path, on_bytes=on_bytes):
        id, has_text = vector.document.id, bool(vector.document.full_text)
        if (first := seen.add(id, files[vector.file], vector.line)) is not None:
            there = place(list(files)[first[0]], first[1])
            raise _at(vector, f"the id {id!r} is that of a document in {there} too; each has its own")
        if others and not has_text:
            raise _at(vector, f"document {id!r} has no contents, of which its other strands could be made")
        for term in vector.weights:
            if numbers.setdefault(term, len(numbers)) == len(weights.terms):
                weights.term(term, str(path))
        _note(vector, weights)
        weights.documents, weights.texts = weights.documents + 1, weights.texts and has_text
    return numbers


def _note(vector: Vector, weights: Weights) -> None:
    values = np.array(list(vector.weights.values()))
    weights.seen(values)
    weights.whole = weights.whole and bool((values == np.rint(values)).all())
    if not weights.whole and weights.strand == "lexical":
        problem = "has weights that are no whole numbers, so no frequencies; load it as the learned strand"
        raise _at(vector, f"document {vector.document.id!r} {problem}")


def _at(vector: Vector, problem: str) -> IngestError:
    return IngestError(problem, path=vector.file, line=vector.line)


READERS: dict[str, Callable[[Path, Path, Options], Loaded]] = {CIFF: read_ciff, VECTORS: read_json}

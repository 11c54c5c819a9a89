"""One sparse strand of an index, out: document by document as JSON, or turned round into CIFF's postings lists."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..index import Snapshot, StoreError, ciff
from ..index.contract import TERM_BASE
from ..index.spool import Spool
from .documents import Document
from .exchange import CIFF, Dumped, described, vocabulary_of
from .outputs import aside, output
from .strands import Sparse
from .streams import kind_of
from .vectors_json import SUFFIXES, VectorsWriter

if TYPE_CHECKING:
    from .retriever import Retriever

CHUNK = 1024  # documents read together
BUCKET = 1 << 22  # postings that are sorted together


class Part(NamedTuple):
    """Some documents in the order of their positions.

    Attributes:
        ids: the external ids.
        texts: what was encoded of each, where it was asked for; else empty.
        starts: int64 (n + 1,), where each document's postings begin.
        columns: int64 (postings,), terms.
        values: int64 (postings,), impacts or frequencies.
        lengths: int64 (n,), in lexical terms, or the sums of the impacts.
    """

    ids: list[str]
    texts: list[str]
    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.int64]
    lengths: NDArray[np.int64]


class _Source:
    """What is written: one strand of one commit."""

    def __init__(self, snapshot: Snapshot, sparse: Sparse) -> None:
        self.snapshot, self.sparse = snapshot, sparse
        self.scale = snapshot.layout.learned_scale or 1.0 if sparse.name == "learned" else None
        self._ids = list(snapshot.all_ids())

    def parts(self, *, texts: bool = False) -> Iterator[Part]:
        """Yields all living documents."""
        for start in range(0, len(self._ids), CHUNK):
            ids = self._ids[start : start + CHUNK]
            found = self.snapshot.positions(ids)
            yield self._part(ids, np.array([found[id] for id in ids], np.int64), texts)

    def _part(self, ids: list[str], positions: NDArray[np.int64], texts: bool) -> Part:
        rows, terms = self.snapshot.sparse_vectors(self.sparse.name, positions)
        rows.sort_indices()
        values = np.rint(rows.data.astype(np.float64) / (self.scale or 1.0)).astype(np.int64)
        starts = rows.indptr.astype(np.int64)
        if self.scale is None:
            lengths = self.snapshot.lengths(positions)
        else:
            sums = np.append(0, np.cumsum(values))
            lengths = sums[starts[1:]] - sums[starts[:-1]]
        stored = self.snapshot.rows(positions.tolist()) if texts else []
        full = [Document(row.id, row.text, row.title).full_text for row in stored]
        columns = terms[rows.indices].astype(np.int64) - TERM_BASE[self.sparse.name]
        return Part(ids, full, starts, columns, values, lengths)


class _Strings:
    """The string of each term: what the encoder says; of hashed terms, what analysing the stored text again gives."""

    def __init__(self, sparse: Sparse) -> None:
        self._sparse = sparse
        vocabulary = vocabulary_of(sparse.encoder)
        self.hashed = vocabulary is None
        self.known: dict[int, str] = dict(enumerate(vocabulary or ()))

    def learn(self, part: Part) -> None:
        """Makes the terms of some documents known.

        Raises:
            StoreError: a stored term is none of its document's text, or has no name.
        """
        if not self.hashed:
            return
        for row, id in enumerate(part.ids):
            own = part.columns[part.starts[row] : part.starts[row + 1]].tolist()
            names = self._sparse.encoder.term_names(part.texts[row])
            if missing := [column for column in own if column not in names]:
                raise StoreError(
                    f"{len(missing)} of the {len(own)} {self._sparse.name} terms of document {id!r} are not in its "
                    f"stored text: {self._sparse.identity.name!r} keeps numbers alone, whose strings are found by "
                    "analysing the text again. An index that was loaded without texts cannot be written; use the file "
                    "that it was made of"
                )
            for column in own:
                self.known.setdefault(column, names[column])


def write(
    retriever: Retriever, sparse: Sparse, out: Path, format: str, on_progress: Callable[[int], None]
) -> Dumped:  # fmt: skip
    """Writes a strand; see `exchange.dump`."""
    writes = _write_ciff if format == CIFF else _write_vectors
    with closing(Snapshot(retriever.folder)) as snapshot, aside(out) as made:
        source = _Source(snapshot, sparse)
        terms, postings = writes(source, _Strings(sparse), made, on_progress)
        return Dumped(str(out), format, sparse.name, snapshot.documents, terms, postings, source.scale)


def _write_vectors(
    source: _Source, strings: _Strings, made: Path, on_progress: Callable[[int], None]
) -> tuple[int, int]:  # fmt: skip
    seen, postings = np.empty(0, np.int64), 0
    with VectorsWriter(made, single=kind_of(made) in SUFFIXES) as writer:
        for part in source.parts(texts=True):
            strings.learn(part)
            named = [strings.known[column] for column in part.columns.tolist()]
            values, starts = part.values.tolist(), part.starts.tolist()
            for row, (id, text) in enumerate(zip(part.ids, part.texts, strict=True)):
                inside = slice(starts[row], starts[row + 1])
                writer.add(id, text, dict(zip(named[inside], values[inside], strict=True)))
            seen, postings = np.union1d(seen, part.columns), postings + part.columns.size
            on_progress(len(part.ids))
    return seen.size, postings


def _write_ciff(
    source: _Source, strings: _Strings, made: Path, on_progress: Callable[[int], None]
) -> tuple[int, int]:  # fmt: skip
    frequencies: Counter[int] = Counter()
    ids: list[str] = []
    lengths = [np.empty(0, np.int64)]
    for part in source.parts(texts=strings.hashed):
        strings.learn(part)
        frequencies.update(part.columns.tolist())
        ids += part.ids
        lengths.append(part.lengths)
    order = sorted(frequencies, key=lambda column: strings.known[column])
    counts = np.array([frequencies[column] for column in order], np.int64)
    header = _header(source, np.concatenate(lengths), counts)
    with tempfile.TemporaryDirectory(dir=made.parent) as scratch, output(made) as handle:
        writer = ciff.Writer(handle, header)
        names = [strings.known[column] for column in order]
        for name, documents, values in _lists(source, order, counts, Path(scratch), on_progress):
            writer.postings(names[name], documents, values)
        for number, (id, length) in enumerate(zip(ids, np.concatenate(lengths).tolist(), strict=True)):
            writer.document(ciff.Record(number, id, length))
    return len(order), int(counts.sum())


def _lists(
    source: _Source,
    order: Sequence[int],
    counts: NDArray[np.int64],
    scratch: Path,
    on_progress: Callable[[int], None],
) -> Iterator[tuple[int, NDArray[np.uint32], NDArray[np.uint32]]]:
    """Yields (place in `order`, documents, values) of each term: the forward copy turned round, a bucket at a time."""
    columns = np.array(order, np.int64)
    ascending = np.argsort(columns)
    starts = _bucket_starts(counts)
    spool, first = Spool(scratch, starts), 0
    for part in source.parts():
        places = ascending[np.searchsorted(columns[ascending], part.columns)]
        spool.add(places, first + np.repeat(np.arange(len(part.ids)), np.diff(part.starts)), part.values)
        first += len(part.ids)
        on_progress(len(part.ids))
    for bucket in range(starts.size):
        places, documents, values = spool.bucket(bucket)
        cuts = np.flatnonzero(np.diff(places)) + 1
        for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), places.size], strict=True):
            if end:
                yield int(places[begin]), documents[begin:end], values[begin:end]


def _bucket_starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the first term of each bucket of about `BUCKET` postings; a more frequent term has one of its own."""
    before = np.cumsum(counts) - counts
    _, starts = np.unique(before // BUCKET, return_index=True)
    return starts.astype(np.int64) if starts.size else np.zeros(1, np.int64)


def _header(source: _Source, lengths: NDArray[np.int64], counts: NDArray[np.int64]) -> ciff.Header:
    total = int(lengths.sum())
    return ciff.Header(
        lists=counts.size,
        documents=lengths.size,
        total_lists=counts.size,
        total_documents=lengths.size,
        total_terms=total,
        average_length=total / lengths.size if lengths.size else 0.0,
        description=_description(source),
    )


def _description(source: _Source) -> str:
    identity, layout = source.sparse.identity, source.snapshot.layout
    if Path(identity.name).is_absolute():  # where a folder lies is nobody else's business
        identity = replace(identity, name=Path(identity.name).name)
    facts: Mapping[str, Any]
    if source.scale is not None:
        facts = {"strand": "learned", "scale": source.scale, "encoder": identity.to_json()}
        words = f"Impacts from {identity.name}; an impact of 1 is a weight of {source.scale:.6g}. Written by plait."
        return described(words, facts)
    language = source.snapshot.settings["encoders"]["lexical"]["source"]
    facts = {"strand": "lexical", "language": language, "k1": layout.k1, "b": layout.b, "encoder": identity.to_json()}
    return described(f"Term frequencies by the analyser {identity.name}. Written by plait.", facts)

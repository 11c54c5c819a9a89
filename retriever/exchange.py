"""Indexes out to the formats that other engines read, and in from those that they write: CIFF and JsonVectorCollection.

`dump` and `load`; see docs/exchange.md for what is kept and what is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..encoders.terms import weighted
from .errors import QueryError, StoreError
from .strands import Sparse

if TYPE_CHECKING:
    from .retriever import Retriever

CIFF, VECTORS = "ciff", "jsonvectors"
FORMATS = (CIFF, VECTORS)
SPARSE = ("learned", "lexical")  # what can be exchanged
_OURS = '{"plait": '  # where what plait says of a file begins in its description


@dataclass(frozen=True)
class Dumped:
    """What `dump` wrote.

    Attributes:
        path: the file or folder.
        format: "ciff" or "jsonvectors".
        strand: "learned": weights are impacts from 1 to 255; or "lexical": they are term frequencies.
        documents: how many.
        terms: how many different ones the documents have.
        postings: how many weights.
        scale: what an impact of 1 is worth in the index; None for frequencies.
    """

    path: str
    format: str
    strand: str
    documents: int
    terms: int
    postings: int
    scale: float | None


@dataclass(frozen=True)
class Loaded:
    """What `load` made of a file.

    Attributes:
        path: the index.
        format: "ciff" or "jsonvectors".
        strand: "learned" or "lexical".
        documents: how many.
        terms: how many different ones the file has.
        postings: how many weights.
        largest: the largest of them, as the file has it.
        scale: what an impact of 1 is worth in the index; None for frequencies.
        exact: whether every weight is kept as it is. Impacts have 8 bits: whole numbers to 255 are. Otherwise a weight
            is off by half a step, `largest` / 510, at most, and none becomes 0; frequencies above 255 are kept as 255.
        unknown_terms: terms that the named encoder does not know.
        unknown_postings: their weights, which are left out.
        other_lengths: documents whose length in the file is not the sum of their frequencies; the file's is kept.
        idf_of_postings: whether the index weighs queries by how many documents hold a term, and had no texts to tell
            a document's own terms from those that a model added: it counts both.
        language: how queries are analysed, for frequencies.
        overlap: for some languages, the share of a sample of the file's frequent terms that analysing them leaves as
            they are, as it must for a query to find them.
    """

    path: str
    format: str
    strand: str
    documents: int
    terms: int
    postings: int
    largest: float
    scale: float | None
    exact: bool
    unknown_terms: int = 0
    unknown_postings: int = 0
    other_lengths: int = 0
    idf_of_postings: bool = False
    language: str | None = None
    overlap: Mapping[str, float] | None = None


def dump(
    retriever: Retriever,
    out: str | PathLike[str],
    *,
    strand: str = "learned",
    format: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Dumped:
    """Writes one sparse strand of an index, as of its last commit, whole or not at all.

    Memory holds the ids of the documents, the different terms, and some million postings.

    Args:
        retriever: the index.
        out: a .ciff or .ciff.gz file; a .jsonl or .jsonl.gz file, or a folder to make, of JsonVectorCollection.
        strand: "learned" for impacts, "lexical" for term frequencies and document lengths.
        format: "ciff" or "jsonvectors"; what the name says where None.
        on_progress: called with the number of documents done since the last call.

    Raises:
        QueryError: the index has no such strand, or the format is unknown.
        StoreError: there is something at `out`, or it cannot be written; or a term has no string that could be found.
    """
    from .exchange_out import write

    sparse, path = _sparse(retriever, strand), Path(out)
    return write(retriever, sparse, path, format_of(path, format), on_progress or (lambda _count: None))


def load(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    format: str | None = None,
    strand: str | None = None,
    strands: str | None = None,
    learned: Any = None,
    dense: Any = "embedded",
    language: str | None = None,
    scale: float | None = None,
    k1: float | None = None,
    b: float | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Loaded:
    """Makes an index of a file that another engine wrote, whole or not at all.

    Memory holds the different terms of the file, a digest for every id, one postings list, and the documents of a
    segment; what is turned round lies in a temporary folder beside `out` meanwhile.

    Args:
        source: a .ciff file, or a file or folder of JsonVectorCollection, each also compressed.
        out: the index folder to make.
        format: "ciff" or "jsonvectors"; what the name says where None.
        strand: what the weights are: "learned" for impacts, "lexical" for term frequencies. Where None, what plait
            wrote into the file, and "learned" for JsonVectorCollection.
        strands: the strands of the index, as "learned,dense": others are made of the texts, which must be there; where
            None, the one of the weights alone.
        learned: an encoder for queries (a name or a SparseEncoder) whose terms are those of the file. Where None,
            queries are weighted terms (see `plait.encoders.terms`), and the file's terms are kept with the index.
        dense: the encoder of a dense strand beside.
        language: how queries are analysed where the weights are frequencies, as "porter" for an Anserini index, or
            how texts are for a lexical strand beside; where None, what plait wrote into the file, or what fits its
            terms best.
        scale: what a weight of 1 is worth; where None, what plait wrote into the file, or 1. It changes no ranking
            of the strand alone.
        k1: BM25's saturation; where None, what plait wrote into the file, or 0.9.
        b: BM25's share of length normalisation; likewise, or 0.4.
        on_bytes: told how many more bytes of the source, as stored, have been used up.

    Raises:
        IngestError, StoreError: the source is broken; the message says where. Nothing is left of the index.
        QueryError: an option is unknown, or lacks.
        MismatchError: the encoder knows none of the file's terms.
    """
    from .exchange_in import Options
    from .exchange_readers import READERS

    path, asked = Path(source), strand if strand is None else _checked(strand)
    options = Options(asked, strands, learned, dense, language, scale, k1, b, on_bytes or (lambda _count: None))
    return READERS[format_of(path, format)](path, Path(out), options)


def weighted_query(retriever: Retriever, query: str, *, strand: str = "learned") -> str:
    """Returns what a query weighs in a strand as text, "snow^2.5 melt^1.25": what `TermsEncoder` reads back.

    The weights are those that the index searches with, inverse document frequencies included.
    """
    from contextlib import closing

    from ..index import Snapshot

    sparse = _sparse(retriever, strand)
    with closing(Snapshot(retriever.folder)) as snapshot:
        (asked,) = sparse.encode([query], snapshot)
    names = (asked.names[term] for term in asked.terms.tolist())
    return weighted(dict(zip(names, asked.weights.tolist(), strict=True)))


def format_of(path: Path, format: str | None) -> str:
    """Returns the format that is asked for, or that a name says.

    Raises:
        QueryError: there is no such format.
    """
    if format is None:
        return CIFF if ".ciff" in [suffix.lower() for suffix in path.suffixes] else VECTORS
    if format not in FORMATS:
        raise QueryError(f"no format {format!r}; there are: {', '.join(FORMATS)}")
    return format


def vocabulary_of(encoder: Any) -> list[str] | None:
    """Returns the string of each column of an encoder; None where it has none, as where columns are hashes."""
    tell = getattr(encoder, "vocabulary", None)
    if tell is not None:
        return tell()
    inner = getattr(encoder, "encoder", getattr(encoder, "documents", None))  # behind a cache, or one of a pair
    return None if inner is None else vocabulary_of(inner)


def described(words: str, facts: Mapping[str, Any]) -> str:
    """Returns a description for people, with what plait wants to read again behind it."""
    return f"{words} {_OURS}{json.dumps(dict(facts))}}}"


def facts_in(description: str) -> dict[str, Any]:
    """Returns what `described` put into a description; nothing where it is another's."""
    _, ours, text = description.rpartition(_OURS)
    try:
        found = json.loads(ours + text)["plait"] if ours else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _sparse(retriever: Retriever, strand: str) -> Sparse:
    found = retriever.strand(_checked(strand))
    if not isinstance(found, Sparse):
        raise StoreError(f"the strand {strand!r} has no postings to write")
    return found


def _checked(strand: str) -> str:
    if strand not in SPARSE:
        raise QueryError(f"{strand!r} has no postings to exchange; the strands that have are: {', '.join(SPARSE)}")
    return strand

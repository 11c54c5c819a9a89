"""What other engines' files become: terms are columns of an encoder, weights impacts or counts, documents an index."""

from __future__ import annotations

import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..encoders.lexical import LEXICAL_SPACE, term_id
from ..encoders.terms import SPARE, TermsEncoder
from ..index import Layout, StoreError, Writer
from ..index import create as create_index
from ..index.impacts import STEPS
from ..index.incoming import COLUMNS
from .encoders import OWN_TERMS, Encoders, Given, made_with
from .errors import EncoderError, MismatchError, QueryError
from .exchange import Loaded, vocabulary_of
from .languages import chosen_language
from .strands import STRANDS, Sparse, parse_strands

K1, B = 0.9, 0.4  # of BM25, where nobody says
BIGGEST = 1e30  # number that plait reads from a description, or takes as a scale
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


class Options(NamedTuple):
    """What was asked for; see `exchange.load`."""

    strand: str | None
    strands: str | None
    learned: Given | None
    dense: Given
    language: str | None
    scale: float | None
    k1: float | None
    b: float | None
    on_bytes: Callable[[int], None]


@dataclass
class Weights:
    """What is known of a file's weights once all of them have been seen.

    Attributes:
        strand: "learned" or "lexical".
        told: what plait wrote into the file.
        terms: the strings of the terms, by number.
        hashes: of frequencies, each term's column in the lexical strand, by number.
        postings: how many weights.
        largest: the largest of them.
        whole: whether all are whole numbers.
        documents: how many.
        texts: whether all documents have a text.
        unknown: weights of terms without a column.
        other_lengths: documents whose length is not the sum of their frequencies.
    """

    strand: str
    told: Mapping[str, Any] = field(default_factory=dict)
    terms: list[str] = field(default_factory=list)
    hashes: array[int] = field(default_factory=lambda: array("q"))
    postings: int = 0
    largest: float = 0.0
    whole: bool = True
    documents: int = 0
    texts: bool = False
    unknown: int = 0
    other_lengths: int = 0

    @property
    def step(self) -> float:
        """The weight, as the file has it, that one step of an 8-bit impact stands for."""
        return 1.0 if self.exact else self.largest / STEPS

    @property
    def exact(self) -> bool:
        """Whether all weights are kept as they are."""
        return self.whole and self.largest <= STEPS

    def term(self, term: str, source: str) -> None:
        """Takes note of the next term.

        Raises:
            StoreError: there are too many.
        """
        if self.strand == "lexical":
            self.hashes.append(term_id(term))
        elif len(self.terms) >= (most := COLUMNS["learned"] - SPARE):
            raise StoreError(
                f"{source} has more than {most:,} terms; the learned strand has no more columns for them. If its "
                "weights are term frequencies, load it as the lexical strand"
            )
        self.terms.append(term)

    def seen(self, values: NDArray[Any]) -> None:
        """Takes note of weights."""
        self.postings += values.size
        self.largest = max(self.largest, float(values.max(initial=0)))


class Target(NamedTuple):
    """The index to be made: its encoders, and how terms and weights of the file become its columns and impacts.

    Attributes:
        encoders: of all its strands.
        columns: int64 (terms,), the column of each term of the file; -1 where it has none.
        scale: what a weight of 1 is worth.
        layout: of the index.
        language: how queries are analysed, of frequencies.
        overlap: see `Loaded`.
    """

    encoders: Encoders
    columns: NDArray[np.int64]
    scale: float
    layout: Layout
    language: str | None
    overlap: Mapping[str, float] | None

    def matrix(self, weights: Weights, rows: Any, terms: Any, values: Any, count: int) -> Any:
        """Returns the weights of `count` documents, float32 (count, columns), and counts those without a column."""
        from scipy.sparse import csr_matrix

        columns = self.columns[terms]
        known = columns >= 0
        weights.unknown += int(known.size - known.sum())
        width = LEXICAL_SPACE if weights.strand == "lexical" else self.encoders.strand(weights.strand).identity.dim
        scaled = np.asarray(values, np.float64)[known] * self.scale
        data = np.maximum(scaled, _SMALLEST).astype(np.float32)  # whatever is above 0 stays so
        return csr_matrix((data, (np.asarray(rows, np.int64)[known], columns[known])), shape=(count, width))


def target_for(weights: Weights, names: Sequence[str], options: Options, source: str) -> Target:
    """Returns what the index will be.

    Raises:
        MismatchError: the encoder asked for knows none of the terms.
        EncoderError: it does not say what its terms are.
        QueryError: BM25's parameters or the scale are out of range.
    """
    strand, told, scale = weights.strand, weights.told, 1.0
    language, overlap = options.language or _word(told, "language"), None
    learned = options.learned
    if strand == "lexical":
        language, overlap = chosen_language(weights.terms, language)
    else:
        learned = learned or TermsEncoder(weights.terms)
        scale = _scaled(weights, _first(options.scale, _number(told, "scale") or 1.0))
    encoders = made_with(
        names, {"learned": learned or "embedded", "lexical": language or "english", "dense": options.dense}
    )
    columns = _mapped(weights, encoders, source) if strand == "learned" else np.array(weights.hashes, np.int64)
    k1, b = _first(options.k1, _number(told, "k1"), K1), _first(options.b, _number(told, "b"), B)
    if not (0 <= k1 < BIGGEST and 0 <= b <= 1):
        raise QueryError(f"BM25 takes k1 >= 0 and 0 <= b <= 1, not k1={k1}, b={b}; name others for {source}")
    layout = Layout(
        k1=k1,
        b=b,
        learned_scale=weights.step * scale if strand == "learned" else 0.0,
        dim=encoders.strand("dense").identity.dim if "dense" in names else 0,
    )
    return Target(encoders, columns, scale, layout, language if strand == "lexical" else None, overlap)


def _scaled(weights: Weights, scale: float) -> float:
    """Returns the scale where the weights times it are float32 numbers, else raises a QueryError."""
    if weights.postings and (weights.step * scale < _SMALLEST or weights.largest * scale > _LARGEST):
        told = f"a scale of {scale:g} takes weights up to {weights.largest:g} out of the range of float32"
        raise QueryError(f"{told}; give another scale")
    return scale


def _word(told: Mapping[str, Any], name: str) -> str | None:
    value = told.get(name)
    return value if isinstance(value, str) else None


def _number(told: Mapping[str, Any], name: str) -> float | None:
    """Returns a number that plait wrote into the file; None where there is none such as plait writes."""
    value = told.get(name)
    return float(value) if isinstance(value, (int, float)) and 0 <= value < BIGGEST else None


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _mapped(weights: Weights, encoders: Encoders, source: str) -> NDArray[np.int64]:
    """Returns the columns that an encoder has for the terms of a file, by string; -1 for those it does not know."""
    encoder = cast("Sparse", encoders.strand("learned")).encoder
    vocabulary = vocabulary_of(encoder)
    if vocabulary is None:
        raise EncoderError(
            f"{encoder.identity.name!r} does not say which term a column stands for, so terms of a file have no "
            "columns: an encoder for queries has a method vocabulary() that returns the term of each column"
        )
    known = {term: column for column, term in enumerate(vocabulary)}
    columns = np.array([known.get(term, -1) for term in weights.terms], np.int64)
    if columns.size and columns.max() < 0:
        some = ", ".join(map(repr, weights.terms[:5]))
        theirs = ", ".join(map(repr, islice(reversed(known), 5)))
        raise MismatchError(
            f"{encoder.identity.name!r} knows none of the {columns.size:,} terms of {source}, such as {some}; its own "
            f"are such as {theirs}: name the encoder that the file was made with, or none, to ask by weighted terms"
        )
    return columns


@contextmanager
def making(out: Path, target: Target) -> Iterator[Writer]:
    """Makes the index and lends its writer; what was written is committed when the block ends well, else removed."""
    remembered = target.encoders.to_json()
    strand = target.encoders.strand("learned") if "learned" in target.encoders.names else None
    own = strand.encoder if isinstance(strand, Sparse) and isinstance(strand.encoder, TermsEncoder) else None
    if own is not None:
        remembered["learned"]["source"] = OWN_TERMS
    create_index(out, target.layout, {"encoders": remembered, "fusion": "convex", "weights": None, "pipeline": None})
    try:
        if own is not None:
            own.save(out)
        writer = Writer(out)
        try:
            yield writer
            writer.commit()
        finally:
            writer.close()
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def loaded(out: Path, format: str, weights: Weights, target: Target) -> Loaded:
    """Returns what there is to tell."""
    learned = weights.strand == "learned"
    counts_all = learned and target.encoders.strand("learned").identity.query_weights == "idf" and not weights.texts
    return Loaded(
        path=str(out), format=format, strand=weights.strand, documents=weights.documents, terms=len(weights.terms),
        postings=weights.postings, largest=weights.largest, scale=target.scale if learned else None,
        exact=weights.exact, unknown_terms=int((target.columns < 0).sum()), unknown_postings=weights.unknown,
        other_lengths=weights.other_lengths, idf_of_postings=counts_all, language=target.language,
        overlap=target.overlap,
    )  # fmt: skip


def strands_of(options: Options, strand: str) -> tuple[str, ...]:
    """Returns the strands of the index.

    Raises:
        QueryError: the options do not go together.
    """
    names = parse_strands(options.strands) if options.strands is not None else (strand,)
    if strand not in names:
        raise QueryError(f"the weights are those of the {strand} strand, which strands={options.strands!r} leaves out")
    if other := [name for name in names if name not in STRANDS]:
        raise QueryError(f"an index is made with {', '.join(STRANDS)}; name {', '.join(other)} when it is opened")
    for option, name in (("learned", "learned"), ("language", "lexical")):
        if getattr(options, option) is not None and name not in names:
            raise QueryError(f"{option} is for the {name} strand, which this index will not have")
    if options.scale is not None and not (strand == "learned" and 0 < options.scale < BIGGEST):
        raise QueryError(
            f"scale is a number above 0, for impacts; {options.scale!r} was given, for the {strand} strand"
        )
    return names


def check_free(out: Path) -> None:
    """Raises a StoreError where there is something at `out` already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} exists and is not empty; choose another name for the index")


@contextmanager
def workroom(out: Path) -> Iterator[Path]:
    """Lends a temporary folder on the disk of the index."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as folder:
        yield Path(folder)

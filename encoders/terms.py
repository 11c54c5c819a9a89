"""Documents and queries that are weighted already: texts name terms of a fixed vocabulary, and what each weighs.

What an index made of somebody else's impacts is asked with, and the form in which query weights leave plait. A repeated
term counts as often as it is named, as in Anserini's pre-tokenised queries: "snow snow melts" is "snow^2 melts^1".
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .contract import EncoderError, Identity

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TERMS_FILE = "terms.json"
SPARE = 4096  # columns behind those of the vocabulary, for the terms of a query that no document has
_FORMAT = 1


class TermsEncoder:
    """A `SparseEncoder` whose texts are terms, separated by white space, perhaps with weights: "snow melt^2.5".

    A whole word that is in the vocabulary is that term, weighing 1; in any other, what follows the last "^" is the
    weight of what is before it. Terms are compared as they are. Unknown ones are left out of documents; in a query they
    match nothing and belong to its norm, as those of any other encoder do.

    Args:
        vocabulary: the terms, each once; a term's column is its place when they are sorted.
        name: the name in its identity.

    Raises:
        EncoderError: a term comes twice, is empty, or cannot be written as UTF-8.
    """

    def __init__(self, vocabulary: Sequence[str], *, name: str = "terms") -> None:
        self._terms = sorted(vocabulary)
        revision = _checked_hash(self._terms)
        self._identity = Identity(name, revision, "weighted-terms-1", "as given", 0, len(self._terms) + SPARE)

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder: the vocabulary."""
        return self._identity

    def vocabulary(self) -> list[str]:
        """Returns the term of each column, the spare ones left out."""
        return list(self._terms)

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): the weights that the texts give to terms of the vocabulary."""
        return self._encoded(texts, lambda column: column < len(self._terms))

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): the weights of all terms, unknown ones in spare columns."""
        return self._encoded(texts, lambda _column: True)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns a query's terms, by column."""
        terms = ((self._column(term, place), term) for place, term in enumerate(self._weights(text)))
        return dict(terms)

    def _encoded(self, texts: Sequence[str], wanted: Callable[[int], bool]) -> csr_matrix:
        from .queries import csr

        if isinstance(texts, str):
            raise EncoderError("expected a list of texts, got one str: put it in a list")
        rows = [sorted(self._row(text, wanted).items()) for text in texts]
        arrays = [(np.array([c for c, _ in row], np.int32), np.array([w for _, w in row], np.float32)) for row in rows]
        return csr(arrays, self._identity.dim)

    def _row(self, text: str, wanted: Callable[[int], bool]) -> dict[int, float]:
        found: dict[int, float] = {}
        for place, (term, weight) in enumerate(self._weights(text).items()):
            if wanted(column := self._column(term, place)):
                found[column] = found.get(column, 0.0) + weight
        return found

    def _column(self, term: str, place: int) -> int:
        """Returns the column of a term; of an unknown one a spare column, by its place among the terms of a text."""
        return self._columns.get(term, len(self._terms) + min(place, SPARE - 1))

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {term: column for column, term in enumerate(self._terms)}

    def _weights(self, text: str) -> dict[str, float]:
        """Returns what a text's terms weigh, each above 0, in the order in which they come."""
        found: dict[str, float] = {}
        for word in text.split():
            term, weight = (word, 1.0) if word in self._columns else self._split(word)
            found[term] = found.get(term, 0.0) + weight
        return {term: weight for term, weight in found.items() if weight > 0}

    def _split(self, word: str) -> tuple[str, float]:
        """Returns the term and the weight of a word that is no term as it stands.

        Raises:
            EncoderError: a known term comes with something that is no weight.
        """
        term, mark, given = word.rpartition("^")
        weight = _weight(given) if mark and term else None
        if weight is None and mark and term in self._columns:
            raise EncoderError(f"{word!r} gives no weight behind its ^: expected a number, 0 or more, as in 'snow^2.5'")
        return (word, 1.0) if weight is None else (term, weight)

    # On disk

    def save(self, folder: Path) -> None:
        """Writes the vocabulary into a folder, durably, for `open`."""
        facts = {"format": _FORMAT, "hash": self._identity.revision, "name": self._identity.name, "terms": self._terms}
        with (folder / TERMS_FILE).open("w", encoding="utf-8") as handle:
            json.dump(facts, handle, ensure_ascii=False)
            handle.flush()
            os.fsync(handle.fileno())

    @classmethod
    def open(cls, folder: Path) -> TermsEncoder:
        """Returns the encoder that `save` wrote.

        Raises:
            EncoderError: the file is missing, damaged or of another format.
        """
        path = folder / TERMS_FILE
        try:
            facts: Any = json.loads(path.read_text(encoding="utf-8"))
            made = cls(facts["terms"], name=facts["name"])
        except FileNotFoundError:
            raise EncoderError(f"{path} is missing: the index has lost the terms of its columns; restore it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EncoderError(f"{path} cannot be read as a vocabulary ({error}); restore it from a copy") from error
        if facts.get("format") != _FORMAT or made.identity.revision != facts.get("hash"):
            raise EncoderError(f"{path} was changed, or is of another format: its terms do not match its hash")
        return made


def weighted(weights: Mapping[str, float]) -> str:
    """Returns a text that a `TermsEncoder` reads back as these weights, to the last bit of float32."""
    return " ".join(f"{term}^{np.float32(weight)!s}" for term, weight in weights.items())


def _weight(given: str) -> float | None:
    """Returns a weight, or None where it is none that float32 can hold."""
    try:
        weight = float(given)
    except ValueError:
        return None
    return weight if 0 <= weight <= float(np.finfo(np.float32).max) else None


def _checked_hash(terms: Sequence[str]) -> str:
    """Returns a hash of sorted terms.

    Raises:
        EncoderError: one comes twice, is empty, or cannot be written as UTF-8.
    """
    if twice := next((one for one, other in pairwise(terms) if one == other), None):
        raise EncoderError(f"the term {twice!r} is twice in the vocabulary; give each once")
    if terms and not terms[0]:
        raise EncoderError("the vocabulary holds an empty term; remove it")
    try:
        return hashlib.sha256(json.dumps(terms, ensure_ascii=False).encode()).hexdigest()[:16]
    except UnicodeEncodeError as error:
        raise EncoderError(f"the vocabulary holds a term that UTF-8 cannot hold ({error}); remove it") from None

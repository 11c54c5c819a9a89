"""What the index room promises: its errors, the term space that both sparse strands share, and what a strand is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FORMAT = 3

# One 32-bit term space: learned terms are vocabulary ids below, lexical terms are hashes above.
LEXICAL_BASE = 2**20

SparseStrand = Literal["lexical", "learned"]
TERM_BASE: dict[str, int] = {"lexical": LEXICAL_BASE, "learned": 0}


class StoreError(ValueError):
    """An index could not be made, opened, read or written; what was committed before is untouched."""


class CorruptError(StoreError):
    """A file of the index is missing, truncated or changed; the message names it."""


class LockedError(StoreError):
    """Another writer holds the index."""


class FilterError(ValueError):
    """A filter that cannot be read, or asks what the declared columns cannot answer; the message shows where."""


class StoredDocument(Protocol):
    """What the index keeps of a document; any object with these attributes will do."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def metadata(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def parent(self) -> str | None: ...  # noqa: D102
    @property
    def start(self) -> int: ...  # noqa: D102


class Row(NamedTuple):
    """A stored document as it comes back."""

    position: int
    id: str
    title: str
    text: str
    metadata: dict[str, Any]
    parent: str | None
    start: int


class Hits(NamedTuple):
    """One strand's answer, best first: scores (k,), float64 (float32 of the dense strand), positions int64 (k,)."""

    scores: NDArray[np.floating]
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How impacts are made and laid out; fixed when an index is created, but for `learned_scale`.

    Attributes:
        window: documents to a window of postings, at most 65,536 (offsets are uint16).
        k1, b: BM25's saturation and length normalisation (Lucene's formula).
        learned_scale: the learned weight that one step of an 8-bit impact stands for; 0 until the first weights set it.
            It grows where the index is small beside what comes and does not fit.
        dim: dimensions of the dense vectors; 0 without a dense strand.
        dense_index: how dense vectors are searched: "auto" chooses by the number of documents, "flat" scans them all,
            and a FAISS factory string ("IVF1024,SQ8") names what proposes the rows to score.
    """

    window: int = 8192
    k1: float = 0.9
    b: float = 0.4
    learned_scale: float = 0.0
    dim: int = 0
    dense_index: str = "auto"

    @property
    def scales(self) -> dict[str, float]:
        """Returns what one step of an impact is worth, by sparse strand."""
        return {"lexical": 1 / 255, "learned": self.learned_scale}

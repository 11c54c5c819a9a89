"""Sparse vectors as dense ones: slices of the vocabulary, each kept as its largest weight and where that stood.

Two sliced vectors meet in a gated inner product: slices add up where their largest weights stand in the same place
("Densifying Sparse Representations for Passage Retrieval by Representational Slicing", arXiv 2112.04666). The gate
needs an index of its own, `plait.index.densified`; where there is only an inner product, `DensifiedEncoder` turns each
place into an angle, so that slices of one place add up and those of different places cancel on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .contract import EncoderError, Identity, SparseEncoder
from .manifest import whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

SLICES = 768
_SEED = 2112_04666  # of the angles, which are part of a vector


class Sliced(NamedTuple):
    """Sparse vectors in slices: values float32 (n, slices), places int32 (n, slices), 0 where a slice is empty."""

    values: NDArray[np.float32]
    places: NDArray[np.int32]


def sliced(matrix: csr_matrix, slices: int = SLICES) -> Sliced:
    """Returns the largest weight of each slice of each row, and its place in the slice.

    Column c lies in slice c modulo `slices`: neighbours in a vocabulary are of like frequency, and parted so they
    seldom hide each other. Of equal weights the first column is kept.

    Args:
        matrix: non-negative, (n, vocabulary).
        slices: how many, 1 or more.
    """
    whole_number(slices, "slices", 1)
    rows: Any = matrix.tocsr()
    values = np.zeros((rows.shape[0], slices), np.float32)
    places = np.zeros((rows.shape[0], slices), np.int32)
    owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((-rows.indices, rows.data))  # the last to be written is the largest, of equals the first column
    cells = owners[order], rows.indices[order] % slices
    values[cells] = rows.data[order]
    places[cells] = rows.indices[order] // slices
    return Sliced(values, places)


def gated_inner_products(queries: Sliced, documents: Sliced) -> NDArray[np.float32]:
    """Returns float32 (queries, documents): products of slices whose places are the same, added up."""
    found = np.zeros((len(queries.values), len(documents.values)), np.float32)
    for row, (values, places) in enumerate(zip(*queries, strict=True)):
        open_ = documents.places == places
        found[row] = np.where(open_, documents.values, 0) @ values
    return found


class DensifiedEncoder:
    """A `DenseEncoder` over a sparse one: two numbers a slice, its weight at an angle that its place decides.

    An inner product is then the gated one, plus what slices of different places add to it, which is 0 on average.

    Args:
        encoder: its query weights must be final.
        slices: how many.

    Raises:
        EncoderError: the index would have to weigh the encoder's queries.
    """

    def __init__(self, encoder: SparseEncoder, *, slices: int = SLICES) -> None:
        inner = encoder.identity
        if inner.query_weights != "encoder":
            raise EncoderError(
                f"{inner.name!r} leaves the weights of queries to an index of terms, which a dense index is not: "
                "densify a model with queries=encoded, or one that brings an idf.json"
            )
        self.encoder, self.slices = encoder, whole_number(slices, "densify", 1)
        places = -(-inner.dim // slices)
        angles = np.random.default_rng(_SEED).uniform(0, 2 * np.pi, (places, slices))
        self._cosines, self._sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self._identity = replace(inner, activation=f"{inner.activation}/slices={slices}", dim=2 * slices)

    @property
    def identity(self) -> Identity:
        """What moves a document's vector."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), 2 x slices), C-contiguous."""
        return self._turned(self.encoder.encode_documents(texts))

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), 2 x slices), C-contiguous."""
        return self._turned(self.encoder.encode_queries(texts))

    def _turned(self, matrix: csr_matrix) -> NDArray[np.float32]:
        values, places = sliced(matrix, self.slices)
        columns = np.arange(self.slices)
        parts = [values * table[places, columns] for table in (self._cosines, self._sines)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)

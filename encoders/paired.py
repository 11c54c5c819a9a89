"""Two models of one space: one encodes documents, the other, smaller, queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from .contract import DenseEncoder, EncoderError, FullQueries, Identity, SparseEncoder, full_queries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

Side = TypeVar("Side", SparseEncoder, DenseEncoder)


class _Paired(Generic[Side]):
    """What the two pairs share; an index holds documents, so the identity is that of their encoder."""

    def __init__(self, documents: Side, queries: Side) -> None:
        one, other = documents.identity, queries.identity
        if one.dim != other.dim:
            raise EncoderError(
                f"{one.name!r} gives {one.dim:,} columns, {other.name!r} {other.dim:,}: they are no pair"
            )
        self.documents, self.queries = documents, queries
        self._identity = replace(one, query_weights=other.query_weights)

    @property
    def identity(self) -> Identity:
        """What moves a document's vector."""
        return self._identity


class PairedLearned(_Paired[SparseEncoder]):
    """A `SparseEncoder` of two models that share a vocabulary.

    Args:
        documents: what encodes documents.
        queries: what encodes queries.

    Raises:
        EncoderError: they have different vocabularies.
    """

    def __init__(self, documents: SparseEncoder, queries: SparseEncoder) -> None:
        super().__init__(documents, queries)
        if documents.identity.tokenizer != queries.identity.tokenizer:
            names = f"{documents.identity.name!r} and {queries.identity.name!r}"
            raise EncoderError(f"{names} have different tokenizers: a term of one is another term of the other")

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim)."""
        return self.documents.encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim)."""
        return self.queries.encode_queries(texts)

    def document_terms(self, texts: Sequence[str]) -> csr_matrix:
        """Returns the terms that documents themselves hold, as queries, for the index's IDF."""
        return getattr(self.documents, "document_terms", self.queries.encode_queries)(texts)

    @property
    def full_queries(self) -> FullQueries | None:
        """What gives full queries for the encoder behind this one; None where nothing does."""
        return full_queries(self.queries)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the readable names of a query's terms, by column."""
        return self.queries.term_names(text)


class PairedDense(_Paired[DenseEncoder]):
    """A `DenseEncoder` of two models of one space.

    Args:
        documents: what encodes documents.
        queries: what encodes queries.

    Raises:
        EncoderError: their vectors differ in length.
    """

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self.documents.encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self.queries.encode_queries(texts)

"""What an encoder is: two small protocols, the identity an index remembers, and the room's errors.

Query and document verbs are kept apart because inference-free encoders are asymmetric: documents pass through a
transformer, queries only through a tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


TRANSFORMER, STATIC = "transformer", "static"
QUERY_WEIGHTS = ("encoder", "idf")
QUERIES = (TRANSFORMER, STATIC)  # where the dense vector of a query may come from


class EncoderError(ValueError):
    """A text could not be encoded, or an encoder could not be loaded; the message says what to do next."""


@dataclass(frozen=True)
class Identity:
    """Everything about an encoder that moves a vector. Two encoders with equal identities give equal vectors.

    Of a dense encoder with static queries it is everything that moves a document's vector: the queries of another
    table still meet the same index.

    Attributes:
        name: what was asked for: an embedded name, a hub name or a folder.
        revision: hash of the weights (or of the analyser's settings).
        tokenizer: hash of the tokenizer.
        activation: how token states become a vector, as in "mean+l2", "max+log1p" or "tf".
        max_length: tokens read of a text; 0 when there is no limit.
        dim: dimensions of a dense vector, columns of a sparse one.
        query_weights: "encoder" when query vectors are final; "idf" when they hold counts or presence that the index
            weights by its own inverse document frequencies.
    """

    name: str
    revision: str
    tokenizer: str
    activation: str
    max_length: int
    dim: int
    query_weights: str = "encoder"

    def __post_init__(self) -> None:
        """Raises an `EncoderError` where `query_weights` is neither of the two."""
        if self.query_weights not in QUERY_WEIGHTS:
            allowed = " or ".join(map(repr, QUERY_WEIGHTS))
            raise EncoderError(f"query_weights of {self.name!r} is {self.query_weights!r}; expected {allowed}")

    def to_json(self) -> dict[str, Any]:
        """Returns the identity as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Identity:
        """Returns the identity that `to_json` wrote; unknown keys are an error."""
        return cls(**values)

    def differences(self, other: Identity) -> list[str]:
        """Returns the names of the fields in which two identities differ; `name` alone moves no vector."""
        return [f.name for f in fields(self) if f.name != "name" and getattr(self, f.name) != getattr(other, f.name)]


@runtime_checkable
class SparseEncoder(Protocol):
    """Text to non-negative sparse vectors."""

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): weights of expansion terms, or term counts for a lexical analyser."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim); an empty row where a text has no terms."""
        ...

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the readable names of a query's terms, by column."""
        ...


@runtime_checkable
class FullQueries(Protocol):
    """A sparse encoder whose queries can say more where no dense strand hears them: see `full_queries`."""

    def encode_full_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim), weights as those of `SparseEncoder.encode_queries`."""
        ...

    def column_names(self, columns: Iterable[int]) -> dict[int, str]:
        """Returns the readable names of some columns, by column."""
        ...


@runtime_checkable
class DenseEncoder(Protocol):
    """Text to dense vectors, compared by inner product."""

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        ...


@runtime_checkable
class JointEncoder(Protocol):
    """Text to both strands in one forward pass.

    An encoder of one strand alone that is half of a joint one has it as its attribute `joint`; a retriever whose
    learned and dense encoders have the same encodes documents once, for both.
    """

    def encode_documents(self, texts: Sequence[str]) -> tuple[csr_matrix, NDArray[np.float32]]:
        """Returns the sparse and the dense vectors of the same texts."""
        ...


def full_queries(encoder: Any) -> FullQueries | None:
    """Returns what gives full queries for an encoder; None where nothing does.

    An encoder in front of another says so by an attribute `full_queries`.
    """
    return encoder if isinstance(encoder, FullQueries) else getattr(encoder, "full_queries", None)


def no_table(name: str) -> str:
    """Returns what to say where static queries are asked of a model without a query table."""
    return f"{name} has no static query table: use queries={TRANSFORMER!r}"

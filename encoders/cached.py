"""Encoders in front of a vector cache: a text that it knows costs a read, and comes back bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .cache import Space, VectorCache, key_of
from .contract import (
    TRANSFORMER,
    DenseEncoder,
    EncoderError,
    FullQueries,
    Identity,
    JointEncoder,
    SparseEncoder,
    full_queries,
)
from .onnx_runtime import check_texts
from .queries import csr

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

PIECE = 4096  # texts that are encoded and kept at a time: what a crash can cost
_AT_ONCE = 256  # what the retriever encodes at a time
_DOCUMENT, _QUERY = "document", "query"


class _Form(Protocol):
    """How one kind of vector is kept."""

    kind: str

    def checked(self, vectors: Any, texts: int, dim: int) -> Any:
        """Returns what an encoder made of so many texts, or raises an `EncoderError`."""
        ...

    def is_sound(self, value: bytes) -> bool:
        """Returns whether a row holds finite numbers alone; another is not kept, so that a fault does not last."""
        ...

    def pack(self, vectors: Any) -> list[bytes]: ...

    def fits(self, value: bytes, dim: int) -> bool: ...

    def unpack(self, values: Sequence[bytes], dim: int) -> Any: ...


class _DenseForm:
    """A row is float32, little-endian."""

    kind = "dense"

    def pack(self, vectors: NDArray[np.float32]) -> list[bytes]:
        return [row.tobytes() for row in np.ascontiguousarray(vectors, "<f4")]

    def fits(self, value: bytes, dim: int) -> bool:
        return len(value) == 4 * dim and self.is_sound(value)

    def checked(self, vectors: Any, texts: int, dim: int) -> NDArray[np.float32]:
        found = np.asarray(vectors)
        if found.shape != (texts, dim) or found.dtype.kind not in "fiub":
            raise EncoderError(_unlike(found, "an array of numbers", texts, dim))
        return found

    def is_sound(self, value: bytes) -> bool:
        return bool(np.isfinite(np.frombuffer(value, "<f4")).all())

    def unpack(self, values: Sequence[bytes], dim: int) -> NDArray[np.float32]:
        return np.frombuffer(bytearray().join(values), "<f4").astype(np.float32, copy=False).reshape(len(values), dim)


class _SparseForm:
    """A row is its columns, uint32, and then its weights, float32, all little-endian, in the encoder's order."""

    kind = "sparse"

    def pack(self, vectors: csr_matrix) -> list[bytes]:
        columns, weights = vectors.indices.astype("<u4"), vectors.data.astype("<f4")
        inside = [slice(start, end) for start, end in pairwise(np.asarray(vectors.indptr).tolist())]
        return [columns[some].tobytes() + weights[some].tobytes() for some in inside]

    def fits(self, value: bytes, dim: int) -> bool:
        return len(value) % 8 == 0 and self.is_sound(value) and (not value or self._row(value)[0].max() < dim)

    def checked(self, vectors: Any, texts: int, dim: int) -> csr_matrix:
        from scipy.sparse import csr_matrix, issparse

        if not issparse(vectors) or vectors.shape != (texts, dim):
            raise EncoderError(_unlike(vectors, "a scipy.sparse matrix", texts, dim))
        return vectors if vectors.format == "csr" else csr_matrix(vectors)

    def is_sound(self, value: bytes) -> bool:
        return bool(np.isfinite(np.frombuffer(value[len(value) // 2 :], "<f4")).all())

    def unpack(self, values: Sequence[bytes], dim: int) -> csr_matrix:
        return csr([self._row(value) for value in values], dim)

    def _row(self, value: bytes) -> tuple[NDArray[Any], NDArray[np.float32]]:
        middle = len(value) // 2
        columns, weights = np.frombuffer(value[:middle], "<u4"), np.frombuffer(value[middle:], "<f4")
        return columns.astype(np.int64), weights.astype(np.float32)


def _unlike(found: Any, expected: str, texts: int, dim: int) -> str:
    shape = getattr(found, "shape", None)
    what = f"an object of the class {type(found).__name__}" if shape is None else f"{type(found).__name__} {shape}"
    return f"the encoder behind the cache returned {what}; expected {expected} ({texts}, {dim})"


_DENSE, _SPARSE = _DenseForm(), _SparseForm()


@dataclass(frozen=True)
class _Half:
    """One kind of vector of one encoder."""

    space: Space
    form: _Form
    dim: int

    @classmethod
    def of(cls, identity: Identity, form: _Form, side: str) -> _Half:
        return cls(Space.of(identity, form.kind, side), form, identity.dim)

    def known(self, cache: VectorCache, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = cache.get(self.space, keys)
        return {key: value for key, value in found.items() if self.form.fits(value, self.dim)}

    def sound(self, pairs: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Returns those rows that are worth keeping."""
        return {key: value for key, value in pairs.items() if self.form.is_sound(value)}


def _through(
    cache: VectorCache, halves: Sequence[_Half], texts: Sequence[str], encode: Callable[[list[str]], Sequence[Any]]
) -> list[Any]:
    """Returns the vectors of texts for each half; `encode` makes those of texts of which a half is missing."""
    check_texts(texts)
    keys = [key_of(text) for text in texts]
    known = [half.known(cache, list(dict.fromkeys(keys))) for half in halves]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if not all(key in one for one in known)}
    cache.counted(asked=len(keys), found=sum(key not in missing for key in keys))
    waiting = list(missing)
    for start in range(0, len(waiting), PIECE):
        piece = waiting[start : start + PIECE]
        made = encode([missing[key] for key in piece])
        if not isinstance(made, (tuple, list)) or len(made) != len(halves):
            raise EncoderError(f"the joint encoder behind the cache returned no pair, but {type(made).__name__}")
        rows = [half.form.checked(one, len(piece), half.dim) for half, one in zip(halves, made, strict=True)]
        packed = [half.form.pack(one) for half, one in zip(halves, rows, strict=True)]
        values = [dict(zip(piece, one, strict=True)) for one in packed]
        cache.put({half.space: half.sound(pairs) for half, pairs in zip(halves, values, strict=True)})
        for one, pairs in zip(known, values, strict=True):
            one.update(pairs)
    return [
        half.form.unpack([one[key] for key in keys], half.dim) for half, one in zip(halves, known, strict=True)
    ]  # fmt: skip


class CachedJoint:
    """A `JointEncoder` in front of a cache: a text of which either half is missing is encoded once, for both.

    Args:
        joint: the encoder of both strands.
        learned: the identity of its learned half.
        dense: the identity of its dense half.
        cache: where vectors are kept.
    """

    def __init__(self, joint: JointEncoder, learned: Identity, dense: Identity, cache: VectorCache) -> None:
        self.inner, self._cache = joint, cache
        self._halves = (_Half.of(learned, _SPARSE, _DOCUMENT), _Half.of(dense, _DENSE, _DOCUMENT))

    def encode_documents(self, texts: Sequence[str]) -> tuple[csr_matrix, NDArray[np.float32]]:
        """Returns the sparse and the dense vectors of the same texts."""
        sparse, dense = _through(self._cache, self._halves, texts, self.inner.encode_documents)
        return sparse, dense


class _Cached:
    """What the two encoders of one strand share.

    Args:
        encoder: what makes vectors that are not there.
        cache: where vectors are kept.
        joint: the cached joint encoder that this one is half of.
        queries: whether vectors of queries are kept, too. An encoder whose queries come from a table or another model
            has none kept: these are no part of its identity.
    """

    _form: _Form

    def __init__(
        self, encoder: Any, cache: VectorCache, *, joint: CachedJoint | None = None, queries: bool = False
    ) -> None:  # fmt: skip
        self.encoder, self.joint, self._cache = encoder, joint, cache
        self.load_name: str | None = getattr(encoder, "load_name", None)
        self.at_once: int = getattr(encoder, "at_once", _AT_ONCE)
        self._keeps_queries = queries and getattr(encoder, "queries", None) in (None, TRANSFORMER)

    @property
    def queries(self) -> str | None:
        """Where queries come from, if the encoder says so."""
        return getattr(self.encoder, "queries", None)

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder; a cache moves none."""
        return self.encoder.identity

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Returns the vectors of documents, from the cache where it has them."""
        return self._kept(texts, _DOCUMENT, self.encoder.encode_documents)

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Returns the vectors of queries."""
        if not self._keeps_queries:
            return self.encoder.encode_queries(texts)
        return self._kept(texts, _QUERY, self.encoder.encode_queries)

    def _kept(self, texts: Sequence[str], side: str, encode: Callable[[list[str]], Any]) -> Any:
        half = _Half.of(self.identity, self._form, side)
        return _through(self._cache, [half], texts, lambda some: [encode(some)])[0]


class CachedDense(_Cached):
    """A `DenseEncoder` in front of a cache; see `cached`."""

    _form = _DENSE


class CachedSparse(_Cached):
    """A `SparseEncoder` in front of a cache; see `cached`."""

    _form = _SPARSE

    def document_terms(self, texts: Sequence[str]) -> csr_matrix:
        """Returns the documents' own terms, which cost no model."""
        return getattr(self.encoder, "document_terms", self.encoder.encode_queries)(texts)

    @property
    def full_queries(self) -> FullQueries | None:
        """What gives full queries for the encoder behind this one; None where nothing does."""
        return full_queries(self.encoder)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the readable names of a query's terms, by column."""
        return self.encoder.term_names(text)


def cached_dense(encoder: DenseEncoder, cache: VectorCache, *, queries: bool = False) -> CachedDense:
    """Returns a dense encoder in front of a cache; `queries` keeps the vectors of queries, too."""
    return CachedDense(encoder, cache, queries=queries)


def cached_learned(encoder: SparseEncoder, cache: VectorCache, *, queries: bool = False) -> CachedSparse:
    """Returns a sparse encoder in front of a cache; `queries` keeps the vectors of queries, too."""
    return CachedSparse(encoder, cache, queries=queries)


def cached_pair(
    learned: SparseEncoder, dense: DenseEncoder, cache: VectorCache, *, queries: bool = False
) -> tuple[CachedSparse, CachedDense]:
    """Returns both encoders in front of a cache; halves of one joint encoder stay halves of one."""
    joint: Any = getattr(learned, "joint", None)
    together = None
    if joint is not None and joint is getattr(dense, "joint", None):
        together = CachedJoint(joint, learned.identity, dense.identity, cache)
    return (
        CachedSparse(learned, cache, joint=together, queries=queries),
        CachedDense(dense, cache, joint=together, queries=queries),
    )

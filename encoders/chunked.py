"""Long texts as one vector: cut into overlapping windows, encode each, aggregate.

The one entry point is `chunked`. A text that fits into one window keeps the vector that the encoder itself gives it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from .contract import DenseEncoder, EncoderError, FullQueries, Identity, SparseEncoder, full_queries
from .manifest import whole_number
from .onnx_runtime import check_texts
from .windows import LEAST_SIZE, Windows, windows_for

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

GROUP = 256  # windows that the wrapped encoder is given at once: memory does not grow with the length of a text
UNIT = 0.01  # vectors whose length is so near to 1 are meant to have it, in half precision too
SPARSE, DENSE = "sparse", "dense"
# What each kind knows, its default first.
AGGREGATES: dict[str, tuple[str, ...]] = {SPARSE: ("max", "sum", "mean"), DENSE: ("mean", "max")}


def chunked(
    encoder: Any, *, aggregate: str | None = None, size: int | None = None, overlap: int | None = None
) -> ChunkedSparse | ChunkedDense:
    """Returns an encoder that reads documents of any length; queries are left as they are.

    Both halves of a joint encoder, cut alike, still share one pass: what this returns for them has one `joint`.

    Args:
        encoder: a SparseEncoder or a DenseEncoder; also a face of a joint one.
        aggregate: how windows become one vector, see `AGGREGATES`: "max" (the default), "sum" or "mean" of sparse
            weights; "mean" (the default) or "max" of dense ones, brought to length one where the windows' vectors
            have it. The windows of a text are about equally long, so the mean takes each as often as the others.
        size: tokens of a window, special ones and the encoder's prompt included; the encoder's limit where None.
        overlap: tokens that neighbouring windows share, at most half of a window; an eighth of one where None.

    Raises:
        EncoderError: an option that cannot be, or an encoder without a limit and no size.
    """
    kind = _kind(encoder)
    how = AGGREGATES[kind][0] if aggregate is None else aggregate
    if how not in AGGREGATES[kind]:
        raise EncoderError(f"{kind} vectors are aggregated by {', '.join(AGGREGATES[kind])}, not {aggregate!r}")
    limit = encoder.identity.max_length
    if size is None and not limit:
        raise EncoderError(f"{encoder.identity.name!r} reads texts of any length: give size to cut them nevertheless")
    tokens = limit if size is None else whole_number(size, "size", LEAST_SIZE, limit or 2**31)
    shared = tokens // 8 if overlap is None else whole_number(overlap, "overlap", 0, tokens // 2)
    return _KINDS[kind](encoder, how, windows_for(encoder, tokens, shared))


def _kind(encoder: Any) -> str:
    """Returns whether an encoder is a sparse or a dense one."""
    if isinstance(encoder, (ChunkedSparse, ChunkedDense)):
        raise EncoderError(f"{encoder.identity.name!r} is chunked already: give the encoder inside it")
    if isinstance(encoder, SparseEncoder):
        return SPARSE
    if isinstance(encoder, DenseEncoder):
        return DENSE
    raise EncoderError(
        f"chunked takes a sparse or a dense encoder, or one face of a joint encoder, not {type(encoder).__name__}"
    )


class _Chunked:
    """What both kinds share: the windows, the identity, and the joint encoder behind two faces."""

    kind = ""

    def __init__(self, encoder: Any, aggregate: str, windows: Windows) -> None:
        self.encoder, self.aggregate, self.windows = encoder, aggregate, windows
        how = f"chunks={aggregate}:{windows}"
        self._identity = replace(encoder.identity, activation=f"{encoder.identity.activation}/{how}", max_length=0)
        base = getattr(encoder, "joint", None)
        self.joint = None if base is None else _shared(base, windows, self.kind, aggregate)
        self.queries = getattr(encoder, "queries", None)  # where they come from, if the encoder says so

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder: the wrapped one's identity, and how texts are cut and aggregated."""
        return self._identity

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Returns what the wrapped encoder makes of queries."""
        return self.encoder.encode_queries(texts)


class ChunkedSparse(_Chunked):
    """A `SparseEncoder` of documents of any length; made by `chunked`."""

    kind = SPARSE

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): the windows' weights, aggregated."""
        return self._pooled(self.encoder.encode_documents, texts, self.aggregate)

    def document_terms(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): the terms that whole texts hold, as queries have them, cut nowhere."""
        return self._pooled(self.encoder.encode_queries, texts, "max")

    @property
    def full_queries(self) -> FullQueries | None:
        """What gives full queries for the encoder behind this one; None where nothing does."""
        return full_queries(self.encoder)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the readable names of a query's terms, by column."""
        return self.encoder.term_names(text)

    def _pooled(self, encode: Callable[[list[str]], Any], texts: Sequence[str], how: str) -> csr_matrix:
        (rows,) = _aggregated(lambda group: (encode(group),), texts, self.windows, (partial(pool_sparse, how=how),))
        return rows


class ChunkedDense(_Chunked):
    """A `DenseEncoder` of documents of any length; made by `chunked`."""

    kind = DENSE

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous: the windows' vectors, aggregated."""
        pool = partial(pool_dense, how=self.aggregate)
        (vectors,) = _aggregated(lambda group: (self.encoder.encode_documents(group),), texts, self.windows, (pool,))
        return vectors


_KINDS: dict[str, Callable[..., Any]] = {SPARSE: ChunkedSparse, DENSE: ChunkedDense}


class ChunkedJoint:
    """A `JointEncoder` of documents of any length, shared by the chunked faces of one joint encoder.

    Args:
        base: the joint encoder inside.
        windows: how texts are cut.
        ways: how each kind is aggregated, by kind, as its faces say; never changed once said.
    """

    def __init__(self, base: Any, windows: Windows, ways: dict[str, str]) -> None:
        self.base, self.windows, self.ways = base, windows, ways

    def encode_documents(self, texts: Sequence[str]) -> tuple[csr_matrix, NDArray[np.float32]]:
        """Returns the sparse and the dense vectors of the same texts, each window encoded once for both."""
        sparse, dense = (self.ways.get(kind, AGGREGATES[kind][0]) for kind in (SPARSE, DENSE))
        pools = (partial(pool_sparse, how=sparse), partial(pool_dense, how=dense))
        rows, vectors = _aggregated(self.base.encode_documents, texts, self.windows, pools)
        return rows, vectors


_joints: WeakValueDictionary[int, ChunkedJoint] = WeakValueDictionary()
_numbers = itertools.count()
_joining = threading.Lock()


def _shared(base: Any, windows: Windows, kind: str, aggregate: str) -> ChunkedJoint:
    """Returns the newest chunked joint encoder that a face may join: cut alike, its own kind aggregated alike."""
    with _joining:
        for _, found in sorted(_joints.items(), reverse=True):
            alike = found.base is base and found.windows == windows
            if alike and found.ways.setdefault(kind, aggregate) == aggregate:
                return found
        made = _joints[next(_numbers)] = ChunkedJoint(base, windows, {kind: aggregate})
        return made


# From windows to texts

Pool = Callable[[Sequence[Any], Sequence["NDArray[np.intp]"], int], Any]


def _aggregated(
    encode: Callable[[list[str]], Sequence[Any]], texts: Sequence[str], windows: Windows, pools: Sequence[Pool]
) -> list[Any]:
    """Returns for each pool what it makes of the windows' vectors; no more than `GROUP` windows are encoded at once."""
    check_texts(texts)
    pairs = ((number, window) for number, text in enumerate(texts) for window in windows(text))
    owners: list[NDArray[np.intp]] = []
    parts: list[list[Any]] = [[] for _ in pools]
    for group in _groups(pairs):
        owners.append(np.array([number for number, _ in group], np.intp))
        for held, vectors in zip(parts, encode([window for _, window in group]), strict=True):
            held.append(vectors)
    if not owners:  # the wrapped encoder knows what no text looks like
        return list(encode([]))
    return [pool(held, owners, len(texts)) for pool, held in zip(pools, parts, strict=True)]


def _groups(pairs: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    while group := list(itertools.islice(pairs, GROUP)):
        yield group


def pool_dense(
    parts: Sequence[NDArray[np.float32]], owners: Sequence[NDArray[np.intp]], count: int, *, how: str = "mean"
) -> NDArray[np.float32]:
    """Returns one vector for each owner, float32 (count, dim), of length one where all of its vectors have it.

    Args:
        parts: float32 (n, dim) each, vectors of windows.
        owners: for each part intp (n,), the number of the text that each vector belongs to.
        count: how many texts there are; one without vectors gets zeros.
        how: "mean" or "max".
    """
    vectors, numbers = np.concatenate(parts), np.concatenate(owners)
    held = np.bincount(numbers, minlength=count)[:, None]
    found = np.full((count, vectors.shape[1]), -np.inf if how == "max" else 0.0)
    _FOLDS[how].at(found, numbers, vectors)
    found = np.where(held > 0, found / np.maximum(held, 1) if how == "mean" else found, 0.0)
    plain = np.abs(np.linalg.norm(vectors, axis=1) - 1) > UNIT
    unit = (np.bincount(numbers, plain, minlength=count) == 0) & (held[:, 0] > 1)  # a single vector stays as it is
    norms = np.linalg.norm(found[unit], axis=1, keepdims=True)
    found[unit] /= np.where(norms > 0, norms, 1)
    return np.ascontiguousarray(found, dtype=np.float32)


def pool_sparse(
    parts: Sequence[csr_matrix], owners: Sequence[NDArray[np.intp]], count: int, *, how: str = "max"
) -> csr_matrix:
    """Returns one row for each owner, float32 (count, columns); the arguments are those of `pool_dense`.

    `how` is "max", "sum" or "mean"; a window without a term counts as 0 for it.
    """
    from scipy.sparse import csr_matrix

    columns = _width(parts[0])
    folded = [_folded(*_entries(rows, own, columns), how) for rows, own in zip(parts, owners, strict=True)]
    keys, values = _folded(np.concatenate([k for k, _ in folded]), np.concatenate([v for _, v in folded]), how)
    rows = keys // columns
    if how == "mean":
        held = np.bincount(np.concatenate(owners), minlength=count)
        values = values / held[rows]
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    return csr_matrix((values.astype(np.float32), keys - rows * columns, pointers), shape=(count, columns))


def _width(rows: Any) -> int:
    return int(rows.shape[1])


_FOLDS: Mapping[str, np.ufunc] = {"max": np.maximum, "sum": np.add, "mean": np.add}


def _entries(rows: csr_matrix, owners: NDArray[np.intp], columns: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns (owner, column) as one number and the value of each stored entry."""
    texts = np.repeat(owners.astype(np.int64), np.diff(rows.indptr))
    return texts * columns + rows.indices, rows.data.astype(np.float64)


def _folded(
    keys: NDArray[np.int64], values: NDArray[np.float64], how: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns distinct keys, ascending, and their values folded into one."""
    if not keys.size:
        return keys, values
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[starts], _FOLDS[how].reduceat(values, starts)

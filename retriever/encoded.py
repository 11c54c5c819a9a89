"""What an encoder returned, checked and in the form that the index reads: an encoder may be anybody's.

Built-in encoders return that form already, and pay some microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.contract import EncoderError, Identity

_METHODS = ("encode_documents", "encode_queries")
_NUMBERS = "fiub"  # kinds of dtypes
_LARGEST = float(np.finfo(np.float32).max)


def dense_rows(rows: Any, identity: Identity, texts: int, verb: str) -> NDArray[np.float32]:
    """Returns dense vectors, float32 (texts, dim), C-contiguous; what is that already is not copied.

    Args:
        rows: what the encoder returned.
        identity: of the encoder.
        texts: how many texts it was given.
        verb: the method that returned them.

    Raises:
        EncoderError: they are no such array, or hold what is no finite float32.
    """
    expected = f"an array ({texts}, {identity.dim}) of finite numbers"
    try:
        found = np.asarray(rows)
    except (TypeError, ValueError, RuntimeError):  # a tensor on a GPU, ragged lists
        raise _wrong(identity, verb, _kind(rows), expected) from None
    if found.dtype.kind not in _NUMBERS:
        raise _wrong(identity, verb, _kind(rows), expected)
    if found.shape != (texts, identity.dim):
        raise _wrong(identity, verb, f"an array of the shape {found.shape}", expected)
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(found, np.float32)
    if not np.isfinite(found).all():
        raise _wrong(identity, verb, "NaN or infinite numbers, or some too large for float32", expected)
    return found


def sparse_rows(rows: Any, identity: Identity, texts: int, verb: str) -> Any:
    """Returns sparse vectors, a csr_matrix (texts, dim) with ascending columns, none of them twice in a row.

    Args:
        rows: what the encoder returned: any of SciPy's sparse forms.
        identity: of the encoder.
        texts: how many texts it was given.
        verb: the method that returned them.

    Raises:
        EncoderError: they are no such matrix, or hold weights that are negative or not finite.
    """
    from scipy.sparse import csr_matrix, issparse

    dim = identity.dim
    expected = f"a scipy.sparse matrix ({texts}, {dim}) of finite weights, none of them negative"
    if not issparse(rows) or rows.dtype.kind not in _NUMBERS:
        raise _wrong(identity, verb, _kind(rows), expected)
    if rows.shape != (texts, dim):
        raise _wrong(identity, verb, f"a matrix of the shape {tuple(rows.shape)}", expected)
    found = rows if rows.format == "csr" else csr_matrix(rows)
    columns, weights = found.indices, found.data
    if columns.size and not 0 <= columns.min() <= columns.max() < dim:
        raise _wrong(identity, verb, f"columns from {columns.min()} to {columns.max()}", expected)
    if not _are_weights(weights):
        raise _wrong(identity, verb, "negative, NaN or infinite weights, or some too large for float32", expected)
    if not found.has_canonical_format:
        found = found.copy()
        found.sum_duplicates()
    return found


def names_of(found: Any, identity: Identity, verb: str) -> Mapping[int, str]:
    """Returns the names of terms by column, or raises an `EncoderError` where an encoder returned none."""
    if not isinstance(found, Mapping):
        raise _wrong(identity, verb, _kind(found), "names by column, as {17: 'bee'}, {} where it knows none")
    return found


def halves(found: Any, identity: Identity) -> tuple[Any, Any]:
    """Returns the sparse and the dense vectors that a joint encoder returned, or raises an `EncoderError`."""
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise _wrong(identity, "encode_documents", _kind(found), "the learned and the dense vectors of the texts")
    return found[0], found[1]


def check_encoder(given: Any, strand: str, *methods: str) -> Any:
    """Returns an encoder that a strand can use, so that the check fits into an expression.

    Raises:
        EncoderError: it lacks what the contract asks for (see `plait.encoders.contract`).
    """
    wanted = "give a model's name or an encoder: an object with an identity and the methods " + ", ".join(
        asked := (*_METHODS, *methods)
    )
    if isinstance(given, type):
        raise EncoderError(f"the {strand} encoder is the class {given.__name__}, not one of its objects; {wanted}")
    if lacking := [name for name in asked if not callable(getattr(given, name, None))]:
        raise EncoderError(f"the {strand} encoder is {_kind(given)} without {', '.join(lacking)}; {wanted}")
    if not isinstance(identity := getattr(given, "identity", None), Identity):
        raise EncoderError(f"the {strand} encoder has {_kind(identity)} as its identity, not an Identity; {wanted}")
    return given


def _are_weights(weights: NDArray[Any]) -> bool:
    if not weights.size:
        return True
    least, most = weights.min(), weights.max()  # NaN where there is one
    return bool(least >= 0 and most <= _LARGEST)


def _wrong(identity: Identity, verb: str, found: str, expected: str) -> EncoderError:
    return EncoderError(f"{verb} of the encoder {identity.name!r} returned {found}; expected {expected}")


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of the class {type(value).__name__}"

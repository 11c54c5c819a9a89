"""Queries without a transformer: a weight per distinct token, or a sum of rows of a table."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .contract import EncoderError
from .manifest import PROJECTION, SCALES, TABLE, ModelFolder
from .onnx_runtime import TextTokenizer, check_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Row = tuple[NDArray[np.int32], NDArray[np.float32]]


def no_row() -> Row:
    """Returns the columns and weights of a text without terms."""
    return np.empty(0, np.int32), np.empty(0, np.float32)


def csr(rows: Sequence[Row], dim: int) -> csr_matrix:
    """Returns rows of columns, ascending, and weights as float32 (len(rows), dim)."""
    from scipy.sparse import csr_matrix

    pointers = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(columns) for columns, _ in rows], out=pointers[1:])
    columns = np.concatenate([np.empty(0, np.int32), *(columns for columns, _ in rows)])
    weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)])
    return csr_matrix((weights, columns, pointers), shape=(len(rows), dim))


def expanded(
    columns: NDArray[np.integer], weights: NDArray[np.float32], own: NDArray[np.integer], factor: float
) -> NDArray[np.float32]:
    """Returns a row's weights with those of terms that are none of its text's own tokens times a factor."""
    if factor == 1:
        return weights
    return np.where(np.isin(columns, own), weights, weights * np.float32(factor)).astype(np.float32, copy=False)


def damped(weights: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Returns a row's weights over their Euclidean norm to a power; 0 leaves them as they are."""
    if not power or not weights.size:
        return weights
    norm = float(np.linalg.norm(weights.astype(np.float64)))
    return (weights / np.float32(norm**power)).astype(np.float32, copy=False)


class TokenQueries:
    """Sparse queries: each distinct token weighs 1.0, or what the model's idf.json says; special tokens are no terms.

    Args:
        tokenizer: the model's.
        dim: columns of a query.
        specials: ids of special tokens.
        idf: query weights by token; where empty, each weighs 1.0.
        prompt: what is put before a text.

    Raises:
        EncoderError: there are weights, but none for a token of the vocabulary.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        dim: int,
        *,
        specials: Sequence[int],
        idf: Mapping[str, float],
        prompt: str = "",
    ) -> None:
        self._tokenizer, self._dim, self._prompt = tokenizer, dim, prompt
        self._specials = frozenset(specials)
        self._weights = self._own_weights(idf)

    def _own_weights(self, idf: Mapping[str, float]) -> dict[int, float] | None:
        if not idf:
            return None
        numbers = ((self._tokenizer.number(token), weight) for token, weight in idf.items())
        found = {number: weight for number, weight in numbers if number is not None and weight > 0}
        if not found:
            first = next(iter(idf))
            raise EncoderError(
                f"idf.json weighs no token of the tokenizer (it begins with {first!r}), so no query would have a term: "
                "take the idf.json of this model, or none"
            )
        return found

    def encode(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): one weight per distinct token; an empty row where there is none."""
        check_texts(texts)
        lists = self._tokenizer.id_lists([self._prompt + text for text in texts])
        return csr([self._row(ids) for ids in lists], self._dim)

    def _row(self, ids: list[int]) -> Row:
        terms = sorted(set(ids) - self._specials)
        if self._weights is not None:
            terms = [term for term in terms if term in self._weights]
        weights = [1.0 if self._weights is None else self._weights[term] for term in terms]
        return np.array(terms, dtype=np.int32), np.array(weights, dtype=np.float32)

    def names(self, text: str) -> dict[int, str]:
        """Returns the wordpieces of a text's terms, by column."""
        check_texts([text])
        (ids,) = self._tokenizer.id_lists([self._prompt + text])
        return {term: self._tokenizer.token(term) for term in sorted(set(ids) - self._specials)}


class StaticQueries:
    """Dense queries from a table: the sum of the rows of a text's tokens, repeats counted, projected, at length one.

    Special tokens do not count. A text without other tokens is the zero vector: no document is nearer than another.
    The table is read when the first text is encoded.

    Args:
        folder: the built model, with a table.
        tokenizer: its tokenizer.
    """

    def __init__(self, folder: ModelFolder, tokenizer: TextTokenizer) -> None:
        self._folder, self._tokenizer = folder, tokenizer
        self._specials = frozenset(folder.manifest.specials)
        self._arrays: tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32] | None] | None = None
        self._reading = threading.Lock()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous.

        Raises:
            EncoderError: a text is no str, or the table is damaged.
        """
        check_texts(texts)
        vectors = np.zeros((len(texts), self._folder.manifest.dim), dtype=np.float32)
        for vector, ids in zip(vectors, self._tokenizer.id_lists(texts), strict=True):
            own = [number for number in ids if number not in self._specials]
            if own:
                vector[:] = self._vector(own)
        return vectors

    def _vector(self, ids: list[int]) -> NDArray[np.float32]:
        codes, scales, projection = self._table()
        vector = scales[ids] @ codes[ids].astype(np.float32)
        if projection is not None:
            vector = vector @ projection
        norm = np.linalg.norm(vector)
        return vector / norm if norm > 0 else vector

    def _table(self) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32] | None]:
        with self._reading:
            if self._arrays is None:
                self._arrays = self._read()
            return self._arrays

    def _read(self) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32] | None]:
        folder, dim = self._folder, self._folder.manifest.dim
        codes, scales = folder.array(TABLE), folder.array(SCALES)
        projection = folder.array(PROJECTION) if PROJECTION in folder.manifest.files else None
        width = dim if projection is None else len(projection)
        joint = folder.manifest.joint
        rows = joint.dim if joint else len(codes)
        self._check(TABLE, codes, np.int8, (rows, width))
        self._check(SCALES, scales, np.float32, (rows,))
        if projection is not None:
            self._check(PROJECTION, projection, np.float32, (width, dim))
        return codes, scales, projection

    def _check(self, name: str, array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
        if array.dtype != dtype or array.shape != shape:
            raise EncoderError(
                f"{self._folder.path / name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}: "
                "build the model again"
            )

"""Queries without a transformer: a weight per distinct token, or a sum of rows of a table."""

from __future__ import annotations

import math
import threading
from collections import Counter
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

_TINY = 1e-12


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
        specials: ids of special tokens, and of others that are no terms.
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

    def encode(self, texts: Sequence[str], near: NearTerms | None = None, *, counted: bool = False) -> csr_matrix:
        """Returns float32 (len(texts), dim): one weight per distinct token; an empty row where there is none.

        Args:
            texts: the queries.
            near: gives each query other terms, too.
            counted: a token that a query has n times weighs 1 + ln(n) times as much: what a long query comes back to
                is what it is about (Salton and Buckley 1988).
        """
        check_texts(texts)
        lists = list(self._tokenizer.id_lists([self._prompt + text for text in texts]))
        rows = [self._row(ids, counted=counted) for ids in lists]
        if near is not None:
            rows = [near.joined(row, ids, self._weights) for row, ids in zip(rows, lists, strict=True)]
        return csr(rows, self._dim)

    def _row(self, ids: list[int], *, counted: bool) -> Row:
        terms = sorted(set(ids) - self._specials)
        if self._weights is not None:
            terms = [term for term in terms if term in self._weights]
        weights = np.array([1.0 if self._weights is None else self._weights[term] for term in terms], dtype=np.float32)
        if counted:
            counts = Counter(ids)
            weights *= np.array([1 + math.log(counts[term]) for term in terms], dtype=np.float32)
        return np.array(terms, dtype=np.int32), weights

    def names(self, text: str) -> dict[int, str]:
        """Returns the wordpieces of a text's terms, by column."""
        check_texts([text])
        (ids,) = self._tokenizer.id_lists([self._prompt + text])
        return {term: self._tokenizer.token(term) for term in sorted(set(ids) - self._specials)}


class NearTerms:
    """Terms that a sparse query does not hold, but means: those whose rows of the static table point its way.

    The transformer that knows a query's meaning is spared, and so is the dense strand: what the table of static queries
    knows of it becomes terms. A term at the cosine c from the query's own static vector weighs `factor` (c - .2); the
    nearest 16 that weigh anything are taken. Cosines are rounded to four places: the order in which a processor adds
    must not move a score.

    Args:
        queries: the table.
        terms: ids that may be given, ascending.
        factor: see above.
    """

    MOST = 16
    LEAST = 0.2

    def __init__(self, queries: StaticQueries, terms: NDArray[np.integer], factor: float) -> None:
        self._queries, self._factor = queries, factor
        self._terms = np.asarray(terms, dtype=np.int32)
        self._rows: NDArray[np.float32] | None = None

    def joined(self, row: Row, ids: Sequence[int], known: Mapping[int, float] | None = None) -> Row:
        """Returns a query's row with terms near its tokens `ids`; its own keep their weights.

        Where the model weighs queries itself, `known` has the weights of its terms: others are not given.
        """
        columns, weights = row
        if not columns.size:
            return row
        if self._rows is None:  # 4 bytes a number: a product with 8-bit ones takes numpy ten times as long
            self._rows = self._queries.directions(self._terms)
        # One query at a time: a product of matrices would add in another order, and batches score otherwise.
        cosines = np.round(self._rows @ self._queries.vector(ids), 4)
        found = np.flatnonzero(cosines > self.LEAST)
        found = found[~np.isin(self._terms[found], ids)]
        found = found[np.argsort(-cosines[found], kind="stable")[: self.MOST]]
        terms, near = self._terms[found], np.float32(self._factor) * (cosines[found] - np.float32(self.LEAST))
        if known is not None:
            near = near * np.array([known.get(term, 0.0) for term in terms.tolist()], dtype=np.float32)
            terms, near = terms[near > 0], near[near > 0]
        columns, weights = np.concatenate([columns, terms]), np.concatenate([weights, near])
        order = np.argsort(columns)
        return columns[order], weights[order]


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
            vector[:] = self.vector(ids)
        return vectors

    def directions(self, terms: NDArray[np.integer]) -> NDArray[np.float32]:
        """Returns float32 (terms, dim): the rows of some tokens, projected, each at length one; zero stays zero."""
        codes, scales, projection = self._table()
        rows = codes[terms] * scales[terms, None]
        if projection is not None:
            rows = rows @ projection
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)

    def vector(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Returns float32 (dim,), the vector of a text's tokens; zero where all are special."""
        ids = [number for number in ids if number not in self._specials]
        if not ids:
            return np.zeros(self._folder.manifest.dim, dtype=np.float32)
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

"""Engines that need no package of their own: a product in scipy, eager scoring in numba, and a yardstick file."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import Rows, load

YARDSTICK = "SPARSE_YARDSTICK"  # the environment variable that says where its file is


def best(scores: NDArray[Any], documents: NDArray[Any], k: int) -> NDArray[Any]:
    """Returns the documents of the k largest scores, best first."""
    if scores.size > k:
        chosen = np.argpartition(-scores, k)[:k]
        scores, documents = scores[chosen], documents[chosen]
    return documents[np.argsort(-scores)]


class Inverted:
    """What the engines of this file have in common: an inverted matrix in .npy files."""

    def build(self, rows: Rows, folder: Path) -> None:
        """Writes the inverted matrix."""
        for name, values in zip(("starts", "documents", "impacts"), rows.inverted(), strict=True):
            np.save(folder / f"{name}.npy", values)
        np.save(folder / "size.npy", np.array(rows.size))

    def open(self, folder: Path) -> None:
        """Reads it into memory."""
        self.starts, self.columns, self.impacts = (
            np.load(folder / f"{name}.npy") for name in ("starts", "documents", "impacts")
        )
        self.size = int(np.load(folder / "size.npy"))
        self.width = self.starts.size - 1

    def known(self, queries: Rows, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns the terms of a query that some document has, and their weights."""
        terms, weights = queries.row(i)
        inside = terms < self.width
        return terms[inside], weights[inside]

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the answer's documents."""
        return answer.tolist()

    def facts(self) -> dict[str, Any]:
        """Returns nothing: there is nothing to say."""
        return {}


class Scipy(Inverted):
    """Sparse query times inverted matrix, then argpartition over the documents that match."""

    def open(self, folder: Path) -> None:
        """Reads the matrix; its values are as wide as the scores, or the product would wrap around."""
        from scipy.sparse import csr_matrix

        super().open(folder)
        values = self.impacts.astype(np.int32)
        self.matrix = csr_matrix((values, self.columns, self.starts), shape=(self.width, self.size))

    def calls(self, queries: Rows, k: int) -> list[Callable[[], Any]]:
        """Returns a product and a selection for each query."""
        return [self._call(*self.known(queries, i), k) for i in range(queries.size)]

    def _call(self, terms: Any, weights: Any, k: int) -> Callable[[], Any]:
        from scipy.sparse import csr_matrix

        row = csr_matrix((weights.astype(np.int32), terms.astype(np.int32), [0, terms.size]), shape=(1, self.width))

        def call() -> Any:
            found: Any = row @ self.matrix
            return best(found.data, found.indices, k)

        return call


class Eager(Inverted):
    """Every posting of every term added into one array of scores, in numba, then argpartition: as bm25s does it."""

    def open(self, folder: Path) -> None:
        """Reads the matrix and compiles the sum."""
        from numba import njit

        super().open(folder)
        self.every = np.arange(self.size, dtype=np.int32)

        @njit(nogil=True, boundscheck=False)
        def add(scores, starts, documents, impacts, terms, weights):  # noqa: ANN001, ANN202  # numba infers them
            for t in range(terms.size):
                a, b = starts[terms[t]], starts[terms[t] + 1]
                columns, values = documents[a:b], impacts[a:b]
                for i in range(columns.size):
                    scores[columns[i]] += weights[t] * values[i]

        self.add = add

    def calls(self, queries: Rows, k: int) -> list[Callable[[], Any]]:
        """Returns a sum and a selection for each query."""
        return [self._call(*self.known(queries, i), k) for i in range(queries.size)]

    def _call(self, terms: Any, weights: Any, k: int) -> Callable[[], Any]:
        terms, weights = terms.astype(np.int64), weights.astype(np.int32)

        def call() -> Any:
            scores = np.zeros(self.size, np.int32)
            self.add(scores, self.starts, self.columns, self.impacts, terms, weights)
            return best(scores, self.every, k)

        return call


class Yardstick:
    """A Python file with `build(csr)` and `search(index, terms, weights, k)`, which works on integer query weights."""

    def __init__(self) -> None:
        path = Path(os.environ[YARDSTICK])
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        self.module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = self.module  # numba's cache looks its module up by name
        spec.loader.exec_module(self.module)

    def build(self, rows: Rows, folder: Path) -> None:
        """Keeps the documents: a yardstick knows no files; `open` builds."""
        rows.save(folder)

    def open(self, folder: Path) -> None:
        """Builds it in memory. It scales the largest weight to 255: a further document takes care that it is 255."""
        rows = load(folder)
        with_full = Rows(
            np.append(rows.starts, rows.starts[-1] + 1),
            np.append(rows.terms, np.uint16(rows.width)),
            np.append(rows.values, np.uint8(255)),
        )
        self.size, self.width = rows.size, rows.width
        self.index = self.module.build(with_full.matrix(np.float32))

    def calls(self, queries: Rows, k: int) -> list[Callable[[], Any]]:
        """Returns a search for each query, its weights cut to as many levels as fit its 16-bit sums, at most 63."""
        return [self._call(*queries.row(i), k) for i in range(queries.size)]

    def _call(self, terms: Any, weights: Any, k: int) -> Callable[[], Any]:
        inside = terms < self.width
        terms, weights = terms[inside].astype(np.int64), weights[inside].astype(np.float64)
        levels = max(1, min(63, 65535 // (255 * max(1, terms.size))))
        steps = np.clip(np.rint(weights * levels / weights.max(initial=1)), 1, levels).astype(np.uint32)
        return lambda: self.module.search(self.index, terms, steps, k)

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the documents with a score."""
        scores, documents = answer
        return documents[scores > 0].tolist()

    def facts(self) -> dict[str, Any]:
        """Returns nothing: there is nothing to say."""
        return {}

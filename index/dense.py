"""The dense index of one segment: FAISS Flat, memory-mapped, searched by inner product.

FAISS proposes; `scores` decides. BLAS sums in an order that depends on how many vectors it is given, so the score of a
document is always taken from one fixed row-wise sum and is the same whoever asks, with whatever k.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import CorruptError

MORE = 8  # neighbours asked for beyond k, so that one look usually shows where the top k ends
ROUNDING = 1e-5  # how far FAISS's inner products and ours may be apart, relative to the largest


def row_scores(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns each row's inner product with the query, float32 (n,): the definition of a dense score."""
    return np.multiply(vectors, query, dtype=np.float32).sum(axis=1, dtype=np.float32)


def write_flat(vectors: NDArray[np.float32], path: Path) -> None:
    """Writes vectors float32 (n, dim) as a FAISS Flat index."""
    import faiss

    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    try:
        faiss.write_index(flat, str(path))
    except RuntimeError as error:  # a full disk, as FAISS tells it
        raise OSError(f"{path} could not be written: {error}") from error


class DenseSegment:
    """A FAISS index file, mapped at first use.

    Args:
        path: the file.
        size: documents it must hold.
        dim: their dimensions.
    """

    def __init__(self, path: Path, size: int, dim: int) -> None:
        self.path, self.size, self.dim = path, size, dim
        self._index: Any = None
        self._vectors: NDArray[np.float32] | None = None

    def _open(self) -> Any:
        if self._index is None:
            import faiss

            try:
                index: Any = faiss.read_index(str(self.path), faiss.IO_FLAG_MMAP_IFC)
            except RuntimeError as error:
                raise CorruptError(
                    f"{self.path} cannot be read as a FAISS index: it is damaged or cut short"
                ) from error
            if (index.ntotal, index.d) != (self.size, self.dim):
                expected, found = f"{self.size} vectors of {self.dim}", f"{index.ntotal} vectors of {index.d}"
                raise CorruptError(f"{self.path} holds {found}; the index expects {expected}")
            self._vectors = faiss.rev_swig_ptr(index.get_xb(), self.size * self.dim).reshape(self.size, self.dim)
            self._index = index
        return self._index

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Returns the stored vectors, float32 (size, dim), read-only in spirit: they are mapped from the file."""
        self._open()
        assert self._vectors is not None
        return self._vectors

    def search(
        self, query: NDArray[np.float32], k: int, alive: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns (scores, documents), in no promised order, among which the exact top k are, whatever breaks ties.

        Args:
            query: float32 (dim,).
            k: how many are wanted.
            alive: uint8 (size,), 0 where a document is left out; empty when all may be returned.
        """
        wanted = min(k, self.size)
        asked = min(wanted + MORE, self.size)
        while True:
            rough, documents = self._nearest(query, asked, alive)
            scores = row_scores(self.vectors[documents], query)
            if documents.size < asked or asked == self.size:
                return scores, documents
            # What FAISS left out scores no more than the last it gave, but for rounding: could that reach the k-th?
            reach = np.partition(scores, scores.size - wanted)[scores.size - wanted] - ROUNDING * np.abs(rough).max()
            if rough[-1] < reach:
                return scores, documents
            asked = min(2 * asked, self.size)

    def _nearest(
        self, query: NDArray[np.float32], k: int, alive: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns FAISS's own top k (scores, documents), best first."""
        import faiss

        swig: Any = faiss
        parameters = None
        if alive.size:
            selector = swig.IDSelectorBitmap(np.packbits(alive, bitorder="little"))
            parameters = swig.SearchParameters(sel=selector)
        scores, found = self._open().search(query[None, :], k, params=parameters)
        known = found[0] >= 0
        return scores[0][known], found[0][known].astype(np.int64)

"""Sliced vectors under the gated inner product, proposed by FAISS and scored with the gate (arXiv 2112.04666).

Without the gate the inner product of two sliced vectors is never smaller, for weights are not negative. So FAISS may
propose by the plain product, and as soon as the k-th gated score reaches the plain one of the last proposal, no other
document can be among the first k: the answer is exact, and `search` looks further until it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .contract import CorruptError, StoreError

FACTS, VALUES, PLACES = "densified.json", "values.npy", "places.npy"
FORMAT = 1
_ROUNDING = 1 + 1e-5  # FAISS adds in another order


class GatedHits(NamedTuple):
    """One query's answer: float32 scores (k,), best first, int64 positions (k,), and what it took.

    Attributes:
        scores: gated inner products.
        positions: rows of the documents.
        proposed: how many documents were scored with the gate.
        exact: whether no other document can belong to the answer.
    """

    scores: NDArray[np.float32]
    positions: NDArray[np.int64]
    proposed: int
    exact: bool


class DensifiedIndex:
    """Sliced documents in memory, or memory-mapped.

    Args:
        values: the largest weight of each slice, not negative, float32 (n, slices).
        places: where in its slice it stood, whole numbers (n, slices).

    Raises:
        StoreError: they have different shapes, or a value is negative or no number.
    """

    def __init__(self, values: NDArray[np.float32], places: NDArray[Any]) -> None:
        if values.ndim != 2 or values.shape != places.shape:
            raise StoreError(f"values {values.shape} and places {places.shape} must have the same rows and columns")
        if values.size and not (np.isfinite(values).all() and values.min() >= 0):
            raise StoreError("a sliced vector has weights that are negative or no numbers")
        self.values = np.ascontiguousarray(values, np.float32)
        self.places = places.astype(_smallest(places), copy=False)
        self._plain: Any = None

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self.values)

    def search(
        self,
        values: NDArray[np.float32],
        places: NDArray[Any],
        k: int = 10,
        *,
        depth: int = 100,
        most: int | None = None,
    ) -> GatedHits:
        """Returns the k documents with the largest gated inner product.

        Args:
            values: of the query, float32 (slices,).
            places: of the query, (slices,).
            k: how many.
            depth: how many FAISS proposes at first.
            most: how many it may propose in the end; all documents where None. Fewer may leave the answer inexact.
        """
        limit = len(self) if most is None else min(most, len(self))
        wanted = min(max(depth, k), limit)
        while True:
            plain, rows = self._proposed(values, wanted)
            gated = self.scores(values, places, rows)
            chosen = np.lexsort((rows, -gated))[:k]  # of equal scores the first row
            last = gated[chosen][-1] if len(chosen) == k else 0.0
            exact = wanted == len(self) or bool(len(chosen) == k and last > plain[-1] * _ROUNDING)
            if exact or wanted >= limit:
                return GatedHits(gated[chosen], rows[chosen], wanted, exact)
            wanted = min(4 * wanted, limit)

    def scores(self, values: NDArray[np.float32], places: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the gated inner products of a query with some documents, float32 (len(rows),)."""
        return np.where(self.places[rows] == places, self.values[rows], 0).astype(np.float32) @ values

    def _proposed(self, values: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if not k:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        if self._plain is None:
            import faiss

            self._plain = faiss.IndexFlatIP(self.values.shape[1])
            self._plain.add(self.values)
        scores, rows = self._plain.search(np.ascontiguousarray(values[None], np.float32), k)
        return scores[0], rows[0]

    def save(self, folder: str | Path) -> None:
        """Writes the index into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / VALUES, self.values, allow_pickle=False)
        np.save(folder / PLACES, self.places, allow_pickle=False)
        facts = {"format": FORMAT, "documents": len(self), "slices": int(self.values.shape[1])}
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> DensifiedIndex:
        """Returns the index in a folder.

        Raises:
            StoreError: there is none.
            CorruptError: a file of it is missing or damaged; the message names it.
        """
        folder = Path(folder)
        if not (folder / FACTS).is_file():
            raise StoreError(f"{folder} holds no densified index: it has no {FACTS}")
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            arrays = [np.load(folder / name, allow_pickle=False) for name in (VALUES, PLACES)]
        except (OSError, ValueError) as error:
            raise CorruptError(f"a file of the densified index in {folder} cannot be read: {error}") from error
        if facts.get("format") != FORMAT:
            raise StoreError(f"{folder / FACTS} has format {facts.get('format')!r}, this plait reads {FORMAT}")
        if any(array.shape != (facts["documents"], facts["slices"]) for array in arrays):
            raise CorruptError(f"the arrays in {folder} are not the ones that {FACTS} describes")
        return cls(*arrays)


def _smallest(places: NDArray[Any]) -> Any:
    return np.min_scalar_type(int(places.max(initial=0)))

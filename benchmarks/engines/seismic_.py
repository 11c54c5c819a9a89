"""Seismic: approximate search over clustered, pruned lists."""

# pyright: reportMissingImports=false
# (the package is in the engine's own Python)

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows

BATCH = 65_536


class Seismic:
    """A Seismic index with the settings that its package builds with."""

    def settings(self, documents: int) -> dict[str, Any]:
        """Returns what differs from the package's settings for building."""
        return {}

    def build(self, rows: Rows, folder: Path) -> None:
        """Adds the documents in batches and builds with one thread."""
        from seismic import SeismicDataset, SeismicIndex

        dataset = SeismicDataset(rows.width)
        for start in range(0, rows.size, BATCH):
            part = rows.part(start, start + BATCH)
            ids = [str(start + i) for i in range(part.size)]
            values = part.values.astype(np.float32)
            dataset.add_documents_by_id(ids, part.terms.astype(np.int64), values, np.array(part.starts))
        index = SeismicIndex.build_from_dataset(dataset, num_threads=1, **self.settings(rows.size))
        index.save(str(folder / "index"))

    def open(self, folder: Path) -> None:
        """Loads the index."""
        from seismic import SeismicIndex, get_seismic_string

        self.string = get_seismic_string()
        self.index = SeismicIndex.load(str(folder / "index.index.seismic"))

    def calls(self, queries: Rows, k: int, query_cut: int, heap_factor: float) -> list[Callable[[], Any]]:
        """Returns a search for each query."""

        def made(terms: Any, weights: Any) -> Callable[[], Any]:
            names, values = terms.astype(str).astype(self.string), weights.astype(np.float32)
            return lambda: self.index.search("", names, values, k=k, query_cut=query_cut, heap_factor=heap_factor)

        return [made(*queries.row(i)) for i in range(queries.size)]

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the answer's documents."""
        return [int(document) for _, _, document in answer]

    def facts(self) -> dict[str, Any]:
        """Returns how many documents there are, and what differs from the package's settings for building."""
        return {"documents": self.index.len, **self.settings(self.index.len)}


class Pruned(Seismic):
    """A Seismic index with shorter lists: less is built and less is searched."""

    def settings(self, documents: int) -> dict[str, Any]:
        """Returns a mean length of lists in proportion to the documents: the package's one is for millions."""
        return {"n_postings": max(200, documents // 256)}

"""Qdrant's sparse index, in process, through qdrant-edge."""

# pyright: reportMissingImports=false
# (the package is in the engine's own Python)

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows

BATCH = 4096
NAME = "terms"


class Qdrant:
    """One shard, optimised: its sparse index is the immutable one, in memory, float32, one search thread."""

    def build(self, rows: Rows, folder: Path) -> None:
        """Upserts the documents in batches, then lets the optimiser merge and index them."""
        from qdrant_edge import EdgeShard, Point, SparseVector, UpdateOperation

        shard = EdgeShard.create(str(folder), self._config())
        for start in range(0, rows.size, BATCH):
            part = rows.part(start, start + BATCH)
            points = [
                Point(start + i, {NAME: SparseVector(terms.tolist(), values.astype(np.float64).tolist())}, None)
                for i in range(part.size)
                for terms, values in [part.row(i)]
            ]
            shard.update(UpdateOperation.upsert_points(points))
        while shard.optimize():
            pass
        shard.flush()
        shard.close()

    def _config(self) -> Any:
        from qdrant_edge import EdgeConfig, EdgeOptimizersConfig, EdgeSparseVectorParams, Memory, VectorStorageDatatype

        vectors = EdgeSparseVectorParams(datatype=VectorStorageDatatype.Float32, memory=Memory.Pinned)
        return EdgeConfig(
            sparse_vectors={NAME: vectors},
            optimizers=EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1, max_segment_size=2**40),
            max_search_threads=1,
            wal_enabled=False,
        )

    def open(self, folder: Path) -> None:
        """Loads the shard."""
        from qdrant_edge import EdgeShard

        self.shard = EdgeShard.load(str(folder), self._config())

    def calls(self, queries: Rows, k: int) -> list[Callable[[], Any]]:
        """Returns a search for each query."""
        from qdrant_edge import Query, SearchRequest, SparseVector

        def made(terms: Any, weights: Any) -> Callable[[], Any]:
            vector = SparseVector(terms.tolist(), weights.astype(np.float64).tolist())
            request = SearchRequest(Query.Nearest(vector, using=NAME), k, with_vector=False, with_payload=False)
            return lambda: self.shard.search(request)

        return [made(*queries.row(i)) for i in range(queries.size)]

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the answer's documents."""
        return [point.id for point in answer]

    def facts(self) -> dict[str, Any]:
        """Returns how many segments there are, and how many vectors are in an optimised one."""
        info = self.shard.info()
        return {"segments": info.segments_count, "indexed": info.indexed_vectors_count}

"""BMP: block-max pruning."""

# pyright: reportMissingImports=false
# (the package is in the engine's own Python)

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rows import Rows


class Bmp:
    """A BMP index, searched without approximation (alpha = beta = 1)."""

    block = 32  # documents

    def build(self, rows: Rows, folder: Path) -> None:
        """Adds document after document: there is no other way in from Python."""
        from bmp import Indexer

        names = [str(t) for t in range(rows.width)]
        indexer = Indexer(str(folder / "index.bmp"), bsize=self.block, compress_range=False)
        for i in range(rows.size):
            terms, impacts = rows.row(i)
            vector = {names[t]: impact for t, impact in zip(terms.tolist(), impacts.tolist(), strict=True)}
            indexer.add_document(str(i), vector)
        indexer.finish()

    def open(self, folder: Path) -> None:
        """Loads the index."""
        from bmp import Searcher

        self.searcher = Searcher(str(folder / "index.bmp"))

    def calls(self, queries: Rows, k: int) -> list[Callable[[], Any]]:
        """Returns a search for each query."""

        def made(terms: Any, weights: Any) -> Callable[[], Any]:
            query = {str(t): float(w) for t, w in zip(terms.tolist(), weights.tolist(), strict=True)}
            return lambda: self.searcher.search(query, k=k, alpha=1.0, beta=1.0)

        return [made(*queries.row(i)) for i in range(queries.size)]

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the answer's documents with a score."""
        return [int(name) for name, score in zip(*answer, strict=True) if score > 0]

    def facts(self) -> dict[str, Any]:
        """Returns the size of a block."""
        return {"block": self.block}


class LargerBlocks(Bmp):
    """The same with larger blocks, which suit a larger k."""

    block = 128

"""PISA, through pyterrier-pisa."""

# pyright: reportMissingImports=false
# (the package is in the engine's own Python)

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows

ENCODING, SCORER = "block_simdbp", "quantized"


class Pisa:
    """A quantised PISA index; the query's weights stay floats."""

    def build(self, rows: Rows, folder: Path) -> None:
        """Writes PISA's inverted files, which is what its own indexer does slowly, and lets PISA compress them."""
        from pyterrier_pisa import _pisathon as pisa

        starts, documents, impacts = rows.inverted()
        names = sorted((str(t), t) for t in np.flatnonzero(np.diff(starts)).tolist())
        with (folder / "inv.docs").open("wb") as docs, (folder / "inv.freqs").open("wb") as freqs:
            docs.write(np.array([1, rows.size], np.uint32).tobytes())
            for _, term in names:
                inside = slice(int(starts[term]), int(starts[term + 1]))
                length = np.uint32(inside.stop - inside.start).tobytes()
                docs.write(length + documents[inside].astype(np.uint32).tobytes())
                freqs.write(length + impacts[inside].astype(np.uint32).tobytes())
        sums = np.add.reduceat(np.append(rows.values, 0), rows.starts[:-1], dtype=np.uint32)
        (folder / "inv.sizes").write_bytes(np.append(np.uint32(rows.size), sums).astype(np.uint32).tobytes())
        (folder / "fwd.documents").write_text("".join(f"{i}\n" for i in range(rows.size)))
        (folder / "fwd.terms").write_text("".join(f"{name}\n" for name, _ in names))
        pisa.build_binlex(str(folder / "fwd.documents"), str(folder / "fwd.doclex"))
        pisa.build_binlex(str(folder / "fwd.terms"), str(folder / "fwd.termlex"))
        facts = {"type": "sparse_index", "format": "pisa", "package_hint": "pyterrier-pisa", "stemmer": "none"}
        (folder / "pt_meta.json").write_text(json.dumps(facts))
        self.open(folder)  # the first opening writes the compressed index
        for name in ("inv.docs", "inv.freqs", "inv.sizes"):
            (folder / name).unlink()

    def open(self, folder: Path) -> None:
        """Opens the compressed index."""
        from pyterrier_pisa import _pisathon as pisa

        self.pisa, self.context = pisa, pisa.RetrievalContext()
        pisa.prepare_index(self.context, str(folder), ENCODING, SCORER, "", quantize=0, stop_fname="")

    def calls(self, queries: Rows, k: int, algorithm: str) -> list[Callable[[], Any]]:
        """Returns a search for each query by an algorithm of PISA's."""
        self.numbers, self.names = np.empty(k, np.int32), np.empty(k, object)
        self.ranks, self.scores = np.empty(k, np.int32), np.empty(k, np.float32)
        options = {
            "k": k, "threads": 1, "query_weighted": 1, "pretokenised": True, "result_qidxs": self.numbers,
            "result_docnos": self.names, "result_ranks": self.ranks, "result_scores": self.scores,
        }  # fmt: skip

        def made(terms: Any, weights: Any) -> Callable[[], Any]:
            tokens = [(0, {str(t): float(w) for t, w in zip(terms.tolist(), weights.tolist(), strict=True)})]
            return lambda: self.pisa.retrieve(self.context, algorithm, tokens, **options)

        return [made(*queries.row(i)) for i in range(queries.size)]

    def documents(self, answer: Any) -> Sequence[int]:
        """Returns the documents of the last search."""
        return [int(name) for name in self.names[:answer]]

    def facts(self) -> dict[str, Any]:
        """Returns how the postings are compressed."""
        return {"encoding": ENCODING}

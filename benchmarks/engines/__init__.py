"""Search engines side by side: one adapter a file, all driven in the same way by `python -m engines`.

An adapter imports its engine when it is built or opened, so that this table can be read anywhere. Its whole contract:

    build(rows, folder)              writes an index of the documents into an empty folder, single-threaded
    open(folder)                     opens what `build` wrote, ready for searches
    calls(queries, k, **settings)    one function a query, without arguments: what it does is what is timed
    documents(answer)                the document numbers that one of those functions found
    facts()                          what a reader of the results should know of the opened index
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

EXACT: Sequence[Mapping[str, Any]] = ({},)


@dataclass(frozen=True)
class Engine:
    """A row of the table.

    Attributes:
        adapter: module and class, in this package.
        about: what was built and how it is asked, in a sentence for the page.
        columns: the names under which it is timed, each with the settings that may be chosen among: where there are
            several, the quickest that reaches the wanted recall is taken.
        peer: the package that a Python of its own must have; "" where plait's own Python will do.
        exact: whether it promises the true top k; only those count as exact peers.
        bits: of the largest impact it can hold.
    """

    adapter: str
    about: str
    columns: Mapping[str, Sequence[Mapping[str, Any]]]
    peer: str = ""
    exact: bool = True
    bits: int = 8


ALGORITHMS = {
    "MaxScore": "maxscore", "block-max MaxScore": "block_max_maxscore", "WAND": "wand", "BMW": "block_max_wand",
    "exhaustive": "ranked_or",
}  # fmt: skip
SEISMIC = [{"query_cut": cut, "heap_factor": factor} for cut, factor in product((5, 10, 20, 40), (1.0, 0.8, 0.6, 0.4))]

TABLE = {
    "plait": Engine(
        "ours:Plait", "plait is the whole search of a snapshot, documents in the order in which they came.",
        {"plait": EXACT},
    ),
    "plait-reordered": Engine(
        "ours:PlaitReordered", "The same with the documents of a segment reordered.", {"plait, reordered": EXACT}
    ),
    "yardstick": Engine(
        "plain:Yardstick",
        "The yardstick is exact for query weights in at most 63 steps, as many as its 16-bit sums allow; hence its "
        "recall. It settles no ties and knows no files, segments or deletes; its build is not counted.",
        {"yardstick": EXACT}, exact=False,
    ),
    "eager": Engine(
        "plain:Eager", "The eager sum adds every posting into one array, in numba, and selects with argpartition.",
        {"eager, numba": EXACT},
    ),
    "scipy": Engine(
        "plain:Scipy", "scipy multiplies the sparse query with the inverted matrix and selects with argpartition.",
        {"scipy": EXACT},
    ),
    "pisa": Engine(
        "pisa:Pisa",
        "PISA is called through pyterrier-pisa's own native call, without its data frames; block_simdbp postings, the "
        "quantized scorer, blocks of 64, query weights as floats. Its inverted files are written for it from the "
        "same arrays, which is quicker than its Python indexer; compressing them is part of its build.",
        {f"PISA {name}": [{"algorithm": algorithm}] for name, algorithm in ALGORITHMS.items()}, peer="pyterrier-pisa",
    ),
    "qdrant": Engine(
        "qdrant:Qdrant",
        "qdrant-edge searches the one segment that its optimiser leaves (and the empty one that takes new points), "
        "float32 postings pinned in memory, one search thread, no payload; no write-ahead log while building.",
        {"qdrant-edge": EXACT}, peer="qdrant-edge-py",
    ),
    "lucene": Engine(
        "lucene:Lucene",
        "Lucene is the one in pyserini's Anserini: terms with their impacts as frequencies, Anserini's impact "
        "similarity, one segment; called through pyjnius, hits not read.",
        {"Lucene": EXACT}, peer="pyserini",
    ),
    "seismic": Engine(
        "seismic_:Seismic",
        "Seismic is built with its package's settings; query_cut and heap_factor are chosen for every cell: the "
        "quickest of 16 settings that reaches the wanted recall.",
        {"Seismic": SEISMIC}, peer="pyseismic-lsr", exact=False,
    ),
    "seismic-pruned": Engine(
        "seismic_:Pruned", "The same with shorter lists: n_postings is a 256th of the documents.",
        {"Seismic, pruned": SEISMIC}, peer="pyseismic-lsr", exact=False,
    ),
    "bmp": Engine(
        "bmp_:Bmp",
        "BMP (blocks of 32, alpha = beta = 1) knows 32 query weights and adds in 16 bits, so it is exact while impacts "
        "are below 64; hence a contest of its own with impacts of 6 bits and query weights from 1 to 32. Sometimes it "
        "leaves out documents that tie with others, hence its recall.",
        {"BMP": EXACT}, peer="bmp", bits=6,
    ),
    "bmp-128": Engine(
        "bmp_:LargerBlocks", "The same with blocks of 128.", {"BMP, blocks of 128": EXACT}, peer="bmp", bits=6
    ),
}  # fmt: skip

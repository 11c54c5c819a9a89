"""What fusion, explanation and feedback cost: milliseconds a query, on large indexes made of real vectors.

A large index needs no real texts for this: its documents are crossings of the vectors of a small index. Each takes the
sparse vectors of one document, and a dense vector between those of two, so that no two are the same.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import common

PART = 8192
FUSING, RESCORING, FEEDBACK = 1.5, 4.0, 3.0
FEEDBACK_DOCUMENTS, FUSING_DOCUMENTS = 60_000, 530_000
SHARE = 0.3  # of the other document in a dense vector


def main() -> None:
    """Measures and writes the page."""
    args = _arguments()
    common.existing(args.index / "plait.db", "an index that `plait index` made")
    common.existing(args.queries, "queries: .jsonl, .tsv or one a line")
    common.pin_threads(args.threads)
    where = common.machine()
    from plait.index.compiled import load_kernels
    from plait.retriever import PlaitError, Retriever, read_queries

    load_kernels()
    measured = {}
    try:
        queries = [text for _, text in islice(read_queries(args.queries), args.limit)]
        for documents in args.documents:
            print(f"{documents:,} documents ...", file=sys.stderr, flush=True)
            path = args.work / f"crossed-{documents}.index"
            if not (path / "plait.db").exists():
                _cross(args.index, path, documents)
            with closing(Retriever.open(path)) as retriever:
                measured[documents] = _measure(retriever, queries, args)
    except PlaitError as error:
        common.fail(str(error))
    print(_report(args, where, measured, len(queries)))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=5)
    parser.add_argument("index", type=Path, metavar="INDEX", help="a small index with all three strands")
    parser.add_argument("queries", type=Path, metavar="QUERIES", help=".jsonl, .tsv or one query a line")
    parser.add_argument("--work", type=Path, required=True, help="the large indexes are kept here")
    parser.add_argument("--documents", type=int, nargs="+", default=[FEEDBACK_DOCUMENTS, FUSING_DOCUMENTS])
    parser.add_argument("--depth", type=int, default=1000, help="candidates of each strand")
    parser.add_argument("--limit", type=int, default=100, help="the first so many queries")
    parser.add_argument("--threads", type=int, default=1, help="threads of numpy, FAISS and the tokenizers")
    return parser.parse_args()


# The large index


def _cross(source: Path, path: Path, documents: int) -> None:
    """Makes an index of crossings of another's documents, in a scratch folder that is renamed when it is whole."""
    scratch = path.with_name(f".{path.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    import numpy as np
    from plait.index import Snapshot, Writer
    from plait.retriever import Retriever

    with closing(Retriever.create(scratch, compaction="off")):
        pass
    random = np.random.default_rng(0)
    with closing(Snapshot(source)) as snapshot, closing(Writer(scratch, segment_documents=1 << 30)) as writer:
        for start in range(0, documents, PART):
            count = min(PART, documents - start)
            first, second = random.integers(snapshot.documents, size=(2, count))
            writer.add(*_part(snapshot, start, first, second))
        writer.commit()
    scratch.rename(path)


def _part(snapshot: Any, start: int, first: Any, second: Any) -> tuple[Any, Any, Any]:
    import numpy as np
    from plait.retriever import Document

    vectors = snapshot.dense_vectors(first) + SHARE * snapshot.dense_vectors(second)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sparse = {strand: _columns(snapshot, strand, first) for strand in ("lexical", "learned")}
    rows = snapshot.rows(first.tolist())
    documents = [
        Document(id=f"{start + at}", title=row.title, text=f"{row.text} {start + at}", metadata={})
        for at, row in enumerate(rows)
    ]
    return documents, sparse, vectors.astype(np.float32)


def _columns(snapshot: Any, strand: str, positions: Any) -> Any:
    """Returns a strand's vectors in its own columns."""
    import numpy as np
    from plait.index.contract import TERM_BASE
    from scipy.sparse import csr_matrix

    unique, places = np.unique(positions, return_inverse=True)
    rows, terms = snapshot.sparse_vectors(strand, unique)
    rows = rows[places]
    columns = terms.astype(np.int64) - TERM_BASE[strand]
    width = 2**32 - 2**20 if strand == "lexical" else 30_522
    return csr_matrix((rows.data, columns[rows.indices], rows.indptr), shape=(len(positions), width))


# The clock


def _measure(retriever: Any, queries: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    """Returns medians of milliseconds, by what is done."""
    found: dict[str, list[float]] = {name: [] for name in ("fuse and explain", "with rescoring", "feedback, more")}
    whole: dict[str, list[float]] = {"none": [], "feedback": []}
    for query in queries:
        once = list(_once(retriever, query, args))
        found["fuse and explain"].append(statistics.median(each[0] for each in once))
        found["with rescoring"].append(statistics.median(each[1] for each in once))
        for pipeline, times in whole.items():
            times.append(_searched(retriever, query, pipeline, args.repeats))
        found["feedback, more"].append(whole["feedback"][-1] - whole["none"][-1])
    dense = [segment["dense"]["spec"] for segment in retriever.info()["segments"]]
    return {"milliseconds": found, "searches": whole, "dense": dense}


def _once(retriever: Any, query: str, args: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """Yields (fusing and explaining, the same with the candidates' scores) after a warm-up."""
    from plait.retriever import search as searching
    from plait.retriever.ranking import Ranking

    options = retriever._options(
        10, None, None, None, "none", depth=args.depth, explain=True, filter=None, exactness=1.0, prove=False,
        min_score=None, min_probability=None,
    )  # fmt: skip
    (ranking,) = retriever.candidates([query], depth=args.depth)
    for number in range(args.repeats + 1):
        began = time.perf_counter()
        scored = Ranking.of(ranking.search, query, ranking.queries, ranking.proposed, ranking.weights)
        rescored = time.perf_counter()
        fused = scored.weighed(scored.weights)  # fuses once more
        searching._answer(searching._settled(fused, options, {}, searching._Clock()), options)
        ended = time.perf_counter()
        if number:
            yield 1000 * (ended - rescored), 1000 * (ended - began)


def _searched(retriever: Any, query: str, pipeline: str, repeats: int) -> float:
    """Returns the median milliseconds of a search without the encoding of its query."""
    times = []
    for number in range(repeats + 1):
        took = retriever.search(query, 10, pipeline=pipeline).milliseconds
        if number:
            times.append(sum(value for stage, value in took.items() if stage != "encode"))
    return statistics.median(times)


def _report(
    args: argparse.Namespace, where: Mapping[str, Any], measured: Mapping[int, Mapping[str, Any]], queries: int
) -> str:
    rows, checks = [], []
    for documents, facts in measured.items():
        middle = {name: statistics.median(values) for name, values in facts["milliseconds"].items()}
        search = {name: statistics.median(values) for name, values in facts["searches"].items()}
        rows.append(
            (f"{documents:,}", *(f"{value:.2f}" for value in middle.values()),
             *(f"{value:.2f}" for value in search.values()))
        )  # fmt: skip
        if documents >= FUSING_DOCUMENTS:
            checks.append(common.Check("fusing and explaining", middle["fuse and explain"], FUSING, "ms", digits=2))
            checks.append(common.Check("the same with rescoring", middle["with rescoring"], RESCORING, "ms", digits=2))
        elif documents >= FEEDBACK_DOCUMENTS:
            checks.append(common.Check("feedback, more", middle["feedback, more"], FEEDBACK, "ms", digits=2))
    notes = [
        f"Milliseconds, medians over {queries} queries of the median of {args.repeats} repetitions after a warm-up; "
        f"{args.threads} thread(s). Fusing: {args.depth:,} candidates of each strand, scores at hand, to 10 explained "
        "hits, their texts read. `feedback, more`: a whole search of 10 hits at the default depth, with feedback and "
        "without, the query's encoding left out; the last two columns are those searches.",
        "Documents are crossings of real ones: sparse vectors of one, a dense vector between two.",
    ]
    columns = ("documents", "fuse and explain", "with rescoring", "feedback, more", "search", "search with feedback")
    return common.write(
        "fusing", args.results, where=where, checks=checks, notes=notes, raw={str(n): m for n, m in measured.items()},
        tables=[common.Table("Milliseconds a query", columns, rows)],
        about="What fusion, explanation and feedback cost a query.",
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""Sparse top-k, one thread: plait's kernel beside its numpy twin, a yardstick, scipy and bm25s, on the same vectors."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)
# ruff: noqa: E402 (threads are pinned before numpy is loaded)

from __future__ import annotations

import common

common.pin_threads(1)

import argparse
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from plait.index import Layout, Snapshot, Writer, create, reference
from plait.index.compiled import load_kernels
from plait.index.impacts import integer_weights, saturated
from plait.index.segment import NONE_DEAD, Segment
from plait.retriever import Document
from vectors import SIAMESE_TERMS, Vectors, cached, scale, scifact

KS = (10, 100, 1000)
RATIO = 2.0  # to the yardstick: the target
PLAIT, WHOLE, TWIN, YARDSTICK, SCIPY, BM25S = "plait", "plait, snapshot", "numpy twin", "yardstick", "scipy", "bm25s"

Strand = Literal["lexical", "learned"]
Query = tuple[NDArray[np.uint32], NDArray[np.float32]]  # columns ascending, weights with IDF


@dataclass(frozen=True)
class Case:
    """One strand's documents and queries, ready to be searched by everybody."""

    vectors: Vectors
    strand: Strand
    form: str
    snapshot: Snapshot
    queries: list[Query]

    @property
    def name(self) -> str:
        """Returns what the case is called in tables."""
        return f"{self.vectors.name}, {self.strand}, {np.mean([columns.size for columns, _ in self.queries]):.0f} terms"

    @property
    def segment(self) -> Segment:
        """Returns the only segment."""
        (segment,) = self.snapshot.segments
        return segment

    @cached_property
    def counts(self) -> Any:
        """Returns the strand's rows as encoded: weights, or counts."""
        return getattr(self.vectors, self.strand)

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """Returns the columns that occur: hashes reach to 2**32, which only an index of ours can address."""
        return np.unique(self.counts.indices)

    @cached_property
    def weights(self) -> Any:
        """Returns the document side of the score as a csr_matrix over the columns that occur."""
        from scipy.sparse import csr_matrix

        rows, values = self.counts, self.counts.data
        if self.strand == "lexical":
            lengths = np.asarray(rows.sum(axis=1)).ravel()
            layout = self.snapshot.layout
            per_posting = np.repeat(lengths, np.diff(rows.indptr))
            values = saturated(rows.data, per_posting, float(lengths.mean()), layout.k1, layout.b)
        columns = np.searchsorted(self.columns, rows.indices)
        return csr_matrix((values.astype(np.float32), columns, rows.indptr), shape=(rows.shape[0], self.columns.size))

    @cached_property
    def compact(self) -> list[Query]:
        """Returns the queries over the columns that occur; other terms are left out."""
        return [self._compact(*query) for query in self.queries]

    @cached_property
    def shifted(self) -> list[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
        """Returns the queries as a segment takes them: terms of the shared space, whole weights of one step."""
        return [(self.snapshot.terms(self.strand, c), integer_weights(w)[0]) for c, w in self.queries]

    @property
    def postings(self) -> float:
        """Returns the mean number of postings of a query's terms."""
        frequency = np.bincount(self.weights.indices, minlength=self.columns.size)
        return float(np.mean([frequency[columns].sum() for columns, _ in self.compact]))

    def _compact(self, columns: NDArray[np.uint32], weights: NDArray[np.float32]) -> Query:
        at = np.minimum(np.searchsorted(self.columns, columns), self.columns.size - 1)
        known = self.columns[at] == columns
        return at[known].astype(np.uint32), weights[known]


def main() -> None:
    """Measures and writes the table."""
    args = _arguments()
    where = common.machine()
    beside = _loaded(args.beside) if args.beside else None
    collections = [_texts(args, name) for name in args.collections]
    vectors = [cached(texts, args.cache) for texts in collections]
    if args.encode_only:
        return
    load_kernels()
    found = [facts for each in vectors for facts in _measure(each, beside, args.repeats)]
    print(_report(args, where, found))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=7)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/scifact and scale/mixed-en.jsonl.xz")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="yardstick: Python with build(csr) and search(...)")
    parser.add_argument("--documents", type=int, default=64000, help="passages of the scale file")
    parser.add_argument("--queries", type=int, default=300, help="queries of each kind")
    parser.add_argument(
        "--collections", nargs="+", choices=("scifact", "scale"), default=["scifact", "scale"], help="which to measure"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "plait-vectors", help="folder that keeps vectors"
    )
    parser.add_argument("--encode-only", action="store_true", help="stop when the vectors are in the cache")
    parser.add_argument("--limit", type=int, help="so many documents of scifact only (results: kernel-try)")
    return parser.parse_args()


def _texts(args: argparse.Namespace, name: str) -> Any:
    if name == "scifact":
        return scifact(args.data, args.limit, args.queries)
    return scale(args.data, args.documents, args.queries)


def _loaded(path: Path) -> Any:
    """Returns a Python file as a module."""
    common.existing(path, "a Python file with build(csr) and search(index, terms, weights, k)")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        common.fail(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # numba's cache looks its module up by name
    spec.loader.exec_module(module)
    return module


def _measure(vectors: Vectors, beside: Any, repeats: int) -> list[dict[str, Any]]:
    """Returns the facts of every case of a collection."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="plait-kernel-") as folder,
        closing(_indexed(vectors, Path(folder) / "index")) as snapshot,
    ):
        for name, form in vectors.queries:
            strand = _strand(name)
            case = Case(vectors, strand, form, snapshot, _queries(vectors, strand, form, snapshot))
            found.append(_measure_case(case, beside, repeats))
            print(_table(found[-1]).text(), flush=True)
    return found


def _strand(name: str) -> Strand:
    return "learned" if name == "learned" else "lexical"


def _indexed(vectors: Vectors, folder: Path) -> Snapshot:
    """Returns an index of both sparse strands in one segment, as the Retriever makes them."""
    count = vectors.learned.shape[0]
    create(folder, Layout(), {})
    with closing(Writer(folder, segment_documents=count)) as writer:
        writer.add(
            [Document(id=f"d{i}", text="-") for i in range(count)],
            {"lexical": vectors.lexical, "learned": vectors.learned},
            None,
            literal={"learned": vectors.literal},
        )
        writer.commit()
    return Snapshot(folder)


def _queries(vectors: Vectors, strand: Strand, form: str, snapshot: Snapshot) -> list[Query]:
    """Returns the queries that some document answers, weighted by IDF but for those that the document encoder made."""
    rows, (segment,) = vectors.queries[strand, form], snapshot.segments
    found = []
    for i in range(rows.shape[0]):
        inside = slice(rows.indptr[i], rows.indptr[i + 1])
        columns, weights = rows.indices[inside], rows.data[inside].astype(np.float32)
        terms = snapshot.terms(strand, columns)
        if (strand, form) != ("learned", "long"):
            weights = weights * snapshot.idf(terms)
        best = np.sort(np.argsort(-weights, kind="stable")[:SIAMESE_TERMS]) if form == "long" else slice(None)
        if np.isin(terms[best], segment.postings.terms).any():
            found.append((columns[best].astype(np.uint32), weights[best]))
    if not found:
        common.fail(f"{vectors.name}: no {form} {strand} query has a term that a document has; take more documents")
    return found


def _measure_case(case: Case, beside: Any, repeats: int) -> dict[str, Any]:
    """Returns the seconds of every contestant and repetition, by k, after plait's answers were compared."""
    contestants = _contestants(case, beside)
    ks = [k for k in KS if k <= case.counts.shape[0]]
    compared = sum(_compare(case, k) for k in ks)
    seconds = {}
    for k in ks:
        turns = {name: partial(search, k) for name, search in contestants.items()}
        seconds[k] = common.alternating(turns, repeats)
    per_query = {
        k: {name: 1000 * median / len(case.queries) for name, median in common.medians(each).items()}
        for k, each in seconds.items()
    }
    return {
        "case": case.name, "strand": case.strand, "form": case.form, "documents": case.counts.shape[0],
        "postings": int(case.counts.nnz), "queries": len(case.queries), "postings_a_query": case.postings,
        "answers_equal_to_reference": compared, "milliseconds": per_query, "seconds": seconds,
    }  # fmt: skip


def _compare(case: Case, k: int) -> int:
    """Returns how many answers were compared with the reference; stops where scores or order differ."""
    for number, (terms, weights) in enumerate(case.shifted):
        scores, documents = case.segment.search(terms, weights, k)
        expected, order = reference.search(case.segment.postings, terms, weights, k, NONE_DEAD)
        if not (np.array_equal(scores, expected) and np.array_equal(documents, order)):
            common.fail(f"{case.name}: the kernel's answer to query {number} at k={k} is not the reference's")
    return len(case.shifted)


def _contestants(case: Case, beside: Any) -> dict[str, Callable[[int], None]]:
    """Returns for each contestant a function that answers all queries, one after the other, with k hits each."""
    postings, segment, snapshot = case.segment.postings, case.segment, case.snapshot
    shared = [(terms, weights) for (terms, _), (_, weights) in zip(case.shifted, case.queries, strict=True)]

    def plait(k: int) -> None:
        for terms, weights in case.shifted:
            segment.search(terms, weights, k)

    def whole(k: int) -> None:
        for terms, weights in shared:
            snapshot.sparse_search(case.strand, terms, weights, k)

    def twin(k: int) -> None:
        for terms, weights in case.shifted:
            reference.search(postings, terms, weights, k, NONE_DEAD)

    found = {PLAIT: plait, WHOLE: whole, TWIN: twin, SCIPY: _scipy(case)}
    if beside is not None:
        found[YARDSTICK] = _yardstick(case, beside)
    if case.strand == "lexical" and importlib.util.find_spec("bm25s"):
        found[BM25S] = _bm25s(case)
    return found


def _yardstick(case: Case, module: Any) -> Callable[[int], None]:
    """Returns the yardstick on the same vectors, with integer query weights as its own main() makes them."""
    index, rows = module.build(case.weights), [_integers(*query) for query in case.compact]

    def search(k: int) -> None:
        for terms, weights in rows:
            module.search(index, terms, weights, k)

    return search


def _integers(columns: NDArray[np.uint32], weights: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    levels = max(1, min(63, 65535 // (255 * columns.size)))
    steps = np.clip(np.rint(weights * levels / weights.max()), 1, levels)
    return columns.astype(np.int64), steps.astype(np.uint32)


def _scipy(case: Case) -> Callable[[int], None]:
    """Returns sparse query x inverted matrix, then argpartition over the documents that match."""
    from scipy.sparse import csr_matrix

    inverted = case.weights.T.tocsr()
    width = inverted.shape[0]
    rows = [csr_matrix((w, c.astype(np.int32), [0, c.size]), shape=(1, width)) for c, w in case.compact]

    def search(k: int) -> None:
        for row in rows:
            found: Any = row @ inverted
            best = np.argpartition(-found.data, k)[:k] if found.nnz > k else np.arange(found.nnz)
            best = best[np.argsort(-found.data[best])]
            _ = found.data[best], found.indices[best]

    return search


def _bm25s(case: Case) -> Callable[[int], None]:
    """Returns bm25s on the same tokens: numba backend, one thread, all queries in one call, which is its fastest."""
    library = importlib.import_module("bm25s")
    layout, counts = case.snapshot.layout, case.counts
    made = library.BM25(method="lucene", k1=layout.k1, b=layout.b, backend="numba")
    tokens = np.repeat(np.searchsorted(case.columns, counts.indices), counts.data.astype(np.int64))
    ends = np.cumsum(np.asarray(counts.sum(axis=1)).ravel().astype(np.int64))
    documents = [part.tolist() for part in np.split(tokens, ends[:-1])]
    made.index((documents, {str(i): i for i in range(case.columns.size)}), show_progress=False)
    queries = [columns.tolist() for columns, _ in case.compact]

    def search(k: int) -> None:
        made.retrieve(queries, k=k, n_threads=1, show_progress=False)

    return search


def _report(args: argparse.Namespace, where: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    checks = [check for facts in found for check in _checks(facts)]
    notes = [
        f"`{PLAIT}` is the compiled search of one memory-mapped segment that holds both sparse strands; "
        f"`{WHOLE}` adds what a search through an index does: several segments merged, ties settled by id. "
        f"`{TWIN}` is the reference in numpy.",
        f"Before timing, scores and order of `{PLAIT}` were compared with the reference for every query and k: equal.",
        f"`{SCIPY}` multiplies the sparse query with the inverted matrix, then selects with argpartition. "
        f"`{BM25S}` gets the same tokens, its numba backend, one thread, and all queries in one call.",
        "Short queries: SciFact's claims, and the first words of held-out passages' titles; wordpieces, or stems, "
        "weighted by IDF. Long ones: document vectors of the claims, or vectors of held-out passages, cut to their "
        f"{SIAMESE_TERMS} largest weights.",
        f"One thread; contestants take turns; median of {args.repeats} repetitions over all queries of a case.",
    ]
    if args.beside:
        notes.append(f"The yardstick is {args.beside.name}: integer query weights, no ties, no segments, no deletes.")
    return common.write(
        "kernel" if args.limit is None else "kernel-try", args.results, where=where,
        about="Exact sparse top-k, milliseconds a query, one thread.", raw={"repeats": args.repeats, "cases": found},
        checks=checks, tables=[_table(facts) for facts in found], notes=notes,
    )  # fmt: skip


def _checks(facts: Mapping[str, Any]) -> list[common.Check]:
    return [
        common.Check(f"{facts['case']}, k={k}: plait / yardstick", each[PLAIT] / each[YARDSTICK], RATIO, "x", digits=2)
        for k, each in facts["milliseconds"].items()
        if YARDSTICK in each
    ]


def _table(facts: Mapping[str, Any]) -> common.Table:
    times = facts["milliseconds"]
    names = list(next(iter(times.values())))
    rows = [(f"k={k}", *(f"{each[name]:.3f}" for name in names)) for k, each in times.items()]
    title = f"{facts['case']}: {facts['postings_a_query']:,.0f} postings a query, ms"
    return common.Table(title, ("", *names), rows)


if __name__ == "__main__":
    main()

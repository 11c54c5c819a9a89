"""Effectiveness on BEIR folders: every strand alone and all of them fused, default settings."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.encoders import load_dense, load_learned
from plait.eval import Dataset, EvalError, Report, Run, evaluate, evaluate_runs, load_beir
from plait.index import Snapshot
from plait.index.impacts import idf
from plait.retriever import PlaitError, Retriever

MEASURES = ("nDCG@10", "R@100")
# One more than the deepest measure, because a document that is the query itself is dropped. Not above the default
# depth: the strands then propose as many candidates as they do for a user.
K = 101
RRF, PLAIN = "fused, RRF", "fused, no feedback"
PIECES, EXPANSIONS = "learned, word pieces", "learned, word pieces, IDF of expansions"
STATIC, FUSED_STATIC = "dense, static queries", "fused, static queries"
# What all-MiniLM-L6-v2 scores in float32, through sentence-transformers: the dense strand is its int8 twin.
MINILM = {
    "scifact": 0.646, "nfcorpus": 0.316, "medline": 0.786, "lisa": 0.345, "wikiqa-test": 0.287, "mlquestions": 0.626,
}  # fmt: skip
DENSE_LOSS = 0.005
TARGETS = {name: {"dense": score - DENSE_LOSS} for name, score in MINILM.items()}
TARGETS["scifact"] |= {"lexical": 0.670, "learned": 0.680, "fused": 0.725}
TARGETS["nfcorpus"] |= {"lexical": 0.315, "learned": 0.320, "fused": 0.355}
MEAN_TARGETS = {"learned": 0.500, "fused": 0.560}  # over all of TARGETS
STATIC_SHARE = 0.92  # of the transformer query's mean
ACTIVE, LONG_ENOUGH = 250, ("scifact", "nfcorpus")  # terms a document, where a document is about 230 word pieces


def main() -> None:
    """Measures every collection and writes the table."""
    args = _arguments()
    where = common.machine()
    measured = {}
    for name in args.collections:
        folder = common.existing(args.data / "beir" / name, "a BEIR folder: corpus.jsonl, queries.jsonl, qrels/")
        try:
            measured[name] = _measure(load_beir(folder), args.index_dir)
        except (EvalError, *PlaitError) as error:
            common.fail(str(error))
        print(_table(name, measured[name]).text(), flush=True)
    checks = [check for name, facts in measured.items() for check in _checks(name, facts)] + _mean_checks(measured)
    page = common.write(
        "quality", args.results, where=where, checks=checks, raw={"collections": measured},
        about="Effectiveness on BEIR folders with `Retriever`'s default settings, the same for every collection.",
        tables=[_means_table(measured), *(_table(name, facts) for name, facts in measured.items())],
        notes=[
            "Documents are indexed whole, title and text; a document whose id is the query's own is dropped.",
            f"`{PLAIN}`, `{RRF}`, `{PIECES}` and `{EXPANSIONS}` stand beside the defaults for comparison; they have no "
            "target. The last weights a query term by the documents that a model expands to it; the one before it, as "
            "an index does, by those whose text holds it.",
            f"`{STATIC}` and `{FUSED_STATIC}` search the same index with dense queries from the table: no transformer.",
            "The model saw no text of these collections; see its card in encoders/models.",
            "Run cards with encoder identities, checksums of the data and per-query values are in the JSON.",
        ],
    )  # fmt: skip
    print(page)
    sys.exit(0 if all(check.met for check in checks) else 1)


def _arguments() -> argparse.Namespace:
    parser = common.parser(f"{__doc__} Exit status 1 where a target is missed.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/")
    parser.add_argument("collections", nargs="*", default=list(TARGETS), metavar="COLLECTION", help="folder names")
    parser.add_argument(
        "--index-dir", type=Path, help="keep the indexes here, and use those that are here (a removed one is rebuilt)"
    )
    return parser.parse_args()


def _measure(dataset: Dataset, keep: Path | None) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-quality-")))
        retriever = stack.enter_context(closing(_open(folder / f"{dataset.name}.index")))
        indexed = _index(retriever, dataset)
        cards = [report.to_json() for report in _evaluate(retriever, dataset)]
        facts = retriever.info()
        learned_postings = _learned_postings(retriever.folder, facts["encoders"]["learned"]["dim"])
    scores = {system["name"]: system["means"] for card in cards for system in card["systems"]}
    seconds = {system["name"]: system["seconds"] for card in cards for system in card["systems"]}
    about = {name: facts[name] for name in ("documents", "postings", "bytes", "fusion", "weights", "bm25")}
    about["learned_postings"] = learned_postings
    return {"scores": scores, "seconds": seconds, "index_seconds": indexed, "index": about, "cards": cards}


def _open(path: Path) -> Retriever:
    return Retriever.open(path) if (path / "plait.db").exists() else Retriever.create(path)


def _index(retriever: Retriever, dataset: Dataset) -> float | None:
    """Adds what the index lacks; returns the seconds it took where that was the whole collection."""
    print(f"indexing {dataset.name} ...", file=sys.stderr)
    fresh, began = not len(retriever), time.perf_counter()
    retriever.add(dataset.documents())
    retriever.commit()
    return time.perf_counter() - began if fresh else None


def _evaluate(retriever: Retriever, dataset: Dataset) -> tuple[Report, Report]:
    """Returns the report of the default settings, and that of what stands beside them."""
    facts = retriever.info()

    def answer(queries: Mapping[str, str], strands: Sequence[str]) -> Run:
        return retriever.run(queries, K, strands=strands)

    settings = {name: facts[name] for name in ("fusion", "weights", "bm25", "documents")}
    report = evaluate(
        answer, dataset, strands=facts["strands"], measures=MEASURES, encoders=facts["encoders"], settings=settings
    )
    beside = {
        PLAIN: retriever.run(dataset.queries, K, pipeline="questions"),
        RRF: retriever.run(dataset.queries, K, fusion="rrf", pipeline="none"),
        **_word_pieces(retriever, dataset),
    }
    with closing(Retriever.open(retriever.folder, dense=load_dense(queries="static"))) as static:
        beside[STATIC] = static.run(dataset.queries, K, strands=("dense",))
        beside[FUSED_STATIC] = static.run(dataset.queries, K)
    return report, evaluate_runs(beside, dataset, measures=MEASURES)


def _word_pieces(retriever: Retriever, dataset: Dataset) -> dict[str, Run]:
    """Returns two of the learned strand's runs by queries of word pieces alone.

    One weighs them by IDF as an index does, the other as if IDF counted the documents that a model expands to a term.
    """
    rows = load_learned().encode_queries(list(dataset.queries.values()))
    runs: dict[str, Run] = {PIECES: {}, EXPANSIONS: {}}
    with closing(Snapshot(retriever.folder)) as snapshot:
        expanded = expanded_documents(snapshot, rows.shape[1])
        for i, query in enumerate(dataset.queries):
            terms = np.sort(rows.indices[rows.indptr[i] : rows.indptr[i + 1]]).astype(np.uint32)
            weights = {PIECES: snapshot.idf(terms), EXPANSIONS: idf(expanded[terms], snapshot.documents)}
            for name, run in runs.items():
                hits = snapshot.sparse_search("learned", terms, weights[name], K)
                run[query] = dict(zip(snapshot.ids(hits.positions), hits.scores.tolist(), strict=True))
    return runs


def _learned_postings(folder: Path, vocabulary: int) -> int:
    """Returns how many postings learned terms have: those below the vocabulary's size; lexical ones are above."""
    with closing(Snapshot(folder)) as snapshot:
        return sum(int(np.count_nonzero(segment.forward.terms < vocabulary)) for segment in snapshot.segments)


def expanded_documents(snapshot: Snapshot, vocabulary: int) -> Any:
    """Returns how many documents have a learned posting of each term, int64 (vocabulary,)."""
    found = np.zeros(vocabulary, np.int64)
    for segment in snapshot.segments:
        terms = segment.forward.terms  # not the postings' sizes: the commonest terms have none, but are kept as rows
        found += np.bincount(terms[terms < vocabulary], minlength=vocabulary)
    return found


def _checks(name: str, facts: Mapping[str, Any]) -> list[common.Check]:
    scores, targets = facts["scores"], TARGETS.get(name, {})
    checks = [
        common.Check(f"{name}, {system}, nDCG@10", scores[system]["nDCG@10"], target, at_least=True, digits=4)
        for system, target in targets.items()
    ]
    if name in LONG_ENOUGH:
        checks.append(common.Check(f"{name}, active terms a document", _active(facts), ACTIVE, "", digits=0))
    return checks


def _active(facts: Mapping[str, Any]) -> float:
    """Returns how many learned terms a document has, on average."""
    return facts["index"]["learned_postings"] / facts["index"]["documents"]


def _mean_checks(measured: Mapping[str, Any]) -> list[common.Check]:
    """Returns the targets for means over collections, where all of these were measured."""
    if not set(TARGETS) <= set(measured):
        return []
    what = f"mean of {len(TARGETS)} collections"
    means = {name: _mean(measured, name) for name in (*MEAN_TARGETS, "dense", STATIC)}
    checks = [
        common.Check(f"{what}, {name}, nDCG@10", means[name], target, at_least=True, digits=4)
        for name, target in MEAN_TARGETS.items()
    ]
    share = means[STATIC] / means["dense"]
    return [*checks, common.Check(f"{what}, {STATIC}, share of dense", share, STATIC_SHARE, at_least=True, digits=3)]


def _mean(measured: Mapping[str, Any], system: str, measure: str = "nDCG@10") -> float:
    chosen = [name for name in measured if name in TARGETS] or list(measured)
    return float(np.mean([measured[name]["scores"][system][measure] for name in chosen]))


def _means_table(measured: Mapping[str, Any]) -> common.Table:
    systems = next(iter(measured.values()))["scores"]
    rows = [
        (system, *(f"{facts['scores'][system]['nDCG@10']:.4f}" for facts in measured.values()),
         f"{_mean(measured, system):.4f}")
        for system in systems
    ]  # fmt: skip
    rows.append(("active terms a document", *(f"{_active(facts):.0f}" for facts in measured.values()), "-"))
    return common.Table("nDCG@10, all collections", ("system", *measured, "mean"), rows)


def _table(name: str, facts: Mapping[str, Any]) -> common.Table:
    targets, documents = TARGETS.get(name, {}), facts["index"]["documents"]
    rows = []
    for system, means in facts["scores"].items():
        figures = [f"{means[measure]:.4f}" for measure in MEASURES]
        target = f"{targets[system]:.3f}" if system in targets else "-"
        rows.append((system, *figures, target))
    rate = f", indexed at {documents / facts['index_seconds']:.0f} a second" if facts["index_seconds"] else ""
    return common.Table(f"{name}: {documents:,} documents{rate}", ("system", *MEASURES, "nDCG@10 target"), rows)


if __name__ == "__main__":
    main()

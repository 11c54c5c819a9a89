"""Plait's sparse strands beside Lucene's: BM25 ranks alike, impact search gives the same scores; both fused with dense.

BM25 is compared three times: with Anserini's own analyser, with plait's terms given to Lucene as they are, and with
these and whole document lengths. Impact search takes plait's stored impacts and whole query weights on both sides.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from importlib import metadata
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.encoders.lexical import Analyser
from plait.eval import Dataset, EvalError, load_beir, score_run
from plait.index import Layout, Snapshot, Writer, create
from plait.index.java import java
from plait.index.lucene import IMPACT, PRETOKENIZED, LuceneIndex, Similarity
from plait.index.lucene_writer import write_impacts, write_texts
from plait.retriever import Document, PlaitError, Retriever
from plait.retriever.lucene import Lucene

COLLECTIONS = ("scifact", "nfcorpus", "medline")
MEASURE, K = "nDCG@10", 100
CUTS = (10, 100)
OURS, ANSERINI, TERMS, WHOLE = (
    "plait, lexical",
    "Lucene, its analyser",
    "Lucene, plait's terms",
    "the same, whole lengths",
)
FUSED, FUSED_LUCENE = "plait, lexical + dense", "lucene + dense, as strands"
STEPS = 256 / 5  # of a query weight, as pyserini's encoders take them
NEAR, ALIKE = 0.01, 0.95


def main() -> None:
    """Measures every collection and writes the page."""
    args = _arguments()
    for name in args.collections:
        common.existing(args.data / "beir" / name, "a BEIR folder: corpus.jsonl, queries.jsonl, qrels/")
    where, measured = common.machine(), {}
    try:
        facts = _versions()
        for name in args.collections:
            print(f"{name} ...", file=sys.stderr, flush=True)
            measured[name] = _measure(load_beir(args.data / "beir" / name), args.index_dir)
    except (EvalError, *PlaitError) as error:
        common.fail(str(error))
    checks = _checks(measured)
    page = common.write(
        "lucene", args.results, where=where, checks=checks, raw={"versions": facts, "collections": measured},
        tables=[_scores(measured), _overlaps(measured), _impacts(measured)], about=" ".join((__doc__ or "").split()),
        notes=[
            f"Lucene {facts['lucene']} of pyserini {facts['pyserini']}, Java {facts['java']}. BM25 has k1 = 0.9 and "
            "b = 0.4 everywhere; titles are joined to texts.",
            f"`{ANSERINI}`: Porter's stemmer and Lucene's 33 stop words, where plait has Snowball's English stemmer "
            "and a longer list; words are cut elsewhere too, as at apostrophes.",
            f"`{TERMS}`: what is left then. Lucene keeps a length in one byte, exact up to 40 terms and within 1/8 "
            f"above; `{WHOLE}` keeps it as it is (Anserini's -bm25.accurate). Plait's own impacts are steps of 1/255.",
            "Overlap: the share of plait's best that are among Lucene's as many best, mean over queries.",
            "Impact search: every hit of every query, compared as (id, score) and in order. Both hold the 8-bit "
            "impacts of plait's learned strand; query weights are rounded as pyserini rounds them.",
        ],
    )  # fmt: skip
    print(page)
    sys.exit(0 if all(check.met for check in checks) else 1)


def _arguments() -> argparse.Namespace:
    parser = common.parser(f"{__doc__} Needs plait[lucene] and Java. Exit status 1 where a target is missed.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/")
    parser.add_argument("collections", nargs="*", default=list(COLLECTIONS), metavar="COLLECTION", help="folder names")
    parser.add_argument("--index-dir", type=Path, help="indexes of quality.py; what lacks is made here")
    return parser.parse_args()


def _versions() -> dict[str, str]:
    started = java()
    lucene = str(started("org.apache.lucene.util.Version").LATEST.toString())
    version = str(started("java.lang.System").getProperty("java.version"))
    return {"lucene": lucene, "pyserini": metadata.version("pyserini"), "java": version}


def _measure(dataset: Dataset, keep: Path | None) -> dict[str, Any]:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-lucene-")))
        path = (keep or work) / f"{dataset.name}.index"
        opened = Retriever.open(path) if (path / "plait.db").exists() else Retriever.create(path)
        retriever = stack.enter_context(closing(opened))
        retriever.add(dataset.documents())
        retriever.commit()
        queries = {query: text for query, text in dataset.queries.items() if query in dataset.qrels}
        texts = {document.id: document.full_text for document in dataset.documents()}
        runs = {
            OURS: retriever.run(queries, K, strands="lexical", weights={"lexical": 1}),
            **_bm25(texts, queries, work),
            FUSED: retriever.run(queries, K, strands="lexical,dense", pipeline="none"),
            FUSED_LUCENE: _as_strand(path, queries, work / "english"),
        }
        scores = {name: score_run(run, dataset.qrels, [MEASURE]).means[MEASURE] for name, run in runs.items()}
        overlaps = {name: _overlap(runs[OURS], runs[name]) for name in (ANSERINI, TERMS, WHOLE)}
        impacts = _compared(retriever, list(queries.values()), work)
    return {"documents": len(texts), "queries": len(queries), "scores": scores, "overlap": overlaps, "impact": impacts}


def _bm25(texts: Mapping[str, str], queries: Mapping[str, str], work: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Returns Lucene's runs: its analyser, plait's terms, and these with whole lengths."""
    analyser = Analyser()
    terms = {id: " ".join(analyser(text)) for id, text in texts.items()}
    asked = {query: " ".join(analyser(text)) for query, text in queries.items()}
    write_texts(work / "english", texts.items())
    write_texts(work / "terms", terms.items(), analyzer=PRETOKENIZED)
    write_texts(work / "whole", terms.items(), analyzer=PRETOKENIZED, exact_lengths=True)
    return {
        ANSERINI: _run(LuceneIndex(work / "english"), queries),
        TERMS: _run(LuceneIndex(work / "terms", analyzer=PRETOKENIZED), asked),
        WHOLE: _run(LuceneIndex(work / "whole", Similarity(exact_lengths=True), analyzer=PRETOKENIZED), asked),
    }


def _run(index: LuceneIndex, queries: Mapping[str, str]) -> dict[str, dict[str, float]]:
    found = {}
    for query, text in queries.items():
        terms = index.analyse(text)
        hits = index.search(index.query({term: float(terms.count(term)) for term in terms}), K)
        found[query] = dict(zip(hits.ids, hits.scores.tolist(), strict=True))
    index.close()
    return found


def _as_strand(path: Path, queries: Mapping[str, str], folder: Path) -> dict[str, dict[str, float]]:
    with closing(Retriever.open(path, lucene=Lucene(folder))) as retriever:
        return retriever.run(queries, K, strands="lucene,dense", pipeline="none")


def _overlap(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    found = {}
    for cut in CUTS:
        pairs = [(list(run)[:cut], list(theirs[query])[:cut]) for query, run in ours.items()]
        shares = [len(set(a) & set(b)) / max(len(a), len(b)) for a, b in pairs if a or b]
        found[f"@{cut}"] = statistics.fmean(shares)
    return found


def _compared(retriever: Retriever, texts: Sequence[str], work: Path) -> dict[str, Any]:
    """Returns how many hits of an impact search differ between plait and Lucene, the same whole numbers in both."""
    with closing(Snapshot(retriever.folder)) as snapshot:
        ids = sorted(snapshot.all_ids())
        positions = np.array([position for _, position in sorted(snapshot.positions(ids).items())], np.int64)
        rows, terms = snapshot.sparse_vectors("learned", positions)
        rows.data = np.rint(rows.data / snapshot.layout.learned_scale).astype(np.float32)
        asked = [
            (query.terms, np.rint(query.weights * STEPS))
            for query in retriever.strand("learned").encode(texts, snapshot)
        ]
    names = [str(term) for term in terms.tolist()]
    vectors = {
        id: {names[c]: int(v) for c, v in zip(row.indices.tolist(), row.data.tolist(), strict=True)}
        for id, row in zip(ids, rows, strict=True)
    }
    write_impacts(work / "impacts", ((id, vector) for id, vector in vectors.items() if vector))
    create(work / "whole-impacts", Layout(learned_scale=1.0), {})
    with closing(Writer(work / "whole-impacts")) as writer:
        wide = _columns(rows, terms)
        writer.add([Document(id=id, text="") for id in ids], {"learned": wide}, None)
        writer.commit()
    with closing(Snapshot(work / "whole-impacts")) as snapshot, closing(LuceneIndex(work / "impacts", IMPACT)) as index:
        found = [_one(snapshot, index, terms[weights > 0], weights[weights > 0]) for terms, weights in asked]
    hits, differing, order = (int(sum(column)) for column in zip(*found, strict=True))
    return {"hits": hits, "postings": int(rows.nnz), "differing": differing, "other order": order}


def _columns(rows: Any, terms: Any) -> Any:
    """Returns rows whose columns are the terms themselves."""
    from scipy.sparse import csr_matrix

    return csr_matrix(
        (rows.data, terms[rows.indices].astype(np.int64), rows.indptr), (rows.shape[0], int(terms.max()) + 1)
    )


def _one(snapshot: Snapshot, index: LuceneIndex, terms: Any, weights: Any) -> tuple[int, int, int]:
    """Returns how many hits there are, how many are in one answer alone or score otherwise, and 1 for another order."""
    ours = snapshot.sparse_search("learned", terms, weights.astype(np.float32), snapshot.documents)
    named = {str(t): float(w) for t, w in zip(terms.tolist(), weights.tolist(), strict=True)}
    theirs = index.search(index.query(named), snapshot.documents)
    ids = snapshot.ids(ours.positions)
    a = set(zip(ids, ours.scores.tolist(), strict=True))
    b = set(zip(theirs.ids, theirs.scores.tolist(), strict=True))
    return len(b), len(a ^ b), int(ids != theirs.ids)


def _checks(measured: Mapping[str, Any]) -> list[common.Check]:
    made = []
    for name, facts in measured.items():
        lag = facts["scores"][ANSERINI] - facts["scores"][OURS]
        made += [
            common.Check(
                f"{name}: hits of impact search that differ from Lucene's", facts["impact"]["differing"], 0, digits=0
            ),
            common.Check(
                f"{name}: overlap@10 with Lucene's BM25, same terms",
                facts["overlap"][TERMS]["@10"],
                ALIKE,
                at_least=True,
            ),
            common.Check(f"{name}: {MEASURE} of Lucene's BM25 above plait's", lag, NEAR, digits=4),
        ]
    return made


def _scores(measured: Mapping[str, Any]) -> common.Table:
    names = (OURS, ANSERINI, TERMS, WHOLE, FUSED, FUSED_LUCENE)
    rows = [(name, *(f"{facts['scores'][name]:.4f}" for facts in measured.values())) for name in names]
    return common.Table(MEASURE, ("system", *measured), rows)


def _overlaps(measured: Mapping[str, Any]) -> common.Table:
    rows = [
        (f"{name}, overlap@{cut}", *(f"{facts['overlap'][name][f'@{cut}']:.4f}" for facts in measured.values()))
        for name in (ANSERINI, TERMS, WHOLE)
        for cut in CUTS
    ]
    return common.Table("Plait's lexical strand and Lucene's BM25", ("beside", *measured), rows)


def _impacts(measured: Mapping[str, Any]) -> common.Table:
    facts = [(name, each["documents"], each["queries"], *each["impact"].values()) for name, each in measured.items()]
    rows = [(name, *(f"{value:,}" for value in values)) for name, *values in facts]
    columns = ("collection", "documents", "queries", "hits", "postings", "hits that differ", "queries in another order")
    return common.Table("Impact search, the same whole weights", columns, rows)


if __name__ == "__main__":
    main()

"""Fusion weights swept over collections that no quality target uses: development splits, and pairs not trained on."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.eval import EvalError, load_beir, score_run
from plait.retriever import FUSIONS, PlaitError, Retriever
from plait.train import RECIPES, TrainError, read_training

MEASURE = "nDCG@10"
EVERY = 1000  # hits asked for: more than there are candidates
KEPT = 30  # hits judged: more than the measure looks at, so that ties are settled by its rule
STEP = 0.05
STRANDS = ("lexical", "learned", "dense")
SPLITS = {"squad-dev": "test", "mlquestions": "dev", "nfcorpus": "dev"}
UNTRAINED = ("arxiv", "msdocs", "squad")  # sources with more pairs than the embedded model was trained on
NEVER = ("wikiqa",)  # a source of which it saw nothing
SHOWN = 12  # rows of the table


def main() -> None:
    """Indexes what is not indexed, sweeps, and writes the table."""
    args = _arguments()
    where = common.machine()
    measured: dict[str, dict[str, float]] = {}
    for name, folder, split in collections_of(args):
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            measured[name] = _swept(folder, split, args.work / f"{folder.name}.index", args.queries)
        except (EvalError, *PlaitError) as error:
            common.fail(str(error))
    notes = [
        f"{MEASURE}, convex fusion without steps, all combinations in steps of {STEP:g}; the {SHOWN} best by the mean "
        "over collections, the default, and each strand alone.",
        "`-dev` splits are not those that the quality table judges. Of `-unseen` sources the embedded model "
        f"was trained on other pairs; {args.documents:,} documents of each were drawn. At most {args.queries} queries "
        "of a collection, drawn too.",
    ]
    page = common.write(
        "weights", args.results, where=where, checks=[], tables=[_table(measured)], notes=notes, raw=measured,
        about="Which weights fuse the three strands best, on collections that the quality table does not use.",
    )  # fmt: skip
    print(page)


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/ and pairs/*.jsonl.xz")
    drawing_options(parser)
    return parser.parse_args()


def drawing_options(parser: argparse.ArgumentParser) -> None:
    """Adds what `collections_of` is told."""
    parser.add_argument(
        "--work", type=Path, required=True, help="indexes and drawn collections; may be that of quality.py --index-dir"
    )
    parser.add_argument("--limit", type=int, default=15000, help="pairs a source that the model was trained on")
    parser.add_argument("--documents", type=int, default=2000, help="documents drawn from a source of pairs")
    parser.add_argument("--queries", type=int, default=300, help="the most queries of a collection")


def collections_of(args: argparse.Namespace) -> list[tuple[str, Path, str]]:
    """Returns names, folders and splits of collections that no quality target uses, drawn where they must be."""
    found = []
    for name, split in SPLITS.items():
        folder = common.existing(args.data / "beir" / name, "a BEIR folder")
        found.append((name if split == "test" else f"{name}-{split}", folder, split))
    for name in (*UNTRAINED, *NEVER):
        folder = args.work / f"{name}-unseen"
        if not (folder / "qrels" / "test.tsv").is_file():
            pairs = common.existing(args.data / "pairs" / f"{name}.jsonl.xz", "a file of pairs")
            _draw(pairs, folder, args, trained=name in UNTRAINED)
        found.append((folder.name, folder, "test"))
    return found


def _draw(pairs: Path, folder: Path, args: argparse.Namespace, *, trained: bool) -> None:
    """Writes a collection of documents that the model was not trained on, with their queries."""
    seed = RECIPES["plait-mini"].seed
    try:
        known = set(read_training(pairs, limit=args.limit, seed=seed).documents) if trained else set()
        given = read_training(pairs)
    except TrainError as error:
        common.fail(str(error))
    random = np.random.default_rng(seed)
    unseen = [at for at, text in enumerate(given.documents) if text not in known]
    chosen = {unseen[at] for at in random.permutation(len(unseen))[: args.documents].tolist()}
    asked = [at for at, answer in enumerate(given.positives.tolist()) if answer in chosen]
    asked = sorted(asked[at] for at in random.permutation(len(asked))[: args.queries].tolist())
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _lines(folder / "corpus.jsonl", ({"_id": f"d{at}", "text": given.documents[at]} for at in sorted(chosen)))
    _lines(folder / "queries.jsonl", ({"_id": f"q{at}", "text": given.queries[at]} for at in asked))
    rows = "".join(f"q{at}\td{given.positives[at]}\t1\n" for at in asked)
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")


def _lines(path: Path, records: Any) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _swept(folder: Path, split: str, index: Path, most: int) -> dict[str, float]:
    """Returns the measure by weights, "0.20, 0.10, 0.70"."""
    dataset = load_beir(folder, split)
    opened = Retriever.open(index) if (index / "plait.db").exists() else Retriever.create(index)
    with closing(opened) as retriever:
        retriever.add(dataset.documents())
        retriever.commit()
        chosen = np.random.default_rng(0).permutation(list(dataset.queries))[:most].tolist()
        candidates = {query: _normalised(retriever, query, dataset.queries[query]) for query in chosen}
    qrels = {query: dataset.qrels[query] for query in chosen}
    return {_name(weights): _score(candidates, weights, qrels) for weights in _combinations()}


def _normalised(retriever: Retriever, query: str, text: str) -> tuple[list[str], Any]:
    """Returns the ids of all candidates and their normalised scores (candidates, strands)."""
    hits = [hit for hit in retriever.search(text, k=EVERY, pipeline="none") if hit.id != query]
    rows = [[hit.strands[strand].normalised for strand in STRANDS] for hit in hits]
    return [hit.id for hit in hits], np.array(rows).reshape(-1, len(STRANDS))


def _score(candidates: Mapping[str, tuple[list[str], Any]], weights: Sequence[float], qrels: Any) -> float:
    run = {}
    for query, (ids, rows) in candidates.items():
        fused = rows @ np.array(weights)
        best = np.argsort(-fused, kind="stable")[:KEPT]
        run[query] = {ids[at]: float(fused[at]) for at in best}
    return score_run(run, qrels, [MEASURE]).means[MEASURE]


def _combinations() -> list[tuple[float, ...]]:
    parts = round(1 / STEP)
    whole = [(a, b, parts - a - b) for a in range(parts + 1) for b in range(parts + 1 - a)]
    default = tuple(FUSIONS["convex"].weights[strand] for strand in STRANDS)  # which need not lie on the grid
    return list(dict.fromkeys([*(tuple(round(part * STEP, 6) for part in three) for three in whole), default]))


def _name(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:.3f}".removesuffix("0") for weight in weights)


def _table(measured: Mapping[str, Mapping[str, float]]) -> common.Table:
    names = [_name(weights) for weights in _combinations()]
    means = {name: float(np.mean([scores[name] for scores in measured.values()])) for name in names}
    best = sorted(means, key=lambda name: -means[name])[:SHOWN]
    default = _name([FUSIONS["convex"].weights[strand] for strand in STRANDS])
    alone = [_name([float(strand == other) for other in STRANDS]) for strand in STRANDS]
    rows = [
        (f"**{name}**" if name == default else name, *(f"{scores[name]:.4f}" for scores in measured.values()),
         f"{means[name]:.4f}")
        for name in dict.fromkeys([*best, default, *alone])
    ]  # fmt: skip
    return common.Table("Weights of lexical, learned, dense", ("weights", *measured, "mean"), rows)


if __name__ == "__main__":
    main()

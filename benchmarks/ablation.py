"""What each part of the training recipe is worth: short trainings that differ in one thing each.

Short trainings rank parts, they do not reach what a long one does: read the differences, not the heights.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common

# name -> (what it shows, what it changes); the first is what the others are compared with
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plait-mini": ("IDF-aware FLOPS, two teachers, literal residual, mined negatives, one layer of its own", {}),
    "trained-idf": ("the same; queries weighed by the training text's IDF", {"idf": "trained"}),
    "plain-flops": ("binary queries: no IDF in the matching", {"query_side": "binary"}),
    "l0": ("FLOPS only over documents with more than 150 terms, a second logarithm",
           {"penalty": "l0", "tau": 150.0, "activation": "log1p_log1p"}),
    "dense-teacher": ("one teacher, dense: the base", {"teachers": {"base": 1.0}}),
    "bm25-teacher": ("one teacher, BM25", {"teachers": {"bm25": 1.0}}),
    "no-teacher": ("no teacher: InfoNCE alone", {"teachers": {}, "losses": {"infonce": 1.0}}),
    "no-literal": ("no literal residual", {"literal": False}),
    "no-mining": ("no mined negatives, no neighbours' queries", {"mining": ()}),
    "frozen": ("no layer of its own: the head alone learns", {"branch": 0}),
    "tuned": ("no layer of its own: the whole trunk learns, its dense vector held near the base's",
              {"branch": 0, "trunk": "tuned", "keep_dense": 10.0}),
}  # fmt: skip
SYSTEM = "learned"


def main() -> None:
    """Trains every variant and writes the table."""
    args = _arguments()
    where = common.machine()
    pairs = sorted(common.existing(args.data / "pairs", "a folder of pairs, *.jsonl.xz").glob("*.jsonl*"))
    collections = [common.existing(args.data / "beir" / name, "a BEIR folder") for name in args.evaluate]
    chosen = args.variants or list(VARIANTS)
    found: dict[str, Any] = {}
    page = ""
    for name in chosen:  # the page is written after each: what is there is there
        found[name] = _trained(name, args, pairs, collections)
        page = _page(args, where, found)
    print(page)


def _page(args: argparse.Namespace, where: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return common.write(
        "ablation", args.results, where=where, raw={"variants": found, "steps": args.steps, "limit": args.limit},
        about="What each part of the recipe behind plait-mini is worth: trainings that differ in one thing each.",
        checks=[], tables=[_table(found)],
        notes=[
            f"{args.steps} steps of {args.documents} documents each, of at most {args.limit:,} pairs a source, one "
            "seed: short runs. A difference of less than .01 may be chance.",
            "Queries are weighed by the IDF of the collection searched, `trained-idf` aside. `held out`: pairs of the "
            "training sources whose documents were not trained on. `active`: terms a document; `FLOPS`: the sum over "
            "terms of P(query has it) x P(document has it); both of the first test collection.",
            "`dense`: nDCG@10 of the trunk's dense strand there; only a tuned trunk can change it.",
        ],
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with pairs/*.jsonl.xz and beir/COLLECTION/")
    parser.add_argument("--base", required=True, help="the model to start from, as of `plait train --base`")
    parser.add_argument("--work", type=Path, required=True, help="where trainings and their cache are kept")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--documents", type=int, default=48, help="documents in a step")
    parser.add_argument("--limit", type=int, default=2000, help="pairs of each source")
    parser.add_argument(
        "--evaluate", nargs="*", default=["nfcorpus"], metavar="COLLECTION", help="folders of DATA/beir"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), help="all where none is named")
    return parser.parse_args()


def _trained(
    name: str, args: argparse.Namespace, pairs: Sequence[Path], collections: Sequence[Path]
) -> dict[str, Any]:  # fmt: skip
    from plait.train import RECIPES, TrainError, train

    sizes = {"steps": args.steps, "documents": args.documents, "seeds": max(1, args.documents // 6)}
    recipe = RECIPES["plait-mini"].changed({**sizes, **VARIANTS[name][1], "name": name})
    others = [folder for folder in sorted((args.data / "beir").iterdir()) if folder.is_dir()]
    print(f"{name}: {VARIANTS[name][0]}", file=sys.stderr, flush=True)
    try:
        report = train(
            recipe, pairs, base=args.base, out=args.work / name, cache=args.work / "cache", evaluate=collections,
            exclude=others, limit=args.limit, threads=args.threads, held_out=0.03,
        )  # fmt: skip
    except TrainError as error:
        common.fail(str(error))
    return report.to_json()


def _table(found: Mapping[str, Any]) -> common.Table:
    names = [one["name"] for one in next(iter(found.values()))["evaluation"]]
    rows = [_row(name, facts["evaluation"]) for name, facts in found.items()]
    columns = ("training", "what is different", *names, "dense", "active", "FLOPS")
    return common.Table("nDCG@10 of the learned strand", columns, rows)


def _row(name: str, evaluation: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    scores = [f"{one['ndcg'][SYSTEM]:.4f}" for one in evaluation]
    last = evaluation[1] if len(evaluation) > 1 else evaluation[0]
    dense = f"{last['ndcg']['dense']:.4f}" if "dense" in last["ndcg"] else "-"
    return name, VARIANTS[name][0], *scores, dense, f"{last['active']:.0f}", f"{last['flops']:.2f}"


if __name__ == "__main__":
    main()

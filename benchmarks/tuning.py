"""Weights that few judged queries choose: what is lost against the best weights of a collection, which nobody knows."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.eval import EvalError, judge, load_beir, tune
from plait.eval.gains import measure_named
from plait.eval.judged import Judged
from plait.eval.tuning import FOLDS, folded, shares, simplex
from plait.retriever import PlaitError, Retriever
from plait.retriever.fusion import chosen
from quality import TARGETS
from weights import collections_of, drawing_options

MEASURE = "nDCG@10"
RULES = ("plait's own weights", "the best of the grid", "plait tune", "the best weights, on such queries")
SIZES = (10, 30, 100, 250)
SMALL = 60  # queries; a collection of no more is cross-validated, and counts as one of thirty
LEFT = 50  # queries that must be left to judge by
AGAIN = 200  # samples of the queries that judge, drawn from themselves
Losses = dict[int, list[float]]


def main() -> None:
    """Indexes what is not indexed, draws, tunes, and writes the tables."""
    args = _arguments()
    where = common.machine()
    six = [(name, args.data / "beir" / name, "test") for name in TARGETS]
    others = collections_of(args)
    lost: dict[str, Losses] = {}
    for name, folder, split in [*six, *others]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            lost[name] = _lost(_judged(folder, split, args.work / f"{folder.name}.index", args.queries), args.draws)
        except (EvalError, *PlaitError) as error:
            common.fail(str(error))
    groups = {"six": [name for name, *_ in six], "others": [name for name, *_ in others]}
    notes = [
        f"{MEASURE} of the convex fusion, without steps, below that of the best weights in steps of .025, which are "
        f"found by the very queries that judge. Mean of {args.draws} draws of the queries that choose.",
        "The last row is no rule but a bound: on queries drawn anew from those that judge, the best weights of the "
        "latter below those that happen to be best on the sample. A rule that knew a collection's weights for certain "
        f"would lose about as much. Mean of {AGAIN} samples of each draw.",
        f"Collections of no more than {SMALL} queries are cross-validated, and stand under 30; their best weights come "
        "from all their queries, so their losses look larger than they are.",
        "`six` are the collections of quality.py, `others` judgements which it does not use (see weights.py), as many "
        f"of both as have {LEFT} queries more than choose.",
    ]
    print(
        common.write(
            "tuning", args.results, where=where, checks=[], notes=notes, raw={"lost": lost},
            tables=[_means(lost, groups), *(_table(size, lost) for size in SIZES)],
            about="What weights lose that few judged queries choose.",
        )
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/ and pairs/*.jsonl.xz")
    drawing_options(parser)
    parser.add_argument("--draws", type=int, default=10, help="of the queries that choose")
    parser.set_defaults(queries=900)
    return parser.parse_args()


def _judged(folder: Path, split: str, index: Path, most: int) -> Judged:
    dataset = load_beir(folder, split)
    opened = Retriever.open(index) if (index / "plait.db").exists() else Retriever.create(index)
    with closing(opened) as retriever:
        retriever.add(dataset.documents())
        retriever.commit()
        known = sorted(query for query in dataset.queries if query in dataset.qrels)
        chosen = np.random.default_rng(0).permutation(known)[:most].tolist()
        return judge(retriever, {query: dataset.queries[query] for query in chosen}, dataset.qrels)


def _lost(judged: Judged, draws: int) -> Losses:
    """Returns by the number of queries that choose what each rule loses."""
    grid, random = simplex(len(judged.strands)), np.random.default_rng(0)
    table = judged.table(grid, measure_named(MEASURE))
    found: Losses = {}
    for size in SIZES:
        if len(judged) <= SMALL and size == SIZES[1]:
            parts = [list(folded(len(judged), FOLDS, random)) for _ in range(draws)]
            values = [
                sum(table[rest][:, _chosen(judged, by, grid, table)].sum(axis=0) for rest, by in one) for one in parts
            ]
            losses = table.mean(axis=0).max() - np.mean(values, axis=0) / len(judged)
            found[size] = [*losses.tolist(), _known(table)]
        elif len(judged) >= size + LEFT and len(judged) > SMALL:
            orders = [random.permutation(len(judged)) for _ in range(draws)]
            found[size] = np.mean([_drawn(judged, order, size, grid, table) for order in orders], axis=0).tolist()
    return found


def _drawn(judged: Judged, order: Any, size: int, grid: Any, table: Any) -> list[float]:
    """Returns what each rule loses that sees the first `size` queries of an order, judged by the rest."""
    rest = table[order[size:]]
    mean = rest.mean(axis=0)
    return [*(mean.max() - mean[_chosen(judged, order[:size], grid, table)]).tolist(), _known(rest)]


def _known(table: Any) -> float:
    """Returns what the best weights of these queries lose on queries drawn from them, against the best of those."""
    count = len(table)
    samples = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), AGAIN) / count @ table
    return float(np.mean(samples.max(axis=1) - samples[:, table.mean(axis=0).argmax()]))


def _chosen(judged: Judged, rows: Any, grid: Any, table: Any) -> list[int]:
    """Returns the rows of the grid that the rules choose by some queries."""
    own = shares(chosen("convex").weights_among(judged.strands), judged.strands)
    tuned = np.array([tune(judged.part(rows.tolist())).weights[strand] for strand in judged.strands])
    nearest = [int(((grid - weights) ** 2).sum(axis=1).argmin()) for weights in (own, tuned)]
    return [nearest[0], int(table[rows].mean(axis=0).argmax()), nearest[1]]


def _means(lost: Mapping[str, Losses], groups: Mapping[str, list[str]]) -> common.Table:
    columns, cells = [], []
    for group, names in groups.items():
        for size in SIZES:
            held = [lost[name][size] for name in names if size in lost[name]]
            if held:
                columns.append(f"{group}: {size} ({len(held)})")
                cells.append([f"{value:.4f}" for value in np.mean(held, axis=0)])
    rows = [(rule, *(column[place] for column in cells)) for place, rule in enumerate(RULES)]
    return common.Table("Means, by the queries that choose (collections)", ("", *columns), rows)


def _table(size: int, lost: Mapping[str, Losses]) -> common.Table:
    names = [name for name, losses in lost.items() if size in losses]
    rows = [(rule, *(f"{lost[name][size][place]:.4f}" for name in names)) for place, rule in enumerate(RULES)]
    return common.Table(f"{size} queries", ("", *names), rows)


if __name__ == "__main__":
    main()

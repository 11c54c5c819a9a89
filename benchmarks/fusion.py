"""Fusion, feedback and tuning: the default pipeline beside each strand and the best fixed weights, on BEIR folders.

The best fixed weights are those that are best on these very queries, so they are an upper bound of what one setting
for all can do without feedback. For the halves, a setting is chosen on three collections and judged on the others.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.eval import EvalError, load_beir, score_run
from plait.eval.gains import measure_named
from plait.eval.judged import Judged, judge
from plait.eval.trial import try_out
from plait.eval.tuning import FOLDS, folded, simplex, tune
from plait.retriever import PlaitError, Retriever

MEASURE, K = "nDCG@10", 10
COLLECTIONS = ("scifact", "nfcorpus", "medline", "lisa", "wikiqa-test", "mlquestions")
BOUNDS = "convex:normalise=bounds"
SYSTEMS: dict[str, dict[str, Any]] = {
    "lexical": {"strands": "lexical"},
    "learned": {"strands": "learned"},
    "dense": {"strands": "dense"},
    "RRF": {"fusion": "rrf", "pipeline": "none"},
    "default, no steps": {"pipeline": "none"},
    "default, no feedback": {"pipeline": "questions"},
    "default, questions as all": {"pipeline": "feedback"},
    "default, towards the best alone": {"pipeline": "questions,feedback:away=0"},
    "default": {},
}
# What the halves choose from: how sparse scores are normalised, whether questions are weighed otherwise, and how
# feedback weighs: towards the best, by what length, away from all.
CHOICES: dict[str, dict[str, Any]] = {
    f"{normalise}, {'questions, ' if asked < 1 else ''}feedback {dense:g}/{length:g}/{away:g}": {
        "fusion": f"convex:normalise={normalise}",
        "weights": dict(zip(("lexical", "learned", "dense"), weights, strict=True)),
        "pipeline": [
            f"questions:lexical={asked:g}",
            *([f"feedback:dense={dense:g}:length={length:g}:away={away:g}"] if dense else []),
        ],
    }
    for asked in (1.0, 0.7)
    for normalise, weights in (("bounds", (0.15, 0.1, 0.75)), ("norm", (0.135, 0.07, 0.795)))
    for dense, length in ((0.0, 0.0), (0.4, 0.0), (0.8, 100.0), (1.5, 200.0))
    for away in ((0.0, 0.5) if dense else (0.0,))
}
STEP, FEW, DRAWS = 0.05, 30, 5
GAIN, LOSS, NEAR, FALL = 0.010, 0.010, 0.005, 0.010


def main() -> None:
    """Measures every collection and writes the page."""
    args = _arguments()
    where = common.machine()
    measured = {}
    for name in args.collections:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            measured[name] = _measure(args, name)
        except (EvalError, *PlaitError) as error:
            common.fail(str(error))
    checks = _checks(measured)
    page = common.write(
        "fusion", args.results, where=where, checks=checks, raw=measured,
        tables=[_systems(measured), _halves(measured), _tuned(measured)],
        about="What fusion, feedback and tuning are worth, the same settings for every collection unless it says so.",
        notes=[
            f"{MEASURE}. `best fixed weights` are the best single weights of all collections together, found on these "
            f"queries in steps of {STEP:g}, scores normalised by bounds, no feedback; `best weights each` the best of "
            "each collection. Both have seen the answers; the default has one setting.",
            f"Halves: of {len(CHOICES)} settings (two normalisations, questions weighed as all or not, seven ways of "
            "feedback) the best on three collections is judged on the other three, all ten splits both ways. Defaults "
            "were settled with all six in sight; what questions weigh is the best on others, but two of the six gave "
            "the idea.",
            f"Tuned: {FEW} judged queries of a collection, drawn {DRAWS} times, choose weights that the other queries "
            "judge, without feedback, beside the best weights of those other queries. Collections of no more than "
            f"{2 * FEW} queries are cross-validated instead.",
            "Searches after `plait tune`: the same, but as a user has it: new weights are kept only where they are "
            "better behind the index's own steps, and searches take those steps; beside the same best weights, which "
            "have no feedback.",
        ],
    )  # fmt: skip
    print(page)
    sys.exit(0 if all(check.met for check in checks) else 1)


def _arguments() -> argparse.Namespace:
    parser = common.parser(f"{__doc__} Exit status 1 where a target is missed.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/")
    parser.add_argument("collections", nargs="*", default=list(COLLECTIONS), metavar="COLLECTION")
    parser.add_argument("--index-dir", type=Path, required=True, help="indexes of quality.py; what lacks is made here")
    return parser.parse_args()


def _measure(args: argparse.Namespace, name: str) -> dict[str, Any]:
    folder = common.existing(args.data / "beir" / name, "a BEIR folder: corpus.jsonl, queries.jsonl, qrels/")
    dataset, path = load_beir(folder), args.index_dir / f"{name}.index"
    opened = Retriever.open(path) if (path / "plait.db").exists() else Retriever.create(path)
    with closing(opened) as retriever:
        retriever.add(dataset.documents())
        retriever.commit()
        queries = {query: text for query, text in dataset.queries.items() if query in dataset.qrels}
        scores = {
            system: score_run(retriever.run(queries, K, **options), dataset.qrels, [MEASURE]).means[MEASURE]
            for system, options in (SYSTEMS | CHOICES).items()
        }
        answers = retriever.search_batch(list(queries.values())[:200], 10)
        bounds = judge(retriever, queries, dataset.qrels, fusion=BOUNDS)
        own = judge(retriever, queries, dataset.qrels)
        few = _few(own) | _searched(retriever, own)
    grid = simplex(3, STEP)
    # Queries without a relevant document are left out of what weights are chosen by; in reports they count as 0.
    share = len(bounds) / len(dataset.qrels)
    table = bounds.table(grid, measure_named(MEASURE)).mean(axis=0) * share
    return {
        "scores": scores,
        "grid": {_name(weights): value for weights, value in zip(grid.tolist(), table.tolist(), strict=True)},
        "tuned": {name: value * share for name, value in few.items()},
        "steps_milliseconds": statistics.median(answer.milliseconds["steps"] for answer in answers),
    }


def _few(judged: Judged) -> dict[str, float]:
    """Returns what weights chosen by few judged queries score on the others, and what the best ones do there."""
    grid, measure = simplex(3), measure_named(MEASURE)
    if len(judged) <= 2 * FEW:
        found = tune(judged)
        return {"tuned": found.after, "best": float(judged.table(grid, measure).mean(axis=0).max())}
    pairs, random = [], np.random.default_rng(0)
    table = judged.table(grid, measure)
    for _ in range(DRAWS):
        order = random.permutation(len(judged))
        chosen = tune(judged.part(order[:FEW].tolist())).weights
        row = int(np.abs(grid - np.array([chosen[strand] for strand in judged.strands])).sum(axis=1).argmin())
        others = table[order[FEW:]].mean(axis=0)
        pairs.append((float(others[row]), float(others.max())))
    tuned, best = (statistics.fmean(values) for values in zip(*pairs, strict=True))
    return {"tuned": tuned, "best": best}


def _searched(retriever: Retriever, judged: Judged) -> dict[str, float]:
    """Returns what searches score behind the index's own steps, after `plait tune` by a few queries, on the others."""
    random, small = np.random.default_rng(0), len(judged) <= 2 * FEW
    if small:
        parts = [(others, rest) for rest, others in folded(len(judged), FOLDS, random)]
    else:
        orders = [random.permutation(len(judged)) for _ in range(DRAWS)]
        parts = [(order[:FEW], order[FEW:]) for order in orders]
    found = []
    for chosen_by, rest in parts:
        part = judged.part(chosen_by.tolist())
        tuned = tune(part)
        weights = tuned.weights if try_out(retriever, part, tuned).better else None
        others = judged.part(rest.tolist()).queries
        run = retriever.run({query.query: query.text for query in others}, K, weights=weights)
        scored = score_run(run, {query.query: query.judged for query in others}, [MEASURE])
        found.append(list(scored.per_query[MEASURE].values()))
    means = map(statistics.fmean, [list(chain.from_iterable(found))] if small else found)
    return {"searched": statistics.fmean(means)}


def _name(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:.2f}" for weight in weights)


def _mean(measured: Mapping[str, Any], system: str, names: Sequence[str] | None = None) -> float:
    return statistics.fmean(measured[name]["scores"][system] for name in names or measured)


def _fixed(measured: Mapping[str, Any], names: Sequence[str] | None = None) -> tuple[str, float]:
    """Returns the best single weights of some collections, and their mean."""
    chosen = names or list(measured)
    means = {w: statistics.fmean(measured[n]["grid"][w] for n in chosen) for w in measured[chosen[0]]["grid"]}
    best = max(means, key=lambda weights: means[weights])
    return best, means[best]


def _systems(measured: Mapping[str, Any]) -> common.Table:
    weights, _ = _fixed(measured)
    rows = [(system, [facts["scores"][system] for facts in measured.values()]) for system in SYSTEMS]
    rows.insert(4, (f"best fixed weights ({weights})", [facts["grid"][weights] for facts in measured.values()]))
    rows.append(("best weights each", [max(facts["grid"].values()) for facts in measured.values()]))
    cells = [(name, *(f"{value:.4f}" for value in [*values, statistics.fmean(values)])) for name, values in rows]
    return common.Table(MEASURE, ("system", *measured, "mean"), cells)


def _splits(measured: Mapping[str, Any]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    names = list(measured)
    halves = combinations(names, len(names) // 2)
    return [(half, tuple(name for name in names if name not in half)) for half in halves if len(names) > 1]


def _chosen(measured: Mapping[str, Any], half: Sequence[str]) -> str:
    return max(CHOICES, key=lambda choice: _mean(measured, choice, half))


def _plain(measured: Mapping[str, Any], half: Sequence[str], other: Sequence[str]) -> tuple[str, float]:
    """Returns the best fixed weights of a half, and their mean on the other one."""
    weights, _ = _fixed(measured, half)
    return weights, statistics.fmean(measured[name]["grid"][weights] for name in other)


def _gain(measured: Mapping[str, Any], half: Sequence[str], other: Sequence[str]) -> float:
    return _mean(measured, _chosen(measured, half), other) - _plain(measured, half, other)[1]


def _halves(measured: Mapping[str, Any]) -> common.Table:
    rows = []
    for half, other in _splits(measured):
        choice, (weights, plain) = _chosen(measured, half), _plain(measured, half, other)
        rows.append(
            (" ".join(half), choice, f"{_mean(measured, choice, other):.4f}", weights, f"{plain:.4f}",
             f"{_gain(measured, half, other):+.4f}")
        )  # fmt: skip
    columns = ("chosen on", "setting", "on the others", "fixed weights chosen there", "on the others", "gain")
    return common.Table("Halves", columns, rows)


def _tuned(measured: Mapping[str, Any]) -> common.Table:
    rows = [
        (name, f"{facts['tuned']['tuned']:.4f}", f"{facts['tuned']['best']:.4f}",
         f"{facts['tuned']['tuned'] - facts['tuned']['best']:+.4f}", f"{facts['tuned']['searched']:.4f}",
         f"{facts['tuned']['searched'] - facts['tuned']['best']:+.4f}", f"{facts['steps_milliseconds']:.2f}")
        for name, facts in measured.items()
    ]  # fmt: skip
    columns = (
        "collection", f"tuned by {FEW}", "best weights", "distance", "searches after `plait tune`", "distance",
        "feedback, ms a query",
    )  # fmt: skip
    return common.Table("Tuned by a few judged queries; and what feedback costs here", columns, rows)


def _checks(measured: Mapping[str, Any]) -> list[common.Check]:
    fixed = _fixed(measured)[1]
    scores = {name: facts["scores"] for name, facts in measured.items()}
    worst = min(each["default"] - max(each[s] for s in ("lexical", "learned", "dense")) for each in scores.values())
    share = {name: each["default"] - each["default, no feedback"] for name, each in scores.items()}
    halves = [_gain(measured, *split) for split in _splits(measured)]
    apart = max(facts["tuned"]["best"] - facts["tuned"]["tuned"] for facts in measured.values())
    behind = [facts["tuned"]["best"] - facts["tuned"]["searched"] for facts in measured.values()]
    return [
        common.Check(
            "default over the best fixed weights, mean", _mean(measured, "default") - fixed, GAIN, "", True, 4
        ),
        common.Check(
            "halves: over fixed weights, both chosen on the other three, mean",
            statistics.fmean(halves),
            GAIN,
            "",
            True,
            4,
        ),
        common.Check("default over the better strand, worst collection", worst, -LOSS, "", True, 4),
        common.Check("feedback's share, mean", statistics.fmean(share.values()), 0.0, "", True, 4),
        common.Check("feedback's share, worst collection", min(share.values()), -FALL, "", True, 4),
        common.Check(
            f"tuned by {FEW} judged queries below the best weights, worst collection", apart, NEAR, "", False, 4
        ),
        common.Check(
            "searches after `plait tune` by them, the same, mean", statistics.fmean(behind), NEAR, "", False, 4
        ),
        common.Check("searches after `plait tune` by them, the same, worst", max(behind), NEAR, "", False, 4),
    ]


if __name__ == "__main__":
    main()

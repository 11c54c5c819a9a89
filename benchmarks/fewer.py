"""What the learned strand says where no dense one hears the query, and what two strands weigh without the third."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from plait.encoders import load_joint
from plait.eval import EvalError, Qrels, Run, load_beir, score_run
from plait.retriever import FUSIONS, PlaitError, Retriever
from quality import TARGETS
from weights import collections_of, drawing_options

MEASURE, K = "nDCG@10", 10
PLAIN, COUNTED, NEAR, FULL = "tokens alone", "repeats counted", "with near terms", "both, the default"
PAIRS = {
    ("lexical", "learned"): (0.05, 0.1, 0.16, 0.25, 0.5, 1.0, 1.93),
    ("learned", "dense"): (0.1, 0.25, 0.4, 0.67, 1.0, 1.5),
    ("lexical", "dense"): (0.1, 0.17, 0.25, 0.4),
}  # the first's weight over the second's; 1.93 and .17 are those of all three together
TIMED, WARM_UP = 220, 20  # queries
Scores = dict[str, float]


@dataclass(frozen=True)
class Saying:
    """The embedded learned encoder whose full queries are made in some other way.

    Attributes:
        inner: the encoder.
        rows: texts to queries, csr_matrix (texts, vocabulary).
    """

    inner: Any
    rows: Callable[[Sequence[str]], Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode_full_queries(self, texts: Sequence[str]) -> Any:
        """Returns the queries."""
        return self.rows(texts)

    def column_names(self, columns: Iterable[int]) -> dict[int, str]:
        """Returns the word pieces of some columns."""
        return self.inner.column_names(columns)


def main() -> None:
    """Indexes what is not indexed, measures and writes the tables."""
    args = _arguments()
    where = common.machine()
    six = [(name, args.data / "beir" / name, "test") for name in TARGETS]
    others = collections_of(args)
    queries, pairs = {}, {}
    for name, folder, split in [*six, *others]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            queries[name], pairs[name] = _measured(folder, split, args.work / f"{folder.name}.index", args.queries)
        except (EvalError, *PlaitError) as error:
            common.fail(str(error))
    groups = {"six": [name for name, *_ in six], "others": [name for name, *_ in others]}
    default = FUSIONS["convex"].fewer.values()
    notes = [
        f"{MEASURE}. `six` is the mean of the collections of quality.py, `others` that of judgements which it does not "
        f"use (see weights.py), by which things were chosen. At most {args.queries} queries of a collection, drawn.",
        "Pairs of strands: convex fusion without steps, the weight of the first over that of the second. The default: "
        + ", ".join(" to ".join(f"{name} {weight:g}" for name, weight in _own(kept).items()) for kept in default)
        + "; lexical to dense what they have beside the learned strand, .17.",
    ]
    timed = {} if args.timed is None else _timed(args.timed, list(load_beir(six[0][1]).queries.values()))
    tables = [
        _table("The learned strand alone, by what its queries say", queries, groups),
        _table("Two strands", pairs, groups),
    ]
    if timed:
        tables.append(common.Table("Milliseconds, learned strand alone", ("", "p50", "p95"), list(timed.values())))
    page = common.write(
        "fewer", args.results, where=where, checks=[], raw={"queries": queries, "pairs": pairs, "milliseconds": timed},
        tables=tables, notes=notes, about="The learned strand without the dense one, and the weights of two strands.",
    )  # fmt: skip
    print(page)


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with beir/COLLECTION/ and pairs/*.jsonl.xz")
    drawing_options(parser)
    parser.add_argument("--timed", type=Path, metavar="INDEX", help="an index in which both kinds of queries are timed")
    return parser.parse_args()


def _measured(folder: Path, split: str, index: Path, most: int) -> tuple[Scores, Scores]:
    dataset = load_beir(folder, split)
    if not (index / "plait.db").exists():
        with closing(Retriever.create(index)) as made:
            made.add(dataset.documents())
            made.commit()
    chosen = np.random.default_rng(0).permutation(list(dataset.queries))[:most].tolist()
    asked, qrels = ({query: table[query] for query in chosen} for table in (dataset.queries, dataset.qrels))
    joint = load_joint()
    tokens, near = joint.token_queries, joint.near_terms
    ways: dict[str, Callable[[Sequence[str]], Any]] = {
        PLAIN: tokens.encode,
        COUNTED: lambda texts: tokens.encode(texts, counted=True),
        NEAR: lambda texts: tokens.encode(texts, near),
        FULL: lambda texts: tokens.encode(texts, near, counted=True),
    }
    by_queries, by_weights = {}, {}
    for way, rows in ways.items():
        with closing(Retriever.open(index, learned=Saying(joint.learned, rows))) as retriever:
            by_queries[way] = _score(retriever.run(asked, K, strands="learned"), qrels)
    with closing(Retriever.open(index)) as retriever:
        for (first, second), ratios in PAIRS.items():
            for ratio in ratios:
                found = retriever.run(
                    asked, K, strands=(first, second), weights={first: ratio, second: 1}, pipeline="none"
                )
                by_weights[f"{first} / {second} {ratio:g}"] = _score(found, qrels)
    return by_queries, by_weights


def _timed(index: Path, texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns what searches of the learned strand take by both kinds of queries, in turns."""
    took: dict[str, list[float]] = {PLAIN: [], FULL: []}
    joint = load_joint()
    with (
        closing(Retriever.open(index, learned=Saying(joint.learned, joint.token_queries.encode))) as plain,
        closing(Retriever.open(index)) as full,
    ):
        for number, text in enumerate(texts[:TIMED]):
            turn = ((PLAIN, plain), (FULL, full))
            for way, retriever in turn if number % 2 else turn[::-1]:  # the first one reads the hits from the disk
                seconds = common.timed(lambda opened=retriever, asked=text: opened.search(asked, strands="learned"))
                if number >= WARM_UP:
                    took[way].append(1000 * seconds)
        documents = len(full)
    return {
        way: (f"{way}, {documents:,} documents", *(f"{common.percentile(times, share):.2f}" for share in (0.5, 0.95)))
        for way, times in took.items()
    }


def _score(run: Run, qrels: Qrels) -> float:
    return score_run(run, qrels, [MEASURE]).means[MEASURE]


def _own(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if not name.startswith("lucene")}


def _table(title: str, measured: Mapping[str, Scores], groups: Mapping[str, Sequence[str]]) -> common.Table:
    rows = []
    for way in next(iter(measured.values())):
        means = [np.mean([measured[name][way] for name in names]) for names in groups.values()]
        rows.append((way, *(f"{mean:.4f}" for mean in means), *(f"{scores[way]:.4f}" for scores in measured.values())))
    return common.Table(title, ("", *groups, *measured), rows)


if __name__ == "__main__":
    main()

"""The command that fits an index to its own queries: `plait tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Depth,
    IndexArgument,
    JsonFlag,
    LuceneImpactOption,
    LuceneOption,
    MovedDense,
    MovedLearned,
    SkipBad,
)


def tune_command(
    index: IndexArgument,
    queries: Annotated[Path | None, typer.Option("--queries", help="Queries: .jsonl, .tsv or one a line.")] = None,
    qrels: Annotated[Path | None, typer.Option("--qrels", help="Their judgements, in BEIR's or TREC's form.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Instead of both: a BEIR folder.")] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Instead: a query log whose lines say what was relevant.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which of its qrels.")] = "test",
    measure: Annotated[
        str, typer.Option("--measure", help="What to choose by: nDCG, RR, AP or R, with a cutoff.")
    ] = "nDCG@10",
    depth: Depth = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and resamples.")] = 0,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate", help="Fit probabilities of relevance to the scores instead: isotonic, platt or label-free."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="With --calibrate: write a reliability diagram (HTML) to a file.")
    ] = None,
    ranker: Annotated[
        str | None,
        typer.Option("--ranker", help="Train a model that orders the best anew instead: logistic or lambdamart."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --ranker: the JSON file to make, for --pipeline rescore.")
    ] = None,
    label_free: Annotated[
        bool, typer.Option("--label-free", help="Without judgements: tell what queries made of the documents say.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to plait's own weights, without calibration.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell, and leave the index as it is.")] = False,
    skip_bad: SkipBad = False,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Choose an index's weights by judged queries, and keep them where searches are better with them.

    Scores are cross-validated: each query is ranked by weights that other queries chose. About 30 judged queries are
    enough to see a large gain, a few hundred for a small one.
    """
    from .tuning import Request, run

    run(
        Request(
            index=index, queries=queries, qrels=qrels, data=data, log=log, split=split, measure=measure, depth=depth,
            seed=seed, ranker=ranker, out=out, calibrate=calibrate, report=report, label_free=label_free, reset=reset,
            dry_run=dry_run, skip_bad=skip_bad, as_json=as_json,
            models={"dense": dense, "learned": learned, "lucene": lucene, "lucene_impact": lucene_impact},
        )
    )  # fmt: skip

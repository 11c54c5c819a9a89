"""The commands that measure: `plait eval` and `plait reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DenseModel,
    Depth,
    FusionOption,
    JsonFlag,
    Language,
    LearnedModel,
    LuceneImpactOption,
    LuceneOption,
    MovedDense,
    MovedLearned,
    PipelineOption,
    SkipBad,
    Strands,
    Weights,
    check_models,
    parsed_pipeline,
    parsed_sizes,
    parsed_weights,
)


def eval_command(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Test collections: BEIR, TREC or MIRACL folders, or ir_datasets:NAME."),
    ] = None,
    data_option: Annotated[list[str] | None, typer.Option("--data", help="The same, as an option.")] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="An index of the corpus, made if missing; of several, a folder for NAME.index."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which qrels.")] = "test",
    measures: Annotated[
        str | None, typer.Option("--measures", help="As ir-measures spells them: 'nDCG@10 R@100'.")
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option("--system", help="One more system, as 'rrf=fusion=rrf; depth=500'; once for each."),
    ] = None,
    systems: Annotated[
        Path | None, typer.Option("--systems", help="A TOML file of more systems: a table of options for each.")
    ] = None,
    defaults: Annotated[
        bool, typer.Option("--defaults/--no-defaults", help="Measure each strand alone and all fused, too.")
    ] = True,
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Measure a finished TREC run, too, or alone; {collection} stands for its name."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The system that others are compared with; default: the first.")
    ] = None,
    latency: Annotated[
        int, typer.Option("--latency", help="Time up to this many queries, one by one, with k=10; 0: none.")
    ] = 0,
    sizes: Annotated[
        str | None, typer.Option("--sizes", help="Measure strands on subsets of the corpus, too, as 1000,5000.")
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option("--distractors", help="More documents for an index that is made: a corpus file.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of permutations, resamples and subsets.")] = 0,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How many permutations and resamples are drawn.")
    ] = 10_000,
    save_runs: Annotated[
        Path | None, typer.Option("--save-runs", help="Write each system's run into a folder.")
    ] = None,
    card: Annotated[Path | None, typer.Option("--card", help="Write the run card (JSON) to a file.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a report (HTML) to a file.")] = None,
    per_query: Annotated[
        bool, typer.Option("--per-query", help="Print every query's value, and what moved in the greatest changes.")
    ] = False,
    skip_bad: SkipBad = False,
    strands: Strands = None,
    dense: DenseModel = None,
    learned: LearnedModel = None,
    language: Language = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
    fusion: FusionOption = None,
    weights: Weights = None,
    pipeline: PipelineOption = None,
    depth: Depth = 200,
    as_json: JsonFlag = False,
) -> None:
    """Measure systems on test collections: every strand alone, all of them fused, and whatever is named.

    Systems are compared with the baseline query by query: a randomisation test, a t test, Holm's correction over all
    systems and collections of a measure, and bootstrap intervals (95 %, percentile).
    """
    from .evaluating import Request, evaluate

    options = {
        "strands": strands, "dense": dense, "learned": learned, "lexical": language,
        "lucene": lucene, "lucene_impact": lucene_impact,
    }  # fmt: skip
    made_with = {name: value for name, value in options.items() if value is not None}
    check_models(strands, made_with)
    evaluate(
        Request(
            data=(*(data or ()), *(data_option or ())), split=split, index=index, measures=measures,
            runs=tuple(run or ()), save_runs=save_runs, card=card, report=report, per_query=per_query,
            made_with=made_with, strands=strands, fusion=fusion, weights=parsed_weights(weights),
            pipeline=parsed_pipeline(pipeline), depth=depth,
            systems=tuple(system or ()), systems_file=systems, defaults=defaults, baseline=baseline, latency=latency,
            sizes=parsed_sizes(sizes), distractors=distractors, seed=seed, samples=samples,
            skip_bad=skip_bad, as_json=as_json,
        )
    )  # fmt: skip


def reproduce_command(
    card: Annotated[Path, typer.Argument(help="The run card, as plait eval --card wrote it.")],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="The collection, or a folder that holds those of the card by name."),
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", help="As of plait eval: an index of the corpus, or a folder of indexes.")
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="A finished run of the card, once for each; {collection} stands for its name."),
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option("--distractors", help="The file of distractors that the card names.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="What a value may differ by; four equal decimals are always enough.")
    ] = 0.0,
    other_data: Annotated[
        bool, typer.Option("--other-data", help="Go on where files have other checksums than those of the card.")
    ] = False,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure again what a run card holds, and compare; status 1 where a value differs."""
    from .reproducing import Request, reproduce

    named = {"dense": dense, "learned": learned, "lucene": lucene, "lucene_impact": lucene_impact}
    models = {name: value for name, value in named.items() if value is not None}
    request = Request(
        card=card, data=tuple(data or ()), index=index, runs=tuple(run or ()), distractors=distractors,
        tolerance=tolerance, other_data=other_data, models=models, as_json=as_json,
    )  # fmt: skip
    if not reproduce(request):
        raise typer.Exit(1)

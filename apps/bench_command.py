"""`plait bench`: what searches of one's own index take, with one's own queries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..eval.benching import STAGES, TOTAL, WARM_UP, Bench, Setting, bench, settings_of
from ..retriever import QueryError, Retriever
from . import console
from .options import (
    Exactness,
    FilterOption,
    FusionOption,
    IndexArgument,
    JsonFlag,
    LuceneImpactOption,
    LuceneOption,
    MovedDense,
    MovedLearned,
    SkipBad,
    parsed_pipeline,
)
from .render import scores_table
from .searching import queries_from


def bench_command(
    index: IndexArgument,
    queries: Annotated[Path, typer.Argument(help="Queries: .jsonl, .tsv or one a line; - reads stdin.")],
    k: Annotated[list[int] | None, typer.Option("-k", help="How many hits; several times to compare.")] = None,
    strands: Annotated[
        list[str] | None, typer.Option("--strands", help="Strands, as lexical,dense; several times to compare.")
    ] = None,
    pipeline: Annotated[
        list[str] | None,
        typer.Option("--pipeline", help="Steps, as feedback,mmr, a .toml file, or none; several times to compare."),
    ] = None,
    depth: Annotated[
        list[int] | None, typer.Option("--depth", help="Candidates of each strand; several times to compare.")
    ] = None,
    fusion: FusionOption = None,
    filter: FilterOption = None,
    exactness: Exactness = 1.0,
    threads: Annotated[
        str | None, typer.Option("--threads", help="Also searches a second with so many threads, as 1,2,8.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each query is asked.")] = 1,
    most: Annotated[int, typer.Option("--most", min=1, help="Only the first so many of the queries.")] = 1000,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="Queries asked before the clock starts.")] = WARM_UP,
    skip_bad: SkipBad = False,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure searches: milliseconds by stage, searches a second.

    Every combination of the options that are given several times is measured, in turns.
    """
    texts = list(queries_from(queries, skip_bad=skip_bad).values())[:most]
    choices: dict[str, Sequence[Any]] = {
        "k": k or (), "strands": strands or (), "pipeline": pipeline or (), "depth": depth or (),
    }  # fmt: skip
    settings = [_parsed(each) for each in settings_of(choices, fusion=fusion, filter=filter, exactness=exactness)]
    counts = parsed_threads(threads)
    models: dict[str, Any] = {"dense": dense, "learned": learned, "lucene": lucene, "lucene_impact": lucene_impact}
    meter = console.Meter("searching", None, unit="searches")
    with closing(Retriever.open(index, **models)) as retriever:
        try:
            found = bench(
                retriever, texts, settings,
                rounds=rounds, threads=counts, warm_up=warm_up, on_progress=meter.documents_done,
            )  # fmt: skip
        finally:
            meter.close()
        documents = len(retriever)
    if as_json:
        facts = {"index": str(index), "documents": documents, "queries": len(texts), "rounds": rounds}
        console.print_json({**facts, "settings": [each.to_json() for each in found]})
    else:
        show(found, f"{index}: {documents:,} documents, {len(texts):,} queries, {rounds} x; milliseconds")


def _parsed(setting: Setting) -> Setting:
    """Returns a setting whose steps are read, if they are a file; it is called by the file's name."""
    steps = parsed_pipeline(setting.options.get("pipeline"))
    return setting if steps is None else replace(setting, options={**setting.options, "pipeline": steps})


def parsed_threads(given: str | None) -> list[int]:
    """Returns [1, 8] from "1,8"."""
    if given is None:
        return []
    try:
        counts = [int(part) for part in given.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise QueryError(f"--threads takes numbers of threads, as 1,2,8; not {given!r}")
    return counts


def show(found: Sequence[Bench], title: str) -> None:
    """Prints a table: the whole by percentiles, each stage's median, and searches a second."""
    counts = list(found[0].per_second)
    header = ["", "p50", "p95", "p99", *STAGES, *(f"/s, {count} thread{'s' * (count > 1)}" for count in counts), "hits"]
    console.out.print(title, soft_wrap=True)
    console.print_table(scores_table(header, [_row(each, counts) for each in found]))
    console.out.print("stages: their medians", style="dim")


def _row(one: Bench, counts: Sequence[int]) -> list[str]:
    whole = one.milliseconds[TOTAL]
    times = [whole.p50, whole.p95, whole.p99, *(one.milliseconds[name].p50 for name in STAGES)]
    rates = [f"{one.per_second[count]:,.0f}" for count in counts]
    return [one.setting, *(f"{value:.2f}" for value in times), *rates, f"{one.hits:.1f}"]

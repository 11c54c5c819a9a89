"""`plait search`: one query, or many from a file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from ..retriever import Retriever
from . import searching
from .hierarchy import check_group, print_groups, with_parents
from .options import (
    Depth,
    Exactness,
    FilterOption,
    FusionOption,
    GroupFlag,
    HierarchyFlag,
    IndexArgument,
    JsonFlag,
    LuceneImpactOption,
    LuceneOption,
    MinProbability,
    MinScore,
    MovedDense,
    MovedLearned,
    PipelineOption,
    Prove,
    SkipBad,
    Strands,
    Weights,
    parsed_pipeline,
    parsed_weights,
)


def search_command(
    index: IndexArgument,
    query: Annotated[str | None, typer.Argument(help="What to look for; after -- it may begin with a dash.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    strands: Strands = None,
    fusion: FusionOption = None,
    weights: Weights = None,
    pipeline: PipelineOption = None,
    hierarchy: HierarchyFlag = False,
    group: GroupFlag = False,
    depth: Depth = 200,
    filter: FilterOption = None,
    exactness: Exactness = 1.0,
    prove: Prove = False,
    min_score: MinScore = None,
    min_probability: MinProbability = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show which terms matched and what they add.")] = False,
    queries: Annotated[
        Path | None, typer.Option("--queries", help="Many queries: .jsonl, .tsv or one a line; - reads stdin.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="With --queries: write the TREC run to this file.")] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Append the query and its hits to this file.")] = None,
    skip_bad: SkipBad = False,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Search an index: one query, or many from a file.

    The hits of many are written as a TREC run.
    """
    searching.check_options(query, queries, run, skip_bad=skip_bad, explain=explain, prove=prove, as_json=as_json)
    check_group(group=group, many=queries is not None, prove=prove)
    options: dict[str, Any] = {
        "k": k, "strands": strands, "fusion": fusion, "weights": parsed_weights(weights),
        "pipeline": parsed_pipeline(pipeline), "depth": depth, "filter": filter, "exactness": exactness, "prove": prove,
        "min_score": min_score, "min_probability": min_probability,
    }  # fmt: skip
    kept = searching.query_log(log, many=queries is not None, as_json=as_json)
    models: dict[str, Any] = {
        "dense": dense, "learned": learned, "lucene": lucene, "lucene_impact": lucene_impact,
    }  # fmt: skip
    with closing(Retriever.open(index, **models, log=kept)) as retriever:
        options = with_parents(retriever, options) if hierarchy else options
        if group:
            print_groups(retriever.search(query or "", **options, explain=explain), as_json=as_json)
            return
        if queries is None:
            searching.search_one(retriever, query or "", {**options, "explain": explain}, as_json=as_json)
            return
        texts = searching.queries_from(queries, skip_bad=skip_bad)
        if as_json:
            searching.search_many_as_json(retriever, texts, {**options, "explain": explain})
        else:
            searching.search_many(retriever, texts, options, run=run)

"""`plait settle`: how searches of an index rank when they do not say it themselves."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from ..retriever import QueryError, Retriever
from ..retriever.pipeline import pipeline as steps_of
from . import console
from .options import (
    IndexArgument,
    JsonFlag,
    LuceneImpactOption,
    LuceneOption,
    MovedDense,
    MovedLearned,
    parsed_pipeline,
    parsed_weights,
)
from .tuning import told

OWN = "plait"  # takes a setting back


def settle_command(
    index: IndexArgument,
    fusion: Annotated[
        str | None, typer.Option("--fusion", help="How strands combine, as rrf:k=20; plait: its own.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Strand weights, as lexical=0.2,dense=0.8; plait: its own.")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Steps, as feedback,mmr, a .toml file, or none; plait: its own.")
    ] = None,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Choose how searches of an index rank unless told otherwise.

    Documents and vectors stay as they are. Steps are tried once before they are kept.
    """
    given = {"fusion": fusion, "weights": weights, "pipeline": pipeline}
    read = {"weights": parsed_weights, "pipeline": parsed_pipeline}
    settings: dict[str, Any] = {
        name: None if value == OWN else read.get(name, str)(value) for name, value in given.items() if value is not None
    }
    if not settings:
        raise QueryError("plait settle takes --fusion, --weights or --pipeline; plait info tells what acts now")
    with closing(
        Retriever.open(index, dense=dense, learned=learned, lucene=lucene, lucene_impact=lucene_impact)
    ) as retriever:
        retriever.settle(**settings)
        retriever.commit()
        facts, steps = retriever.info(), retriever.settings["pipeline"]
    if pipeline not in (None, OWN) and steps_of(steps).name != facts["pipeline"]:
        console.note("one strand alone takes no step: the steps are kept for searches that fuse several")
    if as_json:
        console.print_json({"index": str(index), **{name: facts[name] for name in given}})
    else:
        acting = f"{facts['fusion']} with {told(facts['weights'])} ({facts['weights_from']}), steps {facts['pipeline']}"
        console.out.print(f"searches of {index}: {acting}", soft_wrap=True)

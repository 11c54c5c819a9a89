"""`plait train`: what it can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..retriever import QueryError
from .options import JsonFlag, SkipBad


def train_command(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe by name, or a .toml file that changes one; see --list.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Argument(help="Pairs (.jsonl), BEIR folders, or documents of any kind.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="The model to start from: a folder or a hub name. [default: the embedded one]"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to make, or to go on in.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe, as steps=2000; once for each.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="How many steps; as --set steps=N.")] = None,
    evaluate: Annotated[
        list[Path] | None, typer.Option("--eval", help="A BEIR folder to measure with; once for each.")
    ] = None,
    evaluate_every: Annotated[
        int, typer.Option("--eval-every", help="Measure after every so many steps, too; 0: at the end alone.")
    ] = 0,
    exclude: Annotated[
        list[Path] | None, typer.Option("--exclude", help="A collection whose texts must not be trained on.")
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Documents to measure with: a share, or a number of them; 0: none.")
    ] = 0.02,
    limit: Annotated[int | None, typer.Option("--limit", help="The most pairs of each source.")] = None,
    generate: Annotated[
        str | None, typer.Option("--generate", help="How queries are made for documents, as title,heading.")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option("--checkpoint-every", help="Steps between two saves.")] = 200,
    cache: Annotated[Path | None, typer.Option("--cache", help="Where vectors and states are kept.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin the steps anew.")] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of torch.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="Of the ONNX model: int8 or fp32.")] = "int8",
    licence: Annotated[str, typer.Option("--licence", help="Of the trained model, for its card.")] = "unknown",
    skip_bad: SkipBad = False,
    list_them: Annotated[bool, typer.Option("--list", help="Show the recipes.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train an encoder on pairs, a collection or bare documents.

    The same command goes on where it stopped. OUT then holds a model that index, search and eval take as --learned and
    --dense, a Hugging Face checkpoint, a report and a model card.
    """
    from . import training

    if list_them:
        training.list_recipes(as_json=as_json)
        return
    if recipe is None or not data or out is None:
        raise QueryError("give a recipe, data and --out, as: plait train inference-free pairs.jsonl --out DIR")
    options = {
        "held_out": held_out, "evaluate": evaluate, "evaluate_every": evaluate_every, "exclude": exclude,
        "limit": limit, "generate": generate, "checkpoint_every": checkpoint_every, "cache": cache, "device": device,
        "threads": threads, "precision": precision, "licence": licence, "skip_bad": skip_bad,
    }  # fmt: skip
    changes = [*(settings or []), *([] if steps is None else [f"steps={steps}"])]
    training.train(
        training.Request(
            recipe=recipe, data=data, base=base, out=out, settings=changes, options=options, fresh=fresh,
            as_json=as_json,
        )
    )  # fmt: skip

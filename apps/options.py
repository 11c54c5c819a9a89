"""The options that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..retriever import QueryError

IndexArgument = Annotated[Path, typer.Argument(help="The index folder.")]
PathsArgument = Annotated[list[str], typer.Argument(help="Files and folders to read; - is JSONL on stdin.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Strands = Annotated[str | None, typer.Option("--strands", help="Which strands, as lexical,learned,dense.")]
Weights = Annotated[str | None, typer.Option("--weights", help="Strand weights, as lexical=0.2,dense=0.8.")]
Depth = Annotated[int, typer.Option("--depth", help="How many candidates each strand proposes.")]
DenseModel = Annotated[str | None, typer.Option("--dense", help="Dense model: embedded, a folder or a hub name.")]
LearnedModel = Annotated[str | None, typer.Option("--learned", help="Sparse model: embedded, a folder or a hub name.")]
MovedDense = Annotated[str | None, typer.Option("--dense", help="Where the dense model is now, if it has moved.")]
MovedLearned = Annotated[str | None, typer.Option("--learned", help="Where the sparse model is now, if it has moved.")]
DenseIndex = Annotated[
    str | None, typer.Option("--dense-index", help="auto, flat, or a FAISS factory string, as IVF1024,SQ8.")
]
Language = Annotated[str | None, typer.Option("--language", help="Language of the text, as english, de, or none.")]
PassagesOption = Annotated[
    str, typer.Option("--passages", help="auto cuts text files into passages, always also records, never neither.")
]
Words = Annotated[int, typer.Option("--words", help="The greatest length of a passage.")]
Overlap = Annotated[int, typer.Option("--overlap", help="Words that neighbouring passages share.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count and skip bad input instead of stopping.")]
FieldOption = Annotated[
    list[str] | None,
    typer.Option("--field", help="Metadata that filters may ask for, as year:integer or tags:text[]; once for each."),
]
FilterOption = Annotated[
    str | None, typer.Option("--filter", help="Only documents for which this holds: \"year >= 2020 AND 'ml' IN tags\".")
]
Exactness = Annotated[
    float, typer.Option("--exactness", help="Below 1 the sparse strands may miss hits, and are faster when large.")
]
CommitEvery = Annotated[int, typer.Option("--commit-every", min=1, help="Commit after this many documents.")]


def parsed_weights(given: str | None) -> dict[str, float] | None:
    """Returns {"lexical": 0.2, "dense": 0.8} from "lexical=0.2,dense=0.8"."""
    if given is None:
        return None
    try:
        pairs = [part.split("=") for part in given.split(",")]
        weights = {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise QueryError(f"--weights takes strand=number pairs, as lexical=0.2,dense=0.8; not {given!r}") from error
    if len(weights) < len(pairs):
        raise QueryError(f"--weights names a strand twice: {given!r}")
    return weights


def parsed_fields(given: Sequence[str] | None, *, option: str = "--field") -> dict[str, str] | None:
    """Returns {"year": "integer"} from ["year:integer"]."""
    if given is None:
        return None
    pairs = [(name.strip(), type.strip()) for name, _, type in (part.rpartition(":") for part in given)]
    for part, (name, type) in zip(given, pairs, strict=True):
        if not name or not type:
            raise QueryError(f"{option} takes name:type, as year:integer or tags:text[]; not {part!r}")
    if len(fields := dict(pairs)) < len(pairs):
        raise QueryError(f"{option} names a field twice: {', '.join(given)}")
    return fields

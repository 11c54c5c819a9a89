"""The options that several commands share, each declared once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..retriever import FUSIONS, STEPS, QueryError, read_pipeline
from ..retriever.pipeline import pipeline
from ..retriever.strands import parse_strands

IndexArgument = Annotated[Path, typer.Argument(help="The index folder.")]
PathsArgument = Annotated[list[str], typer.Argument(help="Files and folders to read; - is JSONL on stdin.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Strands = Annotated[str | None, typer.Option("--strands", help="Which strands, as lexical,learned,dense.")]
Weights = Annotated[str | None, typer.Option("--weights", help="Strand weights, as lexical=0.2,dense=0.8.")]
FusionOption = Annotated[str | None, typer.Option("--fusion", help=f"How strands combine: {', '.join(FUSIONS)}.")]
PipelineOption = Annotated[
    str | None,
    typer.Option("--pipeline", help=f"Steps after fusion, as feedback,mmr, a .toml file, or none: {', '.join(STEPS)}."),
]
Prove = Annotated[bool, typer.Option("--prove", help="Prove that no other document belongs to the top.")]
MinScore = Annotated[float | None, typer.Option("--min-score", help="Leave out hits with a lower fused score.")]
MinProbability = Annotated[
    float | None,
    typer.Option("--min-probability", help="Leave out hits less probably relevant; see tune --calibrate."),
]
Depth = Annotated[int, typer.Option("--depth", help="How many candidates each strand proposes.")]
DenseModel = Annotated[str | None, typer.Option("--dense", help="Dense model: embedded, a folder or a hub name.")]
LearnedModel = Annotated[str | None, typer.Option("--learned", help="Sparse model: embedded, a folder or a hub name.")]
MovedDense = Annotated[str | None, typer.Option("--dense", help="Where the dense model is now, if it has moved.")]
MovedLearned = Annotated[str | None, typer.Option("--learned", help="Where the sparse model is now, if it has moved.")]
LuceneOption = Annotated[
    str | None,
    typer.Option("--lucene", help="A Lucene index for the strand lucene (BM25), as PATH or PATH:k1=0.82:analyzer=de."),
]
LuceneImpactOption = Annotated[
    str | None,
    typer.Option("--lucene-impact", help="A Lucene index for the strand lucene-impact, as PATH:encoder=MODEL."),
]
DenseIndex = Annotated[
    str | None, typer.Option("--dense-index", help="auto, flat, or a FAISS factory string, as IVF1024,SQ8.")
]
Language = Annotated[str | None, typer.Option("--language", help="Language of the text, as english, de, or none.")]
PassagesOption = Annotated[
    str, typer.Option("--passages", help="auto cuts text files into passages, always also records, never neither.")
]
ParentsFlag = Annotated[
    bool, typer.Option("--parents", help="Also keep an index of parents, made of their passages; see --hierarchy.")
]
HierarchyFlag = Annotated[
    bool, typer.Option("--hierarchy", help="Best parents first, then passages inside them: adds the step parents.")
]
GroupFlag = Annotated[bool, typer.Option("--group", help="Show the hits of each parent together.")]
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
CacheOption = Annotated[
    str | None, typer.Option("--cache", help="Keep vectors here for later runs: a folder, or auto for plait's own.")
]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, help="Encode in so many processes, each with its own model.")
]
Devices = Annotated[
    str | None, typer.Option("--devices", help="Where torch models run, a process for each, as cuda:0,cuda:1.")
]
CommitEvery = Annotated[int, typer.Option("--commit-every", min=1, help="Commit after this many documents.")]


def parsed_pipeline(given: str | None) -> str | list[dict[str, Any]] | None:
    """Returns the steps that a text names, or that a .toml file holds."""
    return read_pipeline(given) if given is not None and given.lower().endswith(".toml") else given


def stored_pipeline(given: str | None) -> str | list[dict[str, Any]] | None:
    """Returns the same, checked before an index is made for it."""
    steps = parsed_pipeline(given)
    if steps is not None:
        pipeline(steps)
        try:
            json.dumps(steps)
        except TypeError as error:
            raise QueryError(f"{given}: an index keeps no dates inside a table; write them in quotes") from error
    return steps


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


def parsed_sizes(given: str | None) -> tuple[int, ...]:
    """Returns (1000, 5000) from "1000,5000"."""
    if given is None:
        return ()
    try:
        sizes = tuple(int(part) for part in given.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise QueryError(f"--sizes takes numbers of documents, as 1000,5000; not {given!r}")
    return sizes


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


def check_models(strands: str | None, chosen: Mapping[str, Any]) -> None:
    """Raises an error where a model is named for a strand that the index will not have."""
    if strands is None:
        return
    for name in ("dense", "learned", "lexical"):
        if chosen.get(name) is not None and name not in parse_strands(strands):
            option = "language" if name == "lexical" else name
            raise QueryError(f"--{option} is for the {name} strand, which --strands {strands} leaves out")

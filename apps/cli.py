"""The command line: each command parses, calls the library, and prints."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from ..encoders.cache import VectorCache
from ..retriever import IngestError, QueryError, Retriever
from ..retriever.pipeline import kept as kept_steps
from ..retriever.pipeline import pipeline as steps_of
from ..retriever.strands import parse_strands
from ..retriever.streams import open_stream, rejecter
from . import console
from .bench_command import bench_command
from .corpora import MODELS
from .encoding import AUTO, Encoding, ready, show_cache
from .endings import Commands, utf8_output
from .eval_commands import eval_command, reproduce_command
from .exchanging import dump_command, load_command
from .exporting import export_command
from .fields import check_declared, fields
from .ingesting import Reading, ingest, reading
from .mcp_command import mcp_command
from .models_command import models_command
from .options import (
    CacheOption,
    CommitEvery,
    DenseIndex,
    DenseModel,
    Devices,
    FieldOption,
    FusionOption,
    IndexArgument,
    JsonFlag,
    Language,
    LearnedModel,
    LuceneImpactOption,
    LuceneOption,
    MovedDense,
    MovedLearned,
    Overlap,
    ParentsFlag,
    PassagesOption,
    PathsArgument,
    PipelineOption,
    Processes,
    SkipBad,
    Strands,
    Weights,
    Words,
    check_models,
    parsed_fields,
    parsed_weights,
    stored_pipeline,
)
from .plan_command import plan_command
from .search_command import search_command
from .serve_command import serve_command
from .settle_command import settle_command
from .stored import stored
from .train_command import train_command
from .tune_command import tune_command

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hybrid sparse and dense retrieval: index text, search it, measure it.",
)


@app.command("index")
def index_command(
    paths: PathsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The index folder to make, or to go on with.")],
    strands: Strands = None,
    dense: DenseModel = None,
    learned: LearnedModel = None,
    language: Language = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
    fusion: FusionOption = None,
    weights: Weights = None,
    pipeline: PipelineOption = None,
    dense_index: DenseIndex = None,
    field: FieldOption = None,
    passages: PassagesOption = "auto",
    words: Words = 200,
    overlap: Overlap = 40,
    parents: ParentsFlag = False,
    skip_bad: SkipBad = False,
    commit_every: CommitEvery = 16384,
    cache: CacheOption = None,
    processes: Processes = None,
    devices: Devices = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an index from files, or go on with an interrupted one.

    PATHS are .jsonl, .csv and .tsv files (also compressed), folders of .txt, .md, .rst and .html files, BEIR
    folders, or - for JSONL on standard input. Documents already in the index, unchanged, are not encoded again.
    """
    options = {
        "strands": strands, "dense": dense, "learned": learned, "lexical": language,
        "lucene": lucene, "lucene_impact": lucene_impact,
        "fusion": fusion, "weights": parsed_weights(weights), "pipeline": stored_pipeline(pipeline),
        "dense_index": dense_index, "fields": parsed_fields(field),
    }  # fmt: skip
    chosen = {name: value for name, value in options.items() if value is not None}
    check_models(strands, chosen)
    given = reading(paths, passages=passages, words=words, overlap=overlap, skip_bad=skip_bad)
    with ready(out, chosen, Encoding(cache, processes, devices)) as (chosen, kept):
        _index(out, chosen, given, commit_every=commit_every, as_json=as_json, cache=kept, parents=parents)


@app.command("add")
def add_command(
    index: IndexArgument,
    paths: PathsArgument,
    passages: PassagesOption = "auto",
    words: Words = 200,
    overlap: Overlap = 40,
    skip_bad: SkipBad = False,
    commit_every: CommitEvery = 16384,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    cache: CacheOption = None,
    processes: Processes = None,
    devices: Devices = None,
    as_json: JsonFlag = False,
) -> None:
    """Add documents to an index, or replace those of known ids."""
    given = reading(paths, passages=passages, words=words, overlap=overlap, skip_bad=skip_bad)
    models = {name: model for name, model in (("dense", dense), ("learned", learned)) if model is not None}
    encoding = Encoding(cache, processes, devices)
    with ready(index, models, encoding) as (chosen, kept), closing(Retriever.open(index, **chosen)) as retriever:
        ingest(retriever, given, commit_every=commit_every, as_json=as_json, cache=kept)


@app.command("delete")
def delete_command(
    index: IndexArgument,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Document ids; a parent's id deletes all its passages.")
    ] = None,
    from_file: Annotated[Path | None, typer.Option("--from", help="A file with one id a line; - reads stdin.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete documents by id."""
    wanted = [*(ids or []), *(_lines(from_file) if from_file else [])]
    if not wanted:
        raise QueryError("no ids to delete: name them, or give a file with --from")
    with closing(Retriever.open(index)) as retriever:
        unknown = [id for id in wanted if id not in retriever and not retriever.passages(id)]
        deleted = retriever.delete(wanted)
        retriever.commit()
        facts = {"deleted": deleted, "unknown": unknown, "documents": len(retriever)}
    if as_json:
        console.print_json(facts)
        return
    console.out.print(f"deleted {console.counted(deleted, 'document')}; {facts['documents']:,} remain")
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        console.note(f"{len(unknown):,} of the ids were not there: {shown}")


@app.command("compact")
def compact_command(
    index: IndexArgument,
    anew: Annotated[bool, typer.Option("--anew", help="Write a compact index anew, too, as a repair.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Merge an index into one segment, without what was deleted."""
    from .upkeep import compact

    compact(index, anew=anew, as_json=as_json)


@app.command("check")
def check_command(index: IndexArgument, as_json: JsonFlag = False) -> None:
    """Compare a whole index with its checksums and digests.

    Status 1 where something is wrong, with what to do.
    """
    from .upkeep import check

    if not check(index, as_json=as_json):
        raise typer.Exit(1)


@app.command("fields")
def fields_command(
    index: IndexArgument,
    add: Annotated[
        list[str] | None, typer.Option("--add", help="Declare a field, as year:integer; once for each.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="Forget a field, by name; once for each.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List, declare or drop the metadata fields for filters."""
    fields(index, add=add, drop=drop, as_json=as_json)


app.command("search")(search_command)
app.command("eval")(eval_command)
app.command("reproduce")(reproduce_command)
app.command("tune")(tune_command)
app.command("settle")(settle_command)
app.command("dump")(dump_command)
app.command("load")(load_command)
app.command("models")(models_command)
app.command("export")(export_command)
app.command("train")(train_command)
app.command("serve")(serve_command)
app.command("mcp")(mcp_command)
app.command("bench")(bench_command)
app.command("plan")(plan_command)


@app.command("info")
def info_command(
    index: IndexArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its checksum.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what an index holds and which encoders built it."""
    from .render import info_table

    with closing(Retriever.open(index, verify=verify or None)) as retriever:
        facts = retriever.info()
    if as_json:
        console.print_json(facts)
    else:
        console.print_table(info_table(facts))
        if verify:
            console.out.print("every file matches its checksum")


@app.command("cache")
def cache_command(
    folder: Annotated[str, typer.Argument(help="The cache's folder; auto is plait's own.")] = AUTO,
    clear: Annotated[bool, typer.Option("--clear", help="Forget all vectors.")] = False,
    limit: Annotated[
        float | None, typer.Option("--limit", help="The most room it may take, in gigabytes, from now on.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the cache of vectors holds, empty it, or bound it."""
    show_cache(folder, clear=clear, limit=limit, as_json=as_json)


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="The index folder to make.")] = Path("demo.index"),
) -> None:
    """Index this Python's own documentation and ask it."""
    from .demo import demo

    demo(out)


@app.command("version")
def version_command(as_json: JsonFlag = False) -> None:
    """Show the version."""
    from importlib.metadata import version

    if as_json:
        console.print_json({"plait": version("plait"), "python": sys.version.split()[0]})
    else:
        console.out.print(f"plait {version('plait')}")


def main() -> None:
    """Runs the command line; a user's mistake ends in one line on stderr and exit code 1, never in a traceback."""
    utf8_output()
    try:
        app()
    except OSError as error:  # help that cannot be written: no command has begun
        console.note(f"error: {error}")
        sys.exit(1)


def _index(
    out: Path,
    chosen: Mapping[str, Any],
    given: Reading,
    *,
    commit_every: int,
    as_json: bool,
    cache: VectorCache | None,
    parents: bool,
) -> None:
    new = not (out / "plait.db").exists()
    with closing(Retriever.create(out, **chosen) if new else _opened(out, chosen)) as retriever:
        try:
            if parents:
                retriever.keep_parents()
            ingest(retriever, given, commit_every=commit_every, as_json=as_json, cache=cache, new=new)
        except IngestError:
            empty = new and not len(retriever)
            retriever.close()
            if empty:  # so that other options can be chosen with the next try
                shutil.rmtree(out)
            raise


def _opened(out: Path, chosen: Mapping[str, Any]) -> Retriever:
    """Returns an index that is there already; what was fixed when it was made may be said again, but not changed."""
    models = {name: chosen[name] for name in MODELS if name in chosen}
    retriever = Retriever.open(out, **models)
    facts, kept = retriever.info(), stored(out)
    made = {"strands": ",".join(facts["strands"]), **{name: facts[name] for name in ("fusion", "weights", "pipeline")}}
    made["dense_index"] = kept["dense_index"]
    if kept["pipeline"] is not None:
        made["pipeline"] = steps_of(kept_steps(kept["pipeline"], facts["strands"])).name
    asked = {name: chosen[name] for name in made if name in chosen}
    if "pipeline" in asked:
        asked["pipeline"] = steps_of(kept_steps(asked["pipeline"], facts["strands"])).name
    if "weights" in asked:  # a strand that was given none has 0
        asked["weights"] = {name: float(asked["weights"].get(name, 0)) for name in made["weights"]}
    if "strands" in asked:
        asked["strands"] = ",".join(parse_strands(asked["strands"]))
    if changed := {_flag(name): made[name] for name, value in asked.items() if value != made[name]}:
        retriever.close()
        told = {flag: f"{flag} {_as_option(value)}" for flag, value in changed.items()}
        if kept["pipeline"] is None and "--pipeline" in told:
            told["--pipeline"] = "the steps that plait chooses"
        had = ", ".join(told.values())
        how = "or make another index"
        if set(changed) <= {"--fusion", "--weights", "--pipeline"}:
            how = f"or change it: plait settle {out}"
        raise QueryError(f"{out} was made with {had}; leave {', '.join(changed)} out, {how}")
    try:
        check_declared(out, chosen.get("fields", {}), retriever.fields)
    except QueryError:
        retriever.close()
        raise
    console.note(f"{out} exists: adding to it; documents that are there already are not encoded again")
    return retriever


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _as_option(value: str | Mapping[str, float]) -> str:
    return value if isinstance(value, str) else ",".join(f"{name}={weight:g}" for name, weight in value.items())


def _lines(path: Path) -> list[str]:
    """Returns the lines of a file or of standard input, without those that are blank."""
    standard = str(path) == "-"
    with open_stream(None if standard else path, "standard input" if standard else str(path)) as stream:
        lines = stream.lines(rejecter(skip_bad=False, on_bad=None))
        return [line.strip() for _, line in lines if line.strip()]

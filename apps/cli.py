"""The command line: each command parses, calls the library, and prints."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from ..retriever import IngestError, QueryError, Retriever
from ..retriever.strands import parse_strands
from ..retriever.streams import open_stream, rejecter
from . import console, searching
from .endings import Commands, utf8_output
from .eval_commands import eval_command, reproduce_command
from .fields import check_declared, fields
from .ingesting import Reading, ingest, reading
from .options import (
    CommitEvery,
    DenseIndex,
    DenseModel,
    Depth,
    Exactness,
    FieldOption,
    FilterOption,
    FusionOption,
    IndexArgument,
    JsonFlag,
    Language,
    LearnedModel,
    MinProbability,
    MinScore,
    MovedDense,
    MovedLearned,
    Overlap,
    PassagesOption,
    PathsArgument,
    PipelineOption,
    Prove,
    SkipBad,
    Strands,
    Weights,
    Words,
    check_models,
    parsed_fields,
    parsed_pipeline,
    parsed_weights,
    pipeline_name,
)
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
    fusion: FusionOption = None,
    weights: Weights = None,
    pipeline: PipelineOption = None,
    dense_index: DenseIndex = None,
    field: FieldOption = None,
    passages: PassagesOption = "auto",
    words: Words = 200,
    overlap: Overlap = 40,
    skip_bad: SkipBad = False,
    commit_every: CommitEvery = 16384,
    as_json: JsonFlag = False,
) -> None:
    """Make an index from files, or go on where an interrupted run stopped.

    PATHS are .jsonl, .csv and .tsv files (also compressed), folders of .txt, .md, .rst and .html files, BEIR
    folders, or - for JSONL on standard input. Documents already in the index, unchanged, are not encoded again.
    """
    options = {
        "strands": strands, "dense": dense, "learned": learned, "lexical": language,
        "fusion": fusion, "weights": parsed_weights(weights), "pipeline": pipeline_name(pipeline),
        "dense_index": dense_index, "fields": parsed_fields(field),
    }  # fmt: skip
    chosen = {name: value for name, value in options.items() if value is not None}
    check_models(strands, chosen)
    given = reading(paths, passages=passages, words=words, overlap=overlap, skip_bad=skip_bad)
    _index(out, chosen, given, commit_every=commit_every, as_json=as_json)


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
    as_json: JsonFlag = False,
) -> None:
    """Add documents to an index; one whose id is known replaces the older."""
    given = reading(paths, passages=passages, words=words, overlap=overlap, skip_bad=skip_bad)
    with closing(Retriever.open(index, dense=dense, learned=learned)) as retriever:
        ingest(retriever, given, commit_every=commit_every, as_json=as_json)


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
    console.out.print(f"deleted {deleted:,} documents; {facts['documents']:,} remain")
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        console.note(f"{len(unknown):,} of the ids were not there: {shown}")


@app.command("compact")
def compact_command(
    index: IndexArgument,
    anew: Annotated[bool, typer.Option("--anew", help="Write a compact index anew, too, as a repair.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Merge an index into one segment: faster to search, and what was deleted takes no room."""
    from .upkeep import compact

    compact(index, anew=anew, as_json=as_json)


@app.command("check")
def check_command(index: IndexArgument, as_json: JsonFlag = False) -> None:
    """Read a whole index and compare it with its checksums and digests; status 1 where something is wrong."""
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
    """List, declare or drop the metadata fields that filters may ask for."""
    fields(index, add=add, drop=drop, as_json=as_json)


@app.command("search")
def search_command(
    index: IndexArgument,
    query: Annotated[str | None, typer.Argument(help="What to look for; after -- it may begin with a dash.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    strands: Strands = None,
    fusion: FusionOption = None,
    weights: Weights = None,
    pipeline: PipelineOption = None,
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
    as_json: JsonFlag = False,
) -> None:
    """Search an index: one query, or many from a file, written as a TREC run."""
    searching.check_options(query, queries, run, skip_bad=skip_bad, explain=explain, as_json=as_json)
    options: dict[str, Any] = {
        "k": k, "strands": strands, "fusion": fusion, "weights": parsed_weights(weights),
        "pipeline": parsed_pipeline(pipeline), "depth": depth, "filter": filter, "exactness": exactness, "prove": prove,
        "min_score": min_score, "min_probability": min_probability,
    }  # fmt: skip
    kept = searching.query_log(log, many=queries is not None, as_json=as_json)
    with closing(Retriever.open(index, dense=dense, learned=learned, log=kept)) as retriever:
        if queries is None:
            searching.search_one(retriever, query or "", {**options, "explain": explain}, as_json=as_json)
            return
        texts = searching.queries_from(queries, skip_bad=skip_bad)
        if as_json:
            searching.search_many_as_json(retriever, texts, {**options, "explain": explain})
        else:
            searching.search_many(retriever, texts, options, run=run)


app.command("eval")(eval_command)
app.command("reproduce")(reproduce_command)
app.command("tune")(tune_command)


@app.command("train")
def train_command(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe by name, or a .toml file that changes one; see --list.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Argument(help="Pairs (.jsonl), BEIR folders, or documents of any kind.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The model to start from: a Hugging Face folder or a hub name.")
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
    """Train an encoder on pairs, a collection or bare documents; the same command goes on where it stopped.

    OUT then holds a model that index, search and eval take as --learned and --dense, a Hugging Face checkpoint,
    a report and a model card.
    """
    from . import training

    if list_them:
        training.list_recipes(as_json=as_json)
        return
    if recipe is None or not data or out is None:
        raise QueryError(
            "give a recipe, data and --out, as: plait train inference-free pairs.jsonl --base FOLDER --out DIR"
        )
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


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="The index folder to make.")] = Path("demo.index"),
) -> None:
    """Index this Python's own documentation and answer a few questions."""
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
    app()


def _index(out: Path, chosen: Mapping[str, Any], given: Reading, *, commit_every: int, as_json: bool) -> None:
    new = not (out / "plait.db").exists()
    with closing(Retriever.create(out, **chosen) if new else _opened(out, chosen)) as retriever:
        try:
            ingest(retriever, given, commit_every=commit_every, as_json=as_json)
        except IngestError:
            empty = new and not len(retriever)
            retriever.close()
            if empty:  # so that other options can be chosen with the next try
                shutil.rmtree(out)
            raise


def _opened(out: Path, chosen: Mapping[str, Any]) -> Retriever:
    """Returns an index that is there already; what was fixed when it was made may be said again, but not changed."""
    models = {name: chosen[name] for name in ("dense", "learned", "lexical") if name in chosen}
    retriever = Retriever.open(out, **models)
    facts = retriever.info()
    fixed = ("fusion", "weights", "pipeline", "dense_index")
    made = {"strands": ",".join(facts["strands"]), **{name: facts[name] for name in fixed}}
    asked = {name: chosen[name] for name in made if name in chosen}
    if "weights" in asked:  # a strand that was given none has 0
        asked["weights"] = {name: float(asked["weights"].get(name, 0)) for name in made["weights"]}
    if "strands" in asked:
        asked["strands"] = ",".join(parse_strands(asked["strands"]))
    if changed := {_flag(name): made[name] for name, value in asked.items() if value != made[name]}:
        retriever.close()
        had = ", ".join(f"{flag} {_as_option(value)}" for flag, value in changed.items())
        raise QueryError(f"{out} was made with {had}; leave {', '.join(changed)} out, or make another index")
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

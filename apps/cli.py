"""The command line: each command parses, calls the library, and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from ..retriever import FUSIONS, IngestError, PlaitError, QueryError, Retriever
from . import console
from .ingesting import ingest
from .options import (
    CommitEvery,
    DenseModel,
    Depth,
    IndexArgument,
    JsonFlag,
    Language,
    LearnedModel,
    Overlap,
    PassagesOption,
    PathsArgument,
    SkipBad,
    Strands,
    Weights,
    Words,
    parsed_weights,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hybrid sparse and dense retrieval: index text, search it, measure it.",
)

FusionOption = Annotated[str | None, typer.Option("--fusion", help=f"How strands combine: {', '.join(FUSIONS)}.")]


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
    given = {
        "strands": strands, "dense": dense, "learned": learned, "lexical": language,
        "fusion": fusion, "weights": parsed_weights(weights),
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    with closing(_made_or_opened(out, chosen)) as retriever:
        ingest(
            retriever, paths, passages=passages, words=words, overlap=overlap,
            skip_bad=skip_bad, commit_every=commit_every, as_json=as_json,
        )  # fmt: skip


@app.command("add")
def add_command(
    index: IndexArgument,
    paths: PathsArgument,
    passages: PassagesOption = "auto",
    words: Words = 200,
    overlap: Overlap = 40,
    skip_bad: SkipBad = False,
    commit_every: CommitEvery = 16384,
    as_json: JsonFlag = False,
) -> None:
    """Add documents to an index; one whose id is known replaces the older."""
    with closing(Retriever.open(index)) as retriever:
        ingest(
            retriever, paths, passages=passages, words=words, overlap=overlap,
            skip_bad=skip_bad, commit_every=commit_every, as_json=as_json,
        )  # fmt: skip


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
        deleted = retriever.delete(wanted)
        retriever.commit()
        facts = {"deleted": deleted, "documents": len(retriever)}
    if as_json:
        console.print_json(facts)
    else:
        console.out.print(f"deleted {deleted:,} documents; {facts['documents']:,} remain")


@app.command("search")
def search_command(
    index: IndexArgument,
    query: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    strands: Strands = None,
    fusion: FusionOption = None,
    weights: Weights = None,
    depth: Depth = 200,
    explain: Annotated[bool, typer.Option("--explain", help="Show which terms matched and what they add.")] = False,
    queries: Annotated[
        Path | None, typer.Option("--queries", help="Many queries: .jsonl, .tsv or one a line; - reads stdin.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="With --queries: write the TREC run to this file.")] = None,
    skip_bad: SkipBad = False,
    as_json: JsonFlag = False,
) -> None:
    """Search an index: one query, or many from a file, written as a TREC run."""
    if (query is None) == (queries is None):
        raise QueryError("give one query, or many with --queries FILE (one of the two)")
    if run is not None and queries is None:
        raise QueryError("--run goes with --queries")
    options: dict[str, Any] = {
        "k": k, "strands": strands, "fusion": fusion, "weights": parsed_weights(weights), "depth": depth,
    }  # fmt: skip
    with closing(Retriever.open(index)) as retriever:
        if queries is None:
            _search_one(retriever, query or "", {**options, "explain": explain}, as_json)
        else:
            _search_many(retriever, queries, options, run, skip_bad=skip_bad, explain=explain, as_json=as_json)


@app.command("eval")
def eval_command(
    data: Annotated[Path, typer.Option("--data", help="A BEIR folder: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.")],
    index: Annotated[
        Path | None, typer.Option("--index", help="An index of the corpus; made there if missing.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which qrels.")] = "test",
    measures: Annotated[
        str | None, typer.Option("--measures", help="As ir-measures spells them: 'nDCG@10 R@100'.")
    ] = None,
    run: Annotated[list[Path] | None, typer.Option("--run", help="Measure finished TREC run files instead.")] = None,
    save_runs: Annotated[
        Path | None, typer.Option("--save-runs", help="Write each system's run into a folder.")
    ] = None,
    card: Annotated[Path | None, typer.Option("--card", help="Write the run card (JSON) to a file.")] = None,
    per_query: Annotated[bool, typer.Option("--per-query", help="Print every query's value too.")] = False,
    strands: Strands = None,
    dense: DenseModel = None,
    learned: LearnedModel = None,
    language: Language = None,
    fusion: FusionOption = None,
    weights: Weights = None,
    depth: Depth = 200,
    as_json: JsonFlag = False,
) -> None:
    """Measure an index on a BEIR folder: every strand alone and all of them fused."""
    from .evaluating import Request, evaluate

    made_with = {"strands": strands, "dense": dense, "learned": learned, "lexical": language}
    evaluate(
        Request(
            data=data, split=split, index=index, measures=measures, runs=tuple(run or ()), save_runs=save_runs, card=card,
            per_query=per_query, made_with={name: value for name, value in made_with.items() if value is not None},
            strands=strands, fusion=fusion, weights=parsed_weights(weights), depth=depth, as_json=as_json,
        )
    )  # fmt: skip


@app.command("info")
def info_command(
    index: IndexArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its checksum.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what an index holds and which encoders built it."""
    from .render import print_info

    with closing(Retriever.open(index, verify=verify or None)) as retriever:
        facts = retriever.info()
    if as_json:
        console.print_json(facts)
    else:
        print_info(console.out, facts)
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
    sys.exit(_run(app))


def _run(command: Callable[..., Any]) -> int:
    from ..eval.contract import EvalError

    try:
        command(standalone_mode=False)
        sys.stdout.flush()
    except (*PlaitError, EvalError) as error:
        console.note(f"error: {error}")
        return 1
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        console.note("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if (code := getattr(error, "exit_code", None)) is None or not hasattr(error, "show"):
            raise
        error.show()  # type: ignore[attr-defined]  # click's usage errors
        return code
    return 0


def _made_or_opened(out: Path, chosen: Mapping[str, Any]) -> Retriever:
    if not (out / "plait.db").exists():
        return Retriever.create(out, **chosen)
    fixed = [
        f"--{name if name != 'lexical' else 'language'}" for name in ("strands", "fusion", "weights") if name in chosen
    ]
    if fixed:
        raise QueryError(f"{out} exists already; {', '.join(fixed)} can only be chosen when an index is made")
    console.note(f"{out} exists: adding to it; documents that are there already are not encoded again")
    return Retriever.open(out, **{name: chosen[name] for name in ("dense", "learned", "lexical") if name in chosen})


def _search_one(retriever: Retriever, query: str, options: Mapping[str, Any], as_json: bool) -> None:
    from .render import hit_text

    hits = retriever.search(query, **options)
    if as_json:
        console.print_json({"query": query, "hits": [hit.to_json() for hit in hits]})
        return
    if not hits:
        console.out.print("nothing found")
    for hit in hits:
        console.out.print(hit_text(hit, console.out.width), soft_wrap=True)


def _search_many(
    retriever: Retriever, source: Path, options: Mapping[str, Any], run: Path | None, *,
    skip_bad: bool, explain: bool, as_json: bool,
) -> None:  # fmt: skip
    from ..eval import run_lines, write_run
    from ..retriever import read_queries

    skipped: list[IngestError] = []
    queries = dict(read_queries(source, skip_bad=skip_bad, on_bad=skipped.append))
    for error in skipped:
        console.note(f"skipped: {error}")
    if as_json:
        answers = retriever.search_batch(list(queries.values()), explain=explain, **options)
        for (identifier, text), hits in zip(queries.items(), answers, strict=True):
            console.print_json({"id": identifier, "query": text, "hits": [hit.to_json() for hit in hits]})
        return
    found = retriever.run(queries, **options)
    if run is not None:
        write_run(found, run)
        console.note(f"wrote {run}: {sum(map(len, found.values())):,} lines for {len(found):,} queries")
        return
    for identifier, hits in found.items():
        sys.stdout.writelines(run_lines(identifier, hits))


def _lines(path: Path) -> Iterator[str]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"cannot be read: {error}", path=str(path)) from error
    return (line.strip() for line in text.splitlines() if line.strip())

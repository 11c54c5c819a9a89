"""`plait plan`: what an index will cost, before it is made, and which settings fit a budget."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.text import Text

from ..eval.planning import Plan, combinations, parsed_budgets, plan, told_bytes, told_seconds
from ..eval.probing import SAMPLE, STOCK, Corpus, survey
from ..retriever import IngestError, QueryError, read_documents
from ..retriever.passages import OVERLAP, WORDS
from ..retriever.sources import total_bytes
from ..retriever.strands import STRANDS, parse_strands
from ..retriever.streams import STANDARD_INPUT
from . import console
from .ingesting import Skipped
from .options import JsonFlag, Language, Overlap, PathsArgument, SkipBad, check_models
from .render import scores_table

# The preferred first: measured over many collections, three strands find more than two, and two more than one.
TRIED = ("lexical,learned,dense", "lexical,dense", "lexical,learned", "lexical")
BEYOND = 10  # times as many documents as were measured: from there on what is added to each makes most of a time


def plan_command(
    paths: PathsArgument,
    documents: Annotated[
        int | None, typer.Option("--documents", min=1, help="How many documents there will be, if not these.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="At most so much, as time=2h,memory=4GB,size=10GB,latency=20ms.")
    ] = None,
    strands: Annotated[
        list[str] | None,
        typer.Option("--strands", help="Strands to try, as lexical,dense; several times, the preferred first."),
    ] = None,
    dense: Annotated[
        list[str] | None, typer.Option("--dense", help="Dense models to try, with options; several times.")
    ] = None,
    learned: Annotated[
        list[str] | None, typer.Option("--learned", help="Sparse models to try, with options; several times.")
    ] = None,
    language: Language = None,
    max_length: Annotated[
        list[int] | None, typer.Option("--max-length", min=2, help="Tokens to read of a text; several times.")
    ] = None,
    dense_index: Annotated[
        list[str] | None, typer.Option("--dense-index", help="auto, flat or a FAISS string; several times.")
    ] = None,
    sample: Annotated[int, typer.Option("--sample", min=3, help="Documents to encode.")] = SAMPLE,
    passages: Annotated[
        list[str] | None, typer.Option("--passages", help="auto, always or never, as for index; several times.")
    ] = None,
    words: Annotated[
        list[int] | None, typer.Option("--words", help="The greatest length of a passage; several times.")
    ] = None,
    overlap: Overlap = OVERLAP,
    skip_bad: SkipBad = False,
    as_json: JsonFlag = False,
) -> None:
    """Predict what an index of a corpus takes, and choose settings.

    Time, memory, disk and latency are told; a budget may bound each. A sample is encoded and a small index built, in a
    temporary folder, with each setting.
    """
    budgets = parsed_budgets(budget)
    tried = [",".join(parse_strands(one, STRANDS)) for one in strands or TRIED]
    models = {"dense": dense or [], "learned": learned or [], "lexical": [language] if language else []}
    for name, given in models.items():
        check_models(",".join({each: None for one in tried for each in one.split(",")}), {name: given or None})
    settings = combinations(tried, models, max_length or [], dense_index or ["auto"])
    cuts = _cuts(passages or ["auto"], words or [WORDS], overlap)
    _check_cuts(cuts, paths, documents)
    corpora = [_surveyed(paths, documents, sample, skip_bad=skip_bad, **cut) for cut in cuts]
    plans = [
        plan(
            corpus, [replace(one, cut=_flags(cut)) for one in settings],
            budgets=budgets, on_progress=lambda one: console.note(f"trying {one.name}"),
        )
        for cut, corpus in zip(cuts, corpora, strict=True)
    ]  # fmt: skip
    found = Plan.of(each for one in plans for each in one.predictions)
    if as_json:
        console.print_json(_facts(corpora, found, budgets))
    else:
        _show(corpora, found, [*paths, "-o", "my.index", *(["--skip-bad"] if skip_bad else [])])


def _cuts(passages: Sequence[str], words: Sequence[int], overlap: int) -> list[dict[str, Any]]:
    """Returns every way to cut texts, the preferred first; where nothing is cut, lengths make no difference."""
    ways = [
        {"passages": one, "words": length, "overlap": overlap}
        for one in passages
        for length in (words if one != "never" else words[:1])
    ]
    return list({tuple(way.items()): way for way in ways}.values())


def _check_cuts(cuts: Sequence[Any], paths: Sequence[str], documents: int | None) -> None:
    if len(cuts) > 1 and STANDARD_INPUT in paths:
        raise QueryError("standard input is read once: give a file, or one --passages and one --words")
    if len(cuts) > 1 and documents is not None:
        raise QueryError("--documents counts passages where texts are cut: plan each --passages and --words by itself")


def _flags(cut: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the options of `plait index` that cut texts so."""
    own = {"passages": "auto", "words": WORDS, "overlap": OVERLAP}
    changed = {name: value for name, value in cut.items() if value != own[name]}
    return tuple(word for name, value in changed.items() for word in (f"--{name}", str(value)))


def _surveyed(paths: Sequence[str], documents: int | None, sample: int, *, skip_bad: bool, **cut: Any) -> Corpus:
    """Returns what a look at the files says of the corpus in them."""
    total, read = total_bytes(paths), [0]

    def count(more: int) -> None:
        read[0] += more

    try:
        found = read_documents(paths, skip_bad=skip_bad, on_bad=Skipped(), on_bytes=count, **cut)
    except IngestError:
        raise
    except ValueError as error:  # an option out of range
        raise QueryError(str(error)) from error
    return survey(found, expected=documents, sample=sample, share_read=lambda: read[0] / total if total else None)


def _facts(corpora: Sequence[Corpus], found: Plan, budgets: dict[str, float]) -> dict[str, object]:
    """Returns the plan as JSON; what it says of a corpus is that of the way to cut texts that was named first."""
    corpus = corpora[0]
    about = {"documents": corpus.documents, "counted": corpus.counted, "characters": corpus.characters}
    return {
        **about, "sample": sum(map(len, corpus.sample)), "budgets": budgets,
        "settings": [each.to_json() for each in found.predictions],
        "chosen": None if found.chosen is None else asdict(found.chosen.setting), "reasons": found.reasons,
    }  # fmt: skip


def _show(corpora: Sequence[Corpus], found: Plan, words: Sequence[str]) -> None:
    """Prints the predictions as a table, the choice, why it is that, and the command that makes it."""
    for corpus in corpora:
        count = f"{'' if corpus.counted else 'about '}{corpus.documents:,} documents"
        console.out.print(f"{count} of {corpus.characters:,.0f} characters; {sum(map(len, corpus.sample)):,} encoded")
        if len(corpus.stock) < min(STOCK, corpus.documents / BEYOND):
            console.note(
                f"only {len(corpus.stock):,} documents to measure with, for {corpus.documents:,}: times are a guess, "
                f"disk and memory an estimate; {STOCK:,} are enough"
            )
    rows = [
        [each.setting.name, told_seconds(each.time), told_bytes(each.memory), told_bytes(each.size),
         f"{each.latency:.3g} ms", "; ".join(each.over)]
        for each in found.predictions
    ]  # fmt: skip
    console.print_table(scores_table(("setting", "time", "memory", "disk", "search", "over budget"), rows))
    for reason in found.reasons:
        console.out.print(Text(f"not {reason}", "dim"), soft_wrap=True)
    if found.chosen is None:
        console.out.print("no setting fits; allow more, shorten texts with --max-length, or try fewer strands")
        return
    console.out.print(f"the first that fits: {found.chosen.setting.name}", soft_wrap=True)
    command = shlex.join(["plait", "index", *words, *found.chosen.setting.flags])
    console.out.print(Text(command, "cyan"), soft_wrap=True)

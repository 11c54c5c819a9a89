"""`plait models`: the catalogue of encoders as a table, one model with everything known of it, and docs/models.md."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..encoders import catalogue
from ..encoders.catalogue import COLLECTIONS, DENSE, LEARNED, MEANS, NEEDS, RERANK, Entry, Figures, Mean
from ..retriever import QueryError
from . import console
from .options import JsonFlag

UNKNOWN = "unknown to us"
NOT_PUBLISHED = "not published, or not known to us"
HEADER = ("model", "family", "size", "here", "licence", "BEIR", "unseen", "trained on")
_WHOLE = ("size", "BEIR", "unseen", "here")  # never broken over lines, however narrow the terminal is
_JUSTIFY = {"size": "right", "BEIR": "right", "unseen": "right"}
_NARROW = {"model": 18, "trained on": 10}  # columns, at the least, on a narrow terminal
LEGEND = (
    "size: parameters. BEIR: published mean nDCG@10 / over how many collections. unseen: the mean over those that the "
    "training data are not from; without one, call nothing zero-shot. ?: unknown to us. "
    "plait models NAME shows sources and commands."
)


def models_command(
    name: Annotated[str | None, typer.Argument(help="A model, to show everything known of it.")] = None,
    family: Annotated[str | None, typer.Option("--family", help="Only models of a family, as splade or e5.")] = None,
    strand: Annotated[
        str | None, typer.Option("--strand", help="Only models for a strand: learned, dense, or both in one.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the whole catalogue as docs/models.md.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List known encoders: size, licence, published figures.

    Of one that is named also what it needs, what it trained on, and the commands that use it.
    """
    if name is not None and (family or strand):
        raise QueryError("give a model, or --family and --strand to choose among all; not both")
    if markdown and (as_json or name is not None or family or strand):
        raise QueryError("--markdown prints the whole catalogue; give it alone")
    if markdown:
        console.out.out(page(), end="", highlight=False)
    elif name is not None:
        _show(catalogue.find(name), as_json=as_json)
    else:
        _list(catalogue.chosen(family=family, strand=strand), as_json=as_json)


def commands(entry: Entry) -> list[str]:
    """Returns the commands that use a model, as a shell reads them."""
    if entry.strands == (RERANK,):
        return [shlex.join([*_SEARCH, "--pipeline", f"rerank:model={entry.spec}"])]
    if entry.embedded:
        return [shlex.join(_INDEX), shlex.join(_SEARCH)]
    flags = [word for strand in entry.strands for word in (f"--{strand}", entry.spec)]
    return [shlex.join([*_INDEX, *flags]), shlex.join(_SEARCH)]


_INDEX = ("plait", "index", "corpus.jsonl", "-o", "my.index")
_SEARCH = ("plait", "search", "my.index", "a question")


def page() -> str:
    """Returns docs/models.md: the catalogue as one page, with every source."""
    parts = [_INTRODUCTION]
    for title, entries in _groups(catalogue.entries()):
        parts += [f"## {title}\n\n{_facts(entries)}"]
    parts += [f"## Figures by collection\n\n{_FIGURES}\n\n{_by_collection()}"]
    parts += ["## One by one\n\n" + "\n".join(_section(entry) for entry in catalogue.entries())]
    return "\n".join(parts)


_INTRODUCTION = f"""# Models

Written by `plait models --markdown > docs/models.md` from `encoders/catalogue.json`; do not edit it here.
`plait models` shows the same in the terminal, `plait models NAME` one model, and `--json` everything for programs.

Figures and facts are their sources' own, read there and not measured here unless it says so. What we could not verify
is missing: {UNKNOWN}.

**BEIR** is the published mean nDCG@10, and the number of collections that it is over: 13 as in the SPLADE papers
(without {", ".join(COLLECTIONS[name] for name in COLLECTIONS if name not in MEANS[13])}),
15 as in MTEB (those 13, MS MARCO and CQADupStack), 18 as in BEIR itself (all but MS MARCO). Means over different
collections cannot be compared.

**Unseen** is the mean over the collections that the training data are not from, and the number of them: what may be
called zero-shot. Where the training data are not known, or not all of them, there is none. Training data that share a
corpus or an origin with a collection (Wikipedia, S2ORC) are not counted as that collection.

A command takes a spec: `NAME`, or `NAME:option=value:option=value`. FOLDER stands for a checkpoint on this machine.
"""

_FIGURES = "nDCG@10; * where the training data are from that collection, so that the figure is not zero-shot."


def _groups(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Yields the entries by what they are for, with a title for each group that has some."""
    for strands, title in _TITLES.items():
        if group := [entry for entry in entries if entry.strands == strands]:
            yield title, group


_TITLES = {
    (LEARNED, DENSE): "Both strands", (LEARNED,): "Learned sparse", (DENSE,): "Dense", (RERANK,): "Rerankers",
}  # fmt: skip


def _show(entry: Entry, *, as_json: bool) -> None:
    if as_json:
        console.print_json(_json(entry))
        return
    table = Table(show_header=False, box=None)
    for name, value in _details(entry):
        table.add_row(Text(name, "bold"), Text(value))
    console.print_table(table)
    for command in commands(entry):
        console.out.print(Text(command, "cyan"), soft_wrap=True)


def _list(entries: Sequence[Entry], *, as_json: bool) -> None:
    if as_json:
        console.print_json({"models": [_json(entry) for entry in entries]})
        return
    for title, group in _groups(entries):
        console.print_table(_listed(title, group))
    console.out.print(Text(LEGEND, "dim"), soft_wrap=not console.out.is_terminal)


def _listed(title: str, entries: Iterable[Entry]) -> Table:
    look: dict[str, Any] = {"title_justify": "left", "title_style": "bold", "show_edge": False, "box": SIMPLE_HEAD}
    table = Table(title=title, padding=(0, 1, 0, 0), **look)
    for column in HEADER:
        width: dict[str, Any] = {"justify": _JUSTIFY.get(column, "left"), "min_width": _NARROW.get(column)}
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE, **width)
    for entry in entries:
        table.add_row(*_row(entry))
    return table


def _json(entry: Entry) -> dict[str, Any]:
    return {**entry.to_json(), "commands": commands(entry), "here": catalogue.is_here(entry)}


def _row(entry: Entry) -> list[str]:
    return [
        entry.name, entry.family, _size(entry), "yes" if catalogue.is_here(entry) else "", entry.licence or "?",
        _mean(entry.mean, sign="/"), _mean(entry.unseen, sign="/"), _overlaps(entry, unknown="?"),
    ]  # fmt: skip


def _details(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yields everything known of a model, as names and values."""
    here = "comes with plait" if entry.embedded else "in the hub's cache" if catalogue.is_here(entry) else "not yet"
    yield "model", entry.name
    yield "source", entry.source
    if entry.paper:
        yield "paper", f"arXiv {entry.paper}"
    yield "family", f"{entry.family}, for {' and '.join(entry.strands)}"
    yield "parameters", _size(entry, unknown=UNKNOWN)
    yield "licence", entry.licence or UNKNOWN
    yield "needs", "; ".join(NEEDS[need] for need in entry.needs) or "nothing more"
    yield "on this machine", here
    yield "trained on", _overlaps(entry, unknown=f"{NOT_PUBLISHED}: call none of its figures zero-shot")
    if entry.overlaps_source:
        yield "", f"({entry.overlaps_source})"
    yield "BEIR", _mean(entry.mean, unknown=UNKNOWN)
    yield "unseen", _mean(entry.unseen, unknown="none that we could call zero-shot")
    for figures in entry.figures:
        yield figures.strand, _figures(entry, figures)
        yield "", f"({figures.source}{'; ' + figures.note if figures.note else ''})"
    for other in entry.others:
        yield "also", f"{other.what}: {_number(other.value)} ({other.source})"
    if entry.note:
        yield "note", entry.note


def _figures(entry: Entry, figures: Figures) -> str:
    mean = [f"mean {_number(figures.mean)} over {figures.over}"] if figures.mean is not None else []
    each = [f"{name} {_cell(entry, figures, name)}" for name in figures.collections]
    return "; ".join([*mean, ", ".join(each)] if each else mean)


def _number(value: float) -> str:
    """Returns a figure with the three or four digits that it has."""
    digits = f"{value:.4f}"
    return digits.removesuffix("0")


def _size(entry: Entry, *, unknown: str = "?") -> str:
    if entry.parameters is None:
        return unknown
    millions = entry.parameters / 1e6
    return (
        f"{millions / 1e3:.1f} B"
        if millions >= 1000
        else f"{millions:.0f} M"
        if millions >= 10
        else f"{millions:.1f} M"
    )


def _mean(mean: Mean | None, *, unknown: str = "", sign: str = " over ") -> str:
    return unknown if mean is None else f"{_number(mean.value)}{sign}{mean.over}"


def _overlaps(entry: Entry, *, unknown: str) -> str:
    if entry.overlaps is None:
        return unknown
    named = ", ".join(COLLECTIONS[name] for name in entry.overlaps) or "none of BEIR"
    return f"{named}, and data not named" if entry.partly else named


def _facts(entries: Iterable[Entry]) -> str:
    header = ("model", "family", "parameters", "licence", "needs", "BEIR", "unseen", "trained on")
    rows = [
        [
            _link(entry), entry.family, _size(entry, unknown=""), entry.licence or "",
            ", ".join(entry.needs) or "nothing", _mean(entry.mean), _mean(entry.unseen),
            _overlaps(entry, unknown=NOT_PUBLISHED),
        ]
        for entry in entries
    ]  # fmt: skip
    return _table(header, rows)


def _by_collection() -> str:
    shown = [(entry, figures) for entry in catalogue.entries() for figures in entry.figures if figures.collections]
    rows = [
        [entry.name.rpartition("/")[2], figures.strand, *(_cell(entry, figures, name) for name in COLLECTIONS)]
        for entry, figures in shown
    ]
    return _table(("model", "strand", *COLLECTIONS.values()), rows)


def _cell(entry: Entry, figures: Figures, collection: str) -> str:
    value = figures.collections.get(collection)
    return "" if value is None else f"{_number(value)}{'*' if collection in (entry.overlaps or ()) else ''}"


def _section(entry: Entry) -> str:
    """Returns what the page says of one model, as a list under its name."""
    skipped = ("model", "on this machine")
    lines = [f"### {entry.name}", ""]
    for name, value in _details(entry):
        if name not in skipped:
            lines.append(f"- {name}: {value}" if name else f"  {value}")
    return "\n".join([*lines, "", "```console", *(f"$ {command}" for command in commands(entry)), "```", ""])


def _link(entry: Entry) -> str:
    return f"[{entry.name}](#{''.join(c for c in entry.name.lower() if c.isalnum() or c in '-_')})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

"""`plait demo`: the main job on text that every machine has, this Python's own documentation."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path

import typer
from rich.text import Text

from ..retriever import QueryError, Retriever
from . import console
from .pydocs import python_documentation
from .render import hit_text

QUESTIONS = (
    "how do I turn a dictionary into a JSON string?",
    "run a function in another process and wait for its result",
    "remove whitespace from both ends of a string",
    "what happens when an exception is raised inside a with block?",
)


def demo(out: Path, k: int = 3) -> None:
    """Indexes the documentation into `out` (or goes on with it) and answers a few questions.

    Raises:
        QueryError: there is an index of other documents.
    """
    version = ".".join(map(str, sys.version_info[:2]))
    existing = (out / "plait.db").exists()
    with closing(Retriever.open(out) if existing else Retriever.create(out)) as retriever:
        if len(retriever) and next(python_documentation()).id not in retriever:
            raise QueryError(f"{out} holds other documents than the demo's; choose another name with --out")
        _fill(retriever, version)
        for question in QUESTIONS:
            _answer(retriever, question, k)
    _next_steps(out)


def _fill(retriever: Retriever, version: str) -> None:
    console.out.print(
        f"Reading the documentation of Python {version}: language topics and the standard library's docstrings."
    )
    passages = list(python_documentation())
    meter = console.Meter("indexing", sum(len(p.full_text) for p in passages))
    began = time.monotonic()

    def told(count: int) -> None:
        first = meter.documents
        meter.bytes_read(sum(len(p.full_text) for p in passages[first : first + count]))
        meter.documents_done(count)

    with console.stoppable() as stop:
        try:
            done = retriever.add(stop.until(passages), commit_every=2048, on_progress=told)
        finally:
            meter.close()
        retriever.commit()
    seconds = time.monotonic() - began
    if done.added:
        rate = f"{done.added:,} passages in {seconds:,.0f} s, {done.added / seconds:,.0f} a second"
        console.out.print(f"Indexed {rate}; every passage was encoded for three strands.")
    else:
        console.out.print(f"{retriever.folder} holds all {done.unchanged:,} passages already; nothing to encode.")
    if stop.asked:
        console.note("stopped early; run the demo again to go on")
        raise typer.Exit(130)


def _answer(retriever: Retriever, question: str, k: int) -> None:
    began = time.perf_counter()
    hits = retriever.search(question, k, explain=True)
    took = f"{(time.perf_counter() - began) * 1e3:.0f} ms"
    console.out.print(Text.assemble((f"\n? {question}", "bold"), (f"  {took}\n", "dim")))
    for hit in hits:
        console.out.print(hit_text(hit, console.out.width), soft_wrap=True)


def _next_steps(out: Path) -> None:
    name = shlex.quote(str(out))
    plait = shlex.quote(_command())
    lines = (
        "",
        "Each hit shows its fused score, each strand's (as it is, normalised, rank) and the matched terms.",
        "The index stays. Next steps, ready to paste:",
        "",
        f'  {plait} search {name} "read a file line by line" -k 5 --explain',
        f'  {plait} search {name} "read a file line by line" --strands lexical',
        f"  {plait} info {name}",
        f"  {plait} --help",
    )
    for line in lines:
        console.out.print(line, markup=False, soft_wrap=True)


def _command() -> str:
    """Returns how `plait` can be called from here: by name when it is on the PATH of this shell, else by its path."""
    here = Path(sys.argv[0]).absolute()
    found = shutil.which("plait")
    on_path = found is not None and Path(found).absolute() == here
    return "plait" if on_path or here.name != "plait" else str(here)

"""`plait dump` and `plait load`: a strand out to a file that other engines read, an index of a file that they wrote."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..retriever import Retriever
from ..retriever.exchange import FORMATS, Dumped, Loaded, dump, load
from . import console
from .options import IndexArgument, JsonFlag, Language, MovedDense, MovedLearned
from .upkeep import merge_where_it_pays

FormatOption = Annotated[
    str | None, typer.Option("--format", help=f"{' or '.join(FORMATS)}; what the file's name says without it.")
]


def dump_command(
    index: IndexArgument,
    out: Annotated[Path, typer.Argument(help="A .ciff, .ciff.gz, .jsonl or .jsonl.gz file, or a folder, to make.")],
    strand: Annotated[
        str, typer.Option("--strand", help="learned: impacts; lexical: term frequencies and lengths.")
    ] = "learned",
    format: FormatOption = None,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a sparse strand for other engines.

    As CIFF, or as Anserini's JsonVectorCollection.
    """
    with closing(Retriever.open(index, dense=dense, learned=learned)) as retriever:
        meter = console.Meter("writing", None)
        try:
            done = dump(retriever, out, strand=strand, format=format, on_progress=meter.documents_done)
        finally:
            meter.close()
    if as_json:
        console.print_json(asdict(done))
    else:
        _tell_dumped(done)


def load_command(
    source: Annotated[Path, typer.Argument(help="A .ciff file, or a file or folder of JsonVectorCollection.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The index folder to make.")],
    strand: Annotated[
        str | None, typer.Option("--strand", help="What the weights are: learned (impacts) or lexical (frequencies).")
    ] = None,
    strands: Annotated[
        str | None, typer.Option("--strands", help="Strands of the index, as learned,dense; others are made of texts.")
    ] = None,
    format: FormatOption = None,
    learned: Annotated[
        str | None, typer.Option("--learned", help="Sparse model for queries; weighted terms (snow^2.5) without it.")
    ] = None,
    dense: Annotated[str, typer.Option("--dense", help="Dense model, where --strands has dense.")] = "embedded",
    language: Language = None,
    scale: Annotated[float | None, typer.Option("--scale", help="What a weight of 1 in the file is worth.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an index of what another engine wrote.

    CIFF, or Anserini's JsonVectorCollection.
    """
    meter = console.Meter("reading", _bytes(source), unit="bytes")

    def read(count: int) -> None:
        meter.bytes_read(count)
        meter.documents_done(count)

    try:
        done = load(
            source, out, format=format, strand=strand, strands=strands, learned=learned, dense=dense,
            language=language, scale=scale, on_bytes=read,
        )  # fmt: skip
    finally:
        meter.close()
    with closing(Retriever.open(out)) as retriever:
        merge_where_it_pays(retriever, done.documents)
    if as_json:
        console.print_json(asdict(done))
    else:
        _tell_loaded(done)


def _bytes(source: Path) -> int | None:
    """Returns the bytes to read, as stored; None for a folder, whose files are looked for later."""
    return source.stat().st_size if source.is_file() else None


def _tell_dumped(done: Dumped) -> None:
    what = f"{done.documents:,} documents, {done.terms:,} terms, {done.postings:,} postings"
    console.out.print(f"wrote {done.path} ({done.format}, {done.strand}): {what}", soft_wrap=True)
    if done.scale is not None:
        console.note(f"an impact of 1 is a weight of {done.scale!r} in the index: load --scale {done.scale!r}")


def _tell_loaded(done: Loaded) -> None:
    what = f"{done.documents:,} documents, {done.terms:,} terms, {done.postings:,} postings"
    console.out.print(f"made {done.path} of {done.format}, {done.strand}: {what}", soft_wrap=True)
    for told in _notes(done):
        console.note(told)


def _notes(done: Loaded) -> list[str]:
    """Returns what a person should know of an index that was loaded."""
    facts: list[tuple[Any, str]] = [
        (not done.exact, f"the largest weight is {done.largest:g}: {_rounded(done)}"),
        (
            done.unknown_terms,
            f"{done.unknown_terms:,} of the {done.terms:,} terms are unknown to the model; their "
            f"{done.unknown_postings:,} postings were left out",
        ),
        (done.idf_of_postings, "without texts, inverse document frequencies count every posting, a model's own too"),
        (
            done.other_lengths,
            f"{done.other_lengths:,} documents have another length than the sum of their frequencies (Lucene keeps "
            "lengths in 8 bits); the file's are kept",
        ),
        (done.overlap, f"queries are analysed as {done.language!r}; --language changes that. {_overlap(done)}"),
    ]
    return [told for holds, told in facts if holds]


def _rounded(done: Loaded) -> str:
    if done.scale is None:
        return "frequencies above 255 are kept as 255"
    return f"weights were rounded to steps of {done.largest / 255:.4g}, none of them to 0"


def _overlap(done: Loaded) -> str:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in (done.overlap or {}).items())
    return f"Of a sample of terms it must leave nearly all as they are: {shares}"

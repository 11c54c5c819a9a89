"""Collections that are measured: loaded, and their indexes opened or made."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from .. import eval as measuring
from ..eval.dataset import sha256
from ..eval.loading import load_dataset
from ..index import Snapshot
from ..retriever import Document, QueryError, Retriever, read_documents
from ..retriever.sources import total_bytes
from ..retriever.strands import NEIGHBOURS, STRANDS, parse_strands
from . import console
from .ingesting import Skipped

LOOKED_UP = 1000  # relevant documents that are looked for in an index, to see that it is one of this corpus
MODELS = (
    "dense",
    "learned",
    "lexical",
    "lucene",
    "lucene_impact",
)  # what an index that is there already may be opened with


@dataclass(frozen=True)
class Wanted:
    """An index to measure with.

    Attributes:
        place: its folder, made if missing; None: a temporary one.
        dataset: whose documents it holds.
        made_with: arguments of `Retriever.create`; the models among them also open it.
        skip_bad: pass over bad documents.
        distractors: a file of documents to add to an index that is made.
        plans: what it will be searched with, by its strands: tried on the empty index, before an hour of indexing.
    """

    place: Path | None
    dataset: measuring.Dataset
    made_with: Mapping[str, Any]
    skip_bad: bool
    distractors: Path | None
    plans: Callable[[Sequence[str]], Sequence[measuring.Plan]]


def loaded(data: Sequence[str], split: str, *, skip_bad: bool) -> list[measuring.Dataset]:
    """Returns the collections, each of another name.

    Raises:
        EvalError: one cannot be loaded, or two are called alike.
    """
    found: list[measuring.Dataset] = []
    for spec in data:
        dataset = load_dataset(spec, split, skip_bad=skip_bad)
        if any(dataset.name == other.name for other in found):
            raise measuring.EvalError(f"two collections are called {dataset.name!r}; rename a folder, or measure apart")
        if unasked := len(dataset.qrels) - len(dataset.queries):
            console.note(f"{unasked:,} judged queries have no text; each counts as 0")
        found.append(dataset)
    return found


def place_of(index: Path | None, dataset: measuring.Dataset, *, several: bool) -> Path | None:
    """Returns where a collection's index is: the folder that was named, or in it, where there are several.

    Raises:
        QueryError: several collections and one index.
    """
    if index is None or not several:
        return index
    if is_there(index):
        raise QueryError(f"{index} is one index; with several collections --index is a folder that gets one for each")
    return index / f"{folder_name(dataset.name)}.index"


def folder_name(collection: str) -> str:
    """Returns a collection's name as a folder can have it."""
    return re.sub(r"[^\w.-]+", "-", collection)


def strands_of(wanted: Wanted) -> tuple[str, ...]:
    """Returns the strands of an index that is there, or those that it will have when it is made."""
    neighbours = [name for name in NEIGHBOURS if wanted.made_with.get(name.replace("-", "_")) is not None]
    if wanted.place is None or not _is_filled(wanted.place):
        return parse_strands([*parse_strands(wanted.made_with.get("strands", STRANDS)), *neighbours])
    with closing(Snapshot(wanted.place, verify=False)) as snapshot:
        return parse_strands([*snapshot.settings["encoders"], *neighbours])


def ids_of(wanted: Wanted) -> Iterator[str]:
    """Yields the ids of the documents of an index that is there, or of those that will be in it when it is made.

    Raises:
        IngestError: bad input, where it is not to be passed over.
    """
    if wanted.place is not None and _is_filled(wanted.place):
        with closing(Snapshot(wanted.place, verify=False)) as snapshot:
            yield from snapshot.all_ids()
        return
    for document in wanted.dataset.documents(skip_bad=wanted.skip_bad):
        yield document.id
    if wanted.distractors is not None:
        others = read_documents(wanted.distractors, skip_bad=wanted.skip_bad, passages="never")
        yield from (document.id for document in _renamed(others, wanted.distractors))


def is_there(place: Path | None) -> bool:
    """Returns whether there is an index in a folder, be it without documents."""
    return place is not None and (place / "plait.db").exists()


def _is_filled(place: Path) -> bool:
    """Returns whether there is an index with documents; one without was left by an eval that was interrupted."""
    if not is_there(place):
        return False
    with closing(Snapshot(place, verify=False)) as snapshot:
        return bool(snapshot.documents)


@contextmanager
def opened(wanted: Wanted) -> Iterator[tuple[Retriever, dict[str, Any]]]:
    """Opens the index that is wanted, or makes it; yields it with what else moves a score."""
    with ExitStack() as stack:
        place = wanted.place
        if place is not None and is_there(place):
            models = {name: value for name, value in wanted.made_with.items() if name in MODELS}
            retriever = stack.enter_context(closing(Retriever.open(place, **models)))
            if not len(retriever):  # made by an eval that was interrupted
                _fill(retriever, wanted)
        else:
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-eval-")))
            retriever = stack.enter_context(closing(_made(place or temporary / "index", wanted)))
        _check_corpus(retriever, wanted)
        yield retriever, _settings(retriever, wanted)


def _made(place: Path, wanted: Wanted) -> Retriever:
    retriever = Retriever.create(place, **wanted.made_with)
    try:
        for plan in wanted.plans(retriever.strands):
            plan.check(retriever)
    except BaseException:
        retriever.close()
        shutil.rmtree(place)  # so that other options can be chosen with the next try
        raise
    try:
        _fill(retriever, wanted)
    except BaseException:
        retriever.close()
        raise
    return retriever


def _fill(retriever: Retriever, wanted: Wanted) -> None:
    _add(retriever, wanted.dataset, skip_bad=wanted.skip_bad)
    if wanted.distractors is not None:
        others = read_documents(wanted.distractors, skip_bad=wanted.skip_bad, on_bad=Skipped(), passages="never")
        retriever.add(_renamed(others, wanted.distractors))
    retriever.commit()


def _add(retriever: Retriever, dataset: measuring.Dataset, *, skip_bad: bool) -> None:
    meter = console.Meter(f"indexing {dataset.name}", total_bytes([dataset.corpus]) if dataset.reader is None else None)
    try:
        documents = dataset.documents(skip_bad=skip_bad, on_bad=Skipped(), on_bytes=meter.bytes_read)
        retriever.add(documents, on_progress=meter.documents_done)
    finally:
        meter.close()


def _renamed(documents: Iterator[Document], path: Path) -> Iterator[Document]:
    """Yields distractors under ids that no judgement names: another corpus may count its documents alike."""
    return (replace(document, id=f"{path.name}:{document.id}") for document in documents)


def _check_corpus(retriever: Retriever, wanted: Wanted) -> None:
    """Says so where relevant documents are not in the index: it may be of another corpus, or of passages.

    Raises:
        QueryError: distractors were named that the index does not hold.
    """
    dataset = wanted.dataset
    relevant = {id: None for judged in dataset.qrels.values() for id, relevance in judged.items() if relevance > 0}
    looked_up = list(relevant)[:LOOKED_UP]
    if missing := sum(id not in retriever for id in looked_up):
        of = f"{missing:,} of {len(looked_up):,} relevant documents"
        console.note(f"{of} are not in the index; scores are low if it is not an index of {dataset.corpus}")
    if wanted.distractors is not None:
        others = read_documents(wanted.distractors, skip_bad=True, passages="never")
        if any(document.id not in retriever for document in islice(_renamed(others, wanted.distractors), 1)):
            raise QueryError(
                f"{retriever.folder} was made without {wanted.distractors}; let eval make another index with it"
            )


def _settings(retriever: Retriever, wanted: Wanted) -> dict[str, Any]:
    """Returns what a run card says beside what the index tells: where its encoders come from, what was skipped."""
    with closing(Snapshot(retriever.folder, verify=False)) as snapshot:
        encoders = snapshot.settings["encoders"]
    sources = {name: _portable(facts["source"]) for name, facts in encoders.items()}
    settings: dict[str, Any] = {"sources": sources, "skip_bad": wanted.skip_bad}
    if wanted.distractors is not None:
        settings["distractors"] = {"name": wanted.distractors.name, "sha256": sha256(wanted.distractors)}
    return settings


def _portable(source: str | None) -> str | None:
    """Returns where an encoder comes from, without the folders of this machine."""
    return Path(source).name if source is not None and Path(source).is_absolute() else source

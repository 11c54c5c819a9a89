"""What the adapters to other frameworks share: their packages, what they tell of a hit, and how an index is named."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

from ..retriever import Hit, QueryError, Retriever
from ..retriever.context import Citation
from ..retriever.rag import Rag

HITS = 10  # that are wanted where a framework does not say
OWN = "own_metadata"  # where all metadata of a document goes when a name of it is taken


class Passage(NamedTuple):
    """What a framework gets: a text with its score, the document that it is from, and what there is to know of it."""

    id: str
    text: str
    score: float
    source: str
    metadata: dict[str, Any]


def framework(module: str, extra: str) -> Any:
    """Returns a module of a framework.

    Raises:
        ImportError: it is not there, or not as it should be; the message names the pip command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        message = f'plait.apps.{extra} needs the package {package} ({error}): pip install "plait[{extra}]"'
        raise ImportError(message, name=module) from error


def opened(index: Retriever | str | PathLike[str]) -> Retriever:
    """Returns an open index; of a path, a new Retriever."""
    return index if isinstance(index, Retriever) else Retriever.open(index)


def told_of(hit: Hit) -> dict[str, Any]:
    """Returns a hit's metadata as a framework shows it: the document's own names, and plait's.

    `start` and `end` are the place in the parent's text, `scores` the strands' own, `normalised` those that are fused.
    """
    ours = {
        "id": hit.id,
        "title": hit.title,
        "score": hit.score,
        "rank": hit.rank,
        "parent": hit.parent,
        "start": hit.start,
        "end": hit.start + len(hit.text),
        "scores": {name: strand.score for name, strand in hit.strands.items()},
        "normalised": {name: strand.normalised for name, strand in hit.strands.items()},
        "probability": hit.probability,
    }
    return _beside(hit.metadata, ours)


def told_of_source(citation: Citation) -> dict[str, Any]:
    """Returns a citation's metadata as a framework shows it: the document's own names, and plait's."""
    names = ("id", "title", "score", "number", "parent", "start", "end", "question", "hits", "passages")
    ours = {name: getattr(citation, name) for name in names}
    return _beside(citation.metadata, {k: list(v) if isinstance(v, tuple) else v for k, v in ours.items()})


def retrieved(retriever: Retriever | Rag, query: str, k: int | None, search: Mapping[str, Any]) -> list[Passage]:
    """Returns what a framework gets for a query: hits of an index, or the sources of a Rag's context.

    Raises:
        QueryError: a search cannot be answered; or a Rag is given a number of hits or search arguments beside its own.
    """
    if isinstance(retriever, Rag):
        if k is not None or search:
            raise QueryError("a Rag has its own k and search: give them to the Rag, not to the framework's retriever")
        sources = retriever.context(query).citations
        return [Passage(one.id, one.text, one.score, one.source, told_of_source(one)) for one in sources]
    hits = retriever.search(query, HITS if k is None else k, **search)
    return [Passage(hit.id, hit.text, hit.score, hit.parent or hit.id, told_of(hit)) for hit in hits]


def _beside(metadata: Mapping[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    taken = {OWN: dict(metadata)} if set(metadata) & {*ours, OWN} else {}
    return {**metadata, **ours, **taken}

"""An MCP server over an index: a model finds passages with `search` and reads on with `fetch`. Nothing is written.

This module needs the package mcp; `mcp_command` imports it once it is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.metadata import version
from io import SEEK_END, StringIO
from typing import Annotated, Any, ParamSpec, TypeVar
from urllib.parse import quote

from mcp.server.mcpserver import MCPServer, ResourceSecurity
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from ..retriever import Document, Hit, PlaitError, QueryError, Retriever
from ..retriever.context import GAP
from .searching import Patience

MOST_HITS = 100  # of one search: a model's context is small
MOST_CHARACTERS = 50_000  # of a text that one `fetch` returns; `next_offset` says where the next one begins
SHOWN = 2_000  # characters of a hit's text
FRESH_SECONDS = 1.0  # a search looks for newer commits where the last look is older than this
ADDRESS = "plait://documents/{id}"
BREAK = "\n\n"
NO_PATH = ResourceSecurity(reject_path_traversal=False, reject_absolute_paths=False)  # an id opens no file

P = ParamSpec("P")
R = TypeVar("R")


class Result(BaseModel):
    """One hit of a search, with the names that other MCP search tools use."""

    id: str = Field(description="What fetch takes.")
    title: str
    text: str = Field(description=f"The text that matched, at most {SHOWN} characters of it.")
    cut: bool = Field(description="Whether there is more of the text than is shown.")
    url: str
    score: float = Field(description="The fused score; comparable between searches with the same settings.")
    rank: int
    strands: dict[str, float] = Field(description="What each strand of the index says by itself.")
    metadata: dict[str, Any]
    parent: str | None = Field(description="The document that a passage was cut from.")
    start: int = Field(description="Where a passage begins in its parent, in characters.")
    probability: float | None = Field(description="Of being relevant, where the index is calibrated.")


class Found(BaseModel):
    """What `search` returns."""

    query: str
    results: list[Result]


class Fetched(BaseModel):
    """What `fetch` returns."""

    id: str
    title: str
    text: str
    url: str
    metadata: dict[str, Any]
    parent: str | None = Field(description="The document that a passage was cut from.")
    start: int = Field(description="Where the text begins in the whole document, in characters, if none is missing.")
    passages: list[str] = Field(description="The passages that the text is made of, if it was cut into some.")
    next_offset: int | None = Field(description="Where the rest begins: pass it as offset; null at the end.")


def make_server(retriever: Retriever) -> MCPServer:
    """Returns a server with the tools `search` and `fetch`, and a resource for every document."""
    tools = Tools(retriever)
    server = MCPServer(
        "plait", version=version("plait"), instructions=instructions(retriever), log_level="ERROR", subscriptions=False
    )
    harmless = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    server.add_tool(tools.search, title="Search the index", annotations=harmless)
    server.add_tool(tools.fetch, title="Read a document or passage", annotations=harmless)
    server.resource(
        ADDRESS, name="document", title="The text of a document or passage", mime_type="text/plain", security=NO_PATH
    )(tools.document)
    return server


def instructions(retriever: Retriever) -> str:
    """Returns what a model is told of an index before it asks."""
    fields = ", ".join(f"{name} ({type})" for name, type in retriever.fields.items())
    told = [
        f"A search index of {len(retriever):,} documents or passages; strands: {', '.join(retriever.strands)}.",
        f"Filters may ask for: {fields}." if fields else "No metadata is declared for filters.",
        "Search first; fetch an id of a result to read more of it, its neighbours, or the whole document.",
    ]
    return " ".join(told)


def _told(tool: Callable[P, R]) -> Callable[P, R]:
    """Returns a tool whose user's mistakes reach the model as plait words them."""

    @wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return tool(*args, **kwargs)
        except PlaitError as error:
            raise ToolError(str(error)) from error

    return call


class Tools:
    """The tools over one index; calls come from several threads."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever, self._looked = retriever, time.monotonic()
        self._patient = Patience(retriever, retriever.refresh)

    @_told
    def search(
        self,
        query: Annotated[str, Field(description="What to look for: a question or words.")],
        k: Annotated[int, Field(description=f"How many results, 1 to {MOST_HITS}.")] = 10,
        filter: Annotated[
            str | None,
            Field(description="Only documents for which this holds, as: year >= 2020 AND lang = 'en'."),
        ] = None,
        strands: Annotated[
            list[str] | None, Field(description="Which strands of the index take part; all where left out.")
        ] = None,
    ) -> Found:
        """Search the index; returns the best documents or passages, best first."""
        if k > MOST_HITS:
            raise QueryError(f"k is at most {MOST_HITS} here, not {k}; narrow the query or use a filter")
        answer = self._patient(lambda: self._current().search(query, k, filter=filter, strands=strands))
        return Found(query=query, results=[_result(hit) for hit in answer])

    @_told
    def fetch(
        self,
        id: Annotated[str, Field(description="The id of a result, of a document, or of the parent of passages.")],
        neighbours: Annotated[
            int, Field(description="How many passages before and after a passage to read with it.")
        ] = 0,
        whole: Annotated[bool, Field(description="Read the whole document that a passage was cut from.")] = False,
        offset: Annotated[int, Field(description="Where in the text to begin, in characters.")] = 0,
    ) -> Fetched:
        """Read the text of a document, of a passage with its neighbours, or of all passages of a parent."""
        if neighbours < 0 or offset < 0:
            raise QueryError(f"neighbours and offset are 0 or more, not {neighbours} and {offset}")
        shown, parts = self._parts(id, neighbours, whole)
        text = stitched(parts)
        if offset > len(text):
            raise QueryError(f"offset {offset:,} lies behind the end of {id!r}, which has {len(text):,} characters")
        end = offset + MOST_CHARACTERS
        return Fetched(
            id=id, title=shown.title, text=text[offset:end], url=_address(id), metadata=dict(shown.metadata),
            parent=None if shown.parent == id else shown.parent, start=parts[0].start + offset,
            passages=[part.id for part in parts if part.parent is not None],
            next_offset=end if end < len(text) else None,
        )  # fmt: skip

    def document(self, id: str) -> str:
        """Returns the text of a document, a passage or a parent."""
        try:
            return stitched(self._parts(id, 0, whole=False)[1])
        except QueryError as error:
            raise ResourceNotFoundError(str(error)) from error
        except PlaitError as error:
            raise ResourceError(str(error)) from error

    def _parts(self, id: str, neighbours: int, whole: bool) -> tuple[Document, Sequence[Document]]:
        """Returns the document that is asked for, or one of its passages, and what its text is put together from."""
        retriever = self._current()
        document = retriever.get(id)
        if document is None:
            passages = retriever.passages(id)
            if not passages:
                raise QueryError(f"there is no document {id!r} in this index; ids come from search")
            return passages[0], passages
        if document.parent is None or not (neighbours or whole):
            return document, [document]
        passages = retriever.passages(document.parent)
        place = next((i for i, passage in enumerate(passages) if passage.id == id), None)
        if place is None:  # deleted since it was looked up
            return document, [document]
        return document, passages if whole else passages[max(0, place - neighbours) : place + neighbours + 1]

    def _current(self) -> Retriever:
        """Returns the retriever, moved on to the newest commit if it has not looked for one lately.

        An index that is gone is told every time: what it held is no answer.
        """
        if time.monotonic() - self._looked > FRESH_SECONDS:
            self._retriever.refresh()
            self._looked = time.monotonic()
        return self._retriever


def stitched(parts: Sequence[Document]) -> str:
    """Returns passages of one document as one text: what two share comes once, white space between them is a line.

    Where a passage is missing, or two do not agree on what they share, there is an empty line.
    """
    made, base = StringIO(), parts[0].start
    for part in parts:
        end = made.seek(0, SEEK_END)
        shared = _from(made, min(part.start - base, end)) if base <= part.start <= base + end + GAP else None
        if shared is None or not (shared.startswith(part.text) or part.text.startswith(shared)):
            shared, base = "", part.start - end - len(BREAK)
        made.write("\n" * (part.start - base - end))
        made.write(part.text[len(shared) :])
    return made.getvalue()


def _from(made: StringIO, place: int) -> str:
    """Returns what has been written from a place on, and stays at the end."""
    made.seek(place)
    return made.read()


def _address(id: str) -> str:
    return ADDRESS.format(id=quote(id, safe=""))


def _result(hit: Hit) -> Result:
    return Result(
        id=hit.id, title=hit.title, text=hit.text[:SHOWN], cut=len(hit.text) > SHOWN, url=_address(hit.id),
        score=hit.score, rank=hit.rank, strands={name: view.score for name, view in hit.strands.items()},
        metadata=dict(hit.metadata), parent=hit.parent, start=hit.start, probability=hit.probability,
    )  # fmt: skip

"""plait as Haystack components: `pip install "plait[haystack]"`.

    from plait.apps.haystack import PlaitRetriever, PlaitWriter

    indexing.add_component("writer", PlaitWriter("my.index"))
    querying.add_component("retriever", PlaitRetriever("my.index", top_k=5))

A component that is given a path can be written to YAML with its pipeline; `Pipeline.load` wants to be told
`allowed_modules=["plait.apps.haystack"]` then, as for every package but its own. Haystack reads the types of a
component's sockets from its annotations, so this module evaluates them.
"""

import asyncio
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..retriever import Document, Retriever
from ..retriever.rag import Rag
from .frameworks import framework, opened, retrieved

_haystack: Any = framework("haystack", "haystack")
_component: Any = _haystack.component
if TYPE_CHECKING:
    _Documents = list[Any]
else:
    _Documents = list[_haystack.Document]

DATABASE = "plait.db"
TITLE, PARENT, START = "title", "source_id", "split_idx_start"  # as Haystack's splitters name the latter two


@_component
class PlaitRetriever:
    """Returns hits as Haystack documents, in plait's order.

    A document's id, content and score are the hit's; its meta hold the document's own, and `title`, `rank`, `parent`,
    `start`, `end`, `scores` and `normalised` of the strands.

    Args:
        index: the index's folder, which is opened in `warm_up`; or an open Retriever; or a Rag, whose sources are
            returned in place of hits: joined, without copies, packed.
        top_k: how many hits are wanted, 10 where None; a Rag has its own.
        search: more arguments of `Retriever.search`, as {"filter": "year >= 2020"}; a Rag has its own.
    """

    def __init__(self, index: Any, top_k: int | None = None, search: Mapping[str, Any] | None = None) -> None:
        self.index, self.top_k, self.search = index, top_k, dict(search or {})
        self._open: Retriever | Rag | None = None if _is_path(index) else index

    def warm_up(self) -> None:
        """Opens the index."""
        if self._open is None:
            self._open = opened(self.index)

    @_component.output_types(documents=_Documents)
    def run(self, query: str, top_k: int | None = None, filter: str | None = None) -> dict[str, Any]:
        """Returns {"documents": the hits}.

        Args:
            query: what is looked for.
            top_k: in place of the component's own.
            filter: in place of the component's own, as "year >= 2020".
        """
        self.warm_up()
        assert self._open is not None
        search = self.search if filter is None else {**self.search, "filter": filter}
        found = retrieved(self._open, query, self.top_k if top_k is None else top_k, search)
        made = [_haystack.Document(id=one.id, content=one.text, score=one.score, meta=one.metadata) for one in found]
        return {"documents": made}

    @_component.output_types(documents=_Documents)
    async def run_async(self, query: str, top_k: int | None = None, filter: str | None = None) -> dict[str, Any]:
        """Returns what `run` does, from a thread."""
        return await asyncio.to_thread(self.run, query, top_k, filter)

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as Haystack stores it; one made with an open index cannot be stored."""
        return _haystack.default_to_dict(self, index=_path(self.index), top_k=self.top_k, search=self.search)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PlaitRetriever":
        """Returns the component that `to_dict` stored."""
        return _haystack.default_from_dict(cls, data)


@_component
class PlaitWriter:
    """Writes Haystack documents into an index and commits them; those whose ids are known replace the older.

    `meta["title"]` becomes the title; what Haystack's splitters say of parts (`source_id`, `split_idx_start`) the
    parent and the place in it; the rest of meta the metadata, of which what is no JSON value is an error.

    Args:
        index: the index's folder, made with `create` where there is none; or an open Retriever.
        create: arguments of `Retriever.create`, as {"strands": "lexical", "fields": {"year": "integer"}}.
    """

    def __init__(self, index: Any, create: Mapping[str, Any] | None = None) -> None:
        self.index, self.create = index, dict(create or {})
        self._open: Retriever | None = None if _is_path(index) else index

    def warm_up(self) -> None:
        """Opens the index, or makes it."""
        if self._open is None:
            there = (Path(self.index) / DATABASE).exists()
            self._open = Retriever.open(self.index) if there else Retriever.create(self.index, **self.create)

    @_component.output_types(documents_written=int)
    def run(self, documents: _Documents) -> dict[str, int]:
        """Returns {"documents_written": how many}: of all, those that were there already and the same included."""
        self.warm_up()
        assert self._open is not None
        added = self._open.add(as_documents(documents))
        self._open.commit()
        return {"documents_written": added.added + added.unchanged}

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as Haystack stores it; one made with an open index cannot be stored."""
        return _haystack.default_to_dict(self, index=_path(self.index), create=self.create)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PlaitWriter":
        """Returns the component that `to_dict` stored."""
        return _haystack.default_from_dict(cls, data)


def as_documents(documents: Iterable[Any]) -> list[Document]:
    """Returns Haystack documents as plait's."""
    return [_document(one) for one in documents]


def _document(given: Any) -> Document:
    meta = dict(given.meta)
    title, parent, start = meta.pop(TITLE, "") or "", meta.pop(PARENT, None), meta.pop(START, 0)
    return Document(given.id, given.content or "", title, meta, parent, start)


def _is_path(index: Any) -> bool:
    return isinstance(index, (str, PathLike))


def _path(index: Any) -> str:
    if not _is_path(index):
        raise ValueError("a component made with an open index cannot be stored; give it the index's folder instead")
    return str(index)

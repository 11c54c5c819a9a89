"""plait as a LangChain retriever: `pip install "plait[langchain]"`.

    from plait.apps.langchain import PlaitRetriever

    retriever = PlaitRetriever(index=Retriever.open("my.index"), k=5, search={"filter": "year >= 2020"})
    retriever.invoke("solar power")

What it needs of LangChain is `langchain-core`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..retriever import Retriever
from ..retriever.rag import Rag
from .frameworks import framework, retrieved

_retrievers: Any = framework("langchain_core.retrievers", "langchain")
_documents: Any = framework("langchain_core.documents", "langchain")
_pydantic: Any = framework("pydantic", "langchain")


class PlaitRetriever(_retrievers.BaseRetriever):
    """Hits as LangChain documents, in plait's order.

    A document's `id` is the hit's; its metadata hold the document's own, and `id`, `title`, `score`, `rank`, `parent`,
    `start`, `end`, `scores` and `normalised` of the strands. `ainvoke` searches in a thread, `batch` in several.

    Attributes:
        index: an open Retriever; or a Rag, whose sources are returned in place of hits: joined, without copies, packed.
        k: how many hits are wanted, 10 where None; a Rag has its own.
        search: more arguments of `Retriever.search`; a Rag has its own.
    """

    index: Retriever | Rag
    k: int | None = None
    search: Mapping[str, Any] = _pydantic.Field(default_factory=dict)

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Any]:
        found = retrieved(self.index, query, self.k, self.search)
        return [_documents.Document(id=one.id, page_content=one.text, metadata=one.metadata) for one in found]

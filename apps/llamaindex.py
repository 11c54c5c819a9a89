"""plait as a LlamaIndex retriever: `pip install "plait[llamaindex]"`.

    from plait.apps.llamaindex import PlaitRetriever

    retriever = PlaitRetriever(Retriever.open("my.index"), k=5, filter="year >= 2020")
    RetrieverQueryEngine.from_args(retriever, llm=llm).query("solar power")

What it needs of LlamaIndex is `llama-index-core`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..retriever import Retriever
from ..retriever.rag import Rag
from .frameworks import Passage, framework, retrieved

_base: Any = framework("llama_index.core.base.base_retriever", "llamaindex")
_schema: Any = framework("llama_index.core.schema", "llamaindex")


class PlaitRetriever(_base.BaseRetriever):
    """Hits as LlamaIndex nodes with scores, in plait's order.

    A node's id is the hit's, its character indices are those in the parent's text, and its source node is the parent.
    Of the metadata a language model is shown the title and the document's own; plait's are for programs.

    Args:
        index: an open Retriever; or a Rag, whose sources are returned in place of hits: joined, without copies, packed.
        k: how many hits are wanted, 10 where None; a Rag has its own.
        options: of LlamaIndex's own base class, as `callback_manager`.
        search: more arguments of `Retriever.search`; a Rag has its own.
    """

    def __init__(self, index: Retriever | Rag, k: int | None = None, *, options: Any = None, **search: Any) -> None:
        self.index, self.k, self.search = index, k, search
        super().__init__(**(options or {}))

    def _retrieve(self, query_bundle: Any) -> list[Any]:
        return [_node(one) for one in retrieved(self.index, query_bundle.query_str, self.k, self.search)]

    async def _aretrieve(self, query_bundle: Any) -> list[Any]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(found: Passage) -> Any:
    metadata = found.metadata
    hidden = [name for name in _OURS if name in metadata]
    source = _schema.RelatedNodeInfo(node_id=found.source)
    node = _schema.TextNode(
        id_=found.id, text=found.text, metadata=metadata, start_char_idx=metadata["start"],
        end_char_idx=metadata["end"], relationships={_schema.NodeRelationship.SOURCE: source},
        excluded_llm_metadata_keys=hidden, excluded_embed_metadata_keys=hidden,
    )  # fmt: skip
    return _schema.NodeWithScore(node=node, score=found.score)


_OURS = (
    "id", "score", "rank", "number", "parent", "start", "end", "scores", "normalised", "probability", "question",
    "hits", "passages", "own_metadata",
)  # fmt: skip

"""The LlamaIndex retriever: the hits of the Python API, exactly, alone and inside a query engine."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from plait.retriever.rag import Rag

from .framework_index import QUERIES, make_index, views, without

framework = pytest.mark.frameworks


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with make_index(tmp_path_factory.mktemp("llamaindex") / "i") as r:
        yield r


@pytest.fixture
def adapter():
    return importlib.import_module("plait.apps.llamaindex")


def seen(nodes):
    told = [(one.score, one.node) for one in nodes]
    return [
        (n.node_id, n.text, score, n.metadata["parent"], n.start_char_idx, n.end_char_idx) for score, n in told
    ]  # fmt: skip


def test_without_llamaindex_the_import_says_what_to_install(monkeypatch):
    without(monkeypatch, "llama_index", "plait.apps.llamaindex")
    with pytest.raises(ImportError, match=r'pip install "plait\[llamaindex\]"'):
        importlib.import_module("plait.apps.llamaindex")


@framework
@pytest.mark.parametrize("query", QUERIES)
def test_hits_order_and_scores_are_those_of_the_python_api(index, adapter, query):
    for k, search in ((3, {}), (10, {"strands": "lexical"}), (5, {"filter": "year > 1300", "pipeline": "mmr"})):
        retriever = adapter.PlaitRetriever(index, k, **search)
        expected = views(index.search(query, k, **search))
        assert seen(retriever.retrieve(query)) == expected
        assert seen(asyncio.run(retriever.aretrieve(query))) == expected


@framework
def test_a_node_names_its_parent_and_shows_a_model_only_what_it_should_read(index, adapter):
    schema = importlib.import_module("llama_index.core.schema")
    (first, *_) = adapter.PlaitRetriever(index, filter="year = 1210").retrieve("canal")
    assert first.node.ref_doc_id == "canal"
    read = first.node.get_content(metadata_mode=schema.MetadataMode.LLM)
    assert read == f"year: 1210\ntitle: The canal\n\n{first.node.text}"


@framework
def test_in_a_query_engine_a_model_reads_what_was_found(index, adapter):
    engines = importlib.import_module("llama_index.core.query_engine")
    llms = importlib.import_module("llama_index.core.llms")
    retriever = adapter.PlaitRetriever(index, 2)
    engine = engines.RetrieverQueryEngine.from_args(retriever, llm=llms.MockLLM())
    response = engine.query("winter ice")
    assert seen(response.source_nodes) == views(index.search("winter ice", 2))
    for hit in index.search("winter ice", 2):  # the mock says what it was asked
        assert hit.text in str(response)


@framework
def test_the_sources_of_a_context_come_in_place_of_hits(index, adapter):
    rag = Rag(index, k=3, budget=200)
    found = adapter.PlaitRetriever(rag).retrieve("winter ice on the canal")
    sources = rag.context("winter ice on the canal").citations
    assert [(one.node.node_id, one.node.text, one.score) for one in found] == [(s.id, s.text, s.score) for s in sources]

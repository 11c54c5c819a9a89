"""The LangChain retriever: the hits of the Python API, exactly, alone and inside a chain."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from plait.retriever import QueryError
from plait.retriever.rag import Rag

from .framework_index import DOCUMENTS, QUERIES, make_index, views, without

framework = pytest.mark.frameworks


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with make_index(tmp_path_factory.mktemp("langchain") / "i") as r:
        yield r


@pytest.fixture
def adapter():
    return importlib.import_module("plait.apps.langchain")


def seen(documents):
    told = [(one.metadata, one) for one in documents]
    return [(one.id, one.page_content, *(meta[n] for n in ("score", "parent", "start", "end"))) for meta, one in told]


def test_without_langchain_the_import_says_what_to_install(monkeypatch):
    without(monkeypatch, "langchain_core", "plait.apps.langchain")
    with pytest.raises(ImportError, match=r'pip install "plait\[langchain\]"'):
        importlib.import_module("plait.apps.langchain")


@framework
@pytest.mark.parametrize("query", QUERIES)
def test_hits_order_and_scores_are_those_of_the_python_api(index, adapter, query):
    for k, search in ((3, {}), (10, {"strands": "lexical"}), (5, {"filter": "year > 1300", "pipeline": "mmr"})):
        retriever = adapter.PlaitRetriever(index=index, k=k, search=search)
        expected = views(index.search(query, k, **search))
        assert seen(retriever.invoke(query)) == expected
        assert seen(asyncio.run(retriever.ainvoke(query))) == expected
    plain = adapter.PlaitRetriever(index=index)
    assert [seen(found) for found in plain.batch(list(QUERIES))] == [views(index.search(each)) for each in QUERIES]
    found = asyncio.run(plain.abatch(list(QUERIES)))
    assert [seen(one) for one in found] == [views(index.search(each)) for each in QUERIES]


@framework
def test_metadata_hold_the_documents_own_and_what_strands_say(index, adapter):
    first = adapter.PlaitRetriever(index=index, search={"filter": "year = 1210"}).invoke("canal")[0].metadata
    hit = index.search("canal", filter="year = 1210")[0]
    assert (first["year"], first["title"], first["rank"]) == (1210, "The canal", 1)
    assert first["own_metadata"] == DOCUMENTS[0].metadata
    assert first["scores"] == {name: strand.score for name, strand in hit.strands.items()}
    assert list(first["normalised"]) == ["lexical", "learned", "dense"]


@framework
def test_in_a_chain_a_model_reads_what_was_found(index, adapter):
    prompts = importlib.import_module("langchain_core.prompts")
    runnables = importlib.import_module("langchain_core.runnables")
    models = importlib.import_module("langchain_core.language_models.fake_chat_models")
    parsers = importlib.import_module("langchain_core.output_parsers")
    asked = []

    def joined(documents):
        return "\n".join(one.page_content for one in documents)

    def kept(prompt):
        asked.append(prompt.to_string())
        return prompt

    retriever = adapter.PlaitRetriever(index=index, k=2)
    prompt = prompts.ChatPromptTemplate.from_template("{context}\nQuestion: {question}")
    model = models.FakeListChatModel(responses=["On the ice."])
    inputs = {"context": retriever | joined, "question": runnables.RunnablePassthrough()}
    chain = inputs | prompt | kept | model | parsers.StrOutputParser()
    assert chain.invoke("winter ice") == "On the ice."
    context = "\n".join(hit.text for hit in index.search("winter ice", 2))
    assert asked == [f"Human: {context}\nQuestion: winter ice"]


@framework
def test_the_sources_of_a_context_come_in_place_of_hits(index, adapter):
    rag = Rag(index, k=3, budget=200)
    found = adapter.PlaitRetriever(index=rag).invoke("winter ice on the canal")
    sources = rag.context("winter ice on the canal").citations
    assert [(one.id, one.page_content, one.metadata["number"]) for one in found] == [
        (one.id, one.text, one.number) for one in sources
    ]
    with pytest.raises(QueryError, match="a Rag has its own k and search"):
        adapter.PlaitRetriever(index=rag, k=3).invoke("ice")


@framework
def test_errors_are_plaits_own_and_an_unknown_argument_is_one(index, adapter):
    with pytest.raises(QueryError, match="no strand 'x'"):
        adapter.PlaitRetriever(index=index, search={"strands": "x"}).invoke("ice")
    with pytest.raises(ValueError, match="index"):
        adapter.PlaitRetriever(index="my.index")

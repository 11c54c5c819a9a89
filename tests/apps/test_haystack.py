"""The Haystack components: documents in by the writer, the hits of the Python API out, exactly, inside pipelines."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from plait.retriever import IngestError, Retriever
from plait.retriever.rag import Rag

from .framework_index import QUERIES, make_index, views, without

framework = pytest.mark.frameworks


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with make_index(tmp_path_factory.mktemp("haystack") / "i") as r:
        yield r


@pytest.fixture
def adapter():
    return importlib.import_module("plait.apps.haystack")


@pytest.fixture
def haystack():
    return importlib.import_module("haystack")


def seen(documents):
    return [(one.id, one.content, one.score, *(one.meta[n] for n in ("parent", "start", "end"))) for one in documents]


def test_without_haystack_the_import_says_what_to_install(monkeypatch):
    without(monkeypatch, "haystack", "plait.apps.haystack")
    with pytest.raises(ImportError, match=r'pip install "plait\[haystack\]"'):
        importlib.import_module("plait.apps.haystack")


@framework
@pytest.mark.parametrize("query", QUERIES)
def test_hits_order_and_scores_are_those_of_the_python_api(index, adapter, haystack, query):
    for k, search in ((3, {}), (10, {"strands": "lexical"}), (5, {"filter": "year > 1300", "pipeline": "mmr"})):
        pipeline = haystack.Pipeline()
        pipeline.add_component("retriever", adapter.PlaitRetriever(index, k, search))
        expected = views(index.search(query, k, **search))
        assert seen(pipeline.run({"retriever": {"query": query}})["retriever"]["documents"]) == expected
        found = asyncio.run(pipeline.run_async({"retriever": {"query": query}}))
        assert seen(found["retriever"]["documents"]) == expected
    given = adapter.PlaitRetriever(index).run(query, top_k=2, filter="year = 1210")
    assert seen(given["documents"]) == views(index.search(query, 2, filter="year = 1210"))


@framework
def test_documents_are_split_written_found_and_put_into_a_prompt(tmp_path, adapter, haystack):
    preprocessors = importlib.import_module("haystack.components.preprocessors")
    builders = importlib.import_module("haystack.components.builders")
    folder = str(tmp_path / "my.index")
    text = "Monks dug the canal in 1210. Barges carried peat along it. In winter there is a race on the ice."
    indexing = haystack.Pipeline()
    indexing.add_component("splitter", preprocessors.DocumentSplitter(split_by="word", split_length=6))
    create = {"strands": "lexical", "fields": {"year": "integer"}}
    indexing.add_component("writer", adapter.PlaitWriter(folder, create))
    indexing.connect("splitter.documents", "writer.documents")
    document = haystack.Document(content=text, meta={"title": "The canal", "year": 1210})
    ran = indexing.run({"splitter": {"documents": [document]}})
    assert ran == {"writer": {"documents_written": 4}}

    querying = haystack.Pipeline()
    querying.add_component("retriever", adapter.PlaitRetriever(folder, 1))
    template = "{% for one in documents %}{{ one.content }}{% endfor %}"
    querying.add_component("prompt", builders.PromptBuilder(template=template, required_variables=["documents"]))
    querying.connect("retriever.documents", "prompt.documents")
    again = haystack.Pipeline.loads(querying.dumps(), allowed_modules=["plait.apps.haystack"])
    for pipeline in (querying, again):
        found = pipeline.run({"retriever": {"query": "who dug it?", "filter": "year = 1210"}},
                             include_outputs_from={"retriever"})  # fmt: skip
        (first,) = found["retriever"]["documents"]
        assert text[first.meta["start"] : first.meta["end"]] == first.content == found["prompt"]["prompt"]
        assert (first.meta["parent"], first.meta["title"], first.meta["year"]) == (document.id, "The canal", 1210)
    with Retriever.open(folder) as r:
        assert len(r.passages(document.id)) == 4


@framework
def test_writing_again_replaces_and_what_cannot_be_indexed_is_refused(tmp_path, adapter, haystack):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        writer = adapter.PlaitWriter(r)
        one = haystack.Document(id="a", content="Snow falls.")
        assert writer.run(documents=[one]) == writer.run(documents=[one]) == {"documents_written": 1}
        writer.run(documents=[haystack.Document(id="a", content="Bees make honey.")])
        assert (len(r), r.search("honey")[0].id) == (1, "a")
        with pytest.raises(IngestError, match="document 'b' is empty"):
            writer.run(documents=[haystack.Document(id="b")])
        with pytest.raises(ValueError, match="made with an open index cannot be stored"):
            writer.to_dict()


@framework
def test_the_sources_of_a_context_come_in_place_of_hits(index, adapter):
    rag = Rag(index, k=3, budget=200)
    found = adapter.PlaitRetriever(rag).run("winter ice on the canal")["documents"]
    sources = rag.context("winter ice on the canal").citations
    assert [(one.id, one.content, one.score) for one in found] == [(one.id, one.text, one.score) for one in sources]

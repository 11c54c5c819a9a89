"""`plait mcp`, asked by the official SDK's own client: over real pipes, over HTTP, and in this process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest
from plait.retriever import Document, Retriever
from plait.retriever.passages import split_document

from .conftest import MAIN, TEXTS

pytestmark = pytest.mark.mcp
anyio = pytest.importorskip("anyio")
mcp = pytest.importorskip("mcp")
mcp_server = pytest.importorskip("plait.apps.mcp_server")

LONG = "\n\n".join(f"Part {n}. " + f"The bridge number {n} crosses the river of winter. " * 4 for n in range(9))
ODD = "a/b?c=#%41ü"


@pytest.fixture
def index(tmp_path):
    """Three documents with metadata, one of them with an odd id, and the passages of a long one."""
    fields = {"year": "integer"}
    with Retriever.create(tmp_path / "m.index", strands="lexical", fields=fields) as retriever:
        retriever.add(
            Document(id=id, text=text, title=f"On {id}", metadata={"year": 2000 + n})
            for n, (id, text) in enumerate(TEXTS.items())
        )
        retriever.add([Document(id=ODD, text="An odd name.")])
        retriever.add(split_document(Document(id="long", text=LONG, title="Bridges"), words=40, overlap=10))
    return tmp_path / "m.index"


def asked(server, *calls):
    """Returns what a client is told for (tool, arguments) calls of one session, and the client's view of the server."""

    async def run():
        async with mcp.Client(server) as client:
            tools = (await client.list_tools()).tools
            return [await client.call_tool(*call) for call in calls], tools, client.instructions

    return anyio.run(run)


def piped(index, *options):
    command, *args = [*MAIN, "mcp", str(index), *options]
    return mcp.stdio_client(mcp.StdioServerParameters(command=command, args=args))


def expected(retriever, query, k=10, **options):
    return [(hit.id, hit.score, hit.rank) for hit in retriever.search(query, k, **options)]


def told(result):
    assert not result.is_error, result.content
    (content,) = result.content
    assert json.loads(content.text) == result.structured_content  # for clients that read text alone
    return result.structured_content


def mistake(result):
    assert result.is_error
    return result.content[0].text


def test_over_pipes_the_hits_are_those_of_the_python_api(index, tmp_path):
    log = tmp_path / "q.jsonl"
    calls = [
        ("search", {"query": "winter honey"}),
        ("search", {"query": "the winter river", "k": 3, "strands": ["lexical"]}),
        ("search", {"query": "winter", "filter": "year >= 2001"}),
        ("fetch", {"id": "bees"}),
    ]
    (one, two, three, four), tools, instructions = asked(piped(index, "--log", str(log)), *calls)
    with closing(Retriever.open(index)) as retriever:
        for result, (_, given) in zip((one, two, three), calls, strict=False):
            hits = [(hit["id"], hit["score"], hit["rank"]) for hit in told(result)["results"]]
            assert hits == expected(retriever, **given)
    assert [hit["id"] for hit in told(three)["results"]] == ["ships"]
    best = told(one)["results"][0]
    assert (best["id"], best["title"], best["text"], best["metadata"]) == (
        "ships", "On ships", TEXTS["ships"], {"year": 2002},
    )  # fmt: skip
    assert best["strands"]["lexical"] > 0
    fetched = told(four)
    assert (fetched["text"], fetched["passages"], fetched["next_offset"]) == (TEXTS["bees"], [], None)
    assert [tool.name for tool in tools] == ["search", "fetch"]
    assert all(tool.annotations.read_only_hint for tool in tools)
    assert "year (integer)" in instructions
    assert [json.loads(line)["query"] for line in log.read_text().splitlines()] == [
        "winter honey", "the winter river", "winter",
    ]  # fmt: skip


def test_mistakes_are_told_as_plait_words_them(index):
    results, _, _ = asked(
        piped(index),
        ("search", {"query": " "}),
        ("search", {"query": "x", "filter": "colour = 'red'"}),
        ("search", {"query": "x", "strands": ["dense"]}),
        ("search", {"query": "x", "k": 0}),
        ("search", {"query": "x", "k": 101}),
        ("search", {}),
        ("fetch", {"id": "nobody"}),
        ("fetch", {"id": "bees", "offset": 1000}),
        ("fetch", {"id": "bees", "neighbours": -1}),
        ("delete", {"id": "bees"}),
        ("search", {"query": "honey", "k": 1}),
    )
    *wrong, right = results
    for result, words in zip(
        wrong,
        (
            "the query is empty",
            "there is no column 'colour'; declared: year (integer)",
            "this index was made without the strand 'dense'; it has: lexical",
            "k is how many are wanted: a whole number of at least 1, not 0",
            "k is at most 100 here, not 101",
            "query\n  Field required",
            "there is no document 'nobody' in this index; ids come from search",
            "offset 1,000 lies behind the end of 'bees', which has 43 characters",
            "neighbours and offset are 0 or more, not -1 and 0",
            "Unknown tool: delete",
        ),
        strict=True,
    ):
        assert words in mistake(result)
        assert "Traceback" not in mistake(result)
    assert len(told(right)["results"]) == 1


@pytest.fixture
def server(index):
    from plait.apps.mcp_server import make_server

    with closing(Retriever.open(index)) as retriever:
        yield make_server(retriever)


def test_a_passage_its_neighbours_and_its_parent(index, server):
    with closing(Retriever.open(index)) as retriever:
        passages = retriever.passages("long")
    assert len(passages) > 5
    results, _, _ = asked(
        server,
        ("fetch", {"id": "long#2"}),
        ("fetch", {"id": "long#2", "neighbours": 1}),
        ("fetch", {"id": "long#0", "neighbours": 1}),
        ("fetch", {"id": "long#2", "whole": True}),
        ("fetch", {"id": "long"}),
        ("fetch", {"id": "long", "offset": 100}),
    )
    one, three, first, whole, parent, later = map(told, results)
    assert (one["text"], one["parent"], one["start"]) == (passages[2].text, "long", passages[2].start)
    assert three["passages"] == ["long#1", "long#2", "long#3"]
    end = passages[3].start + len(passages[3].text)
    assert three["text"].split() == LONG[passages[1].start : end].split()  # what they share comes once
    assert three["start"] == passages[1].start
    assert first["passages"] == ["long#0", "long#1"]
    assert whole["text"] == parent["text"]
    assert parent["text"].split() == LONG.split()
    assert len(parent["text"]) == len(LONG.rstrip())
    assert (parent["parent"], whole["parent"], parent["title"]) == (None, "long", "Bridges")
    assert later["text"] == parent["text"][100:]


def passages_of(*places):
    return [Document(id=f"p#{n}", text=text, parent="p", start=start) for n, (start, text) in enumerate(places)]


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([(5, "snow falls"), (10, "falls in winter"), (26, "and melts")], "snow falls in winter\nand melts"),
        ([(0, "snow falls in winter"), (5, "falls")], "snow falls in winter"),
        ([(0, "snow"), (0, "honey and bees")], "snow\n\nhoney and bees"),  # somebody's own, without their places
        ([(0, "snow"), (10**13, "honey"), (10**13 + 3, "eyes")], "snow\n\nhoneyes"),  # and far apart
        ([(3, "snow"), (5, "iron")], "snow\n\niron"),
        ([(0, "\U0001f41dbee"), (1, "bees")], "\U0001f41dbees"),
    ],
)
def test_passages_are_put_together(places, text):
    assert mcp_server.stitched(passages_of(*places)) == text


def test_a_long_parent_is_put_together_as_it_was():
    long = " ".join(f"word{n}" for n in range(300_000))
    assert mcp_server.stitched(list(split_document(Document(id="p", text=long)))) == long


def test_an_index_that_is_gone_is_told_every_time(index, server, monkeypatch):
    monkeypatch.setattr("plait.apps.mcp_server.FRESH_SECONDS", -1.0)
    index.rename(index.with_name("gone"))
    search = ("search", {"query": "winter"})
    results, _, _ = asked(server, search, search, ("fetch", {"id": "bees"}))
    assert [result.is_error for result in results] == [True] * 3
    assert all("there is no index at " in result.content[0].text for result in results)

    async def read():
        async with mcp.Client(server) as client:
            with pytest.raises(mcp.MCPError, match="there is no index at "):
                await client.read_resource("plait://documents/bees")

    anyio.run(read)


def test_a_port_that_is_taken_is_told(plait, index):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = plait("mcp", index, "--http", port, code=1)
    assert said.err.startswith(
        f"error: cannot listen on 127.0.0.1, port {port}: Address already in use; choose another"
    )


def test_long_texts_come_in_parts(index, server, monkeypatch):
    monkeypatch.setattr("plait.apps.mcp_server.MOST_CHARACTERS", 20)
    monkeypatch.setattr("plait.apps.mcp_server.SHOWN", 7)
    (part, rest, hit), _, _ = asked(
        server,
        ("fetch", {"id": "bees"}),
        ("fetch", {"id": "bees", "offset": 40}),
        ("search", {"query": "nectar"}),
    )
    assert (told(part)["text"], told(part)["next_offset"]) == (TEXTS["bees"][:20], 20)
    assert (told(rest)["text"], told(rest)["next_offset"]) == (TEXTS["bees"][40:], None)
    (best,) = told(hit)["results"]
    assert (best["text"], best["cut"]) == ("Bees ma", True)


def test_every_document_is_a_resource(index, server):
    async def run():
        async with mcp.Client(server) as client:
            hit = told(await client.call_tool("search", {"query": "odd name"}))["results"][0]
            assert hit["id"] == ODD
            found = [await client.read_resource(url) for url in (hit["url"], "plait://documents/long%231")]
            with pytest.raises(mcp.MCPError, match="there is no document 'nobody'"):
                await client.read_resource("plait://documents/nobody")
            return [each.contents[0].text for each in found]

    odd, passage = anyio.run(run)
    assert odd == "An odd name."
    with closing(Retriever.open(index)) as retriever:
        assert passage == retriever.get("long#1").text


def test_ids_that_look_like_paths_are_read(tmp_path):
    ids = ["/srv/a.md", "C:\\x", "..", "../../etc/passwd", "a/../b"]
    with Retriever.create(tmp_path / "p.index", strands="lexical") as retriever:
        retriever.add(Document(id=id, text=f"text of {id}") for id in ids)
        retriever.commit()
        server = mcp_server.make_server(retriever)

        async def run():
            async with mcp.Client(server) as client:
                hits = told(await client.call_tool("search", {"query": "text"}))["results"]
                found = {hit["id"]: await client.read_resource(hit["url"]) for hit in hits}
                return {id: each.contents[0].text for id, each in found.items()}

        assert anyio.run(run) == {id: f"text of {id}" for id in ids}


def test_new_commits_are_found(index, server, monkeypatch):
    monkeypatch.setattr("plait.apps.mcp_server.FRESH_SECONDS", -1.0)
    (before,), _, _ = asked(server, ("search", {"query": "xylophone"}))
    with Retriever.open(index) as retriever:
        retriever.add([Document(id="new", text="A xylophone.")])
    (after,), _, _ = asked(server, ("search", {"query": "xylophone"}))
    assert [told(each)["results"] == [] for each in (before, after)] == [True, False]


def test_a_commit_that_moved_the_level_of_parents_on_is_followed(tmp_path):
    """The index was opened before it, and looks for commits again only later."""
    with Retriever.create(tmp_path / "i", strands="lexical,dense", pipeline="parents") as writing:
        writing.add([Document(id="bees#0", text="honey", parent="bees")])
        writing.keep_parents()
        with closing(Retriever.open(tmp_path / "i")) as reading:
            writing.add([Document(id="ships#0", text="honey and wine", parent="ships")])
            writing.commit()
            (result,), _, _ = asked(mcp_server.make_server(reading), ("search", {"query": "honey"}))
    assert sorted(hit["id"] for hit in told(result)["results"]) == ["bees#0", "ships#0"]


@pytest.mark.skipif(os.name == "nt", reason="streams are closed as POSIX shells do")
def test_a_closed_input_is_told(index):
    words = ["sh", "-c", 'exec "$@" <&-', "sh", *MAIN, "mcp", str(index)]
    said = subprocess.run(words, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == (
        "error: standard input is closed, through which MCP clients speak; start it from a client, or use --http PORT\n"
    )


def test_over_http_the_answers_are_the_same(index, process):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = process("mcp", index, "--http", port)
    assert started.stderr.readline().decode().startswith("serving ")
    for _ in range(200):
        with socket.socket() as ready:
            if ready.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    (result,), _, _ = asked(f"http://127.0.0.1:{port}/mcp", ("search", {"query": "winter honey"}))
    with closing(Retriever.open(index)) as retriever:
        hits = [(hit["id"], hit["score"], hit["rank"]) for hit in told(result)["results"]]
        assert hits == expected(retriever, "winter honey")


def test_without_the_package_the_extra_is_named(plait, index, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    said = plait("mcp", index, code=1)
    assert "error: serving MCP needs the package mcp (" in said.err
    assert 'pip install "plait[mcp]"' in said.err


def test_an_index_that_is_not_there(plait, tmp_path):
    assert "error: " in plait("mcp", tmp_path / "none", code=1).err

"""The query log: a line a search, written whole, never at the cost of a search."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from plait.retriever import IngestError, QueryError, Retriever, StoreError
from plait.retriever.log import QueryLog, read_log

from ..small_disk import PAGE, SmallDisk, leave, make_room


@pytest.fixture
def place(tmp_path, small_encoders):
    """An index of three documents."""
    folder = tmp_path / "i"
    with Retriever.create(folder, **small_encoders, fields={"year": "integer"}) as retriever:
        texts = {"a": "amber", "b": "birch bark", "c": "cedar"}
        retriever.add([{"id": id, "text": text, "metadata": {"year": 2000}} for id, text in texts.items()])
        retriever.commit()
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_search_is_a_line(place, tmp_path, small_encoders):
    path = tmp_path / "log.jsonl"
    with Retriever.open(place, **small_encoders, log=path) as retriever:
        answer = retriever.search("birch", 2, filter="year = 2000")
        retriever.search_batch(["amber", "cedar é"], strands="lexical,dense")
        retriever.run({"q": "amber"})
    first, second, third = lines(path)
    assert first["event"] == "search"
    assert first["time"].endswith("+00:00")
    assert (first["query"], first["k"], first["filter"]) == ("birch", 2, "year = 2000")
    assert first["strands"] == ["lexical", "learned", "dense"]
    assert first["weights"] == answer.weights
    assert (first["fusion"], first["pipeline"]) == (answer.fusion, answer.pipeline)
    assert set(first["milliseconds"]) == set(answer.milliseconds)
    assert [(hit["id"], hit["score"]) for hit in first["hits"]] == [(hit.id, hit.score) for hit in answer]
    assert first["hits"][0]["strands"]["lexical"] == answer[0].strands["lexical"].normalised
    assert second["strands"] == third["strands"] == ["lexical", "dense"]
    assert third["query"] == "cedar é"


def test_judgements_are_read_again(tmp_path):
    log = QueryLog(tmp_path / "log.jsonl")
    log.clicked("birch", "b")
    log.judged(" birch ", "c", 2)
    log.judged("birch", "b", 0)
    log.clicked("amber", "a")
    found = read_log(log.path)
    assert found.queries == {"log-1": "birch", "log-2": "amber"}
    assert found.qrels == {"log-1": {"b": 0, "c": 2}, "log-2": {"a": 1}}
    assert found.searches == 0


def test_many_threads_write_whole_lines(place, tmp_path, small_encoders):
    path = tmp_path / "log.jsonl"
    with Retriever.open(place, **small_encoders, log=path) as retriever, ThreadPoolExecutor(8) as pool:
        list(pool.map(retriever.search, ["amber", "birch"] * 40))
    assert sorted(line["query"] for line in lines(path)) == ["amber"] * 40 + ["birch"] * 40


def test_a_log_that_cannot_be_made(place, tmp_path, small_encoders):
    with pytest.raises(StoreError, match="no query log can be written there"):
        Retriever.open(place, **small_encoders, log=tmp_path / "nowhere" / "log.jsonl")
    for given, why in ((tmp_path, "Is a directory"), ("a\0b", "null byte"), ("", "Is a directory")):
        with pytest.raises(StoreError, match=f"no query log can be written there: .*{why}"):
            QueryLog(given)


def test_no_search_is_lost_where_the_log_is(place, tmp_path, small_encoders):
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "log.jsonl"
    with Retriever.open(place, **small_encoders, log=path) as retriever:
        path.unlink()
        path.mkdir()
        with pytest.warns(RuntimeWarning, match="searches are not logged: Is a directory"):
            assert retriever.search("birch")[0].id == "b"
        assert retriever.search("amber")[0].id == "a"  # told once
        path.rmdir()
        retriever.search("cedar")
    assert [line["query"] for line in lines(path)] == ["cedar"]


def test_after_a_torn_line_the_next_stands_alone(tmp_path, monkeypatch):
    told = []
    log = QueryLog(tmp_path / "log.jsonl", on_failure=told.append)
    write = os.write
    monkeypatch.setattr(os, "write", lambda place, data: write(place, data[:10]))
    log.clicked("birch", "b")
    monkeypatch.undo()
    log.clicked("amber", "a")
    assert len(told) == 1
    assert "only 10 of " in told[0]
    bad = []
    assert read_log(log.path, skip_bad=True, on_bad=bad.append).queries == {"log-1": "amber"}
    assert [error.line for error in bad] == [1]


def test_behind_a_line_that_another_process_left_unfinished_the_next_stands_alone(tmp_path):
    log = QueryLog(tmp_path / "log.jsonl")
    log.clicked("birch", "b")
    with log.path.open("ab") as file:
        file.write(b'{"event": "relevance", "que')
    log.clicked("amber", "a")
    log.clicked("cedar", "c")
    bad = []
    found = read_log(log.path, skip_bad=True, on_bad=bad.append)
    assert found.queries == {"log-1": "birch", "log-2": "amber", "log-3": "cedar"}
    assert [error.line for error in bad] == [2]


def test_two_processes_on_a_full_disk(tmp_path):
    disk = SmallDisk(tmp_path)
    try:
        disk(fill_up)
    finally:
        disk.close()


def fill_up(disk):
    """One log meets the end of the disk inside a line, a second one goes on when there is room again."""
    told = []
    first, second = (QueryLog(disk / "log.jsonl", on_failure=told.append) for _ in range(2))
    leave(disk, 1)
    first.clicked("x" * 3 * PAGE, "a")
    second.clicked("birch", "b")
    assert [f"only {PAGE} of " in told[0], "No space left" in told[1]] == [True, True]
    make_room(disk)
    second.clicked("amber", "a")
    assert read_log(first.path, skip_bad=True).queries == {"log-1": "amber"}


WRITING = """
import sys
from plait.retriever.log import QueryLog
log = QueryLog(sys.argv[1])
for number in range(100):
    log.clicked(sys.argv[2] * 9000 + str(number), "a")
"""


def test_two_processes_write_whole_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITING, str(path), name]) for name in "xy"]
    assert [writer.wait() for writer in writers] == [0, 0]
    expected = {name * 9000 + str(number) for name in "xy" for number in range(100)}
    assert set(read_log(path).queries.values()) == expected


@pytest.mark.parametrize(
    "end", [b'{"event": "relevance", "query": "b', '{"event": "search", "query": "é'.encode()[:-1]]
)
def test_a_last_line_that_is_being_written_is_passed_over(tmp_path, end):
    log = QueryLog(tmp_path / "log.jsonl")
    log.clicked("amber", "a")
    with log.path.open("ab") as file:
        file.write(end)
    bad = []
    assert read_log(log.path, on_bad=bad.append).queries == {"log-1": "amber"}
    assert [error.line for error in bad] == [2]
    with log.path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(IngestError, match=r"log.jsonl, line 2: "):
        read_log(log.path)


def test_a_last_line_without_an_end_counts_where_it_can_be_read(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "relevance", "query": "amber", "id": "a", "relevance": 1}')
    assert read_log(path).qrels == {"log-1": {"a": 1}}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with a name")
def test_a_pipe_that_nobody_reads_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="no query log can be written there: No such device"):
        QueryLog(tmp_path / "pipe")


def judgement(**changes):
    return json.dumps({"event": "relevance", "query": "x", "id": "a", "relevance": 1, **changes})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no JSON", "; expected"),
        ("[]", "; expected"),
        ("[" * 100_000, "; expected"),
        ('{"event": "search"}', "; expected"),
        (judgement(relevance=None), ": relevance is a whole number"),
        (judgement(relevance=True), ": relevance is a whole number"),
        (judgement(relevance=10**30), ": relevance is a whole number up to 1,000,000"),
        (judgement(relevance=1_000_001), ": relevance is a whole number up to 1,000,000"),
        (judgement(query=" "), ": a judgement needs the query"),
        (judgement(id="two words"), ": the document id 'two words' holds ' '"),
    ],
)
def test_a_line_that_is_none(tmp_path, line, why):
    path = tmp_path / "log.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(IngestError, match=rf"log.jsonl, line 2: is no line of a query log{why}"):
        read_log(path)


def test_judgements_that_cannot_be(tmp_path):
    log = QueryLog(tmp_path / "log.jsonl")
    with pytest.raises(QueryError, match="needs the query"):
        log.clicked(" ", "a")
    with pytest.raises(QueryError, match="relevance is a whole number"):
        log.judged("x", "a", 0.5)  # type: ignore[arg-type]
    with pytest.raises(IngestError, match="document id"):
        log.clicked("x", "two words")
    assert log.path.read_text() == ""

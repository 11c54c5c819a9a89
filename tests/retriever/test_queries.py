"""Queries for a batch: three forms, and what is wrong with a line."""

from __future__ import annotations

import gzip
import io
import sys
from types import SimpleNamespace

import pytest
from plait.retriever.documents import IngestError
from plait.retriever.queries import read_queries

FORMS = {
    "q.jsonl": '{"_id": "a", "text": " one "}\n\n{"id": 2, "text": "two", "metadata": {}}\n',
    "q.tsv": "query-id\ttext\na\tone\n2\ttwo\n",
}
OF_FORMS = [("a", "one"), ("2", "two")]


@pytest.mark.parametrize("name", FORMS)
def test_forms_by_suffix_by_first_line_and_compressed(tmp_path, monkeypatch, name):
    for path, text in ((tmp_path / name, FORMS[name]), (tmp_path / "sniffed.txt", FORMS[name])):
        path.write_text(text)
        assert read_queries(path) == OF_FORMS
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(FORMS[name].encode()))
    assert read_queries(packed) == OF_FORMS
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(FORMS[name].encode())))
    assert read_queries("-") == OF_FORMS


def test_plain_lines_are_numbered(tmp_path):
    path = tmp_path / "queries"
    path.write_text("\ufeffwhat is it\r\nwhere, then?\n", encoding="utf-8")
    assert read_queries(path) == [("1", "what is it"), ("2", "where, then?")]


@pytest.mark.parametrize(
    ("name", "text", "kept", "message"),
    [
        ("q.txt", "one\n\nthree\n", ["1", "3"], "line 2: query '2' is empty; give it a text, or remove the line"),
        ("q.tsv", "a\tone\nb\t \nc\tx\n", ["a", "c"], "line 2: query 'b' is empty"),
        ("q.tsv", "a\tone\nb\nc\tx\n", ["a", "c"], "line 2: no tab in the line; expected a query id, a tab and a text"),
        ("q.tsv", "a\tone\n\nc\tx\n", ["a", "c"], "line 2: query '2' is empty"),
        ("q.tsv", "a\tone\na\ttwo\nc\tx\n", ["a", "c"], "line 2: duplicate query id 'a', first seen on line 1 with"),
        ("q.tsv", "a\tone\na b\ttwo\n", ["a"], "line 2: the query id 'a b' holds ' ' at character 2"),
        ("q.jsonl", '{"id": "a", "text": "x"}\n{"id": "b"}\n', ["a"], "line 2: a query needs '_id' or 'id', and"),
        ("q.jsonl", '{"id": "a", "text": "x"}\n{"id": "b", "text": ""}\n', ["a"], "line 2: query 'b' is empty"),
        ("q.jsonl", '{"id": "a", "text": "x"}\n{"id": "b", "text": 1}\n', ["a"], "line 2: the text of query 'b' is a"),
        (
            "q.jsonl",
            '{"id": "a", "text": "x"}\n{"id": "b", "text": "\\ud800 x"}\n',
            ["a"],
            "line 2: the text of query 'b' holds half a surrogate pair at character 1, which UTF-8 cannot hold; repair",
        ),
        ("q.jsonl", '{"id": "a", "text": "x"}\n{"id"\n', ["a"], "line 2: broken JSON at column 6"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_can_be_skipped(tmp_path, name, text, kept, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(IngestError) as caught:
        read_queries(path)
    assert str(caught.value).startswith(f"{path}, {message}")
    errors = []
    assert [query for query, _ in read_queries(path, skip_bad=True, on_bad=errors.append)] == kept
    assert [str(error) for error in errors] == [str(caught.value)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.txt", "", "q.txt: holds no query; expected one a line"),
        ("q.csv", "a,b", "q.csv: cannot tell how its queries are written; known are .jsonl .ndjson .tsv .txt, and no"),
        ("q.jsonl", None, "q.jsonl: there is no such file; check the path"),
    ],
)
def test_a_file_without_queries(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(IngestError) as caught:
        read_queries(tmp_path / name, skip_bad=True)
    assert message in str(caught.value)

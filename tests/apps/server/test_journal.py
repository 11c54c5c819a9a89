"""The server's log: lines of JSON, a file that is closed, and a place that cannot be written."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("starlette")

from plait.apps.server.journal import Journal
from plait.retriever import StoreError


def test_a_file_has_a_line_an_event_and_is_closed(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("before\n")
    journal = Journal(str(path))
    journal.request(path="/search", status=200)
    journal.failure(ValueError("one\ntwo"), "searching")
    journal.close()
    journal.told("too late")
    before, *lines = path.read_text().splitlines()
    assert before == "before"
    assert [json.loads(line)["event"] for line in lines] == ["request", "failure"]
    assert json.loads(lines[1])["error"] == "ValueError: one\ntwo"


def test_without_a_place_failures_alone_are_told(capsys):
    journal = Journal()
    journal.request(path="/search")
    journal.told("reloaded")
    journal.close()
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["reloaded"]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(StoreError, match="no log can be written there"):
        Journal(str(tmp_path / "no" / "log"))

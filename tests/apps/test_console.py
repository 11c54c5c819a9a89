"""What people see while they wait, and what documents can not do to their terminal."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from plait.apps import console
from plait.encoders.counting import count, counting
from plait.retriever import Hit, Retriever, StrandScore


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves: clock(3) is three seconds later."""
    now = [100.0]
    monkeypatch.setattr("plait.apps.console.time.monotonic", lambda: now[0])

    def later(seconds):
        now[0] += seconds

    return later


def test_a_log_gets_a_line_every_fifteen_seconds(clock, capsys):
    meter = console.Meter("indexing", 1000)
    for _ in range(4):
        clock(5)
        meter.bytes_read(50)
        meter.documents_done(500)
    meter.close()
    assert capsys.readouterr().err == "indexing: 2,000 documents, 100/s, about 80 s left\n"


def test_tokens_have_a_rate_where_models_read_some(clock, capsys):
    meter = console.Meter("indexing", None)
    clock(20)
    with counting(meter.tokens):
        count(50_000)
    meter.documents_done(40)
    assert capsys.readouterr().err == "indexing: 40 documents, 2/s, 2,500 tokens/s\n"


def test_a_log_without_a_known_end_has_no_time_left(clock, capsys):
    meter = console.Meter("searching", None, unit="queries")
    clock(20)
    meter.documents_done(40)
    assert capsys.readouterr().err == "searching: 40 queries, 2/s\n"


def test_a_terminal_gets_a_bar_after_two_seconds(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    shown = io.StringIO()
    terminal = console._Terminal(width=100)
    terminal.file, terminal._force_terminal, terminal.is_interactive = shown, True, True
    monkeypatch.setattr(console, "err", terminal)
    meter = console.Meter("indexing", 1000)
    clock(1)
    meter.documents_done(10)
    assert shown.getvalue() == ""
    clock(3)
    meter.bytes_read(500)
    meter.tokens.total += 8
    meter.documents_done(30)
    meter.close()
    assert "indexing" in shown.getvalue()
    assert "40 documents, 10/s, 2 tokens/s" in shown.getvalue()


def test_a_number_that_json_does_not_know_is_null(capsys):
    """As in the answers of the server; everything else is as it was."""
    value = {"a": float("nan"), "b": [float("inf"), 1.5, (2, -float("inf"))], "c": {"d": np.float64("nan")}, "e": "é"}
    console.print_json(value)
    assert capsys.readouterr().out == '{"a": null, "b": [null, 1.5, [2, null]], "c": {"d": null}, "e": "é"}\n'
    options = {"default": str, "indent": 1}  # what is no JSON value is left to `default`
    assert console.json_text([1, float("nan"), Path("a")], **options) == '[\n 1,\n null,\n "a"\n]'


def test_a_budget_beyond_all_numbers_is_null(plait, tmp_path):
    (tmp_path / "c.jsonl").write_text("".join(f'{{"id": "{id}", "text": "apple"}}\n' for id in "abc"))
    budget = f"memory={10**400}GB,time=1h"
    said = plait("plan", tmp_path / "c.jsonl", "--strands", "lexical", "--budget", budget, "--json")
    assert said.json["budgets"] == {"memory": None, "time": 3600}
    assert "Infinity" not in said.out


def test_control_characters_are_made_visible():
    assert console.visible("a\x1b[31m\x07\x7f\u009bb\tc\nd é") == "a␛[31m␇␡\ufffdb\tc\nd é"


def test_a_hit_is_drawn_to_the_width_of_the_terminal():
    from plait.apps.render import hit_text

    view = StrandScore(score=1.0, normalised=1.0, rank=1, weight=1.0)
    text = "one " * 100 + "x" * 200
    hit = Hit(1, "id", 1.0, "Title", text, {}, None, 0, {"lexical": view})
    lines = hit_text(hit, 60).plain.splitlines()
    assert lines[0] == " 1  1.000  Title  id"
    assert lines[1] == "    lexical 1.000 (1.00, #1)"
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines[2:]).split()) == "one " * 60 + "..."


def test_progress_counts_every_query(plait, index, clock, monkeypatch):
    run = Retriever.run

    def slow(*args, **options):
        clock(16)
        return run(*args, **options)

    monkeypatch.setattr(Retriever, "run", slow)
    said = plait("search", index, "--queries", "-", "-k", "1", stdin="winter\n" * 100)
    assert said.err == "searching: 64 queries, 4/s, about 9 s left\nsearching: 100 queries, 3/s\n"
    assert len(said.out.splitlines()) == 100


def test_a_text_is_not_broken_where_no_terminal_limits_it(capsys):
    console.out.print("word " * 40)
    assert capsys.readouterr().out == "word " * 40 + "\n"

"""`plait add` and `plait compact` on a disk that is full at any page: one line of error, and nothing is lost."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import pytest

from ..small_disk import SmallDisk, leave, make_room
from .conftest import COMMANDS, jsonl


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    disk = SmallDisk(tmp_path_factory.mktemp("disk"))
    yield disk
    disk.close()


def test_adding(small_disk):
    small_disk(sweep_adding)


def test_compacting(small_disk):
    small_disk(sweep_compacting)


# What runs in the process that sees the disk


def run(*args):
    """Calls the command line; returns (exit code, stdout, stderr)."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            COMMANDS([str(arg) for arg in args], prog_name="plait")
        except SystemExit as stop:
            return stop.code, out.getvalue(), err.getvalue()
    raise AssertionError("a command ends by an exit")


def records(first, last):
    return [{"id": f"d{n}", "text": f"winter {n} of {n % 7}"} for n in range(first, last)]


def made(disk):
    """Makes an index of 30 documents in two segments, one of which is deleted."""
    folder = disk / "whole"
    for first in (0, 20):
        source = jsonl(disk / "some.jsonl", records(first, first + 20 - first // 2))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("plait.apps.ingesting.merge_where_it_pays", lambda *_: None)
            assert run("index", source, "--out", folder, "--strands", "lexical")[0] == 0
    assert run("delete", folder, "d3")[0] == 0
    assert {path.name for path in folder.iterdir()} == {"plait.db", "segments", "writer.lock"}  # SQLite's log is empty
    return folder


def copied(disk, whole):
    shutil.rmtree(disk / "my.index", ignore_errors=True)
    return shutil.copytree(whole, disk / "my.index", ignore=shutil.ignore_patterns("plait.db-shm"))


def info(folder):
    code, out, _ = run("info", folder, "--json")
    assert code == 0
    return json.loads(out)


def expect_full(folder, code, out, err):
    """Expects one line of error, and an index that holds and answers what it did."""
    assert (code, out) == (1, ""), err
    assert err.startswith(f"error: {folder}: the disk is full: "), err
    assert err.endswith("; what was committed before is untouched; make room and try again\n"), err
    assert err.count("\n") == 1, err
    facts = info(folder)
    assert (facts["documents"], len(facts["segments"])) == (29, 2), facts
    code, out, err = run("search", folder, "winter 7", "--json")
    assert (code, json.loads(out)["hits"][0]["id"], err) == (0, "d7", "")
    assert run("check", folder)[0] == 0


def sweep_adding(disk):
    whole, more, ends = made(disk), jsonl(disk / "more.jsonl", records(100, 150)), []
    while "merged" not in ends:
        folder = copied(disk, whole)
        leave(disk, len(ends))
        code, out, err = run("add", folder, more)
        if code:
            expect_full(folder, code, out, err)
            ends.append("failed")
        else:
            assert out == f"added 50; {folder} holds 79 documents\n"
            ends.append("added" if err else "merged")
            assert not err or err.startswith(f"the segments were not merged: {folder}: the disk is full: "), err
        make_room(disk)
        assert json.loads(run("add", folder, more, "--json")[1])["documents"] == 79
        assert run("check", folder)[0] == 0
    assert min(ends.count("failed"), ends.count("added")) > 10
    assert ends == sorted(ends, key=["failed", "added", "merged"].index)


def sweep_compacting(disk):
    whole, failures = made(disk), 0
    while True:
        folder = copied(disk, whole)
        leave(disk, failures)
        code, out, err = run("compact", folder)
        if not code:
            break
        expect_full(folder, code, out, err)
        make_room(disk)
        assert run("compact", folder)[1].startswith("merged 2 segments, dropped 1 deleted document; ")
        assert len(list(folder.glob("segments/*"))) == 1
        failures += 1
    assert out.startswith("merged 2 segments, dropped 1 deleted document; ")
    assert failures > 20

"""The command line as a person meets it: arguments in; output, what stderr says and an exit code out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import typer
from plait.apps import console
from plait.apps.cli import app

TEXTS = {
    "snow": "Snow falls in winter and melts in spring.",
    "bees": "Bees make honey from the nectar of flowers.",
    "ships": "Ships cross the winter sea, loaded with honey and wine.",
}
MAIN = [sys.executable, "-c", "from plait.apps.cli import main; main()"]
# app() would make them anew at each call, from every signature: a tenth of a second, more than most commands take.
COMMANDS = typer.main.get_command(app)


class Said(NamedTuple):
    """What a command said."""

    out: str
    err: str

    @property
    def json(self):
        """The one JSON value on stdout."""
        return json.loads(self.out)

    @property
    def lines(self):
        """The JSON values on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """The same output whoever runs the tests, in whatever terminal."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for one in (console.out, console.err):
        monkeypatch.setattr(one, "_width", None)
        monkeypatch.setattr(one, "_color_system", None)


@pytest.fixture
def plait(capsys, monkeypatch):
    """Calls the command line in this process: plait("search", index, "snow", code=0) returns what it said."""

    def call(*args, stdin="", code=0):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            COMMANDS([str(arg) for arg in args], prog_name="plait")
        said = Said(*capsys.readouterr())
        assert stop.value.code == code, said
        assert "Traceback" not in said.err
        return said

    return call


@pytest.fixture
def process():
    """Starts the command line in a process of its own; what still runs at the end is killed."""
    started = []

    def start(*args, **options):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [*MAIN, *map(str, args)]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        started.append(subprocess.Popen(command, **{**pipes, "env": env, **options}))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def jsonl(path, records):
    """Writes records, one a line, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path):
    """A JSONL file of three documents."""
    return jsonl(tmp_path / "three.jsonl", [{"id": id, "text": text} for id, text in TEXTS.items()])


@pytest.fixture
def index(plait, corpus, tmp_path):
    """An index of three documents, lexical only."""
    plait("index", corpus, "--out", tmp_path / "t.index", "--strands", "lexical")
    return tmp_path / "t.index"

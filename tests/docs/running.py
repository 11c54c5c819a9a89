"""Runs a page as a reader would: block after block, in one folder and one Python."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer
from plait.apps.cli import app

from .blocks import Block, Command, commands
from .comparing import agrees
from .reader import provide

COMMANDS = typer.main.get_command(app)
STAYING = ("plait serve", "plait mcp", "plait demo", "scripts/", "pip ", "curl ", "java ")  # they stay, or fetch
FAILING = ("error: ", " problem")  # in what a page shows: the command ends with a status that is not 0
_SHELL = set("|&;<>$`*")


class Page:
    """A page that is being run in the current folder."""

    def __init__(self, name: str) -> None:
        self._namespace: dict[str, object] = {"__name__": name}
        self.ran = 0

    def run(self, blocks: Iterable[Block], *, torch: bool = False) -> None:
        """Runs blocks; those that are marked are only read, and where `torch` is there, so those for torch are run."""
        try:
            for block in blocks:
                wanted = not block.kind or (torch and block.kind == "with torch")
                if block.is_python:
                    self._python(block, wanted)
                else:
                    for command in commands(block):
                        self._shell(block, command, wanted or not block.leaves_out(command.text))
        finally:
            for value in self._namespace.values():
                if hasattr(value, "close") and not isinstance(value, type):
                    value.close()  # type: ignore[attr-defined]

    def _python(self, block: Block, wanted: bool) -> None:
        code = compile(block.text, block.place, "exec")
        if not wanted:
            return
        self.ran += 1
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                exec(code, self._namespace)
        except Exception as error:
            error.args = (f"{block.place}: {error}\n{block.text}",)
            raise
        _compare(block, block.text, block.output, said.getvalue())

    def _shell(self, block: Block, command: Command, wanted: bool) -> None:
        if not wanted:
            return
        assert not command.text.startswith(STAYING), f"{block.place}: mark {command.text!r}, no test can run it"
        self.ran += 1
        provide(Path.cwd(), shlex.split(command.text, comments=True))
        code, said = run_command(command.text)
        shown = command.output
        failing = shown is not None and any(word in shown for word in FAILING)
        if (code != 0) is not failing:
            pytest.fail(f"{block.place}: {command.text} ended with status {code}:\n{said}")
        _compare(block, command.text, shown, said)


def run_command(text: str) -> tuple[int, str]:
    """Returns the exit status of a command and what it said, errors included; plait's own run in this process."""
    words = shlex.split(text, comments=True)
    if words[0] == "plait" and not _SHELL & set("".join(_unquoted(text))):
        return _called(words[1:])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["sh", "-c", text], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _called(words: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            COMMANDS(words, prog_name="plait")
        except SystemExit as stop:
            return int(stop.code or 0), said.getvalue()
    return 0, said.getvalue()


def _unquoted(text: str) -> list[str]:
    """Returns the words of a command that nothing quotes, for the shell to look at."""
    lexer = shlex.shlex(text, posix=False, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    return [word for word in lexer if word[:1] not in {"'", '"'} and "=" not in word]


def calls(text: str) -> list[list[str]]:
    """Returns every `plait ...` in a line of shell, as words, without what pipes add."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words, found = list(lexer), []
    while words:
        end = next((i for i, word in enumerate(words) if set(word) <= set("|&;<>")), len(words))
        if words[:1] and words[0].rpartition("/")[2] == "plait":
            found.append(words[1:end])
        words = words[end + 1 :]
    return found


def check_call(block: Block, words: list[str]) -> None:
    """Fails unless plait has the command and takes its options."""
    assert words, f"{block.place}: a bare `plait`: say which command"
    names = COMMANDS.commands  # type: ignore[attr-defined]
    if words[0].startswith("-"):
        return
    assert words[0] in names, f"{block.place} shows plait {words[0]}; there are {', '.join(names)}"
    try:
        names[words[0]].make_context(words[0], list(words[1:]))
    except typer.Exit:
        pass  # --help
    except Exception as error:
        told = getattr(error, "format_message", error.__str__)()
        pytest.fail(f"{block.place} shows `plait {shlex.join(words)}`: {told}")


def _compare(block: Block, what: str, shown: str | None, said: str) -> None:
    if shown is not None and not agrees(shown, said):
        pytest.fail(f"{block.place} shows other output than there is.\n{what}\nshown:\n{shown}\nis:\n{said}")

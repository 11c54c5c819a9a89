"""Pages cut into blocks: what is run, what is shown as its output, and what is marked as not run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..tree import ROOT

PYTHON, SHELL = ("python", "py"), ("console", "sh", "bash", "shell")
GENERATED = "Written by `plait "  # how a page begins that a command makes: 71 models, each with its own download

_FENCE = re.compile(
    r"(?P<mark><!--[^>]*-->\s*\n)?^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```[ ]*\n"
    r"(?P<shown>\n*^```text\n(?P<output>.*?)^```[ ]*$)?",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- (?P<kind>not run|with torch)(?P<which>(?:,? `[^`]+`)*): (?P<reason>[^>]+?) -->")


@dataclass(frozen=True)
class Block:
    """A block of a page that a reader could run.

    Attributes:
        page: its name, from the root of the repository.
        line: where its fence stands, from 1.
        language: of the fence.
        text: what is in it.
        output: what the page shows as its output right behind it, or None.
        kind: "" for a block that is run, "not run", or "with torch".
        reason: why it is marked.
        lines: beginnings of the only commands that the mark is for; empty: all of the block.
    """

    page: str
    line: int
    language: str
    text: str
    output: str | None = None
    kind: str = ""
    reason: str = ""
    lines: tuple[str, ...] = ()

    @property
    def is_python(self) -> bool:
        return self.language in PYTHON

    @property
    def place(self) -> str:
        return f"{self.page}, line {self.line}"

    def leaves_out(self, command: str) -> bool:
        """Returns whether a command of the block is marked."""
        return bool(self.kind) and (not self.lines or command.startswith(self.lines))


@dataclass(frozen=True)
class Command:
    """A line of a shell block, and the output shown under it; None where none is shown."""

    text: str
    output: str | None


def pages() -> list[str]:
    """Returns README.md and every page of docs/ that is written by hand."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in found if GENERATED not in read(path)[:200]]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@lru_cache
def blocks(page: str) -> tuple[Block, ...]:
    """Returns the blocks of a page in Python or shell."""
    return tuple(blocks_of(page, read(ROOT / page)))


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Yields the blocks of a page's text."""
    for found in _FENCE.finditer(text):
        language = found["language"].strip()
        if language not in PYTHON + SHELL:
            continue
        mark = _MARK.match(found["mark"] or "")
        lines = tuple(re.findall(r"`([^`]+)`", mark["which"])) if mark else ()
        yield Block(
            page,
            text[: found.start("language")].count("\n") + 1,
            language,
            found["text"],
            found["output"],
            mark["kind"] if mark else "",
            " ".join(mark["reason"].split()) if mark else "",
            lines,
        )


def marks(page: str) -> int:
    """Returns how many comments of a page look like marks."""
    return len(re.findall(r"<!--\s*(?:not run|with torch)", read(ROOT / page)))


def commands(block: Block) -> list[Command]:
    """Returns the commands of a shell block; without prompts every line is one."""
    text = block.text.replace("\\\n", " ")
    if not re.search(r"^\$ ", text, re.MULTILINE):
        return [Command(line.strip(), None) for line in text.splitlines() if line.strip()]
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [_command(part) for part in parts]


def _command(part: str) -> Command:
    command, _, output = part.partition("\n")
    return Command(command.strip(), output if output.strip() else None)

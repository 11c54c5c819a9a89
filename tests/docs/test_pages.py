"""Every Python and shell block of README.md and docs/ runs, and prints what the page shows.

A page is run in an empty folder and one Python, block after block, as a reader would paste it. What cannot be run here
is marked in the page, by a comment before the block that says why:

    <!-- not run: a server that stays -->                 the whole block
    <!-- not run, `plait demo`: takes minutes -->         the lines that begin so
    <!-- with torch: training -->                         run by `scripts/test --torch` alone

Such blocks are read nevertheless: Python is compiled, and plait has to know each command with its options. A ```text
block right behind a block, and lines under a command, are its output: see `comparing`. Files that a page only names
are made by `reader`.
"""

from __future__ import annotations

import sys
from collections import Counter
from xml.etree import ElementTree

import pytest
from plait.apps import console

from ..tree import ROOT
from .blocks import Block, Command, blocks, blocks_of, commands, marks, pages, read
from .comparing import agrees
from .running import Page, calls, check_call

TORCH = [page for page in pages() if any(block.kind == "with torch" for block in blocks(page))]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """A folder of its own, a cache of its own, and the same output in whatever terminal."""
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    for one in (console.out, console.err):
        monkeypatch.setattr(one, "_width", None)
        monkeypatch.setattr(one, "_color_system", None)


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)])
def test_a_page_runs(page):
    Page(page).run(blocks(page))


@pytest.mark.torch
@pytest.mark.parametrize("page", TORCH)
def test_a_page_runs_with_torch(page):
    Page(page).run(blocks(page), torch=True)


def test_what_is_not_run_is_counted(capsys):
    every = [block for page in pages() for block in blocks(page)]
    left = [block for block in every if block.kind]
    for block in left:
        assert len(block.reason) > 5, f"{block.place}: say why it is not run"
    for page in pages():
        placed = sum(bool(block.kind) for block in blocks(page))
        assert placed == marks(page), f"{page}: a mark stands right before a block, as test_pages.py describes it"
    told = Counter(f"{block.kind}: {block.reason}" for block in left)
    lines = [f"docs: {len(every)} blocks of {len(pages())} pages, {len(left)} of them marked"]
    lines += [f"  {count:3d} {reason}" for reason, count in sorted(told.items())]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")


def test_every_command_can_be_given():
    """Those that are not run, too, and all of docs/models.md, which has a model to fetch in every block."""
    shown = [
        (block, words)
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for block in blocks_of(path.name, read(path))
        if not block.is_python
        for command in commands(block)
        for words in calls(command.text)
    ]
    for block, words in shown:
        check_call(block, words)
    assert len(shown) > 200


def test_no_block_is_a_doctest_or_without_a_language():
    """They would not be run."""
    for page in pages():
        assert ">>> " not in read(ROOT / page), f"{page}: write Python without >>>"
        fences = [line for line in read(ROOT / page).splitlines() if line.startswith("```")]
        assert all(fence != "```" for fence in fences[::2]), f"{page}: name the language of every block"


def test_a_mark_and_an_output_are_found():
    text = (
        "<!-- not run, `b`: it stays -->\n```console\n$ a\nx\n$ b\n```\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n"
    )
    shell, python = blocks_of("p.md", text)
    assert (shell.line, shell.kind, shell.reason, shell.lines) == (2, "not run", "it stays", ("b",))
    assert commands(shell) == [Command("a", "x\n"), Command("b", None)]
    assert not shell.leaves_out("a")
    assert shell.leaves_out("b c")
    assert (python.line, python.output, python.kind) == (8, "1\n", "")


def test_other_output_than_a_page_shows_fails():
    right = Block("p.md", 1, "python", "print('0.50 of 3')", "0.51 of 3\n")
    Page("p").run([right])
    with pytest.raises(pytest.fail.Exception, match="line 1 shows other output than there is"):
        Page("p").run([Block("p.md", 1, "python", "print('0.50 of 3')", "0.51 of 4\n")])
    with pytest.raises(pytest.fail.Exception, match="ended with status 1"):
        Page("p").run([Block("p.md", 1, "console", "$ plait info nowhere.index\n")])


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("a 0.50", "a 0.52", True),
        ("a 0.50", "a 0.54", False),
        ("a 5.50", "a 5.60", True),
        ("a 3", "a 4", False),
        ("a ... d", "a b\nc d", True),
        ("took ... ms, 3 hits", "took 1.25 ms, 3 hits", True),
        ("a", "a b", False),
        ("a  \n", "\na\n", True),
    ],
)
def test_outputs_are_compared(shown, said, same):
    assert agrees(shown, said) is same


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "pictures").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_can_be_read_by_everybody(path):
    """Small, described, its text as text, in light and dark, with nothing from elsewhere."""
    picture = read(path)
    ElementTree.fromstring(picture)
    assert path.stat().st_size < 12_000
    assert "<title" in picture
    assert "<desc" in picture
    assert "<text" in picture
    assert "prefers-color-scheme" in picture
    assert "url(http" not in picture
    assert "href" not in picture
    assert any(f"pictures/{path.name})" in read(ROOT / page) for page in pages()), f"no page shows {path.name}"


def test_blocks_that_need_torch_are_found():
    """Where torch is missing, one without its mark fails with its page."""
    assert TORCH == ["docs/training.md"]

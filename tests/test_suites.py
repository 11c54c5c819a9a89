"""Suites: files that need torch are left out without a word, and a missing torch is an error where it is asked for."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from . import suites
from .tree import ROOT

DEFAULT = "not torch and not lucene and not browser and not frameworks"
NEEDS_TORCH = ROOT / "tests" / "train" / "test_losses.py"


@pytest.fixture
def without_torch(monkeypatch):
    """As where neither torch nor transformers is installed."""
    for name in suites.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("marks", "asked"),
    [(DEFAULT, False), ("torch or beside_torch", True), ("torch", True), ("beside_torch", None), ("", None)],
)
def test_what_marks_say_of_torch(marks, asked):
    assert suites.asks_for_torch(marks) is asked


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    ("marks", "missing"), [(DEFAULT, []), ("", []), ("torch or beside_torch", ["torch", "transformers"])]
)
def test_what_is_missing(marks, missing):
    assert suites.missing(marks) == missing


@pytest.mark.parametrize(("marks", "left_out"), [(DEFAULT, True), ("torch or beside_torch", False)])
def test_a_file_that_needs_torch_is_left_out_where_none_of_it_is_wanted(marks, left_out):
    assert suites.leaves_out(NEEDS_TORCH, marks) is left_out
    assert not suites.leaves_out(ROOT / "tests" / "train" / "test_recipe.py", marks)


@pytest.mark.usefixtures("without_torch")
def test_a_file_that_needs_torch_is_left_out_where_torch_is_missing():
    assert suites.leaves_out(NEEDS_TORCH, "")


def test_every_file_that_needs_torch_is_known_by_how_it_begins():
    files = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    at_top = re.compile(
        r"^(import|from|\w+ =.*importorskip\(.|pytest.importorskip\(.)\s?(torch|transformers)\b", re.MULTILINE
    )
    needing = {path for path, text in files.items() if at_top.search(text)}
    assert NEEDS_TORCH in needing
    assert needing == {path for path in files if suites.leaves_out(path, DEFAULT)}


def test_asking_for_torch_without_it_is_an_error(tmp_path):
    (tmp_path / "away.py").write_text("import sys\nsys.modules['torch'] = None\n")
    command = [sys.executable, "-m", "pytest", "-p", "away", "-m", "torch", "--collect-only", "-q", str(NEEDS_TORCH)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(tmp_path)})
    assert said.returncode == pytest.ExitCode.USAGE_ERROR
    assert "the tests marked torch need torch" in said.stderr
    assert "scripts/test --torch installs it" in said.stderr

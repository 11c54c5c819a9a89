"""The rooms: imports run one way, importing is cheap, nothing prints, and everything public says what it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from .tree import PACKAGES, PROJECT, ROOMS, ROOT, room_files

# What each room may import: apps -> train -> eval -> retriever -> {encoders, index}.
BELOW = {
    "index": set(),
    "encoders": set(),
    "retriever": {"index", "encoders"},
    "eval": {"index", "encoders", "retriever"},
    "train": {"index", "encoders", "retriever", "eval"},
    "apps": {"index", "encoders", "retriever", "eval", "train"},
}
SOURCES = [file for file in room_files() if file.suffix == ".py"]
pytestmark = pytest.mark.beside_torch

NEVER_AT_IMPORT = {"jnius", "torch", "transformers", "sentence_transformers", "faiss", "numba", "pandas", "onnxruntime"}

WITH_TORCH = {"torch", "transformers", "sentence_transformers", "onnxscript"}


def imported(file: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields (line, module) of every import in a file, relative ones resolved: 'plait.index.store'."""
    package = ["plait", *file.parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def rooms_imported(file: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    for line, module in imported(file, tree):
        parts = module.split(".")
        if parts[0] == "plait":
            yield line, parts[1] if len(parts) > 1 else "plait"


def test_the_rooms_are_those_we_know():
    assert set(ROOMS) <= set(BELOW)
    assert {file.parts[0] for file in SOURCES} == set(ROOMS)


@pytest.mark.parametrize("file", SOURCES, ids=str)
def test_imports_run_one_way(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    own = file.parts[0]
    upward = [
        f"{file}:{line} imports {room}" for line, room in rooms_imported(file, tree) if room not in BELOW[own] | {own}
    ]
    assert not upward, f"{own} may import {', '.join(sorted(BELOW[own])) or 'no other room'}"


def test_the_walk_sees_every_form_of_import():
    source = (
        "from ..index.store import create\nfrom .. import eval as e\nimport plait.apps.cli\nfrom . import x\nimport os"
    )
    found = list(rooms_imported(Path("retriever/a.py"), ast.parse(source)))
    assert found == [(1, "index"), (2, "eval"), (3, "apps"), (4, "retriever")]
    assert list(rooms_imported(Path("eval/sub/a.py"), ast.parse("from ...apps import cli\nfrom .. import runs"))) == [
        (1, "apps"),
        (2, "eval"),
    ]


@pytest.mark.parametrize("file", SOURCES, ids=str)
def test_nothing_prints(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert [node.lineno for node in calls if node.func.id == "print"] == []


def test_types_can_be_checked_without_torch():
    """.ci/run checks them where torch is: there, nobody would see that an import is missed elsewhere."""
    benchmarks = sorted(file.relative_to(ROOT) for file in (ROOT / "benchmarks").rglob("*.py"))
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in [*SOURCES, *benchmarks]}
    sources = {file: source for file, source in sources.items() if any(name in source for name in WITH_TORCH)}
    silent = [
        file
        for file, source in sources.items()
        if {module.split(".")[0] for _, module in imported(file, ast.parse(source))} & WITH_TORCH
        and "\n# pyright: reportMissingImports=false\n" not in source
    ]
    assert silent == [], "say '# pyright: reportMissingImports=false' after the docstring"


@pytest.mark.parametrize("module", ["plait.retriever", "plait.apps.cli", *(f"plait.{room}" for room in ROOMS)])
def test_importing_loads_nothing_heavy_and_says_nothing(module):
    code = f"import sys, {module}; sys.stdout.write(' '.join(sys.modules))"
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests"
    )
    assert set(said.stdout.split()) & NEVER_AT_IMPORT == set()
    assert said.stderr == ""


def public_objects() -> list[tuple[str, object]]:
    found = []
    for room in ROOMS:
        module = importlib.import_module(f"plait.{room}")
        found += [(f"plait.{room}.{name}", getattr(module, name)) for name in getattr(module, "__all__", ())]
    # Constants and aliases have no docstring of their own; their comments are in the source.
    return [(name, value) for name, value in found if inspect.isclass(value) or inspect.isroutine(value)]


@pytest.mark.parametrize(("name", "value"), public_objects(), ids=lambda given: given if isinstance(given, str) else "")
def test_everything_public_says_what_it_is(name, value):
    own = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert own, f"{name} has no docstring"
    assert not own.startswith(f"{value.__name__}("), f"{name} has only the docstring that Python made up"


def test_the_wheel_misses_no_file():
    data: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
    folders = {folder: package for package, folder in PACKAGES.items()}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(PACKAGES)
    missed = []
    for file in room_files():
        package = next(f for f in map(str, [file.parent.as_posix(), *map(Path.as_posix, file.parents)]) if f in folders)
        inside = file.relative_to(package).as_posix()
        patterns = [*data.get("*", []), *data.get(folders[package], [])]
        if file.suffix == ".py":
            fits = file.parent.as_posix() == package and file.stem.isidentifier()
        else:
            fits = any(fnmatch(inside, pattern) and inside.count("/") == pattern.count("/") for pattern in patterns)
        if not fits:
            missed.append(str(file))
    assert missed == [], "name their package, or their pattern in package-data, in pyproject.toml"


def test_every_room_is_typed():
    assert [room for room in ROOMS if not (ROOT / room / "py.typed").is_file()] == []

"""The wheel: everything the rooms hold under plait/, nothing else, and what the licence asks for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes

import pytest

from .tree import ROOMS, ROOT, room_files

BESIDE = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel built from a copy of the tree that also holds what a working folder has lying about."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("out")
    for file in [*room_files(), *BESIDE]:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tree / file)
    for stray in (
        "tests/test_x.py",
        "benchmarks/b.py",
        "demo.index/plait.db",
        "stuff/x.py",
        "plait/x.py",
        "scratch.py",
    ):
        (tree / stray).parent.mkdir(exist_ok=True)
        (tree / stray).touch()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, tree]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tree)
    assert said.returncode == 0, said.stdout[-2000:] + said.stderr[-2000:]
    (built,) = out.iterdir()
    with zipfile.ZipFile(built) as opened:
        yield opened


def test_it_holds_the_rooms_and_nothing_else(wheel):
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {f"plait/{file.as_posix()}" for file in room_files()}
    assert sorted(expected - files) == [], "these files of the tree are not in the wheel"
    assert sorted(files - expected) == [], "these files of the wheel are not in the tree"
    assert "plait/__init__.py" not in files  # a namespace: the folders are its packages
    assert {name.split("/")[1] for name in files} == set(ROOMS)


def test_models_are_in_it_byte_for_byte(wheel):
    models = [file for file in room_files() if file.parts[:2] == ("encoders", "models") and file.suffix == ".onnx"]
    assert models
    for file in models:
        assert wheel.read(f"plait/{file.as_posix()}") == (ROOT / file).read_bytes()


def test_licences_and_metadata(wheel):
    info = {name.split(".dist-info/")[1]: name for name in wheel.namelist() if ".dist-info/" in name}
    for name in ("LICENSE", "NOTICE"):
        assert wheel.read(info[f"licenses/{name}"]) == (ROOT / name).read_bytes()
    assert wheel.read(info["entry_points.txt"]).decode().split() == [
        "[console_scripts]",
        "plait",
        "=",
        "plait.apps.cli:main",
    ]
    metadata = message_from_bytes(wheel.read(info["METADATA"]))
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert not [line for line in needed if line.startswith(("torch", "transformers", "sentence"))]
    assert not set(info) & {"top_level.txt"} or wheel.read(info["top_level.txt"]).decode().split() == ["plait"]

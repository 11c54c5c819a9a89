"""The repository as its own tests see it."""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
ROOMS = sorted({folder.split("/")[0] for folder in PACKAGES.values()})


def room_files() -> list[Path]:
    """Returns every file of the rooms, relative to the root, without what Python leaves behind."""
    files = (file for room in ROOMS for file in (ROOT / room).rglob("*") if file.is_file())
    kept = (file for file in files if "__pycache__" not in file.parts and not file.name.startswith("."))
    return sorted(file.relative_to(ROOT) for file in kept)

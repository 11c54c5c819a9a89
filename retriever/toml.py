"""TOML, read into plain values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def parse_toml(text: str) -> dict[str, Any]:
    """Returns what a text in TOML holds.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("values lie too deep inside each other") from None


def read_toml(path: str | Path, error: Callable[[str], Exception]) -> dict[str, Any]:
    """Returns what a TOML file holds; what is wrong with it is raised as `error`, with the file's name."""
    try:
        return parse_toml(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except ValueError as problem:
        raise error(f"{path} is no TOML file: {problem}") from problem

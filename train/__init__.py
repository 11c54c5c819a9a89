"""Recipes that make encoders: pairs, teachers, losses, regularisers, mining, export."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import TrainError as TrainError
    from .events import Event as Event
    from .export import with_query_table as with_query_table
    from .pairs import TrainingSet as TrainingSet
    from .pairs import read_training as read_training
    from .recipe import RECIPES as RECIPES
    from .recipe import Recipe as Recipe
    from .recipe import recipe_of as recipe_of
    from .report import TrainReport as TrainReport
    from .run import train as train

# public name -> module that has it; imported when first asked for, and torch not before a training begins
_HOME = {
    "RECIPES": "recipe",
    "Event": "events",
    "Recipe": "recipe",
    "TrainError": "errors",
    "TrainReport": "report",
    "TrainingSet": "pairs",
    "read_training": "pairs",
    "recipe_of": "recipe",
    "train": "run",
    "with_query_table": "export",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOME)

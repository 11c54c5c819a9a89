"""The pages of the rooms: what `__all__` names, or what a module without one defines, each by its docstring."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from generated import READ_TOGETHER, code, directive, title
from sphinx.ext.autodoc.mock import mock
from sphinx.pycode import ModuleAnalyzer

_DIRECTIVES = {"Classes": "class", "Errors": "exception", "Functions": "function"}
KINDS = ("Classes", "Functions", "Errors", "Tables and types")


def page(name: str) -> Iterator[str]:
    """Yields a module's entries, by kind, with its docstring before them."""
    module = _imported(name)
    yield from ("", f".. automodule:: {name}", "   :no-members:", "", f".. currentmodule:: {name}", "")
    names = public(module)
    for kind in KINDS:
        of_kind = [each for each in names if kind_of(getattr(module, each)) == kind]
        if of_kind and len(names) > len(of_kind):
            yield from (f".. rubric:: {kind}", "")
        for each in of_kind:
            yield from _entry(module, each)


def section(name: str) -> Iterator[str]:
    """Yields what `page` does, under a heading of its own."""
    yield from title(name, "-")
    yield from page(name)


def public(module: Any) -> list[str]:
    """Returns the public names of a module: those of `__all__`, or those that it defines, in their order."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return [name for name in own if not name.startswith("_")]


def kind_of(value: Any) -> str:
    """Returns the heading under which a public thing stands."""
    if inspect.isclass(value):
        return "Errors" if issubclass(value, BaseException) else "Classes"
    return "Functions" if inspect.isroutine(value) else "Tables and types"


def home(module: Any, name: str) -> str:
    """Returns the module that a room has a constant from."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            return f"{module.__name__}.{node.module}"
    return module.__name__


def _entry(module: Any, name: str) -> Iterator[str]:
    value = getattr(module, name)
    kind = _DIRECTIVES.get(kind_of(value), "data")
    own = home(module, name) if kind == "data" else value.__module__
    if (room := _room(own)) != module.__name__ and name in getattr(_imported(room), "__all__", ()):
        yield from (f".. py:{kind}:: {name}", "", f"   The same as :py:obj:`{room}.{name}`.", "")
    elif kind != "data":
        bases = ["   :show-inheritance:"] if getattr(value, "__bases__", (object,)) != (object,) else []
        yield from (f".. auto{kind}:: {module.__name__}.{name}", *bases, "")
    else:
        yield from (f".. py:data:: {name}", "", *(f"   {line}" for line in _told(own, name, value)), "")


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _told(module: str, name: str, value: Any) -> Iterator[str]:
    """Yields what a `#:` comment says of a constant, and the names in it where it is a table."""
    analyzer = ModuleAnalyzer.for_module(module)
    yield from analyzer.find_attr_docs().get(("", name), [])
    if isinstance(value, Mapping):
        yield from (f"Its names: {', '.join(code(str(key)) for key in value)}.", "")
    elif not isinstance(value, tuple):
        yield from (f"The same as {code(str(value).replace('typing.', ''))}.", "")


def _imported(name: str) -> Any:
    from conf import autodoc_mock_imports

    with mock(autodoc_mock_imports):
        return import_module(name)


def setup(app: Any) -> dict[str, bool]:
    """Adds the directives `plait-room` and `plait-module`."""
    app.add_directive("plait-room", directive(page, arguments=1))
    app.add_directive("plait-module", directive(section, arguments=1))
    return READ_TOGETHER

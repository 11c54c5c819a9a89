"""How our docstrings read on the site: indented lines are code, and fields are called what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from docutils import nodes
from sphinx.domains.python import PyObject

_SECTION = re.compile(r"[A-Z][a-z]+:")  # Args:, Raises:
_SHOWN = re.compile(r"<(?:function (\w+)[^<>]*|[^<>]*)>")  # as <function words at 0x7f00>, <factory>
_BEFORE_NAPOLEON = 400


def with_code(lines: Sequence[str]) -> Iterator[str]:
    """Yields a docstring's lines; a block that stands indented after a blank line becomes one of code."""
    head, before, inside = "", "", False
    for line in lines:
        if line[:1].strip():
            head, inside = line, False
        elif line.strip() and not inside:
            if head and not before.strip() and not _SECTION.fullmatch(head):
                yield from ("::", "")
            inside = True
        before = line
        yield line


def _process(_app: Any, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = with_code(lines)


def _skipped(_app: Any, _what: str, _name: str, value: Any, _skip: bool, _options: Any) -> bool | None:
    """Leaves out what Python, not plait, says of a NamedTuple's fields."""
    told = getattr(value, "__doc__", None) or ""
    return True if told.startswith("Alias for field number") else None


def _signature(_app: Any, _what: str, _name: str, _value: Any, _options: Any, signature: str, back: str) -> Any:
    """Leaves out a stand-in's signature, where a base is of another framework; makes Python of what a default shows."""
    if signature == "(*args: Any, **kwargs: Any)":
        return "", None
    return (_SHOWN.sub(lambda shown: shown[1] or "...", signature), back) if signature else None


def _with_dashes(_app: Any, doctree: nodes.document) -> None:
    """Makes the two hyphens that Sphinx puts between a field and its text a dash."""
    for text in [text for text in doctree.findall(nodes.Text) if text == " -- "]:
        text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def setup(app: Any) -> dict[str, bool]:
    """Connects these to a build."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", _process, priority=_BEFORE_NAPOLEON)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skipped)
    app.connect("doctree-read", _with_dashes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

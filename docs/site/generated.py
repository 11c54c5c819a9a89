"""What the generated pages share: a directive whose content is made when the site is built, and reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

READ_TOGETHER = {"parallel_read_safe": True, "parallel_write_safe": True}
_MEANT = re.compile(r"([\\*`|_<>])")


def directive(make: Callable[..., Iterable[str]], *, arguments: int = 0) -> type[SphinxDirective]:
    """Returns a directive that stands for the lines of reStructuredText that `make` returns of its arguments."""

    class Made(SphinxDirective):
        required_arguments: ClassVar[int] = arguments

        def run(self) -> list[Any]:
            """Returns nothing: the lines are read where the directive stands."""
            lines = "\n".join(make(*self.arguments)).splitlines()
            self.state_machine.insert_input(StringList(lines, self.env.docname), self.env.docname)
            return []

    return Made


def plain(text: str) -> str:
    """Returns text that means itself."""
    return _MEANT.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Returns text as code."""
    return f":code:`{text}`"


def title(text: str, under: str) -> list[str]:
    """Returns a heading; `under` says of which level."""
    return ["", text, under * len(text), ""]


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]], widths: str = "auto") -> Iterator[str]:
    """Yields a table, or nothing where it has no rows; cells are reStructuredText in one line."""
    if not (rows := list(rows)):
        return
    yield from ("", ".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", "")
    for row in (header, *rows):
        yield from (f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(row))
    yield ""

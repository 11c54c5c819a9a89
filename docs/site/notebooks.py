"""Notebooks as pages: their cells as Markdown, which is all that notebooks without outputs hold."""

from __future__ import annotations

import json
from typing import Any

from myst_parser.parsers.sphinx_ import MystParser


def markdown(notebook: str) -> str:
    """Returns the Markdown of a notebook: its texts as they stand, its code in fences."""
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook)["cells"])
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for kind, text in cells)


class NotebookParser(MystParser):
    """Parses a notebook as the Markdown page that it is."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Fills a document with the notebook's cells."""
        super().parse(markdown(inputstring), document)


def setup(app: Any) -> dict[str, bool]:
    """Makes notebooks a kind of page."""
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What the site holds, in which order. Pages of `docs/` that no group names come last among the how-to pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FRONT = "README"
PATTERNS = [
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "docs/site/reference/*.rst", "examples/*.ipynb",
    "benchmarks/README.md", "benchmarks/results/*.md", "index/FORMAT.md", "encoders/models/*/MODEL_CARD.md",
]  # fmt: skip
HOW_TO = "How to"
NAMES = "genindex"  # Sphinx's own page of all names
_FIRST = """<!doctype html>
<meta charset="utf-8">
<title>plait</title>
<meta http-equiv="refresh" content="0; url={front}">
<a href="{front}">plait</a>
"""
GROUPS = {
    "Start": ["docs/tutorial", "examples/first_search", "examples/measure", "docs/recipes", "docs/README"],
    HOW_TO: [
        "docs/updates", "docs/filters", "docs/ranking", "docs/evaluation", "docs/rag", "docs/serving", "docs/page",
        "docs/mcp", "docs/planning", "docs/encoders", "docs/encoding", "docs/long", "docs/training", "docs/lucene",
        "docs/exchange",
    ],
    "Ideas": ["docs/ideas", "index/FORMAT", "encoders/models/plait-mini/MODEL_CARD"],
    "Reference": [
        *(f"docs/site/reference/{name}" for name in ("commands", "http", "retriever", "rag", "eval")),
        *(f"docs/site/reference/{name}" for name in ("encoders", "index", "train", "adapters")),
        "docs/models", NAMES,
    ],
    "Benchmarks": ["benchmarks/README"],
    "The project": ["CONTRIBUTING", "CHANGELOG"],
}  # fmt: skip
RESULTS = "benchmarks/README"
# The names of pages whose own titles say too little here.
TITLES = {"docs/README": "All pages, by what you want", "encoders/models/plait-mini/MODEL_CARD": "The model plait-mini"}
TITLES |= {
    NAMES: "All names",
    "examples/first_search": "Notebook: a first search",
    "examples/measure": "Notebook: measure",
}


def groups() -> dict[str, list[str]]:
    """Returns the pages by group, those that are there."""
    named = {page for pages in GROUPS.values() for page in pages}
    others = [f"docs/{path.stem}" for path in sorted((ROOT / "docs").glob("*.md"))]
    found = {group: [page for page in pages if page == NAMES or _is_there(page)] for group, pages in GROUPS.items()}
    found[HOW_TO] += [page for page in others if page not in named]
    return found


def _path(page: str) -> str:
    return page if page == NAMES else f"/{page}"


def _is_there(page: str) -> bool:
    return any((ROOT / f"{page}{suffix}").is_file() for suffix in (".md", ".rst", ".ipynb"))


def toctree(caption: str, pages: list[str]) -> str:
    """Returns a table of contents that is seen beside the page alone, in MyST."""
    lines = [f"{TITLES[page]} <{_path(page)}>" if page in TITLES else _path(page) for page in pages]
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *lines, "```", ""])


def _add_contents(_app: Any, docname: str, source: list[str]) -> None:
    """Puts tables of contents under the front page and the benchmarks' page, which the repository shows without."""
    if docname == FRONT:
        source[0] += "".join(toctree(caption, pages) for caption, pages in groups().items())
    elif docname == RESULTS:
        results = sorted(path.stem for path in (ROOT / "benchmarks" / "results").glob("*.md"))
        source[0] += toctree("Results", [f"benchmarks/results/{name}" for name in results])


def _lead_to_the_front(app: Any, failed: Exception | None) -> None:
    """Writes index.html, which leads to the front page: the folder `index` has no page of its own."""
    if failed is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(_FIRST.format(front=f"{FRONT}.html"), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connects the tables of contents and the first page to a build."""
    app.connect("source-read", _add_contents)
    app.connect("build-finished", _lead_to_the_front)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

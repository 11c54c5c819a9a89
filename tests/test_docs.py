"""Documentation cannot drift: commands, names and figures are in it; that its blocks run is for `docs.test_pages`."""

from __future__ import annotations

import json
import re

import pytest
import typer
from plait import retriever
from plait.apps.cli import app
from plait.encoders.catalogue import entries
from plait.encoders.families.recipes import FAMILIES
from plait.encoders.specs import OPTIONS

from .tree import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = README + "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
COMMANDS = typer.main.get_command(app)
NAMES = list(COMMANDS.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_in_the_readme(name):
    assert re.search(rf"\bplait {name}\b", README), f"README.md does not mention `plait {name}`"


@pytest.mark.parametrize("name", retriever.__all__)
def test_every_public_name_is_documented(name):
    assert re.search(rf"\b{name}\b", DOCS), f"neither README.md nor docs/ mentions plait.retriever.{name}"


@pytest.mark.parametrize("name", [*FAMILIES, *OPTIONS])
def test_every_encoder_family_and_option_is_documented(name):
    page = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page, f"docs/encoders.md does not mention `{name}`"


def test_the_number_of_models_and_families_is_right():
    assert f"{len(entries())} published models" in README
    assert f"[{len(FAMILIES)} families in all]" in README


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.name)
def test_the_notebooks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": path.stem}
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        assert not cell["outputs"], "notebooks are kept without outputs"
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), namespace)


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"({page.name})" in contents, f"docs/README.md has no row for {page.name}"


def test_the_numbers_in_the_readme_are_the_measured_ones():
    measured = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text(encoding="utf-8"))["collections"]
    (header,) = re.findall(r"^\| \| (scifact \|.*\| mean) \|$", README, re.MULTILINE)
    *collections, _ = header.split(" | ")
    names = {"wikiqa": "wikiqa-test"}
    rows = re.findall(r"^\| ([a-z]+(?:, [\w ]+)?) \| ((?:\d\.\d{3} \| ){6}\d\.\d{3}) \|$", README, re.MULTILINE)
    assert [name for name, _ in rows][:5] == ["lexical", "learned", "dense", "fused", "fused, RRF"]
    for name, cells in rows:
        figures = [measured[names.get(each, each)]["scores"][name]["nDCG@10"] for each in collections]
        assert cells.split(" | ") == [f"{figure:.3f}" for figure in [*figures, sum(figures) / len(figures)]], name

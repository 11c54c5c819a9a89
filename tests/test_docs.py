"""Documentation cannot drift: commands exist, names are explained, and the README's Python runs."""

from __future__ import annotations

import json
import re
import shlex

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


def blocks(*languages):
    """Returns the contents of the README's code blocks in some languages."""
    found = re.findall(r"^```([^\n`]*)\n(.*?)^```[ ]*$", README, re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language.strip() in languages]


def calls():
    """Returns every `plait ...` in the README's console blocks, split into words, without what pipes add."""
    found = []
    for block in blocks("console", "sh", "bash", "shell"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words = list(lexer) if "plait" in line else []
            while words:
                end = next((i for i, word in enumerate(words) if set(word) <= set("|&;<>")), len(words))
                if words[:1] and words[0].rpartition("/")[2] == "plait":
                    found.append(words[1:end])
                words = words[end + 1 :]
    return found


def test_the_readme_shows_commands_and_python():
    assert calls(), "README.md has no console block with a plait command"
    assert blocks("python"), "README.md has no ```python block"


@pytest.mark.parametrize("words", calls(), ids=" ".join)
def test_commands_in_the_readme_can_be_given(words):
    assert words, "a bare `plait` in a console block: say which command"
    assert words[0] in NAMES or words[0].startswith("-"), f"README.md shows plait {words[0]}; there are {NAMES}"
    if words[0].startswith("-"):
        return
    command = COMMANDS.commands[words[0]]  # type: ignore[attr-defined]
    try:
        command.make_context(words[0], list(words[1:]))
    except typer.Exit:
        pass  # --help
    except Exception as error:
        told = error.format_message() if hasattr(error, "format_message") else str(error)
        pytest.fail(f"README.md shows `plait {shlex.join(words)}`: {told}")


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


def test_the_python_in_the_readme_runs(tmp_path, monkeypatch):
    """Block after block in one namespace, in an empty folder, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks("python"), start=1):
        try:
            exec(compile(block, f"README.md, python block {number}", "exec"), namespace)
        except Exception as error:
            error.args = (f"README.md, python block {number}: {error}\n{block}",)
            raise


def test_the_number_of_models_and_families_is_right():
    assert f"{len(entries())} published models" in README
    assert f"[{len(FAMILIES)} families in all]" in README


def test_the_recipes_run(tmp_path, monkeypatch):
    """As the README's blocks do: in order, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "recipes"}
    for block in re.findall(r"^```python\n(.*?)^```[ ]*$", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/recipes.md", "exec"), namespace)


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

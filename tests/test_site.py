"""The documentation site: built without a warning, complete, without a broken link, and with nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer
from filelock import FileLock
from plait.apps.cli import app

from .tree import ROOMS, ROOT

pytestmark = pytest.mark.site

REFERENCE = "docs/site/reference"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PUBLIC = [
    (room, name) for room in ROOMS for name in getattr(import_module(f"plait.{room}"), "__all__", ()) if room != "apps"
]
# What a browser fetches by itself to show a page, by element.
FETCHED = {"script": "src", "link": "href", "img": "src", "source": "src", "iframe": "src", "object": "data"}
NOT_FETCHED = {"index", "search", "next", "prev", "canonical", "author"}  # links of <head> that only tell


class Page(HTMLParser):
    """What a page links to, what it makes a browser fetch, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        wanted = given.get(FETCHED.get(tag, ""))
        if wanted and not (tag == "link" and given.get("rel") in NOT_FETCHED):
            self.fetched.add(wanted)


def build(tree: Path, out: Path) -> str:
    """Returns what a build says of warnings and errors, and how it ended."""
    command = [sys.executable, str(tree / "docs" / "site"), str(out)]
    said = subprocess.run(command, capture_output=True, text=True)
    return f"{said.stderr[-6000:]}ended with {said.returncode}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once also where several processes test it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    out, said = shared / "site", shared / "site.txt"
    with FileLock(shared / "site.lock"):
        if not said.exists():
            said.write_text(build(ROOT, out), encoding="utf-8")
    assert said.read_text(encoding="utf-8") == "ended with 0"
    return out


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    # Not the source as Sphinx shows it: its links lead back to entries, and it is large.
    paths = (path for path in sorted(site.rglob("*.html")) if path.relative_to(site).parts[0] != "_modules")
    return {path: Page(path) for path in paths}


def local(page: Path, links: set[str]) -> Iterator[tuple[str, Path, str]]:
    """Yields (link, file, anchor) of the links that lead to the site itself."""
    for link in links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            yield link, (page.parent / unquote(parts.path)).resolve() if parts.path else page, unquote(parts.fragment)


def section(page: str, anchor: str) -> str:
    """Returns the part of a page from a heading's anchor to the next heading of its level."""
    _, _, behind = page.partition(f'id="{anchor}"')
    return behind.partition("<h2>")[2].partition("<h2>")[0]


def test_no_link_is_broken(pages):
    broken = [
        f"{path.name}: {link}"
        for path, page in pages.items()
        for link, file, anchor in local(path, page.links | page.fetched)
        if not file.is_file() or (anchor and file in pages and anchor not in pages[file].anchors)
    ]
    assert broken == []


def test_nothing_comes_from_elsewhere(site, pages):
    fetched = {(path.name, one) for path, page in pages.items() for one in page.fetched}
    assert [one for one in sorted(fetched) if urlsplit(one[1]).scheme or urlsplit(one[1]).netloc] == []
    sheets = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert sheets
    assert [name for name, text in sheets.items() if re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text)] == []


def test_every_page_is_reached_from_the_first(site, pages):
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in pages and path not in reached:
            reached.add(path)
            waiting += [file for _, file, _ in local(path, pages[path].links)]
    expected = {site / path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "docs").glob("*.md")}
    expected |= {site / REFERENCE / f"{path.stem}.html" for path in (ROOT / REFERENCE).glob("*.rst")}
    assert expected - reached == set()
    assert set(pages) - reached == {site / "search.html"}  # the box leads there


@pytest.mark.parametrize(("room", "name"), PUBLIC, ids=lambda given: given)
def test_every_public_name_has_an_entry(pages, site, room, name):
    assert f"plait.{room}.{name}" in pages[site / REFERENCE / f"{room}.html"].anchors


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_described_with_its_options(site, name):
    told = section((site / REFERENCE / "commands.html").read_text(encoding="utf-8"), f"plait-{name}")
    assert told, f"there is no section plait {name}"
    options = [option for one in COMMANDS[name].params for option in one.opts if option.startswith("--")]
    assert [option for option in options if f">{option}</span>" not in told] == []


def test_every_route_is_described(site):
    from plait.apps.server.openapi import document

    page = (site / REFERENCE / "http.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h2>([A-Z]+ /[^<]*)", page)
    routes = [f"{way.upper()} {path}" for path, ways in document()["paths"].items() for way in ways]
    assert headings == routes


def test_indented_lines_of_a_docstring_are_code(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    with_code = import_module("docstrings").with_code
    lines = ["Reads it.", "", "    read(a)", "", "    read(b)", "", "Args:", "    a: a path,", "", "        or two."]
    assert list(with_code(lines)) == [*lines[:2], "::", "", *lines[2:]]
    assert list(with_code([])) == []


def test_a_warning_is_an_error(tmp_path):
    """A copy of the configuration beside one page whose link leads nowhere."""
    for path in (ROOT / "docs" / "site").glob("*.py"):
        (tmp_path / "docs" / "site").mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / "site" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "docs" / "site" / "static").mkdir()
    (tmp_path / "docs" / "site" / "static" / "site.css").touch()
    (tmp_path / "README.md").write_text("# plait\n\n[away](docs/nowhere.md)\n", encoding="utf-8")
    said = build(tmp_path, tmp_path / "out")
    assert "cross-reference target not found: 'docs/nowhere.md'" in said
    assert said.endswith("ended with 1")


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("eval", 'href="#plait.eval.Report" title="plait.eval.evaluate.Report"'),  # not the report of plait.index
        ("eval", 'href="retriever.html#plait.retriever.Retriever" title="plait.retriever.retriever.Retriever"'),
    ],
)
def test_a_name_leads_to_its_public_entry(site, page, link):
    assert link in (site / REFERENCE / f"{page}.html").read_text(encoding="utf-8")


def test_no_signature_shows_what_is_no_python(site):
    shown = [path.read_text(encoding="utf-8") for path in (site / REFERENCE).glob("*.html")]
    assert [text for text in shown if "&lt;factory" in text or "&lt;function" in text] == []

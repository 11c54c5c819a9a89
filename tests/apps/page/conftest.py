"""The page in a headless Chromium, over a real index. `PLAIT_CHROMIUM` names a browser that is not on the path."""

from __future__ import annotations

import os
import shutil

import pytest
from plait.retriever import Retriever

from .standin import serving

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script> honey & <b>bees</b> {{7*7}} ${7*7}'
TEXTS = {
    "bees": ("Bees", "Bees make honey from nectar. " * 3 + "In winter they live on it."),
    "snow": ("", "Snow falls in winter and melts in spring, in cities and in the country."),
    "ships": ("Ships & seas", "Ships cross the winter sea, loaded with honey and wine."),
    "<b>evil</b>": (HOSTILE, HOSTILE),
    **{
        f"city-{i:02}": (f"City number {i}", f"The city of number {i} has a history of trade. " * (1 + i % 4))
        for i in range(24)
    },
}
METADATA = {
    "bees": {
        "year": 2021, "lang": "en", "tags": ["insects", "food"], "seen": "2021-05-01", "peer": True,
        "url": "https://example.org/bees",
    },
    "snow": {"year": 2019, "lang": "en", "peer": False},
    "ships": {"year": 2020, "lang": "it's", "tags": ["trade"]},
    "<b>evil</b>": {"<i>key</i>": HOSTILE, "url": "javascript:window.pwned=1"},
}  # fmt: skip
DOCUMENTS = [
    {"id": id, "title": title, "text": text, "metadata": METADATA.get(id, {})} for id, (title, text) in TEXTS.items()
]
FIELDS = {"year": "integer", "lang": "text", "tags": "text[]", "seen": "date", "peer": "boolean"}


def chromium():
    named = os.environ.get("PLAIT_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    return found or pytest.fail("no Chromium was found: install one (Debian: chromium), or name it in PLAIT_CHROMIUM")


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: scripts/test --browser installs it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def retriever(tmp_path_factory):
    with Retriever.create(tmp_path_factory.mktemp("page") / "garden.index", fields=FIELDS) as made:
        made.add(DOCUMENTS)
        made.commit()
        yield made


@pytest.fixture
def server(retriever):
    with serving(retriever) as server:
        yield server


@pytest.fixture
def open_page(browser, server):
    """Opens the page: open_page("?q=honey", width=390) returns it once it knows the index. Its errors fail the test."""
    contexts, problems = [], []

    def opened(search="", *, width=1280, height=900, url=None, ready=True, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if refused(said) else None)
        page.goto((url or server.url) + search)
        if ready:
            until(page, "document.getElementById('about').textContent !== ''")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def refused(said):
    """Whether a message of the console is of a script's fault or of the policy; a status of 4xx is told there too."""
    return said.type in ("error", "warning") and "Failed to load resource" not in said.text


def until(page, condition):
    """Waits until an expression holds; Playwright's own way evaluates strings in the page, which its policy forbids."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never came true: {condition}")


def ask(page, query):
    """Searches and waits for the answer."""
    page.fill("#query", query)
    fetch(page, lambda: page.press("#query", "Enter"))


def fetch(page, work):
    """Runs something that searches, and waits until its answer is shown."""
    with page.expect_response("**/api/search"):
        work()
    until(page, "!document.getElementById('hits').hasAttribute('aria-busy')")


def ids(page):
    return page.eval_on_selector_all("#hits > li", "all => all.map(one => one.dataset.id)")

"""The page as `plait serve` serves it: the same contract as the stand-in's, its policy, its errors, its token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request

import pytest
from plait.retriever import Retriever

from .conftest import DOCUMENTS, FIELDS, ask, fetch, ids, until

pytestmark = pytest.mark.browser
MAIN = [sys.executable, "-c", "from plait.apps.cli import main; main()"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of `plait serve` over an index of its own, and the index's folder."""
    pytest.importorskip("uvicorn", reason="needs plait[serve]")
    folder = tmp_path_factory.mktemp("served") / "garden.index"
    with Retriever.create(folder, fields=FIELDS) as made:
        made.add(DOCUMENTS)
    command = [*MAIN, "serve", str(folder), "--port", "0"]
    env = {name: value for name, value in os.environ.items() if name != "PLAIT_TOKEN"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        told = process.stderr.readline()
        yield re.search(r"http://[^/\s]+/", told)[0], folder
        process.terminate()


def test_hits_explanations_and_more_are_those_of_the_retriever(open_page, served):
    url, folder = served
    with Retriever.open(folder) as retriever:
        expected = retriever.search("honey in winter cities", k=20, explain=True)
    page = open_page(url=url)
    ask(page, "honey in winter cities")
    assert ids(page) == [hit.id for hit in expected[:10]]
    page.click("#hits > li:first-child .explain")
    figures = page.locator("#hits > li:first-child .found .figure").all_inner_texts()
    assert sorted(figures) == sorted(f"{match.contribution:.2f}" for match in expected[0].matches)
    assert "feedback" in page.inner_text("#answer-facts")
    fetch(page, lambda: page.click("#more"))
    until(page, "document.querySelectorAll('#hits > li').length === 20")
    assert ids(page) == [hit.id for hit in expected]


def test_filters_and_weights_reach_the_index(open_page, served):
    url, folder = served
    page = open_page("?q=winter&filter=year+%3E%3D+2020&w=lexical:1,learned:0,dense:0", url=url)
    page.wait_for_selector("#hits article")
    with Retriever.open(folder) as retriever:
        hits = retriever.search("winter", filter="year >= 2020", weights={"lexical": 1, "learned": 0, "dense": 0})
    assert ids(page) == [hit.id for hit in hits]
    page.fill("#expression", "yeer > 2")
    fetch(page, lambda: page.press("#expression", "Enter"))
    page.wait_for_selector("#trouble:not([hidden])")
    assert "yeer" in page.inner_text("#trouble p")


def test_its_policy_lets_only_its_own_files_in(served):
    with urllib.request.urlopen(served[0]) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy or "default-src 'none'" in policy
    assert "unsafe" not in policy

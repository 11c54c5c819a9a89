"""The search page in a headless Chromium: milliseconds from Enter to the first results on the screen.

The page itself measures, from the key to the frame after the results are in the document. Needs playwright and a
Chromium (`PLAIT_CHROMIUM` names one that is not on the path).
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait, nor playwright)

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import common
from serving import served  # pins threads: before plait

FIRST_MS, DOCUMENTS = 150.0, 60_000
WIDTHS = {"1280 px wide": (1280, 900), "390 px wide": (390, 844)}
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
TAKE = """() => {
    const found = performance.getEntriesByName('plait:search');
    if (!found.length) return null;
    performance.clearMeasures();
    return found.at(-1).duration;
}"""


def main() -> None:
    """Measures and writes the tables."""
    args = _arguments()
    common.existing(args.index / "plait.db", "an index that `plait index` made")
    where = common.machine()
    from plait.retriever import Retriever

    with closing(Retriever.open(args.index)) as retriever:
        queries = [" ".join(document.full_text.split()[:6]) for document in retriever.sample(args.queries)]
        facts = retriever.info()
    found = {name: [] for name in WIDTHS}
    for _ in range(args.repeats):  # each with a server and a browser that have answered nothing before
        for name, size in WIDTHS.items():
            with served(args.index, queue=8) as port, _page(size) as page:
                found[name].append([_searched(page, query) for query in _opened(page, port, queries)])
    print(_report(args, where, facts, found))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=3)
    parser.add_argument("index", type=Path, metavar="INDEX", help="an index; it is only read")
    parser.add_argument("--queries", type=int, default=20, help="how many, from the first words of documents")
    return parser.parse_args()


@contextmanager
def _page(size: tuple[int, int]) -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        common.fail("this needs playwright: pip install playwright")
    browser = os.environ.get("PLAIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        common.fail("no Chromium was found: install one, or name it in PLAIT_CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=list(QUIET))
        yield chromium.new_page(viewport={"width": size[0], "height": size[1]})
        chromium.close()


def _opened(page: Any, port: int, queries: Sequence[str]) -> Sequence[str]:
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#intro:not([hidden])")
    return queries


def _searched(page: Any, query: str) -> tuple[float, float]:
    """Returns the milliseconds that the page measured, and those of the server within."""
    with page.expect_response("**/api/search") as answer:
        page.fill("#query", query)
        page.press("#query", "Enter")
    while (took := page.evaluate(TAKE)) is None:
        page.wait_for_timeout(10)
    return took, answer.value.json()["took"]


def _report(
    args: argparse.Namespace, where: Mapping[str, Any], facts: Mapping[str, Any],
    found: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
) -> str:  # fmt: skip
    rows, checks = [], []
    for name, turns in found.items():
        each, first = [took for turn in turns for took, _ in turn], [turn[0][0] for turn in turns]
        server = statistics.median(took for turn in turns for _, took in turn)
        middle, slow = statistics.median(each), common.percentile(each, 0.95)
        rows.append((name, *(f"{ms:.0f}" for ms in (middle, slow, max(each), statistics.median(first), server))))
        if facts["documents"] >= DOCUMENTS:
            checks.append(common.Check(f"first results, {name}, median", middle, FIRST_MS, "ms", digits=0))
            checks.append(common.Check(f"first results, {name}, 95 of 100", slow, FIRST_MS, "ms", digits=0))
    columns = ("", "median ms", "95 of 100", "slowest", "the first search of all", "the server, median")
    notes = [
        f"{args.queries} queries (the first words of documents), {args.repeats} times with a fresh server and browser; "
        "browser and server share the machine's cores. k and explanations as the page asks for them.",
        f"Index: {facts['documents']:,} documents, strands {', '.join(facts['strands'])}.",
    ]
    return common.write(
        "page", args.results, where=where, about="From Enter to the first results on the page of `plait serve`.",
        raw={"found": found}, checks=checks, tables=[common.Table("In Chromium", columns, rows)], notes=notes,
    )  # fmt: skip


if __name__ == "__main__":
    main()

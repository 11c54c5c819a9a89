"""The report of an evaluation as one HTML page that opens anywhere: no script, no link, no file beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from .evaluate import TIES, Report, environment
from .many import Evaluation
from .moves import DOCUMENTS, MOST, TOP, Moved, Shift
from .pictures import COLOURS, Dot, curve_svg, intervals_svg, wins_svg
from .report import Table, curve, lacking, out_of_reach, overview, significance, summary

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5f6670; --line: #d5d9de; --page: #fff; --panel: #f5f6f8;
  --win: #1a7f4b; --loss: #c0392b; --s0: #1f6fb2; --s1: #c2571a; --s2: #2b8a3e; --s3: #8a3ab9; --s4: #a8860b;
  --s5: #b83280; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #9aa3ad; --line: #3a4048; --page: #14161a;
  --panel: #1d2025; --win: #4cc38a; --loss: #f0796b; --s0: #6cb2f0; --s1: #f0975c; --s2: #6fcf83; --s3: #c58bf2;
  --s4: #e0c050; --s5: #f08cc0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h3 { margin-top: 1.5rem; }
p.note { color: var(--soft); } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
table.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
details { background: var(--panel); border-radius: 6px; padding: .4rem .8rem; margin: .4rem 0; }
summary { cursor: pointer; } .won { color: var(--win); } .lost { color: var(--loss); }
svg { width: 100%; max-width: 720px; height: auto; display: block; margin: .5rem 0; }
svg text { font: 12px system-ui, sans-serif; fill: var(--text); } svg .tick { fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: 1; fill: none; } svg .axis { stroke: var(--soft); fill: none; }
svg .line { fill: none; stroke-width: 2; } svg .win { fill: var(--win); } svg .loss { fill: var(--loss); }
"""
_SERIES = "".join(
    f"svg .s{i} circle {{ fill: var(--s{i}); }} svg .s{i} .line {{ stroke: var(--s{i}); }}\n" for i in range(COLOURS)
)

_TESTS = (
    "p: paired randomisation test over queries, two-sided. p Holm: adjusted for all systems and collections of the "
    "same measure. p t test: Student's, paired, not adjusted. Intervals: 95 %, bootstrap percentile, over queries."
)
_MEANS = (
    "Rows of several means take each collection as one pair: they say whether a difference holds beyond these "
    "collections. With n of them no p-value can be below 2 / 2^n, so with five or fewer none reaches 0.05."
)
_COSTS = (
    "ms/query: the whole batch by the number of queries. p50 and p95: single queries, one after the other, after a "
    "warm-up, encoding included, k = 10. FLOPS: multiplications expected for a query and a document in the sparse "
    "strands."
)
_CUT = (
    f"Told: the {MOST} greatest wins and the {MOST} greatest losses, of each {DOCUMENTS} documents that moved, at most."
)
_SIZES = (
    "Nested random subsets, each with all {judged:,} judged documents; a strand's ranking of the whole corpus, "
    "restricted to the subset. IDF and average length stay those of the whole corpus."
)


def html_report(evaluation: Evaluation) -> str:
    """Returns the page: tables, intervals, wins and losses, size curves, tests, moved documents, facts."""
    names = ", ".join(report.name for report in evaluation.reports)
    body = "".join(_body(evaluation, names))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>plait eval: {escape(names)}</title>\n<style>{_STYLE}{_SERIES}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def _body(evaluation: Evaluation, names: str) -> Iterator[str]:
    yield f"<h1>Evaluation on {escape(names)}</h1>\n"
    measure = evaluation.measures[0]
    yield _note(f"Systems are compared with {evaluation.baseline}, by {measure} unless a table says otherwise.")
    if len(evaluation.reports) > 1:
        yield f"<h2>{escape(measure)} by collection</h2>\n{_table(overview(evaluation))}"
    for report in evaluation.reports:
        yield from _collection(evaluation, report)
    if evaluation.compared.comparisons:
        yield f"<h2>Differences from {escape(evaluation.baseline)}</h2>\n{_table(significance(evaluation))}"
        yield _note(f"{_TESTS} {evaluation.compared.samples:,} samples, seed {evaluation.compared.seed}.")
        if (caution := out_of_reach(evaluation.compared)) is not None:
            yield _note(f"{caution}.")
        if len(evaluation.reports) > 1:
            yield _note(_MEANS)
    yield from _facts(evaluation)


def _collection(evaluation: Evaluation, report: Report) -> Iterator[str]:
    about, measure = report.dataset, evaluation.measures[0]
    title = f"{report.name} {about['split']}, {about['queries']:,} queries, {about['judgements']:,} judgements"
    yield f"<h2>{escape(title)}</h2>\n{_table(summary(report))}"
    yield from (_note(f"{sentence}.") for sentence in lacking(report))
    if "bytes" in report.index:
        size = f"{report.index['documents']:,} documents, {report.index['bytes'] / 1e6:,.1f} MB on disk"
        yield _note(f"Index: {size}. {_COSTS}")
    intervals = evaluation.compared.intervals[report.name]
    dots = [
        Dot(system.name, system.scores.means[measure], *intervals[system.name][measure])
        for system in report.systems
        if measure in intervals[system.name]
    ]
    if dots:
        yield f"<h3>{escape(measure)} with 95 % intervals</h3>\n{intervals_svg(dots, measure)}\n"
    if report.name in evaluation.curves:
        found = evaluation.curves[report.name]
        means = {strand: values[measure] for strand, values in found.means.items()}
        yield f"<h3>{escape(measure)} against corpus size</h3>\n{curve_svg(found.sizes, means, measure)}\n"
        yield _table(curve(evaluation, report.name)) + _note(_SIZES.format(judged=found.judged))
    yield from _wins(evaluation, report)


def _wins(evaluation: Evaluation, report: Report) -> Iterator[str]:
    measure, old = evaluation.measures[0], report[evaluation.baseline]
    for system in report.systems:
        if system is old:
            continue
        values, before = system.scores.per_query[measure], old.scores.per_query[measure]
        gains = [value - before[query] for query, value in values.items()]
        won, lost = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
        yield f"<h3>{escape(system.name)} against {escape(old.name)}, by query</h3>\n"
        yield _note(f"{won:,} better, {len(gains) - won - lost:,} equal, {lost:,} worse, of {len(gains):,}.")
        yield wins_svg(gains, system.name) + "\n"
        if won or lost:
            yield _note(_CUT)
        yield from (_shift(each) for each in evaluation.shifts.get(report.name, ()) if each.system == system.name)


def _shift(shift: Shift) -> str:
    kind = "won" if shift.after > shift.before else "lost"
    head = f"<b>{escape(shift.query)}</b> {escape(shift.text)}"
    change = f'<span class="{kind}">{shift.after - shift.before:+.4f}</span> ({shift.before:.4f} → {shift.after:.4f})'
    rows = Table(("document", "title", "relevance", "before", "after"), tuple(_moved(each) for each in shift.documents))
    return f"<details><summary>{change} {head}</summary>{_table(rows)}</details>\n"


def _moved(moved: Moved) -> tuple[str, ...]:
    absent = "–" if (moved.relevance or 0) > 0 else f"below {TOP}"
    ranks = (absent if rank is None else str(rank) for rank in (moved.before, moved.after))
    return (moved.id, moved.title[:100], "not judged" if moved.relevance is None else str(moved.relevance), *ranks)


def _facts(evaluation: Evaluation) -> Iterator[str]:
    yield "<h2>What was measured</h2>\n"
    for report in evaluation.reports:
        part = report.part()
        rows = {name: part[name] for name in ("dataset", "index", "settings", "encoders")}
        rows |= {f"system {s.name}": s.file or s.options for s in report.systems if s.file or s.options is not None}
        yield f"<h3>{escape(report.name)}</h3>\n{_listed(rows)}"
    yield f"<h3>Environment</h3>\n{_listed({'ties': TIES, **environment()})}"


def _listed(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in _flat(facts))
    return f'<table class="facts">{rows}</table>\n'


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name} ")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{prefix}{name}", shown


def _table(table: Table) -> str:
    head = _row("th", table.columns)
    return f'<div class="scroll"><table>{head}{"".join(_row("td", row) for row in table.rows)}</table></div>\n'


def _row(cell: str, values: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(value)}</{cell}>' for value in values)}</tr>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>\n'

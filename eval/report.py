"""What was measured, as rows of text, for whatever draws tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .comparing import Compared
from .evaluate import Report, System
from .many import Evaluation

MEAN = "mean"


class Table(NamedTuple):
    """Column names, and rows of the same length."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


# What a system costs: column -> how a cell is filled; a column in which no system has a value is left out.
COSTS: dict[str, Callable[[Report, System], str]] = {
    "ms/query": lambda report, system: "" if system.latency else _milliseconds(report, system),
    "p50 ms": lambda _, system: f"{system.latency.p50:.2f}" if system.latency else "",
    "p95 ms": lambda _, system: f"{system.latency.p95:.2f}" if system.latency else "",
    "terms/doc": lambda _, system: f"{system.cost.document_terms:.1f}" if system.cost else "",
    "terms/query": lambda _, system: f"{system.cost.query_terms:.1f}" if system.cost else "",
    "FLOPS": lambda _, system: f"{system.cost.flops:.3f}" if system.cost else "",
}


def summary(report: Report) -> Table:
    """Returns one row a system: its means to four digits, and what it costs as far as that is known."""
    cells = {name: [cell(report, system) for system in report.systems] for name, cell in COSTS.items()}
    known = {name: column for name, column in cells.items() if any(column)}
    rows = (
        (system.name, *_means(report, system), *(column[i] for column in known.values()))
        for i, system in enumerate(report.systems)
    )
    return Table(("system", *report.measures, *known), tuple(rows))


def overview(evaluation: Evaluation, measure: str | None = None) -> Table:
    """Returns one row a system: its mean on each collection by one measure, the first unless said, and over all."""
    name = evaluation.measures[0] if measure is None else measure
    systems = list(dict.fromkeys(system.name for report in evaluation.reports for system in report.systems))
    means = evaluation.means
    rows = (
        (
            system,
            *(f"{r[system].scores.means[name]:.4f}" if system in r else "" for r in evaluation.reports),
            f"{means[system][name]:.4f}" if system in means else "",
        )
        for system in systems
    )
    return Table(("system", *(report.name for report in evaluation.reports), MEAN), tuple(rows))


def significance(evaluation: Evaluation, measure: str | None = None) -> Table:
    """Returns one row a comparison with the baseline, by one measure, or by all."""
    compared = [each for each in evaluation.compared.comparisons if measure in (None, each.measure)]
    columns = (
        "collection", "system", "measure", "difference", "95 % interval", "p", "p Holm", "p t test", "wins/ties/losses",
    )  # fmt: skip
    rows = (
        (
            each.collection or f"{len(evaluation.reports)} means",
            each.system,
            each.measure,
            f"{each.difference:+.4f}",
            "" if each.interval is None else f"{each.interval[0]:+.4f} .. {each.interval[1]:+.4f}",
            probability(each.randomisation),
            "" if each.holm is None else probability(each.holm),
            "" if each.t_test is None else probability(each.t_test),
            f"{each.wins}/{each.ties}/{each.losses}",
        )
        for each in compared
    )
    return Table(columns, tuple(rows))


def lacking(report: Report) -> list[str]:
    """Returns a sentence for each finished run without hits for some judged queries."""
    queries = report.dataset["queries"]
    return [
        f"{system.name} has no hits for {system.unanswered:,} of {queries:,} judged queries; each counts as 0"
        for system in report.systems
        if system.unanswered and system.seconds is None
    ]


def out_of_reach(compared: Compared) -> str | None:
    """Returns a sentence where no p-value after Holm's correction can be small, for want of samples."""
    if not compared.out_of_reach:
        return None
    least = min(compared.family / (1 + compared.samples), 1.0)
    return (
        f"p Holm is over {compared.family:,} comparisons of a measure: with {compared.samples:,} samples none can be "
        f"below {least:.2f}, whatever differs; draw more with --samples"
    )


def curve(evaluation: Evaluation, collection: str, measure: str | None = None) -> Table:
    """Returns one row a corpus size: each strand's mean by one measure, the first unless said."""
    name = evaluation.measures[0] if measure is None else measure
    found = evaluation.curves[collection]
    rows = (
        (f"{size:,}", *(f"{means[name][i]:.4f}" for means in found.means.values()))
        for i, size in enumerate(found.sizes)
    )
    return Table(("documents", *found.means), tuple(rows))


def per_query(report: Report, measure: str | None = None) -> Table:
    """Returns one row a query: each system's value of one measure, the report's first unless said."""
    name = report.measures[0] if measure is None else measure
    values = [system.scores.per_query[name] for system in report.systems]
    queries = values[0] if values else {}
    rows = ((query, *(f"{each[query]:.4f}" for each in values)) for query in queries)
    return Table(("query", *(system.name for system in report.systems)), tuple(rows))


def markdown(table: Table) -> str:
    """Returns a table in Markdown, as READMEs hold it."""
    lines = [table.columns, ("---", *("---:",) * (len(table.columns) - 1)), *table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def probability(p: float) -> str:
    """Returns a p-value as people read it."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"


def _means(report: Report, system: System) -> tuple[str, ...]:
    return tuple(f"{system.scores.means[measure]:.4f}" for measure in report.measures)


def _milliseconds(report: Report, system: System) -> str:
    queries = report.dataset.get("queries")
    return f"{1000 * system.seconds / queries:.2f}" if system.seconds is not None and queries else ""

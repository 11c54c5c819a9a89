"""A report as rows of text, for whatever draws tables."""

from __future__ import annotations

from typing import NamedTuple

from .evaluate import Report, System


class Table(NamedTuple):
    """Column names, and rows of the same length."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def summary(report: Report) -> Table:
    """Returns one row a system: its means to four digits, and milliseconds a query where it was searched."""
    timed = any(system.seconds is not None for system in report.systems)
    columns = ("system", *report.measures, *(("ms/query",) if timed else ()))
    return Table(columns, tuple(_row(report, system, timed=timed) for system in report.systems))


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


def _row(report: Report, system: System, *, timed: bool) -> tuple[str, ...]:
    means = (f"{system.scores.means[measure]:.4f}" for measure in report.measures)
    return (system.name, *means, *((_milliseconds(report, system),) if timed else ()))


def _milliseconds(report: Report, system: System) -> str:
    queries = report.dataset.get("queries")
    return f"{1000 * system.seconds / queries:.2f}" if system.seconds is not None and queries else ""

"""The model card: what a model is, on what it was trained, how good it is, and what it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .report import TrainReport

CARD, PICTURE = "MODEL_CARD.md", "losses.svg"
EARLIER = "losses-{}.svg"  # of the trainings that made the base, from 1
_WIDTH, _PANEL, _LEFT, _TOP = 640, 150, 56, 26


def write_card(report: TrainReport) -> Path:
    """Writes the card and its picture into the report's folder; returns the card."""
    (report.out / PICTURE).write_text(picture(report.losses), encoding="utf-8")
    for number, one in enumerate(report.before, 1):
        (report.out / EARLIER.format(number)).write_text(picture(one["losses"]), encoding="utf-8")
    path = report.out / CARD
    path.write_text(card(report), encoding="utf-8")
    return path


def card(report: TrainReport) -> str:
    """Returns the text of MODEL_CARD.md."""
    files = [(f"`{name}`", f"`{digest}`") for name, digest in report.files.items()]
    parts = [
        f"# {report.recipe['name']}, from {report.base['name']}",
        _about(report),
        "## Data\n\n" + _data(report.data),
        "## Evaluation\n\n" + _evaluation(report.evaluation),
        "## Training\n\n" + _training(report.losses, report.history, PICTURE),
        *(_earlier(number, one) for number, one in enumerate(report.before, 1)),
        "## Limits\n\n" + _limits(report),
        "## Recipe\n\n" + _code(report.recipe, "json"),
        "## Files\n\n" + _rows(("file", "SHA-256"), files),
        "## Software\n\n" + _rows(("what", "version"), list(report.environment.items())),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _about(report: TrainReport) -> str:
    about = [("base", report.base["name"]), ("licence", report.licence)]
    return _rows(("", ""), [*about, *_facts(report.dense, report.steps, report.recipe, report.command)])


def _facts(dense: str, steps: int, recipe: Mapping[str, Any], command: str) -> list[tuple[str, Any]]:
    return [
        ("strand", recipe["strand"]),
        ("dense half", dense),
        ("steps", f"{steps:,}"),
        ("seed", recipe["seed"]),
        ("command", f"`{command}`" if command else "not given"),
    ]


def _data(data: Mapping[str, Any]) -> str:
    columns = ("source", "kind", "pairs", "left out")
    rows = [
        (one["name"], one["kind"], f"{one['pairs']:,}", ", ".join(f"{n:,} {why}" for why, n in one["dropped"].items()))
        for one in data["sources"]
    ]
    totals = (
        f"{data['pairs']:,} pairs over {data['documents']:,} documents were trained on; {data['held_out']:,} pairs "
        f"were held out, {data['excluded']:,} left out because their texts are in excluded collections."
    )
    return f"{_rows(columns, rows)}\n{totals}"


def _evaluation(evaluation: Sequence[Mapping[str, Any]]) -> str:
    if not evaluation:
        return "Not evaluated."
    rows = []
    for one in evaluation:
        for system, value in one["ndcg"].items():
            low, high = one["intervals"][system]
            costs = [one[name] if system == "learned" else None for name in ("active", "query_terms", "flops")]
            shown = ["" if cost is None else f"{cost:.1f}" if cost >= 10 else f"{cost:.3g}" for cost in costs]
            rows.append((one["name"], system, f"{value:.4f}", f"{low:.4f} to {high:.4f}", *shown))
    columns = ("collection", "system", "nDCG@10", "95 % interval", "terms a document", "terms a query", "FLOPS")
    return (
        f"{_rows(columns, rows)}\nIntervals are bootstraps over queries. FLOPS is the sum over terms of "
        'P(a query has it) x P(a document has it). The collection "held out" is made of pairs kept from training.'
    )


def _earlier(number: int, report: Mapping[str, Any]) -> str:
    """Returns the section of a training that made the base."""
    parts = [
        f"## Before: {report['recipe']['name']}, from {report['base']['name']}",
        _rows(("", ""), _facts(report["dense"], report["steps"], report["recipe"], report["command"])),
        _data(report["data"]),
        _evaluation(report["evaluation"]),
        _training(report["losses"], report["history"], EARLIER.format(number)),
        _code(report["recipe"], "json"),
    ]
    return "\n\n".join(part.rstrip() for part in parts)


def _training(losses: Sequence[Mapping[str, float]], history: Sequence[Mapping[str, Any]], shown: str) -> str:
    lines = [f"![Loss and active terms over the steps]({shown})"]
    if losses:
        first, last = losses[0], losses[-1]
        names = [name for name in last if name != "step"]
        lines.append(
            _rows(("", "at first", "at last"), [(name, f"{first[name]:.4g}", f"{last[name]:.4g}") for name in names])
        )
    if history:
        rows = [
            (f"{one['step']:,}", one["name"], *(f"{name} {value:.4f}" for name, value in one["ndcg"].items()))
            for one in history
        ]
        width = max(map(len, rows))
        filled = [(*row, *("",) * (width - len(row))) for row in rows]
        lines.append(_rows(("step", "collection", *("",) * (width - 2)), filled))
    return "\n\n".join(lines)


def _limits(report: TrainReport) -> str:
    recipe = _sparse(report)
    read, reads = recipe["max_length"], recipe["encoder_length"]
    told = [
        f"In training {read} tokens of a document were read; the encoder reads {reads}.",
        "It knows the languages and subjects of its base and its training data, and no others.",
        "The evaluation above says how it does on those collections; on others it may do better or worse.",
        "What its training data gets wrong about people or the world, its rankings may repeat.",
    ]
    if recipe["strand"] == "learned" and recipe["query_side"] != "encoded":
        alone = "Beside a dense strand queries" if recipe.get("query_expansion") else "Queries"
        told.append(f"{alone} are not expanded: a word that neither the query nor any document brings is not found.")
    if recipe["strand"] == "learned" and recipe["query_side"] == "idf" and recipe["idf"] == "corpus":
        told.append("Query weights are the inverse document frequencies of the index: a tiny index has poor ones.")
    return "\n".join(f"- {line}" for line in told)


def _sparse(report: TrainReport) -> Mapping[str, Any]:
    """Returns the recipe of the sparse half, whoever trained it; that of the report where there is none."""
    recipes = [report.recipe, *(one["recipe"] for one in reversed(report.before))]
    return next((recipe for recipe in recipes if recipe["strand"] == "learned"), report.recipe)


def _rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(_cell(value) for value in line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _code(value: Any, language: str) -> str:
    return f"```{language}\n{json.dumps(value, indent=1, ensure_ascii=False)}\n```"


# The picture


def picture(losses: Sequence[Mapping[str, float]]) -> str:
    """Returns an SVG of loss and active terms, where there are any, over the steps; legible on light and dark."""
    names = [name for name in ("loss", "active") if losses and name in losses[0]]
    height = max(1, len(names)) * (_PANEL + _TOP) + 24
    style = (
        "text{font:12px sans-serif;fill:#57606a}.axis{stroke:#8c959f}.line{fill:none;stroke:#0969da;stroke-width:1.5}"
        "@media(prefers-color-scheme:dark){text{fill:#9da7b1}.axis{stroke:#6e7681}.line{stroke:#58a6ff}}"
    )
    labels = {"loss": "loss", "active": "active terms a document"}
    panels = [_panel(losses, name, labels[name], _TOP + row * (_PANEL + _TOP)) for row, name in enumerate(names)]
    foot = f'<text x="{_WIDTH - 12}" y="{height - 6}" text-anchor="end">steps</text>' if names else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="Loss and active terms over the steps"><style>{style}</style>'
        f"{''.join(panels)}{foot}</svg>\n"
    )


def _panel(losses: Sequence[Mapping[str, float]], name: str, label: str, top: int) -> str:
    steps, values = [point["step"] for point in losses], [point[name] for point in losses]
    low, high = min(0.0, *values), max(values)
    span, length = (high - low) or 1.0, (steps[-1] - steps[0]) or 1
    right, bottom = _WIDTH - 12, top + _PANEL
    points = " ".join(
        f"{_LEFT + (step - steps[0]) / length * (right - _LEFT):.1f},{bottom - (value - low) / span * _PANEL:.1f}"
        for step, value in zip(steps, values, strict=True)
    )
    return (
        f'<text x="{_LEFT}" y="{top - 8}">{label}</text>'
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<path class="axis" fill="none" d="M{_LEFT} {top}V{bottom}H{right}"/>'
        f'<polyline class="line" points="{points}"/>'
        f'<text x="{_LEFT}" y="{bottom + 14}">{steps[0]:,.0f}</text>'
        f'<text x="{right}" y="{bottom + 14}" text-anchor="end">{steps[-1]:,.0f}</text>'
    )

"""The page of sparse.py: tables, targets, pictures."""

# pyright: reportMissingImports=false
# (matplotlib need not be there)

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
from contest import RECALL
from engines import TABLE

Found = Sequence[Mapping[str, Any]]

FASTER, FASTER_THAN_QDRANT = 3.0, 2.0  # than exact peers; than qdrant-edge where queries are long
GROWTH = 6.0  # at most, from the smallest to the largest generated collection
YARDSTICK_AT = {10: 1.0, 100: 1.0, 1000: 2.0}  # how much faster than the yardstick, by k
MEMORY = 3.0  # times the finished index, at most, while building
EXACT = RECALL  # of an exact engine: BMP leaves out some documents that tie with others
PLAIT = "plait"
OURS = (PLAIT, "plait, reordered")  # the first that was measured is compared with the others
ORDERS = {
    "file": "in the order of their file",
    "random": "in a random order",
    "plait": "to all engines in the order that plait gives them when it reorders",
}
LONG = "long"


def written(args: argparse.Namespace, where: Mapping[str, Any], found: Found, absent: Sequence[str]) -> str:
    """Writes the page, the raw values and the picture; returns the page."""
    drawn = picture(found, args.results / f"{args.name}.svg")
    return common.write(
        args.name, args.results, where=where,
        about="Sparse top-k of learned vectors, one thread, the same impacts and queries for all.",
        raw={"repeats": args.repeats, "order": args.order, "absent": list(absent), "contests": list(found)},
        checks=list(checks(found)), tables=list(_tables(found)), notes=_notes(args, found, absent, drawn),
    )  # fmt: skip


# Targets


def checks(found: Found) -> Iterator[common.Check]:
    """Yields what has a target."""
    for contest in found:
        for cell in contest["cells"]:
            yield from _cell_checks(contest, cell)
        yield from _build_checks(contest, found)
    yield from _growth_checks(found)


def _cell_checks(contest: Mapping[str, Any], cell: Mapping[str, Any]) -> Iterator[common.Check]:
    columns, ours = cell["columns"], _ours(cell)
    if ours is None:
        return
    title = f"{_named(contest)}, {_terms(cell)}, k={cell['k']}"
    qdrant = {name for name, each in columns.items() if each["engine"] == "qdrant" and cell["form"] == LONG}
    peers = {name: each for name, each in columns.items() if _is_exact_peer(each) and name not in qdrant}
    if peers:
        best = min(peers, key=lambda name: peers[name]["mean"])
        yield _faster(f"{title}: {best} / plait", peers[best]["mean"] / ours, FASTER)
    for name in qdrant:
        yield _faster(f"{title}: {name} / plait", columns[name]["mean"] / ours, FASTER_THAN_QDRANT)
    if good := [name for name, each in columns.items() if _is_seismic(each) and each["recall"] >= RECALL]:
        best = min(good, key=lambda name: columns[name]["mean"])
        yield _faster(f"{title}: {best} / plait", columns[best]["mean"] / ours, 1)
    if "yardstick" in columns:
        yield _faster(f"{title}: yardstick / plait", columns["yardstick"]["mean"] / ours, YARDSTICK_AT[cell["k"]])


def _ours(cell: Mapping[str, Any]) -> float | None:
    """Returns plait's mean milliseconds in a cell."""
    return next((cell["columns"][name]["mean"] for name in OURS if name in cell["columns"]), None)


def _reordered(cell: Mapping[str, Any]) -> float | None:
    """Returns plait's mean milliseconds in a cell, with reordered documents where both were measured."""
    return next((cell["columns"][name]["mean"] for name in reversed(OURS) if name in cell["columns"]), None)


def _is_exact_peer(column: Mapping[str, Any]) -> bool:
    """Returns whether a column counts as an exact peer: one that is published as a package, and found everything."""
    engine = TABLE[column["engine"]]
    return bool(engine.peer) and engine.exact and column["recall"] >= EXACT


def _is_seismic(column: Mapping[str, Any]) -> bool:
    return column["engine"].startswith("seismic")


def _faster(what: str, ratio: float, target: float) -> common.Check:
    return common.Check(what, ratio, target, "x", at_least=True, digits=2)


def _build_checks(contest: Mapping[str, Any], found: Found) -> Iterator[common.Check]:
    builds = contest["builds"]
    ours = next((builds[name] for name in ("plait", "plait-reordered") if name in builds), None)
    if ours is None:
        return
    title = f"{_named(contest)}, building"
    for name in ("bmp", "bmp-128", "seismic", "seismic-pruned"):
        if name in builds:
            ratio = builds[name]["seconds"] / ours["seconds"]
            yield _faster(f"{title}: {name} / plait", ratio, 1)
    if contest["bits"] == 8 and contest["documents"] == max(each["documents"] for each in found):
        grown = (ours["peak"] - ours["before"]) / ours["bytes"]
        yield common.Check(f"{title}: memory / index of plait", grown, MEMORY, "x", digits=2)


def _growth_checks(found: Found) -> Iterator[common.Check]:
    grown = sorted((each for each in found if each["generated"] and each["bits"] == 8), key=lambda c: c["documents"])
    if len(grown) < 2:
        return
    small, large = ({(c["form"], c["k"]): c for c in grown[at]["cells"]} for at in (0, -1))
    sizes = f"{grown[0]['documents']:,} to {grown[-1]['documents']:,} documents"
    for key, cell in large.items():
        after, before = _reordered(cell), _reordered(small.get(key, {"columns": {}}))
        if before and after:
            what = f"{sizes}, {_terms(cell)}, k={key[1]}: growth"
            yield common.Check(what, after / before, GROWTH, "x", digits=2)


# Tables


def _tables(found: Found) -> Iterator[common.Table]:
    yield _overview(found)
    yield _touched(found)
    for contest in found:
        yield _builds(contest)
        yield from (_cell_table(contest, cell) for cell in contest["cells"])


def _overview(found: Found) -> common.Table:
    cells = [(contest, cell) for contest in found for cell in contest["cells"]]
    names = list(dict.fromkeys(name for _, cell in cells for name in cell["columns"]))
    rows = [
        (f"{_named(contest)}, {_terms(cell)}, k={cell['k']}", *(_mean(cell["columns"].get(name)) for name in names))
        for contest, cell in cells
    ]
    return common.Table("Mean milliseconds a query", ("", *names), rows)


def _touched(found: Found) -> common.Table:
    """Returns the share of postings that plait looks at, by collection, as documents came and reordered."""
    cells = [(contest, cell) for contest in found for cell in contest["cells"]]
    names = [name for name in OURS if any(name in cell["columns"] for _, cell in cells)]
    rows = [
        (f"{_named(contest)}, {_terms(cell)}, k={cell['k']}", *(_share(cell["columns"].get(name)) for name in names))
        for contest, cell in cells
    ]
    return common.Table("Share of the postings that lie in windows that are looked at", ("", *names), rows)


def _share(column: Mapping[str, Any] | None) -> str:
    return f"{column['touched']:.1%}" if column and "touched" in column else ""


def _mean(column: Mapping[str, Any] | None) -> str:
    if column is None:
        return ""
    short = "" if column["recall"] >= 0.9995 else f" ({column['recall']:.3f})"
    return f"{column['mean']:.3f}{short}"


def _builds(contest: Mapping[str, Any]) -> common.Table:
    rows = [_build_row(name, facts, contest["postings"]) for name, facts in contest["builds"].items()]
    columns = (
        "",
        "build, s",
        "index, MiB",
        "bytes a posting",
        "memory that building adds, MiB",
        "opened, MiB",
        "searched, MiB",
        "",
    )
    return common.Table(f"{_named(contest)}: {contest['postings']:,} postings, indexes", columns, rows)


def _build_row(name: str, facts: Mapping[str, Any], postings: int) -> tuple[str, ...]:
    return (
        f"{name}{' (kept)' if facts.get('kept') else ''}",
        f"{facts['seconds']:.1f}",
        _mebibytes(facts["bytes"]),
        f"{facts['bytes'] / max(1, postings):.2f}",
        _mebibytes(facts["peak"] - facts["before"]),
        _mebibytes(facts.get("resident", 0)),
        _mebibytes(facts.get("searched", 0)),
        ", ".join(f"{key} {value}" for key, value in facts.get("facts", {}).items()),
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _cell_table(contest: Mapping[str, Any], cell: Mapping[str, Any]) -> common.Table:
    title = f"{_named(contest)}, {_terms(cell)}, k={cell['k']}: {cell['postings']:,.0f} postings a query, ms"
    ours = _ours(cell)
    rows = [
        (
            f"{name}{_settings(each)}", *(f"{each[figure]:.3f}" for figure in ("mean", "p50", "p95", "p99")),
            f"{each['recall']:.4f}", f"{each['mean'] / ours:.2f}" if ours else "",
        )
        for name, each in cell["columns"].items()
    ]  # fmt: skip
    return common.Table(title, ("", "mean", "p50", "p95", "p99", "recall", "times plait"), rows)


def _settings(column: Mapping[str, Any]) -> str:
    several = len(next(iter(TABLE[column["engine"]].columns.values()))) > 1
    return f", {', '.join(f'{k} {v:g}' for k, v in column['settings'].items())}" if several else ""


def _named(contest: Mapping[str, Any]) -> str:
    made = "generated" if contest["generated"] else "real"
    bits = "" if contest["bits"] == 8 else f", {contest['bits']} bits"
    return f"{contest['documents']:,} {made}{bits}"


def _terms(cell: Mapping[str, Any]) -> str:
    return f"{cell['terms']:.0f} terms"


def _notes(args: argparse.Namespace, found: Found, absent: Sequence[str], drawn: str) -> list[str]:
    failed = [f"{_named(c)}: {name}, {why}" for c in found for name, why in c["failed"].items()]
    order = ORDERS[args.order]
    taking_part = dict.fromkeys(name for contest in found for name in contest["builds"])
    return [
        "Every engine indexes the same whole impacts: learned weights in 8 bits as plait quantises them (6 where the "
        "title says so), and is asked with the same whole query weights, the largest of a query 255 (32 with 6 bits). "
        "What an engine rounds further is said below and shows in its recall.",
        "Short queries: the first words of held-out passages' titles, wordpieces weighted by IDF. Long ones: vectors "
        f"of held-out passages cut to their 40 largest weights. Documents are added {order}.",
        "Recall is the share of the top k whose exact score, by a product in scipy of the same whole numbers, is at "
        "least the k-th best; so ties count as right. It is shown in brackets where it is not 1.",
        f"One process an engine, all on one core, one thread; each answers all queries in turn, {args.repeats} rounds "
        f"after one that is checked and not counted; an engine that took more than {args.budget:g} s in a cell "
        "sits out after two rounds. What is timed is the bare call, in the engine's process; a query's median over "
        "the rounds counts.",
        "Building is timed with one thread, from arrays that are mapped from files to an index on disk; memory is the "
        "largest resident set while building, input pages that were read included, less that of the process before. "
        "`kept` indexes were built before. Opened and searched: the resident set then, mapped pages that were read "
        "included.",
        *(TABLE[name].about for name in taking_part),
        *([f"Absent: {', '.join(absent)}."] if absent else []),
        *(f"Failed: {each}." for each in failed),
        drawn,
    ]


# The picture


def picture(found: Found, path: Path) -> str:
    """Draws latency against documents and against recall, where matplotlib is installed; returns what to say of it."""
    if importlib.util.find_spec("matplotlib") is None:
        return "No picture: matplotlib is not installed (`pip install matplotlib`)."
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "plait", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    forms = list(dict.fromkeys(cell["form"] for contest in found for cell in contest["cells"]))
    if not forms:
        return "No picture: nothing was measured."
    figure, axes = pyplot.subplots(2, len(forms), figsize=(7 * len(forms), 9), squeeze=False, layout="constrained")
    colours = _colours(found)
    for column, form in enumerate(forms):
        _draw_growth(axes[0][column], found, form, colours)
        _draw_recall(axes[1][column], found, form, colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return f"Picture: [{path.name}]({path.name})."


def _colours(found: Found) -> dict[str, Any]:
    """Returns a colour for every column, the same in all panels."""
    from matplotlib import colormaps

    names = dict.fromkeys(name for contest in found for cell in contest["cells"] for name in cell["columns"])
    return {name: colormaps["tab20"](number % 20) for number, name in enumerate(names)}


def _draw_growth(axes: Any, found: Found, form: str, colours: Mapping[str, Any], k: int = 10) -> None:
    """Draws mean latency against documents; generated collections are drawn hollow."""
    lines: dict[tuple[str, bool], list[tuple[int, float]]] = {}
    for contest in found:
        for cell in contest["cells"]:
            if cell["form"] == form and cell["k"] == k and contest["bits"] == 8:
                for name, each in cell["columns"].items():
                    points = lines.setdefault((name, contest["generated"]), [])
                    points.append((contest["documents"], each["mean"]))
    named: set[str] = set()
    for (name, made), points in lines.items():
        sizes, means = zip(*sorted(points), strict=True)
        style, width = ("--" if "reordered" in name else "-"), (2.5 if name.startswith(PLAIT) else 1)
        label, fill = ("_" if name in named else name), ("white" if made else colours[name])
        marker = {"marker": "o", "markersize": 4, "markerfacecolor": fill}
        axes.plot(sizes, means, style, color=colours[name], linewidth=width, label=label, **marker)
        named.add(name)
    axes.set(xscale="log", yscale="log", xlabel="documents (hollow: generated)", ylabel="ms a query")
    axes.set_title(f"{form} queries, k={k}, one thread")
    axes.grid(visible=True, which="both", linewidth=0.2)
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_recall(axes: Any, found: Found, form: str, colours: Mapping[str, Any], k: int = 10) -> None:
    """Draws mean latency against recall on the largest collection with settings to choose from, all of them as dots."""
    contests = [c for c in found if c["bits"] == 8 and any(cell["sweeps"] for cell in c["cells"])] or found
    contest = max(contests, key=lambda each: each["documents"])
    for cell in (each for each in contest["cells"] if (each["form"], each["k"]) == (form, k)):
        for name, each in cell["columns"].items():
            tried = cell["sweeps"].get(name, [])
            axes.plot([t["recall"] for t in tried], [t["first"] for t in tried], ".", color=colours[name])
            axes.plot([each["recall"]], [each["mean"]], "o", color=colours[name])
            place = {"fontsize": 6, "xytext": (-5, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
            axes.annotate(name, (each["recall"], each["mean"]), **place)
    axes.set(yscale="log", xlabel=f"recall at {k}", ylabel="ms a query", title=f"{form} queries, {_named(contest)}")
    axes.grid(visible=True, which="both", linewidth=0.2)

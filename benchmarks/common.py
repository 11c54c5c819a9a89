"""What the benchmarks share: pinned threads, alternating timings, and result files that say where they were made.

Imports nothing but the standard library, so that a script can pin threads before numpy and its kind are loaded.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

RESULTS = Path(__file__).parent / "results"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
PACKAGES = (
    "plait", "numpy", "scipy", "numba", "faiss-cpu", "onnxruntime", "tokenizers", "PyStemmer", "ir-measures", "bm25s",
    "torch", "transformers", "sentence-transformers",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """A figure beside its target.

    Attributes:
        what: what was measured.
        figure: what was reached.
        target: what it must be.
        unit: of both.
        at_least: whether the target is a lower bound; else an upper one.
        digits: decimal places to show.
    """

    what: str
    figure: float
    target: float
    unit: str = ""
    at_least: bool = False
    digits: int = 3

    @property
    def met(self) -> bool:
        """Returns whether the target is reached; the figure is taken as it is, not as it is shown."""
        return self.figure >= self.target if self.at_least else self.figure <= self.target

    def row(self) -> tuple[str, ...]:
        """Returns the check as a row of the table of targets."""
        sign, unit = ("≥" if self.at_least else "≤"), (f" {self.unit}" if self.unit else "")
        met = "yes" if self.met else "**no**"
        return self.what, f"{self.figure:.{self.digits}f}{unit}", f"{sign} {self.target:g}{unit}", met


@dataclass(frozen=True)
class Table:
    """A table of a result page: the first column names, the others hold figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Returns the table in Markdown."""
        rule = ("---", *("---:",) * (len(self.columns) - 1))
        lines = "".join(f"| {' | '.join(row)} |\n" for row in (self.columns, rule, *self.rows))
        return f"## {self.title}\n\n{lines}"


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names a default where there is one to name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default is None or action.default is False
        return action.help if nothing else super()._get_help_string(action)


def parser(description: str, *, repeats: int | None = None) -> argparse.ArgumentParser:
    """Returns a parser with the options that every script has."""
    made = argparse.ArgumentParser(description=description, formatter_class=Help, allow_abbrev=False)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder for the result files")
    if repeats is not None:
        made.add_argument("--repeats", type=int, default=repeats, help="repetitions; the median counts")
    return made


def fail(message: str) -> NoReturn:
    """Ends the script with a message and exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def existing(path: Path, what: str) -> Path:
    """Returns the path where there is something; else ends the script and says what was expected."""
    if not path.exists():
        fail(f"{path} does not exist; expected {what}")
    return path


def pin_threads(threads: int, *, cores: bool = False) -> None:
    """Limits the thread pools of libraries that are loaded after this call, and of child processes.

    Args:
        threads: how many.
        cores: also keep the process on that many cores, where the system can.
    """
    if threads < 1:
        fail(f"threads must be at least 1, not {threads}")
    if loaded := {"numpy", "numba", "onnxruntime"} & set(sys.modules):
        raise RuntimeError(f"threads are pinned too late: {', '.join(sorted(loaded))} loaded already")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if cores and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < threads:
            fail(f"{threads} threads were asked for; this process may use {len(allowed)} cores")
        os.sched_setaffinity(0, allowed[:threads])


def timed(work: Callable[[], object]) -> float:
    """Returns the seconds that one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternating(
    contestants: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Returns the seconds of every repetition, by contestant.

    Contestants take turns, so that what disturbs the machine disturbs all of them.
    """
    if repeats < 1:
        fail(f"repeats must be at least 1, not {repeats}")
    if warm_up:
        for work in contestants.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, work in contestants.items():
            seconds[name].append(timed(work))
    return seconds


def medians(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the median of each contestant's values."""
    return {name: statistics.median(each) for name, each in values.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value below or at which this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered) + 0.5) - 1))]


def machine() -> dict[str, Any]:
    """Returns the hardware and the versions of what matters; no names of hosts or paths."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of the packages that matter and are installed."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def command_line() -> str:
    """Returns the command as it was given, paths shortened to their last part."""
    words = [Path(word).name if os.sep in word else word for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def write(
    name: str, folder: Path, *, about: str, raw: Mapping[str, Any], checks: Sequence[Check] = (),
    tables: Sequence[Table] = (), notes: Sequence[str] = (), where: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Writes NAME.json with all raw values and NAME.md with the tables; returns the page's text.

    Args:
        name: of the benchmark.
        folder: where to.
        about: one sentence on what was measured.
        raw: every value, as JSON.
        checks: figures with targets.
        tables: further figures.
        notes: what a reader must know to read them.
        where: `machine()` as it was at the start; its load is then not our own.
    """
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    facts = {"date": date, "command": command_line(), "machine": where or machine()}
    judged = [{**asdict(check), "met": check.met} for check in checks]
    page = _page(name, about, facts, checks, tables, notes)
    folder.mkdir(parents=True, exist_ok=True)
    values = {"benchmark": name, **facts, "checks": judged, **raw}
    (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    return page


def _page(
    name: str, about: str, facts: Mapping[str, Any], checks: Sequence[Check], tables: Sequence[Table],
    notes: Sequence[str],
) -> str:  # fmt: skip
    where = facts["machine"]
    hardware = f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, load {where['load']} at the start"
    software = ", ".join(f"{package} {version}" for package, version in where["packages"].items())
    head = [
        f"# {name}\n\n{about}\n",
        f"- Date: {facts['date']}\n- Machine: {hardware}\n- Software: {where['system']}, Python {where['python']}, "
        f"{software}\n- Command: `{facts['command']}`\n- Raw values: [{name}.json]({name}.json)\n",
    ]
    targets = [Table("Targets", ("what", "reached", "target", "met"), [c.row() for c in checks])] if checks else []
    remarks = ["\n".join(f"- {note}" for note in notes) + "\n"] if notes else []
    return "\n".join([*head, *(table.text() for table in (*targets, *tables)), *remarks])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)

"""`plait compact`, what is compacted without being asked for, and `plait check`."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..index import Problem, Report, Snapshot, StoreError, Writer
from ..index import check as check_index
from ..retriever import LevelError, Retriever, parents
from . import console
from .console import counted

# Merging all segments after so many documents were added is paid for when it copies at most so many times as many.
PAYS = 8
# From so many documents on, merging takes long enough to be told of.
MANY = 500_000


def compact(index: Path, *, anew: bool, as_json: bool) -> None:
    """Merges the segments of an index, without its encoders, and says what came of it."""
    before = _facts(index)
    with closing(Writer(index)) as writer:
        merged = writer.compact(anew=anew)
    after = _facts(index)
    facts = {
        "index": str(index), "merged": merged, "segments": len(after["segments"]), "documents": after["documents"],
        "dropped": before["deleted"] - after["deleted"], "bytes": after["bytes"],
    }  # fmt: skip
    if as_json:
        console.print_json(facts)
    elif not merged:
        console.out.print(f"{index} is compact already", soft_wrap=True)
    else:
        sizes = " instead of ".join(f"{found['bytes'] / 1e6:,.1f} MB" for found in (after, before))
        done = f"merged {counted(merged, 'segment')}, dropped {counted(facts['dropped'], 'deleted document')}"
        now = f"{index} has {counted(facts['segments'], 'segment')} and takes {sizes}"
        console.out.print(f"{done}; {now}", soft_wrap=True)


def check(index: Path, *, as_json: bool) -> bool:
    """Reads a whole index, says what is wrong with it, and returns whether nothing is."""
    report, held = _checked(index)
    if as_json:
        problems = [asdict(problem) for problem in report.problems]
        facts = {
            "files": report.files, "bytes": report.bytes, "documents": report.documents,
            **({"parents": held} if held else {}), "problems": problems,
        }  # fmt: skip
        console.print_json({"index": str(index), **facts})
    else:
        for problem in report.problems:
            console.out.print(f"{problem.where}: {problem.what}; {problem.advice}", soft_wrap=True)
        documents = f"{report.documents - held:,} documents{f', {held:,} parents' if held else ''}"
        read = f"{documents} and {report.files:,} files, {report.bytes / 1e6:,.1f} MB"
        verdict = counted(len(report.problems), "problem") if report.problems else "all as it was written"
        console.out.print(f"{index}: {read}: {verdict}", soft_wrap=True)
    return not report.problems


def _checked(index: Path) -> tuple[Report, int]:
    """Returns what a check finds in an index and in its level of parents, and how many documents are those parents."""
    report, level = check_index(index), index / parents.NAME
    if not (level / "plait.db").exists():
        return report, 0
    more = check_index(level)
    again = f"remove {level}, and make it again with `plait index ... --parents`"
    problems = [replace(problem, where=f"{parents.NAME}: {problem.where}", advice=again) for problem in more.problems]
    if not problems:
        problems = _behind(index)
    counts = (report.files + more.files, report.bytes + more.bytes, report.documents + more.documents)
    return Report(*counts, (*report.problems, *problems)), more.documents


def _behind(index: Path) -> list[Problem]:
    """Returns what is wrong with a level of parents that is whole, but of other passages than the index has."""
    with suppress(StoreError):  # the index's own problems tell of it
        with closing(Snapshot(index)) as snapshot, suppress(LevelError):
            parents.level_of(snapshot)
            return []
        what = "the level is behind the passages, so that searches by `parents` are refused"
        return [Problem(parents.NAME, what, "bring it up to date with `plait index ... --parents` or the next commit")]
    return []


def merge_where_it_pays(retriever: Retriever, added: int) -> None:
    """Compacts an index of several segments, if that is little work beside having encoded what was just added."""
    facts = retriever.info()
    if len(facts["segments"]) > 1 and facts["documents"] <= PAYS * added:
        if facts["documents"] >= MANY:
            console.note(f"merging {len(facts['segments']):,} segments; the index can be searched already")
        try:
            retriever.compact()
        except StoreError as error:  # what was added is there nevertheless
            console.note(f"the segments were not merged: {error}")


def _facts(index: Path) -> dict[str, Any]:
    with closing(Snapshot(index)) as snapshot:
        return snapshot.facts()

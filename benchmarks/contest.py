"""Drives the engines of sparse.py: a process each, builds one after another, searches in turns, answers checked."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from engines import TABLE
from numpy.typing import NDArray
from rows import Rows, load

KS = (10, 100, 1000)
RECALL = 0.97  # that an approximate engine must reach
CHUNK = 16_384  # documents that the oracle multiplies at a time
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class EngineError(RuntimeError):
    """An engine could not do what it was asked for."""


class Process:
    """An engine in a process of its own, kept on one core.

    Args:
        name: of the engine.
        python: that has its package.
        core: where it runs.
        log: file that takes what it prints.

    Attributes:
        resident: its resident bytes, when it last said so.
    """

    def __init__(self, name: str, python: str, core: int, log: Path) -> None:
        self.name, self.resident = name, 0
        command, here, pipe = [python, "-m", "engines", name, str(core)], Path(__file__).parent, subprocess.PIPE
        with log.open("a") as sink:
            self._process = subprocess.Popen(command, cwd=here, stdin=pipe, stdout=pipe, stderr=sink, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Returns the answer to a request.

        Raises:
            EngineError: the engine failed, or its process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        answer = json.loads(line) if line else {"error": f"its process ended with status {self._process.wait()}"}
        if "error" in answer:
            raise EngineError(answer["error"].splitlines()[0])
        self.resident = answer.get("resident", self.resident)
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Collection:
    """Documents to be indexed, and what all engines' answers are compared with.

    Attributes:
        name: as it is called in tables.
        folder: with `documents/` (rows), and for each form of query `FORM/` (rows) and `FORM.npy`, the oracle's scores.
        size: documents.
        postings: of all documents.
        generated: whether the documents are made up.
        bits: of the largest impact.
    """

    name: str
    folder: Path
    size: int
    postings: int
    generated: bool
    bits: int

    @property
    def documents(self) -> Path:
        """Returns the folder of the rows."""
        return self.folder / "documents"

    def queries(self, form: str) -> Path:
        """Returns the folder of queries of a form."""
        return self.folder / form

    def best_scores(self, form: str) -> NDArray[np.int64]:
        """Returns the oracle's best scores, int64 (queries, largest k), descending, 0 where fewer documents match."""
        path, queries = self.folder / f"{form}.npy", load(self.queries(form))
        if not path.exists() or len(np.load(path, mmap_mode="r")) != queries.size:
            np.save(path, best_scores(load(self.documents), queries, max(KS)))
        return np.load(path)


def best_scores(documents: Rows, queries: Rows, k: int) -> NDArray[np.int64]:
    """Returns each query's k best scores: a product in scipy of the same whole numbers."""
    width = max(documents.width, queries.width)
    weights = np.ascontiguousarray(queries.matrix(np.int32, width).T.toarray())
    best = np.zeros((queries.size, k), np.int32)
    for start in range(0, documents.size, CHUNK):
        scores = (documents.part(start, start + CHUNK).matrix(np.int32, width) @ weights).T
        both = np.concatenate([best, scores], axis=1)
        best = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
    return -np.sort(-best.astype(np.int64), axis=1)


def exact_scores(documents: Rows, query: tuple[Any, Any], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the scores of some documents for a query."""
    table = np.zeros(65_536, np.int64)
    table[query[0]] = query[1]
    rows = documents.taken(found)
    products = np.append(table[rows.terms] * rows.values, 0)
    return np.add.reduceat(products, rows.starts[:-1]) * (np.diff(rows.starts) > 0)


def recall(documents: Rows, queries: Rows, best: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Returns the mean share of the top k that was found; of documents that tie at the end any is right.

    Args:
        documents: the collection.
        queries: that were answered.
        best: the oracle's scores.
        found: int64 (queries, k), document numbers, -1 where an answer was shorter.
    """
    k, shares = found.shape[1], []
    for i in range(queries.size):
        wanted = int(np.count_nonzero(best[i, :k]))
        if wanted:
            answer = np.unique(found[i][found[i] >= 0])
            scores = exact_scores(documents, queries.row(i), answer)
            shares.append(min(1.0, np.count_nonzero(scores >= best[i, wanted - 1]) / wanted))
    return float(np.mean(shares)) if shares else 1.0


@dataclass(frozen=True)
class Setup:
    """How a contest is held.

    Attributes:
        pythons: the Python of each engine that takes part.
        core: where engines run.
        repeats: rounds in which every contestant answers all queries.
        budget: seconds that a contestant may take in a cell; past it, and after two rounds, it sits out.
        work: folder for logs and indexes.
        keep: whether a peer's index that is there already is used again.
    """

    pythons: Mapping[str, str]
    core: int
    repeats: int
    budget: float
    work: Path
    keep: bool

    def process(self, name: str) -> Process:
        """Returns a new process of an engine."""
        return Process(name, self.pythons[name], self.core, self.work / f"{name}.log")


def held(collection: Collection, names: Sequence[str], forms: Sequence[str], setup: Setup) -> dict[str, Any]:
    """Returns what a collection's contest gave: builds and cells by engine, and what failed."""
    failed: dict[str, str] = {}
    builds = {name: facts for name in names if (facts := _built(collection, name, setup, failed))}
    opened = {name: process for name in builds if (process := _opened(collection, name, setup, builds, failed))}
    cells = []
    try:
        for form in forms:
            for k in KS:
                if k <= collection.size:
                    cells.append(_cell(collection, opened, form, k, setup, failed))
                    _say(f"{collection.name}, {form}, k={k}", cells[-1])
        for name, process in opened.items():
            builds[name]["searched"] = process.resident
    finally:
        for process in opened.values():
            process.close()
    return {
        "collection": collection.name, "documents": collection.size, "postings": collection.postings,
        "generated": collection.generated, "bits": collection.bits, "builds": builds, "cells": cells, "failed": failed,
    }  # fmt: skip


def _built(collection: Collection, name: str, setup: Setup, failed: dict[str, str]) -> dict[str, Any] | None:
    """Returns what building cost: now, or, where that index is kept, when it was built."""
    folder = collection.folder / name
    facts = folder / "built.json"
    if setup.keep and TABLE[name].peer and facts.exists():
        return {**json.loads(facts.read_text()), "kept": True}
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "index").mkdir(parents=True)
    print(f"{collection.name}: {name} builds", file=sys.stderr, flush=True)
    process = setup.process(name)
    try:
        found = process.ask(do="build", documents=str(collection.documents), index=str(folder / "index"))
    except EngineError as error:
        failed[name] = f"building: {error}"
        return None
    finally:
        process.close()
    facts.write_text(json.dumps(found))
    return found


def _opened(
    collection: Collection, name: str, setup: Setup, builds: Mapping[str, dict[str, Any]], failed: dict[str, str]
) -> Process | None:
    process = setup.process(name)
    try:
        builds[name].update(process.ask(do="open", index=str(collection.folder / name / "index")))
    except EngineError as error:
        failed[name] = f"opening: {error}"
        process.close()
        return None
    return process


def _cell(
    collection: Collection, opened: dict[str, Process], form: str, k: int, setup: Setup, failed: dict[str, str]
) -> dict[str, Any]:
    """Returns the figures of one kind of query and k, by column."""
    judge = _Judge(collection, form, k, setup.work)
    chosen, sweeps = {}, {}
    for name in list(opened):
        try:
            for column, candidates in TABLE[name].columns.items():
                tried = [judge.tried(opened[name], settings) for settings in candidates]
                chosen[column] = (name, _best(tried))
                if len(tried) > 1:
                    sweeps[column] = tried
        except EngineError as error:
            failed[name] = f"{form}, k={k}: {error}"
            opened.pop(name).close()
    turns = {column: (opened[name], tried["settings"]) for column, (name, tried) in chosen.items() if name in opened}
    seconds = _rounds(turns, judge, setup)
    columns = {
        column: {"engine": chosen[column][0], **chosen[column][1], **_figures(each)} for column, each in seconds.items()
    }
    for each in columns.values():
        if each["engine"].startswith("plait"):
            each["touched"] = opened[each["engine"]].ask(do="touched", queries=judge.path, k=k)["share"]
    return {"form": form, "k": k, "queries": judge.queries.size, **judge.facts, "columns": columns, "sweeps": sweeps}


class _Judge:
    """Asks for answers in a cell and compares them with the oracle's."""

    def __init__(self, collection: Collection, form: str, k: int, work: Path) -> None:
        self.documents, self.queries = load(collection.documents), load(collection.queries(form))
        self.best, self.k, self.path = collection.best_scores(form), k, str(collection.queries(form))
        self.out = work / "answers.npy"
        frequency = np.bincount(self.documents.terms, minlength=65_536)
        self.facts = {
            "terms": self.queries.terms.size / self.queries.size,
            "postings": float(frequency[self.queries.terms].sum() / self.queries.size),
        }

    def tried(self, process: Process, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns recall and mean milliseconds of one round with these settings."""
        seconds = self.seconds(process, settings, str(self.out))
        found = recall(self.documents, self.queries, self.best, np.load(self.out))
        return {"settings": dict(settings), "recall": found, "first": 1000 * statistics.fmean(seconds)}

    def seconds(self, process: Process, settings: Mapping[str, Any], out: str | None = None) -> list[float]:
        """Returns the seconds that every query took."""
        return process.ask(do="search", queries=self.path, k=self.k, settings=settings, out=out)["seconds"]


def _best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the quickest of those that reach the wanted recall, or that of the largest recall."""
    enough = [each for each in tried if each["recall"] >= RECALL]
    return min(enough, key=lambda each: each["first"]) if enough else max(tried, key=lambda each: each["recall"])


def _rounds(turns: Mapping[str, tuple[Process, Any]], judge: _Judge, setup: Setup) -> dict[str, list[list[float]]]:
    """Returns the seconds of every round and query, by column; contestants take turns, slow ones fewer."""
    seconds: dict[str, list[list[float]]] = {column: [] for column in turns}
    for number in range(setup.repeats):
        for column, (process, settings) in turns.items():
            if number < 2 or sum(map(sum, seconds[column])) < setup.budget:
                seconds[column].append(judge.seconds(process, settings))
    return seconds


def _figures(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Returns milliseconds: of each query its median over the rounds, of these the mean and percentiles."""
    medians = (1000 * np.median(np.array(rounds), axis=0)).tolist()
    return {
        "mean": statistics.fmean(medians),
        **{name: common.percentile(medians, share) for name, share in SHARES.items()},
        "largest": max(medians),
        "rounds": [1000 * statistics.fmean(each) for each in rounds],
    }


def _say(title: str, cell: Mapping[str, Any]) -> None:
    figures = [f"{column} {each['mean']:.3f} ({each['recall']:.3f})" for column, each in cell["columns"].items()]
    print(f"{title}: {', '.join(figures)}", file=sys.stderr, flush=True)

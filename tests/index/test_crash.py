"""Killed, interrupted, out of room: what was committed is there, what was not is not, and the index opens."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from plait.index import FilterError, Snapshot, StoreError, Writer, check, files
from plait.retriever import Document

from .making import DIM, add, made, vectors

ROOT = Path(__file__).resolve().parents[2]
KILLS = 200

# What the killed writer does, one commit after the other: every operation is known from its number.
OPERATIONS = (
    *("add", "add", "upsert", "delete", "declare", "add", "upsert", "compact", "undeclare"),
    *("add", "replace and delete", "swap fields", "reorder", "undeclare last"),
)


def actions(number):
    """Returns what an operation does, in order: each a verb and its arguments."""
    return {
        "add": [("put", [f"{number}-{i}" for i in range(3)])],
        "upsert": [("put", [f"{number - 1}-{i}" for i in range(2)])],
        "delete": [("delete", [f"{number - 3}-0", f"{number - 8}-1", f"{number - 3}-2"])],
        "replace and delete": [("put", [f"{number - 1}-1", f"{number}-0"]), ("delete", [f"{number - 5}-1"])],
        "declare": [("declare", "year", "integer"), ("declare", "tags", "text[]")],
        "undeclare": [("undeclare", "year")],
        "swap fields": [("undeclare", "tags"), ("put", [f"{number - 2}-2"]), ("declare", "grade", "number")],
        "undeclare last": [("undeclare", "grade")],
        "compact": [("compact", None)],
        "reorder": [("compact", lambda forward: np.random.default_rng(number).permutation(forward.size))],
    }[OPERATIONS[number % len(OPERATIONS)]]


def document(id, number):
    """Returns a document as an operation writes it; one in three has neither year nor tags."""
    given = {"grade": number / 8}
    if not id.endswith("1"):
        given |= {"year": 2000 + number, "tags": [f"t{number % 5}", id]}
    return Document(id=id, text=f"{number} of {id}", metadata=given)


def perform(writer, number):
    """Does one operation and leaves the commit to the caller."""
    for verb, *given in actions(number):
        if verb == "put":
            sparse, dense = vectors(number, len(given[0]))
            writer.add([document(id, number) for id in given[0]], sparse, dense)
        elif verb == "compact":
            writer.compact(reorder=given[0])
        else:
            getattr(writer, verb)(*given)


class State(NamedTuple):
    """What an index holds: (text, metadata) by id, and the types of the declared fields by name."""

    documents: dict
    fields: dict


@cache
def state_after(count):
    """Returns what an index holds after so many operations."""
    if not count:
        return State({}, {})
    documents, fields = map(dict, state_after(count - 1))
    for verb, *given in actions(count - 1):
        if verb == "put":
            documents |= {id: (document(id, count - 1).text, document(id, count - 1).metadata) for id in given[0]}
        elif verb == "delete":
            documents = {id: one for id, one in documents.items() if id not in given[0]}
        elif verb == "declare":
            fields[given[0]] = given[1]
        elif verb == "undeclare":
            del fields[given[0]]
    return State(documents, fields)


# Imports once, then starts a writer for each line it reads, and says when that one is dead.
STARTER = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    import pytest
    from plait.index import Writer, policy
    from tests.index.making import without_syncing
    from tests.index.test_crash import perform
    policy.FANOUT = 3  # so that commits merge segments often
    without_syncing(pytest.MonkeyPatch())

    def say(*words):
        os.write(1, f"{' '.join(map(str, words))}\\n".encode())

    def write(folder, number):
        say("pid", os.getpid())
        writer = Writer(folder)
        while True:
            perform(writer, number)
            say("begin", number)
            writer.commit()
            say("done", number)
            number += 1

    for line in sys.stdin:
        folder, number = line.rsplit(maxsplit=1)
        child = os.fork()
        if not child:
            write(Path(folder), int(number))
        os.waitpid(child, 0)
        say("dead")
""")


class Victim:
    """Starts writers and kills each at a random moment: after some lines of what it says, and a while."""

    def __init__(self):
        command = [sys.executable, "-c", STARTER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.starter = subprocess.Popen(command, cwd=ROOT, bufsize=1, **pipes)
        self.pace = 0.05  # seconds between two lines, as it goes on this machine just now

    def run_and_die(self, folder, number):
        """Returns the number that follows the last operation that was acknowledged."""
        self.starter.stdin.write(f"{folder} {number}\n")
        pid = int(self.starter.stdout.readline().split()[1])
        said = []
        for _ in range(random.randint(0, 3)):
            before = time.monotonic()
            said.append(self.starter.stdout.readline())
            self.pace = 0.8 * self.pace + 0.2 * (time.monotonic() - before)
        time.sleep(random.uniform(0, 2 * self.pace))
        os.kill(pid, signal.SIGKILL)
        said += iter(self.starter.stdout.readline, "dead\n")
        assert all(line.startswith(("begin ", "done ")) for line in said)
        return max([int(line.split()[1]) + 1 for line in said if line.startswith("done ")], default=number)

    def close(self):
        """Lets the starter go."""
        with self.starter:
            self.starter.stdin.close()


def checked(folder):
    """Returns what an index holds, after a check of all that it says of itself, its totals and its answers."""
    assert check(folder).problems == ()
    with closing(Snapshot(folder)) as snapshot:
        found = snapshot.positions(list(snapshot.all_ids()))
        rows = snapshot.rows(list(found.values()))
        everything = snapshot.dense_search(np.ones(DIM, np.float32), 10_000)
        assert sorted(everything.positions.tolist()) == sorted(found.values())
        fields = {field.name: field.type for field in snapshot.fields}
    with closing(sqlite3.connect(folder / "plait.db")) as connection:
        counters = dict(connection.execute("SELECT name, value FROM counter"))
        counted = connection.execute("SELECT count(*), coalesce(sum(length), 0) FROM document").fetchone()
        assert (counters["documents"], counters["tokens"]) == counted
        dead = connection.execute("SELECT coalesce(sum(dead), 0), coalesce(sum(size), 0) FROM segment").fetchone()
        assert dead[0] == connection.execute("SELECT count(*) FROM tombstone").fetchone()[0] == dead[1] - counted[0]
    return State({row.id: (row.text, row.metadata) for row in rows}, fields)


def check_columns(folder, state):
    """Compares the filter columns, line by line, with what the declared fields make of the documents."""
    expected, items = {}, set()
    for id, (_, metadata) in state.documents.items():
        values = {name: metadata[name] for name in state.fields if name in metadata}
        lists = {name: value for name, value in values.items() if isinstance(value, list)}
        expected[id] = {**values, **{name: len(value) for name, value in lists.items()}}
        items |= {(id, name, item) for name, value in lists.items() for item in value}
    with closing(sqlite3.connect(folder / "plait.db")) as connection:
        names = {f"f{number}": name for number, name in connection.execute("SELECT number, name FROM field")}
        table = connection.execute("SELECT document.id, attribute.* FROM attribute LEFT JOIN document USING (position)")
        # What was undeclared leaves a column under its number, empty.
        columns = [names.get(told[0], told[0]) for told in table.description[2:]]
        kept = {id: {n: v for n, v in zip(columns, values, strict=True) if v is not None} for id, _, *values in table}
        sql = "SELECT id, name, value FROM item LEFT JOIN document USING (position) LEFT JOIN field ON number = field"
        assert (kept, set(connection.execute(sql))) == (expected, items)


# A filter for each field, and which documents it lets through.
FILTERS = {
    "year": ("year IS NULL OR NOT year BETWEEN 2020 AND 2070", lambda found: not 2020 <= found.get("year", 0) <= 2070),
    "tags": ("tags CONTAINS ANY ('t1', 't4')", lambda found: bool({"t1", "t4"} & set(found.get("tags", ())))),
    "grade": ("grade > 3 AND grade <= 12.5", lambda found: 3 < found["grade"] <= 12.5),
}


def check_filters(folder, state):
    """Asks for each field: those declared give exactly the documents they should, the others an error."""
    with closing(Snapshot(folder)) as snapshot:
        for name, (expression, fits) in FILTERS.items():
            if name not in state.fields:
                with pytest.raises(FilterError, match=f"there is no column '{name}'"):
                    snapshot.select(expression)
                continue
            found = snapshot.dense_search(np.ones(DIM, np.float32), 10_000, within=snapshot.select(expression))
            expected = {id for id, (_, metadata) in state.documents.items() if fits(metadata)}
            assert set(snapshot.ids(found.positions)) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts writers by forking")
def test_a_writer_killed_at_any_moment_loses_nothing_committed(tmp_path):
    folder = made(tmp_path / "my.index")
    random.seed(20)
    done = 0
    with closing(Victim()) as victim:
        for _ in range(KILLS):
            acknowledged = victim.run_and_die(folder, done)
            found = checked(folder)
            # Everything acknowledged is there; of what was under way, all or nothing.
            assert found in (state_after(acknowledged), state_after(acknowledged + 1))
            check_columns(folder, found)
            check_filters(folder, found)
            done = acknowledged if found == state_after(acknowledged) else acknowledged + 1
    assert done > 3 * len(OPERATIONS)  # every operation came through, and was often interrupted
    Writer(folder).close()
    with closing(Snapshot(folder)) as snapshot:
        assert {p.name for p in (folder / "segments").iterdir()} == {s.folder.name for s in snapshot.segments}


def committed(folder):
    """Returns the ids in an index, after a full check of its files."""
    return set(checked(folder).documents)


@pytest.mark.parametrize("step", range(40))
def test_a_failure_at_any_step_of_a_commit_undoes_all_of_it(tmp_path, monkeypatch, step):
    folder = made(tmp_path / "my.index", ["a"])
    writer = Writer(folder)
    calls = 0

    def failing(real):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return wrapped

    for name in ("sync_file", "sync_folder", "write_array", "checksum"):
        monkeypatch.setattr(files, name, failing(getattr(files, name)))
    add(writer, ["b", "c"], seed=1)
    said = ""
    try:
        writer.commit()
    except StoreError as error:
        said = str(error)
    monkeypatch.undo()
    failed = calls > step
    assert ("No space left on device; what was committed before is untouched" in said) == failed
    expected = {"a"} if failed else {"a", "b", "c"}
    assert committed(folder) == expected
    add(writer, ["d"], seed=2)
    writer.commit()
    writer.close()
    assert committed(folder) == {*expected, "d"}


def test_a_disk_without_room_keeps_what_was_committed(tmp_path):
    """A limit on file sizes makes real writes fail half-way, in numpy's, FAISS's or SQLite's hands."""
    folder = made(tmp_path / "my.index", ["a"])
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from plait.index import StoreError, Writer
        from tests.index.making import add
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        writer = Writer(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        try:
            add(writer, [f"d{i}" for i in range(2000)], seed=1)
            writer.commit()
        except StoreError as error:
            print(error)
            sys.exit(7)
    """)
    for limit in (100, 5_000, 20_000, 50_000):
        command = [sys.executable, "-c", script, str(folder), str(limit)]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 7, ended.stderr
        assert "what was committed before is untouched" in ended.stdout
        assert committed(folder) == {"a"}
    writer = Writer(folder)
    add(writer, ["b"], seed=2)
    writer.commit()
    writer.close()
    assert committed(folder) == {"a", "b"}


def test_ctrl_c_inside_a_commit_undoes_it(tmp_path, monkeypatch):
    folder = made(tmp_path / "my.index", ["a"])
    writer = Writer(folder)
    add(writer, ["b"], seed=1)
    real = files.sync_file
    calls = iter(range(100))

    def interrupted(path):
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        real(path)

    monkeypatch.setattr(files, "sync_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.commit()
    monkeypatch.undo()
    assert committed(folder) == {"a"}
    assert not writer.pending
    writer.close()

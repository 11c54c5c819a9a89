"""A thousand damaged indexes: an error that says so, or the right answer; never a crash, never a wrong one."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from plait.index import CorruptError, Layout, Snapshot, StoreError, Writer, check, create, database

from .making import DIM, add

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = 1000

# In a process of its own: what must not happen is that it dies.
SCRIPT = textwrap.dedent("""
    import random, shutil, sys
    from pathlib import Path
    from tests.index.test_damage import answers, hurt
    from plait.index import StoreError

    whole, work, seed, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file() and p.stat().st_size)
    right, random = answers(whole), random.Random(seed)
    refused = 0
    for number in range(count):
        shutil.copytree(whole, work)
        what = hurt(work / random.choice(files), random)
        try:
            found = answers(work)
        except StoreError:
            refused += 1
        else:
            assert found == right, what
        shutil.rmtree(work)
    print(refused)
""")


def answers(folder):
    """Returns what an index answers to a few searches, texts of the hits included."""
    snapshot = Snapshot(folder)
    try:
        terms = snapshot.terms("learned", np.arange(0, 50, 7))
        words = snapshot.terms("lexical", np.arange(0, 50, 11))
        query = np.linspace(-1, 1, DIM).astype(np.float32)
        found = [
            snapshot.sparse_search("learned", terms, np.ones(terms.size, np.float32), 12),
            snapshot.sparse_search("lexical", words, snapshot.idf(words), 12),
            snapshot.dense_search(query, 12),
        ]
        return [
            (hits.scores.tolist(), [(row.id, row.text) for row in snapshot.rows(hits.positions.tolist())])
            for hits in found
        ]
    finally:
        snapshot.close()


def hurt(path, random):
    """Cuts a file short, flips bytes in it or overwrites a part; returns what was done."""
    content = bytearray(path.read_bytes())
    kind, at = random.choice(["flip", "flip", "flip", "cut", "zero"]), random.randrange(len(content))
    if kind == "cut":
        content = content[:at]
    elif kind == "zero":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    else:
        for _ in range(random.choice([1, 1, 4])):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)
    return path.name, kind, at


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An index of two segments with deleted documents, and no journal beside its database."""
    folder = tmp_path_factory.mktemp("damage") / "whole"
    create(folder, Layout(dim=DIM, window=16), {})
    writer = Writer(folder, compaction="off")
    add(writer, [f"a{i}" for i in range(40)], 1)
    writer.commit()
    add(writer, [f"b{i}" for i in range(30)], 2)
    writer.commit()
    writer.delete(["a3", "a17", "b5"])
    writer.commit()
    writer.close()
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("plait.db")) == ["plait.db"]
    return folder


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_file_is_an_error_or_makes_no_difference(whole, tmp_path, seed):
    arguments = [str(whole), str(tmp_path / "work"), str(seed), str(MUTATIONS // 2)]
    said = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0, said.stderr[-3000:]
    assert int(said.stdout) > MUTATIONS // 4


def test_check_finds_nothing_in_a_whole_index(whole):
    report = check(whole)
    assert report.problems == ()
    inside = [path for path in (whole / "segments").rglob("*") if path.is_file()]
    assert (report.documents, report.files) == (67, 1 + len(inside))


def broken(whole, tmp_path, change):
    folder = tmp_path / "broken"
    shutil.copytree(whole, folder)
    change(folder)
    return check(folder).problems


def test_check_names_the_file_and_says_what_to_do(whole, tmp_path):
    def flip(folder):
        path = folder / "segments" / "000001" / "impacts.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"\x07")

    (problem,) = broken(whole, tmp_path, flip)
    assert problem.where.endswith("impacts.npy")
    assert "checksum" in problem.what
    assert "index the documents again" in problem.advice


def test_check_names_the_document_whose_text_was_changed(whole, tmp_path):
    def rewrite(folder):
        path = folder / "plait.db"
        path.write_bytes(path.read_bytes().replace(b"text of a7", b"tezt of a7"))

    (problem,) = broken(whole, tmp_path, rewrite)
    assert (problem.where, problem.what) == ("document 'a7'", "its text does not match its digest")


@pytest.mark.parametrize(
    ("sql", "fields"),
    [
        ("UPDATE document SET text = CAST(x'ff61' AS TEXT) WHERE id = 'a7'", 0),
        ("UPDATE document SET title = x'61' WHERE id = 'a7'", 0),
        ("UPDATE document SET metadata = '5' WHERE id = 'a7'", 1),
        ("UPDATE document SET metadata = '{' WHERE id = 'a7'", 1),
        ("UPDATE document SET metadata = CAST(x'ff' AS TEXT) WHERE id = 'a7'", 1),
        ("UPDATE document SET metadata = '[]' WHERE id = 'a7'", 1),
    ],
)
def test_whatever_is_wrong_with_a_document_it_is_named(whole, tmp_path, sql, fields):
    def rewrite(folder):
        with closing(Writer(folder)) as writer:
            writer.declare("year", "integer")
            writer.commit()
        with closing(sqlite3.connect(folder / "plait.db")) as connection:
            connection.execute(sql)
            connection.commit()
        with closing(Snapshot(folder)) as snapshot, pytest.raises(CorruptError):
            snapshot.rows([snapshot.positions(["a7"])["a7"]])

    problems = broken(whole, tmp_path, rewrite)
    assert problems[-1].where == "document 'a7'"
    assert [problem.what for problem in problems[:-1]] == ["the field 'year' differs from the documents' metadata"] * (
        fields
    )


def test_fields_are_not_declared_over_metadata_that_cannot_be_read(whole, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(whole, folder)
    with closing(sqlite3.connect(folder / "plait.db")) as connection:
        connection.execute("UPDATE document SET metadata = '5' WHERE id = 'a7'")
        connection.commit()
    with closing(Writer(folder)) as writer, pytest.raises(CorruptError, match="the metadata of the document 'a7'"):
        writer.declare("year", "integer")


def test_check_finds_nothing_where_a_writer_merges_meanwhile(whole, tmp_path, monkeypatch):
    real = database.ids_and_states

    def merged(connection):
        with closing(Writer(tmp_path / "broken")) as writer:
            assert writer.compact() == 2
        return real(connection)

    monkeypatch.setattr(database, "ids_and_states", merged)
    assert broken(whole, tmp_path, lambda folder: None) == ()


def test_reading_a_changed_text_is_an_error(whole, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(whole, folder)
    path = folder / "plait.db"
    path.write_bytes(path.read_bytes().replace(b"text of a7", b"tezt of a7"))
    snapshot = Snapshot(folder)
    with pytest.raises(StoreError, match="'a7' does not match its digest"):
        snapshot.rows([snapshot.positions(["a7"])["a7"]])
    snapshot.close()

"""A disk that is full at any page: the error says so, nothing committed is lost, and with room it goes on."""

from __future__ import annotations

import errno
import gc
import shutil
import traceback
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from plait.index import Layout, Snapshot, StoreError, Writer, ann, check, create, dense, files, policy
from plait.retriever import Document

from ..small_disk import PAGE, SmallDisk, free_pages, leave, make_room
from .making import DIM, vectors

FIELDS = {"year": "integer", "tags": "text[]"}
FIRST_STAGE = "LeanVec2,IVF2,SQ8"


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    disk = SmallDisk(tmp_path_factory.mktemp("disk"))
    yield disk
    disk.close()


@pytest.mark.parametrize(
    ("operation", "opened", "fields", "spec"),
    [
        ("add", "after", "year tags", "flat"),
        ("replace", "before", "tags", "flat"),
        ("delete", "before", "year tags", "flat"),
        ("declare", "before", "", "flat"),
        ("undeclare", "before", "year tags", "flat"),
        ("compact", "after", "year", FIRST_STAGE),
        ("reorder", "before", "", "flat"),
    ],
)
def test_an_operation_that_finds_no_room_at_any_page(small_disk, operation, opened, fields, spec):
    small_disk(sweep, operation, opened, fields, spec)


def test_a_merge_that_finds_no_room_leaves_the_commit_alone(small_disk):
    small_disk(sweep_merges)


def test_an_index_that_finds_no_room_is_not_made(small_disk):
    small_disk(sweep_creation)


@pytest.mark.parametrize("kind", ["array", "vectors", "first stage"])
def test_a_file_that_does_not_fit_is_never_written_in_silence(small_disk, kind):
    """Writers that buffer keep the last few bytes until the file is closed, and may not tell that they are lost."""
    small_disk(sweep_file, kind)


# What runs in the process that sees the disk


def put(writer, first, last, seed):
    sparse, dense = vectors(seed, last - first)
    writer.add([document(n, seed) for n in range(first, last)], sparse, dense)


def document(n, seed):
    return Document(
        id=f"d{n}", text=f"some words of {seed}, {n}", metadata={"year": 1990 + n, "tags": [f"t{n % 5}", f"t{n % 7}"]}
    )


def add(writer):
    put(writer, 200, 240, 7)
    writer.commit()


def delete(writer):
    writer.delete([f"d{n}" for n in range(0, 70, 2)])
    writer.commit()


def declare(writer):
    for name, type in FIELDS.items():
        writer.declare(name, type)
    writer.commit()


def undeclare(writer):
    for name in FIELDS:
        writer.undeclare(name)
    writer.commit()


def compact(writer):
    writer.compact(reorder=None)


def reorder(writer):
    writer.compact()


def replace(writer):
    put(writer, 30, 50, 9)
    writer.delete([f"d{n}" for n in range(20)])
    writer.declare("year", "integer")
    put(writer, 300, 310, 10)
    writer.commit()


def template(folder, fields, spec="flat"):
    """Makes an index of two segments, some documents of which are deleted."""
    layout = Layout(dim=DIM, window=16, dense_index=spec)
    create(folder, layout, {}, {name: FIELDS[name] for name in fields.split()})
    with closing(Writer(folder, compaction="off")) as writer:
        for seed in range(2):
            put(writer, 40 * seed, 40 * seed + 40, seed)
            writer.commit()
        writer.delete(["d7", "d50"])
        writer.commit()
    return folder


def copied(whole, folder):
    """Copies an index without what readers leave beside its database: making that takes room."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("plait.db-*"))
    return folder


def answers(folder):
    """Returns what an index holds and answers: searches of each kind, filters, documents and fields."""
    with closing(Snapshot(folder)) as snapshot:
        terms, words = (snapshot.terms(strand, np.arange(1, 50, 7)) for strand in ("learned", "lexical"))
        query = np.linspace(-1, 1, DIM).astype(np.float32)
        found = [
            snapshot.sparse_search("learned", terms, np.ones(terms.size, np.float32), 12),
            snapshot.sparse_search("lexical", words, snapshot.idf(words), 12),
            snapshot.dense_search(query, 12, exact=True),
        ]
        if any(field.name == "year" for field in snapshot.fields):
            found.append(snapshot.dense_search(query, 12, within=snapshot.select("year > 2030"), exact=True))
        hits = [(each.scores.tolist(), snapshot.ids(each.positions)) for each in found]
        rows = snapshot.rows(list(snapshot.positions(list(snapshot.all_ids())).values()))
        return hits, [(row.id, row.text, row.metadata) for row in rows], [field[1:] for field in snapshot.fields]


def sweep(disk, operation, opened, fields, spec):
    """Lets an operation run out of room at every page that it takes, one after the other."""
    dense.SCANNED = 10  # so that small segments get a first stage
    operate, whole, folder = globals()[operation], template(disk / "whole", fields, spec), disk / "my.index"
    before = answers(whole)
    with closing(Writer(copied(whole, folder), compaction="off")) as writer:
        operate(writer)
    after, places, pages = answers(folder), set(), 0
    while (error := tried(disk, copied(whole, folder), operate, pages, before, after, opened)) is not None:
        places.update(places_of(error))
        pages += 1
    # Each file takes a page of its own at least, so each was the one without room; and so was the database.
    old = {path.name for path in whole.glob("segments/*")}
    new = [path for path in folder.glob("segments/*/*") if path.parent.name not in old]
    spared = {path.name for path in new} - places
    assert not spared, spared
    assert "commit" in places
    assert bool(new) == (operation not in ("delete", "declare", "undeclare"))
    assert ({ann.FIRST, ann.PROJECTION} <= places) == (spec == FIRST_STAGE)
    assert len(after[1]) == {"add": 118, "replace": 69, "delete": 44}.get(operation, 78)


def tried(disk, folder, operate, pages, before, after, opened):
    """Tries an operation with so many pages free, and again with room; returns the error, if there was one."""
    writer = Writer(folder, compaction="off") if opened == "before" else None
    gc.collect()  # files that are gone but still mapped hold pages; they are not to come free half-way
    leave(disk, pages)
    said = None
    try:
        writer = writer or Writer(folder, compaction="off")
        operate(writer)
    except StoreError as error:
        said = error
        expect_full(error, folder)
        assert answers(folder) == before
        assert check(folder).problems == ()
    make_room(disk)
    if said is not None:
        writer = writer or Writer(folder, compaction="off")
        operate(writer)
    writer.close()
    assert answers(folder) == after
    assert check(folder).problems == ()
    assert no_leftovers(folder)
    return said


def expect_full(error, folder):
    said = str(error)
    assert said.startswith(f"{folder}: the disk is full: "), said
    assert said.endswith("; what was committed before is untouched; make room and try again"), said


def places_of(error):
    """Yields what could not be written: files by name, and the function that asked SQLite."""
    while (error := error.__cause__ or error.__context__) is not None:
        file = function = ""
        for frame, _ in traceback.walk_tb(error.__traceback__):
            given, function = frame.f_locals, frame.f_code.co_name
            if isinstance(growing := given.get("self"), files.Growing):
                file = Path(growing._handle.name).name
            elif isinstance(path := given.get("path", growing), Path):
                file = path.name
        yield file or function


def no_leftovers(folder):
    with closing(Snapshot(folder)) as snapshot:
        return {path.name for path in folder.glob("segments/*")} == {s.folder.name for s in snapshot.segments}


def sweep_merges(disk):
    """A commit that succeeds stays when the merge after it fails; the next commit merges."""
    policy.FANOUT = 3
    whole, folder, seen, pages = template(disk / "whole", "year"), disk / "my.index", [], 0
    while "merged" not in seen:
        with closing(Writer(copied(whole, folder))) as writer:
            leave(disk, pages)
            seen.append(added(writer, folder))
            documents = {"failed": 78, "added": 118, "merged": 118}[seen[-1]]
            assert len(answers(folder)[1]) == documents
            assert check(folder).problems == ()
            make_room(disk)
            writer.delete(["d1"])
            writer.commit()
        assert len(answers(folder)[1]) == documents - 1
        assert len(list(folder.glob("segments/*"))) == (2 if seen[-1] == "failed" else 1)
        assert no_leftovers(folder)
        pages += 1
    assert seen == sorted(seen, key=["failed", "added", "merged"].index)
    assert min(seen.count("failed"), seen.count("added")) > 10


def added(writer, folder):
    """Tries to add and to merge; returns how far it came."""
    try:
        add(writer)
    except StoreError as error:
        expect_full(error, folder)
        return "failed"
    with closing(Snapshot(folder)) as snapshot:
        return "merged" if len(snapshot.segments) == 1 else "added"


def sweep_creation(disk):
    folder, failures = disk / "my.index", 0
    while not folder.exists():
        leave(disk, failures)
        try:
            create(folder, Layout(dim=DIM), {"some": "setting"}, FIELDS, queries=np.ones((9, DIM), np.float32))
        except StoreError as error:
            expect_full(error, folder)
            make_room(disk)
            assert list(disk.iterdir()) == []
            failures += 1
    make_room(disk)
    assert failures > 10
    assert answers(folder)[1:] == ([], list(FIELDS.items()))


def sweep_file(disk, kind):
    rng, path = np.random.default_rng(5), disk / "file"
    # Around full pages: the header and the last bytes lie in one page, or in two.
    for size in [PAGE // 4 * 3 + more for more in (-40, -33, -32, -31, -20, -10, -1, 0, 1)]:
        values = rng.normal(size=(size, 4)).astype(np.float32)
        write = writers(values)[kind]
        make_room(disk)
        write(path)
        whole, failed = path.read_bytes(), 0
        path.unlink()
        while True:
            leave(disk, failed)
            if fits(write, path):
                break
            failed += 1
            path.unlink(missing_ok=True)
        assert path.read_bytes() == whole
        assert failed == -(-len(whole) // PAGE)
        assert free_pages(disk) == 0
        path.unlink()


def fits(write, path):
    try:
        write(path)
    except OSError as error:
        return error.errno != errno.ENOSPC
    return True


def writers(values):
    """Returns what writes a file of each kind."""
    import faiss

    index = faiss.IndexFlatIP(values.shape[1])
    index.add(values)
    return {
        "array": lambda path: files.write_array(path, values),
        "vectors": lambda path: dense.write_flat(values, path),
        "first stage": lambda path: ann._write(index, ann.Spec(0, "SQ8"), path),
    }

"""The store: what is committed is there, what is not is not, and damage has a name."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from plait.index import CorruptError, Layout, LockedError, Snapshot, StoreError, Writer, compaction, create, database
from plait.index.contract import LEXICAL_BASE
from scipy.sparse import csr_matrix

from .making import COLUMNS, DIM, add, documents, made, vectors


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my.index"


def ids_in(folder):
    snapshot = Snapshot(folder)
    try:
        return list(snapshot.all_ids())
    finally:
        snapshot.close()


def test_an_empty_index_opens_and_finds_nothing(folder):
    create(folder, Layout(dim=DIM), {"name": "empty"})
    snapshot = Snapshot(folder)
    assert (snapshot.documents, snapshot.settings["name"]) == (0, "empty")
    terms, weights = np.array([1], np.uint32), np.ones(1, np.float32)
    assert snapshot.sparse_search("learned", terms, weights, 5).positions.tolist() == []
    assert snapshot.dense_search(np.ones(DIM, np.float32), 5).positions.tolist() == []
    assert snapshot.idf(terms).tolist() == pytest.approx([np.log(2)])
    snapshot.close()


def test_create_never_touches_what_is_there(folder):
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(StoreError, match="exists and is not empty"):
        create(folder, Layout(), {})
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    with pytest.raises(StoreError, match=r"mine\.txt is a file; choose another name"):
        create(folder / "mine.txt", Layout(), {})
    made(folder.with_name("other"), ["a"])
    with pytest.raises(StoreError, match=r"there is an index at .*other already"):
        create(folder.with_name("other"), Layout(), {})


def test_create_leaves_nothing_behind_when_it_fails(folder, monkeypatch):
    monkeypatch.setattr(
        database, "create", lambda _folder: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(StoreError, match="No space left on device"):
        create(folder, Layout(), {})
    assert list(folder.parent.iterdir()) == []


def test_what_a_crash_left_of_making_an_index_goes_with_the_next(folder):
    left, fresh, other = (folder.parent / f".{folder.name}.{end}" for end in ("plait-old", "plait-new", "backup12"))
    for each in (left, fresh, other):
        (each / "segments").mkdir(parents=True)
    for each in (left, other):
        os.utime(each, (0, 0))
    create(folder, Layout(dim=DIM), {})
    assert [each.exists() for each in (left, fresh, other)] == [False, True, True]


def test_documents_come_back_as_they_were(folder):
    create(folder, Layout(dim=DIM), {})
    writer = Writer(folder)
    sparse, dense = vectors(0, 1)
    [document] = documents(["é#1"])
    writer.add([document], sparse, dense)
    writer.commit()
    writer.close()
    snapshot = Snapshot(folder)
    [row] = snapshot.rows([0])
    assert (row.id, row.text, row.metadata, row.parent, row.start) == ("é#1", "text of é#1", {}, None, 0)
    snapshot.close()


def test_an_index_is_as_large_while_its_log_is_open_as_it_is_afterwards(folder):
    create(folder, Layout(dim=DIM), {})
    with closing(Writer(folder)) as writer:
        add(writer, [f"d{i}" for i in range(300)])
        writer.commit()
        assert (folder / "plait.db-wal").stat().st_size > 0
        with closing(Snapshot(folder)) as snapshot:
            before = snapshot.facts()["bytes"]
            files = sum(segment.bytes for segment in snapshot.segments)
    with closing(Snapshot(folder)) as snapshot:
        assert snapshot.facts()["bytes"] == before == files + (folder / "plait.db").stat().st_size


def test_nothing_is_seen_before_the_commit_nor_after_a_rollback(folder):
    made(folder, ["a"])
    writer = Writer(folder, segment_documents=2)
    add(writer, ["b", "c", "d"])
    assert ids_in(folder) == ["a"]
    writer.rollback()
    assert sorted(p.name for p in (folder / "segments").iterdir()) == ["000001"]
    add(writer, ["e"])
    writer.commit()
    assert ids_in(folder) == ["a", "e"]
    writer.close()


def test_a_snapshot_keeps_its_view(folder):
    made(folder, ["a", "b"])
    old = Snapshot(folder)
    writer = Writer(folder)
    assert writer.delete(["a"]) == 1
    add(writer, ["c"], seed=9)
    writer.commit()
    assert list(old.all_ids()) == ["a", "b"]
    assert old.rows([0])[0].text == "text of a"
    assert ids_in(folder) == ["b", "c"]
    old.close()
    writer.close()


def test_the_same_id_replaces_the_older_document(folder):
    made(folder, ["a", "b"])
    writer = Writer(folder)
    add(writer, ["a"], seed=3, text="newer")
    add(writer, ["a"], seed=4, text="newest")  # twice in one commit: the later one stays
    writer.commit()
    writer.close()
    snapshot = Snapshot(folder)
    assert snapshot.documents == 2
    position = snapshot.positions(["a"])["a"]
    assert snapshot.rows([position])[0].text == "newest of a"
    _, dense = vectors(4, 1)
    assert snapshot.dense_scores(dense[0], np.array([position]))[0] == pytest.approx(
        float(dense[0] @ dense[0]), rel=1e-6
    )
    snapshot.close()


def test_results_after_deletes_equal_those_of_the_survivors_alone(folder):
    """IDF, candidates and scores count only what lives; the average length is the one that was frozen."""
    ids = [f"d{i:03}" for i in range(60)]
    sparse, dense = vectors(1, 60)
    create(folder, Layout(dim=DIM, window=16), {})
    writer = Writer(folder)
    writer.add(documents(ids), sparse, dense)
    writer.commit()
    dead = ids[::3]
    assert writer.delete([*dead, "unknown"]) == 20
    writer.commit()
    writer.close()
    alone = folder.with_name("alone")
    keep = [i for i in range(60) if i % 3]
    create(alone, Layout(dim=DIM, window=16, learned_scale=Snapshot(folder).layout.learned_scale), {})
    writer = Writer(alone)
    writer.add(documents([ids[i] for i in keep]), {"learned": sparse["learned"][keep]}, dense[keep])
    writer.commit()
    writer.close()
    left, right = Snapshot(folder), Snapshot(alone)
    terms = np.array([1, 5, 9, 33], np.uint32)
    np.testing.assert_array_equal(left.idf(terms), right.idf(terms))
    for k in (1, 7, 100):
        a = left.sparse_search("learned", terms, left.idf(terms), k)
        b = right.sparse_search("learned", terms, right.idf(terms), k)
        assert left.ids(a.positions) == right.ids(b.positions)
        np.testing.assert_array_equal(a.scores, b.scores)
        a, b = left.dense_search(dense[0], k), right.dense_search(dense[0], k)
        assert left.ids(a.positions) == right.ids(b.positions)
        np.testing.assert_array_equal(a.scores, b.scores)


def test_many_segments_answer_as_one(folder):
    ids = [f"d{i}" for i in range(90)]
    sparse, dense = vectors(2, 90)
    indexes = {"one": [range(90)], "many": [range(0, 10), range(10, 55), range(55, 90)]}
    for name, parts in indexes.items():
        create(folder.with_name(name), Layout(dim=DIM, window=16, learned_scale=1 / 200), {})
        writer = Writer(folder.with_name(name))
        for part in parts:
            rows = list(part)
            writer.add(documents([ids[i] for i in rows]), {"learned": sparse["learned"][rows]}, dense[rows])
            writer.commit()
        writer.close()
    one, many = Snapshot(folder.with_name("one")), Snapshot(folder.with_name("many"))
    assert [len(one.segments), len(many.segments)] == [1, 3]
    terms = np.arange(0, COLUMNS, 3, dtype=np.uint32)
    for weights in (one.idf(terms), np.ones(terms.size, np.float32)):
        for k in (3, 30, 200):
            a, b = one.sparse_search("learned", terms, weights, k), many.sparse_search("learned", terms, weights, k)
            assert one.ids(a.positions) == many.ids(b.positions)
            np.testing.assert_array_equal(a.scores, b.scores)
            np.testing.assert_array_equal(a.scores, many.sparse_scores("learned", terms, weights, b.positions))


def test_ties_across_segments_go_by_id(folder):
    create(folder, Layout(dim=DIM), {})
    writer = Writer(folder)
    same = {"learned": csr_matrix(np.eye(1, 5, 2, dtype=np.float32))}
    for name in ("b", "d", "a", "c"):
        writer.add(documents([name]), same, np.ones((1, DIM), np.float32))
        writer.commit()
    writer.close()
    snapshot = Snapshot(folder)
    hits = snapshot.sparse_search("learned", np.array([2], np.uint32), np.ones(1, np.float32), 3)
    assert snapshot.ids(hits.positions) == ["d", "c", "b"]
    assert snapshot.ids(snapshot.dense_search(np.ones(DIM, np.float32), 4).positions) == ["d", "c", "b", "a"]
    snapshot.close()


def test_idf_counts_only_terms_of_the_texts_themselves(folder):
    create(folder, Layout(), {})
    writer = Writer(folder)
    expanded = csr_matrix(np.array([[1, 1], [1, 1], [1, 0]], np.float32))
    own = csr_matrix(np.array([[1, 0], [0, 1], [1, 0]], np.float32))
    writer.add(documents(["a", "b", "c"]), {"learned": expanded}, None, literal={"learned": own})
    writer.commit()
    terms = np.array([0, 1], np.uint32)
    before = Snapshot(folder)
    assert before.idf(terms).tolist() == pytest.approx([np.log(1 + 1.5 / 2.5), np.log(1 + 2.5 / 1.5)])
    writer.delete(["c"])
    writer.commit()
    after = Snapshot(folder)
    assert after.idf(terms).tolist() == pytest.approx([np.log(1 + 1.5 / 1.5)] * 2)
    writer.close()


def test_lexical_scores_are_bm25(folder):
    create(folder, Layout(k1=1.2, b=0.75), {})
    writer = Writer(folder)
    counts = csr_matrix(np.array([[2, 1, 0], [0, 4, 0], [1, 0, 5]], np.float32))
    writer.add(documents(["a", "b", "c"]), {"lexical": counts}, None)
    writer.commit()
    writer.close()
    snapshot = Snapshot(folder)
    terms = snapshot.terms("lexical", np.array([0, 1]))
    assert terms.tolist() == [LEXICAL_BASE, LEXICAL_BASE + 1]
    found = snapshot.sparse_scores("lexical", terms, snapshot.idf(terms), np.arange(3))
    average = 13 / 3

    def part(tf, length, df):
        return np.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + 1.2 * (0.25 + 0.75 * length / average))

    expected = [part(2, 3, 2) + part(1, 3, 2), part(4, 4, 2), part(1, 6, 2)]
    assert found.tolist() == pytest.approx(expected, abs=0.004)  # 8-bit impacts: half a step of 1/255 a term
    snapshot.close()


def test_a_parents_id_deletes_its_passages(folder):
    from plait.retriever import Document

    create(folder, Layout(), {})
    writer = Writer(folder)
    passages = [Document(id=f"file#{i}", text="x", parent="file", start=i) for i in range(3)]
    counts = csr_matrix(np.ones((3, 2), np.float32))
    writer.add(passages, {"lexical": counts}, None)
    writer.commit()
    assert writer.passages(["file"]) == ["file#0", "file#1", "file#2"]
    assert writer.delete(["file"]) == 3
    writer.commit()
    writer.close()
    assert ids_in(folder) == []


def test_a_second_writer_is_refused_and_the_next_one_is_not(folder):
    made(folder, ["a"])
    first = Writer(folder)
    with pytest.raises(LockedError, match="is being written by another process"):
        Writer(folder)
    first.close()
    Writer(folder).close()


@pytest.mark.parametrize(
    ("sparse", "dense", "text"),
    [
        (
            {"learned": csr_matrix((1, 5), dtype=np.float32)},
            np.ones((2, DIM)),
            "2 documents came with 1 learned vectors",
        ),
        ({}, np.ones((2, 3)), "dense vectors have 3 dimensions; the index was made for 4"),
        ({}, None, "2 documents came without any vectors"),
        ({"lexical": csr_matrix((2, 3))}, None, "dense vectors have 0 dimensions"),
        ({}, np.full((2, DIM), np.nan), "dense vectors hold NaN"),
        ({}, np.full((2, DIM), 1e300), "too large for float32"),
        ({}, np.ones(DIM), r"as an array \(2, 4\), not \(4,\)"),
        ({"learned": csr_matrix([[1e300], [0]])}, np.ones((2, DIM)), "fit into float32"),
        ({"lexical": csr_matrix((2, 2**32 - 2**20 + 1))}, np.ones((2, DIM)), "at most 4293918720 fit"),
        ({"learned": csr_matrix([[-1.0], [0]])}, np.ones((2, DIM)), "learned vectors must be finite and not negative"),
        ({"lexical": csr_matrix([[np.inf], [0]])}, np.ones((2, DIM)), "lexical vectors must be finite"),
        ({"fuzzy": csr_matrix((2, 1))}, np.ones((2, DIM)), "no sparse strand 'fuzzy'; there are: lexical, learned"),
        ({"learned": csr_matrix((2, 2**20 + 1))}, np.ones((2, DIM)), "learned vectors have 1048577 columns"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(folder, sparse, dense, text):
    made(folder, ["a"])
    writer = Writer(folder)
    with pytest.raises(StoreError, match=text):
        writer.add(documents(["x", "y"]), sparse, dense)
    writer.close()
    assert ids_in(folder) == ["a"]


def test_what_is_no_index_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"there is no index at .*nowhere; make one with: plait index"):
        Snapshot(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"folder is not a plait index: it has no plait\.db"):
        Snapshot(tmp_path / "folder")
    (tmp_path / "folder" / "plait.db").write_bytes(b"no database at all, but long enough to look at" * 30)
    with pytest.raises(CorruptError, match=r"plait\.db is damaged"):
        Snapshot(tmp_path / "folder")
    (tmp_path / "folder" / "plait.db").unlink()
    connection = sqlite3.connect(tmp_path / "folder" / "plait.db")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StoreError, match="is not a plait database"):
        Snapshot(tmp_path / "folder")


def test_another_format_version_is_refused(folder):
    made(folder, ["a"])
    connection = sqlite3.connect(folder / "plait.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="has index format 99; this plait reads format 3"):
        Snapshot(folder)
    with pytest.raises(StoreError, match="has index format 99"):
        Writer(folder)


def segment_files(folder):
    return sorted(p for p in (folder / "segments" / "000001").iterdir())


def test_every_changed_truncated_or_missing_file_is_named(folder):
    made(folder, [f"d{i}" for i in range(20)])
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    for path in segment_files(folder):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 0x10
        for damage in (bytes(changed), content[:-1], content[: len(content) // 2], b""):
            path.write_bytes(damage)
            with pytest.raises(CorruptError, match=path.name):
                Snapshot(folder)
        path.unlink()
        with pytest.raises(CorruptError, match=path.name):
            Snapshot(folder)
        path.write_bytes(content)
    assert ids_in(folder) == ids_in(whole)


def test_a_large_segment_is_checked_on_request(folder, monkeypatch):
    made(folder, ["a", "b"])
    path = folder / "segments" / "000001" / "impacts.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    monkeypatch.setattr("plait.index.segment.VERIFIED_BYTES", 10)
    Snapshot(folder).close()
    with pytest.raises(CorruptError, match=r"impacts\.npy has checksum .*: it was changed"):
        Snapshot(folder, verify=True)


def test_a_read_only_copy_can_be_searched(folder):
    made(folder, ["a"], ["b"])
    # What a read-only disk looks like to SQLite: no write-ahead log beside the database, and none can be made.
    connection = sqlite3.connect(folder / "plait.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for suffix in ("-wal", "-shm"):
        (folder / f"plait.db{suffix}").unlink(missing_ok=True)
    assert ids_in(folder) == ["a", "b"]


def test_a_log_without_its_shared_memory_is_read_all_the_same(folder, tmp_path):
    made(folder, ["a"])
    copy = tmp_path / "copy"
    with closing(Writer(folder)) as writer:
        add(writer, ["b"])
        writer.commit()
        shutil.copytree(folder, copy)  # the newest commit is in the log alone
    (copy / "plait.db-shm").unlink()
    assert ids_in(copy) == ["a", "b"]


def test_a_log_that_cannot_be_read_is_an_error(folder, tmp_path):
    made(folder, ["a"])
    copy = tmp_path / "copy"
    with closing(Writer(folder)) as writer:
        add(writer, ["b"])
        writer.commit()
        shutil.copytree(folder, copy)
    (copy / "plait.db-shm").unlink()
    (copy / "plait.db-shm").symlink_to(tmp_path / "nowhere" / "at all")  # as where nobody may write
    with pytest.raises(StoreError, match=r"newest commits .* are in plait\.db-wal"):
        ids_in(copy)


def test_a_name_with_a_nul_is_nobodys(folder):
    made(folder, ["a"])
    with closing(Snapshot(folder)) as snapshot:
        assert snapshot.positions(["a\0b", "a"]) == {"a": 0}
        assert snapshot.passages("a\0b") == []
    with closing(Writer(folder)) as writer:
        assert writer.delete(["a\0b"]) == 0
        add(writer, ["b\0"])
        with pytest.raises(StoreError, match=r"the document 'b\\x00', or of its parent, holds a NUL"):
            writer.commit()
    assert ids_in(folder) == ["a"]


def test_a_snapshot_can_be_asked_while_its_ids_are_gone_through(folder):
    made(folder, ["a", "b"])
    with closing(Snapshot(folder)) as snapshot:
        ids = snapshot.all_ids()
        assert next(ids) == "a"
        assert snapshot._lock.acquire(blocking=False)
        snapshot._lock.release()
        assert list(ids) == ["b"]


def test_a_writer_removes_what_a_crash_left(folder):
    made(folder, ["a"])
    orphan = folder / "segments" / "000777"
    orphan.mkdir()
    (orphan / "half.npy").write_bytes(b"x")
    assert ids_in(folder) == ["a"]
    Writer(folder).close()
    assert not orphan.exists()


def test_a_writer_may_be_closed_by_another_thread(folder):
    writer = Writer(made(folder, ["a"]))
    closing_it = threading.Thread(target=writer.close)
    closing_it.start()
    closing_it.join()
    Writer(folder).close()


def test_a_writer_keeps_to_its_folder_when_the_process_moves(folder, monkeypatch, tmp_path):
    made(folder, ["a"])
    monkeypatch.chdir(folder.parent)
    writer = Writer(Path(folder.name))
    add(writer, ["b"], seed=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    writer.commit()
    writer.close()
    assert ids_in(folder) == ["a", "b"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_more_documents_than_a_segment_has_windows_for_become_several_segments(folder, monkeypatch):
    monkeypatch.setattr(compaction, "MOST_WINDOWS", 2)
    ids = [f"{i:03}" for i in range(70)]
    made(folder, ids)  # windows of 16
    with closing(Snapshot(folder)) as snapshot:
        assert [segment.size for segment in snapshot.segments] == [32, 32, 6]
        assert list(snapshot.all_ids()) == ids
        sparse, dense = vectors(0, len(ids))
        scores = snapshot.dense_scores(dense[40], np.arange(70))
        np.testing.assert_allclose(scores, dense @ dense[40], rtol=1e-5)
        row = sparse["learned"][40]
        terms = snapshot.terms("learned", np.sort(row.indices))
        impacts = snapshot.sparse_impacts(terms, np.array([40]))
        assert (impacts > 0).all()

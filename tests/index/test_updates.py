"""Adding, replacing, deleting, merging: whatever happened, an index answers as one built from what is left."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from plait.index import CorruptError, Layout, Snapshot, StoreError, Writer, create, database, files, opening, policy
from plait.index.contract import LEXICAL_BASE
from plait.index.deleted import COLD
from plait.index.dense import vector_total
from plait.index.impacts import saturated
from plait.retriever import Document
from scipy.sparse import csr_matrix

from .making import add, made, without_syncing

ROOT = Path(__file__).resolve().parents[2]
DIM, COLUMNS = 3, 9
LAYOUT = Layout(dim=DIM, window=4, learned_scale=1 / 8, dense_index="flat")
IDS = [*(f"d{i}" for i in range(12)), *(f"p{i}#{j}" for i in range(2) for j in range(3))]
FILTERS = (None, "year >= 2", "year = 9")


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    without_syncing(monkeypatch)


def vectors(seed):
    """Returns (learned weights, lexical counts, dense vector) of one document: few values, so that scores often tie."""
    rng = np.random.default_rng(seed)
    learned = rng.integers(1, 9, COLUMNS) / 8 * (rng.random(COLUMNS) < 0.4)
    return learned.astype(np.float32), rng.integers(0, 3, COLUMNS), rng.integers(-1, 2, DIM).astype(np.float32)


def stored(id, seed):
    """Returns a document; its seed stands for its contents."""
    parent = id.partition("#")[0] if "#" in id else None
    return Document(id=id, text=f"version {seed}", metadata={"year": seed % 4}, parent=parent)


def put(writer, contents):
    """Adds documents given as {id: seed}."""
    if contents:
        learned, lexical, dense = (np.array(part) for part in zip(*map(vectors, contents.values()), strict=True))
        sparse = {"learned": csr_matrix(learned), "lexical": csr_matrix(lexical.astype(np.float32))}
        writer.add([stored(*item) for item in contents.items()], sparse, dense)


def started(folder, **options):
    """Returns a writer of a new, empty index with one field."""
    create(folder, LAYOUT, {})
    writer = Writer(folder, **options)
    writer.declare("year", "integer")
    writer.commit()
    return writer


def answers(snapshot, strands=("learned",)):
    """Returns what a snapshot says, as JSON values: ids, IDF, and hits of each strand, filtered or not."""
    found = {"ids": sorted(snapshot.all_ids()), "mean": snapshot.mean_vector.tolist()}

    def note(name, hits):
        found[name] = [snapshot.ids(hits.positions), hits.scores.tolist()]

    for filter in FILTERS:
        within = None if filter is None else snapshot.select(filter)
        for strand in strands:
            terms = snapshot.terms(strand, np.arange(0, COLUMNS, 2))
            idf = snapshot.idf(terms)
            found[f"{strand} idf"] = idf.tolist()
            for k in (1, 4, 100):
                note(f"{strand} {filter} {k}", snapshot.sparse_search(strand, terms, idf, k, within=within))
        for k in (1, 4, 100):
            note(f"dense {filter} {k}", snapshot.dense_search(np.array([1, 2, -1], np.float32), k, within=within))
    return found


def rebuilt_answers(folder, contents, strands):
    """Returns what an index says that was built from scratch."""
    with closing(started(folder)) as writer:
        put(writer, contents)
        writer.commit()
    with closing(Snapshot(folder)) as snapshot:
        found = answers(snapshot, strands)
    shutil.rmtree(folder)
    return found


def check_lexical_impacts(snapshot, contents):
    """Compares lexical impacts with the formula, given each segment's own average length."""
    terms = snapshot.terms("lexical", np.arange(COLUMNS))
    known = {position: id for id, position in snapshot.positions(list(contents)).items()}
    for segment in snapshot.segments:
        positions = [p for p in segment.positions_of(np.arange(segment.size)).tolist() if p in known]
        counts = np.array([vectors(contents[known[p]])[1] for p in positions], np.uint8).reshape(-1, COLUMNS)
        lengths = np.repeat(counts.sum(axis=1, keepdims=True), COLUMNS, axis=1)
        weights = saturated(counts, lengths, segment.manifest["average_length"], LAYOUT.k1, LAYOUT.b)
        expected = np.where(counts, np.clip(np.rint(weights * 255), 1, 255), 0)
        np.testing.assert_array_equal(snapshot.sparse_impacts(terms, np.array(positions, np.int64)), expected)


def shuffled(seed):
    """Returns an order of rows for `compact`."""
    return lambda forward: np.random.default_rng(seed).permutation(forward.size)


class Updates(RuleBasedStateMachine):
    """Random work on an index; after each commit it is compared with one built from what is left."""

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {"FANOUT": 3, "MOST_SEGMENTS": 5, "QUICK_DOCUMENTS": 12, "PATIENCE": 1}.items():
            patch.setattr(policy, name, value)
        without_syncing(patch)
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "my.index"
        self.writer = started(self.folder, segment_documents=5)
        self.snapshot = Snapshot(self.folder)
        self.older = []
        self.pending, self.committed = {}, {}
        self.seed = 0

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=6))
    def add(self, ids):
        self.seed += 1
        contents = {id: 100 * self.seed + i for i, id in enumerate(ids)}
        put(self.writer, contents)
        self.pending |= contents

    @rule(ids=st.lists(st.sampled_from([*IDS, "p0", "p1", "unknown"]), max_size=5))
    def delete(self, ids):
        gone = {id for id in self.pending if id in ids or id.partition("#")[0] in ids}
        assert self.writer.delete(ids) == len(gone)
        for id in gone:
            del self.pending[id]

    @rule()
    def commit(self):
        self.writer.commit()
        self.settle(("learned",))

    @rule(order=st.none() | st.integers(0, 99))
    def compact(self, order):
        self.writer.compact(reorder=None if order is None else shuffled(order))
        self.settle(("learned", "lexical"))
        assert len(self.snapshot.segments) == bool(self.committed)
        assert self.snapshot.facts()["deleted"] == 0

    @rule()
    def compact_a_little(self):
        self.writer.compact(everything=False)
        self.settle(("learned",))

    @rule()
    def rollback(self):
        self.writer.rollback()
        self.pending = dict(self.committed)

    @rule(compaction=st.sampled_from(["auto", "off"]))
    def reopen(self, compaction):
        self.writer.close()
        self.writer = Writer(self.folder, segment_documents=5, compaction=compaction)
        self.pending = dict(self.committed)

    @precondition(lambda self: len(self.older) < 3)
    @rule()
    def keep_a_snapshot(self):
        snapshot = Snapshot(self.folder)
        self.older.append((snapshot, answers(snapshot)))

    @precondition(lambda self: len(self.older) > 0)
    @rule(which=st.integers(0, 2))
    def look_again_and_close(self, which):
        snapshot, before = self.older.pop(which % len(self.older))
        assert answers(snapshot) == before
        snapshot.close()

    @invariant()
    def what_is_read_is_there(self):
        for snapshot in (self.snapshot, *(snapshot for snapshot, _ in self.older)):
            assert all(segment.folder.exists() for segment in snapshot.segments)

    def settle(self, strands):
        """Moves on to the new commit and checks it."""
        self.committed = dict(self.pending)
        newer = Snapshot(self.folder, older=self.snapshot)
        self.snapshot.close()
        self.snapshot = newer
        found = answers(newer, strands)
        assert found == rebuilt_answers(self.folder.with_name("rebuilt"), self.committed, strands)
        check_lexical_impacts(newer, self.committed)
        with closing(Snapshot(self.folder)) as fresh:  # what grew from snapshot to snapshot equals what is read anew
            assert answers(fresh, strands) == found

    def teardown(self):
        self.writer.close()
        for snapshot in (self.snapshot, *(snapshot for snapshot, _ in self.older)):
            snapshot.close()
        Writer(self.folder).close()
        with closing(Snapshot(self.folder)) as last:
            known = {segment.folder.name for segment in last.segments}
        assert {path.name for path in (self.folder / "segments").iterdir()} == known
        self.stack.close()


TestUpdates = Updates.TestCase
TestUpdates.settings = settings(max_examples=25, stateful_step_count=30)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my.index"


def test_the_mean_vector_is_the_same_however_the_documents_came(folder, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(40, DIM)).astype(np.float32)

    def index(path, batches, gone=(), compact=False):
        with closing(started(path, compaction="off")) as writer:
            for rows in batches:
                sparse = {name: csr_matrix((len(rows), COLUMNS), dtype=np.float32) for name in ("learned", "lexical")}
                writer.add([stored(f"d{row}", row) for row in rows], sparse, dense[rows])
                writer.commit()
            writer.delete([f"d{row}" for row in gone])
            writer.commit()
            if compact:
                writer.compact()
        with closing(Snapshot(path)) as snapshot:
            assert snapshot.mean_vector.dtype == np.float32
            return snapshot.mean_vector.tolist()

    kept = [row for row in range(40) if row % 3]
    expected = dense[kept].astype(np.float64).mean(axis=0)
    gone = [row for row in range(40) if not row % 3]
    whole = index(tmp_path / "whole", [kept])
    assert whole == pytest.approx(expected, abs=2e-6)
    assert index(tmp_path / "backwards", [kept[20:][::-1], kept[:20]]) == whole
    assert index(tmp_path / "deleted", [list(range(25)), list(range(25, 40))], gone) == whole
    assert index(folder, [list(range(7)), list(range(7, 40))], gone, compact=True) == whole
    with closing(Snapshot(folder)) as snapshot:
        for segment in snapshot.segments:
            del segment.manifest["vector_total"]  # as of before manifests told it: the vectors are read
        assert snapshot.mean_vector.tolist() == whole
        with monkeypatch.context() as patched:
            patched.setattr("plait.index.segment.vector_total", None)  # nor are they read for the next snapshot
            with closing(Snapshot(folder, older=snapshot)) as later:
                assert later.mean_vector.tolist() == whole


def test_the_mean_vector_of_nothing_and_of_vectors_beyond_measure(folder, tmp_path):
    with closing(started(folder)):
        pass
    with closing(Snapshot(folder)) as snapshot:
        assert snapshot.mean_vector.tolist() == [0.0] * DIM
    create(tmp_path / "lexical", Layout(dim=0), {})
    with closing(Snapshot(tmp_path / "lexical")) as snapshot:
        assert snapshot.mean_vector.shape == (0,)
    assert vector_total(np.array([[3e38, -3e38, 0.5]], np.float32)).tolist() == [10**6 << 20, -(10**6 << 20), 1 << 19]


def segments_in(folder):
    return sorted(path.name for path in (folder / "segments").iterdir())


def test_positions_stay_and_translate_both_ways(folder):
    made(folder, ["a", "b", "c"], ["d"], ["e", "f"])
    with closing(Writer(folder, compaction="off")) as writer:
        writer.delete(["b", "d"])
        writer.compact(reorder=lambda _forward: np.array([2, 0, 3, 1]))
        with closing(Snapshot(folder)) as snapshot:
            (segment,) = snapshot.segments
            assert segment.positions_of(np.arange(4)).tolist() == [4, 0, 5, 2]
            assert segment.rows_of(np.arange(-1, 8)).tolist() == [-1, 1, -1, 3, -1, 0, 2, -1, -1]
            assert snapshot.positions(["a", "c", "e", "f"]) == {"a": 0, "c": 2, "e": 4, "f": 5}
        add(writer, ["g"], seed=9)
        writer.commit()
        with closing(Snapshot(folder)) as snapshot:
            assert snapshot.positions(["g"]) == {"g": 6}


def test_positions_and_numbers_are_never_given_twice(folder):
    made(folder, ["a"])
    with closing(Writer(folder)) as writer:
        for round in range(1, 4):
            writer.delete(["a"])
            writer.compact()
            assert segments_in(folder) == []
            add(writer, ["a"], seed=round)
            writer.commit()
            assert segments_in(folder) == [f"{round + 1:06d}"]
            with closing(Snapshot(folder)) as snapshot:
                assert snapshot.positions(["a"]) == {"a": round}


def test_a_fresh_segment_keeps_no_positions_and_an_ordered_one_no_inverse(folder):
    made(folder, ["a", "b", "c"])

    def kept():
        (inside,) = (folder / "segments").iterdir()
        return sorted(path.name for path in inside.glob("positions*"))

    assert kept() == []
    with closing(Writer(folder)) as writer:
        writer.delete(["b"])
        writer.compact(reorder=None)
        assert kept() == ["positions.npy"]
        writer.compact(reorder=lambda _forward: np.array([1, 0]))
        assert kept() == ["positions.npy", "positions_row.npy", "positions_sorted.npy"]


def test_compaction_writes_what_indexing_again_would(folder, tmp_path):
    contents = {f"d{i}": i for i in range(40)}
    with closing(started(folder, compaction="off")) as writer:
        put(writer, {"d3": 3, **{f"gone{i}": i for i in range(9)}, "d8": 8})
        writer.commit()
        for start in range(0, 40, 8):
            put(writer, {f"d{i}": i for i in range(start, start + 8)})
            writer.commit()
        writer.delete([f"gone{i}" for i in range(9)])
        assert writer.compact(reorder=None) == 6
    with closing(started(tmp_path / "again")) as writer:
        put(writer, contents)
        writer.commit()
    (left,), (right,) = ((path / "segments").iterdir() for path in (folder, tmp_path / "again"))
    assert {path.name: path.read_bytes() for path in left.iterdir() if path.suffix != ".json"} == {
        path.name: path.read_bytes() for path in right.iterdir() if path.suffix != ".json"
    }


def test_what_is_compact_is_left_alone(folder):
    made(folder, ["a", "b"], ["c"])
    with closing(Writer(folder)) as writer:
        assert [writer.compact(reorder=None), writer.compact(reorder=None)] == [2, 0]
        assert segments_in(folder) == ["000003"]
        orders = (shuffled(1), shuffled(1), None)  # it is put in order once
        assert [writer.compact(reorder=order) for order in orders] == [1, 0, 0]
        writer.delete(["a"])
        assert writer.compact() == 1


def test_compaction_refreshes_the_average_length(folder):
    made(folder, [f"d{i}" for i in range(5)], [f"e{i}" for i in range(50)])

    def averages():
        with closing(Snapshot(folder)) as snapshot:
            facts = snapshot.facts()
            return {s.manifest["average_length"] for s in snapshot.segments}, facts["average_length"]

    assert len(averages()[0]) == 2
    with closing(Writer(folder)) as writer:
        writer.compact()
    found, average = averages()
    assert found == {average}


def test_deleted_documents_are_counted_in_one_way_or_the_other(folder, monkeypatch):
    monkeypatch.setattr("plait.index.segment._ROWS", 7)  # several rounds
    made(folder, [f"d{i}" for i in range(60)])
    with closing(Writer(folder, compaction="off")) as writer:
        writer.delete([f"d{i}" for i in range(0, 60, 2)])
        writer.commit()
        snapshot = Snapshot(folder)
        terms = np.array([40, 3, 3, 49, LEXICAL_BASE + 7, 4000], np.uint32)
        answers = [snapshot.idf(terms).tolist() for _ in range(COLD + 3)]
        assert answers == answers[:1] * (COLD + 3)
        writer.delete(["d1"])
        writer.commit()
        later = Snapshot(folder, older=snapshot)
        with closing(Snapshot(folder)) as fresh:
            assert later.idf(terms).tolist() == fresh.idf(terms).tolist() != answers[0]
        later.close()
        snapshot.close()


def test_a_merge_never_makes_a_segment_too_large_for_its_format(folder, monkeypatch):
    made(folder, *[[f"{batch}-{i}" for i in range(4)] for batch in range(5)])
    monkeypatch.setattr("plait.index.policy.MOST_POSTINGS", 450)
    with closing(Writer(folder)) as writer:
        writer.compact()
    with closing(Snapshot(folder)) as snapshot:
        assert [segment.size for segment in snapshot.segments] == [8, 8, 4]
        assert all(segment.row.postings <= 450 for segment in snapshot.segments)


def test_what_merges_by_itself_never_becomes_too_large_either(folder, monkeypatch):
    monkeypatch.setattr(policy, "MOST_POSTINGS", 450)
    monkeypatch.setattr(policy, "FANOUT", 2)
    made(folder, *[[f"{batch}-{i}" for i in range(4)] for batch in range(5)])
    with closing(Snapshot(folder)) as snapshot:
        assert [segment.size for segment in snapshot.segments] == [8, 8, 4]


def test_windows_of_a_merged_segment_can_be_counted(folder, monkeypatch):
    monkeypatch.setattr("plait.index.compaction.MOST_WINDOWS", 2)
    monkeypatch.setattr(policy, "FANOUT", 3)
    with closing(started(folder)) as writer:
        for batch in range(3):
            put(writer, {f"{batch}-{i}": i for i in range(4)})
            writer.commit()
    with closing(Snapshot(folder)) as snapshot:
        assert [segment.size for segment in snapshot.segments] == [8, 4]


@pytest.mark.parametrize("order", [[0, 1], [0, 0, 1], [0, 1, 3], [1, 2, 0, 2]])
def test_an_order_that_loses_documents_is_refused(folder, order):
    made(folder, ["a", "b"], ["c"])
    with closing(Writer(folder)) as writer, pytest.raises(StoreError, match="each of the rows 0 to 2 once"):
        writer.compact(reorder=lambda _: np.array(order))
    with closing(Snapshot(folder)) as snapshot:
        assert [segment.size for segment in snapshot.segments] == [2, 1]


def test_an_unknown_way_of_compaction_is_refused(folder):
    made(folder, ["a"])
    with pytest.raises(StoreError, match="compaction is one of auto, off, not 'never'"):
        Writer(folder, compaction="never")
    Writer(folder).close()


def test_damage_is_found_before_it_is_copied(folder):
    made(folder, ["a", "b"], ["c"])
    path = folder / "segments" / "000001" / "forward_values.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with closing(Writer(folder)) as writer:
        with pytest.raises(CorruptError, match=r"forward_values\.npy has checksum .*: it was changed"):
            writer.compact()
        path.write_bytes(content)
        assert writer.compact() == 2


# Readers that outlive a compaction


def test_old_segments_stay_as_long_as_somebody_reads_them(folder):
    made(folder, ["a", "b"], ["c"])
    old = Snapshot(folder)
    shared = Snapshot(folder, older=old)
    with closing(Writer(folder)) as writer:
        writer.compact()
        assert segments_in(folder) == ["000001", "000002", "000003"]
        old.close()
        writer.tidy()
        assert segments_in(folder) == ["000001", "000002", "000003"]
        terms = np.arange(50, dtype=np.uint32)
        assert shared.sparse_search("learned", terms, np.ones(50, np.float32), 9).positions.size == 3
        shared.close()
        writer.tidy()
        assert segments_in(folder) == ["000003"]


def test_a_snapshot_that_is_only_forgotten_lets_go_too(folder):
    made(folder, ["a"], ["b"])
    with closing(Writer(folder)) as writer:
        snapshot = Snapshot(folder)
        writer.compact()
        snapshot._connection.close()  # what Python itself would complain of
        del snapshot
        writer.tidy()
        assert segments_in(folder) == ["000003"]


def test_without_locks_nothing_is_removed(folder, monkeypatch):
    """As on a file system that has none: readers are not kept out, and old segments stay."""
    made(folder, ["a"], ["b"])

    def refused(_handle, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files, "fcntl", SimpleNamespace(flock=refused, LOCK_SH=1, LOCK_EX=2, LOCK_NB=4))
    with closing(Snapshot(folder)) as snapshot, closing(Writer(folder)) as writer:
        writer.compact()
        assert list(snapshot.all_ids()) == ["a", "b"]
    assert segments_in(folder) == ["000001", "000002", "000003"]
    monkeypatch.undo()
    Writer(folder).close()
    assert segments_in(folder) == ["000003"]


READER = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    from plait.index import Snapshot
    from tests.index.test_updates import answers
    snapshot = Snapshot(Path(sys.argv[1]))
    print("open", flush=True)
    for line in sys.stdin:
        print(json.dumps(answers(snapshot)), flush=True)
""")


def reader(folder):
    """Starts a process that has a snapshot open, and answers for every line it is sent."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", READER, str(folder)], cwd=ROOT, **pipes)
    assert process.stdout.readline() == "open\n"
    return process


@pytest.mark.parametrize("ending", ["stdin closed", "killed"])
def test_a_reader_in_another_process_outlives_a_compaction(folder, ending):
    with closing(started(folder, compaction="off")) as writer:
        for seed in range(3):
            put(writer, {f"d{i}": 10 * seed + i for i in range(4 + seed)})
            writer.commit()
        with closing(Snapshot(folder)) as snapshot:
            before = answers(snapshot)
        with reader(folder) as process:
            writer.delete(["d0", "d5"])
            writer.compact()
            assert len(segments_in(folder)) == 4
            process.stdin.write("again\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == before
            if ending == "killed":
                process.kill()
        writer.tidy()
        assert len(segments_in(folder)) == 1


def test_segments_that_vanish_while_an_index_is_opened(folder, monkeypatch):
    """A reader has read which segments there are; before it takes hold of them, they are merged and removed."""
    made(folder, ["a", "b"], ["c"])
    real, merges = database.segments, iter([True, True, False])

    def slow(connection):
        rows = real(connection)
        if not connection.in_transaction or not next(merges, False):
            return rows
        with pytest.MonkeyPatch.context() as inside, closing(Writer(folder)) as writer:
            inside.setattr(database, "segments", real)
            add(writer, ["d"], seed=len(rows))
            writer.compact()
        return rows

    monkeypatch.setattr(opening.database, "segments", slow)
    snapshot = Snapshot(folder)
    monkeypatch.undo()
    assert sorted(snapshot.all_ids()) == ["a", "b", "c", "d"]
    assert snapshot.dense_search(np.ones(4, np.float32), 9).positions.size == 4
    snapshot.close()


COMPACTER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from plait.index import Writer
    from tests.index.test_updates import put, shuffled
    writer = Writer(Path(sys.argv[1]))
    seed = 0
    while True:
        seed += 1
        put(writer, {f"d{i}": seed + i for i in range(6)})
        if seed % 3 == 0:
            writer.compact(reorder=shuffled(seed))
        else:
            writer.commit()
""")


def test_readers_come_and_go_while_another_process_compacts(folder):
    with closing(started(folder)) as writer:
        put(writer, {f"d{i}": i for i in range(6)})
        writer.commit()
    compacter = subprocess.Popen([sys.executable, "-c", COMPACTER, str(folder)], cwd=ROOT)
    try:
        commits, snapshot = set(), Snapshot(folder)
        while len(commits) < 25:
            assert compacter.poll() is None
            newer = Snapshot(folder, verify=True, older=snapshot)
            snapshot.close()
            snapshot = newer
            commits.add(snapshot.commit)
            found = snapshot.positions([f"d{i}" for i in range(6)])
            seed = int(snapshot.rows([found["d0"]])[0].text.removeprefix("version "))
            with closing(Snapshot(folder)) as other:  # perhaps of a later commit
                assert len(list(other.all_ids())) == 6
            expected = [float(vectors(seed + i)[2] @ vectors(seed)[2]) for i in range(6)]
            positions = np.array([found[f"d{i}"] for i in range(6)])
            assert snapshot.dense_scores(vectors(seed)[2], positions).tolist() == expected
            assert snapshot.dense_search(vectors(seed)[2], 10).scores.tolist() == sorted(expected, reverse=True)
    finally:
        compacter.kill()
        compacter.wait()
    snapshot.close()
    Writer(folder).close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_no_file_stays_open(folder, monkeypatch):
    monkeypatch.setattr(files, "READ_BYTES", 0)  # every array is mapped
    made(folder, ["a"], ["b"])
    snapshot = Snapshot(folder)
    writer = Writer(folder)

    def work(seed):
        nonlocal snapshot
        add(writer, ["b", f"c{seed}"], seed)
        writer.commit()
        newer = Snapshot(folder, older=snapshot)
        newer.idf(np.arange(50, dtype=np.uint32))
        newer.dense_search(np.ones(4, np.float32), 3)
        snapshot.close()
        snapshot = newer
        if seed % 3 == 0:
            writer.compact()

    def left_open():
        nonlocal snapshot
        snapshot.close()
        count = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # of the listing itself one, always
        snapshot = Snapshot(folder)
        return count

    work(0)
    gc.collect()  # what other tests have left open
    before = left_open()
    for seed in range(1, 20):
        work(seed)
    assert left_open() == before
    snapshot.close()
    writer.close()


# Failing and costing


@pytest.mark.parametrize("step", range(0, 60, 3))
def test_a_failure_at_any_step_of_a_compaction_undoes_it(folder, monkeypatch, step):
    made(folder, ["a", "b"], ["c"])
    writer = Writer(folder, compaction="off")
    writer.delete(["b"])
    writer.commit()
    calls = 0

    def failing(real):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return wrapped

    for name in ("sync_file", "sync_folder", "write_array", "checksum", "read_array"):
        monkeypatch.setattr(files, name, failing(getattr(files, name)))
    with pytest.raises(StoreError, match=r"No space left on device|cannot be read as an array"):
        writer.compact(reorder=shuffled(step))
    monkeypatch.undo()
    assert calls > step  # it did fail
    assert segments_in(folder) == ["000001", "000002"]
    with closing(Snapshot(folder, verify=True)) as snapshot:
        assert list(snapshot.all_ids()) == ["a", "c"]
    assert writer.compact() == 2
    writer.close()
    with closing(Snapshot(folder, verify=True)) as snapshot:
        assert list(snapshot.all_ids()) == ["a", "c"]


def test_a_commit_stands_when_the_merge_after_it_fails(folder, monkeypatch):
    monkeypatch.setattr(policy, "FANOUT", 3)
    made(folder, ["a"], ["b"])
    with closing(Writer(folder)) as writer:
        with monkeypatch.context() as failing:
            full = OSError(28, "No space left on device")
            failing.setattr("plait.index.compaction._append", lambda *_: (_ for _ in ()).throw(full))
            add(writer, ["c"], seed=5)
            writer.commit()
        assert segments_in(folder) == ["000001", "000002", "000003"]
        assert not writer.pending
        add(writer, ["d"], seed=6)
        writer.commit()
    with closing(Snapshot(folder, verify=True)) as snapshot:
        assert list(snapshot.all_ids()) == ["a", "b", "c", "d"]
        assert len(snapshot.segments) == 2


def steps_of(connection, work):
    """Returns how many instructions SQLite's machine runs, in steps of ten, while some work is done."""
    count = 0

    def tick():
        nonlocal count
        count += 1

    connection.set_progress_handler(tick, 10)
    work()
    connection.set_progress_handler(None, 10)
    return count


def test_a_commit_costs_no_more_on_a_larger_index(tmp_path):
    """Nothing counts or reads all documents: what SQLite does for ten replacements hardly grows with the index."""
    found = []
    for size in (300, 6000):
        folder = made(tmp_path / f"{size}.index", [f"d{i:05}" for i in range(size)])
        with closing(Writer(folder, compaction="off")) as writer:

            def work(writer=writer):
                add(writer, [f"d{i:05}" for i in range(0, 300, 30)], seed=3)
                writer.commit()

            found.append(steps_of(writer._connection, work))
    assert found[1] <= 1.2 * found[0]


def test_segments_stay_few_while_documents_come_one_by_one(folder, monkeypatch):
    monkeypatch.setattr(policy, "FANOUT", 3)
    made(folder, *[[f"d{i}"] for i in range(60)])
    with closing(Snapshot(folder)) as snapshot:
        sizes = [segment.size for segment in snapshot.segments]
        assert list(snapshot.all_ids()) == [f"d{i}" for i in range(60)]
    assert sizes == [27, 27, 3, 3]

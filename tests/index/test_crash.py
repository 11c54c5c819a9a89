"""Killed, interrupted, out of room: what was committed is there, what was not is not, and the index opens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from plait.index import Snapshot, StoreError, Writer, files

from .making import add, made

ROOT = Path(__file__).resolve().parents[2]

# Commits batches of three documents for ever, and says so before and after each commit.
WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from plait.index import Writer
    from tests.index.making import add
    folder, first = Path(sys.argv[1]), int(sys.argv[2])
    writer = Writer(folder)
    batch = first
    while True:
        ids = [f"batch{batch}-{i}" for i in range(3)]
        add(writer, ids, seed=batch)
        if batch % 4 == 3:
            writer.delete([f"batch{batch - 1}-0"])
        print("begin", batch, flush=True)
        writer.commit()
        print("done", batch, flush=True)
        batch += 1
""")


def committed_batches(folder):
    """Returns the ids in an index, after a full check of its files."""
    snapshot = Snapshot(folder, verify=True)
    try:
        return set(snapshot.all_ids())
    finally:
        snapshot.close()


def expected_after(batches):
    """Returns the ids that batches 0..n-1 leave."""
    ids = {f"batch{b}-{i}" for b in range(batches) for i in range(3)}
    return ids - {f"batch{b - 1}-0" for b in range(batches) if b % 4 == 3}


def test_a_writer_killed_at_any_moment_loses_nothing_committed(tmp_path):
    folder = made(tmp_path / "my.index")
    random.seed(20)
    done = kills = 0
    while kills < 30:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(done)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout is not None
        process.stdout.readline()  # it is at work
        try:
            process.wait(timeout=random.uniform(0, 0.12))
            pytest.fail("the writer ended by itself")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        kills += 1
        acknowledged = max(
            [int(b) + 1 for verb, b in zip(said[::2], said[1::2], strict=False) if verb == "done"] or [done]
        )
        found = committed_batches(folder)
        # Everything acknowledged is there; of what was under way, all or nothing.
        assert found in (expected_after(acknowledged), expected_after(acknowledged + 1))
        done = acknowledged if found == expected_after(acknowledged) else acknowledged + 1
        Writer(folder).close()
        known = {p.name for p in (folder / "segments").iterdir()}
        assert len(known) == len(Snapshot(folder).segments)
    assert done > 5


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
    assert committed_batches(folder) == expected
    add(writer, ["d"], seed=2)
    writer.commit()
    writer.close()
    assert committed_batches(folder) == {*expected, "d"}


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
        assert committed_batches(folder) == {"a"}
    writer = Writer(folder)
    add(writer, ["b"], seed=2)
    writer.commit()
    writer.close()
    assert committed_batches(folder) == {"a", "b"}


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
    assert committed_batches(folder) == {"a"}
    assert not writer.pending
    writer.close()

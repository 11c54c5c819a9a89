"""How commands end when they are stopped: by Ctrl-C, by a closed pipe, by a full disk. What was committed stays."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from plait.apps.console import Stop
from plait.index import StoreError
from plait.retriever import Document, Retriever

from .conftest import MAIN, jsonl

LEXICAL = ("--strands", "lexical")
posix = pytest.mark.skipif(os.name == "nt", reason="signals and pipes as POSIX has them")


def lines(first, last):
    return "".join(json.dumps({"id": f"d{n}", "text": f"winter {n}"}) + "\n" for n in range(first, last))


def documents(index):
    """Returns how many documents are committed; 0 while there is no index yet."""
    try:
        with closing(Retriever.open(index)) as retriever:
            return len(retriever)
    except StoreError:
        return 0


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_input_is_waited_for(process, plait, tmp_path, number):
    """The input pauses. Everything that was read is committed, and running the command again completes it."""
    command = ("index", "-", "--out", tmp_path / "i", *LEXICAL, "--commit-every", "256")
    running = process(*command)
    running.stdin.write(lines(0, 300).encode())
    running.stdin.flush()
    wait_until(lambda: documents(tmp_path / "i") >= 256)  # the first batch; the process now waits for more
    time.sleep(0.5)
    running.send_signal(number)
    assert running.wait(60) == 130  # with its input still open
    out, err = running.stdout.read().decode(), running.stderr.read().decode()
    kept = documents(tmp_path / "i")
    assert kept in (256, 300)  # on a busy machine the signal may come before the rest was read
    assert out == f"added {kept}; {tmp_path / 'i'} holds {kept} documents\n"
    assert err == (
        "\nstopping: finishing the current batch, then committing it (again to stop at once)\n"
        "stopped early; run the same command again to go on\n"
    )
    facts = plait(*command, "--json", stdin=lines(0, 400)).json
    assert (facts["added"], facts["unchanged"], facts["documents"]) == (400 - kept, kept, 400)


@posix
def test_ctrl_c_in_the_middle_of_much_input(process, tmp_path):
    """Encoding is under way, not waiting: the batch at work is finished and the whole of it is committed."""
    path = tmp_path / "many.jsonl"
    path.write_text(lines(0, 200_000))
    running = process("index", path, "--out", tmp_path / "i", *LEXICAL, "--commit-every", "1024", "--json")
    wait_until(lambda: documents(tmp_path / "i") > 0)
    running.send_signal(signal.SIGINT)
    out, _err = running.communicate(timeout=60)
    assert running.returncode == 130
    facts = json.loads(out)
    assert facts["stopped"]
    assert 1024 <= facts["documents"] < 200_000
    assert documents(tmp_path / "i") == facts["documents"]


@posix
def test_ctrl_c_twice_stops_at_once_and_keeps_what_was_committed(process, tmp_path):
    """A commit is under way when the second Ctrl-C comes: it counts whole or not at all."""
    path = tmp_path / "many.jsonl"
    path.write_text(lines(0, 200_000))
    running = process("index", path, "--out", tmp_path / "i", *LEXICAL, "--commit-every", "1024")
    wait_until(lambda: documents(tmp_path / "i") > 0)
    running.send_signal(signal.SIGINT)
    assert select.select([running.stderr], [], [], 60)[0]
    running.send_signal(signal.SIGINT)
    _out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in err
    assert documents(tmp_path / "i") >= 1024


def test_ctrl_c_anywhere_else(plait, index, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Retriever, "search", interrupted)
    assert plait("search", index, "x", code=130) == ("", "interrupted\n")


def test_passages_of_one_parent_are_kept_together():
    """Stopping between two passages of a parent would make the second look removed."""
    stop = Stop()
    given = [
        Document("a", "alone"),
        *(Document(f"p#{n}", "text", parent="p") for n in range(3)),
        *(Document(f"q#{n}", "text", parent="q") for n in range(3)),
    ]
    seen = []
    for document in stop.until(iter(given)):
        seen.append(document.id)
        if document.id == "p#1":
            stop(signal.SIGINT, None)
    assert seen == ["a", "p#0", "p#1", "p#2"]
    assert [document.id for document in Stop().until(given)] == [document.id for document in given]


def test_stopping_inside_a_parent_removes_nothing(plait, tmp_path):
    text = tmp_path / "long.txt"
    text.write_text(" ".join(f"word{n}" for n in range(3000)))
    plait("index", text, "--out", tmp_path / "i", *LEXICAL)
    before = documents(tmp_path / "i")

    def read():
        with closing(Retriever.open(tmp_path / "i")) as retriever:
            yield from retriever.passages("long.txt")[:5]
        stop(signal.SIGINT, None)

    stop = Stop()
    with closing(Retriever.open(tmp_path / "i")) as retriever:
        done = retriever.add(stop.until(read()), replace_parents=True)
        retriever.commit()
    assert done.removed == 0
    assert documents(tmp_path / "i") == before


def test_the_second_signal_interrupts_at_once(capsys):
    stop = Stop()
    stop(signal.SIGINT, None)
    assert "again to stop at once" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, None)


# A closed pipe


@pytest.fixture
def wide_index(plait, tmp_path):
    """An index whose answers do not fit into a pipe."""
    path = jsonl(tmp_path / "w.jsonl", [{"id": f"d{n}", "text": "winter " + "word " * 60} for n in range(700)])
    plait("index", path, "--out", tmp_path / "w.index", *LEXICAL)
    (tmp_path / "q.txt").write_text("winter\n" * 20)
    return tmp_path / "w.index"


@posix
@pytest.mark.parametrize("options", [("winter",), ("winter", "--json"), ("--queries", "q.txt"), ("winter", "-k", "1")])
def test_a_reader_that_goes_away(process, wide_index, tmp_path, options):
    """As with `| head -1`: no traceback, no complaint, no error."""
    options = [tmp_path / option if option == "q.txt" else option for option in options]
    k = () if "-k" in options else ("-k", "700")
    running = process("search", wide_index, *options, *k, stdin=subprocess.DEVNULL)
    if k:
        assert b"d" in running.stdout.readline()
    running.stdout.close()
    err = running.stderr.read()
    assert (running.wait(60), err) == (0, b"")


# Closed streams


@posix
@pytest.mark.parametrize("command", ["search {index} --queries -", "index - -o {index}2", "delete {index} --from -"])
def test_a_closed_input_is_told(index, command):
    words = command.format(index=index).split()
    said = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *MAIN, *words], capture_output=True, text=True)
    assert said.returncode == 1
    assert said.stderr == "error: standard input: is closed; give it something to read, or name a file\n"
    assert not index.with_name(f"{index.name}2").exists()


@posix
@pytest.mark.parametrize("options", [("--json",), ()])
def test_a_closed_output_is_no_error(index, options):
    words = ["search", index, "winter", *options]
    said = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *MAIN, *words], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")


# A full disk

FULL = Path("/dev/full")  # a device on which there is never room
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from plait.apps.cli import main
main()
"""


@posix
@pytest.mark.parametrize("strands", ["lexical", "lexical,dense"])
def test_a_disk_that_is_full(plait, tmp_path, strands):
    """Files may grow to a limit only: the commit fails as on a full disk, and the one before it is all there."""
    few = tmp_path / "few.jsonl"
    few.write_text(lines(0, 3))
    plait("index", few, "--out", tmp_path / "i", "--strands", strands)
    many = tmp_path / "many.jsonl"
    many.write_text(lines(0, 200 if "dense" in strands else 5000))
    limit = 200_000
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), "add", tmp_path / "i", many], capture_output=True, text=True
    )
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    assert said.stderr.splitlines()[-1].startswith("error: ")
    assert "what was committed before is untouched" in said.stderr
    assert documents(tmp_path / "i") == 3
    assert plait("add", tmp_path / "i", many, "--json").json["unchanged"] == 3


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["search", "--help"], ["version"]])
def test_output_that_cannot_be_written_is_told(words):
    with FULL.open("w") as full:
        said = subprocess.run([*MAIN, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (said.returncode, said.stderr) == (1, "error: [Errno 28] No space left on device\n")


# Output


def test_output_is_utf_8_whatever_the_locale(index, tmp_path):
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    path = jsonl(tmp_path / "a.jsonl", [{"id": "é", "text": "дом dom"}])
    main = [sys.executable, "-c", "from plait.apps.cli import main; main()"]
    subprocess.run([*main, "add", index, path], check=True, capture_output=True, env=env)
    for options in (["dom", "--json"], ["dom"]):
        said = subprocess.run([*main, "search", index, *options], check=True, capture_output=True, env=env)
        assert "дом" in said.stdout.decode()
        assert said.stderr == b""

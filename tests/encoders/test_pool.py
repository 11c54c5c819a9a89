"""Documents over several processes: the same vectors in the same order, one clear end, and nobody left behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders import (
    EncoderError,
    VectorCache,
    cached_learned,
    load_dense,
    load_joint,
    load_learned,
    pooled,
    prepared,
)
from plait.encoders import pool as pool_module
from plait.encoders.counting import counting
from plait.encoders.pool import PIECE_CHARS, PIECE_TEXTS, Pool, pieces
from plait.encoders.worker import receive, send
from plait.retriever import Retriever
from plait.retriever.exchange import vocabulary_of

from ..conftest import LetterDense
from .joint_folders import Kind, make_joint

LOAD = {"dense": load_dense, "learned": load_learned}
FOLDERS = {"dense": "bert-pooled", "learned": "bert-masked"}


@pytest.fixture(scope="module")
def joint_folder(tmp_path_factory):
    return make_joint(Kind(), tmp_path_factory.mktemp("joint") / "joint")


@pytest.fixture(scope="module")
def joint(joint_folder):
    made = pooled(joint_folder, kind="joint", processes=2)
    yield made
    made.close()


def by_piece(encode, texts, processes):
    """The rows that one process gives for each piece, as bytes, by position: what a pool is to give, bit for bit."""
    found = {}
    for piece in pieces(texts, processes):
        rows = encode([texts[position] for position in piece])
        for position, row in zip(piece, rows, strict=True):
            found[position] = bits(row)
    return [found[position] for position in range(len(texts))]


def bits(row):
    return row.tobytes() if isinstance(row, np.ndarray) else (row.indices.tobytes(), row.data.tobytes())


@given(st.lists(st.integers(0, 3 * PIECE_CHARS // 2).map(lambda n: n and 2 ** (n.bit_length() - 1))), st.integers(1, 9))
def test_pieces_hold_every_text_once_within_bounds(lengths, processes):
    texts = ["x" * length for length in lengths]
    found = pieces(texts, processes)
    assert sorted(position for piece in found for position in piece) == list(range(len(texts)))
    for piece in found:
        assert len(piece) == 1 or sum(lengths[position] for position in piece) <= PIECE_CHARS
        assert len(piece) <= max(1, -(-len(texts) // processes))
    in_order = [lengths[position] for piece in found for position in piece]
    assert in_order == sorted(lengths, reverse=True)


def test_pieces_of_many_short_and_one_long_text():
    texts = ["", *["word " * 100] * 300, "long " * 100_000]
    found = pieces(texts, 2)
    assert found[0] == [301]
    assert len(found) > 2
    assert pieces(["a"] * 10_000, 2)[0] == list(range(PIECE_TEXTS))
    assert pieces([], 3) == []
    assert pieces(["", ""], 3) == [[0], [1]]


@pytest.mark.parametrize("kind", ["dense", "learned"])
def test_one_strand_equals_its_pieces_bit_for_bit(kind, built, texts):
    folder = built(FOLDERS[kind], "int8")
    alone = LOAD[kind](folder)
    many = [f"{text} {number}" for number in range(40) for text in texts]
    made = pooled(folder, kind=kind, processes=2, token_budget=400)
    try:
        found = made.encode_documents(many)
        expected = by_piece(LOAD[kind](folder, token_budget=400, threads=1).encode_documents, many, 2)
        assert [bits(row) for row in found] == expected
        assert abs(found - alone.encode_documents(many)).max() < 1e-5
        assert made.identity == alone.identity
        assert bits(made.encode_queries(texts)) == bits(alone.encode_queries(texts))
        assert made.load_name == str(folder)
        if kind == "learned":
            assert made.term_names("open access") == alone.term_names("open access")
            assert bits(made.document_terms(texts)) == bits(alone.encode_queries(texts))
    finally:
        made.close()


def test_both_strands_at_once(joint, joint_folder, texts):
    alone = load_joint(joint_folder, threads=1)
    sparse, dense = joint.encode_documents(texts)
    assert [bits(row) for row in sparse] == by_piece(lambda some: alone.encode_documents(some)[0], texts, 2)
    assert [bits(row) for row in dense] == by_piece(lambda some: alone.encode_documents(some)[1], texts, 2)
    assert joint.learned.identity == alone.learned.identity
    assert joint.dense.identity == alone.dense.identity
    assert joint.learned.joint is joint.dense.joint is joint
    only = joint.dense.encode_documents(texts[:3])
    assert [bits(row) for row in only] == by_piece(alone.dense.encode_documents, texts[:3], 2)


def test_strings_of_columns_are_found_behind_a_pool_and_a_cache(joint, joint_folder, tmp_path):
    expected = load_learned(joint_folder).vocabulary()
    with VectorCache(tmp_path / "c.cache") as cache:
        for encoder in (joint.learned, cached_learned(joint.learned, cache)):
            assert vocabulary_of(encoder) == expected


def test_no_texts_and_one(joint, joint_folder):
    sparse, dense = joint.encode_documents([])
    assert (sparse.shape, sparse.dtype, dense.shape, dense.dtype) == ((0, 180), np.float32, (0, 32), np.float32)
    alone = load_joint(joint_folder).encode_documents(["\ud800 and \u2028 zoë"])
    assert [bits(rows) for rows in joint.encode_documents(["\ud800 and \u2028 zoë"])] == [bits(rows) for rows in alone]


def test_tokens_of_all_processes_count(joint, joint_folder, texts):
    with counting() as there:
        joint.encode_documents(texts)
    with counting() as here:
        load_joint(joint_folder).encode_documents(texts)
    assert there.total == here.total > 0


def test_threads_may_share_a_pool(joint, texts):
    expected = [bits(joint.dense.encode_documents(texts[start:])) for start in range(4)]
    found = [b""] * 4

    def work(start):
        found[start] = bits(joint.dense.encode_documents(texts[start:]))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_an_index_over_processes_opens_without(joint_folder, tmp_path, texts):
    name = str(joint_folder)
    with (
        prepared(learned=name, dense=name, processes=2) as encoders,
        Retriever.create(tmp_path / "index", strands="learned,dense", **encoders) as made,
    ):
        pool = encoders["dense"].pool
        assert encoders["learned"].joint is encoders["dense"].joint is not None
        assert made._encoders.at_once == 2 * 256
        made.add({"id": str(number), "text": text} for number, text in enumerate(texts[2:]))
    assert pool._workers == []
    with Retriever.open(tmp_path / "index") as opened:
        assert len(opened) == len(texts) - 2
        assert opened.search(texts[3], k=1, strands="dense", pipeline="none")[0].text == texts[3]


def test_options_that_move_vectors_are_part_of_the_name(built):
    made = pooled(built("bert-pooled"), kind="dense", max_length=16, threads=2)
    assert made.load_name == f'{built("bert-pooled")}:{{"max_length": 16}}'
    assert made.identity == load_dense(made.load_name).identity
    assert made.identity.max_length == 16
    assert bits(made.encode_queries(["one two " * 20])) == bits(made.encode_documents(["one two " * 20]))
    made.close()


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["dense", "learned"])
def test_devices_have_a_process_each_and_an_index_remembers_the_runtime(kind, golden, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(golden)
    alone = LOAD[kind](f"{FOLDERS[kind]}:device=cpu", threads=1)
    with prepared(**{kind: FOLDERS[kind]}, devices=["cpu", "cpu"]) as encoders:
        made = encoders[kind]
        assert made.pool.processes == 2
        assert made.at_once == 2 * 2048
        assert made.identity.differences(alone.identity) == []
        assert made.load_name == f'{FOLDERS[kind]}:{{"runtime": "torch"}}'
        with counting() as there:
            found = made.encode_documents(texts)
        with counting() as here:
            expected = alone.encode_documents(texts)
        assert abs(found - expected).max() < 1e-5
        assert there.total == here.total > 0
        with Retriever.create(tmp_path / "index", strands=kind, **encoders) as index:
            index.add([{"id": "1", "text": "open access"}])
    monkeypatch.chdir(tmp_path)
    with Retriever.open(tmp_path / "index") as opened:
        assert opened.search("open access")[0].id == "1"


# What goes wrong


def test_what_is_no_text_is_refused(joint):
    with pytest.raises(EncoderError, match="text 1 is a int, expected a str"):
        joint.encode_documents(["a", 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "both"}, "kind is 'both', expected one of dense, learned, joint"),
        ({"kind": "dense", "top": 3, "colour": 1}, "there is no option 'colour'; there are: family"),
        ({"kind": "dense", "processes": 0}, "processes is 0, expected a whole number from 1"),
        ({"kind": "dense", "devices": "cuda:0"}, "devices is 'cuda:0', expected a list of names"),
        ({"kind": "dense", "devices": ["cuda:0", ""]}, "expected a list of names"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(EncoderError, match=message):
        pooled("embedded", **options)


def test_a_model_that_is_not_there_says_what_one_process_says():
    with pytest.raises(EncoderError) as alone:
        load_dense("no such model")
    with pytest.raises(EncoderError) as many:
        pooled("no such model", kind="dense", processes=2)
    assert str(many.value) == str(alone.value)


def test_a_model_of_one_strand_is_not_joint(built):
    with pytest.raises(EncoderError, match="holds a dense encoder, a learned one was asked for"):
        pooled(built("bert-pooled"), kind="joint")


def test_an_encoder_object_cannot_be_shared_out():
    with (
        pytest.raises(EncoderError, match="the dense encoder is a LetterDense; processes load their own"),
        prepared(dense=LetterDense(), processes=2),
    ):
        pass


def test_an_error_in_a_process_is_the_callers(built, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(built("bert-pooled"), folder)
    made = pooled(folder, kind="dense", processes=2)
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(EncoderError, match=r"model\.onnx"):
        made.encode_documents(["a", "b"])
    assert made.pool._workers == []


@pytest.mark.skipif(sys.platform == "win32", reason="a killed process has no signal there")
def test_a_killed_process_is_reported_and_the_next_call_starts_anew(joint_folder, texts):
    made = pooled(joint_folder, kind="joint", processes=2)
    expected = bits(made.dense.encode_documents(texts))
    worker = made.pool._workers[1]
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    with pytest.raises(EncoderError, match="process 2 of 2 was killed, as systems do when memory runs out: use fewer"):
        made.encode_documents(texts)
    assert made.pool._workers == []
    assert bits(made.dense.encode_documents(texts)) == expected
    made.close()


def test_a_process_that_ends_by_itself_is_reported_with_what_it_said(monkeypatch):
    monkeypatch.setattr(pool_module, "_CODE", "import sys; sys.exit('no plait here')")
    with pytest.raises(EncoderError, match="encoding process 1 of 1 ended with status 1: no plait here"):
        Pool({"dense": "embedded"}).facts  # noqa: B018


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send Ctrl-C to the main thread")
def test_ctrl_c_ends_all_processes(built, monkeypatch):
    made = pooled(built("bert-pooled"), kind="dense", processes=2)
    processes = [worker.process for worker in made.pool._workers]
    main, encode = threading.main_thread().ident, pool_module.Worker.encode

    def interrupted(self, strand, texts):
        signal.pthread_kill(main, signal.SIGINT)
        while True:  # until the process is ended
            encode(self, strand, texts)

    monkeypatch.setattr(pool_module.Worker, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.encode_documents(["open access"] * 50)
    assert all(process.poll() is not None for process in processes)


# No `if __name__ == "__main__"`: processes do not run the caller's script again.
SCRIPT = """
import sys, time
from plait.encoders import pooled
made = pooled(sys.argv[1], kind="dense", processes=2)
print(*(worker.process.pid for worker in made.pool._workers), made.encode_documents(["a", "b"]).shape, flush=True)
if sys.argv[2] == "stay":
    time.sleep(600)
"""


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", ["stay", "go"])
def test_nobody_is_left_behind(how, built, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "error", tmp_path / "script.py", built("bert-pooled"), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first, second, *shape = process.stdout.readline().split()
        if how == "stay":
            process.kill()
    assert shape == ["(2,", "32)"]
    assert process.returncode == (-9 if how == "stay" else 0)
    for _ in range(1_000):
        if not is_running(int(first)) and not is_running(int(second)):
            return
        time.sleep(0.02)
    raise AssertionError(f"{first} and {second} still run")


# What is said between them


def test_messages_come_over_whole():
    stream = io.BytesIO()
    arrays = [np.arange(6, dtype="<f4").reshape(2, 3), np.empty((0, 4), np.int64), np.array([1], np.uint8)]
    send(stream, {"texts": ["a\nb", "\ud800", "☃"]}, arrays)
    send(stream, {})
    stream.seek(0)
    facts, found = receive(stream)
    assert facts == {"texts": ["a\nb", "\ud800", "☃"]}
    for one, other in zip(found, arrays, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert receive(stream) == ({}, [])
    with pytest.raises(EOFError):
        receive(stream)


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_a_message_cut_short_is_none(kept):
    stream = io.BytesIO()
    send(stream, {}, [np.arange(3)])
    with pytest.raises(EOFError):
        receive(io.BytesIO(stream.getvalue()[:kept]))

"""Vectors that were kept: the same bits back, other encoders' never, and no harm when file or disk fails."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders import EncoderError, Identity, VectorCache, load_dense, load_joint, load_learned
from plait.encoders.cache import MAX_BYTES, CacheWarning, Space, key_of
from plait.encoders.cached import CachedSparse, cached_dense, cached_learned, cached_pair
from plait.encoders.preparing import prepared
from plait.retriever import Retriever
from scipy.sparse import csr_matrix

from ..conftest import LengthSparse, LetterDense
from ..small_disk import SmallDisk, leave, make_room
from .joint_folders import Kind, make_joint

IDENTITY = Identity("a", "1", "t", "mean", 8, 4)
SPACE = Space.of(IDENTITY, "dense", "document")
TEXTS = ["snow falls", "", "bees make honey", "snow falls", "\ud800 alone", "zoë ☃"]


class Counted:
    """An encoder that notes what it is asked."""

    def __init__(self, inner):
        self.inner, self.identity, self.asked = inner, inner.identity, []

    def encode_documents(self, texts):
        self.asked.append(list(texts))
        return self.inner.encode_documents(texts)

    def encode_queries(self, texts):
        self.asked.append(list(texts))
        return self.inner.encode_queries(texts)

    def term_names(self, text):
        return self.inner.term_names(text)


@pytest.fixture
def cache(tmp_path):
    with VectorCache(tmp_path / "cache") as opened:
        yield opened


def same_bits(found, expected):
    if not isinstance(found, np.ndarray):
        assert found.shape == expected.shape
        assert found.indices.dtype == expected.indices.dtype
        np.testing.assert_array_equal(found.indptr, expected.indptr)
        np.testing.assert_array_equal(found.indices, expected.indices)
        found, expected = found.data, expected.data
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("wrap", "inner"), [(cached_dense, LetterDense()), (cached_learned, LengthSparse())])
def test_a_text_is_encoded_once(cache, wrap, inner):
    counted = Counted(inner)
    first = wrap(counted, cache).encode_documents(TEXTS)
    assert counted.asked == [["snow falls", "", "bees make honey", "\ud800 alone", "zoë ☃"]]
    again = wrap(counted, cache)
    same_bits(again.encode_documents(TEXTS), first)
    same_bits(again.encode_documents([]), inner.encode_documents([]))
    same_bits(again.encode_documents([*TEXTS[:2], "new"]), inner.encode_documents([*TEXTS[:2], "new"]))
    assert counted.asked[1:] == [["new"]]
    assert (cache.asked, cache.found) == (6 + 6 + 3, 0 + 6 + 2)
    assert again.identity == inner.identity


@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=True), min_size=3, max_size=3).map(lambda row: np.array(row, "f4")),
        max_size=5,
    )
)
@settings(max_examples=25)
def test_every_float_comes_back(tmp_path_factory, rows):
    class Given(LetterDense):
        identity = Identity("given", "1", "", "", 0, 3)

        def encode_documents(self, texts):
            return np.array([rows[int(text)] for text in texts], "f4").reshape(len(texts), 3)

    texts = [str(number) for number in range(len(rows))]
    with VectorCache(tmp_path_factory.mktemp("floats")) as cache:
        for _ in range(2):
            same_bits(cached_dense(Given(), cache).encode_documents(texts), Given().encode_documents(texts))


def test_columns_and_their_order_come_back(cache):
    class Wide(LengthSparse):
        identity = Identity("wide", "1", "", "", 0, 2**32)

        def encode_documents(self, texts):
            indices = np.array([2**32 - 1, 0, 7], np.int64)
            return csr_matrix((np.array([1, -0.0, 3], "f4"), indices, np.array([0, 2, 2, 3])), shape=(3, 2**32))

    for _ in range(2):
        found = CachedSparse(Wide(), cache).encode_documents(["a", "b", "c"])
        same_bits(found, Wide().encode_documents([]))
    assert cache.found == 3


def test_a_name_moves_no_vector_and_everything_else_does(cache):
    inner = Counted(LetterDense())
    cached_dense(inner, cache).encode_documents(["snow"])
    inner.identity = replace(inner.identity, name="the same under another name")
    cached_dense(inner, cache).encode_documents(["snow"])
    assert len(inner.asked) == 1
    for field, value in {"revision": "2", "tokenizer": "x", "activation": "x", "max_length": 3}.items():
        other = Counted(LetterDense())
        other.identity = replace(LetterDense.identity, **{field: value})
        cached_dense(other, cache).encode_documents(["snow"])
        assert len(other.asked) == 1, field
    assert [one.vectors for one in cache.kept()] == [1] * 5


def test_queries_are_kept_where_that_is_asked_for(cache):
    inner = Counted(LetterDense())
    for queries, asked in ((False, 2), (True, 1)):
        inner.asked.clear()
        for _ in range(2):
            same_bits(
                cached_dense(inner, cache, queries=queries).encode_queries(["snow"]),
                LetterDense().encode_queries(["snow"]),
            )
        assert len(inner.asked) == asked
    cached_dense(inner, cache).encode_documents(["snow"])  # not the query's
    assert len(inner.asked) == 2
    inner.queries = "static"
    for _ in range(2):
        cached_dense(inner, cache, queries=True).encode_queries(["snow"])
    assert len(inner.asked) == 4
    assert {one.side for one in cache.kept()} == {"document", "query"}


def test_a_sparse_encoder_keeps_its_names_and_own_terms(cache):
    wrapped = cached_learned(LengthSparse(), cache)
    assert wrapped.term_names("snow") == {4: "length-4"}
    same_bits(wrapped.document_terms(["snow"]), LengthSparse().encode_queries(["snow"]))


@pytest.mark.parametrize("texts", ["snow", ["snow", 3]])
def test_what_is_no_text_is_refused_as_without_a_cache(cache, texts):
    with pytest.raises(EncoderError, match=r"put it in a list|text 1 is a int, expected a str"):
        cached_dense(LetterDense(), cache).encode_documents(texts)


# Both strands at once


@pytest.fixture(scope="module")
def joint_folder(tmp_path_factory):
    return make_joint(Kind(static=8), tmp_path_factory.mktemp("joint") / "joint")


def test_halves_share_a_pass_and_the_cache(cache, joint_folder, monkeypatch):
    learned, dense = load_learned(joint_folder), load_dense(joint_folder)
    expected = load_joint(joint_folder).encode_documents(["one", "two"])
    passes = []
    inner = type(dense.joint).encode_documents
    monkeypatch.setattr(
        type(dense.joint), "encode_documents", lambda self, texts: (passes.append(list(texts)), inner(self, texts))[1]
    )
    cached_dense(dense, cache).encode_documents(["one"])  # one half alone
    sparse_face, dense_face = cached_pair(learned, dense, cache)
    assert sparse_face.joint is dense_face.joint is not None
    for _ in range(2):
        sparse, vectors = dense_face.joint.encode_documents(["one", "two"])
        assert passes == [["one", "two"]]
        same_bits(sparse, expected[0])
        same_bits(vectors, expected[1])
    same_bits(dense_face.encode_documents(["two"]), expected[1][1:])
    assert cache.found == 2 + 1


def test_encoders_of_two_models_have_no_joint(cache):
    faces = cached_pair(LengthSparse(), LetterDense(), cache)
    assert [face.joint for face in faces] == [None, None]


def test_an_index_remembers_the_names(cache, joint_folder, tmp_path):
    name = str(joint_folder)
    documents = [{"id": "1", "text": "open access"}, {"id": "2", "text": "a study"}]
    for number in range(2):
        with prepared(learned=name, dense=name, cache=cache) as encoders:
            assert encoders["learned"].joint is encoders["dense"].joint is not None
            with Retriever.create(tmp_path / str(number), strands="learned,dense", **encoders) as made:
                made.add(documents)
    assert (cache.asked, cache.found) == (4, 2)
    with Retriever.open(tmp_path / "1") as opened:
        plain = [(hit.id, hit.score) for hit in opened.search("study", k=2)]
        assert opened.info()["encoders"]["dense"]["name"] == name
    with Retriever.open(tmp_path / "0") as opened:
        assert [(hit.id, hit.score) for hit in opened.search("study", k=2)] == plain


def test_an_index_remembers_a_folder_by_its_full_path_and_the_options_behind_it(
    cache, joint_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(joint_folder.parent)
    with prepared(dense=f"{joint_folder.name}:max_length=16", cache=cache) as encoders:
        Retriever.create(tmp_path / "index", strands="dense", **encoders).close()
    monkeypatch.chdir(tmp_path)
    with Retriever.open(tmp_path / "index") as opened:
        assert opened._snapshot.settings["encoders"]["dense"]["source"] == f"{joint_folder}:max_length=16"
        assert opened.info()["encoders"]["dense"]["max_length"] == 16


# The store


@given(st.lists(st.dictionaries(st.binary(min_size=16, max_size=16), st.binary(max_size=40), max_size=5), max_size=5))
@settings(max_examples=25)
def test_it_is_a_dictionary(tmp_path_factory, puts):
    expected = {}
    with VectorCache(tmp_path_factory.mktemp("store")) as cache:
        for values in puts:
            cache.put({SPACE: values})
            expected |= values
        assert cache.get(SPACE, [*expected, b"unknown"]) == expected
        assert sum(one.vectors for one in cache.kept()) == len(expected)
        assert cache.clear() == len(expected)
        assert cache.get(SPACE, list(expected)) == {}


def test_many_keys_and_two_spaces_in_one_call(cache):
    other = Space.of(IDENTITY, "dense", "query")
    values = {key_of(str(number)): str(number).encode() for number in range(1_700)}
    cache.put({SPACE: values, other: {key_of("0"): b"another"}})
    assert cache.get(SPACE, list(values)) == values
    assert cache.get(other, list(values)) == {key_of("0"): b"another"}
    kept = [(one.name, one.kind, one.side, one.vectors) for one in cache.kept()]
    assert kept == [("a", "dense", "document", 1_700), ("a", "dense", "query", 1)]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    now = [10_000.0]
    with VectorCache(tmp_path, max_bytes=1 << 20, clock=lambda: now[0]) as cache:
        keys = [key_of(str(number)) for number in range(12)]
        for key in keys[:8]:
            now[0] += 10_000
            cache.put({SPACE: {key: bytes(100_000)}})
        now[0] += 10_000
        assert set(cache.get(SPACE, keys[:2])) == set(keys[:2])  # used again
        for key in keys[8:]:
            now[0] += 10_000
            cache.put({SPACE: {key: bytes(100_000)}})
            assert cache.size <= 1 << 20
        left = set(cache.get(SPACE, keys))
        assert left >= {*keys[:2], *keys[9:]}
        assert not left & set(keys[2:5])
        assert cache.path.stat().st_size < 1.3 * (1 << 20)


def test_a_bound_is_remembered_and_holds_at_once(tmp_path):
    with VectorCache(tmp_path) as cache:
        assert cache.max_bytes == MAX_BYTES
        cache.put({SPACE: {key_of(str(number)): bytes(100_000) for number in range(40)}})
        assert cache.size > 4_000_000
        cache.bound_to(2_000_000)
        assert 1_000_000 < cache.size <= 2_000_000
    with VectorCache(tmp_path) as cache:
        assert cache.max_bytes == 2_000_000
        assert cache.clear() > 5
        assert cache.path.stat().st_size == cache.size < 200_000
        with pytest.raises(EncoderError, match="max_bytes is 5, expected at least 1048576"):
            cache.bound_to(5)


def test_a_value_larger_than_the_bound_is_not_kept(tmp_path):
    with VectorCache(tmp_path, max_bytes=1 << 20) as cache:
        cache.put({SPACE: {key_of("x"): bytes(3 << 20)}})
        assert cache.get(SPACE, [key_of("x")]) == {}
        assert cache.size < 1 << 20


def test_a_closed_cache_finds_and_keeps_nothing(tmp_path):
    cache = VectorCache(tmp_path)
    cache.close()
    cache.put({SPACE: {key_of("a"): b"a"}})
    assert cache.get(SPACE, [key_of("a")]) == {}
    assert (cache.size, cache.kept(), cache.clear()) == (0, [], 0)


# What goes wrong


def fill(folder, count=300):
    with VectorCache(folder) as cache:
        cache.put({SPACE: {key_of(str(number)): bytes(1_000) for number in range(count)}})
        return cache.path


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(3_000)])
def test_a_file_that_is_no_database_is_put_aside(tmp_path, content):
    path = fill(tmp_path)
    path.write_bytes(content)
    with pytest.warns(CacheWarning, match=r"was damaged .* it is vectors-1\.db\.damaged now, and begun anew"):
        cache = VectorCache(tmp_path)
    with cache:
        cache.put({SPACE: {key_of("a"): b"a"}})
        assert cache.get(SPACE, [key_of("a"), key_of("1")]) == {key_of("a"): b"a"}
    assert path.with_name("vectors-1.db.damaged").read_bytes() == content


def test_damage_found_on_the_way_costs_a_second_encoding_and_no_more(tmp_path):
    told = []
    cache = VectorCache(tmp_path, on_problem=told.append)
    inner = Counted(LetterDense())
    wrapped = cached_dense(inner, cache)
    texts = [f"text {number}" for number in range(2_000)]
    first = wrapped.encode_documents(texts)
    cache.close()
    content = bytearray(cache.path.read_bytes())
    content[16384 * 3 :] = b"\xa5" * (len(content) - 16384 * 3)
    cache.path.write_bytes(content)
    with VectorCache(tmp_path, on_problem=told.append) as cache:
        wrapped = cached_dense(inner, cache)
        same_bits(wrapped.encode_documents(texts), first)
        assert len(told) == 1
        same_bits(wrapped.encode_documents(texts), first)
        assert wrapped.encode_documents(["new"]).shape == (1, 26)
        wrapped.encode_documents(["new"])
    assert len(told) == 1
    assert inner.asked[-1] == ["new"]
    assert len(inner.asked) <= 4  # the first put may have met the damage, too


def test_a_changed_bit_is_noticed(cache):
    inner = Counted(LetterDense())
    expected = cached_dense(inner, cache).encode_documents(["snow"])
    with sqlite3.connect(cache.path) as direct:
        (value,) = direct.execute("SELECT value FROM vector").fetchone()
        direct.execute("UPDATE vector SET value = ?", (value[:-1] + bytes([value[-1] ^ 1]),))
    direct.close()
    for _ in range(2):
        same_bits(cached_dense(inner, cache).encode_documents(["snow"]), expected)
    assert len(inner.asked) == 2


@pytest.mark.parametrize("value", [b"", b"\0" * 7, b"\0" * 108])
def test_a_vector_of_another_width_is_no_vector(cache, value):
    cache.put({Space.of(LetterDense.identity, "dense", "document"): {key_of("snow"): value}})
    same_bits(cached_dense(LetterDense(), cache).encode_documents(["snow"]), LetterDense().encode_documents(["snow"]))


def test_a_column_out_of_range_is_no_column(cache):
    value = np.array([64], "<u4").tobytes() + np.array([1], "<f4").tobytes()
    cache.put({Space.of(LengthSparse.identity, "sparse", "document"): {key_of("snow"): value}})
    same_bits(
        cached_learned(LengthSparse(), cache).encode_documents(["snow"]), LengthSparse().encode_documents(["snow"])
    )


def test_a_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EncoderError, match=r"the cache folder .*file cannot be made \(File exists\): name another"):
        VectorCache(tmp_path / "file")


def test_a_lasting_error_is_told_and_encoding_goes_on(tmp_path):
    told = []
    (tmp_path / "vectors-1.db").mkdir()
    with VectorCache(tmp_path, on_problem=told.append) as cache:
        same_bits(cached_dense(LetterDense(), cache).encode_documents(["a"]), LetterDense().encode_documents(["a"]))
    assert told == [
        f"the vector cache {tmp_path / 'vectors-1.db'} cannot be opened, so nothing is kept: "
        "unable to open database file"
    ]


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    disk = SmallDisk(tmp_path_factory.mktemp("disk"))
    yield disk
    disk.close()


def test_a_full_disk_stops_the_keeping_alone(small_disk):
    small_disk(fill_the_disk)


def fill_the_disk(disk):
    told = []
    inner = Counted(LetterDense())
    texts = [f"text {number}" for number in range(3_000)]
    for pages in (0, 3, 40):
        inner.asked.clear()
        told.clear()
        leave(disk, pages)
        with VectorCache(disk / "cache", on_problem=told.append) as cache:
            for _ in range(2):
                same_bits(cached_dense(inner, cache).encode_documents(texts), LetterDense().encode_documents(texts))
        assert len(inner.asked) == 2
        assert 1 <= len(told) <= 2, told
    make_room(disk)
    inner.asked.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with VectorCache(disk / "cache") as cache:
            for _ in range(2):
                same_bits(cached_dense(inner, cache).encode_documents(texts), LetterDense().encode_documents(texts))
    assert len(inner.asked) == 1


# Several processes

PUTTING = """
import sys
from plait.encoders.cache import Space, VectorCache, key_of
from plait.encoders.contract import Identity
space = Space.of(Identity("a", "1", "t", "mean", 8, 4), "dense", "document")
first, count = int(sys.argv[2]), int(sys.argv[3])
with VectorCache(sys.argv[1]) as cache:
    for start in range(first, first + count, 5):
        cache.put({space: {key_of(str(n)): str(n).encode() * 50 for n in range(start, start + 5)}})
        print(start, flush=True)
"""


def putting(folder, first, count):
    command = [sys.executable, "-W", "error", "-c", PUTTING, str(folder), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_make_and_fill_one_cache(tmp_path):
    both = [putting(tmp_path, 0, 400), putting(tmp_path, 200, 400)]
    for process in both:
        said = process.communicate()
        assert (process.returncode, said[1]) == (0, "")
    with VectorCache(tmp_path) as cache:
        keys = {key_of(str(number)): str(number).encode() * 50 for number in range(600)}
        assert cache.get(SPACE, list(keys)) == keys


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no way to kill")
def test_what_was_put_survives_a_kill(tmp_path):
    process = putting(tmp_path, 0, 100_000)
    with process:
        said = [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with VectorCache(tmp_path) as cache:
            keys = {key_of(str(number)): str(number).encode() * 50 for number in range(said[-1] + 5)}
            assert cache.get(SPACE, list(keys)) == keys


def test_the_usual_folder_is_in_the_cache_of_plait(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path))
    with VectorCache() as cache:
        assert cache.folder == Path(tmp_path / "vectors")


@pytest.mark.parametrize("base", [LetterDense, LengthSparse])
def test_a_fault_that_passes_is_not_kept(cache, base):
    faulty = [True]

    class Passing(base):
        def encode_documents(self, texts):
            rows = super().encode_documents(texts)
            getattr(rows, "data" if base is LengthSparse else "flat")[0] = np.nan if faulty else 1
            return rows

    make = cached_learned if base is LengthSparse else cached_dense
    encoder, texts = make(Passing(), cache), ["a bee", "snow"]
    same_bits(encoder.encode_documents(texts), Passing().encode_documents(texts))
    assert sum(one.vectors for one in cache.kept()) == 1
    faulty.clear()
    for _ in range(2):
        same_bits(encoder.encode_documents(texts), Passing().encode_documents(texts))
    assert sum(one.vectors for one in cache.kept()) == 2


def test_a_row_that_is_kept_and_no_vector_is_made_again(cache):
    space = Space.of(LetterDense.identity, "dense", "document")
    cache.put({space: {key_of("snow"): np.full(26, np.nan, "<f4").tobytes()}})
    same_bits(cached_dense(LetterDense(), cache).encode_documents(["snow"]), LetterDense().encode_documents(["snow"]))


@pytest.mark.parametrize(
    ("make", "base", "change", "said"),
    [
        (cached_dense, LetterDense, lambda rows: rows[1:], r"ndarray \(1, 26\); expected an array of numbers \(2, 26"),
        (cached_dense, LetterDense, lambda rows: rows[:, 1:], r"ndarray \(2, 25\); expected an array of numbers"),
        (cached_dense, LetterDense, lambda rows: None, r"ndarray \(\); expected an array of numbers"),
        (cached_learned, LengthSparse, lambda rows: rows[1:], r"csr_matrix \(1, 64\); expected a scipy.sparse matrix"),
        (cached_learned, LengthSparse, lambda rows: None, "an object of the class NoneType; expected a scipy.sparse"),
    ],
)
def test_vectors_that_are_none_are_an_encoders_error(cache, make, base, change, said):
    class Wrong(base):
        def encode_documents(self, texts):
            return change(super().encode_documents(texts))

    with pytest.raises(EncoderError, match=said):
        make(Wrong(), cache).encode_documents(["a bee", "snow"])

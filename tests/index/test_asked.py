"""What a snapshot is asked: refused, in words, where no document could answer it."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from plait.index import CorruptError, Layout, Snapshot, StoreError, Writer, create, files
from plait.index.compiled import load_kernels

from .making import made

TERMS, WEIGHTS = np.array([1, 2, 3], np.uint32), np.ones(3, np.float32)
QUERY = np.ones(4, np.float32)
AT = np.arange(3)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    load_kernels()
    with Snapshot(made(tmp_path_factory.mktemp("asked") / "i", [f"d{i}" for i in range(50)])) as opened:
        yield opened


@pytest.mark.parametrize(
    ("strand", "weights", "said"),
    [
        ("learned", WEIGHTS[:1], r"a weight for each of its terms: \(3,\) terms came with \(1,\)"),
        ("learned", WEIGHTS[:, None], r"a weight for each of its terms: \(3,\) terms came with \(3, 1\)"),
        ("learned", -WEIGHTS, "finite and not negative, not -1.0 to -1.0"),
        ("learned", WEIGHTS * np.nan, "finite and not negative, not nan to nan"),
        ("learned", WEIGHTS * np.inf, "finite and not negative, not inf to inf"),
        ("nonsense", WEIGHTS, "no sparse strand 'nonsense'; there are: lexical, learned"),
    ],
)
def test_sparse_queries(snapshot, strand, weights, said):
    for ask in (
        lambda: snapshot.sparse_search(strand, TERMS, weights, 5),
        lambda: snapshot.sparse_search_batch(strand, [(TERMS, WEIGHTS), (TERMS, weights)], 5),
        lambda: snapshot.sparse_scores(strand, TERMS, weights, AT),
        lambda: snapshot.contributions([(strand, TERMS, weights)], AT),
    ):
        with pytest.raises(StoreError, match=said):
            ask()


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None])
def test_k(snapshot, k):
    for ask in (
        lambda: snapshot.sparse_search("learned", TERMS, WEIGHTS, k),
        lambda: snapshot.sparse_search_batch("learned", [(TERMS, WEIGHTS)], k),
        lambda: snapshot.dense_search(QUERY, k),
        lambda: snapshot.dense_search_batch([QUERY], k),
    ):
        with pytest.raises(StoreError, match=f"is a whole number of at least 1, not {k}"):
            ask()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (np.ones(5, np.float32), r"has the shape \(4,\), not \(5,\)"),
        (np.ones((1, 4), np.float32), r"has the shape \(4,\), not \(1, 4\)"),
        (np.full(4, np.nan, np.float32), "holds NaN or infinite values"),
    ],
)
def test_dense_queries(snapshot, query, said):
    for ask in (lambda: snapshot.dense_search(query, 5), lambda: snapshot.dense_scores(query, AT)):
        with pytest.raises(StoreError, match=said):
            ask()


@pytest.mark.parametrize("form", ["f8", ">f4", "i8"])
def test_dense_queries_of_every_form_are_those_of_float32(snapshot, form):
    found, expected = (snapshot.dense_search(query, 9) for query in (QUERY.astype(form), QUERY))
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.positions, expected.positions)


def test_a_closed_snapshot_answers_whom_it_holds_and_nobody_else(tmp_path):
    snapshot = Snapshot(made(tmp_path / "i", ["a", "b"]))
    asks = (
        lambda: snapshot.sparse_search("learned", TERMS, WEIGHTS, 5),
        lambda: snapshot.dense_search(QUERY, 5),
        lambda: snapshot.sparse_scores("learned", TERMS, WEIGHTS, AT),
        lambda: snapshot.ids(np.arange(2)),
        lambda: snapshot.selected(AT),
        lambda: snapshot.facts(),
    )
    with snapshot:
        snapshot.close()
        assert snapshot.ids(np.arange(2)) == ["a", "b"]
    for ask in asks:
        with pytest.raises(StoreError, match="is closed; open another one"):
            ask()


@pytest.mark.parametrize("compacted", [False, True])
def test_a_selection_is_of_living_documents(tmp_path, compacted):
    ids = [f"d{i}" for i in range(40)]
    writer = Writer(made(tmp_path / "i", ids[:20], ids[20:]), compaction="off")
    writer.delete(ids[::2])
    writer.commit()
    if compacted:
        writer.compact()
    writer.close()
    with Snapshot(tmp_path / "i") as snapshot:
        chosen = snapshot.selected(np.array([0, 1, 2, 21, 22, 38, 39, 400, -1]))
        assert chosen.count == 3
        assert snapshot.ids(snapshot.positions_in(chosen)) == ["d1", "d21", "d39"]
        assert sorted(snapshot.ids(snapshot.dense_search(QUERY, 9, within=chosen).positions)) == ["d1", "d21", "d39"]
        assert snapshot.selected(np.array([0, 38])).count == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dim": -1}, r"dim is a whole number, 0 \(no dense strand\) to 1,048,576, not -1"),
        ({"dim": 3.5}, "dim is a whole number, .* not 3.5"),
        ({"window": 0}, "a window holds 1 to 65,536 documents, not 0"),
        ({"window": 16.0}, "a window holds 1 to 65,536 documents, not 16.0"),
        ({"k1": float("nan")}, "k1 is a number from 0 to .*, not nan"),
        ({"k1": -1.0}, "k1 is a number from 0 to .*, not -1.0"),
        ({"b": 1.5}, "b is a number from 0 to 1, not 1.5"),
        ({"learned_scale": float("inf")}, "learned_scale is a number from 0 to .*, not inf"),
        ({"dense_index": None}, "dense_index=None: give auto"),
    ],
)
def test_layouts_that_no_index_can_have(tmp_path, given, said):
    with pytest.raises(StoreError, match=said):
        create(tmp_path / "i", Layout(**given), {})
    assert not (tmp_path / "i").exists()


def test_a_closed_writer_says_so(tmp_path):
    writer = Writer(made(tmp_path / "i", ["a"]))
    writer.close()
    for ask in (writer.commit, writer.compact, lambda: writer.delete(["a"]), lambda: writer.digests(["a"])):
        with pytest.raises(StoreError, match=r"this writer of .* is closed; open another one"):
            ask()


@pytest.mark.parametrize("place", range(0, 128, 3))
def test_a_damaged_header_is_an_error_or_makes_no_difference(tmp_path, place):
    path, values = tmp_path / "a.npy", np.arange(50, dtype=np.uint32)
    files.write_array(path, values)
    whole = path.read_bytes()
    for bit in range(8):
        path.write_bytes(bytes([*whole[:place], whole[place] ^ 1 << bit, *whole[place + 1 :]]))
        with contextlib.suppress(CorruptError):
            found = files.read_array(path, "u4")
            np.testing.assert_array_equal(found, values[: found.size])
            assert found.size in (50, 40, 10, 5)  # a damaged length, which the sizes in a manifest tell

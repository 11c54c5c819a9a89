"""The dense segment: FAISS proposes, one row-wise sum decides, whatever proposed."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.index import (
    CorruptError,
    Layout,
    Snapshot,
    StoreError,
    Writer,
    ann,
    check,
    compiled,
    create,
    dense,
    effort,
    files,
)
from plait.index.compiled import dense_kernels, load_kernels
from plait.index.dense import DenseSegment, row_scores, scores_at, write_dense, write_flat
from plait.retriever import Document, Retriever

SIZE, DIM = 1200, 24
NONE = np.empty(0, np.uint8)
SPECS = [
    "flat",
    "IVF16,Flat",
    "IVF16,SQ8",
    "IVF1,PQ12x4fs",
    "IVF16,PQ12x4fs",
    "IVF16,RaBitQ",
    "IVF16,RaBitQfs",
    "RR24,IVF16,RaBitQ",
    "HNSW16",
    "HNSW16,SQ8",
    "SQ8",
    "RaBitQ",
    "LeanVec12",
    "LeanVec12,IVF16,SQ8",
    "LeanVec12,HNSW16",
]


def clustered(seed, size=SIZE, dim=DIM):
    """Returns vectors of norm 1 about forty centres, and some queries near them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, dim))
    made = centres[rng.integers(0, 40, size + 20)] + 0.6 * rng.normal(size=(size + 20, dim))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made[:size].astype(np.float32), made[size:].astype(np.float32)


VECTORS, QUERIES = clustered(3)


def elsewhere(count, dim=DIM):
    """Returns queries in directions that have nothing to do with any centre."""
    return np.random.default_rng(4).normal(size=(count, dim)).astype(np.float32)


def opened(folder, size=SIZE, dim=DIM):
    """Returns the segment that was written into a folder."""
    files.write_manifest(folder, {"dense": json.loads((folder / "facts").read_text())})
    manifest = json.loads((folder / files.MANIFEST).read_text())
    return DenseSegment(folder, size, dim, manifest)


def written(folder, spec, vectors=VECTORS, **options):
    folder.mkdir(exist_ok=True)
    (folder / "facts").write_text(json.dumps(write_dense(folder, vectors, spec, **options)))
    return opened(folder, *vectors.shape)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Lets small segments have a first stage, and small selections be asked of it."""
    monkeypatch.setattr(dense, "SCANNED", 30)
    monkeypatch.setattr(dense, "SCANNED_SHARE", 40)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Returns segments by specification; each is written once."""
    kept = {}

    def get(spec):
        if spec not in kept:
            kept[spec] = written(tmp_path_factory.mktemp("dense") / "segment", spec)
        return kept[spec]

    return get


def best(found, k):
    """Returns the scores of the k best, best first."""
    return np.sort(found.scores)[::-1][:k]


def exactly(query, k, alive=NONE):
    scores = row_scores(VECTORS, query)
    return np.sort(scores[alive > 0] if alive.size else scores)[::-1][:k]


def found_share(segment, queries, k):
    """Returns the recall of the k nearest, on average."""
    exact = [np.sort(row_scores(segment.vectors, query))[-k:] for query in queries]
    return np.mean([np.isin(e, best(segment.search(q, k), k)).mean() for e, q in zip(exact, queries, strict=True)])


def few(seed, count):
    alive = np.zeros(SIZE, np.uint8)
    alive[np.random.default_rng(seed).choice(SIZE, count, replace=False)] = 1
    return alive


# What every first stage promises


@pytest.mark.parametrize("spec", SPECS)
def test_scores_are_those_of_the_full_vectors(built, spec):
    for query in QUERIES:
        found = built(spec).search(query, 10)
        np.testing.assert_array_equal(found.scores, row_scores(VECTORS[found.rows], query))
        assert len(set(found.rows.tolist())) == found.rows.size


@pytest.mark.parametrize("spec", SPECS)
def test_nearly_all_neighbours_are_found(built, spec):
    shares = [np.isin(exactly(q, 10), best(built(spec).search(q, 10), 10)).mean() for q in QUERIES]
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("k", [1, 10, 300, SIZE, SIZE + 5])
def test_k_hits_come_whenever_there_are_k(built, spec, k):
    assert built(spec).search(QUERIES[0], k).rows.size >= min(k, SIZE)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("matching", [0, 1, 20, 31, 100, 600, SIZE - 1, SIZE])
def test_left_out_rows_never_come_and_k_matching_always_do(built, spec, matching):
    alive = few(matching, matching)
    for k in (1, 10, 50):
        found = built(spec).search(QUERIES[1], k, alive)
        assert alive[found.rows].all()
        assert found.rows.size >= min(k, matching)


@pytest.mark.parametrize("spec", SPECS)
def test_few_matching_rows_are_all_scored(built, spec):
    alive = few(7, 25)
    for query in QUERIES:
        np.testing.assert_array_equal(best(built(spec).search(query, 10, alive), 10), exactly(query, 10, alive))


@pytest.mark.parametrize("spec", SPECS)
def test_exact_is_exact(built, spec):
    alive = few(8, 700)
    for query in QUERIES:
        for chosen in (NONE, alive):
            found = built(spec).search(query, 10, chosen, exact=True)
            np.testing.assert_array_equal(best(found, 10), exactly(query, 10, chosen))


def test_what_is_no_number_is_not_kept_to_itself(built):
    found = built("IVF16,PQ12x4fs")._best_of(np.full(DIM, np.nan, np.float32), 2, np.arange(5))
    assert np.isnan(found.scores).tolist() == [True] * 5  # the retriever says so, and to whom
    ties = built("IVF16,PQ12x4fs")._best_of(np.zeros(DIM, np.float32), 2, np.arange(5))
    assert ties.rows.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("spec", SPECS)
def test_a_search_that_finds_too_few_is_made_exact(built, spec, monkeypatch):
    monkeypatch.setattr(ann.First, "propose", lambda *_: np.array([3], np.int64))
    found = built(spec).search(QUERIES[2], 10)
    np.testing.assert_array_equal(best(found, 10), exactly(QUERIES[2], 10))


def test_a_first_stage_that_overlooks_the_selector_does_no_harm(built, monkeypatch):
    monkeypatch.setattr(ann, "selector", lambda _: None)
    alive = few(5, 400)
    for query in QUERIES:
        found = built("IVF16,SQ8").search(query, 10, alive)
        assert alive[found.rows].all()
        assert found.rows.size >= 10


@pytest.mark.parametrize("spec", ["IVF16,SQ8", "HNSW16", "IVF1,PQ12x4fs", "LeanVec12,IVF16,SQ8"])
def test_threads_get_what_one_gets_alone(tmp_path, spec):
    segment, alone = written(tmp_path / "s", spec), opened(tmp_path / "s")
    expected = [alone.search(query, 10) for query in QUERIES] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda query: segment.search(query, 10), [*QUERIES] * 20))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("spec", ["IVF16,SQ8", "HNSW16", "IVF16,PQ12x4fs"])
def test_more_effort_finds_no_less(built, spec):
    def share(much):
        return np.mean(
            [np.isin(exactly(q, 10), best(built(spec).search(q, 10, effort=much), 10)).mean() for q in QUERIES]
        )

    assert share(0.05) < share(16)
    assert share(16) >= 0.99


@pytest.mark.parametrize("spec", SPECS)
def test_a_changed_file_is_named_and_ends_no_process(tmp_path, spec):
    segment = written(tmp_path / "s", spec)
    path = tmp_path / "s" / ann.FIRST
    if spec == "flat":
        assert not path.exists()
        return
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 4
    path.write_bytes(contents)
    with pytest.raises(CorruptError, match=r"dense-first\.faiss has checksum .* was written: it was changed"):
        segment.search(QUERIES[0], 10)


def test_a_changed_projection_is_named(tmp_path):
    segment = written(tmp_path / "s", "LeanVec12,SQ8")
    path = tmp_path / "s" / ann.PROJECTION
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptError, match=r"dense-projection\.npy has checksum .* was written: it was changed"):
        segment.search(QUERIES[0], 10)


def test_what_faiss_cannot_read_is_named_even_with_the_right_checksum(tmp_path):
    written(tmp_path / "s", "IVF16,SQ8")
    (tmp_path / "s" / ann.FIRST).write_bytes(b"IxFIsomething else")
    with pytest.raises(CorruptError, match=r"dense-first\.faiss cannot be read as a FAISS index"):
        opened(tmp_path / "s").search(QUERIES[0], 10)


def test_another_segments_file_is_refused(tmp_path):
    written(tmp_path / "s", "IVF16,SQ8")
    written(tmp_path / "other", "IVF16,SQ8", VECTORS[:900])
    (tmp_path / "s" / ann.FIRST).write_bytes((tmp_path / "other" / ann.FIRST).read_bytes())
    with pytest.raises(CorruptError, match="holds 900 vectors of 24; the segment has 1200 of 24"):
        opened(tmp_path / "s").search(QUERIES[0], 10)


def test_building_is_silent(tmp_path, capfd):
    for spec in ("IVF64,SQ8", "IVF64,PQ12x4fs", "HNSW16"):
        written(tmp_path / spec, spec)
    assert capfd.readouterr() == ("", "")


def test_a_graph_borrows_the_stored_vectors(built):
    bytes = {name: facts["bytes"] for name, facts in built("HNSW16")._manifest["files"].items()}
    assert bytes[ann.FIRST] < 300 * SIZE
    assert built("HNSW16").first.index.storage.this == built("HNSW16").flat.this


# The Flat file


def test_a_flat_file_is_the_one_faiss_writes(tmp_path):
    write_flat(VECTORS, tmp_path / "ours")
    index = faiss.IndexFlatIP(DIM)
    index.add(VECTORS)
    faiss.write_index(index, str(tmp_path / "theirs"))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_vectors_come_back_unchanged_and_read_only(built):
    np.testing.assert_array_equal(built("flat").vectors, VECTORS)
    assert not built("flat").vectors.flags.writeable


def test_no_vectors_are_a_segment_too(tmp_path):
    facts = write_dense(tmp_path, VECTORS[:0], "IVF16,SQ8")
    assert facts == {"spec": "Flat"}
    segment = DenseSegment(tmp_path, 0, DIM, {"dense": facts, "files": {}})
    assert segment.search(QUERIES[0], 10).rows.size == 0
    assert segment.vectors.shape == (0, DIM)


def test_search_equals_a_full_sort(built):
    exact = VECTORS.astype(np.float64) @ QUERIES[0].astype(np.float64)
    found = built("flat").search(QUERIES[0], 20)
    assert set(found.rows.tolist()) >= set(np.argsort(-exact)[:20].tolist())
    assert found.rows.size < SIZE
    np.testing.assert_allclose(found.scores, exact[found.rows], rtol=1e-5, atol=1e-6)


def test_a_score_does_not_depend_on_its_neighbours():
    together = row_scores(VECTORS, QUERIES[0])
    alone = np.array([row_scores(VECTORS[i : i + 1], QUERIES[0])[0] for i in range(SIZE)])
    np.testing.assert_array_equal(together, alone)
    rows = np.random.default_rng(1).permutation(SIZE)[:700]
    np.testing.assert_array_equal(scores_at(VECTORS, rows, QUERIES[0]), together[rows])
    assert scores_at(VECTORS, rows[:0], QUERIES[0]).shape == (0,)


@settings(max_examples=200)
@given(
    dim=st.integers(1, 700), size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), shift=st.integers(0, 3),
    extreme=st.sampled_from([1.0, 1e-30, 1e30, 0.0]),
)  # fmt: skip
def test_compiled_scores_are_the_definition_to_the_bit(dim, size, seed, shift, extreme):
    """Whatever numpy makes of them: any dimension, vectors that begin at any byte, overflows."""
    load_kernels()
    random = np.random.default_rng(seed)
    held = np.frombuffer(bytes(shift) + random.normal(size=(size, dim)).astype(np.float32).tobytes(), np.uint8)[shift:]
    vectors = held.view(np.float32).reshape(size, dim)
    query = (random.normal(size=dim) * extreme).astype(np.float32)
    rows = random.integers(size, size=2 * size)
    with np.errstate(all="ignore"):
        expected = row_scores(vectors, query)[rows]
    np.testing.assert_array_equal(scores_at(vectors, rows, query), expected)
    assert dense_kernels() is not None
    assert scores_at(vectors, rows[:0], query).shape == (0,)


def test_where_numpy_adds_in_another_order_it_is_used(monkeypatch):
    load_kernels()
    assert compiled._adds_as_numpy(dense_kernels())
    monkeypatch.setattr(dense, "row_scores", lambda vectors, query: vectors @ query + np.float32(1e-6))
    assert not compiled._adds_as_numpy(dense_kernels())


@pytest.mark.parametrize("offset", [*range(0, 45, 3), 44])
def test_a_changed_header_never_reaches_faiss(tmp_path, offset):
    write_flat(VECTORS, tmp_path / dense.DENSE)
    contents = bytearray((tmp_path / dense.DENSE).read_bytes())
    contents[offset] ^= 32
    (tmp_path / dense.DENSE).write_bytes(contents)
    with pytest.raises(CorruptError, match=r"dense\.faiss (holds|cannot be read)"):
        DenseSegment(tmp_path, SIZE, DIM).search(QUERIES[0], 1)


def test_a_file_of_another_size_is_named(tmp_path):
    write_flat(VECTORS, tmp_path / dense.DENSE)
    with pytest.raises(CorruptError, match="holds 1200 vectors of 24; the index expects 1201 vectors of 24"):
        DenseSegment(tmp_path, SIZE + 1, DIM).search(QUERIES[0], 1)
    for kept in (20, 999):
        (tmp_path / dense.DENSE).write_bytes((tmp_path / dense.DENSE).read_bytes()[:kept])
        with pytest.raises(CorruptError, match=r"dense\.faiss cannot be read as a FAISS index"):
            _ = DenseSegment(tmp_path, SIZE, DIM).vectors


def test_what_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"dense\.faiss"):
        write_dense(tmp_path / "missing", VECTORS)
    (tmp_path / ann.FIRST).mkdir()
    with pytest.raises(OSError, match=r"dense-first\.faiss"):
        write_dense(tmp_path, VECTORS, "IVF16,SQ8")


@pytest.mark.parametrize("spec", ["flat", "IVF1,PQ12x4fs", "HNSW16", "IVF16,SQ8"])
def test_documents_that_tie_with_the_last_all_come_from_a_scan(tmp_path, spec):
    same = np.concatenate([VECTORS[:5], np.repeat(VECTORS[5:6], 100, axis=0), VECTORS[6 : SIZE - 99]])
    found = written(tmp_path / "s", spec, same).search(VECTORS[5], 3, exact=True)
    assert set(range(5, 105)) <= set(found.rows.tolist())
    assert len(set(found.scores[(found.rows >= 5) & (found.rows < 105)].tolist())) == 1
    rough = opened(tmp_path / "s").search(
        VECTORS[5], 3
    )  # what proposes may leave some out, but none of them scores less
    assert (best(rough, 3) == best(found, 3)).all()


# The table and the specification


def test_the_table_goes_up_to_any_size():
    bounds = [row.up_to for row in ann.TABLE]
    assert bounds == sorted(bounds)
    assert bounds[-1] == math.inf
    assert ann.chosen("auto", ann.TABLE[0].up_to, 384) == ann.Spec(0, "Flat")


@pytest.mark.parametrize("row", ann.TABLE)
@pytest.mark.parametrize("dim", [24, 23])
def test_every_row_of_the_table_finds_enough_whatever_is_asked(tmp_path, row, dim):
    vectors, near = clustered(9, dim=dim)
    segment = written(tmp_path / "s", "auto", vectors, table=(ann.Choice(math.inf, row.spec),))
    assert segment._manifest["dense"]["spec"] == row.spec_for(dim)
    for queries in (near, elsewhere(200, dim)):
        assert found_share(segment, queries, 10) >= 0.98
        assert found_share(segment, queries, 100) >= 0.98


def test_lists_calibrated_on_documents_fail_queries_from_elsewhere(tmp_path):
    asked, others = np.split(elsewhere(300), 2)
    vectors, near = clustered(3, size=6000)
    alone = written(tmp_path / "alone", "IVF64,SQ8", vectors)
    assert found_share(alone, near, 10) >= 0.98
    assert found_share(alone, others, 10) < 0.95
    told = written(tmp_path / "told", "IVF64,SQ8", vectors, queries=asked)
    assert found_share(told, others, 10) >= 0.97
    assert found_share(written(tmp_path / "auto", "IVF1,PQ12x4fs", vectors), others, 10) >= 0.98


def test_a_segment_is_chosen_for_by_its_size():
    table = (ann.Choice(10, "Flat"), ann.Choice(20, "IVF1,PQ{codes}x4fs"), ann.Choice(math.inf, "HNSW8"))
    got = [ann.chosen("auto", size, dim, table).factory for size, dim in ((10, 8), (11, 8), (11, 7), (21, 8))]
    assert got == ["Flat", "IVF1,PQ4x4fs", "IVF1,PQ7x4fs", "HNSW8"]
    assert ann.chosen("HNSW4", 1, 8, table).factory == "HNSW4"


def test_small_segments_have_no_first_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "SCANNED", SIZE)
    assert write_dense(tmp_path, VECTORS, "HNSW16") == {"spec": "Flat"}


def test_what_finds_too_little_is_not_chosen_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "LEAST_RECALL", 1.01)
    table = (ann.Choice(math.inf, "IVF1,PQ12x4fs"),)
    facts = write_dense(tmp_path, VECTORS, table=table)
    assert (facts["spec"], facts["asked"]) == ("Flat", "IVF1,PQ12x4fs")
    assert facts["why"].endswith(" of the nearest 10")
    assert not (tmp_path / ann.FIRST).exists()


def test_too_few_vectors_for_a_specification_stay_flat_and_say_why(tmp_path):
    assert write_dense(tmp_path, VECTORS, "IVF2000,SQ8") == {
        "spec": "Flat", "asked": "IVF2000,SQ8", "why": "it takes 2000 vectors to make; there are 1200",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("SQ9", "'SQ9' is no FAISS index of 24 dimensions"),
        ("IVF16,PQ7x4fs", "is no FAISS index of 24 dimensions .*multiple of the number of subquantizers"),
        ("IVF99999999999999999999,Flat", "is no FAISS index"),
        ("", "is no FAISS index"),
        ("best", "give auto, flat, or a factory string"),
        ("IVF0,SQ8", "cannot be filled"),
        ("HNSW0", "cannot be filled"),
        ("HNSW1", "cannot be filled"),
        (None, "dense_index=None: give auto, flat, or a FAISS factory string"),
        ("HNSW100000", "cannot be filled"),
        ("PCA1000,SQ8", "cannot be filled"),
        ("NSG32", "makes a FAISS IndexNSGFlat, which cannot be a first stage; give auto, flat"),
        ("IVF16,Flat,RFlat", "no Refine is needed"),
        ("IDMap,Flat", "cannot be a first stage"),
        ("RaBitQfs", "cannot be a first stage"),
        ("PQ12x4fs", "cannot be a first stage"),
        ("LeanVec24,SQ8", "LeanVec keeps fewer dimensions than there are"),
        ("LeanVec0,SQ8", "LeanVec keeps at least one dimension"),
        ("LeanVec12,SQ9", "'LeanVec12,SQ9' is no FAISS index of 12 dimensions"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused_when_the_index_is_made(tmp_path, given, says):
    with pytest.raises(StoreError, match=says):
        create(tmp_path / "i", Layout(dim=DIM, dense_index=given), {})
    assert not (tmp_path / "i").exists()


def test_a_specification_is_for_an_index_with_a_dense_strand(tmp_path):
    with pytest.raises(StoreError, match="this one has none"):
        create(tmp_path / "i", Layout(dim=0, dense_index="HNSW32"), {})


@pytest.mark.parametrize("spec", SPECS)
def test_every_specification_of_these_tests_is_accepted(spec):
    ann.check_spec(spec, DIM)


# Effort


def test_effort_lies_on_a_line_between_and_beyond_its_points():
    made = effort.Effort((effort.Point(10, 4, 8, 1.0), effort.Point(1000, 16, 2, 1.0)), most=64)
    assert [made.knob(k) for k in (1, 10, 100, 1000, 10**9)] == [4, 4, 8, 16, 64]
    assert [made.refine(k) for k in (1, 10, 100, 1000, 10**9)] == pytest.approx([8, 8, 4, 2, 1])


def test_effort_is_the_least_that_reaches_the_target(built):
    facts = built("IVF16,SQ8")._manifest["dense"]
    assert [point["k"] for point in facts["effort"]] == [10, 200]
    assert facts["knob"] == "nprobe"
    for point in facts["effort"]:
        assert point["recall"] >= effort.TARGET - effort.SLACK
        assert point["knob"] < 16 or point["k"] == 200


def test_calibration_counts_what_a_scan_finds(built):
    segment, k = built("IVF16,SQ8"), 10
    trial = effort._Trial(segment.first, VECTORS, QUERIES, k)
    shares = []
    for query in QUERIES:
        rows = segment.first.nearest(query, 20, 2)
        shares.append(np.isin(exactly(query, k), row_scores(VECTORS[rows], query)).mean())
    assert trial.recall(k, 2, 2) == pytest.approx(np.mean(shares))


def test_sample_queries_are_what_effort_is_calibrated_on(tmp_path):
    easy = written(tmp_path / "easy", "IVF16,SQ8", queries=VECTORS[:50])
    hard = written(tmp_path / "hard", "IVF16,SQ8", queries=np.random.default_rng(4).normal(size=(50, DIM)).astype("f4"))
    assert easy.first.effort.knob(10) < hard.first.effort.knob(10)


def test_sample_queries_bend_a_projection(tmp_path):
    plain, bent = written(tmp_path / "p", "LeanVec8"), written(tmp_path / "b", "LeanVec8", queries=QUERIES)
    assert np.array_equal(plain.first.projection.queries, plain.first.projection.documents)
    assert not np.array_equal(bent.first.projection.queries, bent.first.projection.documents)


# In an index


def test_an_index_keeps_its_choice_and_tells_it(tmp_path):
    create(tmp_path / "i", Layout(dim=DIM, dense_index="IVF16,SQ8"), {}, queries=QUERIES)
    writer = Writer(tmp_path / "i")
    writer.add([Document(id=f"d{i:04}", text="-") for i in range(SIZE)], {}, VECTORS)
    writer.commit()
    writer.delete([f"d{i:04}" for i in range(0, SIZE, 2)])
    writer.commit()
    writer.close()
    snapshot = Snapshot(tmp_path / "i")
    (facts,) = [segment["dense"] for segment in snapshot.facts()["segments"]]
    assert (facts["spec"], facts["effort"][0]["k"]) == ("IVF16,SQ8", 10)
    alive = np.tile(np.array([0, 1], np.uint8), SIZE // 2)
    for query in QUERIES:
        exact = snapshot.dense_search(query, 10, exact=True)
        np.testing.assert_array_equal(exact.scores, exactly(query, 10, alive))
        much = snapshot.dense_search(query, 10, effort=16)
        np.testing.assert_array_equal(much.scores, snapshot.dense_scores(query, much.positions))
        assert np.isin(much.scores, exact.scores).mean() >= 0.9
        assert snapshot.dense_search(query, 700).positions.size == SIZE // 2
    with pytest.raises(StoreError, match="effort must be a number above 0, not 0"):
        snapshot.dense_search(QUERIES[0], 10, effort=0)
    snapshot.close()


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        (QUERIES, "sample queries have 24 dimensions; the index is made for 12"),
        (QUERIES[0], r"sample queries are an array of numbers, \(any, 12\), not float32 \(24,\)"),
        (np.full((2, 12), np.nan), "sample queries hold NaN or infinite values, or some that are too large"),
        (np.full((2, 12), 1e300), "sample queries hold NaN or infinite values, or some that are too large"),
    ],
)
def test_sample_queries_that_are_none_are_refused(tmp_path, queries, said):
    with pytest.raises(StoreError, match=said):
        create(tmp_path / "i", Layout(dim=12), {}, queries=queries)
    assert not (tmp_path / "i").exists()


def test_rotated_codes_are_trained_without_a_word(tmp_path, capfd):
    segment = written(tmp_path / "rotated", "OPQ8,IVF4,PQ8")
    assert found_share(segment, QUERIES, 10) >= 0.9
    assert capfd.readouterr() == ("", "")


def hurt_header(path):
    path.write_bytes(path.read_bytes().replace(b"(", b"[", 1))


def hurt_values(path):
    path.write_bytes(path.read_bytes()[:-4] + np.array([np.nan], "<f4").tobytes())


def hurt_shape(path):
    files.write_array(path, QUERIES[:, 1:])


def hurt_type(path):
    files.write_array(path, QUERIES.astype(np.float64))


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (hurt_header, "cannot be read as an array"),
        (hurt_values, "holds NaN or infinite numbers"),
        (hurt_shape, r"holds an array of the shape \(\d+, 23\); the index expects \(any, 24\)"),
        (hurt_type, "holds values of the type float64; float32 were written"),
    ],
)
def test_damaged_sample_queries_stop_no_commit_and_are_found(tmp_path, hurt, said):
    create(tmp_path / "i", Layout(dim=DIM, dense_index="IVF16,SQ8"), {}, queries=QUERIES)
    assert check(tmp_path / "i").problems == ()
    hurt(tmp_path / "i" / dense.QUERIES)
    (problem,) = check(tmp_path / "i").problems
    assert problem.where == str(tmp_path / "i" / dense.QUERIES)
    assert re.search(said, problem.what)
    writer = Writer(tmp_path / "i")
    writer.add([Document(id="few", text="-")], {}, VECTORS[:1])
    writer.commit()  # nothing is tuned, so nothing is read
    writer.add([Document(id=f"d{i:04}", text="-") for i in range(SIZE)], {}, VECTORS)
    with pytest.warns(RuntimeWarning, match=f"{said}.*; the segment is made without sample queries"):
        writer.commit()
    writer.close()
    with Snapshot(tmp_path / "i") as snapshot:
        assert snapshot.documents == SIZE + 1


def test_sample_queries_that_were_changed_or_lost_are_found(tmp_path):
    create(tmp_path / "i", Layout(dim=DIM), {}, queries=QUERIES)
    path = tmp_path / "i" / dense.QUERIES
    files.write_array(path, -QUERIES)
    assert [problem.what for problem in check(tmp_path / "i").problems] == [
        "its checksum is not the one that was written"
    ]
    path.unlink()
    assert [problem.what for problem in check(tmp_path / "i").problems] == ["it is missing"]


class Hashed:
    """A dense encoder of four dimensions that needs no model."""

    from plait.encoders.contract import Identity

    identity = Identity(name="hashed", revision="1", tokenizer="none", activation="none", max_length=0, dim=4)

    def encode_documents(self, texts):
        return np.array([[1, len(t), t.count("a"), t.count("e")] for t in texts], np.float32)

    encode_queries = encode_documents


def test_a_retriever_passes_choice_and_queries_on(tmp_path):
    options = {"strands": "dense", "dense": Hashed(), "dense_index": "HNSW8", "sample_queries": ["a bee", "sea"]}
    with Retriever.create(tmp_path / "i", **options) as made:
        made.add([{"id": "1", "text": "a sea"}])
        made.commit()
        assert made.info()["dense_index"] == "HNSW8"
    np.testing.assert_array_equal(dense.sample_queries(tmp_path / "i", 4), [[1, 5, 1, 2], [1, 3, 1, 1]])
    assert dense.sample_queries(Path(tmp_path), 4) is None


# Against an oracle


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_scan_gives_the_top_k_whatever_ties(tmp_path_factory, data):
    size, dim = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))
    numbers = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim)
    vectors = np.array(data.draw(st.lists(numbers, min_size=size, max_size=size)), np.float32).reshape(size, dim)
    query = np.array(data.draw(numbers), np.float32)
    alive = np.array(data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)), np.uint8)
    k = data.draw(st.integers(1, 45))
    folder = tmp_path_factory.mktemp("oracle")
    write_flat(vectors, folder / dense.DENSE)
    found = DenseSegment(folder, size, dim).search(query, k, alive)
    scores = row_scores(vectors, query)
    least = np.sort(scores[alive > 0])[::-1][:k].min(initial=np.inf)
    assert set(found.rows.tolist()) >= set(np.flatnonzero((scores >= least) & (alive > 0)).tolist())
    assert alive[found.rows].all()
    np.testing.assert_array_equal(found.scores, scores[found.rows])


@pytest.mark.parametrize("k", [1, 5])
def test_selecting_afterwards_proposes_what_a_selector_would(built, monkeypatch, k):
    first = built("IVF1,PQ12x4fs").first
    alive = few(6, SIZE // 20)  # 60: fewer than one in FEW_ALIVE
    share = alive.mean()
    afterwards = [first.propose(query, k, alive, share) for query in QUERIES]
    monkeypatch.setattr(ann, "FEW_ALIVE", 0)
    selected = [first.propose(query, k, alive, share) for query in QUERIES]
    for one, other in zip(afterwards, selected, strict=True):
        assert (alive[one] > 0).all()
        assert one.size == other.size
        assert np.setdiff1d(one, other).size <= 2  # codes tie where the last are cut off


def test_matches_that_are_all_far_away_are_found_all_the_same(built):
    query = QUERIES[0]
    alive = np.zeros(SIZE, np.uint8)
    alive[np.argsort(row_scores(VECTORS, query))[:60]] = 1  # the sixty least alike
    found = built("IVF1,PQ12x4fs").search(query, 5, alive)
    assert (alive[found.rows] > 0).all()
    np.testing.assert_allclose(best(found, 5), exactly(query, 5, alive), rtol=1e-6)

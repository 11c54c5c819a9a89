"""The dense segment: FAISS proposes, one row-wise sum decides."""

from __future__ import annotations

import numpy as np
import pytest
from plait.index import CorruptError
from plait.index.dense import DenseSegment, row_scores, write_flat

ALL = np.empty(0, np.uint8)


@pytest.fixture
def vectors():
    return np.random.default_rng(3).normal(size=(200, 24)).astype(np.float32)


@pytest.fixture
def segment(tmp_path, vectors):
    write_flat(vectors, tmp_path / "dense.faiss")
    return DenseSegment(tmp_path / "dense.faiss", 200, 24)


def test_vectors_come_back_unchanged(segment, vectors):
    np.testing.assert_array_equal(segment.vectors, vectors)


def test_search_equals_a_full_sort(segment, vectors):
    query = np.random.default_rng(4).normal(size=24).astype(np.float32)
    exact = vectors.astype(np.float64) @ query.astype(np.float64)
    scores, documents = segment.search(query, 20, ALL)
    assert set(documents.tolist()) >= set(np.argsort(-exact)[:20].tolist())
    assert documents.size < 200
    np.testing.assert_allclose(scores, exact[documents], rtol=1e-5)


def test_dead_documents_never_come_back(segment, vectors):
    alive = np.zeros(200, np.uint8)
    alive[[5, 77, 199]] = 1
    _, documents = segment.search(vectors[0], 10, alive)
    assert sorted(documents.tolist()) == [5, 77, 199]


def test_a_score_does_not_depend_on_its_neighbours(vectors):
    query = vectors[7]
    together = row_scores(vectors, query)
    alone = np.array([row_scores(vectors[i : i + 1], query)[0] for i in range(200)])
    np.testing.assert_array_equal(together, alone)


def test_a_file_of_another_size_is_named(tmp_path, segment):
    with pytest.raises(CorruptError, match="holds 200 vectors of 24; the index expects 201 vectors of 24"):
        DenseSegment(segment.path, 201, 24).search(np.ones(24, np.float32), 1, ALL)
    segment.path.write_bytes(segment.path.read_bytes()[:999])
    with pytest.raises(CorruptError, match=r"dense\.faiss cannot be read as a FAISS index"):
        DenseSegment(segment.path, 200, 24).search(np.ones(24, np.float32), 1, ALL)


def test_what_cannot_be_written_is_an_os_error(tmp_path, vectors):
    with pytest.raises(OSError, match="could not be written"):
        write_flat(vectors, tmp_path / "missing" / "dense.faiss")


def test_documents_that_tie_with_the_last_all_come(tmp_path, vectors):
    same = np.concatenate([vectors[:5], np.repeat(vectors[5:6], 100, axis=0), vectors[6:]])
    write_flat(same, tmp_path / "ties.faiss")
    scores, documents = DenseSegment(tmp_path / "ties.faiss", len(same), 24).search(vectors[5], 3, ALL)
    assert set(range(5, 105)) <= set(documents.tolist())
    assert len(set(scores[(documents >= 5) & (documents < 105)].tolist())) == 1

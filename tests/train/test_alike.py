"""What teachers find alike, against a slow reckoning, and what a step is about."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.train import TrainError, alike
from plait.train.alike import Alike, about_mean
from plait.train.encoded import Vectors


def encodings(vectors, positives):
    """Returns what gives vectors by name, as `plait.train.prepare.Encodings` does."""
    found = lambda name: vectors[name]  # noqa: E731
    found.training = SimpleNamespace(positives=np.array(positives))
    return found


def dense(random, documents, queries, width):
    """Returns vectors that all point one way, as those of some models do."""
    return Vectors("dense", *(random.normal(3, 1, (count, width)).astype(np.float32) for count in (documents, queries)))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 9), st.integers(1, 9), st.floats(0.01, 9), st.floats(0, 9), st.integers(0, 2**31))
def test_the_wanted_is_the_weighted_mean_of_cosines_about_the_means(documents, queries, first, second, seed):
    random = np.random.default_rng(seed)
    teachers = {"a": dense(random, documents, queries, 5), "b": dense(random, documents, queries, 7)}
    positives = random.integers(documents, size=queries)
    found = Alike.of({"a": first, "b": second}, encodings(teachers, positives))
    lesson = found.lesson(random, documents, 1)
    assert lesson.documents.tolist() == list(range(documents))
    assert sorted(set(positives)) == sorted(positives[lesson.pairs])
    expected = 0
    for name, weight in (("a", first), ("b", second)):
        rows, asked = (
            (side - side.mean(axis=0)) / np.maximum(np.linalg.norm(side - side.mean(axis=0), axis=1)[:, None], 1e-30)
            for side in (teachers[name].documents.astype(float), teachers[name].queries.astype(float))
        )
        texts = np.concatenate([rows, asked[lesson.pairs] if queries > 1 else asked * 0])
        expected = expected + weight / (first + second) * texts @ rows.T
    np.testing.assert_allclose(found.wanted(lesson), expected, atol=4e-3)


def test_a_vector_that_is_the_mean_is_like_nothing():
    assert not about_mean(np.ones((3, 4), np.float32)).any()
    np.testing.assert_allclose(about_mean(np.array([[2, 0], [0, 0]], np.float32)), [[1, 0], [-1, 0]])


def test_a_lesson_is_neighbours_and_a_query_of_each_that_has_one():
    random = np.random.default_rng(3)
    centres = random.normal(size=(10, 16))
    documents = (np.repeat(centres, 8, axis=0) + 0.01 * random.normal(size=(80, 16))).astype(np.float32)
    positives = [place for place in range(40) for _ in range(3)]  # the last 40 documents have no query
    queries = documents[positives]
    found = Alike.of({"a": 1.0}, encodings({"a": Vectors("dense", documents, queries)}, positives))
    for seed in range(5):
        lesson = found.lesson(np.random.default_rng(seed), 24, 3)
        clusters, sizes = np.unique(lesson.documents // 8, return_counts=True)
        assert set(sizes) == {8}
        assert len(clusters) <= 3
        assert (np.diff(lesson.documents) > 0).all()
        answered = [positives[pair] for pair in lesson.pairs]
        assert answered == [place for place in lesson.documents if place < 40]
        again = found.lesson(np.random.default_rng(seed), 24, 3)
        assert all(map(np.array_equal, lesson, again))


def test_neighbours_are_looked_for_in_a_part_of_many_documents(monkeypatch):
    monkeypatch.setattr(alike, "POOL", 20)
    random = np.random.default_rng(4)
    vectors = random.normal(size=(500, 8)).astype(np.float32)
    found = Alike.of({"a": 1.0}, encodings({"a": Vectors("dense", vectors, vectors)}, range(500)))
    seen = set()
    for seed in range(40):
        lesson = found.lesson(np.random.default_rng(seed), 50, 5)
        assert len(lesson.documents) <= 20
        seen |= set(lesson.documents.tolist())
    assert len(seen) > 200


def test_a_teacher_that_is_no_dense_encoder_is_refused():
    import scipy.sparse

    sparse = scipy.sparse.csr_matrix((2, 3), dtype=np.float32)
    with pytest.raises(TrainError, match="the teacher 'bm25' is lexical: the loss order takes dense encoders"):
        Alike.of({"bm25": 1.0}, encodings({"bm25": Vectors("lexical", sparse, sparse)}, [0, 1]))

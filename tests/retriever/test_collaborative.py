"""Smoothing over neighbours, by hand and against a loop; and the similarities it goes by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever import Document, Retriever
from plait.retriever.collaborative import smoothed
from plait.retriever.similarity import similarities, unit_vectors


def naive(scores, near, weight, neighbours):
    found = []
    for i in range(len(scores)):
        others = sorted((j for j in range(len(scores)) if j != i), key=lambda j: (-near[i, j], j))
        if neighbours:
            others = others[:neighbours]
        total = sum(near[i, j] for j in others)
        mean = sum(near[i, j] * scores[j] for j in others) / total if total else scores[i]
        found.append((1 - weight) * scores[i] + weight * mean)
    return found


@given(
    size=st.integers(1, 9),
    weight=st.floats(0, 1),
    neighbours=st.integers(0, 10),
    sparse=st.booleans(),
    seed=st.integers(0, 999),
)
def test_smoothing_is_the_weighted_mean_of_the_neighbours(size, weight, neighbours, sparse, seed):
    rng = np.random.default_rng(seed)
    scores, near = rng.random(size), rng.random((size, size)) * (rng.random((size, size)) < (0.3 if sparse else 1))
    before = near.copy()
    expected = naive(scores, near * (1 - np.eye(size)), weight, neighbours)
    np.testing.assert_allclose(smoothed(scores, near, weight, neighbours), expected, atol=1e-12)
    assert np.array_equal(near, before)


def test_smoothing_by_hand():
    near = np.array([[9.0, 1.0, 3.0], [1.0, 9.0, 0.0], [3.0, 0.0, 9.0]])
    # The first sees 0.4 once and 0.8 three times; the others see the first alone.
    np.testing.assert_allclose(smoothed(np.array([1.0, 0.4, 0.8]), near, 0.5), [0.85, 0.7, 0.9])
    np.testing.assert_allclose(smoothed(np.array([1.0, 0.4, 0.8]), near, 0.5, neighbours=1), [0.9, 0.7, 0.9])


@pytest.fixture
def bees(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        texts = ["aab", "aab", "ab", "zzz", "a honey bee", "honey honey snow"]
        r.add([Document(id=str(i), text=text) for i, text in enumerate(texts)])
        r.commit()
        yield r


def ranked(r, query="aab honey"):
    kept = []
    r.search(query, 6, pipeline=[lambda ranking: kept.append(ranking) or ranking])
    return kept[0]


def test_similarities_are_cosines_of_stored_vectors(bees):
    ranking = ranked(bees)
    rows = np.arange(6)
    dense = similarities(ranking, rows, ("dense",))
    np.testing.assert_allclose(dense[0, 1:4], [1, 3 / np.sqrt(10), 0], atol=1e-6)
    learned = similarities(ranking, rows, ("learned",))
    np.testing.assert_allclose(np.diag(learned), 1)
    assert learned[0, 3] == pytest.approx(1)  # both are one word of three letters
    both = similarities(ranking, rows, ("learned", "dense"))
    np.testing.assert_allclose(both, (dense + learned) / 2)


def test_lexical_counts_are_damped_and_weighed_by_idf(bees):
    ranking = ranked(bees)
    found = unit_vectors(ranking, np.array([5]), "lexical").toarray()
    _, terms = ranking.sparse_vectors("lexical", np.array([5]))
    idf = dict(zip(terms.tolist(), ranking.search.snapshot.idf(terms).tolist(), strict=True))
    rare, usual = max(idf.values()), min(idf.values())  # snow is in one document, honey in two, twice in this one
    expected = np.array([np.log(2) * rare, np.log(3) * usual])
    np.testing.assert_allclose(np.sort(found), np.sort(expected / np.linalg.norm(expected))[None, :])


def test_a_near_copy_of_the_best_rises(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([Document(id=i, text=t) for i, t in (("a", "bee bee"), ("b", "eeb"), ("c", "bold ewe sees eel"))])
        r.commit()
        options = {"strands": "dense", "pipeline": "none"}
        before = {hit.id: hit.score for hit in r.search("bee", **options)}
        after = r.search("bee", strands="dense", pipeline="collaborative:weight=0.5:power=8:top=3")
        scores = {hit.id: hit.score for hit in after}
        assert scores["a"] == scores["b"]  # the same letters, the same neighbours
        assert scores["c"] > before["c"]
        assert scores["a"] < before["a"]
        assert after.notes["collaborative"] == {"documents": 3, "strands": ["dense"]}


def test_without_weight_nothing_changes(bees):
    assert bees.search("aab", pipeline="collaborative:weight=0") == bees.search("aab", pipeline="none")

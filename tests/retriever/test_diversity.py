"""MMR and clusters against plain loops, and against scipy's k-means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from plait.retriever import Document, Retriever
from plait.retriever.diversity import falling, farthest, in_turn, kmeans, marginal
from scipy.cluster.vq import ClusterError, kmeans2


def naive_mmr(relevance, alike, trade):
    """Carbonell and Goldstein's formula, with relevance brought to [0, 1]: the order, best first."""
    span = max(relevance) - min(relevance) or 1.0
    unit = [(r - min(relevance)) / span for r in relevance]
    chosen, left = [], list(range(len(unit)))
    while left:
        values = [trade * unit[i] - (1 - trade) * max([alike[i, j] for j in chosen], default=0.0) for i in left]
        chosen.append(left.pop(int(np.argmax(values))))
    return chosen


@given(size=st.integers(1, 12), trade=st.sampled_from([0.0, 0.3, 0.5, 0.9]), seed=st.integers(0, 9999))
def test_mmr_is_the_naive_one_and_its_scores_fall(size, trade, seed):
    rng = np.random.default_rng(seed)
    relevance = np.sort(rng.random(size))[::-1]
    alike = rng.random((size, size))
    alike = (alike + alike.T) / 2
    order = naive_mmr(relevance, alike, trade)
    scores = marginal(relevance, alike, trade)
    assert (np.diff(scores[order]) <= 0).all()
    if trade:  # without relevance many are equal
        assert np.argsort(-scores, kind="stable").tolist() == order


def test_mmr_by_hand():
    alike = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # The copy of the first pays its whole likeness, half the span of 0.5; the third pays nothing.
    scores = marginal(np.array([0.9, 0.8, 0.4]), alike, 0.5)
    np.testing.assert_allclose(scores, [0.65, 0.35, 0.4])


def test_mmr_moves_copies_down(tmp_path, small_encoders):
    texts = {"a": "bee bee", "b": "bee bee", "c": "bee honey", "d": "fog in town"}
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([Document(id=i, text=t) for i, t in texts.items()])
        r.commit()
        assert [hit.id for hit in r.search("bee", pipeline="none")][:2] == ["b", "a"]
        found = r.search("bee", pipeline="mmr:trade=0.3:top=4")
        assert found[0].id == "b"
        assert found[-1].id == "a"
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        assert found.notes["mmr"] == {"documents": 4, "strands": ["dense"]}
        assert r.search("bee", pipeline="mmr:trade=1") == r.search("bee", pipeline="none")


@given(size=st.integers(2, 30), count=st.integers(1, 6), seed=st.integers(0, 999))
def test_kmeans_is_scipys_from_the_same_centres(size, count, seed):
    vectors = np.random.default_rng(seed).normal(size=(size, 4))
    start = vectors[farthest(vectors, min(count, size))]
    ours = kmeans(vectors, min(count, size))
    try:
        centres, theirs = kmeans2(vectors, start, minit="matrix", iter=60, missing="raise")
    except ClusterError:  # a cluster has lost all: we go on without it, scipy does not
        reject()
    # Both are numbered their own way: the same partition, and each document beside its nearest centre.
    assert len(set(zip(ours.tolist(), theirs.tolist(), strict=True))) == len(set(ours.tolist())) == len(centres)


def test_clusters_are_numbered_by_their_first_and_copies_share_one():
    points = np.array([[0.0, 0], [5, 5], [0, 0.1], [5, 5.1], [9, 0], [0, 0]])
    assert kmeans(points, 3).tolist() == [0, 1, 0, 1, 2, 0]
    assert kmeans(np.ones((4, 2)), 3).tolist() == [0, 0, 0, 0]
    assert farthest(points, 3) == [0, 4, 3]


def test_the_best_of_each_cluster_come_first():
    assert in_turn(np.array([0, 0, 1, 0, 2, 1])).tolist() == [0, 2, 4, 1, 5, 3]


@given(scores=st.lists(st.floats(-5, 5), max_size=8))
def test_falling_scores_fall_and_hardly_move(scores):
    given_scores = np.sort(np.array(scores, np.float64))[::-1]
    found = falling(given_scores)
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(found, given_scores, atol=1e-12)


@pytest.mark.parametrize("strands", ["auto", "learned", "dense+lexical"])
def test_clusters_take_turns(tmp_path, small_encoders, strands):
    texts = {"a": "bee bee bee", "b": "bee bee bee", "c": "bee honey", "d": "bee winter garden"}
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([Document(id=i, text=t) for i, t in texts.items()])
        r.commit()
        plain = r.search("bee", pipeline="none")
        found = r.search("bee", pipeline=f"clusters:clusters=3:top=4:strands={strands}")
        assert [hit.id for hit in plain][:2] == ["b", "a"]
        assert found[0].id == "b"
        assert found[-1].id == "a"
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in plain], atol=1e-12)
        assert sorted(found.notes["clusters"]["sizes"]) == [1, 1, 2]

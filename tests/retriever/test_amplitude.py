"""Amplitude similarity: the squared cosine, whatever the length of the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever import Document, QueryError, Retriever
from plait.retriever.amplitude import fidelity


@given(size=st.integers(1, 6), scale=st.floats(0.01, 100), seed=st.integers(0, 999))
def test_fidelity_is_the_squared_cosine(size, scale, seed):
    rng = np.random.default_rng(seed)
    query, vectors = rng.normal(size=5), rng.normal(size=(size, 5))
    expected = [(query / np.linalg.norm(query)) @ (v / np.linalg.norm(v)) for v in vectors]
    np.testing.assert_allclose(fidelity(scale * query, vectors), np.square(expected), atol=1e-12)
    np.testing.assert_allclose(fidelity(query, -scale * vectors), np.square(expected), atol=1e-12)
    alone = [fidelity(query, vectors[i : i + 1])[0] for i in range(size)]
    assert fidelity(query, vectors).tolist() == alone
    assert 0 <= min(alone) <= max(alone) <= 1 + 1e-12


def test_a_vector_of_zeros_has_none():
    assert fidelity(np.zeros(2), np.ones((1, 2))).tolist() == [0]
    assert fidelity(np.ones(2), np.zeros((1, 2))).tolist() == [0]


def test_it_is_added_to_every_candidate(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([Document(id=text, text=text) for text in ("ab", "a", "z")])
        r.commit()
        before = {hit.id: hit.score for hit in r.search("a", pipeline="none")}
        after = {hit.id: hit.score for hit in r.search("a", pipeline="amplitude:weight=0.4")}
        assert {id: after[id] - before[id] for id in after} == pytest.approx({"a": 0.4, "ab": 0.2, "z": 0.0}, abs=1e-6)
        with pytest.raises(QueryError, match="the dense strand takes no part in this search: lexical, learned"):
            r.search("a", strands="lexical,learned", pipeline="amplitude")

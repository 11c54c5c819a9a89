"""Sparse vectors in slices, and the dense vectors that stand for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders import EncoderError, Identity, load_dense, load_learned
from plait.encoders.densified import DensifiedEncoder, gated_inner_products, sliced
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_matrix

ROWS = st.lists(st.dictionaries(st.integers(0, 39), st.integers(1, 9), max_size=12), max_size=6)


def matrix(rows, width=40):
    found = np.zeros((len(rows), width), np.float32)
    for row, weights in enumerate(rows):
        for column, weight in weights.items():
            found[row, column] = weight
    return csr_matrix(found)


def gate(one, other, slices):
    """The definition, number by number: of each slice the largest, the first of equals; places must agree."""
    total = 0.0
    for start in range(slices):
        a, b = one[start::slices], other[start::slices]
        if len(a) and a.argmax() == b.argmax():
            total += float(a.max() * b.max())
    return total


@settings(deadline=None)
@given(ROWS, ROWS, st.integers(1, 45))
def test_the_gated_product_is_its_definition(documents, queries, slices):
    one, other = matrix(queries), matrix(documents)
    found = gated_inner_products(sliced(one, slices), sliced(other, slices))
    wanted = [[gate(q, d, slices) for d in other.toarray()] for q in one.toarray()]
    np.testing.assert_allclose(found, np.array(wanted).reshape(found.shape), rtol=1e-6)


def test_as_many_slices_as_columns_lose_nothing():
    one = csr_matrix(random_matrix(5, 40, 0.3, "csr", np.float32, random_state=1))
    found = gated_inner_products(sliced(one, 40), sliced(one, 40))
    np.testing.assert_allclose(found, (one @ one.T).toarray(), rtol=1e-5)


def test_a_slice_keeps_its_largest_weight_and_place():
    values, places = sliced(matrix([{0: 2, 3: 5, 1: 1, 7: 1}], 9), 3)  # slice 0: 0 3 6; slice 1: 1 4 7
    assert values.tolist() == [[5, 1, 0]]
    assert places.tolist() == [[1, 0, 0]]
    assert [part.shape for part in sliced(matrix([]), 3)] == [(0, 3), (0, 3)]


def test_queries_that_an_index_weighs_are_refused(built):
    encoder = load_learned(f"{built('bert-masked')}")
    with pytest.raises(EncoderError, match="leaves the weights of queries to an index"):
        DensifiedEncoder(encoder)


def test_a_densified_model_by_name(golden, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path))
    sparse = load_learned(f"{golden}/bert-masked:family=splade:precision=fp32:top=8")
    dense = load_dense(f"{golden}/bert-masked:family=splade:precision=fp32:top=8:densify=180")
    texts = ["a search engine", "ranks documents", "the open text of an index"]
    assert dense.identity.dim == 360
    assert dense.identity.activation == "max+log1p+specials=none^8/slices=180"
    vectors, terms = dense.encode_documents(texts), sparse.encode_documents(texts)
    assert vectors.shape == (3, 360)
    np.testing.assert_allclose(vectors @ dense.encode_queries(texts).T, (terms @ terms.T).toarray(), rtol=1e-4)


class Fixed:
    """An encoder whose vectors are given."""

    identity = Identity("fixed", "1", "1", "max", 0, 3000)

    def __init__(self, vectors):
        self.vectors = vectors

    def encode_documents(self, texts):
        return self.vectors[: len(texts)]

    encode_queries = encode_documents

    def term_names(self, text):
        return {}


def test_angles_cancel_on_average():
    one = csr_matrix(random_matrix(40, 3000, 0.03, "csr", np.float32, random_state=2))
    vectors = DensifiedEncoder(Fixed(one), slices=300).encode_documents(["text"] * 40)
    parts = sliced(one, 300)
    others = ~np.eye(40, dtype=bool)
    off = (vectors @ vectors.T - gated_inner_products(parts, parts))[others]
    assert abs(off.mean()) < 0.05 * (parts.values @ parts.values.T)[others].mean()

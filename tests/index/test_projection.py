"""Projections for a first look: orthonormal, equal to the textbook's, and better for queries that differ."""

from __future__ import annotations

import numpy as np
import pytest
from plait.index.projection import Projection, loss, principal, query_aware, second_moment

rng = np.random.default_rng(5)


def drawn(count, spread):
    """Returns vectors whose directions have the given spread."""
    return (rng.normal(size=(count, len(spread))) * spread).astype(np.float32)


DOCUMENTS = drawn(3000, np.geomspace(4, 0.5, 32))
OTHER = np.where((np.arange(32) >= 8) & (np.arange(32) < 20), 4, 0.4)  # strong where documents are not the strongest
UNLIKE = drawn(800, OTHER)


def aware(vectors, reduced):
    return query_aware(vectors, UNLIKE, reduced)


def test_the_second_moment_is_summed_over_parts(monkeypatch):
    expected = DOCUMENTS.astype(np.float64).T @ DOCUMENTS / 3000
    monkeypatch.setattr("plait.index.projection._CHUNK", 7)
    np.testing.assert_allclose(second_moment(DOCUMENTS), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(second_moment(DOCUMENTS[:0]), np.zeros((32, 32)))


def test_principal_directions_are_those_of_the_singular_value_decomposition():
    found = principal(DOCUMENTS, 8)
    right = np.linalg.svd(DOCUMENTS.astype(np.float64), full_matrices=False)[2][:8]
    np.testing.assert_allclose(np.abs(np.sum(found.documents * right, axis=1)), 1, atol=1e-4)  # up to their signs
    np.testing.assert_array_equal(found.queries, found.documents)


def test_principal_rows_are_orthonormal():
    rows = principal(DOCUMENTS, 8).documents
    np.testing.assert_allclose(rows @ rows.T, np.eye(8), atol=1e-5)


def test_query_aware_rows_are_orthonormal_to_each_other():
    found = query_aware(DOCUMENTS, UNLIKE, 8)
    np.testing.assert_allclose(found.queries @ found.documents.T, np.eye(8), atol=1e-4)


def test_all_dimensions_lose_nothing():
    for found in (principal(DOCUMENTS, 32), query_aware(DOCUMENTS, UNLIKE, 32)):
        assert loss(found, DOCUMENTS, UNLIKE) == pytest.approx(0, abs=1e-6)
        products = found.of_documents(DOCUMENTS[:5]) @ found.of_query(UNLIKE[0])
        np.testing.assert_allclose(products, DOCUMENTS[:5] @ UNLIKE[0], rtol=1e-3, atol=1e-3)


def test_the_loss_is_that_of_the_products_themselves():
    found = query_aware(DOCUMENTS, UNLIKE, 8)
    exact = UNLIKE.astype(np.float64) @ DOCUMENTS.T
    rough = (UNLIKE @ found.queries.T).astype(np.float64) @ found.of_documents(DOCUMENTS).T
    share = ((exact - rough) ** 2).sum() / (exact**2).sum()
    assert loss(found, DOCUMENTS, UNLIKE) == pytest.approx(share, rel=1e-3)


def test_query_aware_loses_less_on_queries_unlike_the_documents():
    fresh = drawn(500, OTHER)
    lost = {made: loss(made(DOCUMENTS, 8), DOCUMENTS, fresh) for made in (principal, aware)}
    assert lost[aware] < 0.8 * lost[principal]


def test_query_aware_without_shrinkage_is_the_best_of_its_rank(monkeypatch):
    monkeypatch.setattr("plait.index.projection.SHRINKAGE", 0.0)
    best = loss(query_aware(DOCUMENTS, UNLIKE, 8), DOCUMENTS, UNLIKE)
    # By Eckart and Young: of Q'X the eight largest singular values stay, so the others' squares are lost.
    singular = np.linalg.svd(UNLIKE.astype(np.float64) @ DOCUMENTS.T, compute_uv=False)
    assert best == pytest.approx((singular[8:] ** 2).sum() / (singular**2).sum(), rel=1e-2)


def test_queries_like_the_documents_lose_little_more_than_by_principal_directions():
    alike = drawn(100, np.geomspace(4, 0.5, 32))
    fresh = drawn(500, np.geomspace(4, 0.5, 32))
    least = loss(principal(DOCUMENTS, 8), DOCUMENTS, fresh)
    assert loss(query_aware(DOCUMENTS, alike, 8), DOCUMENTS, fresh) < 1.25 * least


def test_vectors_are_float32_and_inputs_stay():
    before = DOCUMENTS.copy()
    found = query_aware(DOCUMENTS, UNLIKE, 4)
    assert isinstance(found, Projection)
    assert {found.queries.dtype, found.documents.dtype, found.of_query(UNLIKE[0]).dtype} == {np.dtype(np.float32)}
    assert found.of_documents(DOCUMENTS).flags.c_contiguous
    np.testing.assert_array_equal(DOCUMENTS, before)


@pytest.mark.parametrize("reduced", [0, 33])
def test_a_projection_keeps_one_to_all_dimensions(reduced):
    with pytest.raises(ValueError, match=f"keeps 1 to 32 dimensions, not {reduced}"):
        principal(DOCUMENTS, reduced)


def test_directions_without_any_spread_do_no_harm():
    flat = DOCUMENTS.copy()
    flat[:, 10:] = 0
    found = query_aware(flat, UNLIKE[:1], 8)
    assert np.isfinite(found.queries).all()
    assert np.isfinite(found.documents).all()

"""Graphs of ours against vectors that transformers and sentence-transformers computed."""

from __future__ import annotations

import numpy as np
import pytest
from plait.encoders import precision as precision_module
from plait.encoders.build import build

NAMES = ["bert-pooled", "distilbert-pooled", "bert-masked", "distilbert-masked"]
MASKED = NAMES[2:]


def dense(matrix):
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def specials(encoder):
    manifest = encoder._model.folder.manifest
    return manifest.specials if manifest.head == "learned" else []


@pytest.mark.parametrize("name", NAMES)
def test_fp32_equals_transformers(name, encoder, texts, reference):
    opened = encoder(name)
    expected = reference(name, specials(opened))
    np.testing.assert_allclose(dense(opened.encode_documents(texts)), expected, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_int8_is_close_to_transformers(name, encoder, texts, reference):
    opened = encoder(name, "int8")
    found = cosines(dense(opened.encode_documents(texts)), reference(name, specials(opened)))
    assert found.min() >= 0.995
    assert found.mean() >= 0.999


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("tile", [1, 7, 64])
def test_vocabulary_tiles_change_nothing(name, precision, tile, encoder, texts, golden, tmp_path, monkeypatch):
    monkeypatch.setattr(precision_module, "VOCABULARY_TILE", tile)
    build(golden / name, tmp_path, head="learned", precision=precision)
    from plait.encoders import load_learned

    tiled = load_learned(tmp_path).encode_documents(texts[:8]).toarray()
    np.testing.assert_allclose(tiled, encoder(name, precision).encode_documents(texts[:8]).toarray(), atol=2e-6)


def test_double_logarithm_is_taken_after_pooling(encoder, texts, golden, tmp_path):
    build(golden / "bert-masked", tmp_path, head="learned", precision="fp32", activation="log1p_log1p")
    from plait.encoders import load_learned

    opened = load_learned(tmp_path)
    once = encoder("bert-masked").encode_documents(texts).toarray()
    np.testing.assert_allclose(opened.encode_documents(texts).toarray(), np.log1p(once), atol=2e-6)
    assert opened.identity.activation == "max+log1p_log1p"


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_every_pooling_to_length_one(pooling, texts, golden, tmp_path):
    from plait.encoders import load_dense

    build(golden / "bert-pooled", tmp_path, head="dense", precision="fp32", pooling=pooling, normalize=True)
    opened = load_dense(tmp_path)
    np.testing.assert_allclose(np.linalg.norm(opened.encode_documents(texts), axis=1), 1, atol=1e-6)
    assert opened.identity.activation == f"{pooling}+l2"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vector_does_not_depend_on_its_batch(name, precision, encoder, texts):
    opened = encoder(name, precision)
    together = dense(opened.encode_documents(texts * 3))
    alone = np.concatenate([dense(opened.encode_documents([text])) for text in texts])
    np.testing.assert_allclose(together, np.concatenate([alone] * 3), atol=1e-5)


@pytest.mark.parametrize("name", MASKED)
def test_document_rows_are_positive_sorted_and_without_special_tokens(name, encoder, texts):
    found = encoder(name, "int8").encode_documents(texts)
    assert (found.data > 0).all()
    assert found.has_sorted_indices
    assert not set(found.indices) & set(specials(encoder(name, "int8")))

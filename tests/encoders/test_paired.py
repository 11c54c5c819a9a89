"""One model for documents, another for queries."""

from __future__ import annotations

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_learned


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


def test_documents_by_one_queries_by_the_other(golden, texts):
    one, other = golden / "bert-masked", golden / "distilbert-masked"
    encoder = load_learned(f"{one}:family=splade:query_model={other}")
    documents, queries = load_learned(f"{one}:family=splade"), load_learned(str(other))
    np.testing.assert_array_equal(
        encoder.encode_documents(texts).toarray(), documents.encode_documents(texts).toarray()
    )
    np.testing.assert_array_equal(encoder.encode_queries(texts).toarray(), queries.encode_queries(texts).toarray())
    assert encoder.identity.revision == documents.identity.revision
    assert encoder.identity.query_weights == "idf"  # those of the one that makes them
    assert encoder.term_names("search") == queries.term_names("search")
    np.testing.assert_array_equal(
        encoder.document_terms(["search"]).toarray(), queries.encode_queries(["search"]).toarray()
    )


def test_dense_pairs(golden, texts):
    one, other = golden / "bert-pooled", golden / "distilbert-pooled"
    encoder = load_dense(f"{one}:query_model={other}")
    np.testing.assert_array_equal(encoder.encode_documents(texts), load_dense(str(one)).encode_documents(texts))
    np.testing.assert_array_equal(encoder.encode_queries(texts), load_dense(str(other)).encode_queries(texts))


def test_no_pairs(golden):
    with pytest.raises(EncoderError, match=r"gives 384 columns, .* 32: they are no pair"):
        load_dense(f"embedded:query_model={golden / 'bert-pooled'}")
    with pytest.raises(EncoderError, match=r"columns.*they are no pair"):
        load_learned(f"embedded:query_model={golden / 'bert-masked'}")

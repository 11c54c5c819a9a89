"""What a search costs, counted by hand and against the encoders."""

from __future__ import annotations

import numpy as np
import pytest
from plait.encoders.load import load_learned
from plait.eval import Cost, EvalError, measure_latency, strand_costs
from plait.retriever import Document, Retriever


def test_flops_by_hand(lexical, fruit):
    # Terms of the documents: apple banana | apple | cherry | date cherry | elder; titles: appl(es), date(s).
    # Each of apple, cherry, date, elder and zebra is in 1/4 of the queries; no document holds zebra.
    # Shares of documents: apple 2/5, cherry 2/5, date 1/5, elder 1/5.
    assert strand_costs(lexical, list(fruit.queries.values())) == {
        "lexical": Cost(
            document_terms=pytest.approx((2 + 1 + 1 + 2 + 1) / 5),
            query_terms=pytest.approx((1 + 2 + 1 + 1) / 4),
            flops=pytest.approx((2 / 5 + 2 / 5 + 1 / 5 + 1 / 5) / 4),
        )
    }


def test_deleted_documents_do_not_count(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical", compaction="off") as retriever:
        retriever.add([Document("1", "apple banana"), Document("2", "apple"), Document("3", "cherry")])
        retriever.commit()
        retriever.add([Document("4", "apple cherry date elder")])
        retriever.commit()
        retriever.delete(["1", "3"])
        retriever.commit()
        cost = strand_costs(retriever, ["apple", "cherry"])["lexical"]
    assert cost == Cost(document_terms=2.5, query_terms=1.0, flops=pytest.approx((2 / 2 + 1 / 2) / 2))


def test_learned_terms_are_those_the_encoder_gives(hybrid, fruit):
    encoder = load_learned("embedded")
    texts = list(fruit.queries.values())
    documents = encoder.encode_documents([document.full_text for document in fruit.documents()])
    held = (documents > 0).toarray().mean(axis=0)
    found = strand_costs(hybrid, texts)
    assert list(found) == ["lexical", "learned"]
    # A weight that rounds to no impact at all is not stored.
    assert found["learned"].document_terms == pytest.approx((documents > 0).sum() / 5, rel=0.1)
    for alone, rows in ((True, encoder.encode_full_queries(texts)), (False, encoder.encode_queries(texts))):
        cost = strand_costs(hybrid, texts, alone=alone)["learned"]
        assert cost.query_terms <= np.diff(rows.indptr).mean()
        assert 0 < cost.flops <= float(held @ (rows > 0).toarray().mean(axis=0)) + 1e-9
    assert cost.flops < found["learned"].flops


def test_costs_add_up_and_nothing_costs_nothing(lexical, tmp_path):
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)
    assert strand_costs(lexical, []) == {}
    with Retriever.create(tmp_path / "i", strands="lexical") as empty:
        assert strand_costs(empty, ["apple"]) == {}


def test_latency_is_of_a_warmed_up_sample():
    asked = []
    texts = [f"t{i}" for i in range(300)]
    found = measure_latency(asked.append, texts, most=50, k=7)
    assert (found.queries, found.k) == (50, 7)
    assert asked[:10] == asked[10:20], "the first ten warm up"
    assert len(asked) == 60
    assert len(set(asked)) == 50
    assert set(asked) <= set(texts)
    assert 0 <= found.p50 <= found.p95
    assert set(found.to_json()) == {"p50", "p95", "mean", "queries", "k"}
    few = []
    assert measure_latency(few.append, ["a", "b"]).queries == 2
    assert len(few) == 4


def test_latency_of_nothing():
    with pytest.raises(EvalError, match="latency is measured of one query or more; there is none"):
        measure_latency(print, [])

"""Reranking: a cross-encoder's scores, the blend with the fused ones, and models of every form."""

from __future__ import annotations

import numpy as np
import pytest
from plait.encoders.cross import load_cross
from plait.retriever import Document, EncoderError, QueryError, Retriever

from tests.encoders.cross_folders import make_cross, reference

TEXTS = ["a search engine", "sparse vectors of a search", "dense vectors", "engine", "snow and winter"]


@pytest.fixture
def index(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([Document(id=str(i), title="On" if i else "", text=text) for i, text in enumerate(TEXTS)])
        r.commit()
        yield r


def full(hits):
    return [f"{hit.title} {hit.text}".strip() for hit in hits]


def test_an_onnx_folder_orders_the_best(tmp_path, index):
    folder = make_cross(tmp_path / "cross")
    query = "search engine vectors"
    found = index.search(query, pipeline=f"rerank:model={folder}:top=3")
    plain = index.search(query, pipeline="none")
    best = full(plain[:3])
    expected = {text: 1 / (1 + np.exp(-logit)) for text, logit in zip(best, reference(query, best), strict=True)}
    assert full(found[:3]) == sorted(best, key=lambda text: -expected[text])
    assert [hit.score for hit in found[:3]] == pytest.approx([expected[text] for text in full(found[:3])], abs=1e-4)
    assert [hit.id for hit in found[3:]] == [hit.id for hit in plain[3:]]
    assert found.notes["rerank"] == {"model": str(folder), "documents": 3}
    assert found == index.search(query, pipeline=[{"step": "rerank", "model": load_cross(folder), "top": 3}])


def test_a_function_is_a_model_too(index):
    asked = []

    def shorter(query, texts):
        asked.append((query, texts))
        return [-len(text) for text in texts]

    found = index.search("search engine", pipeline=[{"step": "rerank", "model": shorter, "normalise": "minmax"}])
    assert [hit.id for hit in found] == ["3", "0", "1"]
    assert [hit.score for hit in found] == pytest.approx([1, 1 - 6 / 20, 0])
    assert asked[0][0] == "search engine"
    assert sorted(asked[0][1]) == ["On engine", "On sparse vectors of a search", "a search engine"]
    assert found.notes["rerank"] == {"model": "shorter", "documents": 3}


def test_a_blend_is_the_weighted_mean_of_both_on_the_unit_interval(index):
    plain = {hit.id: hit.score for hit in index.search("search engine", pipeline="none")}
    least, largest = min(plain.values()), max(plain.values())
    step = {"step": "rerank", "model": lambda query, texts: [len(text) for text in texts], "weight": 0.25}
    for normalise, bring in {"sigmoid": lambda n: 1 / (1 + np.exp(-n)), "minmax": lambda n: (n - 9) / 20}.items():
        found = index.search("search engine", pipeline=[{**step, "normalise": normalise}])
        for hit in found:
            fused = (plain[hit.id] - least) / (largest - least)
            length = len(f"{hit.title} {hit.text}".strip())
            assert hit.score == pytest.approx(0.25 * bring(length) + 0.75 * fused)


def test_equal_scores_stay_in_the_order_of_ids(index):
    steps = [{"step": "rerank", "model": lambda query, texts: np.zeros(len(texts)), "normalise": "minmax"}]
    assert [(hit.id, hit.score) for hit in index.search("search engine", pipeline=steps)] == [
        ("3", 1), ("1", 1), ("0", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ([1.0], r"the cross-encoder 'model' gave scores of shape \(1,\) for 3 texts"),
        ([1.0, float("nan"), 2.0], "the cross-encoder 'model' scores a document with what is no number"),
    ],
)
def test_scores_that_are_none_are_errors(index, scores, text):
    def model(query, texts):
        return scores

    with pytest.raises(QueryError, match=text):
        index.search("search engine", pipeline=[{"step": "rerank", "model": model}])


def test_a_model_that_is_not_there(index):
    with pytest.raises(EncoderError, match="no cross-encoder 'nowhere'"):
        index.search("search", pipeline="rerank:model=nowhere")

"""Queries made of documents, and the report that they give."""

from __future__ import annotations

import numpy as np
import pytest
from plait.eval import EvalError
from plait.eval.label_free import calibrate_label_free, label_free
from plait.eval.pseudo import WAYS, pseudo_queries
from plait.retriever import Document, Retriever

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "jetty"]
DOCUMENTS = [
    Document(
        id=word,
        title=f"About the {word} tree",
        text=f"# How {word} trees grow\n\nThe {word} grows slowly beside water. Nobody counts the years of {word}.",
    )
    for word in WORDS
]


@pytest.mark.parametrize(
    ("way", "text"), [("title", "About the amber tree"), ("heading", "How amber trees grow"), ("sentence", None)]
)
def test_ways(way, text):
    found = WAYS[way](DOCUMENTS[0], np.random.default_rng(0))
    assert text is None or found == text
    assert "amber" in found


def test_scattered_words_keep_their_order_and_leave_short_ones_out():
    document = Document(id="a", text="The amber grows so slowly beside its water and stones.")
    for seed in range(20):
        found = WAYS["scattered"](document, np.random.default_rng(seed)).split()
        assert len(found) == 4
        places = [document.text.lower().index(word) for word in found]
        assert places == sorted(places)
        assert min(map(len, found)) > 3


def test_nothing_is_made_of_nothing():
    document = Document(id="a", title="One", text="word")
    assert [way(document, np.random.default_rng(0)) for way in WAYS.values()] == ["", "", "", ""]
    assert pseudo_queries([document], WAYS["title"]) == ({}, {})


def test_queries_and_their_documents():
    queries, qrels = pseudo_queries(DOCUMENTS, WAYS["title"], count=3)
    assert queries == {f"pseudo-{i + 1}": f"About the {word} tree" for i, word in enumerate(WORDS[:3])}
    assert qrels == {f"pseudo-{i + 1}": {word: 1} for i, word in enumerate(WORDS[:3])}
    assert pseudo_queries(DOCUMENTS, WAYS["sentence"], seed=4) == pseudo_queries(DOCUMENTS, WAYS["sentence"], seed=4)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """An index of ten documents."""
    with Retriever.create(tmp_path_factory.mktemp("trees") / "i", strands="lexical,dense") as retriever:
        retriever.add(DOCUMENTS)
        retriever.commit()
        yield retriever


def test_a_sample(trees):
    assert {document.id for document in trees.sample(100)} == set(WORDS)
    assert [d.id for d in trees.sample(3, seed=1)] == [d.id for d in trees.sample(3, seed=1)]
    assert len({document.id for document in trees.sample(3)}) == 3
    assert trees.sample(1)[0] in DOCUMENTS


def test_the_report_changes_nothing(trees):
    before = trees.info()
    found = label_free(trees)
    assert [(each.way, each.queries) for each in found.witnesses] == [(way, 10) for way in WAYS]
    assert all(sum(each.weights.values()) == pytest.approx(1) for each in found.witnesses)
    assert all(each.best >= max(each.alone.values()) for each in found.witnesses)
    assert found.suggestion is None  # of ten titles
    assert "worse than plait's own" in found.note
    assert trees.info() == before
    assert found.to_json()["source"] == "pseudo"


def test_a_calibration_says_that_nobody_judged(trees):
    found = calibrate_label_free(trees)
    assert found.calibration.source.startswith("pseudo-queries, without judgements: 10 queries")
    assert found.calibration.kind == "platt"


def test_documents_without_sentences(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as retriever:
        retriever.add([Document(id=word, text=word) for word in WORDS])
        retriever.commit()
        with pytest.raises(EvalError, match="no queries could be made of these documents"):
            label_free(retriever)

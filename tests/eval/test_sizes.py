"""Effectiveness against size: a restricted run is the run of an index of the subset."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from plait.eval import Dataset, EvalError, load_beir, score_run, size_curve, sizes
from plait.eval.sizes import _places, asked_for, deepest
from plait.retriever import Retriever

from .conftest import beir

WORDS = [f"{a}{b}" for a in ("snow", "bee", "ship", "sea") for b in ("fall", "hive", "wreck", "side")]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Sixty documents of five words each, eight queries with two judged documents each."""
    random = np.random.default_rng(7)
    corpus = {f"d{i:02}": ("", " ".join(random.choice(WORDS, 5))) for i in range(60)}
    queries = {f"q{i}": " ".join(random.choice(WORDS, 2, replace=False)) for i in range(8)}
    qrels = {query: {f"d{i:02}": 1 for i in random.choice(20, 2, replace=False)} for query in queries}
    return load_beir(beir(tmp_path_factory.mktemp("data") / "words", corpus, queries, qrels))


@pytest.fixture(scope="module")
def index(words, tmp_path_factory):
    with Retriever.create(tmp_path_factory.mktemp("indexes") / "words", strands="lexical,dense") as retriever:
        retriever.add(words.documents())
        retriever.commit()
        yield retriever


def test_a_dense_curve_is_that_of_indexes_of_the_subsets(words: Dataset, index, tmp_path):
    curve = size_curve(index, words, [40, 25], measures="nDCG@10 R@5", seed=3)
    assert curve.sizes == (25, 40, 60)
    place, judged = _places(index, words, 3)
    assert curve.judged == judged <= 16
    for i, size in enumerate(curve.sizes):
        with Retriever.create(tmp_path / f"{size}", strands="dense") as subset:
            subset.add(document for document in words.documents() if place[document.id] < size)
            subset.commit()
            expected = score_run(subset.run(words.queries, 100), words.qrels, "nDCG@10 R@5").means
        assert {m: curve.means["dense"][m][i] for m in expected} == pytest.approx(expected)


def test_the_last_point_is_the_whole_corpus(words, index):
    curve = size_curve(index, words, [], strands=["lexical"], measures="nDCG@10 AP")
    run = index.run(words.queries, 60, strands="lexical", weights={"lexical": 1})
    whole = score_run(run, words.qrels, "nDCG@10 AP")
    assert curve.sizes == (60,)
    assert {m: values[0] for m, values in curve.means["lexical"].items()} == pytest.approx(whole.means)


def test_subsets_are_nested_hold_what_is_judged_and_depend_on_the_seed(words, index):
    place, judged = _places(index, words, 0)
    assert sorted(place.values()) == list(range(60))
    everything = {document for judgements in words.qrels.values() for document in judgements}
    assert {id for id, number in place.items() if number < judged} == everything
    assert _places(index, words, 0) == (place, judged)
    assert _places(index, words, 1)[0] != place


def test_a_query_that_a_first_search_leaves_short_is_asked_again_deeper(words, index, monkeypatch):
    asked = []

    def ask(queries, k, strand):
        asked.append((set(queries), k))
        return index.run(queries, k, strands=[strand], weights={strand: 1.0})

    judged = _places(index, words, 0)[1]
    expected = size_curve(index, words, [judged], strands=["dense"], measures="nDCG@3")
    monkeypatch.setattr(sizes, "MARGIN", 0.1)
    assert size_curve(index, words, [judged], strands=["dense"], measures="nDCG@3", ask=ask) == expected
    assert [k for _, k in asked] == [k for k in (2, 8, 32, 60) if k <= asked[-1][1]]
    assert all(later <= before for (before, _), (later, _) in pairwise(asked))
    assert len(asked) > 1


def test_how_deep_measures_look():
    assert deepest(["nDCG@10", "R@100", "P(rel=2)@5"]) == 100
    assert deepest(["nDCG@10", "AP"]) is None
    assert deepest(["P@5", "IPrec@0.5"]) is None, "of recall, not of ranks"
    assert (asked_for(["P@5", "IPrec@0.5"]), asked_for(["P@1200", "AP"])) == (1000, 1200)


def test_a_measure_at_a_recall_looks_at_the_whole_ranking(words, index):
    beside = size_curve(index, words, [], strands=["dense"], measures="P@1 IPrec@0.5")
    alone = size_curve(index, words, [], strands=["dense"], measures="IPrec@0.5")
    assert beside.means["dense"]["IPrec@0.5"] == alone.means["dense"]["IPrec@0.5"]


def test_sizes_that_cannot_be(words, index):
    judged = _places(index, words, 0)[1]
    with pytest.raises(EvalError, match=f"a corpus of 3 documents cannot hold the {judged} that have judgements"):
        size_curve(index, words, [3])
    with pytest.raises(EvalError, match="the index holds 60 documents, fewer than 1,000; add distractors"):
        size_curve(index, words, [1000])

"""Rankers: trained on judged queries, kept as JSON, used as a step."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from plait.eval import EvalError, judge
from plait.eval.judged import Judged, JudgedQuery
from plait.eval.ranker import placed, seen, train
from plait.retriever import QueryError
from plait.retriever.rescore import Ranker, feature_names, features, read_ranker

from .conftest import QRELS, QUERIES

STRANDS = ("lexical", "dense")
WIDTH = len(feature_names(STRANDS))


def made(count, seed=0):
    """Queries whose relevant candidate has the greatest first feature; their fused scores are noise."""
    random = np.random.default_rng(seed)
    queries = []
    for number in range(count):
        rows = random.random((15, WIDTH))
        relevance = (np.arange(15) == rows[:, 0].argmax()).astype(np.int64)
        rows[12:] = np.nan  # never seen by a ranker
        relevance[12:] = 0
        relevance[int(np.nanargmax(rows[:, 0]))] = 1
        fused = random.random(15)
        queries.append(JudgedQuery(f"q{number}", "t", rows[:, :2], fused, relevance, {"d": 1}, rows))
    return Judged(tuple(queries), STRANDS)


@pytest.mark.parametrize("kind", ["logistic", "lambdamart"])
def test_what_can_be_learnt_is_learnt(kind, tmp_path):
    found = train(made(80), kind=kind, measure="RR@10")
    assert found.after > found.before + 0.3
    assert found.gain[0] > 0
    path = tmp_path / "model.json"
    path.write_text(json.dumps(found.ranker.to_json()))
    rows = np.random.default_rng(5).random((50, WIDTH))
    assert read_ranker(path)(rows).tolist() == found.ranker(rows).tolist()


@pytest.mark.parametrize("folds", [1, 0])
def test_folds(folds):
    with pytest.raises(EvalError, match=f"a cross-validation has at least 2 folds, not {folds}"):
        train(made(10), folds=folds)


def test_queries_without_features_teach_nothing(hybrid):
    with pytest.raises(EvalError, match="hold no features to learn from: judge them with look=seen"):
        train(judge(hybrid, QUERIES, QRELS, least=1))
    with pytest.raises(EvalError, match="a seed is a whole number of at least 0, not -1"):
        train(made(10), seed=-1)


def test_trees_are_those_of_lightgbm(monkeypatch):
    import lightgbm

    boosters = []
    train_one = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a, **k: boosters.append(train_one(*a, **k)) or boosters[-1])
    found = train(made(40), kind="lambdamart", folds=2)
    rows = np.random.default_rng(1).random((200, WIDTH))
    assert found.ranker(rows).tolist() == pytest.approx(np.asarray(boosters[-1].predict(rows)).tolist())


def test_without_lightgbm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(EvalError, match=r'needs the package lightgbm: pip install "plait\[rank\]"'):
        train(made(10), kind="lambdamart")


def test_rankers_by_name():
    with pytest.raises(EvalError, match="no ranker 'forest'; there are: logistic, lambdamart"):
        train(made(10), kind="forest")


def test_unseen_candidates_stay_below():
    query = made(1).queries[0]
    scores = placed(Ranker("logistic", STRANDS, _flat_model()), query)
    assert scores[12:].max() <= scores[:12].min()
    assert np.argsort(scores[12:]).tolist() == np.argsort(query.fused[12:]).tolist()


def _flat_model():
    return {"mean": [0.0] * WIDTH, "scale": [1.0] * WIDTH, "weights": [0.0] * WIDTH, "bias": 0.0}


def test_the_step_is_what_training_measured(hybrid, tmp_path):
    judged = judge(hybrid, QUERIES, QRELS, look=seen, least=1)
    (ranking, *_) = hybrid.candidates(list(QUERIES.values()))
    assert features(ranking).shape == (5, len(feature_names(ranking.names)))
    width = len(feature_names(hybrid.strands))
    weights = np.zeros(width)
    weights[list(feature_names(hybrid.strands)).index("dense score")] = 1.0
    held = {"mean": [0.0] * width, "scale": [1.0] * width, "weights": weights.tolist(), "bias": 0.0}
    ranker = Ranker("logistic", hybrid.strands, held)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(ranker.to_json()))
    run = hybrid.run(QUERIES, 5, pipeline=f"rescore:model={path}")
    for query in judged.queries:
        expected = dict(zip(query.ids, placed(ranker, query).tolist(), strict=True))
        assert run[query.query] == pytest.approx(expected)
    notes = hybrid.search("apple", pipeline=f"rescore:model={path}").notes
    assert notes["rescore"] == {"model": "logistic", "candidates": 5}
    with pytest.raises(QueryError, match="was trained for the strands lexical, learned, dense, not lexical, dense"):
        hybrid.search("apple", strands="lexical,dense", pipeline=f"rescore:model={path}")


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"plait_ranker": 1, "kind": "x"}', "[]"])
def test_a_file_that_is_no_ranker(tmp_path, text):
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(QueryError, match=r"model.json: is no ranker that this plait knows"):
        read_ranker(path)


def test_a_missing_file(hybrid, tmp_path):
    with pytest.raises(QueryError, match=r"nowhere.json: no model can be read there: No such file"):
        hybrid.search("apple", pipeline=f"rescore:model={tmp_path / 'nowhere.json'}")
    with pytest.raises(QueryError, match="rescore takes top of at least 1, not 0"):
        hybrid.search("apple", pipeline="rescore:model=x:top=0")

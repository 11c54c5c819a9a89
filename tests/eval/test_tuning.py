"""Weights chosen by judged queries: the grid, the choice, and what an index keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plait.eval import EvalError, judge, score_run, tune, tuning
from plait.eval.gains import measure_named
from plait.eval.judged import Judged, JudgedQuery
from plait.eval.trial import try_out
from plait.eval.tuning import choosing, shares, simplex
from plait.retriever import Retriever
from plait.retriever.pipeline import pipeline
from scipy.special import log_softmax

from .conftest import QRELS, QUERIES


def made(count, better, seed=0):
    """Queries of 20 candidates whose relevant one a strand knows, and the other does not."""
    random = np.random.default_rng(seed)
    queries = []
    for number in range(count):
        values = random.random((20, 2)) * 0.8
        relevance = np.zeros(20, np.int64)
        relevance[number % 20] = 1
        values[number % 20, better] = 0.95
        queries.append(JudgedQuery(f"q{number}", "text", values, values.mean(axis=1), relevance, {"d": 1}))
    return Judged(tuple(queries), ("lexical", "dense"))


def test_the_simplex():
    grid = simplex(3, 0.25)
    assert len(grid) == 15
    assert np.allclose(grid.sum(axis=1), 1)
    assert {tuple(row) for row in np.eye(3)} <= {tuple(row) for row in grid.tolist()}
    assert simplex(1).tolist() == [[1.0]]
    assert len(simplex(3)) == 861


@pytest.mark.parametrize("step", [0.3, 0.0, -0.5, 2.0])
def test_a_step_divides_one(step):
    with pytest.raises(EvalError, match=r"the step of a grid divides 1, as 0.05 does"):
        simplex(2, step)


def test_shares():
    assert shares({"lexical": 1.0, "dense": 3.0}, ("lexical", "dense")).tolist() == [0.25, 0.75]
    assert shares({"learned": 1.0}, ("lexical", "dense")).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("better", "strand"), [(0, "lexical"), (1, "dense")])
def test_one_strand_alone_is_an_answer(better, strand):
    found = tune(made(40, better), prior={"lexical": 1, "dense": 1})
    assert found.weights[strand] >= 0.8
    assert found.alone[strand] == 1.0
    assert found.after > found.before


def test_every_value_of_the_table_is_the_measure_of_that_ranking():
    judged, grid, measure = made(6, 0), simplex(2, 0.25), measure_named("nDCG@10")
    table = judged.table(grid, measure)
    for row, query in enumerate(judged.queries):
        for column, weights in enumerate(grid):
            assert table[row, column] == pytest.approx(query.gains((query.values @ weights)[:, None], measure)[0])


def test_few_queries_stay_near_the_prior_and_many_do_not():
    measure, lexical = measure_named("RR@10"), []
    for count in (1, 6, 50, 1000):
        asked = choosing(made(count, 1, seed=3), measure, prior={"lexical": 1})
        lexical.append(asked.grid[asked.best(), 0])
    assert lexical == sorted(lexical, reverse=True)
    assert lexical[0] >= 0.85
    assert lexical[1] > 0.3
    assert lexical[-1] == 0
    few, same = (tune(made(6, 1, seed=3), prior={"lexical": 1}, measure="RR@10") for _ in range(2))
    assert same == few  # seeded


def graded(count, seed=0):
    """Queries of 12 candidates, some of them relevant by grades, some queries without any."""
    random = np.random.default_rng(seed)
    queries = []
    for number in range(count):
        relevance = random.integers(-1, 4, 12) * (random.random(12) < 0.3) * (number % 5 > 0)
        judged = {f"d{row}": grade for row, grade in enumerate(relevance.tolist())}
        values = random.random((12, 3)) + 0.3 * np.maximum(relevance, 0)[:, None] * [0.1, 0.2, 1.0]
        queries.append(JudgedQuery(f"q{number}", "text", values, values.mean(axis=1), relevance, judged))
    return Judged(tuple(queries), ("lexical", "learned", "dense"))


def test_the_likelihood_is_that_of_a_softmax():
    judged, grid, temperatures = graded(11), simplex(3, 0.5), np.array([0.05, 0.3, 2.0])
    found = judged.likelihood(grid, temperatures)
    assert found.shape == (11, 3, 6)
    for row, query in enumerate(judged.queries):
        grades = np.maximum(query.relevance, 0)
        for place, temperature in enumerate(temperatures):
            for column, weights in enumerate(grid):
                logs = log_softmax(query.values @ weights / temperature)
                expected = (grades * logs).sum() / grades.sum() if grades.any() else 0.0
                assert found[row, place, column] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_choice_is_the_mean_of_the_posterior():
    judged, measure, prior = graded(9), measure_named("nDCG@10"), {"lexical": 1, "learned": 1, "dense": 2}
    asked = choosing(judged, measure, prior=prior, step=0.1)
    share = np.zeros(len(asked.grid))
    rows = [1, 3, 4, 8]
    for column, weights in enumerate(asked.grid):
        held = judged.part(rows)
        distance = sum((weight - near) ** 2 for weight, near in zip(weights, (0.25, 0.25, 0.5), strict=True))
        gained = 2 * held.table(weights[None], measure).sum() - 20 * distance
        for power in range(-5, 4):
            temperature = judged.spread(np.array([0.25, 0.25, 0.5])) * 2 ** (power / 2)
            share[column] += np.exp(gained + held.likelihood(weights[None], np.array([temperature])).sum())
    mean = share @ asked.grid / share.sum()
    assert asked.best(np.array(rows)) == np.linalg.norm(asked.grid - mean, axis=1).argmin()


def test_the_choice_is_the_same_whatever_unit_scores_have():
    judged, measure = graded(20), measure_named("nDCG@10")
    larger = replace(judged, queries=tuple(replace(query, values=query.values * 1000) for query in judged.queries))
    flat = replace(judged, queries=tuple(replace(query, values=query.values * 0) for query in judged.queries))
    assert tune(larger, measure=measure.name).weights == tune(judged, measure=measure.name).weights
    prior = {"lexical": 0.25, "learned": 0.25, "dense": 0.5}
    assert tune(flat, prior=prior).weights == pytest.approx(prior, abs=0.1)
    assert choosing(judged, measure).best(np.array([], np.intp)) == choosing(flat, measure).best()


def test_of_many_queries_some_are_heard_and_all_are_measured(monkeypatch):
    judged, measure = graded(25), measure_named("nDCG@10")
    whole = choosing(judged, measure)
    monkeypatch.setattr(tuning, "HEARD", 10)
    some = choosing(judged, measure)
    assert some.likelihood.tolist() == whole.likelihood[::3].tolist()
    assert some.values.tolist() == whole.values.tolist()
    rows = np.array([0, 4, 6, 7])
    alone = np.zeros_like(whole.likelihood)
    alone[[0, 6]] = whole.likelihood[[0, 6]]
    monkeypatch.undo()
    expected = whole._replace(likelihood=alone).best(rows)
    monkeypatch.setattr(tuning, "HEARD", 10)
    assert some.best(rows) == expected
    assert sum(tune(judged).weights.values()) == pytest.approx(1)


def test_the_grid_is_coarser_for_more_strands():
    queries = tuple(replace(query, values=np.tile(query.values, (1, 2))) for query in made(6, 0).queries)
    four = Judged(queries, ("lexical", "learned", "dense", "lucene"))
    assert len(choosing(four, measure_named("nDCG@10")).grid) == len(simplex(4, 0.05)) == 1771


def test_a_query_has_no_say_in_the_weights_it_is_measured_with():
    judged = made(30, 1)
    found = tune(judged, prior={"lexical": 1, "dense": 1}, repeats=1)
    assert found.after <= found.fitted
    assert found.interval[0] <= found.after <= found.interval[1]


def test_judged_queries_of_an_index_rank_as_its_run_does(hybrid):
    judged = judge(hybrid, QUERIES, QRELS, least=1)
    measure = measure_named("nDCG@10")
    run = hybrid.run(QUERIES, 10, pipeline="none")
    expected = score_run(run, QRELS, ["nDCG@10"]).per_query["nDCG@10"]
    assert judged.present(measure).tolist() == pytest.approx([expected[q.query] for q in judged.queries])
    weights = {"lexical": 0.5, "learned": 0.25, "dense": 0.25}
    run = hybrid.run(QUERIES, 10, pipeline="none", weights=weights)
    expected = score_run(run, QRELS, ["nDCG@10"]).per_query["nDCG@10"]
    (column,) = judged.table(np.array([[0.5, 0.25, 0.25]]), measure).T.tolist()
    assert column == pytest.approx([expected[q.query] for q in judged.queries])


def test_candidates_are_what_a_search_sees(hybrid):
    (ranking,) = hybrid.candidates(["cherry date"])
    run = hybrid.run({"q": "cherry date"}, 10, pipeline="none")["q"]
    ids = ranking.search.snapshot.ids(ranking.positions)
    assert dict(zip(ids, ranking.fused.tolist(), strict=True)) == run


@pytest.mark.parametrize(
    ("queries", "qrels", "message"),
    [
        ({"x": "apple"}, QRELS, "none of the 4 judged queries is among the 1 queries, as 'q1' and 'x'"),
        (QUERIES, {"q1": {"a": 0}}, "0 queries have a document judged relevant; at least 5 are needed"),
        (QUERIES, QRELS, "4 queries have a document judged relevant; at least 5 are needed, and 30 say much more"),
    ],
)
def test_judgements_that_say_nothing(hybrid, queries, qrels, message):
    with pytest.raises(EvalError, match=message):
        judge(hybrid, queries, qrels)


def test_qrels_of_another_collection(hybrid):
    qrels = {query: {f"other-{query}": 1} for query in QUERIES}
    with pytest.raises(EvalError, match="none of the 4 documents judged relevant is in the index, as 'other-q1'"):
        judge(hybrid, QUERIES, qrels, least=1)


def test_unknown_documents_are_counted(hybrid):
    qrels = {"q1": {"a": 1, "gone": 1}, "q3": {"e": 1}}
    assert judge(hybrid, QUERIES, qrels, least=1).unknown == 1


def test_folds():
    with pytest.raises(EvalError, match="at least 2 folds, not 1"):
        tune(made(6, 0), folds=1)


def test_folds_of_a_trial(hybrid):
    judged = judge(hybrid, QUERIES, QRELS, least=1)
    with pytest.raises(EvalError, match="at least 2 folds, not 1"):
        try_out(hybrid, judged, tune(judged), folds=1)


def test_a_trial_without_steps_is_the_cross_validation_itself(fruit, tmp_path):
    queries = {f"{query}-{part}": text for part in range(3) for query, text in QUERIES.items()}
    qrels = {query: QRELS[query.partition("-")[0]] for query in queries}
    with Retriever.create(tmp_path / "i", strands="lexical,dense", pipeline="none") as retriever:
        retriever.add(fruit.documents())
        retriever.commit()
        judged = judge(retriever, queries, qrels)
        found = tune(judged, repeats=1)
        trial = try_out(retriever, judged, found)
        assert trial.pipeline == "none"
        assert (trial.before, trial.after) == pytest.approx((found.before, found.after))
        assert trial.gain == pytest.approx(found.gain)
        assert trial.better == (trial.after - trial.before > trial.error)
        retriever.settle(pipeline="feedback")
        retriever.commit()
        assert try_out(retriever, judged, found).pipeline == ("none" if found.strand else "feedback")


def test_a_trial_tells_the_steps_of_searches_with_the_tuned_weights(fruit, tmp_path):
    """The index has one strand alone, and so no step; the weights that were found fuse two."""
    hosts = {"step": "host", "field": "url", "hosts": {"a.example": 1.0, "b.example": 0.5}}
    given = {"strands": "lexical,dense", "weights": {"lexical": 1, "dense": 0}, "pipeline": ["feedback", hosts]}
    with Retriever.create(tmp_path / "i", **given) as retriever:
        retriever.add(fruit.documents())
        retriever.commit()
        judged = judge(retriever, QUERIES, QRELS, least=1)
        fused = replace(tune(judged), weights={"lexical": 0.5, "dense": 0.5})
        trial = try_out(retriever, judged, fused)
        assert retriever.info()["pipeline"] == "none"
        assert trial.pipeline == "feedback,host:field=url:hosts={'a.example': 1.0, 'b.example': 0.5}"
        alone = replace(fused, weights={"lexical": 1.0, "dense": 0.0})
        assert try_out(retriever, judged, alone).pipeline == "none"


def test_a_trial_asks_for_plaits_own_weights_where_the_index_has_others(fruit, tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical,dense") as retriever:
        retriever.add(fruit.documents())
        retriever.commit()
        judged = judge(retriever, QUERIES, QRELS, least=1)
        found = tune(judged)
        plain = try_out(retriever, judged, found)
        assert plain.own is None
        retriever.settle(fusion="rrf", weights={"lexical": 1, "dense": 0})
        retriever.commit()
        assert try_out(retriever, judged, found).own == plain.before
    assert not replace(plain, before=0.2, after=0.5, error=0.1, own=0.6).better
    assert replace(plain, before=0.2, after=0.5, error=0.1, own=0.5).better


@pytest.mark.parametrize("grade", [0.5, float("nan"), "1", None])
def test_grades_are_whole_numbers(hybrid, grade):
    with pytest.raises(EvalError, match="grades are whole numbers; that of 'a' for the query 'q1' is "):
        judge(hybrid, QUERIES, {**QRELS, "q1": {"a": grade}}, least=1)
    assert judge(hybrid, QUERIES, {**QRELS, "q1": {"a": 2.0}}, least=1).queries[0].judged == {"a": 2}


def test_candidates_behind_steps_are_those_of_a_search(hybrid):
    """What is judged with the index's steps ranks as its searches do."""
    steps = pipeline(hybrid.steps())
    judged = judge(hybrid, QUERIES, QRELS, least=1, steps=steps)
    run = hybrid.run(QUERIES, 5)
    for query in judged.queries:
        assert dict(zip(query.ids, query.fused.tolist(), strict=True)) == run[query.query]
    assert run != hybrid.run(QUERIES, 5, pipeline="none")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prior": {"lexical": float("nan")}}, "the prior cannot be: weights must be finite and not negative"),
        ({"prior": {"lexical": -1, "dense": 2}}, "the prior cannot be: weights must be finite and not negative"),
        (
            {"prior": {"lexical": 0, "dense": 0}},
            "the prior cannot be: no strand of lexical, dense has a weight above 0",
        ),
        ({"prior": {"lexical": 1, "sparse": 1}}, "the prior cannot be: no strand 'sparse'; there are: lexical, dense"),
        ({"repeats": 0}, "folds are drawn at least once, not 0 times"),
        ({"seed": -1}, "a seed is a whole number of at least 0, not -1"),
    ],
)
def test_what_tuning_cannot_take(given, message):
    with pytest.raises(EvalError, match=message):
        tune(made(6, 0), **given)


@pytest.mark.parametrize("depth", [0, 2.5, True])
def test_the_depth_is_named(hybrid, depth):
    with pytest.raises(
        EvalError, match="depth is how many candidates each strand proposes: a whole number of at least"
    ):
        judge(hybrid, QUERIES, QRELS, least=1, depth=depth)


@pytest.mark.parametrize("fusion", ["rrf", "combsum", "combmnz:normalise=zscore"])
def test_what_is_tuned_does_not_depend_on_the_fusion_that_the_index_has(tmp_path, fusion):
    """Of 40 documents each strand proposes three: rrf alone would see all of them."""
    words = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
    documents = [{"id": f"{a}-{b}", "text": f"{a} beside {b}"} for a in words for b in words[:5]]
    queries = {word: f"{word} wood" for word in words}
    qrels = {word: {f"{word}-{words[at % 5]}": 1, f"{words[at - 1]}-birch": 1} for at, word in enumerate(words)}
    with Retriever.create(tmp_path / "i", strands="lexical,dense") as retriever:
        retriever.add(documents)
        retriever.commit()
        plain = judge(retriever, queries, qrels, depth=3)
        retriever.settle(fusion=fusion)
        retriever.commit()
        found = judge(retriever, queries, qrels, depth=3)
        run = retriever.run(queries, 1000, pipeline="none")
    assert max(len(query.ids) for query in found.queries) <= 6
    for before, after in zip(plain.queries, found.queries, strict=True):
        assert before.ids == after.ids
        assert (before.values == after.values).all()
        assert dict(zip(after.ids, after.fused.tolist(), strict=True)) == {id: run[after.query][id] for id in after.ids}
    one, other = tune(plain), tune(found)
    assert (one.weights, one.after, one.fusion) == (other.weights, other.after, other.fusion)


@pytest.mark.parametrize("normalise", ["minmax", "zscore", "l2", "dbsf", "rank", "bounds"])
def test_values_of_another_fusion_are_those_of_its_searches(hybrid, normalise):
    fusion = f"convex:normalise={normalise}"
    judged = judge(hybrid, QUERIES, QRELS, least=1, fusion=fusion)
    run = hybrid.run({query.query: query.text for query in judged.queries}, 100, fusion=fusion, pipeline="none")
    weights = hybrid.search("bee", fusion=fusion).weights
    for query in judged.queries:
        by_weights = query.values @ np.array([weights[strand] for strand in judged.strands]) / sum(weights.values())
        assert dict(zip(query.ids, query.fused.tolist(), strict=True)) == run[query.query]
        assert by_weights == pytest.approx(query.fused)

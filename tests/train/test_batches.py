"""Steps: the same again, of the right sizes, with every answer that is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.train.batches import OWN_QUERIES, Batches
from plait.train.errors import TrainError
from plait.train.recipe import RECIPES

from .making import training_set


def recipe_with(**changes):
    return RECIPES["inference-free"].changed({"documents": 6, "seeds": 2, "queries": 50, "neighbours": 2, **changes})


@st.composite
def sets(draw):
    """Returns a set, some of whose queries are equal texts, and hard negatives."""
    count = draw(st.integers(1, 12))
    pairs = draw(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, count - 1)), min_size=1, max_size=20))
    rows = st.lists(st.integers(-1, count - 1), min_size=3, max_size=3)
    negatives = draw(st.none() | st.lists(rows, min_size=len(pairs), max_size=len(pairs)))
    training = training_set([f"d{n}" for n in range(count)], pairs)
    return training, None if negatives is None else np.array(negatives, np.int32)


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


@given(sets(), st.integers(0, 5), st.integers(0, 9))
def test_a_step_is_what_the_set_says(made, seed, number):
    training, negatives = made
    recipe = recipe_with(seed=seed)
    step = Batches(training, recipe, negatives)(number)
    assert same(step, Batches(training, recipe, negatives)(number))
    documents, queries = step.documents.tolist(), step.queries.tolist()
    assert documents == sorted(set(documents))
    assert queries == sorted(set(queries))
    assert 1 <= len(documents) <= recipe.documents
    assert set(documents) <= set(range(len(training.documents)))
    answers = set(zip(training.queries, training.positives.tolist(), strict=True))
    expected = [[(training.queries[query], document) in answers for document in documents] for query in queries]
    assert step.positives.tolist() == expected
    hard = [] if negatives is None else negatives.tolist()
    near = {query for query, row in enumerate(hard) if {*row} & {*documents}}
    assert {q for q in queries if training.positives[q] not in documents} <= near
    for document in documents:
        own = np.flatnonzero(training.positives == document)
        assert len({*own.tolist()} & {*queries}) >= min(OWN_QUERIES, len(own))


def test_equal_queries_share_their_answers():
    training = training_set(["d0", "d1", "d2"], [("same", 0), ("same", 1), ("other", 2)])
    step = Batches(training, recipe_with(documents=100, seeds=10), None)(0)
    assert step.documents.tolist() == [0, 1, 2]
    assert step.queries.tolist() == [0, 1, 2]
    assert step.positives.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_a_seed_brings_its_hard_negatives_and_no_place_is_minus_one():
    training = training_set([f"d{n}" for n in range(1000)], [("query", 7)])
    batches = Batches(training, recipe_with(documents=4, seeds=1), np.array([[500, -1, 600, -1]], np.int32))
    for number in range(20):
        step = batches(number)
        assert {7, 500, 600} <= set(step.documents.tolist())
        assert step.queries.tolist() == [0]
    assert len({tuple(batches(number).documents) for number in range(20)}) >= 15


def test_neighbours_join_where_a_document_is_their_hard_negative():
    pairs = [("mine", 0), *((f"near {n}", n + 1) for n in range(9))]
    negatives = np.array([[-1]] + [[0]] * 9, np.int32)
    training = training_set([f"d{n}" for n in range(10)], pairs)
    for number in range(20):
        none = Batches(training, recipe_with(documents=2, neighbours=0), negatives)(number)
        assert all(training.positives[query] in none.documents for query in none.queries)
        some = Batches(training, recipe_with(documents=2, neighbours=3), negatives)(number)
        joined = [query for query in some.queries if training.positives[query] not in some.documents]
        assert len(joined) <= 3
        if 0 in some.documents:
            assert len(some.queries) >= 3
        assert not some.positives[np.isin(some.queries, joined)].any()


def test_there_are_never_more_queries_than_asked_for():
    training = training_set(["d0", "d1"], [(f"q{n}", n % 2) for n in range(40)])
    step = Batches(training, recipe_with(queries=3), None)(0)
    assert len(step.queries) == 3
    assert step.positives.shape == (3, 2)


def test_a_large_source_is_drawn_more_but_not_in_proportion():
    pairs = [(f"q{n}", n) for n in range(1010)]
    training = training_set([f"d{n}" for n in range(1010)], pairs)
    training.groups[1000:] = 1
    batches = Batches(training, recipe_with(documents=2, seeds=1), None)
    assert batches._shares.tolist() == pytest.approx([1000**0.75 / (1000**0.75 + 10**0.75), 0.0307], abs=1e-3)


def test_what_cannot_be_drawn_from_is_said():
    with pytest.raises(TrainError, match=r"^a training set without a query has nothing to draw: give pairs, "):
        Batches(training_set(["d0"], []), recipe_with(), None)
    with pytest.raises(TrainError, match=r"^hard negatives of 2 queries, expected 1: mine them again$"):
        Batches(training_set(["d0"], [("q", 0)]), recipe_with(), np.zeros((2, 1), np.int32))

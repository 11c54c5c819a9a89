"""Query strategies over title and text, worked out by hand on whole numbers and seen through an index."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever import Document, QueryError, Retriever
from plait.retriever.fields import STRATEGIES, Asked, best, cross, most, phrase

TERMS = st.lists(st.integers(1, 5), max_size=7)
ASKED = Asked(terms=[1, 2], weights={1: 1.0, 2: 3.0}, phrases=[], title=2.0, saturation=1.0)


def test_strategies_by_hand():
    # One occurrence has 1 / (1 + 1) of its weight, two 2 / 3, three 3 / 4, of 4 altogether.
    assert best(ASKED, [1], [2]) == pytest.approx(max(2 * 0.5 / 4, 1.5 / 4) / 2)
    assert most(ASKED, [1], [2]) == pytest.approx((2 * 0.5 / 4 + 1.5 / 4) / 3)
    assert cross(ASKED, [1], [2]) == pytest.approx((2 / 3 + 1.5) / 4)
    assert cross(ASKED, [1], [1, 2]) == pytest.approx((3 / 4 + 1.5) / 4)


def test_phrases_by_hand():
    asked = Asked([1, 2, 3], {1: 1.0, 2: 1.0, 3: 1.0}, [], 2.0, 1.0)
    assert phrase(asked, [], [1, 2, 9, 2, 3]) == pytest.approx((1 + 1) / 2 / 2)
    assert phrase(asked, [2, 3], [1, 2]) == pytest.approx((1 + 2) / 2 / 2)
    assert phrase(asked, [], [2, 1, 3, 2]) == 0
    assert phrase(asked._replace(phrases=[[2, 3]]), [], [2, 3]) == 1
    assert phrase(asked._replace(phrases=[[2, 3], [3, 1]]), [], [2, 3]) == 0.5
    assert phrase(asked._replace(phrases=[[2, 3]], title=0.0), [2, 3], []) == 0


@given(asked=TERMS, quoted=TERMS, title=TERMS, text=TERMS, weight=st.floats(0, 5))
def test_every_strategy_lies_between_0_and_1(asked, quoted, title, text, weight):
    phrases = [quoted] if quoted else []
    query = Asked(asked, {term: 0.5 + term for term in asked}, phrases, weight, 0.9)
    for strategy in STRATEGIES.values():
        assert 0 <= strategy(query, title, text) <= 1 + 1e-12
        assert strategy(query, [], []) == 0


@pytest.fixture
def bees(tmp_path):
    texts = {
        "together": ("", "the honey bee of the garden"),
        "apart": ("", "bees love gardens and honey"),
        "titled": ("Honey", "a bee in town"),
        "snow": ("", "snow"),
    }
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([Document(id=id, title=title, text=text) for id, (title, text) in texts.items()])
        r.commit()
        yield r


def added(r, query, step):
    before = {hit.id: hit.score for hit in r.search(query, pipeline="none")}
    return {hit.id: round(hit.score - before[hit.id], 6) for hit in r.search(query, pipeline=step)}


def test_neighbours_in_the_text_count_and_quotation_marks_ask_for_the_words_as_they_stand(bees):
    assert added(bees, "honey bees", "fields:strategy=phrase:title=1") == {"together": 0.1, "apart": 0, "titled": 0}
    # In the title a word pair would weigh twice.
    found = added(bees, "honey bees", "fields:strategy=phrase:title=2:weight=1")
    assert found == {"together": 0.5, "apart": 0, "titled": 0}
    found = added(bees, 'the "honey bee" in winter', "fields:strategy=phrase:weight=1")
    assert found == {"together": 1, "apart": 0, "titled": 0}
    assert added(bees, "“loves gardens” bees", "fields:strategy=phrase:weight=1")["apart"] == 1


def test_a_match_in_the_title_weighs_more(bees):
    found = added(bees, "honey", "fields:strategy=best:title=3:weight=1")
    assert found["titled"] == pytest.approx(1 / 1.9, abs=1e-6)
    assert found["together"] == pytest.approx(1 / 1.9 / 3, abs=1e-6)
    found = added(bees, "honey", "fields:strategy=cross:title=3:weight=1")
    assert found["titled"] == pytest.approx(3 / 3.9, abs=1e-6)
    assert found["together"] == pytest.approx(1 / 1.9, abs=1e-6)


def test_it_needs_the_lexical_strand(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([Document(id="1", text="bee")])
        r.commit()
        message = "fields reads texts as the lexical strand does, which takes no part in this search: dense"
        with pytest.raises(QueryError, match=message):
            r.search("bee", strands="dense", pipeline="fields")
        # A query of stop words alone asks for nothing.
        assert r.search("the of", pipeline="fields") == r.search("the of", pipeline="none")


def test_it_needs_an_analyser_that_keeps_the_order(tmp_path, small_encoders):
    message = "an analyser that keeps the order of words; the lexical encoder has none"
    made = Retriever.create(tmp_path / "i", strands="lexical", lexical=small_encoders["learned"])
    with made as r, pytest.raises(QueryError, match=message):
        r.search("bee", pipeline="fields")

"""Benches of searches: every query is asked with every setting, and the numbers are what they are called."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import EvalError
from plait.eval.benching import STAGES, TOTAL, Setting, Spread, bench, settings_of
from plait.index import compiled
from plait.retriever import Document, QueryError, Retriever

QUERIES = ["snow", "honey", "ship"]


class Counting:
    """A real retriever that counts what it is asked."""

    def __init__(self, retriever):
        self.retriever, self.asked, self.compiled = retriever, [], []

    def search(self, text, **options):
        self.asked.append((text, options.get("k")))
        self.compiled.append(compiled.kernels_loaded())
        return self.retriever.search(text, **options)


@pytest.fixture
def retriever(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as made:
        made.add([Document(id="1", text="snow and honey"), Document(id="2", text="honey"), Document(id="3", text="x")])
        made.commit()
        yield Counting(made)


def test_every_query_is_asked_with_every_setting(retriever):
    told = []
    one, two = bench(
        retriever, QUERIES, settings_of({"k": [1, 2]}), rounds=2, threads=[1, 2], warm_up=1, on_progress=told.append
    )
    assert retriever.asked[:2] == [("snow", 1), ("snow", 2)]  # before the clock starts
    for k in (1, 2):
        assert sorted(retriever.asked[2:]).count(("honey", k)) == 2 + 2
    assert len(retriever.asked) == 2 + 2 * 3 * (2 + 2)
    assert retriever.asked[2:8] == [(text, k) for k in (1, 2) for text in QUERIES]  # in turns
    assert sum(told) == 2 * 3 * (2 + 2)
    assert (one.setting, two.setting, one.searches) == ("k=1", "k=2", 6)
    assert (one.hits, two.hits) == (2 / 3, 1.0)
    assert list(one.milliseconds) == [*STAGES, TOTAL]
    assert list(one.per_second) == [1, 2]
    stages = sum(one.milliseconds[name].mean for name in STAGES)
    assert 0 < stages <= one.milliseconds[TOTAL].mean


def test_no_search_waits_for_the_compiler(retriever, monkeypatch):
    monkeypatch.setattr(compiled, "_loaded", None)
    bench(retriever, QUERIES[:1], settings_of({}), warm_up=0)
    assert retriever.compiled == [True, True]


def test_stages_are_those_of_an_answer(retriever):
    assert list(retriever.search("snow").milliseconds) == list(STAGES)


def test_a_spread_of_a_hundred_and_one():
    assert Spread.of([*range(101)]) == Spread(50, 50, 95, 99)
    assert Spread.of([7.0]) == Spread(7, 7, 7, 7)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_ascend(times):
    spread = Spread.of(times)
    assert min(times) <= spread.p50 <= spread.p95 <= spread.p99 <= max(times)


def test_settings_are_named_by_what_differs():
    assert settings_of({}) == [Setting("the index's own")]
    assert settings_of({"k": [5]}, fusion="rrf", filter=None) == [Setting("k=5", {"fusion": "rrf", "k": 5})]
    both = settings_of({"strands": ["lexical", "dense", "lexical"], "k": [5], "depth": ()})
    assert [one.name for one in both] == ["strands=lexical", "strands=dense"]
    assert both[0].options == {"strands": "lexical", "k": 5}


def test_mistakes_show_before_anything_is_timed(retriever):
    with pytest.raises(EvalError, match="there is no query to time"):
        bench(retriever, [], settings_of({}))
    with pytest.raises(EvalError, match="there is no setting to time"):
        bench(retriever, QUERIES, [])
    with pytest.raises(EvalError, match="rounds and threads are numbers from 1 on, not 1 and 0"):
        bench(retriever, QUERIES, settings_of({}), threads=[0])
    with pytest.raises(QueryError, match="no strand 'dance'"):
        bench(retriever, QUERIES, settings_of({"strands": ["lexical", "dance"]}), warm_up=0)
    assert len(retriever.asked) == 2


def test_an_empty_index_takes_time_too(tmp_path):
    with closing(Retriever.create(tmp_path / "e", strands="lexical")) as empty:
        (one,) = bench(empty, QUERIES, settings_of({}))
    assert (one.hits, one.searches) == (0, 3)

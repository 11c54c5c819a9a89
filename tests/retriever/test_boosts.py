"""Boosts by metadata, worked out by hand: what adds how much, and what adds nothing."""

from __future__ import annotations

import math
from datetime import date, datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever import Document, QueryError, Retriever
from plait.retriever.boosts import host_of, number, seconds

NOTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.just({"a": 1})


@pytest.fixture
def same(tmp_path):
    """Makes an index whose documents differ in metadata alone: what is left between their scores is the boost."""
    made = []

    def make(*metadata):
        r = Retriever.create(tmp_path / f"{len(made)}", strands="lexical")
        made.append(r)
        r.add([Document(id=str(i), text="bee", metadata=each) for i, each in enumerate(metadata)])
        r.commit()
        return r

    yield make
    for r in made:
        r.close()


def added(r, step):
    """What the step added to each document, and what it tells."""
    before, after = r.search("bee", 100, pipeline="none"), r.search("bee", 100, pipeline=[step])
    base = {hit.id: hit.score for hit in before}
    return [round(score - base[id], 9) for id, score in sorted((hit.id, hit.score) for hit in after)], after.notes


@pytest.mark.parametrize(
    ("step", "values", "expected"),
    [
        ("boost:field=x:equals=en:weight=0.2", ["en", "de", ["de", "en"], None, 7], [0.2, 0, 0.2, 0, 0]),
        ("boost:field=x:equals=2020", [2020, "2020", 2020.0, 2021, True], [0.1, 0.1, 0.1, 0, 0]),
        ("boost:field=x:equals=true", [True, "true", "True", 1, False], [0.1, 0.1, 0, 0, 0]),
        ("boost:field=x:equals=True", [True, "true", "True", 1], [0.1, 0, 0.1, 0]),
        ("boost:field=x:equals=01234", ["01234", "1234", 1234], [0.1, 0, 0.1]),
        ("boost:field=x:equals=9007199254740993", [9007199254740993, 9007199254740995], [0.1, 0]),
        ("boost:field=x:equals=1.10", ["1.10", "1.1", 1.1], [0.1, 0, 0.1]),
        ({"step": "boost", "field": "x", "equals": 2}, [2, 2.0, "2", "2.0", "two", True], [0.1, 0.1, 0.1, 0.1, 0, 0]),
        ({"step": "boost", "field": "x", "equals": False}, [False, 0, None], [0.1, 0, 0]),
        ("boost:field=x", [2000, "2010", 2020.0, "late", None, [1]], [0, 0.05, 0.1, 0, 0, 0]),
        ("boost:field=x", [5, 5, "x"], [0.1, 0.1, 0]),
        ("boost:field=x", [1e308, -1e308, 0], [0.1, 0, 0.05]),
        ("boost:field=x:low=0:high=10", [-5, 2, 10, 99, 10**400], [0, 0.02, 0.1, 0.1, 0]),
        ("boost:field=x:low=10:high=0", [0, 2, 10], [0.1, 0.08, 0]),
        ("boost:field=x:low=100", [1, 2], [0, 0]),
        ("boost:field=x:high=0", [1, 2], [0.1, 0.1]),
        ("boost:field=x:weight=0", [1, 2], [0, 0]),
        (
            "recency:field=x:now=2024-01-11:halflife=10",
            ["2024-01-11", "2024-01-01", "2023-12-22T00:00:00Z", "2030-01-01", 1704931200, "soon", None, True],
            [0.1, 0.05, 0.025, 0.1, 0.1, 0, 0, 0],
        ),
        (
            "recency:field=x:now=2022:halflife=365",
            ["2021", 2021, 2021.0, "20210101", 999, "2022"],
            [0.05, 0.05, 0.05, 0.05, 0, 0.1],
        ),
        ({"step": "recency", "field": "x", "now": date(2022, 1, 1)}, ["2021-01-01", "2022-01-01"], [0.05, 0.1]),
        ("recency:field=x:now=86400:halflife=1", [0, "1970-01-01", "1970", "1970-01", "86400"], [0.05] * 4 + [0.1]),
        (
            "host:field=x:equals=ArXiv.org:weight=0.3",
            [
                "https://arxiv.org/abs/1",
                "https://export.arxiv.org",
                "www.arxiv.org/x",
                "http://notarxiv.org",
                "http://[",
            ],
            [0.3, 0.3, 0.3, 0, 0],
        ),
        (
            {"step": "host", "field": "x", "hosts": {"a.org": 0.5, "b.a.org": 1.0, "www.c.org": 1}},
            ["http://a.org", "http://b.a.org:80/x", "http://d.a.org", "c.org", "http://user@c.org", "", 3],
            [0.05, 0.1, 0.05, 0.1, 0.1, 0, 0],
        ),
        ("host:field=x:equals=https://arxiv.org:443/", ["http://arxiv.org/abs/1", "arxiv.com"], [0.1, 0]),
        ("host:field=x", ["http://a.org/1", "http://a.org/2", "http://b.org", None], [0.05, 0.05, 0.025, 0]),
    ],
    ids=str,
)
def test_what_is_added(same, step, values, expected):
    r = same(*({} if value is None else {"x": value} for value in values))
    found, notes = added(r, step)
    assert found == pytest.approx(expected, abs=1e-9)
    (told,) = notes.values()
    assert told["x"]["documents"] == sum(value > 0 for value in expected)
    assert "metadata field" not in told["x"].get("note", "")


@pytest.mark.parametrize("step", ["boost:field=y", "boost:field=y:equals=1", "recency:field=y", "host:field=y"])
def test_a_field_that_no_document_has_is_told(same, step):
    found, notes = added(same({"x": 1}, {}), step)
    assert found == [0, 0]
    (told,) = notes.values()
    assert told["y"]["note"] == "none of the 2 best documents has the metadata field 'y'"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("boost:field=x", "2 of 3 values cannot be read, as '2021-02-03'"),
        ("recency:field=x", "1 of 3 values cannot be read, as 'late'"),
        ("host:field=x", "1 of 3 values cannot be read, as 7"),
    ],
)
def test_values_that_cannot_be_read_are_told(same, step, said):
    _, notes = added(same({"x": "late"}, {"x": 7}, {}, {"x": "2021-02-03"}), step)
    (told,) = notes.values()
    assert told["x"]["note"] == said


@pytest.mark.parametrize("step", ["host:field=x:equals=", "host:field=x:equals=.", {"step": "host", "hosts": {1: 0.5}}])
def test_a_host_needs_a_name(same, step):
    with pytest.raises(QueryError, match="host takes names of hosts, as arxiv"):
        same({"x": "a"}).search("bee", pipeline=[step])


def test_a_weight_beside_which_no_score_counts_is_refused(same):
    with pytest.raises(QueryError, match="boost takes weight of at most 1e\\+06, not 1e\\+308"):
        same({"x": 1}).search("bee", pipeline="boost:field=x:weight=1e308")


def test_two_boosts_add_up_and_both_are_told(same):
    r = same({"lang": "en", "year": 1}, {"lang": "de", "year": 2})
    steps = ["boost:field=lang:equals=en:weight=0.5", "boost:field=year:weight=0.2"]
    before = {hit.id: hit.score for hit in r.search("bee", pipeline="none")}
    found = r.search("bee", pipeline=steps)
    assert [(hit.id, hit.score - before[hit.id]) for hit in found] == [
        ("0", pytest.approx(0.5)), ("1", pytest.approx(0.2)),
    ]  # fmt: skip
    assert found.notes["boost"] == {"lang": {"weight": 0.5, "documents": 1}, "year": {"weight": 0.2, "documents": 1}}


def test_without_a_moment_age_is_reckoned_from_the_beginning_of_today(same):
    r = same({"date": datetime.now(timezone.utc).isoformat()}, {"date": "1990-01-01"})
    found, _ = added(r, "recency:halflife=30")
    assert found == [0.1, 0]


@given(value=NOTHING)
def test_no_metadata_value_is_an_error(value):
    for found in (number(value), seconds(value)):
        assert found is None or math.isfinite(found)
    assert isinstance(host_of(value), str)


@given(moment=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_seconds_are_those_of_the_calendar(moment):
    there = moment.replace(tzinfo=timezone.utc)
    assert seconds(there.isoformat()) == pytest.approx(there.timestamp(), abs=1e-5)

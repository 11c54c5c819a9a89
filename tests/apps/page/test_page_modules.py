"""The page's own arithmetic: words found in texts, snippets, blends, expressions; called in the browser."""

from __future__ import annotations

import pytest

from .standin import serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def origin(browser):
    """A page of the server's, with none of its scripts running."""
    with serving(None) as server:
        page = browser.new_page()
        page.goto(server.url + "icon.svg")
        yield page
        page.close()


@pytest.fixture
def call(origin):
    """Calls a function of a module: call("text.js", "places", "a text", [...])."""
    script = "async ([url, name, args]) => (await import(new URL(url, location).href))[name](...args)"
    return lambda module, name, *args: origin.evaluate(script, [module, name, args])


def match(term, strand="lexical", contribution=1.0):
    return {"strand": strand, "term": term, "contribution": contribution}


@pytest.mark.parametrize(
    ("text", "term", "strand", "expected"),
    [
        ("The Cities of Europe", "citi", "lexical", ["Cities"]),
        ("a city, cited", "citi", "lexical", ["city"]),
        ("car carbon cars", "car", "lexical", ["car", "cars"]),
        ("Café CAFE\u0301", "café", "lexical", ["Café", "CAFE\u0301"]),
        ("tumor tumors", "tumor", "learned", ["tumor"]),
        ("東京都の天気", "東京", "lexical", ["東京"]),
        ("straße", "strass", "lexical", []),
        ("", "x", "lexical", []),
    ],
)
def test_places(call, text, term, strand, expected):
    found = call("text.js", "places", text, [match(term, strand)])
    assert [text[one["from"] : one["to"]] for one in found] == expected


def test_pieces_are_literal_only_where_they_spell_a_word(call):
    pieces = [match("j", "learned"), match("##son", "learned"), match("format", "learned")]
    hit = {"title": "", "text": "JSON, jsons, person", "matches": pieces}
    split = call("text.js", "split", hit)
    assert [one["term"] for one in split["literal"]] == ["j", "##son"]
    assert [one["term"] for one in split["expansion"]] == ["format"]


def test_faint_terms_are_not_marked(call):
    given = [match("city", "learned", 10), match("of", "learned", 1.4), match("citi"), match("town", contribution=0.1)]
    assert call("text.js", "telling", given) == [given[0], *given[2:]]


def test_a_snippet_holds_the_weightiest_terms_and_ends_between_words(call):
    text = "honey " + "filler " * 100 + "snow and honey in winter " + "more " * 100
    matches = [match("honey"), match("snow", contribution=2.0), match("winter")]
    found = call("text.js", "places", text, matches)
    part = call("text.js", "snippet", text, found, 120)
    shown = text[part["from"] : part["to"]]
    assert all(word in shown for word in ("snow", "honey", "winter"))
    assert len(shown) <= 120
    assert shown.split()[0] == "filler"
    assert call("text.js", "snippet", "short", [], 120) == {"from": 0, "to": 5}
    assert call("text.js", "snippet", "x" * 500, [], 120) == {"from": 0, "to": 120}
    # Whole characters:
    assert call("text.js", "snippet", "x" * 119 + "\U0001f600" * 9, [], 120) == {"from": 0, "to": 119}


def test_a_word_that_many_pieces_fit_is_not_tried_in_every_way(call):
    pieces = [match(piece, "learned") for piece in ("a", "##a", "##aa", "##aaa")]
    assert call("text.js", "places", "a" * 60 + "b " + "a" * 5000, pieces) == []
    (found,) = call("text.js", "places", "a" * 60, pieces)
    assert (found["from"], found["to"]) == (0, 60)


def test_metadata_is_told_as_it_is(call):
    value = {"price": 1999.99, "place": [52.520008, 13.404954], "none": None}
    assert call("view.js", "told", value) == "price: 1999.99; place: 52.520008, 13.404954; none: –"


ORDER = """async ([answer, weights]) => {
  const { blendOf, ordered } = await import(new URL("ranking.js", location).href);
  const blend = blendOf(answer);
  return blend && ordered(answer.hits, weights, blend).map(({ hit, score }) => [hit.id, score]);
}"""


def hit(id, score, **normalised):
    return {"id": id, "score": score, "strands": {name: {"normalised": value} for name, value in normalised.items()}}


def test_order_by_other_weights_with_ties_by_id_descending(origin):
    hits = [hit("a", 0.75, lexical=1, dense=0), hit("b", 0.25, lexical=0, dense=1), hit("c", 0.25, lexical=0, dense=1)]
    answer = {"weights": {"lexical": 3, "dense": 1}, "hits": hits}
    weights = {"lexical": 1, "dense": 4}
    assert origin.evaluate(ORDER, [answer, weights]) == [["c", 0.8], ["b", 0.8], ["a", 0.2]]
    sums = {**answer, "hits": [{**one, "score": 4 * one["score"]} for one in hits]}
    assert origin.evaluate(ORDER, [sums, weights]) == [["c", 4], ["b", 4], ["a", 1]]
    assert origin.evaluate(ORDER, [{**answer, "hits": [{**hits[0], "score": 0.016}]}, weights]) is None


def test_ties_go_by_code_points_as_python_sorts(origin):
    names = ["\uff71", "\U0001f600", "\U0001f600a", "a", "ab", "é"]
    answer = {"weights": {"dense": 1}, "hits": [hit(name, 1, dense=1) for name in names]}
    assert [id for id, _ in origin.evaluate(ORDER, [answer, {"dense": 1}])] == sorted(names, reverse=True)


def test_shares_of_what_counts_against_a_hit_are_none(call):
    assert call("ranking.js", "shares", hit("a", 1, lexical=-2, dense=3), {"lexical": 1, "dense": 1}) == {
        "lexical": 0,
        "dense": 1,
    }
    assert call("ranking.js", "shares", hit("a", 1, lexical=0), {"lexical": 1}) == {"lexical": 0}


@pytest.mark.parametrize(
    ("field", "type", "operator", "values", "expected"),
    [
        ("in", "integer", "is", ["3"], '"in" = 3'),
        ('a "b"', "number", "is below", ["-1.5"], '"a ""b""" < -1.5'),
        ("x", "text", "is one of", ["a, b'c ,"], "x IN ('a', 'b''c')"),
        ("x", "number[]", "has", ["2"], "x CONTAINS 2"),
        ("x", "date", "is on", ["2024-02-28"], "(x >= '2024-02-28' AND x < '2024-02-29')"),
        ("x", "date", "is up to", ["2023-12-31"], "x < '2024-01-01'"),
        ("x", "date", "is up to", ["9999-12-31"], "x IS NOT NULL"),
        ("x", "date", "is between", ["2023-01-01", "2023-01-31"], "(x >= '2023-01-01' AND x < '2023-02-01')"),
        ("x", "unknown", "begins with", ["a"], "x ILIKE 'a%'"),
    ],
)
def test_conditions(call, field, type, operator, values, expected):
    assert call("filters.js", "condition", field, type, operator, values) == expected


def test_several_conditions_hold_together(call):
    assert call("filters.js", "together", ["a = 1"]) == "a = 1"
    assert call("filters.js", "together", ["a = 1", "b OR c"]) == "(a = 1) AND (b OR c)"

"""Run cards read and compared: what is damaged is named, what differs is found."""

from __future__ import annotations

import copy
import json

import pytest
from plait.eval import Collection, EvalError, Plan, compare_cards, contradictions, evaluate_many, read_card
from plait.eval.card import Fact, Largest, plans_of

RUN = {"q1": {"a": 1.0}}


@pytest.fixture(scope="module")
def card(lexical, fruit):
    collection = Collection(fruit, lexical, [Plan("bm25", {"strands": "lexical"})], {"old.run": RUN})
    return json.loads(json.dumps(evaluate_many([collection], measures="nDCG@10 RR").to_json()))


def test_a_card_equals_itself(card, tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card))
    found = compare_cards(read_card(path), card)
    assert found.succeeded
    assert (found.values, found.equal, found.within, found.lacking) == (16, 16, 16, 0)
    assert found.facts == ()
    assert [each.difference for each in found.largest] == [0.0, 0.0]


def test_what_differs_most_is_told(card):
    other = copy.deepcopy(card)
    values = other["collections"][0]["systems"][0]["per_query"]["RR"]
    values["q1"] -= 0.25
    values["q2"] += 0.00004
    found = compare_cards(card, other)
    assert (found.succeeded, found.values, found.equal, found.within) == (False, 16, 14, 15)
    before = card["collections"][0]["systems"][0]["per_query"]["RR"]["q1"]
    assert found.largest[1] == Largest("RR", "fruit", "bm25", "q1", before, before - 0.25)
    assert compare_cards(card, other, tolerance=0.25).succeeded
    assert not compare_cards(card, other, tolerance=0.2).succeeded
    assert found.to_json()["largest"][1]["query"] == "q1"


def test_facts_that_differ_are_listed(card):
    other = copy.deepcopy(card)
    part = other["collections"][0]
    part["encoders"]["lexical"]["revision"] = "new"
    part["dataset"]["sha256"]["corpus"] = "0"
    part["index"] = {"documents": 6, "bytes": 1}
    part["systems"][0]["options"]["depth"] = 10
    del other["environment"]["numpy"]
    found = compare_cards(card, other)
    assert found.succeeded, "facts explain differences; they are none"
    assert {fact.name: fact.after for fact in found.facts} == {
        "fruit dataset sha256 corpus": "0",
        "fruit encoders lexical revision": "new",
        "fruit documents": 6,
        "fruit options bm25 depth": 10,
        "environment numpy": None,
    }


def test_values_that_only_one_card_has_are_no_success(card):
    other = copy.deepcopy(card)
    del other["collections"][0]["systems"][1]
    found = compare_cards(card, other)
    assert (found.values, found.lacking, found.succeeded) == (8, 8, False)
    nothing = {**other, "collections": []}
    assert (compare_cards(card, nothing).values, compare_cards(card, nothing).succeeded) == (0, False)


def forged(card, *keys, by=0.3):
    """Returns a card with one number changed, and that number."""
    other = copy.deepcopy(card)
    at = other
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] += by
    return other, at[keys[-1]]


def test_means_intervals_and_tests_are_those_of_the_values(card):
    assert contradictions(card) == ()
    part, test = ("collections", 0), ("comparisons", 1)
    mean = card["collections"][0]["systems"][1]["means"]["RR"]
    other, told = forged(card, *part, "systems", 1, "means", "RR")
    assert contradictions(other) == (Fact("fruit old.run mean RR", told, mean),)
    assert contradictions(other, tolerance=0.3 + 1e-9) == ()
    for keys, name in (
        (("means", "old.run", "RR"), "means old.run RR"),
        ((*part, "intervals", "bm25", "RR", 1), "fruit bm25 interval RR"),
        ((*test, "difference"), "fruit old.run RR difference"),
        ((*test, "interval", 0), "fruit old.run RR interval"),
        ((*test, "randomisation"), "fruit old.run RR randomisation"),
        ((*test, "holm"), "fruit old.run RR holm"),
        ((*test, "t_test"), "fruit old.run RR t_test"),
        ((*test, "losses"), "fruit old.run RR losses"),
    ):
        assert [fact.name for fact in contradictions(forged(card, *keys)[0])] == [name]
    other = forged(card, *test, "interval", 0)[0]
    other["environment"]["numpy"] = "1.0"
    assert contradictions(other) == (), "another numpy may draw other samples"
    assert contradictions({**card, "comparisons": []})[0] == Fact(
        "fruit old.run nDCG@10 difference", None, card["comparisons"][0]["difference"]
    )


def test_a_collection_may_have_any_name(card):
    other = json.loads(json.dumps(card).replace('"fruit"', '"None"'))
    other["comparisons"] += [{**each, "collection": None, "interval": None} for each in other["comparisons"]]
    assert [fact.name for fact in contradictions(other)] == ["comparisons"], "as many more as there are"


def test_queries_may_be_of_another_order(lexical, fruit):
    few = evaluate_many([Collection(fruit, lexical, [Plan("bm25")], {"old.run": RUN})], measures="RR", samples=3)
    card = few.to_json()
    other = json.loads(json.dumps(card))
    for system in other["collections"][0]["systems"]:
        system["per_query"] = {m: dict(reversed(values.items())) for m, values in system["per_query"].items()}
    assert {fact.name.split()[-1] for fact in contradictions(other)} >= {"interval"}
    assert contradictions(other, queries={"fruit": list(fruit.qrels)}) == ()
    assert contradictions(card, queries={"fruit": ["another"]}) == (), "the card's own order"


def test_systems_of_different_queries_are_no_card(card):
    other = copy.deepcopy(card)
    other["collections"][0]["systems"][0]["per_query"]["RR"].popitem()
    with pytest.raises(EvalError, match="fruit: a damaged run card: its systems are of different queries"):
        contradictions(other)


@pytest.mark.parametrize(
    ("keys", "value", "name"),
    [
        (("settings", "sources"), None, "'sources' is missing or of another kind"),
        (("settings", "sources"), [], "'sources' is missing or of another kind"),
        (("settings", "sources"), {"lexical": 1}, "'lexical' is missing or of another kind"),
        (("settings", "bm25"), [1], "'bm25' is missing or of another kind"),
        (("settings", "distractors"), "abc", "'distractors' is missing or of another kind"),
        (("settings", "distractors"), {"name": "x"}, "'sha256' is missing or of another kind"),
        (("index",), [], "'index' is missing or of another kind"),
        (("index",), None, "'index' is missing or of another kind"),
        (("systems", 1, "file"), "old.run", "'file' is missing or of another kind"),
        (("systems", 1, "file"), {"name": "old.run"}, "'sha256' is missing or of another kind"),
        (("systems", 0, "per_query", "RR"), {}, "'RR' has no value"),
        (("systems", 0, "per_query", "AP"), 1, "'AP' is missing or of another kind"),
        (("systems", 0, "per_query", "RR", "q1"), 10**400, "a value of 'RR' is no number"),
    ],
)
def test_a_card_that_was_edited_is_damaged(card, tmp_path, keys, value, name):
    other = copy.deepcopy(card)
    at = other["collections"][0]
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    (tmp_path / "c.json").write_text(json.dumps(other))
    with pytest.raises(EvalError) as caught:
        read_card(tmp_path / "c.json")
    assert str(caught.value) == f"{tmp_path / 'c.json'}: a damaged run card: {name}"


def test_plans_come_back(card):
    assert plans_of(card["collections"][0]) == (Plan("bm25", {"strands": "lexical"}),)
    changed = copy.deepcopy(card["collections"][0])
    changed["systems"][0]["options"] = {"prune": 3}
    with pytest.raises(EvalError, match="system 'bm25': no option 'prune'; there are: strands"):
        plans_of(changed)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_tolerance_is_a_number_from_0(card, tolerance):
    with pytest.raises(EvalError, match="tolerance is what a value may differ by: a number of at least 0, not "):
        compare_cards(card, card, tolerance=tolerance)


def test_a_file_that_is_no_card(card, tmp_path):
    path = tmp_path / "card.json"
    odd = copy.deepcopy(card)
    odd["collections"][0]["systems"][0]["per_query"]["RR"]["q1"] = "high"
    texts = {
        json.dumps(odd): "a damaged run card: a value of 'RR' is no number",
        json.dumps(card)[:-50]: "damaged, or no run card: ",
        "[]": "no run card; expected what plait eval --card FILE writes",
        '{"a": 1}': "no run card; expected",
        json.dumps({**card, "card": 1}): "a run card of version 1, and this plait reads version 2; measure again",
        json.dumps({**card, "card": 3}): "a run card of version 3",
        json.dumps({"card": 2}): "a damaged run card: 'measures' is missing or of another kind",
        json.dumps({**card, "collections": [{}]}): "a damaged run card: 'dataset' is missing",
        json.dumps({**card, "collections": [5]}): "a damaged run card: 'dataset' is missing",
        json.dumps({**card, "measures": []}): "a damaged run card: it names no measure",
        json.dumps({**card, "measures": ["AP"]}): "a damaged run card: 'AP' is missing",
    }
    for text, message in texts.items():
        path.write_text(text)
        with pytest.raises(EvalError) as caught:
            read_card(path)
        assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(EvalError, match=r"no\.json: there is no such file; check the path"):
        read_card(tmp_path / "no.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(EvalError, match=r"card\.json: cannot be read: "):
        read_card(path)

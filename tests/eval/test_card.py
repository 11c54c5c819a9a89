"""Run cards read and compared: what is damaged is named, what differs is found."""

from __future__ import annotations

import copy
import json

import pytest
from plait.eval import Collection, EvalError, Plan, compare_cards, evaluate_many, read_card
from plait.eval.card import Largest, plans_of

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

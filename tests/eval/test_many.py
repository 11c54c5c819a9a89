"""Several systems on several collections: what is measured, in which order, and the card of it."""

from __future__ import annotations

import json

import pytest
from plait.eval import Collection, EvalError, Plan, evaluate_many, load_beir, score_run, strand_costs
from plait.eval.report import curve, overview, significance, summary
from plait.retriever import Retriever

from .conftest import CORPUS, QUERIES, beir

RUN = {"q1": {"b": 2.0, "a": 1.0}, "q2": {"d": 1.0}, "q3": {"e": 1.0}}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A second collection, and its index."""
    dataset = load_beir(beir(tmp_path_factory.mktemp("data") / "other", CORPUS, QUERIES, {"q1": {"b": 1}}))
    with Retriever.create(tmp_path_factory.mktemp("indexes") / "other", strands="lexical") as retriever:
        retriever.add(dataset.documents())
        retriever.commit()
        yield dataset, retriever


def test_default_systems_are_the_strands_and_their_fusion(hybrid, fruit):
    found = evaluate_many([Collection(fruit, hybrid)], measures="nDCG@10")
    (report,) = found.reports
    assert [system.name for system in report.systems] == ["lexical", "learned", "dense", "fused"]
    for system in report.systems:
        run = hybrid.run(fruit.queries, 1001, **system.options)
        assert system.scores == score_run(run, fruit.qrels, "nDCG@10")
    assert report.index["documents"] == 5
    alone, beside = (strand_costs(hybrid, list(fruit.queries.values()), alone=alone) for alone in (True, False))
    assert [report[name].cost for name in ("lexical", "learned")] == [alone["lexical"], alone["learned"]]
    assert report["fused"].cost == beside["lexical"] + beside["learned"] != alone["lexical"] + alone["learned"]
    assert report["dense"].cost is None
    assert report["lexical"].latency is None


def test_runs_stand_beside_searched_systems(lexical, fruit):
    plans = [Plan("bm25", {"strands": "lexical"})]
    file = {"name": "old.run", "sha256": "0"}
    found = evaluate_many([Collection(fruit, lexical, plans, {"old": RUN}, {"old": file})], measures="nDCG@10 RR")
    (report,) = found.reports
    assert [(system.name, system.seconds is None, system.file) for system in report.systems] == [
        ("bm25", False, None), ("old", True, file),
    ]  # fmt: skip
    # "apple" finds b before a, the longer and the less relevant; q2 finds c alone is relevant, at rank 2 after d.
    assert report["old"].scores.per_query["RR"] == {"q1": 1.0, "q2": 0.0, "q3": 1.0, "q4": 0.0}
    assert [(shift.system, shift.query) for shift in found.shifts["fruit"]] == [("old", "q2")]
    assert [(moved.id, moved.title) for moved in found.shifts["fruit"][0].documents] == [("c", "")]


def test_several_collections_one_after_the_other(lexical, fruit, other):
    taken = []

    def collections():
        for dataset, retriever in ((fruit, lexical), other):
            taken.append(dataset.name)
            yield Collection(dataset, retriever, [Plan("a"), Plan("b", {"exactness": 0.5})])
            taken.append(f"{dataset.name} done")

    runs = []
    found = evaluate_many(
        collections(), measures="nDCG@10 R@100", on_run=lambda *told: runs.append(told[:2]), sizes=[5]
    )
    assert taken == ["fruit", "fruit done", "other", "other done"]
    assert runs == [("fruit", "a"), ("fruit", "b"), ("other", "a"), ("other", "b")]
    means = [found[name]["a"].scores.means["nDCG@10"] for name in ("fruit", "other")]
    assert found.means["a"]["nDCG@10"] == pytest.approx(sum(means) / 2)
    assert overview(found).columns == ("system", "fruit", "other", "mean")
    assert overview(found).rows[0] == ("a", *(f"{mean:.4f}" for mean in means), f"{sum(means) / 2:.4f}")
    assert [row[0] for row in significance(found, "nDCG@10").rows] == ["fruit", "other", "2 means"]
    assert significance(found).rows[0][1:4] == ("b", "nDCG@10", "+0.0000")
    assert curve(found, "other").columns == ("documents", "lexical")
    assert curve(found, "other").rows[-1] == ("5", f"{means[1]:.4f}")


def test_a_curve_is_of_the_strands_that_are_measured(hybrid, fruit):
    for plans, strands in (([Plan("a", {"strands": "dense"}), Plan("b", {"strands": ["lexical"]})], "lexical,dense"),
                           ([Plan("a")], "lexical,learned,dense")):  # fmt: skip
        found = evaluate_many([Collection(fruit, hybrid, plans)], measures="RR", sizes=[5], costs=False)
        assert ",".join(found.curves["fruit"].means) == strands


def test_a_system_that_one_collection_lacks_has_no_mean(lexical, fruit, other):
    found = evaluate_many(
        [Collection(fruit, lexical, [Plan("a"), Plan("b")]), Collection(other[0], other[1], [Plan("a")])]
    )
    assert list(found.means) == ["a"]
    assert overview(found).rows[1][2:] == ("", "")


def test_latency_replaces_the_batch_s_time_in_the_table(lexical, fruit):
    (report,) = evaluate_many([Collection(fruit, lexical)], latency=3).reports
    assert summary(report).columns[-5:] == ("p50 ms", "p95 ms", "terms/doc", "terms/query", "FLOPS")
    assert report["lexical"].latency.queries == 3
    (plain,) = evaluate_many([Collection(fruit, lexical)], costs=False).reports
    assert summary(plain).columns[-1] == "ms/query"


def test_the_card_is_json_and_does_not_depend_on_when_it_is_made(lexical, fruit):
    cards = []
    for _ in range(2):
        card = evaluate_many([Collection(fruit, lexical, settings={"skip_bad": False})], sizes=[5]).to_json()
        card = json.loads(json.dumps(card, allow_nan=False))
        assert card["collections"][0]["systems"][0].pop("seconds") > 0
        cards.append(card)
    assert cards[0] == cards[1]
    (part,) = cards[0].pop("collections")
    assert {name: cards[0][name] for name in ("card", "baseline", "seed", "samples", "comparisons")} == {
        "card": 2, "baseline": "lexical", "seed": 0, "samples": 10_000, "comparisons": [],
    }  # fmt: skip
    assert set(part) == {"dataset", "encoders", "settings", "index", "systems", "intervals", "shifts", "sizes"}
    assert part["systems"][0]["options"] == {"strands": ["lexical"], "weights": {"lexical": 1.0}}
    assert part["settings"]["bm25"] == {"k1": 0.9, "b": 0.4}
    assert part["dataset"]["sha256"] == fruit.checksums


@pytest.mark.parametrize(
    ("plans", "runs", "message"),
    [
        ([Plan("a"), Plan("a")], {}, "two systems are called 'a'; give each a name of its own"),
        ([Plan("a")], {"a": RUN}, "two systems are called 'a'"),
        ([], {}, "there is no system to measure: name plans with an index, or runs"),
        ([Plan("a", {"fusion": "sum"})], {}, "system 'a': no fusion 'sum'"),
        ([], {"old": {"x": {"a": 1.0}}}, "old: holds no query that fruit test has judged; its queries are 'x': is it"),
        ([], {"old": {}}, "old: holds no query that fruit test has judged; its queries are none"),
    ],
)
def test_systems_that_cannot_be(lexical, fruit, plans, runs, message):
    with pytest.raises(EvalError) as caught:
        evaluate_many([Collection(fruit, lexical, plans, runs)])
    assert str(caught.value).startswith(message)


def test_collections_that_cannot_be(lexical, fruit):
    with pytest.raises(EvalError, match="there is no collection"):
        evaluate_many([])
    with pytest.raises(EvalError, match="two collections are called 'fruit'; rename a folder"):
        evaluate_many([Collection(fruit, lexical)] * 2)
    with pytest.raises(EvalError, match="a seed is a whole number of at least 0, not -1"):
        evaluate_many(iter(lambda: 1 / 0, None), seed=-1)
    with pytest.raises(EvalError, match="no system 'x' to compare with; there are: lexical"):
        evaluate_many([Collection(fruit, lexical)], baseline="x")


def test_judgements_of_unknown_documents_count_as_not_found(lexical, tmp_path):
    qrels = {"q1": {"a": 1, "b": 1, "nowhere": 1}}
    dataset = load_beir(beir(tmp_path / "odd", CORPUS, QUERIES, qrels))
    (report,) = evaluate_many([Collection(dataset, lexical)], measures="R@100").reports
    assert report["lexical"].scores.means["R@100"] == pytest.approx(2 / 3)


def test_a_strand_that_finds_nothing_scores_0(lexical, tmp_path):
    dataset = load_beir(beir(tmp_path / "none", CORPUS, {"q4": "zebra"}, {"q4": {"a": 1}}))
    found = evaluate_many([Collection(dataset, lexical)])
    assert set(found.reports[0]["lexical"].scores.means.values()) == {0.0}
    assert found.reports[0]["lexical"].unanswered == 1
    assert found.compared.intervals["none"]["lexical"] == {}

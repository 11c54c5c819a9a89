"""Contexts measured: by hand, at the edges, and of real configurations on a small collection with known places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.eval import EvalError
from plait.eval.contexts import Gold, compare_contexts, gold_of, score_context, score_reply
from plait.retriever import Document, Retriever
from plait.retriever.cited import cited
from plait.retriever.context import Citation, Context
from plait.retriever.extract import Quote
from plait.retriever.passages import split_document
from plait.retriever.rag import Rag, Reply

PARTS = (
    "Monks dug the canal in the year 1210, with spades and much beer.",
    "Barges carried peat along it, drawn by patient horses.",
    "In hard winters there is a race on the ice, eleven miles long.",
    "The lock keeper kept bees, and sold their honey to the skaters.",
)
QUERIES = {"1": "who dug the canal?", "2": "what carried peat?", "3": "how long is the race?", "4": "nobody asks"}


def citation(number, source, start, end):
    return Citation(number, f"{source}#{number}", source, start, end, 1.0, "", "x" * (end - start), "q", (), ())


def context(*places):
    return Context("q", tuple(citation(i, *place) for i, place in enumerate(places, start=1)), tokens=7)


def test_measures_by_hand():
    made = context(("a", 0, 40), ("b", 10, 30), ("a", 60, 80))
    scores = score_context(made, [Gold("a", 20, 70)])
    assert scores == {"recall": 30 / 50, "precision": 30 / 80, "first": 1.0, "tokens": 7.0, "sources": 3.0}
    scores = score_context(made, [Gold("b"), Gold("c")])
    assert (scores["recall"], scores["precision"], scores["first"]) == (0.5, 20 / 80, 0.0)
    assert score_context(made, [Gold("a", 0, 20), Gold("a", 10, 30)])["precision"] == 30 / 80
    assert score_context(Context("q"), [Gold("a")])["recall"] == 0
    assert score_context(made, [])["recall"] == 0


@given(st.data())
def test_measures_are_those_of_counting_characters_one_by_one(data):
    place = st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(1, 20)).map(
        lambda p: (p[0], p[1], p[1] + p[2])
    )
    made, gold = context(*data.draw(st.lists(place, max_size=4))), data.draw(st.lists(place, min_size=1, max_size=4))
    scores = score_context(made, [Gold(*one) for one in gold])
    there = {(c.source, i) for c in made.citations for i in range(c.start, c.end)}
    wanted = {(document, i) for document, start, end in gold for i in range(start, end)}
    shares = [sum((d, i) in there for i in range(start, end)) / (end - start) for d, start, end in gold]
    useful = [(c.source, i) in wanted for c in made.citations for i in range(c.start, c.end)]
    assert scores["recall"] == pytest.approx(sum(shares) / len(shares))
    assert scores["precision"] == pytest.approx(sum(useful) / len(useful) if useful else 0)


def test_what_an_answer_cites_by_hand():
    made = context(("a", 0, 40), ("b", 0, 40))
    text = "Right [1]. Wrong [2]. Made up [9]. Bare."
    scores = score_reply(Reply(text, made, cited(text, made)), [Gold("a", 20, 70)])
    assert (scores["correct"], scores["supported"], scores["uncited"]) == (1 / 3, 1.0, 0.5)
    assert scores["recall"] == 20 / 50
    quotes = (Quote(1, 0, 10, 1.0, "x"), Quote(1, 25, 40, 1.0, "y"))
    scores = score_reply(Reply("x [1]\ny [1]", made, cited("x [1]\ny [1]", made), quotes), [Gold("a", 20, 70)])
    assert (scores["correct"], scores["supported"], scores["uncited"]) == (0.5, 1.0, 0.0)
    empty = score_reply(Reply("", Context("q"), cited("", Context("q"))), [Gold("a")])
    assert {empty[name] for name in ("correct", "supported", "uncited")} == {0.0}


def test_gold_of_judgements():
    assert gold_of({"1": {"a": 2, "b": 0, "c": 1}}) == {"1": [Gold("a"), Gold("c")]}
    assert gold_of({"1": {"a": 2, "c": 1}}, least=2) == {"1": [Gold("a")]}


@pytest.fixture
def index(tmp_path):
    text = "\n\n".join(PARTS)
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(split_document(Document(id="canal", text=text), words=12, overlap=3))
        r.add([Document(id="snow", text="Snow falls in winter, and melts in spring. Who knows how long it is?")])
        r.commit()
        yield r, {str(i): [Gold("canal", text.index(p), text.index(p) + len(p))] for i, p in enumerate(PARTS[:3], 1)}


def test_configurations_on_the_same_queries(index):
    retriever, gold = index
    done = []
    made = compare_contexts(
        {"one": Rag(retriever, k=1, neighbours=0), "wide": Rag(retriever, k=1, neighbours=9)},
        QUERIES, gold, answers=True, on_progress=done.append,
    )  # fmt: skip
    assert len(done) == 6
    assert list(made["one"].queries) == ["1", "2", "3"]
    assert [each["recall"] for each in made["wide"].queries.values()] == [1, 1, 0]  # of 3 it finds the snow
    assert made["one"].means["precision"] > made["wide"].means["precision"]
    assert made["one"].means["recall"] == sum(each["recall"] for each in made["one"].queries.values()) / 3
    assert made["one"].means["correct"] > 0
    assert made["one"].means["uncited"] == 0


def test_documents_as_judged_and_queries_without_an_answer(index):
    retriever, _ = index
    made = compare_contexts({"a": Rag(retriever)}, QUERIES, gold_of({"1": {"canal": 1}, "2": {"canal": 0}}))
    assert list(made["a"].queries) == ["1"]
    assert made["a"].means["recall"] == 1.0
    assert "correct" not in made["a"].means
    with pytest.raises(EvalError, match="nothing answers any of the 4 queries; expected gold of the same query ids"):
        compare_contexts({"a": Rag(retriever)}, QUERIES, {})

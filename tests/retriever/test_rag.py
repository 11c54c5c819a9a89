"""Contexts, citations and answers: by hand, against the parents' own texts, and through a model's every whim."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import SO_LINGER, SOL_SOCKET, create_server

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever import Document, FilterError, Hit, QueryError, Retriever
from plait.retriever.cited import cited, numbers_in
from plait.retriever.context import Citation, Context, Found, approximate_tokens, build, joined, shingles, shortened
from plait.retriever.endpoint import Endpoint, ModelError
from plait.retriever.extract import sentence_scores
from plait.retriever.passages import split_document
from plait.retriever.rag import Rag, index_tokens
from plait.retriever.texts import sentence_spans

from tests.tree import ROOT

CANAL = (
    "The canal was dug by monks in the year 1210. It joins the river to the sea. Barges carried peat along it. "
    "Later the town grew rich on herring. A lock was built at its mouth in 1650. The lock keeper kept bees. "
    "Today the canal is used by swimmers and by skaters. In hard winters there is a race on the ice. "
    "The race is eleven miles long. Its winner is given a cheese."
)
SNOW = "Snow falls in winter. It melts in spring and feeds the river. Children build men of it."
DOCUMENTS = {
    "canal": Document(id="canal", title="The canal", text=CANAL),
    "snow": Document(id="snow", title="Snow", text=SNOW),
    "bees": Document(id="bees", text="Bees make honey from the nectar of flowers. A lock keeper kept bees."),
}


def passages_of(document, *, words=12, overlap=4):
    return list(split_document(document, words=words, overlap=overlap))


@pytest.fixture
def index(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        for document in DOCUMENTS.values():
            r.add(passages_of(document))
        r.commit()
        yield r


def hit(document, rank=1, score=1.0):
    return Hit(rank, document.id, score, document.title, document.text, document.metadata, document.parent,
               document.start, {})  # fmt: skip


def found(*documents):
    return [Found(hit(one, i, 1.0 / i), "q") for i, one in enumerate(documents, start=1)]


def words_in(text):
    return len(text.split())


def as_documents(*texts):
    return [Document(id=str(i), text=text) for i, text in enumerate(texts)]


# Contexts


@given(st.data())
def test_citations_are_the_parents_own_words_at_their_offsets_within_the_budget(data):
    words = st.sampled_from(["ice", "race.", "sea,", "monk", "lock!\n\n", "peat", "x"])
    texts = data.draw(st.lists(st.lists(words, min_size=1, max_size=40), min_size=1, max_size=3))
    parents = [Document(id=f"p{i}", text=" ".join(text)) for i, text in enumerate(texts)]
    size = data.draw(st.integers(2, 8))
    families = {p.id: passages_of(p, words=size, overlap=data.draw(st.integers(1, size // 2))) for p in parents}
    every = [one for family in families.values() for one in family]
    chosen = data.draw(st.lists(st.sampled_from(every), unique_by=lambda one: one.id, min_size=1, max_size=6))
    budget = data.draw(st.integers(1, 120))
    made = build(
        "q", found(*chosen), budget=budget, count=words_in, duplicates=data.draw(st.sampled_from([None, 0.8])),
        neighbours=data.draw(st.integers(0, 2)), passages=families.__getitem__,
    )  # fmt: skip
    assert made.tokens == words_in(made.text) <= budget
    assert [citation.number for citation in made.citations] == list(range(1, len(made.citations) + 1))
    whole = {parent.id: parent.text for parent in parents}
    for citation in made.citations:
        stored = whole[citation.source][citation.start : citation.end]
        assert citation.text.split() == stored.split()
        assert len(citation.text) == len(stored)
    inside = [id for citation in made.citations for id in citation.hits]
    assert sorted([*inside, *(one.id for one in made.dropped)]) == sorted(one.id for one in chosen)


def test_passages_that_overlap_become_one_citation_with_both_hits():
    first, second, third, *_ = passages_of(DOCUMENTS["canal"])
    made = build("q", found(second, first), budget=100)
    (citation,) = made.citations
    assert citation.text == CANAL[: second.start + len(second.text)]
    assert (citation.id, citation.parent, citation.start, citation.end) == ("canal#1", "canal", 0, len(citation.text))
    assert citation.hits == ("canal#1", "canal#0")
    assert citation.passages == ("canal#0", "canal#1")
    assert citation.score == 1.0
    assert made.text == f"[1] The canal\n{citation.text}"
    apart = build("q", found(first, third), budget=100)
    assert [one.passages for one in apart.citations] == [("canal#0",), ("canal#2",)]
    bridged = build("q", found(first, third, second), budget=100)
    assert [one.hits for one in bridged.citations] == [("canal#0", "canal#2", "canal#1")]


def test_neighbours_fill_what_hits_leave_of_the_budget_and_displace_none():
    family = passages_of(DOCUMENTS["canal"])
    snow = Document(id="snow", text=SNOW)
    chosen = found(family[3], snow)
    plain = build("q", chosen, budget=1000, count=words_in)
    wide = build("q", chosen, budget=1000, count=words_in, neighbours=1, passages=lambda parent: family)
    assert wide.citations[0].passages == ("canal#2", "canal#3", "canal#4")
    assert wide.citations[0].hits == ("canal#3",)
    assert wide.citations[1] == plain.citations[1]
    tight = build("q", chosen, budget=plain.tokens, count=words_in, neighbours=1, passages=lambda parent: family)
    assert (tight.citations, tight.dropped) == (plain.citations, ())
    more = build("q", chosen, budget=1000, count=words_in, neighbours=9, passages=lambda parent: family)
    assert more.citations[0].text == CANAL


def test_a_neighbour_that_was_deleted_is_no_bridge():
    family = passages_of(DOCUMENTS["canal"])
    holed = [one for one in family if one.id != "canal#4"]
    made = build("q", found(family[3]), budget=1000, neighbours=3, passages=lambda parent: holed)
    assert made.citations[0].passages == ("canal#0", "canal#1", "canal#2", "canal#3")
    gone = build("q", found(family[3]), budget=1000, neighbours=3, passages=lambda parent: [])
    assert gone.citations[0].passages == ("canal#3",)


def test_passages_whose_starts_are_unknown_are_never_joined():
    family = [Document(id=f"p#{i}", text=text, parent="p") for i, text in enumerate(["snow falls", "bees fly"])]
    made = build("q", found(family[0]), budget=100, neighbours=1, passages=lambda parent: family)
    assert [one.text for one in made.citations] == ["snow falls"]
    assert len(build("q", found(*family), budget=100).citations) == 2


@pytest.mark.parametrize(
    ("start", "text", "expected"),
    [
        (0, "one two", "one two"),
        (4, "two", "one two"),
        (4, "two three", "one two three"),
        (7, "!", "one two!"),
        (8, "three", "one two three"),
        (9, "three", "one two\n\nthree"),
        (12, "three", None),
        (4, "zwei drei", None),
        (4, "zw", None),
    ],
)
def test_joining_by_hand(start, text, expected):
    assert joined("one two", 0, Document(id="x", text=text, start=start)) == expected


def test_near_copies_are_left_out_and_said_to_be():
    one, copy, other = as_documents(
        "The canal was dug by monks in the year 1210, they say.",
        "THE canal was dug by monks, in the year 1210!",
        "Bees make honey.",
    )
    made = build("q", found(one, copy, other), budget=100)
    assert [citation.id for citation in made.citations] == ["0", "2"]
    assert [(gone.id, gone.why, gone.of) for gone in made.dropped] == [("1", "duplicate", "0")]
    assert [c.id for c in build("q", found(copy, one, other), budget=100).citations] == ["1", "2"]
    assert len(build("q", found(one, copy, other), budget=100, duplicates=None).citations) == 3
    assert len(shingles("a b c d")) == 2
    assert shingles("A b") == {("a", "b")}
    assert shingles("...") == frozenset()


def test_a_text_that_is_larger_than_the_one_it_repeats_stays():
    short, long = as_documents("The canal was dug by monks.", f"The canal was dug by monks. {SNOW}")
    assert len(build("q", found(short, long), budget=100).citations) == 2
    assert [c.id for c in build("q", found(long, short), budget=100).citations] == ["1"]


def test_what_is_too_long_is_passed_over_and_the_best_is_cut_where_nothing_fits():
    long, short = Document(id="long", text=CANAL), Document(id="short", text="Bees.")
    made = build("q", found(long, short), budget=10, count=words_in)
    assert [citation.id for citation in made.citations] == ["short"]
    assert [(gone.id, gone.why) for gone in made.dropped] == [("long", "budget")]
    part = build("q", found(long), budget=22, count=words_in)
    assert part.text == "[1] " + CANAL[: CANAL.index(" Barges")]
    assert (part.citations[0].end, part.tokens, part.dropped) == (len(part.citations[0].text), 18, ())
    few = build("q", found(long), budget=4, count=words_in)
    assert few.text == "[1] The canal was"
    none = build("q", found(long), budget=1, count=words_in)
    assert (none.text, none.tokens, [gone.id for gone in none.dropped]) == ("", 0, ["long"])


def test_a_count_that_is_not_additive_has_the_last_word():
    made = build("q", found(*as_documents("a b", "c d", "e f")), budget=10, count=lambda text: len(text.split()) ** 2)
    assert (len(made.citations), made.tokens) == (1, 9)
    assert [gone.why for gone in made.dropped] == ["budget", "budget"]


def test_a_document_that_is_all_title_and_an_empty_answer():
    made = build("q", found(Document(id="t", title="Only a title", text="")), budget=10)
    assert made.text == "[1] Only a title"
    assert build("q", [], budget=10) == Context("q", budget=10)
    assert Context("q").to_json()["text"] == ""


def test_tokens_are_about_four_for_three_words_in_any_script():
    assert [approximate_tokens(text) for text in ("", "one", "one two three", "運河是誰挖的")] == [0, 2, 4, 4]


def test_a_context_is_json():
    made = build("q", found(Document(id="a", text="Bees.", metadata={"year": 2020})), budget=10)
    told = json.loads(json.dumps(made.to_json()))
    assert told["text"] == "[1] Bees."
    assert told["citations"][0] == {
        "number": 1, "id": "a", "parent": None, "start": 0, "end": 5, "score": 1.0, "title": "", "text": "Bees.",
        "question": "q", "hits": ["a"], "passages": ["a"], "metadata": {"year": 2020},
    }  # fmt: skip


# What an answer cites


def sources(count):
    texts = [f"Source {i}." for i in range(count)]
    made = [Citation(i + 1, str(i), None, 0, 9, 1.0, "", text, "q", (), ()) for i, text in enumerate(texts)]
    return Context("q", tuple(made))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("a [1]", (1,)), ("[2][1] [2]", (2, 1)), ("[1, 3; 5]", (1, 3, 5)), ("[2-4]", (2, 3, 4)), ("【7】", (7,)),
     ("[9-2]", (9, 2)), ("[1-9999]", (1, 9999)), ("[x] (1) [] [1.5] a[b]", ()), ("[ 1 ]", (1,))],
)  # fmt: skip
def test_numbers_by_hand(text, numbers):
    assert numbers_in(text) == numbers


def test_which_sources_an_answer_cites_and_which_sentences_cite_none():
    made = cited("Monks dug it [1]. It is old. It joins river and sea. [2][7] Bees fly [3, 1].", sources(3))
    assert (made.known, made.unknown, made.complete) == ((1, 2, 3), (7,), False)
    assert made.uncited == ("It is old.",)
    assert [sentence.numbers for sentence in made.sentences] == [(1,), (), (2, 7), (3, 1)]
    assert cited("It snows. [1]\nIt melts. [2]", sources(2)).complete
    assert cited("It snows [9].", sources(2)).uncited == ("It snows [9].",)
    assert cited("", sources(2)).sentences == ()
    assert cited("[1]", sources(2)).known == (1,)


# From a query


def test_a_context_holds_the_hits_of_the_search(index):
    made = Rag(index, k=3, neighbours=0).context("who dug the canal?")
    hits = index.search("who dug the canal?", 3)
    assert sorted(id for citation in made.citations for id in citation.hits) == sorted(one.id for one in hits)
    assert made.citations[0].score == hits[0].score
    assert made.questions == ("who dug the canal?",)
    for citation in made.citations:
        assert DOCUMENTS[citation.source].text[citation.start : citation.end] == citation.text


def test_nothing_found_is_an_empty_context_and_answer(index):
    reply = Rag(index).answer("zymurgy")
    assert (reply.text, reply.context.text, reply.cited.complete) == ("", "", True)
    with pytest.raises(QueryError, match="query"):
        Rag(index).context(" ")


def test_search_arguments_reach_the_search(index):
    made = Rag(index, search={"min_score": 2.0}).context("lock")
    assert made.citations == ()
    with pytest.raises(FilterError, match="there is no column 'year'"):
        Rag(index, search={"filter": "year = 1"}).context("lock")


def test_a_filter_holds_for_what_stands_beside_hits_too(tmp_path):
    with Retriever.create(tmp_path / "f", strands="lexical", fields={"open": "boolean"}) as r:
        family = passages_of(DOCUMENTS["canal"])
        r.add([replace(one, metadata={"open": one.id != "canal#1"}) for one in family])
        r.commit()
        wide = {"k": 1, "neighbours": 2}
        assert "canal#1" in Rag(r, **wide).context("monks").citations[0].passages
        (alone,) = Rag(r, **wide, search={"filter": "open = true"}).context("monks").citations
        assert (alone.passages, alone.text) == (("canal#0",), family[0].text)


@pytest.mark.parametrize("choose", ["mmr", "clusters"])
def test_a_choice_comes_behind_the_pipeline_of_the_index(tmp_path, small_encoders, choose):
    with Retriever.create(tmp_path / "h", pipeline="feedback:documents=2", **small_encoders) as r:
        for document in DOCUMENTS.values():
            r.add(passages_of(document))
        r.commit()
        step = {"mmr": "mmr:top=20", "clusters": "clusters:top=20:clusters=4"}[choose]
        for search, before in (({}, "feedback:documents=2,"), ({"pipeline": "none"}, ""), ({"strands": "lexical"}, "")):
            made = Rag(r, k=4, neighbours=0, duplicates=None, choose=choose, search=search).context("winter ice")
            wanted = r.search("winter ice", 4, **{**search, "pipeline": before + step})
            assert sorted(id for c in made.citations for id in c.hits) == sorted(one.id for one in wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "takes k of at least 1, not 0"),
        ({"budget": 0}, "takes budget of at least 1"),
        ({"neighbours": -1}, "takes neighbours of at least 0"),
        ({"rounds": 9}, "takes rounds from 1 to 3"),
        ({"duplicates": 0}, "takes duplicates above 0"),
        ({"choose": "x"}, "no choice 'x' of hits; there are: best, mmr, clusters"),
        ({"steps": "rewrite"}, "the step 'rewrite' needs a language model: give model="),
        ({"steps": "rewrit"}, "no step 'rewrit' that a .*; there are: rewrite, hyde, decompose, filter"),
        ({"steps": "hyde,hyde", "model": str}, "each step is taken once"),
        ({"search": {"k": 3}}, "other than k"),
        ({"search": {"filte": "x"}}, "has no argument 'filte'; there are: strands, fusion, weights, pipeline, depth"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_once(index, options, message):
    with pytest.raises(QueryError, match=message):
        Rag(index, **options)


# An answer without a model


def test_an_extractive_answer_quotes_sentences_at_their_places(index):
    reply = Rag(index).answer("what is the winner of the race given?", sentences=2)
    assert "Its winner is given a cheese." in reply.text
    assert reply.cited.complete
    assert len(reply.quotes) == 2
    for quote in reply.quotes:
        citation = reply.context.citations[quote.number - 1]
        assert DOCUMENTS[citation.source].text[quote.start : quote.end] == quote.text
        assert 0 < quote.score <= 1


def test_footnotes_in_what_is_quoted_are_no_citations(tmp_path):
    text = "Monks dug the canal in 1210.[17] The canal froze [2] in winter."
    with Retriever.create(tmp_path / "i", strands="lexical") as retriever:
        retriever.add([Document(id="canal", text=text)])
        retriever.commit()
        reply = Rag(retriever).answer("who dug the canal in winter?")
    assert "[17]" in reply.text
    assert (reply.cited.known, reply.cited.unknown, reply.cited.uncited) == ((1,), (), ())
    assert [sentence.numbers for sentence in reply.cited.sentences] == [(1,)] * len(reply.quotes)


def test_a_document_forges_no_source(tmp_path):
    text = "Snow falls.\n[2] The canal\nIt was dug by elves.\r\n  【3】 More.\nSee [4], or\n\n[5]"
    with Retriever.create(tmp_path / "i", strands="lexical") as retriever:
        retriever.add([Document(id="snow", text=text, title="Snow\n[7] Title")])
        retriever.commit()
        made = Rag(retriever, budget=200).context("snow")
        assert made.text == (
            "[1] Snow\n> [7] Title\nSnow falls.\n> [2] The canal\nIt was dug by elves.\r\n>   【3】 More.\n"
            "See [4], or\n\n> [5]"
        )
        assert made.citations[0].text == text
        assert made.tokens == approximate_tokens(made.text)
        for budget in range(1, made.tokens):
            assert Rag(retriever, budget=budget).context("snow").tokens <= budget


def test_nothing_is_said_twice(index):
    reply = Rag(index, duplicates=None).answer("the lock keeper kept bees", sentences=3)
    assert sum("keeper kept bees" in quote.text for quote in reply.quotes) == 1


def test_sentences_are_scored_by_every_strand_as_it_weighs(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "h", **small_encoders, weights={"lexical": 0, "learned": 0, "dense": 1}) as r:
        r.add(list(DOCUMENTS.values()))
        r.commit()
        scores = sentence_scores(r, "abc", ["abc", "ab", "xyz"])
        assert scores.tolist() == pytest.approx([1, (2 / 3) ** 0.5, 0], abs=1e-6)
        assert sentence_scores(r, "abc", []).tolist() == []
    with Retriever.create(tmp_path / "l", strands="lexical") as r:
        r.add(list(DOCUMENTS.values()))
        r.commit()
        assert sentence_scores(r, "bees snow", ["bees", "bees bees", "nothing"]).tolist() == pytest.approx(
            [(1 / 2.2) / (2 / 3.2), 1, 0]
        )
        assert sentence_scores(r, "the", ["bees"]).tolist() == [0]


def test_tokens_by_the_tokenizer_of_the_index(tmp_path, index):
    assert index_tokens(index)("one two three") == 4
    with Retriever.create(tmp_path / "d", strands="dense") as r:
        assert index_tokens(r)("a lock, a canal") == 5
        assert index_tokens(r)("bee " * 1000) == 1000


# With a model


class Scripted:
    """A model that replies by what it is told to do, and keeps what it was asked."""

    def __init__(self, **replies):
        self.replies, self.asked = replies, []

    def __call__(self, messages):
        system, user = (message["content"] for message in messages)
        kinds = {
            "rewrite": "Rewrite", "hyde": "encyclopedia", "decompose": "split it", "judge": "yes or no",
            "missing": "NOTHING", "answer": "numbered sources",
        }  # fmt: skip
        kind = next(name for name, mark in kinds.items() if mark in system)
        self.asked.append((kind, user))
        reply = self.replies[kind]
        return reply(user) if callable(reply) else reply


def test_a_question_is_rewritten_and_searched_for(index):
    model = Scripted(rewrite='"monks canal"\nI hope this helps!')
    made = Rag(index, model=model, steps="rewrite").context("Please, who made that waterway?")
    assert made.questions == ("monks canal",)
    assert made.citations[0].question == "monks canal"
    assert made.query == "Please, who made that waterway?"


def test_a_made_up_passage_is_searched_for_beside_the_question(index):
    made = Rag(index, model=Scripted(hyde="It was dug\nby monks."), steps="hyde").context("waterway")
    assert made.questions == ("waterway It was dug by monks.",)
    assert made.citations[0].hits[0] == "canal#0"


def test_sub_questions_are_searched_for_each_and_merged_by_their_ranks(index):
    model = Scripted(
        decompose="1. Who dug the canal?\n- What do bees make?\n\nwho dug the CANAL and what do bees make?"
    )
    query = "Who dug the canal and what do bees make?"
    rag = Rag(index, k=2, neighbours=0, model=model, steps="decompose")
    made = rag.context(query)
    assert made.questions == (query, "Who dug the canal?", "What do bees make?")
    worth = {}
    for question in made.questions:
        for one in index.search(question, 2):
            worth[one.id] = worth.get(one.id, 0) + 1 / (60 + one.rank)
    assert {id for c in made.citations for id in c.hits} | {d.id for d in made.dropped} == set(worth)
    best = max(worth.values())
    assert worth[made.citations[0].hits[0]] == best


def test_a_filter_drops_what_does_not_help_and_searches_for_what_is_missing(index):
    model = Scripted(
        judge=lambda user: "No." if "Bees make" in user else "Yes, it does.",
        missing=lambda user: "monks canal" if "monks" not in user.split("Passages:")[1] else "NOTHING",
    )
    made = Rag(index, k=2, neighbours=0, model=model, steps=["filter"]).context("honey snow")
    assert ("bees#0", "judged") in [(gone.id, gone.why) for gone in made.dropped]
    assert "monks canal" in made.questions
    assert "canal#0" in {id for citation in made.citations for id in citation.hits}
    once = Rag(index, k=2, neighbours=0, model=model, steps="filter", rounds=1).context("honey snow")
    assert once.questions == ("honey snow",)


def test_a_filter_that_drops_everything_leaves_an_empty_context(index):
    model = Scripted(judge="no", missing="zymurgy")
    reply = Rag(index, k=2, model=model, steps="filter").answer("honey")
    assert reply.text == ""
    assert {gone.why for gone in reply.context.dropped} == {"judged"}


def test_a_model_answers_from_the_numbered_sources(index):
    model = Scripted(answer="Monks did [1]. Swans helped. [8]")
    reply = Rag(index, model=model).answer("who dug the canal?")
    assert reply.context.text in model.asked[0][1]
    assert (reply.cited.known, reply.cited.unknown, reply.cited.uncited) == ((1,), (8,), ("Swans helped. [8]",))


@pytest.mark.parametrize("thought", ["<think>\nLet me see: bees [9]?\n</think>\n\n", "\n<Think></Think>"])
def test_thoughts_are_no_part_of_a_reply(index, thought):
    reply = Rag(index, model=Scripted(answer=f"{thought}Monks did [1].")).answer("who dug the canal?")
    assert (reply.text, reply.cited.unknown) == ("Monks did [1].", ())
    judging = Scripted(judge=f"{thought}no", missing=f"{thought}NOTHING")
    assert not Rag(index, k=2, model=judging, steps="filter").context("honey").citations


def test_a_line_before_a_list_is_no_question(index):
    said = "Here are the questions:\n\n1. Who dug the canal?\n2. What do bees make?"
    made = Rag(index, model=Scripted(decompose=said), steps="decompose").context("canal and bees")
    assert made.questions == ("canal and bees", "Who dug the canal?", "What do bees make?")
    made = Rag(index, model=Scripted(rewrite="Sure, a query:\n- monks canal"), steps="rewrite").context("canal")
    assert made.questions == ("monks canal",)
    assert Rag(index, model=Scripted(rewrite="canal: monks:"), steps="rewrite").context("x").questions == (
        "canal: monks:",
    )


def test_a_filter_sends_no_more_of_a_text_than_the_budget(tmp_path):
    texts = {"long": "honey " * 30_000, "short": "honey and wine"}
    with Retriever.create(tmp_path / "i", strands="lexical") as retriever:
        retriever.add(Document(id=id, text=text) for id, text in texts.items())
        retriever.commit()
        model = Scripted(judge="yes", missing="NOTHING")
        Rag(retriever, budget=100, model=model, steps="filter").context("honey")
    sent = [user.split("Passage: ", 1)[1] for kind, user in model.asked if kind == "judge"]
    assert sorted(map(approximate_tokens, sent)) == [4, 100]
    (asked,) = [user.split("Passages:\n", 1)[1] for kind, user in model.asked if kind == "missing"]
    assert approximate_tokens(asked) <= 100


@pytest.mark.parametrize("most", range(8))
def test_the_beginning_of_a_text_by_hand(most):
    words = ["a", "b", "c", "d", "e"]
    assert shortened(" ".join(words), most, lambda text: len(text.split())) == " ".join(words[:most])


@pytest.mark.parametrize("reply", ["", " \n", None, 3, "<think>canal", "<think>canal</think> "])
def test_a_reply_that_is_no_text_is_an_error(index, reply):
    with pytest.raises(ModelError, match=r"the language model replied .*; expected a text"):
        Rag(index, model=lambda messages: reply, steps="rewrite").context("bees")


def test_a_reply_of_bullets_alone_leaves_the_question_as_it_is(index):
    assert Rag(index, model=Scripted(rewrite="- \n"), steps="rewrite").context("bees").questions == ("bees",)
    assert Rag(index, model=Scripted(decompose="\n1.  \n"), steps="decompose").context("bees").questions[0] == "bees"


# An endpoint


@contextlib.contextmanager
def serving(*replies):
    """Serves one (status, body, headers) after another, and lends the base URL and the list of what was asked."""
    asked, left = [], list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), json.loads(body)))
            status, body, headers = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def said(text):
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode(), {}


def test_an_endpoint_is_asked_as_openai_has_it():
    with serving(said("Hello ü")) as (url, asked):
        endpoint = Endpoint(f"{url}/", "tiny", key="secret", options={"max_tokens": 5})
        assert endpoint([{"role": "user", "content": "Hi"}]) == "Hello ü"
    ((path, headers, body),) = asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body == {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    assert "secret" not in repr(endpoint)


def test_an_endpoint_answers_with_citations(index):
    with serving(said("By monks [1].")) as (url, _):
        reply = Rag(index, model=Endpoint(url, "tiny")).answer("who dug the canal?")
    assert (reply.text, reply.cited.complete) == ("By monks [1].", True)


def test_a_busy_endpoint_is_asked_again():
    with serving((503, b"busy", {}), (429, b"", {}), said("yes")) as (url, asked):
        assert Endpoint(url, "m", pause=0)([]) == "yes"
        assert len(asked) == 3
    with serving((503, b"busy", {})) as (url, asked), pytest.raises(ModelError, match="503: busy; asked 2 times"):
        Endpoint(url, "m", pause=0, retries=1)([])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, b'{"error": "bad key: secret"}', {}), r"answered 401: .*bad key: \.\.\.\"\}; is the key right"),
        ((404, b"", {}), "answered 404: nothing; is the base of the URL right"),
        ((302, b"", {"Location": "http://127.0.0.1:9/"}), "answered 302: nothing; give the address that it names"),
        ((200, b"<html>", {}), "something else than a chat completion: <html>; expected JSON with choices"),
        ((200, b'{"choices": []}', {}), "something else than a chat completion"),
        ((200, b'{"choices": [{"message": {"content": null}}]}', {}), "something else than a chat completion"),
        ((200, b"[" * 100_000, {}), "something else than a chat completion"),
    ],
    ids=["401", "404", "302", "html", "none", "null", "deep"],
)  # fmt: skip
def test_what_an_endpoint_may_say_instead(reply, message):
    with serving(reply) as (url, asked):
        with pytest.raises(ModelError, match=message) as told:
            Endpoint(url, "m", key="secret")([])
        assert len(asked) == 1
        assert "secret" not in str(told.value)


def test_an_endpoint_that_is_not_there_or_says_nothing():
    with serving(said("")) as (url, _):
        pass
    with pytest.raises(ModelError, match=r"cannot be asked: .*; is the server running\?; asked 1 times"):
        Endpoint(url, "m", retries=0)([])
    with create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelError, match=r"took longer than 0.1 s; give a longer timeout"):
            Endpoint(url, "m", timeout=0.1)([])


@contextlib.contextmanager
def answering(head, *, end="stall", trickle=b""):
    """Serves every connection the same bytes, then stalls, sends more byte by byte, or ends it: cut short, or reset."""
    over, asked = threading.Event(), []
    listener = create_server(("127.0.0.1", 0))

    def one(connection):
        with connection, contextlib.suppress(OSError):
            asked.append(connection.recv(1 << 16))
            connection.sendall(head)
            while trickle and not over.wait(0.01):
                connection.sendall(trickle)
            if end == "stall":
                over.wait(60)
            if end == "reset":
                connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        over.set()
        listener.close()


BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 99\r\n\r\nbus"


@pytest.mark.parametrize("how", [{}, {"end": "cut"}, {"trickle": b"y"}], ids=["stalls", "ends", "trickles"])
def test_a_busy_endpoint_is_asked_again_whatever_its_body_does(how):
    with answering(BUSY, **how) as (url, asked):
        with pytest.raises(ModelError, match=r"answered 503: .*; asked 3 times"):
            Endpoint(url, "m", timeout=0.2, pause=0)([])
        assert len(asked) == 3
    with answering(BUSY.replace(b"503", b"400"), **how) as (url, asked):
        with pytest.raises(ModelError, match="answered 400: "):
            Endpoint(url, "m", timeout=0.2, pause=0)([])
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("head", "trickle"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["headers", "header", "body", "length", "chunks"],
)
def test_the_timeout_holds_for_all_of_a_reply_that_trickles(head, trickle):
    with answering(head, trickle=trickle) as (url, asked):
        with pytest.raises(ModelError, match=r"took longer than 0.3 s; give a longer timeout"):
            Endpoint(url, "m", timeout=0.3)([])
        assert len(asked) == 1


@pytest.mark.parametrize("end", ["cut", "reset"])
@pytest.mark.parametrize("status", [b"200 OK", b"400 No", b"503 Busy"])
def test_a_reply_that_breaks_off_is_an_error_of_the_model(status, end):
    head = b"HTTP/1.1 " + status + b"\r\nContent-Length: 99\r\n\r\n{"
    with answering(head, end=end) as (url, _), pytest.raises(ModelError):
        Endpoint(url, "m", pause=0, retries=1)([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "file:///etc/passwd"}, "no endpoint 'file:///etc/passwd'; expected its base"),
        ({"url": "localhost:8000"}, "no endpoint 'localhost:8000'"),
        ({"timeout": 0}, "a timeout above 0"),
        ({"key": "a\nb"}, "is there a line break in it"),
    ],
)
def test_an_endpoint_that_cannot_be(options, message):
    with pytest.raises(ModelError, match=message):
        Endpoint(**{"url": "http://localhost", "model": "m", **options})


# Sentences


def test_a_long_run_of_blanks_is_passed_in_one_go():
    blanks = " \t" * 50_000
    text = f"One{blanks}goes on.{blanks}Two{blanks}\n{blanks}\nThree"
    began = time.process_time()
    spans = sentence_spans(text)
    assert time.process_time() - began < 2  # minutes, where each blank is tried as the first
    assert [text[start:end].split() for start, end in spans] == [["One", "goes", "on."], ["Two"], ["Three"]]


# The page about it


def test_the_python_of_the_page_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "rag.md").read_text(encoding="utf-8")
    namespace = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/rag.md", "exec"), namespace)
    namespace["r"].close()
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == shown

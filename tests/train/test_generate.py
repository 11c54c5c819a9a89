"""Queries made of documents: their own words, never empty, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders.lexical import words
from plait.retriever import Document
from plait.train.errors import TrainError
from plait.train.generate import (
    WAYS,
    Common,
    Pair,
    from_crops,
    from_headings,
    from_keywords,
    from_sentence,
    from_title,
    generate,
    sections,
    sentence_spans,
    without,
    without_title,
)

NO_WORDS = Common.count([])
PAGE = """# Sledges

A sledge slides over snow. Dogs can pull it for days.

## Care

Wax the runners before winter. Dry the wood afterwards.

```
# no heading at all
```

Choosing a good dog team
------------------------
Six dogs are enough for two people.
"""
PIECES = st.sampled_from(
    [
        "snow",
        "Bees make honey.",
        "C++",
        "\n\n",
        ". ",
        "! ",
        "東京都は大きい。",
        "हिन्दी में",
        "กรุงเทพ",
        "x",
        "#",
        "== ",
        "\n",
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=60).map(" ".join))


def random(seed=0):
    return np.random.default_rng(seed)


def inside(part, whole):
    return " ".join(part.split()) in " ".join(whole.split())


def test_sections_are_headings_with_the_text_below():
    found = sections(PAGE)
    assert [heading for heading, _ in found] == ["Sledges", "Care", "Choosing a good dog team"]
    assert found[2][1] == "Six dogs are enough for two people."
    assert "no heading at all" in found[1][1]


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("=====\nTitle\n=====\nText.\n\nPart\n****\nMore.", ["Title", "Part"]),
        ("# On C#\ntext\n## Closed ##\ntext", ["On C#", "Closed"]),
        ("Too long for its line\n---\ntext", []),
        ("no heading", []),
        ("", []),
        ("----\n----\n", []),
    ],
)
def test_headings_of_markdown_and_rst(text, headings):
    assert [heading for heading, _ in sections(text)] == headings


def test_a_short_heading_gets_the_title_of_its_page():
    made = from_headings(Document("1", PAGE, "Sledges"), random(), NO_WORDS)
    assert [pair.query for pair in made] == ["Sledges", "Sledges Care", "Choosing a good dog team"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One is 3.14. Two? “Three!” Four", ["One is 3.14.", "Two?", "“Three!”", "Four"]),
        ("雪が降る。寒い！", ["雪が降る。", "寒い！"]),
        ("बर्फ गिरती है। ठंड है।", ["बर्फ गिरती है।", "ठंड है।"]),
        ("a line that\ngoes on\n\nanother", ["a line that\ngoes on", "another"]),
        ("  ", []),
    ],
)
def test_sentences_of_several_scripts(text, sentences):
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("# Snow\n\nIt is cold.", "It is cold."),
        ("====\nSnow\n====\n\nIt is cold.", "It is cold."),
        ("Snow\nIt is cold.", "It is cold."),
        ("Snow is cold.", "Snow is cold."),
        ("Snowing\nis fun", "Snowing\nis fun"),
    ],
)
def test_the_line_that_repeats_the_title_goes(text, rest):
    assert without_title(text, "Snow") == rest


def test_the_title_of_a_document_is_a_query_and_a_file_name_is_none():
    text = "# Snow\n\nIt is cold and white."
    assert from_title(Document("1", text, "Snow"), random(), NO_WORDS) == [Pair("Snow", "It is cold and white.")]
    named = Document("notes", "It is cold and white.", "notes", {"path": "a/notes.txt"})
    assert from_title(named, random(), NO_WORDS) == []
    passage = Document("1#1", text, "Snow", parent="1", start=900)
    assert from_title(passage, random(), NO_WORDS) == []


def test_keywords_are_the_rarest_words_in_the_order_of_the_text():
    texts = ["the cold glacier moves over the land", *["the land is over the hill"] * 9]
    common = Common.count(texts)
    pairs = [from_keywords(Document("1", texts[0]), random(seed), common)[0] for seed in range(60)]
    by_size = {len(pair.query.split()): pair for pair in pairs}
    assert by_size[3] == Pair("cold glacier moves", texts[0])
    assert set(by_size) == {2, 3, 4, 5, 6}
    assert by_size[6].query == "the cold glacier moves over land"


@given(TEXTS, st.integers(0, 5))
def test_a_masked_sentence_is_gone_and_an_unmasked_one_is_there(text, seed):
    document = Document("1", text)
    spans = {" ".join(text.strip()[a:b].split()): text.strip()[a:b] for a, b in sentence_spans(text.strip())}
    for pair in from_sentence(document, random(seed), NO_WORDS, masked=1.0):
        assert spans[pair.query] not in pair.document or pair.query != spans[pair.query]
        assert list(words(pair.document))
    for pair in from_sentence(document, random(seed), NO_WORDS, masked=0.0):
        assert inside(pair.query, pair.document)


@given(TEXTS, TEXTS)
def test_what_is_left_out_is_nowhere(text, part):
    if part.strip():
        assert part.strip() not in without(text, part)


@given(TEXTS, TEXTS.filter(lambda title: "\n" not in title), st.sampled_from(list(WAYS)), st.integers(0, 5))
def test_a_query_has_words_and_they_are_the_documents_own(text, title, way, seed):
    document = Document("1", text, title)
    common = Common.count([document.full_text])
    made = WAYS[way](document, random(seed), common)
    assert made == WAYS[way](document, random(seed), common)
    for query, answer in made:
        assert list(words(query)), query
        assert list(words(answer)), answer
        if way == "keywords":
            assert set(query.split()) <= set(words(document.full_text))
        elif way == "heading":
            parts = [query, query.removeprefix(title.strip())]
            assert any(inside(part, document.full_text) for part in parts)
        else:
            assert inside(query, document.full_text)


@given(st.integers(0, 50))
def test_crops_are_within_their_shares(seed):
    document = Document("1", " ".join(f"w{number}" for number in range(100)))
    for pair in from_crops(document, random(seed), NO_WORDS):
        assert 5 <= len(pair.query.split()) <= 40
        assert 5 <= len(pair.document.split()) <= 40


def test_what_is_made_of_a_document_depends_on_it_and_the_seed_alone():
    documents = [Document(str(n), f"Number {n} is a sentence. " + "Another one follows. " * 40) for n in range(9)]
    alone = [pair for document in documents for pair in generate([document], seed=3, each=2)]
    assert list(generate(documents, seed=3, each=2)) == alone
    assert len(alone) == 18
    assert list(generate(documents, seed=4, each=2)) != alone


def test_an_unknown_way_is_named():
    with pytest.raises(TrainError, match="no way to make queries is called 'magic'; there are: title, heading"):
        list(generate([], "title,magic"))

"""Passages: every word is covered, offsets are true, lengths and overlaps stay within their bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever.documents import Document
from plait.retriever.passages import passage_spans, split_document

WORDS = st.sampled_from(["word", "end.", "Ünïcode!", "a", "(why?)", "今天天气很好。", "สวัสดีชาวโลก", "x" * 130, "…"])
GAPS = st.sampled_from([" ", "  ", "\n", "\n\n", "\t", "\n \n\n"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=120).map(lambda pairs: "".join(word + gap for word, gap in pairs))


@st.composite
def lengths(draw):
    words = draw(st.integers(1, 40))
    return words, draw(st.integers(0, words // 2))


@given(text=TEXTS | st.text(), length=lengths())
def test_passages_cover_every_word_and_say_where_they_are(text, length):
    document = Document("d", text, "T", {"k": 1}, start=5)
    passages = list(split_document(document, words=length[0], overlap=length[1]))
    covered = bytearray(len(text))
    for number, passage in enumerate(passages):
        start = passage.start - 5
        assert text[start : start + len(passage.text)] == passage.text
        assert (passage.id, passage.parent, passage.title, passage.metadata) == (f"d#{number}", "d", "T", {"k": 1})
        covered[start : start + len(passage.text)] = b"\1" * len(passage.text)
    assert all(seen or char.isspace() for seen, char in zip(covered, text, strict=True))
    assert len(passages) >= 1


@given(count=st.integers(0, 700), length=lengths(), stops=st.sets(st.integers(0, 700)))
def test_lengths_and_overlaps_are_bounded(count, length, stops):
    words, overlap = length
    names = [f"w{i}." if i in stops else f"w{i}" for i in range(count)]
    text = " ".join(names)
    spans = [[int(w.strip("w.")) for w in text[a:b].split()] for a, b in passage_spans(text, words, overlap)]
    assert sorted({i for span in spans for i in span}) == list(range(count))
    for span, following in itertools.pairwise(spans):
        shared = span[-1] + 1 - following[0]
        assert words - words // 4 <= len(span) <= words
        assert overlap // 2 <= shared <= overlap
    assert all(1 <= len(span) <= words for span in spans)


def test_a_cut_prefers_a_paragraph_to_a_sentence_to_a_line_to_a_space():
    words = [f"w{i}" for i in range(40)]
    words[17] = "w17."
    line = " ".join(words[:19]) + "\n" + " ".join(words[19:])
    assert line[slice(*next(passage_spans(line, 20, 0)))].split()[-1] == "w17."
    paragraph = " ".join(words[:16]) + "\n\n" + " ".join(words[16:])
    assert paragraph[slice(*next(passage_spans(paragraph, 20, 0)))].split()[-1] == "w15"
    words[17] = "w17"
    line = " ".join(words[:19]) + "\n" + " ".join(words[19:])
    assert line[slice(*next(passage_spans(line, 20, 0)))].split()[-1] == "w18"
    assert " ".join(words)[slice(*next(passage_spans(" ".join(words), 20, 0)))].split()[-1] == "w19"


def test_a_passage_begins_at_a_sentence_within_the_overlap():
    words = [f"w{i}" for i in range(40)]
    words[13] = "w13."
    text = " ".join(words)
    first, second = list(passage_spans(text, 20, 8))[:2]
    assert text[slice(*first)].split()[-1] == "w19"
    assert text[slice(*second)].split()[0] == "w14"


@pytest.mark.parametrize(
    ("text", "length"),
    [("今天天气很好我们去公园玩" * 40, 100), ("สวัสดีชาวโลกทุกคน" * 40, 250), ("x" * 4000, 2000)],
)
def test_text_without_spaces_is_cut_by_characters(text, length):
    spans = list(passage_spans(text, 50, 10))
    assert max(end - start for start, end in spans) <= length * 1.4
    assert min(end - start for start, end in spans[:-1]) >= length * 0.5
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)


def test_chinese_is_cut_at_the_end_of_a_sentence():
    text = "今天天气很好。我们去公园玩。" * 40
    assert {text[start:end][-1] for start, end in passage_spans(text, 50, 10)} == {"。"}


def test_a_thai_vowel_sign_stays_with_its_consonant():
    text = "ที่นี่มีน้ำ" * 50
    signs = "\u0e31\u0e34\u0e35\u0e36\u0e37\u0e38\u0e39\u0e47\u0e48\u0e49"
    assert not [start for start, _ in passage_spans(text, 8, 2) if text[start] in signs]


def test_short_and_empty_texts_are_one_passage():
    assert [(p.id, p.text, p.start, p.parent) for p in split_document(Document("d", "  a b "))] == [
        ("d#0", "a b", 2, "d")
    ]
    assert [(p.id, p.text, p.start) for p in split_document(Document("d", "", "Title"))] == [("d#0", "", 0)]
    assert list(passage_spans(" \n ")) == []


@pytest.mark.parametrize(
    ("words", "overlap", "message"),
    [
        (0, 0, "words is 0; expected the length of a passage in words, 1 or more"),
        (10, 6, "overlap is 6; expected 0 to 5, half of the 10 words"),
        (10, -1, "overlap is -1; expected 0 to 5"),
    ],
)
def test_lengths_out_of_range_are_refused(words, overlap, message):
    with pytest.raises(ValueError, match=message):
        list(passage_spans("a", words, overlap))

"""Long texts cut into overlapping passages, at the end of a paragraph or sentence where one is near."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import replace

from .documents import Document

WORDS = 200  # with a title, about what an encoder of 256 tokens reads
OVERLAP = 40

# A word is a run without white space. Scripts written without spaces count by characters: two of Chinese or Japanese,
# five of Thai, Lao, Burmese or Khmer (never parted from their vowel signs) are about a word. Other unbroken runs
# (base64, minified code) are cut every 40 characters, so that no passage grows without bound.
_IDEOGRAPHS = r"\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_SIGNS = r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u1056-\u1059\u17b4-\u17d3"
_CLOSE = r"\"'’”»)\]」』）】。、，；：！？．…"
_WORD = re.compile(
    rf"[{_IDEOGRAPHS}]{{1,2}}[{_CLOSE}]{{0,8}}"
    rf"|[{_UNSPACED}]{{1,5}}[{_SIGNS}]*"
    rf"|[^\s{_IDEOGRAPHS}{_UNSPACED}]{{1,40}}"
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
_SENTENCE = re.compile(r"[.!?…।॥؟۔][\"'’”»)\]]*\Z")
_WIDE_SENTENCE = re.compile(r"[。！？][\"'’”»)\]」』）】]*\Z")


def check_lengths(words: int, overlap: int) -> None:
    """Raises `ValueError` unless 1 <= words and 0 <= overlap <= words / 2."""
    if words < 1:
        raise ValueError(f"words is {words}; expected the length of a passage in words, 1 or more (as in {WORDS})")
    if not 0 <= overlap <= words // 2:
        raise ValueError(f"overlap is {overlap}; expected 0 to {words // 2}, half of the {words} words of a passage")


def passage_spans(text: str, words: int = WORDS, overlap: int = OVERLAP) -> Iterator[tuple[int, int]]:
    """Yields (start, end) in characters of passages that cover every word of the text, in order.

    A passage holds at most `words` words and, the last one aside, at least three quarters of that; it shares at most
    `overlap` words with the one before, and at least half of that.
    """
    check_lengths(words, overlap)
    starts, ends = array("Q"), array("Q")
    for match in _WORD.finditer(text):
        starts.append(match.start())
        ends.append(match.end())
    first = 0
    while first < len(starts):
        stop = _best_cut(text, starts, ends, first + words - words // 4, first + words)
        yield starts[first], ends[stop - 1]
        if stop == len(starts):
            return
        first = _best_cut(text, starts, ends, stop - overlap, stop - overlap // 2, latest=False)


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yields (start, end) in characters of the words that passages are counted in, in scripts without spaces too."""
    return (match.span() for match in _WORD.finditer(text))


def split_document(document: Document, *, words: int = WORDS, overlap: int = OVERLAP) -> Iterator[Document]:
    """Yields the document's passages: `{id}#0`, `{id}#1`, ... with the same title and metadata.

    A short document is one passage; so is one that has a title and no text.
    """
    spans = list(passage_spans(document.text, words, overlap)) or [(0, 0)]
    for number, (start, end) in enumerate(spans):
        yield replace(
            document,
            id=f"{document.id}#{number}",
            text=document.text[start:end],
            parent=document.id,
            start=document.start + start,
        )


def _best_cut(text: str, starts: array[int], ends: array[int], low: int, high: int, *, latest: bool = True) -> int:
    """Returns the word in low..high before which to cut: the best boundary; of equals the last, or else the first.

    Where the text ends before `high` the cut is the end of the text.
    """
    if high >= len(starts):
        return len(starts)
    candidates = range(high, low - 1, -1) if latest else range(low, high + 1)
    return max(candidates, key=lambda word: _boundary(text, starts, ends, word))


def _boundary(text: str, starts: array[int], ends: array[int], word: int) -> int:
    """Returns how good a place the gap before a word is: a paragraph's end, a sentence's, a line's, a space, none."""
    before, gap = text[starts[word - 1] : ends[word - 1]], text[ends[word - 1] : starts[word]]
    if _PARAGRAPH.search(gap):
        return 4
    if _WIDE_SENTENCE.search(before) or (gap and _SENTENCE.search(before)):
        return 3
    return 2 if "\n" in gap else int(bool(gap))

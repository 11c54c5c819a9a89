"""Queries for documents that have none, made of the documents' own words.

Each way is a pure function of a document, a random generator and the words of the collection. None of them replaces
people's questions: titles and headings are the nearest, a sentence or a crop teaches mostly what belongs together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from ..encoders.lexical import words
from ..index.impacts import idf
from ..retriever import Document
from ..retriever.passages import word_spans
from .errors import TrainError

SHORTEST = 3  # words in a sentence that asks something, and in a text that can answer
LONGEST = 40  # words in a sentence that is still a query
HEADING = 3  # a heading of fewer words ("Parameters") needs the page's title beside it
KEYWORDS = (2, 6)  # how many words, both included
CROP = (0.05, 0.4)  # shares of a document's words
MASKED = 0.5  # how often a sentence is taken away from its document


class Pair(NamedTuple):
    """A query and the text that answers it."""

    query: str
    document: str


@dataclass(frozen=True)
class Common:
    """How many documents hold each word.

    Attributes:
        documents: how many there are.
        frequencies: documents by word, as `encoders.lexical.words` cuts it.
    """

    documents: int
    frequencies: Counter[str]

    @classmethod
    def count(cls, texts: Iterable[str]) -> Common:
        """Returns the counts of some texts."""
        frequencies, documents = Counter[str](), 0
        for text in texts:
            frequencies.update(set(words(text)))
            documents += 1
        return cls(documents, frequencies)

    @cached_property
    def _rarity(self) -> dict[str, float]:
        known = np.fromiter(self.frequencies.values(), np.int64, len(self.frequencies))
        return dict(zip(self.frequencies, idf(known, self.documents).tolist(), strict=True))

    def rarity(self, word: str) -> float:
        """Returns the word's inverse document frequency, the index's own; a word never counted is as rare as can be."""
        found = self._rarity.get(word)
        return float(idf(np.zeros(1, np.int64), self.documents)[0]) if found is None else found


Way = Callable[[Document, np.random.Generator, Common], "list[Pair]"]


def from_title(document: Document, _random: np.random.Generator, _common: Common) -> list[Pair]:
    """Returns the title with the text, from which it is taken away; nothing where the title is but a file's name.

    Of a text that was cut into passages only the first goes with the title.
    """
    title = document.title.strip()
    named = PurePath(str(document.metadata.get("path", ""))).name.split(".")[0]
    if document.start or not at_least(title, 1) or title == named:
        return []
    rest = without_title(document.text, title)
    return [Pair(title, rest)] if at_least(rest, SHORTEST) else []


def from_headings(document: Document, _random: np.random.Generator, _common: Common) -> list[Pair]:
    """Returns every Markdown or reStructuredText heading with the text below it.

    A short heading says little without its page, and gets the page's title before it.
    """
    title, made = document.title.strip(), []
    for heading, text in sections(document.text):
        short = not at_least(heading, HEADING) and title and title != heading
        if at_least(heading, 1) and at_least(text, SHORTEST):
            made.append(Pair(f"{title} {heading}" if short else heading, text))
    return made


def from_sentence(
    document: Document, random: np.random.Generator, _common: Common, *, masked: float = MASKED
) -> list[Pair]:
    """Returns a random sentence of 3 to 40 words with the document, from which it is taken away with a probability.

    Args:
        document: what it is a sentence of.
        random: what chooses.
        masked: the probability.
    """
    text = document.text.strip()
    found = [text[start:end] for start, end in sentence_spans(text)]
    fitting = [one for one in found if at_least(one, SHORTEST) and not at_least(one, LONGEST + 1)]
    if not fitting:
        return []
    sentence = fitting[int(random.integers(len(fitting)))]
    hide = random.random() < masked
    rest = without(text, sentence) if hide else document.full_text
    return [Pair(_line(sentence), rest)] if at_least(without(text, sentence), SHORTEST) else []


def from_crops(document: Document, random: np.random.Generator, _common: Common) -> list[Pair]:
    """Returns two independent random spans of 5 to 40 % of the document's words (Contriever, arXiv 2112.09118)."""
    text = document.full_text
    spans = list(word_spans(text))
    if len(spans) < 4 * SHORTEST:
        return []
    query, other = _crop(text, spans, random), _crop(text, spans, random)
    return [Pair(_line(query), other)] if at_least(query, 1) and at_least(other, SHORTEST) else []


def from_keywords(document: Document, random: np.random.Generator, common: Common) -> list[Pair]:
    """Returns the two to six words of highest tf-idf, in the order in which they come, with the document."""
    text = document.full_text
    counts = Counter(word for word in words(text) if len(word) > 1)  # keys stand in the order of the text
    wanted = int(random.integers(KEYWORDS[0], KEYWORDS[1] + 1))
    if len(counts) < max(wanted, SHORTEST):
        return []
    weight = {word: (1 + float(np.log(count))) * common.rarity(word) for word, count in counts.items()}
    best = sorted(counts, key=lambda word: (-weight[word], word))[:wanted]
    return [Pair(" ".join(word for word in counts if word in best), text)]


WAYS: dict[str, Way] = {
    "title": from_title,
    "heading": from_headings,
    "sentence": from_sentence,
    "crop": from_crops,
    "keywords": from_keywords,
}
DEFAULT = ("title", "heading", "sentence", "crop")


def check_ways(ways: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns names of ways, from "title,crop", a sequence, or None for the default ones.

    Raises:
        TrainError: a name is unknown, or there is none.
    """
    if ways is None:
        return DEFAULT
    names = tuple(name.strip() for name in ways.split(",")) if isinstance(ways, str) else tuple(ways)
    for name in names:
        if name not in WAYS:
            raise TrainError(f"no way to make queries is called {name!r}; there are: {', '.join(WAYS)}")
    if not names:
        raise TrainError(f"no way to make queries was named; there are: {', '.join(WAYS)}")
    return names


def generate(
    documents: Iterable[Document],
    ways: str | Sequence[str] | None = None,
    *,
    seed: int = 0,
    each: int = 1,
    common: Common | None = None,
) -> Iterator[Pair]:
    """Yields pairs made of documents, in their order.

    Every document goes through `each` of the ways, chosen at random among those that it allows. What is made of a
    document depends on its own words and the seed alone ("keywords" aside, which weighs them by the collection).

    Args:
        documents: what to make queries for; read once.
        ways: names from `WAYS`.
        seed: of all choices.
        each: how many ways a document goes through, at most.
        common: the words of the collection, which "keywords" needs; without it all words are equally rare.

    Raises:
        TrainError: a name is unknown.
    """
    names = check_ways(ways)
    counted = Common(0, Counter()) if common is None else common
    for document in documents:
        random = _random_of(document, seed)
        taken = 0
        for name in random.permutation(len(names)).tolist():
            made = WAYS[names[name]](document, random, counted)
            yield from made
            taken += bool(made)
            if taken == each:
                break


def at_least(text: str, count: int) -> bool:
    """Returns whether a text has so many words; a long one is not read to its end."""
    return next(islice(_few_words(text), count - 1, None), None) is not None


def _few_words(text: str) -> Iterator[str]:
    step = 1000  # far more than the words that anybody asks for; a word cut in two there does no harm
    return (word for start in range(0, len(text), step) for word in words(text[start : start + step]))


def without_title(text: str, title: str) -> str:
    """Returns a text without the line that only repeats its title, be it plain, a Markdown or an underlined heading."""
    found = re.match(_OVERLINE + rf"(?:#{{1,6}}[ \t]+)?{re.escape(title)}[ \t]*#*[ \t]*" + _LINE_END, text.lstrip())
    return text.lstrip()[found.end() :].strip() if found else text.strip()


def without(text: str, part: str) -> str:
    """Returns a text that no longer holds a part, wherever it stood; what was around it is kept apart by a space."""
    part = part.strip()
    while part and part in text:  # what is left may meet to form it anew
        text = " ".join(filter(None, (piece.strip() for piece in text.split(part))))
    return text


def sections(text: str) -> list[tuple[str, str]]:
    """Returns (heading, text up to the next heading) of Markdown and reStructuredText, outside fenced code."""
    masked = _FENCED.sub(lambda match: " " * len(match[0]), text)
    found = [match for match in _HEADING.finditer(masked) if _is_heading(match)]
    ends = [match.start() for match in found[1:]] + [len(text)]
    named = ((match["hashed"] or match["lined"]).strip() for match in found)
    bodies = (text[match.end() : end].strip() for match, end in zip(found, ends, strict=False))
    return [(_bare(heading), body) for heading, body in zip(named, bodies, strict=True)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Returns (start, end) of sentences: what ends in a full stop of any script, or with a line's or paragraph's end.

    A line that goes on in the next, as in text of fixed width, is no end: only an empty line is, or one after a stop.
    """
    found, start = [], 0
    for match in _STOP.finditer(text):
        found.append((start, match.start() + len(match[0].rstrip())))
        start = match.end()
    found.append((start, len(text.rstrip())))
    spans = ((a + len(text[a:b]) - len(text[a:b].lstrip()), b) for a, b in found)
    return [(a, b) for a, b in spans if a < b]


_OVERLINE = r"(?:(?P<over>[^\w\s])(?P=over){2,}[ \t]*\n)?[ \t]*"
_LINE_END = r"(?:\n(?P<under>[^\w\s])(?P=under){2,}[ \t]*)?(?:\n|\Z)"
_FENCED = re.compile(r"^(?P<fence>```|~~~).*?(?:^(?P=fence)|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(
    r"^#{1,6}[ \t]+(?P<hashed>\S.*)$"
    r"|^(?:(?P<over>[=\-`:.'\"~^_*+#])(?P=over){2,}[ \t]*\n)?[ \t]?(?P<lined>[^\s#].*)\n"
    r"(?P<line>([=\-`:.'\"~^_*+#])\5{2,})[ \t]*$",
    re.MULTILINE,
)
_STOP = re.compile(r"[.!?…।॥؟۔][\"'’”»)\]]*(?:\s+|\Z)|[。！？][\"'’”»)\]」』）】]*\s*|[^\S\n]*\n\s*\n\s*")


def _is_heading(match: re.Match[str]) -> bool:
    """Returns whether it is one: an underline at least as long as the line, which is no ruler itself."""
    if match["hashed"]:
        return True
    return len(match["line"]) >= len(match["lined"].rstrip()) and any(c.isalnum() for c in match["lined"])


def _bare(heading: str) -> str:
    """Returns a heading without the # signs that close it: 'On C#' keeps its own."""
    bare = heading.rstrip("#")
    return bare.rstrip() if bare != heading and bare[-1:].isspace() else heading


def _line(text: str) -> str:
    """Returns a text on one line."""
    return " ".join(text.split())


def _crop(text: str, spans: Sequence[tuple[int, int]], random: np.random.Generator) -> str:
    """Returns a random run of 5 to 40 % of the words, at least one of them."""
    size = max(1, round(len(spans) * random.uniform(*CROP)))
    first = int(random.integers(len(spans) - size + 1))
    return text[spans[first][0] : spans[first + size - 1][1]]


def _random_of(document: Document, seed: int) -> np.random.Generator:
    key = blake2b(document.full_text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(key, "little")])

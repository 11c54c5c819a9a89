"""Queries for documents that have none, made of the documents' own words.

Each way is a pure function of a document, a random generator and the words of the collection. None of them replaces
people's questions: titles and headings are the nearest, a sentence or a crop teaches mostly what belongs together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from ..encoders.lexical import words
from ..index.impacts import idf
from ..retriever import Document
from ..retriever.passages import word_spans
from ..retriever.texts import at_least, sections, sentence_spans, without, without_title
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

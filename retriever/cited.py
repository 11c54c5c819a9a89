"""Citations in an answer: which sources it names, which of them there are, and which sentences name none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .context import Context
from .texts import sentence_spans

# "[1]", "[1, 2]", "[1-3]", "[1; 4]"; models also write full-width brackets.
_GROUP = r"[\[【]\s*\d{1,4}(?:\s*[-–,;]\s*\d{1,4})*\s*[\]】]"
_CITED = re.compile(_GROUP)
_LEADING = re.compile(rf"(?:{_GROUP}[\s,;.]*)+")
_RANGE = re.compile(r"(\d+)(?:\s*[-–]\s*(\d+))?")
MOST = 100  # numbers that one range may name


class Sentence(NamedTuple):
    """A sentence of an answer and the numbers in it, also those that follow its full stop."""

    text: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cited:
    """What an answer cites.

    Attributes:
        sentences: the answer's sentences with the numbers that each cites.
        known: the numbers that are sources of the context, ascending.
        unknown: the numbers that are not.
        uncited: the sentences that cite no source that there is.
    """

    sentences: tuple[Sentence, ...]
    known: tuple[int, ...]
    unknown: tuple[int, ...]
    uncited: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every sentence cites a source, and every number is one; an empty answer says nothing wrong."""
        return not self.unknown and not self.uncited


def cited(answer: str, context: Context) -> Cited:
    """Returns which sources an answer cites.

    Numbers in brackets count: "[1]", "[1, 3]", "[2-4]". Those that begin a sentence belong to the one before, as in
    "It snows. [1] It melts. [2]". It is not checked whether a source says what the sentence does.
    """
    found = tuple(_sentences(answer))
    there = {citation.number for citation in context.citations}
    named = {number for sentence in found for number in sentence.numbers}
    without = tuple(sentence.text for sentence in found if not there & set(sentence.numbers))
    return Cited(found, tuple(sorted(named & there)), tuple(sorted(named - there)), without)


def numbers_in(text: str) -> tuple[int, ...]:
    """Returns the cited numbers of a text in the order in which they come, each once."""
    return tuple(dict.fromkeys(number for group in _CITED.finditer(text) for number in _numbers(group[0])))


def _numbers(group: str) -> Iterator[int]:
    for match in _RANGE.finditer(group):
        first, last = int(match[1]), int(match[2] or match[1])
        yield from range(first, last + 1) if first <= last < first + MOST else dict.fromkeys((first, last))


def _sentences(answer: str) -> Iterator[Sentence]:
    parts = [answer[start:end] for start, end in sentence_spans(answer)]
    held = ""
    for part in parts:
        leading = _LEADING.match(part)
        if leading and held:
            held, part = f"{held} {leading[0].strip()}", part[leading.end() :]
        if not part.strip():
            continue
        if held:
            yield Sentence(held, numbers_in(held))
        held = part.strip()
    if held:
        yield Sentence(held, numbers_in(held))

"""Context for a language model: passages in, numbered sources out, each with its place in its document.

Overlapping passages of one parent become one text again, near copies are left out, and what is left is packed into a
budget of tokens: the hits first, in their order, then the passages beside them as far as there is room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from ..encoders.lexical import words
from .documents import Document
from .hits import Hit
from .passages import word_spans
from .texts import sentence_spans

GAP = 2  # characters between passages that follow each other: white space; three may hide a word of one letter
SHINGLE = 3  # words

_BREAKS = r"\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_FORGED = re.compile(rf"[{_BREAKS}](?=[^\S{_BREAKS}]*[\[【]\s*\d)")

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Citation:
    """A numbered source of a context: a stretch of one document.

    Attributes:
        number: from 1, as in "[1]".
        id: the document's id; of several passages joined, that of the best hit.
        parent: the id of the document that the passages were cut from; None for a whole document.
        start, end: where the text stands in the parent's text (of a whole document in its own), in characters.
        score: of the best hit, as `Hit.score`: comparable between hits of one question.
        title, text: as they were added; text is the parent's from start to end.
        question: what was searched for when the best hit was found.
        hits: the ids of the hits in it, best first.
        passages: the ids of all documents in it, by their place: the hits and what stands beside them.
        metadata: of the best hit.
    """

    number: int
    id: str
    parent: str | None
    start: int
    end: int
    score: float
    title: str
    text: str
    question: str
    hits: tuple[str, ...]
    passages: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def source(self) -> str:
        """The id of the document that start and end count in."""
        return self.id if self.parent is None else self.parent

    @property
    def block(self) -> str:
        """The source as a language model reads it: "[1] Title", and the text below.

        Lines inside it that look like the beginning of a source have "> " before them: a document invents none.
        """
        head = f"[{self.number}] {self.title}".rstrip()
        whole = f"{head}\n{self.text}" if self.title and self.text else f"{head} {self.text}".rstrip()
        return _FORGED.sub(r"\g<0>> ", whole)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A hit that is not in a context.

    Attributes:
        id: the document's id.
        why: "duplicate", "budget" or "judged".
        of: the id of what it is a copy of; None for another reason.
    """

    id: str
    why: str
    of: str | None = None


@dataclass(frozen=True)
class Context:
    """What a language model can be given to answer a query from.

    Attributes:
        query: as it was given.
        citations: the numbered sources; that with the best hit first.
        tokens: of the text, by the function that counted.
        budget: how many there could have been.
        questions: what was searched for.
        dropped: the hits that are not in it, and why.
    """

    query: str
    citations: tuple[Citation, ...] = ()
    tokens: int = 0
    budget: int = 0
    questions: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()

    @property
    def text(self) -> str:
        """All sources, with an empty line between them; empty where nothing was found."""
        return "\n\n".join(citation.block for citation in self.citations)

    def to_json(self) -> dict[str, Any]:
        """Returns the context as plain JSON values."""
        return {**asdict(self), "text": self.text}


class Found(NamedTuple):
    """A hit and the question that found it."""

    hit: Hit
    question: str


class Piece(NamedTuple):
    """A document that may go into a context: a hit, or what stands beside one (that has no score of its own)."""

    document: Document
    rank: int
    score: float | None = None
    question: str = ""

    @property
    def family(self) -> str:
        """What it may be joined with: passages of the same parent."""
        return f"document {self.document.id}" if self.document.parent is None else f"parent {self.document.parent}"

    @property
    def end(self) -> int:
        """Where it ends in its parent's text."""
        return self.document.start + len(self.document.text)


class Stretch(NamedTuple):
    """Pieces that are one text, by their place."""

    text: str
    pieces: tuple[Piece, ...]

    @property
    def best(self) -> Piece:
        """The best hit in it."""
        return min((piece for piece in self.pieces if piece.score is not None), key=lambda piece: piece.rank)


def approximate_tokens(text: str) -> int:
    """Returns about how many tokens a text has: four for three words."""
    count = sum(1 for _ in word_spans(text))
    return -(-4 * count // 3)


def shortened(text: str, most: int, count: Count) -> str:
    """Returns the beginning of a text, in whole words, that has at most so many tokens; all of it where it has."""
    if count(text) <= most:
        return text
    ends = [end for _, end in word_spans(text)]
    fitting, too_many = 0, len(ends)
    while fitting + 1 < too_many:
        middle = (fitting + too_many) // 2
        fits = count(text[: ends[middle - 1]]) <= most
        fitting, too_many = (middle, too_many) if fits else (fitting, middle)
    return text[: ends[fitting - 1]] if fitting else ""


def build(
    query: str,
    found: Sequence[Found],
    *,
    budget: int,
    count: Count = approximate_tokens,
    duplicates: float | None = 0.8,
    neighbours: int = 0,
    passages: Callable[[str], Sequence[Document]] = lambda parent: (),
) -> Context:
    """Returns the context made of some hits.

    Args:
        query: what it is for.
        found: the hits, best first.
        budget: tokens of the text at most.
        count: text -> tokens.
        duplicates: a text is left out when at least this share of its shingles of three words is in one that is there;
            None leaves nothing out.
        neighbours: so many passages before and behind each hit, as far as the budget goes; they displace no hit.
        passages: parent -> its passages by their place, as `Retriever.passages`.
    """
    packing = _Packing(budget, count, _Seen(duplicates))
    hits = [_piece(one, rank) for rank, one in enumerate(found)]
    for piece in hits:
        packing.offer(piece)
    if hits and not packing.accepted:
        packing.offer_part(hits)
    known = {piece.document.id for piece in hits}
    kept = [piece for piece in packing.accepted if piece.document.parent is not None]
    for piece in _beside(kept, neighbours, passages):
        if piece.document.id not in known:
            known.add(piece.document.id)
            packing.offer(piece)
    return packing.context(query, tuple(dict.fromkeys(one.question for one in found)))


def joined(text: str, start: int, other: Document) -> str | None:
    """Returns a text, which begins at `start`, with a passage that begins in it or right behind it.

    None where it begins elsewhere, or the two do not agree on what they share: then they are no parts of one text.
    """
    gap = other.start - start - len(text)
    if gap > GAP:
        return None
    if gap >= 0:
        return text + (" " if gap == 1 else "\n" * gap) + other.text
    shared, whole = text[other.start - start :], other.text
    if len(whole) <= len(shared):
        return text if shared.startswith(whole) else None
    return text + whole[len(shared) :] if whole.startswith(shared) else None


def stretches(pieces: Iterable[Piece]) -> list[Stretch]:
    """Returns the pieces of one family as texts, by their place; those that overlap or touch are one."""
    made: list[Stretch] = []
    for piece in sorted(pieces, key=lambda piece: (piece.document.start, piece.rank)):
        last = made[-1] if made else None
        text = None if last is None else joined(last.text, last.pieces[0].document.start, piece.document)
        if last is None or text is None:
            made.append(Stretch(piece.document.text, (piece,)))
        else:
            made[-1] = Stretch(text, (*last.pieces, piece))
    return made


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Returns the runs of three words of a text; of a shorter one, itself; none of one without words."""
    found = list(words(text))
    last = max(1, len(found) - SHINGLE + 1)
    return frozenset(tuple(found[i : i + SHINGLE]) for i in range(last)) if found else frozenset()


class _Seen:
    """The texts that are in a context so far, to know copies by."""

    def __init__(self, share: float | None) -> None:
        self._share = share
        self._kept: list[tuple[Piece, frozenset[tuple[str, ...]]]] = []

    def copied(self, piece: Piece) -> str | None:
        """Returns the id of what a piece repeats; None where it says something of its own.

        Passages of one parent may share words: they overlap.
        """
        own = shingles(piece.document.full_text)
        if self._share is None or not own:
            return None
        for other, held in self._kept:
            apart = (
                piece.family != other.family or piece.document.start >= other.end or other.document.start >= piece.end
            )
            if apart and len(own & held) >= self._share * len(own):
                return other.document.id
        return None

    def add(self, piece: Piece) -> None:
        self._kept.append((piece, shingles(piece.document.full_text)))


class _Packing:
    """What is in a context so far, and what there is still room for."""

    def __init__(self, budget: int, count: Count, seen: _Seen) -> None:
        self._budget, self._count, self._seen = budget, count, seen
        self._families: dict[str, list[Stretch]] = {}
        self._costs: dict[str, int] = {}
        self._used = 0
        self.accepted: list[Piece] = []
        self.dropped: list[Dropped] = []

    def offer(self, piece: Piece) -> bool:
        """Takes a piece where it is no copy and fits, and returns whether it did."""
        if (of := self._seen.copied(piece)) is not None:
            return self._refuse(piece, "duplicate", of)
        before = self._families.get(piece.family, [])
        after = stretches([piece, *(each for stretch in before for each in stretch.pieces)])
        if piece.score is None and len(after) > len(before):
            return False  # beside nothing that is there
        used = self._used + self._cost(after) - self._cost(before)
        if used > self._budget:
            return self._refuse(piece, "budget")
        self._families[piece.family], self._used = after, used
        self._seen.add(piece)
        self.accepted.append(piece)
        return True

    def offer_part(self, pieces: Sequence[Piece]) -> None:
        """Takes as many sentences, or else words, from the beginning of the first piece as fit: better than nothing."""
        piece = pieces[0]
        for spans in (sentence_spans(piece.document.text), list(word_spans(piece.document.text))):
            fitting, most = 0, len(spans)
            while fitting < most:
                middle = (fitting + most + 1) // 2
                cut = replace(piece.document, text=piece.document.text[spans[0][0] : spans[middle - 1][1]])
                fits = self._cost([Stretch(cut.text, (piece._replace(document=cut),))]) <= self._budget
                fitting, most = (middle, most) if fits else (fitting, middle - 1)
            if fitting:
                start, end = spans[0][0], spans[fitting - 1][1]
                cut = replace(piece.document, text=piece.document.text[start:end], start=piece.document.start + start)
                self.dropped = [one for one in self.dropped if one.id != cut.id]
                self.offer(piece._replace(document=cut))
                return

    def context(self, query: str, questions: tuple[str, ...]) -> Context:
        """Returns what was packed; a count of the whole text has the last word."""
        while True:
            made = Context(query, self._citations(), 0, self._budget, questions)
            tokens = self._count(made.text) if made.citations else 0
            if tokens <= self._budget:
                return replace(made, tokens=tokens, dropped=tuple(self.dropped))
            self._take_back()

    def _take_back(self) -> None:
        piece = self.accepted.pop()
        left = [each for stretch in self._families.pop(piece.family) for each in stretch.pieces if each != piece]
        if left:
            self._families[piece.family] = stretches(left)
        self._refuse(piece, "budget")

    def _refuse(self, piece: Piece, why: str, of: str | None = None) -> bool:
        if piece.score is not None:
            self.dropped.append(Dropped(piece.document.id, why, of))
        return False

    def _citations(self) -> tuple[Citation, ...]:
        made = [stretch for family in self._families.values() for stretch in family]
        ordered = sorted(made, key=lambda stretch: stretch.best.rank)
        return tuple(_citation(stretch, number) for number, stretch in enumerate(ordered, start=1))

    def _cost(self, made: Iterable[Stretch]) -> int:
        return sum(self._cost_of(_citation(stretch, 10).block) for stretch in made)

    def _cost_of(self, block: str) -> int:
        if block not in self._costs:
            self._costs[block] = self._count(block)
        return self._costs[block]


def _piece(found: Found, rank: int) -> Piece:
    hit = found.hit
    document = Document(hit.id, hit.text, hit.title, hit.metadata, hit.parent, hit.start)
    return Piece(document, rank, hit.score, found.question)


def _citation(stretch: Stretch, number: int) -> Citation:
    best, start = stretch.best, stretch.pieces[0].document.start
    ranked = sorted((piece for piece in stretch.pieces if piece.score is not None), key=lambda piece: piece.rank)
    return Citation(
        number, best.document.id, best.document.parent, start, start + len(stretch.text), best.score or 0.0,
        best.document.title, stretch.text, best.question, tuple(piece.document.id for piece in ranked),
        tuple(piece.document.id for piece in stretch.pieces), best.document.metadata,
    )  # fmt: skip


def _beside(hits: Sequence[Piece], most: int, passages: Callable[[str], Sequence[Document]]) -> Iterator[Piece]:
    """Yields the passages beside hits: the nearest of every hit, best hit first, then the second nearest, and so on."""
    if most < 1:
        return
    families = {parent: passages(parent) for parent in dict.fromkeys(piece.document.parent for piece in hits) if parent}
    sides = [side for piece in hits for side in _sides(piece, families[str(piece.document.parent)])]
    for distance in range(most):
        yield from (Piece(side[distance], rank) for rank, side in sides if distance < len(side))


def _sides(piece: Piece, family: Sequence[Document]) -> list[tuple[int, list[Document]]]:
    """Returns what comes behind a passage and what before, nearest first, as far as each touches the next."""
    at = next((i for i, one in enumerate(family) if one.id == piece.document.id), None)
    if at is None:  # it went while we looked
        return []
    touching = [joined(a.text, a.start, b) is not None for a, b in pairwise(family)]
    behind, before = at, at
    while behind < len(touching) and touching[behind]:
        behind += 1
    while before > 0 and touching[before - 1]:
        before -= 1
    return [(piece.rank, list(family[at + 1 : behind + 1])), (piece.rank, list(family[before:at][::-1]))]

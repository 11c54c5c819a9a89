"""When segments are merged without being asked to: after a commit, in bounded time, and seldom enough to be cheap.

Segments stand in tiers by the logarithm of how many documents live in them. When a tier has a full row of neighbours,
they become one segment of a higher tier; so a document is written again at most once a tier. Only neighbours are
merged, which keeps the positions of segments apart. `plan` decides and touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# So many segments of a tier become one: a search visits fewer than so many a tier, and a document is written again once
# for every factor of so many by which the index grows.
FANOUT = 8
# A segment is written anew when this share of it is deleted: searching it costs a third more than it should, and
# writing it costs three documents for each that was deleted.
DEAD_SHARE = 0.25
# A commit waits for merges of at most so many documents and postings: a fraction of a second. A segment of this size
# needs no first stage of a dense index either.
QUICK_DOCUMENTS, QUICK_POSTINGS = 16_384, 4_000_000
# A commit that wrote a lot itself may also merge so many times as much: it takes longer by a constant factor, and a
# tier of commits of its size is merged at once.
PATIENCE = 10
# Postings of one segment, at most: cells point at them with 32 bits.
MOST_POSTINGS = 2**32 - 1
# Larger merges wait for `compact`, except when there would be more segments than this: each has open files, and each
# search visits each.
MOST_SEGMENTS = 32


@dataclass(frozen=True)
class Shape:
    """How large a segment is.

    Attributes:
        documents: how many live in it.
        dead: how many are deleted.
        postings: of all of them.
    """

    documents: int = 0
    dead: int = 0
    postings: int = 0

    def __add__(self, other: Shape) -> Shape:
        return Shape(self.documents + other.documents, self.dead + other.dead, self.postings + other.postings)

    @property
    def tier(self) -> int:
        """The tier, 0 for fewer than FANOUT documents, 1 for fewer than FANOUT squared, and so on."""
        tier, most = 0, FANOUT
        while self.documents >= most:
            tier, most = tier + 1, most * FANOUT
        return tier

    @property
    def is_stale(self) -> bool:
        """Whether too much of it is deleted."""
        return self.dead > 0 and self.dead >= DEAD_SHARE * (self.documents + self.dead)

    def is_quick(self, fresh: Shape) -> bool:
        """Returns whether what lives in it can be written while a commit of `fresh` waits."""
        living = self.postings * self.documents // max(self.documents + self.dead, 1)
        return self.documents <= max(QUICK_DOCUMENTS, PATIENCE * fresh.documents) and living <= max(
            QUICK_POSTINGS, PATIENCE * fresh.postings
        )


# As if so much had been written that any merge is small beside it.
UNHURRIED = Shape(2**62, 0, 2**62)


def plan(shapes: Sequence[Shape], fresh: Shape) -> list[range]:
    """Returns which neighbouring segments to merge, or to write anew alone, as ranges of indices that do not overlap.

    Args:
        shapes: the segments, in order of their positions.
        fresh: the sum of those that the last commit wrote.
    """
    groups = [range(i, i + 1) for i in range(len(shapes))]
    sizes = list(shapes)
    while (window := _window(sizes, fresh)) is not None:
        inside = slice(window.start, window.stop)
        groups[inside] = [range(groups[window.start].start, groups[window.stop - 1].stop)]
        sizes[inside] = [_merged(sizes, window)]
    return [
        group
        for group, size in zip(groups, sizes, strict=True)
        if len(group) > 1 or (size.is_stale and size.is_quick(fresh))
    ]


def _window(sizes: Sequence[Shape], fresh: Shape) -> range | None:
    """Returns the next segments to merge: a full tier that is quick; the cheapest where there are too many segments."""
    full = [window for window in _full(sizes) if _merged(sizes, window).postings <= MOST_POSTINGS]
    for window in full:
        if _merged(sizes, window).is_quick(fresh):
            return window
    if len(sizes) <= MOST_SEGMENTS:
        return None
    # Without a full tier, as when large and small commits take turns: the least to write for each segment saved.
    few = [range(i, j) for i in range(len(sizes)) for j in range(i + 2, min(i + FANOUT, len(sizes)) + 1)]
    windows = full or [window for window in few if _merged(sizes, window).postings <= MOST_POSTINGS]
    return min(windows, key=lambda window: _merged(sizes, window).documents / (len(window) - 1), default=None)


def _full(sizes: Sequence[Shape]) -> Iterator[range]:
    """Yields neighbours that end a tier: FANOUT of it, smaller ones between them, no larger one; lowest tier first."""
    tiers = [size.tier for size in sizes]
    for tier in sorted(set(tiers)):
        members: list[int] = []
        for i, found in enumerate(tiers):
            if found == tier:
                members = [*members, i][-FANOUT:]
            elif found > tier:
                members = []
            if found == tier and len(members) == FANOUT:
                yield range(members[0], i + 1)


def _merged(sizes: Sequence[Shape], window: range) -> Shape:
    return sum(sizes[window.start : window.stop], Shape())

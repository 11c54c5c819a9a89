"""What is merged without being asked for: few segments, bounded work, no document written again and again."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.index.policy import (
    DEAD_SHARE,
    FANOUT,
    MOST_SEGMENTS,
    PATIENCE,
    QUICK_DOCUMENTS,
    QUICK_POSTINGS,
    UNHURRIED,
    Shape,
    plan,
)

POSTINGS = 200  # of a document


def of(documents, dead=0):
    """Returns the shape of a segment."""
    return Shape(documents, dead, (documents + dead) * POSTINGS)


def test_tiers_are_powers_of_the_fanout():
    assert [of(size).tier for size in (0, 1, 7, 8, 63, 64, 511, 512, 262_144)] == [0, 0, 0, 1, 1, 2, 2, 3, 6]


def test_a_full_tier_becomes_one_segment_at_once_however_far_that_goes():
    assert plan([of(1)] * 7, of(1)) == []
    assert plan([of(1)] * 8, of(1)) == [range(8)]
    assert plan([of(64)] * 7 + [of(8)] * 7 + [of(1)] * 8, of(1)) == [range(22)]


def test_smaller_neighbours_come_along_and_larger_ones_stay_apart():
    sizes = [of(900), *[of(10)] * 4, of(1), *[of(10)] * 4, of(2), of(900)]
    assert plan(sizes, of(2)) == [range(1, 10)]
    assert plan([*[of(10)] * 4, of(900), *[of(10)] * 4], of(10)) == []


@pytest.mark.parametrize(
    ("shape", "rewritten"),
    [(of(76, 24), False), (of(75, 25), True), (of(0, 5), True), (of(QUICK_DOCUMENTS + 1, 90_000), False)],
)
def test_a_segment_is_written_anew_when_much_of_it_is_deleted_and_little_is_left(shape, rewritten):
    assert plan([of(500), shape], Shape()) == ([range(1, 2)] if rewritten else [])
    assert plan([shape], UNHURRIED) == ([range(1)] if shape.dead >= DEAD_SHARE * (shape.documents + shape.dead) else [])


def test_a_small_commit_waits_for_no_large_merge():
    assert plan([of(4_000)] * FANOUT, of(1_000)) == []
    assert plan([of(4_000)] * FANOUT, of(4_000)) == [range(FANOUT)]
    assert plan([Shape(1_000, 0, 10**6)] * FANOUT, of(1)) == []  # long documents
    assert plan([of(500_000), *[of(1_000)] * 7], of(1_000)) == []
    assert plan([of(500_000), *[of(1_000)] * 8], of(1_000)) == [range(1, 9)]


def test_too_many_segments_are_merged_whatever_it_takes():
    large = [of(20_000)] * (MOST_SEGMENTS + 1)
    assert plan(large[1:], of(1)) == []
    assert plan(large, of(1)) == [range(FANOUT)]
    # No tier is full, a larger one comes in between each time: then those that cost least for each segment saved.
    apart = [of(160_000 if i % FANOUT == 0 else 20_000) for i in range(1, MOST_SEGMENTS + 2)]
    assert plan(apart, of(1)) == [range(FANOUT - 1)]


@given(st.lists(st.builds(of, st.integers(0, 40_000), st.integers(0, 40_000)), max_size=60), st.integers(0, 9_000))
def test_a_plan_is_ranges_in_order_that_leave_few_segments(shapes, fresh):
    groups = plan(shapes, of(fresh))
    assert all(left.stop <= right.start for left, right in pairwise(groups))
    assert all(0 <= group.start < group.stop <= len(shapes) for group in groups)
    assert len(shapes) - sum(len(group) - 1 for group in groups) <= MOST_SEGMENTS


def simulated(sizes, deletes, *, start=(), seed=1):
    """Returns what commits of some sizes lead to: (documents written for each added, most segments, large merges)."""
    rng = random.Random(seed)
    segments, added, deleted, written, most, large = list(start), 0, 0, 0, 0, 0
    for size in sizes:
        for _ in range(deletes):
            i = rng.choices(range(len(segments)), [segment.documents for segment in segments])[0]
            segments[i] += Shape(-1, 1, 0)
            deleted += 1
        segments.append(of(size))
        added, written = added + size, written + size
        groups = plan(segments, of(size))
        merged = {group.start: sum((segments[i] for i in group), Shape()) for group in groups}
        ends = {group.start: group.stop for group in groups}
        kept, at = [], 0
        while at < len(segments):
            kept.append(of(merged[at].documents) if at in merged else segments[at])
            at = ends.get(at, at + 1)
        segments = [segment for segment in kept if segment.documents + segment.dead]
        written += sum(shape.documents for shape in merged.values())
        large += any(shape.documents > max(QUICK_DOCUMENTS, PATIENCE * size) for shape in merged.values())
        most = max(most, len(segments))
    return (written - 3 * deleted) / added, most, large


MIXED = [int(10 ** (4 * random.Random(seed).random())) for seed in range(2000)]


@pytest.mark.parametrize(
    ("sizes", "deletes", "start"),
    [
        ([1] * 5000, 0, ()),
        ([1000] * 3000, 0, ()),
        ([1000] * 1000, 0, (500_000,)),
        ([16_384] * 500, 0, ()),
        (MIXED, 0, ()),
        ([20] * 1000, 20, (3000,)),
        ([1, 8_000] * 500, 0, ()),
    ],
    ids=["one by one", "thousands", "thousands on half a million", "bulk", "mixed", "replacing", "small and large"],
)
def test_writing_again_stays_bounded_over_thousands_of_commits(sizes, deletes, start):
    """A document is written once when it comes and about once a tier; and three for each that is deleted."""
    amplification, most, large = simulated(sizes, deletes, start=[of(size) for size in start])
    assert amplification <= 2 + math.log(sum(sizes) + sum(start), FANOUT)
    assert most <= MOST_SEGMENTS
    assert large <= 0.05 * len(sizes)  # a commit seldom waits for more than is quick


def test_what_is_quick_is_bounded_by_postings_too():
    assert of(QUICK_DOCUMENTS).is_quick(of(1)) == (QUICK_DOCUMENTS * POSTINGS <= QUICK_POSTINGS)
    assert not Shape(10, 0, QUICK_POSTINGS + 1).is_quick(of(1))
    assert Shape(10, 10, 2 * QUICK_POSTINGS).is_quick(of(1))  # only what lives is written

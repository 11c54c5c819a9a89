"""What is merged without being asked for: few segments, bounded work, no document written again and again."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.index.policy import (
    DEAD_SHARE,
    FANOUT,
    MOST_POSTINGS,
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


class Held(NamedTuple):
    """A segment in a simulation: its shape, and how often the document that was written most often was written again.

    `forced` counts what was written again only because there were too many segments.
    """

    shape: Shape
    again: int = 0
    forced: int = 0

    def less(self, gone):
        """The same after so many of its documents were deleted."""
        return self._replace(shape=self.shape + Shape(-gone, gone, 0))


class Step(NamedTuple):
    """A commit in a simulation: what it wrote, the segments before and after its merges, and which were merged."""

    fresh: Shape
    before: list
    groups: list
    after: list


def merged(held, forced):
    """The segment that takes the place of others: what is deleted is left out."""
    again = max(one.again for one in held)
    return Held(of(sum(one.shape.documents for one in held)), again + 1, max(one.forced for one in held) + forced)


def history(commits):
    """Yields a step for each (size, share to delete, of which segment): the segments follow `plan`."""
    held = []
    for size, share, where in commits:
        if held:
            at = where % len(held)
            held[at] = held[at].less(round(share * held[at].shape.documents))
        fresh = of(size)
        before = [*held, Held(fresh)] if size else list(held)
        groups = plan([one.shape for one in before], fresh)
        held = list(before)
        for group in reversed(groups):
            new = merged(before[group.start : group.stop], len(before) > MOST_SEGMENTS)
            held[group.start : group.stop] = [new] if new.shape.documents else []
        yield Step(fresh, before, groups, list(held))


def drawn(seed, count, deleting):
    """Returns commits: runs of small, large and mixed ones, with deletions of some documents or of whole segments."""
    rng, commits = random.Random(seed), []
    while len(commits) < count:
        most, share = rng.choice([9, 100, 5_000, 40_000]), rng.choice([0, 0.02, 0.3, 1]) if deleting else 0
        for _ in range(rng.choice([1, 10, 100])):
            size = rng.choice([most, rng.randint(1, most), *([0] if deleting else [])])
            commits.append((size, share * rng.random(), rng.randrange(99)))
    return commits[:count]


ADDING = st.builds(drawn, st.integers(0, 2**32), st.integers(1, 500), st.just(False))
COMMITS = st.builds(drawn, st.integers(0, 2**32), st.integers(1, 300), st.just(True))


@given(COMMITS)
def test_after_each_commit_few_segments_are_left_and_nothing_more_is_to_do(commits):
    for step in history(commits):
        shapes = [one.shape for one in step.after]
        assert len(shapes) <= MOST_SEGMENTS
        assert not any(shape.is_stale and shape.is_quick(step.fresh) for shape in shapes)
        assert plan(shapes, step.fresh) == []
        assert sum(shape.documents for shape in shapes) == sum(one.shape.documents for one in step.before)


@given(COMMITS)
def test_a_commit_waits_only_for_what_is_quick_unless_there_are_too_many_segments(commits):
    for step in history(commits):
        sums = [sum((one.shape for one in step.before[g.start : g.stop]), Shape()) for g in step.groups]
        assert len(step.before) > MOST_SEGMENTS or all(shape.is_quick(step.fresh) for shape in sums)


@given(ADDING)
def test_a_document_is_written_again_once_for_each_tier_it_climbs(commits):
    """Or because there were too many segments, which is seldom or little: however commits are sized."""
    added = written = 0
    for step in history(commits):
        added += step.fresh.documents
        written += step.fresh.documents
        written += sum(one.shape.documents for group in step.groups for one in step.before[group.start : group.stop])
        assert all(one.again <= one.shape.tier + one.forced for one in step.after)
    assert written <= added * (2 + math.log(added, FANOUT))


@pytest.mark.parametrize("size", [1, 3, 7, 8, 9])
def test_commits_of_one_size_leave_less_than_a_full_tier_of_each(size):
    for step in history([(size, 0, 0)] * 1500):
        tiers = [one.shape.tier for one in step.after]
        assert all(tiers.count(tier) < FANOUT for tier in tiers)
        assert tiers == sorted(tiers, reverse=True)
        assert all(one.again <= one.shape.tier and not one.forced for one in step.after)


@given(COMMITS)
def test_deleting_costs_at_most_three_documents_written_for_each_that_is_gone(commits):
    deleted = written = 0
    live = 0
    for step in history(commits):
        live += step.fresh.documents
        now = sum(one.shape.documents for one in step.before)
        deleted, live = deleted + live - now, now
        alone = [step.before[group.start].shape for group in step.groups if len(group) == 1]
        written += sum(shape.documents for shape in alone)
        assert all(shape.is_stale for shape in alone)
    assert written <= 3 * deleted


HUGE = st.builds(Shape, st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, MOST_POSTINGS))


@given(st.lists(HUGE, max_size=50), st.sampled_from([of(1), of(10**6), UNHURRIED]))
def test_no_merge_has_more_postings_than_a_segment_can(shapes, fresh):
    groups = [group for group in plan(shapes, fresh) if len(group) > 1]
    assert all(sum(shape.postings for shape in shapes[g.start : g.stop]) <= MOST_POSTINGS for g in groups)


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

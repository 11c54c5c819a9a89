"""The deleted documents of one segment, as of one commit; grown from commit to commit, never counted anew."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .segment import NONE_DEAD, Segment

# The first questions of a process are answered one by one; later ones from counts of all terms, which take longer to
# make.
COLD = 4


class Deleted:
    """Which documents of a segment are gone.

    Args:
        segment: the segment.
        rows: int64, the rows of the deleted documents, without repetition.
        alive: uint8 (size,), 0 in these rows; empty where there are none.

    Attributes:
        rows, alive: as given.
    """

    def __init__(
        self, segment: Segment, rows: NDArray[np.int64] | None = None, alive: NDArray[np.uint8] = NONE_DEAD
    ) -> None:
        self.segment, self.alive = segment, alive
        self.rows = np.empty(0, np.int64) if rows is None else rows
        self._asked = 0

    def and_more(self, rows: NDArray[np.int64]) -> Deleted:
        """Returns the same with further rows."""
        if not rows.size:
            return self
        alive = self.alive.copy() if self.alive.size else np.ones(self.segment.size, np.uint8)
        alive[rows] = 0
        more = Deleted(self.segment, np.concatenate([self.rows, rows]), alive)
        more._asked = self._asked
        if "term_counts" in self.__dict__:  # asked for before, so likely again
            more.term_counts = self.term_counts + self.segment.literal_counts(rows)
        if "vector_total" in self.__dict__:
            more.vector_total = self.vector_total + self.segment.total_of(rows)
        return more

    def frequencies(self, terms: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Returns how many of the deleted documents hold each term in their own text."""
        known = self.segment.postings.terms
        if not self.rows.size or not known.size or not terms.size:
            return np.zeros(terms.size, np.int64)
        if "term_counts" not in self.__dict__ and self._asked < COLD:
            self._asked += 1
            return self.segment.literal_frequencies(terms, self.rows)
        at = np.minimum(np.searchsorted(known, terms), known.size - 1)
        return np.where(known[at] == terms, self.term_counts[at].astype(np.int64), 0)

    @cached_property
    def term_counts(self) -> NDArray[np.uint32]:
        """How many of the deleted documents hold each of the segment's terms, uint32 (T,)."""
        return self.segment.literal_counts(self.rows)

    @cached_property
    def vector_total(self) -> NDArray[np.int64]:
        """The sum of the deleted documents' dense vectors, int64 (dim,); see `dense.vector_total`."""
        return self.segment.total_of(self.rows)

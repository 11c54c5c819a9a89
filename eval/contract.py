"""What evaluation is about: runs, qrels, a searcher, and the room's error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

#: query id -> document id -> score; `plait.index.ranked` orders it
Run = Mapping[str, Mapping[str, float]]
#: query id -> document id -> relevance
Qrels = Mapping[str, Mapping[str, int]]


class EvalError(ValueError):
    """A dataset, run, qrels file or measure that cannot be used; the message says where and what to do next."""


class Searcher(Protocol):
    """Anything that answers queries with some of its strands."""

    def __call__(self, queries: Mapping[str, str], strands: Sequence[str], /) -> Run:
        """Returns the hits of each query, at least as deep as the deepest measure.

        One more is needed where a query may be a document itself, which is dropped.

        Args:
            queries: text by query id.
            strands: the strands to use; with more than one their scores are fused.
        """
        ...

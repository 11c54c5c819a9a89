"""Proof that a fused top k is exact: no document that no strand proposed can belong to it.

Fagin's threshold algorithm (Fagin, Lotem, Naor 2001) with batches for steps: an unseen document scores no more in any
strand than the last that the strand proposed. While a document made of those scores could enter the top k, every
strand proposes twice as many.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from ..index import Hits
from .errors import QueryError
from .normalise import WINDOW, Candidates
from .ranking import Ranking


@dataclass(frozen=True)
class Proof:
    """What it took to prove a top k.

    Attributes:
        depth: documents that each strand proposed in the end.
        rounds: how often strands were asked; 1 where the first candidates were enough.
        candidates: documents scored.
        threshold: what no unseen document can exceed.
        least: the fused score of the k-th hit; None where there are fewer, and all candidates are hits.
        milliseconds: of asking and scoring again, not of the first round.
    """

    depth: int
    rounds: int
    candidates: int
    threshold: float
    least: float | None
    milliseconds: float


def prove(ranking: Ranking, k: int) -> tuple[Ranking, Proof]:
    """Returns the ranking, widened until its top k is the top k of all documents, and what that took.

    Raises:
        QueryError: the fusion is not monotone, or a step has given scores of its own.
    """
    if not ranking.search.fusion.monotone:
        raise QueryError(f"the top of the fusion {ranking.search.fusion.name!r} cannot be proven: it is not monotone")
    if not ranking.plain:
        raise QueryError("a proof goes with steps that move the query; scores of a reranking step cannot be proven")
    began, rounds = time.perf_counter(), 1
    while True:
        threshold, least = _threshold(ranking), _kth(ranking, k)
        # Of equal scores the document id decides, so an unseen document must be lower, not as low.
        if (least is not None and threshold < least) or _exhausted(ranking):
            took = 1000 * (time.perf_counter() - began)
            depth, count = ranking.search.depth, ranking.positions.size
            return ranking, Proof(depth, rounds, count, threshold, least, took)
        ranking, rounds = _wider(ranking), rounds + 1


def _wider(ranking: Ranking) -> Ranking:
    search = replace(ranking.search, depth=2 * ranking.search.depth)
    pairs = zip(search.strands, ranking.queries, strict=True)
    proposed = [search.propose(strand, [query], search.depth)[0] for strand, query in pairs]
    return Ranking.of(search, ranking.text, ranking.queries, proposed, ranking.weights, ranking.notes, ranking)


def _exhausted(ranking: Ranking) -> bool:
    """Tells whether no document is unseen: a strand that ranks every document, or each strand, proposed all it has."""
    ended = [hits.scores.size < ranking.search.depth for hits in ranking.proposed]
    return all(ended) or any(strand.complete and end for strand, end in zip(ranking.search.strands, ended, strict=True))


def _kth(ranking: Ranking, k: int) -> float | None:
    if ranking.fused.size < k:
        return None
    return float(np.partition(ranking.fused, ranking.fused.size - k)[ranking.fused.size - k])


def _threshold(ranking: Ranking) -> float:
    """Returns the fused score of a document that has in every strand the most that an unseen one can have."""
    seen, depth = ranking.candidates, ranking.search.depth
    scores = [_last(hits, depth, low) for hits, low in zip(ranking.proposed, seen.least.tolist(), strict=True)]
    ranks = [depth + 1 if hits.scores.size >= depth and depth < WINDOW else 0 for hits in ranking.proposed]
    unseen = replace(seen, scores=np.array([scores]), ranks=np.array([ranks], np.int64))
    return _score(ranking, unseen)


def _last(hits: Hits, depth: int, least: float) -> float:
    return float(hits.scores[-1]) if hits.scores.size >= depth else least


def _score(ranking: Ranking, candidates: Candidates) -> float:
    return float(ranking.search.fusion(candidates, ranking.weights)[0])

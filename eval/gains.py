"""Measures as functions of the ranks of judged documents, so that thousands of weights can be tried at once.

Reports take their numbers from ir_measures (`score_run`); these are only for choosing, and a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .contract import EvalError
from .measures import parse_measures

Floats = NDArray[np.float64]
Gain = Callable[[NDArray[np.int64], Floats, Floats, int], Floats]


def ndcg(ranks: NDArray[np.int64], grades: Floats, judged: Floats, k: int) -> Floats:
    """Returns nDCG@k: gains are grades, the discount is log2(rank + 1) (Jarvelin and Kekalainen 2002, as trec_eval).

    Args:
        ranks: from 1, int64 (relevant candidates, rankings).
        grades: of those candidates, float64 (relevant candidates,), above 0.
        judged: grades of all relevant documents, candidates or not, descending.
        k: the cutoff.

    Returns:
        float64 (rankings,); so do the others, which take the same.
    """
    ideal = (judged[:k] / np.log2(np.arange(2, judged[:k].size + 2))).sum()
    return (grades[:, None] * (ranks <= k) / np.log2(ranks + 1)).sum(axis=0) / ideal


def reciprocal_rank(ranks: NDArray[np.int64], grades: Floats, judged: Floats, k: int) -> Floats:
    """Returns 1 / rank of the first relevant document, 0 below k."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0).max(axis=0, initial=0.0)


def recall(ranks: NDArray[np.int64], grades: Floats, judged: Floats, k: int) -> Floats:
    """Returns the share of the relevant documents among the first k."""
    return (ranks <= k).sum(axis=0) / judged.size


def average_precision(ranks: NDArray[np.int64], grades: Floats, judged: Floats, k: int) -> Floats:
    """Returns the mean over relevant documents of the precision at their ranks, 0 below k."""
    placed = np.sort(ranks, axis=0)
    return np.where(placed <= k, np.arange(1, len(placed) + 1)[:, None] / placed, 0.0).sum(axis=0) / judged.size


GAINS: dict[str, Gain] = {"nDCG": ndcg, "RR": reciprocal_rank, "R": recall, "AP": average_precision}
EVERY = 1 << 62  # the cutoff of a measure that has none
_FORM = re.compile(r"(?P<name>\w+)(?:@(?P<at>\d+))?")


class Measure(NamedTuple):
    """A measure that weights can be chosen by.

    Attributes:
        name: as ir_measures spells it.
        gain: one of `GAINS`.
        k: the cutoff.
    """

    name: str
    gain: Gain
    k: int

    def of(self, ranks: NDArray[np.int64], judged: Mapping[str, int], grades: Floats) -> Floats:
        """Returns the measure of each ranking, float64 (rankings,); arguments as of `ndcg`, grades by document."""
        ideal = np.sort(np.array([grade for grade in judged.values() if grade > 0], np.float64))[::-1]
        return self.gain(ranks, grades, ideal, self.k) if ideal.size else np.zeros(ranks.shape[1])


def measure_named(name: str) -> Measure:
    """Returns a measure by name, as "nDCG@10".

    Raises:
        EvalError: ir_measures does not know it, or weights cannot be chosen by it.
    """
    if name == "R":  # the others have one of their own
        raise EvalError("R takes a cutoff, as R@100")
    (known,) = parse_measures([name])
    form = _FORM.fullmatch(known)
    if form is None or form["name"] not in GAINS:
        raise EvalError(f"weights are chosen by {', '.join(GAINS)}, with a cutoff, as nDCG@10; not by {known}")
    return Measure(known, GAINS[form["name"]], int(form["at"] or EVERY))

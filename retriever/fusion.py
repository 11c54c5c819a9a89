"""Fusion: one score from several strands, as an algebra: normalise, transform, combine; each by name.

Every candidate is scored by every strand, and normalised by what depends on the query alone (see `normalise`). So a
document's fused score does not depend on how many hits were asked for, nor on which strand found it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import specs
from .errors import QueryError
from .normalise import NORMALISATIONS, TRANSFORMS, WINDOW, WINDOWED, Candidates, Floats
from .strands import ALL_STRANDS, NEIGHBOURS, with_neighbours

RRF_K = 60.0
EDGE = 1e-3  # how near to 0 and 1 log-odds may come


def convex(values: Floats, candidates: Candidates, weights: Floats) -> Floats:
    """Returns the weighted mean of normalised scores (Bruch et al. 2022, arXiv 2210.11934)."""
    return _summed(values, weights / weights.sum())


def rrf(values: Floats, candidates: Candidates, weights: Floats, *, k: float = RRF_K) -> Floats:
    """Returns the weighted sum of 1 / (k + rank) over the strands that have a candidate in their window.

    Source: Cormack, Clarke, Buettcher, SIGIR 2009.
    """
    if not k >= 0:
        raise QueryError(f"rrf takes k of at least 0, not {k:g}")
    return _summed(np.where(_listed(candidates), 1.0 / (k + np.maximum(candidates.ranks, 1)), 0.0), weights)


def combsum(values: Floats, candidates: Candidates, weights: Floats) -> Floats:
    """Returns the weighted sum (Fox and Shaw, TREC-2)."""
    return _summed(values, weights)


def combmnz(values: Floats, candidates: Candidates, weights: Floats) -> Floats:
    """Returns the weighted sum times the number of strands that have a candidate in their window."""
    return combsum(values, candidates, weights) * _listed(candidates)[:, weights > 0].sum(axis=1)


def combanz(values: Floats, candidates: Candidates, weights: Floats) -> Floats:
    """Returns the weighted sum over the number of strands that have a candidate in their window."""
    return combsum(values, candidates, weights) / np.maximum(_listed(candidates)[:, weights > 0].sum(axis=1), 1)


def combmax(values: Floats, candidates: Candidates, weights: Floats) -> Floats:
    """Returns the largest weighted value."""
    return (values * weights)[:, weights > 0].max(axis=1)


def logodds(values: Floats, candidates: Candidates, weights: Floats) -> Floats:
    """Returns the weighted mean of log(x / (1 - x)): strands as witnesses who judge by themselves."""
    held = np.clip(values, EDGE, 1 - EDGE)
    return _summed(np.log(held / (1 - held)), weights / weights.sum())


def _summed(values: Floats, weights: Floats) -> Floats:
    """Returns the weighted sum of the strands' values, float64 (candidates,).

    Strand by strand: BLAS rounds a row one way alone and another way among many, and a score must not depend on which
    other candidates there are.
    """
    total = values[:, 0] * weights[0]
    for column in range(1, values.shape[1]):
        total += values[:, column] * weights[column]
    return total


def _listed(candidates: Candidates) -> NDArray[np.bool_]:
    return (candidates.ranks > 0) & (candidates.ranks <= WINDOW)


@dataclass(frozen=True)
class Combination:
    """A way to combine strands, and what it takes when nothing else is said.

    Attributes:
        function: values, candidates, weights and options -> float64 (candidates,).
        weights: by strand.
        fewer: the weights of sets of strands to which those do not fit; see `weights_among`.
        normalise, transform: names of the tables in `normalise`.
        valued: whether normalised values count, so that these two may be chosen.
        ranks: whether ranks count, so that every strand's window is needed.
        monotone: whether a higher value never lowers the result, so that a top k can be proven.
    """

    function: Callable[..., Floats]
    weights: Mapping[str, float]
    fewer: Mapping[frozenset[str], Mapping[str, float]] = field(default_factory=dict)
    normalise: str = "bounds"
    transform: str = "none"
    valued: bool = True
    ranks: bool = False
    monotone: bool = True


CONVEX = "convex"
_ALIKE = dict.fromkeys(ALL_STRANDS, 1.0)
# Settled with the collections of `benchmarks/fusion.py` in sight; that page judges halves by each other.
_CHOSEN = with_neighbours({"lexical": 0.135, "learned": 0.07, "dense": 0.795})
# Beside the two others the learned strand has little to add; where one is missing, it stands in for it.
_FEWER = {
    frozenset(weights): with_neighbours(weights)
    for weights in ({"lexical": 0.14, "learned": 0.86}, {"learned": 0.4, "dense": 0.6})
}
#: The fusions by name: how the scores of several strands become one. docs/ranking.md describes each.
FUSIONS: dict[str, Combination] = {
    CONVEX: Combination(convex, _CHOSEN, _FEWER, normalise="norm"),
    "rrf": Combination(rrf, _ALIKE, normalise="rank", valued=False, ranks=True),
    "combsum": Combination(combsum, _ALIKE),
    "combmnz": Combination(combmnz, _ALIKE, ranks=True),
    "combanz": Combination(combanz, _ALIKE, ranks=True, monotone=False),
    "combmax": Combination(combmax, _ALIKE),
    "logodds": Combination(logodds, _ALIKE),
}


_SCALE = ("normalise", "transform")
# Candidates that nobody has to find: what a fusion is tried with before a search.
_ZEROS = np.zeros(len(ALL_STRANDS))
_NOTHING = Candidates(
    scores=_ZEROS[None], ranks=np.zeros((1, len(ALL_STRANDS)), np.int64), least=_ZEROS, best=_ZEROS, most=_ZEROS,
    norms=_ZEROS, windows=tuple(_ZEROS[None]) * len(ALL_STRANDS), strands=ALL_STRANDS,
)  # fmt: skip


@dataclass(frozen=True)
class Fusion:
    """A fusion with its options, ready for candidates.

    Attributes:
        name: as it was written, options included.
        weights: those it takes when none are given, of all strands.
        fewer: and where only some take part, see `weights_among`.
        window: how many of each strand's own best it looks at; 0 for none.
        monotone: see `Combination`.
    """

    name: str
    weights: Mapping[str, float]
    fewer: Mapping[frozenset[str], Mapping[str, float]]
    window: int
    monotone: bool
    _normalise: Callable[[Candidates], Floats]
    _transform: Callable[[Floats], Floats]
    _combine: Callable[[Floats, Candidates, Floats], Floats]

    @property
    def convex(self) -> bool:
        """Whether it is the convex one, whatever its options."""
        return self.name.partition(":")[0] == CONVEX

    def weights_among(self, strands: Sequence[str]) -> Mapping[str, float]:
        """Returns the weights that it takes for some strands when none are given; a neighbour counts as our own."""
        return self.fewer.get(frozenset(NEIGHBOURS.get(strand, strand) for strand in strands), self.weights)

    def values(self, candidates: Candidates) -> Floats:
        """Returns what the strands' scores are before they are combined, float64 (candidates, strands)."""
        return self._transform(self._normalise(candidates))

    def combine(self, values: Floats, candidates: Candidates, weights: Floats) -> Floats:
        """Returns the fused scores, float64 (candidates,)."""
        return self._combine(values, candidates, weights)

    def __call__(self, candidates: Candidates, weights: Floats) -> Floats:
        """Returns the fused scores, float64 (candidates,)."""
        return self.combine(self.values(candidates), candidates, weights)


def chosen(text: str) -> Fusion:
    """Returns a fusion by name and options, as "convex", "rrf:k=20" or "combmnz:normalise=zscore:transform=sigmoid".

    An option that is a number may be one by strand where its function takes that, as
    "convex:normalise=minmax:lower=lexical=0,dense=0.2".

    Raises:
        QueryError: no text, an unknown name or option, or a value of another type or out of range.
    """
    if not isinstance(text, str):
        raise QueryError(f"a fusion is a text, as 'convex' or 'rrf:k=20'; not {text!r}")
    return _chosen(text)


@lru_cache(maxsize=64)
def _chosen(text: str) -> Fusion:
    name, given = specs.parse(text)
    row: Combination = specs.named(FUSIONS, "fusion", name)
    given = dict(given)
    choosable = given if row.valued else {}
    scale = {each: choosable.pop(each, getattr(row, each)) for each in _SCALE}
    functions = (
        specs.named(NORMALISATIONS, "normalisation", scale["normalise"]),
        specs.named(TRANSFORMS, "transform", scale["transform"]),
        row.function,
    )
    _check_known(name, given, row, functions)
    given = {option: _by_strand(option, value) for option, value in given.items()}
    first, second, third = specs.checked(f"the fusion {name!r}", given, *functions)
    made = Fusion(
        name=text,
        weights=row.weights,
        fewer=row.fewer,
        window=WINDOW if row.ranks or scale["normalise"] in WINDOWED else 0,
        monotone=row.monotone,
        _normalise=partial(functions[0], **first),
        _transform=partial(functions[1], **second),
        _combine=partial(functions[2], **third),
    )
    with np.errstate(all="ignore"):
        made(_NOTHING, np.ones(len(ALL_STRANDS)))  # what is out of range is told now, not in every search
    return made


def _check_known(
    name: str, given: Mapping[str, str], row: Combination, functions: Sequence[Callable[..., Any]]
) -> None:
    taken = {option for function in functions for option in specs.options_of(function)}
    every = sorted(taken | set(_SCALE if row.valued else ()))
    for option in given:
        if option not in every:
            raise QueryError(f"the fusion {name!r} has no option {option!r}; its options are: {', '.join(every)}")


def _by_strand(option: str, value: str) -> str | dict[str, float]:
    """Returns {"lexical": 0.0, "dense": 0.2} of "lexical=0,dense=0.2", and what is no such list as it is."""
    if "=" not in value:
        return value
    found: dict[str, float] = {}
    for name, _, number in (part.partition("=") for part in value.split(",")):
        strand = name.strip()
        if strand not in ALL_STRANDS or strand in found:
            what = "twice" if strand in found else f"for {strand!r}"
            raise QueryError(f"{option} is given {what} in {value!r}; strands are: {', '.join(ALL_STRANDS)}")
        try:
            found[strand] = float(number)
        except ValueError:
            found[strand] = np.nan
        if not np.isfinite(found[strand]):
            raise QueryError(f"{option} takes a finite number for {strand}, not {number!r}")
    return found


def check_weights(given: Any) -> None:
    """Checks that weights are numbers by strand.

    Raises:
        QueryError: no mapping, a value of another type, or one beyond floating point.
    """
    if not isinstance(given, Mapping):
        raise QueryError(f"weights are numbers by strand, as {{'lexical': 0.2, 'dense': 0.8}}; not {given!r}")
    for strand, weight in given.items():
        if isinstance(weight, bool) or not isinstance(weight, Real):
            raise QueryError(f"the weight of {strand!r} is a number, not {weight!r}")
        try:
            float(weight)
        except OverflowError:  # a whole number may be too large
            raise QueryError(f"weights must be finite and not negative; that of {strand!r} is too large") from None


def weights_for(strands: Sequence[str], given: Mapping[str, float]) -> NDArray[np.float64]:
    """Returns the weights of these strands; one that is given no weight has weight 0.

    Raises:
        QueryError: a weight is no number, negative or not finite, names no strand of this search, or all are 0.
    """
    check_weights(given)
    values = np.array([given.get(strand, 0.0) for strand in strands], np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise QueryError(f"weights must be finite and not negative: {dict(given)}")
    if not np.isfinite(sum(values.tolist())):
        raise QueryError(f"the sum of the weights is no finite number: {dict(given)}")
    if not values.sum() > 0:
        named = {strand: given[strand] for strand in given if strand in strands or strand not in NEIGHBOURS}
        raise QueryError(f"no strand of {', '.join(strands)} has a weight above 0: {named}")
    return values

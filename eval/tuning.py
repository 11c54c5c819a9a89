"""Weights chosen for an index by judged queries: a grid on the simplex, a posterior mean, cross-validated.

With few queries the point of a grid at which a measure is best is mostly luck: a measure sees the order alone, and
jumps. So weights have a likelihood, that of the relevant documents under a softmax of the scores, which says by how
much they are ahead; a prior around plait's own; and what is chosen is the mean of the posterior, not its peak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..retriever.errors import QueryError
from ..retriever.fusion import CONVEX, weights_for
from ..retriever.fusion import chosen as chosen_fusion
from .contract import EvalError
from .gains import Floats, Measure, measure_named
from .judged import Judged
from .statistics import SAMPLES, bootstrap_means, check_folds, check_seed, percentile_interval

STEP, COARSE = 0.025, 0.05  # of the grid; with more than `FINE` strands the second
FINE = 3
FOLDS = 5
HEARD = 2000  # queries whose likelihood is taken; of more the measure itself says enough
ENOUGH = 100  # judged queries; with fewer, folds are drawn more often
REPEATS = {True: 20, False: 2}  # of the folds, with few queries and with enough
# A normal distribution around the prior weights with a deviation of 1 / sqrt(2 x 20), .16.
PRIOR = 20.0
# What the measure itself says beside the likelihood, in log-odds for a query's whole value: little, as it jumps.
WORTH = 2.0
# Of the softmax, in mean standard deviations of the candidates' scores; nobody knows it, so it is summed over. Close
# together, since one that fits some weightings better than others would choose among them.
TEMPERATURES = 2.0 ** np.arange(-2.5, 2.0, 0.5)

Interval = tuple[float, float]


class Choosing(NamedTuple):
    """What weights are chosen from.

    Attributes:
        grid: float64 (weightings, strands), rows summing to 1.
        values: the measure, float64 (queries, weightings).
        likelihood: float32 (queries, temperatures, weightings), logarithms; see `Judged.likelihood`. Of more than
            `HEARD` queries, of every second, or third, and so on.
        prior: float64 (weightings,), the logarithm of their prior.
    """

    grid: Floats
    values: Floats
    likelihood: NDArray[np.float32]
    prior: Floats

    def best(self, rows: NDArray[np.intp] | None = None) -> int:
        """Returns the weighting nearest to the mean of the posterior that some queries give."""
        rows, every = np.arange(len(self.values)) if rows is None else rows, _every(len(self.values))
        heard = rows[rows % every == 0] // every
        told = self.likelihood[heard].sum(axis=0, dtype=np.float64) + WORTH * self.values[rows].sum(axis=0)
        told = told + self.prior
        share = np.exp(told - told.max()).sum(axis=0)
        mean = (share / share.sum()) @ self.grid
        return int(np.round(((self.grid - mean) ** 2).sum(axis=1), 12).argmin())

    def crossed(self, folds: int, repeats: int, seed: int) -> Floats:
        """Returns each query's value by the weights that the other folds chose, mean of the repeats."""
        random, count = np.random.default_rng(seed), len(self.values)
        total = np.zeros(count)
        for _ in range(repeats):
            for left_out, others in folded(count, folds, random):
                total[left_out] += self.values[left_out, self.best(others)]
        return total / repeats


@dataclass(frozen=True)
class Tuned:
    """What judged queries say of an index's weights.

    Attributes:
        weights: the best, by strand, summing to 1.
        measure: what they were chosen by.
        queries: how many.
        source: "qrels", "log" or "pseudo".
        before: the mean as the index ranks now, before any step.
        after: the mean with weights chosen without the query itself (cross-validated); of one strand alone, its mean.
        interval: of `after`, 95 %, bootstrap percentile over queries.
        gain: of `after - before`, the same.
        fitted: the mean with `weights` on the very queries that chose them, which flatters.
        alone: the mean of each strand alone.
        unknown: judged relevant documents that the index lacks.
        fusion: what the weights are for.
    """

    weights: dict[str, float]
    measure: str
    queries: int
    source: str
    before: float
    after: float
    interval: Interval
    gain: Interval
    fitted: float
    alone: dict[str, float]
    unknown: int = 0
    fusion: str = CONVEX

    @property
    def strand(self) -> str | None:
        """The strand that is best alone; None where several weigh."""
        used = [name for name, weight in self.weights.items() if weight > 0]
        return used[0] if len(used) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain JSON values."""
        return {
            "weights": self.weights, "fusion": self.fusion, "measure": self.measure, "queries": self.queries,
            "source": self.source, "before": self.before, "after": self.after, "interval": list(self.interval),
            "gain": list(self.gain), "fitted": self.fitted, "alone": self.alone, "strand": self.strand,
            "unknown_documents": self.unknown,
        }  # fmt: skip


def simplex(strands: int, step: float = STEP) -> Floats:
    """Returns all weightings in steps, float64 (weightings, strands), rows summing to 1, each strand alone included.

    Raises:
        EvalError: 1 is no multiple of the step.
    """
    parts = round(1 / step) if 0 < step <= 1 else 0
    if not parts or abs(parts * step - 1) > 1e-9:
        raise EvalError(f"the step of a grid divides 1, as 0.05 does; {step!r} does not")
    return np.array(list(_parted(parts, strands)), np.float64) / parts


def tune(
    judged: Judged,
    *,
    prior: Mapping[str, float] | None = None,
    measure: str = "nDCG@10",
    folds: int = FOLDS,
    repeats: int | None = None,
    step: float | None = None,
    seed: int = 0,
) -> Tuned:
    """Returns the weights of a convex fusion that judged queries choose, and what they are worth on others.

    They are the mean of what the queries leave likely, on a grid, a weighting counting with
    `exp(log-likelihoods + 2 * measures - 20 * |weights - prior|^2)`, summed over queries inside and over temperatures
    outside. One strand alone is taken where it is better by two standard errors than weights chosen by other queries.

    Args:
        judged: the queries, searched.
        prior: weights by strand around which the choice is sought; None for plait's own.
        measure: one of `GAINS` with a cutoff.
        folds: parts of a cross-validation.
        repeats: how often the folds are drawn; None: 20 times with fewer than 100 queries, else twice.
        step: of the grid; None: .025, with more than three strands .05.
        seed: of folds and resamples.

    Raises:
        EvalError: the measure, the step, the prior or the seed cannot be, there are fewer than two folds, or they are
            drawn less than once.
    """
    check_folds(folds)
    check_seed(seed)
    if repeats is not None and repeats < 1:
        raise EvalError(f"folds are drawn at least once, not {repeats!r} times")
    wanted = measure_named(measure)
    chosen = choosing(judged, wanted, prior=prior, step=step)
    values = chosen.crossed(folds, REPEATS[len(judged) < ENOUGH] if repeats is None else repeats, seed)
    best = chosen.best()
    corners = [int(np.argmax(chosen.grid[:, column])) for column in range(len(judged.strands))]
    strongest = max(corners, key=lambda row: chosen.values[:, row].mean())
    if _clearly(chosen.values[:, strongest] - values):
        best, values = strongest, chosen.values[:, strongest]
    before = judged.present(wanted)
    means = bootstrap_means(np.stack([values, values - before], axis=1), samples=SAMPLES, seed=seed)
    low, high = percentile_interval(means).tolist()
    return Tuned(
        weights=dict(zip(judged.strands, chosen.grid[best].round(6).tolist(), strict=True)),
        measure=wanted.name,
        queries=len(judged),
        source=judged.source,
        before=float(before.mean()),
        after=float(values.mean()),
        interval=(low[0], high[0]),
        gain=(low[1], high[1]),
        fitted=float(chosen.values[:, best].mean()),
        alone={s: float(chosen.values[:, row].mean()) for s, row in zip(judged.strands, corners, strict=True)},
        unknown=judged.unknown,
        fusion=judged.fusion,
    )


def shares(weights: Mapping[str, float], strands: Sequence[str]) -> Floats:
    """Returns weights as shares of 1, float64 (strands,); equal ones where none of these strands weighs."""
    values = np.array([weights.get(strand, 0.0) for strand in strands], np.float64)
    return values / values.sum() if values.sum() > 0 else np.full(len(strands), 1 / len(strands))


def _clearly(differences: Floats) -> bool:
    """Returns whether a mean lies more than two standard errors above 0: it is that of the best of several strands."""
    return bool(differences.mean() > 2 * differences.std(ddof=1) / np.sqrt(len(differences)))


def folded(count: int, folds: int, random: np.random.Generator) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yields for each part of so many queries its rows and those of all others."""
    for left_out in np.array_split(random.permutation(count), min(folds, count)):
        yield left_out, np.setdiff1d(np.arange(count), left_out)


def choosing(
    judged: Judged, measure: Measure, *, prior: Mapping[str, float] | None = None, step: float | None = None
) -> Choosing:
    """Returns what weights are chosen from; the arguments are those of `tune`."""
    if prior is not None:
        _check_prior(prior, judged.strands)
    known = chosen_fusion(CONVEX).weights_among(judged.strands) if prior is None else prior
    count = len(judged.strands)
    grid, near = simplex(count, step or (STEP if count <= FINE else COARSE)), shares(known, judged.strands)
    heard = judged.part(range(0, len(judged), _every(len(judged))))
    likelihood = heard.likelihood(grid, judged.spread(near) * TEMPERATURES)
    return Choosing(grid, judged.table(grid, measure), likelihood, -PRIOR * ((grid - near) ** 2).sum(axis=1))


def _check_prior(prior: Mapping[str, float], strands: Sequence[str]) -> None:
    try:
        weights_for(strands, prior)
    except QueryError as error:
        raise EvalError(f"the prior cannot be: {error}") from None
    if unknown := [name for name in prior if name not in strands]:
        raise EvalError(f"the prior cannot be: no strand {unknown[0]!r}; there are: {', '.join(strands)}")


def _every(queries: int) -> int:
    """Returns the distance between queries whose likelihood is heard."""
    return -(-queries // HEARD) or 1


def _parted(parts: int, strands: int) -> list[tuple[int, ...]]:
    if strands == 1:
        return [(parts,)]
    return [(first, *rest) for first in range(parts + 1) for rest in _parted(parts - first, strands - 1)]

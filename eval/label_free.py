"""What an index says of its own weights without a single judgement, and why that is a report and no setting.

Measured on seven collections against the best weights for their judged queries (mean loss of nDCG@10): plait's own
weights .011; weights chosen by sentences .051, by scattered words .088, by titles .015 where there are titles; strands
weighed by their agreement .038, by NQC .059, by WIG .059, by the share of the possible score that their best reaches
.025. Plait's own weights moved a quarter of the way towards those of titles lost .007 where there were titles, and
plait's own .012 there: better on three of four collections, too few to write it into an index unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .calibrating import Calibrated, calibrate
from .contract import EvalError
from .gains import measure_named
from .judged import FEW, judge
from .pseudo import WAYS, pseudo_queries
from .tuning import shares, simplex

if TYPE_CHECKING:
    from ..retriever import Retriever

STEP = 0.05
PART = 0.25  # of the way from the index's weights to those of titles
ENOUGH = 30  # titles; with fewer nothing is suggested
NOTE = (
    "queries made of documents flatter the strands that match words; on the collections where it was measured, "
    "weights chosen by them were worse than plait's own"
)


@dataclass(frozen=True)
class Witness:
    """What queries made in one way say.

    Attributes:
        way: one of `WAYS`.
        queries: how many.
        weights: those that rank their documents best.
        best: nDCG@10 with these.
        present: nDCG@10 as the index ranks now, before any step.
        alone: of each strand alone.
    """

    way: str
    queries: int
    weights: dict[str, float]
    best: float
    present: float
    alone: dict[str, float]


@dataclass(frozen=True)
class LabelFree:
    """A report without judgements.

    Attributes:
        witnesses: one a way of making queries.
        suggestion: weights to try; None where there are too few titles.
        note: how far to trust it.
    """

    witnesses: tuple[Witness, ...]
    suggestion: dict[str, float] | None
    note: str = NOTE

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"source": "pseudo", **asdict(self), "witnesses": [asdict(each) for each in self.witnesses]}


def label_free(
    retriever: Retriever, *, count: int = 150, seed: int = 0, on_way: Callable[[str], None] | None = None
) -> LabelFree:
    """Returns what queries made of the index's own documents say of its weights.

    Args:
        retriever: the index.
        count: queries of each way, at most.
        seed: of all choices.
        on_way: told of each way before it is tried.

    Raises:
        EvalError: no query could be made.
    """
    documents = retriever.sample(4 * count, seed=seed)
    witnesses: list[Witness] = []
    for name, way in WAYS.items():
        queries, qrels = pseudo_queries(documents, way, count=count, seed=seed)
        if len(queries) >= FEW:
            if on_way is not None:
                on_way(name)
            witnesses.append(_witness(retriever, name, queries, qrels))
    if not witnesses:
        raise EvalError("no queries could be made of these documents: they have neither titles nor whole sentences")
    return LabelFree(tuple(witnesses), _suggestion(retriever, witnesses))


def calibrate_label_free(retriever: Retriever, *, count: int = 200, seed: int = 0) -> Calibrated:
    """Returns a calibration fitted on queries made of documents, whose own document is the only relevant one.

    Each is four words of a sentence: less a quotation than a title or a sentence is, which would make the index look
    better than it is with people's queries. Its probabilities are those of being *the* document that was meant. Against
    people's judgements its expected calibration error over the first ten hits was .02 on scifact and .08 on WikiQA,
    which have about one relevant document a query; .27 to .64 on nfcorpus, lisa and medline, which have many: far too
    low.

    Raises:
        EvalError: too few queries could be made.
    """
    queries, qrels = pseudo_queries(retriever.sample(4 * count, seed=seed), WAYS["scattered"], count=count, seed=seed)
    return calibrate(retriever, queries, qrels, kind="platt", source="pseudo-queries, without judgements", seed=seed)


def _witness(
    retriever: Retriever, way: str, queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> Witness:
    judged, measure = judge(retriever, queries, qrels, source="pseudo"), measure_named("nDCG@10")
    grid = simplex(len(judged.strands), STEP)
    means = judged.table(grid, measure).mean(axis=0)
    best = int(means.argmax())
    alone = {name: float(means[int(grid[:, i].argmax())]) for i, name in enumerate(judged.strands)}
    weights = dict(zip(judged.strands, grid[best].round(6).tolist(), strict=True))
    return Witness(way, len(judged), weights, float(means[best]), float(judged.present(measure).mean()), alone)


def _suggestion(retriever: Retriever, witnesses: list[Witness]) -> dict[str, float] | None:
    found = next((each for each in witnesses if each.way == "title" and each.queries >= ENOUGH), None)
    if found is None:
        return None
    names = retriever.strands
    moved = (1 - PART) * shares(retriever.info()["weights"], names) + PART * np.array([found.weights[n] for n in names])
    return dict(zip(names, moved.round(4).tolist(), strict=True))

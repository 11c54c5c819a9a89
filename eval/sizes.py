"""Effectiveness against corpus size: one index, searched deep, its rankings restricted to nested random subsets.

Dense retrieval loses more than sparse retrieval as a corpus grows (Reimers and Gurevych, arXiv 2012.14210): with every
document there is another chance of a false neighbour. What a strand gives to a document does not depend on the other
documents, so its ranking of a subset is its ranking of everything with the rest left out, and nothing is encoded again.
Two things do depend on them and stay those of the whole corpus: IDF, and the average length in BM25.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..index import Snapshot
from ..index.ranking import ranked
from ..retriever import Retriever
from .contract import EvalError, Qrels, Run
from .dataset import Dataset
from .measures import DEFAULT_MEASURES, cutoff_of, parse_measures, score_run
from .own import own_in_index, without_own

MARGIN = 1.5  # a first search is so much deeper than the smallest subset needs on average
DEEPER = 4  # and the next one so many times deeper, for queries that it left short
HELD = 1 << 22  # hits held at a time
DEEP = 1000  # hits that are asked for where no measure looks further down

Ask = Callable[[Mapping[str, str], int, str], Run]  # (queries, k, strand) -> run


@dataclass(frozen=True)
class SizeCurve:
    """What each strand scores on nested subsets of a corpus.

    Attributes:
        sizes: documents in each subset, ascending; the last is the whole corpus.
        judged: documents with a judgement: every subset holds them.
        means: by strand and measure, a value for each size.
        seed: of the order in which the other documents join.
    """

    sizes: tuple[int, ...]
    judged: int
    means: Mapping[str, Mapping[str, tuple[float, ...]]]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def size_curve(
    retriever: Retriever,
    dataset: Dataset,
    sizes: Iterable[int],
    *,
    strands: Sequence[str] | None = None,
    measures: Iterable[str] | str = DEFAULT_MEASURES,
    seed: int = 0,
    ask: Ask | None = None,
) -> SizeCurve:
    """Returns the strands' scores on nested random subsets that all hold every judged document.

    Args:
        retriever: an index of the whole corpus.
        dataset: its queries and judgements.
        sizes: how many documents, in any order; the whole corpus is added.
        strands: which; None: those of the index.
        measures: names as ir_measures spells them.
        seed: of the order in which documents without a judgement join.
        ask: answers (queries, k, strand) instead of the retriever, to show progress.

    Raises:
        EvalError: a size below the number of judged documents or above that of all.
    """
    wanted = parse_measures(measures)
    place, judged = _places(retriever, dataset, seed)
    sizes = _checked(sizes, judged, len(place))
    names = retriever.strands if strands is None else tuple(strands)
    cutoff = min(len(place), deepest(wanted) or asked_for(wanted))
    own = own_in_index(retriever, dataset.queries, dataset.qrels)
    means = {}
    for strand in names:
        runs = _restricted(ask or _asks(retriever), dataset.queries, strand, place, sizes, cutoff, own)
        scores = [score_run(run, dataset.qrels, wanted).means for run in runs]
        means[strand] = {measure: tuple(each[measure] for each in scores) for measure in wanted}
    return SizeCurve(sizes, judged, means, seed)


def check_sizes(sizes: Iterable[int], ids: Iterable[str], qrels: Qrels) -> tuple[int, ...]:
    """Returns the sizes that a curve over a corpus has: those given, ascending, and the whole corpus.

    Args:
        sizes: how many documents, in any order.
        ids: of all documents of the corpus, each once.
        qrels: the judgements; every subset holds the documents that have one.

    Raises:
        EvalError: a size below the number of judged documents or above that of all.
    """
    judged, inside, count = _judged(qrels), 0, 0
    for id in ids:
        count += 1
        inside += id in judged
    return _checked(sizes, inside, count)


def asked_for(measures: Iterable[str]) -> int:
    """Returns how many hits measures are given: down to the largest cutoff, and no fewer than `DEEP`."""
    return max([DEEP, *(cutoff_of(name) or 0 for name in measures)])


def deepest(measures: Iterable[str]) -> int | None:
    """Returns the largest cutoff of measures; None where one looks at the whole ranking."""
    cutoffs = [cutoff_of(name) for name in measures]
    found = [cutoff for cutoff in cutoffs if cutoff is not None]
    return max(found, default=0) if len(found) == len(cutoffs) else None


def _places(retriever: Retriever, dataset: Dataset, seed: int) -> tuple[dict[str, int], int]:
    """Returns when each document joins, counted from 0, the judged ones first; and how many are judged."""
    with closing(Snapshot(retriever.folder, verify=False)) as snapshot:
        every = sorted(snapshot.all_ids())  # whatever the order in which they were indexed
    judged = _judged(dataset.qrels)
    first = [id for id in every if id in judged]
    rest = [id for id in every if id not in judged]
    joining = [rest[i] for i in np.random.default_rng(seed).permutation(len(rest)).tolist()]
    return {id: number for number, id in enumerate([*first, *joining])}, len(first)


def _judged(qrels: Qrels) -> set[str]:
    return {document for judgements in qrels.values() for document in judgements}


def _checked(sizes: Iterable[int], judged: int, documents: int) -> tuple[int, ...]:
    given = sorted({*sizes})
    for size in given:
        if size < max(judged, 1):
            raise EvalError(
                f"a corpus of {size:,} documents cannot hold the {judged:,} that have judgements; "
                "sizes begin there"
            )  # fmt: skip
        if size > documents:
            raise EvalError(f"the index holds {documents:,} documents, fewer than {size:,}; add distractors")
    return tuple(sorted({*given, documents}))


def _asks(retriever: Retriever) -> Ask:
    return lambda queries, k, strand: retriever.run(queries, k, strands=[strand], weights={strand: 1.0})


def _restricted(
    ask: Ask,
    queries: Mapping[str, str],
    strand: str,
    place: Mapping[str, int],
    sizes: Sequence[int],
    cutoff: int,
    own: Collection[str],
) -> list[dict[str, dict[str, float]]]:
    """Returns a run for each size: the strand's ranking of everything, with what is not in the subset left out.

    A query is asked again, deeper, until the smallest subset has its `cutoff` hits or there are no more: the larger
    subsets hold that one.
    """
    runs: list[dict[str, dict[str, float]]] = [{} for _ in sizes]
    pending, k = dict(queries), min(len(place), math.ceil(MARGIN * cutoff * len(place) / sizes[0]) + bool(own))
    while pending:
        short: dict[str, str] = {}
        for batch in _batches(pending, max(1, HELD // k)):
            answers = ask(batch, k, strand)
            others = without_own(answers, own)
            for query, text in batch.items():
                hits = ranked(others.get(query, {}))
                inside = [_first(hits, place, size, cutoff) for size in sizes]
                if len(inside[0]) < cutoff and len(answers.get(query, {})) == k < len(place):
                    short[query] = text
                    continue
                for run, found in zip(runs, inside, strict=True):
                    run[query] = found
        pending, k = short, min(len(place), k * DEEPER)
    return runs


def _first(hits: Iterable[tuple[str, float]], place: Mapping[str, int], size: int, most: int) -> dict[str, float]:
    return dict(islice(((id, score) for id, score in hits if place[id] < size), most))


def _batches(queries: Mapping[str, str], size: int) -> Iterable[dict[str, str]]:
    pairs = iter(queries.items())
    while batch := dict(islice(pairs, size)):
        yield batch

"""The retrieval half of RAG, measured: is the answer in the context, how much else is, what does the reply cite?

    gold = gold_of(dataset.qrels)
    compare_contexts({"plain": Rag(r), "mmr": Rag(r, choose="mmr")}, dataset.queries, gold)

No language model judges anything: the measures compare places in documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..retriever.context import Context
from ..retriever.rag import Rag, Reply
from .contract import EvalError, Qrels

MEASURES = ("recall", "precision", "first", "tokens", "sources")
ANSWER_MEASURES = ("correct", "supported", "uncited")


class Gold(NamedTuple):
    """What answers a query: a stretch of a document, or all of it.

    Attributes:
        document: its id; of passages their parent's.
        start, end: in characters of its text; without an end the whole document is meant, and any part of it counts.
    """

    document: str
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class ContextScores:
    """How one configuration did.

    Attributes:
        means: by measure, over the queries that something answers.
        queries: the same of each query.
    """

    means: Mapping[str, float]
    queries: Mapping[str, Mapping[str, float]]


def gold_of(qrels: Qrels, *, least: int = 1) -> dict[str, list[Gold]]:
    """Returns the documents judged at least so relevant, as what answers each query: whole."""
    return {
        query: [Gold(document) for document, relevance in judged.items() if relevance >= least]
        for query, judged in qrels.items()
    }


def score_context(context: Context, gold: Sequence[Gold]) -> dict[str, float]:
    """Returns the measures of one context.

    `recall` is the share of what answers the query that is there: by characters, the mean over stretches; a whole
    document is there if a part of it is. `precision` is the share of the sources' characters that belong to it. `first`
    is whether the first source does. `tokens` and `sources` are counted.
    """
    covered = [_covered(one, context) for one in gold]
    size = sum(len(citation.text) for citation in context.citations)
    useful = sum(
        end - start
        for citation in context.citations
        for start, end in _union(_shared(one, citation.source, citation.start, citation.end) for one in gold)
    )
    first = context.citations[:1]
    return {
        "recall": sum(covered) / len(covered) if covered else 0.0,
        "precision": useful / size if size else 0.0,
        "first": float(any(_touches(gold, one.source, one.start, one.end) for one in first)),
        "tokens": float(context.tokens),
        "sources": float(len(context.citations)),
    }


def score_reply(reply: Reply, gold: Sequence[Gold]) -> dict[str, float]:
    """Returns the measures of one answer, beside those of its context.

    `correct` is the share of its citations that belong to what answers the query: of an extractive answer each quoted
    sentence by its own place, of a model's each cited source; a number that is no source is wrong. `supported` is
    whether any does. `uncited` is the share of its sentences that cite no source. An empty answer has 0, 0 and 0.
    """
    sources = {citation.number: citation for citation in reply.context.citations}
    if reply.quotes:
        right = [_touches(gold, sources[q.number].source, q.start, q.end) for q in reply.quotes]
    else:
        cited = (sources[number] for number in reply.cited.known)
        right = [_touches(gold, one.source, one.start, one.end) for one in cited] + [False] * len(reply.cited.unknown)
    sentences = len(reply.cited.sentences)
    answer = {
        "correct": sum(right) / len(right) if right else 0.0,
        "supported": float(any(right)),
        "uncited": len(reply.cited.uncited) / sentences if sentences else 0.0,
    }
    return {**score_context(reply.context, gold), **answer}


def compare_contexts(
    configurations: Mapping[str, Rag],
    queries: Mapping[str, str],
    gold: Mapping[str, Sequence[Gold]],
    *,
    answers: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, ContextScores]:
    """Returns how each configuration did on the same queries.

    Args:
        configurations: by name.
        queries: text by query id; those that nothing answers are not asked.
        gold: what answers each query, by query id.
        answers: also ask for answers, and measure what they cite.
        on_progress: called with the number of queries done since the last call.

    Raises:
        EvalError: nothing answers any of the queries.
    """
    asked = {query: text for query, text in queries.items() if gold.get(query)}
    if not asked:
        raise EvalError(f"nothing answers any of the {len(queries)} queries; expected gold of the same query ids")
    made = {}
    for name, rag in configurations.items():
        scores: dict[str, dict[str, float]] = {}
        for query, text in asked.items():
            own = gold[query]
            scores[query] = score_reply(rag.answer(text), own) if answers else score_context(rag.context(text), own)
            if on_progress is not None:
                on_progress(1)
        measures = (*MEASURES, *(ANSWER_MEASURES if answers else ()))
        means = {measure: sum(each[measure] for each in scores.values()) / len(scores) for measure in measures}
        made[name] = ContextScores(means, scores)
    return made


def _covered(gold: Gold, context: Context) -> float:
    """Returns the share of a stretch that is in a context."""
    parts = [_shared(gold, citation.source, citation.start, citation.end) for citation in context.citations]
    if gold.end is None:
        return float(any(part is not None for part in parts))
    return sum(end - start for start, end in _union(parts)) / max(1, gold.end - gold.start)


def _touches(gold: Iterable[Gold], document: str, start: int, end: int) -> bool:
    return any(_shared(one, document, start, end) is not None for one in gold)


def _shared(gold: Gold, document: str, start: int, end: int) -> tuple[int, int] | None:
    """Returns what a stretch of a document shares with what answers the query; None where that is nothing."""
    if gold.document != document:
        return None
    if gold.end is None:
        return start, end
    low, high = max(start, gold.start), min(end, gold.end)
    return (low, high) if low < high else None


def _union(parts: Iterable[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """Returns stretches as such that do not overlap, by their place."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(part for part in parts if part is not None):
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((start, end))
    return made

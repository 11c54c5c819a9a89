"""Query strategies over title and text, as in Blended RAG (Sawarkar et al. 2024, arXiv 2404.07220).

The best candidates' stored texts are read again with the lexical strand's own analyser, so that it counts where in a
document the query's words stand, and whether they stand together. What a strategy says lies on [0, 1].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .adapt import QUOTED
from .errors import QueryError
from .limits import within
from .ranking import Ranking

Terms = list[int]  # the columns of a text's terms, in their order


class Asked(NamedTuple):
    """A query as the strategies see it.

    Attributes:
        terms: its terms, in their order.
        weights: IDF by term.
        phrases: the terms of what stands in quotation marks.
        title: what the title weighs beside the text, which weighs 1.
        saturation: BM25's k1.
    """

    terms: Terms
    weights: dict[int, float]
    phrases: list[Terms]
    title: float
    saturation: float


def fields(
    ranking: Ranking,
    *,
    strategy: str = "best",
    title: float = 2.0,
    weight: float = 0.1,
    top: int = 50,
) -> Ranking:
    """Returns the ranking with a term for how the query stands in title and text.

    Args:
        ranking: what was found so far.
        strategy: "best", "cross", "most" or "phrase", see `STRATEGIES`.
        title: what a match in the title weighs beside one in the text, which weighs 1; 0 leaves titles out.
        weight: what a document adds that has all of the query, in units of the score so far.
        top: how many of the best are read; the others stay below them.

    Raises:
        QueryError: the lexical strand takes no part in the search, or has no analyser of plait's.
    """
    within("fields", 1, top=top)
    within("fields", 0, title=title, weight=weight)
    if strategy not in STRATEGIES:
        raise QueryError(f"fields has the strategies {', '.join(STRATEGIES)}, not {strategy!r}")
    read = _reader(ranking)
    asked = _asked(ranking, read, title)
    rows = ranking.top(top)
    if not rows.size or not asked.terms:
        return ranking
    read_rows = ((read(row.title), read(row.text)) for row in ranking.documents(rows))
    found = np.array([STRATEGIES[strategy](asked, *texts) for texts in read_rows])
    told = {"strategy": strategy, "documents": int((found > 0).sum())}
    return ranking.placed(rows, ranking.fused[rows] + weight * found, fields=told)


def best(asked: Asked, title: Terms, text: Terms) -> float:
    """Returns the better of what title and text have of the query, each by itself."""
    return max(_parts(asked, title, text)) / max(asked.title, 1.0)


def most(asked: Asked, title: Terms, text: Terms) -> float:
    """Returns the mean of what title and text have of the query."""
    return sum(_parts(asked, title, text)) / (asked.title + 1.0)


def cross(asked: Asked, title: Terms, text: Terms) -> float:
    """Returns what both have together, as if they were one text in which a title's word stood `title` times."""
    counts = {term: float(count) for term, count in Counter(text).items()}
    for term in title:
        counts[term] = counts.get(term, 0.0) + asked.title
    return _share(asked, counts)


def phrase(asked: Asked, title: Terms, text: Terms) -> float:
    """Returns the share of neighbours in the query that are neighbours in one of both, in the same order.

    Or, if it is larger, the share of quoted phrases that stand there word for word. Stop words do not count.
    """
    wanted = list(pairwise(asked.terms))
    weighed = [(title, asked.title), (text, 1.0)]
    found = [(set(pairwise(terms)), weight) for terms, weight in weighed]
    pairs = [max(weight * (pair in there) for there, weight in found) for pair in wanted]
    quoted = [float(any(weight and _stands(each, terms) for terms, weight in weighed)) for each in asked.phrases]
    near = sum(pairs) / len(pairs) / max(asked.title, 1.0) if pairs else 0.0
    return max(near, sum(quoted) / len(quoted) if quoted else 0.0)


STRATEGIES: dict[str, Callable[[Asked, Terms, Terms], float]] = {
    "best": best,
    "cross": cross,
    "most": most,
    "phrase": phrase,
}


def _parts(asked: Asked, title: Terms, text: Terms) -> tuple[float, float]:
    return asked.title * _share(asked, Counter(title)), _share(asked, Counter(text))


def _share(asked: Asked, counts: Any) -> float:
    """Returns the sum of IDF x count / (count + k1) over the query's terms, as a share of the most that it can be."""
    total = sum(asked.weights.values())
    parts = ((weight, counts.get(term, 0)) for term, weight in asked.weights.items())
    return sum(w * n / (n + asked.saturation) for w, n in parts if n) / total if total else 0.0


def _stands(phrase: Sequence[int], terms: Sequence[int]) -> bool:
    size = len(phrase)
    return any(terms[i] == phrase[0] and terms[i : i + size] == phrase for i in range(len(terms) - size + 1))


def _reader(ranking: Ranking) -> Callable[[str], Terms]:
    """Returns what turns a text into terms: the lexical strand's analyser."""
    column = ranking.column("lexical")
    if column is None:
        taking = ", ".join(ranking.names)
        raise QueryError(f"fields reads texts as the lexical strand does, which takes no part in this search: {taking}")
    strand: Any = ranking.search.strands[column]
    analyser = getattr(strand.encoder, "analyser", None)
    if analyser is None:
        raise QueryError("fields needs an analyser that keeps the order of words; the lexical encoder has none")
    return lambda text: [column for column, _ in analyser.terms(text)]


def _asked(ranking: Ranking, read: Callable[[str], Terms], title: float) -> Asked:
    snapshot, terms = ranking.search.snapshot, read(ranking.text)
    distinct = sorted(set(terms))
    weights = snapshot.idf(snapshot.terms("lexical", np.array(distinct, np.int64))).tolist()
    quoted = (read("".join(groups)) for groups in QUOTED.findall(ranking.text))
    phrases = [each for each in quoted if each]
    return Asked(terms, dict(zip(distinct, weights, strict=True)), phrases, title, snapshot.layout.k1)

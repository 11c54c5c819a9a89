"""An answer without a language model: the sentences of a context that the retriever finds closest to the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .choice import chosen_for
from .context import Citation, Context, shingles
from .normalise import Floats
from .passages import word_spans
from .strands import Dense, Sparse
from .texts import sentence_spans

if TYPE_CHECKING:
    from ..index import Snapshot
    from .retriever import Retriever

ALIKE = 0.6  # of a sentence's shingles in another that was chosen: it is not said twice
SATURATION = 1.2  # of counts in a sentence; BM25 without lengths


class Quote(NamedTuple):
    """A sentence of a source.

    Attributes:
        number: of the source, as in "[1]".
        start, end: where it stands in the parent's text, in characters.
        score: on [0, 1], against the other sentences of the context.
        text: as it stands there.
    """

    number: int
    start: int
    end: int
    score: float
    text: str


def sentence_scores(retriever: Retriever, query: str, texts: Sequence[str]) -> Floats:
    """Returns how well texts that are in no index answer a query, float64 (n,) on [0, 1].

    Each strand scores them by the vectors that its encoder gives them; a strand's scores are divided by its best of
    these texts, and mixed by the weights that the index's searches have. Strands over Lucene take no part.
    """
    total, share = np.zeros(len(texts)), 0.0
    if not texts:
        return total
    with retriever._reading() as snapshot:
        choice = chosen_for(snapshot.settings, retriever.strands, None, None, None, every=retriever.strands)
        for name, weight in zip(choice.strands, choice.weights.tolist(), strict=True):
            strand = retriever.strand(name)
            if weight > 0 and isinstance(strand, (Sparse, Dense)):
                score = _dense if isinstance(strand, Dense) else _sparse
                scores = np.maximum(score(strand, snapshot, query, texts), 0.0)
                total += weight * scores / (float(scores.max()) or 1.0)
                share += weight
    return total / share if share else total


def quotes(retriever: Retriever, context: Context, most: int = 3) -> list[Quote]:
    """Returns the sentences of a context that answer its query best, best first; none is said twice."""
    places = [(citation, start, end) for citation in context.citations for start, end in _spans(citation)]
    texts = [citation.text[start:end] for citation, start, end in places]
    scores = sentence_scores(retriever, context.query, [_titled(places[i][0], text) for i, text in enumerate(texts)])
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if len(chosen) == most or scores[i] <= 0:
            break
        if not any(_alike(texts[i], texts[j]) for j in chosen):
            chosen.append(i)
    found = ((*places[i], float(scores[i]), texts[i]) for i in chosen)
    return [Quote(c.number, c.start + start, c.start + end, score, text) for c, start, end, score, text in found]


def _titled(citation: Citation, sentence: str) -> str:
    """Returns what is encoded of a sentence: it often leaves its subject to the title."""
    return f"{citation.title} {sentence}".strip()


def _spans(citation: Citation) -> list[tuple[int, int]]:
    """Returns the sentences that say something: no heading, number or ruler."""
    spans = sentence_spans(citation.text)
    whole = [(start, end) for start, end in spans if sum(1 for _ in word_spans(citation.text[start:end])) > 2]
    return whole or spans


def _alike(text: str, other: str) -> bool:
    own, held = shingles(text), shingles(other)
    return len(own & held) >= ALIKE * min(len(own), len(held))


def _dense(strand: Any, snapshot: Snapshot, query: str, texts: Sequence[str]) -> Floats:
    vectors = strand.encode_documents(texts).astype(np.float64)
    return vectors @ np.asarray(strand.encode([query], snapshot)[0], np.float64)


def _sparse(strand: Any, snapshot: Snapshot, query: str, texts: Sequence[str]) -> Floats:
    """Returns sums of query weight x document weight; there are too many columns for a product of matrices."""
    rows = strand.encode_documents(texts)
    (wanted,) = strand.encode([query], snapshot)
    if not wanted.terms.size:
        return np.zeros(len(texts))
    terms = snapshot.terms(strand.name, rows.indices)
    at = np.minimum(np.searchsorted(wanted.terms, terms), wanted.terms.size - 1)
    values = rows.data.astype(np.float64)
    if strand.name == "lexical":
        values = values / (values + SATURATION)
    parts = np.where(wanted.terms[at] == terms, wanted.weights[at].astype(np.float64) * values, 0.0)
    owners = np.repeat(np.arange(len(texts)), np.diff(rows.indptr))
    return np.bincount(owners, parts, minlength=len(texts)).astype(np.float64)

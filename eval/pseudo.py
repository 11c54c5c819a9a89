"""Queries made of an index's own documents, each answered by the document that it was made of.

They flatter the strands that match words exactly, since the words are the document's own. What they are good for, and
what not, is measured in `plait tune --label-free`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ..encoders.lexical import words
from ..retriever import Document
from ..retriever.texts import at_least, sections, sentence_spans

SHORTEST = 3  # words of a query
LONGEST = 40  # words of a sentence that is still one
SHORT = 3  # letters of a word that `scattered` passes over
KEPT = 4  # words that are kept of a sentence by `scattered`

Way = Callable[[Document, np.random.Generator], str]


def title(document: Document, random: np.random.Generator) -> str:
    """Returns the title of a whole document, "" where it has fewer than three words."""
    return "" if document.start or not at_least(document.title, SHORTEST) else document.title


def heading(document: Document, random: np.random.Generator) -> str:
    """Returns a heading of at least three words."""
    found = [each for each, _ in sections(document.text) if at_least(each, SHORTEST)]
    return found[int(random.integers(len(found)))] if found else ""


def sentence(document: Document, random: np.random.Generator) -> str:
    """Returns a sentence of 3 to 40 words."""
    text = document.text
    found = [text[start:end] for start, end in sentence_spans(text)]
    fitting = [one for one in found if at_least(one, SHORTEST) and not at_least(one, LONGEST + 1)]
    return " ".join(fitting[int(random.integers(len(fitting)))].split()) if fitting else ""


def scattered(document: Document, random: np.random.Generator) -> str:
    """Returns four of a sentence's words of four letters or more, in their order: less than a quotation."""
    found = [word for word in words(sentence(document, random)) if len(word) > SHORT]
    if len(found) < SHORTEST:
        return ""
    kept = sorted(random.permutation(len(found))[:KEPT].tolist())
    return " ".join(found[row] for row in kept)


WAYS: dict[str, Way] = {"title": title, "heading": heading, "sentence": sentence, "scattered": scattered}


def pseudo_queries(
    documents: Iterable[Document], way: Way, *, count: int = 300, seed: int = 0
) -> tuple[dict[str, str], Mapping[str, Mapping[str, int]]]:
    """Returns queries by id, and their judgements: the document that each was made of.

    Args:
        documents: what to make queries of.
        way: one of `WAYS`.
        count: how many, at most.
        seed: of all choices.
    """
    random = np.random.default_rng(seed)
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for document in documents:
        if len(queries) == count:
            break
        text = way(document, random).strip()
        if text and words(text):
            name = f"pseudo-{len(queries) + 1}"
            queries[name], qrels[name] = text, {document.id: 1}
    return queries, qrels

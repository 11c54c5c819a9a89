"""Answers as JSON values; by hand, since dataclasses.asdict copies every value and takes longer than a small search."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import orjson

from ...retriever import Answer, Document, Hit


def to_bytes(value: Any) -> bytes:
    """Returns JSON in UTF-8."""
    with contextlib.suppress(TypeError):  # half a surrogate pair or a number of more than 64 bits in the metadata
        return orjson.dumps(value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def answer_json(answer: Answer) -> dict[str, Any]:
    """Returns what a search found, and how.

    Raises:
        ValueError: a score is no number, which JSON does not know; orjson would write null.
    """
    if not all(math.isfinite(hit.score) for hit in answer):
        raise ValueError("a score is no number")
    return {
        "query": answer.query,
        "hits": [_hit(hit) for hit in answer],
        "weights": answer.weights,
        "fusion": answer.fusion,
        "pipeline": answer.pipeline,
        "steps": answer.notes,
        "milliseconds": {stage: round(value, 3) for stage, value in answer.milliseconds.items()},
    }


def document_json(document: Document) -> dict[str, Any]:
    """Returns a stored document."""
    return {
        "id": document.id, "title": document.title, "text": document.text, "metadata": document.metadata,
        "parent": document.parent, "start": document.start,
    }  # fmt: skip


def _hit(hit: Hit) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rank": hit.rank, "id": hit.id, "score": hit.score, "title": hit.title, "text": hit.text,
        "metadata": hit.metadata, "parent": hit.parent, "start": hit.start,
        "strands": {name: view._asdict() for name, view in hit.strands.items()},
        "matches": [match._asdict() for match in hit.matches],
    }  # fmt: skip
    return found if hit.probability is None else {**found, "probability": hit.probability}

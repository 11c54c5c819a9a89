"""What requests and answers look like, as JSON Schema: read by `checking`, and shown in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from ...retriever.log import MOST

MOST_HITS, MOST_DEPTH, MOST_QUERIES, MOST_DOCUMENTS = 1000, 10_000, 256, 10_000
MOST_COMPARED = 1000  # candidates that a step compares with one another: the memory grows with the square
LONGEST_QUERY, LONGEST_FILTER = 10_000, 10_000

Schema = dict[str, Any]


def _text(most: int, least: int = 1) -> Schema:
    return {"type": "string", "minLength": least, "maxLength": most}


def _object(properties: Schema, *required: str, **more: Any) -> Schema:
    return {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False, **more,
    }  # fmt: skip


def _maybe(*schemas: Schema, **more: Any) -> Schema:
    return {"anyOf": [*schemas, {"type": "null"}], **more}


def _whole(least: int, most: int, default: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


_ANY: Schema = {"type": "object", "additionalProperties": True}
_NUMBER: Schema = {"type": "number", "minimum": -1e300, "maximum": 1e300}
_STEP: Schema = {"anyOf": [_text(1000), {**_ANY, "description": "as {step: mmr, trade: 0.5}"}]}

OPTIONS: Schema = {
    "k": {**_whole(1, MOST_HITS, 10), "description": "How many hits."},
    "strands": _maybe(
        _text(200), {"type": "array", "items": _text(50), "minItems": 1, "maxItems": 10},
        description="Which strands take part, as lexical,dense; all unless said otherwise.",
    ),
    "weights": _maybe(
        {"type": "object", "additionalProperties": _NUMBER},
        description="The strands' weights, as {lexical: 0.2, dense: 0.8}; the index's own unless said otherwise.",
    ),
    "fusion": _maybe(_text(200), description="How strands combine, as convex or rrf:k=20."),
    "pipeline": _maybe(
        _text(1000), {"type": "array", "items": _STEP, "maxItems": 20}, _STEP["anyOf"][1],
        description="Steps after fusion, as feedback,mmr; none for no step. Models are those of the index alone.",
    ),
    "filter": _maybe(_text(LONGEST_FILTER), description="Only documents for which this holds, as year >= 2020."),
    "depth": {**_whole(1, MOST_DEPTH, 200), "description": "How many candidates each strand proposes."},
    "explain": {"type": "boolean", "default": True, "description": "Whether hits tell which terms matched."},
    "min_score": _maybe(_NUMBER, description="Leave out hits with a lower score."),
    "min_probability": _maybe(
        {"type": "number", "minimum": 0, "maximum": 1},
        description="Leave out hits less probably relevant; the index needs a calibration.",
    ),
}  # fmt: skip

QUERY = _text(LONGEST_QUERY)
SEARCH = _object({"query": QUERY, **OPTIONS}, "query")
BATCH = _object(
    {"queries": {"type": "array", "items": QUERY, "minItems": 1, "maxItems": MOST_QUERIES}, **OPTIONS}, "queries"
)
DOCUMENT = _object(
    {
        "id": _text(1000), "text": _text(10_000_000, 0), "title": _text(100_000, 0), "metadata": _ANY,
        "parent": _maybe(_text(1000)), "start": {"type": "integer", "minimum": 0, "maximum": 2**53},
    },
    "id", "text",
)  # fmt: skip
ADD = _object(
    {"documents": {"type": "array", "items": DOCUMENT, "minItems": 1, "maxItems": MOST_DOCUMENTS}}, "documents"
)
DELETE = _object({"ids": {"type": "array", "items": _text(1000), "minItems": 1, "maxItems": MOST_DOCUMENTS}}, "ids")
RELEVANCE_GIVEN = _object(
    {
        "query": QUERY, "id": _text(1000),
        "relevance": {**_whole(0, MOST, 1), "description": "0: not relevant; above it, how relevant."},
    },
    "query", "id",
)  # fmt: skip
WHOLE = ("k", "depth", "start")

# Answers

_COUNT: Schema = {"type": "integer"}
_STRAND = _object(
    {
        "score": {"type": "number"}, "normalised": {"type": "number"}, "weight": {"type": "number"},
        "rank": {"anyOf": [_COUNT, {"type": "null"}]},
    },
    "score", "normalised", "rank", "weight",
)  # fmt: skip
_MATCH = _object(
    {"strand": {"type": "string"}, "term": {"type": "string"}, "contribution": {"type": "number"}},
    "strand", "term", "contribution",
)  # fmt: skip
STORED: Schema = {
    "id": {"type": "string"}, "title": {"type": "string"}, "text": {"type": "string"}, "metadata": _ANY,
    "parent": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "start": _COUNT,
}  # fmt: skip
HIT = _object(
    {
        "rank": _COUNT, "score": {"type": "number"}, **STORED,
        "strands": {"type": "object", "additionalProperties": _STRAND},
        "matches": {"type": "array", "items": _MATCH}, "probability": {"type": "number"},
    },
    "rank", "score", *STORED, "strands", "matches",
)  # fmt: skip
_NUMBERS: Schema = {"type": "object", "additionalProperties": {"type": "number"}}
_ANSWER: Schema = {
    "query": {"type": "string"}, "hits": {"type": "array", "items": HIT}, "weights": _NUMBERS,
    "fusion": {"type": "string"}, "pipeline": {"type": "string"},
    "steps": {**_ANY, "description": "What the steps tell of themselves, by name."},
    "milliseconds": {**_NUMBERS, "description": "By stage."},
}  # fmt: skip
_WHEN: Schema = {"took": {"type": "number", "description": "Milliseconds."}, "commit": _COUNT}
ANSWER = _object({**_ANSWER, **_WHEN}, *_ANSWER, *_WHEN)
ANSWERS = _object(
    {"answers": {"type": "array", "items": _object(_ANSWER, *_ANSWER)}, **_WHEN}, "answers", "took", "commit"
)
INFO_FIELDS: Schema = {
    "name": {"type": "string"}, "documents": _COUNT, "strands": {"type": "object", "additionalProperties": _ANY},
    "weights": _NUMBERS, "fusion": {"type": "string"}, "pipeline": {"type": "string"},
    "fields": {"type": "object", "additionalProperties": {"type": "string"}}, "writable": {"type": "boolean"},
    "commit": _COUNT, "version": {"type": "string"},
}  # fmt: skip
INFO = _object(INFO_FIELDS, *INFO_FIELDS)
STORED_DOCUMENT = _object(STORED, *STORED)
ADDED = _object(
    dict.fromkeys(("added", "replaced", "unchanged", "documents", "commit"), _COUNT), "added", "documents", "commit"
)
DELETED = _object(dict.fromkeys(("deleted", "documents", "commit"), _COUNT), "deleted", "documents", "commit")
RELEVANCE = _object(
    {"query": {"type": "string"}, "id": {"type": "string"}, "relevance": _COUNT}, "query", "id", "relevance"
)
HEALTH = _object(
    {"status": {"type": "string", "enum": ["ok", "stale"]}, "documents": _COUNT, "commit": _COUNT},
    "status", "documents", "commit",
)  # fmt: skip
ERROR = _object(
    {"error": _object({"code": {"type": "string"}, "message": {"type": "string"}}, "code", "message")}, "error"
)

"""The OpenAPI document, made of the table of routes, so that it says what the server does."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from typing import Any

from . import schemas
from .guard import is_api
from .routes import ANYBODY, JSON, ROWS, Row

_WRONG = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "The page of another site asks.",
    404: "There is no such document.",
    408: "The request came too slowly.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "The index cannot answer this: the message says why.",
    429: "Too many requests wait; come again after Retry-After seconds.",
    503: "The index cannot be used now, or the server is shutting down.",
    504: "There was no answer in time.",
}


@cache
def document() -> dict[str, Any]:
    """Returns the OpenAPI document, version 3.1."""
    paths: dict[str, Any] = {}
    for row in ROWS:
        paths.setdefault(_plain(row.path), {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "plait", "version": version("plait"), "description": "Hybrid sparse and dense retrieval."},
        "paths": paths,
        "components": {
            "schemas": {"Error": schemas.ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": row.about,
        "operationId": _name(row),
        "parameters": [*_path_parameters(row), *_query_parameters(row)],
        "responses": _responses(row),
    }
    if row.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": row.body}}}
    if row.access != ANYBODY:
        found["security"] = [{"token": []}, *([] if row.access == "writers" else [{}])]
    return found


def _responses(row: Row) -> dict[str, Any]:
    content = {row.kind.partition(";")[0]: {"schema": row.answer or {"type": "string"}}}
    found: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    statuses = {400, *row.statuses, *(() if row.access == ANYBODY else (401,))}
    statuses |= {*((408, 413, 415) if row.body else ()), *((403,) if is_api(row.path) else ())}
    for status in sorted(statuses):
        found[str(status)] = {"description": _WRONG[status], "content": error}
    return found


def _path_parameters(row: Row) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)(?::\w+)?}", row.path)
    schema = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _query_parameters(row: Row) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": name == "q", "schema": _without_null(schema)}
        for name, schema in row.query.items()
    ]


def _without_null(schema: Any) -> dict[str, Any]:
    """Returns the schema of a query string's parameter, where nothing stands for null."""
    kinds = [one for one in schema.get("anyOf", ()) if one["type"] != "null"]
    return {**{key: value for key, value in schema.items() if key != "anyOf"}, **kinds[0]} if kinds else dict(schema)


def _name(row: Row) -> str:
    return re.sub(r"\W+", "_", f"{row.method.lower()}{_plain(row.path)}").strip("_")


def _plain(path: str) -> str:
    return path.replace(":path}", "}")

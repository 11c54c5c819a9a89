"""The table of routes: what is asked where, who may, and what comes back. The server and its OpenAPI are made of it."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from ..options import parsed_weights
from . import metrics, schemas
from .answers import to_bytes
from .checking import Schema, check, from_text, parsed
from .engine import Engine
from .errors import ApiError

JSON = "application/json"
ANYBODY, READERS, WRITERS = "anybody", "readers", "writers"
ROUTE = "plait.route"  # where a scope keeps the path of its row
COMPLETE = "plait.complete"  # in a scope whose request had come whole when it was passed on


@dataclass(frozen=True)
class Row:
    """A route.

    Attributes:
        method, path: what is asked; `{id:path}` stands for anything.
        handler: engine, request and checked input -> the body of the answer.
        about: what it does, in a sentence.
        answer: the schema of the answer; None where it is no JSON.
        access: "anybody"; "readers" need the token where other machines reach the server, "writers" always.
        body: the schema of the request's body.
        query: the schemas of the parameters in the query string.
        kind: the media type of the answer.
        statuses: what may go wrong.
    """

    method: str
    path: str
    handler: Callable[[Engine, Request, Any], Awaitable[bytes]]
    about: str
    answer: Schema | None = None
    access: str = READERS
    body: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    kind: str = JSON
    statuses: Sequence[int] = (429, 503, 504)


async def _search(engine: Engine, _request: Request, asked: Any) -> bytes:
    return await engine.search(asked)


async def _add(engine: Engine, _request: Request, asked: Any) -> bytes:
    return await engine.add(asked["documents"])


async def _delete(engine: Engine, _request: Request, asked: Any) -> bytes:
    return await engine.delete(asked["ids"])


async def _relevance(engine: Engine, _request: Request, asked: Any) -> bytes:
    return await engine.relevance(asked)


async def _document(engine: Engine, request: Request, _asked: Any) -> bytes:
    return await engine.document(request.path_params["id"])


async def _info(engine: Engine, _request: Request, _asked: Any) -> bytes:
    return await engine.info()


async def _health(engine: Engine, _request: Request, _asked: Any) -> bytes:
    return to_bytes(engine.health())


async def _metrics(engine: Engine, _request: Request, _asked: Any) -> bytes:
    return engine.metrics.text(engine.gauges()).encode()


async def _openapi(_engine: Engine, _request: Request, _asked: Any) -> bytes:
    from .openapi import document

    return to_bytes(document())


_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 1000}
_NAMES = [name for name in schemas.OPTIONS if name not in ("weights", "strands", "pipeline")]
_PARAMETERS: Mapping[str, Schema] = {
    "q": {**schemas.QUERY, "description": "What to look for."},
    **{name: schemas.OPTIONS[name] for name in _NAMES},
    "strands": {**_TEXT, "description": "As lexical,dense."},
    "weights": {**_TEXT, "description": "As lexical=0.2,dense=0.8."},
    "pipeline": {**_TEXT, "description": "As feedback,mmr."},
}

ROWS = (
    Row("GET", "/health", _health, "Tell whether the server is well.", schemas.HEALTH, access=ANYBODY, statuses=()),
    Row("GET", "/metrics", _metrics, "Tell what was counted, as Prometheus reads it.", kind=metrics.KIND, statuses=()),
    Row("GET", "/openapi.json", _openapi, "Describe these routes.", {"type": "object"}, access=ANYBODY, statuses=()),
    Row("GET", "/api/info", _info, "Tell what the index holds and how it is searched.", schemas.INFO),
    Row("GET", "/api/search", _search, "Search.", schemas.ANSWER, query=_PARAMETERS, statuses=(422, 429, 503, 504)),
    Row(
        "POST", "/api/search", _search, "Search.", schemas.ANSWER, body=schemas.SEARCH, statuses=(422, 429, 503, 504),
    ),
    Row(
        "POST", "/api/batch", _search, "Search for many queries at once.", schemas.ANSWERS, body=schemas.BATCH,
        statuses=(422, 429, 503, 504),
    ),
    Row(
        "POST", "/api/relevance", _relevance, "Say that a document was relevant, or was not, for plait tune --log.",
        schemas.RELEVANCE, WRITERS, schemas.RELEVANCE_GIVEN, statuses=(404, 422, 429, 503, 504),
    ),
    Row(
        "GET", "/api/documents/{id:path}", _document, "Return a document.", schemas.STORED_DOCUMENT,
        statuses=(404, 429, 503, 504),
    ),
    Row(
        "POST", "/api/documents", _add, "Add documents, or replace those whose ids are known; returns when committed.",
        schemas.ADDED, WRITERS, schemas.ADD, statuses=(422, 429, 503, 504),
    ),
    Row(
        "DELETE", "/api/documents", _delete, "Delete documents by id, and all passages of a parent by the parent's id.",
        schemas.DELETED, WRITERS, schemas.DELETE, statuses=(429, 503, 504),
    ),
)  # fmt: skip


async def answered(row: Row, engine: Engine, request: Request) -> Response:
    """Returns the answer of a row.

    Raises:
        ApiError: the client may not, or asks what cannot be read.
    """
    request.scope[ROUTE] = row.path
    authorise(row.access, engine, request)
    asked = _from_query(row, request) if row.query else None
    if row.body is not None:
        body = await body_of(request, engine.settings.body, engine.settings.patience)
        check_type(request)
        asked = parsed(body)
        check(asked, row.body, "the body")
    return Response(await row.handler(engine, request, asked), media_type=row.kind)


def authorise(access: str, engine: Engine, request: Request) -> None:
    """Raises an ApiError, 401, where a request needs the token and has it not."""
    settings = engine.settings
    if access == ANYBODY or (access == READERS and settings.local):
        return
    if settings.token is None:
        raise ApiError(401, "this server only reads; whoever runs it can start it with a token to allow writing")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(token.strip().encode("utf-8", "replace"), settings.token.encode())
    if scheme.lower() != "bearer" or not same:
        raise ApiError(401, "this needs the token, as the header Authorization: Bearer TOKEN", headers=_CHALLENGE)


def check_type(request: Request) -> None:
    """Raises an ApiError, 415, where a body is not said to be JSON: other types browsers send for any page."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != JSON:
        raise ApiError(415, f"a body needs the header Content-Type: {JSON}, not {given[:60] or 'none'} (curl --json)")


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


async def body_of(request: Request, most: int, seconds: float) -> bytes:
    """Returns the body of a request.

    Raises:
        ApiError: 413, it is longer than `most` bytes; 408, it did not come in time.
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told[:20]) > most:
        raise _too_large(most)
    if COMPLETE in request.scope:  # nothing to wait for, and a timer would take a tenth of a millisecond
        return await _read(request, most)
    try:
        with anyio.fail_after(seconds):
            return await _read(request, most)
    except TimeoutError:
        raise ApiError(408, f"the request did not come within {seconds:g} seconds", close=True) from None


async def _read(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body is larger than {most:,} bytes; send it in parts", close=True)


def _from_query(row: Row, request: Request) -> dict[str, Any]:
    """Returns the parameters of a query string as the body of a search has them."""
    pairs = request.query_params.multi_items()
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ApiError(400, "a parameter is given twice")
    for name, text in given.items():
        if name not in row.query:
            raise ApiError(400, f"there is no parameter {name[:60]!r}; there are: {', '.join(row.query)}")
        given[name] = from_text(text, row.query[name])
        check(given[name], row.query[name], name)
    if "q" not in given:
        raise ApiError(400, "the parameter q is what to look for; it is not there")
    if "weights" in given:
        given["weights"] = parsed_weights(given["weights"])  # type: ignore[assignment]
    return {"query": given.pop("q"), **given}

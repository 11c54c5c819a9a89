"""The ASGI application: the table of routes and the page's files, behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp

from .engine import Engine
from .guard import Guard
from .page import File, files
from .routes import ROUTE, ROWS, answered

Endpoint = Callable[[Request], Awaitable[Response]]


def application(engine: Engine) -> ASGIApp:
    """Returns the application; the engine runs between its start and its end."""

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        async with engine.running():
            yield

    # No redirects: they would build an address from what the client says is our name. And no Starlette around the
    # router: it would answer an error of ours with a text of its own before the guard sees it.
    return Guard(Router(_routes(engine), redirect_slashes=False, lifespan=lifespan), engine)


def _routes(engine: Engine) -> list[BaseRoute]:
    by_path: dict[str, dict[str, Endpoint]] = {}
    for row in ROWS:
        by_path.setdefault(row.path, {})[row.method] = partial(answered, row, engine)
    routes: list[BaseRoute] = [Route(path, _by_method(each), methods=list(each)) for path, each in by_path.items()]
    return [*routes, *(Route(path, _fixed(path, file), methods=["GET"]) for path, file in files().items())]


def _by_method(endpoints: dict[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _fixed(path: str, file: File) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        request.scope[ROUTE] = path
        return Response(file.body, headers={"Content-Type": file.kind, "Cache-Control": "no-cache"})

    return endpoint

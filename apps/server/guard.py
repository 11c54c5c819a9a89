"""Around every request: which host was meant, the headers of safety, the log, the counts, and what no route caught."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import to_bytes
from .engine import Engine, failure
from .errors import CODES, ApiError
from .routes import ROUTE
from .settings import is_local

_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
SAFE = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app, self.engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, whatever happens."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, sent = time.perf_counter(), _Sent(send)
        try:
            self._check_host(scope)
            self._check_site(scope)
            scope["app"] = self  # so that the router raises what it has to say
            await self.app(scope, receive, sent)
        except ClientDisconnect:
            pass
        except HTTPException as error:
            await send_error(_ours(error), sent)
        except Exception as error:
            told = failure(self.engine, error)
            if not sent.status:
                await send_error(told, sent)
        finally:
            self._count(scope, sent.status, time.perf_counter() - began)

    def _check_host(self, scope: Scope) -> None:
        """Raises an ApiError where a request for another name came here.

        A page of another site could otherwise give its own name this machine's address, and read the index in its
        visitor's browser.
        """
        if not self.engine.settings.local:  # there a token is needed, which no other site has
            return
        given = _header(scope, b"host")
        name = given.rpartition(":")[0] if given.rpartition(":")[2].isdigit() else given
        if not is_local(name) and name.lower() not in self.engine.settings.hosts:
            message = "this server answers to localhost; start it with --allow-host to give it another name"
            raise ApiError(400, message, close=True)

    def _check_site(self, scope: Scope) -> None:
        """Raises an ApiError where a browser says that the page of another site asks.

        Such a page cannot read the answer, but the request alone writes, or takes a thread. The page's own files are
        given to whoever follows a link to them.
        """
        if not self.engine.settings.local or not is_api(scope["path"]):
            return
        origin, host = _header(scope, b"origin"), _header(scope, b"host")
        foreign = bool(origin) and not self._is_own(origin, host)
        if foreign or _header(scope, b"sec-fetch-site").lower() == "cross-site":
            raise ApiError(403, "this server answers to its own page, not to the pages of other sites", close=True)

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
            return parts.netloc.lower() == host.lower() or parts.hostname in self.engine.settings.hosts
        except ValueError:  # a broken address
            return False

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get(ROUTE, "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.engine.metrics.request(route, method, status, seconds)
        journal = self.engine.journal
        if journal.requests:
            client: Any = scope.get("client") or ("",)
            journal.request(
                method=method, route=route, path=scope["path"][:200], status=status,
                milliseconds=round(1000 * seconds, 3), client=client[0],
            )  # fmt: skip


def is_api(path: str) -> bool:
    """Returns whether this is the path of something that programs ask for, and no file of the page."""
    return path.startswith("/api/")


def _header(scope: Scope, name: bytes) -> str:
    return next((value for given, value in scope["headers"] if given == name), b"").decode("latin-1")


class _Sent:
    """Passes messages on with the headers of safety, and remembers the status; 0 before there is one."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            there = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in SAFE if pair[0] not in there)]
        await self._send(message)


async def send_error(error: ApiError, send: Send) -> None:
    """Sends an error as an answer."""
    body = to_bytes(error.to_json())
    more = {**error.headers, **({"Connection": "close"} if error.close else {})}
    headers = [(name.lower().encode(), value.encode()) for name, value in more.items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _ours(error: HTTPException) -> ApiError:
    """Returns what the router has to say, 404 and 405, as an error of ours."""
    message = {404: "there is nothing at this address", 405: "this address does not take this method"}
    status = error.status_code if error.status_code in CODES else 400
    return ApiError(status, message.get(status, "the request cannot be read"), headers=error.headers or {})

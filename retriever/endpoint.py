"""A language model behind an OpenAI-compatible endpoint, by the standard library alone."""

from __future__ import annotations

import http.client
import json
import math
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .errors import QueryError

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
Model = Callable[[list[Message]], str]
MOST_BYTES = 16 << 20  # of a reply
AGAIN = (429, 502, 503, 504)  # statuses that may pass
SHOWN = 200  # characters of a reply in a message
_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)


class ModelError(QueryError):
    """A language model cannot be asked, or its reply cannot be used; the message says what came back."""


@dataclass(frozen=True)
class Endpoint:
    """A model at `{url}/chat/completions`, as OpenAI, vLLM, llama.cpp and Ollama have it; it is called with messages.

    Attributes:
        url: the base, as "http://localhost:8000/v1".
        model: the model's name there.
        key: sent as a bearer token; None sends none. It is never shown, and never sent on to another address.
        timeout: seconds for one request, the reply included.
        retries: how often more it is asked when it is busy (429, 502, 503, 504) or cannot be reached.
        pause: seconds before the first retry; twice as long before each further one.
        options: more of the request's body, as {"temperature": 0.0, "max_tokens": 500}.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: int = 2
    pause: float = 1.0
    options: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.0}, hash=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelError(f"no endpoint {self.url!r}; expected its base, as 'http://localhost:8000/v1'")
        if not (self.timeout > 0 and math.isfinite(self.timeout)) or self.retries < 0 or not self.pause >= 0:
            raise ModelError("an endpoint takes a timeout above 0, and retries and a pause of at least 0")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ModelError(
                "the key of the endpoint holds what cannot be sent in a header; is there a line break in it?"
            )

    def __call__(self, messages: Sequence[Message]) -> str:
        """Returns the model's reply.

        Raises:
            ModelError: it cannot be reached, refuses, takes too long, or answers with something else than a reply.
        """
        body = {"model": self.model, "messages": [dict(message) for message in messages], **self.options}
        for attempt in range(self.retries + 1):
            try:
                return self._reply(self._ask(json.dumps(body).encode()))
            except _PassingError as error:
                if attempt == self.retries:
                    raise ModelError(f"{error}; asked {attempt + 1} times") from None
                time.sleep(self.pause * 2**attempt)
        raise AssertionError("unreachable")

    @property
    def _address(self) -> str:
        return f"{self.url.rstrip('/')}/chat/completions"

    def _ask(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "plait"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self._address, body, headers)
        with _Deadline(self.timeout) as deadline:
            try:
                with deadline.opener.open(request, timeout=self.timeout) as response:
                    found = self._read(response)
            except urllib.error.HTTPError as error:
                with error:
                    told = f"{self._address} answered {error.code}: {self._shown(_beginning(error))}"
                raise (_PassingError if error.code in AGAIN else ModelError)(told + _hint(error.code)) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                if deadline.over or isinstance(reason, TimeoutError):
                    raise self._late() from None
                raise _PassingError(f"{self._address} cannot be asked: {reason}; is the server running?") from None
        if deadline.over:  # what was cut off may look like a reply without a length
            raise self._late()
        return found

    def _late(self) -> ModelError:
        return ModelError(f"{self._address} took longer than {self.timeout:g} s; give a longer timeout")

    def _read(self, response: Any) -> bytes:
        """Returns a reply; one that has no end is an error."""
        parts, size = [], 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise ModelError(f"{self._address} answered with more than {MOST_BYTES >> 20} MB")
        return b"".join(parts)

    def _reply(self, body: bytes) -> str:
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            content = None
        if not isinstance(content, str):
            raise ModelError(
                f"{self._address} answered with something else than a chat completion: {self._shown(body)}; "
                "expected JSON with choices[0].message.content, a text"
            )
        return content

    def _shown(self, body: bytes) -> str:
        """Returns the beginning of a reply for a message, without the key, should it be in it."""
        text = " ".join(body[: SHOWN * 4].decode("utf-8", "replace").split())
        text = text.replace(self.key, "...") if self.key else text
        return text[:SHOWN] + ("..." if len(text) > SHOWN else "") or "nothing"


class _PassingError(ModelError):
    """What may be over when asked again."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key would be sent along."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Returns None: the redirect is an error then."""


def _beginning(error: urllib.error.HTTPError) -> bytes:
    """Returns the beginning of the body of an error, as far as it comes: the status says what matters."""
    try:
        return error.read(SHOWN * 4)
    except http.client.IncompleteRead as cut:
        return cut.partial
    except (OSError, http.client.HTTPException, ValueError):
        return b""


class _Deadline:
    """A time after which the connections of an opener are shut, whatever of a reply is awaited.

    A socket's own timeout begins anew with every byte: a server that sends one now and then would keep us for ever.
    """

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._seconds, self._timer = seconds, threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._sockets: list[socket.socket] = []
        self.opener = urllib.request.build_opener(_NoRedirect, *_handlers(self._sockets.append))

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.over = True
        for each in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # of a TLS socket what is below, without a farewell


def _handlers(connected: Callable[[socket.socket], object]) -> tuple[urllib.request.BaseHandler, ...]:
    """Returns what opens HTTP and HTTPS for urllib, and tells of every socket."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            connected(self.sock)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            connected(self.sock)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req)

    return PlainHandler(), SecureHandler()


_HINTS = {
    301: "give the address that it names", 302: "give the address that it names", 307: "give the address that it names",
    308: "give the address that it names", 401: "is the key right?", 403: "is the key right?",
    404: "is the base of the URL right (often it ends in /v1), and the model's name?",
}  # fmt: skip


def _hint(status: int) -> str:
    return f"; {_HINTS[status]}" if status in _HINTS else ""


def ask(model: Model, system: str, user: str) -> str:
    """Returns what a model replies to one message, without the thoughts that reasoning models put before it.

    Raises:
        ModelError: the reply is no text, or an empty one.
    """
    reply: object = model([{"role": "system", "content": system}, {"role": "user", "content": user}])
    said = _THOUGHT.sub("", reply).strip() if isinstance(reply, str) else ""
    if not said:
        raise ModelError(f"the language model replied {reply!r:.{SHOWN}}; expected a text")
    return said

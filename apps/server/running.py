"""Runs the server: a socket, signals, clients that are slow on purpose, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .app import application
from .engine import Engine
from .routes import COMPLETE
from .settings import Settings


def listening(settings: Settings) -> socket.socket:
    """Returns a socket that is bound to the address.

    Its protocol is named: asyncio sends without delay only where it is (TCP_NODELAY), and an answer, which goes out as
    head and body, would otherwise wait 40 ms for the client's delayed acknowledgement of the head.

    Raises:
        OSError: there is no such address, or another server has it.
    """
    try:
        (family, *_, place), *_ = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # elsewhere it would let two servers have one port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
            bound.listen(256)
        except BaseException:
            bound.close()
            raise
        return bound
    except OSError as error:
        raise OSError(f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}") from None


def address(bound: socket.socket) -> str:
    """Returns the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def run(engine: Engine, bound: socket.socket, *, ready: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGTERM or SIGINT; then refuses what is new, and ends when what runs is done.

    Args:
        engine: what answers; it is closed at the end.
        bound: the socket.
        ready: called when requests are answered.
    """
    settings = engine.settings
    config = uvicorn.Config(
        application(engine), http=_protocol(settings), ws="none", lifespan="on", log_config=None,
        log_level="critical", access_log=False, server_header=False, limit_concurrency=settings.connections,
        timeout_keep_alive=75, proxy_headers=False, timeout_graceful_shutdown=max(1, round(settings.grace)),
    )  # fmt: skip
    with _quiet_end():
        _Server(config, ready).run(sockets=[bound])


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and tells."""
        await super().startup(sockets)
        self._ready()


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """Lets SIGTERM end the command with status 0: uvicorn raises it once more when all is done."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """Returns uvicorn's HTTP that also closes connections whose heads are too long or too slow, or whose answers stay.

    httptools itself would keep heads, and the trailers of a body in chunks, of any length.
    """

    class Patient(HttpToolsProtocol):
        _late: asyncio.TimerHandle | None = None
        _loose = 0  # bytes since the parser last completed something
        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_wait()
            self._end_stall()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._loose += len(data)
            super().data_received(data)
            if self._loose > settings.header and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._late is None:
                self._wait()

        def on_headers_complete(self) -> None:
            self._end_wait()
            if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > settings.header:
                raise ValueError("the head of the request is too long")  # the parser answers 400
            self._loose = 0
            super().on_headers_complete()

        def on_chunk_header(self) -> None:
            self._loose = 0

        def on_body(self, body: bytes) -> None:
            self._loose = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._loose = 0
            self.scope[COMPLETE] = True  # type: ignore[typeddict-unknown-key]
            super().on_message_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stall(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            self._end_stall()
            super().resume_writing()

        def timeout_keep_alive_handler(self) -> None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # closing would wait for the client to take the rest
            super().timeout_keep_alive_handler()

        def _stall(self, left: int) -> None:
            """Looks again later whether a client has taken anything of what is left for it."""
            self._stalled = self.loop.call_later(settings.patience, self._look, left)

        def _look(self, before: int) -> None:
            left = self.transport.get_write_buffer_size()
            if left >= before:
                self.transport.abort()
            else:
                self._stall(left)

        def _end_stall(self) -> None:
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

        def _wait(self) -> None:
            self._late = self.loop.call_later(settings.patience, self.transport.close)

        def _end_wait(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Patient

"""A bounded queue before a few threads: what does not fit is refused at once, what takes too long is left."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from .errors import ApiError

T = TypeVar("T")
_RECENT = 0.1  # what the newest duration counts in the running mean


class Jobs:
    """Threads with a queue.

    Args:
        name: of the threads.
        threads: how many work.
        waiting: how many jobs may wait, beside those that run.
        unbroken: a job that has begun is waited for to its end, however long it takes.
    """

    def __init__(self, name: str, *, threads: int, waiting: int, unbroken: bool = False) -> None:
        self.threads, self.room, self.unbroken = threads, threads + waiting, unbroken
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"plait-{name}")
        self._lock = threading.Lock()
        self._inside, self._mean = 0, 0.0
        self._closing = False
        self._running: set[Future[Any]] = set()

    @property
    def inside(self) -> int:
        """Returns how many jobs run or wait."""
        return self._inside

    async def run(self, work: Callable[[], T], *, seconds: float) -> T:
        """Returns what the work returns.

        Raises:
            ApiError: 429 where the queue is full, 504 where the time is over, 503 during a shutdown.
        """
        self._enter()
        try:
            future = self._pool.submit(self._timed, work)
        except BaseException:
            self._leave(None)
            raise
        with self._lock:
            self._running.add(future)
        future.add_done_callback(self._leave)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        timer = loop.call_later(seconds, self._give_up, future, waiter, seconds)
        future.add_done_callback(lambda done: _pass_on(loop, done, waiter))
        try:
            return await waiter
        finally:
            timer.cancel()

    def close(self, *, seconds: float | None = None) -> bool:
        """Refuses new jobs, and returns whether those that were accepted are done.

        Args:
            seconds: the longest that they are waited for; None: however long they take.
        """
        with self._lock:
            self._closing = True
            left = set(self._running)
        done = not wait(left, seconds).not_done
        self._pool.shutdown(wait=done, cancel_futures=not done)
        return done

    def _enter(self) -> None:
        with self._lock:
            if self._closing:
                raise ApiError(503, "the server is shutting down", headers={"Retry-After": "5"})
            if self._inside >= self.room:
                after = {"Retry-After": str(max(1, math.ceil(self._inside * self._mean / self.threads)))}
                raise ApiError(429, "too many requests are waiting; come again", headers=after)
            self._inside += 1

    def _leave(self, future: Future[Any] | None) -> None:
        with self._lock:
            self._inside -= 1
            self._running.discard(future)  # type: ignore[arg-type]

    def _give_up(self, future: Future[T], waiter: asyncio.Future[T], seconds: float) -> None:
        """Ends the waiting for a job; one that has begun goes on, and of an unbroken queue is waited for."""
        if (future.cancel() or not self.unbroken) and not waiter.done():
            told = f"there was no answer in {seconds:g} seconds; ask for less, or again later"
            waiter.set_exception(ApiError(504, told))

    def _timed(self, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self._mean += _RECENT * (time.perf_counter() - began - self._mean)


def _pass_on(loop: asyncio.AbstractEventLoop, done: Future[T], waiter: asyncio.Future[T]) -> None:
    """Brings what a thread made to the event loop."""
    with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits
        loop.call_soon_threadsafe(_settle, done, waiter)


def _settle(done: Future[T], waiter: asyncio.Future[T]) -> None:
    if waiter.done() or done.cancelled():  # given up
        return
    error = done.exception()
    if error is None:
        waiter.set_result(done.result())
    else:
        waiter.set_exception(error)

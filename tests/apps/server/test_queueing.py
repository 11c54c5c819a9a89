"""The queue: what fits, what is refused, what is given up, and what is finished whatever happens."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("starlette")

from plait.apps.server.engine import AT_ONCE, PAUSE
from plait.apps.server.errors import ApiError
from plait.apps.server.queueing import Jobs
from plait.retriever import Retriever

from .conftest import SHOWN, error


def run(work):
    return asyncio.run(work)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_the_queue_holds_what_it_says_and_no_more():
    async def scene():
        jobs, go = Jobs("test", threads=2, waiting=3), threading.Event()
        tasks = [asyncio.create_task(jobs.run(go.wait, seconds=60)) for _ in range(5)]
        await until(lambda: jobs.inside == 5)
        with pytest.raises(ApiError) as refused:
            await jobs.run(go.wait, seconds=60)
        go.set()
        assert await asyncio.gather(*tasks) == [True] * 5
        assert jobs.inside == 0
        assert await jobs.run(lambda: 7, seconds=60) == 7
        jobs.close()
        return refused.value

    refused = run(scene())
    assert (refused.status, refused.headers) == (429, {"Retry-After": "1"})


def test_what_waits_too_long_never_runs():
    async def scene():
        jobs, go, ran = Jobs("test", threads=1, waiting=1), threading.Event(), []
        first = asyncio.create_task(jobs.run(go.wait, seconds=60))
        await until(lambda: jobs.inside == 1)
        with pytest.raises(ApiError) as late:
            await jobs.run(lambda: ran.append(1), seconds=0.01)
        assert jobs.inside == 1  # its place is free again
        go.set()
        await first
        jobs.close()
        return late.value, ran

    late, ran = run(scene())
    assert (late.status, ran) == (504, [])
    assert late.message == "there was no answer in 0.01 seconds; ask for less, or again later"


def test_what_runs_too_long_keeps_its_place_to_the_end():
    async def scene():
        jobs, go = Jobs("test", threads=1, waiting=0), threading.Event()
        with pytest.raises(ApiError) as late:
            await jobs.run(lambda: go.wait() and 1 / 0, seconds=0.01)
        assert jobs.inside == 1
        go.set()
        await until(lambda: jobs.inside == 0)
        jobs.close()
        return late.value.status

    assert run(scene()) == 504


def test_a_write_that_has_begun_is_waited_for():
    async def scene():
        jobs, go, begun = Jobs("test", threads=1, waiting=1, unbroken=True), threading.Event(), threading.Event()
        task = asyncio.create_task(jobs.run(lambda: begun.set() or go.wait(), seconds=0.01))
        await asyncio.to_thread(begun.wait)
        await asyncio.sleep(0.05)
        assert not task.done()
        go.set()
        assert await task is True
        jobs.close()

    run(scene())


def test_a_shutdown_finishes_what_was_accepted_and_refuses_the_rest():
    async def scene():
        jobs, go, done = Jobs("test", threads=1, waiting=5, unbroken=True), threading.Event(), []
        tasks = [asyncio.create_task(jobs.run(lambda n=n: go.wait() and done.append(n), seconds=60)) for n in range(4)]
        await until(lambda: jobs.inside == 4)
        tasks[2].cancel()  # a client that has gone: its write was accepted all the same
        closing = asyncio.create_task(asyncio.to_thread(jobs.close))
        await until(lambda: jobs._closing)
        with pytest.raises(ApiError) as refused:
            await jobs.run(lambda: None, seconds=60)
        go.set()
        await closing
        return refused.value.status, done

    assert run(scene()) == (503, [0, 1, 2, 3])


def test_a_shutdown_waits_for_searches_no_longer_than_it_says():
    async def scene():
        jobs, go, ran = Jobs("test", threads=1, waiting=1), threading.Event(), []
        running = asyncio.create_task(jobs.run(go.wait, seconds=60))
        asyncio.create_task(jobs.run(lambda: ran.append(1), seconds=0.01)).add_done_callback(
            lambda task: task.exception()
        )
        await until(lambda: jobs.inside == 2)
        done = await asyncio.to_thread(jobs.close, seconds=0.01)
        go.set()
        await running
        return done, ran

    assert run(scene()) == (False, [])


def test_a_batch_that_nobody_waits_for_ends_between_its_queries(client):
    ask, begun, go = client(threads=1, seconds=0.02), threading.Event(), threading.Event()
    search_batch, asked = ask.engine.retriever.search_batch, []

    def slow(queries, **options):
        asked.append(len(queries))
        begun.set()
        assert go.wait(60)
        return search_batch(queries, **options)

    ask.engine.retriever.search_batch = slow

    async def scene():
        answer = await ask.http.post("/api/batch", json={"queries": ["honey"] * 256})
        assert begun.is_set()
        go.set()
        await until(lambda: ask.engine.searches.inside == 0)
        return answer

    assert error(ask.wait(scene()), 504)[0] == "timeout"
    assert asked == [AT_ONCE]


def test_overload_loses_no_write_and_fails_only_with_429(client, folder):
    """64 clients at once, a short queue: every answer is 200 or 429, and what was answered 200 is there."""
    ask = client(threads=2, queue=4, writes=8)

    async def one(number):
        said, wrote = [], []
        for turn in range(4):
            id = f"d{number}-{turn}"
            document = {"id": id, "text": f"document {number} turn {turn}"}
            written = await ask.http.post("/api/documents", json={"documents": [document]}, headers=SHOWN)
            found = await ask.http.post("/api/search", json={"query": "winter honey"})
            said += [written.status_code, found.status_code]
            wrote += [id] if written.status_code == 200 else []
            assert all(answer.headers["retry-after"] for answer in (written, found) if answer.status_code == 429)
        return said, wrote

    async def scene():
        return await asyncio.gather(*map(one, range(64)))

    answers = ask.wait(scene())
    statuses = {status for said, _ in answers for status in said}
    written = [id for _, wrote in answers for id in wrote]
    assert statuses == {200, 429}
    assert len(written) >= 8
    ask.engine.close()
    with Retriever.open(folder) as retriever:
        assert all(id in retriever for id in written)
        assert len(retriever) == 3 + len(written)


def test_under_steady_writes_others_may_write_now_and_then(client, folder, monkeypatch):
    ask, paused = client(writes=60), []

    def pause(seconds):
        with Retriever.open(folder) as other:  # the lock is free
            other.add([{"id": f"other-{len(paused)}", "text": "from elsewhere"}])
        paused.append(seconds)

    monkeypatch.setattr("plait.apps.server.engine.time.sleep", pause)

    async def one(number):
        documents = [{"id": f"d{number}", "text": "here"}]
        return (await ask.http.post("/api/documents", json={"documents": documents}, headers=SHOWN)).status_code

    async def scene():
        return await asyncio.gather(*map(one, range(50)))

    assert set(ask.wait(scene())) == {200}
    assert paused == [PAUSE] * 2
    ask.engine.close()
    with Retriever.open(folder) as retriever:
        assert len(retriever) == 3 + 50 + 2


def test_a_full_queue_leaves_health_and_metrics(client):
    ask, go = client(threads=1, queue=0), threading.Event()

    async def scene():
        task = asyncio.create_task(ask.engine.searches.run(go.wait, seconds=60))
        await until(lambda: ask.engine.searches.inside == 1)
        answers = [await ask.http.get(path) for path in ("/health", "/metrics", "/api/info", "/api/search?q=honey")]
        go.set()
        await task
        return answers

    health, metrics, info, search = ask.wait(scene())
    assert health.json()["status"] == "ok"
    assert "plait_searches_inside 1" in metrics.text
    assert error(info, 429) == error(search, 429) == ("busy", "too many requests are waiting; come again")


def test_searches_that_take_too_long_are_given_up(client):
    ask, go = client(threads=1, queue=4, seconds=0.02), threading.Event()

    async def scene():
        task = asyncio.create_task(ask.engine.searches.run(go.wait, seconds=60))
        await until(lambda: ask.engine.searches.inside == 1)
        answer = await ask.http.get("/api/search?q=honey")
        go.set()
        await task
        return answer

    assert error(ask.wait(scene()), 504)[0] == "timeout"

"""A server in this process, asked by httpx without a socket; and one in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from plait.apps.server.app import application  # noqa: E402
from plait.apps.server.engine import Engine  # noqa: E402
from plait.apps.server.journal import Journal  # noqa: E402
from plait.apps.server.settings import Settings  # noqa: E402
from plait.retriever import Retriever  # noqa: E402

TOKEN = "a-token-of-the-tests"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
DOCUMENTS = [
    {"id": "snow", "text": "Snow falls in winter and melts in spring.", "metadata": {"year": 2001}},
    {"id": "bees", "text": "Bees make honey from the nectar of flowers.", "title": "Bees", "metadata": {"year": 2010}},
    {"id": "a/b#1", "text": "Ships cross the winter sea, loaded with honey and wine.", "parent": "a", "start": 7},
]
MAIN = [sys.executable, "-c", "from plait.apps.cli import main; main()"]


class Client:
    """Asks an application as a client would, one request after another."""

    def __init__(self, engine):
        self.engine, self.lines = engine, []
        self.loop = asyncio.new_event_loop()
        self.app = application(engine)
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def __call__(self, method, path, **options):
        if "content" in options:  # what `json` says of itself
            options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
        return self.wait(self.http.request(method, path, **options))

    def wait(self, work):
        return self.loop.run_until_complete(work)

    def close(self):
        self.wait(self.http.aclose())
        self.engine.close()
        self.loop.close()


@pytest.fixture
def folder(tmp_path):
    """A lexical index of three documents with one field."""
    with Retriever.create(tmp_path / "my.index", strands="lexical", fields={"year": "integer"}) as retriever:
        retriever.add(DOCUMENTS)
    return tmp_path / "my.index"


@pytest.fixture
def client(folder):
    """Makes clients: client(queue=1, retriever=...) takes the settings."""
    made = []

    def make(retriever=None, **settings):
        lines: list[str] = []
        chosen = Settings(**{"token": TOKEN, **settings})
        given = Retriever.open(folder) if retriever is None else retriever
        one = Client(Engine(given, chosen, Journal(write=lines.append)))
        one.lines = lines
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


class Served:
    """`plait serve` in a process of its own."""

    def __init__(self, folder, *options, start=MAIN, **env):
        self.process = subprocess.Popen(
            [*start, "serve", str(folder), "--port", "0", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PLAIT_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1", **env},
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        told = self.lines.get(timeout=120)
        assert "is served at http://" in told, told
        self.url = told.split(" is served at ")[1].split("/;")[0].strip().rstrip("/")
        self.port = int(self.url.rpartition(":")[2])

    def _read(self):
        with contextlib.suppress(ValueError):
            for line in self.process.stderr:
                self.said.append(line)
                self.lines.put(line)

    def end(self):
        """Waits for the end and returns the exit status."""
        return self.process.wait(timeout=60)


@pytest.fixture
def served():
    """Starts servers; what still runs at the end is killed."""
    started = []

    def start(folder, *options, **more):
        started.append(Served(folder, *options, **more))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.process.stdout.close()
        one.process.stderr.close()


def error(answer, status):
    """Returns the (code, message) of an answer that must be an error."""
    assert answer.status_code == status, answer.text
    told = json.loads(answer.content)
    assert set(told) == {"error"}
    assert set(told["error"]) == {"code", "message"}
    return told["error"]["code"], told["error"]["message"]

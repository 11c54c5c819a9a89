"""`plait serve` in a process of its own: sockets, signals, clients that mean no good."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import threading
import time
from contextlib import closing

import pytest
from plait.retriever import Retriever

from .conftest import SHOWN, httpx  # first: it skips where there is no server

from plait.apps.server.running import address, listening  # isort: skip
from plait.apps.server.settings import Settings  # isort: skip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends by signals of POSIX")


def raw(port, sent, *, seconds=30.0):
    """Sends bytes and returns all that comes back until the server closes the connection."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=seconds)) as one:
        one.sendall(sent)
        parts = []
        try:
            while part := one.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


def test_a_day_of_a_server(served, folder, tmp_path):
    """Searches, a write, a commit of another process, hostile clients, then SIGTERM with writes on their way."""
    server = served(
        folder, "--reload", "0.05", "--access-log", str(tmp_path / "a.log"), "--log", str(tmp_path / "q.log")
    )
    with httpx.Client(base_url=server.url) as http:
        assert http.get("/health").json() == {"status": "ok", "documents": 3, "commit": 1}
        assert http.post("/api/search", json={"query": "honey", "k": 1}).json()["hits"][0]["id"] == "bees"
        added = http.post("/api/documents", json={"documents": [{"id": "oak", "text": "An oak."}]}, headers=SHOWN)
        assert added.json()["documents"] == 4
        with Retriever.open(folder) as other:
            other.add([{"id": "elm", "text": "An elm."}])
            other.commit()
            version = other.version
        while http.get("/health").json()["commit"] < version:
            pass
        assert [hit["id"] for hit in http.get("/api/search?q=elm").json()["hits"]] == ["elm"]
        _hostile(server)
        assert http.get("/health").json()["documents"] == 5
        written = _writing_until_the_end(server)
    assert server.end() == 0
    assert len(server.said) == 1, server.said
    with Retriever.open(folder) as retriever:
        assert [id for id in written if id not in retriever] == []
    assert written
    lines = [json.loads(line) for line in (tmp_path / "a.log").read_text().splitlines()]
    assert {line["event"] for line in lines} == {"request"}
    searches = [json.loads(line) for line in (tmp_path / "q.log").read_text().splitlines()]
    assert [line["query"] for line in searches[:2]] == ["honey", "elm"]


def _hostile(server):
    """Sends what no client of good will sends; each gets an error or a closed connection."""
    for sent, expected in (
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000, b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"400"),
        (b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{", b"413"),
        (b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}", b"400"),
        (b"PATCH /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"405"),
        (b"FOO /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"400"),
    ):
        got = raw(server.port, sent)
        assert got.split(b"\r\n")[0].split(b" ")[1] == expected, (sent[:60], got[:200])
        assert b"Traceback" not in got
        assert b"root:" not in got
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"  # no length is told; more than 8 MiB comes
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in _torrent(server.port, head, chunk)


def _torrent(port, head, chunk):
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as one:
        one.sendall(head)
        try:
            for _ in range(400):
                one.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return one.recv(65536)
        except ConnectionResetError:
            return b" 413 "  # closed while we still sent: the answer is lost with what was on its way


def _writing_until_the_end(server):
    """Ends the server while eight clients write; returns the ids whose writes were answered 200."""
    written, ready = [], threading.Barrier(9)

    def write(number):
        with httpx.Client(base_url=server.url, timeout=60) as http:
            for turn in range(1000):
                id = f"w{number}-{turn}"
                if turn == 1:
                    ready.wait()
                try:
                    said = http.post("/api/documents", json={"documents": [{"id": id, "text": id}]}, headers=SHOWN)
                except httpx.TransportError:
                    return
                assert said.status_code in (200, 429, 503), said.text
                if said.status_code == 200:
                    written.append(id)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    return written


def impatient(folder):
    """Returns a command that serves with a patience of 0.3 seconds."""
    script = folder / "serve.py"
    script.write_text(
        "import sys\nfrom plait.apps.server import settings\nfrom dataclasses import replace\n"
        "kept = settings.checked\nsettings.checked = lambda given: kept(replace(given, patience=0.3))\n"
        "from plait.apps.cli import main\nsys.argv[0] = 'plait'\nmain()\n"
    )
    return [sys.executable, str(script)]


def test_clients_that_do_not_take_their_answer_are_let_go(served, tmp_path):
    """One that takes nothing is cut off; one that takes a little at a time gets all of it."""
    size, asked = 12_000_000, b"GET /api/documents/big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with Retriever.create(tmp_path / "big.index", strands="lexical") as retriever:
        retriever.add([{"id": "big", "text": "x" * size}])
    server = served(tmp_path / "big.index", start=impatient(tmp_path))

    def taken(pause):
        with closing(socket.socket()) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            one.connect(("127.0.0.1", server.port))
            one.sendall(asked)
            time.sleep(pause)
            got = 0
            with contextlib.suppress(ConnectionResetError):
                while part := one.recv(1 << 18):
                    got += len(part)
                    time.sleep(pause / 100)
            return got

    assert taken(1.5) < size < taken(0.1)
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_slow_clients_are_let_go(served, folder, tmp_path):
    """A head that never ends, a body that never comes: the connection is closed, others are served."""
    server = served(folder, start=impatient(tmp_path))
    assert raw(server.port, b"GET /health HTTP/1.1\r\nHost: lo") == b""
    assert raw(server.port, b"") == b""
    got = raw(server.port, b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    assert got.startswith(b"HTTP/1.1 408 ")
    assert httpx.get(f"{server.url}/health").status_code == 200
    server.process.send_signal(signal.SIGINT)
    assert server.end() == 130


LINE = b"X-Long: " + b"x" * 4000 + b"\r\n"
POST = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + 5 * LINE + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + 500 * LINE,
        b"GET /" + b"a" * 100_000,
        b"\r\n" * 50_000,
        POST + b"0\r\n" + 100 * LINE,
        POST + b"1;" + b"x" * 400_000,
    ],
    ids=["head", "endless head", "path", "nothing", "trailers", "chunk extension"],
)
def test_heads_that_are_too_long(served, folder, sent):
    server = served(folder)
    try:
        got = raw(server.port, sent)
    except ConnectionError:  # closed before all was sent
        got = b""
    assert got.startswith(b"HTTP/1.1 400 ") or not got
    assert httpx.get(f"{server.url}/health", headers={"X-Long": "x" * 8000}).status_code == 200


def test_a_body_in_many_small_chunks(served, folder):
    server = served(folder)
    body = b'{"query": "x", "k": 3}' + b" " * 20_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    got = raw(
        server.port,
        POST.replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
        + chunks
        + b"0\r\n\r\n",
    )
    assert got.startswith(b"HTTP/1.1 200 ")


def test_requests_one_behind_the_other(served, folder):
    server = served(folder)
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    got = raw(server.port, 3 * one + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert got.count(b"HTTP/1.1 200 ") == 4


def test_a_port_that_is_taken_shows_at_once(plait, folder):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        said = plait("serve", folder, "--port", port, code=1)
    assert said.err.startswith(f"error: cannot listen on 127.0.0.1, port {port}: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_answers_are_sent_without_delay(host):
    """asyncio sets TCP_NODELAY where a socket names its protocol; accepted ones inherit it."""
    with closing(listening(Settings(host=host, port=0))) as bound:
        assert bound.proto == socket.IPPROTO_TCP
        assert address(bound).startswith("http://")
        with closing(socket.create_connection(bound.getsockname()[:2])), closing(bound.accept()[0]) as accepted:
            assert accepted.proto == socket.IPPROTO_TCP

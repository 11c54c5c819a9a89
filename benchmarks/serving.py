"""`plait serve` under load: what HTTP adds to a search, searches a second, and what overload does.

Clients are plain sockets in this process, so that they cost little beside the server.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)
# ruff: noqa: E402 (threads are pinned before numpy is loaded)

from __future__ import annotations

import common

common.pin_threads(1)

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from plait.retriever import Retriever

OVERHEAD_MS, CONNECTIONS = 1.5, (1, 8, 64)
WRITERS, QUEUE, TURN = 4, 16, 20
TOKEN = secrets.token_urlsafe()


def main() -> None:
    """Measures and writes the tables."""
    args = _arguments()
    common.existing(args.index / "plait.db", "an index that `plait index` made")
    where = common.machine()
    with tempfile.TemporaryDirectory(prefix="plait-serving-") as work:
        index = Path(work) / "copy.index"  # the overload writes to it
        shutil.copytree(args.index, index)
        with closing(Retriever.open(index)) as retriever:
            queries = [" ".join(d.full_text.split()[:6]) for d in retriever.sample(args.queries)]
            pairs = []
            for _ in range(args.starts):
                with served(index, queue=max(CONNECTIONS)) as port:
                    pairs += _overhead(retriever, port, queries, args.repeats)
            with served(index, queue=max(CONNECTIONS)) as port:
                loads = {n: asyncio.run(_load(port, queries, n, args.seconds)) for n in CONNECTIONS}
            facts = retriever.info()
        with served(index, queue=QUEUE) as port:
            over = asyncio.run(_load(port, queries, max(CONNECTIONS), args.overload, writers=WRITERS))
        with closing(Retriever.open(index)) as retriever:
            over["lost"] = [id for id in over["written"] if id not in retriever]
    print(_report(args, where, facts, pairs, loads, over))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=2)
    parser.add_argument("index", type=Path, metavar="INDEX", help="an index; a copy of it is written to")
    parser.add_argument("--queries", type=int, default=200, help="how many, from the first words of documents")
    parser.add_argument("--starts", type=int, default=5, help="servers, one after the other, for the overhead")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load at each number of connections")
    parser.add_argument("--overload", type=float, default=60.0, help="seconds of overload")
    return parser.parse_args()


@contextmanager
def served(index: Path, *, queue: int) -> Iterator[int]:
    """Runs a server and yields its port."""
    command = [sys.executable, "-c", "from plait.apps.cli import main; main()", "serve", str(index), "--port", "0"]
    env = {**os.environ, "PLAIT_TOKEN": TOKEN}
    process = subprocess.Popen([*command, "--queue", str(queue)], stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr is not None
    try:
        told = process.stderr.readline()
        if "is served at" not in told:
            common.fail(told + process.stderr.read())
        yield int(told.rstrip("/\n").rpartition(":")[2])
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=60):
            common.fail(f"the server ended with status {process.returncode}: {process.stderr.read()}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _request(method: str, path: str, body: Mapping[str, Any]) -> bytes:
    sent = json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent


def _search(query: str) -> bytes:
    return _request("POST", "/api/search", {"query": query, "k": 10})


def _overhead(retriever: Retriever, port: int, queries: Sequence[str], repeats: int) -> list[tuple[float, float]]:
    """Returns the milliseconds of each query in this process and over HTTP, in short turns, after a warm-up.

    A turn is long enough that caches hold the code that is timed, and short enough that both see the same machine.
    """
    found: list[tuple[float, float]] = []
    with closing(socket.create_connection(("127.0.0.1", port))) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for round_ in range(repeats + 1):
            for begin in range(0, len(queries), TURN):
                turn = queries[begin : begin + TURN]
                sent = [_search(query) for query in turn]
                inside = [common.timed(partial(retriever.search, query, k=10, explain=True)) for query in turn]
                over = [common.timed(partial(_asked, one, each)) for each in sent]
                found += zip((1000 * s for s in inside), (1000 * s for s in over), strict=True) if round_ else []
    return found


def _asked(one: socket.socket, sent: bytes) -> None:
    one.sendall(sent)
    got = b""
    while b"\r\n\r\n" not in got:
        got += one.recv(1 << 18)
    head, _, body = got.partition(b"\r\n\r\n")
    left = _length(head) - len(body)
    while left > 0:
        left -= len(one.recv(left))
    if not head.startswith(b"HTTP/1.1 200"):
        common.fail(f"the server answered {head[:40]!r}")


def _length(head: bytes) -> int:
    return int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])


async def _load(
    port: int, queries: Sequence[str], connections: int, seconds: float, *, writers: int = 0
) -> dict[str, Any]:
    """Returns milliseconds and statuses of searches, and of writes beside them, for some time."""
    end = time.perf_counter() + seconds
    seen: dict[str, Any] = {"ok": [], "refused": [], "statuses": Counter(), "written": [], "writes": Counter()}
    readers = [_reader(port, [*queries[n:], *queries[:n]], end, seen) for n in range(connections)]
    await asyncio.gather(*readers, *(_writer(port, n, end, seen) for n in range(writers)))
    return {**seen, "seconds": seconds, "connections": connections}


async def _reader(port: int, queries: Sequence[str], end: float, seen: dict[str, Any]) -> None:
    sent, turn = [_search(query) for query in queries], 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    while (began := time.perf_counter()) < end:
        status, pause = await _answer(reader, writer, sent[turn % len(sent)])
        took = 1000 * (time.perf_counter() - began)
        seen["statuses"][status] += 1
        seen["ok" if status == 200 else "refused"].append(took)
        turn += 1
        if status == 429:
            await asyncio.sleep(min(pause, 0.1))  # ten times as impatient as it is told to be
    writer.close()


async def _writer(port: int, number: int, end: float, seen: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    turn = 0
    while time.perf_counter() < end:
        id = f"written-{number}-{turn}"
        body = {"documents": [{"id": id, "text": f"written by {number} in turn {turn}"}]}
        status, _ = await _answer(reader, writer, _request("POST", "/api/documents", body))
        seen["writes"][status] += 1
        seen["written"] += [id] if status == 200 else []
        turn += 1
    writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> tuple[int, float]:
    """Returns the status of an answer and the seconds of its Retry-After; 0 for a connection that broke."""
    try:
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_length(head))
    except (OSError, asyncio.IncompleteReadError):
        return 0, 0.0
    after = head.lower().partition(b"retry-after:")[2].split(b"\r\n")[0]
    return int(head.split(b" ", 2)[1]), float(after or 0)


def _report(
    args: argparse.Namespace, where: Mapping[str, Any], facts: Mapping[str, Any],
    pairs: Sequence[tuple[float, float]], loads: Mapping[int, dict[str, Any]], over: Mapping[str, Any],
) -> str:  # fmt: skip
    added = common.percentile([http - inside for inside, http in pairs], 0.5)
    inside, http = (common.percentile([pair[i] for pair in pairs], 0.5) for i in (0, 1))
    threads = where["cores"]
    bound = 1000 * (QUEUE + threads) / max(len(over["ok"]) / over["seconds"], 1e-9)
    failed = sum(n for status, n in (over["statuses"] + over["writes"]).items() if status not in (200, 429))
    checks = [
        common.Check("median that HTTP adds to a search, one connection", added, OVERHEAD_MS, "ms"),
        common.Check("overload: answers that are neither 200 nor 429", failed, 0, digits=0),
        common.Check("overload: writes that were answered 200 and are not there", len(over["lost"]), 0, digits=0),
    ]
    rows = [_row(str(n), load) for n, load in loads.items()]
    rows.append(_row(f"{over['connections']} and {WRITERS} that write", over))
    header = ("connections", "searches a second", "p50 ms", "p99 ms", "slowest ms", "refused (429)")
    notes = [
        f"In one process with the same encoders a search took {inside:.2f} ms (median), over HTTP {http:.2f} ms; each "
        f"query was asked both ways, {TURN} queries in turn, {args.repeats} times, of {args.starts} "
        "servers one after the other. k = 10, with explanations.",
        f"The table's first rows are of a queue of {max(CONNECTIONS)}, which holds all clients; the last of a queue of "
        f"{QUEUE} during {args.overload:g} s, its clients coming back 0.1 s after a 429. Clients share the cores.",
        f"Overload: {sum(over['writes'].values()):,} writes, {len(over['written']):,} answered 200, "
        f"{len(over['lost'])} of these lost. A full queue of {QUEUE} before {threads} threads takes {bound:.0f} ms "
        "at this rate.",
        f"Index: {facts['documents']:,} documents, strands {', '.join(facts['strands'])}.",
    ]
    raw = {
        "pairs_ms": pairs, "loads": {str(n): _raw(load) for n, load in loads.items()}, "overload": _raw(over),
    }  # fmt: skip
    return common.write(
        "serving", args.results, where=where, about="What `plait serve` adds to a search, and what overload does.",
        raw=raw, checks=checks, tables=[common.Table("Load", header, rows)], notes=notes,
    )  # fmt: skip


def _row(name: str, load: Mapping[str, Any]) -> tuple[str, ...]:
    ok = load["ok"] or [float("nan")]
    p50, p99 = (f"{common.percentile(ok, share):.1f}" for share in (0.5, 0.99))
    return name, f"{len(load['ok']) / load['seconds']:.0f}", p50, p99, f"{max(ok):.0f}", f"{len(load['refused']):,}"


def _raw(load: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a load without its ids, and its latencies as percentiles: there may be tens of thousands."""
    shares = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
    ok = {str(share): common.percentile(load["ok"], share) for share in shares} if load["ok"] else {}
    counts = {name: {str(status): n for status, n in load[name].items()} for name in ("statuses", "writes")}
    return {
        "seconds": load["seconds"], "connections": load["connections"], "ok_ms": ok, **counts,
        "written": len(load["written"]), "lost": len(load.get("lost", ())),
    }  # fmt: skip


if __name__ == "__main__":
    main()

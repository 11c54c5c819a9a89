"""A server of the page's own contract over a real Retriever, with what a test wants to go wrong."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from plait.index import FilterError
from plait.retriever import QueryError

from ...tree import ROOT

STATIC = ROOT / "apps" / "server" / "static"
# Stricter than the server need be: a page that kept HTML in strings would not run at all.
POLICY = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
TAKEN = ("k", "strands", "weights", "fusion", "pipeline", "filter", "explain")


class Standin(ThreadingHTTPServer):
    """Serves the page and answers searches; `fail` is a status to answer the next searches with, or None."""

    daemon_threads = True

    def __init__(self, retriever, token=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.retriever, self.token, self.fail, self.asked = retriever, token, None, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def info(self):
        told = self.retriever.info()
        kept = {name: told[name] for name in ("documents", "weights", "fusion", "pipeline", "fields")}
        return {**kept, "name": self.retriever.folder.name, "strands": told["encoders"], "writable": False, "commit": 1}

    def search(self, wish):
        since = time.perf_counter()
        query, options = wish["query"], {name: wish[name] for name in TAKEN if name in wish}
        answer = self.retriever.search(query, **options)
        told = answer.to_json()
        told["steps"] = told.pop("notes")
        return {**told, "took": 1000 * (time.perf_counter() - since), "commit": 1}


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Standin

    def __init__(self, *args):
        super().__init__(*args, directory=str(STATIC))

    def end_headers(self):
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def do_GET(self):
        if self.path.startswith("/api/info"):
            self.answer(self.server.info)
        else:
            super().do_GET()

    def do_POST(self):
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(wish)
        self.answer(lambda: self.server.search(wish))

    def answer(self, work):
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self.tell(401, error("unauthorized", "a bearer token is needed"))
        if self.server.fail and self.command == "POST":
            return self.tell(self.server.fail, error("failed", "as the test wished"))
        try:
            return self.tell(200, work())
        except (QueryError, FilterError) as problem:
            return self.tell(400, error("query", str(problem)))

    def tell(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # the page gave this search up for a newer one
            self.wfile.write(body)

    def log_message(self, *args):
        pass


def error(code, message):
    return {"error": {"code": code, "message": message}}


@contextmanager
def serving(retriever, token=None):
    """Serves until the block ends."""
    with Standin(retriever, token) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

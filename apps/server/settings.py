"""How a server is set up, and what must hold before it may listen."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from ...retriever import QueryError

TOKEN_VARIABLE = "PLAIT_TOKEN"  # the name of it
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Settings:
    """How a server is set up.

    Attributes:
        host: the address to listen on.
        port: the port; 0 lets the system choose one.
        token: what a client shows as `Authorization: Bearer TOKEN`; None where nobody may write.
        hosts: names in the Host header that are answered, beside those of this machine.
        threads: how many searches run at the same time.
        queue: how many requests may wait for one of these threads; more are told to come again.
        writes: how many requests may wait to be written.
        seconds: the longest that a request waits for its answer.
        patience: the longest that a client may take to send a request, in seconds.
        body: the largest body of a request, in bytes.
        header: the largest head of a request, in bytes.
        connections: the most connections at the same time.
        reload: seconds between two looks for commits of other processes.
        grace: the longest that a shutdown waits for clients, and then for searches whose clients were told that it took
            too long, in seconds; writes are waited for however long they take.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    hosts: tuple[str, ...] = ()
    threads: int = 2
    queue: int = 64
    writes: int = 16
    seconds: float = 10.0
    patience: float = 10.0
    body: int = 8 << 20
    header: int = 16 << 10
    connections: int = 1024
    reload: float = 1.0
    grace: float = 30.0

    @property
    def local(self) -> bool:
        """Returns whether only this machine can reach the server."""
        return is_local(self.host)

    @property
    def writable(self) -> bool:
        """Returns whether clients with the token may write."""
        return self.token is not None


@lru_cache(maxsize=256)
def is_local(host: str) -> bool:
    """Returns whether a host name is this machine's own loopback."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked(settings: Settings) -> Settings:
    """Returns the settings themselves.

    Raises:
        QueryError: they would let anybody on the network in, or the token cannot be one.
    """
    token = settings.token
    if token is None and not settings.local:
        raise QueryError(
            f"--host {settings.host} can be reached from other machines: set a token in {TOKEN_VARIABLE} (or --token), "
            "which clients send as Authorization: Bearer TOKEN"
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not _is_one_word(token)):
        raise QueryError(
            f"a token has at least {SHORTEST_TOKEN} characters of ASCII and no white space; make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return settings


def _is_one_word(token: str) -> bool:
    return token.isprintable() and " " not in token

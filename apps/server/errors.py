"""What a client is told when something goes wrong: a status, a short code, and a message without paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...retriever import EncoderError, FilterError, IngestError, LevelError, LockedError, QueryError, StoreError

CODES: dict[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_type",
    422: "unprocessable",
    429: "busy",
    500: "internal",
    503: "unavailable",
    504: "timeout",
}


@dataclass
class ApiError(Exception):
    """An answer that is no success.

    Attributes:
        status: the HTTP status.
        message: what was given, what was expected, what to do.
        code: a word for programs; None takes that of the status.
        headers: more headers of the answer.
        close: whether the connection ends with it, because the rest of the request is not wanted.
    """

    status: int
    message: str
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False

    def to_json(self) -> dict[str, dict[str, str]]:
        """Returns the body of the answer."""
        return {"error": {"code": self.code or CODES[self.status], "message": self.message}}


def told(error: Exception) -> ApiError | None:
    """Returns what a client is told of an error of plait's own; None where it is a bug."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LockedError):
        return ApiError(503, "the index is being written by another process; try again", "locked", {"Retry-After": "1"})
    if isinstance(error, LevelError):
        return ApiError(503, str(error), "behind", {"Retry-After": "1"})
    for kind, code in _ASKED.items():
        if isinstance(error, kind):
            return ApiError(422, str(error), code)
    if isinstance(error, _BROKEN):  # their messages name files
        return ApiError(503, "the index or one of its models cannot be used now; the server's log says why")
    return None


_ASKED: dict[type[Exception], str] = {QueryError: "query", FilterError: "filter", IngestError: "document"}
_BROKEN = (StoreError, EncoderError, OSError)

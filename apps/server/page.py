"""The search page: its files are read once, at the start, so that no request ever names a file on the disk."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
FIRST = "index.html"


class File(NamedTuple):
    """A file of the page: its bytes and its media type."""

    body: bytes
    kind: str


def files() -> dict[str, File]:
    """Returns the files of the page by the path under which they are asked for; the first of them also at "/"."""
    folder = resources.files("plait.apps.server").joinpath("static")
    if not folder.is_dir():
        return {}
    found = {}
    for each in folder.iterdir():
        kind = KINDS.get(each.name[each.name.rfind(".") :])
        if kind is not None and each.is_file():
            found[f"/{each.name}"] = File(each.read_bytes(), kind)
    return {"/": found[f"/{FIRST}"], **found} if f"/{FIRST}" in found else found

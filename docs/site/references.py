"""Links that Sphinx does not find by itself: to public names by another name, and to folders and files of the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

# The rooms in the order in which a name that several of them have is looked for.
_ROOMS = ("plait.retriever", "plait.encoders", "plait.index", "plait.eval", "plait.train", "plait.apps")
# folder -> the page that a link to it leads to
FOLDERS = {room: f"docs/site/reference/{room}" for room in ("retriever", "encoders", "index", "eval", "train")}
FOLDERS |= {"apps": "docs/site/reference/commands", "benchmarks/results": "benchmarks/README"}
# A class or a method of one, alone or with its module: Hit, Retriever.search, plait.retriever.hits.Hit. No constant:
# of those several modules have one of the same name.
_CLASS = re.compile(r"(?:(plait\.\w+)\.(?:\w+\.)*)?([A-Z]\w*[a-z]\w*(?:\.[a-z]\w*)?)")


def _resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Returns a link for a name in a docstring that is not the name of its entry."""
    return _to_public(app, env, node, content) if node.get("refdomain") == "py" else None


def _to_public(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Returns a link to the public entry of something that is named by its module, or by its own name alone."""
    named = _CLASS.fullmatch(node["reftarget"])
    if named is None:
        return None
    domain = env.get_domain("py")
    own = ".".join((named[1] or node.get("py:module") or "").split(".")[:2])
    for name in _candidates(domain.objects, named[2], own):
        entry = domain.objects[name]
        return nodes.reference(
            "", "", content.deepcopy(), internal=True,
            refuri=f"{app.builder.get_relative_uri(node.get('refdoc', env.docname), entry.docname)}#{entry.node_id}",
        )  # fmt: skip
    return None


def _candidates(objects: Any, name: str, own: str) -> Iterator[str]:
    """Yields the entries that a name may mean: those of its own room, then those of the others; short paths first."""
    found = sorted((each for each in objects if each.endswith(f".{name}")), key=len)
    for room in (own, *_ROOMS):
        yield from (each for each in found if room and each.startswith(f"{room}."))


def _lead_on(app: Any, doctree: nodes.document) -> None:
    """Makes a link to a folder one to the page that tells of it; where there is none, plain text."""
    here = app.env.docname
    for node in list(doctree.findall(addnodes.pending_xref)):
        folder = _folder(app, here, node)
        if folder is None:
            continue
        if (page := FOLDERS.get(folder, here)) == here:
            node.replace_self(node.children)
        else:
            node.attributes |= {"refdomain": "std", "reftype": "doc", "reftarget": f"/{page}", "refexplicit": True}


def _folder(app: Any, here: str, node: Any) -> str | None:
    """Returns the folder of the repository, as "benchmarks/results", that a link in Markdown names."""
    if node.get("reftype") != "myst" or node.get("refdomain"):
        return None
    path = (Path(app.srcdir) / here).parent / node["reftarget"]
    return path.resolve().relative_to(Path(app.srcdir).resolve()).as_posix() if path.is_dir() else None


def setup(app: Any) -> dict[str, bool]:
    """Connects the links to a build."""
    app.connect("missing-reference", _resolve)
    app.connect("doctree-read", _lead_on)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What the adapters' tests share: an index of passages with metadata, and what its own search says."""

from __future__ import annotations

import sys

from plait.retriever import Document, Retriever
from plait.retriever.passages import split_document

from tests.conftest import LengthSparse, LetterDense

QUERIES = ("winter ice on the canal", "bees", "who sails the sea", "zzz")
DOCUMENTS = (
    Document(
        id="canal",
        title="The canal",
        text="Monks dug the canal in 1210. Barges carried peat along it. In hard winters there is a race on the ice.",
        metadata={"year": 1210, "score": "as it was added"},
    ),
    Document(id="bees", text="Bees make honey. The lock keeper kept bees.", metadata={"year": 1650}),
    Document(id="ships", title="Ships", text="Ships cross the winter sea, loaded with honey and wine."),
)


def make_index(path):
    with Retriever.create(path, dense=LetterDense(), learned=LengthSparse(), fields={"year": "integer"}) as r:
        for document in DOCUMENTS:
            r.add(split_document(document, words=10, overlap=3))
    return Retriever.open(path, dense=LetterDense(), learned=LengthSparse())


def views(hits):
    """Returns what every adapter must keep of hits: id, text, score, offsets, in order."""
    return [(hit.id, hit.text, hit.score, hit.parent, hit.start, hit.start + len(hit.text)) for hit in hits]


def without(monkeypatch, package, module):
    """Lets a framework be missing, and its adapter be imported anew."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, module, raising=False)

"""The demo corpus: what the running Python says of itself, complete, unique, in one order, and without side effects."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter

import pytest
from plait.apps import pydocs
from plait.retriever.documents import check_document


@pytest.fixture(scope="module")
def corpus():
    return list(pydocs.python_documentation())


@pytest.fixture(scope="module")
def by_id(corpus):
    return {document.id: document for document in corpus}


def test_there_are_thousands_of_unique_valid_passages(corpus, by_id):
    assert len(corpus) >= 6000
    assert len(by_id) == len(corpus)
    assert all(check_document(document).text.strip() for document in corpus)
    assert max(len(document.text.split()) for document in corpus) <= 200
    kinds = Counter(document.metadata["kind"] for document in corpus)
    assert set(kinds) == {"topic", "module", "class", "function", "method"}
    assert min(kinds.values()) > 300
    assert {document.metadata["module"] for document in corpus if document.metadata["kind"] == "topic"} == {""}


@pytest.mark.parametrize(
    ("name", "title", "begins", "metadata"),
    [
        ("topic:assert", 'The "assert" statement', 'The "assert" statement\n***', ("topic", "")),
        ("heapq.heappush", "heapq.heappush(heap, item)", "Push item", ("function", "heapq")),
        ("builtins.str.split", "str.split(sep=None, maxsplit=-1)", "Return a list", ("method", "builtins")),
        ("math.sqrt", "math.sqrt(x, /)", "Return the square root of x.", ("function", "math")),
        ("os.getcwd", "os.getcwd()", "Return a unicode string", ("function", "os")),
        ("asyncio.run", "asyncio.run(main, *, debug=None", "Execute the coroutine", ("function", "asyncio")),
        ("os.path.exists", "os.path.exists(path)", "Test whether a path exists.", ("function", "os.path")),
        ("random.Random.randint", "random.Random.randint(a, b)", "Return random int", ("method", "random")),
        ("pathlib.Path.read_text", "pathlib.Path.read_text(encoding=None", "Open the file", ("method", "pathlib")),
        (
            "concurrent.futures.Future.done",
            "concurrent.futures.Future.done()",
            "Return",
            ("method", "concurrent.futures"),
        ),
        ("threading", "threading", "Thread module emulating", ("module", "threading")),
    ],
)
def test_well_known_entries(by_id, name, title, begins, metadata):
    document = by_id.get(name) or by_id[f"{name}#0"]
    assert document.title.startswith(title)
    assert document.text.startswith(begins)
    assert document.metadata == dict(zip(("kind", "module"), metadata, strict=True))


def test_long_entries_are_passages_of_a_parent(corpus, by_id):
    passages = [document for document in corpus if document.parent == "json.dumps"]
    assert [document.id for document in passages] == [f"json.dumps#{number}" for number in range(len(passages))]
    assert len(passages) >= 2
    assert passages[0].title.startswith("json.dumps(obj, *, skipkeys=False, ensure_ascii=True")
    assert [document.start for document in passages] == sorted({document.start for document in passages})
    assert all((document.parent is None) == ("#" not in document.id) for document in corpus)
    assert not {document.parent for document in corpus} & set(by_id)


def test_nothing_private_and_no_test_is_included(corpus):
    modules = {document.metadata["module"] for document in corpus}
    parts = {part for module in modules for part in module.split(".")}
    assert not {part for part in parts if part.startswith("_")}
    assert not parts & {"test", "tests", "idlelib", "antigravity", "this", "turtledemo", "posixpath"}


def test_reading_it_says_nothing_and_imports_nothing_with_side_effects():
    code = (
        "import sys, hashlib; from plait.apps.pydocs import python_documentation\n"
        "read = repr([(d.id, d.title, d.text) for d in python_documentation()])\n"
        "print(hashlib.sha256(read.encode()).hexdigest())\n"
        "print(sorted({'antigravity', 'this', 'turtle', 'idlelib', 'tkinter', 'readline'} & set(sys.modules)))"
    )
    results = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert results[0].stdout.endswith("\n[]\n")
    assert results[0].stdout == results[1].stdout
    assert results[0].stderr == ""


SOURCE = '''
"""Module."""
from .inner import helper as h, name
from .star import *
__all__ = ["f"]
try:
    def f(a, *, b=1):
        """F."""
except ImportError:
    def f():
        """Second definition."""
class C:
    """C."""
    def __init__(self, x, *rest): pass
    def m(self, /, y): "M."
    @staticmethod
    def s(y): "S."
    @property
    def p(self): "P."
    @p.setter
    def p(self, value): "not this"
    def _hidden(self): "no"
    class Inner: "I."
def undocumented(): pass
'''


def test_source_is_read_by_its_definitions():
    tree = ast.parse(SOURCE)
    assert [tuple(entry) for entry in pydocs._parsed(tree)][:7] == [
        ("", "module", "", "Module."),
        ("f", "function", "(a, *, b=1)", "F."),
        ("f", "function", "()", "Second definition."),
        ("C", "class", "(x, *rest)", "C."),
        ("C.m", "method", "(y)", "M."),
        ("C.s", "method", "(y)", "S."),
        ("C.p", "method", "", "P."),
    ]
    assert pydocs._passed_on(tree, "pack") == {"pack.inner": {"helper", "name"}, "pack.star": {"*"}}
    assert pydocs._exported(tree, "g") == {"f"}


def test_long_signatures_are_cut_after_a_parameter():
    signature = "(" + ", ".join(f"argument{i}=None" for i in range(20)) + ")"
    short = pydocs._shortened(signature)
    assert short.endswith("=None, ...)")
    assert len(short) <= pydocs.LONGEST_SIGNATURE
    assert pydocs._shortened("(a,\n    b)") == "(a, b)"

"""The text that every machine with Python has: its own documentation, as documents for a first index.

Topics of the language reference, and the docstrings of the standard library's public modules, classes, functions and
methods. Modules written in Python are parsed, never imported: importing some opens a browser or a window.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..retriever.documents import Document
from ..retriever.markup import restructured
from ..retriever.passages import OVERLAP, WORDS, passage_spans, split_document

# Not documentation for readers: tests, examples, vendored or generated code, easter eggs, and what `os` passes on.
SKIPPED = frozenset(
    ("antigravity", "encodings", "ensurepip", "idlelib", "lib2to3", "nt", "posix", "pydoc_data", "test", "tests")
) | frozenset(("this", "turtledemo", "xxlimited", "xxlimited_35", "xxsubtype"))
# The first writes to the terminal, the second needs a display library, the third imports what it speeds up.
NOT_IMPORTED = frozenset(("readline", "_tkinter", "_asyncio"))
PATHS = {"genericpath": "os.path", os.path.__name__: "os.path"}  # how users call them; the other system's is left out
LONGEST_SIGNATURE = 160

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
C_LOADERS = (importlib.machinery.BuiltinImporter, importlib.machinery.ExtensionFileLoader)


class Entry(NamedTuple):
    """One docstring: where it belongs, how it is called, what it says."""

    name: str  # inside the module, "" for the module itself
    kind: str
    signature: str
    text: str


def python_documentation(*, words: int = WORDS, overlap: int = OVERLAP) -> Iterator[Document]:
    """Yields the documentation of the running Python, topics first, then module by module, always in the same order.

    Ids are `topic:assert`, `json`, `json.dumps`; long texts come as passages `json#0`, `json#1` of a parent `json`.
    Metadata say the kind (topic, module, class, function, method) and the module.
    """
    seen: set[str] = set()
    for document in chain(_topics(), _library()):
        if document.id in seen:
            continue
        seen.add(document.id)
        if len(list(passage_spans(document.text, words, overlap))) > 1:
            yield from split_document(document, words=words, overlap=overlap)
        else:
            yield document


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        title = restructured(text).title or name
        yield Document(f"topic:{name}", text.strip(), title, {"kind": "topic", "module": ""})


def _library() -> Iterator[Document]:
    for module, (name, kind, signature, text) in _entries():
        full = f"{module}.{name}" if name else module
        title = full.removeprefix("builtins.") + _shortened(signature)
        yield Document(full, text, title, {"kind": kind, "module": module})


def _entries() -> Iterator[tuple[str, Entry]]:
    """Yields (module, docstring) of the public modules, each under the module that users import it from."""
    names = {name for name in sys.stdlib_module_names if _public(name)} - SKIPPED - {
        "ntpath",
        "posixpath",
    } | PATHS.keys()
    for name in sorted(names, key=lambda name: (PATHS.get(name, name), name != os.path.__name__)):
        passed_on: dict[str, set[str]] = {}
        files = _files(name)
        for module, file in files:
            tree = _tree(file)
            if file.name == "__init__.py":
                passed_on.update(_passed_on(tree, module))
            for entry in _parsed(tree):
                home = _home(entry.name, module, tree, passed_on.get(module, set()))
                if all(map(_public, home.split("."))):
                    yield home, entry
        if not files and (found := _c_module(name)):
            yield from ((name, entry) for entry in _inspected(found))


def _files(name: str) -> list[tuple[str, Path]]:
    """Returns (module name, file) of a module or package written in Python, its submodules after it.

    Private ones are among them: a package may be written in them, as pathlib is from Python 3.13 on.
    """
    folder = Path(os.__file__).parent
    files = {}
    for file in chain(folder.glob(f"{name}.py"), (folder / name).rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not SKIPPED.intersection(parts) and parts[-1] != "__main__":
            files[".".join(parts)] = file
    return sorted(files.items())


def _tree(file: Path) -> ast.Module:
    """Returns a parsed source file, an empty one where it cannot be parsed; nothing is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old sources
        try:
            return ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return ast.Module([], [])


def _passed_on(tree: ast.Module, package: str) -> dict[str, set[str]]:
    """Returns the names that a package imports from its own modules, by module; "*" is all that they export."""
    names: dict[str, set[str]] = {}
    for node in _statements(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and (node.level == 1 or node.module.startswith(f"{package}."))
        ):
            module = f"{package}.{node.module}" if node.level else node.module
            names.setdefault(module, set()).update(alias.name for alias in node.names)
    return names


def _home(name: str, module: str, tree: ast.Module, passed_on: set[str]) -> str:
    """Returns the module that users import a name from: asyncio.run, not asyncio.runners.run."""
    head = name.split(".")[0]
    if head and (head in passed_on or ("*" in passed_on and head in _exported(tree, head))):
        return module.rpartition(".")[0]
    return PATHS.get(module, module)


def _exported(tree: ast.Module, default: str) -> set[str]:
    """Returns the names in a module's `__all__`; without one every name is exported, so the default is."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            try:
                return set(ast.literal_eval(node.value))
            except ValueError:
                break
    return {default}


def _parsed(tree: ast.Module) -> Iterator[Entry]:
    """Yields the docstrings of a module written in Python."""
    if text := ast.get_docstring(tree):
        yield Entry("", "module", "", text)
    yield from _definitions(tree, "")
    yield from _borrowed(tree)


def _definitions(scope: ast.AST, prefix: str) -> Iterator[Entry]:
    """Yields what is defined in a module or class, also under `if` and `try`, nested classes included."""
    for node in _statements(scope):
        if isinstance(node, Function) and (_public(node.name) or (prefix and node.name == "__init__")):
            if text := ast.get_docstring(node):
                yield Entry(
                    prefix + node.name, "method" if prefix else "function", _call(node, bound=bool(prefix)), text
                )
        elif isinstance(node, ast.ClassDef) and _public(node.name):
            if text := ast.get_docstring(node):
                yield Entry(prefix + node.name, "class", _constructor(node), text)
            yield from _definitions(node, f"{prefix}{node.name}.")


def _statements(scope: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            yield from _statements(node)
        elif isinstance(node, ast.stmt):
            yield node


def _borrowed(tree: ast.Module) -> Iterator[Entry]:
    """Yields what a module takes from its half in C: `from _collections import deque`, `from posix import *`."""
    for node in _statements(tree):
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            continue
        if (node.module.startswith("_") or node.module in ("nt", "posix")) and (found := _c_module(node.module)):
            wanted = {alias.asname or alias.name for alias in node.names}
            for entry in _inspected(found):
                if entry.name and ("*" in wanted or entry.name.split(".")[0] in wanted):
                    yield entry


def _c_module(name: str) -> ModuleType | None:
    """Returns a module written in C, imported; None for any other and for one that this machine cannot load."""
    if name in NOT_IMPORTED or name not in sys.stdlib_module_names:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated modules say so when imported
        try:
            spec = importlib.util.find_spec(name)
            loader = spec.loader if spec else None
            of_c = loader in C_LOADERS or isinstance(loader, importlib.machinery.ExtensionFileLoader)
            return importlib.import_module(name) if of_c else None
        except (ImportError, ValueError):
            return None


def _inspected(module: ModuleType) -> Iterator[Entry]:
    """Yields the docstrings of an imported module and of its public functions, classes and their methods."""
    if text := inspect.getdoc(module):
        yield Entry("", "module", "", text)
    for name, value in _members(module):
        if inspect.isclass(value):
            yield from _entry(name, "class", value)
            for method, inner in _members(value):
                yield from _entry(f"{name}.{method}", "method", inner)
        elif inspect.isroutine(value):
            yield from _entry(name, "function", value)


def _members(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yields the public members that are known by their own name; aliases are left out."""
    for name, value in sorted(vars(owner).items()):
        inner = getattr(value, "__func__", value)
        if _public(name) and getattr(inner, "__name__", None) == name:
            yield name, inner


def _entry(name: str, kind: str, value: Any) -> Iterator[Entry]:
    text = value.__doc__
    if isinstance(text, str) and text.strip():
        yield Entry(name, kind, _written_signature(name, value), inspect.cleandoc(text))


def _written_signature(name: str, value: Any) -> str:
    """Returns the signature that C code was written with; `inspect.signature` would evaluate its defaults."""
    shown = getattr(value, "__text_signature__", None)
    if isinstance(shown, str):
        return re.sub(r"^\(\$?(self|type|cls|module)\b(, /)?(, )?", "(", shown)
    called = re.match(rf"(?:\w+\.)*{name.split('.')[-1]}(\([^\n]*\))", value.__doc__)
    return called[1] if called else ""


def _call(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> str:
    """Returns a signature as it is called: without self, and for a property none."""
    decorators = [ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list]
    if "property" in decorators or "cached_property" in decorators:
        return ""
    shown = ast.unparse(node.args)
    return f"({re.sub(r'^[^,*]*(, /)?(, )?', '', shown) if bound and 'staticmethod' not in decorators else shown})"


def _constructor(node: ast.ClassDef) -> str:
    made = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    return _call(made, bound=True) if made else ""


def _shortened(signature: str) -> str:
    """Returns a signature on one line of readable length, cut after a parameter."""
    signature = " ".join(signature.split())
    if len(signature) <= LONGEST_SIGNATURE:
        return signature
    return signature[: signature.rfind(", ", 0, LONGEST_SIGNATURE - 5)] + ", ...)"


def _public(name: str) -> bool:
    return not name.startswith("_")

"""Java inside this process, for Lucene alone: found, checked, started once, and kept quiet."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .contract import StoreError

OLDEST = 21
HOMES = ("JAVA_HOME", "JDK_HOME", "JRE_HOME")
USUAL = ("/usr/lib/jvm/*", "/Library/Java/JavaVirtualMachines/*/Contents/Home", "~/.sdkman/candidates/java/*")
JAR = "anserini-*-fatjar.jar"
INSTALL = f"install Java {OLDEST} or newer (a JDK or JRE, as Temurin) and set JAVA_HOME to its folder"
# Ctrl-C stays Python's; Lucene 9 maps files by a method that newer Javas warn of.
_OPTIONS = ("-Xrs",)
_UNSAFE, _UNSAFE_SINCE = "--sun-misc-unsafe-memory-access=allow", 23

_lock = threading.Lock()
_running: list[Java] = []


class Java(NamedTuple):
    """The Java of this process.

    Attributes:
        jnius: the module pyjnius.
        kept: what Java must not forget while it runs.
    """

    jnius: Any
    kept: tuple[Any, ...]

    def __call__(self, name: str) -> Any:
        """Returns a class by its full name."""
        return self.jnius.autoclass(name)

    def cast(self, name: str, value: Any) -> Any:
        """Returns an object as one of another class: pyjnius chooses methods by declared classes alone."""
        return self.jnius.cast(name, value)

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Turns what Java throws inside the block into a StoreError that begins with `what`."""
        try:
            yield
        except self.jnius.JavaException as error:
            told = getattr(error, "innermessage", None) or getattr(error, "classname", None) or str(error)
            raise StoreError(f"{what}: Lucene says: {told}") from error


def java() -> Java:
    """Returns Java; the first call starts it, which takes half a second.

    Raises:
        StoreError: pyserini or Java is missing, or Java is too old or does not start; the message says what to do.
    """
    with _lock:
        if not _running:
            _running.append(_started())
        return _running[0]


def java_home() -> Path:
    """Returns Java's folder: the first of JAVA_HOME, JDK_HOME and JRE_HOME that is set; else that of `java` on PATH.

    Where the one on PATH is too old, or there is none, the newest of those in the usual places (`USUAL`).

    Raises:
        StoreError: there is no Java.
    """
    for name in HOMES:
        if given := os.environ.get(name):
            return Path(given)
    program = shutil.which("java")
    on_path = [Path(program).resolve().parent.parent] if program is not None else []
    usual = sorted((home for place in USUAL for home in _folders(place)), key=_version, reverse=True)
    fit = (home for home in (*on_path, *usual) if _version(home) >= OLDEST)
    found = next(fit, on_path[0] if on_path else None)
    if found is None:
        raise StoreError(f"Lucene needs Java, and there is none: {INSTALL}")
    return found


def _folders(pattern: str) -> list[Path]:
    try:
        place = Path(pattern).expanduser()
    except RuntimeError:  # nobody knows where ~ is, as in a container that runs under a number
        return []
    return sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))


def _version(home: Path) -> int:
    """Returns the major version of the Java in a folder; 0 where it does not say one."""
    try:
        facts = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', facts, re.MULTILINE)
    return int(found[1]) if found else 0


def java_version(home: Path) -> int:
    """Returns the major version of the Java in a folder, by its file `release`.

    Raises:
        StoreError: there is no Java, or it is older than `OLDEST`.
    """
    if not (home / "release").is_file():
        raise StoreError(f"{home} holds no Java that says its version (no file `release`): {INSTALL}")
    version = _version(home)
    if version < OLDEST:
        raise StoreError(
            f"Lucene needs Java {OLDEST} or newer; {home} is Java {version or 'of unknown version'}: {INSTALL}"
        )
    return version


def anserini_jar() -> Path:
    """Returns the archive that holds Lucene and Anserini: pyserini's, or that of the folder ANSERINI_CLASSPATH.

    pyserini itself is not imported: that takes ten seconds and wants torch.

    Raises:
        StoreError: pyserini is not installed, or it has no such archive.
    """
    spec = importlib.util.find_spec("pyserini")
    if spec is None and "ANSERINI_CLASSPATH" not in os.environ:
        raise StoreError('Lucene needs the package pyserini: pip install "plait[lucene]" (Python 3.11 or newer)')
    own = [Path(place) / "resources" / "jars" for place in (spec.submodule_search_locations or ())] if spec else []
    folders = [Path(os.environ["ANSERINI_CLASSPATH"])] if "ANSERINI_CLASSPATH" in os.environ else own
    found = sorted((jar for folder in folders for jar in folder.glob(JAR)), key=lambda jar: jar.stat().st_mtime)
    if not found:
        looked = ", ".join(map(str, folders))
        raise StoreError(
            f"no {JAR} in {looked}: install pyserini again, or set ANSERINI_CLASSPATH to a folder with one"
        )
    return found[-1]


def _started() -> Java:
    jar = anserini_jar()
    try:
        config = importlib.import_module("jnius_config")
    except ImportError as error:
        raise StoreError(f'Lucene needs the package pyjnius ({error}): pip install "plait[lucene]"') from error
    if not config.vm_running:
        _configure(config, jar)
    try:
        jnius = importlib.import_module("jnius")
    except Exception as error:  # whatever comes out of a machine that does not start
        raise StoreError(f"Java at {os.environ.get('JAVA_HOME')} does not start ({error}): {INSTALL}") from error
    try:
        jnius.autoclass("io.anserini.index.Constants")
    except jnius.JavaException as error:
        message = "Java runs in this process already, without Anserini's archive; open the Lucene index first"
        raise StoreError(message) from error
    logger = jnius.autoclass("java.util.logging.Logger").getLogger("org.apache.lucene")
    logger.setLevel(jnius.autoclass("java.util.logging.Level").OFF)
    return Java(jnius, (logger,))  # a logger that nobody holds forgets its level


def _configure(config: Any, jar: Path) -> None:
    home = java_home()
    version = java_version(home)
    os.environ["JAVA_HOME"] = str(home)  # pyjnius looks in places of its own otherwise
    config.add_classpath(str(jar))
    config.add_options(*_OPTIONS, *([_UNSAFE] if version >= _UNSAFE_SINCE else []))

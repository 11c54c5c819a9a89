"""A disk of a few megabytes that can be filled to the last page, for what happens when there is no room."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096  # a tmpfs gives room in pages
BYTES = 16 << 20
BALLAST = "ballast"

# As root, or as a root of one's own: containers and hardened systems may allow either, both or none.
NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
MOUNTED = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo "== mounted" && shift 2 && exec "$@"'
ANSWERING = "import sys; from tests.small_disk import answer; answer(sys.argv[1])"
MARK = "== "


class SmallDisk:
    """A process of its own that sees a tmpfs at `folder`, and runs functions of test modules there.

    Args:
        folder: an empty one, to mount over; nobody else sees what is there then.
    """

    def __init__(self, folder: Path) -> None:
        python = [sys.executable, "-c", ANSWERING, str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        said = []
        for namespace in NAMESPACES:
            command = [*namespace, "sh", "-c", MOUNTED, "sh", str(BYTES), str(folder), *python]
            try:
                self.process = subprocess.Popen(command, cwd=ROOT, bufsize=1, **pipes)
            except FileNotFoundError as error:
                pytest.skip(f"needs a disk of its own to fill: {error}")
            if (line := self.process.stdout.readline()) == f"{MARK}mounted\n":
                return
            said.append(line.strip())
            self.close()
        pytest.skip(f"needs a disk of its own to fill, and this system lets nobody mount one: {'; '.join(said)}")

    def __call__(self, function, *arguments) -> str:
        """Calls function(disk, *arguments) in the process, arguments as text; returns what it printed."""
        words = [function.__module__, function.__name__, *map(str, arguments)]
        self.process.stdin.write("\t".join(words) + "\n")
        said = []
        for line in self.process.stdout:
            if line.startswith(MARK):
                assert line == f"{MARK}passed\n", "".join(said)
                return "".join(said)
            said.append(line)
        raise AssertionError(f"the process died with status {self.process.wait()}: {''.join(said)}")

    def close(self) -> None:
        """Lets the process go, and the disk with it."""
        with self.process, contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def answer(folder: str) -> None:
    """Runs what is asked for on standard input, one function a line; each finds the disk empty."""
    say = partial(print, flush=True)
    for line in sys.stdin:
        module, name, *arguments = line.rstrip("\n").split("\t")
        try:
            getattr(importlib.import_module(module), name)(Path(folder), *arguments)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            verdict = "failed"
        else:
            verdict = "passed"
        for path in Path(folder).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        say(f"{MARK}{verdict}")


def leave(disk: Path, pages: int) -> None:
    """Fills a disk so that exactly so many pages are free."""
    make_room(disk)
    with (disk / BALLAST).open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, (free_pages(disk) - pages) * PAGE)
    assert free_pages(disk) == pages


def make_room(disk: Path) -> None:
    """Gives back what `leave` took."""
    (disk / BALLAST).unlink(missing_ok=True)


def free_pages(disk: Path) -> int:
    """Returns how many pages are free."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize // PAGE

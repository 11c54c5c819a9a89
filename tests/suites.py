"""Which tests are wanted, as far as torch goes: it is large, slow to import, and not everywhere."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("torch", "transformers")
# A file that skips at its top, not inside a test: all of it needs torch.
_WHOLE_FILE = re.compile(r"^(torch = )?pytest\.importorskip\(\"torch\"\)", re.MULTILINE)
_MARK = re.compile(r"(\bnot\s+)?\btorch\b")


def asks_for_torch(marks: str) -> bool | None:
    """Returns what an expression of marks, as `pytest -m` takes it, says of torch; None where it says nothing."""
    found = _MARK.search(marks)
    return None if found is None else found[1] is None


def missing(marks: str) -> list[str]:
    """Returns the packages that are not there although tests with torch are asked for."""
    return [name for name in PACKAGES if find_spec(name) is None] if asks_for_torch(marks) else []


def leaves_out(path: Path, marks: str) -> bool:
    """Returns whether a file need not even be imported: all of it needs torch, and that is not wanted or not there."""
    wanted = find_spec("torch") is not None if (asked := asks_for_torch(marks)) is None else asked
    return not wanted and path.suffix == ".py" and bool(_WHOLE_FILE.search(path.read_text(encoding="utf-8")))

"""How much memory this process takes, as the system counts it: its resident set now, and the most since a moment."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Counts from the moment it is made; only one at a time counts right.

    Where the system cannot forget an older peak (not Linux), the peak is that of the whole life of the process.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            _RESET.write_text("5")
        self._began = _told("VmRSS")

    def peak(self, *, above: bool = False) -> int:
        """Returns the most bytes since the beginning; `above`: less those at the beginning."""
        most = _told("VmHWM") or _ever()
        return max(0, most - self._began) if above else most


def _told(name: str) -> int:
    """Returns what Linux tells of this process, in bytes; 0 elsewhere."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _ever() -> int:
    """Returns the peak of the whole life of the process, in bytes; 0 where nothing tells."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most

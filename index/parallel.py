"""Work on every core: for kernels and libraries that release the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Returns how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def spread(work: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None) -> list[Result]:
    """Returns work(item) for every item, in their order, computed by `threads` threads (None: one a core)."""
    wanted = min(cores() if threads is None else threads, len(items))
    if wanted < 2:
        return [work(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor  # 10 ms that a single query does not need

    with ThreadPoolExecutor(wanted, thread_name_prefix="plait-search") as pool:
        return list(pool.map(work, items))

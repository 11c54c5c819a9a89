"""Loading the compiled kernels: once, late, and where their cache can be written."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import LEXICAL_BASE
from .postings import ROW_SHARE, WIDEST, Forward, Postings, invert, peaks_of, stride_of

LARGE = 2_000_000  # postings that numpy inverts sooner than the compiler can be loaded

_loaded: Any = None
_dense: Any = None
_no_room = False  # on the disk, for what the compiler keeps
_scratch = threading.local()


def kernels() -> Any:
    """Returns the module of compiled kernels, or None while they are not loaded."""
    return _loaded


def dense_kernels() -> Any:
    """Returns the module of the dense strand's compiled kernels; None while they are not loaded."""
    return _dense


def load_kernels() -> None:
    """Loads the compiled kernels and runs each once, so that nobody waits for the compiler later.

    Where the disk is too full to keep what is compiled, searches go on without: numpy gives the same.
    """
    global _loaded, _dense, _no_room
    if _loaded is not None or _no_room:
        return
    try:
        found, dense = _imported()
        _warm(found)
    except OSError:
        _no_room = True
    else:
        _loaded, _dense = found, dense if _adds_as_numpy(dense) else None


def _imported() -> tuple[Any, Any]:
    try:
        from . import dense_kernels, kernels
    except RuntimeError:  # numba may write its cache neither beside the package nor in a home folder
        from numba.core import config

        folder = tempfile.mkdtemp(prefix="plait-kernels-")
        setattr(config, "CACHE_DIR", folder)  # noqa: B010  # numba's settings are made at run time
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        from . import dense_kernels, kernels
    return kernels, dense_kernels


def kernels_loaded() -> bool:
    """Returns whether searches run compiled."""
    return _loaded is not None


def sums_of() -> NDArray[np.uint32]:
    """Returns this thread's accumulators, uint32 (WIDEST,)."""
    if not hasattr(_scratch, "sums"):
        _scratch.sums = np.empty(WIDEST, np.uint32)
    return _scratch.sums


def inverted(forward: Forward, impacts: NDArray[np.uint8], id_rank: NDArray[np.uint32], window: int) -> Postings:
    """Returns `postings.invert`'s answer, compiled where the kernels are loaded or the input is large."""
    if _loaded is None and forward.terms.size < LARGE:
        return invert(forward, impacts, id_rank, window)
    load_kernels()
    from .inversion import invert as compiled

    stride = stride_of(forward.size, window)
    made = compiled(forward.starts, forward.terms, impacts, forward.literal, LEXICAL_BASE, window, stride, ROW_SHARE)
    peaks = peaks_of(made[-1].reshape(-1, stride))
    return Postings(*made, peaks=peaks, id_rank=id_rank, shape=np.array([window, stride], np.int64))


def _warm(found: Any) -> None:
    """Compiles (or loads from the cache) for the types that mapped files have: read-only arrays."""
    one = np.ones(1, np.uint8)
    forward = Forward(np.array([0, 1]), np.array([7], np.uint32), one, one, np.array([1], np.uint32))
    postings = invert(forward, one, np.array([0], np.uint32), 1)
    for values in postings:
        values.flags.writeable = False
    terms, weights = np.array([7], np.uint32), np.array([1], np.uint32)
    every, floors = np.empty(0, np.uint8), np.zeros(1, np.uint32)
    found.search(*postings, terms, weights, 1, every, 1.0, floors[0], sums_of())
    found.search_many(*postings, np.array([0, 1]), terms, weights, 1, every, 1.0, floors, sums_of())
    found.lookup(*postings, terms, np.zeros(1, np.int64))
    found.sums(*postings, terms, weights, np.zeros(1, np.int64))


def _adds_as_numpy(found: Any) -> bool:
    """Returns whether compiled inner products are numpy's to the bit: another numpy may add in another order."""
    from .dense import row_scores

    vectors = np.sin(np.arange(3 * 391, dtype=np.float32)).reshape(3, 391)  # three halvings, and seven are left
    scores = found.row_scores(vectors.reshape(-1), np.arange(3), vectors[0], found.order(391))
    return bool((scores == row_scores(vectors, vectors[0])).all())

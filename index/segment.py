"""A segment: immutable arrays in a folder, searched strand by strand."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import files, reference
from .contract import LEXICAL_BASE, Layout
from .database import SegmentRow
from .dense import DenseSegment, write_flat
from .postings import Forward, Postings, impacts_of, invert
from .ranking import id_ranks

DENSE = "dense.faiss"
NONE_DEAD = np.empty(0, np.uint8)

# Below this many postings the numpy search answers sooner than the compiler's runtime can be loaded (about 0.4 s).
COLD_POSTINGS = 20_000_000
# A file set below this size is read through, and its checksums compared, whenever it is opened.
VERIFIED_BYTES = 64 << 20

_scratch = threading.local()


def write_segment(
    folder: Path,
    ids: Sequence[str],
    forward: Forward,
    vectors: NDArray[np.float32] | None,
    *,
    average: float,
    layout: Layout,
) -> str:
    """Writes a segment's files durably into a new folder and returns the checksum of its manifest.

    Args:
        folder: must not exist.
        ids: external ids, one a document.
        forward: the documents' terms.
        vectors: float32 (n, dim), or None without a dense strand.
        average: the mean document length that lexical impacts are frozen with.
        layout: the index's settings.
    """
    folder.mkdir(parents=True)
    impacts = impacts_of(forward, LEXICAL_BASE, average, layout.k1, layout.b)
    postings = invert(forward, impacts, id_ranks(ids), layout.window)
    arrays = {**postings._asdict(), **{f"forward_{name}": values for name, values in forward._asdict().items()}}
    for name, values in arrays.items():
        files.write_array(folder / f"{name}.npy", values)
    largest_norm = 0.0
    if vectors is not None:
        write_flat(vectors, folder / DENSE)
        largest_norm = float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0.0)))
    facts = {"documents": forward.size, "dim": layout.dim, "average_length": average, "largest_norm": largest_norm}
    written = files.write_manifest(folder, facts)
    files.sync_folder(folder.parent)
    return written


class Segment:
    """A committed segment, opened for reading.

    Args:
        folder: where its files are.
        row: what plait.db says of it: the position of its first document, its size, its manifest's checksum.
        verify: read every file and compare checksums; None does so for small segments.
    """

    def __init__(self, folder: Path, row: SegmentRow, *, verify: bool | None = None) -> None:
        self.folder, self.row, self.base, self.size = folder, row, row.base, row.size
        self.manifest = files.read_manifest(folder, row.checksum)
        self.bytes = sum(facts["bytes"] for facts in self.manifest["files"].values())
        if verify or (verify is None and self.bytes <= VERIFIED_BYTES):
            files.verify_files(folder, self.manifest)
        self.dense = DenseSegment(folder / DENSE, row.size, self.manifest["dim"]) if self.manifest["dim"] else None

    @cached_property
    def postings(self) -> Postings:
        """The searchable arrays, mapped."""
        return Postings(**{name: files.read_array(self.folder / f"{name}.npy") for name in Postings._fields})

    @cached_property
    def forward(self) -> Forward:
        """The forward copy, mapped."""
        return Forward(**{name: files.read_array(self.folder / f"forward_{name}.npy") for name in Forward._fields})

    def search(
        self, terms: NDArray[np.uint32], weights: NDArray[np.float32], k: int, alive: NDArray[np.uint8] = NONE_DEAD
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns the k best (scores, documents) of this segment; see `reference.search`."""
        if not self.size:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        if _kernels is None:
            return reference.search(self.postings, terms, weights, k, alive)
        return _kernels.search(*self.postings, terms, weights, k, alive, _accumulator(_kernels.ROOM))

    def lookup(self, terms: NDArray[np.uint32], documents: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the impacts of terms in documents; see `reference.lookup`."""
        if _kernels is None:
            return reference.lookup(self.postings, terms, documents)
        return _kernels.lookup(*self.postings, terms, documents)

    def literal_terms(self, documents: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Returns the terms that the texts of some documents hold, with repetitions."""
        rows = [slice(*self.forward.starts[d : d + 2]) for d in documents.tolist()]
        parts = [self.forward.terms[row][self.forward.literal[row] > 0] for row in rows]
        return np.concatenate(parts) if parts else np.empty(0, np.uint32)

    def facts(self) -> dict[str, Any]:
        """Returns what `plait info` tells of a segment."""
        return {
            "folder": self.folder.name,
            "documents": self.size,
            "postings": int(self.postings.impacts.size),
            "bytes": self.bytes,
        }


_kernels: Any = None


def load_kernels() -> None:
    """Loads the compiled kernels and runs each once, so that nobody waits for the compiler later."""
    global _kernels
    if _kernels is not None:
        return
    try:
        from . import kernels
    except RuntimeError:  # numba may write its cache neither beside the package nor in a home folder
        from numba.core import config

        folder = tempfile.mkdtemp(prefix="plait-kernels-")
        setattr(config, "CACHE_DIR", folder)  # noqa: B010  # numba's settings are made at run time
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        from . import kernels
    _warm(kernels)
    _kernels = kernels


def kernels_loaded() -> bool:
    """Returns whether searches run compiled."""
    return _kernels is not None


def _warm(kernels: Any) -> None:
    """Compiles (or loads from the cache) for the types that mapped files have: read-only arrays."""
    one = np.ones(1, np.uint8)
    forward = Forward(np.array([0, 1]), np.array([7], np.uint32), one, one, np.array([1], np.uint32))
    postings = invert(forward, one, np.array([0], np.uint32), 1)
    for values in postings:
        values.flags.writeable = False
    terms, weights = np.array([7], np.uint32), np.array([1], np.float32)
    kernels.search(*postings, terms, weights, 1, NONE_DEAD, _accumulator(kernels.ROOM))
    kernels.lookup(*postings, terms, np.zeros(1, np.int64))


def _accumulator(room: int) -> NDArray[np.float32]:
    if not hasattr(_scratch, "accumulator"):
        _scratch.accumulator = np.empty(room, np.float32)
    return _scratch.accumulator

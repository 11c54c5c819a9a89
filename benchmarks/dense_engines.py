"""The contestants of dense.py: plait, FAISS, hnswlib and usearch, each built in a process of its own.

    python dense_engines.py NAME VECTORS.npy FOLDER    builds one, prints seconds, bytes and peak memory as JSON

Every contestant is a class with `build(vectors, folder)`, `open(folder, vectors)`, `knobs`, and a `search` for one
query that returns row numbers, best first. What is built is on disk; FAISS files are mapped where they can be.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait, nor packages that only some have)

from __future__ import annotations

import common

if __name__ == "__main__":
    common.pin_threads(1)

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from plait.index.dense import DenseSegment, write_dense
from plait.index.files import MANIFEST, write_manifest

Alive = NDArray[np.uint8]  # 1 where a row may be returned; empty: everywhere
EVERYTHING = np.empty(0, np.uint8)
FACTORS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Plait:
    """A dense index as plait lays it out.

    Args:
        spec: what `dense_index` says.
        rows: of a segment; None for one segment.
    """

    knobs: tuple[float, ...] = (1.0,)
    filters = True

    def __init__(self, spec: str, rows: int | None = None) -> None:
        self.spec, self.rows = spec, rows
        self.segments: list[DenseSegment] = []
        self.starts: list[int] = []

    def build(self, vectors: NDArray[np.float32], folder: Path) -> None:
        """Writes the segments."""
        step = self.rows or len(vectors)
        for start in range(0, len(vectors), step):
            inside = folder / f"{start:09d}"
            inside.mkdir()
            part = vectors[start : start + step]
            write_manifest(inside, {"size": len(part), "dense": write_dense(inside, part, self.spec)})

    def open(self, folder: Path, vectors: NDArray[np.float32]) -> None:
        """Maps the segments."""
        for inside in sorted(folder.iterdir()):
            manifest = json.loads((inside / MANIFEST).read_text(encoding="utf-8"))
            self.starts.append(int(inside.name))
            self.segments.append(DenseSegment(inside, manifest["size"], vectors.shape[1], manifest))

    def facts(self) -> dict[str, Any]:
        """Returns what each kind of segment is."""
        return {"segments": len(self.segments), **(self.segments[0]._manifest or {}).get("dense", {})}

    def search(self, query: NDArray[np.float32], k: int, knob: float, alive: Alive = EVERYTHING) -> Any:
        """Returns the rows of the k best; `knob` is the effort."""
        scores, rows = [], []
        for start, segment in zip(self.starts, self.segments, strict=True):
            inside = alive[start : start + segment.size] if alive.size else alive
            found = segment.search(query, k, inside, effort=knob)
            scores.append(found.scores)
            rows.append(found.rows + start)
        best = np.argsort(-np.concatenate(scores), kind="stable")[:k]
        return np.concatenate(rows)[best]


class Faiss:
    """A FAISS index as its factory makes it, trained and filled in one go."""

    filters = True

    def __init__(self, spec: str, knob: str = "", default: int = 1) -> None:
        self.spec, self.knob = spec, knob
        self.knobs = tuple(default * factor for factor in FACTORS) if knob else (1,)
        self._index: Any = None
        self._selector: tuple[Alive, Any] = (EVERYTHING, None)

    def build(self, vectors: NDArray[np.float32], folder: Path) -> None:
        """Trains, fills and writes the index."""
        swig: Any = faiss
        index = swig.index_factory(vectors.shape[1], self.spec, swig.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        swig.write_index(index, str(folder / "index"))

    def open(self, folder: Path, vectors: NDArray[np.float32]) -> None:
        """Maps the index."""
        swig: Any = faiss
        self._index = swig.read_index(str(folder / "index"), swig.IO_FLAG_MMAP_IFC)

    def facts(self) -> dict[str, Any]:
        """Returns nothing: the name says it."""
        return {}

    def search(self, query: NDArray[np.float32], k: int, knob: float, alive: Alive = EVERYTHING) -> Any:
        """Returns the rows of the k best; `knob` is nprobe or efSearch."""
        swig: Any = faiss
        options: dict[str, Any] = {self.knob: int(knob)} if self.knob else {}
        if alive.size:
            if self._selector[0] is not alive:  # packed once, as an application would
                self._selector = (alive, swig.IDSelectorBitmap(np.packbits(alive, bitorder="little")))
            options["sel"] = self._selector[1]
        kind = {"nprobe": swig.SearchParametersIVF, "efSearch": swig.SearchParametersHNSW}
        made = kind.get(self.knob, swig.SearchParameters)(**options)
        rows = self._index.search(query[None, :], k, params=made)[1][0]
        return rows[rows >= 0]


class Hnswlib:
    """hnswlib with the settings of its README: M 16, ef_construction 200."""

    filters = True
    knobs = tuple(10 * factor for factor in FACTORS)

    def __init__(self) -> None:
        self._index: Any = None
        self._chosen: tuple[Alive, Any] = (EVERYTHING, None)

    def build(self, vectors: NDArray[np.float32], folder: Path) -> None:
        """Fills and writes the index, one thread."""
        index = importlib.import_module("hnswlib").Index(space="ip", dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors), M=16, ef_construction=200)
        index.add_items(vectors, num_threads=1)
        index.save_index(str(folder / "index"))

    def open(self, folder: Path, vectors: NDArray[np.float32]) -> None:
        """Reads the index into memory: it cannot be mapped."""
        self._index = importlib.import_module("hnswlib").Index(space="ip", dim=vectors.shape[1])
        self._index.load_index(str(folder / "index"))
        self._index.set_num_threads(1)

    def facts(self) -> dict[str, Any]:
        """Returns the settings."""
        return {"M": 16, "ef_construction": 200}

    def search(self, query: NDArray[np.float32], k: int, knob: float, alive: Alive = EVERYTHING) -> Any:
        """Returns the rows of the k best; `knob` is ef. A filter is a Python function, as hnswlib has it."""
        self._index.set_ef(max(int(knob), k))
        if self._chosen[0] is not alive:
            self._chosen = (alive, alive.astype(bool).tolist().__getitem__ if alive.size else None)
        try:
            found, _ = self._index.knn_query(query[None, :], k=k, num_threads=1, filter=self._chosen[1])
            return found[0].astype(np.int64)
        except RuntimeError:  # it found fewer than k, and then gives nothing
            return np.empty(0, np.int64)


class Usearch:
    """usearch with its own defaults, float32; its Python package has no filters."""

    filters = False
    knobs = tuple(16 * factor for factor in FACTORS)

    def __init__(self) -> None:
        self._index: Any = None

    def build(self, vectors: NDArray[np.float32], folder: Path) -> None:
        """Fills and writes the index, one thread."""
        index = importlib.import_module("usearch.index").Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
        index.add(np.arange(len(vectors)), np.ascontiguousarray(vectors), threads=1)
        index.save(str(folder / "index"))

    def open(self, folder: Path, vectors: NDArray[np.float32]) -> None:
        """Maps the index."""
        self._index = importlib.import_module("usearch.index").Index.restore(str(folder / "index"), view=True)

    def facts(self) -> dict[str, Any]:
        """Returns the settings."""
        return {"connectivity": self._index.connectivity, "expansion_add": self._index.expansion_add}

    def search(self, query: NDArray[np.float32], k: int, knob: float, alive: Alive = EVERYTHING) -> Any:
        """Returns the rows of the k best; `knob` is the expansion."""
        self._index.expansion_search = int(knob)
        return self._index.search(query, k, threads=1).keys.astype(np.int64)


def lists_for(count: int) -> int:
    """Returns how many lists so many vectors are put in: about their square root, a power of two."""
    return max(2, 2 ** round(np.log2(np.sqrt(count))))


def contestants(count: int, dim: int) -> dict[str, Any]:
    """Returns who takes part, by name, for so many vectors."""
    lists, half, short = lists_for(count), dim // 2, 5 * dim // 12
    found: dict[str, Any] = {
        "plait": Plait("auto"),
        "plait, segments": Plait("auto", 65_536),
        "plait flat": Plait("flat"),
    }
    for spec in (
        f"IVF1,PQ{half}x4fs", f"IVF{lists},PQ{half}x4fs", f"IVF{lists},SQ8", f"IVF{lists},RaBitQ", "HNSW32",
        f"LeanVec{short}", f"LeanVec{short},IVF{lists},SQ8", f"LeanVec{half},IVF1,PQ{half // 2}x4fs",
    ):  # fmt: skip
        found[f"plait {spec}"] = Plait(spec)
    found["FAISS Flat"] = Faiss("Flat")
    for spec in (f"IVF{lists},Flat", f"IVF{lists},SQ8"):
        found[f"FAISS {spec}"] = Faiss(spec, "nprobe")
    found["FAISS HNSW32"] = Faiss("HNSW32", "efSearch", 16)
    peers = {"hnswlib": Hnswlib, "usearch": Usearch}
    found.update({name: made() for name, made in peers.items() if importlib.util.find_spec(name)})
    return found


def main() -> None:
    """Builds one contestant and prints what that took."""
    name, source, target = sys.argv[1:]
    faiss.omp_set_num_threads(1)
    vectors, folder = np.load(source, mmap_mode="r"), Path(target)
    made = contestants(*vectors.shape)[name]
    seconds = common.timed(lambda: made.build(vectors, folder))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(json.dumps({"seconds": seconds, "bytes": size, "peak_bytes": _peak()}))


def _peak() -> int | None:
    """Returns the most memory that this process had, mapped files included, where the system tells."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent had
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    if not importlib.util.find_spec("resource"):
        return None
    resource = importlib.import_module("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

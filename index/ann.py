"""The first stage of a large dense segment: a FAISS index that proposes rows, and the table that chooses it.

What it proposes is scored again with the stored full vectors (see `dense`), so it decides which rows are looked at and
never what they score. Which FAISS index a segment gets is a row of `TABLE`, or what the index was created with. How
hard it looks (lists probed or nodes visited, rows scored for a hit) is found when the segment is written (see
`effort`), and kept in the segment's manifest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .contract import CorruptError, StoreError
from .effort import Effort, Point, calibrated
from .files import read_array, verify_files, write_array
from .projection import Projection, principal, query_aware

FIRST, PROJECTION = "dense-first.faiss", "dense-projection.npy"
AUTO, FLAT = "auto", "Flat"
EVERYTHING = np.empty(0, np.uint8)  # no row is left out


@dataclass(frozen=True)
class Choice:
    """A row of the table: which index a segment gets.

    Attributes:
        up_to: documents in the segment, at most.
        spec: a FAISS factory string; "{codes}" stands for half the dimensions, or all where their number is odd.
    """

    up_to: float
    spec: str

    def spec_for(self, dim: int) -> str:
        """Returns the factory string for vectors of so many dimensions."""
        return self.spec.format(codes=dim if dim % 2 else dim // 2)


# Chosen by benchmarks/dense.py. With one list (IVF1) all documents are looked at, in 4-bit codes for pairs of
# dimensions: 16 times less to read than full vectors, and no query is too unlike the documents. More lists, or a
# graph, are faster only for queries that resemble documents: of 530,000 passages, questions about other things need
# two lists in three for a recall of .98, which takes longer than one list of all.
TABLE = (Choice(20_000, FLAT), Choice(math.inf, "IVF1,PQ{codes}x4fs"))


@dataclass(frozen=True)
class Family:
    """A kind of FAISS index that can be a first stage.

    Attributes:
        classes: a pattern of FAISS's names for them.
        knob: what says how hard it looks; "" where it always looks at everything.
        parameters: FAISS's class of search parameters.
        least: where calibration starts.
        target: the recall to reach on means of stored vectors, so that queries like the documents get 0.98 or more.
    """

    classes: str
    knob: str
    parameters: str
    least: int
    target: float = 0.98

    def most(self, index: Any) -> int:
        """Returns the knob's largest sensible value."""
        return {"nprobe": getattr(index, "nlist", 1), "efSearch": 2048}.get(self.knob, 1)


FAMILIES = (
    Family("IndexIVF.*", "nprobe", "SearchParametersIVF", 2),
    Family("IndexHNSW.*", "efSearch", "SearchParametersHNSW", 16, 0.9),
    Family("IndexScalarQuantizer", "", "SearchParameters", 1),
    Family("IndexRaBitQ", "", "SearchParameters", 1),
    Family("IndexFlat(IP)?", "", "SearchParameters", 1),
)

MOST_LISTS, MOST_LINKS = 1 << 20, 512
TRAINED = 64  # vectors a list that training looks at
ROUNDS = 10  # of k-means
# Scans of 4-bit codes get slow where a selector lets little through. They then look for more, and the selection is made
# afterwards; so many times as many as would do if matches lay evenly, so that it rarely has to be done again.
FEW_ALIVE, MORE = 1 / 14, 1.5
_CHUNK = 65_536


class Spec(NamedTuple):
    """A parsed specification: dimensions after projection (0 without one), and the rest for FAISS's factory."""

    reduced: int
    factory: str

    def __str__(self) -> str:
        return f"LeanVec{self.reduced},{self.factory}" if self.reduced else self.factory


def parsed(given: str) -> Spec:
    """Returns a specification, "LeanVec160,IVF1024,SQ8" for instance, in its parts."""
    found = re.fullmatch(r"LeanVec(\d+)(?:,(.+))?", given)
    reduced, factory = (int(found[1]), found[2] or FLAT) if found else (0, given)
    return Spec(reduced, FLAT if factory.lower() == "flat" else factory)


def check_spec(given: str, dim: int) -> None:
    """Raises a StoreError unless an index of vectors of `dim` dimensions can be made with this specification."""
    if not isinstance(given, str):
        raise StoreError(f"dense_index={given!r}: give auto, flat, or a FAISS factory string as IVF1024,SQ8 or HNSW32")
    if given == AUTO or parsed(given) == Spec(0, FLAT):
        return
    spec = parsed(given)
    if not dim:
        raise StoreError(f"dense_index={given!r} is for an index with a dense strand; this one has none")
    if re.match(r"LeanVec0+(,|$)", given):
        raise StoreError(f"dense_index={given!r}: LeanVec keeps at least one dimension")
    if spec.reduced and spec.reduced >= dim:
        raise StoreError(f"dense_index={given!r}: LeanVec keeps fewer dimensions than there are ({dim})")
    index = _empty(spec, dim)
    _family(index, spec)
    if not _is_sensible(index):
        raise StoreError(
            f"dense_index={given!r} cannot be filled: it takes 1 to {MOST_LISTS:,} lists, 2 to {MOST_LINKS} links, and "
            "no more dimensions than there are"
        )


def chosen(given: str, size: int, dim: int, table: tuple[Choice, ...] = TABLE) -> Spec:
    """Returns what a segment of so many documents gets."""
    if given != AUTO:
        return parsed(given)
    return parsed(next(row for row in table if size <= row.up_to).spec_for(dim))


def build(
    folder: Path,
    vectors: NDArray[np.float32],
    spec: Spec,
    queries: NDArray[np.float32] | None = None,
    *,
    least_recall: float = 0.0,
) -> dict[str, Any]:
    """Writes the first stage of a segment and returns what its manifest keeps of it.

    Args:
        folder: the segment's.
        vectors: float32 (n, dim).
        spec: which; `Flat` writes nothing.
        queries: float32 (m, dim), a sample of queries to suit, or None.
        least_recall: where it finds less of the neighbours in calibration, the segment stays without.

    Raises:
        StoreError: FAISS cannot make it of these vectors.
        OSError: it cannot be written.
    """
    if spec == Spec(0, FLAT):
        return {"spec": FLAT}
    index, projection = _empty(spec, vectors.shape[1]), _projection(spec, vectors, queries)
    if (needed := _least_vectors(index)) > len(vectors):
        why = f"it takes {needed} vectors to make; there are {len(vectors)}"
        return {"spec": FLAT, "asked": str(spec), "why": why}
    try:
        _fill(index, vectors, projection)
    except RuntimeError as error:
        raise StoreError(f"dense_index={str(spec)!r}: {_reason(error)}; make the index with another") from error
    first = First(index, projection, spec)
    points = [point._asdict() for point in calibrated(first, vectors, queries)]
    if (recall := points[0]["recall"]) < least_recall:
        return {"spec": FLAT, "asked": str(spec), "why": f"it found {recall} of the nearest {points[0]['k']}"}
    _write(index, spec, folder / FIRST)
    if projection is not None:
        write_array(folder / PROJECTION, np.stack(projection))
    return {"spec": str(spec), "knob": first.family.knob, "effort": points}


def read(folder: Path, manifest: Mapping[str, Any], flat: Any) -> First | None:
    """Returns a segment's first stage, mapped, or None where it has none.

    Args:
        folder: the segment's.
        manifest: of the segment.
        flat: its FAISS Flat index, whose vectors a graph uses.

    Raises:
        CorruptError: its file was changed, or is not what the manifest says.
    """
    import faiss

    facts = manifest["dense"]
    spec, path = parsed(facts["spec"]), folder / FIRST
    if spec == Spec(0, FLAT):
        return None
    # FAISS trusts what it reads: a changed link or size could end the process. The checksum comes first, always.
    verify_files(folder, {"files": {name: manifest["files"][name] for name in (FIRST, *_beside(spec))}})
    try:
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise CorruptError(f"{path} cannot be read as a FAISS index: {error}") from error
    projection = Projection(*read_array(folder / PROJECTION)) if spec.reduced else None
    if (index.ntotal, index.d) != (flat.ntotal, spec.reduced or flat.d):
        expected = f"{flat.ntotal} of {spec.reduced or flat.d}"
        raise CorruptError(f"{path} holds {index.ntotal} vectors of {index.d}; the segment has {expected}")
    if _shares_storage(index, spec):
        index.storage, index.own_fields = flat, False
    return First(index, projection, spec, points=tuple(Point(**point) for point in facts["effort"]), flat=flat)


class First:
    """A FAISS index that proposes rows.

    Args:
        index: the FAISS index.
        projection: what it was filled through, or None.
        spec: what it was made by.
        points: how hard it must look; none before that is known.
        flat: what it borrows vectors from, kept alive.
    """

    def __init__(
        self, index: Any, projection: Projection | None, spec: Spec, *, points: tuple[Point, ...] = (), flat: Any = None
    ) -> None:
        self.index, self.projection, self._flat = index, projection, flat
        self.family = _family(index, spec)
        self.most = self.family.most(_inner(index))
        self.effort = Effort(points, self.most)

    def propose(
        self, query: NDArray[np.float32], wanted: int, alive: NDArray[np.uint8], share: float, effort: float = 1.0
    ) -> NDArray[np.int64]:
        """Returns rows that should hold the best `wanted`, the most promising first; there may be too few.

        Args:
            query: float32 (dim,).
            wanted: how many hits.
            alive: uint8 (size,), 0 where a row is left out; empty when all may be returned.
            share: how much of the segment is alive: the best k of it lie among the best k / share of all.
            effort: 1 is what calibration found; 2 looks at twice as much.
        """
        count = math.ceil(wanted * self.effort.refine(wanted) * max(effort, 1.0))
        knob = math.ceil(self.effort.knob(wanted / share) * effort)
        if share < FEW_ALIVE and type(_inner(self.index)).__name__.endswith("FastScan"):
            rows = self.nearest(query, math.ceil(MORE * count / share), knob)
            rows = rows[alive[rows] > 0]
            if rows.size >= count:  # those that a selector would have let through, but for ties of codes
                return rows[:count]
        return self.nearest(query, count, knob, alive)

    def reach(self, count: int, k: int, knob: int) -> int:
        """Returns how many of `count` rows a search for k can propose: a graph only has those that it keeps in view."""
        return min(count, max(k, knob)) if self.family.knob == "efSearch" else count

    def nearest(
        self, query: NDArray[np.float32], count: int, knob: int, alive: NDArray[np.uint8] = EVERYTHING
    ) -> NDArray[np.int64]:
        """Returns FAISS's own nearest rows, best first, at most `count` of them."""
        asked = query if self.projection is None else self.projection.of_query(query)
        knob = min(max(knob, count if self.family.knob == "efSearch" else 1), self.most)
        count = min(count, self.index.ntotal)
        _, found = self.index.search(asked[None, :], count, params=_parameters(self.index, self.family, knob, alive))
        return found[0][found[0] >= 0].astype(np.int64)


def selector(alive: NDArray[np.uint8]) -> Any:
    """Returns FAISS's form of a bitmap of rows, or None where all are alive."""
    import faiss

    swig: Any = faiss
    return swig.IDSelectorBitmap(np.packbits(alive, bitorder="little")) if alive.size else None


def _parameters(index: Any, family: Family, knob: int, alive: NDArray[np.uint8]) -> Any:
    import faiss

    swig: Any = faiss
    options = {family.knob: knob} if family.knob else {}
    made = getattr(swig, family.parameters)(sel=selector(alive), **options)
    return swig.SearchParametersPreTransform(index_params=made) if _is_chain(index) else made


def _empty(spec: Spec, dim: int) -> Any:
    import faiss

    try:
        return faiss.index_factory(spec.reduced or dim, spec.factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise StoreError(
            f"dense_index={str(spec)!r} is no FAISS index of {spec.reduced or dim} dimensions ({_reason(error)}); give "
            "auto, flat, or a factory string as IVF1024,SQ8 or HNSW32"
        ) from error


def _reason(error: RuntimeError) -> str:
    """Returns the last part of what FAISS says: before it come C++ names."""
    return " ".join(re.split(r"Error: |\.cpp:\d+: ", str(error))[-1].split())


def _family(index: Any, spec: Spec) -> Family:
    name = type(_inner(index)).__name__
    for family in FAMILIES:
        if re.fullmatch(family.classes, name) and (spec.reduced or not name.startswith("IndexFlat")):
            return family
    raise StoreError(
        f"dense_index={str(spec)!r} makes a FAISS {name}, which cannot be a first stage; give auto, flat, or a factory "
        "string that begins with IVF, HNSW, SQ or RaBitQ, perhaps after LeanVecN (hits are always scored again by the "
        "full vectors: no Refine is needed)"
    )


def _is_sensible(index: Any) -> bool:
    """Returns whether sizes are in bounds that FAISS does not check before it is too late."""
    inner = _inner(index)
    links = _links(inner.hnsw) if hasattr(inner, "hnsw") else 2
    steps = [index.chain.at(i) for i in range(index.chain.size())] if _is_chain(index) else []
    narrower = all(step.d_out <= step.d_in for step in steps)
    return narrower and 1 <= getattr(inner, "nlist", 1) <= MOST_LISTS and 2 <= links <= MOST_LINKS


def _links(graph: Any) -> int:
    """Returns how many links a node of a graph has; 0 where it is too few for a graph to have levels."""
    return graph.nb_neighbors(0) // 2 if graph.cum_nneighbor_per_level.size() > 1 else 0


def _is_chain(index: Any) -> bool:
    return type(index).__name__ == "IndexPreTransform"


def _inner(index: Any) -> Any:
    import faiss

    return faiss.downcast_index(index.index) if _is_chain(index) else index


def _shares_storage(index: Any, spec: Spec) -> bool:
    """Returns whether it is a graph that can use the vectors of the segment's Flat file instead of a copy."""
    return type(index).__name__ == "IndexHNSWFlat" and not spec.reduced


def _least_vectors(index: Any) -> int:
    inner = _inner(index)
    codes = 2 ** getattr(getattr(inner, "pq", None), "nbits", 0)
    return max(getattr(inner, "nlist", 1), codes, 2)


def _beside(spec: Spec) -> tuple[str, ...]:
    return (PROJECTION,) if spec.reduced else ()


def _projection(spec: Spec, vectors: NDArray[np.float32], queries: NDArray[np.float32] | None) -> Projection | None:
    if not spec.reduced:
        return None
    if queries is None or not len(queries):
        return principal(vectors, spec.reduced)
    return query_aware(vectors, queries, spec.reduced)


def _fill(index: Any, vectors: NDArray[np.float32], projection: Projection | None) -> None:
    """Trains and fills an empty index, a part of the vectors at a time."""
    inner = _inner(index)
    rotations = _rotations(index)
    parts: list[Any] = [inner, getattr(inner, "pq", None), *(rotation.pq for rotation in rotations)]
    for part in parts:  # FAISS would complain of few vectors on standard error
        if hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1
    if hasattr(inner, "cp"):
        inner.cp.niter, inner.cp.max_points_per_centroid = ROUNDS, TRAINED
    step = max(1, len(vectors) // max(TRAINED * getattr(inner, "nlist", 1), _CHUNK))
    index.train(_shortened(vectors[::step], projection))
    for rotation in rotations:
        rotation.pq = None  # it is Python's, and no longer needed
    for start in range(0, len(vectors), _CHUNK):
        index.add(_shortened(vectors[start : start + _CHUNK], projection))


def _rotations(index: Any) -> list[Any]:
    """Returns the OPQ steps before an index, each with the codes that it is trained with in reach."""
    import faiss

    swig: Any = faiss
    places = range(index.chain.size()) if _is_chain(index) else ()
    steps = [swig.downcast_VectorTransform(index.chain.at(i)) for i in places]
    found = [step for step in steps if type(step).__name__ == "OPQMatrix"]
    for rotation in found:
        rotation.pq = swig.ProductQuantizer(rotation.d_out, rotation.M, 8)  # as FAISS would
    return found


def _shortened(vectors: NDArray[np.float32], projection: Projection | None) -> NDArray[np.float32]:
    vectors = np.ascontiguousarray(vectors)
    return vectors if projection is None else projection.of_documents(vectors)


def _write(index: Any, spec: Spec, path: Path) -> None:
    import faiss

    swig: Any = faiss
    flags = swig.IO_FLAG_SKIP_STORAGE if _shares_storage(index, spec) else 0
    with path.open("wb") as handle:  # FAISS, writing it itself, says nothing where the last few bytes find no room
        swig.write_index(index, swig.PyCallbackIOWriter(handle.write), flags)

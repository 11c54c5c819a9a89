"""The vectors of a training set by one encoder, made once and kept in a folder, for teachers and for mining."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ..encoders.contract import DenseEncoder, Identity, SparseEncoder
from ..encoders.folders import find_folder
from ..encoders.lexical import LexicalEncoder
from ..encoders.load import load_dense, load_learned
from ..encoders.manifest import JOINT, MANIFEST, is_built
from ..encoders.model_files import read_json
from .errors import TrainError
from .pairs import TrainingSet

Strand = Literal["lexical", "learned", "dense"]
Encoder: TypeAlias = SparseEncoder | DenseEncoder
Progress = Callable[[str, int, int], None]  # (what is being done, how many are done, of how many)

SHARD = 4096  # texts encoded, and kept in one file, at a time
COUNTS = "tf"  # the activation of an encoder whose vectors are counts, for BM25
_VERSION = 1


@dataclass(frozen=True)
class Vectors:
    """The vectors of all documents and queries of a training set.

    Attributes:
        strand: how they score: "lexical" are counts for BM25, "learned" weights, "dense" compares by inner product.
        documents: csr_matrix or float32 (documents, dim).
        queries: csr_matrix or float32 (queries, dim).
        idf: the collection's inverse document frequencies are still to be multiplied into the queries' weights.
        literal: csr_matrix (documents, dim) of the terms that documents themselves hold, where only these count as
            holding a term for the idf; None where all of `documents` does.
    """

    strand: Strand
    documents: Any
    queries: Any
    idf: bool = False
    literal: Any = None


def load_encoder(name: str) -> Encoder:
    """Returns an encoder by name: "bm25", "bm25:german", "dense", "dense:NAME", "learned", "learned:NAME", or NAME.

    A bare NAME, of a folder or on the hub, is opened as what its files say it is; a joint model as its dense half.

    Raises:
        EncoderError: there is no such language or model.
    """
    makers: dict[str, tuple[Callable[[str], Encoder], str]] = {
        "bm25": (LexicalEncoder, "english"),
        "lexical": (LexicalEncoder, "english"),
        "learned": (load_learned, "embedded"),
        "dense": (load_dense, "embedded"),
    }
    kind, _, rest = name.partition(":")
    if kind not in makers:
        kind, rest = head_of(name), name
    maker, usual = makers[kind]
    return maker(rest or usual)


def head_of(name: str) -> str:
    """Returns "learned" for a masked-LM head that no sentence transformer pools into one vector, else "dense"."""
    folder = find_folder(name, "dense")
    if is_built(folder):
        head = str(read_json(folder / MANIFEST).get("head"))
        return "dense" if head == JOINT else head
    config, modules = folder / "config.json", folder / "modules.json"
    names = read_json(config).get("architectures") or [] if config.is_file() else []
    pooled = modules.is_file() and "splade" not in modules.read_text(encoding="utf-8").lower()
    return "learned" if any(str(one).endswith("ForMaskedLM") for one in names) and not pooled else "dense"


def encode(
    encoder: Encoder | str,
    training: TrainingSet,
    *,
    documents: Any = None,
    cache_folder: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Vectors:
    """Returns the vectors of a training set.

    With a cache folder they are kept there, 4,096 texts to a file, under the encoder's identity and a digest of the
    texts: what was encoded once, for this set or for another that begins with the same texts, is read.

    Args:
        encoder: one of ours, or any other of the same protocol; or its name, see `load_encoder`.
        training: what to encode.
        documents: the vectors of the documents, where they are there already.
        cache_folder: where vectors are kept; made where it is missing.
        on_progress: called with ("documents" or "queries", done, total).

    Raises:
        EncoderError: there is no such encoder, or it cannot encode a text.
        TrainError: the encoder returned something else than a row a text.
    """
    chosen = load_encoder(encoder) if isinstance(encoder, str) else encoder
    identity = chosen.identity
    sides = _Sides.of(identity, cache_folder, on_progress)
    if documents is None:
        documents = sides.encode("documents", chosen.encode_documents, training.documents)
    asked = sides.queries(chosen, training.queries)
    if not isinstance(chosen, SparseEncoder):
        return Vectors("dense", documents, asked)
    if identity.activation == COUNTS:
        return Vectors("lexical", documents, asked, idf=True)
    weighed = identity.query_weights == "idf"
    own = sides.encode("literal", chosen.encode_queries, training.documents) if weighed else None
    return Vectors("learned", documents, asked, idf=weighed, literal=own)


def encode_queries(
    encoder: Encoder,
    queries: Sequence[str],
    *,
    cache_folder: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Any:
    """Returns the vectors of queries, kept and told of as by `encode`: csr_matrix or float32 (queries, dim)."""
    return _Sides.of(encoder.identity, cache_folder, on_progress).queries(encoder, queries)


class _Sides:
    """Encodes in shards, each kept in a file named after its texts."""

    def __init__(self, folder: Path | None, on_progress: Progress) -> None:
        self._folder, self._on_progress = folder, on_progress
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, identity: Identity, cache_folder: str | Path | None, on_progress: Progress | None) -> _Sides:
        folder = None if cache_folder is None else Path(cache_folder) / _key(identity)
        return cls(folder, on_progress or (lambda _what, _done, _total: None))

    def queries(self, encoder: Encoder, queries: Sequence[str]) -> Any:
        """Returns the rows of queries; one that several documents answer is encoded once."""
        distinct = list(dict.fromkeys(queries))
        place = {query: at for at, query in enumerate(distinct)}
        return self.encode("queries", encoder.encode_queries, distinct)[[place[query] for query in queries]]

    def encode(self, side: str, verb: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> Any:
        """Returns the rows of all texts."""
        parts = []
        for start in range(0, len(texts), SHARD):
            piece = list(texts[start : start + SHARD])
            parts.append(self._part(side, verb, piece))
            self._on_progress(side, start + len(piece), len(texts))
        return _stacked(parts)

    def _part(self, side: str, verb: Callable[[Sequence[str]], Any], texts: list[str]) -> Any:
        path = None if self._folder is None else self._folder / f"{side}-{_digest(texts)}.npz"
        known = None if path is None else _read(path, len(texts))
        if known is not None:
            return known
        made = _checked(verb(texts), len(texts))
        if path is not None:
            _write(path, made)
        return made


def _checked(rows: Any, count: int) -> Any:
    """Returns an encoder's rows, in float32; a matrix of counts or weights in canonical form."""
    if not hasattr(rows, "shape") or rows.ndim != 2 or rows.shape[0] != count:
        given = getattr(rows, "shape", type(rows).__name__)
        raise TrainError(
            f"the encoder returned {given} for {count} texts; expected an array or csr_matrix ({count}, dim)"
        )
    if isinstance(rows, np.ndarray):
        return np.ascontiguousarray(rows, np.float32)
    rows.sum_duplicates()
    return rows.astype(np.float32)


def _stacked(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy.sparse import csr_matrix

    starts = np.cumsum([0, *(part.nnz for part in parts)])
    pointers = [part.indptr[:-1].astype(np.int64) + start for part, start in zip(parts, starts[:-1], strict=True)]
    indptr = np.concatenate([*pointers, starts[-1:]])
    columns = np.concatenate([part.indices for part in parts])
    values = np.concatenate([part.data for part in parts])
    return csr_matrix((values, columns, indptr), shape=(indptr.size - 1, parts[0].shape[1]))


def _key(identity: Identity) -> str:
    moved = {key: value for key, value in identity.to_json().items() if key != "name"}  # a name moves no vector
    return hashlib.sha256(json.dumps([_VERSION, moved], sort_keys=True).encode()).hexdigest()[:24]


def _digest(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:24]


def _read(path: Path, count: int) -> Any:
    """Returns the rows in a file; None where there is none, or none that can be used, and it must be made again."""
    from scipy.sparse import csr_matrix

    rows: Any
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:  # which leaves a broken file open
            if "vectors" in held:
                rows = held["vectors"]
            else:
                rows = csr_matrix((held["data"], held["indices"], held["indptr"]), shape=tuple(held["shape"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return rows if rows.shape[0] == count else None


def _write(path: Path, rows: Any) -> None:
    """Writes rows beside the file and renames it: a file is there whole, or not at all."""
    arrays: dict[str, Any] = {}
    if isinstance(rows, np.ndarray):
        arrays["vectors"] = rows
    else:
        shape = np.array(rows.shape, np.int64)
        arrays |= {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr, "shape": shape}
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=".npz", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

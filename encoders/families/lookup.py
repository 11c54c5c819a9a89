"""Dense queries without a transformer: the mean of rows of a table, a row for each token (LightRetriever).

A row is what the model makes of a query of that one token, prompt and all (arXiv 2505.12260): made once, in as many
short passes as there are tokens, and kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import DENSE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ..onnx_runtime import Ids
    from .encoder import FamilyEncoder

AT_ONCE = 4096


def table_of(encoder: FamilyEncoder) -> Callable[[Sequence[Ids]], NDArray[np.float32]]:
    """Returns what looks queries up, over the table that was kept, or is made now."""
    path = _path(encoder)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.tmp.npy")
        np.save(scratch, query_table(encoder), allow_pickle=False)
        scratch.replace(path)
    table = np.load(path, mmap_mode="r", allow_pickle=False)
    return lambda ids: looked_up(table, ids, normalize=encoder.dense_row.normalize)


def query_table(encoder: FamilyEncoder) -> NDArray[np.float32]:
    """Returns float32 (vocabulary, dim): the dense vector of each token as a query; zero for special tokens."""
    table = np.zeros((encoder.model.vocabulary, encoder.model.dim), np.float32)
    tokens = sorted(set(range(len(table))) - set(encoder.layout.specials))
    for start in range(0, len(tokens), AT_ONCE):
        some = np.array(tokens[start : start + AT_ONCE])

        def keep(
            positions: list[int], found: Mapping[str, NDArray[np.float32]], some: NDArray[np.int64] = some
        ) -> None:
            table[some[positions]] = found[DENSE]

        encoder.model.each(encoder.layout.framed(some.tolist()), [DENSE], keep)
    return table


def looked_up(table: NDArray[np.float32], ids: Sequence[Ids], *, normalize: bool) -> NDArray[np.float32]:
    """Returns float32 (len(ids), dim): the mean of the rows of each query's tokens; zero for one without tokens."""
    vectors = np.zeros((len(ids), table.shape[1]), np.float32)
    for vector, own in zip(vectors, ids, strict=True):
        if len(own):
            vector[:] = table[own].mean(0)
            norm = np.linalg.norm(vector)
            if normalize and norm > 0:
                vector /= norm
    return vectors


def _path(encoder: FamilyEncoder) -> Path:
    from ..folders import cache_folder

    identity = encoder.identity("dense")
    key = repr((identity.revision, identity.tokenizer, identity.activation))
    return cache_folder() / "lookups" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"

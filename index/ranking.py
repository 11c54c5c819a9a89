"""The order of a ranking: by score descending, then by document id descending (trec_eval's rule).

`Snapshot.settle` is its fast twin, which reads ids only where scores tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def ranked(scores: Mapping[str, float], k: int | None = None) -> list[tuple[str, float]]:
    """Returns (id, score) pairs in rank order, the first k of them when k is given."""
    return sorted(scores.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)[:k]


def id_ranks(ids: Sequence[str]) -> NDArray[np.uint32]:
    """Returns for each id its place in ascending id order: integers that break ties as the ids themselves would."""
    ranks = np.empty(len(ids), np.uint32)
    ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids), dtype=np.uint32)
    return ranks

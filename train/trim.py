"""Leaves out of a finished model the expansion terms that it does not use.

A head is trained for every word piece that comes often enough in the training text, and learns to give most of them to
no document. Their rows of the decoder change nothing, yet are multiplied with every token of every document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..encoders.checkpoint import read_checkpoint
from ..encoders.joint_checkpoint import read_sparse_half
from ..encoders.load import load_joint
from .export import rewritten

TRIED = 16_384  # documents that are looked at, evenly spaced: a few minutes
_AT_ONCE = 512
Progress = Callable[[int, int], None]


def leave_out_unused(
    checkpoint: Path, model: Path, documents: Sequence[str], least: int, on_progress: Progress | None = None
) -> int:
    """Leaves decoder rows that fewer documents than `least` use out of a checkpoint; returns how many are left.

    Args:
        checkpoint: a joint one; it is changed.
        model: what was built of it; it is not.
        documents: training documents; `TRIED` of them are looked at.
        least: how many must be given a term.
        on_progress: called with how many documents are done, and of how many.
    """
    tried = [documents[i * len(documents) // TRIED] for i in range(TRIED)] if len(documents) > TRIED else documents
    half, encoder = read_sparse_half(read_checkpoint(checkpoint)), load_joint(str(model))
    counts = np.zeros(half.rows, np.int64)
    for start in range(0, len(tried), _AT_ONCE):
        counts += encoder.term_uses(tried[start : start + _AT_ONCE])
        if on_progress is not None:
            on_progress(min(start + _AT_ONCE, len(tried)), len(tried))
    kept = np.flatnonzero(counts >= least)
    if not kept.size:  # a decoder has a row at least
        kept = counts.argmax(keepdims=True)
    words = read_checkpoint(checkpoint).tensors["words.weight"]
    terms = np.arange(half.rows, dtype=np.int32) if half.terms is None else half.terms
    rewritten(
        checkpoint,
        {
            "sparse.decoder.weight": half.tensors.get("sparse.decoder.weight", words)[kept],
            "sparse.decoder.bias": half.tensors["sparse.decoder.bias"][kept],
            "sparse.terms": terms[kept],
        },
    )
    return kept.size

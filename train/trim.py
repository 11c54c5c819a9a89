"""Leaves out of a finished model what it does not use: expansion terms, and places that it gives nothing by.

A head is trained for every word piece that comes often enough in the training text, and learns to give most of them to
no document. Their rows of the decoder change nothing, yet are multiplied with every token of every document. And of
most punctuation and stop words it learns that they are no terms; a quarter of all tokens then asks for terms in vain.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders.checkpoint import read_checkpoint
from ..encoders.joint import OnnxJointEncoder
from ..encoders.joint_checkpoint import read_sparse_half
from ..encoders.manifest import JOINT, open_folder
from ..encoders.stopwords import STOP_WORDS
from .export import rewritten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..encoders.joint import TermUses

TRIED = 16_384  # documents that are looked at, evenly spaced: a few minutes
# Fewer do not tell which terms others would be given. Of 58 terms a document (the embedded model on its training text),
# .25 are given to none of 1,000 other documents, .05 to none of 4,000, .02 to none of 16,000.
ENOUGH = 4_096
SELDOM = 0.2  # a stop word is silent where so many of the documents that hold it, or fewer, have it as a term
_AT_ONCE = 512
Progress = Callable[[int, int], None]


def leave_out(
    checkpoint: Path,
    model: Path,
    documents: Sequence[str],
    *,
    used: int = 0,
    silent: str = "",
    on_progress: Progress | None = None,
) -> None:
    """Leaves out of a checkpoint the expansion terms and places of tokens that some documents show to be of no use.

    Args:
        checkpoint: a joint one, without silent tokens; it is changed.
        model: what was built of it; it is not.
        documents: training documents; `TRIED` of them are looked at.
        used: how many documents must be given a term; of fewer than `ENOUGH` documents nothing is concluded.
        silent: the language whose stop words may be silent; empty: no token is.
        on_progress: called with how many documents are done, and of how many.
    """
    tried = [documents[i * len(documents) // TRIED] for i in range(TRIED)] if len(documents) > TRIED else documents
    if len(tried) < ENOUGH:
        used = 0
    if not (used or silent):
        return
    encoder = OnnxJointEncoder(open_folder(model, JOINT))
    uses = encoder.no_uses()
    for start in range(0, len(tried), _AT_ONCE):
        encoder.count_uses(tried[start : start + _AT_ONCE], uses)
        if on_progress is not None:
            on_progress(min(start + _AT_ONCE, len(tried)), len(tried))
    changed = _terms_left(checkpoint, uses.given, used) if used else {}
    quiet = _silent_tokens(encoder.model.tokenizer.vocabulary(), silent, uses) if silent else np.empty(0)
    if quiet.size:
        changed["sparse.silent"] = quiet
    rewritten(checkpoint, changed)


def _terms_left(folder: Path, given: NDArray[np.int64], least: int) -> dict[str, Any]:
    checkpoint = read_checkpoint(folder)
    half = read_sparse_half(checkpoint)
    kept = np.flatnonzero(given >= least)
    if not kept.size:  # a decoder has a row at least
        kept = np.array([given.argmax()])
    terms = np.arange(half.rows, dtype=np.int32) if half.terms is None else half.terms
    decoder = half.tensors.get("sparse.decoder.weight", checkpoint.tensors["words.weight"])
    found = {"sparse.decoder.weight": decoder, "sparse.decoder.bias": half.tensors["sparse.decoder.bias"]}
    return {name: tensor[kept] for name, tensor in {**found, "sparse.terms": terms}.items()}


def _silent_tokens(vocabulary: dict[str, int], language: str, uses: TermUses) -> NDArray[np.int32]:
    """Returns the ids of the punctuation and stop words that are seldom terms of the documents that hold them."""
    words = {form for word in STOP_WORDS[language] for form in (word, word.capitalize())}
    found = sorted(number for token, number in vocabulary.items() if token in words or _punctuation(token))
    ids = np.array(found, np.int64)  # also where there is none
    return ids[uses.kept[ids] <= SELDOM * uses.held[ids]].astype(np.int32)


def _punctuation(token: str) -> bool:
    return len(token) == 1 and (token in string.punctuation or unicodedata.category(token).startswith("P"))

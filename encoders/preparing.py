"""Encoders made ready for a large job: over several processes, in front of a vector cache, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from .cache import VectorCache
from .cached import cached_dense, cached_learned, cached_pair
from .contract import DenseEncoder, EncoderError, SparseEncoder
from .load import load_dense, load_learned
from .pool import Pool
from .processes import PooledDense, PooledJoint, PooledLearned
from .worker import DENSE, JOINT, LEARNED

Given: TypeAlias = str | SparseEncoder | DenseEncoder
_LOADERS: dict[str, Any] = {LEARNED: load_learned, DENSE: load_dense}
_FACES: dict[str, Any] = {LEARNED: PooledLearned, DENSE: PooledDense}
_CACHED: dict[str, Any] = {LEARNED: cached_learned, DENSE: cached_dense}


@contextmanager
def prepared(
    *,
    learned: Given | None = None,
    dense: Given | None = None,
    cache: VectorCache | None = None,
    processes: int | None = None,
    devices: Sequence[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields encoders by strand, for `Retriever.create` and `Retriever.open`; processes end with the block.

    An index that is made with them remembers the names, so that it opens without cache and processes.

    Args:
        learned: a name, or with a cache an encoder; None for none.
        dense: the same.
        cache: where vectors are kept.
        processes: how many share the encoding of documents; where None, one for each device, or this one alone.
        devices: where the processes run their models, by turns, as ["cuda:0", "cuda:1"].

    Raises:
        EncoderError: a model cannot be loaded, or processes are asked for and a model is no name.
    """
    made = {strand: given for strand, given in ((LEARNED, learned), (DENSE, dense)) if given is not None}
    with ExitStack() as stack:
        if made and (devices or (processes is not None and processes != 1)):
            made = _over_processes(made, processes, devices, stack)
        if made and cache is not None:
            made = _before_cache(made, cache)
        yield made


def _over_processes(
    given: dict[str, Any], processes: int | None, devices: Sequence[str] | None, stack: ExitStack
) -> dict[str, Any]:
    for strand, model in given.items():
        if not isinstance(model, str):
            raise EncoderError(
                f"the {strand} encoder is a {type(model).__name__}; processes load their own: give the name of a model"
            )
    pool = Pool(given, processes=processes, devices=devices)
    stack.callback(pool.close)
    joint = PooledJoint(pool) if pool.facts[JOINT] else None
    return {strand: _FACES[strand](pool, joint=joint) for strand in given}


def _before_cache(given: dict[str, Any], cache: VectorCache) -> dict[str, Any]:
    encoders = {
        strand: _LOADERS[strand](model) if isinstance(model, str) else model for strand, model in given.items()
    }  # fmt: skip
    found: dict[str, Any] = {strand: _CACHED[strand](encoder, cache) for strand, encoder in encoders.items()}
    if len(encoders) == 2:
        found[LEARNED], found[DENSE] = cached_pair(encoders[LEARNED], encoders[DENSE], cache)
    for strand, model in given.items():
        if isinstance(model, str):
            found[strand].load_name = model
    return found

"""Encoders of one strand, or both, over a pool of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contract import EncoderError, FullQueries, Identity, full_queries
from .pool import Pool
from .worker import DENSE, JOINT, LEARNED, READY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

KINDS = {DENSE: (DENSE,), LEARNED: (LEARNED,), JOINT: (LEARNED, DENSE)}


class PooledJoint:
    """A `JointEncoder` over a pool; its `learned` and `dense` are encoders of one strand each.

    Args:
        pool: one with models for both strands, halves of one.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        if not pool.facts[JOINT]:
            names = " and ".join(repr(name) for name in dict.fromkeys(pool.models.values()))
            pool.close()
            raise EncoderError(f"{names}: no joint encoder; make a pool of each strand")

    @property
    def learned(self) -> PooledLearned:
        """The learned strand alone."""
        return PooledLearned(self.pool, joint=self)

    @property
    def dense(self) -> PooledDense:
        """The dense strand alone."""
        return PooledDense(self.pool, joint=self)

    def encode_documents(self, texts: Sequence[str]) -> tuple[csr_matrix, NDArray[np.float32]]:
        """Returns the sparse and the dense vectors of the same texts."""
        sparse, dense = self.pool.encode(JOINT, texts)
        return sparse, dense

    def close(self) -> None:
        """Ends the processes."""
        self.pool.close()


class _Pooled:
    """What the two encoders of one strand share.

    Args:
        pool: one with a model for the strand.
        joint: the pooled joint encoder that this one is half of.
    """

    _strand: str

    def __init__(self, pool: Pool, *, joint: PooledJoint | None = None) -> None:
        self.pool, self.joint = pool, joint
        self.at_once = pool.at_once
        self.load_name = pool.load_name(self._strand)
        identity = Identity.from_json(pool.facts[READY][self._strand])
        self._identity = replace(identity, name=self.load_name) if pool.devices else identity  # whatever the device

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder; how many processes there are moves none."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> Any:
        """Returns the vectors of documents, made by all processes."""
        return self.pool.encode(self._strand, texts)[0]

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Returns the vectors of queries, made in this process."""
        return self.encoder.encode_queries(texts)

    @cached_property
    def encoder(self) -> Any:
        """The encoder of this process, which encodes queries; loaded when the first one comes."""
        return self.pool.here(self._strand)

    @property
    def queries(self) -> str | None:
        """Where queries come from, if the encoder says so."""
        return getattr(self.encoder, "queries", None)

    def close(self) -> None:
        """Ends the processes."""
        self.pool.close()


class PooledDense(_Pooled):
    """A `DenseEncoder` over a pool."""

    _strand = DENSE


class PooledLearned(_Pooled):
    """A `SparseEncoder` over a pool."""

    _strand = LEARNED

    def document_terms(self, texts: Sequence[str]) -> csr_matrix:
        """Returns the documents' own terms, found in this process: they cost no model."""
        return getattr(self.encoder, "document_terms", self.encoder.encode_queries)(texts)

    @property
    def full_queries(self) -> FullQueries | None:
        """What gives full queries for the encoder behind this one; None where nothing does."""
        return full_queries(self.encoder)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the readable names of a query's terms, by column."""
        return self.encoder.term_names(text)


_FACES = {DENSE: PooledDense, LEARNED: PooledLearned, JOINT: PooledJoint}


def pooled(
    name: str | Path,
    *,
    kind: str,
    processes: int | None = None,
    devices: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Returns an encoder whose documents several processes encode, each with its own copy of a model.

    Args:
        name: what `load_dense` or `load_learned` takes.
        kind: "dense", "learned", or "joint" for both halves of one model.
        processes: how many; one for each device where None.
        devices: where they run their models, by turns, as ["cuda:0", "cuda:1"].
        options: more of `plait.encoders.specs.OPTIONS`.

    Raises:
        EncoderError: the model cannot be loaded, or is of another kind.
    """
    if kind not in KINDS:
        raise EncoderError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
    strands = KINDS[kind]
    pool = Pool(
        dict.fromkeys(strands, str(name)),
        processes=processes,
        devices=devices,
        options=dict.fromkeys(strands, options),
    )
    return _FACES[kind](pool)

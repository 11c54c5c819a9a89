"""Text to vectors: dense, learned sparse and lexical encoders behind the protocols of `plait.encoders.contract`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import UnsupportedModelError as UnsupportedModelError
    from .contract import DenseEncoder as DenseEncoder
    from .contract import EncoderError as EncoderError
    from .contract import Identity as Identity
    from .contract import JointEncoder as JointEncoder
    from .contract import SparseEncoder as SparseEncoder
    from .cross import CrossEncoder as CrossEncoder
    from .cross import OnnxCrossEncoder as OnnxCrossEncoder
    from .cross import load_cross as load_cross
    from .dense import OnnxDenseEncoder as OnnxDenseEncoder
    from .joint import OnnxJointEncoder as OnnxJointEncoder
    from .learned import OnnxSparseEncoder as OnnxSparseEncoder
    from .load import load_dense as load_dense
    from .load import load_joint as load_joint
    from .load import load_learned as load_learned

# public name -> module that has it; imported when first asked for, so that a query never pays for a model
_HOME = {
    "CrossEncoder": "cross",
    "DenseEncoder": "contract",
    "EncoderError": "contract",
    "Identity": "contract",
    "JointEncoder": "contract",
    "SparseEncoder": "contract",
    "UnsupportedModelError": "checkpoint",
    "OnnxCrossEncoder": "cross",
    "OnnxDenseEncoder": "dense",
    "OnnxJointEncoder": "joint",
    "OnnxSparseEncoder": "learned",
    "load_cross": "cross",
    "load_dense": "load",
    "load_joint": "load",
    "load_learned": "load",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOME)

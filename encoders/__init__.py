"""Text to vectors: dense, learned sparse and lexical encoders behind the protocols of `plait.encoders.contract`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import CacheWarning as CacheWarning
    from .cache import VectorCache as VectorCache
    from .cached import cached_dense as cached_dense
    from .cached import cached_learned as cached_learned
    from .cached import cached_pair as cached_pair
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
    from .model_files import UnsupportedModelError as UnsupportedModelError
    from .preparing import prepared as prepared
    from .processes import pooled as pooled
    from .terms import TermsEncoder as TermsEncoder

# public name -> module that has it; imported when first asked for, so that a query never pays for a model
_HOME = {
    "CacheWarning": "cache",
    "CrossEncoder": "cross",
    "DenseEncoder": "contract",
    "EncoderError": "contract",
    "Identity": "contract",
    "JointEncoder": "contract",
    "SparseEncoder": "contract",
    "UnsupportedModelError": "model_files",
    "VectorCache": "cache",
    "OnnxCrossEncoder": "cross",
    "OnnxDenseEncoder": "dense",
    "OnnxJointEncoder": "joint",
    "OnnxSparseEncoder": "learned",
    "TermsEncoder": "terms",
    "cached_dense": "cached",
    "cached_learned": "cached",
    "cached_pair": "cached",
    "load_cross": "cross",
    "load_dense": "load",
    "load_joint": "load",
    "load_learned": "load",
    "pooled": "processes",
    "prepared": "preparing",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOME)

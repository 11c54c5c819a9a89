"""Which encoders an index uses: chosen at creation, remembered in its settings, checked when it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ..encoders.contract import DenseEncoder, Identity, JointEncoder, SparseEncoder
from .errors import MismatchError
from .strands import Dense, Sparse, Strand

Given: TypeAlias = str | SparseEncoder | DenseEncoder
_HALVES = ("learned", "dense")  # of what a joint encoder returns, in its order


class Vectors(NamedTuple):
    """Documents as an index stores them; see `plait.index.Writer.add`."""

    sparse: dict[str, Any]
    dense: Any
    literal: dict[str, Any]


class Encoders:
    """The strands of one index by name, and where each encoder came from."""

    def __init__(self, strands: Mapping[str, Strand], sources: Mapping[str, str | None]) -> None:
        self._strands, self._sources = strands, sources
        self._joint = _joint(strands)

    @property
    def names(self) -> list[str]:
        """The strands there are."""
        return list(self._strands)

    def strand(self, name: str) -> Strand:
        """Returns a strand by name."""
        return self._strands[name]

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Returns what every strand stores of these texts; halves of one joint encoder share its pass."""
        both = dict(zip(_HALVES, self._joint.encode_documents(texts), strict=True)) if self._joint else {}
        vectors = {
            name: both[name] if name in both else strand.encode_documents(texts)
            for name, strand in self._strands.items()
        }
        dense = vectors.pop("dense", None)
        own = {name: strand.literal_terms(texts) for name, strand in self._strands.items()}
        return Vectors(vectors, dense, {name: rows for name, rows in own.items() if rows is not None})

    def dense_queries(self, texts: Sequence[str]) -> Any:
        """Returns the dense vectors of some queries, float32 (n, dim)."""
        strand: Any = self._strands["dense"]
        return strand.encoder.encode_queries(list(texts))

    def to_json(self) -> dict[str, Any]:
        """Returns what the index remembers: for each strand the source (None for an object) and the identity."""
        return {
            name: {"source": self._sources[name], "identity": strand.identity.to_json()}
            for name, strand in self._strands.items()
        }


def _joint(strands: Mapping[str, Strand]) -> JointEncoder | None:
    """Returns the joint encoder of which both the learned and the dense strand are halves; None where they are not."""
    encoders = [getattr(strands.get(name), "encoder", None) for name in _HALVES]
    learned, dense = (getattr(encoder, "joint", None) for encoder in encoders)
    return learned if learned is dense else None


def made_with(names: Sequence[str], given: Mapping[str, Given]) -> Encoders:
    """Returns the encoders of a new index."""
    strands = {name: _MAKERS[name](given[name]) for name in names}
    return Encoders(strands, {name: _source(name, given[name]) for name in names})


def _source(name: str, given: Given) -> str | None:
    """Returns what an index remembers of an encoder: its name; a folder by its full path; None for an object."""
    if not isinstance(given, str) or name == "lexical":
        return given if isinstance(given, str) else None
    from ..encoders.load import is_embedded

    return str(Path(given).resolve()) if not is_embedded(given) and Path(given).is_dir() else given


def remembered(settings: Mapping[str, Any], given: Mapping[str, Given | None]) -> Encoders:
    """Returns the encoders of an existing index.

    Raises:
        MismatchError: one differs from the encoder that built the index, or must be given and is not.
    """
    strands = {}
    for name, facts in settings.items():
        chosen = given[name] if given[name] is not None else facts["source"]
        if chosen is None:
            message = (
                f"the {name} strand was built with an encoder object, {facts['identity']['name']!r}; "
                f"pass it again: Retriever.open(..., {name}=encoder)"
            )
            raise MismatchError(message)
        strands[name] = _MAKERS[name](chosen)
        _check(name, Identity.from_json(facts["identity"]), strands[name].identity)
    return Encoders(strands, {name: facts["source"] for name, facts in settings.items()})


def _check(name: str, built: Identity, found: Identity) -> None:
    if changed := built.differences(found):
        values = [f"{field}: {getattr(built, field)} then, {getattr(found, field)} now" for field in changed]
        message = (
            f"the {name} strand was built with {built.name!r}; {found.name!r} gives other vectors "
            f"({'; '.join(values)}). Open the index with the encoder that built it, or index again"
        )
        raise MismatchError(message)


def _lexical(given: Any) -> Strand:
    from ..encoders.lexical import LexicalEncoder

    return Sparse("lexical", LexicalEncoder(given) if isinstance(given, str) else given)


def _learned(given: Any) -> Strand:
    from ..encoders.load import load_learned

    return Sparse("learned", load_learned(given) if isinstance(given, str) else given)


def _dense(given: Any) -> Strand:
    from ..encoders.load import load_dense

    return Dense(load_dense(given) if isinstance(given, str) else given)


_MAKERS = {"lexical": _lexical, "learned": _learned, "dense": _dense}

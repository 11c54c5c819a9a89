"""Which encoders an index uses: chosen at creation, remembered in its settings, checked when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..encoders.contract import DenseEncoder, Identity, JointEncoder, SparseEncoder
from ..encoders.terms import TermsEncoder
from .encoded import check_encoder, halves
from .errors import MismatchError, QueryError
from .strands import ALL_STRANDS, LUCENE, LUCENE_IMPACT, NEIGHBOURS, Dense, Sparse, Strand

if TYPE_CHECKING:
    from .lucene import LuceneStrand

Given: TypeAlias = str | SparseEncoder | DenseEncoder
Neighbour: TypeAlias = "str | PathLike[str] | LuceneStrand"
OWN_TERMS = "terms of the index"  # the source of an encoder whose vocabulary lies in the index folder
CHUNK = 256  # documents encoded and buffered at a time, where no encoder wants more
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
        impact: Any = strands.get(LUCENE_IMPACT)
        if impact is not None:
            impact.paired(strands.get("learned"))

    @property
    def names(self) -> list[str]:
        """The strands there are."""
        return list(self._strands)

    @property
    def at_once(self) -> int:
        """How many documents are best encoded at a time; an encoder over processes or GPUs says so as `at_once`."""
        encoders = [getattr(strand, "encoder", None) for strand in self._strands.values()]
        return max((getattr(encoder, "at_once", CHUNK) for encoder in encoders), default=CHUNK)

    def strand(self, name: str) -> Strand:
        """Returns a strand by name."""
        return self._strands[name]

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Returns what every strand stores of these texts; halves of one joint encoder share its pass."""
        both = self._both(self._joint, texts) if self._joint else {}
        vectors = {
            name: both[name] if name in both else strand.encode_documents(texts)
            for name, strand in self._strands.items()
        }
        dense = vectors.pop("dense", None)
        vectors = {name: rows for name, rows in vectors.items() if rows is not None}
        if not vectors and dense is None:  # only Lucene has terms; a document is stored all the same
            from scipy.sparse import csr_matrix

            vectors = {"lexical": csr_matrix((len(texts), 1), dtype="float32")}
        own = {name: strand.literal_terms(texts) for name, strand in self._strands.items()}
        return Vectors(vectors, dense, {name: rows for name, rows in own.items() if rows is not None})

    def _both(self, joint: JointEncoder, texts: Sequence[str]) -> dict[str, Any]:
        """Returns what the halves of a joint encoder store, by strand."""
        strands: list[Any] = [self._strands[name] for name in _HALVES]
        made = halves(joint.encode_documents(texts), strands[0].identity)
        pairs = zip(_HALVES, strands, made, strict=True)
        return {name: strand.stored(rows, len(texts)) for name, strand, rows in pairs}

    def dense_queries(self, texts: Sequence[str]) -> Any:
        """Returns the dense vectors of some queries, float32 (n, dim)."""
        strand: Any = self._strands["dense"]
        return strand.query_rows(list(texts))

    def close(self) -> None:
        """Lets go of the indexes of others that strands search."""
        for name in NEIGHBOURS:
            strand: Any = self._strands.get(name)
            if strand is not None:
                strand.close()

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


def made_with(names: Sequence[str], given: Mapping[str, Any]) -> Encoders:
    """Returns the encoders of a new index.

    Raises:
        QueryError: a strand is given no encoder.
    """
    for name in names:
        if given[name] is None and name not in NEIGHBOURS:  # which say themselves what they need
            others = ",".join(other for other in names if other != name)
            how = f', or leave the strand out: strands="{others}"' if others else ""
            raise QueryError(f"the strand {name!r} is given no encoder: name one{how}")
    strands = {name: _MAKERS[name](given[name]) for name in names}
    return Encoders(strands, {name: _source(name, given[name]) for name in names})


def _source(name: str, given: Any) -> str | None:
    """Returns what an index remembers of an encoder: its name; a folder by its full path; None for an object.

    An encoder behind a cache or a pool has the name that loads it without either as `load_name`.
    """
    if name in NEIGHBOURS:
        from .lucene import strand_of

        return strand_of(name, given).source
    known: str | None = given if isinstance(given, str) else getattr(given, "load_name", None)
    if known is None or name == "lexical":
        return known
    from ..encoders.folders import is_embedded
    from ..encoders.specs import parse

    model = parse(known).name  # without the options behind it
    if is_embedded(model) or not Path(model).is_dir():
        return known
    return f"{Path(model).resolve()}{known.strip().removeprefix(model)}"


def remembered(settings: Mapping[str, Any], given: Mapping[str, Any], folder: Path) -> Encoders:
    """Returns the encoders of an existing index, which is in a folder.

    Raises:
        MismatchError: one differs from the encoder that built the index, is of a strand that the index has not, or must
            be given and is not.
    """
    for name, one in given.items():
        if one is not None and name not in settings and name not in NEIGHBOURS:
            message = f"{folder} has no {name} strand, only {', '.join(settings)}: no encoder can be given for it"
            raise MismatchError(message)
    strands = {}
    for name, facts in settings.items():
        chosen = given[name] if given.get(name) is not None else facts["source"]
        if chosen is None:
            message = (
                f"the {name} strand was built with an encoder object, {facts['identity']['name']!r}; "
                f"pass it again: Retriever.open(..., {_key(name)}=encoder)"
            )
            raise MismatchError(message)
        if chosen == OWN_TERMS:
            chosen = TermsEncoder.open(folder)
        strands[name] = _MAKERS[name](chosen)
        if name in NEIGHBOURS:
            # Nothing that is stored depends on it: one that is named again is taken as it is now.
            strands[name].expected = None if given.get(name) is not None else Identity.from_json(facts["identity"])
            continue
        _check(name, Identity.from_json(facts["identity"]), strands[name].identity)
    sources = {name: facts["source"] for name, facts in settings.items()}
    for name in NEIGHBOURS:
        if name not in strands and given.get(name) is not None:
            strands[name] = _MAKERS[name](given[name])
            sources[name] = strands[name].source
    return Encoders({name: strands[name] for name in ALL_STRANDS if name in strands}, sources)


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

    return Sparse(
        "lexical", LexicalEncoder(given) if isinstance(given, str) else check_encoder(given, "lexical", "term_names")
    )


def _learned(given: Any) -> Strand:
    from ..encoders.load import load_learned

    return Sparse(
        "learned", load_learned(given) if isinstance(given, str) else check_encoder(given, "learned", "term_names")
    )


def _dense(given: Any) -> Strand:
    from ..encoders.load import load_dense

    return Dense(load_dense(given) if isinstance(given, str) else check_encoder(given, "dense"))


def _neighbour(name: str, given: Any) -> Any:
    from .lucene import strand_of

    if given is None:
        raise QueryError(
            f"the strand {name!r} needs a Lucene index: name its folder with --{name}, or {_key(name)}=..."
        )
    return strand_of(name, given)


def _key(name: str) -> str:
    """Returns a strand's name as an argument has it."""
    return name.replace("-", "_")


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "lexical": _lexical,
    "learned": _learned,
    "dense": _dense,
    LUCENE: partial(_neighbour, LUCENE),
    LUCENE_IMPACT: partial(_neighbour, LUCENE_IMPACT),
}

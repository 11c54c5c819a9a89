"""What is published about encoders: size, licence, needs, figures on BEIR with their source, and what they trained on.

The facts are data, in catalogue.json beside this file. A figure without a source that we have read is not there: a
missing value means that we do not know, never that it is zero.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .contract import EncoderError
from .folders import STATIC_NAMES, plain_name

DATA = Path(__file__).with_name("catalogue.json")
LEARNED, DENSE, RERANK, BOTH = "learned", "dense", "rerank", "both"

# BEIR's collections by the names of their folders (arXiv 2104.08663), and those that a mean is taken over: 13 as the
# SPLADE papers do, 15 as MTEB does, 18 as BEIR itself does.
COLLECTIONS: Mapping[str, str] = {
    "msmarco": "MS MARCO", "trec-covid": "TREC-COVID", "bioasq": "BioASQ", "nfcorpus": "NFCorpus", "nq": "NQ",
    "hotpotqa": "HotpotQA", "fiqa": "FiQA", "signal1m": "Signal-1M", "trec-news": "TREC-NEWS", "robust04": "Robust04",
    "arguana": "ArguAna", "webis-touche2020": "Touché-2020", "cqadupstack": "CQADupStack", "quora": "Quora",
    "dbpedia-entity": "DBPedia", "scidocs": "SCIDOCS", "fever": "FEVER", "climate-fever": "Climate-FEVER",
    "scifact": "SciFact",
}  # fmt: skip
_RARE = {"bioasq", "signal1m", "trec-news", "robust04"}
MEANS: Mapping[int, frozenset[str]] = {
    13: frozenset(COLLECTIONS) - _RARE - {"msmarco", "cqadupstack"},
    15: frozenset(COLLECTIONS) - _RARE,
    18: frozenset(COLLECTIONS) - {"msmarco"},
}

NEEDS: Mapping[str, str] = {
    "export": 'pip install "plait[export]", which builds its ONNX form once; then no torch',
    "torch": 'pip install "plait[torch]"',
    "gpu": "a GPU in practice: it is a large language model",
    "remote-code": "trust_remote_code=true: it comes with code of its own, which is then run",
    "gated": "its conditions accepted on the hub, and a hub token on this machine",
    "pair": "a second encoder for queries: the hub folder holds both, as a Router of sentence-transformers",
    "expanded": "documents expanded beforehand (docT5query and the like): it weighs words and adds none",
    "adapter": "LoRA weights merged into their base model: give the merged folder in place of FOLDER",
    "checkpoint": "a checkpoint of your own: give its folder in place of FOLDER",
}


class Mean(NamedTuple):
    """A mean nDCG@10, and the number of collections it is over."""

    value: float
    over: int


@dataclass(frozen=True)
class Figures:
    """What one source says of one strand's nDCG@10 on BEIR, from 0 to 1.

    Attributes:
        strand: "learned", "dense", or "fused" with the lexical one.
        source: where that is written.
        mean: over `over` collections; None where the source has none.
        over: a key of `MEANS`.
        collections: by collection, a key of `COLLECTIONS`; empty where the source has the mean alone.
        note: what else must be known.
    """

    strand: str
    source: str
    mean: float | None = None
    over: int | None = None
    collections: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Other:
    """A figure that is not nDCG@10 on BEIR."""

    what: str
    value: float
    source: str


@dataclass(frozen=True)
class Entry:
    """What is published about one model.

    Attributes:
        name: its hub name, an embedded name, or the paper's name where no checkpoint is published.
        family: how its checkpoints become vectors, a row of the encoders' table of families.
        strands: those that it fills: "learned", "dense", or both; ("rerank",) for a cross-encoder.
        source: where this is from, its model card where there is one.
        parameters: how many; None where we could not verify it.
        licence: as its makers name it; None where they name none, or we could not verify it.
        needs: what is needed beside plait, keys of `NEEDS`.
        overlaps: BEIR's collections that its training data are from; None where that is not published, or not known.
        overlaps_source: where that is written.
        partly: whether there are more training data than the source names: nothing is known to be unseen then.
        figures: on BEIR.
        others: elsewhere.
        paper: an arXiv id.
        options: of its spec, as in "NAME:options".
        path: what stands for the name in commands where the hub has nothing that can be opened.
        note: what else must be known.
    """

    name: str
    family: str
    strands: tuple[str, ...]
    source: str
    parameters: int | None = None
    licence: str | None = None
    needs: tuple[str, ...] = ()
    overlaps: tuple[str, ...] | None = None
    overlaps_source: str = ""
    partly: bool = False
    figures: tuple[Figures, ...] = ()
    others: tuple[Other, ...] = ()
    paper: str = ""
    options: str = ""
    path: str = ""
    note: str = ""

    @property
    def spec(self) -> str:
        """What to write after --learned and --dense: a name and options."""
        name = f"{self.path}:family={self.family}" if self.path else self.name
        return f"{name}:{self.options}" if self.options else name

    @property
    def embedded(self) -> bool:
        """Whether the model comes with plait."""
        return self.family == "plait"

    @property
    def mean(self) -> Mean | None:
        """The first published mean, whatever it was trained on; None where none is known."""
        found = (Mean(each.mean, each.over) for each in self.figures if each.mean is not None and each.over)
        return next(found, None)

    @property
    def unseen(self) -> Mean | None:
        """The mean over the collections that its training data are not from: what may be called zero-shot.

        None where the training data are not known, or not all, or where no figures of such collections are.
        """
        known = None if self.partly else self.overlaps
        found = (unseen(each, known) for each in self.figures if each.strand != "fused")
        return next((each for each in found if each is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Returns the entry as plain JSON values, with what follows from it."""
        return {**asdict(self), "spec": self.spec, "mean": _pair(self.mean), "unseen": _pair(self.unseen)}


def unseen(figures: Figures, overlaps: Iterable[str] | None) -> Mean | None:
    """Returns the mean over those collections of some figures that a model was not trained on; None if not known."""
    if overlaps is None:
        return None
    left = [value for name, value in figures.collections.items() if name not in set(overlaps)]
    if left:
        return Mean(sum(left) / len(left), len(left))
    if figures.collections or figures.mean is None or figures.over is None or MEANS[figures.over] & set(overlaps):
        return None
    return Mean(figures.mean, figures.over)


@cache
def entries() -> tuple[Entry, ...]:
    """Returns every entry, in the order of the file: read once, when first asked for."""
    return tuple(_entry(values) for values in json.loads(DATA.read_text(encoding="utf-8")))


def find(name: str) -> Entry:
    """Returns the entry of a name, whatever its case; the part after the slash will do where it is the only such.

    The names of embedded models that stand for one with its static queries, and "embedded/" before one, are known.

    Raises:
        EncoderError: there is none; the message has the nearest names.
    """
    wanted = plain_name(name.strip().casefold())
    if (found := _by_name().get(STATIC_NAMES.get(wanted, wanted))) is not None:
        return found
    short = [each for full, each in _by_name().items() if full.rpartition("/")[2] == wanted]
    if len(short) == 1:
        return short[0]
    near = nearest(name)
    hint = f"did you mean {', '.join(near)}?" if near else "plait models lists those that there are"
    raise EncoderError(f"no model {name!r} in the catalogue; {hint}")


def family_of(name: str) -> str | None:
    """Returns the family of an encoder's hub name, whatever its case; None where the catalogue does not know it.

    A cross-encoder is no encoder: None, too.
    """
    entry = _by_name().get(name.strip().casefold())
    return None if entry is None or entry.strands == (RERANK,) else entry.family


def families() -> list[str]:
    """Returns the families of the catalogue, in its order."""
    return list(dict.fromkeys(entry.family for entry in entries()))


def chosen(*, family: str | None = None, strand: str | None = None) -> list[Entry]:
    """Returns the entries of a family, of a strand ("learned", "dense"), or of "both" strands.

    Raises:
        EncoderError: the catalogue has no such family, or there is no such strand.
    """
    if family is not None and family not in families():
        raise EncoderError(f"no family {family!r} in the catalogue; there are: {', '.join(families())}")
    if strand not in (None, LEARNED, DENSE, BOTH):
        raise EncoderError(f"strand is {strand!r}; expected {LEARNED}, {DENSE} or {BOTH}")
    wanted = {LEARNED, DENSE} if strand == BOTH else {strand} - {None}
    return [each for each in entries() if family in (None, each.family) and wanted <= set(each.strands)]


def nearest(name: str, count: int = 3) -> list[str]:
    """Returns up to `count` names that look like one: by the whole of it, or by the part after the slash."""
    import difflib

    wanted = name.strip().casefold()
    keys = {each.casefold(): entry.name for each, entry in _keys()}
    found = difflib.get_close_matches(wanted, keys, n=2 * count, cutoff=0.6)
    held = [key for key in keys if wanted and wanted in key]
    return list(dict.fromkeys(keys[key] for key in [*found, *held]))[:count]


def is_here(entry: Entry) -> bool:
    """Returns whether a model comes with plait, or lies in the hub's cache on this machine. Asks no network."""
    folder = hub_cache() / f"models--{entry.name.replace('/', '--')}" / "snapshots"
    return entry.embedded or any(folder.glob("*/*"))


def hub_cache() -> Path:
    """Returns where huggingface_hub keeps what it fetched, by its own rules, without importing it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def _keys() -> Sequence[tuple[str, Entry]]:
    return [(key, each) for each in entries() for key in (each.name, each.name.rpartition("/")[2])]


@cache
def _by_name() -> Mapping[str, Entry]:
    return {entry.name.casefold(): entry for entry in entries()}


def _entry(values: Mapping[str, Any]) -> Entry:
    parts = {
        "strands": tuple(values["strands"]),
        "needs": tuple(values.get("needs", ())),
        "overlaps": tuple(values["overlaps"]) if "overlaps" in values else None,
        "figures": tuple(Figures(**each) for each in values.get("figures", ())),
        "others": tuple(Other(**each) for each in values.get("others", ())),
    }
    return Entry(**{**values, **parts})


def _pair(mean: Mean | None) -> dict[str, Any] | None:
    return None if mean is None else {"ndcg@10": round(mean.value, 4), "collections": mean.over}

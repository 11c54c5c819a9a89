"""Recipes: everything that decides what a training makes, in one small table that can be read, changed and kept.

A recipe is data. The named ones of `RECIPES` differ in a few fields; a TOML file changes others:

    base = "inference-free-l0"
    steps = 3000
    [teachers]
    dense = 0.6
    bm25 = 0.4
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..encoders.stopwords import STOP_WORDS
from ..retriever.toml import read_toml
from .errors import TrainError

Weights = dict[str, float]

QUERIES = ("encoded", "binary", "idf")
NORMS = ("minmax", "zscore", "none")
LOSS_NAMES = ("kl", "infonce", "margin_mse")
BOTH_LOSSES = ("dense", "states", "terms", "own", "order")  # of the strand "both"
PENALTY_NAMES = ("flops", "l0", "l1", "none")
ACTIVATION_NAMES = ("log1p", "log1p_log1p")
POOLING_NAMES = ("max", "sum")
MINING = ("lexical", "learned", "dense", "base")


MERGING = ("full_layers", "long_from", "repeats")
# What has a bearing on what is exported, and on no step; `MERGING` on those of strand "both".
FINISHING = (
    "name",
    "idf",
    "encoder_length",
    "prune",
    "expansion",
    "damping",
    "query_expansion",
    "silent",
    *MERGING,
    "used",
)


@dataclass(frozen=True)
class Recipe:
    """What a training does. Every field has a bearing on the result; paths, threads and devices are not here.

    Attributes:
        name: what it is called.
        strand: "learned" trains a sparse head, "dense" a static query table, "both" a joint model whose equal tokens
            merge (`full_layers`), towards what it gives where none does; what else finishes it is its base's. With the
            loss "order" its dense half learns which texts the teachers, dense encoders, find alike.
        steps: gradient steps.
        documents: documents in a step.
        seeds: queries drawn for a step; each brings its document and shares the rest of the places among its hard
            negatives. With the loss "order", documents drawn, which share the places among their neighbours.
        queries: the most queries scored against a step's documents. Without a transformer in the query they cost next
            to nothing, so a document meets its own and its neighbours' queries.
        query_side: "encoded" by the same model (SPLADE), "binary" presence, or presence times "idf" (inference-free).
        idf: whose inverse document frequencies weigh the finished encoder's queries: those of the "corpus" that is
            searched, or the "trained" ones, which come with the model. Training itself knows its own text alone.
        branch: layers of the trunk that the sparse strand has a copy of.
        trunk: "frozen", or "tuned": the shared layers learn too.
        keep_dense: weight of the distance between the trunk's dense vector and the original's; for a tuned trunk.
        rank: width of the head; 0 ties its decoder to the word table.
        terms: how often a word piece must occur in the training text to be an expansion term; 0: all are.
        prune: the finished encoder leaves out terms that weigh no more than this share of a document's largest weight.
        expansion: the finished encoder gives terms that are none of a document's own so many times their weight. The
            penalty holds them down in training.
        damping: the finished encoder divides a document's weights by their Euclidean norm to this power. Terms add up
            in a long text, and more in one longer than those trained on, so that it would match everything.
        query_expansion: the finished encoder gives a query that no dense strand hears the terms that are near it in the
            table of static queries, once the model has one; they weigh their cosine less .2 times this.
        silent: the finished encoder gives a document nothing by its punctuation and the stop words of this language,
            which are no terms of a query either: by those, that is, which training made terms of no more than a fifth
            of the documents that hold them. They stay what others are understood by. Empty: every token is heard.
        full_layers: attention sees every token in so many layers of the finished encoder's trunk; after that of the
            last, equal tokens of a long text merge, for both halves, see `plait.encoders.joint_checkpoint`. 0: they
            stay apart. -1: as in the base, where its trunk is frozen; else they stay apart.
        long_from: tokens that a long text has at least, for `full_layers`.
        repeats: what the score of an own word gains, in such a text, where it stands for n tokens: so many times ln n.
        all_layers: whether the layers below the merging learn as well; for strand "both".
        used: the finished encoder has no expansion terms that fewer of the training documents are given than this; a
            head is trained for many that it never uses. 0, and where there are fewer than 4,096 documents: all stay.
        gelu: whether the head's transform has an activation.
        literal: the literal residual: a document's own words have a learned weight beside the expansion.
        activation: "log1p" or "log1p_log1p", after pooling.
        pooling: "max" or "sum".
        losses: loss -> weight.
        scale: what a sparse score, or a cosine, is multiplied by before a softmax.
        penalty: "flops", "l0", "l1" or "none".
        penalty_weight: of the documents' penalty, when warmed up.
        query_penalty_weight: of the queries' penalty; for encoded queries.
        tau: active terms that a document may have without penalty; for "l0".
        warm_up: share of the steps in which the penalty rises, as the square of the step.
        teachers: teacher -> weight: "base" (the dense half of the model that a training starts from), "dense" (that of
            the embedded one), "bm25", or the name or folder of any encoder.
        teacher_norm: how a teacher's scores of one query are normalised before they are averaged; for strand "both",
            cosines about the mean of its vectors are averaged as they are.
        teacher_scale: what the average is multiplied by.
        mining: where hard negatives come from; empty: none.
        neighbours: queries of neighbouring documents that join a step, per document.
        rate: learning rate of what is new.
        layer_rate: learning rate of transformer layers.
        decay: share of the steps in which the rates fall to nothing, at the end.
        max_length: tokens read of a document in training.
        encoder_length: tokens that the finished encoder reads.
        precision: "fp32", or "mixed": frozen layers in int8 (on CUDA bfloat16), products of a step in bfloat16 where
            the processor has them.
        table_width: width of the static query table; 0: that of the trunk. For strand "dense".
        seed: of everything random.
    """

    name: str
    strand: str = "learned"
    steps: int = 4000
    documents: int = 96
    seeds: int = 16
    queries: int = 512
    query_side: str = "idf"
    idf: str = "corpus"
    branch: int = 1
    trunk: str = "frozen"
    keep_dense: float = 0.0
    rank: int = 128
    terms: int = 20
    prune: float = 0.0
    expansion: float = 1.0
    damping: float = 0.0
    query_expansion: float = 0.0
    silent: str = ""
    full_layers: int = -1
    long_from: int = 128
    repeats: float = 0.0
    all_layers: bool = False
    used: int = 0
    gelu: bool = False
    literal: bool = True
    activation: str = "log1p"
    pooling: str = "max"
    losses: Weights = field(default_factory=lambda: {"kl": 1.0, "infonce": 0.1})
    scale: float = 0.25
    penalty: str = "flops"
    penalty_weight: float = 1e-2
    query_penalty_weight: float = 0.0
    tau: float = 200.0
    warm_up: float = 0.3
    teachers: Weights = field(default_factory=lambda: {"dense": 0.6, "bm25": 0.4})
    teacher_norm: str = "minmax"
    teacher_scale: float = 12.0
    mining: tuple[str, ...] = ("lexical", "dense")
    neighbours: int = 4
    rate: float = 1e-3
    layer_rate: float = 1e-4
    decay: float = 0.3
    max_length: int = 160
    encoder_length: int = 256
    precision: str = "mixed"
    table_width: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise TrainError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise TrainError(f"{name} is {getattr(self, name)!r}, expected a number from {low:g} to {high:g}")
        known = BOTH_LOSSES if self.strand == "both" else LOSS_NAMES
        _check_keys("losses", self.losses, known)
        _check_weights("losses", self.losses)
        _check_weights("teachers", self.teachers)
        for way in self.mining:
            if way not in MINING:
                raise TrainError(f"mining has {way!r}, expected some of {', '.join(MINING)}")
        if self.strand != "dense" and not self.losses:
            raise TrainError(f"losses is empty, expected some of {', '.join(known)}")
        if self.strand == "both":
            self._check_both()
        if any(self.losses.get(name) for name in ("kl", "margin_mse")) and not self.teachers:
            raise TrainError("the losses kl and margin_mse need teachers: give some, or use infonce alone")
        if self.pooling == "sum" and self.activation != "log1p":
            raise TrainError(f"activation is {self.activation!r}, expected log1p: pooling sum adds up log(1 + logit)")
        if self.silent and self.silent not in STOP_WORDS:
            languages = ", ".join(sorted(STOP_WORDS))
            raise TrainError(f"silent is {self.silent!r}, expected nothing or one of {languages}")
        if self.silent and self.pooling == "sum":
            raise TrainError(f"silent is {self.silent!r}, expected nothing: with pooling sum every token is heard")
        if self.full_layers > 0 and self.pooling == "sum":
            raise TrainError(f"full_layers is {self.full_layers}, expected 0: with pooling sum every token counts")
        if self.strand == "learned" and self.seeds > self.documents:
            raise TrainError(f"seeds is {self.seeds}, but a step has {self.documents} documents")
        if self.encoder_length < 3 or self.max_length < 3:
            raise TrainError("max_length and encoder_length are at least 3: [CLS], a token, [SEP]")

    def _check_both(self) -> None:
        if self.full_layers < 1:
            raise TrainError(f"full_layers is {self.full_layers}, expected at least 1: strand both is for what merges")
        if self.losses.get("order") and self.seeds > self.documents:
            raise TrainError(f"seeds is {self.seeds}, but a step has {self.documents} documents")
        for name in set(FINISHING) - {"name", *MERGING}:
            given, usual = getattr(self, name), getattr(Recipe, name)
            if given != usual:
                raise TrainError(f"{name} is {given!r}, but strand both keeps what its base has: leave it {usual!r}")

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as plain JSON values."""
        return json.loads(json.dumps(asdict(self)))

    def steps_differ(self, other: Mapping[str, Any]) -> list[str]:
        """Returns the fields in which a recipe, given as `to_json` has it, asks for other steps."""
        free = set(FINISHING) - set(MERGING if self.strand == "both" else ())
        return [name for name, value in self.to_json().items() if name not in free and other.get(name) != value]

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Returns the recipe with other values.

        Raises:
            TrainError: there is no such field, or its value is of another type or out of range.
        """
        return replace(self, **{name: _typed(name, value) for name, value in changes.items()})


_CHOICES: dict[str, tuple[str, ...]] = {
    "strand": ("learned", "dense", "both"),
    "query_side": QUERIES,
    "idf": ("corpus", "trained"),
    "trunk": ("frozen", "tuned"),
    "activation": ACTIVATION_NAMES,
    "pooling": POOLING_NAMES,
    "penalty": PENALTY_NAMES,
    "teacher_norm": NORMS,
    "precision": ("mixed", "fp32"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 1e9),
    "prune": (0, 0.99),
    "expansion": (0.01, 99),
    "damping": (0, 0.99),
    "query_expansion": (0, 99),
    "used": (0, 1e9),
    "full_layers": (-1, 1000),
    "long_from": (0, 1e9),
    "repeats": (0, 99),
    "documents": (2, 1e5),
    "seeds": (1, 1e5),
    "queries": (1, 1e6),
    "branch": (0, 1000),
    "keep_dense": (0, 1e9),
    "rank": (0, 1e5),
    "terms": (0, 1e9),
    "scale": (1e-6, 1e6),
    "penalty_weight": (0, 1e6),
    "query_penalty_weight": (0, 1e6),
    "tau": (0, 1e6),
    "warm_up": (0, 1),
    "teacher_scale": (1e-6, 1e6),
    "neighbours": (0, 1000),
    "rate": (0, 10),
    "layer_rate": (0, 10),
    "decay": (0, 1),
    "table_width": (0, 1e5),
    "seed": (0, 2**63 - 1),
}
_TYPES = {f.name: str(f.type) for f in fields(Recipe)}  # as they are written: annotations are strings here
_WANTED = {
    "Weights": "a table of names and numbers",
    "tuple[str, ...]": "a list of names",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
}


def _typed(name: str, value: Any) -> Any:
    if name not in _TYPES:
        raise TrainError(f"a recipe has no field {name!r}; it has: {', '.join(_TYPES)}")
    kind = _TYPES[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "float" and number:
        return float(value)
    if kind.startswith("tuple") and isinstance(value, list | tuple):
        return tuple(value)
    if kind == "Weights" and isinstance(value, Mapping):
        return dict(value)
    if (kind == "int" and number and isinstance(value, int)) or type(value).__name__ == kind:
        return value
    raise TrainError(f"{name} is {value!r}, expected {_WANTED[kind]}")


def _check_keys(what: str, weights: Weights, allowed: tuple[str, ...]) -> None:
    for name in weights:
        if name not in allowed:
            raise TrainError(f"{what} has {name!r}, expected some of {', '.join(allowed)}")


def _check_weights(what: str, weights: Weights) -> None:
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise TrainError(f"{what}: the weight of {name!r} is {weight!r}, expected a number from 0")
    if weights and not any(weights.values()):
        raise TrainError(f"{what}: every weight is 0")


#: The recipes by name; `plait train --list` tells what each is for.
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # arXiv 2107.05720, 2109.10086, 2205.04733: both sides through the model, FLOPS on both.
        Recipe(
            "splade",
            query_side="encoded",
            trunk="tuned",
            branch=0,
            rank=0,
            terms=0,
            gelu=True,
            literal=False,
            query_penalty_weight=3e-3,
            queries=64,
            neighbours=0,
            scale=1.0,
        ),
        # arXiv 2109.10086, section 3.3: expansion of documents alone, queries are binary.
        Recipe("splade-doc", query_side="binary", trunk="tuned", branch=0, rank=0, terms=0, gelu=True, literal=False),
        # arXiv 2411.04403: IDF inside the matching function, heterogeneous teachers.
        Recipe("inference-free"),
        # arXiv 2504.14839: FLOPS over documents with more than tau terms, a second logarithm.
        Recipe("inference-free-l0", penalty="l0", activation="log1p_log1p"),
        # What the embedded model was made with.
        Recipe(
            "plait-mini",
            steps=3000,
            documents=64,
            seeds=10,
            max_length=128,
            prune=0.03,
            expansion=1.5,
            damping=0.2,
            query_expansion=0.3,
            silent="english",
            used=1,
            penalty_weight=1.5e-2,
            warm_up=0.15,
            teachers={"base": 0.6, "bm25": 0.4},
            mining=("lexical", "base"),
        ),
        # Goes on from a sparse half that is trained, on longer texts, with gentler rates and a lighter penalty.
        Recipe(
            "further",
            steps=600,
            documents=64,
            seeds=10,
            max_length=192,
            prune=0.03,
            expansion=1.5,
            damping=0.2,
            query_expansion=0.3,
            silent="english",
            used=1,
            penalty_weight=6e-3,
            warm_up=0.0,
            teachers={"base": 0.6, "bm25": 0.4},
            mining=("lexical", "base"),
            rate=3e-4,
            layer_rate=3e-5,
            decay=0.7,
        ),
        # Equal tokens of long texts merge, at nearly the same results (`plait.train.lean`).
        Recipe(
            "lean",
            strand="both",
            trunk="tuned",
            steps=700,
            documents=32,
            full_layers=3,
            repeats=0.1,
            losses={"dense": 3.0, "states": 0.3, "terms": 0.5, "own": 0.5},
            teachers={},
            mining=(),
            rate=1e-4,
            layer_rate=1e-4,
            decay=0.8,
            max_length=256,
        ),
        # The same, and the dense half learns from others which texts are alike (`plait.train.alike`).
        Recipe(
            "taught",
            strand="both",
            trunk="tuned",
            steps=400,
            documents=32,
            seeds=4,
            full_layers=3,
            repeats=0.1,
            losses={"order": 1.0, "dense": 0.1, "terms": 0.5, "own": 0.5},
            scale=20.0,
            teachers={},
            teacher_scale=20.0,
            mining=(),
            rate=1e-4,
            layer_rate=1e-4,
            decay=0.8,
            max_length=256,
        ),
        # arXiv 2505.12260: a dense query is a sum of table rows.
        Recipe(
            "static-query",
            strand="dense",
            losses={},
            scale=30.0,
            documents=256,
            queries=1024,
            rate=2e-3,
            decay=0.5,
            steps=600,
        ),
    )
}


def recipe_of(name: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Returns a recipe by name, or from a TOML file whose `base` names the recipe that it changes.

    Raises:
        TrainError: there is no such recipe or file, or a value is wrong.
    """
    recipe = RECIPES.get(str(name)) or _from_file(Path(name))
    return recipe.changed(changes or {})


def _from_file(path: Path) -> Recipe:
    if path.suffix != ".toml":
        raise TrainError(f"no recipe {str(path)!r}: it is neither {', '.join(RECIPES)}, nor a .toml file")
    values = read_toml(path, TrainError)
    base = values.pop("base", "inference-free")
    if not isinstance(base, str) or base not in RECIPES:
        raise TrainError(f"{path}: base is {base!r}, expected one of {', '.join(RECIPES)}")
    try:
        return RECIPES[base].changed({"name": path.stem, **values})
    except TrainError as error:
        raise TrainError(f"{path}: {error}") from error

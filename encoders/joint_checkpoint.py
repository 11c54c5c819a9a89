"""What a joint checkpoint has beside a dense one: a sparse branch with its head, own-word weights, a query table.

The folder is an ordinary Hugging Face one, which sentence-transformers still reads as a dense model. config.json has a
key "plait" more, and model.safetensors has tensors more:

    sparse.layer.{i}.*                  layers of the branch, named inside as the family names them
    sparse.transform, sparse.norm       weight and bias: z = LayerNorm(gelu(W h + b))
    sparse.decoder.weight               (rows, r); absent where it is the word table
    sparse.decoder.bias                 (rows,)
    sparse.terms                        (rows,) vocabulary ids, ascending; absent where rows are the whole vocabulary
    sparse.silent                       (n,) vocabulary ids, ascending; absent where there are none
    sparse.literal.weight, .bias        (hidden,), (vocabulary,)
    static.table, static.projection     (vocabulary, d), (d, hidden); the projection is absent where d is hidden

The key "plait" may also say, where it is not the first of each:

    gelu      true, or false: z = LayerNorm(W h + b)
    pooling   "max", or "sum": a term weighs the sum over tokens of log(1 + relu(z_i . D_j + c_j))
    prune     0, or a share of a document's largest weight: terms that weigh no more are left out
    expansion 1, or a factor: terms that are none of a document's own weigh so many times as much, after `prune`
    damping   0, or a power: a document's weights are divided by their Euclidean norm to it, at last
    query_expansion
              0, or a factor: a query that no dense strand hears is given terms near it by the static table, where there
              is one; they weigh their cosine less .2 times this
    queries   "idf": presence, weighted by the index or by an idf.json; "binary": presence alone; "encoded": queries go
              through the sparse half as documents do
    full_layers
              layers of the trunk whose attention sees every token of a text, 1 to those below the branch. After that
              of the last, before its feed-forward network, equal tokens of a long text merge into one, their mean, in
              the place of the first; layers above attend to it as to so many, and a mean over tokens counts it as so
              many. Not for pooling "sum"
    long_from 0, or how many tokens a long text has at least, special ones included; of a shorter one nothing merges
    repeats   0, or a factor: a token that stands for n has so many times ln n added to its own weight's score: the
              largest of n scores is more than that of their mean

A document weighs a term j by activation(relu(max_i z_i . D_j + c_j)), plus, where j is among its own tokens, the
largest relu(weight . h_i + bias_j) of the tokens i that are j; h_i leave the branch. Silent tokens are none of these i:
the branch attends to them, and no more is computed of them; where a text has no others, its first token is heard. A
static query is the sum of its tokens' rows of the table, projected, at length one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoint import JOINT_KEY, Checkpoint, Tensors
from .contract import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
SETTINGS = {"branch_layers": int, "activation": str, "max_length": int, "literal": bool}
# What may be left out, and what it can be; the first is meant where it is.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "gelu": (True, False),
    "pooling": ("max", "sum"),
    "queries": ("idf", "binary", "encoded"),
}
# Numbers that may be left out too: what is meant then, the least, and what they stay below.
FULL_LAYERS, LONG_FROM = "full_layers", "long_from"  # may be left out too: nothing merges; 0
NUMBERS = {
    "prune": (0, 0, 1),
    "expansion": (1, 0.01, 100),
    "damping": (0, 0, 1),
    "query_expansion": (0, 0, 100),
    "repeats": (0, 0, 100),
}


@dataclass(frozen=True)
class SparseHalf:
    """The sparse half of a joint checkpoint.

    Attributes:
        branch_layers: layers of its own; they start from what leaves as many layers before the trunk's last.
        activation: "log1p" or "log1p_log1p".
        max_length: tokens read of a text.
        literal: whether own words have weights of their own.
        tensors: float32, "sparse.0.query.weight", "sparse.decoder.bias" and so on.
        terms: int32 (rows,), the vocabulary ids of the decoder's rows; None for the whole vocabulary.
        silent: int32, ascending: tokens that a document is given no terms by, themselves included; None: there is none.
        gelu: whether the transform has an activation.
        pooling: "max" or "sum".
        queries: "idf", "binary" or "encoded".
        prune: terms that weigh no more than this share of a document's largest weight are left out.
        damping: a document's weights are divided by their Euclidean norm to this power.
        expansion: terms that are none of a document's own weigh so many times as much.
        query_expansion: how much terms near a query weigh in it.
        full_layers: layers whose attention sees every token; then equal ones merge. None: they never do.
        long_from: tokens of a text whose equal tokens merge, at least.
        repeats: how much a merged token's own weight grows with the logarithm of what it stands for.
    """

    branch_layers: int
    activation: str
    max_length: int
    literal: bool
    tensors: Tensors
    terms: NDArray[np.int32] | None
    silent: NDArray[np.int32] | None = None
    gelu: bool = True
    pooling: str = "max"
    queries: str = "idf"
    prune: float = 0.0
    damping: float = 0.0
    expansion: float = 1.0
    query_expansion: float = 0.0
    full_layers: int | None = None
    long_from: int = 0
    repeats: float = 0.0

    @property
    def rows(self) -> int:
        """Rows of the decoder."""
        return len(self.tensors["sparse.decoder.bias"])


@dataclass(frozen=True)
class QueryTable:
    """Vectors of tokens, whose sum is a query.

    Attributes:
        table: float32 (vocabulary, d).
        projection: float32 (d, hidden); None where d is hidden.
    """

    table: NDArray[np.float32]
    projection: NDArray[np.float32] | None


def read_sparse_half(checkpoint: Checkpoint) -> SparseHalf:
    """Returns the sparse half of a joint checkpoint.

    Raises:
        EncoderError: the checkpoint is no joint one, or a setting or tensor is missing or of the wrong kind.
    """
    settings = _settings(checkpoint)
    tensors = _Tensors(checkpoint)
    layers, literal = settings["branch_layers"], settings["literal"]
    found = _branch(tensors, layers)
    found.update(_head(tensors))
    if literal:
        found["sparse.literal.weight"] = tensors.get("sparse.literal.weight", tensors.hidden)
        found["sparse.literal.bias"] = tensors.get("sparse.literal.bias", tensors.vocabulary)
    terms = _terms(tensors, len(found["sparse.decoder.bias"]))
    options = {key: settings.get(key, allowed[0]) for key, allowed in OPTIONS.items()}
    options |= {key: float(settings.get(key, usual)) for key, (usual, *_) in NUMBERS.items()}
    options |= {FULL_LAYERS: settings.get(FULL_LAYERS), LONG_FROM: settings.get(LONG_FROM, 0)}
    silent = _silent(tensors, options["pooling"])
    return SparseHalf(layers, settings["activation"], settings["max_length"], literal, found, terms, silent, **options)


def read_query_table(checkpoint: Checkpoint) -> QueryTable | None:
    """Returns a joint checkpoint's static query table; None where there is none.

    Raises:
        EncoderError: a tensor is missing or of the wrong shape.
    """
    tensors = _Tensors(checkpoint)
    if "static.table" not in tensors:
        return None
    table = tensors.get("static.table", tensors.vocabulary, "d")
    width = table.shape[1]
    if width == tensors.hidden and "static.projection" not in tensors:
        return QueryTable(table, None)
    return QueryTable(table, tensors.get("static.projection", width, tensors.hidden))


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    where, values = checkpoint.folder / "config.json", checkpoint.config.get(JOINT_KEY)
    if not isinstance(values, dict):
        raise EncoderError(
            f"{where} has no {JOINT_KEY!r}, so this is no joint checkpoint: build it with the head dense or "
            "learned, or train its sparse half first"
        )
    if values.get("version") != VERSION:
        raise EncoderError(f"{where}: {JOINT_KEY} has version {values.get('version')!r}, this plait reads {VERSION}")
    for key, kind in SETTINGS.items():
        if type(values.get(key)) is not kind:
            raise EncoderError(f"{where}: {JOINT_KEY} has {key} {values.get(key)!r}, expected {kind.__name__}")
    _check_options(where, values)
    depth, branch = checkpoint.depth, values["branch_layers"]
    if not 0 <= branch <= depth:
        expected = f"expected 0 to {depth}, the trunk's layers"
        raise EncoderError(f"{where}: {JOINT_KEY} has branch_layers {branch}, {expected}")
    full, long = values.get(FULL_LAYERS, 1), values.get(LONG_FROM, 0)
    if FULL_LAYERS in values and (type(full) is not int or not 1 <= full <= depth - branch):
        expected = f"expected 1 to {depth - branch}, the layers below the branch"
        raise EncoderError(f"{where}: {JOINT_KEY} has {FULL_LAYERS} {full!r}, {expected}")
    if type(long) is not int or long < 0:
        raise EncoderError(f"{where}: {JOINT_KEY} has {LONG_FROM} {long!r}, expected a number of tokens")
    if FULL_LAYERS in values and values.get("pooling") == "sum":
        raise EncoderError(f"{where}: {JOINT_KEY} has {FULL_LAYERS}, which is for pooling 'max', not 'sum'")
    return values


def _check_options(where: Path, values: dict[str, Any]) -> None:
    for key, allowed in OPTIONS.items():
        given = values.get(key, allowed[0])
        if given not in allowed or type(given) is not type(allowed[0]):
            raise EncoderError(
                f"{where}: {JOINT_KEY} has {key} {given!r}, expected one of {', '.join(map(str, allowed))}"
            )
    for key, (usual, least, end) in NUMBERS.items():
        number = values.get(key, usual)
        if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number < end:
            expected = f"expected a number from {least} to below {end}"
            raise EncoderError(f"{where}: {JOINT_KEY} has {key} {number!r}, {expected}")
    if values.get("pooling") == "sum" and values["activation"] != "log1p":
        raise EncoderError(f"{where}: {JOINT_KEY} has activation {values['activation']!r}; pooling 'sum' is of 'log1p'")


class _Tensors:
    """The additional tensors of a joint checkpoint, checked as they are taken."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.vocabulary, self.hidden = checkpoint.tensors["words.weight"].shape

    def __contains__(self, name: str) -> bool:
        return name in self.checkpoint.raw

    def get(self, name: str, *shape: int | str) -> NDArray[np.float32]:
        """Returns a tensor as float32; a str in the expected shape names an axis of any length."""
        if name not in self:
            raise EncoderError(f"{self.checkpoint.folder}: the weights have no tensor {name!r}")
        tensor = np.asarray(self.checkpoint.raw[name], dtype=np.float32)
        fits = len(tensor.shape) == len(shape) and all(
            isinstance(want, str) or want == have for want, have in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            expected = " x ".join(map(str, shape))
            raise EncoderError(
                f"{self.checkpoint.folder}: {name} is {' x '.join(map(str, tensor.shape))}, expected {expected}"
            )
        return tensor

    def ids(self, name: str, count: int | None = None) -> NDArray[np.int32]:
        """Returns a tensor of vocabulary ids, so many where it is said."""
        found = np.asarray(self.checkpoint.raw[name])
        where = f"{self.checkpoint.folder}: {name}"
        if found.ndim != 1 or found.dtype.kind not in "iu" or count not in (None, len(found)):
            shape, expected = " x ".join(map(str, found.shape)), "one row of" if count is None else count
            raise EncoderError(f"{where} is {found.dtype} {shape}, expected {expected} whole numbers")
        inside = not found.size or (found[0] >= 0 and found[-1] < self.vocabulary)
        if not inside or (np.diff(found.astype(np.int64)) <= 0).any():
            raise EncoderError(f"{where} are not ascending ids below {self.vocabulary}")
        return found.astype(np.int32)


def _branch(tensors: _Tensors, layers: int) -> Tensors:
    names = [(f"{ours}.{part}", f"{theirs}.{part}") for ours, theirs in tensors.checkpoint.family.layers.items()
             for part in ("weight", "bias")]  # fmt: skip
    like = tensors.checkpoint.tensors
    return {
        f"sparse.{number}.{ours}": tensors.get(f"sparse.layer.{number}.{theirs}", *like[f"0.{ours}"].shape)
        for number in range(layers)
        for ours, theirs in names
    }


def _head(tensors: _Tensors) -> Tensors:
    transform = tensors.get("sparse.transform.weight", "r", tensors.hidden)
    width = len(transform)
    if width % 2:
        raise EncoderError(
            f"{tensors.checkpoint.folder}: sparse.transform.weight has {width} rows, expected an even number"
        )
    found = {"sparse.transform.weight": transform, "sparse.decoder.bias": tensors.get("sparse.decoder.bias", "rows")}
    if not len(found["sparse.decoder.bias"]):
        raise EncoderError(f"{tensors.checkpoint.folder}: sparse.decoder.bias is empty, expected a row for each term")
    for name in ("sparse.transform.bias", "sparse.norm.weight", "sparse.norm.bias"):
        found[name] = tensors.get(name, width)
    if "sparse.decoder.weight" in tensors:
        found["sparse.decoder.weight"] = tensors.get("sparse.decoder.weight", len(found["sparse.decoder.bias"]), width)
        return found
    if width != tensors.hidden or len(found["sparse.decoder.bias"]) != tensors.vocabulary:
        raise EncoderError(
            f"{tensors.checkpoint.folder}: without sparse.decoder.weight the decoder is the word table, "
            f"{tensors.vocabulary} x {tensors.hidden}, but sparse.decoder.bias has "
            f"{len(found['sparse.decoder.bias'])} rows and sparse.transform.weight {width}"
        )
    return found


def _terms(tensors: _Tensors, rows: int) -> NDArray[np.int32] | None:
    where = tensors.checkpoint.folder
    if "sparse.terms" not in tensors:
        if rows != tensors.vocabulary:
            raise EncoderError(
                f"{where}: the decoder has {rows} rows for {tensors.vocabulary} vocabulary ids: sparse.terms must say "
                "which they are for"
            )
        return None
    return tensors.ids("sparse.terms", rows)


def _silent(tensors: _Tensors, pooling: str) -> NDArray[np.int32] | None:
    if "sparse.silent" not in tensors:
        return None
    if pooling != "max":  # a text with fewer heard places than another has one of them twice, see `heads`
        raise EncoderError(f"{tensors.checkpoint.folder}: sparse.silent is for pooling 'max', not {pooling!r}")
    return tensors.ids("sparse.silent")

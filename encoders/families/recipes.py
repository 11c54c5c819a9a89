"""The families of the literature as rows of one table, and the recipe of one checkpoint: a row and what its files say.

The columns of a sparse row are those of "A Unified Framework for Learned Sparse Retrieval" (arXiv 2303.13416): what
stands on the query side, what on the document side, how tokens are pooled, how weights are activated, what is pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..contract import EncoderError
from ..manifest import whole_number

# Where a weight comes from: the logits of a language model's head, a number for each of the text's own tokens, or one
# for the first token of each of its words.
LOGITS, TOKENS, WORDS = "logits", "tokens", "words"
HEADS = (LOGITS, TOKENS, WORDS)
# What a query is: a text through the model; the same, its own tokens alone; the same, with repeated tokens adding up;
# its distinct tokens at weight one; those weighted by idf.json, or by the index where there is none; its distinct
# words; for dense vectors, a sum of rows of a table.
ENCODED, OWN, SUMMED, BINARY, IDF, LOOKUP = "encoded", "own", "summed", "binary", "idf", "lookup"
SPARSE_QUERIES = (ENCODED, OWN, SUMMED, BINARY, IDF)
DENSE_QUERIES = (ENCODED, LOOKUP)
SPARSE_POOLINGS = ("max", "sum", "last")
DENSE_POOLINGS = ("mean", "cls", "max", "last", "weightedmean")
ACTIVATIONS = ("log1p", "log1p_log1p", "relu")
ALL, FIRST, NONE = "all", "first", "none"  # which special tokens are no terms
BASE, MASKED, CAUSAL = "base", "masked", "causal"  # a trunk alone; with a masked-LM head; a decoder with its head
MODELS = (BASE, MASKED, CAUSAL)


@dataclass(frozen=True)
class SparseRow:
    """How a text becomes a sparse vector.

    Attributes:
        head: where weights come from, one of `HEADS`.
        pooling: over a text's tokens, one of `SPARSE_POOLINGS`; own tokens take the largest of their occurrences.
        activation: one of `ACTIVATIONS`.
        queries: one of `SPARSE_QUERIES`.
        specials: which of [CLS], [SEP] and the like are no terms: "all", "first" (of a text alone) or "none".
        prune: weights that are no more than this share of a document's largest are left out.
        top: the most terms of a vector, the heaviest; 0 for all.
        own: whether only the text's own words are terms, as PromptReps has it.
        literal: whether a weight of each own token is added to its expansion, as PROSPER has it.
        echo: whether the text is read twice and the second reading pooled (arXiv 2402.15449).
    """

    head: str = LOGITS
    pooling: str = "max"
    activation: str = "log1p"
    queries: str = ENCODED
    specials: str = NONE
    prune: float = 0.0
    top: int = 0
    own: bool = False
    literal: bool = False
    echo: bool = False

    @property
    def formula(self) -> str:
        """How token states become a vector, as in `Identity`."""
        parts = ["echo"] if self.echo else []
        parts += [self.head] if self.head != LOGITS else []
        parts += [f"{self.pooling}+{self.activation}"]
        parts += [name for name in ("own", "literal") if getattr(self, name)]
        parts += [f"specials={self.specials}"] if self.specials != ALL else []
        return "+".join(parts) + (f">{self.prune:g}" if self.prune else "") + (f"^{self.top}" if self.top else "")


@dataclass(frozen=True)
class DenseRow:
    """How a text becomes a dense vector.

    Attributes:
        pooling: of the token states, one of `DENSE_POOLINGS`.
        normalize: whether vectors are brought to length one.
        queries: one of `DENSE_QUERIES`.
        dimensions: how many of a vector's first numbers are kept (Matryoshka, arXiv 2205.13147); 0 for all.
        layers: folders of linear layers behind the pooling, as sentence-transformers saves them.
        projected: whether a linear layer `cls_projection` of the checkpoint follows the pooling, as in DupMAE.
    """

    pooling: str = "mean"
    normalize: bool = True
    queries: str = ENCODED
    dimensions: int = 0
    layers: tuple[str, ...] = ()
    projected: bool = False

    @property
    def formula(self) -> str:
        """How token states become a vector, as in `Identity`."""
        layers = "+linear" * (len(self.layers) + self.projected)
        cut = f"+first{self.dimensions}" if self.dimensions else ""
        return f"{self.pooling}{layers}{cut}{'+l2' if self.normalize else ''}"


@dataclass(frozen=True)
class Prompts:
    """What stands before and after a text; the model reads it with the text, and no limit of tokens cuts it."""

    query: str = ""
    document: str = ""
    query_end: str = ""
    document_end: str = ""

    def around(self, side: str) -> tuple[str, str]:
        """Returns what stands before and after a "query" or a "document"."""
        return getattr(self, side), getattr(self, f"{side}_end")


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        source: the paper, or the makers' name for it.
        sparse: how it makes sparse vectors; None where it makes none.
        dense: how it makes dense vectors; None where it makes none.
        model: which part of a checkpoint is run, one of `MODELS`; None where the checkpoint decides.
        prompts: what stands around texts.
    """

    source: str
    sparse: SparseRow | None = None
    dense: DenseRow | None = None
    model: str | None = None
    prompts: Prompts = field(default_factory=Prompts)

    @property
    def heads(self) -> tuple[str, ...]:
        """Which strands it fills."""
        rows = {"learned": self.sparse, "dense": self.dense}
        return tuple(name for name, row in rows.items() if row is not None)


_WORD = "Use one word to represent the {0} in a retrieval task. Make sure your word is in lowercase."
_LLAMA = "<|start_header_id|>{0}<|end_header_id|>\n\n"


def _promptreps(what: str, name: str) -> tuple[str, str]:
    """Returns Llama 3's chat around a text, up to where the model would say its one word."""
    system = _LLAMA.format("system") + "You are an AI assistant that can understand human language.<|eot_id|>"
    before = f'{system}{_LLAMA.format("user")}{what}: "'
    after = f'". {_WORD.format(name)}<|eot_id|>{_LLAMA.format("assistant")}The word is: "'
    return before, after


_PASSAGE, _QUERY = _promptreps("Passage", "passage"), _promptreps("Query", "query")

FAMILIES: Mapping[str, Family] = {
    # sparse
    "splade-v1": Family("arXiv 2107.05720", SparseRow(pooling="sum")),
    "splade": Family("v2-max, ++, v3: arXiv 2109.10086, 2205.04733, 2403.06789", SparseRow()),
    "splade-lexical": Family("v3-lexical: arXiv 2403.06789", SparseRow(queries=OWN, specials=ALL)),
    "splade-doc": Family("arXiv 2109.10086, 2403.06789", SparseRow(queries=BINARY)),
    "opensearch": Family("OpenSearch neural sparse v1, v2", SparseRow(specials=ALL)),
    "opensearch-doc": Family("doc-v1, doc-v2: arXiv 2411.04403", SparseRow(queries=IDF, specials=ALL)),
    "opensearch-doc-v3": Family(
        "doc-v3: arXiv 2504.14839", SparseRow(activation="log1p_log1p", queries=IDF, specials=ALL)
    ),
    "opensearch-multilingual": Family("multilingual-v1", SparseRow(queries=IDF, specials=ALL, prune=0.1)),
    "unicoil": Family(
        "arXiv 2106.14807", SparseRow(head=TOKENS, activation="relu", queries=SUMMED, specials=FIRST), model=BASE
    ),
    "deepimpact": Family(
        "arXiv 2104.12016", SparseRow(head=WORDS, activation="relu", queries=BINARY), model=BASE
    ),
    "mistral-splade": Family("arXiv 2408.11119", SparseRow(specials=ALL, echo=True), model=CAUSAL),
    "prosper": Family(
        "LLMs as Sparse Retrievers", SparseRow(specials=ALL, literal=True, top=256), model=CAUSAL
    ),
    # dense
    "sentence-transformers": Family("arXiv 1908.10084", dense=DenseRow(), model=BASE),
    "contriever": Family("arXiv 2112.09118", dense=DenseRow(normalize=False), model=BASE),
    "e5": Family("arXiv 2212.03533", dense=DenseRow(), model=BASE, prompts=Prompts("query: ", "passage: ")),
    "bge": Family(
        "arXiv 2309.07597", dense=DenseRow("cls"), model=BASE,
        prompts=Prompts("Represent this sentence for searching relevant passages: "),
    ),
    "last-token": Family("arXiv 2401.00368", dense=DenseRow("last"), model=BASE),
    "static": Family("model2vec, StaticEmbedding", dense=DenseRow(), model=BASE),
    "lightretriever": Family("arXiv 2505.12260", dense=DenseRow("last", queries=LOOKUP), model=BASE),
    # both
    "bge-m3": Family(
        "arXiv 2402.03216", SparseRow(head=TOKENS, activation="relu", specials=ALL), DenseRow("cls"), BASE
    ),
    "dupmae": Family(
        "arXiv 2305.02564", SparseRow(activation="relu", top=256), DenseRow("cls", normalize=False, projected=True),
        MASKED,
    ),
    "promptreps": Family(
        "arXiv 2404.18424", SparseRow(pooling="last", specials=ALL, top=128, own=True), DenseRow("last"), CAUSAL,
        Prompts(_QUERY[0], _PASSAGE[0], _QUERY[1], _PASSAGE[1]),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint becomes vectors: its family's row, changed by what its files and its user say.

    Attributes:
        family: a name in `FAMILIES`.
        sparse: as in `Family`, and so are `dense`, `model` and `prompts`.
        max_length: tokens read of a text, special ones included.
        idf: query weights by token; empty where the index weights queries, and for other queries.
    """

    family: str
    sparse: SparseRow | None
    dense: DenseRow | None
    model: str
    prompts: Prompts
    max_length: int
    idf: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as plain JSON values, without the IDF, which a manifest has anyway."""
        values = asdict(replace(self, idf={}))
        del values["idf"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any], idf: Mapping[str, float]) -> Recipe:
        """Returns the recipe that `to_json` wrote; unknown keys are a TypeError."""
        dense = values["dense"]
        rows = {
            "sparse": None if values["sparse"] is None else SparseRow(**values["sparse"]),
            "dense": None if dense is None else DenseRow(**{**dense, "layers": tuple(dense["layers"])}),
            "prompts": Prompts(**values["prompts"]),
        }
        return cls(**{**values, **rows}, idf=dict(idf))


def family(name: str) -> Family:
    """Returns a family by name.

    Raises:
        EncoderError: there is no such family.
    """
    if name not in FAMILIES:
        raise EncoderError(f"no encoder family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def checked(recipe: Recipe) -> Recipe:
    """Returns the recipe.

    Raises:
        EncoderError: a value is not one that its column knows, or values contradict each other.
    """
    for row, column, known in _CHOICES:
        side = getattr(recipe, row)
        if side is not None and getattr(side, column) not in known:
            raise EncoderError(f"{column} {getattr(side, column)!r} is not one of {', '.join(known)}")
    sparse, dense = recipe.sparse, recipe.dense
    if sparse is not None:
        whole_number(sparse.top, "top", 0)
        if not 0 <= sparse.prune < 1:
            raise EncoderError(f"prune is {sparse.prune!r}, expected a share of the largest weight, from 0 to below 1")
        if sparse.queries == SUMMED and sparse.head != TOKENS:
            raise EncoderError(f"queries {SUMMED!r} add up the weights of own tokens; head {sparse.head!r} has none")
    if dense is not None:
        whole_number(dense.dimensions, "dimensions", 0)
    return recipe


_CHOICES = [
    ("sparse", "head", HEADS),
    ("sparse", "pooling", SPARSE_POOLINGS),
    ("sparse", "activation", ACTIVATIONS),
    ("sparse", "queries", SPARSE_QUERIES),
    ("sparse", "specials", (ALL, FIRST, NONE)),
    ("dense", "pooling", DENSE_POOLINGS),
    ("dense", "queries", DENSE_QUERIES),
]

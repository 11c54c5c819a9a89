"""A recipe and what runs it, torch or onnxruntime: one encoder with a face for each strand that it fills."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..contract import EncoderError, Identity
from ..graph import DENSE, OWN, WEIGHTS
from ..queries import TokenQueries, csr, no_row
from .layout import Layout
from .recipes import ENCODED, IDF, LOGITS, LOOKUP, SUMMED, TOKENS, WORDS, DenseRow, SparseRow
from .recipes import OWN as OWN_TOKENS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ..onnx_runtime import Ids, TextTokenizer
    from ..queries import Row

    Outputs = Mapping[str, "NDArray[np.float32]"]

THROUGH_THE_MODEL = (ENCODED, OWN_TOKENS, SUMMED)  # queries that are
WITHOUT_WORDS = 10  # terms of a text that has no words of its own, where only those are terms
HASHED = 2**20  # columns where terms are words: those of the vocabulary, and hashes above it


class Model(Protocol):
    """What runs a checkpoint; see `live.TorchModel`."""

    @property
    def outputs(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def vocabulary(self) -> int: ...  # noqa: D102
    @property
    def at_once(self) -> int:
        """How many texts are best given at a time."""
        ...

    def each(self, ids: Sequence[Ids], wanted: Sequence[str], keep: Callable[[list[int], Outputs], None]) -> None:
        """Runs texts in batches and hands each batch's outputs on."""
        ...


class FamilyEncoder:
    """A `JointEncoder`, or one strand of it: `learned` and `dense` are its faces.

    Args:
        model: what runs it.
        layout: its tokenizer and recipe.
        name: what was asked for.
        revision: a hash of the weights and of the numbers they are computed in.
        tokenizer: a hash of the tokenizer.
        lookup: the table of dense queries that are looked up; made from the model where None.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        *,
        name: str,
        revision: str,
        tokenizer: str,
        lookup: Callable[[FamilyEncoder], Callable[[Sequence[Ids]], NDArray[np.float32]]] | None = None,
    ) -> None:
        self.model, self.layout, self.recipe = model, layout, layout.recipe
        self.name, self._revision, self._tokenizer, self._lookup = name, revision, tokenizer, lookup
        row = self.recipe.sparse
        self.columns = HASHED if row is not None and row.head == WORDS else model.vocabulary

    @property
    def dense(self) -> FamilyDense:
        """The dense strand."""
        return FamilyDense(self)

    @property
    def learned(self) -> FamilyLearned:
        """The learned strand."""
        return FamilyLearned(self)

    @property
    def tokenizer(self) -> TextTokenizer:
        """What cuts texts into tokens; so long texts are cut in pieces by it, see `chunked`."""
        return self.layout.tokenizer

    @property
    def _prompts(self) -> dict[str, str]:
        return {side: "".join(self.recipe.prompts.around(side)) for side in ("query", "document")}

    def encode_documents(self, texts: Sequence[str]) -> tuple[csr_matrix, NDArray[np.float32]]:
        """Returns the sparse and the dense vectors of the same texts, from one pass of each batch."""
        _ = self.sparse_row, self.dense_row  # both must be there
        rows, vectors = self._encode(texts, "document", self.model.outputs)
        return csr(rows, self.columns), vectors

    def encode_sparse(self, texts: Sequence[str], side: str) -> csr_matrix:
        """Returns sparse vectors, float32 (len(texts), columns); `side` is "document" or "query"."""
        row = self.sparse_row
        if side == "query" and row.queries not in THROUGH_THE_MODEL:
            return self._words_alone(texts) if row.head == WORDS else self.token_queries.encode(texts)
        wanted = [name for name in self.model.outputs if name != DENSE]
        return csr(self._encode(texts, side, wanted)[0], self.columns)

    def encode_dense(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """Returns dense vectors, float32 (len(texts), dim)."""
        if side == "query" and self.dense_row.queries == LOOKUP:
            return self._table(self.layout.bare(texts))
        return self._encode(texts, side, [DENSE])[1]

    @property
    def sparse_row(self) -> SparseRow:
        """How sparse vectors are made.

        Raises:
            EncoderError: none are.
        """
        if self.recipe.sparse is None:
            raise EncoderError(f"{self.name} makes no learned sparse vectors: use load_dense")
        return self.recipe.sparse

    @property
    def dense_row(self) -> DenseRow:
        """How dense vectors are made.

        Raises:
            EncoderError: none are.
        """
        if self.recipe.dense is None:
            raise EncoderError(f"{self.name} makes no dense vectors: use load_learned")
        return self.recipe.dense

    @cached_property
    def token_queries(self) -> TokenQueries:
        """Sparse queries that are a tokenizer's work alone."""
        row, prompt = self.sparse_row, self.recipe.prompts.query
        idf = self.recipe.idf if row.queries == IDF else {}
        return TokenQueries(self.layout.tokenizer, self.columns, specials=self.layout.specials, idf=idf, prompt=prompt)

    @cached_property
    def _table(self) -> Callable[[Sequence[Ids]], NDArray[np.float32]]:
        from .lookup import table_of

        return (self._lookup or table_of)(self)

    def identity(self, strand: str) -> Identity:
        """Returns the identity of one of the strands."""
        sparse = strand == "learned"
        row: SparseRow | DenseRow = self.sparse_row if sparse else self.dense_row
        left = sparse and isinstance(row, SparseRow) and row.queries == IDF and not self.recipe.idf
        return Identity(
            name=self.name,
            revision=self._revision_of(strand),
            tokenizer=self._tokenizer,
            activation=row.formula,
            max_length=self.recipe.max_length,
            dim=self.columns if sparse else self.model.dim,
            query_weights="idf" if left else "encoder",
        )

    def _revision_of(self, strand: str) -> str:
        """Returns a hash of all that moves a vector and that an identity does not spell out."""
        sparse, queries = self.recipe.sparse, ""
        if strand == "learned" and sparse is not None:
            queries = f"{sparse.queries}{sorted(self.recipe.idf.items())}"
        parts = repr((self._revision, self.recipe.prompts, queries))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    # Texts to vectors

    def _encode(self, texts: Sequence[str], side: str, wanted: Sequence[str]) -> tuple[list[Row], NDArray[np.float32]]:
        ids = self.layout.ids(texts, side)
        rows = [no_row()] * len(texts)
        vectors = np.zeros((len(texts) if DENSE in wanted else 0, self.model.dim), np.float32)
        row = self.recipe.sparse

        def keep(positions: list[int], found: Outputs) -> None:
            if DENSE in found:
                vectors[positions] = found[DENSE]
            if row is None or not (OWN in found or WEIGHTS in found):
                return
            for number, position in enumerate(positions):
                mine = {name: array[number] for name, array in found.items() if name != DENSE}
                rows[position] = self._sparse(texts[position], ids[position], mine, row, side)

        there = [position for position, one in enumerate(ids) if len(one)]
        self.model.each(
            [ids[position] for position in there],
            wanted,
            lambda positions, found: keep([there[position] for position in positions], found),
        )
        return rows, vectors

    def _sparse(self, text: str, ids: Ids, found: Outputs, row: SparseRow, side: str) -> Row:
        columns, weights = _GATHERED[row.head](self, text, ids, found, row, side)
        if side == "query" and row.queries == OWN_TOKENS:
            kept = np.isin(columns, ids)
            columns, weights = columns[kept], weights[kept]
        if row.own:
            columns, weights = self._of_own_words(text, columns, weights)
        kept = (weights > row.prune * weights.max(initial=0.0)) & ~np.isin(columns, self.layout.dropped)
        columns, weights = columns[kept], weights[kept]
        if row.top and len(columns) > row.top:
            kept = np.sort(np.argsort(-weights, kind="stable")[: row.top])
            columns, weights = columns[kept], weights[kept]
        return columns.astype(np.int32), weights.astype(np.float32)

    def _of_own_words(self, text: str, columns: NDArray[np.int32], weights: NDArray[np.float32]) -> Row:
        """Returns the terms that are a text's own words; of a text without any the heaviest few (PromptReps)."""
        own = self.layout.own(text)
        kept = np.isin(columns, sorted(own)) if own else np.sort(np.argsort(-weights, kind="stable")[:WITHOUT_WORDS])
        return columns[kept], weights[kept]

    def _logits(self, text: str, ids: Ids, found: Outputs, row: SparseRow, side: str) -> Row:
        weights = found[WEIGHTS]
        if OWN in found:
            weights = weights + _scattered(ids[-_own_length(ids, row) :], found[OWN], len(weights))
        columns = np.flatnonzero(weights)
        return columns.astype(np.int32), weights[columns]

    def _tokens(self, text: str, ids: Ids, found: Outputs, row: SparseRow, side: str) -> Row:
        add = side == "query" and row.queries == SUMMED
        columns, places = np.unique(ids, return_inverse=True)
        weights = np.zeros(len(columns), np.float32)
        (np.add if add else np.maximum).at(weights, places, found[OWN][: len(ids)])
        return columns.astype(np.int32), weights

    def _words(self, text: str, ids: Ids, found: Outputs, row: SparseRow, side: str) -> Row:
        weights: dict[int, float] = {}
        for word in self.layout.words(text, side):
            column = self._column(word.text)
            weights[column] = max(weights.get(column, 0.0), float(found[OWN][word.place]))
        columns = sorted(weights)
        return np.array(columns, np.int32), np.array([weights[column] for column in columns], np.float32)

    # Terms that are words

    def _column(self, word: str) -> int:
        """Returns the column of a word: its token's number, or a hash above the vocabulary.

        Two of the rarer words may share a column: about one in three of them does in a collection of 400,000.
        """
        number = self.layout.tokenizer.number(word)
        if number is not None:
            return number
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
        return self.model.vocabulary + int.from_bytes(digest, "little") % (HASHED - self.model.vocabulary)

    def _words_alone(self, texts: Sequence[str]) -> csr_matrix:
        columns = [sorted({self._column(word.text) for word in self.layout.words(text, "query")}) for text in texts]
        rows = [(np.array(each, np.int32), np.ones(len(each), np.float32)) for each in columns]
        return csr(rows, self.columns)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the readable names of a query's terms, by column."""
        row = self.sparse_row
        if row.head == WORDS:
            return {self._column(word.text): word.text for word in self.layout.words(text, "query")}
        if row.queries in THROUGH_THE_MODEL:
            columns = self.encode_sparse([text], "query").indices.tolist()
            return {column: self.layout.tokenizer.token(column) for column in columns}
        return self.token_queries.names(text)


_GATHERED = {LOGITS: FamilyEncoder._logits, TOKENS: FamilyEncoder._tokens, WORDS: FamilyEncoder._words}


def _own_length(ids: Ids, row: SparseRow) -> int:
    """Returns how many of the ids have weights of their own: those of the second reading, where there are two."""
    return len(ids) // 2 if row.echo else len(ids)


def _scattered(ids: Ids, weights: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    found = np.zeros(width, np.float32)
    np.maximum.at(found, ids, weights[: len(ids)])
    return found


class FamilyLearned:
    """The learned half of a `FamilyEncoder`, a `SparseEncoder`."""

    def __init__(self, joint: FamilyEncoder) -> None:
        self.joint, self._identity, self.at_once = joint, joint.identity("learned"), joint.model.at_once
        if joint.recipe.idf:  # one that fits no token is an error now, not when the first query comes
            _ = joint.token_queries

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim)."""
        return self.joint.encode_sparse(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim)."""
        return self.joint.encode_sparse(texts, "query")

    def vocabulary(self) -> list[str] | None:
        """Returns the token of each column; None where columns are hashes of words."""
        if self.joint.sparse_row.head == WORDS:
            return None
        return [self.joint.layout.tokenizer.token(number) for number in range(self.joint.columns)]

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the readable names of a query's terms, by column."""
        return self.joint.term_names(text)


class FamilyDense:
    """The dense half of a `FamilyEncoder`, a `DenseEncoder`."""

    def __init__(self, joint: FamilyEncoder) -> None:
        self.joint, self._identity, self.at_once = joint, joint.identity("dense"), joint.model.at_once

    @property
    def identity(self) -> Identity:
        """What moves a document's vector."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self.joint.encode_dense(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self.joint.encode_dense(texts, "query")

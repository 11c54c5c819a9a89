"""Both strands from one ONNX model: a dense and a learned sparse vector of a document in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from .contract import QUERIES, STATIC, TRANSFORMER, EncoderError, Identity, no_table
from .graph import DENSE, INPUT, OWN, WANT_DENSE, WANT_SPARSE, WEIGHTS
from .manifest import TERMS, ModelFolder, checked_length
from .onnx_runtime import TOKEN_BUDGET, OnnxModel, apart, check_texts, merged_by_id
from .queries import NearTerms, StaticQueries, TokenQueries, csr, damped, expanded, no_row

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from .onnx_runtime import Ids
    from .queries import Row


class JointModel(OnnxModel):
    """A model with two halves, either of which may be left out of a run."""

    @cached_property
    def _merging(self) -> Callable[[Ids], bool] | None:
        """Tells whether equal tokens of a text merge; None where they never do."""
        facts = self.folder.manifest.joint
        if facts is None or facts.full_layers is None:
            return None
        return lambda ids: len(ids) >= facts.long_from

    def each_of(self, ids: Sequence[Ids], work: Callable[[list[int], Ids], None]) -> None:
        """Cuts the ids of texts into batches, in any order; texts whose tokens merge have as many different ones."""
        merging = self._merging
        kinds = None if merging is None else [len(set(one.tolist())) if merging(one) else 0 for one in ids]
        self.each_alike(ids, work, kinds)

    def run_for(self, names: Sequence[str], ids: Ids) -> dict[str, NDArray[np.float32]]:
        """Returns some outputs for ids (batch, length); nodes that only the other half needs do not run."""
        wishes = {WANT_DENSE: DENSE in names, WANT_SPARSE: WEIGHTS in names}
        given = {wish: np.array(value) for wish, value in wishes.items()}
        if self._merging is not None:
            given |= merged_by_id(ids) if self._merging(ids[0]) else apart(ids)
        found = self.session.run(list(names), {INPUT: ids, **given})
        return dict(zip(names, found, strict=True))


@dataclass(frozen=True)
class TermUses:
    """What a model makes of terms in some documents; each is a number of documents.

    Attributes:
        given: int64 (rows,): the decoder gives them the term, and it is not pruned.
        held: int64 (vocabulary,): the token is one of theirs.
        kept: int64 (vocabulary,): the token is one of theirs and a term that is not pruned.
    """

    given: NDArray[np.int64]
    held: NDArray[np.int64]
    kept: NDArray[np.int64]


class OnnxJointEncoder:
    """A `JointEncoder` over a built model; its `dense` and `learned` are encoders of one strand each.

    The session opens when the first text needs the transformer. Learned queries and static dense ones never do.
    A prompt for documents is put before every document, one for queries only before those that the transformer reads.

    Args:
        folder: the built model, head "joint".
        name: the name in its faces' identities; the manifest's where None.
        max_length: tokens read of a text; the manifest's where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        name: str | None = None,
        max_length: int | None = None,
        threads: int | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        manifest = folder.manifest
        if manifest.joint is None:
            raise EncoderError(f"{folder.path} holds a {manifest.head} encoder, a joint one was asked for")
        self.folder, self.facts, self.name = folder, manifest.joint, name or manifest.name
        self.max_length = checked_length(max_length, manifest)
        self.model = JointModel(folder, max_length=self.max_length, threads=threads, token_budget=token_budget)
        self._prompts, self._no_terms = manifest.prompts, [*manifest.specials, *self.facts.silent]
        self.token_queries = TokenQueries(
            self.model.tokenizer, self.facts.dim, specials=self._no_terms, idf=manifest.idf
        )
        self.static_queries = StaticQueries(folder, self.model.tokenizer) if self.facts.static else None

    @cached_property
    def near_terms(self) -> NearTerms | None:
        """What gives queries further terms; None where the model has no such table or factor."""
        if self.static_queries is None or not self.facts.query_expansion:
            return None
        terms = np.arange(self.facts.dim)[self._terms]
        return NearTerms(self.static_queries, np.setdiff1d(terms, self._no_terms), self.facts.query_expansion)

    @property
    def dense(self) -> JointDense:
        """The dense strand alone; queries pass through the transformer."""
        return JointDense(self)

    @property
    def learned(self) -> JointLearned:
        """The learned strand alone."""
        return JointLearned(self)

    def encode_documents(self, texts: Sequence[str]) -> tuple[csr_matrix, NDArray[np.float32]]:
        """Returns the sparse and the dense vectors of the same texts, float32, from one pass of each batch."""
        rows, vectors = self._rows(texts), self._vectors(texts)
        wanted = [DENSE, *self._learned_outputs]

        def work(positions: list[int], ids: Ids) -> None:
            found = self.model.run_for(wanted, ids)
            vectors[positions] = found[DENSE]
            self._keep_rows(rows, positions, ids, found)

        self.model.each_batch(self._prompted(texts, "document"), work)
        return csr(rows, self.facts.dim), vectors

    def encode_dense(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        """Returns the dense vectors of texts, float32 (len(texts), dim); `side` is "document" or "query"."""
        vectors = self._vectors(texts)

        def work(positions: list[int], ids: Ids) -> None:
            vectors[positions] = self.model.run_for([DENSE], ids)[DENSE]

        self.model.each_batch(self._prompted(texts, side), work)
        return vectors

    def encode_learned(self, texts: Sequence[str], side: str = "document") -> csr_matrix:
        """Returns the sparse vectors of texts that go through the model, float32 (len(texts), vocabulary)."""
        rows, document = self._rows(texts), side == "document"

        def work(positions: list[int], ids: Ids) -> None:
            self._keep_rows(rows, positions, ids, self.model.run_for(self._learned_outputs, ids), document=document)

        self.model.each_batch(self._prompted(texts, side), work)
        return csr(rows, self.facts.dim)

    def no_uses(self) -> TermUses:
        """Returns counts for `count_uses`, all 0."""
        rows = np.arange(self.facts.dim)[self._terms].size
        return TermUses(np.zeros(rows, np.int64), *np.zeros((2, self.facts.dim), np.int64))

    def count_uses(self, texts: Sequence[str], uses: TermUses) -> None:
        """Adds how many of some documents are given each term, and hold each token, to what was counted before."""
        check_texts(texts)
        rows = np.arange(self.facts.dim)[self._terms]
        terms, counting = ~np.isin(rows, self._no_terms), Lock()

        def work(positions: list[int], ids: Ids) -> None:
            del positions
            found = self.model.run_for(self._learned_outputs, ids)
            weights = self._weights(ids, found)
            least = self.facts.prune * weights.max(axis=1, keepdims=True)
            given = np.count_nonzero(found[WEIGHTS] > least, axis=0)
            with counting:
                uses.given[terms] += given[terms]
                for own, kept in zip(ids, weights > least, strict=True):
                    tokens = np.unique(own)
                    uses.held[tokens] += 1
                    uses.kept[tokens] += kept[tokens]

        self.model.each_batch(self._prompted(texts, "document"), work)

    @property
    def _learned_outputs(self) -> list[str]:
        return [WEIGHTS, OWN] if self.facts.literal else [WEIGHTS]

    @cached_property
    def _terms(self) -> NDArray[np.int32] | slice:
        return self.folder.array(TERMS) if TERMS in self.folder.manifest.files else slice(None)

    def _prompted(self, texts: Sequence[str], side: str) -> Sequence[str]:
        prompt = self._prompts.get(side, "")
        return [prompt + text for text in texts] if prompt else texts

    def _rows(self, texts: Sequence[str]) -> list[Row]:
        check_texts(texts)
        return [no_row()] * len(texts)

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        check_texts(texts)
        return np.empty((len(texts), self.folder.manifest.dim), dtype=np.float32)

    def _keep_rows(
        self,
        rows: list[Row],
        positions: list[int],
        ids: Ids,
        found: dict[str, NDArray[np.float32]],
        *,
        document: bool = True,
    ) -> None:
        weights = self._weights(ids, found)
        facts = self.facts
        prune = facts.prune if document else 0.0
        for position, own, row in zip(positions, ids, weights, strict=True):
            columns = np.flatnonzero(row > prune * row.max())
            values = row[columns]
            if document:
                values = damped(expanded(columns, values, own, facts.expansion), facts.damping)
            rows[position] = columns.astype(np.int32), values

    def _weights(self, ids: Ids, found: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns expansion and own weights together, (batch, vocabulary); 0 for what is no term."""
        weights = np.zeros((len(ids), self.facts.dim), dtype=np.float32)
        if OWN in found:  # the largest of a token's occurrences
            np.maximum.at(weights, (np.arange(len(ids))[:, None], ids), found[OWN])
        weights[:, self._terms] += found[WEIGHTS]
        weights[:, self._no_terms] = 0
        return weights


class JointDense:
    """The dense half of a joint encoder, a `DenseEncoder`.

    Both ways of encoding queries meet the same document vectors, so an index made with one opens with the other.

    Args:
        joint: the whole encoder.
        queries: "transformer", or "static" for the sum of rows of the model's table.
        name: the name in its identity; the joint encoder's where None.

    Raises:
        EncoderError: `queries` is neither, or the model has no static query table.
    """

    def __init__(self, joint: OnnxJointEncoder, *, queries: str = TRANSFORMER, name: str | None = None) -> None:
        if queries not in QUERIES:
            raise EncoderError(f"queries {queries!r} is not one of {', '.join(QUERIES)}")
        if queries == STATIC and joint.static_queries is None:
            raise EncoderError(no_table(str(joint.folder.path)))
        self.joint, self.queries = joint, queries
        self._identity = joint.folder.manifest.identity(name or joint.name, joint.max_length)

    @property
    def identity(self) -> Identity:
        """What moves a document's vector."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self.joint.encode_dense(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous; from a table, zero where a text has no tokens."""
        if self.queries == STATIC and self.joint.static_queries is not None:
            return self.joint.static_queries.encode(texts)
        return self.joint.encode_dense(texts, "query")


class JointLearned:
    """The learned half of a joint encoder, a `SparseEncoder`; queries need its tokenizer alone, or are encoded too.

    Args:
        joint: the whole encoder.
        name: the name in its identity; the joint encoder's where None.
    """

    def __init__(self, joint: OnnxJointEncoder, *, name: str | None = None) -> None:
        self.joint = joint
        self._identity = joint.folder.manifest.learned_identity(name or joint.name, joint.max_length)

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), vocabulary): a document's expansion and its own words."""
        return self.joint.encode_learned(texts)

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), vocabulary): a weight per distinct token, or what the model makes of them."""
        if self.joint.facts.queries == "encoded":
            return self.joint.encode_learned(texts, "query")
        return self.joint.token_queries.encode(texts)

    def encode_full_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), vocabulary): queries as they are where no dense strand hears them.

        Tokens weigh more the more often a query has them, and terms near the query are in it, too, where the model has
        a table of static queries and says how much they weigh. Beside a dense strand neither helps (measured:
        benchmarks/README.md), and both cost time. Binary and encoded queries are as ever.
        """
        if self.joint.facts.queries != "idf":
            return self.encode_queries(texts)
        return self.joint.token_queries.encode(texts, self.joint.near_terms, counted=True)

    def vocabulary(self) -> list[str]:
        """Returns the token of each column."""
        return list(self.column_names(range(self.joint.facts.dim)).values())

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the wordpieces of a text's terms, by column."""
        if self.joint.facts.queries == "encoded":
            return self.column_names(self.encode_queries([text]).indices.tolist())
        return self.joint.token_queries.names(text)

    def column_names(self, columns: Iterable[int]) -> dict[int, str]:
        """Returns the wordpieces of some columns, by column."""
        return {column: self.joint.model.tokenizer.token(column) for column in columns}

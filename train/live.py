"""The model in training as an encoder, so that it can be searched with before it is exported."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..encoders.contract import Identity
from ..encoders.queries import damped, expanded
from .states import Live

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from .loop import Model
    from .prepare import Base, Ids
    from .recipe import Recipe

PIECE = 256  # texts encoded at a time: what is held of them are states and sparse vectors


class LiveEncoder:
    """A `SparseEncoder` over the model in training.

    Args:
        model: trunk and head.
        base: its tokenizer and prompts.
        recipe: how queries and documents are read.
        idf: float32 (vocabulary,), of the training documents.
    """

    def __init__(self, model: Model, base: Base, recipe: Recipe, idf: NDArray[np.float32]) -> None:
        self._model, self._base, self._recipe = model, base, recipe
        own = {"binary": (idf > 0).astype(np.float32), "encoded": None, "idf": idf if recipe.idf == "trained" else None}
        self._weights = own[recipe.query_side]
        by_index = recipe.query_side == "idf" and recipe.idf == "corpus"
        self._identity = Identity(
            name="in training",
            revision="",
            tokenizer="",
            activation=f"{recipe.pooling}+{recipe.activation}",
            max_length=recipe.encoder_length,
            dim=base.vocabulary,
            query_weights="idf" if by_index else "encoder",
        )

    @property
    def identity(self) -> Identity:
        """What an index remembers; of a model that changes with every step it means little."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), vocabulary)."""
        return self._encode(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), vocabulary)."""
        if self._recipe.query_side == "encoded":
            return self._encode(texts, "query")
        ids = self._base.ids(texts, self._recipe.encoder_length)
        terms = [np.setdiff1d(one, self._base.specials) for one in ids]
        columns = np.concatenate([np.empty(0, np.int64), *terms])
        weights = np.ones(len(columns), np.float32) if self._weights is None else self._weights[columns]
        rows = np.repeat(np.arange(len(terms)), [len(one) for one in terms])
        return self._csr(rows, columns, weights, len(terms))

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the word pieces of a query's terms, by column."""
        columns = self.encode_queries([text]).indices.tolist()
        return {column: self._base.tokenizer.id_to_token(column) for column in columns}

    def _encode(self, texts: Sequence[str], side: str) -> csr_matrix:
        ids = self._base.ids(list(texts), self._recipe.encoder_length, side)
        live = Live(self._model.trunk, ids, self._model.device)
        parts = [self._part(start, ids, live) for start in range(0, len(ids), PIECE)]
        rows, columns, values = (np.concatenate([np.empty(0, kind), *part]) for kind, part in _columns(parts))
        found = self._csr(rows, columns, values, len(ids))
        return _finished(found, ids, self._recipe) if side == "document" else found

    def _part(self, start: int, ids: Ids, live: Live) -> tuple[Any, Any, Any]:
        chosen = range(start, min(start + PIECE, len(ids)))
        with torch.no_grad():
            vectors, order, _ = self._model.encode(chosen, ids, live)
        return order[vectors.rows.cpu().numpy()], vectors.columns.cpu().numpy(), vectors.values.cpu().numpy()

    def _csr(self, rows: Any, columns: Any, values: Any, count: int) -> csr_matrix:
        from scipy.sparse import csr_matrix

        made = csr_matrix((values, (rows, columns)), shape=(count, self._base.vocabulary), dtype=np.float32)
        made.eliminate_zeros()
        made.sort_indices()
        return made


def _finished(rows: csr_matrix, ids: Ids, recipe: Recipe) -> csr_matrix:
    """Returns rows pruned, expanded and damped, as the finished encoder gives them."""
    if recipe.prune and rows.nnz:
        largest = rows.max(axis=1).toarray().ravel()
        rows.data[rows.data <= recipe.prune * np.repeat(largest, np.diff(rows.indptr))] = 0
        rows.eliminate_zeros()
    starts: Any = rows.indptr
    columns: Any = rows.indices
    weights: Any = rows.data
    for own, (start, end) in zip(ids, itertools.pairwise(starts.tolist()), strict=True):
        inside = slice(start, end)
        weights[inside] = damped(expanded(columns[inside], weights[inside], own, recipe.expansion), recipe.damping)
    return rows


def _columns(parts: Sequence[tuple[Any, Any, Any]]) -> list[tuple[Any, list[Any]]]:
    kinds = (np.int64, np.int64, np.float32)
    return [(kind, [part[number] for part in parts]) for number, kind in enumerate(kinds)]

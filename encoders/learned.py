"""Learned sparse vectors, inference-free: documents through an ONNX model, queries through its tokenizer alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .contract import Identity
from .manifest import ModelFolder, checked_length
from .onnx_runtime import TOKEN_BUDGET, OnnxModel, check_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Row = tuple[NDArray[np.int32], NDArray[np.float32]]


class OnnxSparseEncoder:
    """A `SparseEncoder` over a built model. Only documents open an onnxruntime session.

    A query weighs each of its distinct tokens 1.0, for the index to weight by its own inverse document frequencies; a
    model that brings an idf.json has weights of its own. Special tokens are terms of neither side.

    Args:
        folder: the built model, head "learned".
        name: the name in its identity; the manifest's where None.
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
        length = checked_length(max_length, manifest)
        self._model = OnnxModel(folder, max_length=length, threads=threads, token_budget=token_budget)
        self._identity = manifest.identity(name or manifest.name, length)
        self._prompts = manifest.prompts
        self._specials = frozenset(manifest.specials)
        self._weights = self._own_weights(manifest.idf)

    def _own_weights(self, idf: dict[str, float]) -> dict[int, float] | None:
        if not idf:
            return None
        numbers = ((self._model.tokenizer.number(token), weight) for token, weight in idf.items())
        return {number: weight for number, weight in numbers if number is not None and weight > 0}

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): the weights of the terms that the model expands a document to."""
        check_texts(texts)
        prompt = self._prompts.get("document", "")
        rows: list[Row] = [(np.empty(0, np.int32), np.empty(0, np.float32))] * len(texts)

        def keep(positions: list[int], output: NDArray[np.float32]) -> None:
            output[:, list(self._specials)] = 0
            for position, weights in zip(positions, output, strict=True):
                columns = np.flatnonzero(weights)
                rows[position] = columns.astype(np.int32), weights[columns]

        self._model.run([prompt + text for text in texts] if prompt else texts, keep)
        return self._csr(rows)

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): one weight per distinct token; an empty row where there is none."""
        check_texts(texts)
        prompt = self._prompts.get("query", "")
        lists = self._model.tokenizer.id_lists([prompt + text for text in texts])
        return self._csr([self._query_row(ids) for ids in lists])

    def _query_row(self, ids: list[int]) -> Row:
        terms = sorted(set(ids) - self._specials)
        if self._weights is not None:
            terms = [term for term in terms if term in self._weights]
        weights = [1.0 if self._weights is None else self._weights[term] for term in terms]
        return np.array(terms, dtype=np.int32), np.array(weights, dtype=np.float32)

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the wordpieces of a text's terms, by column."""
        check_texts([text])
        (ids,) = self._model.tokenizer.id_lists([self._prompts.get("query", "") + text])
        return {term: self._model.tokenizer.token(term) for term in sorted(set(ids) - self._specials)}

    def _csr(self, rows: list[Row]) -> csr_matrix:
        from scipy.sparse import csr_matrix

        pointers = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(columns) for columns, _ in rows], out=pointers[1:])
        columns = np.concatenate([np.empty(0, np.int32), *(columns for columns, _ in rows)])
        weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)])
        return csr_matrix((weights, columns, pointers), shape=(len(rows), self._identity.dim))

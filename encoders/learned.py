"""Learned sparse vectors, inference-free: documents through an ONNX model, queries through its tokenizer alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .contract import Identity
from .manifest import ModelFolder, checked_length
from .onnx_runtime import TOKEN_BUDGET, OnnxModel, check_texts
from .queries import TokenQueries, csr, no_row

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


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
        self._prompt, self._specials = manifest.prompts.get("document", ""), manifest.specials
        query_prompt = manifest.prompts.get("query", "")
        self._queries = TokenQueries(
            self._model.tokenizer, manifest.dim, specials=manifest.specials, idf=manifest.idf, prompt=query_prompt
        )

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): the weights of the terms that the model expands a document to."""
        check_texts(texts)
        rows = [no_row()] * len(texts)

        def keep(positions: list[int], output: NDArray[np.float32]) -> None:
            output[:, self._specials] = 0
            for position, weights in zip(positions, output, strict=True):
                columns = np.flatnonzero(weights)
                rows[position] = columns.astype(np.int32), weights[columns]

        self._model.run([self._prompt + text for text in texts] if self._prompt else texts, keep)
        return csr(rows, self._identity.dim)

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim): one weight per distinct token; an empty row where there is none."""
        return self._queries.encode(texts)

    def vocabulary(self) -> list[str]:
        """Returns the token of each column."""
        return [self._model.tokenizer.token(number) for number in range(self._identity.dim)]

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the wordpieces of a text's terms, by column."""
        return self._queries.names(text)

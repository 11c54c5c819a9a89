"""Dense vectors from an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .contract import QUERIES, STATIC, TRANSFORMER, EncoderError, Identity, no_table
from .manifest import TABLE, ModelFolder, checked_length
from .onnx_runtime import TOKEN_BUDGET, OnnxModel, check_texts
from .queries import StaticQueries

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OnnxDenseEncoder:
    """A `DenseEncoder` over a built model.

    Args:
        folder: the built model, head "dense".
        name: the name in its identity; the manifest's where None.
        max_length: tokens read of a text; the manifest's where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        queries: "transformer", or "static" for the sum of rows of the model's table.

    Raises:
        EncoderError: `queries` is neither, or the model has no static query table.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        name: str | None = None,
        max_length: int | None = None,
        threads: int | None = None,
        token_budget: int = TOKEN_BUDGET,
        queries: str = TRANSFORMER,
    ) -> None:
        manifest = folder.manifest
        if queries not in QUERIES:
            raise EncoderError(f"queries {queries!r} is not one of {', '.join(QUERIES)}")
        if queries == STATIC and TABLE not in manifest.files:
            raise EncoderError(no_table(str(folder.path)))
        length = checked_length(max_length, manifest)
        self._prompts, self.queries = manifest.prompts, queries
        self._model = OnnxModel(folder, max_length=length, threads=threads, token_budget=token_budget)
        self._identity = manifest.identity(name or manifest.name, length)
        self._static = StaticQueries(folder, self._model.tokenizer) if queries == STATIC else None

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self._encode(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self._static.encode(texts) if self._static else self._encode(texts, "query")

    def _encode(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        check_texts(texts)
        vectors = np.empty((len(texts), self._identity.dim), dtype=np.float32)

        def keep(positions: list[int], output: NDArray[np.float32]) -> None:
            vectors[positions] = output

        prompt = self._prompts.get(side, "")
        self._model.run([prompt + text for text in texts] if prompt else texts, keep)
        return vectors

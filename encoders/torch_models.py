"""Models that our ONNX builder cannot write, through sentence-transformers. Slow to import; on no default path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .contract import EncoderError, Identity
from .extras import require
from .manifest import sha256
from .onnx_runtime import check_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

TOKEN_BUDGET = 8192
_USUAL = 512  # tokens of a text, where a model has no limit
WEIGHTS = ("*.safetensors", "*.bin")


class _TorchEncoder:
    """What the two encoders share: loading, batches, identity."""

    _kind = ""  # sentence-transformers' class
    _activation = ""

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str | None = None,
        max_length: int | None = None,
        threads: int | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        folder = Path(folder)
        self._model = _open(self._kind, folder, threads)
        if max_length is not None:
            self._model.max_seq_length = max_length
        limit = self._model.max_seq_length or _USUAL
        length = int(limit) if limit != float("inf") else 0  # a table reads texts of any length
        self._batch_size = max(1, token_budget // (length or _USUAL))
        self._identity = Identity(
            name=name or str(folder),
            revision=_hash_of(folder, *WEIGHTS),
            tokenizer=_hash_of(folder, "tokenizer.json", "vocab.txt", "*.model"),
            activation=self._activation,
            max_length=length,
            dim=self._dim(),
        )

    def _dim(self) -> int:
        raise NotImplementedError

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        return self._identity

    def _run(self, encode: Any, texts: Sequence[str], **options: Any) -> Any:
        check_texts(texts)
        return encode(list(texts), batch_size=self._batch_size, show_progress_bar=False, **options)


class TorchDenseEncoder(_TorchEncoder):
    """A `DenseEncoder` over a `SentenceTransformer`; vectors get length one.

    Args:
        folder: a sentence-transformers or transformers folder.
        name: the name in its identity; the folder where None.
        max_length: tokens read of a text; the model's own limit where None.
        threads: torch's threads, for the whole process; unchanged where None.
        token_budget: the most tokens in a batch, padding included.
    """

    _kind = "SentenceTransformer"
    _activation = "sentence-transformers+l2"

    def _dim(self) -> int:
        return int(self._model.encode("", normalize_embeddings=True).shape[0])

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self._encode(self._model.encode_document, texts)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self._encode(self._model.encode_query, texts)

    def _encode(self, encode: Any, texts: Sequence[str]) -> NDArray[np.float32]:
        if not len(texts):
            return np.empty((0, self._identity.dim), dtype=np.float32)
        return np.ascontiguousarray(self._run(encode, texts, normalize_embeddings=True), dtype=np.float32)


class TorchSparseEncoder(_TorchEncoder):
    """A `SparseEncoder` over sentence-transformers' own; its query vectors are final.

    Args:
        folder: a sentence-transformers folder of a sparse encoder, or a masked-LM one.
        name: the name in its identity; the folder where None.
        max_length: tokens read of a text; the model's own limit where None.
        threads: torch's threads, for the whole process; unchanged where None.
        token_budget: the most tokens in a batch, padding included.
    """

    _kind = "SparseEncoder"
    _activation = "sentence-transformers"

    def _dim(self) -> int:
        return int(self._model.encode("", convert_to_sparse_tensor=False).shape[0])

    def encode_documents(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim)."""
        return self._encode(self._model.encode_document, texts)

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        """Returns float32 (len(texts), dim)."""
        return self._encode(self._model.encode_query, texts)

    def vocabulary(self) -> list[str]:
        """Returns the token of each column."""
        return [str(token) for token in self._model.tokenizer.convert_ids_to_tokens(range(self._identity.dim))]

    def term_names(self, text: str) -> dict[int, str]:
        """Returns the tokens of a query's terms, by column."""
        columns = self.encode_queries([text]).indices
        tokens = self._model.tokenizer.convert_ids_to_tokens([int(column) for column in columns])
        return {int(column): str(token) for column, token in zip(columns, tokens, strict=True)}

    def _encode(self, encode: Any, texts: Sequence[str]) -> csr_matrix:
        from scipy.sparse import csr_matrix

        if not len(texts):
            return csr_matrix((0, self._identity.dim), dtype=np.float32)
        tensor = self._run(encode, texts, convert_to_tensor=True, save_to_cpu=True).coalesce()
        rows, columns = tensor.indices().numpy()
        matrix = csr_matrix((tensor.values().numpy(), (rows, columns)), shape=tuple(tensor.shape), dtype=np.float32)
        matrix.eliminate_zeros()
        return matrix


def _open(kind: str, folder: Path, threads: int | None) -> Any:
    library = require("sentence_transformers", f"running {folder}")
    if threads is not None:
        require("torch", f"running {folder}").set_num_threads(threads)
    try:
        return getattr(library, kind)(str(folder), device="cpu", local_files_only=True)
    except Exception as error:  # whatever the libraries below raise about a folder they cannot read
        raise EncoderError(f"sentence-transformers cannot open {folder}: {type(error).__name__}: {error}") from error


def _hash_of(folder: Path, *patterns: str) -> str:
    files = sorted({path for pattern in patterns for path in folder.rglob(pattern)})
    return sha256("".join(sha256(path.read_bytes()) for path in files).encode())[:16]

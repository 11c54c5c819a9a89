"""Static embeddings, model2vec's and sentence-transformers' StaticEmbedding: a mean of rows of a table, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import EncoderError, Identity
from ..extras import require
from ..manifest import sha256, whole_number
from ..model_files import ModelFiles, read_json, read_text
from ..onnx_runtime import TextTokenizer, check_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL2VEC, SENTENCE = "embeddings", "embedding.weight"  # as they call their tables
_TABLES = (MODEL2VEC, SENTENCE)
_MODEL2VEC_LENGTH = 512  # what it reads of a text where its config.json says nothing


def static_folder(folder: Path) -> Path | None:
    """Returns where a folder has its table; None where it is no static model."""
    files = ModelFiles(folder, {})
    if files.modules in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
        return folder / files.paths("StaticEmbedding")[0]
    model2vec = not files.modules and read_json(folder / "config.json", {}).get("model_type") == "model2vec"
    return folder if model2vec else None


class StaticEncoder:
    """A `DenseEncoder` over a table: the mean of the rows of a text's tokens; zero for a text without any.

    Args:
        folder: as model2vec or sentence-transformers wrote it.
        name: the name in its identity; the folder where None.
        max_length: tokens read of a text; as the folder says where None, which is all but for model2vec's.
        dimensions: how many of the first numbers are kept; 0 for all.
        normalize: whether vectors are brought to length one; as the folder says where None.
        prompts: what stands before a "query" and a "document".

    Raises:
        EncoderError: the folder holds no table, or one that does not fit its tokenizer.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        max_length: int | None = None,
        dimensions: int = 0,
        normalize: bool | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        part = static_folder(folder) or folder
        content = read_text(part / "tokenizer.json")
        tensors = _tensors(part)
        files = ModelFiles(folder, read_json(folder / "config.json", {}))
        whole_number(dimensions, "dimensions", 0)
        if max_length is None and MODEL2VEC in tensors:
            max_length = files.config.get("max_length", _MODEL2VEC_LENGTH)
        self.tokenizer = TextTokenizer(content, part / "tokenizer.json", max_length)
        self._characters = self._most_characters(max_length) if MODEL2VEC in tensors else None
        table = next((tensors[each] for each in _TABLES if each in tensors), None)
        if table is None or table.ndim != 2:
            raise EncoderError(f"{part / 'model.safetensors'} has no table of embeddings ({' or '.join(_TABLES)})")
        if not np.isfinite(table).all():
            raise EncoderError(f"{part / 'model.safetensors'} has values that are no numbers: it is damaged")
        self._rows, self._weights = tensors.get("mapping"), tensors.get("weights")
        self._table = np.asarray(table[:, : dimensions or None], np.float32)
        self._normalize = _normalizes(files) if normalize is None else normalize
        self._prompts = dict(files.prompts if prompts is None else prompts)
        self._unknown = _unknown(content) if MODEL2VEC in tensors else None
        self._check()
        moved = repr((sha256((part / "model.safetensors").read_bytes()), self._prompts, self._unknown))
        self._identity = Identity(
            name=name or str(folder),
            revision=sha256(moved.encode())[:16],
            tokenizer=sha256(content.encode())[:16],
            activation="static+mean" + (f"+first{dimensions}" if dimensions else "") + ("+l2" * self._normalize),
            max_length=max_length or 0,
            dim=self._table.shape[1],
        )

    @property
    def identity(self) -> Identity:
        """What moves a vector of this encoder."""
        return self._identity

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self._encode(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 (len(texts), dim), C-contiguous."""
        return self._encode(texts, "query")

    def _encode(self, texts: Sequence[str], side: str) -> NDArray[np.float32]:
        check_texts(texts)
        prompt = self._prompts.get(side, "")
        vectors = np.zeros((len(texts), self._table.shape[1]), np.float32)
        read = [(prompt + text)[: self._characters] for text in texts]
        lists = self.tokenizer.id_lists(read, specials=False)
        for vector, ids in zip(vectors, lists, strict=True):
            own = np.array([number for number in ids if number != self._unknown], np.int64)
            if len(own):
                vector[:] = self._mean(own)
        if self._normalize:
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            np.divide(vectors, norms, out=vectors, where=norms > 0)
        return vectors

    def _mean(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = self._table[ids if self._rows is None else self._rows[ids]]
        return (rows if self._weights is None else rows * self._weights[ids][:, None]).mean(0)

    def _most_characters(self, max_length: int | None) -> int | None:
        """Returns how many characters model2vec reads of a text: those of so many tokens of the usual length."""
        lengths = [len(token) for token in self.tokenizer.vocabulary()]
        return max_length * int(np.median(lengths)) if max_length and lengths else None

    def _check(self) -> None:
        largest = max(self.tokenizer.vocabulary().values(), default=-1)
        rows = len(self._table) if self._rows is None else len(self._rows)
        if largest >= rows:
            raise EncoderError(
                f"the tokenizer knows token {largest:,}, the table has {rows:,} rows: they do not belong together"
            )


def _tensors(part: Path) -> dict[str, NDArray[Any]]:
    path = part / "model.safetensors"
    if not path.is_file():
        raise EncoderError(f"{path} is missing: a static model is a table in it and a tokenizer.json")
    try:
        found = require("safetensors.numpy", f"reading {path}").load_file(path)
    except EncoderError:
        raise
    except Exception as error:  # safetensors raises a type of its own, which is not exported everywhere
        raise EncoderError(f"{path} cannot be read as safetensors: {error}") from error
    return {name: tensor.astype(np.int64 if name == "mapping" else np.float32) for name, tensor in found.items()}


def _normalizes(files: ModelFiles) -> bool:
    return bool(files.config.get("normalize", False)) or files.normalize


def _unknown(content: str) -> int | None:
    """Returns the unknown token's number, which model2vec leaves out."""
    import json

    model = json.loads(content).get("model", {})
    token = model.get("unk_token")
    if "unk_id" in model:  # of a Unigram model
        return model["unk_id"]
    return model.get("vocab", {}).get(token) if isinstance(model.get("vocab"), dict) and token else None

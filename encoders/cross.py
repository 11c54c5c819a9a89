"""Cross-encoders: a query and a text, read together, to one number; an ONNX folder, or sentence-transformers' own.

A score is a logit: its sigmoid is what the model takes for the probability that the text answers the query.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from .contract import EncoderError, Identity
from .extras import require
from .folders import checked_name, is_folder, shown
from .manifest import MODEL, TOKENIZER, sha256, whole_number
from .model_files import read_json
from .onnx_runtime import (
    TOKEN_BUDGET,
    available_cores,
    batches,
    check_texts,
    in_threads,
    open_session,
    well_formed,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]

LENGTH = 512  # tokens read of a pair where neither the caller nor the folder says it
SHORTEST = 5  # [CLS], a token of the query, [SEP], a token of the text, [SEP]
TORCH_BATCH = 32
_UNLIMITED = 10**6  # transformers writes 1e30 where a tokenizer has no limit
_PLACES = (MODEL, f"onnx/{MODEL}")


@runtime_checkable
class CrossEncoder(Protocol):
    """A query and texts to scores, each pair read together."""

    @property
    def identity(self) -> Identity:
        """What moves a score of this encoder."""
        ...

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Returns a logit for each text, float32 (len(texts),); higher is more relevant."""
        ...


class OnnxCrossEncoder:
    """A cross-encoder exported to ONNX: model.onnx, or onnx/model.onnx, and tokenizer.json. Safe to share by threads.

    The model has the inputs input_ids and, where it wants them, attention_mask and token_type_ids; its first output is
    one logit a pair, or two, of which the second speaks for relevance.

    Args:
        folder: where they are.
        name: the name in its identity; the folder where None.
        max_length: tokens read of a pair; the tokenizer's own limit where None.
        threads: batches scored at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.

    Raises:
        EncoderError: a file is missing or damaged, or the model has other inputs or outputs.
    """

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
        path = onnx_file(folder) or folder / MODEL
        model, tokenizer = _read(path), _read(folder / TOKENIZER)
        length = _own_length(folder) if max_length is None else whole_number(max_length, "max_length", SHORTEST)
        self._threads = available_cores() if threads is None else whole_number(threads, "threads")
        self._token_budget = whole_number(token_budget, "token_budget")
        self._tokenizer = _pair_tokenizer(tokenizer, folder / TOKENIZER, length)
        self._session = open_session(model, path)
        self._inputs = _inputs(self._session, path)
        self._path = path
        self._identity = _identity(name or str(folder), sha256(model)[:16], sha256(tokenizer)[:16], length)

    @property
    def identity(self) -> Identity:
        """What moves a score of this encoder."""
        return self._identity

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Returns a logit for each text, float32 (len(texts),); pairs of one length share a batch, so none is padded.

        Raises:
            EncoderError: one is no text, or the model gives neither one number a pair nor two.
        """
        check_texts([query])
        check_texts(texts)
        scores = np.empty(len(texts), np.float32)
        if not scores.size:
            return scores
        pairs = self._tokenizer.encode_batch([(well_formed(query), well_formed(text)) for text in texts])

        def one_batch(positions: list[int]) -> None:
            chosen = [pairs[position] for position in positions]
            given = {name: _column(name, chosen) for name in self._inputs}
            scores[positions] = logits(self._session.run(None, given)[0], self._path)

        in_threads(one_batch, batches([len(pair.ids) for pair in pairs], self._token_budget), self._threads)
        return scores


class TorchCrossEncoder:
    """A cross-encoder through sentence-transformers. Slow to import; on no default path.

    Args:
        name: a folder, or a hub name.
        max_length: tokens read of a pair; the model's own limit where None.

    Raises:
        EncoderError: sentence-transformers is not installed, or cannot open the model.
    """

    def __init__(self, name: str | Path, *, max_length: int | None = None) -> None:
        library = require("sentence_transformers", f"running the cross-encoder {str(name)!r}")
        self._torch = require("torch", f"running the cross-encoder {str(name)!r}")
        if max_length is not None:
            whole_number(max_length, "max_length", SHORTEST)
        local = Path(name).is_dir()
        try:
            self._model = library.CrossEncoder(str(name), max_length=max_length, device="cpu", local_files_only=local)
        except Exception as error:  # whatever the libraries below raise about what they cannot read or fetch
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            message = f"sentence-transformers cannot open {str(name)!r}: {type(error).__name__}: {reason}"
            raise EncoderError(message) from error
        self._name = str(name)
        self._identity = _identity(self._name, self._revision(), self._tokenizer(), int(self._model.max_length or 0))

    @property
    def identity(self) -> Identity:
        """What moves a score of this encoder."""
        return self._identity

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Returns a logit for each text, float32 (len(texts),).

        Raises:
            EncoderError: one is no text, or the model gives neither one number a pair nor two.
        """
        check_texts([query])
        check_texts(texts)
        if not len(texts):
            return np.empty(0, np.float32)
        pairs = [(well_formed(query), well_formed(text)) for text in texts]
        plain = self._torch.nn.Identity()
        found = self._model.predict(pairs, batch_size=TORCH_BATCH, activation_fn=plain, show_progress_bar=False)
        return logits(np.asarray(found, np.float32), self._name)

    def _revision(self) -> str:
        """Returns a hash of the weights."""
        weights = (tensor.detach().float().numpy().tobytes() for tensor in self._model.model.state_dict().values())
        return sha256("".join(map(sha256, weights)).encode())[:16]

    def _tokenizer(self) -> str:
        """Returns a hash of the vocabulary."""
        return sha256(json.dumps(sorted(self._model.tokenizer.get_vocab().items())).encode())[:16]


def load_cross(name: str | Path, *, max_length: int | None = None) -> CrossEncoder:
    """Returns a cross-encoder.

    Args:
        name: a folder with model.onnx (or onnx/model.onnx) and tokenizer.json, which needs no torch; or what
            sentence-transformers opens: a folder of a checkpoint, or a hub name.
        max_length: tokens read of a pair; the model's own limit where None.

    Raises:
        EncoderError: there is no such model, or it cannot be opened, or sentence-transformers is not installed.
    """
    text = str(name) if isinstance(name, Path) else checked_name(name)
    if is_folder(text):
        folder = Path(text).expanduser()
        if onnx_file(folder) is not None:
            return OnnxCrossEncoder(folder, max_length=max_length)
        return TorchCrossEncoder(folder, max_length=max_length)
    if text.count("/") != 1 or text.startswith((".", "/", "~")) or text.endswith("/"):
        raise EncoderError(
            f"no cross-encoder {shown(text)}: it is neither a folder that exists nor a hub name "
            '("cross-encoder/ms-marco-MiniLM-L6-v2")'
        )
    return TorchCrossEncoder(text, max_length=max_length)


_loaded: dict[tuple[str, int | None], CrossEncoder] = {}
_loading = threading.Lock()


def shared_cross(name: str | Path, max_length: int | None = None) -> CrossEncoder:
    """Returns the cross-encoder that `load_cross` returned for this name and length before: it is loaded once."""
    text = str(name)
    key = (str(Path(text).expanduser().resolve()) if is_folder(text) else text, max_length)
    with _loading:
        if key not in _loaded:
            _loaded[key] = load_cross(name, max_length=max_length)
        return _loaded[key]


def logits(output: NDArray[Any], origin: object) -> Scores:
    """Returns one logit a pair of a model's output: as it is, or the second less the first of two.

    Raises:
        EncoderError: the output has another shape.
    """
    if output.ndim == 1:
        return output.astype(np.float32)
    if output.ndim == 2 and output.shape[1] in (1, 2):
        return (output[:, -1] - (output[:, 0] if output.shape[1] == 2 else 0)).astype(np.float32)
    raise EncoderError(
        f"{origin} gives an output of shape {output.shape}; a cross-encoder gives one number a pair, or two: "
        "export it with its classification head"
    )


def onnx_file(folder: Path) -> Path | None:
    """Returns where a folder has its ONNX model; None where it has none."""
    return next((folder / place for place in _PLACES if (folder / place).is_file()), None)


def _identity(name: str, revision: str, tokenizer: str, length: int) -> Identity:
    return Identity(name, revision, tokenizer, activation="logit", max_length=length, dim=1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EncoderError(f"a cross-encoder needs the file {path}, which cannot be read: {error.strerror}") from error


def _own_length(folder: Path) -> int:
    """Returns how many tokens the folder's files say that a model reads, at most `LENGTH` where they do not."""
    found = []
    for file, key in (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings")):
        value = read_json(folder / file).get(key) if (folder / file).is_file() else None
        if isinstance(value, (int, float)) and SHORTEST <= value < _UNLIMITED:
            found.append(int(value))
    return min(found, default=LENGTH)


def _pair_tokenizer(content: bytes, path: Path, length: int) -> Any:
    api = require("tokenizers", "encoding text")
    try:
        tokenizer = api.Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # tokenizers raises bare Exception
        raise EncoderError(f"{path} is no tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)  # of the longer one first, as transformers does
    return tokenizer


def _inputs(session: Any, path: Path) -> list[str]:
    """Returns the names of a model's inputs."""
    names = [each.name for each in session.get_inputs()]
    if "input_ids" not in names or set(names) - set(_COLUMNS):
        raise EncoderError(f"{path} has the inputs {', '.join(names)}; a cross-encoder has: {', '.join(_COLUMNS)}")
    return names


_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


def _column(name: str, pairs: Sequence[Any]) -> NDArray[np.int64]:
    return np.array([getattr(pair, _COLUMNS[name]) for pair in pairs], np.int64)

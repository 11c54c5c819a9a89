"""The small files of a Hugging Face folder: what they say of tokenizer, lengths, pooling and prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .contract import EncoderError
from .extras import require

TORCH_HINT = 'pip install "plait[torch]" runs it through torch'


# sentence-transformers' names of poolings, old and new -> ours
_POOLINGS = {
    "cls_token": "cls",
    "mean_tokens": "mean",
    "max_tokens": "max",
    "lasttoken": "last",
    "weightedmean_tokens": "weightedmean",
}


class UnsupportedModelError(EncoderError):
    """The folder holds a model that our ONNX builder cannot write."""


@dataclass
class ModelFiles:
    """A model folder of any kind, read lazily.

    Attributes:
        folder: where it is.
        config: config.json.
    """

    folder: Path
    config: dict[str, Any]

    @cached_property
    def tokenizer_json(self) -> str:
        """The tokenizer as the text of a tokenizer.json; built from vocab.txt where there is none."""
        path = self.folder / "tokenizer.json"
        return read_text(path) if path.is_file() else _wordpiece(self.folder, self._tokenizer_config).to_str()

    @cached_property
    def _tokenizer_config(self) -> dict[str, Any]:
        return read_json(self.folder / "tokenizer_config.json", {})

    @property
    def max_length(self) -> int:
        """Tokens read of a text: sentence-transformers' limit, else the tokenizer's, else the number of positions."""
        positions = int(self.config.get("max_position_embeddings", 512))
        sentence = read_json(self.folder / "sentence_bert_config.json", {}).get("max_seq_length")
        return min(positions, int(sentence or self._tokenizer_config.get("model_max_length") or positions))

    @cached_property
    def modules(self) -> list[str]:
        """The sentence-transformers modules by class name; empty where there is no modules.json."""
        return [module["type"].rpartition(".")[2] for module in read_json(self.folder / "modules.json", [])]

    def paths(self, module: str) -> tuple[str, ...]:
        """Returns the folders of the sentence-transformers modules of a class, in their order."""
        listed: list[dict[str, Any]] = read_json(self.folder / "modules.json", [])
        return tuple(each.get("path", "") for each in listed if each["type"].rpartition(".")[2] == module)

    @property
    def poolings(self) -> list[str]:
        """The poolings that the folder asks for, as "mean" or "last"; none where it does not say."""
        settings = self.module_config("Pooling")
        modes = settings.get("pooling_mode") or _pooling_flags(settings)
        return [_POOLINGS.get(mode, mode) for mode in ([modes] if isinstance(modes, str) else modes)]

    @property
    def pooling(self) -> str:
        """The pooling that the folder asks for; "mean" where it asks for none.

        Raises:
            UnsupportedModelError: it asks for more than one, or for one that our ONNX builder does not write.
        """
        modes = self.poolings
        if len(modes) > 1 or not set(modes) <= {"mean", "cls", "max"}:
            raise UnsupportedModelError(
                f"{self.folder}: pooling {'+'.join(modes)} is not mean, cls or max; {TORCH_HINT}"
            )
        return modes[0] if modes else "mean"

    @property
    def normalize(self) -> bool:
        """Whether vectors are brought to length one: by a module, or because the model is compared by cosine."""
        return "Normalize" in self.modules or self.sentence_config.get("similarity_fn_name") == "cosine"

    @property
    def prompts(self) -> dict[str, str]:
        """What is put before a "query" and before a "document"."""
        prompts = self.sentence_config.get("prompts") or {}
        found = {"query": prompts.get("query"), "document": prompts.get("document", prompts.get("passage"))}
        return {side: prompt for side, prompt in found.items() if prompt}

    @property
    def learned_activation(self) -> str:
        """What follows the pooling, "log1p" or "log1p_log1p"; "log1p" where the folder does not say."""
        strategy = self.module_config("SpladePooling").get("pooling_strategy", "max")
        if strategy != "max":
            raise UnsupportedModelError(f"{self.folder}: SPLADE pooling {strategy!r} is not max; {TORCH_HINT}")
        return self.splade_activation

    @property
    def splade_activation(self) -> str:
        """What follows the pooling of logits, whatever the pooling is."""
        name = self.module_config("SpladePooling").get("activation_function", "relu")
        return {"log1p_relu": "log1p_log1p"}.get(name, "log1p")

    @cached_property
    def idf(self) -> dict[str, float]:
        """Query weights by token, from idf.json; empty where there is none."""
        return {str(token): float(weight) for token, weight in read_json(self.folder / "idf.json", {}).items()}

    @cached_property
    def sentence_config(self) -> dict[str, Any]:
        """What sentence-transformers says of the whole model."""
        return read_json(self.folder / "config_sentence_transformers.json", {})

    def module_config(self, module: str) -> dict[str, Any]:
        """Returns the settings of the first sentence-transformers module of a class; none where there is none."""
        found = sorted(self.folder.glob(f"*_{module}/config.json"))
        return read_json(found[0], {}) if found else {}


def read_text(path: Path) -> str:
    """Returns a file's text.

    Raises:
        EncoderError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EncoderError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise EncoderError(f"{path} cannot be read: {error}") from error


def read_json(path: Path, default: Any = None) -> Any:
    """Returns a JSON file's value; the default where there is no such file.

    Raises:
        EncoderError: it is missing and there is no default, or is not the kind of JSON expected.
    """
    if default is not None and not path.is_file():
        return default
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise EncoderError(f"{path} is not valid JSON: {error}") from error
    expected = dict if default is None else type(default)
    if not isinstance(value, expected):
        raise EncoderError(f"{path} holds a JSON {type(value).__name__}, expected {expected.__name__}")
    return value


def _pooling_flags(settings: Mapping[str, Any]) -> list[str]:
    on = [key.removeprefix("pooling_mode_") for key, value in settings.items() if value and value is not None]
    return [key for key in on if f"pooling_mode_{key}" in settings]


def _wordpiece(folder: Path, settings: Mapping[str, Any]) -> Any:
    vocab = folder / "vocab.txt"
    if not vocab.is_file():
        raise EncoderError(f"{folder} has neither tokenizer.json nor vocab.txt: a tokenizer is needed")
    return require("tokenizers", f"reading {vocab}").BertWordPieceTokenizer(
        str(vocab),
        lowercase=bool(settings.get("do_lower_case", True)),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
    )

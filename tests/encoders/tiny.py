"""Tiny checkpoints as transformers writes them, seeded, with real tokenizers; each is made once in a session."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden"
TEXTS: list[str] = json.loads((GOLDEN / "texts.json").read_text(encoding="utf-8"))
LENGTH = 64  # positions of a model with learned ones, and what is read of a text
VOCABULARY = 320
WORDPIECE, BPE, UNIGRAM = "wordpiece", "bpe", "unigram"
BASE, MASKED, CAUSAL = "AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM"
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_TEXT = {"vocab_size": VOCABULARY, **_SIZES, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_DECODER = {**_TEXT, "num_key_value_heads": 2, "max_position_embeddings": 512}
_OFFSET = {**_TEXT, "max_position_embeddings": LENGTH + 2}  # two positions are for padding
_GOLDEN = {"vocab_size": 180, "max_position_embeddings": LENGTH}
# architecture -> tokenizer, settings of its config
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": (WORDPIECE, {**_SIZES, **_GOLDEN}),
    "distilbert": (WORDPIECE, {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, **_GOLDEN}),
    "electra": (WORDPIECE, {**_SIZES, **_GOLDEN, "embedding_size": 16}),
    "mpnet": (WORDPIECE, {**_SIZES, "vocab_size": 180, "max_position_embeddings": LENGTH + 2}),
    "roberta": (BPE, _OFFSET),
    "xlm-roberta": (UNIGRAM, _OFFSET),
    "modernbert": (BPE, {**_TEXT, "max_position_embeddings": 256, "local_attention": 8, "global_attn_every_n_layers": 2,
                         "cls_token_id": 0, "sep_token_id": 2, "reference_compile": False}),
    "llama": (BPE, _DECODER),
    "mistral": (BPE, {**_DECODER, "head_dim": 8, "sliding_window": None}),
    "qwen2": (BPE, {**_DECODER, "tie_word_embeddings": True}),
    "qwen3": (BPE, {**_DECODER, "head_dim": 8}),
    "gemma2": (UNIGRAM, {**_DECODER, "head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 8}),
    "gpt2": (BPE, {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 2 * LENGTH,
                   "bos_token_id": 0, "eos_token_id": 2}),
}  # fmt: skip
BOTH_ENDS, BEGIN, END, NOTHING = "<s> $A </s>", "<s> $A", "$A </s>", "$A"


@cache
def _root() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="plait-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def fresh(name: str) -> Path:
    """Returns a new folder for a checkpoint that a test changes."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_root()))


@cache
def checkpoint(architecture: str, head: str = MASKED, *, around: str | None = None, **changes: Any) -> Path:
    """Returns the folder of a checkpoint; not to be changed.

    Args:
        architecture: a key of `ARCHITECTURES`.
        head: transformers' class.
        around: which special tokens the tokenizer puts around a text, if it is not a wordpiece one.
        changes: to the config.
    """
    import transformers

    kind, settings = ARCHITECTURES[architecture]
    config = transformers.AutoConfig.for_model(architecture, **{**settings, **changes})
    folder = fresh(architecture)
    model = getattr(transformers, head).from_config(config, dtype="float32")
    randomised(model, f"{architecture} {head}").save_pretrained(folder)
    write_tokenizer(folder, kind, around=around or (BEGIN if head == CAUSAL else BOTH_ENDS))
    return folder


def copied(folder: Path, **files: Any) -> Path:
    """Returns a copy of a checkpoint, with more JSON files; a name's "__" stands for "/"."""
    copy = fresh("copy") / "checkpoint"
    shutil.copytree(folder, copy)
    for name, value in files.items():
        path = copy / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    return copy


def add_tensors(folder: Path, **tensors: Any) -> Path:
    """Returns the folder, with more tensors in its weights; a name's "__" stands for "."."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    more = {name.replace("__", "."): tensor.contiguous() for name, tensor in tensors.items()}
    save_file({**load_file(path), **more}, path, metadata={"format": "pt"})
    return folder


@cache
def unicoil() -> Path:
    """Returns a trunk with one layer that weighs tokens."""
    folder = copied(checkpoint("bert", BASE))
    return add_tensors(folder, tok_proj__weight=numbers(1, 32), tok_proj__bias=numbers(1))


@cache
def deepimpact() -> Path:
    """Returns a trunk with two layers that weigh tokens, as the checkpoints have them that followed the first one."""
    folder = copied(checkpoint("bert", BASE))
    first = {"impact_score_encoder__0__weight": numbers(32, 32), "impact_score_encoder__0__bias": numbers(32)}
    last = {"impact_score_encoder__2__weight": numbers(1, 32), "impact_score_encoder__2__bias": numbers(1)}
    return add_tensors(folder, **first, **last)


def numbers(*shape: int, scale: float = 0.3) -> Any:
    """Returns a tensor of seeded random numbers, the same for the same shape."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(zlib.crc32(repr(shape).encode()))) * scale


def randomised(model: Any, seed: str) -> Any:
    """Returns the model with weights large enough that each part of it matters."""
    import torch

    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() > 1 else 0.2)
            parameter.copy_(noise + 1 if "norm" in name.lower() and name.endswith("weight") else noise)
    return model.eval()


# Tokenizers


def write_tokenizer(folder: Path, kind: str, *, around: str = BOTH_ENDS) -> None:
    """Writes tokenizer.json and its settings."""
    if kind == WORDPIECE:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(GOLDEN / "bert-masked" / name, folder)
        return
    _trained(kind, around).save(str(folder / "tokenizer.json"))
    named = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH}
    tokens = {f"{name}_token": token for name, token in named.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **tokens}), encoding="utf-8")


@cache
def _trained(kind: str, around: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == BPE:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=VOCABULARY, special_tokens=specials, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator([text for text in TEXTS for _ in range(3)], trainer)
    used = [(token, number) for number, token in enumerate(specials) if token in around]
    tokenizer.post_processor = processors.TemplateProcessing(single=around, pair=f"{around} $B", special_tokens=used)
    return tokenizer


# The textbook: one text at a time, nothing padded


def token_ids(folder: Path, texts: Sequence[str], length: int = LENGTH) -> list[list[int]]:
    """Returns the ids of each text, by transformers."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in texts]


def special_ids(folder: Path) -> list[int]:
    """Returns the ids of special tokens, by transformers."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder).all_special_ids


@cache
def model_of(folder: Path, head: str) -> Any:
    """Returns a checkpoint opened by transformers."""
    import transformers

    return getattr(transformers, head).from_pretrained(folder, dtype="float32").eval()


def logits_of(folder: Path, ids: Sequence[Sequence[int]], head: str = MASKED) -> list[Any]:
    """Returns the logits of each text, (length, vocabulary)."""
    return [outputs_of(folder, one, head).logits[0] for one in ids]


def states_of(folder: Path, ids: Sequence[Sequence[int]], head: str = BASE) -> list[Any]:
    """Returns the last layer's states of each text, (length, hidden)."""
    return [outputs_of(folder, one, head).hidden_states[-1][0] for one in ids]


def outputs_of(folder: Path, ids: Sequence[int], head: str) -> Any:
    """Returns what transformers makes of the ids of one text."""
    import torch

    with torch.no_grad():
        return model_of(folder, head)(input_ids=torch.tensor([list(ids)]), output_hidden_states=True)


def close(found: Any, wanted: Any) -> None:
    """Checks that vectors are equal to 1e-4, and that they are no zeros."""
    found = found.toarray() if hasattr(found, "toarray") else found
    wanted = np.stack([np.asarray(row) for row in wanted])
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


def unit(vectors: Any) -> Any:
    """Returns rows brought to length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def backend_of(folder: Path) -> Any:
    """Returns a checkpoint's `tokenizers.Tokenizer`."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))

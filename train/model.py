"""The model in training: a transformer trunk, a branch of layers for the sparse strand, and its head.

The branch is a copy of the trunk's last layers. The layers below are shared and, where the recipe says so, frozen:
their states can then be computed once for the whole training (`plait.train.states`), and the trunk's own last layers,
with the dense vector they give, stay what they were.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import TrainError
from .heads import ACTIVATIONS, Sparse, log1p, pooled_logits

_SPREAD = 0.02  # standard deviation of new weights, as in BERT


@dataclass(frozen=True)
class Shape:
    """What a sparse model is made of.

    Attributes:
        branch: layers that the sparse strand has for itself; 0 takes the trunk's last states.
        rank: width of the head; None ties its decoder to the word table.
        activation: one of `plait.train.heads.ACTIVATIONS`.
        pooling: "max" or "sum".
        literal: whether a document's own words have a weight of their own beside the expansion.
        gelu: whether the head's transform has an activation, as a masked-LM head has.
    """

    branch: int = 1
    rank: int | None = 128
    activation: str = "log1p"
    pooling: str = "max"
    literal: bool = True
    gelu: bool = True


@dataclass(frozen=True)
class Texts:
    """Tokenised texts, without padding.

    Attributes:
        ids: token ids of each text, special tokens included.
    """

    ids: Sequence[Sequence[int]]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(one) for one in self.ids]


class Trunk(nn.Module):
    """Embeddings and layers of a Hugging Face encoder (BERT family), cut in two at the layer where the branch leaves.

    Args:
        folder: the checkpoint.
        branch: layers above the cut.
    """

    def __init__(self, folder: str | Path, branch: int) -> None:
        super().__init__()
        self.model = _loaded(folder)
        depth = len(self.layers)
        if not 0 <= branch <= depth:
            raise TrainError(f"branch is {branch}, but {folder} has {depth} layers")
        self.shared = depth - branch
        self.width = int(self.model.config.hidden_size)

    @property
    def words(self) -> Tensor:
        """The word table, (vocabulary, width)."""
        return self.model.get_input_embeddings().weight

    @property
    def layers(self) -> Any:
        """All layers, an `nn.ModuleList`."""
        return _layers(self.model)

    def shared_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the names and values of everything below the cut."""
        yield from self.model.embeddings.named_parameters(prefix="embeddings")
        for number, layer in enumerate(self.layers[: self.shared]):
            yield from layer.named_parameters(prefix=f"layer.{number}")

    def below(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns the states where the branch leaves, (batch, length, width)."""
        return through(self.layers[: self.shared], self.model.embeddings(input_ids=ids), mask)

    def above(self, states: Tensor, mask: Tensor) -> Tensor:
        """Returns the last states, given those where the branch leaves."""
        return through(self.layers[self.shared :], states, mask)


def _loaded(folder: str | Path) -> Any:
    from transformers import AutoModel

    try:
        with _silent():
            model = AutoModel.from_pretrained(str(folder), local_files_only=True, attn_implementation="sdpa")
        return model.float()  # older versions have no `dtype`, newer ones take that of the file
    except Exception as error:  # whatever transformers raises about a folder it cannot read
        raise TrainError(f"transformers cannot open {folder}: {type(error).__name__}: {error}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps transformers from drawing bars and listing the tensors of a joint checkpoint that are not its own."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _layers(model: Any) -> Any:
    stack = getattr(model, "encoder", None) or getattr(model, "transformer", None)
    if stack is None or not hasattr(stack, "layer") or not hasattr(model, "embeddings"):
        raise TrainError(f"{type(model).__name__} is not of the BERT family (BERT, MiniLM, DistilBERT)")
    return stack.layer


def through(layers: Iterable[nn.Module], states: Tensor, mask: Tensor) -> Tensor:
    """Returns states after some layers.

    Args:
        layers: of a Hugging Face encoder.
        states: (batch, length, width).
        mask: (batch, length): bool, true where there is a token, or float, what is added to its attention.
    """
    seen = mask[:, None, None, :]  # broadcast over heads and queries; a boolean mask suits scaled_dot_product_attention
    for layer in layers:
        out = layer(states, attention_mask=seen)
        states = out[0] if isinstance(out, tuple) else out
    return states


@contextmanager
def after_attention(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Changes what a layer of a Hugging Face encoder has after its attention: the feed-forward network's rows."""

    def changed(_module: nn.Module, _given: object, found: Any) -> Any:
        return (change(found[0]), *found[1:]) if isinstance(found, tuple) else change(found)

    names = dict(layer.named_children())
    part = names.get("sa_layer_norm") or names["attention"]  # BERT's attention normalises by itself
    handle = part.register_forward_hook(changed)
    try:
        yield
    finally:
        handle.remove()


class SparseHead(nn.Module):
    """Token states to one weight per vocabulary entry.

    Args:
        trunk: gives the first values of the branch and of the word table.
        shape: what to make.
        specials: ids that are no terms.
        terms: the vocabulary entries that a document can be expanded to, ascending; None: all.
    """

    def __init__(self, trunk: Trunk, shape: Shape, specials: Sequence[int], terms: Tensor | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.vocabulary = len(trunk.words)
        # With no gradient below the branch, the copy is the only part of the transformer that learns.
        self.layers = copy.deepcopy(nn.ModuleList(list(trunk.layers[trunk.shared :]))).requires_grad_(True)
        width = shape.rank or trunk.width
        self.transform = nn.Linear(trunk.width, width)
        self.norm = nn.LayerNorm(width, eps=float(getattr(trunk.model.config, "layer_norm_eps", 1e-12)))
        self.terms: Tensor | None
        self.register_buffer("terms", terms)
        rows = self.vocabulary if terms is None else len(terms)
        self.decoder = nn.Parameter(torch.empty(rows, width).normal_(std=_SPREAD)) if shape.rank else None
        self.bias = nn.Parameter(torch.zeros(rows))
        self.literal = nn.Linear(trunk.width, 1, bias=False) if shape.literal else None
        self.literal_bias = nn.Parameter(torch.ones(self.vocabulary)) if shape.literal else None
        self.specials: Tensor
        self.register_buffer("specials", torch.tensor(sorted(specials), dtype=torch.int64), persistent=False)

    def states(self, below: Tensor, mask: Tensor) -> Tensor:
        """Returns the branch's last states, (batch, length, width)."""
        return through(self.layers, below, mask)

    def table(self, words: Tensor) -> Tensor:
        """Returns the decoder, (rows, width); the word table where it is tied."""
        if self.decoder is not None:
            return self.decoder
        return words if self.terms is None else words[self.terms]

    def transformed(self, states: Tensor) -> Tensor:
        """Returns what meets the decoder, (tokens, rank)."""
        x = self.transform(states)
        return self.norm(nn.functional.gelu(x) if self.shape.gelu else x)

    def forward(self, states: Tensor, ids: Tensor, lengths: Sequence[int], words: Tensor, *, precise: bool) -> Sparse:
        """Returns the sparse vectors of some documents.

        Args:
            states: (tokens, width), the branch's last states, documents one after the other.
            ids: int64 (tokens,).
            lengths: tokens of each document.
            words: the trunk's word table.
            precise: see `pooled_logits`.
        """
        z, table = self.transformed(states).float(), self.table(words).float()
        logits = pooled_logits(z, lengths, table, self.bias, pooling=self.shape.pooling, precise=precise)
        activate = ACTIVATIONS[self.shape.activation] if self.shape.pooling == "max" else _same
        columns = logits.columns if self.terms is None else self.terms[logits.columns]
        shape = (len(lengths), self.vocabulary)
        found = Sparse(logits.rows, columns, activate(logits.values), shape)
        return self._without_specials(_sum_of(found, self.own(states, ids, lengths)) if self.literal else found)

    def own(self, states: Tensor, ids: Tensor, lengths: Sequence[int]) -> Sparse:
        """Returns the weights of the documents' own words: the largest over a word's places."""
        assert self.literal is not None
        assert self.literal_bias is not None
        weights = (self.literal(states).squeeze(1).float() + self.literal_bias[ids]).relu()
        documents = torch.arange(len(lengths), device=ids.device)
        rows = torch.repeat_interleave(documents, torch.tensor(list(lengths), device=ids.device))
        keys, place = torch.unique(rows * self.vocabulary + ids, return_inverse=True)
        largest = weights.new_zeros(len(keys)).scatter_reduce(0, place, weights, "amax", include_self=False)
        return Sparse(keys // self.vocabulary, keys % self.vocabulary, largest, (len(lengths), self.vocabulary))

    def _without_specials(self, found: Sparse) -> Sparse:
        keep = ~torch.isin(found.columns, self.specials) & ~(found.values <= 0)  # NaN stays: the loss must see it
        return Sparse(found.rows[keep], found.columns[keep], found.values[keep], found.shape)


def _same(values: Tensor) -> Tensor:
    return values


def _sum_of(one: Sparse, other: Sparse) -> Sparse:
    """Returns the sum of two sparse matrices of one shape."""
    width = one.shape[1]
    keys = torch.cat([one.rows * width + one.columns, other.rows * width + other.columns])
    distinct, place = torch.unique(keys, return_inverse=True)
    values = one.values.new_zeros(len(distinct)).index_add(0, place, torch.cat([one.values, other.values]))
    return Sparse(distinct // width, distinct % width, values, one.shape)


__all__ = ["Shape", "SparseHead", "Texts", "Trunk", "after_attention", "log1p", "through"]

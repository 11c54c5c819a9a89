"""First values of a sparse half: those that its base brings, or new ones in closed form, from the trunk alone.

A sentence encoder has no masked-LM head, and a random one needs thousands of steps before its terms mean anything. But
the trunk's word table says which words are alike, and its states still say which word stood where. So the decoder
begins as the word table's principal components, the transform as the linear map that best finds a token's own
components in its state (ridge regression), and the bias of each term such that it is active in a given share of
documents: a document begins with its own words and those most like them, rare and common ones alike.

A base that has a sparse half of the same make brings its values: that training goes on, over other texts if these are.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..encoders.checkpoint import JOINT_KEY
from ..encoders.contract import EncoderError
from ..encoders.joint_checkpoint import SparseHalf, read_sparse_half
from .errors import TrainError
from .heads import TILE
from .model import Shape, SparseHead

if TYPE_CHECKING:
    from ..encoders.checkpoint import Checkpoint
    from .recipe import Recipe

ACTIVE = 0.03  # share of documents in which a term begins active
OWN_LOGIT = 3.0  # the median logit of a token's own word, before the bias
_RIDGE = 10.0


@torch.no_grad()
def begin(head: SparseHead, words: Tensor, states: Tensor, ids: Tensor, lengths: Sequence[int]) -> None:
    """Sets transform, decoder and bias.

    Args:
        head: what to set; its norm is taken as it is.
        words: the word table, (vocabulary, width).
        states: (tokens, width), the branch's states of a few hundred documents, one after the other.
        ids: int64 (tokens,).
        lengths: tokens of each document.

    Raises:
        TrainError: the documents hold nothing but special tokens.
    """
    table = words if head.terms is None else words[head.terms]
    mean = table.mean(dim=0)
    directions = _principal(table - mean, head.transform.out_features)
    content = ~torch.isin(ids, head.specials.to(ids.device))
    if not bool(content.any()):
        raise TrainError("a head begins with words, but the documents hold special tokens alone: give other documents")
    target = (words[ids[content]] - mean) @ directions
    weight, bias = _ridge(states[content].float(), target)
    head.transform.weight.copy_(weight.T)
    head.transform.bias.copy_(bias)
    if head.decoder is not None:
        z = head.transformed(states[content]).float()
        own = (z * target).sum(dim=1).median().clamp(min=1e-6)
        head.decoder.copy_((table - mean) @ directions * (OWN_LOGIT / own))
    head.bias.copy_(-_threshold(head, words, states, lengths))


def _principal(table: Tensor, width: int) -> Tensor:
    """Returns the first principal directions, (columns, width), of a centred table."""
    if width >= table.shape[1]:
        return torch.eye(table.shape[1], width, device=table.device)
    _, directions = torch.linalg.eigh(table.T @ table)  # ascending
    return directions.flip(1)[:, :width]


def _ridge(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Returns weight (inputs, outputs) and bias of a linear map, by least squares with a small penalty."""
    ones = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    solved = torch.linalg.solve(ones.T @ ones + _RIDGE * torch.eye(ones.shape[1], device=x.device), ones.T @ target)
    return solved[:-1], solved[-1]


def _threshold(head: SparseHead, words: Tensor, states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Returns for each term the logit that its best token exceeds in the given share of documents."""
    z, table = head.transformed(states).float(), head.table(words).float()
    parts = torch.split(z, list(lengths))
    found = []
    for tile in table.split(TILE):  # torch.quantile takes 16 million values at most
        best = torch.stack([(part @ tile.T).amax(dim=0) for part in parts])
        found.append(torch.quantile(best, 1 - ACTIVE, dim=0))
    return torch.cat(found)


# A base that has a sparse half already


def half_of(checkpoint: Checkpoint, recipe: Recipe) -> tuple[SparseHalf | None, str]:
    """Returns the sparse half that a training goes on with, or None for a new one, and which of both in words.

    Raises:
        TrainError: the base says that it has one, but it cannot be read.
    """
    if checkpoint.config.get(JOINT_KEY) is None:
        return None, "a new sparse half"
    try:
        half = read_sparse_half(checkpoint)
    except EncoderError as error:
        raise TrainError(f"the base's sparse half cannot be read: {error}") from error
    theirs = asdict(shape_of(half))
    theirs["rank"] = theirs["rank"] or 0  # as recipes say it
    others = [f"{name} {value}" for name, value in theirs.items() if getattr(recipe, name) != value]
    if others:
        return None, f"a new sparse half: the base's is of another make ({', '.join(others)})"
    return half, "the base's sparse half goes on"


def shape_of(half: SparseHalf) -> Shape:
    """Returns what a sparse half is made of."""
    tied = "sparse.decoder.weight" not in half.tensors
    return Shape(
        branch=half.branch_layers,
        rank=None if tied else len(half.tensors["sparse.transform.bias"]),
        activation=half.activation,
        pooling=half.pooling,
        literal=half.literal,
        gelu=half.gelu,
    )


@torch.no_grad()
def go_on(head: SparseHead, half: SparseHalf, checkpoint: Checkpoint) -> None:
    """Gives a head, of the same make, the values of a base's sparse half.

    Args:
        head: what to set.
        half: read from the checkpoint.
        checkpoint: has the branch's layers under the names that its family gives them, as the head has.
    """
    for name, parameter in head.layers.named_parameters():
        parameter.copy_(torch.from_numpy(np.array(checkpoint.raw[f"sparse.layer.{name}"], np.float32)))
    places = {
        "transform.weight": head.transform.weight,
        "transform.bias": head.transform.bias,
        "norm.weight": head.norm.weight,
        "norm.bias": head.norm.bias,
        "decoder.weight": head.decoder,
        "decoder.bias": head.bias,
        "literal.weight": None if head.literal is None else head.literal.weight[0],
        "literal.bias": head.literal_bias,
    }
    for name, place in places.items():
        if place is not None:
            place.copy_(torch.from_numpy(half.tensors[f"sparse.{name}"]))

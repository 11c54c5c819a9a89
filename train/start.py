"""First values of a new sparse head, in closed form, from the trunk alone.

A sentence encoder has no masked-LM head, and a random one needs thousands of steps before its terms mean anything. But
the trunk's word table says which words are alike, and its states still say which word stood where. So the decoder
begins as the word table's principal components, the transform as the linear map that best finds a token's own
components in its state (ridge regression), and the bias of each term such that it is active in a given share of
documents: a document begins with its own words and those most like them, rare and common ones alike.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import TrainError
from .heads import TILE
from .model import SparseHead

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

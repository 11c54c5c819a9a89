"""The sparse head in training: logits pooled over tokens, exactly, without holding tokens x vocabulary.

Max pooling passes gradient to one token of each term, and the activation to terms above zero only. So the head runs
twice: once over the whole vocabulary, in tiles, without gradient, to see which terms of which document are active;
and once over those alone, with gradient. What the textbook form computes besides is multiplied by zero on the way
back, so the gradient is the same.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

TILE = 2048  # vocabulary entries computed at a time: tokens x tile stays near the caches
POOLINGS = ("max", "sum")


@dataclass(frozen=True)
class Sparse:
    """Sparse vectors in training, as coordinates; sorted by row, then column, each pair once.

    Attributes:
        rows: int64 (n,).
        columns: int64 (n,).
        values: float32 (n,), with gradient.
        shape: documents and vocabulary.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]

    def dense(self) -> Tensor:
        """Returns float32 (documents, vocabulary)."""
        return torch.zeros(self.shape, device=self.values.device).index_put((self.rows, self.columns), self.values)

    def gathered(self, columns: Tensor) -> Tensor:
        """Returns float32 (documents, len(columns)): the given columns, ascending and distinct, with gradient."""
        found = torch.zeros(self.shape[0], len(columns), device=self.values.device)
        if not len(columns):
            return found
        place = torch.searchsorted(columns, self.columns).clamp(max=len(columns) - 1)
        inside = columns[place] == self.columns
        return found.index_put((self.rows[inside], place[inside]), self.values[inside])


def active(states: Tensor, lengths: Sequence[int], decoder: Tensor, bias: Tensor, *, precise: bool) -> Tensor:
    """Tells which logits are above zero at some token; no gradient.

    Args:
        states: (tokens, width), the documents one after the other.
        lengths: tokens of each document, at least one.
        decoder: (vocabulary, width).
        bias: (vocabulary,).
        precise: float32 instead of bfloat16.

    Returns:
        bool (documents, vocabulary).
    """
    with torch.no_grad(), torch.autocast(states.device.type, enabled=False):
        kind = torch.float32 if precise else torch.bfloat16
        x, table = states.detach().to(kind), decoder.detach().to(kind)
        found = torch.empty(len(lengths), len(decoder), dtype=torch.bool, device=states.device)
        runs = _runs(lengths)
        for start in range(0, len(decoder), TILE):
            tile = slice(start, start + TILE)
            logits = x @ table[tile].T
            for first, last, token, length in runs:
                part = logits[token : token + (last - first) * length].view(last - first, length, -1)
                found[first:last, tile] = ~(part.amax(1) + bias.detach()[tile] <= 0)  # NaN counts: the loss must see it
        return found


def _runs(lengths: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Returns neighbours of one length as (first document, last + 1, first token, length)."""
    runs: list[tuple[int, int, int, int]] = []
    token = 0
    for document, length in enumerate(lengths):
        if runs and runs[-1][3] == length:
            runs[-1] = (runs[-1][0], document + 1, *runs[-1][2:])
        else:
            runs.append((document, document + 1, token, length))
        token += length
    return runs


def pooled_logits(
    states: Tensor,
    lengths: Sequence[int],
    decoder: Tensor,
    bias: Tensor,
    *,
    pooling: str = "max",
    precise: bool = False,
) -> Sparse:
    """Returns the pooled logits that are above zero, with the exact gradient for states, decoder and bias.

    Args:
        states: float32 (tokens, width), the documents one after the other.
        lengths: tokens of each document, at least one; documents of one length side by side are quicker.
        decoder: float32 (vocabulary, width).
        bias: float32 (vocabulary,).
        pooling: "max": the largest logit of a term over the tokens; "sum": the sum of log(1 + logit) over the tokens
            where it is above zero (SPLADE's first form), already activated.
        precise: find the active terms in float32; bfloat16 may miss one that is barely above zero.

    Where tokens of a document tie for the largest logit, one of them gets the gradient, as from `Tensor.max`.
    """
    mask = active(states, lengths, decoder, bias, precise=precise)
    pool = _largest if pooling == "max" else _sum_of_logs
    rows, columns, values = [], [], []
    token = 0
    for document, length in enumerate(lengths):
        terms = mask[document].nonzero().squeeze(1)
        logits = states[token : token + length] @ decoder[terms].T + bias[terms]
        rows.append(torch.full_like(terms, document))
        columns.append(terms)
        values.append(pool(logits))
        token += length
    return Sparse(torch.cat(rows), torch.cat(columns), torch.cat(values), (len(lengths), len(decoder)))


def _largest(logits: Tensor) -> Tensor:
    # max, not amax: amax shares a tie's gradient, and a repeated token makes ties
    return logits.max(dim=0).values.relu()


def _sum_of_logs(logits: Tensor) -> Tensor:
    return logits.relu().log1p().sum(dim=0)


def textbook_logits(states: Tensor, lengths: Sequence[int], decoder: Tensor, bias: Tensor) -> Tensor:
    """Returns float32 (documents, vocabulary), max pooled: every logit at once, the oracle of `pooled_logits`."""
    logits = states @ decoder.T + bias
    parts = torch.split(logits, list(lengths))
    return torch.stack([part.max(dim=0).values.relu() for part in parts])


def log1p(values: Tensor) -> Tensor:
    """Returns log(1 + x)."""
    return values.log1p()


def log1p_log1p(values: Tensor) -> Tensor:
    """Returns log(1 + log(1 + x)), arXiv 2504.14839."""
    return values.log1p().log1p()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"log1p": log1p, "log1p_log1p": log1p_log1p}

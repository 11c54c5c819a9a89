"""The sparse head in training: logits pooled over tokens, exactly, without holding tokens x vocabulary.

Max pooling passes gradient to one token of each term, and the activation to terms above zero only. So the head runs
twice: once over the whole vocabulary, in tiles, without gradient, to see which terms of which document are active;
and once over those alone, with gradient. What the textbook form computes besides is multiplied by zero on the way
back, so the gradient is the same.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

TILE = 1024  # vocabulary entries computed at a time
TOKENS = 1024  # and tokens: tile x tokens stays in a core's caches, which is twice as fast as tile x all of them
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
        for runs in _blocks(_runs(lengths), TOKENS if states.device.type == "cpu" else len(x)):
            base, end = runs[0].token, runs[-1].token + runs[-1].documents * runs[-1].length
            for start in range(0, len(decoder), TILE):
                tile = slice(start, start + TILE)
                logits = x[base:end] @ table[tile].T
                for first, documents, token, length in runs:
                    rows = slice(token - base, token - base + documents * length)
                    largest = logits[rows].view(documents, length, -1).amax(1)
                    above = ~(largest + bias.detach()[tile] <= 0)  # NaN counts: the loss must see it
                    found[first : first + documents, tile] = above
        return found


class _Run(NamedTuple):
    """Neighbouring documents of one length."""

    first: int
    documents: int
    token: int  # of the first document, the first
    length: int


def _runs(lengths: Sequence[int]) -> list[_Run]:
    runs: list[_Run] = []
    token = 0
    for document, length in enumerate(lengths):
        if runs and runs[-1].length == length and runs[-1].documents * length < TOKENS:
            runs[-1] = runs[-1]._replace(documents=runs[-1].documents + 1)
        else:
            runs.append(_Run(document, 1, token, length))
        token += length
    return runs


def _blocks(runs: Sequence[_Run], tokens: int) -> Iterator[list[_Run]]:
    """Yields runs in blocks of about so many tokens."""
    block: list[_Run] = []
    for run in runs:
        block.append(run)
        if run.token + run.documents * run.length - block[0].token >= tokens:
            yield block
            block = []
    if block:
        yield block


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
    rows, columns = active(states, lengths, decoder, bias, precise=precise).nonzero(as_tuple=True)
    pool = _largest if pooling == "max" else _sums_of_logs
    values = pool(states, lengths, decoder, bias, columns, torch.bincount(rows, minlength=len(lengths)).tolist())
    return Sparse(rows, columns, values, (len(lengths), len(decoder)))


def _largest(
    states: Tensor, lengths: Sequence[int], decoder: Tensor, bias: Tensor, columns: Tensor, counts: Sequence[int]
) -> Tensor:
    """Returns the largest logit of each active term; `columns` holds `counts` terms of each document.

    Once it is known which token gives it, a logit is one product of two rows: nothing of the size of tokens x terms,
    or of the decoder for each document, takes part in the gradient.
    """
    with torch.no_grad():
        tokens, token = [], 0
        for length, terms in zip(lengths, columns.split(list(counts)), strict=True):
            logits = states[token : token + length] @ decoder[terms].T
            tokens.append(logits.argmax(dim=0) + token)
            token += length
    embedding = torch.nn.functional.embedding  # whose gradient is summed by all threads; that of an index is not
    at_best, terms = embedding(torch.cat(tokens), states), embedding(columns, decoder)
    return ((at_best * terms).sum(dim=1) + embedding(columns, bias[:, None]).squeeze(1)).relu()


def _sums_of_logs(
    states: Tensor, lengths: Sequence[int], decoder: Tensor, bias: Tensor, columns: Tensor, counts: Sequence[int]
) -> Tensor:
    """Returns the sum over tokens of log(1 + logit) of each active term; see `_largest`."""
    values, token = [], 0
    for length, terms in zip(lengths, columns.split(list(counts)), strict=True):
        logits = states[token : token + length] @ decoder[terms].T + bias[terms]
        values.append(logits.relu().log1p().sum(dim=0))
        token += length
    return torch.cat(values)


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

"""From token states to vectors, as one torch module that runs live and is exported as it is.

Logits are pooled tile after tile of the vocabulary, and before any logarithm where the pooling is a maximum: the same
result, while memory does not grow with tokens times vocabulary.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..graph import DENSE, OWN, WEIGHTS
from .reading import Source
from .recipes import LOGITS, DenseRow, SparseRow
from .trunks import Trunk, dense_layers, literal_head, token_head

TILE = 4096  # rows of the decoder at a time


def _log1p(x: Tensor) -> Tensor:
    return x.relu().log1p()


def _log1p_log1p(x: Tensor) -> Tensor:
    return x.relu().log1p().log1p()


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "log1p": _log1p,
    "log1p_log1p": _log1p_log1p,
    "relu": torch.relu,
}


class Heads(nn.Module):
    """A checkpoint as its recipe has it: token ids to its vectors.

    Args:
        trunk: the transformer.
        source: its folder and recipe.
    """

    def __init__(self, trunk: Trunk, source: Source) -> None:
        super().__init__()
        self.trunk, self.recipe = trunk, source.recipe
        sparse, dense = self.recipe.sparse, self.recipe.dense
        weighs = sparse is not None and sparse.head != LOGITS
        self.tokens = token_head(source, trunk.width) if weighs else None
        self.literal = literal_head(source, trunk.width) if sparse is not None and sparse.literal else None
        self.layers = dense_layers(source) if dense is not None else None
        like = next(trunk.parameters())
        self.to(device=like.device, dtype=like.dtype).eval().requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What `forward` returns, by name."""
        sparse = self.recipe.sparse
        logits = sparse is not None and sparse.head == LOGITS
        own = sparse is not None and (sparse.head != LOGITS or sparse.literal)
        there = {DENSE: self.recipe.dense is not None, WEIGHTS: logits, OWN: own}
        return tuple(name for name, given in there.items() if given)

    @property
    def dim(self) -> int:
        """Numbers of a dense vector."""
        width = self.trunk.width
        for layer in self.layers or ():
            width = getattr(layer, "out_features", width)
        dense = self.recipe.dense
        return min(dense.dimensions or width, width) if dense is not None else 0

    def forward(
        self, ids: Tensor, attention: Tensor | None = None, wanted: tuple[str, ...] | None = None
    ) -> dict[str, Tensor]:
        """Returns the vectors of texts.

        Args:
            ids: (batch, length), padded on the right.
            attention: (batch, length), 1 for a token and 0 for padding; None where nothing is padded.
            wanted: some of `outputs`; all where None.

        Returns:
            DENSE: (batch, dim). WEIGHTS: (batch, vocabulary). OWN: (batch, length), a weight of each token, of the
            second reading where the text is read twice.
        """
        hidden, states = self.trunk(ids, attention)
        mask = None if attention is None else attention.bool()
        sparse, dense = self.recipe.sparse, self.recipe.dense
        found: dict[str, Tensor] = {}
        for name in wanted or self.outputs:
            if name == DENSE and dense is not None:
                found[name] = self._dense(hidden, mask, dense)
            elif name == WEIGHTS and sparse is not None:
                found[name] = self._weights(states, mask, sparse)
            elif sparse is not None:
                found[name] = self._own(hidden, sparse)
        return found

    def _dense(self, hidden: Tensor, mask: Tensor | None, row: DenseRow) -> Tensor:
        vectors = POOLINGS[row.pooling](hidden.float(), mask).to(hidden.dtype)  # sums need more than half precision
        for layer in self.layers or ():
            vectors = layer(vectors)
        if row.dimensions:
            vectors = vectors[:, : row.dimensions]
        vectors = vectors.float()
        return nn.functional.normalize(vectors, dim=-1) if row.normalize else vectors

    def _weights(self, states: Tensor, mask: Tensor | None, row: SparseRow) -> Tensor:
        activate = ACTIVATIONS[row.activation]
        if row.echo:
            states, mask = _second(states, mask)
        if row.pooling == "last":
            return activate(self._logits(_last(states, mask)).float())
        if row.pooling == "sum":
            return self._tiles(states, lambda logits: _summed(activate(logits.float()), mask))
        whole = states if mask is None else torch.where(mask[..., None], states, _last(states, mask)[:, None])
        return activate(self._tiles(whole, lambda logits: logits.amax(1).float()))

    def _own(self, hidden: Tensor, row: SparseRow) -> Tensor:
        head = self.tokens if self.tokens is not None else self.literal
        assert head is not None
        return head(_second(hidden, None)[0] if row.echo else hidden)[..., 0].float()

    def _logits(self, states: Tensor) -> Tensor:
        if self.trunk.decoder is None:
            return states
        return nn.functional.linear(states, self.trunk.decoder, self.trunk.bias)

    def _tiles(self, states: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        decoder, bias = self.trunk.decoder, self.trunk.bias
        if decoder is None:
            return pool(states)
        parts = []
        for start in range(0, len(decoder), TILE):
            rows = slice(start, start + TILE)
            parts.append(pool(nn.functional.linear(states, decoder[rows], None if bias is None else bias[rows])))
        return torch.cat(parts, dim=1)


def _second(states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns the second reading of texts that stand twice in their ids, but for what begins them, alone.

    Texts read twice are never padded: a batch holds texts of one length.
    """
    assert mask is None
    return states[:, (states.shape[1] + 1) // 2 :], None


def _last(states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return states[:, -1]
    return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]


def _summed(weights: Tensor, mask: Tensor | None) -> Tensor:
    return (weights if mask is None else weights * mask[..., None]).sum(1)


def _mean(states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return states.mean(1)
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _cls(states: Tensor, mask: Tensor | None) -> Tensor:
    return states[:, 0]


def _max(states: Tensor, mask: Tensor | None) -> Tensor:
    return (states if mask is None else states.masked_fill(~mask[..., None], -torch.inf)).amax(1)


def _weighted(states: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the mean in which a token weighs its place, from 1 (SGPT, arXiv 2202.08904)."""
    places = torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)[None, :, None]
    kept = places if mask is None else places * mask[..., None]
    return (states * kept).sum(1) / kept.sum(1)


POOLINGS: Mapping[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "mean": _mean,
    "cls": _cls,
    "max": _max,
    "last": _last,
    "weightedmean": _weighted,
}

"""The trunk of a BERT-family checkpoint, embeddings and layers, as nodes of an ONNX graph.

The graph has no attention mask: a batch holds texts of one length, so nothing is ever padded. Inside, activations are
(batch x length, width), one row a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .checkpoint import Checkpoint, Tensors
from .graph import GROUPS, INPUT, KEPT, MICROSOFT, Graph
from .precision import ACTIVATED, PRECISIONS, SIGNED, Grid, Named, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

POSITIONS = "positions"
ATTENTION = ("query", "key", "value")


def attention_bias(layer: str) -> str:
    """Returns what the three biases of a layer's attention are called, one after the other."""
    return f"{layer}.attention.bias"


class Trunk:
    """The embeddings and layers of a checkpoint as nodes of a graph.

    Args:
        checkpoint: the model.
        precision: one of `PRECISIONS`.
        more: tensors beside the checkpoint's own, under names of their own.

    Attributes:
        counts: how many tokens a row stands for, (batch, rows of a text, 1); empty before `merging`: one each.
    """

    def __init__(self, checkpoint: Checkpoint, precision: str, more: Tensors | None = None) -> None:
        self.checkpoint = checkpoint
        self.tensors = {**checkpoint.tensors, **(more or {})}
        self.graph = Graph()
        self.math = PRECISIONS[precision](self.graph, self.tensors["words.weight"])
        self.hidden = int(checkpoint.setting("hidden"))
        self.depth = checkpoint.depth
        self.batch = ""
        self.counts = self._weighed = ""

    def constant(self, name: str) -> str:
        """Returns a tensor as it is."""
        return self.graph.constant(self.tensors[name], name=name)

    def weights(self, *names: str) -> Weights:
        """Returns weights as (inputs, outputs), by name."""
        return {name: np.ascontiguousarray(self.tensors[f"{name}.weight"].T) for name in names}

    def named(self, name: str) -> Named | None:
        """Returns a tensor with its name; None where there is none."""
        return (name, self.tensors[name]) if name in self.tensors else None

    def norm(self, x: str, name: str) -> str:
        """Returns rows after layer normalisation."""
        scale, shift = self.constant(f"{name}.weight"), self.constant(f"{name}.bias")
        return self.graph.op("LayerNormalization", x, scale, shift, epsilon=self.checkpoint.epsilon)

    def flat(self, x: str) -> str:
        """Returns states as rows, (batch x length, hidden)."""
        return self.graph.op("Reshape", x, self.graph.integers(-1, self.hidden))

    def states(self, x: str) -> str:
        """Returns rows as (batch, rows of a text, hidden)."""
        return self.by_text(x, self.hidden)

    def by_text(self, x: str, width: int) -> str:
        """Returns rows of some width as (batch, rows of a text, width)."""
        key = "by text", width
        if key not in self.graph.known:
            self.graph.known[key] = self.graph.op("Concat", self.batch, self.graph.integers(-1, width), axis=0)
        return self.graph.op("Reshape", x, self.graph.known[key])

    def linear(self, x: str, name: str, grid: Grid = SIGNED) -> str:
        """Returns a product with its bias."""
        (product,) = self.math.products(x, self.weights(name), grid)
        return self.graph.op("Add", product, self.constant(f"{name}.bias"))

    def activated(self, x: str, name: str, activation: str) -> str:
        """Returns a product with its bias through one of `HIDDEN`."""
        (product,) = self.math.products(x, self.weights(name))
        return HIDDEN[activation](self, product, self.constant(f"{name}.bias"))

    def embeddings(self) -> str:
        """Returns the rows that enter the first layer."""
        graph, op = self.graph, self.graph.op
        words = self.math.rows(INPUT)
        self.batch, length = (op("Gather", op("Shape", INPUT), graph.integers(axis)) for axis in (0, 1))
        positions = op("Slice", graph.constant(self._positions(), name=POSITIONS), graph.integers(0), length)
        return self.flat(self.norm(op("Add", words, positions), "norm"))

    def _positions(self) -> NDArray[np.float32]:
        """Returns the position table; a text is one segment, so the first token type is part of it."""
        positions = self.tensors["positions.weight"]
        return positions + self.tensors["types.weight"][0] if "types.weight" in self.tensors else positions

    def layer(self, x: str, name: str, places: str | None = None) -> str:
        """Returns the rows that leave a layer; "0" is the trunk's first.

        Args:
            x: the rows that enter.
            name: of the layer.
            places: int64, the rows that shall leave, as many of each text; all where None. Every row is attended to.
        """
        asking = x if places is None else self.math.picked(x, places)
        return self._fed_forward(self._attended(asking, x, name), name)

    def merging(self, x: str, name: str) -> str:
        """Returns the rows that leave a layer in which equal tokens become one, (batch x n, hidden); see `GROUPS`.

        Between attention and feed-forward network they become their mean: what is left of a text has read all of it. In
        the layers above a row is attended to as its tokens would be together: "proportional attention" of token merging
        (arXiv 2210.09461).
        """
        means, counts = self._means(self._attended(x, x, name))
        rows = self._fed_forward(means, name)
        graph, op = self.graph, self.graph.op
        self.counts = counts
        self._weighed = op("Unsqueeze", op("Transpose", op("Log", counts), perm=[0, 2, 1]), graph.integers(1))
        return rows

    def _attended(self, asking: str, x: str, name: str) -> str:
        attended = self.linear(self._attention(asking, x, name), f"{name}.output")
        return self.norm(self.graph.op("Add", attended, asking), f"{name}.attention_norm")

    def _fed_forward(self, x: str, name: str) -> str:
        widened = self.activated(x, f"{name}.up", self.checkpoint.activation)
        return self.norm(self.graph.op("Add", self.linear(widened, f"{name}.down", ACTIVATED), x), f"{name}.norm")

    def _attention(self, asking: str, x: str, layer: str) -> str:
        query, *held = names = [f"{layer}.{part}" for part in ATTENTION]
        if asking == x:
            products = self.math.products(x, self.weights(*names))
        else:
            products = [*self.math.products(asking, self.weights(query)), *self.math.products(x, self.weights(*held))]
        parts = [self.states(part) for part in products]
        biases = np.concatenate([self.tensors[f"{name}.bias"] for name in names])
        given = [*parts, self.graph.constant(biases, name=attention_bias(layer))]
        heads = int(self.checkpoint.setting("heads"))
        if self._weighed:
            given += ["", self._proportional(parts[0], heads, asking == x)]
        return self.flat(self.graph.op("MultiHeadAttention", *given, domain=MICROSOFT, num_heads=heads))

    def _proportional(self, queries: str, heads: int, every: bool) -> str:
        """Returns what is added to attention, (batch, heads, queries, rows): the logarithm of what a row stands for.

        Args:
            queries: (batch, queries, hidden).
            heads: of attention.
            every: whether every row asks; they are as many in all layers then.
        """
        graph, op = self.graph, self.graph.op
        if not (every and "proportional" in graph.known):
            asking, rows = (
                op("Gather", op("Shape", x), graph.integers(at)) for x, at in ((queries, 1), (self._weighed, 3))
            )
            shape = op("Concat", self.batch, graph.integers(heads), asking, rows, axis=0)
            found = op("Expand", self._weighed, shape)
            if not every:
                return found
            graph.known["proportional"] = found
        return graph.known["proportional"]

    def _means(self, x: str) -> tuple[str, str]:
        """Returns the mean of each group of tokens, (batch x n, hidden), and how many they are, (batch, n, 1)."""
        graph, op = self.graph, self.graph.op
        graph.inputs = {KEPT: ["batch", KEPT], GROUPS: ["batch", "length"]}
        count = op("Gather", op("Shape", KEPT), graph.scalar(1, np.int64))
        numbers = op("Range", graph.scalar(0, np.int64), count, graph.scalar(1, np.int64))
        same = op("Equal", op("Unsqueeze", numbers, graph.integers(1)), op("Unsqueeze", GROUPS, graph.integers(1)))
        members = op("Cast", same, to=graph.onnx.TensorProto.FLOAT)  # (batch, n, length)
        self.math.other_rows()
        counts = op("ReduceSum", members, graph.integers(2), keepdims=1)
        return self.flat(op("MatMul", op("Div", members, counts), self.states(x))), counts

    def layers(self, x: str, names: Iterable[object]) -> str:
        """Returns the rows that leave the last of some layers, one after the other."""
        for name in names:
            x = self.layer(x, str(name))
        return x

    def last(self) -> str:
        """Returns the rows that leave the last layer."""
        return self.layers(self.embeddings(), range(self.depth))


def _gelu(trunk: Trunk, x: str, bias: str) -> str:
    return trunk.graph.op(trunk.math.gelu, x, bias, domain=MICROSOFT)


def _gelu_tanh(trunk: Trunk, x: str, bias: str) -> str:
    return trunk.graph.op("FastGelu", x, bias, domain=MICROSOFT)


def _relu(trunk: Trunk, x: str, bias: str) -> str:
    return trunk.graph.op("Relu", trunk.graph.op("Add", x, bias))


HIDDEN = {"gelu": _gelu, "gelu_tanh": _gelu_tanh, "relu": _relu}

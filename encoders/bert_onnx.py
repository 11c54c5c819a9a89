"""Writes the ONNX graph of a BERT-family checkpoint: the trunk, then pooling or a masked-LM head.

The graph reads `input_ids`, int64 (batch, length), and has no attention mask: a batch holds texts of one length, so
nothing is ever padded. Inside, activations are (batch x length, width), one row a token.

Int8 rows are quantised one by one (a scale per token, or per document in the head), so that a vector depends on its own
text alone and not on what shares its batch. Products of 8-bit numbers are kept small enough for processors that add two
of them in 16 bits (AVX2), so that every processor gives the same sums: see `_saturation_free`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoint import Checkpoint, UnsupportedModelError
from .contract import EncoderError
from .extras import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

MICROSOFT = "com.microsoft"
OPSET, IR_VERSION = 17, 8  # what onnxruntime 1.17 reads
INPUT, OUTPUT = "input_ids", "output"
VOCABULARY_TILE = 1024  # columns of the head computed at a time: length x tile sums, a few MB at most
_ZERO_POINT = 128
_TINY = 1e-9  # keeps the scale of an all-zero row above zero


@dataclass(frozen=True)
class Grid:
    """How a row of numbers is spread over the codes 0 to 255.

    Attributes:
        zero_point: the code of 0.
        smallest_scale: the step between codes is never smaller.
    """

    zero_point: int
    smallest_scale: float

    @property
    def top(self) -> int:
        """The codes above zero."""
        return 255 - self.zero_point


SIGNED = Grid(_ZERO_POINT, _TINY)
# What leaves gelu or relu is never below -0.17: 24 codes for that, and 231 instead of 127 for what is above.
ACTIVATED = Grid(24, 0.1701 / 24)


class Graph:
    """Nodes and constants under construction; every method returns the name of a value."""

    def __init__(self) -> None:
        self.onnx = require("onnx", "writing an ONNX model")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._shared: dict[tuple[str, Any], str] = {}

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """Returns the name of a new constant."""
        name = f"constant_{len(self.constants)}"
        values = np.ascontiguousarray(array, dtype=dtype).reshape(np.shape(array))
        self.constants.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def scalar(self, value: float, dtype: type[np.generic] = np.float32) -> str:
        """Returns the name of a constant without dimensions, the same name for the same value."""
        return self._share((dtype.__name__, value), value, dtype)

    def integers(self, *values: int) -> str:
        """Returns the name of an int64 vector: axes, shapes, bounds."""
        return self._share(("vector", values), values, np.int64)

    def _share(self, key: tuple[str, Any], value: Any, dtype: Any) -> str:
        if key not in self._shared:
            self._shared[key] = self.constant(value, dtype)
        return self._shared[key]

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Returns the name of a new node's first output."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Returns the names of the parts of a value, cut along its first axis."""
        names = [f"Split_{len(self.nodes)}_{part}" for part in range(len(sizes))]
        self.nodes.append(self.onnx.helper.make_node("Split", [value, self.integers(*sizes)], names, axis=0))
        return names

    def model(self, output: str, width: int) -> bytes:
        """Returns the serialised model with one output, float32 (batch, width); the same bytes for the same graph."""
        helper, tensor = self.onnx.helper, self.onnx.TensorProto
        self.nodes.append(helper.make_node("Identity", [output], [OUTPUT], name=OUTPUT))
        graph = helper.make_graph(
            self.nodes,
            "plait",
            [helper.make_tensor_value_info(INPUT, tensor.INT64, ["batch", "length"])],
            [helper.make_tensor_value_info(OUTPUT, tensor.FLOAT, ["batch", width])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="plait")
        return model.SerializeToString(deterministic=True)


class Float32:
    """Tables and products in float32."""

    gelu = "BiasGelu"

    def __init__(self, graph: Graph, words: NDArray[np.float32]) -> None:
        self.graph = graph
        self.words = graph.constant(words)

    def rows(self, ids: str) -> str:
        """Returns the word embeddings of ids, (batch, length, hidden)."""
        return self.graph.op("Gather", self.words, ids)

    def products(self, x: str, weights: Sequence[NDArray[np.float32]], grid: Grid = SIGNED) -> list[str]:
        """Returns x times each weight (inputs, outputs), without bias; x is (rows, inputs)."""
        del grid
        return [self.graph.op("MatMul", x, self.graph.constant(weight)) for weight in weights]

    def largest_logits(self, hidden: str, decoder: NDArray[np.float32] | None, vocabulary: int) -> str:
        """Returns the largest product over a text's tokens with each row of the decoder (None: the word table).

        Args:
            hidden: (batch, hidden, length).
            decoder: (vocabulary, hidden).
            vocabulary: rows of the decoder.
        """
        table = self.words if decoder is None else self.graph.constant(decoder)
        return _largest(self.graph, table, vocabulary, lambda tile: self.graph.op("MatMul", tile, hidden))


class Int8:
    """Tables and weights in 8 bits; the activations of each row are quantised as they come."""

    gelu = "FastGelu"  # the tanh form: 3 % faster in all, and off by less than 0.0005, well under a step of 8 bits

    def __init__(self, graph: Graph, words: NDArray[np.float32]) -> None:
        self.graph = graph
        self.words, self.scales = self._table(words)
        self._zeros: dict[Grid, str] = {}

    def _table(self, table: NDArray[np.float32]) -> tuple[str, str]:
        scales = _positive(np.abs(table).max(axis=1) / 127)
        codes = np.rint(table / scales[:, None]) + _ZERO_POINT
        return self.graph.constant(codes, np.uint8), self.graph.constant(scales)

    def rows(self, ids: str) -> str:
        """Returns the word embeddings of ids, (batch, length, hidden)."""
        op = self.graph.op
        codes = op("Cast", op("Gather", self.words, ids), to=self.graph.onnx.TensorProto.FLOAT)
        scales = op("Unsqueeze", op("Gather", self.scales, ids), self.graph.integers(-1))
        return op("Mul", op("Sub", codes, self.graph.scalar(_ZERO_POINT)), scales)

    def products(self, x: str, weights: Sequence[NDArray[np.float32]], grid: Grid = SIGNED) -> list[str]:
        """Returns x times each weight (inputs, outputs), without bias; x is (rows, inputs), within the grid."""
        graph, op = self.graph, self.graph.op
        largest = op("ReduceMax", op("Abs", x) if grid is SIGNED else x, axes=[1], keepdims=1)
        scales = op("Max", op("Mul", largest, graph.scalar(1 / grid.top)), graph.scalar(grid.smallest_scale))
        codes = op("QuantizeLinear", x, op("Squeeze", scales, graph.integers(1)), self._row_zeros(x, grid), axis=0)
        return [self._product(codes, scales, weight, grid) for weight in weights]

    def _product(self, codes: str, scales: str, weight: NDArray[np.float32], grid: Grid) -> str:
        graph = self.graph
        columns = _saturation_free(weight)
        weights = graph.constant(np.rint(weight / columns), np.int8)
        inputs = codes, weights, graph.scalar(1), graph.constant(columns), graph.scalar(grid.zero_point, np.uint8)
        return graph.op("Mul", graph.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT), scales)

    def _row_zeros(self, x: str, grid: Grid) -> str:
        """Returns a zero point for each row, made once for a grid: every x has the same rows."""
        if grid not in self._zeros:
            rows = self.graph.op("Gather", self.graph.op("Shape", x), self.graph.integers(0))
            self._zeros[grid] = self.graph.op("Expand", self.graph.scalar(grid.zero_point, np.uint8), rows)
        return self._zeros[grid]

    def largest_logits(self, hidden: str, decoder: NDArray[np.float32] | None, vocabulary: int) -> str:
        """Returns the largest product over a text's tokens with each row of the decoder (None: the word table).

        One scale serves a text, and a decoder row's scale is positive, so the largest of the integer sums is the
        largest logit: the maximum is exact, and it is taken before anything becomes a float.

        Args:
            hidden: (batch, hidden, length).
            decoder: (vocabulary, hidden).
            vocabulary: rows of the decoder.
        """
        graph, op = self.graph, self.graph.op
        table, table_scales = (self.words, self.scales) if decoder is None else self._table(decoder)
        scales = self._text_scales(hidden)
        zeros = op("Expand", graph.scalar(0, np.int8), op("Shape", scales))
        codes = op("QuantizeLinear", hidden, scales, zeros, axis=0)
        zero_point = graph.scalar(_ZERO_POINT, np.uint8)
        sums = _largest(graph, table, vocabulary, lambda tile: op("MatMulInteger", tile, codes, zero_point))
        floats = op("Mul", self._float(sums), op("Unsqueeze", scales, graph.integers(1)))
        return op("Mul", floats, table_scales)

    def _text_scales(self, hidden: str) -> str:
        """Returns (batch,) scales such that two neighbours' codes sum to at most 128: 255 x 128 fits in 16 bits."""
        graph, op = self.graph, self.graph.op
        shape = op("Shape", hidden)
        batch, length = (op("Gather", shape, graph.integers(axis)) for axis in (0, 2))
        pairs = op("Concat", batch, graph.integers(-1, 2), length, axis=0)
        sums = op("ReduceSum", op("Reshape", op("Abs", hidden), pairs), graph.integers(2), keepdims=0)
        largest = op("ReduceMax", sums, axes=[1, 2], keepdims=0)
        return op("Mul", op("Max", largest, graph.scalar(_TINY)), graph.scalar(1 / 127))

    def _float(self, sums: str) -> str:
        return self.graph.op("Cast", sums, to=self.graph.onnx.TensorProto.FLOAT)


PRECISIONS: dict[str, type[Float32] | type[Int8]] = {"fp32": Float32, "int8": Int8}


def _largest(graph: Graph, table: str, vocabulary: int, product: Callable[[str], str]) -> str:
    sizes = [min(VOCABULARY_TILE, vocabulary - start) for start in range(0, vocabulary, VOCABULARY_TILE)]
    tiles = graph.split(table, sizes)  # of a constant: done once, when the model is loaded
    largest = [graph.op("ReduceMax", product(tile), axes=[2], keepdims=0) for tile in tiles]
    return graph.op("Concat", *largest, axis=1)


def _positive(scales: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(scales > 0, scales, 1).astype(np.float32)


def _saturation_free(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a scale per column such that no sum of two products leaves 16 bits.

    AVX2 multiplies unsigned by signed bytes and adds neighbours along the inputs in 16 bits, saturating. Neighbours of
    one sign whose codes sum to at most 128 stay inside: 255 x 128 = 32,640. That costs less than half a bit; 7-bit
    weights, the usual way, cost a whole one.
    """
    padded = np.pad(weight, ((0, weight.shape[0] % 2), (0, 0)))
    pairs = padded.reshape(-1, 2, weight.shape[1])
    same_sign = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    return _positive(same_sign.max(axis=0) / 127)  # rounding may add one to 127


def _mean(graph: Graph, states: str) -> str:
    return graph.op("ReduceMean", states, axes=[1], keepdims=0)


def _first(graph: Graph, states: str) -> str:
    return graph.op("Gather", states, graph.scalar(0, np.int64), axis=1)


def _max(graph: Graph, states: str) -> str:
    return graph.op("ReduceMax", states, axes=[1], keepdims=0)


POOLINGS = {"mean": _mean, "cls": _first, "max": _max}


def _log1p(graph: Graph, x: str) -> str:
    return graph.op("Log", graph.op("Add", x, graph.scalar(1)))


def _log1p_log1p(graph: Graph, x: str) -> str:
    return _log1p(graph, _log1p(graph, x))


ACTIVATIONS = {"log1p": _log1p, "log1p_log1p": _log1p_log1p}


class _Trunk:
    """The embeddings and layers of a checkpoint as nodes of a graph."""

    def __init__(self, checkpoint: Checkpoint, precision: str) -> None:
        self.checkpoint = checkpoint
        self.tensors = checkpoint.tensors
        self.graph = Graph()
        self.math = PRECISIONS[precision](self.graph, self.tensors["words.weight"])
        self.hidden = int(checkpoint.setting("hidden"))
        self.shape = ""

    def constant(self, name: str) -> str:
        return self.graph.constant(self.tensors[name])

    def weight(self, name: str) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.tensors[f"{name}.weight"].T)

    def norm(self, x: str, name: str) -> str:
        scale, shift = self.constant(f"{name}.weight"), self.constant(f"{name}.bias")
        return self.graph.op("LayerNormalization", x, scale, shift, epsilon=self.checkpoint.epsilon)

    def flat(self, x: str) -> str:
        return self.graph.op("Reshape", x, self.graph.integers(-1, self.hidden))

    def states(self, x: str) -> str:
        """Returns rows as (batch, length, hidden)."""
        return self.graph.op("Reshape", x, self.shape)

    def linear(self, x: str, name: str, grid: Grid = SIGNED) -> str:
        (product,) = self.math.products(x, [self.weight(name)], grid)
        return self.graph.op("Add", product, self.constant(f"{name}.bias"))

    def activated(self, x: str, name: str) -> str:
        (product,) = self.math.products(x, [self.weight(name)])
        return HIDDEN[self.checkpoint.activation](self, product, self.constant(f"{name}.bias"))

    def embeddings(self) -> str:
        """Returns the rows that enter the first layer."""
        graph, op = self.graph, self.graph.op
        words = self.math.rows(INPUT)
        self.shape = op("Shape", words)
        length = op("Gather", op("Shape", INPUT), graph.integers(1))
        positions = op("Slice", graph.constant(self._positions()), graph.integers(0), length)
        return self.flat(self.norm(op("Add", words, positions), "norm"))

    def _positions(self) -> NDArray[np.float32]:
        """Returns the position table; a text is one segment, so the first token type is part of it."""
        positions = self.tensors["positions.weight"]
        return positions + self.tensors["types.weight"][0] if "types.weight" in self.tensors else positions

    def layer(self, x: str, number: int) -> str:
        """Returns the rows that leave a layer."""
        add = self.graph.op
        attended = self.linear(self._attention(x, number), f"{number}.output")
        x = self.norm(add("Add", attended, x), f"{number}.attention_norm")
        widened = self.activated(x, f"{number}.up")
        return self.norm(add("Add", self.linear(widened, f"{number}.down", ACTIVATED), x), f"{number}.norm")

    def _attention(self, x: str, number: int) -> str:
        names = [f"{number}.{part}" for part in ("query", "key", "value")]
        parts = [self.states(part) for part in self.math.products(x, [self.weight(name) for name in names])]
        bias = self.graph.constant(np.concatenate([self.tensors[f"{name}.bias"] for name in names]))
        heads = int(self.checkpoint.setting("heads"))
        return self.flat(self.graph.op("MultiHeadAttention", *parts, bias, domain=MICROSOFT, num_heads=heads))

    def last(self) -> str:
        """Returns the rows that leave the last layer."""
        x = self.embeddings()
        for number in range(int(self.checkpoint.setting("layers"))):
            x = self.layer(x, number)
        return x


def _gelu(trunk: _Trunk, x: str, bias: str) -> str:
    return trunk.graph.op(trunk.math.gelu, x, bias, domain=MICROSOFT)


def _gelu_tanh(trunk: _Trunk, x: str, bias: str) -> str:
    return trunk.graph.op("FastGelu", x, bias, domain=MICROSOFT)


def _relu(trunk: _Trunk, x: str, bias: str) -> str:
    return trunk.graph.op("Relu", trunk.graph.op("Add", x, bias))


HIDDEN = {"gelu": _gelu, "gelu_tanh": _gelu_tanh, "relu": _relu}


def dense_graph(checkpoint: Checkpoint, *, precision: str, pooling: str, normalize: bool) -> bytes:
    """Returns the ONNX model of a dense encoder: text to one vector.

    Args:
        checkpoint: the model.
        precision: one of `PRECISIONS`.
        pooling: one of `POOLINGS`.
        normalize: whether vectors are brought to length one.
    """
    trunk = _Trunk(checkpoint, _known(PRECISIONS, precision, "precision"))
    pooled = POOLINGS[_known(POOLINGS, pooling, "pooling")](trunk.graph, trunk.states(trunk.last()))
    vectors = trunk.graph.op("LpNormalization", pooled, axis=1, p=2) if normalize else pooled
    return trunk.graph.model(vectors, trunk.hidden)


def learned_graph(checkpoint: Checkpoint, *, precision: str, activation: str) -> bytes:
    """Returns the ONNX model of a learned sparse encoder: text to one weight per vocabulary entry.

    Logits are pooled in vocabulary tiles before any logarithm: the logarithm grows with its argument, so the result is
    the same, and memory does not grow with tokens times vocabulary.

    Args:
        checkpoint: the model.
        precision: one of `PRECISIONS`.
        activation: one of `ACTIVATIONS`.

    Raises:
        UnsupportedModelError: the checkpoint has no masked-LM head.
    """
    if not checkpoint.has_head:
        raise UnsupportedModelError(
            f"{checkpoint.folder} has no masked-LM head, which a learned sparse encoder needs: use it as a dense one"
        )
    activate = ACTIVATIONS[_known(ACTIVATIONS, activation, "activation")]
    trunk = _Trunk(checkpoint, _known(PRECISIONS, precision, "precision"))
    graph, tensors = trunk.graph, trunk.tensors
    states = trunk.states(trunk.norm(trunk.activated(trunk.last(), "head.transform"), "head.norm"))
    decoder = tensors["head.decoder.weight"]
    tied = np.array_equal(decoder, tensors["words.weight"])
    hidden = graph.op("Transpose", states, perm=[0, 2, 1])
    largest = trunk.math.largest_logits(hidden, None if tied else decoder, len(decoder))
    logits = graph.op("Add", largest, trunk.constant("head.decoder.bias"))
    return graph.model(activate(graph, graph.op("Relu", logits)), len(decoder))


def _known(table: dict[str, Any], name: str, what: str) -> str:
    if name not in table:
        raise EncoderError(f"{what} {name!r} is not one of {', '.join(table)}")
    return name

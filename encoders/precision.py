"""Tables and products of a graph, in float32 and in 8 bits.

Int8 rows are quantised one by one (a scale per token, or per document in the head), so that a vector depends on its own
text alone and not on what shares its batch. Products of 8-bit numbers are kept small enough for processors that add two
of them in 16 bits (AVX2), so that every processor gives the same sums: see `saturation_free`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .graph import MICROSOFT, Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

Activate = Callable[[Graph, str], str]
Named = tuple[str, "NDArray[np.float32]"]  # a tensor and what it is called, in the file too
Weights = Mapping[str, "NDArray[np.float32]"]

VOCABULARY_TILE = 1024  # columns of the head computed at a time: length x tile sums, a few MB at most
ZERO_POINT = 128  # of the codes of tables and of signed rows
_TINY = 1e-9  # keeps the scale of an all-zero row above zero
_WHOLE = 1e-3  # how far from whole numbers the codes of weights that were read back may be


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


SIGNED = Grid(ZERO_POINT, _TINY)
# What leaves gelu or relu is never below -0.17: 24 codes for that, and 231 instead of 127 for what is above.
ACTIVATED = Grid(24, 0.1701 / 24)


def kernel(name: str) -> str:
    """Returns what a weight (inputs, outputs) is called in the file; what has no name stays without."""
    return name and f"{name}.kernel"


def codes_of(name: str) -> str:
    """Returns what the 8-bit codes of a tensor are called."""
    return name and f"{name}.codes"


def scales_of(name: str) -> str:
    """Returns what the steps of a tensor's codes are called: one a row of a table, one a column of a kernel."""
    return name and f"{name}.scales"


class Float32:
    """Tables and products in float32."""

    gelu = "BiasGelu"

    def __init__(self, graph: Graph, words: NDArray[np.float32]) -> None:
        self.graph = graph
        self.words = graph.constant(words, name="words")

    def rows(self, ids: str) -> str:
        """Returns the word embeddings of ids, (batch, length, hidden)."""
        return self.graph.op("Gather", self.words, ids)

    def codes(self, x: str) -> None:
        """Does nothing: rows are multiplied as they are."""

    def other_rows(self) -> None:
        """Is told that what comes now has another number of rows; nothing changes."""

    def picked(self, x: str, places: str) -> str:
        """Returns the rows of x at some places, int64; what is made of them afterwards has as many rows."""
        return self.graph.op("Gather", x, places)

    def products(self, x: str, weights: Weights, grid: Grid = SIGNED) -> list[str]:
        """Returns x times each weight (inputs, outputs), without bias; x is (rows, inputs)."""
        del grid
        found = (self.graph.constant(weight, name=kernel(name)) for name, weight in weights.items())
        return [self.graph.op("MatMul", x, weight) for weight in found]

    def _decoder(self, decoder: Named | None) -> str:
        return self.words if decoder is None else self.graph.constant(decoder[1], name=decoder[0])

    def largest_logits(self, hidden: str, decoder: Named | None, vocabulary: int) -> str:
        """Returns the largest product over a text's tokens with each row of the decoder (None: the word table).

        Args:
            hidden: (batch, hidden, length).
            decoder: its name and (vocabulary, hidden).
            vocabulary: rows of the decoder.
        """
        table = self._decoder(decoder)
        return _largest(self.graph, table, vocabulary, lambda tile: self.graph.op("MatMul", tile, hidden))

    def summed_logits(self, hidden: str, decoder: Named | None, bias: Named, activate: Activate) -> str:
        """Returns the sum over a text's tokens of what is above zero of each logit, activated, (batch, vocabulary)."""
        tables = [self._decoder(decoder)]
        return _summed(self.graph, tables, bias, activate, lambda tile: self.graph.op("MatMul", tile, hidden))


class Int8:
    """Tables and weights in 8 bits; the activations of each row are quantised as they come."""

    gelu = "FastGelu"  # the tanh form: 3 % faster in all, and off by less than 0.0005, well under a step of 8 bits

    def __init__(self, graph: Graph, words: NDArray[np.float32]) -> None:
        self.graph = graph
        self.words, self.scales = self._table(("words", words))

    def _table(self, table: Named) -> tuple[str, str]:
        name, values = table
        scales = row_scales(values)
        codes = np.rint(values / scales[:, None]) + ZERO_POINT
        return self.graph.constant(codes, np.uint8, codes_of(name)), self.graph.constant(scales, name=scales_of(name))

    def _decoder(self, decoder: Named | None) -> tuple[str, str]:
        return (self.words, self.scales) if decoder is None else self._table(decoder)

    def rows(self, ids: str) -> str:
        """Returns the word embeddings of ids, (batch, length, hidden)."""
        op = self.graph.op
        codes = op("Cast", op("Gather", self.words, ids), to=self.graph.onnx.TensorProto.FLOAT)
        scales = op("Unsqueeze", op("Gather", self.scales, ids), self.graph.integers(-1))
        return op("Mul", op("Sub", codes, self.graph.scalar(ZERO_POINT)), scales)

    def products(self, x: str, weights: Weights, grid: Grid = SIGNED) -> list[str]:
        """Returns x times each weight (inputs, outputs), without bias; x is (rows, inputs), within the grid."""
        codes, scales = self.codes(x, grid)
        return [self._product(codes, scales, name, weight, grid) for name, weight in weights.items()]

    def codes(self, x: str, grid: Grid = SIGNED) -> tuple[str, str]:
        """Returns the codes of rows and the scale of each row, (rows, 1); the same ones when asked again."""
        key = "codes", x, grid
        if key not in self.graph.known:
            self.graph.known[key] = self._quantised(x, grid)
        return self.graph.known[key]

    def picked(self, x: str, places: str) -> str:
        """Returns the rows of x at some places, int64; what is made of them afterwards has as many rows.

        They have the codes that they have in x.
        """
        codes, scales = self.codes(x)
        rows, *both = (self.graph.op("Gather", held, places) for held in (x, codes, scales))
        self.graph.known["codes", rows, SIGNED] = tuple(both)
        self.other_rows()
        return rows

    def other_rows(self) -> None:
        """Is told that what comes now has another number of rows than what came before."""
        for grid in (SIGNED, ACTIVATED):
            self.graph.known.pop(("zeros", grid), None)

    def _quantised(self, x: str, grid: Grid) -> tuple[str, str]:
        graph, op = self.graph, self.graph.op
        largest = self._largest_of_rows(op("Abs", x) if grid is SIGNED else x)
        scales = op("Max", op("Mul", largest, graph.scalar(1 / grid.top)), graph.scalar(grid.smallest_scale))
        codes = op("QuantizeLinear", x, op("Squeeze", scales, graph.integers(1)), self._row_zeros(x, grid), axis=0)
        return codes, scales

    def _largest_of_rows(self, x: str) -> str:
        return self.graph.op("ReduceMax", x, axes=[1], keepdims=1)

    def _product(self, codes: str, scales: str, name: str, weight: NDArray[np.float32], grid: Grid) -> str:
        graph = self.graph
        columns = saturation_free(weight)
        weights = graph.constant(np.rint(weight / columns), np.int8, codes_of(kernel(name)))
        steps = graph.constant(columns, name=scales_of(kernel(name)))
        inputs = codes, weights, graph.scalar(1), steps, graph.scalar(grid.zero_point, np.uint8)
        return graph.op("Mul", graph.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT), scales)

    def _row_zeros(self, x: str, grid: Grid) -> str:
        """Returns a zero point for each row, made once for a grid: every x has the same rows, until `other_rows`."""
        key = "zeros", grid
        if key not in self.graph.known:
            rows = self.graph.op("Gather", self.graph.op("Shape", x), self.graph.integers(0))
            self.graph.known[key] = self.graph.op("Expand", self.graph.scalar(grid.zero_point, np.uint8), rows)
        return self.graph.known[key]

    def largest_logits(self, hidden: str, decoder: Named | None, vocabulary: int) -> str:
        """Returns the largest product over a text's tokens with each row of the decoder (None: the word table).

        One scale serves a text, and a decoder row's scale is positive, so the largest of the integer sums is the
        largest logit: the maximum is exact, and it is taken before anything becomes a float.

        Args:
            hidden: (batch, hidden, length).
            decoder: its name and (vocabulary, hidden); hidden is even.
            vocabulary: rows of the decoder.
        """
        graph, op = self.graph, self.graph.op
        table, table_scales = self._decoder(decoder)
        codes, scales = self._text_codes(hidden)
        zero_point = graph.scalar(ZERO_POINT, np.uint8)
        sums = _largest(graph, table, vocabulary, lambda tile: op("MatMulInteger", tile, codes, zero_point))
        floats = op("Mul", self._float(sums), op("Unsqueeze", scales, graph.integers(1)))
        return op("Mul", floats, table_scales)

    def summed_logits(self, hidden: str, decoder: Named | None, bias: Named, activate: Activate) -> str:
        """Returns the sum over a text's tokens of what is above zero of each logit, activated, (batch, vocabulary)."""
        graph, op = self.graph, self.graph.op
        table, table_scales = self._decoder(decoder)
        codes, scales = self._text_codes(hidden)
        steps = op("Unsqueeze", scales, graph.integers(1, 2))

        def product(tile: str, tile_scales: str) -> str:
            sums = op("MatMulInteger", tile, codes, graph.scalar(ZERO_POINT, np.uint8))
            rows = op("Unsqueeze", tile_scales, graph.integers(1))
            return op("Mul", op("Mul", self._float(sums), steps), rows)

        return _summed(graph, [table, table_scales], bias, activate, product)

    def _text_codes(self, hidden: str) -> tuple[str, str]:
        """Returns the codes of each text's states, and a scale a text."""
        op = self.graph.op
        scales = self._text_scales(hidden)
        zeros = op("Expand", self.graph.scalar(0, np.int8), op("Shape", scales))
        return op("QuantizeLinear", hidden, scales, zeros, axis=0), scales

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
    tiles = graph.split(table, _sizes(vocabulary))  # of a constant: done once, when the model is loaded
    largest = [graph.op("ReduceMax", product(tile), axes=[2], keepdims=0) for tile in tiles]
    return graph.op("Concat", *largest, axis=1)


def _summed(
    graph: Graph,
    tables: Sequence[str],
    bias: Named,
    activate: Activate,
    product: Callable[..., str],
) -> str:
    sizes, op = _sizes(len(bias[1])), graph.op
    biases = graph.constant(bias[1][:, None], name=bias[0])
    sums = []
    for *tiles, part in zip(*(graph.split(table, sizes) for table in (*tables, biases)), strict=True):
        logits = op("Relu", op("Add", product(*tiles), part))
        sums.append(op("ReduceSum", activate(graph, logits), graph.integers(2), keepdims=0))
    return op("Concat", *sums, axis=1)


def _sizes(vocabulary: int) -> list[int]:
    return [min(VOCABULARY_TILE, vocabulary - start) for start in range(0, vocabulary, VOCABULARY_TILE)]


def row_scales(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a scale per row such that codes reach from -127 to 127."""
    return _positive(np.abs(table).max(axis=1) / 127)


def _positive(scales: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the scales; 1 where there is none, or one so small that dividing by it says nothing."""
    return np.where(scales >= np.finfo(np.float32).tiny, scales, 1).astype(np.float32)


def saturation_free(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a scale per column such that no sum of two products leaves 16 bits.

    AVX2 multiplies unsigned by signed bytes and adds neighbours along the inputs in 16 bits, saturating. Neighbours of
    one sign whose codes sum to at most 128 stay inside: 255 x 128 = 32,640. That costs less than half a bit; 7-bit
    weights, the usual way, cost a whole one.

    Weights that were read back from such codes get the scale that they had, and so the same codes again.
    """
    padded = np.pad(weight, ((0, weight.shape[0] % 2), (0, 0)))
    pairs = padded.reshape(-1, 2, weight.shape[1])
    same_sign = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    largest = same_sign.max(axis=0)
    scales, before = _positive(largest / 127), _positive(largest / 128)  # rounding may add one to 127
    codes = weight / before
    again = (np.abs(codes - np.rint(codes)).max(axis=0) < _WHOLE) & (np.abs(codes).max(axis=0) < 127.5)
    return np.where(again, before, scales)

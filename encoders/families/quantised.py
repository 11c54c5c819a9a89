"""An ONNX model in float32 to 8 bits: tables and products as `plait.encoders.precision` writes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..extras import require
from ..graph import MICROSOFT, Graph
from ..precision import SIGNED, Grid, Int8

_FIRST = 10**6  # numbers of new nodes: none of the model's own has such a name
SMALLEST = 4096  # numbers in a weight that is worth it


class _Int8(Int8):
    """Products whose inputs differ in their number of rows, in the operators of a newer ONNX than plait's own."""

    def _largest_of_rows(self, x: str) -> str:
        return self.graph.op("ReduceMax", x, self.graph.integers(1), keepdims=1)

    def _row_zeros(self, x: str, grid: Grid) -> str:
        rows = self.graph.op("Gather", self.graph.op("Shape", x), self.graph.integers(0))
        return self.graph.op("Expand", self.graph.scalar(grid.zero_point, np.uint8), rows)


class _Rewriter:
    """One graph, node by node: those with large constant weights become products of 8-bit numbers."""

    def __init__(self, model: Any) -> None:
        self.onnx = require("onnx", "writing an ONNX model")
        self.graph = Graph()
        self.graph._made = {"nodes": _FIRST, "constants": _FIRST}
        self.math = _Int8.__new__(_Int8)
        self.math.graph = self.graph
        self.weights = {each.name: each for each in model.graph.initializer}
        self.model = model

    def run(self) -> None:
        nodes = []
        for node in self.model.graph.node:
            rewrite = _REWRITTEN.get(node.op_type)
            done = rewrite is not None and rewrite(self, node)
            nodes += self.graph.nodes
            self.graph.nodes = []
            if not done:
                nodes.append(node)
        used = {name for node in nodes for name in node.input}
        kept = [each for each in self.model.graph.initializer if each.name in used]
        for part, values in (("node", nodes), ("initializer", [*kept, *self.graph.constants])):
            getattr(self.model.graph, part).clear()
            getattr(self.model.graph, part).extend(values)

    def weight(self, name: str) -> Any:
        """Returns a constant float matrix that is large enough; None for anything else."""
        tensor = self.weights.get(name)
        if tensor is None or tensor.data_type != self.onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
            return None
        array = self.onnx.numpy_helper.to_array(tensor)
        return array if array.size >= SMALLEST else None

    def matmul(self, node: Any) -> bool:
        weight = self.weight(node.input[1])
        if weight is None or node.input[0] in self.weights:
            return False
        self._name(self._product(node.input[0], weight), node)
        return True

    def gemm(self, node: Any) -> bool:
        facts = {each.name: self.onnx.helper.get_attribute_value(each) for each in node.attribute}
        weight = self.weight(node.input[1])
        if weight is None or facts.get("transA") or facts.get("alpha", 1.0) != 1 or facts.get("beta", 1.0) != 1:
            return False
        product = self._product(node.input[0], weight.T if facts.get("transB") else weight)
        self._name(self.graph.op("Add", product, node.input[2]) if len(node.input) > 2 else product, node)
        return True

    def gather(self, node: Any) -> bool:
        axis = [each.i for each in node.attribute if each.name == "axis"]
        table = self.weight(node.input[0])
        if table is None or axis not in ([], [0]):
            return False
        key = "table", node.input[0]
        if key not in self.graph.known:
            self.graph.known[key] = self.math._table(("", table))
        self.math.words, self.math.scales = self.graph.known[key]
        self._name(self.math.rows(node.input[1]), node)
        return True

    def _product(self, x: str, weight: Any) -> str:
        """Returns x (..., inputs) times a weight (inputs, outputs)."""
        op, graph = self.graph.op, self.graph
        key = "rows", x
        if key not in graph.known:
            shape = op("Shape", x)
            before = op("Slice", shape, graph.integers(0), graph.integers(-1))
            graph.known[key] = op("Reshape", x, graph.integers(-1, weight.shape[0])), before
        rows, before = graph.known[key]
        (product,) = self.math.products(rows, {"": np.ascontiguousarray(weight)}, SIGNED)
        return op("Reshape", product, op("Concat", before, graph.integers(weight.shape[1]), axis=0))

    def _name(self, value: str, node: Any) -> None:
        self.graph.nodes.append(self.onnx.helper.make_node("Identity", [value], [node.output[0]], name=node.name))


_REWRITTEN = {"MatMul": _Rewriter.matmul, "Gemm": _Rewriter.gemm, "Gather": _Rewriter.gather}


def quantised(content: bytes) -> bytes:
    """Returns a serialised ONNX model with tables and large constant weights in 8 bits.

    The rows that meet a weight are quantised as they come, each with a scale of its own: a vector depends on its own
    text alone, and every processor gives the same sums.
    """
    onnx = require("onnx", "writing an ONNX model")
    model = onnx.load_from_string(content)
    _Rewriter(model).run()
    if all(each.domain != MICROSOFT for each in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return model.SerializeToString(deterministic=True)

"""An ONNX graph under construction, and the names of what goes in, int64 (batch, length), and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .extras import require

MICROSOFT = "com.microsoft"
OPSET, IR_VERSION = 17, 8  # what onnxruntime 1.17 reads
INPUT = "input_ids"
OUTPUT = "output"  # of a model that has one
DENSE, WEIGHTS, OWN = "dense", "weights", "own"  # of a joint one: a vector, expansion terms, a weight a token
ROWS = "rows"  # of a trunk: what leaves a layer, (batch x length, width)
HEARD = "sparse.heard"  # of a joint one: for each token, 0 where the sparse half is given nothing by its places
WANT_DENSE, WANT_SPARSE = "want_dense", "want_sparse"  # more inputs of a joint one, true where they are not given
KEPT, GROUPS = "kept", "groups"  # and of one that merges tokens: a place of each group, which group a token is of


class Graph:
    """Nodes and constants under construction; every method returns the name of a value.

    Attributes:
        onnx: the package.
        nodes: the nodes so far, of the branch that is being written where there is one.
        constants: the constants so far, likewise.
        known: values by what they are, so that they are made once; what is made in a branch is forgotten at its end.
        inputs: int64 inputs beside the ids, and their axes.
    """

    def __init__(self) -> None:
        self.onnx = require("onnx", "writing an ONNX model")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.known: dict[Any, Any] = {}
        self.inputs: dict[str, list[str]] = {}
        self._wishes: list[str] = []
        self._made = {"nodes": 0, "constants": 0}

    def constant(self, array: Any, dtype: Any = np.float32, name: str = "") -> str:
        """Returns the name of a new constant: the one given, which nothing else may have, or a number."""
        name = name or f"constant_{self._number('constants')}"
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
        if key not in self.known:
            self.known[key] = self.constant(value, dtype)
        return self.known[key]

    def _number(self, kind: str) -> int:
        """Returns how many nodes or constants there are, in branches too, and counts one more."""
        self._made[kind] += 1
        return self._made[kind] - 1

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Returns the name of a new node's first output."""
        name = f"{kind}_{self._number('nodes')}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Returns the names of a new node's outputs."""
        number = self._number("nodes")
        names = [f"{kind}_{number}_{part}" for part in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, names, **attributes))
        return names

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Returns the names of the parts of a value, cut along its first axis."""
        return self.ops("Split", len(sizes), value, self.integers(*sizes), axis=0)

    def when(self, wish: str, write: Callable[[], Sequence[str]]) -> list[str]:
        """Returns the names of values, float32 with two axes, that are computed where a wish is true and else empty.

        onnxruntime runs every node of a graph, whatever is fetched, but for those of a branch not taken; the published
        builds pay no heed to RunOptions.only_execute_path_to_fetches.

        Args:
            wish: the name of an input of the model, a bool, true where it is not given.
            write: makes the nodes and returns the names of the values; it may use what was made before, and what it
                makes is not known outside.
        """
        if wish not in self._wishes:
            self._wishes.append(wish)
        before = self.nodes, self.constants, self.known
        self.nodes, self.constants, self.known = [], [], dict(self.known)
        values = list(write())
        found = self._branch("then", [self.op("Identity", value) for value in values])
        self.nodes, self.constants = [], []
        nothing = self.onnx.numpy_helper.from_array(np.zeros((0, 0), np.float32))
        missing = self._branch("else", [self.op("Constant", value=nothing) for _ in values])
        self.nodes, self.constants, self.known = before
        number = self._number("nodes")
        names = [f"If_{number}_{part}" for part in range(len(values))]
        self.nodes.append(self.onnx.helper.make_node("If", [wish], names, then_branch=found, else_branch=missing))
        return names

    def _branch(self, name: str, values: Sequence[str]) -> Any:
        helper, floats = self.onnx.helper, self.onnx.TensorProto.FLOAT
        outputs = [helper.make_tensor_value_info(value, floats, [None, None]) for value in values]
        return helper.make_graph(self.nodes, name, [], outputs, self.constants)

    def model(self, outputs: Mapping[str, tuple[str, int | str]]) -> bytes:
        """Returns the serialised model; the same bytes for the same graph.

        Args:
            outputs: the name of an output, float32 (batch, width), -> the value behind it, its width.
        """
        helper, tensor = self.onnx.helper, self.onnx.TensorProto
        for name, (value, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        graph = helper.make_graph(
            self.nodes,
            "plait",
            [
                helper.make_tensor_value_info(INPUT, tensor.INT64, ["batch", "length"]),
                *(helper.make_tensor_value_info(name, tensor.INT64, axes) for name, axes in self.inputs.items()),
                *(helper.make_tensor_value_info(wish, tensor.BOOL, []) for wish in self._wishes),
            ],
            [
                helper.make_tensor_value_info(name, tensor.FLOAT, ["batch", width])
                for name, (_, width) in outputs.items()
            ],
            [*self.constants, *(helper.make_tensor(wish, tensor.BOOL, [], [True]) for wish in self._wishes)],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="plait")
        return model.SerializeToString(deterministic=True)

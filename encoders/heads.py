"""Whole ONNX models: a trunk with pooling, with a masked-LM head, or with both halves of a joint encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .bert_onnx import Trunk
from .checkpoint import Checkpoint
from .contract import EncoderError
from .graph import DENSE, HEARD, INPUT, KEPT, OUTPUT, OWN, ROWS, WANT_DENSE, WANT_SPARSE, WEIGHTS, Graph
from .joint_checkpoint import SparseHalf
from .precision import PRECISIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
Activation = Callable[[Graph, str], str]


def dense_graph(checkpoint: Checkpoint, *, precision: str, pooling: str, normalize: bool) -> bytes:
    """Returns the ONNX model of a dense encoder: text to one vector.

    Args:
        checkpoint: the model.
        precision: one of `PRECISIONS`.
        pooling: one of `POOLINGS`.
        normalize: whether vectors are brought to length one.
    """
    trunk = Trunk(checkpoint, _known(PRECISIONS, precision, "precision"))
    vectors = _pooled(trunk, trunk.last(), pooling, normalize)
    return trunk.graph.model({OUTPUT: (vectors, trunk.hidden)})


def trunk_graph(checkpoint: Checkpoint, layers: int, *, precision: str) -> bytes:
    """Returns the ONNX model of a trunk that is cut at a layer: text to the rows that leave it, and to the vector.

    Args:
        checkpoint: the model.
        layers: below the cut.
        precision: one of `PRECISIONS`.
    """
    trunk = Trunk(checkpoint, _known(PRECISIONS, precision, "precision"))
    rows = trunk.layers(trunk.embeddings(), range(layers))
    above = trunk.layers(rows, range(layers, trunk.depth))
    vectors = _pooled(trunk, above, checkpoint.pooling, checkpoint.normalize)
    return trunk.graph.model({OUTPUT: (vectors, trunk.hidden), ROWS: (rows, trunk.hidden)})


def _pooled(trunk: Trunk, rows: str, pooling: str, normalize: bool) -> str:
    graph, states, kind = trunk.graph, trunk.states(rows), _known(POOLINGS, pooling, "pooling")
    if trunk.counts and kind == "mean":
        shares = graph.op("Div", trunk.counts, graph.op("ReduceSum", trunk.counts, graph.integers(1), keepdims=1))
        pooled = graph.op("ReduceSum", graph.op("Mul", states, shares), graph.integers(1), keepdims=0)
    else:
        pooled = POOLINGS[kind](graph, states)
    return trunk.graph.op("LpNormalization", pooled, axis=1, p=2) if normalize else pooled


def learned_graph(checkpoint: Checkpoint, *, precision: str, activation: str) -> bytes:
    """Returns the ONNX model of a learned sparse encoder: text to one weight per vocabulary entry.

    Logits are pooled in vocabulary tiles before any logarithm: the logarithm grows with its argument, so the result is
    the same, and memory does not grow with tokens times vocabulary.

    Args:
        checkpoint: the model.
        precision: one of `PRECISIONS`.
        activation: one of `ACTIVATIONS`.

    Raises:
        EncoderError: the checkpoint has no masked-LM head.
    """
    if not checkpoint.has_head:
        raise EncoderError(
            f"{checkpoint.folder} has no masked-LM head in its weights, which a learned sparse encoder needs: it would "
            "be random; use the checkpoint as a dense encoder, or take another"
        )
    activate = ACTIVATIONS[_known(ACTIVATIONS, activation, "activation")]
    trunk = Trunk(checkpoint, _known(PRECISIONS, precision, "precision"))
    graph, tensors = trunk.graph, trunk.tensors
    transformed = trunk.activated(trunk.last(), "head.transform", checkpoint.activation)
    states = trunk.states(trunk.norm(transformed, "head.norm"))
    decoder = tensors["head.decoder.weight"]
    tied = np.array_equal(decoder, tensors["words.weight"])
    hidden = graph.op("Transpose", states, perm=[0, 2, 1])
    largest = trunk.math.largest_logits(hidden, None if tied else ("head.decoder.weight", decoder), len(decoder))
    logits = graph.op("Add", largest, trunk.constant("head.decoder.bias"))
    return graph.model({OUTPUT: (activate(graph, graph.op("Relu", logits)), len(decoder))})


def joint_graph(
    checkpoint: Checkpoint, half: SparseHalf, *, precision: str, pooling: str, normalize: bool, activation: str
) -> bytes:
    """Returns the ONNX model of a joint encoder: text to a vector, expansion weights, and a weight of each own token.

    The sparse branch starts from what leaves a layer of the trunk: layers below it run once, for both. What one half
    alone needs runs where that half is wanted: see `Graph.when`. Where equal tokens merge, which do is an input and
    the texts of a batch have as many groups of them, so that nothing is padded.

    Args:
        checkpoint: the model.
        half: its sparse half.
        precision: one of `PRECISIONS`.
        pooling: one of `POOLINGS`; of the dense half, like `normalize`.
        normalize: whether vectors are brought to length one.
        activation: one of `ACTIVATIONS`; of the sparse half.
    """
    activate = ACTIVATIONS[_known(ACTIVATIONS, activation, "activation")]
    trunk = Trunk(checkpoint, _known(PRECISIONS, precision, "precision"), half.tensors)
    graph, fork = trunk.graph, trunk.depth - half.branch_layers
    if half.full_layers is None:
        shared, kept = trunk.layers(trunk.embeddings(), range(fork)), ""
    else:
        *before, last_full = range(half.full_layers)
        merged = trunk.merging(trunk.layers(trunk.embeddings(), before), str(last_full))
        shared, kept = trunk.layers(merged, range(half.full_layers, fork)), KEPT
    if half.branch_layers:
        trunk.math.codes(shared)  # both strands' next layers read them

    def dense() -> list[str]:
        return [_pooled(trunk, trunk.layers(shared, range(fork, trunk.depth)), pooling, normalize)]

    def sparse() -> list[str]:
        *before, last = [f"sparse.{number}" for number in range(half.branch_layers)] or [None]
        rows, places, heard = trunk.layers(shared, before), kept, ""
        if half.silent is not None:
            ids = graph.op("GatherElements", INPUT, kept, axis=1) if kept else INPUT
            heard = _heard(graph, half.silent, ids, len(trunk.tensors["words.weight"]))
            at = _rows_at(graph, heard, ids)
            rows = trunk.math.picked(rows, at) if last is None else trunk.layer(rows, last, at)
            places = graph.op("GatherElements", kept, heard, axis=1) if kept else heard
        elif last is not None:
            rows = trunk.layer(rows, last)
        weights = SPARSE_POOLINGS[half.pooling](trunk, _hidden(trunk, rows, half), activate)
        return [weights, _literal(trunk, rows, places, heard, half.repeats)] if half.literal else [weights]

    (vectors,) = graph.when(WANT_DENSE, dense)
    weights, *own = graph.when(WANT_SPARSE, sparse)
    outputs: dict[str, tuple[str, int | str]] = {DENSE: (vectors, trunk.hidden), WEIGHTS: (weights, half.rows)}
    if own:
        outputs[OWN] = own[0], "length"
    return graph.model(outputs)


def _hidden(trunk: Trunk, rows: str, half: SparseHalf) -> str:
    """Returns what meets the decoder, (batch, r, length)."""
    graph, name = trunk.graph, "sparse.transform"
    transformed = trunk.activated(rows, name, "gelu") if half.gelu else trunk.linear(rows, name)
    states = trunk.by_text(trunk.norm(transformed, "sparse.norm"), len(trunk.tensors["sparse.transform.bias"]))
    return graph.op("Transpose", states, perm=[0, 2, 1])


def _largest(trunk: Trunk, hidden: str, activate: Activation) -> str:
    """Returns the activated largest logit over a text's tokens of each row of the decoder, (batch, rows)."""
    graph, bias = trunk.graph, trunk.tensors["sparse.decoder.bias"]
    largest = trunk.math.largest_logits(hidden, trunk.named("sparse.decoder.weight"), len(bias))
    return activate(graph, graph.op("Relu", graph.op("Add", largest, trunk.constant("sparse.decoder.bias"))))


def _summed(trunk: Trunk, hidden: str, activate: Activation) -> str:
    """Returns the sum over a text's tokens of the activated logits of each row of the decoder, (batch, rows)."""
    bias = "sparse.decoder.bias", trunk.tensors["sparse.decoder.bias"]
    return trunk.math.summed_logits(hidden, trunk.named("sparse.decoder.weight"), bias, activate)


SPARSE_POOLINGS = {"max": _largest, "sum": _summed}


def _literal(trunk: Trunk, rows: str, places: str, heard: str, repeats: float) -> str:
    """Returns the weight of each token as a term of its own, (batch, length), never below 0; 0 where none is heard.

    Args:
        trunk: where the nodes go.
        rows: of what is heard.
        places: theirs in their texts, (batch, n); empty where that is every token.
        heard: their places among what is left of their texts, likewise.
        repeats: how much a score grows with the logarithm of how many tokens it stands for.
    """
    graph, op = trunk.graph, trunk.graph.op
    column = graph.constant(trunk.tensors["sparse.literal.weight"][:, None], name="sparse.literal.weight")
    ids = op("GatherElements", INPUT, places, axis=1) if places else INPUT
    scores = op("Reshape", op("MatMul", rows, column), op("Shape", ids))
    scores = op("Add", scores, op("Gather", trunk.constant("sparse.literal.bias"), ids))
    if repeats and trunk.counts:
        counts = op("Squeeze", trunk.counts, graph.integers(2))
        logarithms = op("Log", op("GatherElements", counts, heard, axis=1) if heard else counts)
        scores = op("Add", scores, op("Mul", logarithms, graph.scalar(repeats)))
    weights = op("Relu", scores)
    if not places:
        return weights
    nothing = op("Expand", graph.scalar(0), op("Shape", INPUT))
    return op("ScatterElements", nothing, places, weights, axis=1)


def _heard(graph: Graph, silent: NDArray[np.int32], ids: str, vocabulary: int) -> str:
    """Returns the places, of ids (batch, length), whose tokens are heard, int64 (batch, n): all of each text, in order.

    Texts have different numbers of them, and n is the largest: a text with fewer has its first one again, which adds
    nothing to a maximum. So a text's vector does not depend on what shares its batch. A text of silent tokens alone has
    its first place heard.
    """
    op = graph.op
    floats, whole = graph.onnx.TensorProto.FLOAT, graph.onnx.TensorProto.INT64
    heard = np.ones(vocabulary, np.uint8)
    heard[silent] = 0
    found = op("Cast", op("Gather", graph.constant(heard, np.uint8, HEARD), ids), to=floats)
    counts = op("ReduceSum", found, graph.integers(1), keepdims=0)
    most = op("Max", op("Cast", op("ReduceMax", counts, keepdims=1), to=whole), graph.integers(1))
    kinds, places = graph.ops("TopK", 2, found, most, axis=1)  # of equals, the first come first
    first = op("Slice", places, graph.integers(0), graph.integers(1), graph.integers(1))
    return op("Where", op("Greater", kinds, graph.scalar(0)), places, first)


def _rows_at(graph: Graph, places: str, ids: str) -> str:
    """Returns places in texts, (batch, n), as places among the rows of the batch, (batch x n,); ids are the rows'."""
    op = graph.op
    batch, length = (op("Gather", op("Shape", ids), graph.scalar(axis, np.int64)) for axis in (0, 1))
    texts = op("Range", graph.scalar(0, np.int64), batch, graph.scalar(1, np.int64))
    starts = op("Unsqueeze", op("Mul", texts, length), graph.integers(1))
    return op("Reshape", op("Add", places, starts), graph.integers(-1))


def _known(table: dict[str, Any], name: str, what: str) -> str:
    if name not in table:
        raise EncoderError(f"{what} {name!r} is not one of {', '.join(table)}")
    return name

"""A tiny real cross-encoder in ONNX, and what it computes in plain numpy.

A pair's logit is the inner product of the sums of its two texts' token vectors, over the number of its tokens.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden"
WIDTH, LONGEST = 8, 24


def table(size=180):
    return np.random.default_rng(7).normal(size=(size, WIDTH)).astype(np.float32)


def make_cross(folder, *, outputs=1, inputs=("input_ids", "attention_mask", "token_type_ids"), inside="."):
    """Writes a cross-encoder with one logit, or with several numbers a pair: minus the logit, then the logit."""
    from onnx import TensorProto, helper, numpy_helper, save

    def constant(name, value):
        return numpy_helper.from_array(value, name)

    node = helper.make_node
    nodes = [
        node("Gather", ["table", "input_ids"], ["vectors"]),
        node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["types", "last"], ["second"]),
        node("Sub", ["one", "second"], ["first"]),
        node("Mul", ["vectors", "first"], ["of_query"]),
        node("Mul", ["vectors", "second"], ["of_text"]),
        node("ReduceSum", ["of_query", "middle"], ["query"], keepdims=0),
        node("ReduceSum", ["of_text", "middle"], ["text"], keepdims=0),
        node("Mul", ["query", "text"], ["products"]),
        node("ReduceSum", ["products", "middle"], ["sum"], keepdims=1),
        node("ReduceSum", ["mask", "middle"], ["length"], keepdims=1),
        node("Div", ["sum", "length"], ["logit"]),
        node("Neg", ["logit"], ["against"]),
        node("Concat", [*["against"] * (outputs - 1), "logit"], ["logits"], axis=1),
    ]
    constants = [
        constant("table", table()),
        constant("one", np.float32(1)),
        constant("middle", np.array([1], np.int64)),
        constant("last", np.array([2], np.int64)),
    ]
    taken = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in inputs]
    given = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])]
    if "token_type_ids" not in inputs:  # then every token is of the query and of the text
        nodes[1] = node("Cast", ["input_ids"], ["types"], to=TensorProto.FLOAT)
    if "attention_mask" not in inputs:
        nodes[2] = node("Cast", ["input_ids"], ["mask"], to=TensorProto.FLOAT)
    model = helper.make_model(
        helper.make_graph(nodes, "cross", taken, given, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (folder / inside).mkdir(parents=True, exist_ok=True)
    save(model, folder / inside / "model.onnx")
    shutil.copy(GOLDEN / "bert-pooled" / "tokenizer.json", folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LONGEST}))
    return folder


def reference(query, texts, length=LONGEST):
    """The same scores, one pair at a time."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(GOLDEN / "bert-pooled" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    found = []
    for text in texts:
        pair = tokenizer.encode(query, text)
        vectors, types = table()[pair.ids], np.array(pair.type_ids)
        found.append(float(vectors[types == 0].sum(0) @ vectors[types == 1].sum(0)) / len(pair.ids))
    return found

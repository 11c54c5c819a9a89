"""The joint graph against the whole formula written out in numpy, for every kind of checkpoint."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders import load_joint
from plait.encoders import precision as precision_module
from plait.encoders.build import build
from plait.encoders.joint import JointDense
from safetensors.numpy import load_file
from tokenizers import BertWordPieceTokenizer, Tokenizer

from .joint_folders import GOLDEN, KINDS, LAYER, LENGTH, NEW_NAMES, PREFIX, Kind, make_joint

TEXTS = json.loads((GOLDEN / "texts.json").read_text())
WORDS = [
    "search",
    "engine",
    "query",
    "document",
    "index",
    "sparse",
    "dense",
    "vector",
    "open",
    "text",
    "a",
    "the",
    "of",
]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NAMES = {
    "bert": {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm": "output.LayerNorm",
    },
    "distilbert": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
        "norm": "output_layer_norm",
    },
}
ERF = np.vectorize(math.erf)


def gelu(x):
    return x * 0.5 * (1 + ERF(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relu(x):
    return np.maximum(x, 0)


HIDDEN = {"gelu": gelu, "gelu_new": gelu_tanh, "relu": relu}


@dataclass
class Reference:
    """A joint checkpoint computed text by text in float64."""

    folder: Path

    @cached_property
    def config(self):
        return json.loads((self.folder / "config.json").read_text())

    @cached_property
    def tensors(self):
        found = {}
        for name, tensor in load_file(self.folder / "model.safetensors").items():
            for old, new in NEW_NAMES.items():
                name = name.replace(old, new)
            name = name.removeprefix(PREFIX[self.family])
            found[name] = tensor.astype(np.float64 if tensor.dtype.kind == "f" else np.int64)
        return found

    @property
    def family(self):
        return self.config["model_type"]

    @cached_property
    def tokenizer(self):
        if (self.folder / "tokenizer.json").is_file():
            found = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        else:
            found = BertWordPieceTokenizer(str(self.folder / "vocab.txt"), lowercase=True)
        found.enable_truncation(LENGTH)
        return found

    @cached_property
    def specials(self):
        return [self.tokenizer.token_to_id(token) for token in SPECIALS]

    def norm(self, x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.config.get("layer_norm_eps", 1e-12))
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def linear(self, x, name):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def embeddings(self, ids):
        x = self.tensors["embeddings.word_embeddings.weight"][ids]
        x = x + self.tensors["embeddings.position_embeddings.weight"][: len(ids)]
        if "embeddings.token_type_embeddings.weight" in self.tensors:
            x = x + self.tensors["embeddings.token_type_embeddings.weight"][0]
        return self.norm(x, "embeddings.LayerNorm")

    def layer(self, x, start, counts, groups=None):
        """Returns the states that leave a layer; one that stands for n tokens is attended to as n of them.

        Where there are groups, each is its mean after the attention.
        """
        names = {ours: start + theirs for ours, theirs in NAMES[self.family].items()}
        heads = self.config.get("num_attention_heads") or self.config["n_heads"]
        query, key, value = (
            self.linear(x, names[part]).reshape(len(x), heads, -1) for part in ("query", "key", "value")
        )
        scores = np.einsum("ihd,jhd->hij", query, key) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True)) * counts
        shares /= shares.sum(axis=-1, keepdims=True)
        attended = np.einsum("hij,jhd->ihd", shares, value).reshape(len(x), -1)
        x = self.norm(self.linear(attended, names["output"]) + x, names["attention_norm"])
        if groups is not None:
            x = np.stack([x[group].mean(axis=0) for group in groups])
        activation = HIDDEN[self.config.get("hidden_act") or self.config["activation"]]
        return self.norm(self.linear(activation(self.linear(x, names["up"])), names["down"]) + x, names["norm"])

    def groups(self, ids):
        """Returns the places of tokens that are one above some layer: those of each, where they merge."""
        facts = self.config["plait"]
        if "full_layers" not in facts or len(ids) < facts["long_from"]:
            return [[place] for place in range(len(ids))]
        return [[place for place, other in enumerate(ids) if other == token] for token in dict.fromkeys(ids)]

    def states(self, ids):
        """Returns the last states of the trunk and of the branch."""
        depth = self.config.get("num_hidden_layers") or self.config["n_layers"]
        layers = self.config["plait"]["branch_layers"]
        x, counts, full = self.embeddings(ids), np.ones(len(ids)), self.config["plait"].get("full_layers")
        passed = [x]
        for number in range(depth):
            groups = self.groups(ids) if number + 1 == full else None
            passed.append(self.layer(passed[-1], LAYER[self.family].format(number), counts, groups))
            if groups is not None:
                counts = np.array([len(group) for group in groups])
        branch = passed[depth - layers]
        for number in range(layers):
            branch = self.layer(branch, f"sparse.layer.{number}.", counts)
        return passed[-1], branch

    def dense(self, ids):
        states, counts = self.states(ids)[0], [len(group) for group in self.groups(ids)]
        found = sorted(self.folder.glob("*_Pooling/config.json"))
        settings = json.loads(found[0].read_text()) if found else {}
        vector = states[0] if settings.get("pooling_mode") == "cls" else np.average(states, axis=0, weights=counts)
        normalised = (self.folder / "modules.json").is_file()
        return vector / np.linalg.norm(vector) if normalised else vector

    def sparse(self, ids):
        t = self.tensors
        words = t["embeddings.word_embeddings.weight"]
        groups = self.groups(ids)
        more = self.config["plait"].get("repeats", 0) * np.log([len(group) for group in groups])
        more = self.heard(more, [ids[group[0]] for group in groups])[0]
        branch, ids = self.heard(self.states(ids)[1], [ids[group[0]] for group in groups])
        z = self.norm(gelu(self.linear(branch, "sparse.transform")), "sparse.norm")
        logits = z @ t.get("sparse.decoder.weight", words).T + t["sparse.decoder.bias"]
        expansion = np.log1p(relu(logits.max(axis=0)))
        if self.config["plait"]["activation"] == "log1p_log1p":
            expansion = np.log1p(expansion)
        weights = np.zeros(len(words))
        weights[t.get("sparse.terms", np.arange(len(words)))] = expansion
        if self.config["plait"]["literal"]:
            scores = relu(branch @ t["sparse.literal.weight"] + t["sparse.literal.bias"][ids] + more)
            for term in set(ids):
                weights[term] += max(score for score, token in zip(scores, ids, strict=True) if token == term)
        weights[self.specials] = 0
        weights[t.get("sparse.silent", [])] = 0
        return weights

    def heard(self, states, ids):
        """Returns states and ids without the places of silent tokens; the first place where there is no other."""
        places = [at for at, token in enumerate(ids) if token not in self.tensors.get("sparse.silent", ())] or [0]
        return states[places], [ids[at] for at in places]

    def static(self, ids):
        table = self.tensors["static.table"]
        rows = [table[token] for token in ids if token not in self.specials]
        vector = np.sum(rows, axis=0) if rows else np.zeros(table.shape[1])
        vector = vector @ self.tensors.get("static.projection", np.eye(table.shape[1]))
        return vector / (np.linalg.norm(vector) or 1)

    def all(self, part):
        return np.stack([getattr(self, part)(self.tokenizer.encode(text).ids) for text in TEXTS])


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Returns the reference of a kind and its encoder at a precision, each made once."""
    references, encoders = {}, {}

    def make(kind, precision="fp32"):
        if kind not in references:
            folder = make_joint(kind, tmp_path_factory.mktemp("joint") / "checkpoint")
            reference = Reference(folder)
            references[kind] = reference, reference.all("dense"), reference.all("sparse")
        if (kind, precision) not in encoders:
            out = tmp_path_factory.mktemp("built") / precision
            build(references[kind][0].folder, out, head="joint", precision=precision)
            encoders[kind, precision] = load_joint(out)
        return (*references[kind], encoders[kind, precision])

    return make


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fp32_is_the_formula(kind, case):
    _, dense, sparse, encoder = case(kind)
    rows, vectors = encoder.encode_documents(TEXTS)
    np.testing.assert_allclose(vectors, dense, atol=1e-4)
    np.testing.assert_allclose(rows.toarray(), sparse, atol=1e-4)
    assert (sparse > 0).sum(axis=1).min() > 2  # or the formula would be easy to meet


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_int8_is_close_to_the_formula(kind, case):
    _, dense, sparse, encoder = case(kind, "int8")
    rows, vectors = encoder.encode_documents(TEXTS)
    found = rows.toarray()
    assert cosines(vectors, dense).min() >= 0.99
    assert cosines(found, sparse).min() >= 0.99
    shares = [share_of_leaders(*pair) for pair in zip(found, sparse, strict=True)]
    assert min(shares) >= 0.95
    assert shares.count(1) >= len(TEXTS) // 2


def share_of_leaders(found, expected):
    """Returns the least expected weight of the five heaviest terms by that of the expected five: 1 if these are those.

    Random weights are often nearer to each other than 8 bits tell apart; then two terms may change places.
    """
    return expected[np.argsort(-found)[:5]].min() / np.sort(expected)[-5]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.static], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_static_queries_are_the_formula(kind, precision, case):
    reference, _, _, encoder = case(kind, precision)
    found = JointDense(encoder, queries="static").encode_queries(TEXTS)
    expected = reference.all("static")
    filled = np.linalg.norm(expected, axis=1) > 0
    assert cosines(found[filled], expected[filled]).min() >= 0.999
    assert (found[~filled] == 0).all()


@pytest.mark.parametrize("kind", [Kind(terms=70, static=8), Kind("distilbert-pooled", static=32),
                                  Kind(silent=2, static=8), Kind(silent=2, full=1, long=9, static=8, repeats=1),
                                  Kind(full=1, static=8)], ids=str)  # fmt: skip
@settings(max_examples=40)
@given(words=st.lists(st.sampled_from([*WORDS, "unknownword", "\u2603", "[CLS]", "repeat repeat"]), max_size=50))
def test_any_text_is_the_formula(kind, words, case):
    reference, _, _, encoder = case(kind)
    text = " ".join(words)
    ids = reference.tokenizer.encode(text).ids
    rows, vectors = encoder.encode_documents([text])
    np.testing.assert_allclose(vectors[0], reference.dense(ids), atol=1e-4)
    np.testing.assert_allclose(rows.toarray()[0], reference.sparse(ids), atol=1e-4)
    found = JointDense(encoder, queries="static").encode_queries([text])[0]
    np.testing.assert_allclose(found, reference.static(ids), atol=0.03)  # 8 bits a number


@pytest.mark.parametrize("kind", [KINDS[1], KINDS[2]], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_vocabulary_tiles_change_nothing(kind, precision, case, tmp_path, monkeypatch):
    *_, encoder = case(kind, precision)
    monkeypatch.setattr(precision_module, "VOCABULARY_TILE", 7)
    build(make_joint(kind, tmp_path / "checkpoint"), tmp_path / "tiled", head="joint", precision=precision)
    tiled = load_joint(tmp_path / "tiled").learned.encode_documents(TEXTS).toarray()
    np.testing.assert_allclose(tiled, encoder.learned.encode_documents(TEXTS).toarray(), atol=2e-6)

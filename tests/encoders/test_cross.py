"""Cross-encoders: a tiny ONNX one against plain numpy, and, with torch, against sentence-transformers."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders import EncoderError
from plait.encoders.cross import CrossEncoder, OnnxCrossEncoder, load_cross, logits, shared_cross

from .cross_folders import GOLDEN, LONGEST, make_cross, reference

WORDS = ["search", "engine", "dense", "sparse", "vector", "snow", "é", "\ud800", "", "42"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_cross(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def cross(folder):
    return load_cross(folder)


def test_scores_are_those_of_the_reference(cross, texts):
    found = cross.score("a search engine", texts)
    assert found.dtype == np.float32
    assert found.shape == (len(texts),)
    np.testing.assert_allclose(found, reference("a search engine", texts), atol=1e-4)
    assert len(set(np.round(found, 3).tolist())) > len(texts) // 2  # they differ: the comparison says something


@settings(max_examples=30)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=6), budget=st.integers(1, 90)
)
def test_a_batch_is_its_texts_one_by_one(folder, texts, budget):
    small = OnnxCrossEncoder(folder, token_budget=budget, threads=2)
    together = small.score("sparse vectors", texts)
    alone = [float(small.score("sparse vectors", [text])[0]) for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.tolist() == small.score("sparse vectors", texts).tolist()


def test_long_pairs_are_cut_as_the_tokenizer_cuts_them(folder, texts):
    for length in (8, LONGEST):
        found = load_cross(folder, max_length=length).score(texts[0], texts)
        np.testing.assert_allclose(found, reference(texts[0], texts, length), atol=1e-4)


def test_the_identity_says_what_moves_a_score(folder, cross):
    assert isinstance(cross, CrossEncoder)
    assert (cross.identity.name, cross.identity.activation) == (str(folder), "logit")
    assert cross.identity.max_length == LONGEST
    assert cross.identity.differences(load_cross(folder, max_length=9).identity) == ["max_length"]


def test_two_outputs_are_the_second_against_the_first(tmp_path, texts):
    two = load_cross(make_cross(tmp_path / "two", outputs=2)).score("search", texts)
    np.testing.assert_allclose(two, 2 * np.array(reference("search", texts)), atol=1e-4)


def test_the_model_may_lie_where_the_hub_puts_it(tmp_path):
    found = load_cross(make_cross(tmp_path / "hub", inside="onnx"))
    np.testing.assert_allclose(found.score("search", ["a text"]), reference("search", ["a text"]), atol=1e-4)


def test_a_model_is_loaded_once(folder):
    assert shared_cross(folder) is shared_cross(str(folder))
    assert shared_cross(folder, 9) is not shared_cross(folder)
    assert shared_cross(folder, 9).identity.max_length == 9


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "needs the file .*tokenizer.json, which cannot be read"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json is no tokenizer"),
        (lambda folder: (folder / "model.onnx").write_text("no model"), "onnxruntime refuses"),
        (
            lambda folder: make_cross(folder, inputs=("input_ids", "pixels")),
            "has the inputs input_ids, pixels; a cross",
        ),
    ],
)
def test_a_folder_that_cannot_be_opened_says_why(tmp_path, break_it, text):
    folder = make_cross(tmp_path / "broken")
    break_it(folder)
    with pytest.raises(EncoderError, match=text):
        load_cross(folder)


def test_what_is_no_cross_encoder_says_so(tmp_path, cross, folder):
    with pytest.raises(
        EncoderError, match=r"gives an output of shape \(1, 3\); a cross-encoder gives one number a pair"
    ):
        load_cross(make_cross(tmp_path / "three", outputs=3)).score("a", ["b"])
    with pytest.raises(EncoderError, match="it is neither a folder that exists nor a hub name"):
        load_cross("nowhere")
    with pytest.raises(EncoderError, match="text 1 is a int, expected a str"):
        cross.score("a", ["b", 3])
    with pytest.raises(EncoderError, match="max_length is 2, expected a whole number from 5"):
        load_cross(folder, max_length=2)
    assert cross.score("a", []).shape == (0,)


def test_a_missing_package_is_named_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EncoderError, match=r'needs the package sentence_transformers .*: pip install "plait\[torch\]"'):
        load_cross(tmp_path)


@pytest.mark.parametrize(("output", "expected"), [([1, 2], [1, 2]), ([[1], [2]], [1, 2]), ([[1, 3], [5, 2]], [2, -3])])
def test_logits_of_every_shape(output, expected):
    assert logits(np.array(output, np.float16), "it").tolist() == expected


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BertForSequenceClassification as transformers writes it, and exported to ONNX by torch."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = BertConfig(vocab_size=180, max_position_embeddings=64, num_labels=1, initializer_range=0.4, **sizes)
    model = BertForSequenceClassification(config).eval()
    checkpoint, exported = tmp_path_factory.mktemp("checkpoint"), tmp_path_factory.mktemp("exported")
    model.save_pretrained(checkpoint)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones((2, 7), dtype=torch.int64)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, ids, mask, types):
            return self.inner(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

    axes = {**{name: {0: "batch", 1: "length"} for name in names}, "logits": {0: "batch"}}
    torch.onnx.export(
        Plain(), (ids, ids, ids), str(exported / "model.onnx"), input_names=names, output_names=["logits"],
        dynamic_axes=axes, dynamo=False, opset_version=17,
    )  # fmt: skip
    for folder in (checkpoint, exported):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(GOLDEN / "bert-pooled" / file, folder / file)
    return checkpoint, exported


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("length", [None, 12])
def test_onnx_and_torch_equal_sentence_transformers(bert, texts, length):
    from sentence_transformers import CrossEncoder as Original

    checkpoint, exported = bert
    pairs = [("a search engine", text) for text in texts]
    original = Original(str(checkpoint), device="cpu", max_length=length)
    theirs = original.predict(pairs, activation_fn=pytest.importorskip("torch").nn.Identity())
    assert np.ptp(theirs) > 0.1
    for folder in (checkpoint, exported):
        found = load_cross(folder, max_length=length)
        np.testing.assert_allclose(found.score("a search engine", texts), theirs, atol=1e-4)
        assert found.score("a", []).shape == (0,)
    assert load_cross(checkpoint).identity == load_cross(checkpoint).identity


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_what_sentence_transformers_cannot_open_says_so(tmp_path):
    pytest.importorskip("sentence_transformers")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="sentence-transformers cannot open"):
        load_cross(tmp_path)

"""Building a folder: bytes, options, command line, numbers that cannot saturate."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from plait.encoders import EncoderError, load_dense, load_learned
from plait.encoders.build import build, main
from plait.encoders.precision import saturation_free


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("name", "head"), [("bert-pooled", "dense"), ("bert-masked", "learned")])
def test_the_same_checkpoint_gives_the_same_bytes(name, head, precision, golden, tmp_path):
    for out in ("one", "two"):
        build(golden / name, tmp_path / out, head=head, precision=precision)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert list(contents(tmp_path / "one")) == ["model.onnx", "plait.json", "tokenizer.json"]


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.floats(-4, 4, width=32)))
@settings(max_examples=200, deadline=None)
def test_sums_of_two_products_stay_in_16_bits(weight):
    codes = np.rint(weight / saturation_free(weight)).astype(int)
    assert np.abs(codes).max() <= 127
    padded = np.pad(codes, ((0, len(codes) % 2), (0, 0))).reshape(-1, 2, codes.shape[1])
    worst = [255 * np.maximum(sign * padded, 0).sum(axis=1).max() for sign in (1, -1)]
    assert max(worst) <= 32767


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_weights_that_were_codes_become_the_same_codes(seed, rows, columns):
    weight = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    scales = saturation_free(weight)
    codes = np.rint(weight / scales)
    again = saturation_free((codes * scales).astype(np.float32))
    np.testing.assert_array_equal(np.rint(codes * scales / again), codes)


def test_weights_of_zero_are_fine(tmp_path):
    assert saturation_free(np.zeros((4, 3), np.float32)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"head": "both"}, "head 'both' is not one of dense, learned"),
        ({"head": "learned", "precision": "int4"}, "precision 'int4' is not one of fp32, int8"),
        ({"head": "learned", "activation": "relu"}, "activation 'relu' is not one of log1p, log1p_log1p"),
        ({"head": "learned", "pooling": "mean"}, "pooling and normalize are for a dense head"),
        ({"head": "dense", "pooling": "median"}, "pooling 'median' is not one of mean, cls, max"),
        ({"head": "dense", "activation": "log1p"}, "activation 'log1p' is for a learned head"),
        ({"head": "dense", "max_length": 65}, "max_length is 65, expected a whole number from 3 to 64"),
    ],
)
def test_unknown_options(options, reason, golden, tmp_path):
    with pytest.raises(EncoderError, match=reason):
        build(golden / "bert-masked", tmp_path / "out", **options)


def test_command_line(golden, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main([str(golden / "bert-pooled"), str(out), "--head", "dense", "--precision", "fp32", "--name", "tiny"]) == 0
    )
    assert json.loads(capsys.readouterr().out) == json.loads((out / "plait.json").read_text())
    assert load_dense(out)._model.folder.manifest.name == "tiny"


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out"), "--head", "dense"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_own_query_weights(golden, tmp_path):
    import shutil

    folder = shutil.copytree(golden / "bert-masked", tmp_path / "checkpoint")
    (folder / "idf.json").write_text(json.dumps({"search": 2.5, "the": 0.0, "of": 0.25, "[CLS]": 9.0, "nothing": 1}))
    build(folder, tmp_path / "out", head="learned", precision="fp32")
    encoder = load_learned(tmp_path / "out")
    assert encoder.identity.query_weights == "encoder"
    query = encoder.encode_queries(["the search of vector search"])
    names = encoder.term_names("the search of vector search")
    weights = {names[column]: float(weight) for column, weight in zip(query.indices, query.data, strict=True)}
    assert weights == {"search": 2.5, "of": 0.25}


def test_prompts_and_weights_are_part_of_the_revision(golden, tmp_path):
    import shutil

    plain = build(golden / "bert-pooled", tmp_path / "plain", head="dense", precision="fp32")
    folder = shutil.copytree(golden / "bert-pooled", tmp_path / "checkpoint")
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    prompted = build(folder, tmp_path / "prompted", head="dense", precision="fp32")
    assert prompted.files == plain.files
    assert prompted.identity("x", 48).revision != plain.identity("x", 48).revision
    one, two = load_dense(tmp_path / "plain"), load_dense(tmp_path / "prompted")
    np.testing.assert_array_equal(two.encode_queries(["text"]), one.encode_queries(["query: text"]))
    np.testing.assert_array_equal(two.encode_documents(["text"]), one.encode_documents(["passage: text"]))

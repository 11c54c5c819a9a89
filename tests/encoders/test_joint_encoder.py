"""Joint encoders: one pass, two faces, static queries, what may be wrong with a folder."""

from __future__ import annotations

import collections
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from plait.encoders import (
    DenseEncoder,
    EncoderError,
    JointEncoder,
    SparseEncoder,
    folders,
    load_dense,
    load_joint,
    load_learned,
)
from plait.encoders import load as load_module
from plait.encoders.build import build, main
from plait.encoders.checkpoint import read_checkpoint
from plait.encoders.manifest import MANIFEST, npy, sha256
from safetensors.numpy import load_file

from .joint_folders import KINDS, LENGTH, Kind, change_config, change_tensors, make_joint

STATIC = Kind(terms=70, static=8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def checkpoint(tmp_path):
    return make_joint(STATIC, tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A built model with expansion terms, own weights and a projected query table."""
    made = tmp_path_factory.mktemp("joint")
    build(make_joint(STATIC, made / "checkpoint"), made / "tiny-joint", head="joint")
    return made / "tiny-joint"


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def replace_file(folder, name, content):
    """Writes a file of a built model and its checksum."""
    (folder / name).write_bytes(content)
    values = json.loads((folder / MANIFEST).read_text())
    values["files"][name] = sha256(content)
    (folder / MANIFEST).write_text(json.dumps(values))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3], STATIC], ids=str)
def test_the_same_checkpoint_gives_the_same_bytes(kind, precision, tmp_path):
    source = make_joint(kind, tmp_path / "checkpoint")
    for out in ("one", "two"):
        build(source, tmp_path / out, head="joint", precision=precision)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_files_of_a_model(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    arrays = ["queries-projection.npy", "queries-scales.npy", "queries.npy", "terms.npy"]
    assert sorted(manifest["files"]) == sorted([*arrays, "model.onnx", "tokenizer.json"])
    assert manifest["files"] == {name: sha256((folder / name).read_bytes()) for name in manifest["files"]}
    assert manifest["joint"] == {"activation": "max+log1p+own", "dim": 180, "literal": True, "static": True}
    codes, scales = np.load(folder / "queries.npy"), np.load(folder / "queries-scales.npy")
    assert (codes.dtype, codes.shape, scales.dtype, scales.shape) == (np.int8, (180, 8), np.float32, (180,))
    assert (manifest["head"], manifest["max_length"], manifest["activation"]) == ("joint", LENGTH, "mean+l2")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_dense_half_is_that_of_a_dense_model(precision, checkpoint, texts, tmp_path):
    joint = load_joint(checkpoint, precision=precision)
    build(checkpoint, tmp_path / "dense", head="dense", precision=precision, max_length=LENGTH)
    alone = load_dense(tmp_path / "dense")
    np.testing.assert_array_equal(joint.dense.encode_documents(texts), alone.encode_documents(texts))
    np.testing.assert_array_equal(joint.dense.encode_queries(texts), alone.encode_queries(texts))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_pass_gives_what_the_faces_give(kind, texts, tmp_path):
    joint = load_joint(make_joint(kind, tmp_path / "checkpoint"))
    rows, vectors = joint.encode_documents(texts)
    np.testing.assert_array_equal(vectors, joint.dense.encode_documents(texts))
    alone = joint.learned.encode_documents(texts)
    np.testing.assert_array_equal(rows.toarray(), alone.toarray())
    assert (rows.dtype, vectors.dtype, rows.shape) == (np.float32, np.float32, (len(texts), 180))
    assert vectors.flags.c_contiguous
    assert (rows.data > 0).all()
    assert rows.has_sorted_indices
    assert not set(rows.indices) & set(joint.folder.manifest.specials)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1], KINDS[5], *KINDS[-8:]], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vector_does_not_depend_on_its_batch(kind, precision, texts, tmp_path):
    joint = load_joint(make_joint(kind, tmp_path / "checkpoint"), precision=precision)
    rows, vectors = joint.encode_documents(texts * 3)
    alone = [joint.encode_documents([text]) for text in texts]
    np.testing.assert_allclose(vectors, np.concatenate([dense for _, dense in alone] * 3), atol=1e-5)
    expected = np.concatenate([sparse.toarray() for sparse, _ in alone] * 3)
    np.testing.assert_allclose(rows.toarray(), expected, atol=1e-5)
    for options in ({"token_budget": 1}, {"token_budget": 100_000, "threads": 1}, {"threads": 5}):
        other = load_joint(tmp_path / "checkpoint", precision=precision, **options).encode_documents(texts)
        np.testing.assert_allclose(other[1], vectors[: len(texts)], atol=1e-5)
        np.testing.assert_allclose(other[0].toarray(), expected[: len(texts)], atol=1e-5)


def test_a_face_runs_its_own_half_only(folder, tmp_path, monkeypatch):
    import onnxruntime

    ids = np.ones((2, 5), np.int64)
    ran = {}
    for wish in (["dense"], ["weights", "own"], ["dense", "weights", "own"]):
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession((folder / "model.onnx").read_bytes(), options, ["CPUExecutionProvider"])
        joint = load_joint(folder)
        monkeypatch.setattr(joint.model, "_session", session)
        joint.model.run_for(wish, ids)
        events = json.loads(Path(session.end_profiling()).read_text())
        kernels = [event for event in events if event["name"].endswith("_kernel_time")]
        ran[wish[0], len(wish)] = collections.Counter(event["args"]["op_name"] for event in kernels)
    dense, learned, both = ran.values()
    # A trunk of two layers, the second forked: one shared, one of each half.
    assert [count["MultiHeadAttention"] for count in (dense, learned, both)] == [2, 2, 3]
    assert [count["LpNormalization"] for count in (dense, learned, both)] == [1, 0, 1]
    assert [count["MatMulInteger"] for count in (dense, learned, both)] == [0, 1, 1]
    assert dense.total() < both.total()
    assert learned.total() < both.total()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_shared_layers_and_their_rows_are_there_once(precision, checkpoint, tmp_path):
    import onnx

    build(checkpoint, tmp_path / "out", head="joint", precision=precision)
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    outer = collections.Counter(node.op_type for node in graph.node)
    halves = [next(part.g for part in node.attribute if part.name == "then_branch") for node in graph.node
              if node.op_type == "If"]  # fmt: skip
    inner = [collections.Counter(node.op_type for node in half.node) for half in halves]
    assert (outer["MultiHeadAttention"], [count["MultiHeadAttention"] for count in inner]) == (1, [1, 1])
    if precision == "int8":
        # four matrices of rows a layer; those that enter the forked layers are quantised before the fork; and the
        # sparse half has its transform and its decoder more
        assert (outer["QuantizeLinear"], [count["QuantizeLinear"] for count in inner]) == (5, [3, 5])


def test_a_model_answers_without_wishes_too(folder, texts):
    import onnxruntime

    session = onnxruntime.InferenceSession((folder / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    joint = load_joint(folder)
    ids = joint.model.tokenizer.ids(["A hybrid search engine"])[0][None]
    dense, weights, own = session.run(["dense", "weights", "own"], {"input_ids": ids})
    np.testing.assert_array_equal(dense, joint.dense.encode_documents(["A hybrid search engine"]))
    assert (weights.shape, own.shape) == ((1, 70), ids.shape)


def test_protocols_and_faces(folder):
    joint = load_joint(folder)
    assert isinstance(joint, JointEncoder)
    assert isinstance(joint.dense, DenseEncoder)
    assert isinstance(joint.learned, SparseEncoder)
    assert joint.dense.joint is joint.learned.joint is joint


def test_dense_and_learned_share_one_encoder(folder):
    dense, learned = load_dense(folder), load_learned(str(folder))
    assert dense.joint is learned.joint is load_joint(folder)
    assert load_dense(folder, queries="static").joint is dense.joint
    assert load_dense(folder, max_length=LENGTH).joint is dense.joint
    for options in ({"max_length": 8}, {"threads": 1}, {"token_budget": 9}):
        assert load_dense(folder, **options).joint is not dense.joint
    before = len(load_module._joints)
    del dense, learned
    assert len(load_module._joints) < before


def test_a_model_built_anew_is_another(checkpoint, tmp_path):
    build(checkpoint, tmp_path / "out", head="joint")
    before = load_dense(tmp_path / "out")
    change_tensors(checkpoint, sparse__literal__weight=np.ones(32, np.float32))
    build(checkpoint, tmp_path / "out", head="joint")
    after = load_dense(tmp_path / "out")
    assert after.joint is not before.joint
    assert after.identity.differences(before.identity) == ["revision"]


def test_identities(folder):
    dense, learned = load_dense(folder), load_learned(folder)
    revision = json.loads((folder / MANIFEST).read_text())["files"]["model.onnx"][:16]
    assert (dense.identity.name, learned.identity.name) == (str(folder), str(folder))
    assert (dense.identity.dim, dense.identity.activation, dense.identity.revision) == (32, "mean+l2", revision)
    assert (learned.identity.dim, learned.identity.activation) == (180, "max+log1p+own")
    assert (dense.identity.query_weights, learned.identity.query_weights) == ("encoder", "idf")
    assert dense.identity.max_length == learned.identity.max_length == LENGTH
    assert load_dense(folder, queries="static").identity.differences(dense.identity) == []
    assert load_learned(folder, max_length=8).identity.differences(learned.identity) == ["max_length"]


def test_terms_move_the_learned_identity_alone(checkpoint, tmp_path):
    build(checkpoint, tmp_path / "one", head="joint")
    terms = load_file(checkpoint / "model.safetensors")["sparse.terms"]
    free = next(term for term in range(terms[-1]) if term not in terms)
    others = np.sort(np.append(terms[1:], free)).astype(np.int32)
    change_tensors(checkpoint, sparse__terms=others)
    build(checkpoint, tmp_path / "two", head="joint")
    one, two = load_joint(tmp_path / "one"), load_joint(tmp_path / "two")
    assert one.learned.identity.revision != two.learned.identity.revision
    assert one.dense.identity.revision == two.dense.identity.revision


def test_own_query_weights(checkpoint):
    (checkpoint / "idf.json").write_text(json.dumps({"search": 2.5, "the": 0.0, "of": 0.25}))
    learned = load_learned(checkpoint)
    assert (learned.identity.query_weights, load_dense(checkpoint).identity.query_weights) == ("encoder", "encoder")
    query, names = learned.encode_queries(["the search of vector"]), learned.term_names("the search of vector")
    found = {names[column]: float(weight) for column, weight in zip(query.indices, query.data, strict=True)}
    assert found == {"search": 2.5, "of": 0.25}


def test_prompts(checkpoint, texts):
    plain = load_joint(checkpoint)
    wanted = plain.encode_documents([f"text {text}" for text in texts])
    queries, learned = plain.dense.encode_queries(["ask: search"]), plain.learned.encode_queries(["search"])
    static = load_dense(checkpoint, queries="static").encode_queries(["search"])
    prompts = {"prompts": {"query": "ask: ", "document": "text "}}
    (checkpoint / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    prompted = load_joint(checkpoint)
    rows, vectors = prompted.encode_documents(texts)
    np.testing.assert_array_equal(vectors, wanted[1])
    np.testing.assert_array_equal(rows.toarray(), wanted[0].toarray())
    np.testing.assert_array_equal(prompted.dense.encode_queries(["search"]), queries)
    np.testing.assert_array_equal(prompted.learned.encode_queries(["search"]).toarray(), learned.toarray())
    np.testing.assert_array_equal(load_dense(checkpoint, queries="static").encode_queries(["search"]), static)


@pytest.mark.beside_torch
def test_learned_and_static_queries_open_no_session(folder):
    joint = load_joint(folder)
    static = load_dense(folder, queries="static")
    assert static.joint is joint
    static.encode_queries(["no session"])
    joint.learned.encode_queries(["no session"])
    assert joint.learned.term_names("no session")
    assert joint.model._session is None
    joint.dense.encode_queries(["a session"])
    assert joint.model._session is not None
    code = f"import sys; from plait.encoders import load_dense; e = load_dense({str(folder)!r}, queries='static'); "
    code += "e.encode_queries(['a query']); print([m for m in ['onnxruntime', 'torch', 'onnx'] if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_texts_without_tokens(folder):
    joint, static = load_joint(folder), load_dense(folder, queries="static")
    empty = ["", " ", "\u2603", "[MASK]"]  # a snowman is [UNK]
    rows, vectors = joint.encode_documents(empty)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Special tokens are read, so a model may expand them, but they are terms of neither side.
    assert not set(rows.indices) & set(joint.folder.manifest.specials)
    assert joint.learned.encode_queries(empty).nnz == 0
    assert (static.encode_queries(empty) == np.zeros((4, 32), np.float32)).all()
    assert np.linalg.norm(static.encode_queries(["search \u2603"])) == pytest.approx(1)


def test_no_texts(folder):
    joint = load_joint(folder)
    rows, vectors = joint.encode_documents([])
    assert (rows.shape, rows.dtype, vectors.shape, vectors.dtype) == ((0, 180), np.float32, (0, 32), np.float32)
    assert load_dense(folder, queries="static").encode_queries([]).shape == (0, 32)
    assert joint.learned.encode_queries([]).shape == (0, 180)


def test_a_text_is_read_up_to_max_length(folder):
    joint, static = load_joint(folder), load_dense(folder, queries="static")
    words = ["open"] * LENGTH + ["search"] * 20
    for encode in (joint.dense.encode_documents, static.encode_queries):
        np.testing.assert_array_equal(encode([" ".join(words)]), encode([" ".join(words[: LENGTH - 2])]))
    long, short = joint.learned.encode_documents([" ".join(words), " ".join(words[: LENGTH - 2])]).toarray()
    np.testing.assert_allclose(long, short, atol=1e-6)


def test_static_queries_count_repeats_and_no_order(folder):
    static = load_dense(folder, queries="static")
    one, other, twice = static.encode_queries(["open search", "search open", "open search search"])
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert abs(one - twice).max() > 0.01
    together = static.encode_queries(["open", "search", "vector"])
    assert [vector.tolist() for vector in together] == [
        static.encode_queries([text])[0].tolist() for text in ("open", "search", "vector")
    ]


@pytest.mark.parametrize("wrong", [None, 7, b"bytes"])
def test_a_text_that_is_no_str_is_named_by_position(wrong, folder):
    joint, static = load_joint(folder), load_dense(folder, queries="static")
    verbs = [joint.encode_documents, joint.dense.encode_documents, joint.learned.encode_documents]
    for encode in (*verbs, joint.dense.encode_queries, joint.learned.encode_queries, static.encode_queries):
        with pytest.raises(EncoderError, match=f"text 1 is a {type(wrong).__name__}, expected a str"):
            encode(["fine", wrong])


def test_a_checkpoint_is_a_joint_one_by_its_config(checkpoint, texts):
    dense, learned = load_dense(checkpoint), load_learned(checkpoint)
    assert dense.joint is learned.joint
    assert len(list((folders.cache_folder() / "models").iterdir())) == 1
    assert load_dense(checkpoint, precision="fp32").joint is not dense.joint


@pytest.fixture
def embedded(folder, tmp_path, monkeypatch):
    """Makes a tiny joint model the embedded one."""
    shutil.copytree(folder, tmp_path / "models" / "plait-mini")
    monkeypatch.setattr(folders, "MODELS", tmp_path / "models")


@pytest.mark.usefixtures("embedded")
def test_an_embedded_joint_model():
    dense, learned, static = load_dense(), load_learned(), load_dense("plait-mini-static")
    assert dense.joint is learned.joint is static.joint is load_joint() is load_joint("plait-mini")
    assert dense.identity.name == learned.identity.name == "embedded/plait-mini"
    assert static.identity.name == "embedded/plait-mini-static"
    assert (dense.queries, static.queries, load_dense(queries="static").queries) == ("transformer", "static", "static")
    assert static.identity.differences(dense.identity) == []
    for encoder in (dense, static):
        again = load_dense(encoder.identity.name)
        assert (again.identity, again.queries) == (encoder.identity, encoder.queries)
    assert load_learned("plait-mini").identity == learned.identity
    assert folders.is_embedded("plait-mini-static")


@pytest.mark.usefixtures("embedded")
def test_the_order_of_loading_does_not_matter_to_names():
    static = load_dense("plait-mini-static")
    assert load_joint().learned.identity.name == "embedded/plait-mini"
    assert static.joint is load_joint()


@pytest.mark.usefixtures("embedded")
def test_embedded_names_that_do_not_fit():
    with pytest.raises(EncoderError, match="is a name for load_dense alone: give load_learned 'plait-mini'"):
        load_learned("plait-mini-static")
    with pytest.raises(EncoderError, match="is a name for load_dense alone: give load_joint 'plait-mini'"):
        load_joint("embedded/plait-mini-static")
    with pytest.raises(EncoderError, match="is the name for static queries: use 'plait-mini' with queries"):
        load_dense("plait-mini-static", queries="transformer")
    with pytest.raises(EncoderError, match="neither 'embedded' nor 'plait-mini' nor 'plait-mini-static', nor a folder"):
        load_dense("nothing")


def test_queries_that_cannot_be(folder, built, tmp_path):
    with pytest.raises(EncoderError, match="queries 'table' is not one of transformer, static"):
        load_dense(folder, queries="table")
    with pytest.raises(EncoderError, match="has no static query table: use queries='transformer'"):
        load_dense(built("bert-pooled"), queries="static")
    with pytest.raises(EncoderError, match="has no static query table: use queries='transformer'"):
        load_dense(make_joint(Kind(), tmp_path / "plain"), queries="static")


def test_other_models_are_no_joint_ones(folder, built):
    with pytest.raises(EncoderError, match="holds a dense encoder, a joint one was asked for: use load_dense"):
        load_joint(built("bert-pooled"))
    with pytest.raises(EncoderError, match="holds a learned encoder, a joint one was asked for: use load_learned"):
        load_joint(built("bert-masked"))
    with pytest.raises(EncoderError, match="is built as int8, fp32 was asked for"):
        load_learned(folder, precision="fp32")


def test_no_joint_checkpoint(golden, tmp_path):
    with pytest.raises(EncoderError, match=r"is no joint checkpoint: .* name it: bge-m3, dupmae, promptreps"):
        load_joint(golden / "bert-pooled")
    with pytest.raises(EncoderError, match=r"config\.json has no 'plait', so this is no joint checkpoint"):
        build(golden / "bert-pooled", tmp_path, head="joint")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"version": 2}, "plait has version 2, this plait reads 1"),
        ({"branch_layers": 3}, "has branch_layers 3, expected 0 to 2, the trunk's layers"),
        ({"branch_layers": -1}, "has branch_layers -1, expected 0 to 2"),
        ({"branch_layers": True}, "has branch_layers True, expected int"),
        ({"activation": "relu"}, "activation 'relu' is not one of log1p, log1p_log1p"),
        ({"literal": None}, "has literal None, expected bool"),
        ({"max_length": 999}, "max_length is 999, expected a whole number from 3 to 64"),
    ],
)
def test_settings_that_cannot_be(values, reason, checkpoint, tmp_path):
    change_config(checkpoint, **values)
    with pytest.raises(EncoderError, match=reason):
        build(checkpoint, tmp_path / "out", head="joint")


@pytest.mark.parametrize(
    "name",
    [
        "sparse.layer.0.attention.self.key.bias",
        "sparse.layer.0.output.LayerNorm.weight",
        "sparse.transform.weight",
        "sparse.transform.bias",
        "sparse.norm.weight",
        "sparse.decoder.bias",
        "sparse.literal.weight",
        "sparse.literal.bias",
        "static.projection",
    ],
)
def test_a_missing_tensor_is_named(name, checkpoint, tmp_path):
    change_tensors(checkpoint, **{name.replace(".", "__"): None})
    with pytest.raises(EncoderError, match=rf"the weights have no tensor '{name}'"):
        build(checkpoint, tmp_path / "out", head="joint")


def floats(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("sparse.layer.0.output.dense.weight", floats(32, 32), "is 32 x 32, expected 32 x 64"),
        ("sparse.transform.weight", floats(12, 31), "is 12 x 31, expected r x 32"),
        ("sparse.transform.weight", floats(13, 32), "has 13 rows, expected an even number"),
        ("sparse.transform.bias", floats(1, 12), "is 1 x 12, expected 12"),
        ("sparse.norm.bias", floats(11), "is 11, expected 12"),
        ("sparse.decoder.weight", floats(70, 11), "is 70 x 11, expected 70 x 12"),
        ("sparse.decoder.weight", floats(69, 12), "is 69 x 12, expected 70 x 12"),
        ("sparse.decoder.bias", floats(0), "sparse.decoder.bias is empty"),
        ("sparse.decoder.weight", None, "without sparse.decoder.weight the decoder is the word table, 180 x 32, but"),
        ("sparse.terms", None, "the decoder has 70 rows for 180 vocabulary ids: sparse.terms must say"),
        ("sparse.terms", np.arange(71, dtype=np.int32), "sparse.terms is int32 71, expected 70 whole numbers"),
        ("sparse.terms", floats(70), "sparse.terms is float32 70, expected 70 whole numbers"),
        ("sparse.terms", np.arange(70, dtype=np.int32)[::-1].copy(), "sparse.terms are not ascending ids below 180"),
        ("sparse.terms", np.arange(111, 181, dtype=np.int32), "sparse.terms are not ascending ids below 180"),
        ("sparse.terms", np.arange(-1, 69, dtype=np.int32), "sparse.terms are not ascending ids below 180"),
        ("sparse.silent", floats(3), "sparse.silent is float32 3, expected one row of whole numbers"),
        ("sparse.silent", np.zeros((2, 2), np.int32), "sparse.silent is int32 2 x 2, expected one row of whole"),
        ("sparse.silent", np.array([7, 7]), "sparse.silent are not ascending ids below 180"),
        ("sparse.literal.weight", floats(32, 1), "is 32 x 1, expected 32"),
        ("sparse.literal.bias", floats(179), "is 179, expected 180"),
        ("static.table", floats(179, 8), "is 179 x 8, expected 180 x d"),
        ("static.projection", floats(32, 8), "is 32 x 8, expected 8 x 32"),
    ],
)
def test_a_tensor_of_another_shape_is_named(name, tensor, reason, checkpoint, tmp_path):
    change_tensors(checkpoint, **{name.replace(".", "__"): tensor})
    with pytest.raises(EncoderError, match=reason):
        build(checkpoint, tmp_path / "out", head="joint")


@pytest.mark.parametrize("name", ["queries.npy", "queries-scales.npy", "queries-projection.npy", "terms.npy"])
def test_a_damaged_array_is_named(name, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(bytes(content))
    with pytest.raises(EncoderError, match=rf"{name} does not match the checksum in plait\.json"):
        touch_everything(copy)
    (copy / name).unlink()
    with pytest.raises(EncoderError, match=rf"{name} cannot be read .* build the model again"):
        touch_everything(copy)


def touch_everything(folder):
    load_dense(folder, queries="static").encode_queries(["search"])
    load_joint(folder).encode_documents(["search"])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("queries.npy", npy(np.zeros((180, 9), np.int8)), r"is int8 \(180, 9\), expected int8 \(180, 8\)"),
        ("queries.npy", npy(np.zeros((180, 8), np.float32)), r"is float32 \(180, 8\), expected int8 \(180, 8\)"),
        ("queries-scales.npy", npy(np.zeros(7, np.float32)), r"is float32 \(7,\), expected float32 \(180,\)"),
        ("queries-projection.npy", npy(np.zeros((8, 3), np.float32)), r"expected float32 \(8, 32\)"),
        ("queries.npy", b"not an array", r"queries\.npy holds no array"),
    ],
)
def test_arrays_that_are_no_query_table(name, content, reason, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    replace_file(copy, name, content)
    with pytest.raises(EncoderError, match=reason):
        load_dense(copy, queries="static").encode_queries(["search"])


def test_pickles_are_not_read(folder, tmp_path):
    import io

    copy, file = shutil.copytree(folder, tmp_path / "copy"), io.BytesIO()
    np.save(file, np.array([{"a": "pickle"}], dtype=object), allow_pickle=True)
    replace_file(copy, "queries.npy", file.getvalue())
    with pytest.raises(EncoderError, match=r"queries\.npy holds no array .*allow_pickle=False"):
        load_dense(copy, queries="static").encode_queries(["search"])


def test_a_manifest_without_its_half(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    values = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**values, "joint": None}))
    with pytest.raises(EncoderError, match=r"is not a plait manifest \(head and joint contradict each other\)"):
        load_learned(copy)
    (copy / MANIFEST).write_text(json.dumps({**values, "joint": {"dim": 3}}))
    with pytest.raises(EncoderError, match="is not a plait manifest"):
        load_learned(copy)


def test_command_line(checkpoint, tmp_path, capsys):
    assert main([str(checkpoint), str(tmp_path / "out"), "--head", "joint", "--name", "tiny"]) == 0
    assert json.loads(capsys.readouterr().out)["joint"]["static"] is True
    assert load_joint(tmp_path / "out").dense.identity.name == str(tmp_path / "out")


def test_the_dense_half_is_still_a_plain_checkpoint(checkpoint, golden, texts, tmp_path):
    build(checkpoint, tmp_path / "out", head="dense", precision="fp32")
    build(golden / "bert-pooled", tmp_path / "plain", head="dense", precision="fp32")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "plain" / "model.onnx").read_bytes()
    assert read_checkpoint(checkpoint).pooling == "mean"

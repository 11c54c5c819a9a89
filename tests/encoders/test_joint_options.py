"""What a joint checkpoint may say beside the usual: how its queries are made, its pooling, its transform."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_joint, load_learned
from plait.encoders.build import build
from plait.encoders.extras import require
from plait.encoders.manifest import MANIFEST

from .joint_folders import Kind, change_config, change_tensors, make_joint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return make_joint(Kind(), tmp_path / "checkpoint")


def test_what_is_usual_may_be_said_and_changes_nothing(folder, tmp_path):
    build(folder, tmp_path / "one", head="joint")
    change_config(folder, gelu=True, pooling="max", queries="idf")
    build(folder, tmp_path / "two", head="joint")
    one, two = ((tmp_path / name) for name in ("one", "two"))
    assert (one / "model.onnx").read_bytes() == (two / "model.onnx").read_bytes()
    facts = [json.loads((each / MANIFEST).read_text())["joint"] for each in (one, two)]
    assert facts[0] == facts[1] == {"activation": "max+log1p+own", "dim": 180, "literal": True, "static": False}


def test_binary_queries(folder):
    idf = load_learned(folder)
    change_config(folder, queries="binary")
    binary = load_learned(folder)
    assert (idf.identity.query_weights, binary.identity.query_weights) == ("idf", "encoder")
    rows = binary.encode_queries(["search engine search", ""])
    assert rows.toarray().tolist() == idf.encode_queries(["search engine search", ""]).toarray().tolist()
    assert set(rows.data.tolist()) == {1.0}


def test_encoded_queries(folder, texts):
    change_config(folder, queries="encoded")
    learned = load_learned(folder)
    assert learned.identity.query_weights == "encoder"
    rows = learned.encode_queries(texts)
    np.testing.assert_array_equal(rows.toarray(), learned.encode_documents(texts).toarray())
    assert list(learned.term_names("search")) == learned.encode_queries(["search"]).indices.tolist()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", [Kind(literal=False), Kind(terms=70, literal=False), Kind(width=None)], ids=str)
def test_a_sum_is_no_less_than_the_largest_and_of_one_token_the_same(kind, precision, texts, tmp_path):
    folder = make_joint(kind, tmp_path / "made")
    largest = load_joint(folder, precision=precision)
    change_config(folder, pooling="sum")
    summed = load_joint(folder, precision=precision)
    assert summed.learned.identity.activation == "sum+log1p" + ("+own" if kind.literal else "")
    ours, theirs = (one.learned.encode_documents(texts).toarray() for one in (summed, largest))
    assert (ours >= theirs - 1e-4).all()
    assert ours.sum() > theirs.sum()
    np.testing.assert_array_equal(summed.dense.encode_documents(texts), largest.dense.encode_documents(texts))


def test_a_transform_without_activation_is_another_model(folder, texts, tmp_path):
    with_gelu = load_joint(folder, precision="fp32")
    change_config(folder, gelu=False)
    without = load_joint(folder, precision="fp32")
    assert with_gelu.learned.identity.revision != without.learned.identity.revision
    assert (with_gelu.encode_learned(texts) != without.encode_learned(texts)).nnz > 0
    np.testing.assert_array_equal(without.dense.encode_documents(texts), with_gelu.dense.encode_documents(texts))


def test_pruning_leaves_out_what_is_light_beside_the_heaviest(folder, texts):
    whole = load_joint(folder)
    change_config(folder, prune=0.5)
    pruned = load_joint(folder)
    expected = whole.encode_documents(texts)[0].toarray()
    expected[expected <= 0.5 * expected.max(axis=1, keepdims=True)] = 0
    rows, vectors = pruned.encode_documents(texts)
    np.testing.assert_array_equal(rows.toarray(), expected)
    np.testing.assert_array_equal(pruned.learned.encode_documents(texts).toarray(), expected)
    np.testing.assert_array_equal(vectors, whole.encode_documents(texts)[1])
    assert 0 < rows.nnz < whole.encode_documents(texts)[0].nnz
    assert pruned.learned.identity.activation == "max+log1p+own>0.5"
    assert pruned.learned.identity.differences(whole.learned.identity) != []
    assert pruned.dense.identity.differences(whole.dense.identity) == []


def test_damping_divides_what_is_left_by_its_norm(folder, texts):
    change_config(folder, prune=0.2)
    whole = load_joint(folder)
    change_config(folder, damping=0.4)
    damped = load_joint(folder)
    expected = whole.encode_documents(texts)[0].toarray()
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True) ** 0.4
    rows, _ = damped.encode_documents(texts)
    np.testing.assert_allclose(rows.toarray(), expected, rtol=1e-6)
    np.testing.assert_array_equal(damped.learned.encode_documents(texts).toarray(), rows.toarray())
    assert damped.learned.identity.activation == "max+log1p+own>0.2/norm^0.4"
    assert damped.learned.identity.differences(whole.learned.identity) != []
    assert damped.dense.identity.differences(whole.dense.identity) == []


def test_expansion_weighs_what_is_no_word_of_the_text(folder, texts):
    change_config(folder, prune=0.2)
    whole = load_joint(folder)
    change_config(folder, expansion=1.5, damping=0.4)
    scaled = load_joint(folder)
    expected = whole.encode_documents(texts)[0].toarray()
    own = np.zeros(expected.shape, bool)
    for row, columns in zip(own, whole.learned.encode_queries(texts).tolil().rows, strict=True):
        row[columns] = True
    assert (expected[~own] > 0).any()
    expected = np.where(own, expected, expected * 1.5)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True) ** 0.4
    rows, _ = scaled.encode_documents(texts)
    np.testing.assert_allclose(rows.toarray(), expected, rtol=1e-5)
    assert scaled.learned.identity.activation == "max+log1p+own>0.2*1.5/norm^0.4"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_silent_tokens_are_no_terms(precision, folder, texts, tmp_path):
    plain = load_joint(folder, precision=precision)
    numbers = {name: number for number, name in plain.learned.term_names("search engine of text").items()}
    silent = sorted(numbers[name] for name in ("of", "search"))
    change_tensors(folder, sparse__silent=np.array(silent, np.int32))
    joint = load_joint(folder, precision=precision)
    assert joint.folder.manifest.joint is not None
    assert joint.folder.manifest.joint.silent == silent
    rows, vectors = joint.encode_documents(texts)
    assert not set(rows.indices) & set(silent)
    assert (rows != plain.encode_documents(texts)[0]).nnz
    np.testing.assert_array_equal(rows.toarray(), joint.learned.encode_documents(texts).toarray())
    np.testing.assert_array_equal(vectors, plain.dense.encode_documents(texts))
    assert set(joint.learned.term_names("search engine of text").values()) == {"engine", "text"}
    assert joint.learned.encode_queries(["search of", "of text"]).nnz == 1
    assert joint.learned.identity.activation == "max-silent+log1p+own"
    assert joint.learned.identity.differences(plain.learned.identity) != []


def test_silent_tokens_are_not_for_a_sum(folder):
    change_config(folder, pooling="sum")
    change_tensors(folder, sparse__silent=np.array([7], np.int32))
    with pytest.raises(EncoderError, match=r"sparse\.silent is for pooling 'max', not 'sum'"):
        load_joint(folder)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_equal_tokens_of_long_texts_merge(precision, folder, tmp_path):
    plain = load_joint(folder, precision=precision)
    change_config(folder, full_layers=1, long_from=8)
    joint = load_joint(folder, precision=precision)
    facts = joint.folder.manifest.joint
    assert facts is not None
    assert (facts.full_layers, facts.long_from) == (1, 8)
    assert joint.dense.identity.activation == plain.dense.identity.activation.replace("mean", "mean-merged-in@1>=8")
    assert joint.learned.identity.activation == "max-merged-in@1>=8+log1p+own"
    assert joint.learned.identity.differences(plain.learned.identity) != []
    short, distinct, long = "search engine search engine", "a search engine of open text", "search engine text " * 4
    for text, same in ((short, True), (distinct, True), (long, False)):  # 6, 8 and 14 tokens
        (rows, vectors), (ours, theirs) = (one.encode_documents([text]) for one in (plain, joint))
        assert np.allclose(rows.toarray(), ours.toarray(), atol=1e-5) == same
        assert np.allclose(vectors, theirs, atol=1e-5) == same
        np.testing.assert_array_equal(joint.dense.encode_queries([text]), theirs)  # a query is a text like others
    texts = [short, long, "text " * 12, "search engine text open " * 3, distinct, "search text engine " * 4]
    together = joint.encode_documents(texts)
    for at, text in enumerate(texts):
        rows, vectors = joint.encode_documents([text])
        np.testing.assert_array_equal(rows.toarray()[0], together[0][at].toarray()[0])
        np.testing.assert_array_equal(vectors[0], together[1][at])


def test_merging_is_not_for_a_sum(folder):
    change_config(folder, pooling="sum", full_layers=1)
    with pytest.raises(EncoderError, match="plait has full_layers, which is for pooling 'max', not 'sum'"):
        load_joint(folder)


def test_uses_of_terms_are_counted(tmp_path, texts):
    folder = make_joint(Kind(terms=70, literal=False), tmp_path / "made")
    change_config(folder, prune=0.3)
    joint = load_joint(folder)
    terms, uses = np.load(joint.folder.path / "terms.npy"), joint.no_uses()
    for some in (texts[:4], [], texts[4:]):
        joint.count_uses(some, uses)
    rows = joint.encode_learned(texts).toarray() > 0
    assert uses.given.tolist() == np.count_nonzero(rows[:, terms], axis=0).tolist()
    assert 0 < np.count_nonzero(uses.given) < len(terms)
    holds = np.zeros(rows.shape, bool)
    for row, ids in zip(holds, joint.model.tokenizer.ids(texts), strict=True):
        row[ids] = True
    assert uses.held.tolist() == holds.sum(axis=0).tolist()
    assert uses.kept.tolist() == (holds & rows).sum(axis=0).tolist()


def test_encoded_queries_are_neither_pruned_nor_damped(folder, texts):
    change_config(folder, queries="encoded")
    whole = load_learned(folder).encode_queries(texts)
    change_config(folder, prune=0.5, damping=0.5, expansion=2)
    assert (load_learned(folder).encode_queries(texts) != whole).nnz == 0


def test_weights_that_come_with_a_joint_model(folder):
    (folder / "idf.json").write_text(json.dumps({"search": 2.5, "engine": 0.5}))
    learned = load_learned(folder)
    assert learned.identity.query_weights == "encoder"
    assert sorted(learned.encode_queries(["search engine model"]).data.tolist()) == [0.5, 2.5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gelu": "no"}, "plait has gelu 'no', expected one of True, False"),
        ({"gelu": 1}, "plait has gelu 1, expected one of True, False"),
        ({"pooling": "mean"}, "plait has pooling 'mean', expected one of max, sum"),
        ({"prune": 1}, "plait has prune 1, expected a number from 0 to below 1"),
        ({"prune": True}, "plait has prune True, expected a number from 0 to below 1"),
        ({"prune": -0.1}, "plait has prune -0.1, expected a number from 0 to below 1"),
        ({"full_layers": 9}, "plait has full_layers 9, expected 1 to 1, the layers below the branch"),
        ({"full_layers": 1.0}, "plait has full_layers 1.0, expected 1 to 1"),
        ({"full_layers": 0}, "plait has full_layers 0, expected 1 to 1"),
        ({"full_layers": 1, "long_from": -1}, "plait has long_from -1, expected a number of tokens"),
        ({"expansion": 0}, "plait has expansion 0, expected a number from 0.01 to below 100"),
        ({"expansion": -1}, "plait has expansion -1, expected a number from 0.01 to below 100"),
        ({"damping": 1.5}, "plait has damping 1.5, expected a number from 0 to below 1"),
        ({"damping": "much"}, "plait has damping 'much', expected a number from 0 to below 1"),
        ({"queries": "static"}, "plait has queries 'static', expected one of idf, binary, encoded"),
        ({"pooling": "sum", "activation": "log1p_log1p"}, "activation 'log1p_log1p'; pooling 'sum' is of 'log1p'"),
    ],
)
def test_options_that_are_wrong(folder, values, message):
    change_config(folder, **values)
    with pytest.raises(EncoderError, match=message):
        load_joint(folder)


def test_options_that_contradict_each_other(folder, tmp_path):
    change_config(folder, pooling="sum")
    with pytest.raises(EncoderError, match="is for pooling 'max'; this model sums log1p over tokens"):
        build(folder, tmp_path / "out", head="joint", activation="log1p_log1p")
    change_config(folder, pooling="max", queries="binary")
    (folder / "idf.json").write_text('{"search": 2.5}')
    with pytest.raises(EncoderError, match=r"the queries are 'binary', so idf.json has no use"):
        load_joint(folder)


def test_a_dense_model_without_a_table_has_no_static_queries(golden):
    with pytest.raises(EncoderError, match="has no static query table"):
        load_dense(golden / "bert-pooled", queries="static")


def test_the_extra_that_is_named_is_the_one_that_is_wanted():
    with pytest.raises(EncoderError, match=r'training needs the package no_such .*pip install "plait\[train\]"'):
        require("no_such", "training", "train")
    with pytest.raises(EncoderError, match=r"needs the package no_such .*pip install no_such$"):
        require("no_such", "something")

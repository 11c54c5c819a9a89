"""The model that comes with the package: both strands, and the table for static queries."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from plait.encoders import DenseEncoder, EncoderError, SparseEncoder, load_dense, load_joint, load_learned
from plait.encoders.folders import EMBEDDED_MODELS, MODELS
from plait.encoders.manifest import sha256

# Texts of which a model reads two or three tokens: rounding errors do not average out.
SHORT = {0, 1, 2, 7, 21}


@pytest.fixture(scope="module")
def dense():
    return load_dense()


@pytest.fixture(scope="module")
def learned():
    return load_learned()


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_dense_int8_against_the_textbook(dense, texts, reference):
    found = cosines(dense.encode_documents(texts), reference("plait-mini-dense"))
    longer = [position for position in range(len(texts)) if position not in SHORT]
    assert found.min() >= 0.975
    assert found[longer].min() >= 0.99
    assert found[longer].mean() >= 0.995


def test_it_stays_near_the_model_that_it_was_made_from(dense, texts, reference):
    found = cosines(dense.encode_documents(texts), reference("minilm-l6"))
    lengths = [len(ids) for ids in dense.joint.model.tokenizer.ids(texts)]
    apart = [position for position in range(len(texts)) if lengths[position] < 128]  # nothing merges
    longer = [position for position in apart if position not in SHORT]
    assert len(apart) < len(texts)
    assert found.min() >= 0.97
    assert found[apart].min() >= 0.975
    assert found[longer].min() >= 0.98
    assert found[longer].mean() >= 0.995


def test_sparse_int8_against_the_textbook(learned, texts, reference):
    expected = reference("plait-mini", learned.joint.folder.manifest.specials)
    found = learned.encode_documents(texts).toarray()
    for rows in (expected, found):  # a text without a word: what it is given is noise, and little of it
        empty = [not text.strip() for text in texts]
        assert rows[empty].max() < 0.5
        rows[empty] = 0
    known = expected.any(axis=1) & found.any(axis=1)
    assert known.sum() >= len(texts) - 4  # some have no term: no word that the model knows
    assert (expected[~known] == 0).all() or expected[~known].max() < 0.5
    close = cosines(found[known], expected[known])
    assert close.min() >= 0.97
    assert close.mean() >= 0.99


def test_static_queries_are_close_to_the_transformers(dense):
    static = load_dense(queries="static")
    queries = ["how do plants turn light into energy", "symptoms of iron deficiency", "python read a file line by line"]
    assert (cosines(static.encode_queries(queries), dense.encode_queries(queries)) > 0.7).all()
    assert static.identity.differences(dense.identity) == []
    assert load_dense("plait-mini-static").queries == "static"


def test_one_pass_gives_both(dense, learned, texts):
    sparse, vectors = load_joint().encode_documents(texts)
    assert (sparse != learned.encode_documents(texts)).nnz == 0
    np.testing.assert_array_equal(vectors, dense.encode_documents(texts))


def test_related_texts_are_closer_than_others(dense):
    query = dense.encode_queries(["how do plants turn light into energy"])
    related, other = dense.encode_documents(["Photosynthesis in leaves", "The stock market fell on Monday"])
    assert query[0] @ related > query[0] @ other + 0.2


def test_documents_are_expanded_to_words_they_do_not_hold(learned):
    texts = ["The physician prescribed penicillin.", "A car is a vehicle with wheels used for transportation."]
    for row, held, added in zip(
        learned.encode_documents(texts),
        ({"physician", "prescribed"}, {"car", "vehicle", "wheels"}),
        ({"antibiotics", "hospital", "infection", "drug"}, {"cars", "transport", "drive"}),
        strict=True,
    ):
        names = {learned.joint.model.tokenizer.token(int(column)) for column in row.indices}
        assert held | added <= names


def test_identities(dense, learned):
    for kind, encoder in (("dense", dense), ("learned", learned)):
        manifest = json.loads((MODELS / EMBEDDED_MODELS[kind] / "plait.json").read_text())
        assert encoder.identity.name == "embedded/plait-mini"
        again = {"dense": load_dense, "learned": load_learned}[kind](encoder.identity.name)
        assert again.identity == encoder.identity
        assert encoder.identity.tokenizer == manifest["files"]["tokenizer.json"][:16]
        assert encoder.identity.max_length == 256
    assert (dense.identity.dim, dense.identity.activation) == (384, "mean-merged-in@3>=128+l2")
    formula = "max-silent-merged-in@3>=128+log1p+own+0.1ln>0.03*1.5/norm^0.2"
    assert (learned.identity.dim, learned.identity.activation) == (30522, formula)
    assert (dense.identity.query_weights, learned.identity.query_weights) == ("encoder", "idf")


def test_max_length_is_part_of_the_identity():
    assert load_dense(max_length=32).identity.differences(load_dense().identity) == ["max_length"]


def test_embedded_models_by_their_own_names(dense):
    assert load_dense("plait-mini").identity.differences(dense.identity) == []


def test_protocols(dense, learned):
    assert isinstance(dense, DenseEncoder)
    assert isinstance(learned, SparseEncoder)


def test_a_query_is_presence_of_distinct_tokens(learned):
    queries = learned.encode_queries(["Search, search and SEARCH engines", "", "[CLS] [MASK] [SEP]", "☃"])
    names = learned.term_names("Search, search and SEARCH engines")
    assert sorted(names.values()) == ["engines", "search"]  # stop words and punctuation are silent
    assert list(names) == queries[0].indices.tolist()
    assert set(queries.data) == {1.0}
    assert queries.dtype == np.float32
    assert [queries[row].nnz for row in range(4)] == [2, 0, 0, 0]


def test_queries_open_no_session(learned):
    encoder = load_learned(max_length=64)  # one that no other test shares
    encoder.encode_queries(["no session"])
    encoder.term_names("no session")
    assert encoder.joint.model._session is None
    encoder.encode_documents(["a session"])
    assert encoder.joint.model._session is not None


def test_what_an_import_loads():
    heavy = ["onnxruntime", "tokenizers", "torch", "transformers", "scipy", "onnx", "numpy"]
    code = f"import sys, plait.encoders; print([m for m in {heavy} if m in sys.modules])"
    assert _output(code) == "[]"
    query = "import sys; from plait.encoders import load_learned; load_learned().encode_queries(['a query'])"
    assert _output(f"{query}; print([m for m in ['onnxruntime', 'torch', 'onnx'] if m in sys.modules])") == "[]"


def _output(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", sorted(set(EMBEDDED_MODELS.values())))
def test_manifest_matches_the_files(name):
    files = json.loads((MODELS / name / "plait.json").read_text())["files"]
    about = {"plait.json", "MODEL_CARD.md", "losses.svg", "losses-1.svg", "losses-2.svg"}
    there = {path.name for path in (MODELS / name).iterdir()} - about
    assert files == {file: sha256((MODELS / name / file).read_bytes()) for file in there}


def test_models_are_small():
    total = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
    assert total < 45_000_000


def test_a_damaged_model_is_named(tmp_path):
    folder = shutil.copytree(MODELS / "plait-mini", tmp_path / "copy")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(bytes(content))
    encoder = load_learned(folder)
    with pytest.raises(EncoderError, match=r"model\.onnx does not match the checksum in plait\.json"):
        encoder.encode_documents(["text"])


def test_a_damaged_tokenizer_is_named(tmp_path):
    folder = shutil.copytree(MODELS / "plait-mini", tmp_path / "copy")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"tokenizer\.json does not match"):
        load_learned(folder)


def test_a_missing_model_is_named(tmp_path):
    folder = shutil.copytree(MODELS / "plait-mini", tmp_path / "copy")
    (folder / "model.onnx").unlink()
    with pytest.raises(EncoderError, match=r"model\.onnx cannot be read .* build the model again"):
        load_learned(folder).encode_documents(["text"])


def test_every_unusual_text_encodes(dense, learned):
    unusual = ["\ud800 lone surrogate", "\x00", "\u202e", "a" * 20_000, "word " * 2_000]
    assert np.isfinite(dense.encode_documents(unusual)).all()
    assert learned.encode_documents(unusual).shape == (5, 30522)
    assert learned.encode_queries(unusual).shape == (5, 30522)

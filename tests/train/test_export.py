"""What is exported is what was trained: torch beside ONNX, every shape of head; query tables put into folders."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from plait.encoders import load_dense, load_joint, load_learned
from plait.encoders.joint import TermUses
from plait.train import TrainError, recipe_of, trim, with_query_table
from plait.train.export import build_model, head_tensors, write_checkpoint
from plait.train.prepare import open_base
from plait.train.trim import leave_out
from safetensors.numpy import load, load_file

from ..encoders.joint_folders import GOLDEN, Kind, make_joint
from . import tiny

SHAPES = [
    {"rank": 8, "branch": 1, "literal": True, "gelu": False},
    {"rank": 8, "branch": 2, "literal": False, "gelu": True, "activation": "log1p_log1p"},
    {"rank": 0, "branch": 0, "literal": False, "gelu": True, "query_side": "encoded"},
    {"rank": 0, "branch": 1, "literal": True, "gelu": False, "terms": 2, "query_side": "binary"},
    {"rank": 8, "branch": 0, "literal": True, "gelu": True, "terms": 2, "pooling": "sum"},
]


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "models"))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
class TestExported:
    @pytest.fixture(scope="class")
    def base(self, tmp_path_factory):
        pytest.importorskip("transformers")
        return open_base(tiny.base(tmp_path_factory.mktemp("base") / "base"))

    def live(self, base, shape, seed=0):
        """Returns recipe, idf and a model with a random head."""
        import torch
        from plait.train.live import LiveEncoder
        from plait.train.loop import Model
        from plait.train.model import Shape, SparseHead, Trunk

        usual = {"precision": "fp32", "max_length": 24, "encoder_length": 32, "terms": 0}
        recipe = recipe_of("inference-free", {**usual, **shape})
        torch.manual_seed(seed)
        trunk = Trunk(base.folder, recipe.branch)
        terms = torch.arange(7, 60, 2) if recipe.terms else None
        made = Shape(recipe.branch, recipe.rank or None, recipe.activation, recipe.pooling, recipe.literal, recipe.gelu)
        head = SparseHead(trunk, made, base.specials, terms)
        with torch.no_grad():
            for tensor in head.parameters():
                tensor.add_(torch.randn_like(tensor) * 0.2)
        idf = np.linspace(0.5, 3, base.vocabulary, dtype=np.float32)
        idf[base.specials] = 0
        model = Model(trunk, head, recipe, torch.device("cpu"))
        return recipe, idf, model, LiveEncoder(model, base, recipe, idf)

    @pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
    def test_onnx_gives_the_vectors_of_torch(self, base, shape, tmp_path):
        recipe, _, model, live = self.live(base, shape)
        write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe)
        build_model(tmp_path / "c", tmp_path / "m", name="tiny", precision="fp32")
        joint = load_joint(tmp_path / "m")
        texts = tiny.words(9)
        rows, dense = joint.encode_documents(texts)
        expected = live.encode_documents(texts)
        assert expected.nnz > len(texts)
        np.testing.assert_allclose(rows.toarray(), expected.toarray(), atol=1e-4)
        np.testing.assert_array_equal(
            dense, load_dense(base.folder, precision="fp32", max_length=32).encode_documents(texts)
        )
        np.testing.assert_allclose(
            joint.learned.encode_queries(texts).toarray(), live.encode_queries(texts).toarray(), atol=1e-4
        )
        assert joint.learned.identity.query_weights == live.identity.query_weights
        assert joint.learned.identity.activation.startswith(live.identity.activation)
        names = joint.learned.term_names("snow")
        assert names == live.term_names("snow")

    def test_an_8_bit_model_is_near(self, base, tmp_path):
        recipe, _, model, live = self.live(base, SHAPES[4])
        write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe)
        build_model(tmp_path / "c", tmp_path / "m", name="tiny")
        texts = tiny.words(9)
        expected = live.encode_documents(texts).toarray()
        found = load_learned(tmp_path / "m").encode_documents(texts).toarray()
        assert np.abs(found - expected).max() < 0.1 * expected.max()

    def test_weights_that_come_with_the_model(self, base, tmp_path):
        recipe, idf, model, live = self.live(base, {**SHAPES[0], "idf": "trained"})
        write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe, idf)
        build_model(tmp_path / "c", tmp_path / "m", name="tiny")
        learned = load_learned(tmp_path / "m")
        texts = tiny.words(5)
        np.testing.assert_allclose(
            learned.encode_queries(texts).toarray(), live.encode_queries(texts).toarray(), atol=1e-5
        )

    def test_sentence_transformers_reads_the_dense_half(self, base, tmp_path):
        library = pytest.importorskip("sentence_transformers")
        recipe, _, model, _ = self.live(base, SHAPES[0])
        write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe)
        texts = tiny.words(5)
        theirs = library.SentenceTransformer(str(tmp_path / "c"), device="cpu").encode(texts)
        ours = load_dense(base.folder, precision="fp32").encode_documents(texts)
        np.testing.assert_allclose(theirs, ours, atol=1e-5)

    def test_what_is_usual_is_not_said(self, base, tmp_path):
        recipe, _, model, _ = self.live(base, {"rank": 8, "gelu": True})
        folder = write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe)
        said = json.loads((folder / "config.json").read_text())["plait"]
        assert sorted(said) == ["activation", "branch_layers", "literal", "max_length", "version"]

    @pytest.mark.parametrize("prune", [0.0, 0.3])
    def test_what_is_not_used_is_left_out(self, base, prune, tmp_path, monkeypatch):
        monkeypatch.setattr(trim, "ENOUGH", 40)
        recipe, _, model, _ = self.live(base, {**SHAPES[0], "terms": 2, "prune": prune})
        checkpoint = write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe)
        texts, told = tiny.documents(), []
        build_model(checkpoint, tmp_path / "m", name="tiny")
        whole = load_joint(tmp_path / "m")
        uses = whole.no_uses()
        whole.count_uses(texts, uses)
        used = int(np.median(uses.given)) + 1
        options = {"used": used, "silent": "english", "on_progress": lambda *done: told.append(done)}
        leave_out(checkpoint, tmp_path / "m", texts, **options)
        assert told == [(40, 40)]
        build_model(checkpoint, tmp_path / "less", name="tiny")
        less = load_joint(tmp_path / "less")
        terms = [np.load(tmp_path / name / "terms.npy") for name in ("m", "less")]
        assert terms[1].tolist() == terms[0][uses.given >= used].tolist()
        assert 0 < len(terms[1]) < len(terms[0])
        silent = {base.tokenizer.id_to_token(number) for number in less.facts.silent}
        vocabulary = base.tokenizer.get_vocab()
        maybe = [vocabulary[token] for token in ("the", "in", "is", ".", ",") if token in vocabulary]
        expected = {base.tokenizer.id_to_token(one) for one in maybe if uses.kept[one] <= 0.2 * uses.held[one]}
        assert silent - expected <= {"for", "as", "a", "?"}  # "a" is a letter of the vocabulary, and held by none
        assert expected <= silent
        np.testing.assert_array_equal(less.dense.encode_documents(texts), whole.dense.encode_documents(texts))

    def test_few_documents_do_not_tell_what_is_used(self, base, tmp_path):
        recipe, _, model, _ = self.live(base, SHAPES[0])
        checkpoint = write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe)
        build_model(checkpoint, tmp_path / "m", name="tiny")
        before = (checkpoint / "model.safetensors").read_bytes()
        leave_out(checkpoint, tmp_path / "m", tiny.documents(), used=10**6)
        assert load_file(checkpoint / "model.safetensors").keys() == load(before).keys()

    def test_a_term_stays_where_none_is_used(self, base, tmp_path, monkeypatch):
        monkeypatch.setattr(trim, "ENOUGH", 3)
        recipe, _, model, _ = self.live(base, {**SHAPES[2], "query_side": "idf"})
        checkpoint = write_checkpoint(tmp_path / "c", base, model.trunk, model.head, recipe)
        build_model(checkpoint, tmp_path / "m", name="tiny")
        leave_out(checkpoint, tmp_path / "m", tiny.words(3), used=10**6)
        build_model(checkpoint, tmp_path / "less", name="tiny")
        assert np.load(tmp_path / "less" / "terms.npy").shape == (1,)
        assert load_joint(tmp_path / "less").encode_documents(tiny.words(3))[0].shape == (3, base.vocabulary)

    def test_a_tied_decoder_is_not_written(self, base):
        _, _, model, _ = self.live(base, SHAPES[2])
        assert "sparse.decoder.weight" not in head_tensors(model.head, model.trunk)
        _, _, model, _ = self.live(base, SHAPES[3])
        found = head_tensors(model.head, model.trunk)
        assert found["sparse.decoder.weight"].shape == (len(found["sparse.terms"]), 32)


@pytest.mark.parametrize(
    ("vocabulary", "silent"), [({"snow": 0, "tea": 1}, []), ({"the": 0, "was": 1, ".": 2, "tea": 3}, [0, 2])]
)
def test_stop_words_that_are_seldom_terms_are_silent(vocabulary, silent):
    held, kept = np.array([10, 10, 0, 10]), np.array([2, 3, 0, 0])
    assert trim._silent_tokens(vocabulary, "english", TermUses(held, held, kept)).tolist() == silent


@pytest.mark.parametrize("width", [8, 32])
def test_a_query_table_in_a_joint_folder(width, tmp_path):
    folder = make_joint(Kind(), tmp_path / "c")
    random = np.random.default_rng(1)
    table = random.standard_normal((180, width)).astype(np.float32)
    projection = random.standard_normal((width, 32)).astype(np.float32) if width != 32 else None
    before = load_joint(folder).encode_documents(["search engine"])
    with_query_table(folder, table, projection)
    encoder = load_dense(folder, queries="static")
    after = load_joint(folder).encode_documents(["search engine"])
    np.testing.assert_array_equal(after[0].toarray(), before[0].toarray())
    np.testing.assert_array_equal(after[1], before[1])
    number = load_joint(folder).model.tokenizer.number("search")
    expected = table[number] if projection is None else table[number] @ projection
    expected = expected / np.linalg.norm(expected)
    np.testing.assert_allclose(encoder.encode_queries(["search"])[0], expected, atol=0.02)


def test_a_query_table_in_a_dense_folder(tmp_path):
    shutil.copytree(GOLDEN / "bert-pooled", tmp_path / "c")
    texts = ["search engine", "open text"]
    plain = load_dense(tmp_path / "c").encode_documents(texts)
    with_query_table(tmp_path / "c", np.eye(180, 32, dtype=np.float32))
    static = load_dense(tmp_path / "c", queries="static")
    np.testing.assert_array_equal(static.encode_documents(texts), plain)
    np.testing.assert_array_equal(load_dense(tmp_path / "c").encode_documents(texts), plain)
    assert static.encode_queries(["", "search"]).shape == (2, 32)
    assert static.identity.revision == load_dense(tmp_path / "c").identity.revision


def test_tables_that_do_not_fit(tmp_path):
    folder = make_joint(Kind(), tmp_path / "c")
    with pytest.raises(TrainError, match=r"the query table is \(3, 8\), expected \(180, d\)"):
        with_query_table(folder, np.zeros((3, 8)))
    with pytest.raises(TrainError, match=r"without a projection, expected \(180, 32\)"):
        with_query_table(folder, np.zeros((180, 8)))
    with pytest.raises(TrainError, match=r"the projection is \(9, 32\), expected \(8, 32\)"):
        with_query_table(folder, np.zeros((180, 8)), np.zeros((9, 32)))
    with pytest.raises(TrainError, match=r"a query table cannot be put into .*is not a folder"):
        with_query_table(tmp_path / "no", np.zeros((180, 32)))

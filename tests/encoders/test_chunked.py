"""Long documents: windows that lose nothing, aggregates worked out by hand, one pass for both halves."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders import load_dense, load_learned
from plait.encoders.build import build
from plait.encoders.chunked import GROUP, ChunkedJoint, chunked, pool_dense, pool_sparse
from plait.encoders.contract import DenseEncoder, EncoderError, Identity, SparseEncoder
from plait.encoders.windows import Windows
from plait.retriever import Document, MismatchError, Retriever
from plait.retriever.encoders import made_with
from scipy.sparse import csr_matrix

from tests.conftest import LengthSparse, LetterDense
from tests.encoders.joint_folders import Kind, make_joint

LONG = "open search engines rank documents. " * 12 + "sparse term weights and a dense vector"
SHORT = ["open search engine", "", "a dense vector"]
TEXTS = [SHORT[0], LONG, SHORT[1], SHORT[2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("joint")
    build(make_joint(Kind(terms=70, static=8), made / "checkpoint"), made / "tiny", head="joint", precision="fp32")
    return made / "tiny"


@pytest.fixture
def faces(folder):
    return load_learned(folder, max_length=16), load_dense(folder, max_length=16)


class Watched:
    """A dense encoder that keeps what it was given."""

    def __init__(self, encoder, **identity):
        self.encoder, self.calls = encoder, []
        self.identity = encoder.identity if not identity else Identity(**{**encoder.identity.to_json(), **identity})

    def encode_documents(self, texts):
        self.calls.append(list(texts))
        return self.encoder.encode_documents(texts)

    def encode_queries(self, texts):
        return self.encoder.encode_queries(texts)


class Plain(Watched):
    """Counts of letters, not brought to length one."""

    def encode_documents(self, texts):
        return super().encode_documents(texts) * np.array([[len(text)] for text in texts], np.float32)


# Vectors


def test_short_documents_and_queries_keep_the_vectors_they_had(encoder):
    for name in ("bert-pooled", "bert-masked", "distilbert-masked"):
        plain = encoder(name, max_length=16)
        wrapped = chunked(plain)
        same = [dense_of(each) for each in (plain.encode_documents(SHORT), wrapped.encode_documents(TEXTS))]
        np.testing.assert_array_equal(same[0], same[1][[0, 2, 3]])
        queries = dense_of(plain.encode_queries(TEXTS)), dense_of(wrapped.encode_queries(TEXTS))
        np.testing.assert_array_equal(*queries)
        assert wrapped.encode_documents([]).shape == (0, plain.identity.dim)


def dense_of(found):
    return found.toarray() if hasattr(found, "toarray") else found


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_long_document_is_the_aggregate_of_its_windows(faces, how):
    _, plain = faces
    wrapped = chunked(plain, aggregate=how, size=14, overlap=3)
    windows = plain.encode_documents(wrapped.windows(LONG))
    assert len(windows) > 5
    expected = windows.mean(axis=0) if how == "mean" else windows.max(axis=0)
    found = wrapped.encode_documents(TEXTS)
    np.testing.assert_allclose(found[1], expected / np.linalg.norm(expected), atol=1e-6)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


@pytest.mark.parametrize(("how", "fold"), [("max", np.max), ("sum", np.sum), ("mean", np.mean)])
def test_sparse_weights_are_aggregated_term_by_term(faces, how, fold):
    plain, _ = faces
    wrapped = chunked(plain, aggregate=how, size=14, overlap=3)
    windows = plain.encode_documents(wrapped.windows(LONG)).toarray()
    found = wrapped.encode_documents(TEXTS)
    np.testing.assert_allclose(found.toarray()[1], fold(windows, axis=0), rtol=1e-6)
    assert found.has_canonical_format
    assert (found.dtype, found.shape) == (np.float32, (4, plain.identity.dim))


@pytest.mark.parametrize("how", ["mean", "max"])
def test_vectors_of_other_lengths_are_left_at_theirs(how):
    plain = Plain(LetterDense())
    wrapped = chunked(plain, aggregate=how, size=8, overlap=0)
    windows = wrapped.windows("aa bb cc dd ee ff gg hh")
    assert windows == ["aa bb cc dd", "ee ff gg hh"]
    (found,) = wrapped.encode_documents([" ".join(windows)])
    each = plain.encode_documents(windows)
    np.testing.assert_allclose(found, each.mean(axis=0) if how == "mean" else each.max(axis=0), rtol=1e-6)
    assert np.linalg.norm(found) > 2


@settings(max_examples=60)
@given(
    seed=st.integers(0, 9999), cuts=st.lists(st.integers(0, 6), max_size=4), count=st.integers(1, 5),
    how=st.sampled_from(["max", "sum", "mean"]),
)  # fmt: skip
def test_pools_are_folds_over_each_owner(seed, cuts, count, how):
    rng = np.random.default_rng(seed)
    sizes = [1, *cuts]
    owners = [rng.integers(0, count, size) for size in sizes]
    parts = [(rng.random((size, 7)) * (rng.random((size, 7)) < 0.5)).astype(np.float32) for size in sizes]
    vectors, numbers = np.concatenate(parts), np.concatenate(owners)
    fold = {"max": np.max, "sum": np.sum, "mean": np.mean}[how]
    expected = [fold(vectors[numbers == i], axis=0) if (numbers == i).any() else np.zeros(7) for i in range(count)]
    found = pool_sparse([csr_matrix(part) for part in parts], owners, count, how=how)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)
    if how != "sum":
        np.testing.assert_allclose(pool_dense(parts, owners, count, how=how), expected, rtol=1e-6)


def test_dense_windows_that_cancel_are_no_direction():
    parts = [np.array([[1, 0], [-1, 0], [0, 1]], np.float32)]
    np.testing.assert_array_equal(pool_dense(parts, [np.array([0, 0, 1])], 2), [[0, 0], [0, 1]])


# Memory


def test_a_document_of_twenty_thousand_tokens_is_encoded_in_bounded_groups(encoder):
    watched = Watched(encoder("bert-pooled", max_length=32))
    wrapped = chunked(watched, size=32)
    assert wrapped.windows.tokenizer is None  # what wraps an encoder hides its tokenizer: words are counted
    document = " ".join(f"word{i % 97}" for i in range(20_000))
    found = wrapped.encode_documents(["short", document, "short"])
    assert [len(call) for call in watched.calls[:-1]] == [GROUP] * (len(watched.calls) - 1)
    assert sum(map(len, watched.calls)) > 20_000 / 32
    assert max(len(window.split()) for call in watched.calls for window in call) == 24
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


# Windows

WORDS = st.sampled_from(
    ["open", "search", "engines.", "unaffable", "Ünïcode", "今天天气", "x" * 150, "a-b/c", "\ud800"]
)
SPACES = st.sampled_from([" ", "  ", "\n", ""])
# Numbered, so that a window of several words has one place only.
LONG_TEXTS = st.lists(st.tuples(WORDS, SPACES), max_size=90).map(
    lambda pairs: "".join(f"{word}{number:03}{space}" for number, (word, space) in enumerate(pairs))
)


@settings(max_examples=60)
@given(text=LONG_TEXTS, size=st.integers(8, 40), share=st.floats(0, 0.5))
def test_windows_fit_and_cover_every_word(folder, text, size, share):
    plain = load_dense(folder, max_length=40)
    windows = chunked(plain, size=size, overlap=int(share * size)).windows
    found = windows(text)
    tokens = [len(ids) for ids in plain.joint.model.tokenizer.ids(found)]
    assert max(tokens) <= size
    if len(found) == 1 and found[0] is text:
        return
    readable, covered, at = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), 0, 0
    none = "\ufffd \n"  # what is no token
    for window in found:
        at = readable.index(window, max(at, covered - len(window) + 1))  # it ends behind the one before
        assert not readable[covered:at].strip(none)
        covered = max(covered, at + len(window))
        at += 1
    assert not readable[covered:].strip(none)


def test_windows_are_about_equally_long_and_share_their_overlap(folder):
    plain = load_dense(folder, max_length=40)
    text = " ".join(f"{word}" for word in ["open", "search", "engine", "rank"] * 100)
    found = chunked(plain, overlap=8).windows(text)
    lengths = [len(ids) - 2 for ids in plain.joint.model.tokenizer.ids(found)]
    assert min(lengths) >= max(lengths) - 2
    whole = len(chunked(plain).windows._whole.encode(text, add_special_tokens=False).ids)
    assert sum(lengths) - whole == pytest.approx(8 * (len(found) - 1), abs=len(found))


def test_a_window_that_has_more_tokens_by_itself_is_cut_again():
    tokenizers = pytest.importorskip("tokenizers")
    pairs = [("a", "b"), ("ab", "ab"), ("abab", "abab")]
    vocabulary = {token: i for i, token in enumerate(["a", "b", "ab", "abab", "abababab"])}
    merging = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, pairs))
    text = "b" + "abababab" * 40 + "abab"
    found = Windows(8, 2, tokenizer=merging)(text)
    assert max(len(merging.encode(window).ids) for window in found) <= 8
    assert sum(map(len, found)) >= len(text)


def test_a_prompt_takes_room(tmp_path, golden):
    made = shutil.copytree(golden / "bert-pooled", tmp_path / "prompted")
    prompts = {"prompts": {"document": "open search engine rank: ", "query": ""}}
    (made / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    build(made, tmp_path / "built", head="dense", precision="fp32")
    plain = load_dense(tmp_path / "built", max_length=16)
    windows = chunked(plain).windows
    assert windows.prompt == ("open search engine rank: ", "")
    tokens = [len(ids) for ids in plain._model.tokenizer.ids([windows.prompt[0] + w for w in windows(LONG)])]
    assert max(tokens) == 16  # the whole window is read: longer ones would have been cut to 16
    assert all(windows._tokens(window) <= 16 for window in windows(LONG))
    with pytest.raises(EncoderError, match="a window of 8 tokens has no room beside the prompt 'open search eng"):
        chunked(plain, size=8).windows(LONG)


def test_words_are_counted_where_there_is_no_tokenizer():
    windows = chunked(LetterDense(), size=16, overlap=4).windows
    assert windows(" ".join("abcdefghijkl")) == [" ".join("abcdefghijkl")]
    found = windows(" ".join("abcdefghijklm"))
    assert found == ["a b c d e f g h", "f g h i j k l m"]
    assert max(map(len, windows("今" * 200))) <= 24


# Both halves


@pytest.fixture
def runs(monkeypatch):
    from plait.encoders.joint import JointModel

    asked, run_for = [], JointModel.run_for

    def counted(self, names, ids):
        asked.append(tuple(names))
        return run_for(self, names, ids)

    monkeypatch.setattr(JointModel, "run_for", counted)
    return asked


@pytest.mark.parametrize("ways", [(None, None), ("sum", "max"), ("max", None)])
def test_both_halves_share_one_pass(faces, runs, ways):
    learned, dense = (chunked(face, aggregate=how) for face, how in zip(faces, ways, strict=True))
    assert isinstance(learned.joint, ChunkedJoint)
    found = made_with(("learned", "dense"), {"learned": learned, "dense": dense}).encode_documents(TEXTS)
    assert set(runs) == {("dense", "weights", "own")}
    np.testing.assert_array_equal(found.dense, dense.encode_documents(TEXTS))
    np.testing.assert_array_equal(found.sparse["learned"].toarray(), learned.encode_documents(TEXTS).toarray())


def test_halves_cut_or_aggregated_otherwise_are_passes_of_their_own(faces):
    learned, dense = (chunked(face) for face in faces)
    assert learned.joint is dense.joint
    assert chunked(faces[1], overlap=1).joint is not dense.joint
    other = chunked(faces[1], aggregate="max")
    assert other.joint is not dense.joint
    assert dense.joint.ways == {"sparse": "max", "dense": "mean"}  # unchanged by it
    assert chunked(faces[0]).joint is other.joint  # the newest that fits


def test_the_terms_of_a_whole_document_count_for_idf(faces):
    learned, _ = faces
    wrapped = chunked(learned)
    rare = LONG + " zebra"
    missed = set(learned.encode_queries([rare]).indices)
    every = set(wrapped.document_terms([rare]).indices)
    assert missed < every
    specials = set(learned.joint.folder.manifest.specials)
    assert every == set(wrapped.windows._whole.encode(rare).ids) - specials
    stored = made_with(("learned",), {"learned": wrapped}).encode_documents([rare]).literal["learned"]
    assert set(stored.indices) == every


# Identity and errors


def test_the_identity_says_how_texts_are_cut(faces, tmp_path):
    learned, dense = faces
    found = chunked(learned, size=12, overlap=2).identity
    assert (found.activation, found.max_length) == (f"{learned.identity.activation}/chunks=max:size=12:overlap=2", 0)
    assert chunked(dense).identity.activation == "mean+l2/chunks=mean:size=16:overlap=2"
    assert chunked(LetterDense(), size=16).identity.activation == "count+l2/chunks=mean:size=16:overlap=2:words"
    assert found.differences(learned.identity) == ["activation", "max_length"]
    with Retriever.create(tmp_path / "i", strands="dense", dense=chunked(dense)) as made:
        made.add([Document(id="long", text=LONG), Document(id="short", text="sparse term")])
        made.commit()
        assert {hit.id for hit in made.search("dense vector")} == {"long", "short"}
    with pytest.raises(MismatchError, match=r"activation: mean.l2/chunks=mean:size=16:overlap=2 then, mean.l2 now"):
        Retriever.open(tmp_path / "i", dense=dense)


def test_the_kinds_stay_what_they_were(small_encoders):
    learned, dense = (chunked(small_encoders[name], size=16) for name in ("learned", "dense"))
    assert isinstance(learned, SparseEncoder)
    assert isinstance(dense, DenseEncoder)
    assert not isinstance(dense, SparseEncoder)
    assert learned.term_names("abc") == {3: "length-3"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregate": "sum"}, "dense vectors are aggregated by mean, max, not 'sum'"),
        ({"size": 7}, "size is 7, expected a whole number from 8 to 16"),
        ({"size": 17}, "size is 17, expected a whole number from 8 to 16"),
        ({"size": 10, "overlap": 6}, "overlap is 6, expected a whole number from 0 to 5"),
        ({"overlap": True}, "overlap is True, expected a whole number from 0 to 8"),
    ],
)
def test_options_that_cannot_be_say_why(faces, options, message):
    with pytest.raises(EncoderError, match=message):
        chunked(faces[1], **options)


def test_what_cannot_be_chunked_says_why(faces):
    with pytest.raises(EncoderError, match="sparse vectors are aggregated by max, sum, mean, not 'median'"):
        chunked(faces[0], aggregate="median")
    with pytest.raises(EncoderError, match="'lengths' reads texts of any length: give size"):
        chunked(LengthSparse())
    with pytest.raises(EncoderError, match="is chunked already"):
        chunked(chunked(faces[0]))
    with pytest.raises(EncoderError, match="or one face of a joint encoder, not OnnxJointEncoder"):
        chunked(faces[0].joint)
    with pytest.raises(EncoderError, match="text 1 is a NoneType, expected a str"):
        chunked(faces[1]).encode_documents(["a", None])

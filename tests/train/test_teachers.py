"""Teachers against slow sums; ensembles against loops, and what may not change them; vectors kept in a folder."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from plait.encoders.contract import EncoderError, SparseEncoder
from plait.encoders.lexical import Analyser, LexicalEncoder
from plait.train.encoded import SHARD, Vectors, encode, head_of, load_encoder
from plait.train.errors import TrainError
from plait.train.teachers import (
    NORMALISERS,
    DenseTeacher,
    SparseTeacher,
    Teacher,
    ensemble,
    from_vectors,
    normalised,
    teacher,
)
from scipy.sparse import csr_matrix

from ..conftest import LengthSparse, LetterDense
from .making import ANSWERS, training_set

QUERIES = ["snow in winter", "what do bees make", "rivers of ice", "winter winter ships", "zzz"]
TRAINING = training_set(ANSWERS, [(query, at) for at, query in enumerate(QUERIES)])
EVERY = np.arange(len(QUERIES)), np.arange(len(ANSWERS))

whole = st.integers(-50, 50).map(float)
matrices = st.tuples(st.integers(1, 4), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=whole)
)


def bm25(query, document, texts, k1=0.9, b=0.4):
    """BM25 as Lucene writes it, word by word."""
    cut = Analyser("english")
    bags = [Counter(cut(text)) for text in texts]
    average = sum(sum(bag.values()) for bag in bags) / len(bags)
    bag, total = Counter(cut(document)), 0.0
    for term, asked in Counter(cut(query)).items():
        df = sum(term in other for other in bags)
        rarity = math.log(1 + (len(bags) - df + 0.5) / (df + 0.5))
        length = 1 - b + b * sum(bag.values()) / average
        total += asked * rarity * bag[term] / (bag[term] + k1 * length)
    return total


def test_bm25_is_the_formula_word_by_word():
    texts = [*ANSWERS[:-1], "Ice, ice and more ice; snow, too."]
    found = teacher("bm25", training_set(texts, [(query, 0) for query in QUERIES])).scores(*EVERY)
    expected = [[bm25(query, text, texts) for text in texts] for query in QUERIES]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert found[0].argmax() == 0
    assert (found[4] == 0).all()


@given(st.lists(st.integers(0, 4), max_size=6), st.lists(st.integers(0, 5), max_size=8))
def test_any_rows_and_columns_are_those_of_the_whole(rows, columns):
    made = teacher(LexicalEncoder(), TRAINING)
    whole_table = made.scores(*EVERY)
    found = made.scores(np.array(rows, np.int64), np.array(columns, np.int64))
    assert found.shape == (len(rows), len(columns))
    np.testing.assert_array_equal(found, whole_table[np.ix_(rows, columns)])


sparse = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 12)).flatmap(
    lambda size: st.tuples(
        arrays(np.float32, (size[0], size[2]), elements=st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0])),
        arrays(np.float32, (size[1], size[2]), elements=st.sampled_from([0.0, 0.0, 0.25, 2.0])),
    )
)


@given(sparse)
def test_sparse_scores_are_inner_products(given_):
    queries, documents = given_
    made = SparseTeacher(csr_matrix(queries), csr_matrix(documents))
    found = made.scores(np.arange(len(queries)), np.arange(len(documents)))
    np.testing.assert_array_equal(found, queries @ documents.T)


def test_dense_scores_are_inner_products():
    random = np.random.default_rng(0)
    queries, documents = random.random((7, 16), np.float32), random.random((9, 16), np.float32)
    made = DenseTeacher(queries, documents)
    rows, columns = np.array([6, 0, 6]), np.array([8, 8, 1, 0])
    np.testing.assert_allclose(made.scores(rows, columns), queries[rows] @ documents[columns].T, rtol=1e-6)
    assert isinstance(made, Teacher)


def test_idf_counts_the_documents_own_terms_where_a_model_adds_others():
    encoder = LengthSparse()
    documents, own = encoder.encode_documents(ANSWERS).toarray(), encoder.encode_queries(ANSWERS).toarray()
    df = ((documents > 0) & (own > 0)).sum(axis=0)
    rarity = np.log1p((len(ANSWERS) - df + 0.5) / (df + 0.5))
    expected = (encoder.encode_queries(QUERIES).toarray() * rarity) @ documents.T
    np.testing.assert_allclose(teacher(encoder, TRAINING).scores(*EVERY), expected, rtol=1e-6)


def test_queries_and_documents_share_their_terms():
    with pytest.raises(TrainError, match=r"different terms: \(2, 3\) and \(2, 4\); encode both with one encoder"):
        SparseTeacher(csr_matrix((2, 3)), csr_matrix((2, 4)))


# Ensembles


def slowly(scores, how):
    rows = []
    for row in scores.tolist():
        low, high, mean = min(row), max(row), sum(row) / len(row)
        if how == "none":
            rows.append(row)
        elif low == high:
            rows.append([0.0] * len(row))
        elif how == "minmax":
            rows.append([(value - low) / (high - low) for value in row])
        else:
            deviation = math.sqrt(sum((value - mean) ** 2 for value in row) / len(row))
            rows.append([(value - mean) / deviation for value in row])
    return rows


@given(matrices, st.sampled_from(list(NORMALISERS)))
def test_normalising_is_what_the_loop_does(scores, how):
    np.testing.assert_allclose(normalised(scores, how), slowly(scores, how), rtol=1e-6, atol=1e-6)


@given(matrices, st.sampled_from(["minmax", "zscore"]), st.integers(1, 1000), st.integers(-1000, 1000))
def test_neither_a_factor_nor_a_constant_changes_a_normalised_score(scores, how, factor, constant):
    changed = normalised(scores * factor + constant, how)
    np.testing.assert_allclose(changed, normalised(scores, how), rtol=1e-5, atol=1e-6)


@given(matrices, st.sampled_from(["minmax", "zscore"]))
def test_the_order_of_scores_stays(scores, how):
    np.testing.assert_array_equal(
        np.sign(np.diff(normalised(scores, how).astype(np.float64), axis=1)), np.sign(np.diff(scores, axis=1))
    )


def test_an_ensemble_is_the_weighted_mean_times_its_scale():
    dense, sparse_ = teacher(LetterDense(), TRAINING), teacher("bm25", TRAINING)
    both = ensemble([dense, sparse_], weights=[3, 1], scale=20)
    parts = [np.array(slowly(each.scores(*EVERY), "minmax")) for each in (dense, sparse_)]
    np.testing.assert_allclose(both.scores(*EVERY), 20 * (0.75 * parts[0] + 0.25 * parts[1]), rtol=1e-5, atol=1e-5)
    assert both.name == "letters + bm25"
    assert both.scores(*EVERY).dtype == np.float32
    assert both.scores(np.array([], np.int64), np.arange(3)).shape == (0, 3)
    assert both.scores(np.arange(3), np.array([], np.int64)).shape == (3, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "softmax"}, "no normalisation 'softmax'; there are: minmax, zscore, none"),
        ({"weights": [1.0, 2.0]}, "a weight each, not 1 and 2"),
        ({"weights": [-1.0]}, "weights are not negative and not all 0"),
        ({"weights": [0.0]}, "weights are not negative and not all 0"),
        ({"scale": 0.0}, "the scale is above 0"),
    ],
)
def test_an_ensemble_that_cannot_be_is_an_error(options, message):
    with pytest.raises(TrainError, match=message):
        ensemble([DenseTeacher(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))], **options)


def test_an_ensemble_has_a_teacher():
    with pytest.raises(TrainError, match="one teacher or more"):
        ensemble([])


# Vectors in a folder


class Counting(LetterDense):
    """Counts the texts it encodes; breaks off after some."""

    def __init__(self, allowed=10**9):
        self.done, self.allowed = 0, allowed

    def encode_documents(self, texts):
        if self.done + len(texts) > self.allowed:
            raise KeyboardInterrupt
        self.done += len(texts)
        return super().encode_documents(texts)

    encode_queries = encode_documents


def many(count):
    return training_set([f"text {n} abc" for n in range(count)], [("a query", 0), ("b query", 1), ("a query", 2)])


def test_an_interrupted_encoding_goes_on_where_it_stopped(tmp_path):
    training, first, second = many(2 * SHARD + 5), Counting(SHARD), Counting()
    with pytest.raises(KeyboardInterrupt):
        encode(first, training, cache_folder=tmp_path)
    seen = []
    resumed = encode(second, training, cache_folder=tmp_path, on_progress=lambda *each: seen.append(each))
    assert (first.done, second.done) == (SHARD, SHARD + 5 + 2)
    fresh = encode(Counting(), training)
    np.testing.assert_array_equal(resumed.documents, fresh.documents)
    np.testing.assert_array_equal(resumed.queries, LetterDense().encode_queries(training.queries))
    assert seen[-2:] == [("documents", 2 * SHARD + 5, 2 * SHARD + 5), ("queries", 2, 2)]
    assert not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("encoder", [LetterDense(), LengthSparse(), LexicalEncoder()], ids=["dense", "learned", "bm25"])
def test_vectors_from_the_folder_are_those_encoded(tmp_path, encoder):
    made, kept = (encode(encoder, TRAINING, cache_folder=tmp_path) for _ in range(2))
    for name in ("documents", "queries", "literal"):
        one, other = getattr(made, name), getattr(kept, name)
        if one is not None and not isinstance(one, np.ndarray):
            assert one.shape == other.shape
            one, other = (np.concatenate([each.indptr, each.indices, each.data]) for each in (one, other))
        np.testing.assert_array_equal(one, other)
    expected = from_vectors(encode(encoder, TRAINING)).scores(*EVERY)
    np.testing.assert_array_equal(from_vectors(kept).scores(*EVERY), expected)


def test_a_damaged_file_is_made_again(tmp_path):
    before = encode(LetterDense(), TRAINING, cache_folder=tmp_path)
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:-40])
    after = Counting()
    np.testing.assert_array_equal(encode(after, TRAINING, cache_folder=tmp_path).documents, before.documents)
    assert after.done == len(ANSWERS) + len(QUERIES)


def test_another_encoder_or_other_texts_have_files_of_their_own(tmp_path):
    encode(LetterDense(), TRAINING, cache_folder=tmp_path)
    lengths = encode(LengthSparse(), TRAINING, cache_folder=tmp_path)
    assert lengths.strand == "learned"
    assert len(list(tmp_path.iterdir())) == 2
    other = training_set([*ANSWERS[:-1], "something else"], [(QUERIES[0], 0)])
    found = encode(LetterDense(), other, cache_folder=tmp_path)
    np.testing.assert_array_equal(found.documents, LetterDense().encode_documents(other.documents))


def test_an_encoder_that_returns_too_few_rows_is_an_error():
    class Short(LetterDense):
        def encode_documents(self, texts):
            return super().encode_documents(texts[1:])

    with pytest.raises(TrainError, match=r"returned \(5, 26\) for 6 texts; expected an array or csr_matrix \(6, dim\)"):
        encode(Short(), TRAINING)


def test_encoders_have_names():
    assert load_encoder("bm25:german").identity.name == "snowball-german"
    assert isinstance(load_encoder("learned"), SparseEncoder)
    assert not isinstance(load_encoder("embedded"), SparseEncoder)
    assert load_encoder("embedded").identity.dim == load_encoder("dense").identity.dim
    with pytest.raises(EncoderError, match="no analyser for language 'klingon'"):
        load_encoder("bm25:klingon")
    with pytest.raises(EncoderError, match="no encoder 'magic'"):
        load_encoder("magic")


@pytest.mark.parametrize(
    ("files", "head"),
    [
        ({"config.json": {"architectures": ["BertForMaskedLM"]}}, "learned"),
        ({"config.json": {"architectures": ["BertModel"]}}, "dense"),
        ({"config.json": {"architectures": ["XForMaskedLM"]}, "modules.json": [{"type": "x.Pooling"}]}, "dense"),
        (
            {"config.json": {"architectures": ["XForMaskedLM"]}, "modules.json": [{"type": "x.SpladePooling"}]},
            "learned",
        ),
        ({"config.json": {}}, "dense"),
        ({"plait.json": {"head": "learned"}}, "learned"),
    ],
)
def test_a_folder_is_opened_as_what_its_files_say(tmp_path, files, head):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert head_of(str(tmp_path)) == head


def test_vectors_say_how_they_score():
    found = encode("bm25", TRAINING)
    assert isinstance(found, Vectors)
    assert (found.strand, found.idf, found.literal) == ("lexical", True, None)
    assert encode(LengthSparse(), TRAINING).literal.shape == (6, 64)

"""Encoders of users: what they return is converted where it can be, and refused, by name, where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from plait.encoders.contract import EncoderError, Identity
from plait.index.compiled import load_kernels
from plait.retriever import Document, Retriever
from scipy.sparse import csr_matrix

from tests.conftest import LengthSparse, LetterDense

DOCUMENTS = [Document(id="a", text="bees make honey"), Document(id="b", text="a cold winter")]
QUERY = "honey bees"


class Dense(LetterDense):
    """Whose vectors are changed on the way out."""

    def __init__(self, queries=None, documents=None):
        self.queries, self.documents = queries or (lambda rows: rows), documents or (lambda rows: rows)

    def encode_documents(self, texts):
        return self.documents(super().encode_documents(texts))

    def encode_queries(self, texts):
        return self.queries(super().encode_documents(texts))


class Learned(LengthSparse):
    """Whose vectors are changed on the way out."""

    def __init__(self, queries=None, documents=None, names=None):
        self.queries, self.documents = queries or (lambda rows: rows), documents or (lambda rows: rows)
        self.names = names or (lambda names: names)

    def encode_documents(self, texts):
        return self.documents(super().encode_documents(texts))

    def encode_queries(self, texts):
        return self.queries(super().encode_queries(texts))

    def term_names(self, text):
        return self.names(super().term_names(text))


def scores(folder, **encoders):
    with Retriever.create(folder, **{"dense": LetterDense(), "learned": LengthSparse(), **encoders}) as made:
        made.add(DOCUMENTS)
        made.commit()
        return [(hit.id, hit.score) for hit in made.search(QUERY, pipeline="none")]


def changed(rows, at, value):
    rows = rows.copy()
    (rows.data if hasattr(rows, "indptr") else rows)[at] = value
    return rows


def doubled(rows):
    """Returns the same matrix with every entry as two halves, columns descending."""
    order = np.concatenate([np.arange(end - 1, start - 1, -1) for start, end in zip(rows.indptr, rows.indptr[1:])])  # noqa: B905
    columns, weights = np.repeat(rows.indices[order], 2), np.repeat(rows.data[order] / 2, 2)
    return csr_matrix((weights, columns, 2 * rows.indptr), rows.shape)


def outside(rows):
    """Returns the same matrix with a column that its shape has no room for."""
    rows = rows.copy()
    rows.indices[-1] = 64
    return rows


@pytest.mark.parametrize("form", ["f8", "f2", ">f4", "fortran", "view", "list"])
def test_dense_vectors_of_every_form_are_those_of_float32(tmp_path, form):
    forms = {
        "fortran": np.asfortranarray,
        "view": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
        "list": lambda rows: rows.tolist(),
    }
    load_kernels()
    other = forms.get(form, lambda rows: rows.astype(form))
    rounded = Dense(*[lambda rows: np.asarray(other(rows)).astype(np.float32)] * 2)
    assert scores(tmp_path / "a", dense=Dense(other, other)) == scores(tmp_path / "b", dense=rounded)


def test_what_is_float32_already_is_not_copied():
    from plait.retriever.encoded import dense_rows, sparse_rows

    rows, sparse = np.ones((2, 26), np.float32), LengthSparse().encode_queries([QUERY])
    assert dense_rows(rows, LetterDense.identity, 2, "encode_queries") is rows
    assert sparse_rows(sparse, LengthSparse.identity, 1, "encode_queries") is sparse


@pytest.mark.parametrize("form", ["csc", "coo", "lil", "dok", "doubled", "float64", "int"])
def test_sparse_vectors_of_every_form_are_those_of_csr(tmp_path, form):
    forms = {
        "doubled": doubled,
        "float64": lambda rows: rows.astype(np.float64),
        "int": lambda rows: rows.ceil().astype(np.int64),
    }
    other = forms.get(form, lambda rows: rows.asformat(form))
    plain = (lambda rows: rows.ceil()) if form == "int" else (lambda rows: rows)
    found = scores(tmp_path / "a", learned=Learned(other, other))
    assert found == scores(tmp_path / "b", learned=Learned(plain, plain))
    assert [id for id, _ in found] == ["a", "b"]


DENSE_WRONG = [
    (lambda rows: rows[:, :25], "an array of the shape ({n}, 25)"),
    (lambda rows: rows[:-1], "an array of the shape ({less}, 26)"),
    (lambda rows: rows[0], "an array of the shape (26,)"),
    (lambda rows: None, "None"),
    (lambda rows: [[1.0], [1.0, 2.0]], "an object of the class list"),
    (lambda rows: rows.astype(str), "an object of the class ndarray"),
    (lambda rows: changed(rows, (0, 3), np.nan), "NaN or infinite numbers, or some too large for float32"),
    (lambda rows: changed(rows.astype(float), (0, 3), 1e300), "NaN or infinite numbers, or some too large for float32"),
]
LEARNED_WRONG = [
    (lambda rows: rows.toarray(), "an object of the class ndarray"),
    (lambda rows: rows.toarray().tolist(), "an object of the class list"),
    (lambda rows: None, "None"),
    (lambda rows: rows[:-1], "a matrix of the shape (1, 64)"),
    (lambda rows: rows[:, :60], "a matrix of the shape (2, 60)"),
    (outside, "columns from 1 to 64"),
    *(
        (lambda rows, value=value: changed(rows, 0, value), "negative, NaN or infinite weights, or some too large for")
        for value in (-1.0, np.nan, np.inf)
    ),
]
SIDES = [("encode_queries", "queries", 1), ("encode_documents", "documents", 2)]


@pytest.mark.parametrize(("verb", "side", "texts"), SIDES)
@pytest.mark.parametrize(("make", "found"), DENSE_WRONG)
def test_dense_vectors_that_are_none(tmp_path, verb, side, texts, make, found):
    with pytest.raises(EncoderError) as caught:
        scores(tmp_path / "a", dense=Dense(**{side: make}))
    expected = f"expected an array ({texts}, 26) of finite numbers"
    assert str(caught.value).startswith(f"{verb} of the encoder 'letters' returned")
    assert found.format(n=texts, less=texts - 1) in str(caught.value)
    assert str(caught.value).endswith(expected)


@pytest.mark.parametrize(("verb", "side"), [("encode_queries", "queries"), ("encode_documents", "documents")])
@pytest.mark.parametrize(("make", "found"), LEARNED_WRONG)
def test_sparse_vectors_that_are_none(tmp_path, verb, side, make, found):
    with pytest.raises(EncoderError) as caught:
        scores(tmp_path / "a", learned=Learned(**{side: make}))
    expected = "expected a scipy.sparse matrix (2, 64) of finite weights, none of them negative"
    assert str(caught.value).startswith(f"{verb} of the encoder 'lengths' returned")
    assert found in str(caught.value)
    assert str(caught.value).endswith(expected)


def test_names_that_are_none(tmp_path):
    with pytest.raises(EncoderError, match="term_names of the encoder 'lengths' returned None; expected names by col"):
        scores(tmp_path / "a", learned=Learned(names=lambda names: None))


@pytest.mark.parametrize("sparse", [True, False])
def test_halves_of_a_joint_encoder_that_are_none(tmp_path, sparse):
    class Joint:
        def encode_documents(self, texts):
            rows = LengthSparse().encode_documents(texts)
            return (rows, None) if sparse else rows

    learned, dense = Learned(), Dense()
    learned.joint = dense.joint = Joint()
    said = "'letters' returned None; expected an array" if sparse else "'lengths' returned an object of the class csr_"
    with pytest.raises(EncoderError, match=said):
        scores(tmp_path / "a", learned=learned, dense=dense)


class Half(LetterDense):
    encode_queries = None


class Unknown(LetterDense):
    identity = "letters"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dense": LetterDense}, "the dense encoder is the class LetterDense, not one of its objects; give a model's"),
        ({"dense": object()}, "an object of the class object without encode_documents, encode_queries; give a model's"),
        ({"dense": Half()}, "the dense encoder is an object of the class Half without encode_queries; give a model's"),
        ({"dense": Unknown()}, "the dense encoder has an object of the class str as its identity, not an Identity"),
        ({"learned": LetterDense()}, "the learned encoder is an object of the class LetterDense without term_names"),
    ],
)
def test_what_is_no_encoder(tmp_path, given, said):
    with pytest.raises(EncoderError, match=said):
        scores(tmp_path / "a", **given)
    assert not (tmp_path / "a").exists()


def test_query_weights_have_two_values():
    with pytest.raises(EncoderError, match="query_weights of 'mine' is 'IDF'; expected 'encoder' or 'idf'"):
        Identity("mine", "1", "words", "tf", 0, 64, "IDF")

"""Weighted terms as texts: what they weigh, what is no weight, and the vocabulary on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.encoders import load_learned
from plait.encoders.contract import EncoderError, SparseEncoder
from plait.encoders.terms import SPARE, TERMS_FILE, TermsEncoder, weighted

WORDS = ["snow", "melt", "x", "x^2", "^", "##ing"]


@pytest.fixture
def terms():
    return TermsEncoder(WORDS)


def weights(encoder, text):
    row, names = encoder.encode_queries([text]), encoder.term_names(text)
    return {names[c]: w for c, w in zip(row.indices.tolist(), row.data.tolist(), strict=True)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("snow", {"snow": 1}),
        ("snow melt^2.5", {"snow": 1, "melt": 2.5}),
        ("snow snow snow^0.5", {"snow": 2.5}),
        ("snow^2 snow^1e1", {"snow": 12}),
        ("snow^0 melt", {"melt": 1}),
        ("x^2", {"x^2": 1}),
        ("x^2.0", {"x": 2}),
        ("x^2^3", {"x^2": 3}),
        ("^ ^^4", {"^": 5}),
        (
            "##ing\tSnow\nrain rain^3 rain^hot ^7",
            {"##ing": 1, "Snow": 1, "rain": 4, "rain^hot": 1, "^7": 1},
        ),
        ("", {}),
        (" \n", {}),
    ],
)
def test_what_a_text_weighs(terms, text, expected):
    assert weights(terms, text) == expected
    assert set(terms.term_names(text).values()) == set(expected)
    row, vocabulary = terms.encode_documents([text]), terms.vocabulary()
    stored = {vocabulary[c]: w for c, w in zip(row.indices.tolist(), row.data.tolist(), strict=True)}
    assert stored == {term: weight for term, weight in expected.items() if term in WORDS}


def test_more_unknown_terms_than_there_are_columns_share_the_last(terms):
    row = terms.encode_queries([" ".join(f"w{number}^2" for number in range(SPARE + 10))])
    assert (row.nnz, row.data.sum(), row.data.max()) == (SPARE, 2 * (SPARE + 10), 22)


@pytest.mark.parametrize("word", ["snow^", "snow^hot", "snow^-1", "snow^nan", "snow^inf", "snow^1e39"])
def test_what_is_no_weight_is_told(terms, word):
    with pytest.raises(EncoderError, match=r"'snow\^.*' gives no weight behind its \^: expected a number, 0 or more"):
        terms.encode_queries([word])


def test_one_text_instead_of_a_list_is_told(terms):
    with pytest.raises(EncoderError, match="expected a list of texts, got one str"):
        terms.encode_queries("snow")


def test_columns_are_the_sorted_terms_whatever_their_order(terms):
    assert isinstance(terms, SparseEncoder)
    assert terms.vocabulary() == sorted(WORDS)
    assert TermsEncoder(WORDS[::-1]).identity == terms.identity
    assert TermsEncoder(WORDS[1:]).identity.differences(terms.identity) == ["revision", "dim"]
    assert (terms.identity.dim, terms.identity.query_weights) == (6 + SPARE, "encoder")


def test_no_terms_and_no_texts():
    assert TermsEncoder([]).encode_queries(["snow", ""]).nnz == 1
    assert TermsEncoder([]).encode_documents(["snow", ""]).nnz == 0
    assert TermsEncoder(["a"]).encode_documents([]).shape == (0, 1 + SPARE)


@pytest.mark.parametrize(
    ("given_terms", "told"),
    [
        (["a", "b", "a"], "the term 'a' is twice in the vocabulary"),
        (["a", ""], "holds an empty term"),
        (["a", "\ud800"], "holds a term that UTF-8 cannot hold"),
    ],
)
def test_a_vocabulary_that_cannot_be(given_terms, told):
    with pytest.raises(EncoderError, match=told):
        TermsEncoder(given_terms)


@given(
    st.dictionaries(
        st.sampled_from(WORDS), st.floats(2.0**-126, 2.0**127, width=32), min_size=1
    )
)  # fmt: skip
def test_weights_come_back_to_the_last_bit(given_weights):
    assert weights(TermsEncoder(WORDS), weighted(given_weights)) == {
        term: np.float32(weight) for term, weight in given_weights.items()
    }


def test_a_saved_vocabulary_opens_with_the_same_identity(tmp_path):
    terms = TermsEncoder(["é", "a\nb", "snow"], name="mine")
    terms.save(tmp_path)
    opened = TermsEncoder.open(tmp_path)
    assert (opened.identity, opened.vocabulary()) == (terms.identity, ["a\nb", "snow", "é"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("snow", "rain"), "was changed, or is of another format: its terms do not match"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "was changed, or is of another format"),
        (lambda text: text[:-3], "cannot be read as a vocabulary .*; restore it from a copy"),
        (lambda _text: "[]", "cannot be read as a vocabulary"),
        (lambda _text: json.dumps({"terms": [1, "a"], "name": "x"}), "cannot be read as a vocabulary"),
    ],
)
def test_a_damaged_vocabulary_is_told(tmp_path, change, told):
    TermsEncoder(["snow", "melt"]).save(tmp_path)
    path = tmp_path / TERMS_FILE
    path.write_text(change(path.read_text()))
    with pytest.raises(EncoderError, match=told):
        TermsEncoder.open(tmp_path)


def test_a_lost_vocabulary_is_told(tmp_path):
    with pytest.raises(EncoderError, match=r"terms\.json is missing: the index has lost the terms of its columns"):
        TermsEncoder.open(tmp_path)


@pytest.mark.parametrize("name", ["bert-masked", "distilbert-masked"])
def test_an_encoder_tells_the_string_of_each_column(encoder, name):
    learned = encoder(name)
    vocabulary = learned.vocabulary()
    assert len(vocabulary) == len(set(vocabulary)) == learned.identity.dim
    names = learned.term_names("some snow melts")
    assert names
    assert {column: vocabulary[column] for column in names} == names


def test_the_embedded_encoder_tells_the_string_of_each_column():
    learned = load_learned()
    vocabulary = learned.vocabulary()  # type: ignore[attr-defined]
    names = learned.term_names("some snow melts")
    assert len(vocabulary) == learned.identity.dim == 30522
    assert {column: vocabulary[column] for column in names} == names

"""Queries that no dense strand hears: what they come back to, and terms near them, beside a slow oracle."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders import load_dense, load_joint, load_learned
from plait.encoders.build import build
from plait.encoders.cache import VectorCache
from plait.encoders.cached import cached_learned, cached_pair
from plait.encoders.chunked import chunked
from plait.encoders.contract import FullQueries, full_queries
from plait.encoders.paired import PairedLearned
from plait.encoders.queries import NearTerms

from .joint_folders import Kind, change_config, make_joint

FACTOR = 0.5
WORDS = ["search", "engine", "vector", "open", "a", "of", "##s", "index", "terms", "☃", "documents", "sparse"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=[Kind(static=32), Kind(terms=70, static=8)], ids=str)
def folder(request, tmp_path_factory):
    """A built model: with all terms and a table as wide as its vectors, or with some and a narrow one."""
    made = tmp_path_factory.mktemp("joint")
    change_config(make_joint(request.param, made / "checkpoint"), query_expansion=FACTOR)
    build(made / "checkpoint", made / "tiny", head="joint")
    return made / "tiny"


@pytest.fixture
def plain(tmp_path):
    """A checkpoint without a table."""
    return make_joint(Kind(), tmp_path / "checkpoint")


def expected(folder, text):
    """Returns {column: weight} of a full query, one term after the other, in float64."""
    joint = load_joint(folder)
    (ids,) = joint.model.tokenizer.id_lists([text])
    own = [token for token in ids if token not in joint.folder.manifest.specials]
    weights = {token: 1 + math.log(own.count(token)) for token in own}
    if not own:
        return {}
    codes, scales = (joint.folder.array(name) for name in ("queries.npy", "queries-scales.npy"))
    rows = codes.astype(np.float64) * scales[:, None]
    if "queries-projection.npy" in joint.folder.manifest.files:
        rows = rows @ joint.folder.array("queries-projection.npy")
    asked = rows[own].sum(axis=0)
    allowed = joint.folder.array("terms.npy").tolist() if "terms.npy" in joint.folder.manifest.files else range(180)
    near = []
    for term in allowed:
        length = np.linalg.norm(rows[term]) * np.linalg.norm(asked)
        if term in own or term in joint.folder.manifest.specials or not length:
            continue
        cosine = round(float(rows[term] @ asked / length), 4)
        if cosine > NearTerms.LEAST:
            near.append((-cosine, term))
    for cosine, term in sorted(near)[: NearTerms.MOST]:
        weights[term] = FACTOR * (-cosine - NearTerms.LEAST)
    return weights


@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_terms_near_a_query_are_those_of_the_oracle(folder, words):
    text = " ".join(words)
    rows = load_learned(folder).encode_full_queries([text])
    found, wanted = dict(zip(rows.indices.tolist(), rows.data.tolist(), strict=True)), expected(folder, text)
    # A cosine that lies between two roundings may go either way, in float32 and float64.
    assert all(abs(found.get(term, 0) - wanted.get(term, 0)) < FACTOR * 2e-4 for term in found.keys() ^ wanted.keys())
    assert all(found[term] == pytest.approx(wanted[term], abs=FACTOR * 2e-4) for term in found.keys() & wanted.keys())
    assert rows.has_sorted_indices or (np.diff(rows.indices) > 0).all()


def test_there_are_such_terms_and_they_have_names(folder):
    learned = load_learned(folder)
    own, rows = learned.encode_queries(["open search"]), learned.encode_full_queries(["open search"])
    added = sorted(set(rows.indices.tolist()) - set(own.indices.tolist()))
    assert 0 < len(added) <= NearTerms.MOST
    names = learned.column_names(rows.indices.tolist())
    assert {"open", "search"} <= set(names.values())
    assert all(names[column] == learned.vocabulary()[column] for column in added)
    assert rows.dtype == np.float32
    assert rows.shape == own.shape


def test_a_query_is_the_same_alone_and_among_others(folder):
    learned = load_learned(folder)
    texts = [" ".join(pair) for pair in itertools.permutations(WORDS[:5], 2)]
    together = learned.encode_full_queries(texts).toarray()
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(learned.encode_full_queries([text]).toarray()[0], row)


def test_what_a_query_has_twice_weighs_more(plain):
    learned = load_learned(plain)
    (twice,) = learned.encode_full_queries(["search engine search"]).toarray()
    (once,) = learned.encode_queries(["search engine search"]).toarray()
    tokens = {name: column for column, name in learned.term_names("search engine").items()}
    assert once[tokens["search"]] == twice[tokens["engine"]] == 1
    assert twice[tokens["search"]] == pytest.approx(1 + math.log(2))
    assert (twice > 0).sum() == (once > 0).sum() == 2


def test_weights_of_a_models_own_are_counted_too(plain):
    (plain / "idf.json").write_text('{"search": 2.5, "engine": 0.5}')
    learned = load_learned(plain)
    found = sorted(learned.encode_full_queries(["search engine model search"]).data.tolist())
    assert found == pytest.approx([0.5, 2.5 * (1 + math.log(2))])


def test_a_model_that_weighs_queries_weighs_near_terms_likewise(tmp_path):
    source = make_joint(Kind(static=32), tmp_path / "checkpoint")
    change_config(source, query_expansion=FACTOR)
    whole = load_learned(source)
    (by_index,) = whole.encode_full_queries(["open search"]).toarray()
    own = whole.encode_queries(["open search"]).indices.tolist()
    near = [column for column in np.flatnonzero(by_index).tolist() if column not in own]
    names = whole.column_names([*own, *near])
    kept = [*own, *near[::2]]
    (source / "idf.json").write_text(json.dumps({names[column]: 1.5 + column / 180 for column in kept}))
    (weighed,) = load_learned(source).encode_full_queries(["open search"]).toarray()
    assert near
    assert np.flatnonzero(weighed).tolist() == sorted(kept)
    for column in kept:
        assert weighed[column] == pytest.approx(by_index[column] * (1.5 + column / 180), rel=1e-6)


@pytest.mark.parametrize("texts", [[], [""], ["", "search", " "]])
def test_no_text_no_terms(folder, texts):
    rows = load_learned(folder).encode_full_queries(texts)
    assert rows.shape == (len(texts), 180)
    assert [bool(count) for count in np.diff(rows.indptr)] == [bool(text.strip()) for text in texts]


@pytest.mark.parametrize("queries", ["binary", "encoded"])
def test_queries_of_another_make_stay_as_they_are(plain, queries):
    change_config(plain, queries=queries, query_expansion=1)
    learned = load_learned(plain)
    texts = ["search engine search", "open"]
    np.testing.assert_array_equal(learned.encode_full_queries(texts).toarray(), learned.encode_queries(texts).toarray())


def test_no_document_is_moved(tmp_path):
    source = make_joint(Kind(static=8), tmp_path / "checkpoint")
    without = load_learned(source)
    change_config(source, query_expansion=FACTOR)
    having = load_learned(source)
    assert having.identity.differences(without.identity) == []
    texts = ["open search engine", ""]
    assert (having.encode_documents(texts) != without.encode_documents(texts)).nnz == 0
    assert (having.encode_queries(texts) != without.encode_queries(texts)).nnz == 0
    assert having.encode_full_queries(texts).nnz > without.encode_full_queries(texts).nnz == 3


def test_encoders_in_front_of_others_pass_them_on(folder, tmp_path):
    learned, dense = load_learned(folder), load_dense(folder)
    wanted = learned.encode_full_queries(["open search"]).toarray()
    with VectorCache(tmp_path / "vectors") as kept:
        behind = [
            cached_learned(learned, kept),
            cached_pair(learned, dense, kept)[0],
            chunked(learned, size=8, overlap=0),
            PairedLearned(learned, learned),
        ]
        for encoder in behind:
            assert not isinstance(encoder, FullQueries)
            whole = full_queries(encoder)
            assert whole is not None
            np.testing.assert_array_equal(whole.encode_full_queries(["open search"]).toarray(), wanted)
            np.testing.assert_array_equal(
                encoder.document_terms(["open search"]).toarray(), learned.encode_queries(["open search"]).toarray()
            )


def test_an_encoder_without_them_has_none(golden):
    learned = load_learned(golden / "bert-masked")
    assert full_queries(learned) is None
    assert full_queries(chunked(learned, size=8, overlap=0)) is None
    assert full_queries(object()) is None

"""Whatever is asked for, a document has one score; and a proven top k is the top k of all documents."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders.contract import EncoderError
from plait.retriever import Document, QueryError, Retriever

from tests.conftest import LengthSparse, LetterDense

WORDS = ["bee", "honey", "winter", "snow", "garden", "flower", "rain", "summer", "tree", "leaf", "river", "stone"]
FUSED = [
    "convex",
    "rrf",
    "rrf:k=5",
    "combmnz:normalise=zscore:transform=sigmoid",
    "combsum:normalise=l2",
    "logodds",
    "combmax",
    "combanz",
    "convex:normalise=dbsf",
    "convex:normalise=zscore",
    "convex:normalise=minmax",
    "convex:normalise=rank",
]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    rng = np.random.default_rng(0)
    documents = [Document(id=f"d{i:04}", text=" ".join(rng.choice(WORDS, rng.integers(1, 12)))) for i in range(1500)]
    folder = tmp_path_factory.mktemp("scores") / "my.index"
    with Retriever.create(folder, dense=LetterDense(), learned=LengthSparse()) as made:
        for part in range(0, 1500, 600):
            made.add(documents[part : part + 600])
            made.commit()
        yield made


queries = st.lists(st.sampled_from([*WORDS, "unknown"]), min_size=1, max_size=5).map(" ".join)


@pytest.mark.parametrize("pipeline", ["none", "feedback", "feedback:learned=0.5:lexical=0.3:source=both"])
@pytest.mark.parametrize("fusion", FUSED)
@settings(max_examples=4)
@given(query=queries, depth=st.sampled_from([1, 7, 200]))
def test_a_score_is_the_same_for_every_k_and_depth(retriever, query, fusion, pipeline, depth):
    whole = retriever.run({"q": query}, 1500, fusion=fusion, pipeline=pipeline, depth=1500)["q"]
    for k in (1, 10, 100, 1000):
        found = retriever.run({"q": query}, k, fusion=fusion, pipeline=pipeline, depth=depth)["q"]
        assert found == {id: whole[id] for id in found}, k


@pytest.mark.parametrize("fusion", [name for name in FUSED if name != "combanz"])
@settings(max_examples=8)
@given(query=queries, k=st.sampled_from([1, 5, 40]), depth=st.sampled_from([1, 3, 20]))
def test_a_proven_top_k_is_that_of_all_documents(retriever, query, fusion, k, depth):
    whole = list(retriever.run({"q": query}, 1500, fusion=fusion, pipeline="none", depth=1500)["q"].items())
    proven = retriever.search(query, k, fusion=fusion, pipeline="none", depth=depth, prove=True)
    assert [(hit.id, hit.score) for hit in proven] == whole[:k]
    assert proven.proof.depth >= max(k, depth)
    assert proven.proof.least is not None
    assert proven.proof.threshold < proven.proof.least or proven.proof.depth > 1500


def test_a_proof_takes_no_approximation(retriever):
    """The last that a strand proposes bounds the unseen only where the strand missed nothing."""
    seen = []

    def look(ranking):
        seen.append((ranking.search.exactness, ranking.search.exact))
        return ranking

    retriever.search("bee honey", exactness=0.5, pipeline=[look])
    retriever.search("bee honey", exactness=0.5, pipeline=[look], prove=True)
    assert seen == [(0.5, False), (1.0, True)]


def test_a_proof_tells_what_it_took(retriever):
    easy = retriever.search("bee honey", 1, pipeline="none", depth=500, prove=True).proof
    assert (easy.depth, easy.rounds) == (500, 1)
    hard = retriever.search("bee honey", 30, pipeline="none", depth=1, prove=True).proof
    assert hard.rounds > 1
    assert hard.depth == 30 * 2 ** (hard.rounds - 1)
    assert hard.candidates >= hard.depth
    assert retriever.search("bee honey").proof is None


@pytest.mark.parametrize("strands", ["lexical", "learned,lexical", "dense", "lexical,learned,dense"])
def test_a_proof_ends_where_fewer_documents_match_than_are_wanted(retriever, strands):
    proven = retriever.search("honey", 5000, strands=strands, pipeline="none", depth=10, prove=True)
    assert len(proven) == len(retriever.search("honey", 5000, strands=strands, pipeline="none"))
    assert proven.proof.depth <= 5000
    assert proven.proof.least is None  # all candidates are hits
    json.dumps(proven.to_json(), allow_nan=False)


def test_what_cannot_be_proven_says_so(retriever):
    with pytest.raises(QueryError, match="'combanz' cannot be proven: it is not monotone"):
        retriever.search("bee", fusion="combanz", prove=True)
    with pytest.raises(QueryError, match="a proof goes with steps that move the query"):
        retriever.search("bee", pipeline=[lambda ranking: ranking.scored(-ranking.fused)], prove=True)
    assert retriever.search("bee", 3, pipeline="feedback", prove=True).proof is not None


def test_min_score_leaves_out_what_is_lower(retriever):
    everything = retriever.search("bee honey", 50)
    least = everything[20].score
    assert retriever.search("bee honey", 50, min_score=least) == [hit for hit in everything if hit.score >= least]
    with pytest.raises(QueryError, match="min_score is a finite number, not nan"):
        retriever.search("bee", min_score=float("nan"))


class NoNumbers(LetterDense):
    def encode_queries(self, texts):
        return np.full((len(texts), 26), np.nan, np.float32)


def test_query_vectors_that_are_no_numbers_are_an_error(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical,dense", dense=NoNumbers()) as made:
        made.add([Document(id="a", text="bee"), Document(id="b", text="honey")])
        made.commit()
        with pytest.raises(
            EncoderError, match="encode_queries of the encoder 'letters' returned NaN or infinite numbers"
        ):
            made.search("bee")

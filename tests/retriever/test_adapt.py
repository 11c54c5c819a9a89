"""Weights that follow the look of a query."""

from __future__ import annotations

import pytest
from plait.retriever import Document, QueryError, Retriever
from plait.retriever.adapt import code_like


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("error E0425 in the compiler", ["E0425"]),
        ("part AB-1234/7", ["AB-1234/7"]),
        ("what does os.path.join do", ["os.path.join"]),
        ("read_csv is slow", ["read_csv"]),
        ("useEffect runs twice", ["useEffect"]),
        ("CVE-2024-3094", ["CVE-2024-3094"]),
        ("why is the sky blue?", []),
        ("the 19th century, in 1984, by 20%", []),
        ("well-known facts. Really", []),
        ("e.g. this", ["e.g"]),
        ("", []),
    ],
)
def test_what_looks_like_a_code(text, codes):
    assert code_like(text) == codes


@pytest.fixture
def retriever(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as made:
        made.add([Document(id="a", text="bee honey E0425"), Document(id="b", text="snow winter bees")])
        made.commit()
        yield made


WEIGHTS = {"lexical": 1.0, "learned": 2.0, "dense": 4.0}


@pytest.mark.parametrize(
    ("query", "steps", "lexical", "told"),
    [
        ("bee E0425", "adapt", 3, {"codes": 3}),
        ('"bee honey"', "adapt", 3, {"quoted": 3}),
        ('"bee E0425"', "adapt:codes=2:quoted=5", 10, {"codes": 2, "quoted": 5}),
        ("bee", "adapt:words=1:short=0.5", 0.5, {"short": 0.5}),
        ("bee honey", "adapt:words=1:short=0.5", 1, None),
    ],
)
def test_factors_multiply_the_lexical_weight(retriever, query, steps, lexical, told):
    answer = retriever.search(query, weights=WEIGHTS, pipeline=steps)
    assert answer.weights == {"lexical": lexical, "learned": 2, "dense": 4}
    assert answer.notes.get("adapt") == told
    same = retriever.search(query, weights={**WEIGHTS, "lexical": lexical}, pipeline="none")
    assert [(hit.id, hit.score) for hit in answer] == [(hit.id, hit.score) for hit in same]


def test_a_search_without_the_lexical_strand_stays_as_it_is(retriever):
    assert retriever.search("E0425", strands="dense", pipeline="adapt").weights == {"dense": 0.795}
    assert retriever.search("E0425", weights={"lexical": 1}, pipeline="adapt:codes=0").weights["lexical"] == 1
    with pytest.raises(QueryError, match="adapt takes codes of at least 0, not -1"):
        retriever.search("x", pipeline="adapt:codes=-1")

"""Weights that follow the look of a query."""

from __future__ import annotations

import pytest
from plait.retriever import Document, QueryError, Retriever
from plait.retriever.adapt import asks, code_like


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
        ("e.g. this, at 5 p.m. in the U.S.", []),
        ("kettle 1.7 l, open 24/7 from 10:30, for him and/or her", []),
        ("src/main/java or v1.7", ["src/main/java", "v1.7"]),
        ("etc/passwd on 192.168.0.1, 3.11.4", ["etc/passwd", "192.168.0.1", "3.11.4"]),
        ("1,000.50 dollars, 10:30:15, n/a, he/she", []),
        ("", []),
    ],
)
def test_what_looks_like_a_code(text, codes):
    assert code_like(text) == codes


@pytest.mark.parametrize(
    "text",
    [
        "why is the sky blue?", "how are glaciers formed", "What’s driving costs up", "in what year did it end",
        "is coffee bad for you", "Statins and cancer: how much is safe?", " WHO HAS THE MOST TITLES ", "Isn’t it?",
    ],
)  # fmt: skip
def test_what_is_a_question(text):
    assert asks(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "?", "sky blue?", "can opener", "will smith films", "who guidelines", "WHO guidelines on statins",
        "CAN bus error frames explained", "the causes of war", "in the year 1900", "statins cause cancer",
        "was ist das", "क्या यह सच है?",
    ],
)  # fmt: skip
def test_what_is_none(text):
    assert not asks(text)


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
        ("bee E0425", "adapt", 1.5, {"codes": 1.5}),
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


@pytest.mark.parametrize(
    ("query", "steps", "lexical"),
    [
        ("what do bees make?", "questions", 0.7),
        ("what do bees make?", "questions:lexical=2", 2),
        ("what do bees make?", "questions:lexical=0", 0),
        ("what do bees make?", "questions:lexical=1", 1),
        ("bees make honey", "questions", 1),
    ],
)
def test_a_question_weighs_the_lexical_strand_otherwise(retriever, query, steps, lexical):
    answer = retriever.search(query, weights=WEIGHTS, pipeline=steps)
    assert answer.weights == {"lexical": lexical, "learned": 2, "dense": 4}
    assert answer.notes.get("questions") == (None if lexical == 1 else {"lexical": lexical})
    same = retriever.search(query, weights={**WEIGHTS, "lexical": lexical}, pipeline="none")
    assert [(hit.id, hit.score) for hit in answer] == [(hit.id, hit.score) for hit in same]


def test_a_question_that_no_dense_strand_hears_stays_as_it_is(retriever):
    asked = "what do bees make?"
    for given in ({"strands": "lexical,learned"}, {"strands": "learned,dense"}, {"weights": {"lexical": 1}}):
        answer = retriever.search(asked, pipeline="questions", **given)
        assert ({name: weight for name, weight in answer.weights.items() if weight}, answer.notes) == (
            retriever.search(asked, pipeline="none", **given).weights, {},
        )  # fmt: skip
    with pytest.raises(QueryError, match="questions takes lexical of at least 0, not -1"):
        retriever.search(asked, pipeline="questions:lexical=-1")
    with pytest.raises(QueryError, match="questions multiplies a weight by 1e\\+308; give a smaller factor"):
        retriever.search(asked, weights=WEIGHTS, pipeline="questions:lexical=1e308")


def test_questions_are_weighed_by_default_where_nobody_chose_the_weights(retriever):
    own = retriever.search("what do bees make?")
    assert (own.pipeline, own.notes["questions"]) == ("questions,feedback", {"lexical": 0.7})
    assert own.weights == pytest.approx({"lexical": 0.7 * 0.135, "learned": 0.07, "dense": 0.795})
    assert retriever.search("bee", fusion="convex:normalise=bounds").pipeline == "questions,feedback"
    assert retriever.search("bee", fusion="rrf").pipeline == "feedback"
    assert retriever.search("bee", weights=WEIGHTS).pipeline == "feedback"
    retriever.settle(weights=WEIGHTS)
    retriever.commit()
    assert (retriever.info()["pipeline"], retriever.search("bee").pipeline) == ("feedback", "feedback")
    retriever.settle(pipeline="questions,feedback")
    retriever.commit()
    assert retriever.search("what do bees make?").weights["lexical"] == pytest.approx(0.7)


def test_a_search_without_the_lexical_strand_stays_as_it_is(retriever):
    assert retriever.search("E0425", strands="dense", pipeline="adapt").weights == {"dense": 0.795}
    assert retriever.search("E0425", weights={"lexical": 1}, pipeline="adapt:codes=0").weights["lexical"] == 1
    with pytest.raises(QueryError, match="adapt takes codes of at least 0, not -1"):
        retriever.search("x", pipeline="adapt:codes=-1")

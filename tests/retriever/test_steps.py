"""What every step of the pipeline has in common: scores that are a matter of query and document, and honest errors."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.retriever import STEPS, Document, QueryError, Retriever, read_pipeline

WORDS = ["bee", "honey", "winter", "snow", "garden", "flower", "rain", "summer", "tree", "leaf", "river", "stone"]
HOSTS = ["https://arxiv.org/abs/1", "http://www.example.org/a", "notes", "", None, 7]


def by_vowels(query, texts):
    """A small cross-encoder: vowels that a text has in common with the query."""
    return [float(sum(text.count(letter) for letter in set(query) & set("aeiou"))) / 10 for text in texts]


def named(given):
    """What a test is called by: the same in every process, so without where a function lies in memory."""
    return re.sub(r" at 0x\w+", "", str(given))


STEPS_TO_TRY = [
    "adapt:words=3:short=2",
    "questions",
    "collaborative:top=7",
    "collaborative:strands=dense+learned:neighbours=2:top=9",
    "mmr:top=8:trade=0.4",
    "mmr:strands=lexical:top=6",
    "clusters:top=12:clusters=3",
    "boost:field=lang:equals=en:top=9",
    "boost:field=year:top=9",
    "recency:field=date:now=2026-01-01:top=9",
    "host:field=url:top=9",
    "fields:strategy=best:top=9",
    "fields:strategy=cross:top=9",
    "fields:strategy=most:top=9",
    "fields:strategy=phrase:top=9",
    "amplitude:weight=0.3",
    "amplitude:weight=0.3:top=9",
    {"step": "rerank", "model": by_vowels, "top": 9, "weight": 0.6},
]


def some_documents(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Document(
            id=f"d{i:03}",
            title=" ".join(rng.choice(WORDS, rng.integers(0, 3))),
            text=" ".join(rng.choice(WORDS, rng.integers(1, 12))),
            metadata={
                "lang": ["en", "de"][i % 2],
                "year": [2000 + i, str(2000 + i), "unknown", None][i % 4],
                "date": ["2024-05-06", "2025", 1.7e9, "soon", None][i % 5],
                "url": HOSTS[i % len(HOSTS)],
            },
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from tests.conftest import LengthSparse, LetterDense

    with Retriever.create(tmp_path_factory.mktemp("shared") / "i", dense=LetterDense(), learned=LengthSparse()) as made:
        made.add(some_documents(300))
        made.commit()
        yield made


@pytest.mark.parametrize("step", STEPS_TO_TRY, ids=named)
@pytest.mark.parametrize("before", [[], ["feedback"]], ids=["alone", "after-feedback"])
@settings(max_examples=4)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
def test_a_score_is_the_same_to_the_last_bit_for_every_k_and_depth(shared, step, before, words):
    query, steps = " ".join(words), [*before, step]
    if step == "questions":
        query = f"what is {query}?"
    whole = {hit.id: hit.score for hit in shared.search(query, 300, pipeline=steps, depth=300)}
    for k in (1, 10, 100, 1000):
        for depth in (1, 20, 200):
            found = {hit.id: hit.score for hit in shared.search(query, k, pipeline=steps, depth=depth)}
            assert found == {id: whole[id] for id in found}


@pytest.mark.parametrize("step", STEPS_TO_TRY, ids=named)
def test_who_is_not_looked_at_stays_below_in_the_old_order(shared, step):
    before = [hit.id for hit in shared.search("honey in winter", 300, pipeline="none")]
    after = [hit.id for hit in shared.search("honey in winter", 300, pipeline=[step])]
    assert sorted(after) == sorted(before)
    if "top" in str(step):
        rest = after[12:]
        assert [id for id in before if id in rest] == rest


@pytest.mark.parametrize("step", STEPS_TO_TRY, ids=named)
def test_no_candidate_and_one_candidate(tmp_path, small_encoders, step):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        assert r.search("bee honey", pipeline=[step]) == []
        r.add([Document(id="only", text="bee honey")])
        r.commit()
        assert [hit.id for hit in r.search("bee honey", pipeline=[step])] == ["only"]
        assert [hit.id for hit in r.search("zzz", pipeline=[step])] == ["only"]


@pytest.mark.parametrize("step", [step for step in STEPS_TO_TRY if "dense" not in str(step)], ids=named)
def test_an_index_without_a_dense_strand(tmp_path, step):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(some_documents(40))
        r.commit()
        if str(step).startswith("amplitude"):
            with pytest.raises(QueryError, match="takes no part in this search: lexical"):
                r.search("bee honey", pipeline=[step])
            return
        found = r.search("bee honey", 40, pipeline=[step])
        assert {hit.id for hit in found} == {hit.id for hit in r.search("bee honey", 40, pipeline="none")}
        assert all(np.isfinite(hit.score) for hit in found)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("collaborative:top=0", "collaborative takes top of at least 1, not 0"),
        ("collaborative:weight=-0.1", "collaborative takes weight from 0 to 1, not -0.1"),
        ("collaborative:weight=nan", "takes a finite number as weight, not 'nan'"),
        ("collaborative:power=-1", "collaborative takes power of at least 0, not -1.0"),
        ("collaborative:neighbours=-1", "collaborative takes neighbours of at least 0, not -1"),
        ("collaborative:strands=fuzzy", "no strand 'fuzzy'; there are: auto, lexical, learned, dense, and several"),
        ("mmr:trade=1.5", "mmr takes trade from 0 to 1, not 1.5"),
        ("mmr:top=0", "mmr takes top of at least 1, not 0"),
        ("mmr:lambda=1", "the step 'mmr' has no option 'lambda'; its options are: strands, top, trade"),
        ("clusters:clusters=0", "clusters takes clusters of at least 1, not 0"),
        ("boost:weight=1", "boost needs the name of a metadata field: boost:field=NAME"),
        ("boost:field=year:weight=-1", "boost takes weight of at least 0, not -1.0"),
        ("boost:field=year:low=1:high=1", "boost takes a low and a high that differ, not 1 twice"),
        ("recency:halflife=0", "recency takes halflife of at least 0.001, not 0.0"),
        ("recency:now=yesterday", "takes an ISO 8601 date or seconds since 1970 as now, not 'yesterday'"),
        ("host:top=0", "host takes top of at least 1, not 0"),
        ({"step": "host", "hosts": {"a.org": 2}}, "host takes boosts from 0 to 1 as hosts, not 2 for 'a.org'"),
        ({"step": "host", "hosts": {"a.org": 1}, "equals": "a.org"}, "host takes equals or hosts, not both"),
        ("fields:strategy=fuzzy", "fields has the strategies best, cross, most, phrase, not 'fuzzy'"),
        ("fields:title=-1", "fields takes title of at least 0, not -1.0"),
        ("amplitude:weight=-1", "amplitude takes weight of at least 0, not -1.0"),
        ("rescore", "rescore needs a model: rescore:model=MODEL"),
        ({"step": "rescore", "top": 9}, "rescore needs a model: rescore:model=MODEL"),
        ("rerank", "rerank needs a model: rerank:model=FOLDER"),
        ("rerank:model=x:weight=2", "rerank takes weight from 0 to 1, not 2.0"),
        ("rerank:model=x:normalise=z", r"rerank brings scores to \[0, 1\] by sigmoid or minmax, not 'z'"),
        ({"step": "rerank", "model": by_vowels, "max_length": 9}, "rerank takes max_length with the name of a model"),
        ({"step": "rerank", "model": 3}, "the step 'rerank' takes a text or"),
    ],
    ids=named,
)
def test_a_step_that_cannot_be_taken_says_why(shared, step, text):
    with pytest.raises(QueryError, match=text):
        shared.search("bee", pipeline=[step])


def test_every_step_is_tried_here():
    names = {step["step"] if isinstance(step, dict) else step.partition(":")[0] for step in STEPS_TO_TRY}
    assert set(STEPS) - {"feedback", "parents", "rescore"} <= names  # those move the query, or have tests of their own


def test_a_strand_that_the_index_lacks_is_named(tmp_path):
    message = "made without the strand 'dense'; it has: lexical"
    with Retriever.create(tmp_path / "i", strands="lexical") as r, pytest.raises(QueryError, match=message):
        r.search("bee", pipeline="mmr:strands=dense")


def test_the_steps_of_an_index_as_a_search_takes_them(tmp_path, small_encoders):
    """Not their name: it is text, and options may be maps."""
    kept = ["feedback", {"step": "host", "field": "url", "hosts": {"a.example": 1.0, "b.example": 0.5}}]
    with Retriever.create(tmp_path / "i", pipeline=kept, **small_encoders) as retriever:
        retriever.add([Document("1", "one", metadata={"url": "http://a.example/"}), Document("2", "two")])
        retriever.commit()
        assert retriever.steps() == retriever.steps("lexical,dense") == kept
        assert retriever.steps("dense") == retriever.steps(weights={"dense": 1}) == "none"
        mine = retriever.search("one", pipeline=retriever.steps())
        assert (mine.pipeline, mine) == (retriever.info()["pipeline"], retriever.search("one"))
        with pytest.raises(QueryError, match="this index was made without the strand 'lucene'"):
            retriever.steps("lucene")
        retriever.settle(pipeline=None)
        retriever.commit()
        assert retriever.steps() == "questions,feedback"


def test_an_index_of_one_strand_takes_the_steps_that_it_keeps(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical", pipeline="boost:field=lang:equals=en:weight=5") as r:
        r.add(some_documents(4))
        r.commit()
        assert r.info()["pipeline"] == r.search("bee").pipeline == "boost:field=lang:equals=en:weight=5"
        r.settle(pipeline=None)
        r.commit()
        assert r.search("bee").pipeline == "none"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("amplitude", "the step amplitude needs the dense strand; this index has: lexical, learned"),
        ([lambda ranking: ranking], "a function of your own goes with each search"),
    ],
    ids=["amplitude", "function"],
)
def test_an_index_keeps_no_steps_that_it_cannot_take(tmp_path, steps, said):
    with pytest.raises(QueryError, match=said):
        Retriever.create(tmp_path / "i", strands="lexical,learned", pipeline=steps)
    assert not (tmp_path / "i").exists()
    with Retriever.create(tmp_path / "i", strands="lexical,learned") as r, pytest.raises(QueryError, match=said):
        r.settle(pipeline=steps)


def test_steps_are_tried_before_an_index_keeps_them(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(some_documents(4))
        r.commit()
        with pytest.raises(QueryError, match="made without the strand 'dense'"):
            r.settle(pipeline="mmr:strands=dense")
        assert r.steps() == "none"


def test_the_path_of_a_model_is_kept_as_it_is_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "ranker.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with Retriever.create("i", strands="lexical", pipeline="mmr,rescore:model=ranker.json:top=5") as r:
        model = str(tmp_path / "ranker.json")
        assert r.steps() == ["mmr", {"step": "rescore", "model": model, "top": "5"}]
        with pytest.raises(QueryError, match="is no ranker that this plait knows"):
            r.search("bee")


def bad(value):
    def step(ranking):
        scores = ranking.fused.copy()
        scores[scores.argmax()] = value
        return ranking.scored(scores)

    return step


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda ranking: None, "the step <lambda> gave None; a step takes a Ranking and returns one"),
        (lambda ranking: ranking.scored(ranking.fused[:2]), "gave 2 scores for 300 candidates"),
        (bad(np.nan), "the step step gave a candidate a score that is no finite number"),
        (bad(np.inf), "the step step gave a candidate a score that is no finite number"),
    ],
    ids=["none", "shape", "nan", "infinite"],
)
def test_what_a_step_of_ones_own_gives_is_checked(shared, step, said):
    with pytest.raises(QueryError, match=said):
        shared.search("bee", 5, depth=300, pipeline=[step])


@pytest.mark.parametrize("steps", [{"step": "mmr", "top": 5}, lambda ranking: ranking.scored(-ranking.fused)])
def test_one_step_alone_needs_no_list(shared, steps):
    assert shared.search("bee honey", 5, pipeline=steps) == shared.search("bee honey", 5, pipeline=[steps])


def test_a_pipeline_of_another_type_says_what_is_wanted(shared):
    with pytest.raises(QueryError, match="a pipeline is a text, as feedback,mmr, or a list of steps; not 5"):
        shared.search("bee", pipeline=5)


@pytest.mark.parametrize("first", ["boost:field=lang:equals=en", "mmr", "feedback,rerank"])
@pytest.mark.parametrize("then", ["questions", "adapt"])
def test_weights_are_not_moved_after_scores_were_given(shared, first, then):
    steps = [*(by_step(name) for name in first.split(",")), then]
    undone = first.split(",")[-1].split(":")[0]
    with pytest.raises(QueryError, match=f"{then} weighs the strands anew, which undoes {undone}: put {then} before"):
        shared.search("bee", pipeline=steps)
    assert shared.search("bee", pipeline=[then, *steps[:-1]])


def by_step(name):
    return {"step": "rerank", "model": by_vowels} if name == "rerank" else name


def test_feedback_may_be_fed_by_what_came_before(shared):
    steps = ["feedback", {"step": "rerank", "model": by_vowels}, "feedback", "questions"]
    assert shared.search("bee", pipeline=steps).notes["feedback"]["documents"]


@pytest.mark.parametrize("name", ["s.toml", "S.TOML"])
def test_steps_in_a_file_may_hold_dates_and_are_checked(tmp_path, name):
    path = tmp_path / name
    path.write_text('[[step]]\nname = "recency"\nnow = 2021-01-01\nweight = 0.5\n')
    assert read_pipeline(path) == [{"step": "recency", "now": "2021-01-01", "weight": 0.5}]
    path.write_text('[[step]]\nname = "mmr"\ntrade = "much"\n')
    with pytest.raises(QueryError, match=f"{name}: the step 'mmr' takes a finite number as trade, not 'much'"):
        read_pipeline(path)
    for wrong in ("trade = 1", 'name = "mmr"\nstep = "mmr"'):
        path.write_text(f"[[step]]\n{wrong}\n")
        with pytest.raises(QueryError, match=r"expected a table \[\[step\]\] for each step, with the line name"):
            read_pipeline(path)

"""Hard negatives against a plain search of everything, and the rules that each of them keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders.lexical import LexicalEncoder
from plait.train import mining
from plait.train.encoded import Vectors, encode
from plait.train.errors import TrainError
from plait.train.mining import DenseSearch, SparseSearch, mined
from plait.train.pairs import normalised
from plait.train.teachers import from_vectors, weighed_queries
from scipy.sparse import csr_matrix

from ..conftest import LengthSparse, LetterDense
from .making import ANSWERS, training_set

WORDS = ["snow", "ice", "sea", "ship", "bread", "bee", "honey", "moon", "river", "winter", "trade", "yeast"]


def random_set(size=40, queries=25, seed=0):
    random = np.random.default_rng(seed)
    documents = [" ".join(random.choice(WORDS, 9)) + f" number{n}" for n in range(size)]
    pairs = [(" ".join(random.choice(WORDS, 3)), int(random.integers(size))) for _ in range(queries)]
    return training_set(documents, pairs)


def answers_of(training, row):
    """The texts that answer the query of a row."""
    asked = normalised(training.queries[row])
    pairs = zip(training.queries, training.positives.tolist(), strict=True)
    return {normalised(training.documents[at]) for query, at in pairs if normalised(query) == asked}


def plainly(training, tables, negatives, depth, skip=0, margin=None):
    """The best of each way in turn, from full tables of scores (queries, documents); None where there are too few."""
    found = []
    for row in range(len(training)):
        proposed = []
        for table, matching in tables:
            scores = table[row]
            order = sorted(
                (at for at in range(scores.size) if not matching or scores[at] > 0), key=lambda at: (-scores[at], -at)
            )
            kept = [
                at for at in order[skip:depth] if normalised(training.documents[at]) not in answers_of(training, row)
            ]
            if margin is not None:
                kept = [at for at in kept if scores[at] < margin * scores[training.positives[row]]]
            proposed.append(kept)
        dealt = [way[n] for n in range(depth) for way in proposed if n < len(way)]
        found.append(list(dict.fromkeys(dealt))[:negatives])
    return found


@pytest.mark.parametrize("margin", [None, 0.8])
@pytest.mark.parametrize("skip", [0, 2])
def test_dense_negatives_are_the_best_that_do_not_answer(margin, skip):
    training = random_set()
    random = np.random.default_rng(1)
    # quarters: sums are exact in whatever order, so ties are ties
    rows = [random.integers(0, 4, (n, 8)).astype(np.float32) / 4 for n in (len(training.documents), len(training))]
    vectors = {"mine": Vectors("dense", *rows)}
    found = mined(training, ways="mine", negatives=3, depth=20, skip=skip, margin=margin, pick="top", vectors=vectors)
    expected = plainly(training, [(rows[1] @ rows[0].T, False)], 3, 20, skip, margin)
    assert found.dtype == np.int32
    assert found.shape == (25, 3)
    for got, wanted in zip(found.tolist(), expected, strict=True):
        assert got[: len(wanted)] == wanted
    assert any(len(wanted) == 3 for wanted in expected)


@pytest.mark.parametrize("margin", [None, 0.8])
def test_sparse_negatives_are_the_best_that_do_not_answer(tmp_path, margin):
    training = random_set(seed=2)
    vectors = {"lexical": encode(LexicalEncoder(), training), "learned": encode(LengthSparse(), training)}
    every, tables = np.arange(len(training.documents)), []
    for name, each in vectors.items():
        search = SparseSearch.over(each, tmp_path / name)
        tables.append(
            (np.stack([search.scores(slice(0, None), np.full(len(training), at)) for at in every], axis=1), True)
        )
        search.snapshot.close()
    options = {"negatives": 4, "depth": 15, "margin": margin, "pick": "top", "vectors": vectors}
    found = mined(training, ways="lexical,learned", **options)
    expected = plainly(training, tables, 4, 15, 0, margin)
    for got, wanted in zip(found.tolist(), expected, strict=True):
        assert got[: len(wanted)] == wanted


@pytest.mark.parametrize("encoder", [LexicalEncoder(), LengthSparse()], ids=["bm25", "learned"])
def test_the_search_of_an_index_scores_as_a_teacher_does_within_8_bits(tmp_path, encoder):
    training = random_set(seed=7)
    vectors = encode(encoder, training)
    exact = from_vectors(vectors).scores(np.arange(len(training)), np.arange(len(training.documents)))
    search = SparseSearch.over(vectors, tmp_path / "index")
    step = search.snapshot.layout.scales[search.strand]
    weights = np.asarray(weighed_queries(vectors).sum(axis=1))
    for at in range(len(training.documents)):
        found = search.scores(slice(0, None), np.full(len(training), at))
        assert (np.abs(found - exact[:, at]) <= weights[:, 0] * step / 2 + 1e-6).all()
    search.snapshot.close()


def test_the_search_of_an_index_finds_what_it_scores(tmp_path):
    training = random_set(seed=3)
    search = SparseSearch.over(encode("bm25", training), tmp_path / "index")
    found, scores = search.top(slice(0, None), 5)
    for column in range(5):
        there = found[:, column] >= 0
        again = search.scores(slice(0, None), np.where(there, found[:, column], 0))
        np.testing.assert_array_equal(scores[there, column], again[there])
    search.snapshot.close()


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(["sample", "top"]), st.sampled_from([None, 0.9]))
def test_no_negative_answers_its_query_or_comes_twice(seed, negatives, pick, margin):
    random = np.random.default_rng(seed)
    documents = [
        *ANSWERS,
        ANSWERS[0].upper(),
        f"{ANSWERS[1]} ",
        *(" ".join(random.choice(WORDS, 5)) for _ in range(20)),
    ]
    pairs = [
        (str(random.choice(["bees", "snow", "ICE", "ice "])), int(at))
        for at in random.integers(len(documents), size=15)
    ]
    training = training_set(documents, pairs)
    vectors = {"dense": encode(LetterDense(), training)}
    options = {"ways": "dense", "negatives": negatives, "depth": 6, "margin": margin, "pick": pick, "seed": seed}
    found = mined(training, vectors=vectors, **options)
    np.testing.assert_array_equal(found, mined(training, vectors=vectors, **options))
    for row, chosen in enumerate(found.tolist()):
        texts = [normalised(documents[at]) for at in chosen]
        assert len(set(texts)) == negatives
        assert not set(texts) & answers_of(training, row)


def test_ways_are_dealt_out_evenly():
    training = random_set(size=60, seed=4)
    near, far = np.zeros((60, 2), np.float32), np.zeros((60, 2), np.float32)
    near[:30, 0] = np.linspace(1, 2, 30)
    far[30:, 0] = np.linspace(1, 2, 30)
    asked = np.ones((25, 2), np.float32)
    vectors = {"near": Vectors("dense", near, asked), "far": Vectors("dense", far, asked)}
    for pick in ("sample", "top"):
        found = mined(training, ways=["near", "far"], negatives=6, depth=20, pick=pick, vectors=vectors)
        assert ((found < 30).sum(axis=1) == 3).all()


def test_a_sample_stays_within_the_depth_and_changes_with_the_seed():
    training = random_set(size=60, seed=5)
    vectors = {"dense": encode(LetterDense(), training)}
    top, _ = DenseSearch(vectors["dense"].queries, vectors["dense"].documents).top(slice(0, None), 20)
    found = [mined(training, ways="dense", negatives=4, depth=20, vectors=vectors, seed=seed) for seed in (0, 1)]
    assert (found[0] != found[1]).any()
    for each in found:
        assert all(set(row) <= set(near) for row, near in zip(each.tolist(), top.tolist(), strict=True))


def test_blocks_change_nothing(monkeypatch):
    training = random_set(seed=6)
    options = {"encoders": {"dense": LetterDense()}, "negatives": 3, "depth": 10, "pick": "top"}
    at_once, seen = mined(training, **options), []
    monkeypatch.setattr(mining, "BLOCK", 7)
    monkeypatch.setattr(mining, "ADDED", 11)
    options["on_progress"] = lambda *each: seen.append(each)
    in_blocks = mined(training, **options)
    np.testing.assert_array_equal(at_once, in_blocks)
    assert [each for each in seen if each[0] == "mining"] == [("mining", done, 25) for done in (7, 14, 21, 25)]


def test_what_a_search_does_not_give_is_filled_up_at_random():
    training = training_set([*ANSWERS, *(f"filler number {n}" for n in range(50))], [("snow", 0), ("zzz", 1)])
    found = mined(training, ways="lexical", negatives=5)
    assert [len(set(row)) for row in found.tolist()] == [5, 5]
    assert 0 not in found[0]
    assert 1 not in found[1]
    skipped = mined(training, ways="dense", skip=60, negatives=5, encoders={"dense": LetterDense()})
    assert [len(set(row)) for row in skipped.tolist()] == [5, 5]
    all_but_one = mined(training_set(ANSWERS, [("snow", 0)]), ways="lexical", negatives=5)
    assert set(all_but_one[0].tolist()) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 6}, "6 negatives were asked for, but only 5 of 6 documents can be one of query 0"),
        ({"ways": "magic"}, "no way 'magic': there are lexical, learned, dense, base; of others give the vectors"),
        ({"ways": ()}, "ways are one or more different names"),
        ({"ways": "lexical,lexical"}, "ways are one or more different names"),
        ({"negatives": 0}, "negatives and depth are 1 or more"),
        ({"skip": 100}, "skip is 0 or more and below depth; not 8, 100 and 100"),
        ({"margin": 0.0}, "margin is a share of the positive's score, as 0.95, not 0.0"),
        ({"pick": "best"}, "negatives are picked by 'sample' or 'top', not 'best'"),
        (
            {"ways": "own", "vectors": {"own": Vectors("dense", np.zeros((5, 2), np.float32), csr_matrix((1, 2)))}},
            r"the vectors of 'own' are of \(1, 5\) queries and documents; the set has \(1, 6\)",
        ),
    ],
)
def test_errors_say_what_was_given(options, message):
    with pytest.raises(TrainError, match=message):
        mined(training_set(ANSWERS, [("snow", 0)]), **{"ways": "lexical", **options})


def test_the_scratch_folder_is_left_empty(tmp_path):
    mined(training_set(ANSWERS, [("snow", 0)]), ways="lexical", negatives=2, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []

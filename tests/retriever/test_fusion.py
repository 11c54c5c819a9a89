"""Fusion: the arithmetic, written out, and what cannot be combined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.retriever import FUSIONS, QueryError
from plait.retriever.fusion import chosen, weights_for
from plait.retriever.normalise import NORMALISATIONS, TRANSFORMS, WINDOW, Candidates

TWO = ("lexical", "dense")


def candidates(
    scores, ranks=None, least=(0, -1), best=(4, 0.5), most=(8, 1), norms=(5, 0), windows=((4, 2, 0), (0.5, 0.2, -0.1))
):
    scores = np.array(scores, float)
    ranks = np.zeros(scores.shape, np.int64) if ranks is None else np.array(ranks)
    bounds = [np.array(each, float) for each in (least, best, most, norms)]
    return Candidates(scores, ranks, *bounds, tuple(np.array(w, float) for w in windows), TWO)


def fused(name, *arguments, weights=(1.0, 1.0), **facts):
    return chosen(name)(candidates(*arguments, **facts), np.array(weights, float)).tolist()


def values(name, scores, **facts):
    return chosen(name).values(candidates(scores, **facts)).tolist()


def test_convex_written_out():
    # (1 * 4/4 + 3 * 0/1.5) / 4, (1 * 2/4 + 3 * 1.5/1.5) / 4, (1 * 0 + 3 * .75/1.5) / 4
    found = fused("convex:normalise=bounds:ceiling=0", [[4, -1], [2, 0.5], [0, -0.25]], weights=(1, 3))
    assert found == pytest.approx([0.25, 0.875, 0.375])


def test_what_makes_scores_that_are_no_numbers_is_refused():
    with pytest.raises(QueryError, match="bounds takes a ceiling of at least 0, not -5"):
        fused("convex:normalise=bounds:ceiling=-5", [[4, -1]])
    with pytest.raises(QueryError, match="the sum of the weights is no finite number"):
        weights_for(TWO, dict.fromkeys(TWO, 1e308))


@pytest.mark.parametrize("name", list(FUSIONS))
def test_a_score_is_the_same_to_the_bit_alone_and_among_others(name):
    random = np.random.default_rng(0)
    scores, ranks = random.random((500, 2)), random.permutation(1000).reshape(500, 2) + 1
    weights = np.array([0.135, 0.865])
    every = chosen(name)(candidates(scores, ranks), weights)
    alone = [chosen(name)(candidates(scores[i : i + 1], ranks[i : i + 1]), weights)[0] for i in range(500)]
    assert every.tolist() == alone


def test_a_strand_that_found_nothing_adds_nothing():
    found = fused("convex:normalise=bounds:ceiling=0", [[0, 0.5], [0, 0.2]], best=(0, 0.5))
    assert found == pytest.approx([0.5, 0.4])


def test_a_ceiling_lowers_a_strand_whose_best_covers_little_of_the_query():
    # best over possible: 4/8 and 1.5/2
    assert values("convex:normalise=bounds:ceiling=1", [[4, 0.5], [2, -1]])[0] == pytest.approx([0.5, 0.75])
    assert values("convex:normalise=bounds:ceiling=0.5", [[4, 0.5], [2, -1]])[1] == pytest.approx(
        [0.5 * math.sqrt(0.5), 0]
    )
    assert values("convex:normalise=bounds:ceiling=1", [[4, 0.5]], most=(0, 1))[0][0] == 0  # a query without terms


def test_the_norm_of_a_query_takes_the_place_of_its_best_score_in_sparse_strands():
    assert values("convex", [[4, 0.5], [2, -1]])[0] == pytest.approx([4 / 5, 1])
    assert values("convex", [[4, 0.5], [2, -1]])[1] == pytest.approx([2 / 5, 0])
    assert values("convex", [[0, 0.5]], norms=(0, 0), best=(0, 0.5))[0] == pytest.approx([0, 1])


def test_rrf_written_out():
    ranks = [[1, 2], [3, 0], [0, 0], [WINDOW + 1, 1]]
    found = fused("rrf", [[1, 1]] * 4, ranks, weights=(1, 2))
    assert found == pytest.approx([1 / 61 + 2 / 62, 1 / 63, 0, 2 / 61])
    assert fused("rrf:k=0", [[1, 1]], [[1, 2]]) == pytest.approx([1.5])


def test_normalisations_written_out():
    one = [[2, 0.2]]
    assert values("convex:normalise=minmax", one)[0] == pytest.approx([2 / 4, 0.3 / 0.6])
    assert values("convex:normalise=minmax:lower=-1:upper=3", one)[0] == pytest.approx([3 / 4, 1.2 / 4])
    assert values("convex:normalise=minmax:lower=3", [[2, 0.5]])[0] == [
        0,
        1,
    ]  # held on [0, 1]; no span: 1 from there on
    assert values("convex:normalise=minmax:lower=3:clip=false", one)[0][0] == pytest.approx(-1)
    sd = np.std([4, 2, 0]), np.std([0.5, 0.2, -0.1])
    assert values("convex:normalise=zscore", [[4, 0.2]])[0] == pytest.approx([2 / sd[0], 0])
    assert values("convex:normalise=dbsf", [[4, 0.2]])[0] == pytest.approx([(2 / sd[0] + 3) / 6, 0.5])
    assert values("convex:normalise=l2", one)[0] == pytest.approx([2 / math.sqrt(20), 0.2 / math.sqrt(0.3)])
    assert values("convex:normalise=rank", one, ranks=[[1, 501]])[0] == pytest.approx([1, 0.5])
    assert values("convex:normalise=raw", one) == one


def test_minmax_takes_bounds_by_strand():
    function = NORMALISATIONS["minmax"]
    found = function(candidates([[2, 0.2]]), lower={"dense": 0.1}, upper={"lexical": 8})
    assert found[0] == pytest.approx([2 / 8, 0.1 / 0.4])
    written = values("convex:normalise=minmax:lower=dense=0.1:upper=lexical=8", [[2, 0.2]])
    assert written == found.tolist()


def test_combinations_written_out():
    rows, ranks = [[4, -1], [2, 0.5], [0, -0.25]], [[1, 0], [2, 1], [0, 2]]
    bare = ":normalise=bounds"  # values: [1, 0], [.5, 1], [0, .5]
    assert fused("combsum" + bare, rows, ranks, weights=(1, 2)) == pytest.approx([1, 2.5, 1])
    assert fused("combmnz" + bare, rows, ranks, weights=(1, 2)) == pytest.approx([1, 5, 1])
    assert fused("combanz" + bare, rows, ranks, weights=(1, 2)) == pytest.approx([1, 1.25, 1])
    assert fused("combmax" + bare, rows, ranks, weights=(1, 2)) == pytest.approx([1, 2, 1])
    odds = [math.log(0.999 / 0.001), 0.0]
    assert fused("logodds" + bare, rows, ranks)[0] == pytest.approx((odds[0] - odds[0]) / 2)
    assert fused("logodds" + bare, rows, ranks)[1] == pytest.approx((odds[1] + odds[0]) / 2)


def test_transforms_written_out():
    given = np.array([-4.0, 0.0, 0.25, 1.0])
    expected = {
        "none": [-4, 0, 0.25, 1],
        "sigmoid": [1 / (1 + math.exp(4)), 0.5, 1 / (1 + math.exp(-0.25)), 1 / (1 + math.exp(-1))],
        "square": [-16, 0, 0.0625, 1],
        "root": [0, 0, 0.5, 1],
        "log1p": [0, 0, math.log(1.25), math.log(2)],
    }
    for name, transform in TRANSFORMS.items():
        assert transform(given).tolist() == pytest.approx(expected[name]), name
    assert values("convex:normalise=bounds:ceiling=0:transform=root", [[1, 0.5]])[0] == pytest.approx([0.5, 1])


MONOTONE = [name for name, row in FUSIONS.items() if row.monotone and not row.ranks]


@pytest.mark.parametrize("normalise", ["norm", "bounds", "zscore", "dbsf", "l2", "minmax"])
@pytest.mark.parametrize("name", MONOTONE)
@given(
    rows=st.lists(st.tuples(st.floats(0, 4), st.floats(-1, 0.5)), min_size=1, max_size=8),
    weights=st.tuples(st.floats(0, 5), st.floats(0.01, 5)),
)
def test_a_fused_score_never_falls_when_a_strand_rises(name, normalise, rows, weights):
    function, weights = chosen(f"{name}:normalise={normalise}"), np.array(weights)
    before = function(candidates(rows), weights)
    after = function(candidates([(min(4, a + 0.1), b) for a, b in rows]), weights)
    assert (after >= before - 1e-9).all()
    if name == "convex" and normalise in ("bounds", "dbsf", "minmax"):
        assert ((before >= -1e-12) & (before <= 1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "no fusion 'magic'; there are: convex, rrf"),
        ("rrf:q=3", "the fusion 'rrf' has no option 'q'; its options are: k"),
        ("rrf:k=three", "the fusion 'rrf' takes a finite number as k, not 'three'"),
        ("rrf:k=nan", "takes a finite number as k, not 'nan'"),
        ("convex:normalise=none", "no normalisation 'none'; there are: norm, bounds, minmax"),
        ("convex:transform=cube", "no transform 'cube'; there are: none, sigmoid"),
        ("convex:normalise=zscore:lower=1", "the fusion 'convex' has no option 'lower'"),
        ("rrf:k=1:k=2", "gives an option twice"),
        ("rrf:20", "cannot be read; options are written as name:option=value"),
        ("convex:foo=1", "the fusion 'convex' has no option 'foo'; its options are: normalise, transform"),
        ("convex:normalise=minmax:foo=1", "its options are: clip, lower, normalise, transform, upper"),
        ("rrf:normalise=raw", "the fusion 'rrf' has no option 'normalise'; its options are: k"),
        ("rrf:transform=sigmoid", "the fusion 'rrf' has no option 'transform'"),
        ("convex:transform=sigmoid:slope=-1", "sigmoid takes a slope above 0, not -1"),
        ("convex:transform=sigmoid:slope=0", "sigmoid takes a slope above 0, not 0"),
        ("convex:normalise=minmax:lower=5:upper=1", "a lower bound below the upper one; of lexical they are 5 and 1"),
        ("convex:normalise=minmax:lower=dense=1:upper=0.5", "of dense they are 1 and 0.5"),
        ("convex:normalise=minmax:lower=sparse=1", "lower is given for 'sparse' in 'sparse=1'; strands are: lexical"),
        ("convex:normalise=minmax:lower=dense=1,dense=2", "lower is given twice in 'dense=1,dense=2'"),
        ("convex:normalise=minmax:lower=dense=much", "lower takes a finite number for dense, not 'much'"),
        ("rrf:k=dense=3", "the fusion 'rrf' takes a finite number as k, not {'dense': 3.0}"),
        (3, "a fusion is a text, as 'convex' or 'rrf:k=20'; not 3"),
        (["convex"], r"a fusion is a text, as 'convex' or 'rrf:k=20'; not \['convex'\]"),
    ],
)
def test_a_fusion_that_cannot_be_read_says_why(text, message):
    with pytest.raises(QueryError, match=message):
        chosen(text)


@pytest.mark.parametrize("weight", ["a", "1", True, None, 1j, [1.0], np.ones(2)])
def test_a_weight_is_a_number(weight):
    with pytest.raises(QueryError, match="the weight of 'dense' is a number, not"):
        weights_for(TWO, {"lexical": 1, "dense": weight})


def test_impossible_weights_are_refused():
    with pytest.raises(QueryError, match="must be finite"):
        weights_for(TWO, {"lexical": 1, "dense": 10**400})
    with pytest.raises(QueryError, match=r"weights are numbers by strand, as .*; not \[1\]"):
        weights_for(TWO, [1])
    assert weights_for(TWO, {"lexical": np.float32(1), "dense": np.int64(2)}).tolist() == [1, 2]
    with pytest.raises(QueryError, match="must be finite and not negative"):
        weights_for(["lexical"], {"lexical": -1})
    with pytest.raises(QueryError, match="must be finite"):
        weights_for(["lexical"], {"lexical": float("nan")})
    with pytest.raises(QueryError, match="no strand of lexical, dense has a weight above 0"):
        weights_for(["lexical", "dense"], {"learned": 1})
    with pytest.raises(QueryError, match="rrf takes k of at least 0, not -1"):
        fused("rrf:k=-1", [[1, 1]], [[1, 1]])


def test_every_fusion_has_a_weight_for_every_strand():
    for fusion in FUSIONS.values():
        assert set(fusion.weights) == {"lexical", "learned", "dense", "lucene", "lucene-impact"}


@pytest.mark.parametrize(
    ("strands", "wanted"),
    [
        (("lexical", "learned", "dense"), [0.135, 0.07, 0.795]),
        (("lexical", "dense"), [0.135, 0.795]),
        (("lexical", "learned"), [0.14, 0.86]),
        (("learned", "lexical"), [0.86, 0.14]),
        (("learned", "dense"), [0.4, 0.6]),
        (("learned", "lucene"), [0.86, 0.14]),
        (("lexical", "learned", "lucene-impact"), [0.14, 0.86, 0.86]),
        (("dense", "lucene-impact"), [0.6, 0.4]),
        (("lexical", "lucene"), [0.135, 0.135]),
        (("learned",), [0.07]),
    ],
)
def test_a_missing_strand_changes_what_the_others_weigh(strands, wanted):
    fusion = chosen("convex")
    assert weights_for(strands, fusion.weights_among(strands)).tolist() == wanted
    assert set(weights_for(strands, chosen("rrf").weights_among(strands)).tolist()) == {1}

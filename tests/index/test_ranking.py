"""One order for every ranking: by score, then by id, both descending."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from plait.index.ranking import id_ranks, order, ranked

SCORES = st.dictionaries(st.text(max_size=3), st.sampled_from([0.0, 0.5, 1.0]), max_size=30)


def test_ties_go_by_id_descending():
    assert ranked({"a": 1, "c": 1, "b": 2, "10": 1, "9": 1}) == [("b", 2), ("c", 1), ("a", 1), ("9", 1), ("10", 1)]
    assert ranked({"a": 1, "b": 2}, 1) == [("b", 2)]


@given(SCORES, st.one_of(st.none(), st.integers(1, 40)))
def test_arrays_and_mappings_agree(scores, k):
    ids = list(scores)
    by_array = [ids[i] for i in order(np.array(list(scores.values())), ids, k)]
    assert by_array == [identifier for identifier, _ in ranked(scores, k)]


@given(st.lists(st.text(max_size=3), unique=True))
def test_id_ranks_order_as_the_ids_do(ids):
    ranks = id_ranks(ids)
    assert [ids[i] for i in np.argsort(ranks)] == sorted(ids)

"""One order for every ranking: by score, then by id, both descending."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from plait.index.ranking import id_ranks, ranked


def test_ties_go_by_id_descending():
    assert ranked({"a": 1, "c": 1, "b": 2, "10": 1, "9": 1}) == [("b", 2), ("c", 1), ("a", 1), ("9", 1), ("10", 1)]
    assert ranked({"a": 1, "b": 2}, 1) == [("b", 2)]


@given(st.lists(st.text(max_size=3), unique=True))
def test_id_ranks_order_as_the_ids_do(ids):
    ranks = id_ranks(ids)
    assert [ids[i] for i in np.argsort(ranks)] == sorted(ids)

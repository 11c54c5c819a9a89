"""Random forward copies for property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from plait.index.contract import LEXICAL_BASE
from plait.index.impacts import integer_weights
from plait.index.postings import Forward, impacts_of, invert


def forward_of(rows, lengths=None):
    """Returns a Forward from [{term: value}]."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = [item for row in rows for item in sorted(row.items())]
    terms = np.array([t for t, _ in items], np.uint32)
    values = np.array([v for _, v in items], np.uint8)
    lengths = np.array([sum(row.values()) for row in rows] if lengths is None else lengths, np.uint32)
    return Forward(starts, terms, values, np.ones(values.size, np.uint8), lengths)


@st.composite
def collections(draw, max_documents=60):
    """A forward copy with learned and lexical terms, its postings, an id order and a window size."""
    terms = st.one_of(st.integers(0, 12), st.integers(LEXICAL_BASE, LEXICAL_BASE + 8), st.just(2**32 - 1))
    rows = draw(st.lists(st.dictionaries(terms, st.integers(1, 255), max_size=8), max_size=max_documents))
    window = draw(st.sampled_from([1, 2, 7, 64, 32768, 65536]))
    ranks = np.array(draw(st.permutations(range(len(rows)))), np.uint32)
    forward = forward_of(rows)
    impacts = impacts_of(forward, LEXICAL_BASE, float(forward.lengths.mean()) if rows else 1.0, 0.9, 0.4)
    return forward, impacts, invert(forward, impacts, ranks, window)


@st.composite
def dense_collections(draw):
    """Postings of many documents with few terms: rows, several blocks and windows, and many equal sums."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, levels = draw(st.integers(1, 700)), draw(st.sampled_from([1, 3, 255]))
    shares = random.random(12) ** 2
    held = random.random((size, 12)) < shares
    rows = [{t: int(random.integers(1, levels + 1)) for t in np.flatnonzero(row).tolist()} for row in held]
    forward = forward_of(rows)
    window = draw(st.sampled_from([64, 100, 192, 65536]))
    return invert(forward, forward.values, random.permutation(size).astype(np.uint32), window)


@st.composite
def queries(draw):
    """Ascending distinct terms, some of them unknown, and weights, some of them equal or tiny."""
    known = [*range(14), *range(LEXICAL_BASE, LEXICAL_BASE + 10), 2**32 - 1]
    terms = sorted(draw(st.sets(st.sampled_from(known), max_size=8)))
    weight = st.one_of(st.sampled_from([1.0, 0.5]), st.floats(2.0**-60, 100, width=32))
    weights = draw(st.lists(weight, min_size=len(terms), max_size=len(terms)))
    return np.array(terms, np.uint32), integer_weights(np.array(weights, np.float32))[0]

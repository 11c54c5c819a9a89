"""The step of learned impacts: set by the first weights, and anew where a small index meets larger ones."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from plait.index import Layout, Snapshot, Writer, create
from plait.index.impacts import STEPS, step_for
from plait.index.writer import FEW_STORED
from scipy.sparse import csr_matrix

from .making import documents


def weights(rows, columns=8, most=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return csr_matrix(rng.uniform(0.1, most, (rows, columns)).astype(np.float32))


def add(folder, ids, rows, *, commit=True):
    with closing(Writer(folder)) as writer:
        writer.add(documents(ids), {"learned": rows}, None)
        if commit:
            writer.commit()


def scores(folder, term, count=100):
    with closing(Snapshot(folder)) as snapshot:
        hits = snapshot.sparse_search("learned", np.array([term], np.uint32), np.ones(1, np.float32), count)
        return dict(zip(snapshot.ids(hits.positions), hits.scores.tolist(), strict=True)), snapshot.layout.learned_scale


@pytest.fixture
def small(tmp_path):
    """An index whose first document has tiny weights: a step that cuts off everything to come."""
    create(tmp_path / "i", Layout(), {})
    add(tmp_path / "i", ["."], csr_matrix(np.full((1, 8), 0.05, np.float32)))
    return tmp_path / "i"


def test_a_tiny_first_document_cuts_nothing_off(small):
    before = Snapshot(small)
    rows = weights(20)
    add(small, [f"d{i:02}" for i in range(20)], rows)
    for term in range(8):
        found, scale = scores(small, term)
        assert scale == step_for(rows.data)
        expected = {f"d{i:02}": rows[i, term] for i in range(20)}
        assert found.pop(".") == pytest.approx(max(round(0.05 / scale), 1) * scale)
        assert found == pytest.approx(expected, abs=scale / 2 + 1e-6)
    hits = before.sparse_search("learned", np.array([0], np.uint32), np.ones(1, np.float32), 5)
    assert (before.ids(hits.positions), hits.scores.tolist()) == (["."], pytest.approx([0.05], abs=1e-3))
    before.close()


def test_what_a_rollback_forgets_changed_nothing(small):
    before = scores(small, 0)
    add(small, ["a", "b"], weights(2), commit=False)
    assert scores(small, 0) == before
    add(small, ["a"], csr_matrix(np.full((1, 8), 0.04, np.float32)))
    assert scores(small, 0)[1] == before[1]


def test_words_and_deletes_outlive_it(tmp_path):
    create(tmp_path / "i", Layout(), {})
    with closing(Writer(tmp_path / "i")) as writer:
        for id in ("a", "b", "c"):
            given = {"learned": csr_matrix([[0.05]]), "lexical": csr_matrix(np.array([[3.0]], np.float32))}
            writer.add(documents([id]), given, None)
        writer.commit()
        writer.delete(["b"])
        writer.commit()
        words = {"lexical": csr_matrix(np.array([[1.0]], np.float32)), "learned": csr_matrix([[2.5]])}
        writer.add(documents(["d"]), words, None)
        writer.commit()
    found, scale = scores(tmp_path / "i", 0)
    assert found == pytest.approx({"d": 2.5, "a": 4 * scale, "c": 4 * scale}, abs=scale / 2 + 1e-6)
    with closing(Snapshot(tmp_path / "i")) as snapshot:
        assert snapshot.lengths(np.arange(4)[[0, 2, 3]]).tolist() == [3, 3, 1]


def test_a_large_index_is_not_written_anew_for_a_few(tmp_path):
    create(tmp_path / "i", Layout(), {})
    many = FEW_STORED + 1
    add(tmp_path / "i", [f"{i:03}" for i in range(many)], csr_matrix(np.full((many, 8), 1.0, np.float32)))
    add(tmp_path / "i", ["large"], csr_matrix(np.full((1, 8), 9.0, np.float32)))
    found, scale = scores(tmp_path / "i", 0)
    assert scale == 1.25 / STEPS
    assert found["large"] == pytest.approx(1.25)


def test_zeros_and_entries_given_twice_do_not_set_the_step(tmp_path):
    create(tmp_path / "i", Layout(), {})
    add(tmp_path / "i", ["zeros"], csr_matrix((np.zeros(2, np.float32), [0, 1], [0, 2]), shape=(1, 4)))
    twice = csr_matrix((np.array([3, 3], np.float32), [1, 1], [0, 2]), shape=(1, 4))
    add(tmp_path / "i", ["twice"], twice)
    found, scale = scores(tmp_path / "i", 1)
    assert scale == 6 * 1.25 / STEPS
    assert found == pytest.approx({"twice": 6.0}, abs=scale / 2)

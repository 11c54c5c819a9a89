"""How dense vectors are searched, as chosen and shown on the command line."""

from __future__ import annotations

import json
import re

import pytest
from plait.apps.render import _dense_searches

DENSE = ("--strands", "dense", "--dense-index")


@pytest.fixture
def bees(tmp_path):
    path = tmp_path / "bees.jsonl"
    path.write_text('{"id": "b", "text": "Bees make honey."}\n')
    return path


def test_the_choice_is_kept_shown_and_not_changed(plait, bees, tmp_path):
    plait("index", bees, "--out", tmp_path / "i", *DENSE, "HNSW8")
    facts = plait("info", tmp_path / "i", "--json").json
    assert facts["dense_index"] == "HNSW8"
    assert facts["segments"][0]["dense"] == {"spec": "Flat"}
    assert re.search(r"dense search +HNSW8; Flat in 1 segment, exact", plait("info", tmp_path / "i").out)
    said = plait("index", bees, "--out", tmp_path / "i", *DENSE, "flat", code=1).err
    assert "was made with --dense-index HNSW8; leave --dense-index out, or make another index" in " ".join(said.split())
    plait("index", bees, "--out", tmp_path / "i", *DENSE, "HNSW8")


def test_without_a_choice_it_is_auto(plait, bees, tmp_path):
    plait("index", bees, "--out", tmp_path / "i", "--strands", "dense")
    assert json.loads(plait("info", tmp_path / "i", "--json").out)["dense_index"] == "auto"


def test_without_a_dense_strand_nothing_is_told_of_it(plait, index):
    assert plait("info", index, "--json").json["dense_index"] is None
    assert "dense search" not in plait("info", index).out


def test_nonsense_is_refused_and_leaves_no_index(plait, bees, tmp_path):
    said = plait("index", bees, "--out", tmp_path / "i", *DENSE, "SQ9", code=1).err
    assert "dense_index='SQ9' is no FAISS index of 384 dimensions" in " ".join(said.split())
    assert not (tmp_path / "i").exists()


def test_segments_are_told_by_kind_with_the_least_recall():
    flat, codes = {"spec": "Flat"}, {"spec": "IVF1,PQ192x4fs", "knob": "nprobe"}
    points = [[{"k": 10, "recall": recall}, {"k": 200, "recall": 0.5}] for recall in (0.998, 0.9912)]
    told = list(_dense_searches([flat, *({**codes, "effort": each} for each in points)]))
    assert told == ["Flat in 1 segment, exact", "IVF1,PQ192x4fs in 2 segments, recall@10 0.991"]

"""`plait bench`: queries in three forms, one line a setting, and mistakes."""

from __future__ import annotations

import pytest


@pytest.fixture
def queries(tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("winter honey\nnectar\nxylophone\n")
    return path


def test_a_table_for_people(plait, index, queries):
    said = plait("bench", index, queries)
    assert f"{index}: 3 documents, 3 queries, 1 x; milliseconds" in said.out
    assert "p50" in said.out
    assert "propose" in said.out
    assert "the index's own" in said.out
    assert "thread" not in said.out


def test_every_combination_as_json(plait, index, queries):
    options = ("-k", 1, "-k", 2, "--pipeline", "none", "--pipeline", "feedback", "--threads", "1,2", "--rounds", 2)
    told = plait("bench", index, queries, *options, "--json").json
    assert (told["documents"], told["queries"], told["rounds"]) == (3, 3, 2)
    assert [one["setting"] for one in told["settings"]] == [
        "k=1 pipeline=none", "k=1 pipeline=feedback", "k=2 pipeline=none", "k=2 pipeline=feedback",
    ]  # fmt: skip
    first = told["settings"][0]
    assert (first["searches"], first["hits"], list(first["per_second"])) == (6, 2 / 3, ["1", "2"])
    assert set(first["milliseconds"]) == {"encode", "propose", "fuse", "steps", "read", "total"}
    assert set(first["milliseconds"]["total"]) == {"mean", "p50", "p95", "p99"}
    assert "/s, 1 thread" in plait("bench", index, queries, "--threads", "1,2").out


@pytest.mark.parametrize(
    ("name", "text"), [("q.tsv", "1\twinter\n2\tbees\n"), ("q.jsonl", '{"_id": "1", "text": "bees"}\n{"id": "2"}\n')]
)
def test_queries_of_other_forms(plait, index, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    told = plait("bench", index, tmp_path / name, "--skip-bad", "--most", "1", "--json").json
    assert told["queries"] == 1


def test_queries_from_standard_input(plait, index):
    assert plait("bench", index, "-", "--json", stdin="bees\n").json["queries"] == 1


def test_mistakes(plait, index, queries, tmp_path):
    assert (
        "--threads takes numbers of threads, as 1,2,8; not '0'"
        in plait("bench", index, queries, "--threads", "0", code=1).err
    )
    assert "--threads takes numbers" in plait("bench", index, queries, "--threads", "two", code=1).err
    assert (
        "this index was made without the strand 'dense'"
        in plait("bench", index, queries, "--strands", "dense", code=1).err
    )
    assert "no such file" in plait("bench", index, tmp_path / "none.txt", code=1).err
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    assert "holds no query" in plait("bench", index, empty, code=1).err


def test_steps_from_a_file_are_called_by_its_name(plait, index, queries, tmp_path):
    path = tmp_path / "steps.toml"
    path.write_text('[[step]]\nname = "mmr"\ntop = 5\n')
    told = plait("bench", index, queries, "--pipeline", path, "--pipeline", "none", "--json").json["settings"]
    assert [one["setting"] for one in told] == [f"pipeline={path}", "pipeline=none"]
    assert told[0]["options"]["pipeline"] == [{"step": "mmr", "top": 5}]

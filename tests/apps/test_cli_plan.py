"""`plait plan`: a table and a command for people, JSON for programs, and mistakes in plait's words."""

from __future__ import annotations

import shlex

import pytest

from .conftest import jsonl


@pytest.fixture
def corpus(tmp_path):
    records = [{"id": str(n), "text": f"text {n} " + "of snow and honey " * (1 + n % 5)} for n in range(30)]
    return jsonl(tmp_path / "c.jsonl", records)


def test_a_plan_ends_in_a_command_that_can_be_given(plait, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = plait("plan", corpus, "--strands", "lexical", "--budget", "time=1h,size=1GB")
    assert said.err == "trying lexical\n"
    assert "30 documents of " in said.out
    assert "the first that fits: lexical\n" in said.out
    command = shlex.split(said.out.splitlines()[-1])
    assert command == ["plait", "index", str(corpus), "-o", "my.index", "--strands", "lexical"]
    assert "added 30" in plait(*command[1:]).out


def test_json_and_more_documents_to_come(plait, corpus):
    told = plait(
        "plan", corpus, "--strands", "lexical", "--documents", 1_000_000, "--budget", "size=1MB", "--json"
    ).json
    assert (told["documents"], told["counted"], told["sample"]) == (1_000_000, False, 30)
    (one,) = told["settings"]
    assert one["flags"] == ["--strands", "lexical"]
    assert one["size"] > 1e8
    assert told["chosen"] is None
    assert told["reasons"] == [f"lexical: {one['over'][0]}"]
    assert "over 1 MB" in one["over"][0]
    said = plait("plan", corpus, "--strands", "lexical", "--budget", "size=1KB")
    assert "no setting fits; allow more" in said.out
    assert "are a guess" not in said.err
    said = plait("plan", corpus, "--strands", "lexical", "--documents", 1_000_000)
    assert "only 30 documents to measure with, for 1,000,000: times are a guess" in said.err


def test_texts_are_cut_as_they_will_be(plait, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.md").write_text("A sentence of some words. " * 200)
    asked = ("plan", tmp_path / "long.md", "--strands", "lexical", "--words", "100", "--overlap", "20", "--skip-bad")
    told = plait(*asked, "--json").json
    assert told["documents"] == told["settings"][0]["documents"] > 10
    command = shlex.split(plait(*asked).out.splitlines()[-1])
    assert command[5:] == ["--skip-bad", "--strands", "lexical", "--words", "100", "--overlap", "20"]
    assert f"added {told['documents']}" in plait(*command[1:]).out


def test_ways_to_cut_are_settings(plait, corpus):
    ways = ("--passages", "never", "--passages", "always", "--words", "10", "--words", "20", "--overlap", "2")
    told = plait("plan", corpus, "--strands", "lexical", *ways, "--budget", "size=1GB", "--json").json
    assert [one["flags"][2:] for one in told["settings"]] == [
        ["--passages", "never", "--words", "10", "--overlap", "2"],
        ["--passages", "always", "--words", "10", "--overlap", "2"],
        ["--passages", "always", "--words", "20", "--overlap", "2"],
    ]
    whole, short, long = (one["documents"] for one in told["settings"])
    assert whole == told["documents"] == 30
    assert whole < long < short
    assert told["chosen"]["cut"][:2] == ["--passages", "never"]
    said = plait("plan", corpus, "--strands", "lexical", *ways, "--budget", "size=1KB").out
    assert "lexical; --passages always --words 20 --overlap 2" in said
    assert "--documents counts passages" in plait("plan", corpus, *ways, "--documents", 5, code=1).err
    assert "standard input is read once" in plait("plan", "-", *ways, code=1).err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "time=soon"], "the budget for time is a number with one of s, min, h, d; not 'soon'"),
        (["--strands", "lucene"], "this index was made without the strand 'lucene'"),
        (["--strands", "lexical", "--dense", "x"], "--dense is for the dense strand"),
        (["--words", "0"], "words is 0"),
        (["--strands", "dense", "--dense-index", "bogus"], "dense_index='bogus' is no FAISS index of 384 dimensions"),
    ],
)
def test_mistakes(plait, corpus, options, words):
    assert words in plait("plan", corpus, *options, code=1).err


def test_no_corpus(plait, tmp_path):
    assert "there is no such file or folder" in plait("plan", tmp_path / "none", code=1).err
    (tmp_path / "e.jsonl").write_text("")
    assert "the corpus holds no document" in plait("plan", tmp_path / "e.jsonl", "--strands", "lexical", code=1).err

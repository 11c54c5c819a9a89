"""`--cache`, `--processes`, `--devices` and `plait cache`: what is kept, what is said, what the index remembers."""

from __future__ import annotations

import re

import pytest
from plait.encoders import VectorCache, load_joint
from plait.encoders.counting import counting
from plait.encoders.folders import EMBEDDED
from plait.retriever import Retriever

from .conftest import TEXTS, jsonl

BOTH = ("--strands", "learned,dense")


def tokens_of(texts):
    with counting() as tokens:
        load_joint().encode_documents(list(texts))
    return tokens.total


def test_the_last_line_tells_of_tokens_and_the_cache(plait, corpus, tmp_path):
    tokens, cache = tokens_of(TEXTS.values()), tmp_path / "cache"
    first, second = tmp_path / "first", tmp_path / "second"
    said = plait("index", corpus, "--out", first, *BOTH, "--cache", cache)
    assert re.fullmatch(
        rf"added 3; {re.escape(str(first))} holds 3 documents; {tokens} tokens in [\d.,]+ s, [\d,]+/s; "
        r"0 of 3 texts were in the cache\n",
        said.out,
    )
    said = plait("index", corpus, "--out", second, *BOTH, "--cache", cache)
    assert said.out == f"added 3; {second} holds 3 documents; 3 of 3 texts were in the cache\n"
    hits = [plait("search", index, "winter sea", "--json").json["hits"] for index in (first, second)]
    assert hits[0] == hits[1]


def test_json_has_tokens_seconds_and_the_cache(plait, corpus, tmp_path):
    facts = plait("index", corpus, "--out", tmp_path / "i", *BOTH, "--cache", tmp_path / "c", "--json").json
    assert facts["tokens"] == tokens_of(TEXTS.values())
    assert facts["tokens_per_second"] == pytest.approx(facts["tokens"] / facts["seconds"], rel=0.1)
    assert facts["cache"] == {"folder": str(tmp_path / "c"), "asked": 3, "found": 0}


def test_processes_make_the_same_index_and_are_forgotten(plait, corpus, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    plait("index", corpus, "--out", alone, *BOTH)
    facts = plait("index", corpus, "--out", shared, *BOTH, "--processes", "2", "--json").json
    assert facts["tokens"] == tokens_of(TEXTS.values())
    with Retriever.open(shared) as opened:
        assert [one["source"] for one in opened._snapshot.settings["encoders"].values()] == [EMBEDDED, EMBEDDED]
    found, expected = (plait("search", index, "winter sea", "--json").json["hits"] for index in (shared, alone))
    assert [hit["id"] for hit in found] == [hit["id"] for hit in expected]
    assert [hit["score"] for hit in found] == pytest.approx([hit["score"] for hit in expected], abs=1e-6)


def test_going_on_and_adding_take_the_names_from_the_index(plait, corpus, tmp_path):
    out, cache = tmp_path / "i", tmp_path / "c"
    plait("index", corpus, "--out", out, "--strands", "lexical,dense")
    more = jsonl(tmp_path / "more.jsonl", [{"id": "new", "text": "A new one."}])
    again = jsonl(tmp_path / "again.jsonl", [{"id": "other", "text": "A new one."}])
    assert plait("index", more, "--out", out, "--cache", cache, "--json").json["cache"]["found"] == 0
    assert plait("add", out, again, "--cache", cache, "--processes", "1", "--json").json["cache"]["found"] == 1
    with VectorCache(cache) as opened:
        assert [(one.name, one.kind, one.vectors) for one in opened.kept()] == [("embedded/plait-mini", "dense", 1)]


def test_an_index_without_models_needs_none(plait, corpus, tmp_path):
    facts = plait(
        "index", corpus, "--out", tmp_path / "i", "--strands", "lexical", "--cache", tmp_path / "c",
        "--processes", "2", "--json",
    ).json  # fmt: skip
    assert facts["cache"] == {"folder": str(tmp_path / "c"), "asked": 0, "found": 0}


def test_the_cache_is_shown_bounded_and_emptied(plait, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path))
    folder = tmp_path / "vectors"
    plait("index", corpus, "--out", tmp_path / "i", *BOTH, "--cache", "auto")
    facts = plait("cache", "--limit", "0.5", "--json").json
    size = facts["bytes"]
    assert {**facts, "bytes": 0} == {
        "folder": str(folder),
        "bytes": 0,
        "max_bytes": 500_000_000,
        "forgotten": 0,
        "encoders": [
            {"name": "embedded/plait-mini", "kind": "dense", "side": "document", "vectors": 3, "bytes": 4620},
            {**facts["encoders"][1], "kind": "sparse", "vectors": 3},
        ],
    }
    said = plait("cache", folder).out
    assert "embedded/plait-mini" in said
    assert said.endswith(f"{folder}: {size / 1e6:.1f} MB of at most 0.5 GB\n")
    said = plait("cache", tmp_path / "typo", code=1)
    assert said.err == f"error: there is no folder {tmp_path / 'typo'}; --cache of index and add makes it\n"
    assert not (tmp_path / "typo").exists()
    said = plait("cache", folder, "--clear").out
    assert said.startswith(f"forgot 6 vectors\n{folder}: 0.1 MB of at most 0.5 GB")


def test_mistakes_are_told_before_anything_is_made(plait, corpus, tmp_path):
    (tmp_path / "file").touch()
    for options, message in {
        ("--cache", tmp_path / "file"): "error: the cache folder .* cannot be made .*: name another",
        ("--devices", "cuda:0,"): "error: --devices takes names, as cuda:0,cuda:1; not 'cuda:0,'",
        ("--dense", "no such", "--processes", "2"): "error: no encoder 'no such'",
    }.items():
        said = plait("index", corpus, "--out", tmp_path / "i", *options, code=1)
        assert re.match(message, said.err)
        assert not (tmp_path / "i").exists()
    for limit in ("nan", "inf", "1e+300"):
        said = plait("cache", tmp_path / "c", "--limit", limit, code=1)
        assert said.err == f"error: --limit takes gigabytes, from 0.002 on; not {limit}\n"
    assert "--processes" in plait("index", corpus, "--out", tmp_path / "i", "--processes", "0", code=2).err


def test_a_damaged_cache_is_told_and_begun_anew(plait, corpus, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "vectors-1.db").write_bytes(b"not a database" * 1000)
    said = plait("index", corpus, "--out", tmp_path / "i", *BOTH, "--cache", tmp_path / "c")
    assert re.match(
        r"the vector cache .* was damaged \(.*\): it is vectors-1\.db\.damaged now, and begun anew", said.err
    )
    assert "0 of 3 texts" in said.out

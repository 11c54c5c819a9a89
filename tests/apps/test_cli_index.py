"""`plait index`, `add`, `delete`, `info`, `version`: what is read, what is kept, what is left alone."""

from __future__ import annotations

import gzip
import json
import re
from importlib.metadata import version

import pytest
from plait.encoders.lexical import LexicalEncoder
from plait.retriever import FUSIONS, Retriever

from .conftest import TEXTS, jsonl

LEXICAL = ("--strands", "lexical")
WORDS = [f"word{number}" for number in range(1000)]


def ids(index):
    with Retriever.open(index) as retriever:
        return sorted(retriever._snapshot.all_ids())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("corpus.jsonl", '{"_id": "a", "title": "T", "text": "apple", "metadata": {"year": 2020}}\n'),
        ("corpus.jsonl.gz", '{"_id": "a", "title": "T", "text": "apple", "metadata": {"year": 2020}}\n'),
        ("plain.jsonl", '{"id": "a", "title": "T", "text": "apple", "year": 2020}\n'),
        ("table.csv", 'id,title,text,year\na,T,"apple",2020\n'),
        ("table.tsv", "id\ttitle\ttext\tyear\na\tT\tapple\t2020\n"),
    ],
)
def test_records_of_every_form(plait, tmp_path, name, content):
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    said = plait("index", tmp_path / name, "--out", tmp_path / "i", *LEXICAL, "--json")
    facts = said.json
    assert facts.pop("seconds") > 0
    assert facts == {
        "index": str(tmp_path / "i"),
        "added": 1,
        "new": 1,
        "replaced": 0,
        "unchanged": 0,
        "removed": 0,
        "skipped": 0,
        "documents": 1,
        "stopped": False,
        "tokens": 0,
        "tokens_per_second": 0.0,
    }
    assert said.err == ""
    (hit,) = plait("search", tmp_path / "i", "apples", "--json").json["hits"]
    assert (hit["id"], hit["title"], hit["text"], hit["parent"]) == ("a", "T", "apple", None)
    assert str(hit["metadata"]["year"]) == "2020"


def test_standard_input_and_a_beir_folder_and_two_paths(plait, corpus, tmp_path):
    jsonl(tmp_path / "beir" / "corpus.jsonl", [{"_id": "b1", "text": "beir"}])
    jsonl(tmp_path / "beir" / "queries.jsonl", [{"_id": "q", "text": "not a document"}])
    out = tmp_path / "i"
    assert plait("index", "-", "--out", out, *LEXICAL, stdin='{"id": "s", "text": "stdin"}\n').out == (
        f"added 1; {out} holds 1 documents\n"
    )
    assert plait("add", out, corpus, tmp_path / "beir", "--json").json["added"] == 4
    assert ids(out) == ["b1", "bees", "s", "ships", "snow"]


def test_a_folder_of_texts_becomes_passages_with_parents(plait, tmp_path):
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "guide.md").write_text("# The guide\n\n" + " ".join(WORDS[:100]) + "\n")
    (folder / "note.txt").write_text("A short note on otters.")
    (folder / "deep" / "page one.html").write_text("<title>Page</title><p>Lynxes &amp; owls</p><script>no</script>")
    (folder / ".hidden.txt").write_text("never")
    out = tmp_path / "i"
    plait("index", folder, "--out", out, *LEXICAL, "--words", "40", "--overlap", "10")
    (hit,) = plait("search", out, "word99", "--json").json["hits"]
    assert (hit["parent"], hit["title"]) == ("guide.md", "The guide")
    assert hit["id"].startswith("guide.md#")
    assert hit["text"].endswith("word99")
    whole = (folder / "guide.md").read_text()
    assert whole[hit["start"] : hit["start"] + len(hit["text"])] == hit["text"]
    (owl,) = plait("search", out, "owls", "--json").json["hits"]
    assert (owl["id"], owl["title"], owl["text"]) == ("deep/page%20one.html#0", "Page", "Lynxes & owls")
    assert "never" not in plait("search", out, "never").out
    assert len(plait("search", out, "note otters", "--json").json["hits"]) == 1


def test_what_a_folder_holds_beside_what_is_read_is_told(plait, tmp_path):
    folder, out = tmp_path / "docs", tmp_path / "i"
    (folder / "deep").mkdir(parents=True)
    (folder / "note.txt").write_text("otters")
    said = plait("index", folder, "--out", out, *LEXICAL)
    assert said.err == ""
    for name in ("b.pdf", "deep/c.PDF", "d.docx.gz", "Makefile", ".hidden.pdf"):
        (folder / name).write_text("?")
    jsonl(folder / "deep" / "more.jsonl", [{"id": "r", "text": "lynx"}])
    (folder / "table.csv").write_text("id,text\nc,owl\n")
    said = plait("add", out, folder)
    assert said.err == (
        f"{folder}: not read: deep/more.jsonl, table.csv (beside texts, records are not read: name these files "
        "themselves); 4 of other kinds (.docx, .pdf, no suffix)\n"
    )
    assert ids(out) == ["note.txt#0"]
    said = plait("add", out, folder, folder / "table.csv")
    assert "not read: deep/more.jsonl (beside texts" in said.err, "what is named itself is read"
    plait("index", folder / "note.txt", "--out", folder / "an.index", *LEXICAL)
    said = plait("add", out, folder)
    assert "4 of other kinds (.docx, .pdf, no suffix)" in said.err, "an index in the folder is nothing to be read"
    beir = tmp_path / "beir"
    jsonl(beir / "corpus.jsonl", [{"_id": "b", "text": "beir"}])
    (beir / "readme.txt").write_text("not a document")
    assert plait("add", out, beir).err == ""


def test_passages_can_be_always_or_never(plait, tmp_path):
    record = jsonl(tmp_path / "long.jsonl", [{"id": "a", "text": " ".join(WORDS[:300])}])
    plait("index", record, "--out", tmp_path / "always", *LEXICAL, "--passages", "always")
    assert ids(tmp_path / "always") == ["a#0", "a#1"]
    (tmp_path / "t.txt").write_text(" ".join(WORDS[:300]))
    plait("index", tmp_path / "t.txt", "--out", tmp_path / "never", *LEXICAL, "--passages", "never")
    assert ids(tmp_path / "never") == ["t.txt"]


def test_running_it_again_encodes_nothing(plait, corpus, index, monkeypatch):
    def no(*_args):
        raise AssertionError("encoded again")

    monkeypatch.setattr(LexicalEncoder, "encode_documents", no)
    said = plait("index", corpus, "--out", index, *LEXICAL)  # the same command, word for word
    assert said.out == f"added 0, unchanged 3; {index} holds 3 documents\n"
    assert said.err == f"{index} exists: adding to it; documents that are there already are not encoded again\n"
    assert len(plait("info", index, "--json").json["segments"]) == 1


def test_what_is_new_replaced_and_unchanged_is_told(plait, index, tmp_path):
    records = [("snow", "Sleet."), ("bees", TEXTS["bees"]), ("ice", "Ice floats.")]
    path = jsonl(tmp_path / "more.jsonl", [{"id": id, "text": text} for id, text in records])
    said = plait("add", index, path)
    assert said.out == f"added 2 (1 new, 1 replaced), unchanged 1; {index} holds 4 documents\n"
    jsonl(path, [{"id": "snow", "text": "Hail."}, {"id": "ice", "text": "Ice melts."}])
    facts = plait("index", path, "--out", index, "--json").json
    counts = {name: facts[name] for name in ("added", "new", "replaced", "unchanged", "documents")}
    assert counts == {"added": 2, "new": 0, "replaced": 2, "unchanged": 0, "documents": 4}
    jsonl(path, [{"id": "fog", "text": "Fog."}])
    assert plait("add", index, path).out == f"added 1; {index} holds 5 documents\n"


def test_a_second_folder_with_files_of_the_same_names_replaces_and_says_so(plait, tmp_path):
    for name, text in (("one", "first apple"), ("two", "second pear")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text(text)
    (tmp_path / "two" / "other.txt").write_text("plum")
    plait("index", tmp_path / "one", "--out", tmp_path / "i", *LEXICAL)
    said = plait("add", tmp_path / "i", tmp_path / "two")
    assert said.out == f"added 2 (1 new, 1 replaced); {tmp_path / 'i'} holds 2 documents\n"
    assert plait("search", tmp_path / "i", "apple").out == "nothing found\n"


def test_a_file_that_is_cut_no_more_or_now_leaves_nothing_of_before(plait, tmp_path):
    """What an earlier command made of the same file goes, whichever way it was cut."""
    folder, out = tmp_path / "docs", tmp_path / "i"
    folder.mkdir()
    (folder / "a.txt").write_text(" ".join(WORDS[:500]))
    (folder / "b.txt").write_text("stays as it is")
    command = ("index", folder, "--out", out, *LEXICAL, "--json")
    facts = plait(*command).json
    assert (facts["added"], ids(out)) == (4, ["a.txt#0", "a.txt#1", "a.txt#2", "b.txt#0"])
    (folder / "a.txt").write_text("whole now")
    facts = plait(*command, "--passages", "never").json
    assert (facts["added"], facts["removed"], facts["documents"]) == (2, 4, 2)
    assert ids(out) == ["a.txt", "b.txt"]
    assert plait("search", out, "word3").out == "nothing found\n"
    facts = plait("add", out, folder / "a.txt", "--json").json
    assert (facts["added"], facts["removed"], ids(out)) == (1, 1, ["a.txt#0", "b.txt"])


def test_only_what_changed_is_encoded(plait, index, tmp_path):
    changed = jsonl(
        tmp_path / "changed.jsonl", [{"id": "snow", "text": "Sleet."}, {"id": "bees", "text": TEXTS["bees"]}]
    )
    assert plait("add", index, changed, "--json").json["added"] == 1
    assert plait("search", index, "melts").out == "nothing found\n"
    assert plait("search", index, "sleet", "--json").json["hits"][0]["text"] == "Sleet."
    assert plait("info", index, "--json").json["documents"] == 3


def test_a_changed_file_replaces_its_passages_and_removes_stale_ones(plait, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text(" ".join(WORDS[:500]))
    (folder / "b.txt").write_text(" ".join(WORDS[500:]))
    command = ("index", folder, "--out", tmp_path / "i", *LEXICAL, "--json")
    before = plait(*command).json["documents"]
    (folder / "a.txt").write_text("now short")
    facts = plait(*command).json
    assert (facts["added"], facts["documents"]) == (1, before - facts["removed"])
    assert facts["removed"] == 2
    assert [id for id in ids(tmp_path / "i") if id.startswith("a.txt")] == ["a.txt#0"]
    assert plait("search", tmp_path / "i", "word3").out == "nothing found\n"


def test_a_change_while_text_was_committed_in_parts(plait, tmp_path):
    records = [{"id": f"d{number}", "text": f"text {number}"} for number in range(700)]
    path = jsonl(tmp_path / "many.jsonl", records)
    facts = plait("index", path, "--out", tmp_path / "i", *LEXICAL, "--commit-every", "100", "--json").json
    assert (facts["added"], facts["documents"]) == (700, 700)
    assert len(plait("info", tmp_path / "i", "--json").json["segments"]) == 1  # the three were merged at the end


def test_a_little_that_is_added_to_a_lot_is_not_merged(plait, tmp_path):
    for name, count in (("many", 50), ("few", 5)):
        records = [{"id": f"{name}{number}", "text": f"text {number}"} for number in range(count)]
        jsonl(tmp_path / f"{name}.jsonl", records)
    plait("index", tmp_path / "many.jsonl", "--out", tmp_path / "i", *LEXICAL)
    plait("add", tmp_path / "i", tmp_path / "few.jsonl")
    assert len(plait("info", tmp_path / "i", "--json").json["segments"]) == 2
    facts = plait("compact", tmp_path / "i", "--json").json
    assert {name: facts[name] for name in ("merged", "segments", "documents", "dropped")} == {
        "merged": 2, "segments": 1, "documents": 55, "dropped": 0,
    }  # fmt: skip
    assert facts["index"] == str(tmp_path / "i")
    assert facts["bytes"] == plait("info", tmp_path / "i", "--json").json["bytes"]


def test_compact_drops_what_was_deleted(plait, index, tmp_path):
    records = [{"id": f"d{number}", "text": f"winter {number}"} for number in range(40)]
    plait("add", index, jsonl(tmp_path / "more.jsonl", records))
    plait("delete", index, "d7", "snow")
    hits = plait("search", index, "winter", "--json").json["hits"]
    assert plait("info", index, "--json").json["deleted"] == 2
    said = plait("compact", index).out
    assert said.startswith(f"merged 1 segment, dropped 2 deleted documents; {index} has 1 segment and takes ")
    assert plait("info", index, "--json").json["deleted"] == 0
    assert [hit["id"] for hit in plait("search", index, "winter", "--json").json["hits"]] == [hit["id"] for hit in hits]
    assert plait("compact", index).out == f"{index} is compact already\n"


def test_delete_by_id_by_parent_and_from_a_file(plait, index, tmp_path):
    (tmp_path / "t.txt").write_text(" ".join(WORDS[:500]))
    plait("add", index, tmp_path / "t.txt")
    assert plait("delete", index, "t.txt", "--json").json == {"deleted": 3, "unknown": [], "documents": 3}
    (tmp_path / "gone").write_text("\ufeffsnow\n\n nobody \n", encoding="utf-8")
    said = plait("delete", index, "--from", tmp_path / "gone")
    assert said.out == "deleted 1 document; 2 remain\n"
    assert said.err == "1 of the ids were not there: nobody\n"
    assert plait("delete", index, "--from", "-", "ships", stdin="bees\n").out == "deleted 2 documents; 0 remain\n"
    assert plait("search", index, "winter").out == "nothing found\n"
    assert plait("info", index, "--json").json["segments"] == []


def test_info(plait, index):
    facts = plait("info", index, "--json").json
    assert (facts["documents"], facts["strands"], facts["path"]) == (3, ["lexical"], str(index))
    assert facts["encoders"]["lexical"]["name"] == "snowball-english"
    said = plait("info", index, "--verify").out
    rows = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in said.splitlines()[:-1])
    assert rows["index"] == str(index)
    assert rows["documents"] == "3"
    assert rows["fusion"] == f"convex (lexical {FUSIONS['convex'].weights['lexical']:g}; chosen by plait)"
    assert rows["steps"] == "none"  # one strand alone
    assert rows["lexical"].startswith("BM25 k1=0.9 b=0.4, ")
    assert said.endswith("every file matches its checksum\n")


def test_version(plait):
    assert plait("version").out == f"plait {version('plait')}\n"
    assert plait("version", "--json").json["plait"] == version("plait")


def test_help_names_every_command(plait):
    said = plait("--help").out
    for command in ("index", "add", "delete", "compact", "fields", "search", "eval", "info", "demo", "version"):
        assert re.search(rf"^  {command}  ", said, re.MULTILINE)


def test_the_language_is_chosen_and_kept(plait, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"id": "h", "text": "Die Häuser"}])
    plait("index", path, "--out", tmp_path / "i", *LEXICAL, "--language", "de")
    assert plait("search", tmp_path / "i", "Haus häuser", "--json").json["hits"][0]["id"] == "h"
    assert plait("info", tmp_path / "i", "--json").json["encoders"]["lexical"]["name"] == "snowball-german"


def test_three_strands_from_end_to_end(plait, corpus, tmp_path):
    out = tmp_path / "i"
    assert plait("index", corpus, "--out", out, "--json").json["added"] == 3
    hits = plait("search", out, "insects that gather nectar", "-k", "5", "--explain", "--json").json["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["id"] == "bees"
    assert list(hits[0]["strands"]) == ["lexical", "learned", "dense"]
    weights = {name: view["weight"] for name, view in hits[0]["strands"].items()}
    total = sum(weights.values())
    for hit in hits:
        mean = sum(weights[name] * view["normalised"] for name, view in hit["strands"].items()) / total
        assert hit["score"] == pytest.approx(mean)
    assert {"strand": "lexical", "term": "nectar"} in [
        {key: match[key] for key in ("strand", "term")} for match in hits[0]["matches"]
    ]
    alone = plait("search", out, "insects that gather nectar", "--strands", "dense", "--json").json["hits"]
    plain = plait("search", out, "insects that gather nectar", "--pipeline", "none", "--json").json["hits"]
    assert [hit["strands"]["dense"]["score"] for hit in alone] == sorted(
        (hit["strands"]["dense"]["score"] for hit in plain), reverse=True
    )
    rrf = plait("search", out, "insects that gather nectar", "--fusion", "rrf", "--json").json["hits"]
    assert rrf[0]["score"] == pytest.approx(3 / 61)
    assert json.dumps(rrf[0]["strands"]["dense"]["rank"]) == "1"

"""`plait check`: what is damaged is named, with what to do about it, and doing that repairs it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from plait.index import Writer, database, files
from plait.index.check import AGAIN, COMPACT, DECLARE, REWRITE

from .conftest import jsonl
from .test_cli_errors import error

RECORDS = [
    {"id": "a", "text": "Red apples.", "metadata": {"year": 2019, "tags": ["fruit", "red"]}},
    {"id": "b", "text": "Green apples.", "metadata": {"year": 2021, "tags": ["fruit"]}},
    {"id": "[bold]c", "text": "Apple pie.", "metadata": {"year": 2023}},
]
OPTIONS = ("--strands", "lexical", "--field", "year:integer", "--field", "tags:text[]")


@pytest.fixture
def source(tmp_path):
    return jsonl(tmp_path / "apples.jsonl", RECORDS)


@pytest.fixture
def apples(plait, source, tmp_path):
    """An index of three documents with two fields, in one segment."""
    plait("index", source, "--out", tmp_path / "a.index", *OPTIONS)
    return tmp_path / "a.index"


def change(index, *statements):
    """Changes the database behind plait's back."""
    with closing(sqlite3.connect(index / "plait.db", isolation_level=None)) as connection:
        for sql in statements:
            connection.execute(sql)


def problems(plait, index):
    """Returns what is wrong: the problems as JSON, which the lines for people tell as well."""
    facts = plait("check", index, "--json", code=1).json
    told = [f"{p['where']}: {p['what']}; {p['advice']}" for p in facts["problems"]]
    *lines, verdict = plait("check", index, code=1).out.splitlines()
    assert lines == told
    assert verdict.startswith(f"{index}: {facts['documents']} documents and {facts['files']} files, ")
    assert verdict.endswith(f" MB: {len(told)} problem{'s' * (len(told) != 1)}")
    return facts["problems"]


def whole(plait, index):
    return plait("check", index, "--json").json["problems"] == []


def test_a_whole_index(plait, apples):
    read = [apples / "plait.db", *(path for path in apples.glob("segments/*/*") if path.is_file())]
    size = sum(path.stat().st_size for path in read)
    verdict = f"3 documents and {len(read)} files, {size / 1e6:,.1f} MB: all as it was written"
    assert plait("check", apples) == (f"{apples}: {verdict}\n", "")
    assert plait("check", apples, "--json").json == {
        "index": str(apples),
        "files": len(read),
        "bytes": size,
        "documents": 3,
        "problems": [],
    }


def test_an_index_that_is_empty_or_is_being_written(plait, apples):
    with closing(Writer(apples)) as writer:
        writer.delete(["a"])
        assert plait("check", apples, "--json").json["documents"] == 3
        writer.delete(["b", "[bold]c"])
        writer.commit()
        said = plait("check", apples, "--json").json
    assert (said["documents"], said["files"], said["problems"]) == (0, 1, [])


@pytest.mark.parametrize("part", ["impacts", "offsets", "forward_terms", "id_rank", "shape"])
def test_a_damaged_array(plait, apples, part):
    (path,) = apples.glob(f"segments/*/{part}.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (found,) = problems(plait, apples)
    assert found == {"where": str(path), "what": "its checksum is not the one that was written", "advice": AGAIN}
    path.write_bytes(content)
    assert whole(plait, apples)


@pytest.mark.parametrize("part", ["impacts.npy", "forward_starts.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_file_that_is_missing_or_cut_short(plait, apples, part, damage):
    (path,) = apples.glob(f"segments/*/{part}")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1])
    (found,) = problems(plait, apples)
    assert (found["where"], found["advice"]) == (str(path.parent), AGAIN)
    assert found["what"].startswith(f"{path} ")
    if part != "manifest.json":
        cut = f"is {len(content) - 1} bytes long; {len(content)} were written"
        assert found["what"] == f"{path} {'is missing' if damage == 'missing' else cut}"


def test_the_damage_of_each_segment_is_told(plait, apples, tmp_path, monkeypatch):
    monkeypatch.setattr("plait.apps.ingesting.merge_where_it_pays", lambda *_: None)
    plait("add", apples, jsonl(tmp_path / "d.jsonl", [{"id": f"d{n}", "text": "pears"} for n in range(9)]))
    hurt = sorted(apples.glob("segments/*/impacts.npy"))
    assert len(hurt) == 2
    for path in hurt:
        path.write_bytes(path.read_bytes()[:-1] + b"\xfe")
    change(apples, "UPDATE document SET text = 'Bad apples.' WHERE id = 'a'")
    assert [one["where"] for one in problems(plait, apples)] == ["document 'a'", *map(str, hurt)]


@pytest.mark.parametrize(
    "change_to",
    ["text = 'Bad apples.'", "title = 'x'", "metadata = '{\"year\": 1}'", "metadata = '{', parent = NULL", "start = 7"],
)
def test_a_document_that_was_changed_is_named_and_can_be_put_in_its_place_again(plait, apples, source, change_to):
    change(apples, f"UPDATE document SET {change_to} WHERE id = '[bold]c'")  # noqa: S608  # of the cases above
    found = problems(plait, apples)
    named = {"where": "document '[bold]c'", "what": "its text does not match its digest", "advice": REWRITE}
    assert found[-1] == named
    assert all(one["advice"] == DECLARE for one in found[:-1])
    assert bool(found[:-1]) == change_to.startswith("metadata")
    plait("delete", apples, "[bold]c")
    assert plait("add", apples, source, "--json").json["added"] == 1
    assert whole(plait, apples)
    assert plait("search", apples, "pie", "--filter", "year = 2023", "--json").json["hits"][0]["id"] == "[bold]c"


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ("UPDATE attribute SET f1 = 1900 WHERE f1 = 2021", "year"),
        ("UPDATE attribute SET f1 = NULL WHERE f1 = 2021", "year"),
        ("UPDATE attribute SET f2 = 1 WHERE f2 = 2", "tags"),
        ("DELETE FROM item WHERE value = 'red'", "tags"),
        ("UPDATE item SET value = 'blue' WHERE value = 'red'", "tags"),
        ("INSERT INTO item SELECT field, 'blue', position FROM item WHERE value = 'red'", "tags"),
    ],
)
def test_a_filter_column_that_was_changed_is_named_and_can_be_declared_again(plait, apples, statement, field):
    change(apples, statement)
    (found,) = problems(plait, apples)
    assert found == {
        "where": str(apples / "plait.db"),
        "what": f"the field {field!r} differs from the documents' metadata",
        "advice": DECLARE,
    }
    type = {"year": "integer", "tags": "text[]"}[field]
    plait("fields", apples, "--drop", field, "--add", f"{field}:{type}")
    assert whole(plait, apples)


def test_a_lost_row_of_the_filter_columns(plait, apples):
    change(apples, "DELETE FROM attribute WHERE f1 = 2023")
    found = problems(plait, apples)
    assert [one["what"] for one in found] == [
        "the table of declared fields has not the rows of the documents",
        "the field 'year' differs from the documents' metadata",
    ]


def test_a_document_that_was_lost(plait, apples):
    change(apples, "DELETE FROM document WHERE id = 'b'")
    found = problems(plait, apples)
    assert {one["where"] for one in found} == {str(apples / "plait.db")}
    assert {one["advice"] for one in found} == {AGAIN}
    assert found[0]["what"].startswith("2 documents of 4 terms are there, 3 of 6 were counted")
    assert found[1]["what"] == "3 documents live in segments, 2 have a text"


@pytest.mark.parametrize("compacted", [False, True])
def test_postings_that_differ_from_the_forward_copy_are_written_anew_by_compacting(plait, apples, compacted):
    """As a fault while they were made would leave them: every checksum is right."""
    if compacted:
        plait("compact", apples)
    with closing(database.open_writer(apples)) as connection:
        database.begin(connection)
        (row,) = database.segments(connection)
        folder = apples / "segments" / f"{row.number:06d}"
        manifest = files.read_manifest(folder, row.checksum)
        path = folder / "impacts.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"\x07")
        names = ("format", "files")
        checksum = files.write_manifest(folder, {key: value for key, value in manifest.items() if key not in names})
        connection.execute("UPDATE segment SET checksum = ?", (checksum,))
        database.commit(connection)
    (found,) = problems(plait, apples)
    assert found == {"where": str(path), "what": "it does not follow from the forward copy", "advice": COMPACT}
    plait("compact", "--anew", apples)
    assert whole(plait, apples)


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be read as one" * 40])
def test_a_database_that_cannot_be_asked(plait, apples, content):
    for path in apples.glob("plait.db*"):
        path.unlink()
    (apples / "plait.db").write_bytes(content)
    for options in ((), ("--json",)):
        assert error(plait, "check", apples, *options).startswith(str(apples / "plait.db"))


def test_settings_that_were_changed(plait, apples):
    change(apples, "UPDATE counter SET value = value + 1 WHERE name = 'documents'")
    said = error(plait, "check", apples)
    assert said == f"{apples / 'plait.db'} is damaged: its settings, counters or lists of segments were changed"


def test_what_is_no_index(plait, tmp_path):
    missing = tmp_path / "no.index"
    assert error(plait, "check", missing).startswith(f"there is no index at {missing}; make one with: ")
    (tmp_path / "other").mkdir()
    assert error(plait, "check", tmp_path / "other") == f"{tmp_path / 'other'} is not a plait index: it has no plait.db"

"""`plait fields`, `--field` and `--filter`: metadata declared, asked for, and told."""

from __future__ import annotations

from contextlib import closing

import pytest
from plait.index import Writer

from .conftest import jsonl
from .test_cli_errors import error

LEXICAL = ("--strands", "lexical")
DECLARED = ("--field", "year:integer", "--field", "tags:text[]")
RECORDS = [
    {"id": "a", "text": "Red apples.", "metadata": {"year": 2019, "tags": ["fruit", "red"]}},
    {"id": "b", "text": "Green apples.", "metadata": {"year": 2021, "tags": ["fruit"], "day": "2021-03-04"}},
    {"id": "c", "text": "Apple pie.", "metadata": {"year": 2023}},
    {"id": "d", "text": "No fruit here.", "metadata": {}},
]


@pytest.fixture
def apples(plait, tmp_path):
    """An index of four documents with two fields."""
    plait("index", jsonl(tmp_path / "apples.jsonl", RECORDS), "--out", tmp_path / "a.index", *LEXICAL, *DECLARED)
    return tmp_path / "a.index"


def found(plait, index, expression):
    hits = plait("search", index, "apples", "--filter", expression, "--json").json["hits"]
    return sorted(hit["id"] for hit in hits)


@pytest.mark.parametrize(
    ("expression", "ids"),
    [
        ("year >= 2020", ["b", "c"]),
        ("year >= 2020 AND 'fruit' IN tags", ["b"]),
        ("tags contains any ('red', 'pie') or year = 2023", ["a", "c"]),
        ("tags IS NULL", ["c"]),
        ("id <> 'a'", ["b", "c"]),
        ("year > 3000", []),
    ],
)
def test_a_search_is_filtered(plait, apples, expression, ids):
    assert found(plait, apples, expression) == ids


def test_hits_for_people_runs_and_batches_are_filtered_too(plait, apples, tmp_path):
    options = ("--filter", "year >= 2020")
    assert [line.split()[::2][:2] for line in plait("search", apples, "apples", *options).out.splitlines()[::3]] == [
        ["1", "c"],
        ["2", "b"],
    ]
    said = plait("search", apples, "--queries", "-", *options, stdin="apples\nfruit\n")
    assert [line.split()[2] for line in said.out.splitlines()] == ["c", "b"]
    run = tmp_path / "r.run"
    plait("search", apples, "--queries", "-", "--run", run, *options, stdin="apples\nfruit\n")
    assert run.read_text() == said.out
    first, second = plait("search", apples, "--queries", "-", "--json", *options, stdin="apples\nfruit\n").lines
    assert [hit["id"] for hit in first["hits"]] == ["c", "b"]
    assert second["hits"] == []
    assert plait("search", apples, "apples", "--filter", "year > 3000") == ("nothing found\n", "")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "the filter is empty; leave it out to search everything"),
        (
            "yaer = 1",
            "filter, character 1, at 'yaer = 1': there is no column 'yaer'; declared: year (integer), tags (text[]); "
            "every document has: id, title, parent",
        ),
        (
            "year >",
            "filter, character 7, at its end: expected a value: 'text', a number, TRUE, FALSE or NULL",
        ),
        ("year = 'x'", "filter, character 8, at \"'x'\": year (integer) is compared with a number"),
    ],
)
def test_filters_that_cannot_be_answered(plait, apples, expression, message):
    assert error(plait, "search", apples, "apples", "--filter", expression) == message
    assert error(plait, "search", apples, "--queries", "-", "--filter", expression, stdin="x\n") == message


def test_fields_are_listed_declared_and_dropped(plait, apples):
    assert plait("fields", apples) == ("year:integer\ntags:text[]\n", "")
    assert plait("fields", apples, "--add", "day:date", "--drop", "tags").out == "year:integer\nday:date\n"
    assert plait("fields", apples, "--json").json == {
        "index": str(apples),
        "fields": {"year": "integer", "day": "date"},
    }
    assert found(plait, apples, "day < '2022-01-01'") == ["b"]
    assert plait("fields", apples, "--drop", "year", "--add", "year:number", "--json").json["fields"] == {
        "day": "date",
        "year": "number",
    }
    assert plait("fields", apples, "--drop", "year", "--drop", "day").out == (
        f"{apples} declares no fields; add one with: plait fields {apples} --add year:integer\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--add", "year"), "--add takes name:type, as year:integer or tags:text[]; not 'year'"),
        (("--add", ":text"), "--add takes name:type, as year:integer or tags:text[]; not ':text'"),
        (("--add", "x:text", "--add", "x:date"), "--add names a field twice: x:text, x:date"),
        (("--add", "x:string"), "the field 'x' cannot have the type 'string'; there are text, integer, number, "),
        (("--add", "id:text"), "every document has 'id' already: it is a text column without being declared"),
        (("--add", "year:text"), "the field 'year' is declared integer already; drop it before it becomes text"),
        (("--drop", "x"), "no field 'x' is declared; there are: year, tags"),
        (
            ("--add", "x:text", "--drop", "tags", "--add", "day:integer"),
            "document 'b': 'day' is declared integer, and '2021-03-04' does not fit; expected a whole number",
        ),
    ],
)
def test_fields_that_cannot_be_declared_change_nothing(plait, apples, options, message):
    assert error(plait, "fields", apples, *options).startswith(message)
    assert plait("fields", apples).out == "year:integer\ntags:text[]\n"


def test_fields_of_an_index_that_is_written_or_is_none(plait, apples, tmp_path):
    with closing(Writer(apples)):
        assert error(plait, "fields", apples, "--add", "x:text").startswith(f"{apples} is being written by another")
        assert plait("fields", apples).out == "year:integer\ntags:text[]\n"
    assert error(plait, "fields", tmp_path / "no").startswith(f"there is no index at {tmp_path / 'no'}")


def test_info_shows_fields(plait, apples, index):
    assert plait("info", apples, "--json").json["fields"] == {"year": "integer", "tags": "text[]"}
    assert "year:integer, tags:text[]" in plait("info", apples).out
    assert plait("info", index, "--json").json["fields"] == {}


def test_an_index_goes_on_with_the_fields_it_was_made_with(plait, apples, tmp_path):
    path = jsonl(tmp_path / "more.jsonl", [{"id": "e", "text": "Apple juice.", "year": 2024}])
    command = ("index", path, "--out", apples, *LEXICAL)
    assert error(plait, *command, "--field", "day:date") == (
        f"{apples} was made without the field 'day'; declare it with: plait fields {apples} --add day:date"
    )
    assert error(plait, *command, "--field", "year:text") == (
        f"{apples} declares 'year' as integer, not text; leave --field year:text out"
    )
    assert plait(*command, *DECLARED, "--json").json["added"] == 1
    assert found(plait, apples, "year > 2022") == ["c", "e"]


def test_a_field_that_cannot_be_leaves_no_index_behind(plait, tmp_path):
    path = jsonl(tmp_path / "apples.jsonl", RECORDS)
    said = error(plait, "index", path, "--out", tmp_path / "i", *LEXICAL, "--field", "year")
    assert said == "--field takes name:type, as year:integer or tags:text[]; not 'year'"
    assert error(plait, "index", path, "--out", tmp_path / "i", *LEXICAL, "--field", "year:int").startswith(
        "the field 'year' cannot have the type 'int'; there are text, integer, number, boolean, date, and lists of them"
    )
    assert not (tmp_path / "i").exists()


def test_values_that_do_not_fit_stop_or_are_skipped(plait, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,text,year\na,apple one,2020\nb,apple two,n/a\nc,apple three,\n")
    message = (
        "document 'b': 'year' is declared integer, and 'n/a' does not fit; expected a whole number of 64 bits, as 2021"
    )
    command = ("index", path, "--out", tmp_path / "i", *LEXICAL, "--field", "year:integer")
    said = plait(*command, code=1)
    assert said == ("", f"kept: 1 documents are in {tmp_path / 'i'}\nerror: {message}\n")
    said = plait(*command, "--skip-bad", "--json")
    assert (said.json["added"], said.json["skipped"], said.json["documents"]) == (1, 1, 2)
    assert f"skipped: {message}\n" in said.err
    assert found(plait, tmp_path / "i", "year = 2020") == ["a"]
    assert found(plait, tmp_path / "i", "year IS NULL") == ["c"]

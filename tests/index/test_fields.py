"""Declared fields: which values fit, what is kept of them, and how selections follow commits, deletes and merges."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.index import Field, FilterError, Layout, Snapshot, StoreError, Writer, attributes, create, selections
from plait.index.fields import MOST_FIELDS, OWN, TYPES, date, value_of
from plait.retriever import Document

from .making import DIM, vectors

FIELDS = {"year": "integer", "tags": "text[]", "day": "date"}


def documents(count, start=0):
    """Returns documents with a year, tags and a day, some of them missing."""
    return [
        Document(
            id=f"d{i:04}",
            text=f"text {i}",
            title="even" if i % 2 == 0 else "odd",
            metadata={
                **({"year": 2000 + i % 10} if i % 7 else {}),
                "tags": [f"t{n}" for n in range(12) if i % (n + 2) == 0],
                "day": f"2021-{1 + i % 12:02}-01",
            },
        )
        for i in range(start, start + count)
    ]


def add(writer, given, seed=0):
    writer.add(given, *vectors(seed, len(given)))


def made(folder, *, count=60, fields=FIELDS, batches=1, layout=None):
    """Returns a new index with `count` documents, in several segments if wanted."""
    create(folder, layout or Layout(dim=DIM, window=16), {}, fields)
    with closing(Writer(folder, compaction="off")) as writer:
        for batch in range(batches):
            add(writer, documents(count // batches, batch * (count // batches)), batch)
            writer.commit()
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my.index"


def ids(snapshot, expression):
    """Returns the ids that a filter selects, by way of the arrays that searches get."""
    chosen = snapshot.select(expression)
    assert [alive.dtype for alive in chosen.alive] == [np.uint8] * len(snapshot.segments)
    assert [alive.shape for alive in chosen.alive] == [(segment.size,) for segment in snapshot.segments]
    assert chosen.count == sum(int(alive.sum()) for alive in chosen.alive)
    assert chosen.counts == tuple(int(alive.sum()) for alive in chosen.alive)
    pairs = zip(snapshot.segments, chosen.alive, strict=True)
    positions = [segment.positions_of(np.flatnonzero(alive)) for segment, alive in pairs]
    return sorted(snapshot.ids(np.concatenate([np.empty(0, np.int64), *positions])))


def selected(folder, expression):
    with closing(Snapshot(folder)) as snapshot:
        return ids(snapshot, expression)


# Values


@pytest.mark.parametrize(
    ("type", "given", "kept"),
    [
        ("text", "a ", "a "),
        ("text", "", ""),
        ("text", None, None),
        ("integer", 2021, 2021),
        ("integer", "2021", 2021),
        ("integer", " -7 ", -7),
        ("integer", 2021.0, 2021),
        ("integer", "", None),
        ("integer", 2**63 - 1, 2**63 - 1),
        ("integer", "-9223372036854775808", -(2**63)),
        ("number", 1, 1),
        ("number", 0.5, 0.5),
        ("number", "1e-3", 0.001),
        ("number", "2", 2),
        ("number", 2**53 + 1, 2**53 + 1),
        ("number", 2**64, float(2**64)),
        ("number", " ", None),
        ("boolean", True, 1),
        ("boolean", "FALSE", 0),
        ("boolean", "", None),
        ("date", "2021-03-04", "2021-03-04"),
        ("date", "2021-03-04T00:00:00+00:00", "2021-03-04"),
        ("date", "2021-03-04 05:06", "2021-03-04T05:06:00"),
        ("date", "2021-03-04T05:06:07.5Z", "2021-03-04T05:06:07.500000"),
        ("date", "2021-03-04t01:00:00,25+0200", "2021-03-03T23:00:00.250000"),
        ("date", "2021-12-31T23:00:00-01", "2022-01-01"),
        ("date", "", None),
        ("text[]", ["b", "a", "b"], ("b", "a")),
        ("text[]", [], ()),
        ("text[]", ("a",), ("a",)),
        ("text[]", "one text", ("one text",)),
        ("text[]", '["a", "b"]', ("a", "b")),
        ("text[]", "[not json", ("[not json",)),
        ("text[]", "", None),
        ("integer[]", [1, "2", 3.0], (1, 2, 3)),
        ("integer[]", 5, (5,)),
        ("integer[]", "[1, 2]", (1, 2)),
        ("number[]", [1, 1.0, 1.5], (1, 1.5)),
        ("boolean[]", [True, "false"], (1, 0)),
        ("date[]", ["2021-03-04", "2021-03-04T00:00Z"], ("2021-03-04",)),
    ],
)
def test_values_that_fit(type, given, kept):
    found = value_of(Field(1, "it", type), "d", {"it": given})
    assert (found, [*map(type_of, found or ())] if isinstance(found, tuple) else type_of(found)) == (
        kept,
        [*map(type_of, kept or ())] if isinstance(kept, tuple) else type_of(kept),
    )
    assert value_of(Field(1, "other", type), "d", {"it": given}) is None


def type_of(value):
    return value.__class__


NEVER = [{}, {"a": 1}, object, float("nan"), float("inf"), 10**400, 10**5000, "\ud800"]
MISFITS = {
    "text": [1, True, 1.5, ["a"], *NEVER],
    "integer": ["2021.0", "1_000", "٣", "x", 1.5, True, False, 2**63, -(2**63) - 1, "9" * 5000, [1], *NEVER],
    "number": ["1,5", "nan", "inf", "0x10", "x", True, [1.5], *NEVER],
    "boolean": [0, 1, "1", "yes", 1.0, [True], *NEVER],
    "date": [20210304, "2021", "2021-13-01", "2021-02-30", "04.03.2021", "2021-03-04T25:00", "2021-03-04T05:06+24:00",
             "0001-01-01T00:00+01:00", "today", True, *NEVER],
    "text[]": [[1], ["a", None], [["a"]], {"a": 1}, 5, True],
    "integer[]": [["x"], [1, None], [""], "x", "[1.5]", [True]],
}  # fmt: skip


@pytest.mark.parametrize("type", MISFITS)
def test_values_that_do_not_fit_are_named(type):
    for value in MISFITS[type]:
        with pytest.raises(StoreError) as told:
            value_of(Field(1, "it", type), "d-17", {"it": value})
        said = str(told.value)
        assert said.startswith(f"document 'd-17': 'it' is declared {type}, and ")
        assert said.endswith(TYPES[type.removesuffix("[]")].expected)
        assert len(said) < 300


def test_the_error_shows_the_value():
    with pytest.raises(StoreError) as told:
        value_of(Field(1, "year", "integer"), "d1", {"year": "n/a"})
    assert str(told.value) == (
        "document 'd1': 'year' is declared integer, and 'n/a' does not fit; expected a whole number of 64 bits, as 2021"
    )
    with pytest.raises(StoreError, match=r"and \['a', None\] does not fit; expected a list, each item a string"):
        value_of(Field(1, "tags", "text[]"), "d1", {"tags": ["a", None]})


MOMENTS = st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=-5, minutes=-30))))


@given(moments=st.lists(st.one_of(st.datetimes(), st.dates(), MOMENTS), min_size=2, max_size=2))
def test_dates_compare_as_text(moments):
    def utc(moment):
        moment = moment if isinstance(moment, datetime) else datetime(moment.year, moment.month, moment.day)
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)

    try:
        left, right = map(utc, moments)
        kept = [date(moment.isoformat()) for moment in moments]
    except (OverflowError, ValueError):  # beyond the years 1 to 9999 in UTC, or an offset of seconds, long ago
        return
    assert (kept[0] < kept[1], kept[0] == kept[1]) == (left < right, left == right)
    assert [date(moment) for moment in kept] == kept


# Declaring


def test_fields_are_declared_with_the_index_or_later(folder):
    made(folder, count=4)
    with closing(Writer(folder)) as writer, closing(Snapshot(folder)) as before:
        assert {field.name: field.type for field in writer.fields} == FIELDS
        writer.declare("title2", "text")
        writer.declare("year", "integer")  # as it is: nothing to do
        assert [field.name for field in writer.fields] == [*FIELDS, "title2"]
        assert [field.name for field in before.fields] == [*FIELDS]
        writer.commit()
        with closing(Snapshot(folder)) as after:
            assert [field.name for field in after.fields] == [*FIELDS, "title2"]
        writer.undeclare("year")
        writer.rollback()
        assert [field.name for field in writer.fields] == [*FIELDS, "title2"]


@pytest.mark.parametrize("fields", [FIELDS, {}])
def test_a_field_declared_late_is_filled_as_one_declared_early(folder, fields):
    made(folder, fields=fields, batches=3)
    with closing(Writer(folder)) as writer:
        add(writer, documents(5, 60), 9)  # not yet committed, nor even written
        for name, type in FIELDS.items():
            writer.declare(name, type)
        add(writer, documents(5, 65), 10)
        writer.commit()
    known = documents(70)
    for expression, test in [
        ("year >= 2005", lambda m: m.get("year", 0) >= 2005),
        ("year IS NULL", lambda m: "year" not in m),
        ("'t3' IN tags", lambda m: "t3" in m["tags"]),
        ("tags CONTAINS ALL ('t0', 't1')", lambda m: {"t0", "t1"} <= set(m["tags"])),
        ("NOT tags CONTAINS ANY ('t0', 't1')", lambda m: not {"t0", "t1"} & set(m["tags"])),
        ("day BETWEEN '2021-03-01' AND '2021-04-01'", lambda m: m["day"] in ("2021-03-01", "2021-04-01")),
    ]:
        assert selected(folder, expression) == [d.id for d in known if test(d.metadata)], expression


def test_a_stored_value_that_does_not_fit_changes_nothing(folder):
    made(folder, count=4, fields={})
    with closing(Writer(folder)) as writer:
        add(writer, [Document(id="bad", text="x", metadata={"year": "long ago", "nested": {"a": [1]}})])
        for name, type, text in [
            ("year", "integer", "document 'bad': 'year' is declared integer, and 'long ago' does not fit"),
            ("nested", "text", "document 'bad': 'nested' is declared text, and {'a': [1]} does not fit"),
            (
                "tags",
                "integer[]",
                r"document 'd0000': 'tags' is declared integer[], and ['t0', 't1', 't2', 't3', 't4', 't5', ",
            ),
        ]:
            with pytest.raises(StoreError) as told:
                writer.declare(name, type)
            assert str(told.value).startswith(text)
        assert writer.fields == ()
        writer.commit()  # what was added before is still there
    with closing(Snapshot(folder)) as snapshot:
        assert snapshot.documents == 5
        assert snapshot.fields == ()
        assert ids(snapshot, "id = 'bad'") == ["bad"]


def test_a_document_that_does_not_fit_stores_nothing_of_its_call(folder):
    made(folder, count=4)
    with closing(Writer(folder)) as writer:
        add(writer, documents(2, 10))
        with pytest.raises(StoreError, match="document 'x': 'year' is declared integer, and True does not fit"):
            add(writer, [*documents(1, 20), Document(id="x", text="x", metadata={"year": True})])
        writer.commit()
    assert selected(folder, "TRUE") == ["d0000", "d0001", "d0002", "d0003", "d0010", "d0011"]


@pytest.mark.parametrize(
    ("name", "type", "text"),
    [
        ("", "text", "a field is named by 1 to 200 characters without control characters, not ''"),
        ("a\nb", "text", r"without control characters, not 'a\nb'"),
        ("a" * 201, "text", "a field is named by 1 to 200 characters"),
        ("\ud800", "text", "without control characters"),
        (5, "text", "a field is named by 1 to 200 characters without control characters, not 5"),
        (
            "x",
            "string",
            "the field 'x' cannot have the type 'string'; there are text, integer, number, boolean, date, and lists",
        ),
        ("x", "text[][]", "cannot have the type 'text[][]'"),
        ("x", None, "cannot have the type None"),
        ("year", "text", "the field 'year' is declared integer already; drop it before it becomes text"),
        *[(name, "text", f"every document has '{name}' already: it is a text column without being") for name in OWN],
    ],
)
def test_declarations_that_cannot_be(folder, name, type, text):
    made(folder, count=4)
    with closing(Writer(folder)) as writer:
        add(writer, documents(1, 10))
        with pytest.raises(StoreError) as told:
            writer.declare(name, type)
        assert text in str(told.value)
        with pytest.raises(StoreError, match="no field 'nope' is declared; there are: year, tags, day"):
            writer.undeclare("nope")
        writer.commit()
    assert len(selected(folder, "TRUE")) == 5


def test_an_index_is_not_made_with_a_field_that_cannot_be(folder):
    with pytest.raises(StoreError, match="cannot have the type 'string'"):
        create(folder, Layout(), {}, {"x": "string"})
    with pytest.raises(StoreError, match=r"fields are names with types, as \{'year': 'integer'\}, not \['year'\]"):
        create(folder, Layout(), {}, ["year"])
    assert list(folder.parent.iterdir()) == []


def test_there_may_be_many_fields_but_not_too_many(folder):
    create(folder, Layout(dim=DIM), {}, {f"f{i}": "integer" for i in range(MOST_FIELDS)})
    with closing(Writer(folder)) as writer:
        add(writer, [Document(id="a", text="x", metadata={f"f{i}": i for i in range(MOST_FIELDS)})])
        with pytest.raises(StoreError, match="an index has at most 200 fields; drop one before 'more' is declared"):
            writer.declare("more", "text")
        writer.commit()
    assert selected(folder, " AND ".join(f"f{i} = {i}" for i in range(MOST_FIELDS))) == ["a"]


@pytest.mark.parametrize(
    "name", ["été", "日本", 'wi"th', "two words", "SELECT", "and", "f1", "position", "a;--", "😀", "id "]
)
def test_any_name_can_be_asked_for(folder, name):
    create(folder, Layout(dim=DIM), {}, {"other": "text", name: "text"})
    with closing(Writer(folder)) as writer:
        add(writer, [Document(id=i, text="x", metadata={name: i, "other": "o"}) for i in "ab"])
        writer.commit()
    quoted = '"' + name.replace('"', '""') + '"'
    assert selected(folder, f"{quoted} = 'a' AND other = 'o'") == ["a"]


def test_a_dropped_field_is_forgotten_and_its_place_used_again(folder):
    made(folder, count=20)
    with closing(Writer(folder)) as writer, closing(Snapshot(folder)) as before:
        writer.undeclare("year")
        writer.undeclare("tags")
        writer.commit()
        with pytest.raises(FilterError, match=r"there is no column 'year'; declared: day \(date\);"):
            selected(folder, "year > 2000")
        writer.declare("what", "text[]")
        writer.declare("size", "number")
        writer.commit()
        assert selected(folder, "what IS NOT NULL OR size IS NOT NULL") == []
        assert {field.number for field in writer.fields} == {1, 2, 3}
        assert len(ids(before, "year > 2000 AND 't0' IN tags")) == 7
    connection = sqlite3.connect(folder / "plait.db")
    assert connection.execute("SELECT count(*) FROM item").fetchone() == (0,)
    assert [row[1] for row in connection.execute("PRAGMA table_info(attribute)")] == ["position", "f1", "f2", "f3"]
    connection.close()


# Selections follow the index


def test_deleted_and_replaced_documents_are_not_selected(folder):
    made(folder, batches=2)
    with closing(Writer(folder)) as writer, closing(Snapshot(folder)) as before:
        everything = ids(before, "year >= 2000")
        writer.delete(everything[::2])
        add(writer, [Document(id=everything[1], text="newer", metadata={"year": 1999, "tags": ["t0"]})])
        writer.commit()
        assert selected(folder, "year >= 2000") == sorted(set(everything[3::2]))
        assert selected(folder, "year = 1999 AND 't0' IN tags") == [everything[1]]
        assert ids(before, "year >= 2000") == everything
        assert ids(before, "year = 1999") == []
        writer.delete(selected(folder, "TRUE"))
        writer.commit()
    assert selected(folder, "TRUE") == []
    connection = sqlite3.connect(folder / "plait.db")
    assert connection.execute("SELECT (SELECT count(*) FROM attribute), (SELECT count(*) FROM item)").fetchone() == (
        0,
        0,
    )
    connection.close()


def test_merging_and_reordering_segments_change_no_selection(folder):
    made(folder, batches=4)
    expressions = ["year >= 2005", "'t1' IN tags AND NOT title = 'even'", "id > 'd0030'", "day = '2021-05-01'"]
    with closing(Writer(folder)) as writer:
        writer.delete([f"d{i:04}" for i in range(0, 60, 5)])
        writer.commit()
        expected = [selected(folder, expression) for expression in expressions]
        assert all(expected)
        writer.compact(reorder=lambda forward: np.random.default_rng(3).permutation(forward.size))
    assert [selected(folder, expression) for expression in expressions] == expected
    with closing(Snapshot(folder)) as snapshot:
        assert len(snapshot.segments) == 1


@pytest.mark.parametrize("batches", [1, 5])
def test_k_matching_documents_come_whenever_there_are_k(folder, batches):
    """Both strands, at every selectivity: what is found is the whole ranking without what does not match."""
    count = 200
    made(folder, count=count, batches=batches)
    with closing(Writer(folder, compaction="off")) as writer:
        writer.delete([f"d{i:04}" for i in range(0, count, 9)])
        writer.commit()
    _, dense = vectors(99, 1)
    terms = np.arange(0, 40, 3, dtype=np.uint32)
    with closing(Snapshot(folder)) as snapshot:
        weights = snapshot.idf(terms)
        searches = [
            lambda k, within=None: snapshot.sparse_search("learned", terms, weights, k, within=within),
            lambda k, within=None: snapshot.dense_search(dense[0], k, within=within),
        ]
        for expression in [
            "TRUE", "year >= 2001", "year >= 2005", "year = 2003", "'t9' IN tags", "id = 'd0001'", "FALSE",
            "id IN ('d0000', 'd0009')", "title = 'odd' AND day < '2021-03-01'", "id > 'd0150'",
        ]:  # fmt: skip
            chosen = snapshot.select(expression)
            allowed = set(ids(snapshot, expression))
            for search in searches:
                whole = search(count)
                names = snapshot.ids(whole.positions)
                keep = [i for i, name in enumerate(names) if name in allowed]
                for k in (1, 3, 10, count):
                    found = search(k, chosen)
                    assert snapshot.ids(found.positions) == [names[i] for i in keep[:k]], expression
                    np.testing.assert_array_equal(found.scores, whole.scores[keep[:k]])
            assert searches[1](count, chosen).positions.size == chosen.count


def test_an_index_without_fields_or_documents_can_be_filtered(folder):
    create(folder, Layout(dim=DIM), {})
    with closing(Snapshot(folder)) as snapshot:
        assert snapshot.select("id = 'x'").count == 0
        assert snapshot.dense_search(np.ones(DIM, np.float32), 3, within=snapshot.select("TRUE")).positions.size == 0
        with pytest.raises(FilterError, match="declared: none"):
            snapshot.select("year = 1")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE attribute SET f1 = 1 WHERE position = 3", "the field 'year' differs from the documents' metadata"),
        ("UPDATE attribute SET f3 = NULL WHERE position = 3", "the field 'day' differs from the documents' metadata"),
        (
            "UPDATE item SET value = 'x' WHERE position = 6 AND value = 't0'",
            "the field 'tags' differs from the documents' metadata",
        ),
        (
            "DELETE FROM item WHERE position = 6 AND value = 't0'",
            "the field 'tags' differs from the documents' metadata",
        ),
        ("DELETE FROM attribute WHERE position = 5", "the table of declared fields has not the rows of the documents"),
        (
            "UPDATE document SET metadata = '{' WHERE position = 5",
            "the field 'year' differs from the documents' metadata",
        ),
    ],
)
def test_damage_to_the_tables_is_seen(folder, sql, said):
    made(folder, count=20)
    with closing(sqlite3.connect(folder / "plait.db", isolation_level=None)) as connection:
        assert list(attributes.damage(connection)) == []
        connection.execute(sql)
        assert next(attributes.damage(connection)) == said


# What is remembered


def test_a_filter_is_answered_once(folder):
    made(folder)
    with closing(Snapshot(folder)) as snapshot:
        first = snapshot.select("year > 2003")
        assert snapshot.select("year > 2003") is first
        assert snapshot.select("year > 2004") is not first
        with closing(Snapshot(folder, older=snapshot)) as same:
            assert same.select("year > 2003") is first
            assert same.dense_search(np.ones(DIM, np.float32), 3, within=first).positions.size == 3


def test_the_least_recently_used_filter_is_forgotten_first(folder, monkeypatch):
    made(folder)
    with closing(Snapshot(folder)) as snapshot:
        monkeypatch.setattr(selections, "MOST_KEPT", 2)
        one, two = snapshot.select("year = 1"), snapshot.select("year = 2")
        assert snapshot.select("year = 1") is one
        snapshot.select("year = 3")
        assert snapshot.select("year = 1") is one
        assert snapshot.select("year = 2") is not two
        monkeypatch.setattr(selections, "MOST_KEPT", 100)
        monkeypatch.setattr(selections, "MOST_BYTES", 250)  # 60 documents and 4 bytes a character: two filters
        last = [snapshot.select(f"year = {i}") for i in range(10, 20)]
        assert snapshot.select("year = 19") is last[-1]
        assert snapshot.select("year = 18") is last[-2]
        assert snapshot.select("year = 10") is not last[0]


def test_a_selection_of_another_snapshot_is_refused(folder):
    made(folder)
    with closing(Writer(folder)) as writer, closing(Snapshot(folder)) as old:
        writer.delete(["d0001"])
        writer.commit()
        with closing(Snapshot(folder, older=old)) as new:
            for search in (
                lambda chosen: new.dense_search(np.ones(DIM, np.float32), 3, within=chosen),
                lambda chosen: new.sparse_search("learned", np.array([1], np.uint32), np.ones(1), 3, within=chosen),
            ):
                with pytest.raises(StoreError, match="this selection was made by another snapshot; select again"):
                    search(old.select("TRUE"))


def test_selections_do_not_outlive_the_index_they_were_made_for(folder):
    made(folder, count=60)
    with closing(Snapshot(folder)) as old:
        assert old.select("TRUE").count == 60
        shutil.rmtree(folder)
        made(folder, count=20)
        with closing(Snapshot(folder, older=old)) as new:
            assert new.commit == old.commit
            assert new.select("TRUE").count == 20
            with pytest.raises(StoreError, match="made by another snapshot"):
                new.dense_search(np.ones(DIM, np.float32), 3, within=old.select("TRUE"))


def test_threads_get_the_same_answers(folder):
    made(folder, count=120, batches=3)
    expressions = [f"year >= {year}" for year in range(2000, 2010)]
    with closing(Snapshot(folder)) as snapshot, closing(Snapshot(folder)) as alone:
        expected = [ids(alone, expression) for expression in expressions]
        answers, errors = [], []

        def ask(shift):
            try:
                for i in range(len(expressions)):
                    at = (i + shift) % len(expressions)
                    answers.append(ids(snapshot, expressions[at]) == expected[at])
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=ask, args=(shift,)) for shift in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert answers == [True] * 80

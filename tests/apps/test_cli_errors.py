"""A user's mistake ends in one helpful line on stderr and exit code 1; what was committed stays and still opens."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from plait.index import Writer, database
from plait.retriever import FUSIONS, Retriever

from .conftest import TEXTS, jsonl

LEXICAL = ("--strands", "lexical")
WEIGHTS = f"lexical={FUSIONS['convex'].weights['lexical']:g}"  # of an index with that strand alone


def error(plait, *args, stdin="", code=1):
    """Returns the one line that a failing command says."""
    said = plait(*args, stdin=stdin, code=code)
    assert said.out == ""
    *before, last = said.err.splitlines()
    assert last.startswith("error: "), said.err
    assert all(line.startswith(("kept: ", "skipped: ")) or " exists: adding to it" in line for line in before)
    return last.removeprefix("error: ")


@pytest.fixture(autouse=True)
def nothing_is_lost(request):
    """After every error the index of three documents opens, verified, and holds them all."""
    index = request.getfixturevalue("index") if "index" in request.fixturenames else None
    yield
    if index is not None:
        with closing(Retriever.open(index, verify=True)) as retriever:
            assert {id: retriever.get(id).text for id in TEXTS} == TEXTS


# What is read

BROKEN = {
    '{"id": "x", "text": "a"': "broken JSON at column 24: Expecting ',' delimiter; one object a line is expected",
    '["x", "a"]': 'expected a JSON object such as {"id": ..., "text": ...}, got a list',
    '{"id": "good", "text": "a"}': "duplicate document id 'good', first seen in {path}, line 1; "
    "give each document an id of its own",
    '{"id": "x", "text": " "}': "document 'x' is empty: give it a text or a title, or leave it out",
    '{"id": "a b", "text": "a"}': "the document id 'a b' holds ' ' at character 2; TREC runs are split on white space, "
    "so ids have none and no control characters: replace it, as in 'doc-17' or 'my%20file'",
    '{"text": "a"}': "no id: expected '_id' or 'id', found 'text'",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_named_and_what_came_before_is_kept(plait, index, tmp_path, line):
    path = tmp_path / "b.jsonl"
    path.write_text('{"id": "good", "text": "fine"}\n' + line + '\n{"id": "late", "text": "fine"}\n')
    expected = f"{path}, line 2: " + BROKEN[line].replace("{path}", str(path))
    said = plait("add", index, path, code=1)
    assert said == ("", f"kept: 4 documents are in {index}\nerror: {expected}\n")

    said = plait("add", index, path, "--skip-bad")
    assert said.out == f"added 1, unchanged 1, skipped 1; {index} holds 5 documents\n"
    assert said.err == f"skipped: {expected}\n"


def test_an_index_of_nothing_but_bad_input_is_not_made(plait, tmp_path):
    """Whether the paths, the files or all that is in them cannot be read."""
    (tmp_path / "odd.pdf").write_text("%PDF")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.jsonl.gz").write_bytes(b"not compressed")
    (tmp_path / "broken.jsonl").write_text("{\n{\n")
    out = tmp_path / "i"
    for names, count in ((("odd.pdf", "empty"), 2), (("cut.jsonl.gz",), 1), (("broken.jsonl",), 2)):
        paths = [tmp_path / name for name in names]
        for more in ((), ("--json",), ("--parents",)):
            said = plait("index", *paths, "--out", out, *LEXICAL, "--skip-bad", *more, code=1)
            assert said.out == ""
            assert said.err.count("skipped: ") == count
            assert said.err.endswith(f"error: nothing to index: all input was bad, {count} skipped; no index is made\n")
            assert not out.exists()
    (tmp_path / "ok.jsonl").write_text('{"id": "a", "text": "apple"}\n')
    assert plait("index", *paths, tmp_path / "ok.jsonl", "--out", out, *LEXICAL, "--skip-bad").out == (
        f"added 1, skipped 2; {out} holds 1 documents\n"
    )
    assert plait("index", *paths, "--out", out, *LEXICAL, "--skip-bad").out == (
        f"added 0, skipped 2; {out} holds 1 documents\n"
    )


def test_the_demo_leaves_an_index_of_other_documents_alone(plait, index):
    message = f"{index} holds other documents than the demo's; choose another name with --out"
    assert error(plait, "demo", "--out", index) == message
    assert plait("info", index, "--json").json["documents"] == 3


def test_many_skipped_lines_are_counted(plait, index, tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text("{\n" * 30)
    said = plait("add", index, path, "--skip-bad", "--json")
    assert (said.json["skipped"], said.json["added"]) == (30, 0)
    assert said.err.count("skipped: ") == 10
    assert said.err.endswith("\nmore bad input is skipped without a word and counted\n")


def test_a_first_try_that_fails_leaves_nothing_behind(plait, tmp_path):
    (tmp_path / "b.jsonl").write_text("{\n")
    error(plait, "index", tmp_path / "b.jsonl", "--out", tmp_path / "i")
    error(plait, "index", tmp_path / "missing.jsonl", "--out", tmp_path / "i")
    error(plait, "index", tmp_path / "b.jsonl", "--out", tmp_path / "i", "--words", "0")
    assert [path.name for path in tmp_path.iterdir()] == ["b.jsonl"]


def test_a_missing_path_is_an_error_even_where_bad_input_is_skipped(plait, corpus, tmp_path):
    missing = tmp_path / "no.jsonl"
    for paths in ((missing,), (corpus, missing)):
        said = error(plait, "index", *paths, "--out", tmp_path / "i", *LEXICAL, "--skip-bad")
        assert said == f"{missing}: there is no such file or folder; check the path"
        assert not (tmp_path / "i").exists()


def test_what_a_failed_first_try_had_read_is_kept(plait, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"id": "good", "text": "fine"}\n{\n')
    said = plait("index", tmp_path / "b.jsonl", "--out", tmp_path / "i", *LEXICAL, code=1)
    assert said.err.startswith(f"kept: 1 documents are in {tmp_path / 'i'}\nerror: ")
    assert plait("info", tmp_path / "i", "--json").json["documents"] == 1


def test_paths_that_cannot_be_read(plait, index, tmp_path):
    missing = tmp_path / "no.jsonl"
    assert error(plait, "add", index, missing) == f"{missing}: there is no such file or folder; check the path"
    (tmp_path / "a.pdf").write_text("x")
    assert error(plait, "add", index, tmp_path / "a.pdf").startswith(
        f"{tmp_path / 'a.pdf'}: cannot tell what is in it from its name; known are .jsonl .ndjson .csv"
    )
    (tmp_path / "empty").mkdir()
    assert error(plait, "add", index, tmp_path / "empty").startswith(
        f"{tmp_path / 'empty'}: this folder holds no file that can be read; known are "
    )
    (tmp_path / "cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert "cannot be read to its end, it is damaged or cut short" in error(
        plait, "add", index, tmp_path / "cut.jsonl.gz"
    )
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "1", "text": "caf\xe9"}\n')
    assert error(plait, "add", index, tmp_path / "latin.jsonl") == (
        f"{tmp_path / 'latin.jsonl'}, line 1: byte 25 (0xe9) is not UTF-8 (invalid continuation byte); "
        "convert the file to UTF-8"
    )


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_a_file_that_opens_and_cannot_be_read(plait, index, tmp_path):
    (tmp_path / "m.jsonl").symlink_to("/proc/self/mem")
    assert error(plait, "add", index, tmp_path / "m.jsonl").startswith(f"{tmp_path / 'm.jsonl'}: cannot be read to its")


def test_tables_without_header_or_with_ragged_rows(plait, index, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1,some text\n2,other text\n")
    assert error(plait, "add", index, path) == (
        f"{path}, line 1: the first row must name the columns, one of them '_id' or 'id'; it reads '1', 'some text': "
        "add a header row"
    )
    path.write_text("id,text\n1,a\n2,b,c\n")
    assert error(plait, "add", index, path) == (
        f"{path}, line 3: the row has 3 fields where the first row has 2; check its separators"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--words", "0"), "words is 0; expected the length of a passage in words, 1 or more (as in 200)"),
        (("--overlap", "101"), "overlap is 101; expected 0 to 100, half of the 200 words of a passage"),
        (("--overlap", "-1"), "overlap is -1; expected 0 to 100, half of the 200 words of a passage"),
        (("--passages", "some"), "passages is 'some'; expected one of 'auto', 'always', 'never'"),
    ],
)
def test_passage_options_out_of_range(plait, index, corpus, options, message):
    assert error(plait, "add", index, corpus, *options) == message


# What is asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("",), "the query is empty"),
        ((" \t",), "the query is empty"),
        (("x", "-k", "0"), "k is how many are wanted: a whole number of at least 1, not 0"),
        (("x", "-k", "-3"), "k is how many are wanted: a whole number of at least 1, not -3"),
        (("x", "--depth", "0"), "depth is how many are wanted: a whole number of at least 1, not 0"),
        (("x", "--strands", "bm25"), "no strand 'bm25'; there are: lexical, learned, dense, lucene, lucene-impact"),
        (("x", "--strands", ""), "no strand ''; there are: lexical, learned, dense, lucene, lucene-impact"),
        (("x", "--strands", "dense"), "this index was made without the strand 'dense'; it has: lexical"),
        (("x", "--fusion", "sum"), f"no fusion 'sum'; there are: {', '.join(FUSIONS)}"),
        (
            ("x", "--weights", "lexical=x"),
            "--weights takes strand=number pairs, as lexical=0.2,dense=0.8; not 'lexical=x'",
        ),
        (("x", "--weights", "0.5"), "--weights takes strand=number pairs, as lexical=0.2,dense=0.8; not '0.5'"),
        (("x", "--weights", "lexical=1,lexical=2"), "--weights names a strand twice: 'lexical=1,lexical=2'"),
        (
            ("x", "--weights", "bm25=1"),
            "a weight is given for 'bm25'; strands are: lexical, learned, dense, lucene, lucene-impact",
        ),
        (("x", "--weights", "lexical=-1"), "weights must be finite and not negative: {'lexical': -1.0}"),
        (("x", "--weights", "lexical=nan"), "weights must be finite and not negative: {'lexical': nan}"),
        (("x", "--weights", "dense=1"), "no strand of lexical has a weight above 0: {'dense': 1.0}"),
        ((), "give one query, or many with --queries FILE (one of the two)"),
        (("x", "--queries", "q.tsv"), "give one query, or many with --queries FILE (one of the two)"),
        (("x", "--run", "r.run"), "--run goes with --queries"),
        (("x", "--skip-bad"), "--skip-bad goes with --queries"),
        (
            ("--queries", "q.tsv", "--json", "--run", "r.run"),
            "--run writes a TREC run and --json prints JSON; give one of the two",
        ),
        (
            ("--queries", "q.tsv", "--explain"),
            "a TREC run holds no explanation; with --queries, --explain goes with --json",
        ),
        (
            ("--queries", "q.tsv", "--prove", "--json"),
            "--prove is for one query: with --queries no proof is shown; leave --prove or --queries out",
        ),
        (("x", "--group", "--prove"), "--group shows no proof; leave --group or --prove out"),
        (("x", "--pipeline", "rescore"), "rescore needs a model: rescore:model=MODEL"),
        (("--queries", "no.tsv"), "no.tsv: there is no such file; check the path"),
        (("--queries", "-"), "standard input: holds no query; expected one a line"),
    ],
)
def test_searches_that_cannot_be_answered(plait, index, options, message):
    assert error(plait, "search", index, *options) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tapple\nno tab\n", "line 2: no tab in the line; expected a query id, a tab and a text"),
        ("a\tapple\nb\t \n", "line 2: query 'b' is empty; give it a text, or remove the line"),
        ("a\tapple\na\tpear\n", "line 2: duplicate query id 'a', first seen on line 1"),
        ("a b\tapple\n", "line 1: the query id 'a b' holds ' ' at character 2; "),
    ],
)
def test_broken_queries_are_named_by_line(plait, index, tmp_path, text, message):
    path = tmp_path / "q.tsv"
    path.write_text(text)
    assert error(plait, "search", index, "--queries", path).startswith(f"{path}, {message}")


def test_a_run_that_cannot_be_written(plait, index, tmp_path):
    (tmp_path / "q.txt").write_text("{")  # is not read
    (tmp_path / "folder").mkdir()
    options = ("search", index, "--queries", tmp_path / "q.txt", "--run", tmp_path / "folder")
    assert error(plait, *options) == f"{tmp_path / 'folder'} is a folder; --run takes the file to write"


def test_nothing_to_delete(plait, index):
    assert error(plait, "delete", index) == "no ids to delete: name them, or give a file with --from"
    assert error(plait, "delete", index, "--from", "no.txt") == "no.txt: there is no such file; check the path"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("search",), "Missing argument"),
        (("serch", "i", "x"), "No such command 'serch'"),
        (("search", "i", "x", "--explian"), "No such option: --explian"),
        (("search", "i", "x", "-k", "many"), "Invalid value for '-k': "),
        (("index", "a.jsonl"), "Missing option '--out'"),
        (("index", "a.jsonl", "--out", "i", "--commit-every", "0"), "Invalid value for '--commit-every': "),
    ],
)
def test_usage_errors_end_with_two(plait, options, message):
    said = plait(*options, code=2)
    assert message in said.err
    assert said.out == ""


# The index


def test_folders_that_are_no_index(plait, tmp_path):
    missing = tmp_path / "no.index"
    hint = f"there is no index at {missing}; make one with: plait index PATH --out {missing}"
    for command in (("search", missing, "x"), ("add", missing, "-"), ("delete", missing, "x"), ("info", missing)):
        assert error(plait, *command) == hint
    (tmp_path / "other").mkdir()
    assert error(plait, "info", tmp_path / "other") == f"{tmp_path / 'other'} is not a plait index: it has no plait.db"
    (tmp_path / "file").write_text("x")
    assert error(plait, "info", tmp_path / "file") == f"{tmp_path / 'file'} is not a plait index: it has no plait.db"
    assert "File name too long" in error(plait, "search", "how do I " * 100, "x")


def test_an_out_folder_that_is_something_else(plait, corpus, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    said = error(plait, "index", corpus, "--out", tmp_path / "full", *LEXICAL)
    assert said == f"{tmp_path / 'full'} exists and is not empty; choose another name for the index"
    said = error(plait, "index", corpus, "--out", corpus, *LEXICAL)
    assert said == f"{corpus} is a file; choose another name for the index, which is a folder"
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    assert plait("index", corpus, "--out", tmp_path / "new" / "parents" / "i", *LEXICAL).out.startswith("added 3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strands", "lexical,bm25"), "no strand 'bm25'; there are: lexical, learned, dense, lucene, lucene-impact"),
        (("--fusion", "sum"), f"no fusion 'sum'; there are: {', '.join(FUSIONS)}"),
        ((*LEXICAL, "--weights", "dense=1"), "no strand of lexical has a weight above 0: {'dense': 1.0}"),
        (
            (*LEXICAL, "--dense", "embedded"),
            "--dense is for the dense strand, which --strands lexical leaves out",
        ),
        (("--strands", "dense", "--dense", "nope"), "no encoder 'nope': it is neither 'embedded'"),
        ((*LEXICAL, "--language", "klingon"), "no analyser for language 'klingon'; choose one of: arabic, "),
    ],
)
def test_an_index_that_cannot_be_made(plait, corpus, tmp_path, options, message):
    assert error(plait, "index", corpus, "--out", tmp_path / "i", *options).startswith(message)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strands", "dense"), "{index} was made with --strands lexical; leave --strands out, or make another index"),
        (
            ("--fusion", "rrf", "--weights", "lexical=1"),
            f"{{index}} was made with --fusion convex, --weights {WEIGHTS}; "
            "leave --fusion, --weights out, or change it: plait settle {index}",
        ),
    ],
)
def test_what_was_fixed_when_an_index_was_made(plait, index, corpus, options, message):
    assert error(plait, "index", corpus, "--out", index, *options) == message.replace("{index}", str(index))


def test_what_an_index_keeps_may_be_said_again_even_where_it_does_not_act(plait, corpus, tmp_path):
    options = ("--out", tmp_path / "i", *LEXICAL, "--dense-index", "flat", "--pipeline", "mmr")
    plait("index", corpus, *options)
    assert "unchanged 3" in plait("index", corpus, *options).out
    said = error(plait, "index", corpus, *options[:-1], "clusters")
    change = f"leave --pipeline out, or change it: plait settle {tmp_path}"
    assert said == f"{tmp_path / 'i'} was made with --pipeline mmr; {change}/i"
    plait("index", corpus, "--out", tmp_path / "own", *LEXICAL)
    said = error(plait, "index", corpus, "--out", tmp_path / "own", "--pipeline", "mmr")
    assert said == f"{tmp_path / 'own'} was made with the steps that plait chooses; {change}/own"
    said = error(plait, "index", corpus, "--out", tmp_path / "i", "--dense-index", "auto")
    assert said.startswith(f"{tmp_path / 'i'} was made with --dense-index flat; ")


def test_another_format_version(plait, index):
    def stamp(version):
        with closing(sqlite3.connect(index / "plait.db", isolation_level=None)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")

    stamp(99)
    for command in (("search", index, "x"), ("info", index), ("add", index, "-"), ("delete", index, "snow")):
        assert error(plait, *command) == (
            f"{index} has index format 99; this plait reads format 3: use the plait that made it, or index again"
        )
    stamp(3)


def test_an_index_made_with_another_encoder(plait, index):
    def change(key, value):
        with closing(database.open_writer(index)) as connection:
            database.begin(connection)
            settings = database.settings(connection)["encoders"]
            before = settings["lexical"]["identity"][key]
            settings["lexical"]["identity"][key] = value
            database.put_setting(connection, "encoders", settings)
            database.commit(connection)
        return before

    now = change("revision", "0123")
    for command in (("search", index, "x"), ("add", index, "-")):
        assert error(plait, *command) == (
            "the lexical strand was built with 'snowball-english'; 'snowball-english' gives other vectors "
            f"(revision: 0123 then, {now} now). Open the index with the encoder that built it, or index again"
        )
    change("revision", now)
    assert error(plait, "index", "-", "--out", index, "--language", "german").startswith(
        "the lexical strand was built with 'snowball-english'; 'snowball-german' gives other vectors (revision: "
    )


@pytest.mark.parametrize("part", ["manifest.json", "forward_terms.npy", "impacts.npy"])
@pytest.mark.parametrize("damage", ["changed", "cut short", "missing"])
def test_damaged_files_are_named(plait, index, part, damage):
    (file,) = index.glob(f"segments/*/{part}")
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] if damage == "cut short" else whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    said = error(plait, "search", index, "winter")
    assert said.startswith(str(file))
    if part != "manifest.json":
        assert {"changed": "it was changed", "cut short": "were written", "missing": "is missing"}[damage] in said
    file.write_bytes(whole)


def test_a_lost_segment_folder(plait, index):
    (folder,) = index.glob("segments/*")
    shutil.move(folder, index.parent / "aside")
    assert error(plait, "info", index) == (
        f"{folder / 'manifest.json'} is missing: the index has lost a segment; restore it from a copy or index again"
    )
    shutil.move(index.parent / "aside", folder)


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be read as one" * 40])
def test_a_damaged_database(plait, index, content):
    whole = {file: file.read_bytes() for file in index.glob("plait.db*")}
    for file in whole:
        file.unlink()
    (index / "plait.db").write_bytes(content)
    said = error(plait, "search", index, "winter")
    assert said.startswith(str(index / "plait.db"))
    for file in index.glob("plait.db*"):
        file.unlink()
    for file, data in whole.items():
        file.write_bytes(data)


def test_verify_finds_what_a_large_index_would_not_read(plait, index, monkeypatch):
    monkeypatch.setattr("plait.index.segment.VERIFIED_BYTES", 0)
    (file,) = index.glob("segments/*/forward_values.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    plait("info", index)
    assert error(plait, "info", index, "--verify").startswith(f"{file} has checksum ")
    file.write_bytes(whole)


def test_a_second_writer(plait, index, corpus, tmp_path):
    more = jsonl(tmp_path / "more.jsonl", [{"id": "more", "text": "More."}])
    with closing(Writer(index)):
        for command in (("add", index, more), ("index", more, "--out", index), ("delete", index, "snow")):
            assert error(plait, *command) == (
                f"{index} is being written by another process or another Retriever; try again when it is done"
            )
        assert plait("search", index, "winter", "--json").json["hits"]  # reading goes on
    assert plait("add", index, more, "--json").json["added"] == 1


def test_errors_are_told_literally(plait, tmp_path):
    path = tmp_path / "[bold]\x1b[31m:smile:.jsonl"
    assert error(plait, "index", path, "--out", tmp_path / "i").startswith(
        f"{tmp_path}/[bold]␛[31m:smile:.jsonl: there"
    )

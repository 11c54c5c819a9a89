"""Reading files: every format, every compression, every kind of broken input, counted in lines."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from plait.retriever.documents import Document, IngestError
from plait.retriever.ingest import Seen, read_documents, total_bytes
from plait.retriever.sources import passed_over

PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
BEIR = b'{"_id": "1", "title": "T", "text": "one", "metadata": {"y": 1}}\n\n{"_id": "2", "title": "", "text": "two"}\n'


def read(path, **options):
    return list(read_documents(path, **options))


def bad(path, **options):
    """Returns what is left, and what was said of the rest."""
    errors = []
    documents = read(path, skip_bad=True, on_bad=errors.append, **options)
    return [document.id for document in documents], [str(error) for error in errors]


def refusal(path, **options):
    with pytest.raises(IngestError) as caught:
        read(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["corpus.jsonl", "C.NDJSON"])
def test_beir_jsonl_plain_and_compressed(tmp_path, name, suffix):
    path = tmp_path / (name + suffix)
    path.write_bytes(PACK[suffix](b"\xef\xbb\xbf" + BEIR))
    assert read(path) == [Document("1", "one", "T", {"y": 1}), Document("2", "two")]


def test_plain_objects_keep_other_keys_as_metadata(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 7, "contents": "anserini", "lang": "en", "metadata": {"lang": "de", "n": [1]}}\n'
        '{"_id": "x", "id": "y", "text": "t", "contents": "c", "title": null, "metadata": null}\n'
    )
    assert read(path) == [
        Document("7", "anserini", metadata={"lang": "de", "n": [1]}),
        Document("x", "t", metadata={"id": "y", "contents": "c"}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "text": "b"', "broken JSON at column 24: Expecting ',' delimiter; one object a line is expected"),
        ("[1]", 'expected a JSON object such as {"id": ..., "text": ...}, got a list'),
        ('{"text": "b"}', "no id: expected '_id' or 'id', found 'text'"),
        ('{"id": "a"}', "no text: expected 'text' or 'contents', found 'id'"),
        ('{"id": null, "text": "b"}', "the document id is null (None); expected a string"),
        ('{"id": true, "text": "b"}', "the document id is a boolean (True); expected a string"),
        ('{"id": "a", "text": 5}', "the text of document 'a' is a number; expected a string"),
        ('{"id": "a", "text": "b", "title": []}', "the title of document 'a' is a list; expected a string"),
        ('{"id": "a", "text": "b", "metadata": 3}', "the metadata is a number; expected a JSON object"),
        ('{"id": "a b", "text": "b"}', "the document id 'a b' holds ' ' at character 2"),
        ('{"id": "a", "text": ""}', "document 'a' is empty"),
        ('{"id": "a", "text": "b", "n": NaN}', "JSON that cannot be read: NaN is not JSON"),
        ('{"id": "a", "text": "\\ud800"}', "the text of document 'a' holds half a surrogate pair at character 1"),
        ("[" * 100_000, "JSON that cannot be read: "),
        ('{"id": "1", "text": "b"}', "duplicate document id '1', first seen in {path}, line 1; give each document an"),
    ],
)
def test_a_broken_line_is_named_and_can_be_skipped(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "text": "one"}\n' + line + '\n{"id": "3", "text": "three"}\n')
    expected = f"{path}, line 2: " + message.replace("{path}", str(path))
    assert refusal(path).startswith(expected)
    kept, said = bad(path)
    assert kept == ["1", "3"]
    assert said == [refusal(path)]


def test_bytes_that_are_not_utf8_are_named_by_line_and_byte(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "1", "text": "one"}\n{"id": "2", "text": "caf\xe9"}\n')
    assert refusal(path) == (
        f"{path}, line 2: byte 25 (0xe9) is not UTF-8 (invalid continuation byte); convert the file to UTF-8"
    )
    assert bad(path)[0] == ["1"]
    path.write_bytes('{"id": "1", "text": "one"}\n'.encode("utf-16"))
    assert "line 1: this is UTF-16, expected UTF-8; convert it, as in: iconv -f UTF-16 -t UTF-8" in refusal(path)
    text = tmp_path / "a.txt"
    text.write_bytes(b"one\ntwo\nthr\xffee\n")
    assert refusal(text).startswith(f"{text}, line 3: byte 4 (0xff) is not UTF-8")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_a_compressed_file_cut_short_keeps_what_could_be_read(tmp_path, suffix):
    lines = "".join(json.dumps({"id": str(i), "text": os.urandom(40).hex()}) + "\n" for i in range(20_000)).encode()
    whole = PACK[suffix](lines)
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    kept, said = bad(path)
    assert 100 < len(kept) < 20_000
    assert kept == [str(i) for i in range(len(kept))]
    assert len(said) == 1
    assert said[0].startswith(f"{path}: cannot be read to its end, it is damaged or cut short (")
    path.write_bytes(b"not compressed at all")
    assert "damaged or cut short" in refusal(path)


def test_csv_and_tsv(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text('\ufeffID,Title,text,year,note\n1,T,"one, ""two""\nthree",2020,\n\n2,,four,,x\n', encoding="utf-8")
    assert read(table) == [
        Document("1", 'one, "two"\nthree', "T", {"year": "2020"}),
        Document("2", "four", "", {"note": "x"}),
    ]
    tabs = tmp_path / "a.tsv"
    tabs.write_text('_id\ttext\n1\t"raw" quotes, "unclosed\n2\ttwo\n')
    assert read(tabs) == [Document("1", '"raw" quotes, "unclosed'), Document("2", "two")]


def test_a_csv_field_may_be_long(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1," + "word " * 100_000 + "\n")
    assert len(read(path)[0].text) == 500_000


@pytest.mark.parametrize(
    ("name", "text", "kept", "message"),
    [
        ("a.csv", "", [], "{path}: is empty; expected a first row that names the columns, id and text"),
        ("a.csv", "1,hello\n2,you\n", [], "{path}, line 1: the first row must name the columns, one of them '_id' or"),
        ("a.csv", "id,body\n1,x\n", [], "one of them 'text' or 'contents'; it reads 'id', 'body': add a header row"),
        ("a.csv", "id,text,a,a\n", [], "{path}, line 1: two columns have one name"),
        ("a.csv", 'id,text\n1,"x\ny"\n2\n3,z\n', ["1", "3"], "{path}, line 4: the row has 1 fields where the first"),
        ("a.csv", 'id,text\n1,"x"y\n3,z\n', ["3"], "{path}, line 2: broken row: "),
        ("a.csv", 'id,text\n1,x\n2,"never closed\n3,z\n', ["1"], "{path}, line 3: broken row: unexpected end of data"),
        ("a.csv", "id,text\n1,x\n2,\n3,z\n", ["1", "3"], "{path}, line 3: document '2' is empty"),
        ("a.tsv", "id\ttext\n1\tx\n1\ty\n3\tz\n", ["1", "3"], "{path}, line 3: duplicate document id '1'"),
    ],
)  # fmt: skip
def test_a_broken_table_is_named_by_line(tmp_path, name, text, kept, message):
    path = tmp_path / name
    path.write_text(text)
    expected = message.replace("{path}", str(path))
    assert expected in refusal(path)
    ids, said = bad(path)
    assert ids == kept
    assert expected in said[0]


OPEN = "the quote that opens here takes in the text up to line {last}, which is lost with it: it must close before a "
OPEN += "comma or the end of a line, and quotes inside it be written twice"


@pytest.mark.parametrize(
    ("rows", "kept", "line", "problem", "last"),
    [
        (['2,"never closed', "3,z", "4,w"], ["1"], 3, "unexpected end of data", 5),
        (['2,"two ""lines""', 'here","never closed', "3,z"], ["1"], 4, "unexpected end of data", 5),
        (['2,5" nail,"never closed, ""', "", "3,z"], ["1"], 3, "unexpected end of data", 5),
        (['2,"never closed', "3,z", '4,"proper"', "5,w"], ["1", "5"], 3, "',' expected after '\"'", 5),
        (['2,"fine', 'here"', '3,"never closed', '4,"proper",x', "5,w"], ["1", "2", "5"], 5, "',' expected after", 6),
        (['"2,never closed', "3,z"], ["1"], 3, "unexpected end of data", 4),
    ],
)
def test_a_quote_that_is_never_closed_is_named_where_it_opens(tmp_path, rows, kept, line, problem, last):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["id,text", "1,x", *rows]) + "\n")
    message = refusal(path)
    assert message.startswith(f"{path}, line {line}: broken row: {problem}")
    assert message.endswith(OPEN.format(last=last))
    ids, said = bad(path)
    assert (ids, said) == (kept, [message])


def test_lines_are_counted_though_one_before_was_rejected(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,"two\n\xff\nlines","open\n2,z\n')
    assert bad(path)[1][1].startswith(f"{path}, line 4: broken row: unexpected end of data; the quote that opens here")


def test_line_numbers_stay_right_after_a_rejected_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1,x\n2,\xff\n3,\n4,y\n")
    ids, said = bad(path)
    assert ids == ["1", "4"]
    assert [message.split(": ")[0] for message in said] == [f"{path}, line 3", f"{path}, line 4"]


def folder(tmp_path, files):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def test_a_folder_is_read_in_order_one_document_a_file(tmp_path):
    files = {
        "b.txt": "plain",
        "a/deep file.md": "---\ntitle: no\n---\n```\n# code\n```\n# Real *title* #\n\ntext",
        "a/under.markdown": "Under\n=====\ntext",
        "c.rst": "=====\nTitle\n=====\n\ntext",
        "d.html": "<title> A &amp; B </title><body><h1>Head</h1><p>one<script>var x</script><br>two</p>",
        "e.HTM": "<h2>Only <i>heading</i></h2><pre>a\n  b</pre><style>p{}</style>&lt;end",
        "50%.txt": "percent",
        ".hidden/x.txt": "no",
        ".y.txt": "no",
        "image.png": "no",
        "records.jsonl": "not read beside text files",
    }
    documents = read(folder(tmp_path, files), passages="never")
    assert [(d.id, d.title, d.parent) for d in documents] == [
        ("50%25.txt", "50%", None),
        ("a/deep%20file.md", "Real *title*", None),
        ("a/under.markdown", "Under", None),
        ("b.txt", "b", None),
        ("c.rst", "Title", None),
        ("d.html", "A & B", None),
        ("e.HTM", "Only heading", None),
    ]
    assert documents[1].metadata == {"path": "a/deep file.md"}
    assert documents[5].text == "Head\n\none\ntwo"
    assert documents[6].text == "Only heading\n\na\n  b\n\n<end"


def test_text_files_are_cut_and_records_are_not(tmp_path):
    words = " ".join(f"w{i}" for i in range(450))
    folder(tmp_path, {"long.txt": words, "short.txt": " a b\r\n", "r.jsonl": json.dumps({"id": "r", "text": words})})
    files = read([tmp_path / "long.txt", tmp_path / "short.txt"])
    assert [(p.id, p.parent, p.start) for p in files] == [
        ("long.txt#0", "long.txt", 0),
        ("long.txt#1", "long.txt", words.index("w160")),
        ("long.txt#2", "long.txt", words.index("w320")),
        ("short.txt#0", "short.txt", 1),
    ]
    assert all(words[p.start : p.start + len(p.text)] == p.text for p in files[:3])
    assert [p.id for p in read(tmp_path / "r.jsonl")] == ["r"]
    assert [p.id for p in read(tmp_path / "r.jsonl", passages="always")] == ["r#0", "r#1", "r#2"]
    assert len(read(tmp_path / "r.jsonl", passages="always", words=100, overlap=0)) == 5


def test_a_record_and_a_file_of_one_name_are_duplicates_though_one_is_cut(tmp_path):
    """Its passages are those of a parent of that name: who deletes the one deletes the other."""
    folder(tmp_path, {"a.txt": "of the file", "r.jsonl": json.dumps({"id": "a.txt", "text": "of the record"})})
    record, file = tmp_path / "r.jsonl", tmp_path / "a.txt"
    assert "duplicate document id 'a.txt', first seen in" in refusal([record, file])
    assert refusal([file, record]).startswith(f"{record}, line 1: duplicate document id 'a.txt', first seen in {file};")


def test_a_beir_folder_is_its_corpus(tmp_path):
    folder(tmp_path, {"queries.jsonl": "{}", "notes.txt": "no", "qrels/test.tsv": "no"})
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(BEIR))
    assert [d.id for d in read(tmp_path)] == ["1", "2"]


def test_a_folder_of_shards_is_read_where_it_holds_no_text_file(tmp_path):
    folder(tmp_path, {"2.jsonl": '{"id": "b", "text": "x"}', "1.jsonl": '{"id": "a", "text": "x"}'})
    assert [d.id for d in read(tmp_path)] == ["a", "b"]


def test_the_same_file_twice_is_a_duplicate_as_a_whole(tmp_path):
    folder(tmp_path, {"x/a.txt": "one", "y/a.txt": "two " * 500})
    kept, said = bad([tmp_path / "x", tmp_path / "y"])
    assert kept == ["a.txt#0"]
    first, second = tmp_path / "x" / "a.txt", tmp_path / "y" / "a.txt"
    assert said == [
        f"{second}: duplicate document id 'a.txt', first seen in {first}; give each document an id of its own"
    ]


def test_paths_that_cannot_be_read_fail_at_once(tmp_path):
    missing, unknown, empty = tmp_path / "no.jsonl", tmp_path / "a.pdf", tmp_path / "empty"
    unknown.write_text("x")
    empty.mkdir()
    (empty / "x.png").write_text("x")
    known = (
        "known are .jsonl .ndjson .csv .tsv .txt .md .markdown .rst .html .htm, each also compressed as .gz .xz .bz2"
    )
    expected = [
        f"{missing}: there is no such file or folder; check the path",
        f"{unknown}: cannot tell what is in it from its name; {known}",
        f"{empty}: this folder holds no file that can be read; {known}",
    ]
    for path, message in zip((missing, unknown, empty), expected, strict=True):
        with pytest.raises(IngestError) as caught:
            read_documents(path)  # not consumed
        assert str(caught.value) == message
    assert bad([missing, unknown, empty]) == ([], expected)
    assert bad([]) == ([], [])


@pytest.fixture
def unreadable():
    """A file that its reader may not read; where root, who may read everything, runs the tests, root becomes nobody."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.jsonl")
        path.write_bytes(BEIR)
        path.chmod(0)
        Path(name).chmod(0o755)
        if user == 0:
            os.seteuid(65534)
        yield path
        os.seteuid(user)


def test_a_file_that_may_not_be_read(unreadable):
    assert refusal(unreadable) == f"{unreadable}: cannot be opened: Permission denied"


def test_a_folder_that_may_not_be_listed_is_skipped_alone(unreadable):
    folder = unreadable.parent
    owner = os.geteuid()
    os.seteuid(os.getuid())
    for name in ("a", "b", "c"):
        (folder / name).mkdir()
        (folder / name / "note.txt").write_text(name)
    unreadable.unlink()
    (folder / "b").chmod(0)
    os.seteuid(owner)
    said = f"{folder / 'b'}: cannot be listed: Permission denied"
    assert bad(folder) == (["a/note.txt#0", "c/note.txt#0"], [said])
    assert refusal(folder) == said
    os.seteuid(os.getuid())
    (folder / "b").chmod(0o700)  # so that it can be removed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
def test_pipes_and_links_in_a_folder_are_told_and_not_waited_for(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "note.txt").write_text("text")
    os.mkfifo(folder / "sub" / "pipe.txt")
    (folder / "linked").symlink_to(folder / "sub")
    assert [document.id for document in read(folder)] == ["sub/note.txt#0"]
    (told,) = passed_over(folder)
    assert told == (
        f"{folder}: not read: linked (links to folders are not followed: name the folders themselves); "
        "sub/pipe.txt (no regular files: pipes, sockets and devices of a folder are not read)"
    )
    (folder / "nowhere.txt").symlink_to(folder / "gone")
    assert refusal(folder) == f"{folder / 'nowhere.txt'}: there is no such file; check the path"


def test_a_file_that_is_gone_when_its_turn_comes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(BEIR)
    documents = read_documents(path)
    path.unlink()
    with pytest.raises(IngestError, match=r"a\.jsonl: there is no such file; check the path"):
        next(documents)


def test_an_empty_file_has_no_documents(tmp_path):
    folder(tmp_path, {"a.jsonl": "", "a.txt": " \n", "b.html": "<script>x</script>"})
    assert read(tmp_path / "a.jsonl") == []
    assert refusal(tmp_path / "a.txt") == f"{tmp_path / 'a.txt'}: holds no text; remove it, or fill it"
    assert "holds no text" in refusal(tmp_path / "b.html")


def test_standard_input_is_jsonl(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(BEIR + b"{")))
    assert bad("-") == (
        ["1", "2"],
        [
            "standard input, line 4: broken JSON at column 2: Expecting property name enclosed in double quotes; "
            "one object a line is expected"
        ],
    )
    assert total_bytes("-") is None


@pytest.mark.parametrize("suffix", PACK)
def test_progress_adds_up_to_the_size_of_the_input(tmp_path, suffix):
    one, other = tmp_path / f"a.jsonl{suffix}", tmp_path / f"b.txt{suffix}"
    one.write_bytes(PACK[suffix](BEIR + b"broken"))
    other.write_bytes(PACK[suffix](b"word " * 3000))
    counted = []
    list(read_documents([one, other], skip_bad=True, on_bytes=counted.append))
    assert min(counted) >= 0
    assert sum(counted) == total_bytes([one, other]) == one.stat().st_size + other.stat().st_size


def test_plain_progress_is_line_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(BEIR)
    counted = []
    next(read_documents(path, on_bytes=counted.append))
    assert counted == [BEIR.index(b"\n") + 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passages": "maybe"}, "passages is 'maybe'; expected one of 'auto', 'always', 'never'"),
        ({"words": 0}, "words is 0"),
        ({"words": 10, "overlap": 6}, "overlap is 6; expected 0 to 5"),
    ],
)
def test_options_out_of_range_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read_documents(tmp_path, **options)


def test_seen_remembers_the_place_of_a_hundred_thousand_ids():
    seen = Seen()
    assert not any(seen.add(f"id-{i}", i % 7, i) for i in range(100_000))
    assert len(seen) == 100_000
    assert all(seen.add(f"id-{i}", 0, 0) == (i % 7, i) for i in range(0, 100_000, 97))
    assert seen.add("id-100000", 3, 4) is None


def test_broken_markup_is_an_error_or_text_never_a_crash(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("<h1>Title<p>text<![if broken <!-- <b", encoding="utf-8")
    kept, said = bad(path)
    assert kept == ["a.html#0"] or "this HTML cannot be parsed" in said[0]


@pytest.mark.parametrize("piece", ["<a x=", "<!--", "<!-- >", "</a "])
def test_markup_that_nothing_closes_ends_soon(tmp_path, piece):
    """Each took minutes; where Python's own parser takes them in one go, they are text or nothing."""
    path = tmp_path / "a.html"
    path.write_text("<p>text</p>" + piece * 50_000)
    kept, said = bad(path)
    assert not kept or said == []
    why = "this HTML has too many tags or comments that nothing closes; repair it or convert it to text"
    assert said in ([], [f"{path}: {why}"])
    path.write_text("<p>one</p> 1 < 2 <b two</p>" + piece * 5)
    assert read(path)[0].text.startswith("one")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# On C#", "On C#"),
        ("intro\n\n### Closed ###  ", "Closed"),
        ("#hashtag\n# " + " " * 50_000 + "x", "x"),
        ("Under\n---\n# Later", "Under"),
        ("```\n# code, never closed", "a"),
        ("no heading", "a"),
    ],
)
def test_the_title_of_markdown_is_its_first_heading(tmp_path, text, title):
    path = tmp_path / "a.md"
    path.write_text(text)
    assert read(path)[0].title == title


def test_blanks_without_end_take_linear_time(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("<pre>" + " " * 300_000 + "x</pre><h1>" + "\n" * 300_000 + "y</h1>")
    assert read(path, passages="never")[0].text.split() == ["x", "y"]

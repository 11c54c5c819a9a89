"""Collections in TREC's, MIRACL's and ir_datasets' forms: what they become, and what a path that is none is told."""

from __future__ import annotations

import gzip
import json
import sys
from types import SimpleNamespace

import pytest
from plait.eval import EvalError, load_dataset, load_trec
from plait.eval.loading import FORMS
from plait.eval.trec import read_topics
from plait.retriever import Document, IngestError

from .conftest import CORPUS, QRELS, QUERIES, beir

TOPICS = """<top>
<num> Number: 301
<title> International &amp; Organized
 Crime

<desc> Description:
Identify organizations.
</top>

<top>
<num>302</num><title>Topic: poliomyelitis</title>
</top>
"""
DOCUMENTS = """<DOC>
<DOCNO> FT-1 </DOCNO>
<HEADLINE> Snow &amp; ice </HEADLINE>
<DATE>1994</DATE>
<TEXT>
<P>Snow falls.</P>
</TEXT>
<TEXT>Ice melts.</TEXT>
</DOC>
<doc><docno>FT-2</docno>
Bees make <b>honey</b>.
</doc>
"""


def write(folder, files):
    """Writes files, compressed where they are called .gz, and returns the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def test_a_beir_folder(tmp_path):
    dataset = load_dataset(beir(tmp_path / "fruit", CORPUS, QUERIES, QRELS))
    assert (dataset.name, dataset.qrels) == ("fruit", QRELS)
    assert len(list(dataset.documents())) == 5


def test_trec_s_own_form(tmp_path):
    files = {"topics.301-302": TOPICS, "qrels.txt": "301 0 FT-1 2\n302 0 FT-9 -1\n", "docs/a.trec": DOCUMENTS}
    dataset = load_dataset(write(tmp_path / "robust", files))
    assert (dataset.name, dataset.split) == ("robust", "test")
    assert dataset.queries == {"301": "International & Organized Crime", "302": "poliomyelitis"}
    assert dataset.qrels == {"301": {"FT-1": 2}, "302": {"FT-9": -1}}
    assert list(dataset.documents()) == [
        Document("FT-1", "Snow falls. \n\nIce melts.", "Snow & ice"), Document("FT-2", "Bees make  honey ."),
    ]  # fmt: skip
    assert set(dataset.checksums) == {"corpus", "queries", "qrels"}


def test_miracl_s_form(tmp_path):
    passages = [{"docid": f"{i}#0", "title": f"T{i}", "text": f"text {i}"} for i in range(4)]
    lines = [json.dumps(passage) + "\n" for passage in passages]
    files = {
        "topics/topics.miracl-v1.0-sw-dev.tsv": "1\tNani?\n2\tWapi?\n3\tunjudged\n",
        "topics/topics.miracl-v1.0-sw-train.tsv": "7\tLini?\n",
        "qrels/qrels.miracl-v1.0-sw-dev.tsv": "1\tQ0\t0#0\t1\n2\tQ0\t3#0\t1\n",
        "qrels/qrels.miracl-v1.0-sw-train.tsv": "7\tQ0\t1#0\t1\n",
        "miracl-corpus-v1.0-sw/docs-0.jsonl.gz": "".join(lines[:2]),
        "miracl-corpus-v1.0-sw/docs-1.jsonl.gz": "".join(lines[2:]),
    }
    folder = write(tmp_path / "sw", files)
    dev, train = load_dataset(folder, "dev"), load_dataset(folder, "train")
    assert dev.queries == {"1": "Nani?", "2": "Wapi?"}
    assert train.qrels == {"7": {"1#0": 1}}
    counted = []
    found = list(dev.documents(on_bytes=counted.append))
    assert found == [Document(f"{i}#0", f"text {i}", f"T{i}") for i in range(4)]
    assert sum(counted) > 0
    assert set(dev.checksums) == {
        "corpus miracl-corpus-v1.0-sw/docs-0.jsonl.gz", "corpus miracl-corpus-v1.0-sw/docs-1.jsonl.gz", "queries",
        "qrels",
    }  # fmt: skip
    with pytest.raises(EvalError) as caught:
        load_dataset(folder)
    assert str(caught.value) == f"{folder}: no topics for the split 'test'; the splits here are dev, train"


def test_mr_tydi_s_form(tmp_path):
    files = {
        "topic.tsv": "1\tfirst\n2\tsecond\n", "qrels.dev.txt": "1 0 9 1\n", "qrels.test.txt": "2 Q0 8 1\n",
        "collection/docs.jsonl": '{"id": "8", "contents": "eight"}\n{"id": "9", "contents": "nine"}\n',
    }  # fmt: skip
    dataset = load_trec(write(tmp_path / "tydi", files))
    assert (dataset.queries, dataset.qrels) == ({"2": "second"}, {"2": {"8": 1}})
    assert [document.text for document in dataset.documents()] == ["eight", "nine"]


def test_bad_documents_are_named_or_skipped(tmp_path):
    text = "<DOC>\n<TEXT>no number</TEXT>\n</DOC>\n" + DOCUMENTS + "<DOC>\n<DOCNO>x</DOCNO>\nnever ends\n"
    files = {"topics": TOPICS, "qrels": "301 0 FT-1 1\n", "a.sgml": text, "b.jsonl": '{"docid": "1"}\n\n{"docid": 2'}
    folder = write(tmp_path / "bad", files)
    dataset = load_dataset(folder)
    with pytest.raises(IngestError, match=r"a\.sgml, line 1: a <DOC> needs a <DOCNO>"):
        list(dataset.documents())
    told = []
    found = list(dataset.documents(skip_bad=True, on_bad=lambda error: told.append(str(error))))
    assert [document.id for document in found] == ["FT-1", "FT-2"]
    assert [message.removeprefix(f"{folder}/")[:40] for message in told] == [
        "a.sgml, line 1: a <DOC> needs a <DOCNO>", "a.sgml, line 16: this <DOC> has no </DOC",
        told[2].removeprefix(f"{folder}/")[:40], "b.jsonl, line 3: broken JSON at column 1",
    ]  # fmt: skip
    assert told[2].startswith(f"{folder}/b.jsonl, line 1: ")


def test_a_judged_topic_with_two_titles(tmp_path):
    topics = TOPICS + "<top><num>301</num><title>Other</title></top>\n"
    folder = write(tmp_path / "twice", {"topics": topics, "qrels": "301 0 FT-1 1\n", "d.trec": DOCUMENTS})
    with pytest.raises(
        EvalError, match=r"topics, line 13: duplicate query id '301', first seen on line 1 with another"
    ):
        load_dataset(folder)
    assert load_dataset(folder, skip_bad=True).queries == {"301": "International & Organized Crime"}


def test_topics_that_cannot_be_read(tmp_path):
    folder = write(tmp_path, {"a": "<top>\n<num> 1\n</top>\n" + TOPICS, "b": "<topic>1</topic>", "c.tsv": "1\tone\n"})
    with pytest.raises(IngestError, match=r"a, line 1: a topic needs <num> and <title>"):
        read_topics(folder / "a")
    assert [query for query, _ in read_topics(folder / "a", skip_bad=True)] == ["301", "302"]
    with pytest.raises(IngestError, match=r"b: holds no topic; expected <top> <num> \.\.\. <title> \.\.\. </top>"):
        read_topics(folder / "b")
    assert read_topics(folder / "c.tsv") == [("1", "one")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": "x"}, ": no test collection; expected a BEIR folder (corpus.jsonl, "),
        ({"corpus.jsonl": "{}"}, " is no BEIR folder for the split 'test': queries.jsonl, qrels/test.tsv missing"),
        (
            {"topics": TOPICS, "qrels": "1 0 a 1\n"},
            ": holds no documents; expected files called .jsonl, .ndjson, .trec",
        ),
        (
            {"topics.a": TOPICS, "topics.b": TOPICS, "qrels": "1 0 a 1\n", "d.trec": DOCUMENTS},
            ": several files of topics for the split 'test': topics.a, topics.b; keep one",
        ),
        (
            {"topics": TOPICS, "qrels": "301 0 FT-1 1\n9 0 FT-1 1\n", "d.trec": DOCUMENTS},
            "/qrels: judged queries without a text in ",
        ),
    ],
)
def test_folders_with_something_missing(tmp_path, files, message):
    folder = write(tmp_path / "x", files)
    with pytest.raises(EvalError) as caught:
        load_dataset(folder)
    assert str(caught.value).startswith(f"{folder}{message}")


def test_paths_that_are_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for name, problem in (("file", "is a file"), ("no", "there is no such folder")):
        with pytest.raises(EvalError) as caught:
            load_dataset(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {problem}; expected {FORMS}"


def test_ir_datasets_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(EvalError) as caught:
        load_dataset("ir_datasets:beir/scifact/test")
    assert str(caught.value) == ("ir_datasets:beir/scifact/test needs the package ir_datasets: pip install ir_datasets")


def test_a_collection_of_ir_datasets(monkeypatch):
    """The package needs the network, so that what stands for it here has its records' attributes alone."""
    query = SimpleNamespace(query_id="1", text="snow")
    judgement = SimpleNamespace(query_id="1", doc_id="a", relevance=2)
    documents = [
        SimpleNamespace(doc_id="a", title="Snow", default_text=lambda: "Snow falls in winter"),
        SimpleNamespace(doc_id="b", text="bees"),
        SimpleNamespace(doc_id="c", text=""),
    ]
    yes = dict.fromkeys(("has_docs", "has_queries", "has_qrels"), lambda: True)
    iterators = {
        "docs_iter": lambda: documents, "queries_iter": lambda: [query, SimpleNamespace(query_id="2", text="x")],
        "qrels_iter": lambda: [judgement],
    }  # fmt: skip
    beyond = SimpleNamespace(query_id="1", doc_id="a", relevance=2**31)
    known = {"a/test": SimpleNamespace(**yes, **iterators), "b": SimpleNamespace(**{**yes, "has_qrels": lambda: False})}
    monkeypatch.setitem(sys.modules, "ir_datasets", SimpleNamespace(load=known.__getitem__))
    dataset = load_dataset("ir_datasets:a/test")
    assert (dataset.name, dataset.queries, dataset.qrels) == ("ir_datasets:a/test", {"1": "snow"}, {"1": {"a": 2}})
    assert list(dataset.documents(skip_bad=True)) == [Document("a", "falls in winter", "Snow"), Document("b", "bees")]
    with pytest.raises(IngestError, match="document 'c' is empty"):
        list(dataset.documents())
    known["d"] = SimpleNamespace(**yes, **{**iterators, "qrels_iter": lambda: [judgement, beyond]})
    with pytest.raises(EvalError, match="ir_datasets:d judges document 'a' for query '1' 2147483648; expected"):
        load_dataset("ir_datasets:d")
    assert set(dataset.checksums) == {"queries", "qrels"}
    other = {**iterators, "qrels_iter": lambda: [SimpleNamespace(query_id="1", doc_id="a", relevance=1)]}
    known["e"] = SimpleNamespace(**yes, **other)
    again = load_dataset("ir_datasets:e").checksums
    assert [again[part] == dataset.checksums[part] for part in ("queries", "qrels")] == [True, False]
    known["f"] = SimpleNamespace(
        **yes, **{**iterators, "queries_iter": lambda: [SimpleNamespace(query_id="1", text=" ")]}
    )
    with pytest.raises(
        EvalError, match=r"namely '1' \(1 bad lines there, the first: query '1' is empty; give it a text"
    ):
        load_dataset("ir_datasets:f")
    assert load_dataset("ir_datasets:f", skip_bad=True).queries == {}
    asked = [query, SimpleNamespace(query_id="1", text=" snow "), SimpleNamespace(query_id="1", text="rain")]
    known["g"] = SimpleNamespace(**yes, **{**iterators, "queries_iter": lambda: asked})
    with pytest.raises(EvalError, match=r"^duplicate query id '1', with another text, and it is judged; keep one"):
        load_dataset("ir_datasets:g")
    assert load_dataset("ir_datasets:g", skip_bad=True).queries == {"1": "snow"}
    known["h"] = SimpleNamespace(**yes, **{**iterators, "queries_iter": lambda: asked[:2]})
    assert load_dataset("ir_datasets:h").queries == {"1": "snow"}
    with pytest.raises(EvalError, match="ir_datasets:b has no qrels; name a collection with judgements"):
        load_dataset("ir_datasets:b")
    with pytest.raises(EvalError, match=r"ir_datasets knows no 'c'; see https://ir-datasets\.com"):
        load_dataset("ir_datasets:c")

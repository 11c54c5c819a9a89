"""BEIR folders: what is read, what is missing, and which queries count."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from plait.eval import EvalError, load_beir
from plait.retriever import Document

FILES = {
    "corpus.jsonl": '{"_id": "d1", "title": "T", "text": "one", "metadata": {}}\n{"_id": "d2", "text": "two"}\n',
    "queries.jsonl": '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": ""}\n{"_id": "q3", "text": "third"}\n',
    "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq3\td1\t1\nq1\td2\t2\nq1\td1\t0\n",
    "qrels/dev.tsv": "q1\td1\t1\n",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tiny"


def test_a_dataset_holds_the_judged_queries_of_its_split(folder):
    dataset = load_beir(folder)
    assert (dataset.name, dataset.split) == ("tiny", "test")
    assert dataset.queries == {"q3": "third", "q1": "first"}
    assert dataset.qrels == {"q3": {"d1": 1}, "q1": {"d2": 2, "d1": 0}}
    assert list(dataset.documents()) == [Document("d1", "one", "T"), Document("d2", "two")]
    assert load_beir(folder, "dev").queries == {"q1": "first"}


def test_checksums_are_of_the_files(folder):
    checksums = load_beir(folder).checksums
    assert list(checksums) == ["corpus", "queries", "qrels"]
    assert checksums["qrels"] == hashlib.sha256(FILES["qrels/test.tsv"].encode()).hexdigest()


def test_files_may_be_compressed(folder):
    plain = load_beir(folder)
    documents = list(plain.documents())
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        path = folder / name
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load_beir(folder)
    assert (packed.queries, packed.qrels) == (plain.queries, plain.qrels)
    assert list(packed.documents()) == documents


def test_missing_files_are_listed_together(folder):
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(EvalError) as caught:
        load_beir(folder, "train")
    assert str(caught.value) == (
        f"{folder} is no BEIR folder for the split 'train': corpus.jsonl, qrels/train.tsv missing; "
        "the splits here are dev, test"
    )
    with pytest.raises(EvalError, match=r"nowhere: there is no such folder; expected one with corpus\.jsonl"):
        load_beir(folder / "nowhere")


def test_a_judged_query_without_a_text_is_an_error_unless_skipped(folder):
    with (folder / "qrels/test.tsv").open("a") as file:
        file.write("q2\td1\t1\nq9\td1\t1\n")
    with pytest.raises(EvalError) as caught:
        load_beir(folder)
    queries = folder / "queries.jsonl"
    assert str(caught.value) == (
        f"{folder / 'qrels/test.tsv'}: judged queries without a text in {queries}: 2, namely 'q2', 'q9' (1 bad lines "
        f"there, the first: {queries}, line 2: query 'q2' is empty; give it a text, or remove the line); add their "
        "texts, or skip bad input to count them as 0"
    )
    dataset = load_beir(folder, skip_bad=True)
    assert list(dataset.queries) == ["q3", "q1"]
    assert list(dataset.qrels) == ["q3", "q1", "q2", "q9"]


def test_a_judged_query_with_two_texts_is_an_error_unless_skipped(folder):
    queries = folder / "queries.jsonl"
    lines = queries.read_text()
    queries.write_text(
        lines + '{"_id": "q9", "text": "a"}\n{"_id": "q9", "text": "b"}\n{"_id": "q1", "text": "first"}\n'
    )
    assert load_beir(folder).queries["q1"] == "first", "nobody judged q9, and q1 has one text"
    queries.write_text(lines + '{"_id": "q1", "text": "other"}\n')
    with pytest.raises(EvalError) as caught:
        load_beir(folder)
    assert str(caught.value) == (
        f"{queries}, line 4: duplicate query id 'q1', first seen on line 1 with another text, and it is judged; "
        "keep one, or skip bad input to take the first"
    )
    assert load_beir(folder, skip_bad=True).queries["q1"] == "first"


def test_broken_queries_and_judgements_are_named(folder):
    (folder / "qrels/test.tsv").write_text("q1\td1\n")
    with pytest.raises(EvalError, match=r"test\.tsv, line 1: 'q1\\td1' is no judgement"):
        load_beir(folder)
    (folder / "qrels/test.tsv").write_text(FILES["qrels/test.tsv"])
    (folder / "queries.jsonl").write_text("{broken")
    with pytest.raises(EvalError, match=r"queries\.jsonl, line 1: broken JSON at column 2"):
        load_beir(folder)

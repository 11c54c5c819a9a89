"""A collection of five documents whose every score can be worked out, and its indexes."""

from __future__ import annotations

import json

import pytest
from plait.eval import load_beir
from plait.retriever import Retriever

CORPUS = {
    "a": ("Apples", "apple banana"),
    "b": ("", "apple apple apple"),
    "c": ("", "cherry"),
    "d": ("Dates", "date cherry"),
    "e": ("", "elder"),
}
QUERIES = {"q1": "apple", "q2": "cherry date", "q3": "elder", "q4": "zebra"}
QRELS = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1, "d": 0}, "q3": {"e": 1}, "q4": {"a": 1}}


def beir(folder, corpus, queries, qrels, split="test"):
    """Writes a BEIR folder and returns it."""
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": id, "title": title, "text": text} for id, (title, text) in corpus.items()]
    lines = {"corpus": documents, "queries": [{"_id": id, "text": text} for id, text in queries.items()]}
    for name, records in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = [f"{q}\t{d}\t{relevance}\n" for q, judged in qrels.items() for d, relevance in judged.items()]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return folder


@pytest.fixture(scope="session")
def fruit(tmp_path_factory):
    """The collection of five documents."""
    return load_beir(beir(tmp_path_factory.mktemp("data") / "fruit", CORPUS, QUERIES, QRELS))


@pytest.fixture(scope="session")
def lexical(fruit, tmp_path_factory):
    """Its lexical index, open."""
    with Retriever.create(tmp_path_factory.mktemp("indexes") / "lexical", strands="lexical") as retriever:
        retriever.add(fruit.documents())
        retriever.commit()
        yield retriever


@pytest.fixture(scope="session")
def hybrid(fruit, tmp_path_factory):
    """Its index with all three strands, open."""
    with Retriever.create(tmp_path_factory.mktemp("indexes") / "hybrid") as retriever:
        retriever.add(fruit.documents())
        retriever.commit()
        yield retriever

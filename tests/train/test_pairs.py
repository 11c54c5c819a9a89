"""Reading pairs, BEIR folders and documents; holding out; leaving out what must not be known."""

from __future__ import annotations

import gzip
import json
import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.train.errors import TrainError
from plait.train.pairs import normalised, read_training, split, without

from .making import ANSWERS, training_set, write_lines

PAIRS = [{"query": f"question {n}", "positive": text, "title": "unused"} for n, text in enumerate(ANSWERS)]


def pairs_of(training):
    return {(query, training.documents[at]) for query, at in zip(training.queries, training.positives, strict=True)}


def beir(folder, splits):
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": "Nature" if n else "", "text": text} for n, text in enumerate(ANSWERS)]
    write_lines(folder / "corpus.jsonl", corpus)
    write_lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"what about {n}"} for n in range(6)])
    for name, rows in splits.items():
        lines = "".join(f"{query}\t{document}\t{r}\n" for query, document, r in rows)
        (folder / "qrels" / f"{name}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    return folder


def test_pairs_are_read_compressed_or_not_and_each_document_once(tmp_path):
    write_lines(tmp_path / "a.jsonl", PAIRS)
    again = json.dumps({"query": "another", "positive": ANSWERS[0].upper() + " "}) + "\n"
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(again.encode()))
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(b'\n{"query": "third", "positive": "Rain is water too."}\n'))
    found = read_training(tmp_path)
    assert found.sources == ("a", "b", "c")
    assert found.groups.tolist() == [0] * 6 + [1, 2]
    assert found.documents == [*ANSWERS, "Rain is water too."]
    assert found.positives.tolist() == [0, 1, 2, 3, 4, 5, 0, 6]
    assert found.positives.dtype == np.int64
    assert found.negatives is None
    assert str(found).splitlines()[0] == "a: 6 pairs"
    assert str(found).splitlines()[-1] == "8 queries, 7 documents"


def test_negatives_are_documents_too(tmp_path):
    records = [
        {"query": "snow", "positive": ANSWERS[0], "negative": ANSWERS[1]},
        {"query": "bees", "positive": ANSWERS[1], "negatives": [ANSWERS[0], ANSWERS[2], ANSWERS[1]]},
        {"query": "ice", "positive": ANSWERS[2]},
    ]
    found = read_training(write_lines(tmp_path / "a.jsonl", records))
    assert [each.tolist() for each in found.negatives] == [[1], [0, 2], []]


def test_what_can_teach_nothing_is_left_out_and_counted(tmp_path):
    records = [
        *PAIRS,
        PAIRS[0],
        {"query": "?!", "positive": ANSWERS[0]},
        {"query": "README.md", "positive": ANSWERS[0]},
        {"query": "short", "positive": "Too short."},
        {"query": ANSWERS[3].lower(), "positive": ANSWERS[3]},
    ]
    found = read_training(write_lines(tmp_path / "a.jsonl", records))
    assert len(found) == 6
    assert found.counts[0].dropped == {
        "seen before": 1,
        "without a word in the query": 1,
        "with a file's name for a query": 1,
        "with a document of under 3 words": 1,
        "with a query that is the document": 1,
    }


def test_a_limit_is_a_choice_of_its_own_for_each_source(tmp_path):
    many = [{"query": f"question {n}", "positive": f"answer number {n} is this"} for n in range(200)]
    write_lines(tmp_path / "a.jsonl", many)
    alone = read_training(tmp_path, limit=20, seed=1)
    assert len(alone) == 20
    write_lines(tmp_path / "b.jsonl", PAIRS)
    both = read_training(tmp_path, limit=20, seed=1)
    assert pairs_of(alone) <= pairs_of(both)
    assert len(both) == 26
    assert pairs_of(read_training(tmp_path / "a.jsonl", limit=20, seed=2)) != pairs_of(alone)
    order = [int(query.split()[1]) for query in alone.queries]
    assert order == sorted(order)


def test_a_beir_folder_gives_its_train_judgements_and_never_the_others(tmp_path):
    train = [("q0", "d0", 1), ("q0", "d1", 2), ("q1", "d2", 0), ("q2", "gone", 1)]
    found = read_training(beir(tmp_path / "set", {"train": train, "test": [("q3", "d3", 1)], "dev": [("q4", "d4", 1)]}))
    assert pairs_of(found) == {("what about 0", ANSWERS[0]), ("what about 0", f"Nature {ANSWERS[1]}")}
    assert len(found.documents) == 6
    assert found.counts[0].kind == "beir"
    assert found.counts[0].dropped == {"judged without a text": 1}


def test_a_beir_folder_without_train_judgements_is_documents(tmp_path):
    found = read_training(beir(tmp_path / "set", {"test": [("q3", "d3", 1)]}), generate="title")
    assert set(found.queries) == {"Nature"}
    assert set(found.documents) == set(ANSWERS[1:])
    assert found.counts[0].kind == "documents"


def test_queries_are_made_for_documents_of_every_kind(tmp_path):
    (tmp_path / "snow.md").write_text(f"# All about snow\n\n{ANSWERS[0]}\n\n## How bees live\n\n{ANSWERS[1]}\n")
    found = read_training(tmp_path, generate=("heading",))
    assert pairs_of(found) == {("All about snow", ANSWERS[0]), ("How bees live", ANSWERS[1])}
    lines = write_lines(tmp_path / "d.jsonl", [{"id": "1", "title": "The moon", "text": ANSWERS[3]}])
    assert pairs_of(read_training(lines, generate="title")) == {("The moon", ANSWERS[3])}
    assert read_training(lines, seed=5).queries == read_training(lines, seed=5).queries


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "a.jsonl, line 1: broken JSON at column 2"),
        ("[1]", "a.jsonl, line 1: expected a JSON object"),
        ('{"query": "x"}', """line 1: no "positive": expected "query" and "positive", found 'query'"""),
        ('{"positive": "x"}', """line 1: no "query": expected"""),
        ('{"query": "x", "positive": ["y"]}', "line 1: a query, positive or negative is a list; expected a string"),
        ('{"query": "x", "positive": "y z w", "negatives": [3]}', "negative is a number; expected a string"),
        ('{"query": "\\ud800", "positive": "y"}', "half a surrogate pair"),
        ('{"query": "x", "positive": "y"}', "no pair is left to train on .*1 with a document of under 3 words"),
        ('{"name": "x"}', "no id: expected '_id' or 'id', found 'name'"),
        ("", "a.jsonl: is empty; expected one JSON object a line"),
    ],
)
def test_errors_say_where_and_what(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(TrainError, match=message):
        read_training(tmp_path / "a.jsonl")


def test_a_missing_file_and_bad_options_are_errors(tmp_path):
    with pytest.raises(TrainError, match="there is no such file or folder; check the path"):
        read_training(tmp_path / "missing.jsonl")
    with pytest.raises(TrainError, match="nothing: no pair is left to train on"):
        read_training([])
    with pytest.raises(TrainError, match="limit and each are 1 or more, not 0 and 1"):
        read_training(tmp_path, limit=0)
    with pytest.raises(TrainError, match="called 'magic'"):
        read_training(tmp_path, generate="magic")


def test_broken_lines_can_be_passed_over(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", PAIRS)
    with path.open("a") as file:
        file.write('{"query": "x"}\nbroken\n')
    found = read_training(path, skip_bad=True)
    assert len(found) == 6
    ((reason, count),) = found.counts[0].dropped.items()
    assert count == 2
    assert reason.startswith("broken, the first: ")
    assert "line 7" in reason


# Holding out

NUMBERED = [f"document number {n} of many" for n in range(60)]


@given(st.floats(0.01, 0.9), st.integers(0, 3))
def test_held_out_documents_are_on_one_side_with_all_their_queries(share, seed):
    training = training_set(NUMBERED, [(f"{word} {n}", n) for n in range(60) for word in ("first", "second")])
    left, held = split(training, share, seed)
    assert set(left.documents) | set(held.documents) == set(NUMBERED)
    assert not set(left.documents) & set(held.documents)
    assert pairs_of(left) | pairs_of(held) == pairs_of(training)
    assert len(held) == 2 * len(held.documents)
    fewer = training_set(NUMBERED[:40], [(f"first {n}", n) for n in range(40)])
    assert set(split(fewer, share, seed)[1].documents) == set(held.documents) & set(NUMBERED[:40])


def test_a_number_of_documents_is_held_out_and_negatives_move_with_them():
    wrong = [np.array([(n + 1) % 60, (n + 2) % 60], np.int64) for n in range(60)]
    training = training_set(NUMBERED, [(f"query {n}", n) for n in range(60)], negatives=wrong)
    left, held = split(training, 10, seed=7)
    assert (len(left), len(held), len(held.documents)) == (50, 10, 10)
    for part in (left, held):
        for query, found in zip(part.queries, part.negatives, strict=True):
            number = int(query.split()[1])
            expected = {NUMBERED[(number + 1) % 60], NUMBERED[(number + 2) % 60]} & set(part.documents)
            assert {part.documents[at] for at in found} == expected
    assert (left.counts, left.groups.size) == ((), 50)


def test_a_query_with_answers_on_both_sides_is_on_neither():
    training = training_set(NUMBERED, [("shared", 0), ("Shared ", 1), *[(f"query {n}", n) for n in range(60)]])
    apart = 0
    for seed in range(20):
        left, held = split(training, 0.5, seed)
        asked = [{normalised(query) for query in part.queries} for part in (left, held)]
        sides = {NUMBERED[at] in held.documents for at in (0, 1)}
        assert [("shared" in each) for each in asked] == [sides == {False}, sides == {True}]
        apart += len(sides) == 2
    assert 0 < apart < 20


@pytest.mark.parametrize("amount", [0, -1, float("nan")])
def test_an_amount_above_0_is_held_out(amount):
    with pytest.raises(TrainError, match="held out is a share or a number of documents, above 0"):
        split(training_set(ANSWERS, [("q", 0)]), amount)


def test_something_must_be_left_to_train_on():
    with pytest.raises(TrainError, match="holding out 6 leaves none of 1 pairs to train on"):
        split(training_set(ANSWERS, [("q", 0)]), 6)


def test_texts_of_an_evaluation_are_left_out_however_they_are_written():
    training = training_set(ANSWERS, [("What is snow?", 0), ("bees", 1), ("glacier", 2)])
    kept, dropped = without(training, ["  what IS snow", ANSWERS[1].upper(), "nothing of the kind"])
    assert dropped == 2
    assert kept.queries == ["glacier"]
    assert kept.documents == [ANSWERS[0], *ANSWERS[2:]]
    assert kept.documents[kept.positives[0]] == ANSWERS[2]
    with pytest.raises(TrainError, match="every one of 3 pairs"):
        without(training, ANSWERS)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)

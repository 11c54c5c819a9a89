"""`plait reproduce`: the same numbers again, or what differs and why."""

from __future__ import annotations

import json
import shutil

import pytest

from .conftest import jsonl

CORPUS = {"d1": "apple banana", "d2": "apple", "d3": "cherry", "d4": "banana cherry date"}


def collection(folder, queries, qrels):
    jsonl(folder / "corpus.jsonl", [{"_id": id, "text": text} for id, text in CORPUS.items()])
    jsonl(folder / "queries.jsonl", [{"_id": id, "text": text} for id, text in queries.items()])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


@pytest.fixture
def data(tmp_path):
    return collection(tmp_path / "beir" / "tiny", {"q1": "apple", "q2": "cherry"}, "q1\td1\t1\nq2\td3\t1\n")


@pytest.fixture
def card(plait, data, tmp_path):
    """The card of two systems."""
    path = tmp_path / "card.json"
    command = ("eval", data, "--strands", "lexical", "--system", "few=depth=1", "--measures", "nDCG@10 RR")
    plait(*command, "--card", path)
    return path


def changed(path, change):
    """Writes a changed card over the old one."""
    card = json.loads(path.read_text())
    change(card, card["collections"][0])
    path.write_text(json.dumps(card))
    return path


@pytest.mark.parametrize("place", ["beir", "beir/tiny"])
def test_the_same_numbers_again(plait, card, tmp_path, place):
    said = plait("reproduce", card, "--data", tmp_path / place)
    assert said.out.splitlines()[-1] == "reproduced: of 8 values 8 are equal and 8 within four decimals"
    assert said.err == ""
    again = plait("reproduce", card, "--data", tmp_path / place, "--json").json
    assert again["succeeded"] is True
    assert (again["values"], again["equal"], again["facts"], again["lacking"]) == (8, 8, [], 0)


def test_an_index_that_is_there_is_used(plait, card, data, tmp_path):
    plait("eval", data, "--index", tmp_path / "i", "--strands", "lexical")
    assert plait("reproduce", card, "--data", data, "--index", tmp_path / "i").out.startswith("largest differences")


def test_what_differs_is_told_with_status_1(plait, card, data):
    def change(card, part):
        part["systems"][0]["per_query"]["RR"]["q1"] = 0.25
        part["encoders"]["lexical"]["revision"] = "older"
        card["environment"]["python"] = "3.9.0"

    said = plait("reproduce", changed(card, change), "--data", data, code=1)
    rows = [line.replace("│", " ").split() for line in said.out.splitlines()]
    assert ["RR", "0.250000", "0.250000", "0.500000", "tiny:", "lexical,", "query", "q1"] in rows
    assert "tiny encoders lexical revision: older then, " in said.out
    assert "environment python: 3.9.0 then, " in said.out
    assert said.out.splitlines()[-1] == "NOT reproduced: of 8 values 7 are equal and 7 within four decimals"
    said = plait("reproduce", card, "--data", data, "--tolerance", "0.25")
    assert said.out.splitlines()[-1] == "reproduced: of 8 values 7 are equal and 8 within tolerance 0.25"


def test_bm25_is_that_of_the_card(plait, card, data):
    def change(card, part):
        part["settings"]["bm25"] = {"k1": 5.0, "b": 1.0}

    said = plait("reproduce", changed(card, change), "--data", data)
    assert "bm25" not in said.out, "the index was made with k1 and b of the card"


def test_other_data_are_refused_unless_allowed(plait, card, data):
    (data / "qrels" / "test.tsv").write_text("q1\td2\t1\nq2\td3\t1\n")
    said = plait("reproduce", card, "--data", data, code=1)
    assert said.err == (
        f"error: tiny: not the data that the card is of: another checksum of {data / 'qrels' / 'test.tsv'}; give the "
        "same files, or --other-data to compare all the same\n"
    )
    said = plait("reproduce", card, "--data", data, "--other-data", code=1)
    assert "tiny dataset sha256 qrels: " in said.out
    assert "NOT reproduced: of 8 values 4 are equal" in said.out


def test_several_collections(plait, data, tmp_path):
    other = collection(tmp_path / "beir" / "other", {"x": "date"}, "x\td4\t1\n")
    path = tmp_path / "two.json"
    plait("eval", data, other, "--strands", "lexical", "--card", path, "--index", tmp_path / "i")
    said = plait("reproduce", path, "--data", tmp_path / "beir", "--index", tmp_path / "i")
    assert "reproduced: of 12 values 12 are equal" in said.out
    assert "reproduced: of 12" in plait("reproduce", path, "--data", data, "--data", other).out
    said = plait("reproduce", path, "--data", data, code=1)
    assert said.err == (
        "error: the card is of the collection 'other'; name its folder, or the one that holds it, with --data\n"
    )


def test_finished_runs_are_measured_where_they_are_given(plait, data, tmp_path):
    run, path = tmp_path / "old.run", tmp_path / "card.json"
    run.write_text("q1 Q0 d1 1 1.0 x\n")
    plait("eval", data, "--run", run, "--strands", "lexical", "--measures", "RR", "--card", path)
    said = plait("reproduce", path, "--data", data)
    assert said.err == "old.run is a finished run; give its file with --run to measure it, too\n"
    assert "reproduced: of 2 values" in said.out
    assert "reproduced: of 4 values" in plait("reproduce", path, "--data", data, "--run", run).out
    run.write_text("q1 Q0 d2 1 1.0 x\n")
    assert "NOT reproduced: of 4 values 3" in plait("reproduce", path, "--data", data, "--run", run, code=1).out


def test_runs_of_several_collections_are_told_apart_by_their_checksums(plait, data, tmp_path):
    other = collection(tmp_path / "beir" / "other", {"x": "date"}, "x\td4\t1\n")
    for name, line in (("tiny", "q1 Q0 d1 1 1.0 x\n"), ("other", "x Q0 d3 1 2.0 x\nx Q0 d4 2 1.0 x\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.run").write_text(line)
    runs, path = tmp_path / "{collection}" / "a.run", tmp_path / "card.json"
    plait("eval", data, other, "--run", runs, "--measures", "RR", "--card", path)
    command = ("reproduce", path, "--data", tmp_path / "beir")
    assert plait(*command, "--run", runs).out.endswith(
        "reproduced: of 3 values 3 are equal and 3 within four decimals\n"
    )
    said = plait(*command, "--run", tmp_path / "tiny" / "a.run", "--run", tmp_path / "other" / "a.run")
    assert (said.err, "reproduced: of 3 values" in said.out) == ("", True)
    (tmp_path / "tiny" / "a.run").rename(tmp_path / "moved.run")
    said = plait(*command, "--run", tmp_path / "moved.run", "--run", tmp_path / "other" / "a.run")
    assert "reproduced: of 3 values" in said.out


def test_run_files_that_are_not_the_card_s_are_told(plait, data, tmp_path):
    run, path = tmp_path / "old.run", tmp_path / "card.json"
    run.write_text("q1 Q0 d1 1 1.0 x\n")
    plait("eval", data, "--run", run, "--measures", "RR", "--card", path)
    (tmp_path / "more.run").write_text("q1 Q0 d2 1 1.0 x\n")
    command = ("reproduce", path, "--data", data, "--run", run)
    said = plait(*command, "--run", tmp_path / "more.run")
    assert said.err == (
        f"{tmp_path / 'more.run'} is none of the card's finished runs, by its SHA-256 or name; it is not measured\n"
    )
    said = plait(*command, "--run", tmp_path / "no.run", code=1)
    assert said.err == f"error: {tmp_path / 'no.run'}: there is no such file; check the path\n"
    assert f"{tmp_path} is a folder; --run takes the file of a run" in plait(*command, "--run", tmp_path, code=1).err
    run.write_text("q1 Q0 d2 1 1.0 x\n")
    assert "tiny file old.run: " in plait(*command, code=1).out, "its SHA-256 then and now"


def test_a_folder_may_be_called_otherwise(plait, card, data, tmp_path):
    data.rename(tmp_path / "copy")
    said = plait("reproduce", card, "--data", tmp_path / "copy")
    assert said.out.splitlines()[-1] == "reproduced: of 8 values 8 are equal and 8 within four decimals"


def test_means_that_are_not_those_of_the_values_are_told(plait, card, data):
    def change(card, part):
        part["systems"][0]["means"]["RR"] = 0.99

    said = plait("reproduce", changed(card, change), "--data", data, code=1)
    assert "tiny lexical mean RR: 0.99 in the card, and its own values give 0.75\n" in said.out
    assert said.out.splitlines()[-1] == "NOT reproduced: of 8 values 8 are equal and 8 within four decimals"


def test_distractors_are_needed_again(plait, data, tmp_path):
    more, path = jsonl(tmp_path / "more.jsonl", [{"id": "x", "text": "apple"}]), tmp_path / "card.json"
    plait("eval", data, "--strands", "lexical", "--distractors", more, "--card", path)
    said = plait("reproduce", path, "--data", data, code=1)
    assert said.err == "error: the card is of a corpus with distractors from more.jsonl; give --distractors\n"
    assert "reproduced: of 8" in plait("reproduce", path, "--data", data, "--distractors", more).out
    jsonl(more, [{"id": "x", "text": "cherry"}])
    said = plait("reproduce", path, "--data", data, "--distractors", more, code=1)
    assert said.err == f"error: {more}: another checksum than the card's more.jsonl\n"


def test_what_cannot_be_reproduced(plait, card, data, tmp_path):
    assert "the card is of the collection 'tiny'; name its folder" in plait("reproduce", card, code=1).err
    said = plait("reproduce", card, "--data", tmp_path / "no", code=1)
    assert "the card is of the collection 'tiny'" in said.err
    said = plait("reproduce", card, "--data", data, "--tolerance", "-1", code=1)
    assert "tolerance is what a value may differ by" in said.err
    shutil.copy(data / "corpus.jsonl", tmp_path / "bad.json")
    assert "bad.json: damaged, or no run card: " in plait("reproduce", tmp_path / "bad.json", code=1).err
    said = plait("reproduce", changed(card, lambda card, _: card.update(card=1)), "--data", data, code=1)
    assert "a run card of version 1, and this plait reads version 2; measure again with plait eval --card" in said.err


def test_a_card_of_three_strands(plait, data, tmp_path):
    path = tmp_path / "card.json"
    plait("eval", data, "--card", path, "--measures", "nDCG@10")
    assert "reproduced: of 8 values 8 are equal" in plait("reproduce", path, "--data", data).out


def run_of(path, *documents):
    """Writes a run whose first query ranks these documents, and returns its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"q1 Q0 {id} {rank} {-rank}.0 x\n" for rank, id in enumerate(documents, 1)))
    return path


def test_changed_runs_of_one_name_are_told_apart_by_their_paths(plait, data, tmp_path):
    first, second, path = tmp_path / "a" / "x.run", tmp_path / "b" / "x.run", tmp_path / "card.json"
    plait("eval", data, "--run", run_of(first, "d1"), "--run", run_of(second, "d2", "d1"), "--measures", "RR",
          "--card", path)  # fmt: skip
    run_of(first, "d1", "d4"), run_of(second, "d2", "d1", "d4")  # other files, of the same values
    said = plait("reproduce", path, "--data", data, "--run", second, "--run", first)
    assert (said.err, said.out.splitlines()[-1]) == (
        "", "reproduced: of 4 values 4 are equal and 4 within four decimals",
    )  # fmt: skip
    for place in ("a", "b"):
        (tmp_path / place).rename(tmp_path / f"new-{place}")
    moved = ("--run", tmp_path / "new-a" / "x.run", "--run", tmp_path / "new-b" / "x.run")
    assert "reproduced: of 4 values 4 are equal" in plait("reproduce", path, "--data", data, *moved).out


def test_equal_runs_are_each_a_system_s(plait, data, tmp_path):
    files, path = [run_of(tmp_path / name, "d1") for name in ("a.run", "b.run")], tmp_path / "card.json"
    runs = [each for file in files for each in ("--run", file)]
    plait("eval", data, *runs, "--measures", "RR", "--card", path)
    for given in (runs, runs[2:] + runs[:2]):
        said = plait("reproduce", path, "--data", data, *given)
        assert said.err == ""
        assert "reproduced: of 4 values 4 are equal" in said.out
    said = plait("reproduce", path, "--data", data, *runs[2:])
    assert said.err == "a.run is a finished run; give its file with --run to measure it, too\n"


def test_the_runs_that_lack_are_named_where_nothing_is_left(plait, data, tmp_path):
    other = collection(tmp_path / "beir" / "other", {"x": "date"}, "x\td4\t1\n")
    for name, query in (("tiny", "q1"), ("other", "x")):
        for run in ("a.run", "b.run"):
            run_of(tmp_path / name / run, "d1", "d4").write_text(f"{query} Q0 d1 1 2.0 {run}\n{query} Q0 d4 2 1.0 x\n")
    runs, path = tmp_path / "{collection}", tmp_path / "card.json"
    plait("eval", data, other, "--run", runs / "a.run", "--run", runs / "b.run", "--measures", "RR", "--card", path)
    command = ("reproduce", path, "--data", tmp_path / "beir", "--run", tmp_path / "tiny" / "a.run")
    left = (
        "error: no system of the card can be measured on all its collections without its finished runs; give their "
        "files with --run, of "
    )
    assert plait(*command, code=1).err == f"{left}tiny: b.run; other: a.run, b.run\n"
    crossed = ("--run", tmp_path / "other" / "b.run")
    assert plait(*command, *crossed, code=1).err == f"{left}tiny: b.run; other: a.run\n"
    said = plait(*command, "--run", tmp_path / "other" / "a.run")
    assert "b.run is a finished run of other; give its file with --run to measure it, too\n" in said.err
    assert "reproduced: of 3 values 3 are equal" in said.out
    single = tmp_path / "one.json"
    plait("eval", data, "--run", tmp_path / "tiny" / "a.run", "--card", single)
    assert plait("reproduce", single, "--data", data, code=1).err == (
        "error: no system of the card can be measured without its finished runs; give their files with --run, of "
        "tiny: a.run\n"
    )


def test_a_card_with_sorted_keys_is_no_contradiction(plait, tmp_path):
    numbers = [str(number) for number in range(12, 0, -1)]
    texts = dict(zip(numbers, ["apple", "banana", "cherry", "date"] * 3, strict=True))
    data = collection(tmp_path / "many", texts, "".join(f"{number}\td4\t1\n" for number in numbers))
    path = tmp_path / "card.json"
    plait("eval", data, "--strands", "lexical", "--system", "few=depth=1", "--measures", "RR", "--samples", "7",
          "--card", path)  # fmt: skip
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card, sort_keys=True))
    assert list(json.loads(path.read_text())["collections"][0]["systems"][0]["per_query"]["RR"]) == sorted(numbers)
    said = plait("reproduce", path, "--data", data)
    assert "in the card, and its own values give" not in said.out
    assert said.out.splitlines()[-1].startswith("reproduced: of 24 values 24 are equal")

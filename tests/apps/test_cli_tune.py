"""`plait tune`: weights, calibration and rankers from a few judged queries."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from plait.apps.tuning import _behind
from plait.retriever import Retriever
from plait.retriever.log import QueryLog

from .conftest import jsonl

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "jetty"]
CORPUS = [{"id": word, "text": f"{word} wood"} for word in WORDS]
QUERIES = {f"q{number}": word for number, word in enumerate(WORDS)}


@pytest.fixture
def files(tmp_path):
    queries = jsonl(tmp_path / "q.jsonl", [{"_id": id, "text": text} for id, text in QUERIES.items()])
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("".join(f"{query}\t{word}\t1\n" for query, word in QUERIES.items()))
    return "--queries", queries, "--qrels", qrels


@pytest.fixture
def wood(tmp_path):
    """An index that finds everything already."""
    place = tmp_path / "wood.index"
    with Retriever.create(place, strands="lexical,learned", weights={"learned": 1.0}) as retriever:
        retriever.add(CORPUS)
        retriever.commit()
    return place


@pytest.fixture
def plurals(tmp_path):
    """An index that weighs words only, and knows no plural."""
    place = tmp_path / "plurals.index"
    given = {"lexical": 1.0, "dense": 0.0}
    with Retriever.create(place, strands="lexical,dense", lexical="none", weights=given) as retriever:
        retriever.add([{"id": word, "text": f"{word}s"} for word in WORDS])
        retriever.commit()
    return place


def weights(place):
    with Retriever.open(place) as retriever:
        facts = retriever.info()
    return facts["weights"], facts["weights_from"], facts["tuned"]


def test_weights_are_kept_only_where_they_are_better(plait, wood, files):
    before = weights(wood)
    said = plait("tune", wood, *files, "--json")
    assert said.json["queries"] == 10
    searched = said.json["searched"]
    assert said.json["written"] == (searched["after"] - searched["before"] > searched["error"])
    assert said.json["alone"]["lexical"] == 1.0
    after, source, record = weights(wood)
    if said.json["written"]:
        assert after == said.json["weights"]
        assert source == "the index"
        assert record["queries"] == 10
    else:
        assert (after, source, record) == before


def test_better_weights_are_written_and_taken_back(plait, plurals, files):
    dry = plait("tune", plurals, *files, "--dry-run", "--json").json
    assert not dry["written"]
    assert weights(plurals)[2] is None
    said = plait("tune", plurals, *files, "--json").json
    assert said["searched"] == dry["searched"]
    assert said["written"] == said["searched"]["better"]
    assert {key: said[key] for key in ("after", "interval", "weights")} == {
        key: dry[key] for key in ("after", "interval", "weights")
    }
    assert said["searched"]["after"] > said["searched"]["before"]
    found, source, record = weights(plurals)
    assert found == said["weights"]
    assert source == "the index"
    assert record["source"] == "qrels"
    assert record["measure"] == "nDCG@10"
    assert record["before"] == said["searched"]["before"]
    assert record["plait"]
    assert record["date"].endswith("+00:00")
    again = plait("tune", plurals, "--reset")
    assert "fusion and weights are back to plait's own" in again.out
    assert weights(plurals)[1:] == ("plait", None)


def settled(place, **given):
    with Retriever.open(place) as retriever:
        retriever.settle(**given)


def test_tuning_again_changes_nothing(plait, plurals, files):
    """The index's weights are no prior: what was chosen once would move the choice on."""
    first = plait("tune", plurals, *files, "--json").json
    assert first["written"]
    held = weights(plurals)
    again = plait("tune", plurals, *files)
    assert "nothing was written: the index has these weights" in again.out
    assert weights(plurals) == held
    settled(plurals, weights={"lexical": 1, "dense": 0})
    assert weights(plurals)[2] is None
    said = plait("tune", plurals, *files)
    assert "goes back to plait's own weights, not to lexical=1,dense=0, which somebody set" in " ".join(
        said.out.split()
    )
    assert weights(plurals)[0] == first["weights"]


def test_plaits_own_weights_are_tried_where_the_index_has_others(plait, plurals, files):
    found = plait("tune", plurals, *files, "--json", "--dry-run").json["searched"]
    assert found["own"] > found["before"]
    said = plait("tune", plurals, *files, "--dry-run")
    assert f"with plait's own weights and steps searches have {found['own']:.4f}" in said.out
    settled(plurals, pipeline="feedback")
    found = plait("tune", plurals, *files, "--json", "--dry-run").json["searched"]
    said = plait("tune", plurals, *files, "--dry-run")
    assert f"with plait's own weights, with this index's steps, searches have {found['own']:.4f}" in said.out
    settled(plurals, weights=None, pipeline=None)
    assert plait("tune", plurals, *files, "--json", "--dry-run").json["searched"]["own"] is None


def test_a_calibration_that_says_nothing_is_not_written(plait, plurals, files, tmp_path):
    """What is relevant here has the lowest scores: nothing that never falls tells it apart."""
    plait("settle", plurals, "--weights", "lexical=0.5,dense=0.5")
    with Retriever.open(plurals) as retriever:
        run = retriever.run(QUERIES, 10)
    rows = [(query, word) for number, query in enumerate(QUERIES) for word in list(run[query])[-1 - number % 4 :]]
    qrels = tmp_path / "worst.tsv"
    qrels.write_text("".join(f"{query}\t{word}\t1\n" for query, word in rows))
    said = plait("tune", plurals, *files[:3], qrels, "--calibrate", "isotonic")
    assert "nothing was written: the scores say no more of relevance than its mean does" in " ".join(said.out.split())
    found = plait("tune", plurals, *files[:3], qrels, "--calibrate", "isotonic", "--json").json
    assert found["written"] is False
    assert found["first_10"]["brier"] >= found["first_10"]["brier_of_the_mean"]
    assert plait("info", plurals, "--json").json["calibrated"] is False


def test_the_table(plait, wood, files):
    said = plait("tune", wood, *files, "--dry-run")
    assert said.out.startswith("10 judged queries, before any step")
    for row in ("as it is", "tuned", "lexical alone", "learned alone"):
        assert row in said.out
    assert re.search(r"steps: \d\.\d{4} as it is \(none\), \d\.\d{4} tuned \(\w+\);", " ".join(said.out.split()))
    assert "tuned is cross-validated: each query is ranked by weights that others chose" in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say what to learn from: --queries FILE and --qrels FILE, --data FOLDER or --log FILE"),
        (("--queries", "q.jsonl"), "say what to learn from"),
        (("--reset", "--data", "there"), "say what to learn from"),
        (("--data", "nowhere"), "nowhere: there is no such folder"),
        (("--data", "nowhere", "--depth", "0"), "--depth is how many are wanted"),
        (("--data", "nowhere", "--measure", "nDGC@10"), "there is no measure 'nDGC@10'"),
        (("--data", "nowhere", "--ranker", "x", "--out", "y"), "no ranker 'x'; there are: logistic, lambdamart"),
        (("--reset", "--label-free"), "say what to learn from"),
        (("--label-free", "--calibrate", "label-free"), "--label-free and --calibrate are jobs of their own"),
        (("--data", "x", "--calibrate", "platt", "--depth", "9"), "--depth goes with weights and --ranker; leave it"),
        (("--data", "x", "--calibrate", "platt", "--measure", "RR@10"), "--measure goes with weights and --ranker"),
        (("--label-free", "--measure", "RR@10"), "--measure goes with weights and --ranker; leave it out"),
        (("--label-free", "--depth", "9"), "--depth goes with weights and --ranker; leave it out"),
        (("--label-free", "--split", "train"), "--split goes with --data; leave it out"),
        (("--queries", "q", "--qrels", "q", "--split", "train"), "--split goes with --data; leave it out"),
        (("--calibrate", "label-free", "--skip-bad"), "--skip-bad goes with --queries, --data or --log; leave it out"),
        (("--reset", "--seed", "3"), "--seed goes with what is drawn by chance"),
        (("--data", "x", "--calibrate", "platt", "--report", "."), ". is a folder; --report takes the file to write"),
        (("--data", "x", "--ranker", "logistic", "--out", "."), ". is a folder; --out takes the file to write"),
        (("--data", "x", "--ranker", "logistic", "--out", "a,b.json"), "a,b.json: a comma ends a step, so that no"),
        (("--data", "x", "--measure", "R"), "R takes a cutoff, as R@100"),
    ],
)
def test_what_is_wrong_is_told(plait, index, options, message):
    assert message in plait("tune", index, *options, code=1).err


def test_too_few_queries_and_other_measures(plait, wood, files, tmp_path):
    few = tmp_path / "few.tsv"
    few.write_text("q0\tamber\t1\nq1\tbirch\t1\n")
    said = plait("tune", wood, *files[:3], few, code=1)
    assert "2 queries have a document judged relevant; at least 5 are needed" in said.err
    said = plait("tune", wood, *files, "--measure", "P@5", code=1)
    assert "weights are chosen by nDCG, RR, R, AP" in said.err
    few.write_text("".join(f"{query}\tnowhere\t1\n" for query in QUERIES))
    assert "none of the 1 documents judged relevant is in the index" in plait("tune", wood, *files[:3], few, code=1).err


def test_an_index_that_is_being_written(plait, plurals, files):
    with Retriever.open(plurals) as other:
        other.add([{"id": "new", "text": "new"}])
        for job in ((), ("--calibrate", "platt")):  # before anything is read
            said = plait("tune", plurals, "--data", "nowhere", *job, code=1)
            assert "is being written by another process" in " ".join(said.err.split())
        assert plait("tune", plurals, *files, "--dry-run", "--json").json["written"] is False
    assert weights(plurals)[2] is None


def test_calibration(plait, plurals, files, tmp_path):
    page = tmp_path / "new" / "page.html"
    plait("settle", plurals, "--weights", "lexical=0.5,dense=0.5")
    said = plait("tune", plurals, *files, "--calibrate", "isotonic", "--report", page)
    assert "isotonic calibration, 10 queries" in said.out
    assert "documents that nobody judged count as not relevant" in said.out
    assert said.err == f"wrote {page}\n"
    assert "<svg" in page.read_text()
    hits = plait("search", plurals, "birch", "--json").json["hits"]
    assert all(0 <= hit["probability"] <= 1 for hit in hits)
    found = plait("tune", plurals, *files, "--calibrate", "platt", "--json", "--dry-run").json
    assert found["kind"] == "platt"
    assert not found["written"]
    assert found["first_10"]["hits"] == 100
    plait("tune", plurals, "--reset")
    assert plait("info", plurals, "--json").json["calibrated"] is False


def test_calibrations_by_name(plait, plurals, files):
    assert (
        "no calibration 'x'; there are: isotonic, platt, label-free"
        in plait("tune", plurals, *files, "--calibrate", "x", code=1).err
    )
    assert "--report goes with --calibrate" in plait("tune", plurals, *files, "--report", "r.html", code=1).err


def test_weights_from_a_log(plait, plurals, tmp_path):
    path = tmp_path / "log.jsonl"
    for word in WORDS:
        plait("search", plurals, word, "--log", path)
    said = plait("tune", plurals, "--log", path, code=1)
    assert "none of its 10 searches says what was relevant" in said.err
    log = QueryLog(path)
    for word in WORDS:
        log.clicked(word, word)
    found = plait("tune", plurals, "--log", path, "--json").json
    assert (found["source"], found["queries"], found["written"]) == ("log", 10, True)
    assert weights(plurals)[2]["source"] == "log"


def test_what_a_log_takes(plait, index, tmp_path):
    queries = tmp_path / "q.txt"
    queries.write_text("snow\nhoney\n")
    path = tmp_path / "log.jsonl"
    said = plait("search", index, "--queries", queries, "--log", path, code=1)
    assert "a TREC run is not logged; with --queries, --log goes with --json" in said.err
    assert "--log takes a file, which others append to" in plait("search", index, "snow", "--log", "-", code=1).err
    plait("search", index, "--queries", queries, "--log", path, "--json")
    assert len(path.read_text().splitlines()) == 2
    said = plait("search", index, "snow", "--log", tmp_path / "nowhere" / "log", code=1)
    assert "no query log can be written there" in said.err


def test_a_ranker(plait, plurals, files, tmp_path):
    path = tmp_path / "new" / "model.json"
    said = plait("tune", plurals, *files, "--ranker", "logistic", "--out", path)
    assert said.out.startswith("logistic on 10 queries: nDCG@10 ")
    assert said.err == f"wrote {path}\n"
    held = json.loads(path.read_text())
    assert held["trained"]["queries"] == 10
    again = plait("tune", plurals, *files, "--ranker", "logistic", "--out", path, "--dry-run")
    assert "--pipeline" not in again.out
    with Retriever.open(plurals) as retriever:
        assert retriever.search("birch", pipeline=f"rescore:model={path}").pipeline == f"rescore:model={path}"


def test_what_is_told_of_a_ranker_is_a_command(plait, plurals, files, tmp_path):
    path = tmp_path / "a model's $x.json"
    plait("tune", plurals, *files, "--ranker", "logistic", "--out", path)
    for steps, ahead in (("none", ""), ("feedback", "feedback,")):
        option, given = shlex.split(_behind(steps, path))
        assert (option, given) == ("--pipeline", f"{ahead}rescore:model={path}")
        assert plait("search", plurals, "birch", option, given).out


@pytest.mark.parametrize("options", [("--ranker", "logistic"), ("--out", "model.json")])
def test_a_ranker_and_its_file_go_together(plait, plurals, files, options):
    assert "--ranker and --out go together" in plait("tune", plurals, *files, *options, code=1).err


def test_without_labels_nothing_is_written(plait, tmp_path):
    records = [{"id": word, "text": f"The {word} grows slowly beside deep water."} for word in WORDS]
    place = tmp_path / "i"
    plait("index", jsonl(tmp_path / "c.jsonl", records), "--out", place, "--strands", "lexical,dense")
    said = plait("tune", place, "--label-free")
    assert "weights chosen by them were worse than plait's own; so nothing was written" in " ".join(said.out.split())
    assert weights(place)[1:] == ("plait", None)
    assert plait("tune", place, "--label-free", "--json").json["written"] is False
    said = plait("tune", place, "--calibrate", "label-free")
    assert "platt calibration, 10 queries" in said.out
    assert "probabilities are far too low" in said.err
    assert plait("info", place, "--json").json["calibrated"] is True

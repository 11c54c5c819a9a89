"""`plait eval` on a collection so small that every number can be worked out by hand."""

from __future__ import annotations

import json
from math import log2

import pytest
from plait.eval import read_run
from plait.eval.loading import FORMS

from .conftest import jsonl

# "apple" finds q1 first, which is the query itself and is dropped, then d2, then d1. "cherry" finds d3.
CORPUS = {"d1": "apple banana", "d2": "apple", "d3": "cherry", "q1": "Apple"}
QUERIES = {"q1": "apple", "q2": "cherry", "q3": "zebra"}
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td3\t1\nq2\td3\t1\nq3\td1\t1\n"
# Per query: q1 has one of its two relevant documents, at rank 2; q2 is perfect; q3 finds nothing.
NDCG = {"q1": (1 / log2(3)) / (1 + 1 / log2(3)), "q2": 1.0, "q3": 0.0}
MEANS = {"nDCG@10": sum(NDCG.values()) / 3, "RR@10": 0.5, "R@100": 0.5, "P@1": 1 / 3}
MEASURES = ("--measures", " ".join(MEANS))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "tiny"
    jsonl(folder / "corpus.jsonl", [{"_id": id, "title": "", "text": text} for id, text in CORPUS.items()])
    jsonl(folder / "queries.jsonl", [{"_id": id, "text": text} for id, text in QUERIES.items()])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(QRELS)
    return folder


def part(said, number=0):
    """A collection's part of the card that was printed."""
    return said.json["collections"][number]


def test_the_numbers(plait, data, tmp_path):
    card = tmp_path / "new" / "card.json"
    said = plait("eval", "--data", data, "--strands", "lexical", *MEASURES, "--card", card, "--json")
    (system,) = part(said)["systems"]
    assert system["name"] == "lexical"
    assert system["means"] == pytest.approx(MEANS)
    assert system["per_query"]["nDCG@10"] == pytest.approx(NDCG)
    assert system["unanswered"] == 1
    assert part(said)["dataset"]["queries"] == 3
    assert part(said)["encoders"]["lexical"]["name"] == "snowball-english"
    assert part(said)["index"]["documents"] == 4
    assert part(said)["settings"]["sources"] == {"lexical": "english"}
    assert said.json["comparisons"] == []
    assert said.err == f"wrote {card}\n"
    assert json.loads(card.read_text()) == said.json


def test_the_table(plait, data):
    said = plait("eval", "--data", data, "--strands", "lexical", *MEASURES, "--per-query")
    rows = [line.replace("│", " ").split() for line in said.out.splitlines()]
    assert said.out.startswith("tiny test, 3 queries, index 0.")
    assert ["lexical", *(f"{value:.4f}" for value in MEANS.values())] in [row[:5] for row in rows]
    assert ["q1", f"{NDCG['q1']:.4f}"] in rows
    assert ["q2", "1.0000"] in rows
    assert ["q3", "0.0000"] in rows


def test_a_kept_index_is_used_again(plait, data, tmp_path):
    index = tmp_path / "kept" / "i"
    first = plait("eval", "--data", data, "--index", index, "--strands", "lexical", *MEASURES, "--json")
    second = plait("eval", data, "--index", index, *MEASURES, "--json")
    assert part(first)["systems"][0]["means"] == part(second)["systems"][0]["means"]
    assert len(plait("info", index, "--json").json["segments"]) == 1


def test_an_index_that_an_interrupted_run_left_empty_is_filled(plait, data, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    plait("index", tmp_path / "none.jsonl", "--out", tmp_path / "i", "--strands", "lexical")
    said = plait("eval", "--data", data, "--index", tmp_path / "i", *MEASURES, "--json")
    assert part(said)["systems"][0]["means"] == pytest.approx(MEANS)
    assert said.err == ""


def test_an_index_of_another_corpus_is_noticed(plait, data, index):
    said = plait("eval", "--data", data, "--index", index, *MEASURES)
    assert said.err == (
        "2 of 2 relevant documents are not in the index; scores are low if it is not an index of "
        f"{data / 'corpus.jsonl'}\n"
    )


def test_runs_are_saved_and_measured_again(plait, data, tmp_path):
    runs = tmp_path / "runs" / "deep"
    plait("eval", "--data", data, "--strands", "lexical", "--save-runs", runs)
    path = runs / "lexical.run"
    assert list(read_run(path)["q1"]) == ["d2", "d1"]
    assert path.read_text().splitlines()[0].endswith(" plait-lexical")
    other = tmp_path / "lexical.run"
    other.write_text("q2 Q0 d3 1 1.0 x\n")
    said = plait("eval", "--data", data, "--run", path, *MEASURES, "--json")
    assert [system["name"] for system in part(said)["systems"]] == ["lexical.run"]
    assert part(said)["systems"][0]["means"] == pytest.approx(MEANS)
    both = plait("eval", "--data", data, "--run", path, "--run", other, "--measures", "RR@10", "--json")
    assert {system["name"]: system["means"]["RR@10"] for system in part(both)["systems"]} == {
        str(path): pytest.approx(0.5),
        str(other): pytest.approx(1 / 3),
    }


def test_the_cutoff_of_a_measure_is_reached(plait, tmp_path):
    """1,200 documents match and the relevant one comes last: R@1100 must not see it and R@1200 must."""
    folder = tmp_path / "deep"
    jsonl(folder / "corpus.jsonl", [{"_id": f"{number:04}", "text": "apple"} for number in range(1200)])
    jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "apple"}])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("q\t0000\t1\n")
    said = plait("eval", "--data", folder, "--strands", "lexical", "--measures", "R@1199 R@1200 RR", "--json")
    (system,) = part(said)["systems"]
    assert system["means"] == pytest.approx({"R@1199": 0.0, "R@1200": 1.0, "RR": 1 / 1200})


def test_bad_input_can_be_skipped(plait, data):
    with (data / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "empty", "text": ""}\n')
    jsonl(data / "queries.jsonl", [{"_id": "q1", "text": "apple"}, {"_id": "q2", "text": ""}])
    command = ("eval", "--data", data, "--strands", "lexical", "--measures", "RR@10", "--json")
    said = plait(*command, code=1)
    assert said.err.startswith(f"error: {data / 'qrels/test.tsv'}: judged queries without a text in ")
    said = plait(*command, "--skip-bad")
    assert said.err.startswith("2 judged queries have no text; each counts as 0\nskipped: ")
    assert "line 5: document 'empty' is empty" in said.err
    assert part(said)["systems"][0]["means"] == {"RR@10": pytest.approx(0.5 / 3)}


def test_three_strands_and_their_fusion(plait, data):
    said = plait("eval", "--data", data, "--measures", "RR@10", "--weights", "lexical=1,dense=0,learned=0", "--json")
    systems = {system["name"]: system for system in part(said)["systems"]}
    assert list(systems) == ["lexical", "learned", "dense", "fused"]
    assert systems["dense"]["unanswered"] == 0
    assert systems["fused"]["per_query"]["RR@10"]["q2"] == systems["lexical"]["per_query"]["RR@10"]["q2"] == 1.0
    assert systems["fused"]["options"] == {
        "strands": ["lexical", "learned", "dense"],
        "weights": {"lexical": 1.0, "dense": 0.0, "learned": 0.0},
        "depth": 200,
    }
    assert said.json["baseline"] == "lexical"
    assert [each["system"] for each in said.json["comparisons"]] == ["learned", "dense", "fused"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "dev"), "missing; the splits here are test"),
        (("--measures", "nDCG@10 Foo"), "there is no measure 'Foo'; expected such as nDCG@10, R@100"),
        (("--measures", ""), "no measure given; expected one or more such as nDCG@10"),
        (("--fusion", "sum"), "no fusion 'sum'; there are: convex, rrf"),
        (("--strands", "bm25"), "no strand 'bm25'; there are: lexical, learned, dense, lucene, lucene-impact"),
        (
            ("--weights", "bm25=1"),
            "a weight is given for 'bm25'; strands are: lexical, learned, dense, lucene, lucene-impact",
        ),
        (("--depth", "0"), "--depth is how many are wanted: a whole number of at least 1, not 0"),
        (("--run", "no.run"), "no.run: there is no such file; check the path"),
        (("--run", "."), ". is a folder; --run takes the file of a run, once for each"),
        (("--baseline", "bm25"), "no system 'bm25' to compare with; there are: lexical, learned, dense, fused"),
        (("--strands", "lexical", "--baseline", "fused"), "no system 'fused' to compare with; there are: lexical"),
        (("--sizes", "1,4"), "a corpus of 1 documents cannot hold the 2 that have judgements; sizes begin there"),
        (("--sizes", "3,5"), "the index holds 4 documents, fewer than 5; add distractors"),
        (("--distractors", "no.jsonl"), "no.jsonl: there is no such file or folder; check the path"),
        (("--distractors", "no.jsonl", "--skip-bad"), "no.jsonl: there is no such file or folder; check the path"),
        (("--distractors", "."), ". is no file; --distractors takes one file of documents"),
        (("--distractors", "-"), "- is no file; --distractors takes one file of documents"),
        (("--save-runs", "/dev/null/runs"), "/dev/null/runs: Not a directory"),
        (("--save-runs", __file__), "test_cli_eval.py is a file; --save-runs takes the folder to write into"),
        (("--strands", "lexical", "--dense", "x"), "--dense is for the dense strand, which --strands lexical leaves"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(plait, data, tmp_path, options, message):
    index = () if "--run" in options else ("--index", tmp_path / "i")
    said = plait("eval", "--data", data, *index, *options, code=1)
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.out == ""
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("option", [("--depth", "5"), ("--weights", "dense=1")])
def test_what_is_said_of_a_search_beside_a_run_is_heard(plait, data, tmp_path, option):
    (tmp_path / "old.run").write_text("q1 Q0 d1 1 1.0 x\n")
    command = ("eval", data, "--run", tmp_path / "old.run", "--baseline", "x")
    assert plait(*command, code=1).err.endswith("there are: old.run\n")
    assert plait(*command, *option, code=1).err.endswith("there are: lexical, learned, dense, fused, old.run\n")
    said = plait(*command, *option, "--no-defaults", code=1)
    assert said.err.startswith("error: --no-defaults leaves nothing to measure; name a system with --system")


def test_a_run_of_another_collection_is_noticed_before_anything_is_made(plait, data, tmp_path):
    (tmp_path / "a.run").write_text("z Q0 d1 1 1.0 x\n")
    said = plait("eval", data, "--index", tmp_path / "i", "--run", tmp_path / "a.run", code=1)
    assert said.err.startswith("error: a.run: holds no query that tiny test has judged; its queries are 'z'")
    assert not (tmp_path / "i").exists()


def test_a_second_collection_is_looked_at_before_the_first_is_indexed(plait, data, other, tmp_path):
    """The first could have that baseline, or a curve from so many documents; the second cannot."""
    plait("index", data / "corpus.jsonl", "--out", tmp_path / "i" / "other.index", "--strands", "lexical")
    said = plait("eval", data, other, "--index", tmp_path / "i", "--baseline", "dense", code=1)
    assert said.err == "error: no system 'dense' to compare with; there are: lexical\n"
    assert not (tmp_path / "i" / "tiny.index").exists()
    for name, query in (("tiny", "q1"), ("other", "z")):
        (tmp_path / f"{name}.run").write_text(f"{query} Q0 d1 1 1.0 x\n")
    run = tmp_path / "{collection}.run"
    said = plait("eval", data, other, "--index", tmp_path / "k", "--run", run, code=1)
    assert "holds no query that other test has judged; its queries are 'z'" in said.err
    assert not (tmp_path / "k").exists()
    (other / "corpus.jsonl").write_text('{"_id": "d1", "text": "apple banana"}\n')
    said = plait("eval", data, other, "--index", tmp_path / "j", "--sizes", "3", code=1)
    assert said.err == "error: the index holds 1 documents, fewer than 3; add distractors\n"
    assert not (tmp_path / "j").exists()


def test_a_kept_index_is_not_searched_for_a_baseline_or_sizes_that_cannot_be(plait, data, tmp_path):
    command = ("eval", data, "--index", tmp_path / "i", "--strands", "lexical", "--save-runs", tmp_path / "runs")
    plait("index", data / "corpus.jsonl", "--out", tmp_path / "i", "--strands", "lexical")
    for options in (("--baseline", "bm25"), ("--sizes", "1"), ("--sizes", "5")):
        plait(*command, *options, code=1)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--card", "--report"])
def test_a_folder_where_a_file_is_to_be_written_is_noticed_first(plait, data, tmp_path, option):
    said = plait("eval", "--data", data, "--index", tmp_path / "i", option, tmp_path, code=1)
    assert said.err == f"error: {tmp_path} is a folder; {option} takes the file to write\n"
    assert not (tmp_path / "i").exists()


def test_a_folder_that_is_no_collection(plait, tmp_path):
    said = plait("eval", "--data", tmp_path / "no", code=1)
    assert said.err == f"error: {tmp_path / 'no'}: there is no such folder; expected {FORMS}\n"


def test_a_trec_collection_is_measured_and_reproduced(plait, tmp_path):
    folder = tmp_path / "trec"
    folder.mkdir()
    (folder / "topics.txt").write_text("<top>\n<num> Number: 1\n<title> apple\n</top>\n")
    (folder / "qrels.txt").write_text("1 0 d2 1\n1 0 d1 0\n")
    documents = "".join(f"<DOC>\n<DOCNO> {id} </DOCNO>\n<TEXT>{text}</TEXT>\n</DOC>\n" for id, text in CORPUS.items())
    (folder / "docs.trec").write_text(documents)
    said = plait("eval", folder, "--strands", "lexical", "--measures", "RR", "--json", "--card", tmp_path / "c.json")
    assert part(said)["systems"][0]["means"] == {"RR": 0.5}, "q1, the document, has a greater id"
    assert part(said)["index"]["documents"] == 4
    assert "reproduced: of 1 values" in plait("reproduce", tmp_path / "c.json", "--data", folder).out


@pytest.fixture
def other(tmp_path):
    """A second collection: one query, one document that is relevant."""
    folder = tmp_path / "other"
    jsonl(folder / "corpus.jsonl", [{"_id": id, "text": text} for id, text in CORPUS.items()])
    jsonl(folder / "queries.jsonl", [{"_id": "x", "text": "banana"}])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("x\td1\t1\n")
    return folder


def test_several_collections_and_systems(plait, data, other, tmp_path):
    indexes, runs = tmp_path / "indexes", tmp_path / "runs"
    said = plait(
        "eval", data, other, "--index", indexes, "--strands", "lexical", "--measures", "nDCG@10 P@1",
        "--system", "short=depth=1; exactness=0.5", "--save-runs", runs, "--card", tmp_path / "card.json",
    )  # fmt: skip
    assert said.out.count("terms/doc") == 2
    assert "nDCG@10 by collection" in said.out
    assert "nDCG@10 against lexical" in said.out
    rows = [line.replace("│", " ").split() for line in said.out.splitlines()]
    assert ["lexical", f"{MEANS['nDCG@10']:.4f}", "1.0000", f"{(MEANS['nDCG@10'] + 1) / 2:.4f}"] in rows
    assert sorted(path.name for path in indexes.iterdir()) == ["other.index", "tiny.index"]
    assert sorted(str(path.relative_to(runs)) for path in runs.rglob("*.run")) == [
        "other/lexical.run", "other/short.run", "tiny/lexical.run", "tiny/short.run",
    ]  # fmt: skip
    card = json.loads((tmp_path / "card.json").read_text())
    assert [each["collection"] for each in card["comparisons"]] == ["tiny", "tiny", "other", "other", None, None]
    assert card["collections"][0]["systems"][1]["options"] == {"depth": 1, "exactness": 0.5}
    again = plait("eval", data, other, "--run", runs / "{collection}" / "short.run", "--measures", "P@1", "--json")
    assert [part(again, i)["systems"][0]["means"]["P@1"] for i in (0, 1)] == pytest.approx([MEANS["P@1"], 1.0])


def test_several_collections_with_one_index_or_one_run_are_refused(plait, data, other, index, tmp_path):
    said = plait("eval", data, other, "--index", index, code=1)
    assert said.err == (
        f"error: {index} is one index; with several collections --index is a folder that gets one for each\n"
    )
    (tmp_path / "a.run").write_text("q1 Q0 d1 1 1.0 x\n")
    said = plait("eval", data, other, "--run", tmp_path / "a.run", code=1)
    assert said.err == "error: with several collections a run has a file for each: --run 'runs/{collection}/bm25.run'\n"
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "tiny").symlink_to(other)
    jsonl(tmp_path / "copies" / "tiny" / "corpus.jsonl", [{"_id": "1", "text": "one"}])
    jsonl(tmp_path / "copies" / "tiny" / "queries.jsonl", [{"_id": "1", "text": "one"}])
    (tmp_path / "copies" / "tiny" / "qrels").mkdir()
    (tmp_path / "copies" / "tiny" / "qrels" / "test.tsv").write_text("1\t1\t1\n")
    said = plait("eval", data, tmp_path / "copies" / "tiny", code=1)
    assert said.err == "error: two collections are called 'tiny'; rename a folder, or measure apart\n"


def test_systems_from_a_file_beside_a_run_against_a_named_baseline(plait, data, tmp_path):
    (tmp_path / "systems.toml").write_text("[one]\nstrands = 'lexical'\n[two]\ndepth = 5\n")
    (tmp_path / "old.run").write_text("q1 Q0 d1 1 2.0 x\nq2 Q0 d1 1 1.0 x\nq2 Q0 d3 2 0.5 x\n")
    said = plait(
        "eval", data, "--no-defaults", "--systems", tmp_path / "systems.toml", "--run", tmp_path / "old.run",
        "--strands", "lexical", "--baseline", "old.run", "--measures", "RR", "--per-query", "--latency", "2",
    )  # fmt: skip
    assert "RR against old.run" in said.out
    assert "p50 ms" in said.out
    lines = said.out.splitlines()
    # q1: the run has d1 first, lexical has it second; q2: the run has d3 second, lexical first.
    at = lines.index("+0.5000  one against old.run, RR 0.5000 -> 1.0000  q2  cherry")
    assert lines[at + 1] == "    #2 -> #1  relevance 1  d3"
    assert lines[at + 2] == "    #1 -> -  not judged  d1"
    assert "-0.5000  one against old.run, RR 1.0000 -> 0.5000  q1  apple" in lines
    assert "1/1/1" in said.out
    assert said.err == "old.run has no hits for 1 of 3 judged queries; each counts as 0\n"


def test_more_samples(plait, data):
    command = ("eval", data, "--strands", "lexical", "--system", "few=depth=1", "--measures", "RR", "--samples", "7")
    assert plait(*command, "--json").json["samples"] == 7


def test_a_report_and_sizes_and_distractors(plait, data, tmp_path):
    more = jsonl(tmp_path / "more.jsonl", [{"_id": id, "text": "apple pie"} for id in ("d1", "x", "y")])
    page, index = tmp_path / "new" / "report.html", tmp_path / "i"
    command = ("eval", data, "--index", index, "--strands", "lexical", "--distractors", more, "--sizes", "3,5")
    said = plait(*command, "--json", "--report", page)
    assert said.err == f"wrote {page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert part(said)["index"]["documents"] == 7
    assert part(said)["sizes"]["sizes"] == [3, 5, 7]
    assert part(said)["sizes"]["judged"] == 2, "d1 and d3: a distractor called d1 is another document"
    assert part(said)["settings"]["distractors"]["name"] == "more.jsonl"
    assert part(plait(*command, "--json"))["index"]["documents"] == 7
    plain = tmp_path / "plain"
    plait("eval", data, "--index", plain, "--strands", "lexical")
    said = plait("eval", data, "--index", plain, "--distractors", more, code=1)
    assert said.err == f"error: {plain} was made without {more}; let eval make another index with it\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--system", "a=fuse=1"), "system 'a': no option 'fuse'; there are: strands, fusion"),
        (("--system", "a=fusion=sum"), "system 'a': no fusion 'sum'; there are: "),
        (("--system", "a=weights=lexical=0"), "system 'a': no strand of lexical has a weight above 0"),
        (("--system", "lexical=depth=1"), "two systems are called 'lexical'; give each a name of its own"),
        (("--system", "a=", "--system", "a="), "two systems are called 'a'"),
        (("--systems", "no.toml"), "no.toml cannot be read: No such file or directory"),
        (("--no-defaults",), "--no-defaults leaves nothing to measure; name a system with --system or --systems"),
        (
            ("--no-defaults", "--system", "a=", "--weights", "lexical=1", "--fusion", "rrf", "--depth", "5"),
            "--fusion, --weights, --depth: of our systems, which --no-defaults leaves out; say it of a --system",
        ),
        (("--no-defaults", "--system", "a=", "--pipeline", "none"), "--pipeline: of our systems, which --no-defaults"),
        (("--sizes", "5,many"), "--sizes takes numbers of documents, as 1000,5000; not '5,many'"),
        (("--sizes", "0"), "--sizes takes numbers of documents"),
        (("--latency", "-1"), "--latency is how many queries are timed: a whole number, not -1"),
        (("--baseline", "bm25"), "no system 'bm25' to compare with; there are: lexical"),
        (("--weights", "lexical=0"), "no strand of lexical has a weight above 0"),
    ],
)
def test_what_is_wrong_with_systems_is_said(plait, data, options, message):
    said = plait("eval", data, "--strands", "lexical", *options, code=1)
    assert said.err.startswith(f"error: {message}")
    assert said.out == ""


def test_strands_of_an_index_that_is_there_are_not_ignored(plait, data, tmp_path):
    command = ("eval", data, "--index", tmp_path / "i", "--strands", "lexical", "--no-defaults", "--system", "a=")
    plait(*command)
    assert plait(*command, code=1).err == (
        f"error: {tmp_path / 'i'} has its strands, and --no-defaults leaves out our systems: --strands would do "
        "nothing; say it of a --system\n"
    )


def test_an_index_is_not_left_behind_where_a_system_cannot_be(plait, data, tmp_path):
    plait("eval", data, "--index", tmp_path / "i", "--strands", "lexical", "--system", "a=depth=0", code=1)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.run: holds no query that tiny test has judged; its queries are none: is it a run of this collection?"),
        ("z Q0 d1 1 1.0 x\n", "a.run: holds no query that tiny test has judged; its queries are 'z'"),
        ("q1 Q0 d1 1 nan x\n", ", line 1: the score 'nan' is no number"),
    ],
)
def test_a_run_that_cannot_be_measured(plait, data, tmp_path, text, message):
    (tmp_path / "a.run").write_text(text)
    assert message in plait("eval", data, "--run", tmp_path / "a.run", code=1).err


def test_no_collection(plait):
    assert plait("eval", code=1).err == "error: name one or more test collections, as: plait eval beir/scifact\n"

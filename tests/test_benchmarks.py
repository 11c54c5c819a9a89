"""The benchmarks run to their end on tiny made data and write their tables. No figure is tested: see benchmarks/."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plait.retriever import Retriever

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = ("quality", "encoding", "kernel", "startup", "hybrid")
TOPICS = ("snow", "honey", "iron", "rivers", "moths", "bread", "glass", "tides", "salt", "wool")
YARDSTICK = """
def build(csr):
    return csr.tocsc()
def search(index, terms, weights, k):
    assert weights.dtype == "uint32" and weights.max() <= 63
    return index[:, terms] @ weights
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "100"})


def finished(script: str, *arguments: object, status: int = 0) -> str:
    done = run(script, *arguments)
    assert done.returncode == status, done.stderr
    return done.stdout


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as the benchmarks expect it: ten documents about ten things, and the same as passages."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"_id": f"d{i}", "title": topic, "text": f"All about {topic}."} for i, topic in enumerate(TOPICS)]
    beir = folder / "beir" / "scifact"
    (beir / "qrels").mkdir(parents=True)
    (beir / "corpus.jsonl").write_text(lines(rows))
    (beir / "queries.jsonl").write_text(lines([{"_id": "q1", "text": "honey"}, {"_id": "q2", "text": "moths"}]))
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td4\t1\n")
    (folder / "scale").mkdir()
    with lzma.open(folder / "scale" / "mixed-en.jsonl.xz", "wt") as file:
        file.write(lines([{**row, "_id": f"{row['_id']}-{i}"} for i in range(4) for row in rows]))
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("indexes") / "tiny"
    with Retriever.create(path) as retriever:
        retriever.add([{"id": f"d{i}", "text": f"All about {topic}."} for i, topic in enumerate(TOPICS)])
    return path


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_complete(script):
    text = finished(script, "--help")
    assert "--results" in text
    assert "usage: " in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_missing_data_end_in_one_line(script, tmp_path):
    done = run(script, *["none"] * (2 if script == "hybrid" else 1), "--results", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: none")
    assert "does not exist; expected" in done.stderr
    assert done.stderr.count("\n") == 1


def test_quality_finds_what_is_there_and_keeps_its_index(data, tmp_path):
    options = [data, "scifact", "--index-dir", tmp_path / "kept", "--results", tmp_path]
    page = finished("quality", *options)
    assert "| scifact, fused, nDCG@10 | 1.0000 | ≥ 0.725 | yes |" in page
    assert page.endswith((tmp_path / "quality.md").read_text() + "\n")
    facts = json.loads((tmp_path / "quality.json").read_text())
    assert facts["collections"]["scifact"]["cards"][0]["systems"][3]["per_query"]["nDCG@10"] == {"q1": 1.0, "q2": 1.0}
    assert str(data) not in (tmp_path / "quality.json").read_text()
    finished("quality", *options)
    assert json.loads((tmp_path / "quality.json").read_text())["collections"]["scifact"]["index_seconds"] is None


def test_encoding_says_how_fast_both_strands_are(data, tmp_path):
    finished("encoding", data, "--repeats", 1, "--threads", 1, "--results", tmp_path)
    facts = json.loads((tmp_path / "encoding.json").read_text())
    assert facts["plait"]["documents"] == len(TOPICS)
    assert set(facts["plait"]["rates"]) == {"learned", "dense", "learned, then dense"}


def test_kernel_compares_with_the_reference_and_the_yardstick(data, tmp_path):
    (tmp_path / "yardstick.py").write_text(YARDSTICK)
    options = ["--documents", 16, "--queries", 3, "--repeats", 1, "--cache", tmp_path / "cache", "--results", tmp_path]
    finished("kernel", data, *options, "--beside", tmp_path / "yardstick.py")
    cases = json.loads((tmp_path / "kernel.json").read_text())["cases"]
    assert [(case["documents"], case["strand"], case["form"]) for case in cases] == [
        (10, "learned", "short"), (10, "learned", "long"), (10, "lexical", "short"),
        (16, "learned", "short"), (16, "learned", "long"), (16, "lexical", "short"), (16, "lexical", "long"),
    ]  # fmt: skip
    assert all(case["answers_equal_to_reference"] == case["queries"] > 0 for case in cases)
    assert {"plait", "numpy twin", "scipy", "yardstick"} <= set(cases[0]["milliseconds"]["10"])


def test_startup_imports_nothing_heavy(index, tmp_path):
    finished("startup", index, "--repeats", 1, "--results", tmp_path)
    facts = json.loads((tmp_path / "startup.json").read_text())
    assert facts["loaded_by_import"] == []
    assert not {"torch", "transformers", "pandas"} & set(facts["loaded_after_search"])


def test_hybrid_times_every_query(index, data, tmp_path):
    queries = data / "beir" / "scifact" / "queries.jsonl"
    finished("hybrid", index, queries, "--repeats", 1, "--results", tmp_path)
    seconds = json.loads((tmp_path / "hybrid.json").read_text())["seconds"]["without query encoding"]
    assert {name: len(each) for name, each in seconds.items()} == dict.fromkeys(
        ("lexical", "learned", "dense", "fused"), 2
    )

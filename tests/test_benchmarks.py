"""The benchmarks run to their end on tiny made data and write their tables. No figure is tested: see benchmarks/."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from plait.index import Snapshot
from plait.retriever import Retriever

from .lucene_indexes import needs_lucene

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = (
    "quality",
    "encoding",
    "kernel",
    "startup",
    "hybrid",
    "sparse run",
    "sparse calibrate",
    "dense",
    "weights",
    "tuning",
    "ablation",
    "lucene",
    "contexts",
    "families",
    "serving",
    "page",
)
TOPICS = ("snow", "honey", "iron", "rivers", "moths", "bread", "glass", "tides", "salt", "wool")
YARDSTICK = """
def build(csr):
    return csr.tocsc()
def search(index, terms, weights, k):
    assert weights.dtype == "uint32" and weights.max() <= 63
    return index[:, terms] @ weights
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    name, *command = script.split()
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *command, *map(str, arguments)]
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
    given = {
        "hybrid": ["none"],
        "weights": ["--work", tmp_path],
        "tuning": ["--work", tmp_path],
        "contexts": ["--work", tmp_path],
        "ablation": ["--work", tmp_path, "--base", "none"],
        "families": ["--checkpoint", "name:dense:none"],
    }
    done = run(script, "none", *given.get(script, ()), "--results", tmp_path)
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


@pytest.mark.lucene
def test_lucene_gives_the_same_impact_scores(data, tmp_path):
    needs_lucene()
    page = finished("lucene", data, "scifact", "--index-dir", tmp_path / "kept", "--results", tmp_path)
    assert "| scifact: hits of impact search that differ from Lucene's | 0 | ≤ 0 | yes |" in page
    facts = json.loads((tmp_path / "lucene.json").read_text())["collections"]["scifact"]
    assert set(facts["scores"].values()) == {1.0}
    assert facts["impact"]["hits"] >= 2
    assert str(data) not in (tmp_path / "lucene.json").read_text()


@pytest.mark.torch
def test_a_training_step_is_compared_with_the_textbooks(tmp_path):
    pytest.importorskip("torch")
    finished("training", "--quick", "--threads", 1, "--results", tmp_path)
    for case in json.loads((tmp_path / "training-try.json").read_text())["cases"]:
        assert {"textbook, fp32", "plait, fp32"} <= set(case["seconds"])  # and bf16 where the processor has it
        assert all(each["norm"] < 1e-4 for each in case["differences"]["plait, fp32"].values())


@pytest.fixture
def everything(data, tmp_path):
    """A folder with all collections and pairs that the weights are judged on, each the tiny one."""
    corpus, place = (data / "beir" / "scifact" / "corpus.jsonl").read_text(), tmp_path / "data"
    queries = lines([{"_id": f"q{i}", "text": topic} for i, topic in enumerate(TOPICS)])
    qrels = "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(len(TOPICS)))
    names = ("squad-dev", "mlquestions", "nfcorpus", "scifact", "medline", "lisa", "wikiqa-test")
    for name in names:
        folder = place / "beir" / name
        (folder / "qrels").mkdir(parents=True)
        (folder / "corpus.jsonl").write_text(corpus)
        (folder / "queries.jsonl").write_text(queries)
        for split in ("test", "dev"):
            (folder / "qrels" / f"{split}.tsv").write_text(qrels)
    (place / "pairs").mkdir()
    for name in ("arxiv", "msdocs", "squad", "wikiqa"):
        with lzma.open(place / "pairs" / f"{name}.jsonl.xz", "wt") as file:
            file.write(lines([{"query": topic, "positive": f"{name} about {topic}"} for topic in TOPICS]))
    return place


def test_tuning_is_judged_by_the_other_queries(everything, tmp_path):
    options = ["--limit", 4, "--documents", 5, "--draws", 1, "--work", tmp_path / "work", "--results", tmp_path]
    page = finished("tuning", everything, *options)
    assert "| six: 30 (6) | others: 30 (7) |" in page
    lost = json.loads((tmp_path / "tuning.json").read_text())["lost"]
    assert len(lost) == 13
    assert all(0 <= loss <= 1 for losses in lost.values() for loss in losses["30"])


def test_weights_are_swept_over_what_the_model_did_not_see(everything, tmp_path):
    options = ["--limit", 4, "--documents", 5, "--queries", 3, "--work", tmp_path / "work", "--results", tmp_path]
    page = finished("weights", everything, *options)
    assert "| weights | squad-dev | mlquestions-dev | nfcorpus-dev | arxiv-unseen |" in page
    facts = json.loads((tmp_path / "weights.json").read_text())
    assert len(facts["arxiv-unseen"]) == 232  # threes of twentieths
    assert facts["squad-dev"]["0.00, 0.00, 1.00"] == 1
    drawn = (tmp_path / "work" / "arxiv-unseen" / "corpus.jsonl").read_text().splitlines()
    assert (len(drawn), len(set(drawn))) == (5, 5)


def test_contexts_are_measured_by_configuration(data, tmp_path):
    options = ["--collection", "scifact", "--budgets", 50, "--k", 2, "--work", tmp_path / "work", "--results", tmp_path]
    page = finished("contexts", data, *options)
    assert "## 50 tokens, 2 hits" in page
    found = json.loads((tmp_path / "contexts.json").read_text())["budgets"]["50"]
    assert {found[name]["recall"] for name in found} == {1}
    assert found["hits alone"]["supported"] == 1


def test_encoding_says_how_fast_both_strands_are(data, tmp_path):
    finished("encoding", data, "--repeats", 1, "--threads", 1, "--results", tmp_path)
    facts = json.loads((tmp_path / "encoding.json").read_text())
    assert facts["plait"]["documents"] == len(TOPICS)
    assert set(facts["plait"]["rates"]) == {"learned", "dense", "both"}


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


def test_serving_loses_nothing(index, tmp_path):
    short = ["--queries", 3, "--repeats", 1, "--starts", 1, "--seconds", 0.2, "--overload", 1]
    page = finished("serving", index, *short, "--results", tmp_path)
    assert "| overload: answers that are neither 200 nor 429 | 0 | ≤ 0 | yes |" in page
    facts = json.loads((tmp_path / "serving.json").read_text())
    assert len(facts["pairs_ms"]) == 3
    assert facts["overload"]["written"] > facts["overload"]["lost"] == 0
    with Retriever.open(index) as retriever:
        assert len(retriever) == len(TOPICS)  # a copy was written to


@pytest.mark.browser
def test_page_tells_when_results_are_there(index, tmp_path):
    finished("page", index, "--queries", 2, "--repeats", 1, "--results", tmp_path)
    found = json.loads((tmp_path / "page.json").read_text())["found"]
    assert [len(turn) for turns in found.values() for turn in turns] == [2, 2]
    assert all(took > server > 0 for turns in found.values() for turn in turns for took, server in turn)


def test_hybrid_times_every_query(index, data, tmp_path):
    queries = data / "beir" / "scifact" / "queries.jsonl"
    finished("hybrid", index, queries, "--repeats", 1, "--results", tmp_path)
    seconds = json.loads((tmp_path / "hybrid.json").read_text())["seconds"]["without query encoding"]
    assert {name: len(each) for name, each in seconds.items()} == dict.fromkeys(
        ("lexical", "learned", "dense", "fused"), 2
    )


SPARSE_YARDSTICK = """
import numpy as np
def build(csr):
    return csr
def search(index, terms, weights, k):
    scores = index[:, terms].toarray().astype(np.int64) @ weights.astype(np.int64)
    best = np.argsort(-scores, kind="stable")[:k]
    return scores[best], best
"""


@pytest.fixture(scope="module")
def vectors(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors of the forty passages, four of them held out for queries."""
    folder = tmp_path_factory.mktemp("vectors") / "learned"
    finished("sparse prepare", data, folder, "--held-out", 4)
    return folder


def test_sparse_prepares_once_and_holds_queries_out(data, vectors):
    facts = json.loads((vectors / "facts.json").read_text())
    assert (facts["documents"], facts["held_out"]) == (36, 4)
    before = {path.name: path.stat().st_mtime_ns for path in vectors.glob("*.npz")}
    assert set(before) == {"0000.npz", "short.npz", "long.npz"}
    finished("sparse prepare", data, vectors, "--held-out", 4)
    assert {path.name: path.stat().st_mtime_ns for path in vectors.glob("*.npz")} == before
    done = run("sparse prepare", data, vectors, "--held-out", 5)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "facts.json is of other vectors (documents, held_out differ); expected the same" in done.stderr


def test_sparse_lets_engines_compete_and_checks_their_answers(vectors, tmp_path):
    (tmp_path / "yardstick.py").write_text(SPARSE_YARDSTICK)
    page = finished(
        "sparse run", vectors, "--documents", "all", "--generated", 50, "--growth", 50, 120, "--repeats", 1,
        "--queries", 3, "--beside", tmp_path / "yardstick.py", "--results", tmp_path, "--work", tmp_path / "work",
    )  # fmt: skip
    assert "- Absent: pisa, qdrant, lucene, seismic, seismic-pruned, bmp, bmp-128.\n" in page
    assert "| 50 to 120 documents, " in page
    facts = json.loads((tmp_path / "sparse.json").read_text())
    assert [(c["documents"], c["generated"], len(c["cells"])) for c in facts["contests"]] == [
        (36, False, 2), (50, True, 2), (120, True, 4),
    ]  # fmt: skip
    assert all(contest["failed"] == {} for contest in facts["contests"])
    exact = {"plait", "plait, reordered", "eager, numba", "scipy"}
    for contest in facts["contests"][:2]:
        for cell in contest["cells"]:
            assert {name for name, each in cell["columns"].items() if each["recall"] == 1} >= exact
            assert "yardstick" in cell["columns"]
    assert str(vectors) not in (tmp_path / "sparse.json").read_text()


def test_sparse_says_which_peer_is_not_there(vectors, tmp_path):
    done = run("sparse run", vectors, "--peer", "pisa=nowhere/python", "--results", tmp_path)
    assert done.stderr == "error: nowhere/python does not exist; expected a Python that has pyterrier-pisa\n"
    done = run("sparse run", vectors, "--peer", "pise=python", "--results", tmp_path)
    assert (
        "--peer pise: expected NAME=PYTHON with one of pisa, qdrant, lucene, seismic, seismic-pruned, bmp"
        in done.stderr
    )


def test_sparse_compares_generated_documents_with_real_ones(vectors, tmp_path):
    page = finished("sparse calibrate", vectors, "--results", tmp_path)
    figures = json.loads((tmp_path / "sparse-generated.json").read_text())["Terms of a document"]
    assert list(figures) == ["real", "generated", "from an eighth"]
    assert figures["generated"]["mean"] == pytest.approx(figures["real"]["mean"], rel=0.1)
    assert "## Long queries" in page


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("modules")
def test_recall_takes_any_document_that_ties():
    from contest import best_scores, recall
    from rows import Rows

    documents = Rows(
        np.array([0, 1, 2, 3, 5, 5]), np.array([4, 4, 4, 4, 9], np.uint16), np.array([3, 2, 2, 1, 5], np.uint8)
    )
    queries = Rows(np.array([0, 1, 2]), np.array([4, 77], np.uint16), np.array([10, 1], np.uint8))
    best = best_scores(documents, queries, 4)
    assert best.tolist() == [[30, 20, 20, 10], [0, 0, 0, 0]]
    nothing = [-1, -1]
    assert recall(documents, queries, best, np.array([[0, 1], nothing])) == 1
    assert recall(documents, queries, best, np.array([[0, 2], nothing])) == 1
    assert recall(documents, queries, best, np.array([[0, 3], nothing])) == 0.5
    assert recall(documents, queries, best, np.array([[0, 0], nothing])) == 0.5
    assert recall(documents, queries, best, np.array([[0, 1, 2, 3], nothing * 2])) == 1


@pytest.mark.usefixtures("modules")
def test_expansions_are_counted_of_the_commonest_terms_too(tmp_path):
    from quality import expanded_documents

    path = tmp_path / "tiny"
    with Retriever.create(path, strands=("lexical", "learned")) as retriever:
        retriever.add([{"id": f"d{i}", "text": f"honey and {topic}"} for i, topic in enumerate(TOPICS)])
    with closing(Snapshot(path)) as snapshot:
        held, terms = snapshot.sparse_vectors("learned", np.arange(len(TOPICS)))
        counts = np.bincount(terms[held.indices], minlength=30_522)
        assert counts.max() == len(TOPICS)  # a term of every document, which is kept as a row
        assert np.array_equal(expanded_documents(snapshot, 30_522), counts)


@pytest.mark.usefixtures("modules")
def test_rows_are_taken_and_inverted_as_scipy_does_it():
    from rows import Rows
    from scipy.sparse import random

    matrix = random(50, 30, density=0.2, format="csr", random_state=1, data_rvs=lambda n: np.arange(n) % 255 + 1)
    matrix.sort_indices()
    rows = Rows(matrix.indptr.astype(np.int64), matrix.indices.astype(np.uint16), matrix.data.astype(np.uint8))
    order = np.random.default_rng(2).permutation(50)[:20]
    assert np.array_equal(rows.taken(order).matrix(np.int32, 30).toarray(), matrix[order].toarray())
    assert np.array_equal(rows.part(7, 19).matrix(np.int32, 30).toarray(), matrix[7:19].toarray())
    starts, documents, values = rows.inverted()
    columns = matrix.tocsc()
    assert np.array_equal(starts[: columns.indptr.size], columns.indptr)
    assert np.array_equal(documents, columns.indices)
    assert np.array_equal(values, columns.data)


@pytest.mark.usefixtures("modules")
def test_generated_documents_hold_terms_of_their_parents_and_can_be_made_again(vectors, tmp_path):
    import generate
    import shards
    from rows import load

    real = shards.documents(vectors, 36)
    generate.write(vectors, tmp_path / "a", 100)
    generate.write(vectors, tmp_path / "b", 100)
    made, again = load(tmp_path / "a"), load(tmp_path / "b")
    assert all(np.array_equal(x, y) for x, y in zip(made, again, strict=True))
    first, number = generate.sources(36, 100)
    second = generate.neighbours(real)[first, number % generate.NEIGHBOURS]
    for i in range(100):
        terms = made.row(i)[0]
        mine, other = real.row(int(first[i]))[0], real.row(int(second[i]))[0]
        assert np.all(np.diff(terms.astype(np.int64)) > 0)
        assert set(np.intersect1d(mine, other).tolist()) <= set(terms.tolist()) <= {*mine.tolist(), *other.tolist()}


def test_dense_compares_all_that_is_installed(data, tmp_path):
    vectors, options = tmp_path / "vectors", ["--held-out", 5, "--asked", 3, "--repeats", 1, "--results", tmp_path]
    finished("dense", vectors, "--encode", data, *options)
    assert {path.name for path in vectors.iterdir()} == {"0000.npy", "titles.npy"}
    facts = json.loads((tmp_path / "dense.json").read_text())
    assert (facts["documents"], facts["dim"], facts["queries"]) == (35, 384, {"passages": 3, "titles": 3})
    assert {"plait", "plait, segments", "FAISS Flat", "FAISS HNSW32"} <= set(facts["built"])
    (ours,) = [row for row in facts["searches"]["10"] if row["name"] == "plait"]
    assert ours["recall"] == {"passages": 1, "titles": 1}
    assert all(row["complete"] == 1 for row in facts["filtered"] if row["name"] == "plait")
    assert str(tmp_path) not in (tmp_path / "dense.json").read_text()

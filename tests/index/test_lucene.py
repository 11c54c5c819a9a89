"""Lucene indexes on disk: scores against BM25's formula, sums of impacts, Anserini's own searcher, and plait's."""

from __future__ import annotations

import math
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.index import Layout, Snapshot, StoreError, Writer, create
from plait.index.java import java
from plait.index.lucene import IMPACT, LuceneIndex, Similarity
from plait.index.lucene_writer import index_collection, write_impacts, write_texts
from plait.retriever import Document
from scipy.sparse import csr_matrix

from ..lucene_indexes import needs_lucene

pytestmark = pytest.mark.lucene

TEXTS = {
    "snow": "Snow falls in winter, and snow melts.",
    "bees": "Bees make honey of flowers in the garden",
    "two words": "winter honey",
    "äöü/#?": "Winter. Winters! The falling of snow in winter gardens",
    "long": "honey " + "garden " * 300,
}


@pytest.fixture(scope="module", autouse=True)
def lucene():
    needs_lucene()


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "lucene"
    assert write_texts(folder, TEXTS.items()) == len(TEXTS)
    index = LuceneIndex(folder)
    yield index
    index.close()


def test_half_a_surrogate_pair_matches_nothing_and_breaks_nothing(texts):
    assert texts.analyse("winter \ud800 honey\udfff") == ["winter", "honei"]
    assert texts.search(texts.query({"honei": 1.0, "\ud800": 1.0}), 5).ids == ["two words", "bees", "long"]


def test_an_index_that_is_none_of_anserinis_is_let_go(tmp_path, monkeypatch):
    write_texts(tmp_path / "i", TEXTS.items())
    closed = []
    monkeypatch.setattr(LuceneIndex, "close", lambda self: closed.append(self._reader.close()))
    monkeypatch.setattr("plait.index.lucene.FIELD", "body")
    with pytest.raises(StoreError, match="has no field 'body'; an index that Anserini made has id and body"):
        LuceneIndex(tmp_path / "i")
    assert len(closed) == 1


@pytest.fixture(scope="module")
def random_impacts():
    """300 documents over 60 terms, half of all impacts alike so that many scores tie."""
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 256, (300, 60)) * (rng.random((300, 60)) < 0.2)
    rows[rng.random((300, 60)) < 0.1] = 7
    rows[:, 0] = 7  # whatever Anserini is given has a term
    return {f"d{i}": {f"t{c}": int(v) for c, v in enumerate(row) if v} for i, row in enumerate(rows)}


@pytest.fixture(scope="module")
def impacts(tmp_path_factory, random_impacts):
    folder = tmp_path_factory.mktemp("impacts") / "lucene"
    assert write_impacts(folder, random_impacts.items()) == 300
    index = LuceneIndex(folder, IMPACT)
    yield index
    index.close()


def summed(documents, weights):
    """The oracle: every document that shares a term, by score, then id, both descending."""
    found = {id: sum(w * vector.get(t, 0) for t, w in weights.items()) for id, vector in documents.items()}
    return sorted(((score, id) for id, score in found.items() if score), reverse=True)


def bm25(index, length_of):
    """The oracle: BM25 as Lucene's documentation writes it, of every text for "snow garden garden"."""
    terms = {id: Counter(index.analyse(text)) for id, text in TEXTS.items()}
    average = sum(sum(counts.values()) for counts in terms.values()) / len(terms)
    found = {}
    for id, counts in terms.items():
        found[id] = 0.0
        for term, weight in (("snow", 1), ("garden", 2)):
            df = sum(term in other for other in terms.values())
            idf = math.log(1 + (len(terms) - df + 0.5) / (df + 0.5))
            norm = 0.9 * (1 - 0.4 + 0.4 * length_of(sum(counts.values())) / average)
            found[id] += weight * idf * counts[term] / (counts[term] + norm)
    return found


def test_english_analysis_stems_and_leaves_stop_words_out(texts):
    assert texts.analyse("The falling Snows") == ["fall", "snow"]
    assert texts.analyse("") == []


def test_scores_are_bm25_with_lucenes_lossy_lengths(texts):
    expected = bm25(texts, lambda length: length if length <= 40 else 280)  # 301 is kept as 280
    found = texts.scores(texts.query({"snow": 1, "garden": 2}), list(TEXTS))
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5)


def test_scores_are_bm25_with_whole_lengths(tmp_path):
    write_texts(tmp_path / "exact", TEXTS.items(), exact_lengths=True)
    index = LuceneIndex(tmp_path / "exact", Similarity(exact_lengths=True))
    found = index.scores(index.query({"snow": 1, "garden": 2}), list(TEXTS))
    np.testing.assert_allclose(found, list(bm25(index, lambda length: length).values()), rtol=1e-5)
    index.close()


def test_search_and_scores_give_the_same_numbers(texts):
    query = texts.query({"snow": 1, "winter": 1, "garden": 1})
    hits = texts.search(query, 10)
    assert hits.scores.tolist() == sorted(hits.scores.tolist(), reverse=True)
    assert texts.scores(query, hits.ids).tolist() == hits.scores.tolist()
    assert set(hits.ids) == {"snow", "two words", "äöü/#?", "bees", "long"}
    assert texts.scores(query, ["unknown", "snow", "snow"])[0] == 0


def test_only_named_documents_are_found(texts):
    query = texts.query({"winter": 1.0})
    assert texts.search(query, 10, among=["bees", "äöü/#?", "unknown", "two words"]).ids == ["äöü/#?", "two words"]
    assert texts.search(query, 10, among=[]).ids == []


def test_a_query_without_terms_finds_nothing(texts):
    assert texts.query({}) is None
    assert texts.search(None, 5).ids == []
    assert texts.scores(None, ["snow", "bees"]).tolist() == [0, 0]
    assert texts.search(texts.query({"xylophon": 1}), 5).ids == []


def test_idf_is_that_of_the_scores(texts):
    np.testing.assert_allclose(texts.idf(["snow", "xylophon"]), [math.log(1 + 3.5 / 2.5), math.log(1 + 5.5 / 0.5)])


def test_facts_count_what_is_there(impacts, random_impacts):
    postings = sum(map(len, random_impacts.values()))
    tokens = sum(sum(vector.values()) for vector in random_impacts.values())
    assert impacts.facts == (300, postings, tokens)
    assert str(impacts.facts) == f"300 documents, {postings:,} postings, {tokens:,} tokens"


@settings(max_examples=40)
@given(
    weights=st.dictionaries(st.integers(0, 62).map("t{}".format), st.integers(1, 1000), max_size=12),
    k=st.sampled_from([1, 3, 50, 400]),
    among=st.one_of(st.none(), st.sets(st.integers(0, 310).map("d{}".format), max_size=40)),
)
def test_impact_search_sums_whole_numbers_and_settles_ties_by_id(impacts, random_impacts, weights, k, among):
    query = impacts.query(weights)
    documents = {id: v for id, v in random_impacts.items() if among is None or id in among}
    expected = summed(documents, weights)[:k]
    hits = impacts.search(query, k, among=None if among is None else sorted(among))
    assert list(zip(hits.scores.tolist(), hits.ids, strict=True)) == expected
    assert impacts.scores(query, [id for _, id in expected]).tolist() == [score for score, _ in expected]


def test_anserinis_searcher_has_the_same_hits_and_scores(impacts, random_impacts):
    started, weights = java(), {"t1": 3, "t2": 100, "t5": 1, "t9": 17}
    searcher = started("io.anserini.search.SimpleImpactSearcher")(str(impacts.folder))
    query, whole = started("java.util.HashMap")(), started("java.lang.Integer")
    for term, weight in weights.items():
        query.put(term, whole(weight))
    theirs = {hit.docid: hit.score for hit in searcher.search(query, 400)}
    hits = impacts.search(impacts.query(weights), 400)
    # Anserini rounds to four decimals and takes a little from scores that tie, so that trec_eval keeps their order.
    assert {id: round(score) for id, score in theirs.items()} == dict(zip(hits.ids, hits.scores.tolist(), strict=True))
    assert max(abs(score - round(score)) for score in theirs.values()) < 0.01
    searcher.close()


def test_plaits_learned_strand_gives_every_score_of_lucenes_impact_search(impacts, random_impacts, tmp_path):
    create(tmp_path / "plait", Layout(learned_scale=1.0), {})
    writer = Writer(tmp_path / "plait")
    rows = np.zeros((300, 60), np.float32)
    for row, vector in zip(rows, random_impacts.values(), strict=True):
        for term, value in vector.items():
            row[int(term[1:])] = value
    writer.add([Document(id=id, text="") for id in random_impacts], {"learned": csr_matrix(rows)}, None)
    writer.commit()
    snapshot = Snapshot(tmp_path / "plait")
    rng = np.random.default_rng(1)
    for size in (1, 5, 20, 60):
        terms = np.sort(rng.choice(60, size, replace=False)).astype(np.uint32)
        weights = rng.integers(1, 256, size)
        ours = snapshot.sparse_search("learned", terms, weights.astype(np.float32), 300)
        given = {f"t{t}": float(w) for t, w in zip(terms.tolist(), weights.tolist(), strict=True)}
        hits = impacts.search(impacts.query(given), 300)
        assert snapshot.ids(ours.positions) == hits.ids
        assert ours.scores.tolist() == hits.scores.tolist()
    snapshot.close()
    writer.close()


def test_the_largest_impact_of_each_term(impacts, random_impacts):
    largest = [max((v.get(t, 0) for v in random_impacts.values()), default=0) for t in ("t0", "t3", "t99")]
    assert impacts.largest(["t0", "t3", "t99"]).tolist() == largest


def test_terms_and_queries_of_any_look(tmp_path):
    odd = {"##ing": 3, 'a|b^2"c"': 5, "雪": 70_000, "AND": 2, "t^3": 1, "*": 9}
    many = {f"w{i}": 1 for i in range(3000)}
    write_impacts(tmp_path / "odd", [("x", odd), ("y", many)])
    index = LuceneIndex(tmp_path / "odd", IMPACT)
    assert index.scores(index.query(dict.fromkeys(odd, 2.0)), ["x"])[0] == 2 * sum(odd.values())
    assert index.search(index.query(dict.fromkeys(many, 0.5)), 5).scores.tolist() == [1500.0]
    index.close()


def test_searching_from_several_threads(impacts, random_impacts):
    queries = [{f"t{i}": i + 1, f"t{2 * i}": 5} for i in range(1, 20)]
    found = {}

    def search(number):
        found[number] = impacts.search(impacts.query(queries[number]), 300)

    threads = [threading.Thread(target=search, args=(i,)) for i in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, query in enumerate(queries):
        assert list(zip(found[number].scores.tolist(), found[number].ids, strict=True)) == summed(random_impacts, query)


@pytest.mark.parametrize(
    ("analyzer", "text", "terms"),
    [
        ("english", "The Universities", ["univers"]),
        ("krovetz", "The Universities", ["university"]),
        ("pretokenized", "The Universities", ["The", "Universities"]),
        ("de", "Die Häuser", ["haus"]),
    ],
)
def test_other_analyzers_index_and_ask_alike(analyzer, text, terms, tmp_path):
    write_texts(tmp_path / "a", [("1", text), ("2", "other")], analyzer=analyzer)
    index = LuceneIndex(tmp_path / "a", analyzer=analyzer)
    assert index.analyse(text) == terms
    assert all(index.search(index.query({term: 1.0}), 5).ids == ["1"] for term in terms)
    index.close()


def test_a_folder_of_anserinis_json_is_indexed_as_it_is(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "a.jsonl").write_text('{"id": "a", "contents": "", "vector": {"snow": 3, "ice": 40}}\n')
    (tmp_path / "json" / "b.jsonl").write_text('{"id": "b", "contents": "", "vector": {"snow": 2}}\n')
    assert index_collection(tmp_path / "json", tmp_path / "made", impact=True, threads=2) == 2
    index = LuceneIndex(tmp_path / "made", IMPACT)
    assert index.search(index.query({"snow": 2.0, "ice": 1.0}), 5).scores.tolist() == [46.0, 4.0]
    index.close()


def test_what_cannot_be_made_is_refused(tmp_path, texts):
    with pytest.raises(StoreError, match="two documents have the id 'x'"):
        write_texts(tmp_path / "a", [("x", "a"), ("x", "b")])
    for weight in (0, -1, 1.5, 2**31, True, math.nan, math.inf):
        with pytest.raises(StoreError, match=rf"document 'x': an impact is a whole number above 0, not {weight}"):
            write_impacts(tmp_path / "a", [("x", {"t": weight})])
    for term in ("", "a b", " a", "\n"):
        with pytest.raises(StoreError, match="document 'x': a term of Anserini's holds no blanks and is not empty"):
            write_impacts(tmp_path / "a", [("x", {term: 1})])
    with pytest.raises(StoreError, match=r"there is something at .* already"):
        write_texts(texts.folder, [("x", "a")])
    with pytest.raises(StoreError, match=r"nowhere is no folder; expected one with .json or .jsonl files"):
        index_collection(tmp_path / "nowhere", tmp_path / "a")
    with pytest.raises(StoreError, match="no Lucene analyzer 'klingon'; there are: english, krovetz, pretokenized, ar"):
        write_texts(tmp_path / "a", [("x", "a")], analyzer="klingon")
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_asked_is_refused(texts):
    for weight in (0, -1.0, math.nan, math.inf):
        with pytest.raises(StoreError, match="Lucene takes weights above 0"):
            texts.query({"snow": weight})
    for term in ("", "a\u0001b", "a\u0002b"):
        with pytest.raises(StoreError, match="is no term that Lucene could hold"):
            texts.query({term: 1.0})
    with pytest.raises(StoreError, match="no Lucene analyzer 'klingon'"):
        LuceneIndex(texts.folder, analyzer="klingon")


def test_an_index_without_anserinis_fields_is_refused(tmp_path):
    started = java()
    place = started("java.nio.file.Paths").get(str(tmp_path / "bare"))
    options = started("org.apache.lucene.index.IndexWriterConfig")()
    writer = started("org.apache.lucene.index.IndexWriter")(
        started("org.apache.lucene.store.FSDirectory").open(place), options
    )
    writer.addDocument(started("org.apache.lucene.document.Document")())
    writer.close()
    with pytest.raises(StoreError, match="has no field 'contents'; an index that Anserini made has id and contents"):
        LuceneIndex(tmp_path / "bare")


def test_a_damaged_index_is_named(tmp_path):
    write_texts(tmp_path / "whole", [("x", "snow")])
    (segments,) = (tmp_path / "whole").glob("segments_*")
    segments.write_bytes(b"not Lucene's at all")
    with pytest.raises(StoreError, match=r"Lucene index .*whole: Lucene says: "):
        LuceneIndex(tmp_path / "whole")


def test_an_empty_index_answers(tmp_path):
    assert write_impacts(tmp_path / "none", []) == 0
    index = LuceneIndex(tmp_path / "none", IMPACT)
    assert index.facts == (0, 0, 0)
    query = index.query({"snow": 1.0})
    assert index.search(query, 3).ids == []
    assert index.scores(query, ["x"]).tolist() == [0]
    assert index.idf(["snow"]).tolist() == [math.log1p(1.0)]
    index.close()

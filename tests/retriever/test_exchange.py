"""Strands out to CIFF and JsonVectorCollection and in again: equal to the last bit, or told what is lost."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.encoders.contract import EncoderError, Identity
from plait.encoders.lexical import Analyser, LexicalEncoder
from plait.encoders.terms import SPARE, TERMS_FILE, TermsEncoder
from plait.index import Snapshot, StoreError, ciff, database, spool
from plait.retriever import (
    Document,
    IngestError,
    MismatchError,
    QueryError,
    Retriever,
    exchange_in,
    exchange_out,
    exchange_readers,
    vectors_json,
)
from plait.retriever.exchange import dump, facts_in, load, vocabulary_of, weighted_query

from tests.conftest import LengthSparse, LetterDense

WORDS = ["bee", "bees", "honey", "winter", "snowing", "garden", "flowers", "rain", "summertime", "tree", "a", "of"]
QUERIES = ["bees honey", "winter", "snowing of garden rain bees bees", "summertime tree a", "incomprehensibility honey"]


class Spelled(LengthSparse):
    """The tiny expanding encoder, which also tells the strings of its columns."""

    def vocabulary(self):
        return [f"length-{column}" for column in range(64)]


class Final(Spelled):
    """The same with query weights of its own, so that no inverse document frequency comes in."""

    identity = Identity("final", "1", "words", "length", 0, 64)

    def encode_queries(self, texts):
        return super().encode_queries(texts) * np.float32(0.3)


def documents(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Document(f"d{i}", " ".join(rng.choice(WORDS, rng.integers(1, 12))), title="é" * (i % 3 == 0))
        for i in range(count)
    ]


@pytest.fixture
def original(tmp_path):
    """An index of two commits, in which some documents were replaced and deleted."""
    with Retriever.create(tmp_path / "a.index", strands="learned,lexical", learned=Spelled()) as made:
        made.add(documents())
        made.commit()
        made.add([Document("d3", "bees bees honey"), Document("new", "garden rain")])
        made.delete(["d5", "d6"])
        made.commit()
        made.compact()  # as an index that is made at once, for the average length
        yield made


def scores(retriever, strand, queries):
    """Returns (id, score) of a strand's hits, query by query, best first."""
    hits = (retriever.search(query, k=100, strands=strand) for query in queries)
    return [[(hit.id, hit.strands[strand].score) for hit in found] for found in hits]


def fused(retriever, strand, queries):
    """Returns the fused scores of all hits; they are divided by a norm, whose last bit depends on the terms' order."""
    return [hit.score for query in queries for hit in retriever.search(query, k=100, strands=strand)]


def check_same(again, original, strand, queries=QUERIES):
    """Compares two indexes that have the same strand: to the last bit."""
    assert scores(again, strand, queries) == scores(original, strand, QUERIES)
    assert fused(again, strand, queries) == pytest.approx(fused(original, strand, QUERIES), rel=1e-12)
    assert all(scores(original, strand, QUERIES)[:-1])


def asked_by_terms(retriever):
    """Returns the same queries as weighted terms, with the index's inverse document frequencies in them."""
    return [weighted_query(retriever, query) for query in QUERIES]


def ciff_file(path, lists, records, **header):
    """Writes {term: {document: value}} and (number, id, length)."""
    facts = {"lists": len(lists), "documents": len(records), **header}
    with path.open("wb") as handle:
        writer = ciff.Writer(handle, ciff.Header(**facts))
        for term, postings in lists.items():
            pairs = np.array(sorted(postings.items()), np.int64).reshape(-1, 2)
            writer.postings(term, pairs[:, 0], pairs[:, 1])
        for record in records:
            writer.document(ciff.Record(*record))
    return path


def json_file(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def stored(path, strand="learned"):
    """Returns {id: {term string or column: impact or count}} of an index."""
    with Retriever.open(path) as opened:
        names = opened.strand(strand).encoder.vocabulary() if strand == "learned" else None  # type: ignore[attr-defined]
    snapshot = Snapshot(path)
    try:
        found = {}
        for id in snapshot.all_ids():
            position = np.array([snapshot.positions([id])[id]])
            rows, terms = snapshot.sparse_vectors(strand, position)
            columns = terms[rows.indices].tolist()
            found[id] = {
                names[c] if names else c: v for c, v in zip(columns, rows.data.tolist(), strict=True)
            }  # fmt: skip
        return found
    finally:
        snapshot.close()


@pytest.mark.parametrize("name", ["out.ciff", "out.ciff.gz", "out.jsonl", "out.jsonl.gz", "out"])
def test_impacts_out_and_in_score_the_same_to_the_last_bit(original, tmp_path, name):
    dumped = dump(original, tmp_path / name)
    assert (dumped.documents, dumped.strand) == (len(original), "learned") == (39, "learned")
    made = load(tmp_path / name, tmp_path / "b.index", scale=None if "ciff" in name else dumped.scale)
    assert (made.documents, made.terms, made.postings) == (39, dumped.terms, dumped.postings)
    assert (made.scale, made.exact) == (dumped.scale, True)
    with Retriever.open(tmp_path / "b.index") as again:
        check_same(again, original, "learned", asked_by_terms(original))


@pytest.mark.parametrize("name", ["out.ciff", "out.jsonl", "out"])
def test_frequencies_out_and_in_score_the_same_to_the_last_bit(original, tmp_path, name):
    dumped = dump(original, tmp_path / name, strand="lexical")
    made = load(tmp_path / name, tmp_path / "b.index", strand="lexical", language="english")
    assert (made.documents, made.terms, made.postings) == (39, dumped.terms, dumped.postings)
    assert (made.scale, made.exact, made.other_lengths) == (None, True, 0)
    with Retriever.open(tmp_path / "b.index") as again:
        check_same(again, original, "lexical")


def test_an_encoder_with_weights_of_its_own_asks_both_indexes_alike(tmp_path):
    with Retriever.create(tmp_path / "a.index", strands="learned", learned=Final()) as made:
        made.add(documents())
        made.commit()
        dump(made, tmp_path / "out.ciff")
        told = load(tmp_path / "out.ciff", tmp_path / "b.index", learned=Final())
        assert (told.unknown_terms, told.idf_of_postings) == (0, False)
        with Retriever.open(tmp_path / "b.index", learned=Final()) as again:
            check_same(again, made, "learned")


def test_with_texts_the_inverse_document_frequencies_are_the_same_too(original, tmp_path):
    dumped = dump(original, tmp_path / "out")
    made = load(tmp_path / "out", tmp_path / "b.index", learned=Spelled(), scale=dumped.scale)
    assert made.idf_of_postings is False
    with Retriever.open(tmp_path / "b.index", learned=Spelled()) as again:
        check_same(again, original, "learned")
    dump(original, tmp_path / "out.ciff")
    assert load(tmp_path / "out.ciff", tmp_path / "c.index", learned=Spelled()).idf_of_postings is True


def test_texts_make_the_other_strands(original, tmp_path):
    dump(original, tmp_path / "out")
    load(tmp_path / "out", tmp_path / "b.index", strands="learned,lexical,dense", dense=LetterDense())
    with Retriever.open(tmp_path / "b.index", dense=LetterDense()) as again:
        assert again.strands == ("lexical", "learned", "dense")
        check_same(again, original, "lexical")
        assert len(again.search("honey", 50, strands="dense")) == 39


def test_what_is_written(tmp_path):
    with Retriever.create(tmp_path / "a.index", strands="learned,lexical", learned=Spelled()) as made:
        made.add([Document("b", "bees bee"), Document("a", "bee", title="Honey")])
        made.commit()
        assert dump(made, tmp_path / "v").terms == 4
        assert dump(made, tmp_path / "f.jsonl", strand="lexical").scale is None
        scale = dump(made, tmp_path / "v.ciff").scale
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.index", "f.jsonl", "v", "v.ciff"]
    lines = (tmp_path / "v" / "vectors-00000.jsonl").read_text().splitlines()
    # 204 steps are the largest weight of the first documents, 1.5, and a quarter more has room.
    assert [json.loads(line) for line in lines] == [
        {"id": "b", "contents": "bees bee", "vector": {"length-3": 136, "length-4": 204, "length-5": 68}},
        {
            "id": "a",
            "contents": "Honey bee",
            "vector": {"length-3": 136, "length-4": 68, "length-5": 136, "length-6": 68},
        },
    ]
    assert scale == 1.5 * 1.25 / 255
    assert [json.loads(line)["vector"] for line in (tmp_path / "f.jsonl").read_text().splitlines()] == [
        {"bee": 2}, {"bee": 1, "honey": 1},
    ]  # fmt: skip
    with ciff.Reader(tmp_path / "v.ciff") as reader:
        lists = [(term, documents.tolist(), values.tolist()) for term, documents, values in reader.postings()]
        assert lists == [
            ("length-3", [0, 1], [136, 136]), ("length-4", [0, 1], [204, 68]), ("length-5", [0, 1], [68, 136]),
            ("length-6", [1], [68]),
        ]  # fmt: skip
        assert list(reader.documents()) == [(0, "b", 408), (1, "a", 408)]
        assert reader.header[:7] == (1, 4, 2, 4, 2, 816, 408.0)
        assert reader.header.description.startswith("Impacts from lengths; an impact of 1 is a weight of 0.0073")
        assert facts_in(reader.header.description)["scale"] == scale


def test_a_file_does_not_tell_where_a_model_lies(tmp_path):
    class Local(Spelled):
        identity = replace(Spelled.identity, name=str(tmp_path / "models" / "mine"))

    with Retriever.create(tmp_path / "a.index", strands="learned", learned=Local()) as made:
        dump(made, tmp_path / "v.ciff")
    with ciff.Reader(tmp_path / "v.ciff") as reader:
        assert reader.header.description.startswith("Impacts from mine; ")
        assert str(tmp_path) not in reader.header.description


def test_small_buckets_and_buffers_change_nothing(original, tmp_path, monkeypatch):
    dump(original, tmp_path / "a.ciff")
    monkeypatch.setattr(exchange_out, "BUCKET", 10)
    monkeypatch.setattr(exchange_out, "CHUNK", 7)
    monkeypatch.setattr(exchange_readers, "BUCKET", 3)
    monkeypatch.setattr(spool, "BUFFER", 5)
    dump(original, tmp_path / "b.ciff")
    assert (tmp_path / "a.ciff").read_bytes() == (tmp_path / "b.ciff").read_bytes()
    load(tmp_path / "b.ciff", tmp_path / "b.index")
    with Retriever.open(tmp_path / "b.index") as again:
        check_same(again, original, "learned", asked_by_terms(original))


def test_a_folder_has_a_file_for_so_many_documents(original, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors_json, "PART", 15)
    dump(original, tmp_path / "out")
    sizes = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "out").iterdir()}
    assert sizes == {"vectors-00000.jsonl": 15, "vectors-00001.jsonl": 15, "vectors-00002.jsonl": 9}
    assert load(tmp_path / "out", tmp_path / "b.index").documents == 39


VECTORS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "é", "^", "c^2"]), st.integers(1, 255)), min_size=1, max_size=8
)


@settings(max_examples=25)
@given(vectors=VECTORS)
def test_whole_numbers_to_255_survive_exactly(vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    given_vectors = {f"d{number}": vector for number, vector in enumerate(vectors)}
    records = [{"id": id, "contents": "", "vector": vector} for id, vector in given_vectors.items()]
    made = load(json_file(folder / "v.jsonl", records), folder / "a.index")
    assert (made.exact, made.scale) == (True, 1.0)
    assert stored(folder / "a.index") == given_vectors
    with Retriever.open(folder / "a.index") as opened:
        dump(opened, folder / "v.ciff")
    load(folder / "v.ciff", folder / "b.index")
    assert stored(folder / "b.index") == given_vectors


@pytest.mark.parametrize(
    ("weights", "largest", "kept"),
    [
        ({"a": 510, "b": 3, "c": 0.001}, 510, {"a": 510, "b": 4, "c": 2}),  # rounded to steps of 2, none to 0
        ({"a": 2.55, "b": 1.234, "c": 0}, 2.55, {"a": 2.55, "b": 1.23}),
        ({"a": 256, "b": 1}, 256, {"a": 256, "b": 256 / 255}),
    ],
)
def test_other_weights_are_rounded_to_255_steps_of_the_largest(tmp_path, weights, largest, kept):
    made = load(json_file(tmp_path / "v.jsonl", [{"id": "d", "vector": weights}]), tmp_path / "a.index")
    assert (made.exact, made.largest) == (False, largest)
    assert stored(tmp_path / "a.index")["d"] == pytest.approx(kept, rel=1e-6)


def test_a_scale_changes_scores_and_no_ranking(tmp_path):
    records = [{"id": f"d{i}", "vector": {"a": i + 1, "b": 9 - i}} for i in range(9)]
    path = json_file(tmp_path / "v.jsonl", records)
    load(path, tmp_path / "a.index")
    assert load(path, tmp_path / "b.index", scale=0.25).scale == 0.25
    with Retriever.open(tmp_path / "a.index") as one, Retriever.open(tmp_path / "b.index") as other:
        (here,), (there,) = (scores(each, "learned", ["a^3 b"]) for each in (one, other))
    assert [(id, score / 4) for id, score in here] == there
    assert here[0] == ("d8", 28.0)


def test_terms_that_a_model_does_not_know_are_left_out_and_counted(tmp_path):
    records = [{"id": "d", "contents": "bees", "vector": {"length-4": 7, "alien": 3}}, {"id": "e", "vector": {"x": 1}}]
    made = load(json_file(tmp_path / "v.jsonl", records), tmp_path / "a.index", learned=Spelled())
    assert (made.terms, made.unknown_terms, made.unknown_postings, made.documents) == (3, 2, 2, 2)
    with Retriever.open(tmp_path / "a.index", learned=Spelled()) as opened:
        assert [hit.id for hit in opened.search("four")] == ["d"]


def test_no_common_term_is_an_error_and_leaves_nothing(tmp_path):
    path = json_file(tmp_path / "v.jsonl", [{"id": "d", "vector": {"snow": 7, "melt": 3}}])
    with pytest.raises(MismatchError, match=r"'lengths' knows none of the 2 terms of .*v\.jsonl, such as 'snow', 'mel"):
        load(path, tmp_path / "a.index", learned=Spelled())
    assert [found.name for found in tmp_path.iterdir()] == ["v.jsonl"]


def test_an_encoder_without_strings_is_told(original, tmp_path):
    with (
        Retriever.open(original.folder, learned=LengthSparse()) as plain,
        pytest.raises(StoreError, match=r"of the \d+ learned terms of document 'd0' are not in its stored text: 'len"),
    ):
        dump(plain, tmp_path / "out.ciff")
    dump(original, tmp_path / "v.ciff")
    with pytest.raises(EncoderError, match="does not say which term a column stands for"):
        load(tmp_path / "v.ciff", tmp_path / "b.index", learned=LengthSparse())
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.index", "v.ciff"]


class Plain(LengthSparse):
    """An encoder of words' lengths without expansion, whose columns have no strings of their own."""

    def encode_documents(self, texts):
        return self.encode_queries(texts)


def test_strings_that_an_encoder_does_not_list_are_found_in_the_texts(tmp_path):
    with Retriever.create(tmp_path / "a.index", strands="learned", learned=Plain()) as made:
        made.add([Document("d", "bee snow bees")])
        made.commit()
        dump(made, tmp_path / "v.jsonl")
    assert json.loads((tmp_path / "v.jsonl").read_text())["vector"] == {"length-3": 204, "length-4": 204}


def test_an_encoder_behind_another_is_asked_for_its_terms():
    class Behind:
        encoder = Spelled()

    assert vocabulary_of(Behind()) == vocabulary_of(Spelled()) == Spelled().vocabulary()
    assert vocabulary_of(LengthSparse()) is None


# Frequencies from elsewhere

PORTER = ["connect", "librari", "comput", "happi", "inform", "gener", "network", "oper"]


def lucene(path, *, lengths=(6, 2), **header):
    lists = {term: {0: 1, 1: 2} if term == "oper" else {number % 2: 1} for number, term in enumerate(PORTER)}
    return ciff_file(path, lists, [(0, "d0", lengths[0]), (1, "d1", lengths[1])], **header)


def test_the_lengths_of_a_file_are_kept_and_their_difference_told(tmp_path):
    made = load(lucene(tmp_path / "a.ciff"), tmp_path / "a.index", strand="lexical")
    assert made.other_lengths == 2  # their frequencies add up to 5 and 6
    snapshot = Snapshot(tmp_path / "a.index")
    assert snapshot.lengths(np.array([0, 1])).tolist() == [6, 2]
    assert snapshot.tokens == 8
    snapshot.close()
    exact = load(lucene(tmp_path / "b.ciff", lengths=(5, 5)), tmp_path / "b.index", strand="lexical")
    assert exact.other_lengths == 0


def test_the_stemmer_of_a_file_is_found_by_its_terms(tmp_path):
    made = load(lucene(tmp_path / "a.ciff"), tmp_path / "a.index", strand="lexical")
    assert made.language == "porter"
    assert list(made.overlap or {}) == ["porter", "english", "none"]
    assert (made.overlap or {})["porter"] == 1.0
    with Retriever.open(tmp_path / "a.index") as opened:
        assert [hit.id for hit in opened.search("libraries")] == ["d1"]
    words = {word: {0: 1} for word in ("connected", "libraries", "happiness", "generally", "networks")}
    plain = load(ciff_file(tmp_path / "b.ciff", words, [(0, "d", 5)]), tmp_path / "b.index", strand="lexical")
    assert (plain.language, (plain.overlap or {})["porter"]) == ("none", 0.0)
    said = load(tmp_path / "b.ciff", tmp_path / "c.index", strand="lexical", language="german")
    assert (said.language, list(said.overlap or {})) == ("german", ["german", "porter", "english", "none"])


def test_what_plait_wrote_into_a_file_is_read_again(tmp_path):
    with Retriever.create(tmp_path / "a.index", strands="lexical", lexical="german", k1=1.5, b=0.0) as made:
        made.add([Document("d", "Häuser und Straßen")])
        made.commit()
        dump(made, tmp_path / "a.ciff", strand="lexical")
    made = load(tmp_path / "a.ciff", tmp_path / "b.index")
    assert (made.strand, made.language) == ("lexical", "german")
    with Retriever.open(tmp_path / "b.index") as opened:
        assert opened.info()["bm25"] == {"k1": 1.5, "b": 0.0}


def test_frequencies_above_255_are_kept_as_255_and_told(tmp_path):
    path = ciff_file(tmp_path / "a.ciff", {"bee": {0: 300, 1: 1}}, [(0, "d0", 300), (1, "d1", 1)])
    made = load(path, tmp_path / "a.index", strand="lexical", language="none")
    assert (made.exact, made.largest, made.other_lengths) == (False, 300, 0)
    column = LexicalEncoder("none").encode_queries(["bee"]).indices[0]
    assert stored(tmp_path / "a.index", "lexical")["d0"] == {column + 2**20: 255}


def test_documents_without_postings_and_partial_exports_are_taken(tmp_path):
    lists, records = {"bee": {7: 2}}, [(0, "empty", 0), (7, "d7", 2), (20_000, "far", 0)]
    made = load(
        ciff_file(tmp_path / "a.ciff", lists, records, total_documents=40_000), tmp_path / "i", strand="learned"
    )
    assert (made.documents, made.postings) == (3, 1)
    with Retriever.open(tmp_path / "i") as opened:
        assert [hit.id for hit in opened.search("bee")] == ["d7"]
        assert len(opened) == 3


@pytest.mark.parametrize("name", ["e.ciff", "e.jsonl"])
def test_an_empty_file_makes_an_empty_index(tmp_path, name):
    path = tmp_path / name
    ciff_file(path, {}, []) if name == "e.ciff" else path.write_text("")
    made = load(path, tmp_path / "i", strand="learned")
    assert (made.documents, made.terms, made.exact) == (0, 0, True)
    with Retriever.open(tmp_path / "i") as opened:
        assert list(opened.search("anything")) == []
        assert dump(opened, tmp_path / f"again-{name}").documents == 0


# Mistakes


@pytest.mark.parametrize(
    ("lists", "records", "told"),
    [
        (
            {"bee": {0: 1}, "tree": {2: 1}},
            [(0, "a", 1), (1, "b", 1)],
            "a posting of 'tree' names document 2, which has",
        ),
        ({"bee": {2: 1}}, [], "a posting of 'bee' names document 2, which has no document record"),
        ({"bee": {0: 1}}, [(0, "a", 1), (1, "a", 1)], r"document record 2: the id 'a' is that of record 1 too"),
        ({"bee": {0: 1}}, [(0, "a b", 1)], r"document record 1: the document id 'a b' holds ' ' at character 2"),
        ({"bee": {0: 1}}, [(0, "", 1)], r"document record 1: the document id is empty"),
    ],
)
def test_broken_documents_leave_nothing_behind(tmp_path, lists, records, told):
    path = ciff_file(tmp_path / "a.ciff", lists, records, total_documents=3)
    with pytest.raises((StoreError, IngestError), match=told):
        load(path, tmp_path / "i", strand="learned")
    assert [found.name for found in tmp_path.iterdir()] == ["a.ciff"]


def test_a_file_cut_short_leaves_nothing_behind(original, tmp_path):
    dump(original, tmp_path / "whole.ciff")
    data = (tmp_path / "whole.ciff").read_bytes()
    for size in (len(data) // 2, len(data) - 1):
        (tmp_path / "cut.ciff").write_bytes(data[:size])
        with pytest.raises(StoreError, match=r"cut\.ciff, before byte .* is cut short"):
            load(tmp_path / "cut.ciff", tmp_path / "i")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.index", "cut.ciff", "whole.ciff"]


@pytest.fixture(scope="module")
def small_ciff(tmp_path_factory):
    lists = {"bee": {0: 3, 1: 1}, "tree": {1: 200}}
    return ciff_file(tmp_path_factory.mktemp("small") / "a.ciff", lists, [(0, "d0", 3), (1, "d1", 201)]).read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_a_changed_byte_is_loaded_or_told_and_then_nothing_is_left(data, small_ciff, tmp_path_factory):
    folder = tmp_path_factory.mktemp("changed")
    changed = bytearray(small_ciff)
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.ciff").write_bytes(changed)
    made = None
    with contextlib.suppress(StoreError, IngestError):
        made = load(folder / "a.ciff", folder / "i", strand="learned")
    assert sorted(found.name for found in folder.iterdir()) == (["a.ciff", "i"] if made else ["a.ciff"])


def test_a_term_with_two_lists_is_told(tmp_path):
    handle = io.BytesIO()
    writer = ciff.Writer(handle, ciff.Header(lists=2, documents=1))
    for _ in range(2):
        writer.postings("bee", np.array([0]), np.array([1]))
    (tmp_path / "a.ciff").write_bytes(handle.getvalue())
    with pytest.raises(StoreError, match="the term 'bee' has the postings lists 1 and 2; each has one"):
        load(tmp_path / "a.ciff", tmp_path / "i", strand="learned")


LINE = {"id": "d", "contents": "x", "vector": {"a": 1}}


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([LINE, LINE], r"v\.jsonl, line 2: the id 'd' is that of a document in .*v\.jsonl, line 1 too"),
        ([{"vector": {}}], r"line 1: the document id is null"),
        ([{"id": "d"}], "line 1: the vector of document 'd' is null; expected terms and weights"),
        ([{"id": "d", "vector": [1, 2]}], "the vector of document 'd' is a list of numbers, a dense one"),
        ([{"id": "d", "vector": {"a": "1"}}], "the weight of 'a' in document 'd' is '1'; expected a number"),
        ([{"id": "d", "vector": {"a": True}}], "the weight of 'a' in document 'd' is True"),
        ([{"id": "d", "vector": {"a": -1}}], "the weight of 'a' in document 'd' is -1; expected a number, 0 or more"),
        ([{"id": "d", "vector": {"a": 10**400}}], "the weight of 'a' in document 'd' is 1000"),
        ([{"id": "d", "vector": {"": 1}}], "has an empty term"),
        ([{"id": "d", "vector": {"\ud800": 1}}], "cannot be held by UTF-8"),
        ([{"id": "d", "contents": 5, "vector": {"a": 1}}], "the text of document 'd' is a number"),
        ([{"id": "d", "contents": [], "vector": {"a": 1}}], "the text of document 'd' is a list"),
        ([{"id": "d", "title": False, "vector": {"a": 1}}], "the title of document 'd' is a boolean"),
        ([{"id": "d", "metadata": "x", "vector": {"a": 1}}], "the metadata of document 'd' is a string; expected"),
        ([{"id": "d", "metadata": [1], "vector": {"a": 1}}], "the metadata of document 'd' is a list; expected names"),
        ([{"id": "d", "by": "\ud800", "vector": {"a": 1}}], "the metadata of document 'd' cannot be written as JSON"),
        (["x"], "expected a JSON object"),
    ],
)
def test_a_broken_line_is_told_with_its_place(tmp_path, records, told):
    path = json_file(tmp_path / "v.jsonl", records)
    with pytest.raises(IngestError, match=told):
        load(path, tmp_path / "i")
    assert [found.name for found in tmp_path.iterdir()] == ["v.jsonl"]


def test_nan_is_no_weight(tmp_path):
    (tmp_path / "v.jsonl").write_text('{"id": "d", "vector": {"a": NaN}}\n')
    with pytest.raises(IngestError, match="line 1: JSON that cannot be read: NaN is not JSON"):
        load(tmp_path / "v.jsonl", tmp_path / "i")


def test_blank_texts_are_none(tmp_path):
    path = json_file(tmp_path / "v.jsonl", [{"id": "d", "contents": " \n", "title": None, "vector": {"a": 1}}])
    assert load(path, tmp_path / "i").documents == 1


@pytest.mark.parametrize(
    ("weight", "options", "told"),
    [
        (9e37, {"scale": 1e29}, r"a scale of 1e\+29 takes weights up to 9e\+37 out of the range of float32"),
        (2.0, {"scale": 1e-300}, "a scale of 1e-300 takes weights up to 2 out of the range of float32"),
        (2.0, {"strand": "lexical", "k1": -1.0}, "BM25 takes k1 >= 0 and 0 <= b <= 1, not k1=-1.0, b=0.4"),
        (2.0, {"strand": "lexical", "k1": float("nan")}, "not k1=nan, b=0.4"),
        (2.0, {"strand": "lexical", "b": -3.0}, "not k1=0.9, b=-3.0"),
        (2.0, {"strand": "lexical", "b": 7.0}, "not k1=0.9, b=7.0"),
    ],
)
def test_numbers_out_of_range_are_told_and_leave_nothing(tmp_path, weight, options, told):
    path = json_file(tmp_path / "v.jsonl", [{"id": "d", "vector": {"a": weight}}, {"id": "e", "vector": {"a": 1.0}}])
    with pytest.raises(QueryError, match=told):
        load(path, tmp_path / "i", **options)
    assert [found.name for found in tmp_path.iterdir()] == ["v.jsonl"]


def test_frequencies_are_whole_numbers(tmp_path):
    path = json_file(tmp_path / "v.jsonl", [LINE, {"id": "e", "vector": {"a": 1.5}}])
    with pytest.raises(IngestError, match="line 2: document 'e' has weights that are no whole numbers, so no freq"):
        load(path, tmp_path / "i", strand="lexical")


def test_other_strands_need_texts(tmp_path):
    path = json_file(tmp_path / "v.jsonl", [LINE, {"id": "e", "vector": {"a": 1}}])
    with pytest.raises(IngestError, match="line 2: document 'e' has no contents, of which its other strands could be"):
        load(path, tmp_path / "i", strands="learned,lexical")


def test_too_many_terms_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(exchange_in.COLUMNS, "learned", 2 + SPARE)
    path = json_file(tmp_path / "v.jsonl", [{"id": "d", "vector": {"a": 1, "b": 1, "c": 1}}])
    with pytest.raises(StoreError, match=r"v\.jsonl has more than 2 terms; the learned strand has no more columns"):
        load(path, tmp_path / "i")
    assert load(path, tmp_path / "i", strand="lexical").terms == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, r"a\.ciff does not say what its numbers are; name the strand: learned for impacts, lexical for freq"),
        ({"strand": "dense"}, "'dense' has no postings to exchange; the strands that have are: learned, lexical"),
        ({"format": "lucene"}, "no format 'lucene'; there are: ciff, jsonvectors"),
        ({"strand": "learned", "strands": "lexical"}, "those of the learned strand, which strands='lexical' leaves"),
        ({"strand": "learned", "strands": "learned,lexical"}, "a CIFF file holds no texts"),
        ({"strand": "learned", "language": "de"}, "language is for the lexical strand, which this index will not have"),
        ({"strand": "lexical", "learned": "x"}, "learned is for the learned strand, which this index will not have"),
        ({"strand": "lexical", "scale": 2.0}, "scale is a number above 0, for impacts; 2.0 was given, for the lexical"),
        ({"strand": "learned", "scale": 0.0}, "scale is a number above 0, for impacts; 0.0 was given"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, told):
    with pytest.raises(QueryError, match=told):
        load(lucene(tmp_path / "a.ciff"), tmp_path / "i", **options)
    assert [found.name for found in tmp_path.iterdir()] == ["a.ciff"]


def test_nothing_is_written_over(original, tmp_path):
    (tmp_path / "out.ciff").write_text("mine")
    with pytest.raises(StoreError, match=r"out\.ciff exists already; choose another name, or remove it"):
        dump(original, tmp_path / "out.ciff")
    with pytest.raises(StoreError, match=r"a\.index exists and is not empty; choose another name for the index"):
        load(tmp_path / "out.ciff", original.folder)
    assert (tmp_path / "out.ciff").read_text() == "mine"


def test_a_strand_that_is_not_there_cannot_be_written(tmp_path):
    with (
        Retriever.create(tmp_path / "l.index", strands="lexical") as made,
        pytest.raises(QueryError, match="this index was made without the strand 'learned'; it has: lexical"),
    ):
        dump(made, tmp_path / "other.ciff")


def test_missing_and_empty_sources(tmp_path):
    with pytest.raises(IngestError, match="no such file or folder; check the path"):
        load(tmp_path / "none", tmp_path / "i")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IngestError, match=r"this folder holds no file of vectors; expected \.jsonl \.json"):
        load(tmp_path / "folder", tmp_path / "i")


def test_frequencies_without_texts_cannot_be_written(tmp_path):
    load(lucene(tmp_path / "a.ciff"), tmp_path / "i", strand="lexical")
    with (
        Retriever.open(tmp_path / "i") as opened,
        pytest.raises(StoreError, match="5 of the 5 lexical terms of document 'd0' are not in its stored text"),
    ):
        dump(opened, tmp_path / "b.ciff", strand="lexical")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.ciff", "i"]


# The vocabulary lives with the index


def test_an_index_moves_with_its_terms_and_says_when_they_are_gone(tmp_path):
    load(json_file(tmp_path / "v.jsonl", [LINE]), tmp_path / "i")
    (tmp_path / "i").rename(tmp_path / "moved")
    with Retriever.open(tmp_path / "moved") as opened:
        assert [hit.id for hit in opened.search("a^2", explain=True)] == ["d"]
        assert [match.term for match in opened.search("a^2", explain=True)[0].matches] == ["a"]
        with pytest.raises(EncoderError, match="gives no weight behind its"):
            opened.search("a^b")
    TermsEncoder(["a", "b"]).save(tmp_path / "moved")
    with pytest.raises(MismatchError, match="the learned strand was built with 'terms'"):
        Retriever.open(tmp_path / "moved")
    (tmp_path / "moved" / TERMS_FILE).unlink()
    with pytest.raises(EncoderError, match=r"terms\.json is missing: the index has lost the terms of its columns"):
        Retriever.open(tmp_path / "moved")


def test_metadata_and_titles_of_json_are_kept(tmp_path):
    record = {**LINE, "title": "T", "year": 1999, "metadata": {"lang": "en"}}
    load(json_file(tmp_path / "c" / "v.json", [record]), tmp_path / "i")
    with Retriever.open(tmp_path / "i") as opened:
        assert opened.get("d") == Document("d", "x", "T", {"year": 1999, "lang": "en"})


def test_compressed_and_nested_json_is_read_and_hidden_files_are_not(tmp_path):
    (tmp_path / "c" / "deep").mkdir(parents=True)
    (tmp_path / "c" / "deep" / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(LINE).encode()))
    (tmp_path / "c" / ".hidden.jsonl").write_text("no JSON")
    assert load(tmp_path / "c", tmp_path / "i").documents == 1


def test_a_posting_that_no_query_can_name_is_kept_all_the_same(tmp_path):
    load(json_file(tmp_path / "v.jsonl", [{"id": "d", "vector": {"two words": 3, "a": 1}}]), tmp_path / "i")
    assert stored(tmp_path / "i") == {"d": {"two words": 3, "a": 1}}


def test_porter_is_a_language_of_the_analyser():
    assert Analyser("porter")("Libraries generally") == ["librari", "gener"]


def test_given_lengths_are_checked(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as made:
        writer = made._writing()
        row = LexicalEncoder().encode_documents(["bees"])
        for lengths in ([1, 2], [-1]):
            with pytest.raises(StoreError, match="lengths, or negative ones"):
                writer.add([Document("d", "bees")], {"lexical": row}, None, lengths=np.array(lengths))
    assert database.NAME in {found.name for found in (tmp_path / "i").iterdir()}

"""Lucene as strands: what can be told without Java, and, marked, searches through real Lucene indexes."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from plait.encoders.contract import Identity
from plait.encoders.specs import parse
from plait.index import Snapshot, StoreError, Writer
from plait.index.lucene import LuceneHits
from plait.retriever import Document, IngestError, MismatchError, QueryError, Retriever
from plait.retriever.choice import chosen_for
from plait.retriever.lucene import NAMED, Lucene, LuceneImpact, LuceneQuery, strand_of
from plait.retriever.lucene_queries import ModelQueries, WeighedQueries, rounded, token_queries, weights_by
from plait.retriever.strands import parse_strands
from scipy.sparse import csr_matrix

from ..lucene_indexes import needs_lucene

TEXTS = {
    "d1": "snow falls in winter",
    "d2": "bees make honey in summer",
    "d3": "winter snow and winter ice",
    "d4": "honey in winter",
    "d5": "ships and sea",
}


class WordSparse:
    """A tiny real sparse encoder: a term for each word, by its place in a list; weights are final."""

    words = sorted({word for text in TEXTS.values() for word in text.split()})
    identity = Identity("words", "1", "words", "count", 0, 64)

    def encode_documents(self, texts):
        rows = np.zeros((len(texts), 64), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                if word in self.words:
                    row[self.words.index(word)] += len(word)
        return csr_matrix(rows)

    encode_queries = encode_documents

    def term_names(self, text):
        return {self.words.index(word): word for word in text.split() if word in self.words}


class Listed:
    """Lucene's part of a search, in memory: fixed scores by id. Counts how often it is asked, and for how many."""

    def __init__(self, scores):
        self.scored, self.asked = dict(scores), []

    def search(self, query, k, *, among=None):
        self.asked.append(k if among is None else (k, len(among)))
        found = sorted(((s, id) for id, s in self.scored.items() if among is None or id in set(among)), reverse=True)
        return LuceneHits([id for _, id in found[:k]], np.array([score for score, _ in found[:k]], np.float32))


@pytest.fixture
def plain(tmp_path):
    """An index of five documents, lexical only; no Java anywhere."""
    path = tmp_path / "plain.index"
    with Retriever.create(path, strands="lexical") as made:
        made.add(Document(id=id, text=text, metadata={"year": 2000 + i}) for i, (id, text) in enumerate(TEXTS.items()))
        made.declare("year", "integer")
    return path


def found_by(listed, path, k, filter=None):
    """Returns the ids and scores that the strand gives for what Lucene lists."""
    strand = Lucene("unused")
    strand._index = listed
    with Snapshot(path) as snapshot:
        within = None if filter is None else snapshot.select(filter)
        query = LuceneQuery({}, "any", {})
        (hits,) = strand.search(snapshot, [query], k, within=within)
        return list(zip(snapshot.ids(hits.positions), hits.scores.tolist(), strict=True))


# How a strand is named


def test_a_folder_may_come_with_options():
    strand = strand_of("lucene", "some/where:k1=0.82:b=0.68:analyzer=de")
    assert strand.source.endswith("/some/where:k1=0.82:b=0.68:analyzer=de")
    assert strand_of("lucene", strand.source).source == strand.source
    assert strand_of("lucene", r"C:\some\where").folder.name.endswith("where")
    assert strand_of("lucene", "x:k1=0.9:b=0.4:exact_lengths=true").source.endswith("x:exact_lengths=True")
    assert strand_of("lucene", "x:exact_lengths=True")._similarity == (0.9, 0.4, True)


def test_the_options_of_an_encoder_stay_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    made = LuceneImpact("i", encoder="model:max_length=64:top=9", scale=2.0)
    again = strand_of("lucene-impact", made.source)
    assert (again.encoder, again.scale) == (f'{tmp_path / "model"}:{{"max_length": 64, "top": 9}}', 2.0)
    assert again.source == made.source
    assert parse(again.encoder) == parse(f"{tmp_path / 'model'}:max_length=64:top=9")


def test_an_impact_index_keeps_its_encoder_and_scale(tmp_path):
    (tmp_path / "model").mkdir()
    strand = strand_of("lucene-impact", f"x:encoder={tmp_path / 'model'}:scale=100")
    assert strand.source.endswith(f"x:encoder={tmp_path / 'model'}:scale=100.0")
    assert strand_of("lucene-impact", "x:encoder=tokens").source.endswith("x:encoder=tokens")
    assert LuceneImpact("x", encoder=WordSparse()).source is None


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("lucene", "x:k=1", "the strand lucene has no option 'k'; its options are: analyzer, b, exact_lengths, k1"),
        ("lucene", "x:k1=much", "the strand lucene takes a finite number as k1, not 'much'"),
        ("lucene", "x:k1=-1", r"BM25 takes k1 >= 0 and 0 <= b <= 1, not k1=-1.0, b=0.4"),
        ("lucene", "x:b=nan", "the strand lucene takes a finite number as b, not 'nan'"),
        ("lucene", "x:b=1.5", "BM25 takes k1 >= 0 and 0 <= b <= 1, not k1=0.9, b=1.5"),
        ("lucene", "x:b=1:b=0", "gives an option twice"),
        ("lucene", "", "lucene is given the folder of a Lucene index"),
        ("lucene-impact", "x:scale=0", "scale is a finite number above 0, not 0.0"),
        ("lucene-impact", "x:k1=1", "the strand lucene-impact has no option 'k1'; its options are: encoder, scale"),
        ("lucene", LuceneImpact("x"), "the strand lucene was given a LuceneImpact; it takes a Lucene"),
    ],
)
def test_what_cannot_be_named_is_refused(name, given, told):
    with pytest.raises(QueryError, match=told):
        strand_of(name, given)


def test_strands_of_lucene_come_last_and_need_an_index(tmp_path):
    assert parse_strands("lucene-impact,lucene,dense,lexical") == ("lexical", "dense", "lucene", "lucene-impact")
    with pytest.raises(QueryError, match="the strand 'lucene' needs a Lucene index: name its folder with --lucene, or"):
        Retriever.create(tmp_path / "x", strands="lucene")
    with pytest.raises(
        QueryError, match=r"without the strand 'lucene'; it has: dense; name a Lucene index .*--lucene P"
    ):
        parse_strands("lucene", ("dense",))
    assert not (tmp_path / "x").exists()


def test_impact_search_without_query_weights_is_refused(tmp_path):
    told = r"does not know how a query's terms weigh, .* as --lucene-impact \"x:encoder=MODEL\", or :encoder=tokens"
    with pytest.raises(QueryError, match=told):
        Retriever.create(tmp_path / "x", strands="lexical", lucene_impact="x")


# How queries weigh


def test_weights_become_whole_numbers_as_pyserini_makes_them():
    weights = {"a": 5.0, "b": 1.0, "c": 0.01, "d": 0.0097, "e": 0.0}
    assert rounded(weights, 256 / 5) == {"a": 256.0, "b": 51.0, "c": 1.0}
    assert rounded({"half": 0.5, "more": 1.5}, 1.0) == {"more": 2.0}  # halves go to the even one


def test_a_model_weighs_by_the_names_of_its_terms():
    weigh = ModelQueries(WordSparse(), 10.0)
    assert weigh(["snow in winter winter", "unknown"], None) == [{"snow": 40.0, "in": 20.0, "winter": 120.0}, {}]


def test_a_model_that_leaves_idf_to_the_index_takes_lucenes(small_encoders):
    class Index:
        def idf(self, terms):
            return np.array([{"length-4": 2.0, "length-6": 0.5}[term] for term in terms])

    assert ModelQueries(small_encoders["learned"], 3.0)(["snow winter"], Index()) == [
        {"length-4": 6.0, "length-6": 2.0}
    ]


def test_a_model_without_names_is_refused():
    class Nameless(WordSparse):
        def term_names(self, text):
            return {}

    with pytest.raises(QueryError, match="words has no names for its terms"):
        ModelQueries(Nameless())(["snow"], None)


def test_tokens_may_be_weighed_or_repeated():
    texts = ["snow^12 ##ing^2.5 ice", "snow snow^2 snow", "a^b ^ ^3 x^0 x^-1 x^nan x^1e39", ""]
    assert token_queries(texts, None) == [
        {"snow": 12.0, "##ing": 2.5, "ice": 1.0},
        {"snow": 4.0},
        {"a^b": 1.0, "^": 1.0, "^3": 1.0, "x^0": 1.0, "x^-1": 1.0, "x^nan": 1.0, "x^1e39": 1.0},
        {},
    ]


def test_queries_weighed_beforehand_go_by_their_text(tmp_path):
    rows = [{"id": "q1", "contents": "snow in winter", "vector": {"snow": 30, "ice": 2}}]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    weigh = weights_by(str(tmp_path / "queries.jsonl"), 7.0)
    assert isinstance(weigh, WeighedQueries)
    assert weigh([" snow in winter\n"], None) == [{"snow": 30.0, "ice": 2.0}]
    (tmp_path / "packed.JSONL.gz").write_bytes(gzip.compress((tmp_path / "queries.jsonl").read_bytes()))
    assert weights_by(str(tmp_path / "packed.JSONL.gz"), 7.0)(["snow in winter"], None) == [{"snow": 30.0, "ice": 2.0}]
    with pytest.raises(
        QueryError, match=r"queries.jsonl holds no weights of the query 'bees'; queries go by their text"
    ):
        weigh(["snow in winter", "bees"], None)
    with pytest.raises(IngestError, match="there is no such file"):
        weights_by(str(tmp_path / "other.jsonl"), 1.0)


# Which of Lucene's hits count


def test_unknown_and_deleted_documents_are_passed_over(plain):
    with Retriever.open(plain) as opened:
        opened.delete(["d3"])
    listed = Listed({"d1": 3, "x": 9, "d3": 8, "d4": 2, "y": 2.5, "d2": 3})
    assert found_by(listed, plain, 2) == [("d2", 3.0), ("d1", 3.0)]
    assert found_by(listed, plain, 10) == [("d2", 3.0), ("d1", 3.0), ("d4", 2.0)]


def test_of_few_documents_lucene_is_told_the_ids(plain):
    listed = Listed({**{f"x{i}": 100 + i for i in range(50)}, "d1": 1, "d4": 2})
    assert found_by(listed, plain, 2) == [("d4", 2.0), ("d1", 1.0)]
    assert listed.asked == [2, (2, 5)]


def test_a_filter_chooses_before_lucene_scores(plain):
    listed = Listed({"d1": 5, "d2": 4, "d3": 3, "x": 9})
    assert found_by(listed, plain, 2, "year >= 2001") == [("d2", 4.0), ("d3", 3.0)]
    assert listed.asked == [(2, 4)]
    assert found_by(listed, plain, 2, "year > 3000") == []


def test_of_many_documents_lucene_is_asked_for_more(plain, monkeypatch):
    monkeypatch.setattr("plait.retriever.lucene.NAMED", 2)
    listed = Listed({**{f"x{i}": 100 + i for i in range(50)}, "d1": 1, "d4": 2, "d2": 7})
    assert found_by(listed, plain, 2) == [("d2", 7.0), ("d4", 2.0)]
    assert listed.asked == [2, 8, 32, 128]
    assert found_by(listed, plain, 9, "year <= 2003") == [("d2", 7.0), ("d4", 2.0), ("d1", 1.0)]
    assert found_by(listed, plain, 3, "year <= 2003")[0] == ("d2", 7.0)
    assert NAMED == 10_000


# Weights, and an index that remembers


@pytest.mark.parametrize(
    ("own", "given", "weights"),
    [
        (None, None, [0.135, 0.795, 0.135, 0.07]),
        ({"lexical": 0.25, "dense": 0.75}, None, [0.25, 0.75, 0.25, 0.0]),
        ({"lexical": 0.25, "learned": 0.5, "lucene": 0.1}, None, [0.25, 0.0, 0.1, 0.5]),
        ({"lexical": 0.25}, {"dense": 2.0, "lucene": 1.0}, [0.0, 2.0, 1.0, 0.0]),
    ],
)
def test_a_neighbour_weighs_as_the_strand_it_stands_beside(own, given, weights):
    settings = {"fusion": "convex", "weights": own}
    strands = ("lexical", "dense", "lucene", "lucene-impact")
    chosen = chosen_for(settings, strands, None, given, None, every=strands)
    assert chosen.weights.tolist() == weights


def test_a_lucene_index_that_is_named_joins_the_strands(plain):
    with Retriever.open(plain, lucene_impact="x:encoder=tokens", lucene="y") as opened:
        assert opened.strands == ("lexical", "lucene", "lucene-impact")
        assert [hit.id for hit in opened.search("bees", strands="lexical")] == ["d2"]


def remember(path, source):
    """Makes an index remember a Lucene index, as `Retriever.create` does where Java is."""
    identity = Identity("lucene L", "5 documents, 9 postings, 9 tokens", "english", "bm25:k1=0.9:b=0.4", 0, 0)
    with Snapshot(path) as snapshot:
        encoders = {**snapshot.settings["encoders"], "lucene": {"source": source, "identity": identity.to_json()}}
    writer = Writer(path)
    writer.put_setting("encoders", encoders)
    writer.commit()
    writer.close()


def test_what_is_no_search_needs_no_java(plain, tmp_path):
    remember(plain, str(tmp_path / "gone"))
    with Retriever.open(plain) as opened:
        assert opened.strands == ("lexical", "lucene")
        assert opened.info()["encoders"]["lucene"]["revision"] == "5 documents, 9 postings, 9 tokens"
        opened.add([Document(id="d6", text="more snow")])
        opened.delete("d1")
        opened.commit()
        opened.compact()
        assert len(opened) == 5
        assert [hit.id for hit in opened.search("snow", strands="lexical")] == ["d6", "d3"]
        with pytest.raises(StoreError, match="gone: there is no Lucene index"):
            opened.search("snow")


# With Java


@pytest.fixture(scope="module")
def lucene():
    needs_lucene()


@pytest.fixture(scope="module")
def folders(lucene, tmp_path_factory):
    """Lucene indexes of the five texts and of their words' lengths, each with a document that plait does not have."""
    from plait.index.lucene_writer import write_impacts, write_texts

    place = tmp_path_factory.mktemp("lucene")
    others = {**TEXTS, "other": "winter snow winter snow"}
    write_texts(place / "texts", others.items())
    impacts = {id: {w: len(w) * text.split().count(w) for w in text.split()} for id, text in others.items()}
    write_impacts(place / "impacts", impacts.items())
    return place


@pytest.fixture
def hybrid(folders, tmp_path, small_encoders):
    path = tmp_path / "hybrid.index"
    with Retriever.create(
        path, strands="learned,dense", learned=WordSparse(), dense=small_encoders["dense"], fields={"year": "integer"},
        lucene=str(folders / "texts"), lucene_impact=LuceneImpact(folders / "impacts", scale=1.0),
    ) as made:  # fmt: skip
        made.add(Document(id=id, text=text, metadata={"year": 2000 + i}) for i, (id, text) in enumerate(TEXTS.items()))
        made.commit()
        yield made


@pytest.mark.lucene
class TestWithJava:
    def test_every_candidate_has_lucenes_score(self, hybrid):
        assert hybrid.strands == ("learned", "dense", "lucene", "lucene-impact")
        hits = hybrid.search("winter snow", 5, pipeline="none")
        assert {hit.id for hit in hits} == set(TEXTS)
        for name in ("lucene", "lucene-impact"):
            alone = {hit.id: hit for hit in hybrid.search("winter snow", 5, strands=name)}
            assert set(alone) == {"d1", "d3", "d4"}
            for hit in hits:
                expected = alone[hit.id].strands[name].score if hit.id in alone else 0.0
                assert hit.strands[name].score == expected

    def test_a_control_character_in_a_query_is_told(self, folders, tmp_path, small_encoders):
        tokens = LuceneImpact(folders / "impacts", encoder="tokens")
        with Retriever.create(
            tmp_path / "i", strands="dense", dense=small_encoders["dense"], lucene_impact=tokens
        ) as made:  # fmt: skip
            made.add(Document(id=id, text=text) for id, text in TEXTS.items())
            made.commit()
            with pytest.raises(QueryError, match=r"the query's term 'snow\\x01melt' holds a control character"):
                made.search("snow\x01melt^3", 5)

    def test_impacts_are_sums_of_whole_numbers(self, hybrid):
        scores = {hit.id: hit.strands["lucene-impact"].score for hit in hybrid.search("winter snow", 5)}
        assert scores == {"d1": 6 * 6 + 4 * 4, "d3": 6 * 12 + 4 * 4, "d4": 36, "d2": 0, "d5": 0}

    def test_the_same_weights_give_plaits_learned_scores_in_both_strands(self, folders, tmp_path, small_encoders):
        """Up to steps of the learned strand's scale, which whole numbers are not multiples of here."""
        with Retriever.create(
            tmp_path / "both", strands="learned", learned=WordSparse(),
            lucene_impact=LuceneImpact(folders / "impacts", scale=1.0),
        ) as made:  # fmt: skip
            made.add(Document(id=id, text=text) for id, text in TEXTS.items())
            made.commit()
            hits = made.search("winter snow honey in summer", 5)
            assert [h.strands["learned"].rank for h in hits] == [h.strands["lucene-impact"].rank for h in hits]
            for hit in hits:
                assert hit.strands["learned"].score == pytest.approx(hit.strands["lucene-impact"].score, rel=0.05)

    def test_without_an_encoder_queries_are_those_of_the_learned_strand(self, folders, tmp_path, small_encoders):
        lengths = small_encoders["learned"]  # whose query weights are IDF
        with Retriever.create(
            tmp_path / "x", strands="learned", learned=lengths, lucene_impact=f"{folders / 'impacts'}:scale=100"
        ) as made:
            made.add(Document(id=id, text=text) for id, text in TEXTS.items())
            made.commit()
            with Snapshot(made.folder) as snapshot:
                (ours,) = made.strand("learned").encode(["snow winter"], snapshot)
                (theirs,) = made.strand("lucene-impact").encode(["snow winter"], snapshot)
            assert theirs.weights == {name: float(np.rint(100 * weight)) for name, weight in ours.named.items()}
            assert set(theirs.weights) == {"length-4", "length-6"}

    def test_where_no_dense_strand_hears_a_query_both_learned_ones_ask_for_the_same(self, folders, tmp_path):
        with Retriever.create(
            tmp_path / "x", strands="learned", learned="embedded", lucene_impact=str(folders / "impacts")
        ) as made, Snapshot(made.folder) as snapshot:  # fmt: skip
            learned, lucene = (made.strand(name) for name in ("learned", "lucene-impact"))
            asked = learned.encode(["winter snow"], snapshot, full=True)[0].named
            of_lucene = lucene.encode(["winter snow"], snapshot, full=True)[0].weights
            plain = learned.encode(["winter snow"], snapshot)[0].named
        assert set(plain) < set(of_lucene) <= set(asked)

    def test_fused_scores_are_weighted_means_whatever_k_is(self, hybrid):
        weights = {"dense": 2, "lucene": 1}
        for k in (1, 3, 5):
            hits = hybrid.search("winter honey", k, strands="lucene,dense", weights=weights, pipeline="none")
            assert len(hits) == k
            for hit in hits:
                mean = sum(weights[name] * view.normalised for name, view in hit.strands.items()) / 3
                assert hit.score == pytest.approx(mean)

    def test_contributions_add_up(self, hybrid):
        for hit in hybrid.search("winter snow and honey", 5, explain=True):
            for name in ("lucene", "lucene-impact"):
                parts = [match.contribution for match in hit.matches if match.strand == name]
                assert sum(parts) == pytest.approx(hit.strands[name].score)
                assert parts == sorted(parts, reverse=True)

    def test_scores_lie_between_the_bounds(self, hybrid):
        with Snapshot(hybrid.folder) as snapshot:
            for name in ("lucene", "lucene-impact"):
                strand = hybrid.strand(name)
                (query,) = strand.encode(["winter winter snow"], snapshot)
                (hits,) = strand.search(snapshot, [query], 5, within=None)
                least, most, norm = strand.bounds(snapshot, query)
                assert least == 0
                assert hits.scores.max() <= most
                assert 0 < norm <= most
                (none,) = strand.encode(["xylophone"], snapshot)
                assert strand.bounds(snapshot, none).most == {"lucene": np.log1p(6.5 / 0.5), "lucene-impact": 0}[name]
                assert strand.search(snapshot, [none], 5, within=None)[0].scores.size == 0

    def test_filters_deletions_and_proofs(self, hybrid):
        assert [h.id for h in hybrid.search("winter", strands="lucene", filter="year = 2003")] == ["d4"]
        hybrid.delete("d4")
        hybrid.commit()
        assert {h.id for h in hybrid.search("winter", strands="lucene")} == {"d1", "d3"}
        proven = hybrid.search("winter snow", 2, strands="lucene,dense", depth=1, prove=True, pipeline="none")
        wide = hybrid.search("winter snow", 2, strands="lucene,dense", depth=100, pipeline="none")
        assert [(h.id, h.score) for h in proven] == [(h.id, h.score) for h in wide]

    def test_what_a_search_found_scores_the_same_when_asked_for_anew(self, hybrid):
        with Snapshot(hybrid.folder) as snapshot:
            for name in ("lucene", "lucene-impact"):
                strand = hybrid.strand(name)
                searched, asked = strand.encode(["winter snow honey"] * 2, snapshot)
                strand.search(snapshot, [searched], 2, within=None)
                everything = np.array(sorted(snapshot.positions(list(TEXTS)).values()), np.int64)
                assert len(searched.known) == 2
                scores = strand.scores(snapshot, asked, everything).tolist()
                assert strand.scores(snapshot, searched, everything).tolist() == scores

    def test_feedback_leaves_lucenes_query_as_it_is(self, hybrid):
        answer = hybrid.search("winter snow", 5, strands="lucene,dense", pipeline="feedback")
        assert answer.notes["feedback"]["weights"]["lucene"] == 0
        assert len(answer) == 5

    def test_questions_and_codes_weigh_it_as_the_lexical_strand(self, hybrid):
        asked = hybrid.search("what is winter snow?", 5, strands="lucene,learned,dense")
        assert (asked.pipeline, asked.notes["questions"]) == ("questions,feedback", {"lexical": 0.7})
        assert asked.weights == pytest.approx({"learned": 0.07, "dense": 0.795, "lucene": 0.7 * 0.135})
        coded = hybrid.search("winter E0425", 5, strands="lucene,dense", pipeline="adapt:codes=2")
        assert coded.weights == pytest.approx({"dense": 0.795, "lucene": 0.27})

    def test_a_run_and_rank_fusion(self, hybrid):
        run = hybrid.run({"q": "winter snow"}, 5, strands="lucene,dense", fusion="rrf")
        assert set(run["q"]) == set(TEXTS)

    def test_an_index_remembers_and_notices_a_change(self, folders, tmp_path, small_encoders):
        import shutil

        from plait.index.lucene_writer import write_texts

        copy, path = tmp_path / "copy", tmp_path / "p.index"
        shutil.copytree(folders / "texts", copy)
        dense = small_encoders["dense"]
        with Retriever.create(path, strands="dense", dense=dense, lucene=f"{copy}:k1=1.2") as made:
            made.add(Document(id=id, text=text) for id, text in TEXTS.items())
            made.commit()
            first = [(h.id, h.score) for h in made.search("winter snow", strands="lucene")]
        with Retriever.open(path, dense=dense) as again:
            assert again.info()["encoders"]["lucene"]["activation"] == "bm25:k1=1.2:b=0.4"
            assert [(h.id, h.score) for h in again.search("winter snow", strands="lucene")] == first
        shutil.rmtree(copy)
        write_texts(copy, [("d1", "winter")])
        with Retriever.open(path, dense=dense) as again:
            told = r"has changed since it was named \(revision: 6 documents, .* then, 1 documents, .* now\)"
            with pytest.raises(MismatchError, match=told):
                again.search("winter")
            assert len(again.search("winter", strands="dense")) == 5
        with Retriever.open(path, dense=dense, lucene=copy) as again:
            assert [h.id for h in again.search("winter", strands="lucene")] == ["d1"]

    def test_an_object_must_be_given_again(self, folders, tmp_path, small_encoders):
        path = tmp_path / "x.index"
        impact, dense = LuceneImpact(folders / "impacts", encoder=WordSparse()), small_encoders["dense"]
        Retriever.create(path, strands="dense", dense=dense, lucene_impact=impact).close()
        with pytest.raises(MismatchError, match=r"object, .* pass it again: Retriever.open\(..., lucene_impact="):
            Retriever.open(path, dense=dense)
        Retriever.open(path, dense=dense, lucene_impact=impact).close()

    def test_an_index_of_lucenes_strands_alone(self, folders, tmp_path):
        with Retriever.create(
            tmp_path / "x", strands=[], lucene=folders / "texts", lucene_impact=f"{folders / 'impacts'}:encoder=tokens"
        ) as made:
            made.add(Document(id=id, text=text) for id, text in TEXTS.items())
            made.commit()
            assert made.strands == ("lucene", "lucene-impact")
            assert [h.id for h in made.search("honey^3 bees^2", strands="lucene-impact")] == ["d2", "d4"]
            assert {h.id for h in made.search("snow", strands="lucene")} == {"d1", "d3"}

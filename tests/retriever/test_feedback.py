"""Feedback: the new query, worked out by hand, and when it stays the old one."""

from __future__ import annotations

import numpy as np
import pytest
from plait.retriever import Document, QueryError, Retriever
from plait.retriever.feedback import FEW, MOST_WORDS
from plait.retriever.pipeline import pipeline

from tests.conftest import LengthSparse, LetterDense

TEXTS = {"a": "bee honey bee", "b": "bee winter", "c": "snow winter", "d": "zoo"}


@pytest.fixture
def retriever(tmp_path):
    with Retriever.create(tmp_path / "i", dense=LetterDense(), learned=LengthSparse()) as made:
        made.add([Document(id=id, text=text) for id, text in TEXTS.items()])
        made.commit()
        yield made


def queries_after(retriever, query, *steps, **options):
    """The ranking after the steps, caught by a step of our own."""
    caught = []
    retriever.search(query, 3, pipeline=[*steps, lambda ranking: caught.append(ranking) or ranking], **options)
    return dict(zip(caught[0].names, caught[0].queries, strict=True)), caught[0]


@pytest.mark.parametrize("away", [0.0, 0.25, None])
def test_the_dense_query_moves_to_the_mean_of_the_best_documents_and_away_from_that_of_all(retriever, away):
    best = [hit.id for hit in retriever.search("bee honey", 2, pipeline="none")]
    option = "" if away is None else f":away={away}"
    found, ranking = queries_after(retriever, "bee honey", f"feedback:documents=2:dense=0.5:length=0{option}")
    encoder = LetterDense()
    mean = encoder.encode_documents([TEXTS[id] for id in best]).mean(axis=0)
    everything = encoder.encode_documents(list(TEXTS.values())).mean(axis=0)
    shrunk = (0.5 if away is None else away) * len(TEXTS) / (len(TEXTS) + FEW)
    expected = (encoder.encode_queries(["bee honey"])[0] + 0.5 * mean - shrunk * everything) / 1.5
    assert found["dense"] == pytest.approx(expected, abs=1e-6)
    weights = {"lexical": 0, "learned": 0, "dense": 0.5}
    assert ranking.notes["feedback"] == {"documents": best, "weights": weights, "away": shrunk}
    scores = ranking.candidates.scores[:, 2]
    documents = encoder.encode_documents(list(TEXTS.values()))
    assert scores == pytest.approx(documents @ expected, abs=1e-6)


def test_a_filter_does_not_change_what_the_query_moves_away_from(retriever):
    retriever.declare("year", "integer")
    retriever.add([Document(id=id, text=text, metadata={"year": ord(id)}) for id, text in TEXTS.items()])
    retriever.commit()
    steps = "feedback:documents=1:dense=1:length=0"
    moved = [
        queries_after(retriever, "bee honey bee", steps, filter=filter)[0]["dense"].tolist()
        for filter in (None, f"year = {ord('a')}")
    ]
    assert moved[0] == moved[1]


def test_short_documents_are_trusted_less(retriever):
    _, ranking = queries_after(retriever, "bee honey", "feedback:documents=1:dense=1:length=5")
    assert ranking.notes["feedback"]["weights"]["dense"] == pytest.approx(3 / (3 + 5))  # "bee honey bee"


@pytest.mark.parametrize("strands", ["dense", "learned,dense"])
def test_an_index_without_lexical_lengths_counts_the_words_of_the_texts(tmp_path, strands):
    """Two thirds of them: what is left without stop words. Title and text count, and scripts without spaces."""
    texts = {
        "spaced": ("bee honey bee", "", 3),
        "titled": ("bee honey", "bee bee honey", 5),
        "chinese": ("蜂蜜蜂蜜", "", 2),
    }
    for name, (text, title, words) in texts.items():
        encoders = {"dense": LetterDense()} | ({"learned": LengthSparse()} if "learned" in strands else {})
        with Retriever.create(tmp_path / name, strands=strands, **encoders) as made:
            made.add([Document("d", text, title=title)])
            made.commit()
            _, ranking = queries_after(made, "bee honey", "feedback:documents=1:dense=1:length=5")
            length = 2 / 3 * words
            assert ranking.notes["feedback"]["weights"]["dense"] == pytest.approx(length / (length + 5))
            plain = made.search("bee", pipeline="none")[0].strands["dense"].score
            if name == "spaced":
                assert made.search("bee", pipeline="feedback:away=0")[0].strands["dense"].score > plain


def test_words_of_a_very_long_text_are_counted_up_to_a_bound(tmp_path):
    with Retriever.create(tmp_path / "i", strands="dense", dense=LetterDense()) as made:
        made.add([Document("d", "bee " * 3 * MOST_WORDS)])
        made.commit()
        _, ranking = queries_after(made, "bee", "feedback:dense=1:length=100")
    length = 2 / 3 * MOST_WORDS
    assert ranking.notes["feedback"]["weights"]["dense"] == pytest.approx(length / (length + 100))


def test_an_index_with_the_lexical_strand_trusts_by_its_lengths_whatever_is_searched(retriever):
    _, ranking = queries_after(retriever, "bee honey", "feedback:documents=1:dense=1:length=5", strands="learned,dense")
    assert ranking.notes["feedback"]["weights"]["dense"] == 3 / (3 + 5)


def test_the_learned_query_takes_the_documents_weightiest_terms(retriever):
    before = queries_after(retriever, "bee honey")[0]["learned"]
    found, ranking = queries_after(
        retriever, "bee honey", "feedback:documents=1:dense=0:learned=0.5:terms=1:length=0", strands="learned"
    )
    best = ranking.notes["feedback"]["documents"]
    values, terms = ranking.search.snapshot.sparse_vectors("learned", np.array([list(TEXTS).index(best[0])], np.int64))
    weighed = values.toarray()[0] * ranking.search.snapshot.idf(terms)
    term = int(terms[np.argmax(weighed)])
    own = {int(t): w for t, w in zip(before.terms, before.weights, strict=True)}
    largest = max(own.values())
    expected = {t: w / 1.5 for t, w in own.items()}
    expected[term] = expected.get(term, 0) + 0.5 * largest / 1.5
    assert {int(t): w for t, w in zip(found["learned"].terms, found["learned"].weights, strict=True)} == pytest.approx(
        expected, rel=1e-5
    )


def test_lexical_feedback_brings_documents_that_share_no_word_with_the_query(retriever):
    plain = retriever.search("honey", strands="lexical", pipeline="none")
    moved = retriever.search("honey", strands="lexical", pipeline="feedback:documents=1:lexical=0.5:length=0")
    assert [hit.id for hit in plain] == ["a"]
    assert {hit.id for hit in moved} == {"a", "b"}  # by "bee", which stands beside honey


def test_each_strand_may_learn_from_its_own_best(retriever):
    fused, own = (
        queries_after(
            retriever,
            "honey zoo zoo",
            f"feedback:documents=1:source={source}:dense=0.8:length=0",
            weights={"lexical": 0.0, "learned": 1.0, "dense": 0.01},
        )[0]["dense"]
        for source in ("fused", "own")
    )
    encoder = LetterDense()
    query = encoder.encode_queries(["honey zoo zoo"])[0]
    nearest = max(TEXTS.values(), key=lambda text: float(encoder.encode_documents([text])[0] @ query))
    everything = encoder.encode_documents(list(TEXTS.values())).mean(axis=0)
    expected = (query + 0.8 * encoder.encode_documents([nearest])[0] - 0.5 * 4 / 104 * everything) / 1.8
    assert own == pytest.approx(expected, abs=1e-6)
    assert np.abs(fused - own).max() > 0.01  # the best of the fused ranking is another document


def test_no_feedback_from_documents_that_are_far_away(retriever):
    before = queries_after(retriever, "bee")[0]["dense"]
    found, ranking = queries_after(retriever, "bee", "feedback:floor=0.999:documents=2")
    assert found["dense"] == pytest.approx(before)
    assert ranking.notes["feedback"]["weights"]["dense"] == ranking.notes["feedback"]["away"] == 0


def test_an_empty_index_and_an_unknown_word_have_no_feedback(tmp_path, retriever):
    assert retriever.search("qqq", strands="lexical", pipeline="feedback:lexical=1") == []
    with Retriever.create(tmp_path / "empty", dense=LetterDense(), learned=LengthSparse()) as made:
        assert made.search("bee", pipeline="feedback:learned=1:lexical=1") == []


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("magic", "no step 'magic'; there are: feedback"),
        ("feedback:depth=3", "the step 'feedback' has no option 'depth'; its options are: away, dense, documents"),
        ("feedback:documents=two", "the step 'feedback' takes a whole number as documents, not 'two'"),
        ("feedback:documents=0", "feedback takes documents of at least 1, not 0"),
        ("feedback:dense=-1", "feedback takes dense of at least 0, not -1.0"),
        ("feedback:away=1e20", r"feedback takes away of at most 1e\+06, not 1e\+20"),
        ("feedback:source=mine", "takes its documents from fused, own, both, not 'mine'"),
        ([{"documents": 2}], "a step needs its name"),
        ([3], "a step is a name, a mapping or a function; not 3"),
    ],
)
def test_a_pipeline_that_cannot_be_read_says_why(retriever, steps, message):
    with pytest.raises(QueryError, match=message):
        retriever.search("bee", pipeline=steps)


def test_the_same_pipeline_in_every_form(tmp_path):
    from plait.retriever import read_pipeline

    path = tmp_path / "p.toml"
    path.write_text('[[step]]\nname = "feedback"\ndocuments = 3\ndense = 0.5\n')
    texts = pipeline("feedback:documents=3:dense=0.5"), pipeline(read_pipeline(path))
    assert {(each.name, each.reach) for each in texts} == {("feedback:documents=3:dense=0.5", 3)}
    assert pipeline("none").name == pipeline([]).name == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step = 3", "expected a table"),
        ('[[step]]\nname = "feedback"\n[other]\n', "expected a table"),
        ("=", "is no TOML file"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_pipeline_file_that_cannot_be_read_says_why(tmp_path, text, message):
    from plait.retriever import read_pipeline

    path = tmp_path / "p.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(QueryError, match=message):
        read_pipeline(path)


def test_an_index_keeps_how_it_ranks(tmp_path, retriever):
    assert retriever.info()["weights_from"] == "plait"
    retriever.settle(
        weights={"dense": 3.0, "lexical": 1.0}, fusion="convex:normalise=zscore", pipeline=["feedback:documents=1"]
    )
    retriever.commit()
    for each in (retriever, Retriever.open(tmp_path / "i", dense=LetterDense(), learned=LengthSparse())):
        info = each.info()
        assert info["fusion"] == "convex:normalise=zscore"
        assert info["weights"] == {"lexical": 1.0, "learned": 0.0, "dense": 3.0}
        assert (info["weights_from"], info["pipeline"]) == ("the index", "feedback:documents=1")
        answer = each.search("bee", 2)
        assert (answer.weights_from, answer.pipeline) == ("the index", "feedback:documents=1")
        given = each.search("bee", 2, weights={"lexical": 1.0}, pipeline="none")
        assert (given.weights_from, given.pipeline) == ("this search", "none")
        each.close()


def test_settings_that_cannot_be_are_refused_and_nothing_changes(retriever):
    for settings, message in [
        ({"weight": {}}, "no setting 'weight'; there are: fusion, weights"),
        ({"weights": {"dense": -1}}, "must be finite and not negative"),
        ({"fusion": "magic"}, "no fusion 'magic'"),
        ({"pipeline": "magic"}, "no step 'magic'"),
        ({"pipeline": [lambda ranking: ranking]}, "an index keeps steps by name"),
    ]:
        with pytest.raises(QueryError, match=message):
            retriever.settle(**settings)
    assert retriever.info()["weights_from"] == "plait"


def test_one_strand_alone_takes_no_step_unless_asked(retriever):
    assert retriever.search("bee", strands="dense").pipeline == "none"
    assert retriever.search("bee", weights={"dense": 1}).pipeline == "none"
    assert retriever.search("bee").pipeline == "questions,feedback"
    assert retriever.search("bee", strands="dense", pipeline="feedback").pipeline == "feedback"


def test_min_probability_leaves_out_what_is_less_probable_to_the_last_bit(retriever):
    with pytest.raises(QueryError, match="the index has no calibration for these settings"):
        retriever.search("bee", min_probability=0.5)
    scores = [hit.score for hit in retriever.search("bee honey", 4)]
    settings = {name: retriever.info()[name] for name in ("fusion", "weights", "pipeline")}
    held = {"scores": [0.0, max(scores)], "probabilities": [0.0, 1.0], "kind": "platt", "source": "here"}
    retriever.settle(calibration={**held, "settings": settings})
    retriever.commit()
    hits = retriever.search("bee honey", 4)
    assert hits[0].probability == 1
    for hit in hits:  # the bound itself belongs to what is kept
        kept = retriever.search("bee honey", 4, min_probability=hit.probability)
        assert [each.id for each in kept] == [each.id for each in hits[: hit.rank]]
    with pytest.raises(QueryError, match="lies between 0 and 1, not 2"):
        retriever.search("bee", min_probability=2)


def test_terms_of_feedback_are_named_as_those_of_the_query(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical,learned") as r:
        r.add([Document("1", "bees make honey in summer"), Document("2", "snow falls in winter")])
        r.commit()
        steps = "feedback:documents=1:lexical=1:learned=1,feedback:documents=1:lexical=1:learned=1"
        (hit, *_) = r.search("bees", 1, explain=True, pipeline=steps)
        named = {(match.strand, match.term) for match in hit.matches}
        assert {("lexical", "honey"), ("lexical", "bee"), ("learned", "honey"), ("learned", "bees")} <= named
        assert not [term for _, term in named if term.startswith("#") and term[1:].isdigit()]


def test_feedback_tells_which_documents_each_strand_was_fed(retriever):
    for source in ("own", "both"):
        told = retriever.search("bee honey", pipeline=f"feedback:source={source}:documents=1:lexical=1:length=0").notes
        own = {s: retriever.search("bee honey", 1, strands=s)[0].id for s in ("lexical", "dense")}
        fed = told["feedback"]["documents"]
        if source == "own" and len(set(own.values())) > 1:
            assert fed == {strand: [id] for strand, id in own.items()}
        assert all(own[strand] in (fed if isinstance(fed, list) else fed[strand]) for strand in own)

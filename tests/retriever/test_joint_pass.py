"""Both strands of a joint encoder: encoded in one pass, stored as each alone, opened with either kind of queries."""

from __future__ import annotations

import numpy as np
import pytest
from plait.encoders import load_dense, load_joint, load_learned
from plait.encoders.build import build
from plait.retriever import Document, MismatchError, Retriever
from plait.retriever.encoders import made_with

from tests.encoders.joint_folders import Kind, change_config, make_joint

TEXTS = ["open search engine", "a dense vector", "", "sparse term weights rank documents", "open search engine"]
NAMES = ("lexical", "learned", "dense")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("joint")
    build(make_joint(Kind(terms=70, static=8), made / "checkpoint"), made / "tiny-joint", head="joint")
    return made / "tiny-joint"


@pytest.fixture
def runs(monkeypatch):
    """Returns the outputs that each run of a session was asked for."""
    from plait.encoders.joint import JointModel

    asked, run_for = [], JointModel.run_for

    def counted(self, names, ids):
        asked.append((tuple(names), ids.shape))
        return run_for(self, names, ids)

    monkeypatch.setattr(JointModel, "run_for", counted)
    return asked


def documents():
    return [Document(id=f"d{number}", text=text, title="title") for number, text in enumerate(TEXTS)]


def given(folder, **options):
    return {"lexical": "english", "learned": load_learned(folder, **options), "dense": load_dense(folder, **options)}


def test_documents_pass_once_and_are_stored_as_by_each_face(folder, runs):
    encoders = made_with(NAMES, given(folder))
    found = encoders.encode_documents(TEXTS)
    batches = {shape for _, shape in runs}
    assert {names for names, _ in runs} == {("dense", "weights", "own")}
    assert len(runs) == len(batches) == len({len(ids) for ids in load_joint(folder).model.tokenizer.ids(TEXTS)})
    assert sum(rows for rows, _ in batches) == len(TEXTS)
    np.testing.assert_array_equal(found.dense, load_dense(folder).encode_documents(TEXTS))
    learned = load_learned(folder)
    np.testing.assert_array_equal(found.sparse["learned"].toarray(), learned.encode_documents(TEXTS).toarray())
    np.testing.assert_array_equal(found.literal["learned"].toarray(), learned.encode_queries(TEXTS).toarray())
    assert list(found.sparse) == ["lexical", "learned"]


@pytest.mark.parametrize("options", [{"max_length": 8}, {"token_budget": 64}])
def test_other_settings_are_other_passes(folder, runs, options):
    mixed = {**given(folder), "dense": load_dense(folder, **options)}
    vectors = made_with(NAMES, mixed).encode_documents(TEXTS)
    assert {names for names, _ in runs} == {("dense",), ("weights", "own")}
    np.testing.assert_array_equal(vectors.dense, load_dense(folder, **options).encode_documents(TEXTS))


@pytest.mark.parametrize("names", [("learned",), ("dense",), ("lexical", "dense")])
def test_one_half_alone_runs_alone(folder, runs, names):
    made_with(names, given(folder)).encode_documents(TEXTS)
    assert {asked for asked, _ in runs} == {("dense",) if "dense" in names else ("weights", "own")}


def test_encoders_of_ones_own_are_asked_as_before(small_encoders):
    found = made_with(NAMES, {"lexical": "english", **small_encoders}).encode_documents(TEXTS)
    np.testing.assert_array_equal(found.dense, small_encoders["dense"].encode_documents(TEXTS))


def test_an_index_by_name_opens_with_either_kind_of_queries(folder, runs, tmp_path):
    with Retriever.create(tmp_path / "i", learned=str(folder), dense=str(folder)) as made:
        made.add(documents())
        made.commit()
        assert {names for names, _ in runs} == {("dense", "weights", "own")}
        expected = made.search("dense vector", 3)
        alone = made.search("dense vector", 5, strands="dense")
    del runs[:]
    static = load_dense(folder, queries="static")
    with Retriever.open(tmp_path / "i", dense=static) as opened:
        hits = opened.search("dense vector", 5, strands="dense")
        assert runs == []  # no transformer in the query
        scores = load_dense(folder).encode_documents([d.full_text for d in documents()])
        scores = scores @ static.encode_queries(["dense vector"])[0]
        assert [hit.strands["dense"].score for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
        assert opened.search("\u2603", 2, strands="dense")[0].strands["dense"].score == 0
    with Retriever.open(tmp_path / "i") as opened:
        assert opened.search("dense vector", 3) == expected
        assert opened.search("dense vector", 5, strands="dense") == alone


@pytest.fixture
def expanding(tmp_path):
    """An index by a model that gives queries further terms."""
    checkpoint = make_joint(Kind(terms=70, static=8), tmp_path / "checkpoint")
    change_config(checkpoint, query_expansion=0.5)
    build(checkpoint, tmp_path / "expanding", head="joint")
    name = str(tmp_path / "expanding")
    with Retriever.create(tmp_path / "i", learned=name, dense=name) as made:
        made.add(documents())
        made.commit()
        yield made


def asked_terms(retriever, query, strands, **options):
    hits = retriever.search(query, 5, strands=strands, explain=True, **options)
    return {match.term for hit in hits for match in hit.matches if match.strand == "learned"}


@pytest.mark.parametrize("strands", ["learned", "lexical,learned"])
def test_where_no_dense_strand_hears_a_query_the_learned_one_says_more(expanding, strands):
    learned = load_learned(expanding.info()["encoders"]["learned"]["name"])
    own = {learned.vocabulary()[column] for column in learned.encode_queries(["open search"]).indices}
    full = {learned.vocabulary()[column] for column in learned.encode_full_queries(["open search"]).indices}
    assert asked_terms(expanding, "open search", strands) <= full
    assert asked_terms(expanding, "open search", strands) - own
    for others in ("learned,dense", "lexical,learned,dense", None):
        assert asked_terms(expanding, "open search", others) <= own


def test_full_queries_are_weighed_as_others_are(expanding):
    """A score is the sum of what the terms add, also of those that the query does not hold; batches score alike."""
    for query in ("open search", "open open search"):
        hits = expanding.search(query, 5, strands="learned", explain=True)
        assert hits
        for hit in hits:
            added = sum(match.contribution for match in hit.matches)
            assert hit.strands["learned"].score == pytest.approx(added, rel=1e-5)
    once, twice = (expanding.search(query, 5, strands="learned") for query in ("open search", "open open search"))
    assert [hit.strands["learned"].score for hit in once] != [hit.strands["learned"].score for hit in twice]
    batch = expanding.search_batch(["open search", "open open search"], 5, strands="learned")
    assert [[hit.score for hit in answer] for answer in batch] == [
        [hit.score for hit in hits] for hits in (once, twice)
    ]


def test_idf_still_counts_the_documents_own_terms(expanding, tmp_path):
    checkpoint = make_joint(Kind(terms=70, static=8), tmp_path / "other")
    build(checkpoint, tmp_path / "plain", head="joint")
    with Retriever.create(tmp_path / "j", learned=str(tmp_path / "plain"), dense=str(tmp_path / "plain")) as made:
        made.add(documents())
        made.commit()
        scores = [[hit.score for hit in one.search("open search", 5)] for one in (made, expanding)]
        assert scores[0] == scores[1]


def test_another_model_is_refused(folder, tmp_path):
    other = make_joint(Kind(terms=70, static=8), tmp_path / "other", seed=6)
    build(other, tmp_path / "built", head="joint")
    Retriever.create(tmp_path / "i", learned=str(folder), dense=str(folder)).close()
    with pytest.raises(MismatchError, match=r"the learned strand was built with .* gives other vectors"):
        Retriever.open(tmp_path / "i", learned=str(tmp_path / "built"))

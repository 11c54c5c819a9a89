"""The Retriever: from texts to explained hits, through real indexes with small real encoders."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plait.encoders.contract import Identity
from plait.index import LockedError, Snapshot, StoreError, database
from plait.retriever import Added, Document, IngestError, MismatchError, PlaitError, QueryError, Retriever
from plait.retriever.calibration import fitted_for

WORDS = ["bee", "honey", "winter", "snow", "garden", "flower", "rain", "summer", "tree", "leaf", "river", "stone"]


def some_documents(count, seed=0):
    rng = np.random.default_rng(seed)
    return [Document(id=f"d{i:03}", text=" ".join(rng.choice(WORDS, rng.integers(1, 12)))) for i in range(count)]


@pytest.fixture
def retriever(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "my.index", **small_encoders) as made:
        made.add(some_documents(300))
        made.commit()
        yield made


def views(hits):
    return {hit.id: (hit.score, {n: (v.score, v.normalised) for n, v in hit.strands.items()}) for hit in hits}


@pytest.mark.parametrize("fusion", ["convex", "rrf"])
@pytest.mark.parametrize("strands", ["lexical,learned,dense", "lexical,dense", "dense", "learned"])
@settings(max_examples=15)
@example(words=["winter", "stone"], depth=20)  # equal dense scores at the depth's end, once settled by FAISS
@given(words=st.lists(st.sampled_from([*WORDS, "unknown"]), min_size=1, max_size=5), depth=st.sampled_from([20, 200]))
def test_a_score_is_the_same_for_every_k(shared, words, fusion, strands, depth):
    query = " ".join(words)
    few, many, all_of_them = (
        shared.search(query, k, strands=strands, fusion=fusion, depth=depth) for k in (10, 100, 300)
    )
    assert len(few) <= 10
    for less, more in ((few, many), (many, all_of_them)):
        wide = views(more)
        assert {i: v for i, v in views(less).items() if i in wide} == {i: wide[i] for i in views(less) if i in wide}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from tests.conftest import LengthSparse, LetterDense

    folder = tmp_path_factory.mktemp("shared") / "my.index"
    with Retriever.create(folder, dense=LetterDense(), learned=LengthSparse()) as made:
        made.add(some_documents(300))
        made.commit()
        yield made


def test_every_candidate_is_scored_by_every_strand(retriever):
    for hit in retriever.search("bee honey", 50, depth=5, pipeline="none"):
        for name in ("lexical", "learned", "dense"):
            alone = {h.id: h for h in retriever.search("bee honey", 300, strands=name)}
            expected = alone[hit.id].strands[name].score if hit.id in alone else 0.0
            assert hit.strands[name].score == expected


def test_the_fused_score_is_the_weighted_mean_of_the_normalised_ones(retriever):
    weights = {"lexical": 1, "learned": 2, "dense": 5}
    hits = retriever.search("bee in winter snow", 20, weights=weights)
    for hit in hits:
        mean = sum(weights[n] * v.normalised for n, v in hit.strands.items()) / 8
        assert hit.score == pytest.approx(mean)
    order = [(h.score, h.id) for h in hits]
    assert order == sorted(order, reverse=True)
    assert [h.rank for h in hits] == list(range(1, 21))


def test_ties_go_by_id_descending(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([Document(id=i, text="same words") for i in ("b", "10", "a", "9")])
        r.commit()
        assert [h.id for h in r.search("same")] == ["b", "a", "9", "10"]
        assert [h.id for h in r.search("same", k=2)] == ["b", "a"]


def test_explain_names_terms_and_their_sum_is_the_strands_score(retriever):
    hit = retriever.search("honey bees, honey", 1, explain=True)[0]
    for name in ("lexical", "learned"):
        parts = [m for m in hit.matches if m.strand == name]
        assert sum(m.contribution for m in parts) == pytest.approx(hit.strands[name].score, rel=1e-6)
    assert {m.term for m in hit.matches if m.strand == "lexical"} <= {"honey", "bee"}
    assert retriever.search("honey", 1)[0].matches == ()


def test_a_batch_equals_single_searches_and_a_run(retriever):
    queries = ["bee", "snow in winter", "unknownword", "river stone leaf"]
    batch = retriever.search_batch(queries, 7)
    assert batch == [retriever.search(q, 7) for q in queries]
    run = retriever.run(dict(enumerate(queries)), 7)
    assert [list(hits.items()) for hits in run.values()] == [[(h.id, h.score) for h in hits] for hits in batch]


def test_unknown_words_find_nothing_and_k_may_exceed_the_corpus(retriever):
    assert retriever.search("xyzzy", strands="lexical") == []
    assert len(retriever.search("bee", 100_000)) == 300


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"query": "  "}, "the query is empty"),
        ({"query": None}, "the query is no text: None"),
        ({"query": "x", "k": 0}, "k is how many are wanted: a whole number of at least 1, not 0"),
        ({"query": "x", "k": 2.5}, "at least 1, not 2.5"),
        ({"query": "x", "depth": 0}, "depth is how many are wanted"),
        ({"query": "x", "strands": "lexical,fuzzy"}, "no strand 'fuzzy'; there are: lexical, learned, dense"),
        ({"query": "x", "strands": []}, "no strand was named"),
        ({"query": "x", "fusion": "magic"}, "no fusion 'magic'; there are: convex, rrf"),
        ({"query": "x", "fusion": 3}, "a fusion is a text, as 'convex' or 'rrf:k=20'; not 3"),
        ({"query": "x", "fusion": ""}, "no fusion ''; there are: convex"),
        ({"query": "x", "fusion": 0}, "a fusion is a text"),
        ({"query": "x", "strands": 4}, "strands are names, as 'lexical,dense'; not 4"),
        ({"query": "x", "exactness": "a"}, "exactness is a number, not 'a'"),
        ({"query": "x", "exactness": None}, "exactness is a number, not None"),
        ({"query": "x", "min_score": "a"}, "min_score is a number, not 'a'"),
        ({"query": "x", "min_probability": "0.2"}, "min_probability is a number, not '0.2'"),
        ({"query": "x", "prove": "no"}, "prove is True or False, not 'no'"),
        ({"query": "x", "explain": 1}, "explain is True or False, not 1"),
        ({"query": "x", "weights": [1]}, r"weights are numbers by strand, as .*; not \[1\]"),
        ({"query": "x", "weights": {"lexical": "a"}}, "the weight of 'lexical' is a number, not 'a'"),
        ({"query": "x", "weights": {"lexica": 1}}, "a weight is given for 'lexica'"),
        ({"query": "x", "weights": {"lexical": 0}}, "has a weight above 0"),
    ],
)
def test_a_search_that_cannot_be_answered_says_why(retriever, arguments, text):
    with pytest.raises(QueryError, match=text):
        retriever.search(**arguments)


def test_an_empty_query_in_a_batch_is_counted(retriever):
    with pytest.raises(QueryError, match="query 2 of 3 is empty"):
        retriever.search_batch(["a", "", "b"])


def test_an_empty_index_answers_with_nothing(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        assert r.search("bee") == []
        assert len(r) == 0


def test_adding_again_costs_nothing_and_changes_replace(retriever):
    documents = some_documents(300)
    assert retriever.add(documents).unchanged == 300
    changed = Document(id="d000", text="quite another text", metadata={"year": 2020})
    assert retriever.add([changed, *documents[1:5]]).added == 1
    assert "quite" not in retriever.get("d000").text  # not before the commit
    retriever.commit()
    assert retriever.get("d000") == changed
    assert retriever.search("quite another", 1)[0].metadata == {"year": 2020}
    assert len(retriever) == 300


def test_deletes_show_after_the_commit(retriever):
    best = retriever.search("honey", 1)[0].id
    assert retriever.delete([best, "nobody"]) == 1
    assert retriever.search("honey", 1)[0].id == best
    retriever.commit()
    assert best not in retriever
    assert best not in {h.id for h in retriever.search("honey", 300)}
    assert retriever.delete("d001") == 1
    retriever.rollback()
    assert "d001" in retriever


def test_the_context_manager_commits_a_good_block_and_forgets_a_broken_one(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([Document(id="kept", text="bee")])

    def broken():
        with Retriever.open(tmp_path / "i") as r:
            r.add([Document(id="lost", text="bee")])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        broken()
    with Retriever.open(tmp_path / "i") as r:
        assert [h.id for h in r.search("bee")] == ["kept"]


def test_mappings_are_documents_too_and_bad_ones_say_why(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([{"_id": "1", "text": "bee", "title": "On bees"}, {"id": "2", "text": "snow"}])
        for bad, text in [
            ({"text": "x"}, "a document takes id, text, title, metadata, parent, start, not 'text'"),
            ({"id": "x", "text": "x", "colour": 1}, "not 'id', 'text', 'colour'"),
            ("x", "a document is a Document or a mapping"),
            ({"id": "", "text": "x"}, "id"),
        ]:
            with pytest.raises(IngestError, match=text):
                r.add([bad])
        with pytest.raises(IngestError, match="the id 'a' comes twice in one call of add"):
            r.add([{"id": "a", "text": "1"}, {"id": "b", "text": "2"}, {"id": "a", "text": "3"}])
        r.commit()
        assert {"1", "2", "a", "b"} == {h.id for h in r.search("bee snow 1 2")}


def test_passages_of_a_parent_are_replaced_as_a_whole(tmp_path):
    def passages(count):
        return [Document(id=f"f#{i}", text=f"bee part {i}", parent="f", start=10 * i) for i in range(count)]

    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(passages(4))
        r.commit()
        assert r.add(passages(2), replace_parents=True).removed == 2
        r.commit()
        assert [p.id for p in r.passages("f")] == ["f#0", "f#1"]
        r.delete("f")
        r.commit()
        assert len(r) == 0


def test_a_document_that_is_cut_no_more_or_now_is_replaced_as_a_whole(tmp_path):
    """Also where both await the commit; what comes in the same call is never taken for stale."""
    cut = [Document(id=f"f#{i}", text=f"bee part {i}", parent="f", start=10 * i) for i in range(3)]
    whole, nested = Document("f", "all of it"), Document("f#0#0", "of a file called f#0", parent="f#0")
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(cut)
        r.add([nested], replace_parents=True)
        r.commit()
        assert sorted(r._snapshot.all_ids()) == ["f#0", "f#0#0", "f#1", "f#2"], "a passage is no whole document"
        r.delete("f#0#0")
        assert r.add([whole], replace_parents=True) == Added(added=1, removed=3)
        assert r.add(cut, replace_parents=True) == Added(added=3, removed=1)
        r.commit()
        assert r.add([whole]).removed == 0, "unless told"
        r.commit()
        assert sorted(r._snapshot.all_ids()) == ["f", "f#0", "f#1", "f#2"]
        assert r.add([whole, Document("g", "another")], replace_parents=True) == Added(1, 1, 3)
        r.commit()
        assert sorted(r._snapshot.all_ids()) == ["f", "g"]
        assert r.add([whole, *cut], replace_parents=True).removed == 0
        assert r.add([*cut, whole], replace_parents=True).removed == 0


def test_older_forms_go_once_all_documents_of_a_call_are_known(tmp_path):
    """Whatever the order in which they come, and however often is committed."""
    cut = [Document(id=f"f#{i}", text=f"bee part {i}", parent="f", start=10 * i) for i in range(3)]
    whole = Document("f", "all of it")
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([whole, *cut])
        r.commit()
        for documents in ([whole, *cut], [*cut, whole]):
            assert r.add(documents, replace_parents=True, commit_every=1) == Added(unchanged=4)


def test_passages_of_a_passage_that_went_stale_stay(tmp_path):
    cut = [Document(id=f"f#{i}", text=f"bee part {i}", parent="f", start=10 * i) for i in range(3)]
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([*cut, Document("f#2#0", "of a file called f#2", parent="f#2")])
        r.commit()
        assert r.add(cut[:2], replace_parents=True) == Added(unchanged=2, removed=1)
        r.commit()
        assert sorted(r._snapshot.all_ids()) == ["f#0", "f#1", "f#2#0"]


def test_whole_documents_that_are_cut_now_make_one_segment(tmp_path):
    names = [f"d{i}" for i in range(600)]
    with Retriever.create(tmp_path / "i", strands="lexical", compaction="off") as r:
        r.add([Document(name, f"whole {name}") for name in names])
        r.commit()
        passages = [Document(f"{name}#0", f"cut {name}", parent=name) for name in names]
        assert r.add(passages, replace_parents=True) == Added(added=600, removed=600)
        r.commit()
        assert len(r._snapshot.segments) == 2
        assert len(r) == 600


def test_steps_that_are_told_are_the_callers_own(tmp_path, small_encoders):
    hosts = {"step": "host", "field": "url", "hosts": {"a.example": 1.0}}
    with Retriever.create(tmp_path / "i", pipeline=[hosts], **small_encoders) as r:
        told = r.steps()
        assert told == [hosts]
        told[0]["hosts"]["b.example"] = 2.0
        told.append("mmr")
        assert r.steps() == [hosts]


def test_replaced_documents_are_counted(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        assert r.add([Document("a", "one"), Document("b", "two")]) == Added(added=2)
        assert r.add([Document("a", "ONE"), Document("b", "two"), Document("c", "three")]) == Added(2, 1, replaced=1)
        r.commit()
        assert r.add([Document("a", "1"), Document("b", "2"), Document("d", "4")]) == Added(added=3, replaced=2)


def test_encoders_that_differ_are_refused_by_name(tmp_path, small_encoders):
    Retriever.create(tmp_path / "i", **small_encoders).close()
    with pytest.raises(MismatchError, match=r"built with an encoder object, 'lengths'; pass it again"):
        Retriever.open(tmp_path / "i")
    other = type(small_encoders["dense"])()
    other.identity = Identity("letters-v2", "2", "characters", "count+l2", 0, 26)
    with pytest.raises(
        MismatchError, match=r"built with 'letters'; 'letters-v2' gives other vectors \(revision: 1 then, 2"
    ):
        Retriever.open(tmp_path / "i", learned=small_encoders["learned"], dense=other)
    Retriever.open(tmp_path / "i", **small_encoders).close()
    with pytest.raises(MismatchError, match="snowball-german"):
        Retriever.open(tmp_path / "i", lexical="german", **small_encoders)


def test_an_encoder_for_a_strand_that_is_not_there_is_refused(tmp_path, small_encoders):
    Retriever.create(tmp_path / "i", strands="lexical").close()
    told = "i has no dense strand, only lexical: no encoder can be given for it"
    with pytest.raises(MismatchError, match=told):
        Retriever.open(tmp_path / "i", dense=small_encoders["dense"])
    Retriever.open(tmp_path / "i", dense=None).close()


def test_a_second_writer_is_refused_while_readers_read(retriever, small_encoders):
    retriever.delete("d000")
    with Retriever.open(retriever.folder, **small_encoders) as other:
        assert len(other.search("bee", 5)) == 5
        with pytest.raises(LockedError, match="is being written"):
            other.add([Document(id="x", text="y")])
    retriever.rollback()


def test_readers_see_new_commits_after_refresh(retriever, small_encoders):
    with Retriever.open(retriever.folder, **small_encoders) as reader:
        retriever.add([Document(id="zz", text="bee bee bee")])
        retriever.commit()
        assert "zz" not in reader
        reader.refresh()
        assert "zz" in reader


def test_an_index_made_anew_with_other_encoders_is_not_moved_to(retriever, small_encoders):
    with Retriever.open(retriever.folder, **small_encoders) as reader:
        found = reader.search("bee honey", 5)
        retriever.close()
        shutil.rmtree(retriever.folder)
        Retriever.create(retriever.folder, strands="lexical").close()
        with pytest.raises(MismatchError, match="was made anew with other encoders; open it again"):
            reader.refresh()
        assert reader.search("bee honey", 5) == found


def test_the_process_may_work_in_another_folder_later(retriever, small_encoders, monkeypatch):
    retriever.close()
    monkeypatch.chdir(retriever.folder.parent)
    with Retriever.open(retriever.folder.name, **small_encoders) as moved:
        monkeypatch.chdir("/")
        assert len(moved.search("bee honey", 5)) == 5
        moved.add([Document(id="zz", text="bee bee bee")])
        moved.commit()
        assert moved.search("bee", 5, strands="lexical")[0].id == "zz"


def test_searches_from_threads_agree(retriever):
    expected = retriever.search("bee honey", 20)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(retriever.search("bee honey", 20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8


def test_searches_go_on_while_commits_move_the_snapshot(retriever):
    stop, errors, answered = threading.Event(), [], []

    def searching():
        while not stop.is_set():
            try:
                answered.append(len(retriever.search("bee honey", 5)))
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=searching) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(15):
        retriever.add([Document(id=f"new{number}", text="bee honey")])
        retriever.commit()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(answered) == {5}


def test_refreshes_at_the_same_time_lose_no_snapshot(retriever, monkeypatch):
    opened = []

    class Known(Snapshot):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            opened.append(self)

    monkeypatch.setattr("plait.retriever.retriever.Snapshot", Known)
    threads = [threading.Thread(target=lambda: [retriever.refresh() for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 40
    assert [snapshot for snapshot in opened if not snapshot._closed] == [retriever._snapshot]


def test_compacting_keeps_the_answers_and_removes_what_was_deleted(retriever, small_encoders):
    retriever.add([Document(id=f"e{number}", text="bee honey winter garden") for number in range(40)])
    retriever.commit()
    retriever.delete(["d000", *(f"e{number}" for number in range(7))])
    with Retriever.open(retriever.folder, **small_encoders) as other:
        retriever.commit()
        before = views(retriever.search("honey of winter", 300, strands="learned,dense"))
        seen = views(other.search("honey of winter", 300))
        assert retriever.compact() == 2
        assert views(retriever.search("honey of winter", 300, strands="learned,dense")) == before
        assert views(other.search("honey of winter", 300)) == seen  # it still reads the old segments
        facts = retriever.info()
        assert (facts["documents"], facts["deleted"], len(facts["segments"])) == (332, 0, 1)
        other.refresh()
    assert retriever.compact() == 0
    assert len(list((retriever.folder / "segments").iterdir())) == 1


def test_searches_go_on_while_segments_are_merged(retriever):
    stop, answers = threading.Event(), []
    expected = views(retriever.search("bee honey", 7, strands="dense"))

    def searching():
        while not stop.is_set():
            answers.append(views(retriever.search("bee honey", 7, strands="dense")))

    threads = [threading.Thread(target=searching) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(5):
        retriever.add([Document(id=f"new{number}", text="river")])
        retriever.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert len(answers) > 0
    assert all(answer == expected for answer in answers)


def test_the_log_begins_anew_however_long_somebody_searches(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "LOG_BYTES", 1 << 18)
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        for number in range(40):
            r.add([Document(id=f"{number}", text="honey " * 10_000)])
            r.commit()
            assert r.search("honey", 50)[0].id == max(map(str, range(number + 1)))
            assert (tmp_path / "i" / "plait.db-wal").stat().st_size < 1 << 19


def test_an_unknown_way_of_compaction_is_refused(tmp_path):
    with pytest.raises(StoreError, match="compaction is one of auto, off, not 'always'"):
        Retriever.create(tmp_path / "i", strands="lexical", compaction="always")  # type: ignore[arg-type]
    assert not (tmp_path / "i").exists()


def test_compiled_and_plain_search_agree(retriever, monkeypatch):
    from plait.index import compiled

    compiled.load_kernels()
    fast = retriever.search("bee honey snow", 50, explain=True)
    monkeypatch.setattr(compiled, "_loaded", None)
    monkeypatch.setattr("plait.index.snapshot.load_kernels", lambda: None)
    assert retriever.search("bee honey snow", 50, explain=True) == fast


def test_a_commit_every_few_documents_keeps_what_was_done(tmp_path):
    def failing():
        yield from some_documents(700)
        raise OSError("the input broke")

    r = Retriever.create(tmp_path / "i", strands="lexical")
    with pytest.raises(OSError, match="the input broke"):
        r.add(failing(), commit_every=256)
    r.close()
    with Retriever.open(tmp_path / "i") as r:
        assert len(r) == 512


def test_unusual_settings_are_refused(tmp_path):
    with pytest.raises(QueryError, match=r"BM25 takes k1 >= 0 and 0 <= b <= 1, not k1=0.9, b=2"):
        Retriever.create(tmp_path / "i", strands="lexical", b=2)
    with pytest.raises(PlaitError, match=r"no analyser for language 'klingon'; choose one of: "):
        Retriever.create(tmp_path / "i", strands="lexical", lexical="klingon")
    assert not (tmp_path / "i").exists()
    with pytest.raises(StoreError, match="there is no index at"):
        Retriever.open(tmp_path / "i")


def passage(number, text, parent="p"):
    return Document(id=f"{parent}#{number}", text=text, parent=parent, start=10 * number)


def test_what_awaits_the_commit_counts_as_stored(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add([Document("x", "version one")])
        r.commit()
        r.add([Document("x", "version two")])
        assert r.add([Document("x", "version one")]).added == 1
        r.add([passage(0, "aa"), passage(1, "bb"), passage(2, "cc")])
        assert r.add([passage(0, "aaa"), passage(1, "bbb")], replace_parents=True).removed == 1
        r.commit()
        assert r.get("x").text == "version one"
        assert [each.id for each in r.passages("p")] == ["p#0", "p#1"]
        r.add([Document("p#0", "of no parent any more")])
        assert r.delete("p") == 1
        r.commit()
        assert len(r) == 2


def test_a_wrong_argument_leaves_what_awaits_the_commit(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(some_documents(2))
        with pytest.raises(StoreError, match="deleted by their ids, which are texts, not 5"):
            r.delete(["d000", 5])
        with pytest.raises(StoreError, match="the setting 'tuned' cannot be kept"):
            r.settle(tuned=object())
        r.commit()
        assert len(r) == 2


def test_a_closed_retriever_takes_nothing(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(some_documents(1))
    for use in (lambda: r.add(some_documents(2)), r.refresh, lambda: r.search("winter"), lambda: r.get("d000")):
        with pytest.raises(StoreError, match="is closed; open it again"):
            use()
    with Retriever.open(tmp_path / "i") as r:  # nobody holds the writer's lock
        assert r.delete("d000") == 1


def test_any_number_of_hits_may_be_asked_for(retriever):
    everything = len(retriever.search("winter", 300, strands="lexical"))
    assert len(retriever.search("winter", 10**12, strands="lexical")) == everything
    assert [len(hits) for hits in retriever.search_batch(["winter", "winter"], 2**62, strands="lexical")] == [
        everything
    ] * 2


def test_a_commit_comes_as_often_as_it_was_asked_for(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        seen = []
        r.add(some_documents(25), commit_every=10, on_progress=lambda _: seen.append(len(r)))
        assert seen == [10, 20, 20]


def test_an_index_made_anew_in_the_same_place_is_read_anew(tmp_path):
    def made(years, delete):
        shutil.rmtree(tmp_path / "i", ignore_errors=True)
        with Retriever.create(tmp_path / "i", strands="lexical", fields={"year": "integer"}) as r:
            r.add([Document(f"d{at}", "snow", metadata={"year": year}) for at, year in enumerate(years)])
            r.commit()
            r.delete(delete)

    def found(filter=None):
        return sorted(hit.id for hit in r.search("snow", filter=filter))

    made([2021, 2022, 2020], "d0")
    with Retriever.open(tmp_path / "i") as r:
        assert (found(), found("year > 2020")) == (["d1", "d2"], ["d1"])
        made([2021, 2020, 2022], "d1")
        r.refresh()
        assert (found(), found("year > 2020")) == (["d0", "d2"], ["d0", "d2"])


def test_a_strand_without_an_encoder_is_told_of(tmp_path):
    with pytest.raises(QueryError, match=r"the strand 'dense' is given no encoder.*strands=\"lexical,learned\""):
        Retriever.create(tmp_path / "i", dense=None)
    with pytest.raises(QueryError, match=r"the strand 'lexical' is given no encoder: name one$"):
        Retriever.create(tmp_path / "i", strands="lexical", lexical=None)
    assert not (tmp_path / "i").exists()


def test_info_tells_what_acts(retriever):
    facts = retriever.info()
    assert facts["documents"] == 300
    assert facts["strands"] == ["lexical", "learned", "dense"]
    assert facts["weights"] == {"lexical": 0.135, "learned": 0.07, "dense": 0.795}
    assert (facts["weights_from"], facts["pipeline"]) == ("plait", "questions,feedback")
    assert facts["encoders"]["dense"]["name"] == "letters"


MAP = {"scores": [0.0, 0.5, 1.0], "probabilities": [0.1, 0.2, 0.9], "kind": "platt", "source": "us", "settings": {}}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"fusion": 3}, "a fusion is a text"),
        ({"weights": [1]}, "weights are numbers by strand"),
        ({"weights": {"lexical": 10**400}}, "that of 'lexical' is too large"),
        ({"weights": {"lexical": "a"}}, "the weight of 'lexical' is a number, not 'a'"),
        ({"calibration": 3}, "this calibration cannot be used"),
        ({"calibration": {**MAP, "scores": [0.0, 1.0]}}, r"lists of one length, not of shape \(2,\) and \(3,\)"),
        ({"calibration": {**MAP, "scores": [], "probabilities": []}}, "lists of one length"),
        ({"calibration": {**MAP, "scores": [0.0, 1.0, 0.5]}}, "scores are finite and ascend"),
        ({"calibration": {**MAP, "scores": [0.0, 1.0, float("nan")]}}, "scores are finite and ascend"),
        ({"calibration": {**MAP, "probabilities": [0.0, 1.0, 0.5]}}, "lie between 0 and 1 and never fall"),
        ({"calibration": {**MAP, "probabilities": [0.0, 1.0, 1.5]}}, "lie between 0 and 1 and never fall"),
        ({"calibration": {**MAP, "scores": ["a", "b", "c"]}}, "this calibration cannot be used: could not convert"),
        ({"calibration": {**MAP, "kind": "beta"}}, "its kind is one of isotonic, platt, not 'beta'"),
        ({"calibration": {"scores": [1.0]}}, "it lacks 'probabilities'"),
        ({"calibration": {**MAP, "floor": float("inf")}}, "its floor is a finite number, not inf"),
        ({"calibration": {**MAP, "floor": "low"}}, "this calibration cannot be used: could not convert"),
    ],
)
def test_what_cannot_be_settled_says_why(retriever, given, text):
    with pytest.raises(QueryError, match=text):
        retriever.settle(**given)


def test_the_record_of_tuned_weights_goes_with_them(retriever):
    def tuned(**given):
        retriever.settle(**given)
        retriever.commit()
        return retriever.info()["tuned"]

    weights, record = {"lexical": 0.5, "dense": 0.5}, {"source": "qrels"}
    assert tuned(weights=weights, tuned=record) == record
    assert tuned(pipeline="none") == record
    assert tuned(weights={"lexical": 1}) is None
    assert tuned(weights=weights, tuned=record) == record
    assert tuned(fusion="rrf") is None


def test_a_probability_knows_no_filter(retriever):
    facts = retriever.info()
    fitted = {name: facts[name] for name in ("fusion", "weights", "pipeline")}
    retriever.settle(calibration={**MAP, "settings": fitted})
    retriever.commit()
    assert retriever.search("bee", min_probability=0.1)[0].probability > 0.1
    assert retriever.search("bee", filter="id != 'x'")[0].probability is None
    with pytest.raises(QueryError, match=r"min_probability does not go with a filter: .*; use min_score"):
        retriever.search("bee", filter="id != 'x'", min_probability=0.1)


def test_what_is_far_from_all_documents_is_told_no_probability(retriever):
    facts = retriever.info()
    fitted = {name: facts[name] for name in ("fusion", "weights", "pipeline")}
    (plain,) = retriever.candidates(["bee honey"])
    nearest = float(plain.candidates.best[plain.column("dense")])
    for floor, told in ((nearest, True), (np.nextafter(nearest, 2), False), (None, True)):
        retriever.settle(calibration={**MAP, "settings": fitted, "floor": floor})
        retriever.commit()
        for k, depth in ((1, 1), (20, 200)):
            hits = retriever.search("bee honey", k, depth=depth)
            assert all((hit.probability is not None) is told for hit in hits)
            assert ("calibration" in hits.notes) is not told
        # Whoever asks for a probability is given nothing of which none is known.
        assert bool(retriever.search("bee honey", min_probability=0.0)) is told
        assert bool(retriever.run({"q": "bee honey"}, 5, min_probability=0.0)["q"]) is told
    assert retriever.search("bee honey", strands="lexical")[0].probability is None


def test_a_broken_calibration_of_before_is_told_and_taken_back(retriever):
    retriever.settle()
    writer = retriever._writing()
    writer.put_setting("calibration", {**MAP, "scores": [2.0], "settings": fitted_for(retriever.info())})
    retriever.commit()
    for _ in range(2):
        with pytest.raises(QueryError, match=r"this calibration cannot be used: .*plait tune --reset"):
            retriever.search("bee")
    assert retriever.search("bee", weights={"dense": 1})  # it was not fitted for these
    retriever.settle(calibration=None)
    retriever.commit()
    assert retriever.search("bee")


def test_strands_without_a_weight_are_asked_only_where_something_looks_at_them(retriever):
    alone = {hit.id: hit.score for hit in retriever.search("bee winter", 300, strands="lexical")}
    by_weight = retriever.search("bee winter", 300, weights={"lexical": 1})
    assert ({hit.id: hit.score for hit in by_weight}, by_weight.weights) == (alone, {"lexical": 1.0})
    assert retriever.run({"q": "bee winter"}, 300, weights={"lexical": 1})["q"] == alone
    for more in ({"strands": "lexical,dense"}, {"pipeline": "amplitude"}, {"fusion": "rrf"}):
        assert "dense" in retriever.search("bee winter", weights={"lexical": 1}, **more).weights
    (ranking,) = retriever.candidates(["bee winter"], weights={"lexical": 1})
    assert ranking.names == retriever.strands

"""The level of parents and the step that goes by it: by hand, against brute force, through updates and crashes."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.index import Snapshot, Writer
from plait.index.impacts import quantised
from plait.retriever import Document, LockedError, QueryError, Retriever, StoreError, grouped, parents
from plait.retriever.hierarchy import hierarchical

from tests.conftest import LengthSparse, LetterDense

WORDS = ["honey", "snow", "bees", "winter", "sea", "ships", "a", "flowering", "x"]
STEP = "parents:parents=3:share=0.4"


def passage(family, number, text, **metadata):
    return Document(id=f"{family}#{number}", text=text, parent=family, start=10 * number, metadata=metadata)


def some_passages(count=40, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        for j in range(int(rng.integers(1, 5))):
            words = rng.choice(WORDS, rng.integers(1, 8))
            found.append(passage(f"p{i:02}", j, " ".join(words), even=int(j % 2 == 0)))
    return [*found, *(Document(id=f"alone{i}", text=" ".join(WORDS[i : i + 3])) for i in range(4))]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "i"
    with Retriever.create(folder, dense=LetterDense(), learned=LengthSparse(), fields={"even": "integer"}) as made:
        made.add(some_passages())
        made.keep_parents()
        yield made


def level(retriever):
    return closing(Snapshot(retriever.folder / parents.NAME))


def contents(retriever):
    """Returns the level by parent: its passages' ids, and its vectors by strand."""
    with level(retriever) as held, closing(Snapshot(retriever.folder)) as passages:
        found = {}
        for row in held.rows(sorted(held.positions(list(held.all_ids())).values())):
            at = np.array([row.position])
            vectors = [held.dense_vectors(at).tobytes()]
            for strand in ("lexical", "learned"):
                rows, terms = held.sparse_vectors(strand, at)
                vectors.append(dict(zip(terms[rows.indices].tolist(), rows.data.tolist(), strict=True)))
            members = passages.ids(np.array(row.metadata[parents.MEMBERS]))
            found[row.id] = (members, *vectors, int(held.lengths(at)[0]))
        assert tuple(held.settings[parents.MADE_OF]) == passages.state
        return found


# The level


def test_a_parent_is_the_aggregate_of_what_is_stored_of_its_passages(shared):
    documents = some_passages()
    with closing(Snapshot(shared.folder)) as index, level(shared) as held:
        assert sorted(held.all_ids()) == sorted({d.parent or d.id for d in documents})
        for family in ("p00", "p07", "alone2"):
            own = [d for d in documents if (d.parent or d.id) == family]
            positions = np.array(sorted(index.positions([d.id for d in own]).values()))
            at = np.array([held.positions([family])[family]])
            mean = index.dense_vectors(positions).mean(axis=0)
            np.testing.assert_allclose(held.dense_vectors(at)[0], mean / np.linalg.norm(mean), atol=1e-6)
            counts, terms = index.sparse_vectors("lexical", positions)
            sums, same = held.sparse_vectors("lexical", at)
            np.testing.assert_array_equal(terms, same)
            np.testing.assert_array_equal(counts.toarray().sum(axis=0), sums.toarray()[0])
            assert held.lengths(at)[0] == index.lengths(positions).sum()


def test_learned_weights_are_those_of_aggregating_before_storing(shared):
    texts = [d.text for d in some_passages() if d.parent == "p03"]
    raw = LengthSparse().encode_documents(texts).toarray().max(axis=0)
    with level(shared) as held:
        rows, terms = held.sparse_vectors("learned", np.array([held.positions(["p03"])["p03"]]))
        expected = quantised(raw[np.flatnonzero(raw)], held.layout.learned_scale) * np.float32(
            held.layout.learned_scale
        )
    assert terms.tolist() == np.flatnonzero(raw).tolist()
    np.testing.assert_array_equal(rows.toarray()[0], expected)


def test_the_level_opens_as_an_index_of_its_own(shared, small_encoders):
    with Retriever.open(shared.folder / parents.NAME, **small_encoders) as opened:
        assert opened.search("honey bees", 1)[0].id in {d.parent or d.id for d in some_passages()}
        assert len(opened) == 44


def test_families_and_selections_of_a_snapshot(small):
    with closing(Snapshot(small.folder)) as index:
        assert index.families() == [("p0", 0), ("p1", 1), ("p1", 2)]
        assert index.families(2) == index.families_at(np.array([2, 9])) == [("p1", 2)]
        assert index.members(["p1", "p9"]) == [("p1", 1), ("p1", 2)]
        assert index.positions_in(index.selected(np.array([2, 0, 2]))).tolist() == [0, 2]
        assert index.selected(np.empty(0, np.int64)).count == 0
        with level(small) as held, pytest.raises(StoreError, match="this selection was made by another snapshot"):
            index.positions_in(held.selected(np.array([0])))
        before = index.state
    small.add([passage("p1", 1, "sea ships")])  # the same id again: one comes, one goes
    small.commit()
    with closing(Snapshot(small.folder)) as index:
        assert (before, index.state) == ((3, 3), (4, 3))


# The step


def flat(retriever, query, **options):
    return {hit.id: hit.score for hit in retriever.search(query, 1000, pipeline="none", depth=1000, **options)}


@pytest.mark.parametrize("fusion", ["convex", "rrf", "combsum:normalise=zscore"])
@pytest.mark.parametrize("strands", ["lexical,learned,dense", "dense", "lexical"])
def test_scores_are_those_of_both_levels_mixed(shared, fusion, strands):
    options = {"strands": strands, "fusion": fusion}
    whole = flat(shared, "honey in winter", **options)
    found = shared.search("honey in winter", 200, pipeline=STEP, **options)
    worth = found.notes["parents"]["scores"]
    assert len(worth) == 3
    inside = [hit for hit in found if (hit.parent or hit.id) in worth]
    assert found[: len(inside)] == inside
    members = {d.id for d in some_passages() if (d.parent or d.id) in worth}
    assert {hit.id for hit in inside} == members
    for hit in inside:
        assert hit.score == pytest.approx(0.6 * whole.get(hit.id, 0) + 0.4 * worth[hit.parent or hit.id], abs=1e-12)
    rest = [hit.id for hit in found[len(inside) :]]
    assert rest == [id for id in whole if id not in members][: len(rest)]


def test_searches_are_answered_while_the_level_follows_a_commit(tmp_path, small_encoders, monkeypatch):
    with Retriever.create(tmp_path / "i", **small_encoders) as made:
        made.add(some_passages())
        made.keep_parents()
        follow, found = parents.follow, []

        def watched(snapshot):
            found.append(made.search("sea ships", 3, pipeline="parents"))
            follow(snapshot)
            found.append(made.search("sea ships", 3, pipeline="parents"))

        monkeypatch.setattr(parents, "follow", watched)
        made.add([passage("new", 0, "sea ships")])
        made.commit()
        assert found[0] == found[1] != made.search("sea ships", 3, pipeline="parents")
        assert len(found[0]) == 3


def test_no_refresh_lands_between_a_commit_and_its_level(small, monkeypatch):
    """Another thread that looks for commits, as a server does, waits until the level is there as well."""
    commit, found, free = Writer.commit, [], []

    def look():
        small.refresh()
        found.append([hit.id for hit in small.search("winter", 1, pipeline=STEP)])

    def try_lock():
        free.append(small._refreshing.acquire(blocking=False))
        if free[-1]:
            small._refreshing.release()

    looking = threading.Thread(target=look)

    def watched(self):
        commit(self)
        if self.folder.name != parents.NAME and not found:
            probe = threading.Thread(target=try_lock)
            probe.start()
            probe.join()
            looking.start()
            looking.join(0.2)

    monkeypatch.setattr(Writer, "commit", watched)
    small.add([passage("p2", 0, "winter")])
    small.commit()
    looking.join()
    assert free == [False], "however slow the other thread is"
    assert found == [["p2#0"]]


def test_parents_are_ranked_as_by_hand(shared):
    found = shared.search("sea ships", 5, strands="dense", pipeline="parents:parents=44")
    (query,) = LetterDense().encode_queries(["sea ships"])
    families = {}
    for d in some_passages():
        families.setdefault(d.parent or d.id, []).append(d.text)
    for name, score in found.notes["parents"]["scores"].items():
        mean = LetterDense().encode_documents(families[name]).mean(axis=0)
        assert score == pytest.approx((float(mean @ query) / np.linalg.norm(mean) + 1) / (best(families, query) + 1))
    assert list(found.notes["parents"]["scores"].values()) == sorted(
        found.notes["parents"]["scores"].values(), reverse=True
    )


def best(families, query):
    means = [LetterDense().encode_documents(texts).mean(axis=0) for texts in families.values()]
    return max(float(mean @ query) / np.linalg.norm(mean) for mean in means)


@settings(max_examples=6)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), moved=st.booleans(), each=st.integers(0, 2))
def test_a_score_is_the_same_to_the_last_bit_for_every_k_and_depth(shared, words, moved, each):
    query, steps = " ".join(words), [*(["feedback"] if moved else []), f"{STEP}:each={each}"]
    whole = {hit.id: hit.score for hit in shared.search(query, 300, pipeline=steps, depth=300)}
    inside = sum(score >= min_inside(shared, query, steps) for score in whole.values())
    for k, depth in ((1, 1), (10, 1), (7, 20), (300, 200)):
        found = {hit.id: hit.score for hit in shared.search(query, k, pipeline=steps, depth=depth)}
        assert found == {id: whole[id] for id in found}
        assert list(found)[:inside] == list(whole)[: min(k, inside)]


def min_inside(retriever, query, steps):
    """Returns the score of the last passage of the best parents: those below have another scale."""
    found = retriever.search(query, 300, pipeline=steps)
    worth, each = found.notes["parents"]["scores"], int(steps[-1].rpartition("=")[2])
    counts = {name: sum((hit.parent or hit.id) == name for hit in found) for name in worth}
    return found[sum(min(each or count, count) for count in counts.values()) - 1].score


def test_passages_that_nobody_proposed_are_found(shared):
    found = shared.search("flowering", 50, strands="dense", depth=1, pipeline="parents:parents=2")
    members = {d.id for d in some_passages() if (d.parent or d.id) in found.notes["parents"]["scores"]}
    assert {hit.id for hit in found} >= members
    assert len(members) > 2


def test_a_filter_chooses_passages_and_with_them_parents(shared):
    options = {"filter": "even = 0", "pipeline": "parents:parents=5"}
    found = shared.search("snow bees", 200, **options)
    assert {hit.metadata["even"] for hit in found} == {0}
    with_one = {d.parent for d in some_passages() if d.metadata.get("even") == 0}
    assert set(found.notes["parents"]["scores"]) <= with_one
    assert len(found.notes["parents"]["scores"]) == 5
    every = shared.search("snow bees", 200, pipeline="parents:parents=44").notes["parents"]["scores"]
    assert list(found.notes["parents"]["scores"]) == [name for name in every if name in with_one][:5]
    assert shared.search("snow", filter="even = 7", pipeline=STEP) == []


def test_only_so_many_of_each_parent_come_first(shared):
    found = shared.search("honey", 100, pipeline="parents:parents=6:each=1:share=0.5")
    plain = shared.search("honey", 100, pipeline="parents:parents=6:share=0.5")
    heads = [hit.parent or hit.id for hit in found[:6]]
    assert sorted(heads) == sorted(found.notes["parents"]["scores"])
    best = {}
    for hit in plain:
        best.setdefault(hit.parent or hit.id, (hit.id, hit.score))
    assert [(hit.id, hit.score) for hit in found[:6]] == [best[name] for name in heads]


def test_a_run_and_a_batch_give_what_a_search_gives(shared):
    found = shared.search("honey snow", 9, pipeline=STEP)
    assert shared.run({"q": "honey snow"}, 9, pipeline=STEP) == {"q": {hit.id: hit.score for hit in found}}
    assert shared.search_batch(["honey snow"] * 2, 9, pipeline=STEP) == [found, found]


ARTICLES = {
    "Amsterdam": [
        "Amsterdam is the capital of the Netherlands, and lies on the river Amstel.",
        "Its canals were dug in the seventeenth century, when merchants needed room for their houses.",
        "The stock exchange of Amsterdam is the oldest in the world.",
    ],
    "Birmingham": [
        "Birmingham is a city in the English Midlands.",
        "Its canals were dug to carry coal to the factories, and are longer than those of Venice.",
    ],
    "Cheese": ["Cheese is made of milk.", "Gouda is sold at markets; that of Amsterdam is small."],
}


def test_a_passage_that_does_not_name_its_subject_is_found_by_its_parent(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as r:
        r.add(passage(name, i, text) for name, texts in ARTICLES.items() for i, text in enumerate(texts))
        r.keep_parents()
        before = [hit.id for hit in r.search("canals of Amsterdam", 4, pipeline="none")]
        after = r.search("canals of Amsterdam", 4, pipeline="parents:share=0.5")
        assert before.index("Amsterdam#1") > 0
        assert after[0].id == "Amsterdam#1"
        first, *_ = grouped(after)
        assert (first.parent, first.score) == ("Amsterdam", after.notes["parents"]["scores"]["Amsterdam"])


def test_hits_by_parent(shared):
    found = shared.search("honey", 30, pipeline=STEP)
    groups = grouped(found)
    assert [hit for group in groups for hit in group.hits if group == groups[0]] == [
        hit for hit in found if (hit.parent or hit.id) == groups[0].parent
    ]
    assert sum(len(group.hits) for group in groups) == len(found)
    assert max(len(group.hits) for group in grouped(found, each=1)) == 1
    assert [group.score is None for group in groups[:4]] == [False, False, False, True]
    assert grouped(shared.search("honey", 3, pipeline="none"))[0].score is None


# Updates

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "upsert", "delete", "delete parent", "commit", "compact"]),
        st.integers(0, 3), st.integers(0, 2), st.sampled_from(WORDS),
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=12)
@given(operations=OPERATIONS)
def test_after_any_updates_the_level_is_that_of_a_fresh_one(tmp_path_factory, operations):
    folder = tmp_path_factory.mktemp("updates")
    with Retriever.create(folder / "i", dense=LetterDense(), learned=LengthSparse()) as r:
        r.add([passage("p0", 0, "honey honey"), passage("p1", 0, "snow bees")])
        r.keep_parents()
        for kind, family, number, word in operations:
            ACTIONS[kind](r, f"p{family}", number, word)
        r.commit()
        found = contents(r)
        with closing(Snapshot(r.folder)) as snapshot:
            (r.folder / parents.NAME).rename(folder / "old")
            parents.keep(snapshot)
        assert found == contents(r)


ACTIONS = {
    "add": lambda r, family, number, word: r.add([passage(family, number, word)]),
    "upsert": lambda r, family, number, word: r.add([passage(family, 0, f"{word} sea"), Document("free", word)]),
    "delete": lambda r, family, number, word: r.delete([f"{family}#{number}"]),
    "delete parent": lambda r, family, number, word: r.delete([family]),
    "commit": lambda r, family, number, word: r.commit(),
    "compact": lambda r, family, number, word: r.compact(),
}


@pytest.fixture
def small(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([passage("p0", 0, "honey"), passage("p1", 0, "snow bees"), passage("p1", 1, "sea")])
        r.keep_parents()
        yield r


def test_additions_touch_the_parents_of_what_is_new_alone(small, monkeypatch):
    written = []
    write = parents._write
    monkeypatch.setattr(
        parents, "_write", lambda snapshot, changes: written.append(changes) or write(snapshot, changes)
    )
    small.add([passage("p1", 2, "ships"), Document(id="free", text="x")])
    small.commit()
    small.commit()
    assert [(sorted(changes.changed), changes.gone) for changes in written] == [(["free", "p1"], [])]
    small.delete(["p0"])
    small.commit()
    assert [(sorted(changes.changed), changes.gone) for changes in written[1:]] == [([], ["p0"])]


def test_other_writers_that_change_no_document_leave_it_right(small):
    small.settle(weights={"lexical": 1.0})
    small.commit()
    small.close()
    with closing(Writer(small.folder)) as writer:
        writer.compact(anew=True)
    encoders = {"dense": LetterDense(), "learned": LengthSparse()}
    with Retriever.open(small.folder, **encoders) as again:
        assert again.search("honey", 1, pipeline=STEP)[0].id == "p0#0"


def test_a_commit_cut_short_is_refused_and_made_good(small, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    small.add([passage("p2", 0, "winter")])
    with monkeypatch.context() as patched:
        patched.setattr(parents, "_write", dies)
        with pytest.raises(KeyboardInterrupt):
            small.commit()
    assert small.search("winter", 1, pipeline="none")[0].id == "p2#0"  # the passages are safe
    with pytest.raises(
        QueryError, match="is not of the passages that are searched: a commit is going on, was cut short"
    ):
        small.search("winter", 1, pipeline=STEP)
    small.keep_parents()
    assert small.search("winter", 1, pipeline=STEP)[0].id == "p2#0"
    assert set(contents(small)) == {"p0", "p1", "p2"}


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from plait.index import Writer
from plait.retriever import Document, Retriever
from tests.conftest import LengthSparse, LetterDense
add = Writer.add
def dying(self, *given, **options):
    add(self, *given, **options)
    if self.folder.name == "parents":
        os._exit(9)
Writer.add = dying
r = Retriever.open({folder!r}, dense=LetterDense(), learned=LengthSparse())
r.add([Document(id="p2#0", text="winter", parent="p2")])
r.commit()
"""


def test_a_killed_process_leaves_the_level_of_before_which_is_refused(small, small_encoders, pytestconfig):
    small.close()
    code = KILLED.format(root=str(pytestconfig.rootpath), folder=str(small.folder))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with Retriever.open(small.folder, **small_encoders) as again:
        assert "p2#0" in again
        with level(again) as held:
            assert sorted(held.all_ids()) == ["p0", "p1"]
        with pytest.raises(QueryError, match="was cut short"):
            again.search("winter", pipeline=STEP)
        again.keep_parents()
        assert again.search("winter", 1, pipeline=STEP)[0].id == "p2#0"


def test_the_next_commit_catches_up_too(small, monkeypatch):
    small.add([passage("p2", 0, "winter")])
    with monkeypatch.context() as patched:
        patched.setattr(parents, "follow", lambda snapshot: None)
        small.commit()
    small.add([passage("p3", 0, "flowering")])
    small.commit()
    assert set(contents(small)) == {"p0", "p1", "p2", "p3"}


def test_a_level_that_cannot_be_written_loses_no_document(small):
    small.add([passage("p2", 0, "winter")])
    with closing(Writer(small.folder / parents.NAME)):
        with pytest.raises(
            StoreError, match="the documents are committed, but the level of parents is behind: "
        ) as told:
            small.commit()
        assert isinstance(told.value.__cause__, LockedError)
    assert "p2#0" in small
    small.keep_parents()
    assert set(contents(small)) == {"p0", "p1", "p2"}


def test_who_opened_before_the_newest_commit_is_told_to_refresh(small, small_encoders):
    with (
        Retriever.open(small.folder, **small_encoders) as early,
        Retriever.open(small.folder, **small_encoders) as late,
    ):
        assert early.search("honey", 1, pipeline=STEP)[0].id == "p0#0"
        small.add([passage("p2", 0, "winter winter")])
        small.commit()
        assert early.search("winter", 9, pipeline="parents:parents=9").notes["parents"]["scores"].keys() == {"p0", "p1"}
        with pytest.raises(QueryError, match=r"open it again \(Retriever.refresh\)"):
            late.search("honey", 1, pipeline=STEP)
        late.refresh()
        assert late.search("winter", 1, pipeline=STEP)[0].id == "p2#0"


def test_an_empty_index_and_the_first_learned_weight(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.keep_parents()
        assert r.search("honey", pipeline=STEP) == []
        r.add([passage("p0", 0, "!"), passage("p0", 1, "honey")])
        r.commit()
        assert [hit.id for hit in r.search("honey", pipeline=STEP)] == ["p0#1", "p0#0"]
        with level(r) as held, closing(Snapshot(r.folder)) as index:
            assert held.layout.learned_scale == index.layout.learned_scale > 0


def test_the_level_follows_where_weights_do_not_fit_the_first_ones(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([passage("p0", 0, "a"), passage("p1", 0, "b c")])
        r.keep_parents()
        first = r._snapshot.layout.learned_scale
        r.add([passage("p0", 1, "winterhoneybees " * 3), passage("p2", 0, "snowflakesmelting")])
        r.commit()
        found = contents(r)
        with level(r) as held, closing(Snapshot(r.folder)) as index:
            assert held.layout.learned_scale == index.layout.learned_scale > first
            (r.folder / parents.NAME).rename(tmp_path / "old")
            parents.keep(index)
        assert found == contents(r)


def test_one_parent_with_more_passages_than_fit_at_once(tmp_path, small_encoders, monkeypatch):
    monkeypatch.setattr(parents, "AT_ONCE", 3)
    with Retriever.create(tmp_path / "i", **small_encoders) as r:
        r.add([passage("p0", i, WORDS[i]) for i in range(7)] + [passage("p1", i, "x") for i in range(2)])
        r.keep_parents()
        assert {name: len(found[0]) for name, found in contents(r).items()} == {"p0": 7, "p1": 2}


# Errors and pipelines


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("parents:share=1.5", "parents takes share from 0 to 1, not 1.5"),
        ("parents:parents=0", "parents takes parents of at least 1, not 0"),
        ("parents:each=-1", "parents takes each of at least 0, not -1"),
        (
            "mmr,parents",
            "parents comes before steps that give scores of their own, and after feedback, questions and adapt",
        ),
        ("parents:depth=3", "the step 'parents' has no option 'depth'; its options are: each, parents, share"),
    ],
)
def test_a_step_that_cannot_be_taken_says_why(shared, step, text):
    with pytest.raises(QueryError, match=text):
        shared.search("honey", pipeline=step)


def test_an_index_without_the_level_says_how_to_make_it(tmp_path, small_encoders):
    message = r"keeps no level of parents: make one with `plait index ... --parents`"
    with Retriever.create(tmp_path / "i", **small_encoders) as r, pytest.raises(QueryError, match=message):
        r.search("honey", pipeline="parents")


def test_a_mixed_score_cannot_be_proven(shared):
    with pytest.raises(QueryError, match="scores of a reranking step cannot be proven"):
        shared.search("honey", pipeline="parents", prove=True)


def test_a_strand_that_the_index_does_not_hold_is_named(shared):
    class Elsewhere:
        name = "lexical"

    def without_it(ranking):
        lexical, *others = ranking.search.strands
        assert lexical.name == "lexical"
        return replace(ranking, search=replace(ranking.search, strands=(Elsewhere(), *others)))

    with pytest.raises(QueryError, match="vectors are in the index; lexical are elsewhere: name the strands to search"):
        shared.search("honey", pipeline=[without_it, "parents"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", ["parents"]),
        ("feedback,mmr:trade=0.5", ["feedback", "parents", "mmr:trade=0.5"]),
        ("mmr", ["parents", "mmr"]),
        ("adapt,feedback:documents=3", ["adapt", "feedback:documents=3", "parents"]),
        (["feedback", {"step": "parents", "share": 0.1}], ["feedback", {"step": "parents", "share": 0.1}]),
        ([{"step": "feedback"}, len], [{"step": "feedback"}, "parents", len]),
    ],
    ids=str,
)  # fmt: skip
def test_the_step_goes_behind_those_that_move_the_query(given, expected):
    assert hierarchical(given) == expected

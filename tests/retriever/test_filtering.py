"""Filters through the Retriever: k matching hits whenever k exist, in every strand, before and after changes."""

from __future__ import annotations

import numpy as np
import pytest
from plait.retriever import Document, FilterError, IngestError, LockedError, PlaitError, Retriever, StoreError

WORDS = ["bee", "honey", "winter", "snow", "garden", "flower", "rain", "summer", "tree", "leaf", "river", "stone"]
FIELDS = {"year": "integer", "tags": "text[]", "peer": "boolean"}
EVERY = {
    "TRUE": lambda d: True,
    "year >= 2000": lambda d: d.metadata["year"] >= 2000,
    "year < 2005": lambda d: d.metadata["year"] < 2005,
    "year = 2003 AND peer": lambda d: d.metadata["year"] == 2003 and d.metadata.get("peer") is True,
    "peer IS NULL OR 'b' IN tags": lambda d: "peer" not in d.metadata or "b" in d.metadata["tags"],
    "NOT 'a' IN tags AND NOT peer": lambda d: "a" not in d.metadata["tags"] and d.metadata.get("peer") is False,
    "id IN ('d007', 'd008', 'd777')": lambda d: d.id in ("d007", "d008"),
    "title = 'T3'": lambda d: d.title == "T3",
    "year > 3000": lambda d: False,
}


def some_documents(count):
    rng = np.random.default_rng(0)
    return [
        Document(
            id=f"d{i:03}",
            title=f"T{i % 50}",
            text=" ".join(rng.choice(WORDS, rng.integers(1, 12))),
            metadata={
                "year": 1990 + i % 20,
                "tags": [tag for n, tag in enumerate("abc") if i % (n + 2) == 0],
                **({"peer": i % 3 == 0} if i % 5 else {}),
            },
        )
        for i in range(count)
    ]


@pytest.fixture
def retriever(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "my.index", fields=FIELDS, **small_encoders) as made:
        for part in range(0, 300, 100):
            made.add(some_documents(300)[part : part + 100])
            made.commit()
        yield made


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("strands", ["lexical", "learned", "dense", "lexical,learned,dense"])
def test_k_matching_hits_come_whenever_there_are_k(retriever, strands, changed):
    living = {d.id: d for d in some_documents(300)}
    if changed:
        dead = [f"d{i:03}" for i in range(0, 300, 4)]
        retriever.delete(dead)
        newer = Document(id="d007", title="T3", text="bee honey", metadata={"year": 2003, "tags": ["a"], "peer": True})
        retriever.add([newer])
        retriever.commit()
        living = {id: d for id, d in living.items() if id not in dead} | {"d007": newer}
    # Without steps: feedback comes from the documents that match, so that another filter moves the query elsewhere.
    whole = retriever.search("bee in the winter garden", 300, strands=strands, depth=300, pipeline="none")
    for expression, test in EVERY.items():
        allowed = [hit.id for hit in whole if test(living[hit.id])]
        for k in (1, 7, 300):
            hits = retriever.search("bee in the winter garden", k, strands=strands, filter=expression)
            assert len(hits) == min(k, len(allowed)), expression
            assert {hit.id for hit in hits} <= set(allowed)
            if "," not in strands:  # a strand alone: the whole ranking, without what does not match
                assert [hit.id for hit in hits] == allowed[:k]
        known = {hit.id: {name: view.score for name, view in hit.strands.items()} for hit in whole}
        hits = retriever.search("bee in the winter garden", 300, strands=strands, filter=expression, pipeline="none")
        assert {h.id: {n: v.score for n, v in h.strands.items()} for h in hits} == {id: known[id] for id in allowed}


@pytest.mark.parametrize("expression", [None, "year < 2005", "year = 2003 AND peer"])
@pytest.mark.parametrize("query", ["garden", "honey of summer", "xyzzy"])
def test_statistics_are_of_all_documents_that_may_be_found(retriever, query, expression):
    """A document without a query term has a score, too: 0. Fewer than a window match, and fewer than it are there."""
    (ranking,) = retriever.candidates([query], fusion="convex:normalise=zscore", filter=expression)
    search, raw = ranking.search, ranking.candidates.scores
    every = np.array([EVERY.get(expression, EVERY["TRUE"])(document) for document in some_documents(300)])
    positions = np.arange(300)[every]
    for column, (strand, asked) in enumerate(zip(search.strands, ranking.queries, strict=True)):
        scores = strand.scores(search.snapshot, asked, positions)
        deviation = scores.std() or np.inf
        assert ranking.values[:, column] == pytest.approx((raw[:, column] - scores.mean()) / deviation, abs=1e-6)


@pytest.mark.parametrize("normalise", ["zscore", "dbsf", "minmax"])
def test_the_only_match_is_ahead_of_what_does_not_match(retriever, normalise):
    retriever.add([Document(id="only", text="platypus")])
    retriever.commit()
    hits = retriever.search("platypus", 301, strands="lexical,dense", fusion=f"convex:normalise={normalise}")
    values = {hit.id: hit.strands["lexical"].normalised for hit in hits}
    assert values.pop("only") > max(values.values())


@pytest.mark.parametrize("fusion", ["convex", "rrf", "convex:normalise=zscore", "convex:normalise=minmax"])
def test_a_filtered_score_is_the_same_for_every_k(retriever, fusion):
    few, many = (
        retriever.search("honey of summer", k, fusion=fusion, filter="year < 2000", explain=True) for k in (5, 60)
    )
    assert len(many) == 60
    assert [(h.id, h.score) for h in few] == [(h.id, h.score) for h in many[:5]]
    assert few[0].matches == many[0].matches


def test_a_batch_and_a_run_are_filtered_alike(retriever):
    queries, expression = ["bee", "snow in winter", "unknownword"], "'b' IN tags"
    batch = retriever.search_batch(queries, 7, filter=expression)
    assert batch == [retriever.search(query, 7, filter=expression) for query in queries]
    run = retriever.run(dict(enumerate(queries)), 7, filter=expression)
    assert [list(hits.items()) for hits in run.values()] == [[(h.id, h.score) for h in hits] for hits in batch]
    assert all("b" in hit.metadata["tags"] for hits in batch for hit in hits)
    assert all(batch)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            "yaer = 1",
            r"filter, character 1, at 'yaer = 1': there is no column 'yaer'; declared: year \(integer\), tags",
        ),
        ("", "the filter is empty; leave it out to search everything"),
        ("year = 2000 OR", "filter, character 15, at its end: expected a condition"),
        ("year = '2000'; DELETE FROM document", "this character means nothing here"),
        ({"year": 2000}, "a filter is a text such as"),
        (True, "a filter is a text such as"),
    ],
)
def test_a_filter_that_cannot_be_answered_says_why(retriever, given, text):
    for ask in (
        lambda: retriever.search("bee", filter=given),
        lambda: retriever.search_batch(["bee"], filter=given),
        lambda: retriever.run({"q": "bee"}, filter=given),
    ):
        with pytest.raises(FilterError, match=text):
            ask()
    assert FilterError in PlaitError
    assert len(retriever) == 300


def test_fields_are_declared_dropped_and_told(tmp_path, small_encoders):
    with Retriever.create(tmp_path / "i", fields={"year": "integer"}, **small_encoders) as r:
        r.add(
            [Document(id=str(y), text="bee", metadata={"year": y, "lang": "en" if y % 2 else "de"}) for y in range(9)]
        )
        r.commit()
        assert r.fields == r.info()["fields"] == {"year": "integer"}
        r.declare("lang", "text")
        with pytest.raises(FilterError, match="there is no column 'lang'"):  # not before the commit
            r.search("bee", filter="lang = 'en'")
        r.commit()
        assert r.fields == {"year": "integer", "lang": "text"}
        assert {h.id for h in r.search("bee", filter="lang = 'en' AND year > 3")} == {"5", "7"}
        with Retriever.open(tmp_path / "i", **small_encoders) as reader:
            r.undeclare("year")
            r.commit()
            assert len(reader.search("bee", filter="year > 3")) == 5
            with pytest.raises(LockedError):
                reader.declare("year", "integer")
            reader.refresh()
            with pytest.raises(FilterError, match="there is no column 'year'"):
                reader.search("bee", filter="year > 3")
        with pytest.raises(StoreError, match="document '0': 'year' is declared date, and 0 does not fit"):
            r.declare("year", "date")
        assert r.get("3").metadata == {"year": 3, "lang": "en"}


def test_strings_of_tables_are_read_as_what_is_declared(tmp_path):
    fields = {"year": "integer", "price": "number", "open": "boolean", "day": "date", "tags": "text[]"}
    with Retriever.create(tmp_path / "i", strands="lexical", fields=fields) as r:
        row = {"year": "2021", "price": "1.50", "open": "True", "day": "2021-03-04", "tags": "a b"}
        r.add(
            [
                Document(id="full", text="bee", metadata=row),
                Document(id="empty", text="bee", metadata=dict.fromkeys(row, "")),
            ]
        )
        r.commit()
        for expression in ("year = 2021", "price < 2", "open", "day < '2021-03-04T01:00'", "'a b' IN tags"):
            assert [h.id for h in r.search("bee", filter=expression)] == ["full"], expression
        assert [h.id for h in r.search("bee", filter="year IS NULL AND open IS NULL AND tags IS NULL")] == ["empty"]
        assert r.get("full").metadata == row


def test_a_document_that_does_not_fit_is_an_ingest_error(tmp_path):
    good = [Document(id=f"g{i}", text="bee", metadata={"year": i}) for i in range(3)]
    bad = Document(id="bad", text="bee", metadata={"year": {"from": 1999}})
    text = r"document 'bad': 'year' is declared integer, and \{'from': 1999\} does not fit; expected a whole number"
    with Retriever.create(tmp_path / "i", strands="lexical", fields={"year": "integer"}) as r:
        with pytest.raises(IngestError, match=text):
            r.add([*good[:2], bad, good[2]])
        r.commit()
        assert len(r) == 2  # what came before it is kept
        told = []
        assert r.add([bad, *good], on_bad=told.append).added == 1
        r.commit()
        assert [type(error) for error in told] == [IngestError]
        assert str(told[0]).startswith("document 'bad': 'year' is declared integer")
        assert len(r) == 3

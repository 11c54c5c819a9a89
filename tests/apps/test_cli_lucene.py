"""Lucene's strands on the command line: --lucene and --lucene-impact of index, search, eval, reproduce and tune."""

from __future__ import annotations

import json

import pytest

from ..lucene_indexes import needs_lucene
from .conftest import TEXTS, jsonl


def test_a_strand_of_lucene_needs_a_lucene_index(plait, index, corpus, tmp_path):
    said = plait("search", index, "snow", "--strands", "lucene,lexical", code=1)
    assert said.err == (
        "error: this index was made without the strand 'lucene'; it has: lexical; "
        "name a Lucene index for it: --lucene PATH\n"
    )
    said = plait("index", corpus, "-o", tmp_path / "new", "--strands", "lucene,lexical", code=1)
    assert "error: the strand 'lucene' needs a Lucene index: name its folder with --lucene" in said.err
    said = plait("search", index, "snow", "--lucene", tmp_path / "nowhere", code=1)
    assert "nowhere: there is no Lucene index; give the folder that holds its file segments_N" in said.err
    said = plait("search", index, "snow", "--lucene", f"{tmp_path}:k2=3", code=1)
    assert "the strand lucene has no option 'k2'; its options are: analyzer, b, exact_lengths, k1" in said.err


def test_with_several_collections_each_has_a_lucene_index(plait, tmp_path):
    for name in ("one", "two"):
        beir(tmp_path / name)
    said = plait("eval", tmp_path / "one", tmp_path / "two", "--lucene", "x", "--strands", "lucene", code=1)
    assert "with several collections each has a Lucene index: --lucene 'indexes/{collection}'" in said.err


def beir(folder):
    """Makes a BEIR folder of the three texts and five queries."""
    jsonl(folder / "corpus.jsonl", [{"_id": id, "title": "", "text": text} for id, text in TEXTS.items()])
    asked = (("melting snow", "snow"), ("spring", "snow"), ("nectar", "bees"), ("flowers", "bees"), ("wine", "ships"))
    jsonl(folder / "queries.jsonl", [{"_id": f"q{i}", "text": text} for i, (text, _) in enumerate(asked)])
    (folder / "qrels").mkdir()
    rows = "".join(f"q{i}\t{id}\t1\n" for i, (_, id) in enumerate(asked))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


@pytest.fixture(scope="module")
def lucene(tmp_path_factory):
    needs_lucene()
    from plait.index.lucene_writer import write_impacts, write_texts

    place = tmp_path_factory.mktemp("lucene")
    write_texts(place / "texts", TEXTS.items())
    write_impacts(place / "impacts", ((id, {"snow": 9, id: 200}) for id in TEXTS))
    return place


@pytest.mark.lucene
class TestWithJava:
    def test_an_index_that_is_there_is_searched_with_lucene(self, plait, index, lucene):
        words = ("--strands", "lucene,lexical", "--lucene", lucene / "texts", "--explain", "--json")
        hits = plait("search", index, "winter honey", *words).json["hits"]
        assert [hit["id"] for hit in hits] == ["ships", "snow", "bees"]
        assert list(hits[0]["strands"]) == ["lexical", "lucene"]
        terms = {match["term"] for match in hits[0]["matches"] if match["strand"] == "lucene"}
        assert terms == {"winter", "honei"}  # Porter's stems

    def test_an_index_made_with_lucene_remembers_it(self, plait, corpus, lucene, tmp_path):
        out = tmp_path / "hybrid.index"
        plait("index", corpus, "-o", out, "--strands", "lucene,lexical", "--lucene", f"{lucene / 'texts'}:k1=1.2")
        facts = plait("info", out, "--json").json
        assert facts["strands"] == ["lexical", "lucene"]
        assert facts["encoders"]["lucene"]["activation"] == "bm25:k1=1.2:b=0.4"
        assert "lucene encoder" in plait("info", out).out
        assert plait("search", out, "honey", "--strands", "lucene", "--json").json["hits"][0]["id"] in ("bees", "ships")
        again = plait("index", corpus, "-o", out, "--strands", "lucene,lexical", "--json")
        assert again.json["added"] == 0

    def test_terms_that_are_weighed_already(self, plait, index, lucene):
        words = ("--strands", "lucene-impact", "--lucene-impact", f"{lucene / 'impacts'}:encoder=tokens", "--json")
        hits = plait("search", index, "snow^2 bees^3", *words).json["hits"]
        scores = {hit["id"]: hit["strands"]["lucene-impact"]["score"] for hit in hits}
        assert scores == {"bees": 618, "snow": 400, "ships": 18}

    def test_lucene_is_evaluated_tuned_and_reproduced_like_any_strand(self, plait, lucene, tmp_path):
        data, card = beir(tmp_path / "data"), tmp_path / "card.json"
        named = ("--strands", "lucene,lexical", "--lucene", lucene / "texts")
        said = plait("eval", data, "--index", tmp_path / "e.index", *named, "--card", card, "--json").json
        systems = said["collections"][0]["systems"]
        assert [system["name"] for system in systems] == ["lexical", "lucene", "fused"]
        assert all(system["means"]["nDCG@10"] == 1.0 for system in systems)
        assert "texts" not in json.dumps(said["collections"][0]["settings"].get("path", ""))
        again = plait("reproduce", card, "--data", data, "--lucene", lucene / "texts")
        values = 3 * 5 * len(said["measures"])
        assert f"reproduced: of {values} values {values} are equal" in again.out
        tuned = plait("tune", tmp_path / "e.index", "--data", data, "--lucene", lucene / "texts", "--dry-run", "--json")
        assert "lucene" in json.dumps(tuned.json)

    def test_every_collection_finds_its_own_lucene_index(self, plait, lucene, tmp_path):
        (tmp_path / "lucene").mkdir()
        for name in ("one", "two"):
            beir(tmp_path / name)
            (tmp_path / "lucene" / name).symlink_to(lucene / "texts")
        given = ("--lucene", tmp_path / "lucene" / "{collection}", "--strands", "lucene", "--json")
        said = plait("eval", tmp_path / "one", tmp_path / "two", *given).json
        assert [part["systems"][0]["means"]["nDCG@10"] for part in said["collections"]] == [1.0, 1.0]

"""`plait search`: one query for people and for machines, many as a TREC run."""

from __future__ import annotations

import pytest

from .conftest import jsonl


def test_hits_as_people_read_them(plait, index):
    said = plait("search", index, "winter honey")
    assert said.err == ""
    heads = [line for line in said.out.splitlines() if not line.startswith("    ")]
    assert [line.split()[::2] for line in heads] == [["1", "ships"], ["2", "snow"], ["3", "bees"]]  # a tie: by id
    assert heads[0].split()[1] == "0.721"  # of what the words of the query could score
    assert "    Ships cross the winter sea, loaded with honey and wine.\n" in said.out


def test_k_and_the_score_that_does_not_depend_on_it(plait, index):
    hits = {k: plait("search", index, "winter honey", "-k", k, "--json").json["hits"] for k in (1, 2, 1000)}
    assert [len(found) for found in hits.values()] == [1, 2, 3]
    assert hits[1000][:2] == hits[2]
    assert hits[2][:1] == hits[1]


def test_explain_shows_terms_that_add_up(plait, index):
    assert "    lexical: " not in plait("search", index, "winter honey").out
    assert "    lexical: winter " in plait("search", index, "the winter", "--explain").out
    (hit, *_) = plait("search", index, "winter honey", "--explain", "--json").json["hits"]
    assert sorted(match["term"] for match in hit["matches"]) == ["honey", "winter"]
    assert sum(match["contribution"] for match in hit["matches"]) == pytest.approx(hit["strands"]["lexical"]["score"])


def test_a_query_of_unknown_words_finds_nothing_and_is_no_error(plait, index):
    assert plait("search", index, "xylophone") == ("nothing found\n", "")
    assert plait("search", index, "xylophone", "--json").json == {"query": "xylophone", "hits": []}
    assert plait("search", index, "!?").out == "nothing found\n"


def test_a_query_may_begin_with_a_dash(plait, index):
    assert plait("search", index, "--json", "--", "-winter").json["query"] == "-winter"
    said = plait("search", index, "-winter", code=2)
    assert "No such option: -w (put -- before an argument that begins with a dash)" in said.err
    assert "dash" not in plait("search", index, "x", "--explian", code=2).err


def test_an_index_without_documents(plait, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    plait("index", tmp_path / "empty.jsonl", "--out", tmp_path / "i", "--strands", "lexical")
    assert plait("search", tmp_path / "i", "anything").out == "nothing found\n"
    assert plait("info", tmp_path / "i", "--json").json["documents"] == 0


def test_text_is_shown_as_it_is(plait, tmp_path):
    title = "[bold]not[/bold] :smile: " + "long " * 40
    text = "[red]apple[/red] \x1b[31mred\x1b[0m \\[x] :apple:\u0085 tab\there"
    path = jsonl(tmp_path / "a.jsonl", [{"id": "[i]1[/i]", "title": title, "text": text}])
    out = tmp_path / "[bold]i"
    assert plait("index", path, "--out", out, "--strands", "lexical").out == f"added 1; {out} holds 1 documents\n"
    shown = plait("search", out, "apple", "--explain").out
    assert "  0.690  [bold]not[/bold] :smile: long long" in shown
    assert len(shown.splitlines()[0]) < 140
    assert "[i]1[/i]" in shown
    assert "[red]apple[/red] ␛[31mred␛[0m \\[x] :apple:" in shown
    assert "\x1b" not in shown
    assert plait("search", out, "apple", "--json").json["hits"][0]["text"] == text
    assert str(out) in plait("info", out).out


def test_explain_tells_how_the_answer_came_about(plait, index):
    said = plait("search", index, "winter honey", "--explain", "--prove", "-k", "1", "--depth", "1").out
    assert "fused by convex: lexical 0.135 (chosen by plait)\nsteps: none\nmilliseconds: encode " in said
    assert "proven: no unseen document can score above " in said
    told = plait("search", index, "winter honey", "--explain", "--prove", "--json").json
    assert told["proof"]["rounds"] == 1
    assert set(told["milliseconds"]) == {"encode", "propose", "fuse", "steps", "read"}


def test_min_score_and_a_pipeline_file(plait, index, tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[[step]]\nname = "feedback"\nlexical = 0.5\n')
    told = plait("search", index, "winter honey", "--pipeline", path, "--explain", "--json").json
    assert told["pipeline"] == "feedback:lexical=0.5"
    assert told["notes"]["feedback"]["weights"]["lexical"] > 0
    every = plait("search", index, "winter honey", "--json").json["hits"]
    hits = plait("search", index, "winter honey", "--min-score", "0.7", "--json").json["hits"]
    assert hits == [hit for hit in every if hit["score"] >= 0.7]
    assert 0 < len(hits) < len(every)


def test_a_pipeline_file_is_kept_with_values_that_text_cannot_hold(plait, tmp_path):
    path = tmp_path / "host.toml"
    path.write_text('[[step]]\nname = "host"\nhosts = {"a.org" = 1.0, "b.org" = 0.5}\nweight = 0.7\n')
    urls = {"one": "https://c.org/x:1", "two": "https://b.org/x", "three": "https://a.org"}
    corpus = jsonl(tmp_path / "c.jsonl", [{"id": id, "text": "winter", "url": url} for id, url in urls.items()])
    command = ("index", corpus, "--out", tmp_path / "i", "--strands", "lexical,dense", "--pipeline", path, "--parents")
    plait(*command)
    plait(*command)  # says the same
    for options in ((), ("--hierarchy",)):
        hits = plait("search", tmp_path / "i", "winter", *options, "--json").json["hits"]
        assert [hit["id"] for hit in hits] == ["three", "two", "one"]
    path.write_text('[[step]]\nname = "host"\nhosts = {"a.org" = 2026-01-01}\n')
    said = plait("index", corpus, "--out", tmp_path / "new", "--pipeline", path, code=1)
    assert said.err == f"error: {path}: an index keeps no dates inside a table; write them in quotes\n"
    assert not (tmp_path / "new").exists()


def test_weights_and_fusion_are_passed_on(plait, index):
    (hit, *_) = plait("search", index, "winter", "--weights", "lexical=0.5", "--json").json["hits"]
    assert hit["strands"]["lexical"]["weight"] == 0.5
    (hit, *_) = plait("search", index, "winter", "--fusion", "rrf", "--depth", "1", "--json").json["hits"]
    assert hit["score"] == pytest.approx(1 / 61)


QUERIES = {
    "q.jsonl": '{"_id": "one", "text": "winter honey"}\n{"id": "two", "text": "xylophone"}\n'
    '{"id": 3, "text": "nectar"}\n',
    "q.tsv": "one\twinter honey\ntwo\txylophone\n3\tnectar\n",
}


@pytest.mark.parametrize("name", QUERIES)
def test_many_queries_become_a_run(plait, index, tmp_path, name):
    (tmp_path / name).write_text(QUERIES[name])
    said = plait("search", index, "--queries", tmp_path / name)
    fields = [line.split() for line in said.out.splitlines()]
    ranked = [[query, document, rank] for query, _, document, rank, _, _ in fields]
    assert ranked == [["one", "ships", "1"], ["one", "snow", "2"], ["one", "bees", "3"], ["3", "bees", "1"]]
    assert {(row[1], row[5]) for row in fields} == {("Q0", "plait")}
    single = plait("search", index, "winter honey", "--json").json["hits"]
    assert [float(row[4]) for row in fields[:3]] == [hit["score"] for hit in single]
    run = tmp_path / "new" / "r.run"
    told = plait("search", index, "--queries", tmp_path / name, "--run", run)
    assert told == ("", f"wrote {run}: 4 lines for 3 queries\n")
    assert run.read_text() == said.out


def test_many_queries_from_standard_input(plait, index):
    said = plait("search", index, "--queries", "-", "-k", "1", stdin="winter honey\nnectar\n")
    assert [line.split()[:4] for line in said.out.splitlines()] == [["1", "Q0", "ships", "1"], ["2", "Q0", "bees", "1"]]


def test_many_queries_as_json(plait, index):
    said = plait("search", index, "--queries", "-", "--json", "--explain", stdin="winter honey\nxylophone\n")
    first, second = said.lines
    best = first["hits"][0]
    assert (first["id"], first["query"], best["id"]) == ("1", "winter honey", "ships")
    assert best["matches"]
    assert second == {"id": "2", "query": "xylophone", "hits": []}


def test_broken_queries_can_be_skipped(plait, index, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"_id": "a", "text": "winter"}\n{"_id": "b", "text": " "}\n{broken\n')
    said = plait("search", index, "--queries", path, "--skip-bad", "-k", "1")
    assert said.out.startswith("a Q0 ")
    assert said.err == (
        f"skipped: {path}, line 2: query 'b' is empty; give it a text, or remove the line\n"
        f"skipped: {path}, line 3: broken JSON at column 2: Expecting property name enclosed in double quotes; "
        "one object a line is expected\n"
    )

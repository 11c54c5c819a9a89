"""The API: the same hits as the Python API gives, errors that say what to do, and nothing that leaks."""

from __future__ import annotations

import json
import sys
import threading

import pytest
from plait.apps.searching import WAITS
from plait.apps.server import schemas
from plait.apps.server.answers import answer_json, to_bytes
from plait.apps.server.checking import check
from plait.apps.server.engine import AT_ONCE
from plait.apps.server.metrics import Metrics
from plait.apps.server.openapi import document
from plait.apps.server.routes import ROWS
from plait.retriever import STEPS, Answer, Document, Hit, QueryError, Retriever, parents
from plait.retriever.log import QueryLog, read_log
from plait.retriever.rescore import Ranker, feature_names
from plait.retriever.specs import options_of

from .conftest import DOCUMENTS, SHOWN, error


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 1},
        {"k": 1000, "depth": 1},
        {"k": 2.0, "explain": False},
        {"filter": "year >= 2005"},
        {"strands": ["lexical"], "weights": {"lexical": 2}, "fusion": "combsum"},
        {"pipeline": [{"step": "mmr", "trade": 0.5}]},
        {"pipeline": {"step": "mmr", "trade": 0.5, "top": 1000}},
        {"pipeline": "none", "min_score": 0.5},
    ],
)
def test_hits_are_those_of_the_python_api(client, folder, options):
    ask = client()
    if options.get("fusion"):
        options = {**options, "fusion": "rrf:k=20"}
    found = ask("POST", "/api/search", json={"query": "winter honey", **options}).json()
    with Retriever.open(folder) as retriever:
        answer = retriever.search("winter honey", **{"explain": True, **options, "k": int(options.get("k", 10))})
    expected = json.loads(json.dumps([hit.to_json() for hit in answer]))
    for hit in expected:
        hit.pop("probability")
    assert found["hits"] == expected
    assert (found["weights"], found["fusion"], found["pipeline"]) == (answer.weights, answer.fusion, answer.pipeline)
    assert set(found["milliseconds"]) == set(answer.milliseconds)
    assert found["commit"] == 1


def test_all_strands_give_the_same_scores_over_http(client, tmp_path, small_encoders):
    retriever = Retriever.create(tmp_path / "all.index", **small_encoders)
    retriever.add(DOCUMENTS)
    retriever.commit()
    found = client(retriever)("POST", "/api/search", json={"query": "winter honey"}).json()
    expected = json.loads(json.dumps([hit.to_json() for hit in retriever.search("winter honey", explain=True)]))
    assert [(hit["id"], hit["score"], hit["strands"], hit["matches"]) for hit in found["hits"]] == [
        (hit["id"], hit["score"], hit["strands"], hit["matches"]) for hit in expected
    ]
    assert set(found["hits"][0]["strands"]) == {"lexical", "learned", "dense"}


def test_get_and_post_search_alike(client):
    ask = client()
    options = {"k": 2, "filter": "year > 1999", "weights": {"lexical": 1.5}, "explain": False, "min_score": 0}
    posted = ask("POST", "/api/search", json={"query": "winter honey", **options}).json()
    asked = {**options, "weights": "lexical=1.5", "explain": "false", "q": "winter honey"}
    got = ask("GET", "/api/search", params=asked).json()
    assert got["hits"] == posted["hits"]
    assert [hit["id"] for hit in got["hits"]] == ["snow", "bees"]
    assert got["hits"][0]["matches"] == []


def test_a_batch_answers_each_query_as_alone(client):
    ask = client()
    texts = ["winter", "honey"] * AT_ONCE
    many = ask("POST", "/api/batch", json={"queries": texts, "k": 2}).json()["answers"]
    alone = [ask("POST", "/api/search", json={"query": text, "k": 2}).json() for text in texts]
    assert [answer["hits"] for answer in many] == [answer["hits"] for answer in alone]


def test_info_tells_of_the_index_and_not_where_it_is(client, tmp_path):
    answer = client()("GET", "/api/info")
    assert str(tmp_path) not in answer.text
    told = answer.json()
    assert {name: told[name] for name in ("name", "documents", "fields", "writable", "commit")} == {
        "name": "my.index", "documents": 3, "fields": {"year": "integer"}, "writable": True, "commit": 1,
    }  # fmt: skip
    assert told["strands"]["lexical"]["name"] == "snowball-english"
    assert client(token=None)("GET", "/api/info").json()["writable"] is False


def test_documents_come_and_go(client, folder):
    ask = client()
    fresh = {"id": "salt", "text": "Salt of the sea.", "title": "Salt", "metadata": {"year": 2020}, "parent": None}
    added = ask("POST", "/api/documents", json={"documents": [fresh, DOCUMENTS[0]]}, headers=SHOWN).json()
    assert added == {"added": 1, "replaced": 0, "unchanged": 1, "documents": 4, "commit": added["commit"]}
    with Retriever.open(folder) as other:  # committed, and the writer's lock is free
        assert other.get("salt").title == "Salt"
        other.add([{"id": "iron", "text": "Iron rusts."}])
    assert ask("GET", "/api/documents/salt").json()["metadata"] == {"year": 2020}
    assert ask("GET", "/api/documents/a%2Fb%231").json()["id"] == "a/b#1"
    assert ask("GET", "/api/search", params={"q": "salt"}).json()["hits"][0]["id"] == "salt"
    gone = ask("DELETE", "/api/documents", content=json.dumps({"ids": ["salt", "a", "?"]}), headers=SHOWN)
    assert (gone.status_code, gone.json()["deleted"], gone.json()["documents"]) == (200, 2, 3)
    code, message = error(ask("GET", "/api/documents/salt"), 404)
    assert (code, message) == ("not_found", "there is no document with this id")


def test_of_a_write_that_fails_nothing_stays(client):
    ask = client()
    documents = [{"id": "good", "text": "Good."}, {"id": "bad", "text": "Bad.", "metadata": {"year": "soon"}}]
    code, message = error(ask("POST", "/api/documents", json={"documents": documents}, headers=SHOWN), 422)
    assert code == "document"
    assert "bad" in message
    assert ask("POST", "/api/documents", json={"documents": [DOCUMENTS[1]]}, headers=SHOWN).json()["documents"] == 3
    error(ask("GET", "/api/documents/good"), 404)
    twice = [{"id": "x", "text": "1"}, {"id": "x", "text": "2"}]
    _, message = error(ask("POST", "/api/documents", json={"documents": twice}, headers=SHOWN), 422)
    assert message == "the id 'x' comes twice in one call of add; give each document its own id"


def test_a_writer_elsewhere_is_waited_for(client, folder):
    ask = client()
    with Retriever.open(folder) as other:
        other.delete("snow")  # holds the lock
        answer = ask("POST", "/api/documents", json={"documents": [DOCUMENTS[1]]}, headers=SHOWN)
        assert error(answer, 503) == ("locked", "the index is being written by another process; try again")
        assert answer.headers["retry-after"] == "1"
    assert ask("DELETE", "/api/documents", content='{"ids": ["bees"]}', headers=SHOWN).json()["documents"] == 1


def test_newer_commits_are_searched(client, folder):
    ask = client()
    with Retriever.open(folder) as other:
        other.add([{"id": "moth", "text": "Moths fly at night."}])
    assert ask("GET", "/health").json() == {"status": "ok", "documents": 3, "commit": 1}
    ask.engine.refresh()
    assert ask("GET", "/health").json()["documents"] == 4
    assert [hit["id"] for hit in ask("GET", "/api/search", params={"q": "moths"}).json()["hits"]] == ["moth"]


def test_an_index_that_is_made_anew_is_told(client, folder, tmp_path):
    ask = client(token=None)
    ask("POST", "/api/search", json={"query": "honey"})
    folder.rename(tmp_path / "elsewhere")
    ask.engine.refresh(anyway=True)
    assert ask("GET", "/health").json()["status"] == "stale"
    assert ask("POST", "/api/search", json={"query": "honey"}).status_code == 200
    assert [json.loads(line)["event"] for line in ask.lines if "failure" in line] == ["failure"]
    ask.engine.refresh(anyway=True)
    assert sum("failure" in line for line in ask.lines) == 1  # told once
    (tmp_path / "elsewhere").rename(folder)
    ask.engine.refresh()
    assert ask("GET", "/health").json()["status"] == "ok"


# What cannot be answered

WRONG = [
    (b"", 400, "the body is no JSON: Expecting value at character 1"),
    (b"{", 400, "the body is no JSON: Expecting property name enclosed in double quotes at character 2"),
    (b"\xff\xfe{", 400, "the body is not UTF-8"),
    (b'{"query": "\\ud800"}', 400, "the body holds half a surrogate pair, which is no text"),
    (b'{"query": NaN}', 400, "the body holds NaN, which JSON does not know"),
    (b"[" * 100_000, 400, "the body is no JSON that can be read: too deep, or a number too long"),
    (b"[]", 400, "the body takes an object, not []"),
    (b"{}", 400, "the body needs 'query': a text of 1 to 10000 characters"),
    (b'{"query": 1}', 400, "the body.query takes a text of 1 to 10000 characters, not 1"),
    (b'{"query": "x", "quary": 1}', 400, "the body has no 'quary'; there are: query, k, "),
    (b'{"query": "x", "k": 0}', 400, "the body.k takes a whole number of 1 to 1000, not 0"),
    (b'{"query": "x", "k": true}', 400, "the body.k takes a whole number of 1 to 1000, not true"),
    (b'{"query": "x", "k": 1e400}', 400, "the body is no JSON that can be read"),
    (b'{"query": "x", "weights": {"lexical": "1"}}', 400, "the body.weights takes an object, not "),
    (b'{"query": "x", "explain": 1}', 400, "the body.explain takes true or false, not 1"),
    (
        b'{"query": "x", "strands": []}',
        400,
        "the body.strands takes a text of 1 to 200 characters or a list of 1 ",
    ),
    (b'{"query": "  "}', 422, "the query is empty"),
    (b'{"query": "x", "strands": "dense"}', 422, "dense"),
    (b'{"query": "x", "fusion": "magic"}', 422, "no fusion 'magic'; there are: convex"),
    (b'{"query": "x", "pipeline": "magic"}', 422, "no step 'magic'; there are: feedback"),
    (b'{"query": "x", "pipeline": [{"step": "mmr", "trade": {}}]}', 422, "trade"),
    (b'{"query": "x", "filter": "year >"}', 422, "filter, character 7, at its end: expected a value: "),
    (b'{"query": "x", "filter": "1; DROP TABLE document"}', 422, "DROP"),
    (b'{"query": "x", "min_probability": 0.5}', 422, "calibration"),
]


@pytest.mark.parametrize(("body", "status", "said"), WRONG, ids=[repr(body[:40]) for body, _, _ in WRONG])
def test_errors_say_what_was_wrong(client, body, status, said):
    ask = client()
    answer = ask("POST", "/api/search", content=body)
    assert said in error(answer, status)[1]
    assert "Traceback" not in "".join(ask.lines)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/search", 400, "the parameter q is what to look for; it is not there"),
        ("/api/search?q=a&q=b", 400, "a parameter is given twice"),
        ("/api/search?q=a&k=ten", 400, 'k takes a whole number of 1 to 1000, not "ten"'),
        ("/api/search?q=a&K=1", 400, "there is no parameter 'K'; there are: q, k, "),
        ("/api/search?q=a&weights=lexical", 422, "strand=number"),
        ("/api/search?q=a&explain=yes", 400, "true or false"),
        ("/api/search/", 404, "there is nothing at this address"),
        ("/api/batch", 405, "this address does not take this method"),
        ("/api/documents/%00", 404, "there is no document with this id"),
    ],
)
def test_addresses_that_are_wrong(client, path, status, said):
    assert said in error(client()("GET", path), status)[1]


def test_no_step_opens_a_file_that_the_index_does_not_name(client, tmp_path, small_encoders):
    (tmp_path / "ranker.json").write_text("{}")
    retriever = Retriever.create(tmp_path / "all.index", **small_encoders)
    ask = client(retriever)
    for step in ("rerank", "rescore"):
        for given in (f"{step}:model={tmp_path / 'ranker.json'}", [{"step": step, "model": "/etc/passwd"}]):
            _, message = error(ask("POST", "/api/search", json={"query": "honey", "pipeline": given}), 422)
            assert "which this server does not open for clients" in message
    kept = f"rescore:model={tmp_path / 'ranker.json'}"
    ask = client(Retriever.create(tmp_path / "own.index", pipeline=kept, **small_encoders))
    own = {"query": "honey", "pipeline": f"mmr,rescore:model={tmp_path / 'ranker.json'}"}
    assert "does not open for clients" not in ask("POST", "/api/search", json=own).text


def test_a_model_of_the_index_is_told_and_taken_by_the_last_part_of_its_path(client, tmp_path):
    strands = {"strands": "lexical", "weights": {"lexical": 1}}
    names = ("lexical",)
    linear = {"mean": [0.0], "scale": [1.0], "weights": [1.0], "bias": 0.0}
    count = len(feature_names(names))
    held = {name: value if name == "bias" else value * count for name, value in linear.items()}
    ranker, model = tmp_path / "ranker.json", Ranker("logistic", names, held)
    ranker.write_text(json.dumps(model.to_json()))
    with Retriever.create(tmp_path / "own.index", pipeline=f"rescore:model={ranker}", **strands) as retriever:
        retriever.add(DOCUMENTS)
    ask = client(Retriever.open(tmp_path / "own.index"))
    asked = {"query": "winter honey", "pipeline": "mmr,rescore:model=ranker.json"}
    answers = [ask("GET", "/api/info"), ask("POST", "/api/search", json=asked)]
    assert [answer.json()["pipeline"] for answer in answers] == ["rescore:model=ranker.json", asked["pipeline"]]
    ranker.rename(tmp_path / "gone.json")
    answers.append(ask("POST", "/api/search", json=asked))
    assert error(answers[-1], 422)[1].startswith("ranker.json: no model can be read there: ")
    assert not any(str(tmp_path) in answer.text for answer in answers)


def test_steps_of_the_index_that_no_text_can_hold_are_known(client, tmp_path, small_encoders):
    """A stored step whose option is a map or a text with a comma is the index's own, and so is its model."""
    model = str(tmp_path / "rankers,old" / "ranker.json")
    hosts = {"step": "host", "field": "url", "hosts": {"a.example": 1.0, "b.example": 0.5}}
    pipeline = [hosts, {"step": "rescore", "model": model}]
    ask = client(Retriever.create(tmp_path / "all.index", pipeline=pipeline, **small_encoders))
    _, message = error(ask("POST", "/api/search", json={"query": "x", "pipeline": "rescore:model=/etc/passwd"}), 422)
    assert message.startswith("a step names the model '/etc/passwd', which this server does not open for clients")
    own = {"query": "honey", "pipeline": [{"step": "rescore", "model": model}]}
    assert "does not open for clients" not in ask("POST", "/api/search", json=own).text
    ask.engine.retriever.settle(weights={"lexical": 1})  # one strand alone takes no step unless asked
    assert "does not open for clients" not in ask("POST", "/api/search", json=own).text


def passages(family, text):
    return [Document(id=f"{family}#0", text=text, parent=family)]


@pytest.fixture
def hierarchical(tmp_path):
    """An index with a level of parents that another process writes; its searches take the step `parents`."""
    with Retriever.create(tmp_path / "p.index", strands="lexical", weights={"lexical": 1}) as retriever:
        retriever.add(passages("bees", "honey"))
        retriever.keep_parents()
        yield retriever


HIERARCHY = {"query": "honey", "pipeline": "parents"}


def found(response):
    assert response.status_code == 200, response.text
    return sorted(hit["id"] for hit in response.json()["hits"])


def test_a_commit_between_two_looks_is_followed_where_the_level_has_moved_on(client, hierarchical):
    ask = client(Retriever.open(hierarchical.folder))
    hierarchical.add(passages("ships", "honey and wine"))
    hierarchical.commit()
    assert found(ask("POST", "/api/search", json=HIERARCHY)) == ["bees#0", "ships#0"]


def test_a_look_between_a_commit_and_its_level_is_waited_for(client, hierarchical, monkeypatch):
    """The other process is stopped in the midst of its commit, and goes on when the search waits for it."""
    ask, follow = client(Retriever.open(hierarchical.folder)), parents.follow
    committed, waited_for = threading.Event(), threading.Event()

    def held(snapshot):
        committed.set()
        assert waited_for.wait(60)
        follow(snapshot)

    def wait(_seconds):
        waited_for.set()
        writing.join()

    monkeypatch.setattr(parents, "follow", held)
    monkeypatch.setattr("plait.apps.searching.time.sleep", wait)
    hierarchical.add(passages("ships", "honey and wine"))
    writing = threading.Thread(target=hierarchical.commit)
    writing.start()
    assert committed.wait(60)
    ask.engine.refresh(anyway=True)
    assert found(ask("POST", "/api/search", json=HIERARCHY)) == ["bees#0", "ships#0"]


def test_a_level_that_stays_behind_is_told_and_waited_for_once(client, hierarchical, monkeypatch):
    slept = []
    monkeypatch.setattr("plait.apps.searching.time.sleep", slept.append)
    ask = client(Retriever.open(hierarchical.folder))
    with monkeypatch.context() as patched:
        patched.setattr(parents, "follow", lambda _snapshot: None)
        hierarchical.add(passages("ships", "honey and wine"))
        hierarchical.commit()
    ask.engine.refresh()
    for _ in range(3):
        answer = ask("POST", "/api/search", json=HIERARCHY)
        code, message = error(answer, 503)
        assert (code, answer.headers["retry-after"]) == ("behind", "1")
        assert message.startswith("the level of parents is not of the passages that are searched")
    assert slept == [*WAITS, WAITS[0], WAITS[0]]  # later searches look once more, without waiting
    assert found(ask("POST", "/api/search", json={"query": "honey"})) == ["bees#0", "ships#0"]
    hierarchical.keep_parents()
    assert found(ask("POST", "/api/search", json=HIERARCHY)) == ["bees#0", "ships#0"]


def test_a_level_that_was_behind_and_moved_on_is_followed_at_once(client, hierarchical, monkeypatch):
    monkeypatch.setattr("plait.apps.searching.time.sleep", lambda _seconds: None)
    ask = client(Retriever.open(hierarchical.folder))
    with monkeypatch.context() as patched:
        patched.setattr(parents, "follow", lambda _snapshot: None)
        hierarchical.add(passages("ships", "honey and wine"))
        hierarchical.commit()
    ask.engine.refresh()
    error(ask("POST", "/api/search", json=HIERARCHY), 503)
    hierarchical.add(passages("canals", "honey on ice"))
    hierarchical.commit()  # this one is followed, but nobody has looked for it yet
    assert found(ask("POST", "/api/search", json=HIERARCHY)) == ["bees#0", "canals#0", "ships#0"]


def test_the_options_of_steps_that_could_name_a_file_are_known():
    """A step with a new option that takes a text is to be looked at here: does it open what a client names?"""
    texts = {
        (step, name)
        for step, row in STEPS.items()
        for name, option in options_of(row.function).items()
        if "str" in str(option.annotation) or "Path" in str(option.annotation)
    }
    opening = {("rerank", "model"), ("rescore", "model")}
    harmless = {
        ("rerank", "normalise"), ("boost", "field"), ("boost", "equals"), ("recency", "field"), ("recency", "now"),
        ("host", "field"), ("host", "equals"), ("host", "hosts"), ("fields", "strategy"), ("mmr", "strands"),
        ("clusters", "strands"), ("collaborative", "strands"), ("feedback", "source"),
    }  # fmt: skip
    assert texts - harmless == opening


def test_the_depth_of_steps_is_bounded(client):
    _, message = error(client()("POST", "/api/search", json={"query": "x", "pipeline": "mmr:top=99999"}), 422)
    assert message == "the steps look at 99,999 candidates; a server allows 10,000"
    for step in ("mmr", "clusters", "collaborative"):
        for given in (f"boost:field=year,{step}:top=1001", {"step": step, "top": 1001}):
            _, message = error(client()("POST", "/api/search", json={"query": "x", "pipeline": given}), 422)
            assert message == f"{step} compares 1,001 candidates with one another; a server allows 1,000"


def test_what_clients_found_relevant_is_in_the_log_that_tune_reads(client, folder, tmp_path):
    log = tmp_path / "q.jsonl"
    ask = client(Retriever.open(folder, log=log))
    for body in ({"id": "bees"}, {"id": "snow", "relevance": 0}, {"id": "bees", "relevance": 3.0}):
        answer = ask("POST", "/api/relevance", json={"query": "honey", **body}, headers=SHOWN)
        assert (answer.status_code, answer.json()) == (200, {"query": "honey", "relevance": 1, **body})
    assert read_log(log).qrels == {"log-1": {"bees": 3, "snow": 0}}
    unknown = {"query": "honey", "id": "nobody"}
    assert error(ask("POST", "/api/relevance", json=unknown, headers=SHOWN), 404)[1] == (
        "there is no document with this id"
    )
    assert error(ask("POST", "/api/relevance", json={"query": " ", "id": "bees"}, headers=SHOWN), 422)[0] == "query"
    known = {"query": "honey", "id": "bees"}
    error(ask("POST", "/api/relevance", json=known), 401)
    answer = client()("POST", "/api/relevance", json=known, headers=SHOWN)
    assert "keeps no log of queries" in error(answer, 404)[1]


def test_a_judgement_that_cannot_be_written_is_no_success(client, folder, tmp_path):
    log, told = tmp_path / "q.jsonl", []
    ask = client(Retriever.open(folder, log=QueryLog(log, on_failure=told.append)))
    log.unlink()
    log.mkdir()
    known = {"query": "honey", "id": "bees"}
    for _ in range(2):
        code, message = error(ask("POST", "/api/relevance", json=known, headers=SHOWN), 503)
        assert code == "unavailable"
        assert message.startswith("nothing was kept: the log of queries cannot be written now")
    assert len(told) == 1
    log.rmdir()
    assert ask("POST", "/api/relevance", json=known, headers=SHOWN).status_code == 200
    assert read_log(log).qrels == {"log-1": {"bees": 1}}


# Who may


def test_writing_takes_the_token(client):
    ask, body = client(), {"documents": [{"id": "x", "text": "x"}]}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {SHOWN['Authorization'][7:]}"}):
        answer = ask("POST", "/api/documents", json=body, headers=headers)
        assert error(answer, 401)[1] == "this needs the token, as the header Authorization: Bearer TOKEN"
        assert answer.headers["www-authenticate"] == "Bearer"
    _, message = error(client(token=None)("POST", "/api/documents", json=body, headers=SHOWN), 401)
    assert message == "this server only reads; whoever runs it can start it with a token to allow writing"


def test_whoever_can_reach_it_from_elsewhere_needs_the_token(client):
    ask = client(host="0.0.0.0")
    for row in ROWS:
        answer = ask(row.method, row.path.replace("{id:path}", "snow"))
        assert (answer.status_code == 401) == (row.access != "anybody"), row
    assert ask("GET", "/api/search?q=honey", headers=SHOWN).status_code == 200


def test_pages_of_other_sites_neither_write_nor_search(client):
    ask = client(hosts=("search.example",))
    foreign = [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:3000"},
        {"Origin": "http://[", "Host": "localhost"}, {"Sec-Fetch-Site": "cross-site"},
    ]  # fmt: skip
    for headers in foreign:
        for method, path in (("GET", "/api/search?q=honey"), ("POST", "/api/search"), ("GET", "/api/nothing")):
            code, message = error(ask(method, path, headers=headers), 403)
            assert (code, message) == (
                "forbidden",
                "this server answers to its own page, not to the pages of other sites",
            )
        assert ask("GET", "/", headers=headers).status_code == 200  # a link to the page
    own = [
        {"Origin": "http://localhost:8000", "Host": "localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://search.example"}, {"Sec-Fetch-Site": "none"},
    ]  # fmt: skip
    for headers in own:
        assert ask("POST", "/api/search", json={"query": "honey"}, headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_a_body_is_said_to_be_json(client, kind):
    ask, body = client(), b'{"query": "honey"}'
    code, message = error(ask("POST", "/api/search", content=body, headers={"Content-Type": kind}), 415)
    assert code == "unsupported_type"
    assert message.startswith(f"a body needs the header Content-Type: application/json, not {kind or 'none'}")
    written = "Application/JSON; charset=utf-8"
    assert ask("POST", "/api/search", content=body, headers={"Content-Type": written}).status_code == 200


def test_only_names_of_this_machine_are_answered(client):
    ask = client(hosts=("search.example",))
    for name in ("localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "Search.example"):
        assert ask("GET", "/health", headers={"Host": name}).status_code == 200
    for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", ""):
        assert "this server answers to localhost" in error(ask("GET", "/health", headers={"Host": name}), 400)[1]


# The document that describes it, the log, the counts, the page


def test_every_answer_is_as_the_openapi_document_says(client, folder, tmp_path):
    ask = client(Retriever.open(folder, log=tmp_path / "q.jsonl"))
    inputs = {
        "/api/search": {"query": "honey"}, "/api/batch": {"queries": ["honey", "?!"]},
        "/api/documents": {"documents": DOCUMENTS[:1], "ids": ["snow"]},
        "/api/relevance": {"query": "honey", "id": "bees"},
    }  # fmt: skip
    for row in ROWS:
        body = inputs.get(row.path, {})
        body = {name: body[name] for name in body if row.body is not None and name in row.body["properties"]}
        path = row.path.replace("{id:path}", "bees") + ("?q=honey" if row.query else "")
        answer = ask(row.method, path, headers=SHOWN, **({"content": json.dumps(body)} if row.body else {}))
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == row.kind
        if row.answer and "properties" in row.answer:
            check(answer.json(), row.answer, row.path)
    assert set(document()["paths"]) == {row.path.replace(":path", "") for row in ROWS}


def test_the_openapi_document_lists_what_a_search_takes():
    described = document()["paths"]["/api/search"]
    assert set(described["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]) == {
        "query", *schemas.OPTIONS,
    }  # fmt: skip
    assert {each["name"] for each in described["get"]["parameters"]} == {"q", *schemas.OPTIONS}
    assert set(described["post"]["responses"]) == {
        "200", "400", "401", "403", "408", "413", "415", "422", "429", "503", "504",
    }  # fmt: skip


def test_the_log_has_a_line_a_request_and_no_query(client):
    ask = client()
    ask("GET", "/api/search?q=secret+words", headers=SHOWN)
    ask("GET", "/nothing%0Aforged")
    first, second = map(json.loads, ask.lines)
    assert (first["event"], first["method"], first["route"], first["status"]) == ("request", "GET", "/api/search", 200)
    assert "secret" not in ask.lines[0]
    assert (second["route"], second["path"], second["status"]) == ("other", "/nothing\nforged", 404)
    assert ask.lines[1].count("\n") == 1


def test_bugs_are_told_to_the_log_alone(client):
    ask = client()
    ask.engine.retriever.close()
    ask.engine.retriever.search = lambda *_, **__: 1 / 0
    answer = ask("POST", "/api/search", json={"query": "honey"})
    assert error(answer, 500) == ("internal", "something went wrong in the server; its log says what")
    failed = json.loads(ask.lines[0])
    assert (failed["event"], failed["error"]) == ("failure", "ZeroDivisionError: division by zero")


def test_what_is_broken_is_told_without_paths(client, folder):
    ask = client()
    (folder / "plait.db").rename(folder / "gone")
    answer = ask("POST", "/api/documents", json={"documents": [{"id": "x", "text": "x"}]}, headers=SHOWN)
    assert error(answer, 503)[1] == "the index or one of its models cannot be used now; the server's log says why"
    assert str(folder) in ask.lines[0]
    (folder / "gone").rename(folder / "plait.db")


def test_what_prometheus_reads(client):
    ask = client()
    for query in ("honey", "winter", ""):
        ask("GET", "/api/search", params={"q": query})
    ask("GET", "/x{}%22%0A")
    told = ask("GET", "/metrics")
    assert told.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = told.text.splitlines()
    assert 'plait_requests_total{route="/api/search",method="GET",status="200"} 2' in lines
    assert 'plait_requests_total{route="/api/search",method="GET",status="400"} 1' in lines
    assert 'plait_requests_total{route="other",method="GET",status="404"} 1' in lines
    assert 'plait_request_seconds_bucket{route="/api/search",le="+Inf"} 3' in lines
    assert 'plait_request_seconds_count{route="/api/search"} 3' in lines
    assert "plait_documents 3" in lines
    assert "plait_searches_inside 0" in lines
    assert any(line.startswith('plait_search_stage_seconds_total{stage="encode"} ') for line in lines)


def test_large_counts_keep_their_digits():
    assert Metrics().text({"plait_documents": ("Documents.", 12_345_678)}).endswith("\nplait_documents 12345678\n")


def test_every_answer_is_guarded(client):
    ask = client()
    for path in ("/health", "/nothing", "/api/search"):
        headers = ask("GET", path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    ["/../settings.py", "/..%2f..%2fsettings.py", "/%2e%2e/app.py", "//etc/passwd", "/static/../app.py", "/app.py"],
)
def test_the_page_is_all_that_is_read(client, path):
    error(client()("GET", path), 404)


def test_a_token_must_be_one(plait, folder):
    said = plait("serve", folder, "--host", "0.0.0.0", code=1)
    assert said.err.startswith("error: --host 0.0.0.0 can be reached from other machines: set a token in PLAIT_TOKEN")
    for token in ("short", "with white space in it", "zeichen-die-kein-ascii-sind-ß"):
        assert "a token has at least 16 characters" in plait("serve", folder, "--token", token, code=1).err
    assert "there is no index at" in plait("serve", folder / "no", "--port", "0", code=1).err


def test_query_errors_are_those_of_the_python_api(client, folder):
    with Retriever.open(folder) as retriever, pytest.raises(QueryError) as raised:
        retriever.search("x", fusion="magic")
    _, message = error(client()("POST", "/api/search", json={"query": "x", "fusion": "magic"}), 422)
    assert message == str(raised.value)


def test_what_json_cannot_hold_is_no_answer_and_what_orjson_cannot_is_one():
    nowhere = Hit(rank=1, id="a", score=float("nan"), title="", text="", metadata={}, parent=None, start=0, strands={})
    with pytest.raises(ValueError, match="a score is no number"):
        answer_json(Answer([nowhere]))
    assert to_bytes({"big": 2**70, "half": "\ud800"}) == b'{"big":1180591620717411303424,"half":"?"}'


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "httptools", "orjson"])
def test_a_package_that_is_missing_is_named(module, plait, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    said = plait("serve", folder, "--port", 0, code=1)
    assert said.err.startswith(f"error: serving needs the package {module} ")
    assert 'pip install "plait[serve]"' in said.err.replace("\n", " ")

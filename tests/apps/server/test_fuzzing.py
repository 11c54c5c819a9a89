"""Requests that nobody thought of: made from the OpenAPI document, and from what breaks other servers.

PLAIT_FUZZ=1500 tries more than ten thousand of them.
"""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette")

from plait.apps.server.openapi import document
from plait.apps.server.routes import ROWS
from plait.apps.server.schemas import OPTIONS

from .conftest import SHOWN

EXAMPLES = settings(max_examples=int(os.environ.get("PLAIT_FUZZ", "25")), suppress_health_check=list(HealthCheck))
NASTY = (
    "../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "file:///etc/passwd", "' OR 1=1 --", '"; DROP TABLE document; --',
    "year >= 2000) OR (1=1", "\r\nSet-Cookie: a=b", "\0", "\ud800", "{{7*7}}", "${jndi:ldap://x}", "<script>", "%s%n",
    "rerank:model=/etc/passwd", "rescore:model=/etc/passwd", "rrf:k=nan", "mmr:top=1e9", "none", "-1", "1e999", "NaN",
    "a" * 20_000, "(" * 500, "NOT " * 500, "\u202e\u0000\uffff", "year IN (" + "1," * 2000 + "1)",
)  # fmt: skip
texts = st.sampled_from(NASTY) | st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def fitting(schema):
    """Returns a strategy of values that a schema of ours describes."""
    if "anyOf" in schema:
        return st.one_of([fitting(one) for one in schema["anyOf"]])
    return _MAKERS[schema["type"]](schema)


def _objects(schema):
    known = {name: fitting(one) for name, one in schema.get("properties", {}).items()}
    required = {name: known.pop(name) for name in schema.get("required", ())}
    if not known and not required:
        others = schema.get("additionalProperties")
        return st.dictionaries(texts, values if others is True else fitting(others), max_size=3)
    return st.fixed_dictionaries(required, optional=known)


_MAKERS = {
    "null": lambda _: st.none(),
    "boolean": lambda _: st.booleans(),
    "integer": lambda schema: st.integers(schema.get("minimum"), min(schema.get("maximum", 2**53), 2**53)),
    "number": lambda schema: st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False),
    "string": lambda schema: texts.map(lambda text: text[: schema.get("maxLength", 100)]),
    "array": lambda schema: st.lists(fitting(schema["items"]), min_size=schema.get("minItems", 0), max_size=3),
    "object": _objects,
}


def sane(answer, ask):
    """Checks that an answer is one of those that are documented, and gives nothing away."""
    assert answer.status_code in {200, 400, 401, 404, 405, 408, 413, 422, 429, 503, 504}, answer.text[:500]
    assert "Traceback" not in answer.text
    assert "root:x:" not in answer.text
    assert "set-cookie" not in answer.headers
    assert not [line for line in ask.lines if '"failure"' in line], ask.lines
    if answer.status_code != 200:
        assert set(json.loads(answer.content)["error"]) == {"code", "message"}
    ask.lines.clear()


@pytest.mark.parametrize("row", [row for row in ROWS if row.body], ids=lambda row: f"{row.method} {row.path}")
def test_bodies_that_fit_the_schema(client, row):
    ask = client()

    @EXAMPLES
    @given(fitting(row.body))
    def asked(body):
        content = json.dumps(body).encode()
        answer = ask(row.method, row.path, content=content, headers=SHOWN)
        sane(answer, ask)
        documented = document()["paths"][row.path][row.method.lower()]["responses"]
        assert str(answer.status_code) in documented

    asked()


@pytest.mark.parametrize("row", [row for row in ROWS if row.body], ids=lambda row: f"{row.method} {row.path}")
def test_bodies_of_all_kinds(client, row):
    ask, names = client(), list(row.body["properties"])

    @EXAMPLES
    @given(st.binary(max_size=200) | values | st.dictionaries(st.sampled_from(names) | texts, values, max_size=5))
    def asked(body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sane(ask(row.method, row.path, content=content, headers=SHOWN), ask)

    asked()


def test_query_strings_and_paths_of_all_kinds(client):
    ask = client()
    names = ["q", *OPTIONS]
    printable = texts.map(lambda text: text.encode("utf-8", "replace").decode()[:3000])

    @EXAMPLES
    @given(st.dictionaries(st.sampled_from(names) | printable, printable, max_size=5), printable)
    def asked(parameters, id):
        sane(ask("GET", "/api/search", params=parameters), ask)
        sane(ask("GET", f"/api/documents/{quote(id, safe='')}"), ask)
        sane(ask("GET", f"/{quote(id)}"), ask)

    asked()


def test_headers_of_all_kinds(client):
    ask = client()
    plain = st.binary(max_size=50).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b""))
    names = st.sampled_from(
        [b"authorization", b"host", b"content-length", b"content-type", b"x-forwarded-for", b"range"]
    )

    @EXAMPLES
    @given(st.lists(st.tuples(names, plain), max_size=4))
    def asked(headers):
        ready = ask.http.build_request("POST", "/api/documents", content=b'{"documents": [{"id": "x", "text": "x"}]}')
        ready.headers = type(ready.headers)([*ready.headers.raw, *headers])
        answer = ask.wait(ask.http.send(ready))
        sane(answer, ask)
        assert answer.status_code in (400, 401)

    asked()

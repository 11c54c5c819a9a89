"""The page of the HTTP API, made of the OpenAPI document that the server itself gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from generated import READ_TOGETHER, code, directive, plain, table, title
from plait.apps.server.openapi import document

_ANYBODY, _WRITERS = "", "Needs the token."
_READERS = "Needs the token where other machines reach the server."
_LIMITS = {"minimum": "at least {}", "maximum": "at most {}", "maxLength": "at most {} characters"}
_LIMITS |= {"maxItems": "at most {}", "default": "{} unless said otherwise"}
_HUGE = 1e300  # a bound that only keeps infinity out


def pages() -> Iterator[str]:
    """Yields the page: a section for each route."""
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            yield from title(f"{method.upper()} {path}", "-")
            yield from _section(operation)


def _section(operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"{plain(operation['summary'])} {_access(operation)}"
    parameters = [(one["name"], one["schema"], one["required"]) for one in operation["parameters"]]
    yield from _fields("parameter", parameters)
    body = _json(operation.get("requestBody", {}))
    yield from _fields("in the body", _properties(body))
    answer = _properties(_json(operation["responses"]["200"]))
    yield from _fields("in the answer", ((name, schema, False) for name, schema, _ in answer))
    rows = [(status, plain(told["description"])) for status, told in operation["responses"].items() if status != "200"]
    yield from table(("status", "when"), rows, "15 85")


def _access(operation: Mapping[str, Any]) -> str:
    security = operation.get("security")
    return _ANYBODY if security is None else _READERS if {} in security else _WRITERS


def _json(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return told.get("content", {}).get("application/json", {}).get("schema", {})


def _properties(schema: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yields (name, schema, required) of an object's fields, those of what it holds too, as hits[].score."""
    for name, inner in schema.get("properties", {}).items():
        yield before + name, inner, name in schema.get("required", ())
        holder, mark = _held(inner)
        yield from _properties(holder, f"{before}{name}{mark}.")


def _held(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    if "items" in schema:
        inner, mark = _held(schema["items"])
        return inner, f"[]{mark}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        inner, mark = _held(schema["additionalProperties"])
        return inner, f".*{mark}"
    return schema, ""


def _fields(what: str, fields: Any) -> Iterator[str]:
    rows = [(code(name), plain(kind(schema)), _about(schema, required)) for name, schema, required in fields]
    if any(about for _, _, about in rows):
        yield from table((what, "type", ""), rows, "30 25 45")
    else:
        yield from table((what, "type"), [row[:2] for row in rows], "50 50")


def kind(schema: Mapping[str, Any]) -> str:
    """Returns the type of a value in words, as "array of string"."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"])
    named = schema.get("type", "anything")
    held = schema.get("items") or schema.get("additionalProperties")
    return f"{named} of {kind(held)}" if isinstance(held, Mapping) and "properties" not in held else named


def _about(schema: Mapping[str, Any], required: bool) -> str:
    limits = [told.format(_shown(schema[name])) for name, told in _LIMITS.items() if _says(schema, name)]
    parts = [schema.get("description", ""), "; ".join(limits), "" if not required else "Required."]
    return plain(" ".join(f"{part[:1].upper()}{part[1:].rstrip('.')}." for part in parts if part))


def _says(schema: Mapping[str, Any], name: str) -> bool:
    value = schema.get(name)
    return value is not None and not (isinstance(value, (int, float)) and abs(value) >= _HUGE)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).lower()


def setup(app: Any) -> dict[str, bool]:
    """Adds the directive `plait-routes`."""
    app.add_directive("plait-routes", directive(pages))
    return READ_TOGETHER

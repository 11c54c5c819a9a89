"""Checks JSON values against the schemas of the OpenAPI document, so that what it says is what holds.

Only the words of JSON Schema that `schemas` uses are known; another is an error at the first request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from .errors import ApiError

Schema = Mapping[str, Any]


def check(value: Any, schema: Schema, where: str) -> None:
    """Raises an ApiError, 400, that says where a value differs from a schema."""
    if "anyOf" in schema:
        if not any(_fits(value, one, where) for one in schema["anyOf"]):
            _refuse(value, schema, where)
        return
    if not _TYPES[schema["type"]](value):
        _refuse(value, schema, where)
    _CHECKS.get(schema["type"], _nothing)(value, schema, where)


def parsed(body: bytes) -> Any:
    """Returns the JSON value in a body.

    Raises:
        ApiError: 400, it is no JSON, or holds NaN or half a surrogate pair.
    """
    try:
        value = json.loads(body, parse_constant=_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ApiError(400, "the body holds half a surrogate pair, which is no text") from None
    except UnicodeDecodeError:
        raise ApiError(400, "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ApiError(400, f"the body is no JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is no JSON that can be read: too deep, or a number too long") from None
    return value


def _constant(name: str) -> NoReturn:
    raise ApiError(400, f"the body holds {name}, which JSON does not know")


def from_text(text: str, schema: Schema) -> Any:
    """Returns the value that a text of a query string stands for; the text itself where it stands for none."""
    kinds = {one["type"] for one in schema.get("anyOf", (schema,))}
    for kind, (pattern, read) in _READERS.items():
        if kind in kinds and re.fullmatch(pattern, text):
            return read(text)
    return text


def described(schema: Schema) -> str:
    """Returns what a schema wants, in words."""
    if "anyOf" in schema:
        return " or ".join(described(one) for one in schema["anyOf"] if one["type"] != "null")
    words = _WORDS[schema["type"]]
    least, most = (next((schema[key] for key in keys if key in schema), None) for keys in _BOUNDS)
    if least is None and most is None:
        return words
    unit = _UNITS.get(schema["type"], "")
    span = f"at least {least}" if most is None else f"{least} to {most}" if least is not None else f"at most {most}"
    return f"{words} of {span}{unit}"


_BOUNDS = (("minimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems"))
_UNITS = {"string": " characters", "array": " items"}
_WORDS = {
    "string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "integer": (r"[+-]?\d{1,15}", int),
    "number": (r"[+-]?\d{1,15}(\.\d{1,20})?([eE][+-]?\d{1,3})?", float),
    "boolean": ("true|false", lambda text: text == "true"),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: _is_number(value) and value == int(value),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _fits(value: Any, schema: Schema, where: str) -> bool:
    try:
        check(value, schema, where)
    except ApiError:
        return False
    return True


def _refuse(value: Any, schema: Schema, where: str) -> NoReturn:
    shown = json.dumps(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    raise ApiError(400, f"{where} takes {described(schema)}, not {shown}")


def _nothing(_value: Any, _schema: Schema, _where: str) -> None: ...


def _within(size: float, value: Any, schema: Schema, where: str) -> None:
    least, most = (next((schema[key] for key in keys if key in schema), None) for keys in _BOUNDS)
    if (least is not None and size < least) or (most is not None and size > most):
        _refuse(value, schema, where)


def _number(value: Any, schema: Schema, where: str) -> None:
    _within(value, value, schema, where)


def _array(value: Sequence[Any], schema: Schema, where: str) -> None:
    _within(len(value), value, schema, where)
    for number, item in enumerate(value):
        check(item, schema["items"], f"{where}[{number}]")


def _object(value: Mapping[str, Any], schema: Schema, where: str) -> None:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", False)
    for name in schema.get("required", ()):
        if name not in value:
            raise ApiError(400, f"{where} needs {name!r}: {described(known[name])}")
    for name, item in value.items():
        if name in known:
            check(item, known[name], f"{where}.{name}")
        elif others is False:
            raise ApiError(400, f"{where} has no {name[:60]!r}; there are: {', '.join(known)}")
        elif others is not True:
            check(item, others, f"{where}.{name[:60]}")


_CHECKS: dict[str, Callable[[Any, Schema, str], None]] = {
    "string": lambda value, schema, where: _within(len(value), value, schema, where),
    "integer": _number,
    "number": _number,
    "array": _array,
    "object": _object,
}

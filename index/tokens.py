"""The words of a filter: an expression cut into tokens, and the error that says where one went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .contract import FilterError

LONGEST = 1_000_000  # characters of an expression
KEYWORDS = frozenset(
    (
        "ALL",
        "AND",
        "ANY",
        "BETWEEN",
        "CONTAINS",
        "ESCAPE",
        "FALSE",
        "ILIKE",
        "IN",
        "IS",
        "LIKE",
        "NOT",
        "NULL",
        "OR",
        "TRUE",
    )
)
COMPARISONS = {"=": "=", "==": "=", "!=": "<>", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<text>'[^']*(?:''[^']*)*')"
    r'|(?P<quoted>"[^"]*(?:""[^"]*)*")'
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<sign>==|!=|<>|<=|>=|[=<>(),+-])"
)
_SHOWN = 24


class Token(NamedTuple):
    """A piece of an expression.

    Attributes:
        kind: "number", "text", "name", "keyword", "sign" or "end".
        value: what it stands for: quotes removed, keywords in capitals, one spelling for each comparison.
        at: where it begins, from 0.
    """

    kind: str
    value: str
    at: int


def tokens(expression: str) -> Iterator[Token]:
    """Yields the tokens of an expression and, last, one of kind "end".

    Raises:
        FilterError: a character that begins no token, or a quote without its end.
    """
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise error(expression, at, _unknown(expression[at]))
        if found.lastgroup != "space":
            yield _token(str(found.lastgroup), found[0], at)
        at = found.end()
    yield Token("end", "", at)


def _token(kind: str, text: str, at: int) -> Token:
    if kind == "text":
        return Token("text", text[1:-1].replace("''", "'"), at)
    if kind == "quoted":
        return Token("name", text[1:-1].replace('""', '"'), at)
    if kind == "word":
        word = text.upper() if text.isascii() else text
        return Token("keyword", word, at) if word in KEYWORDS else Token("name", text, at)
    return Token(kind, COMPARISONS.get(text, text), at)


def _unknown(character: str) -> str:
    if character in "'\"":
        return "this quote has no end; inside a text '' stands for a quote, inside a name \"\""
    if character in "‘’“”`´":
        return "text goes in straight single quotes, a name in straight double quotes"
    return "this character means nothing here"


def check_text(expression: object) -> str:
    """Returns the expression.

    Raises:
        FilterError: it is no text, blank, too long, or holds what the database cannot compare.
    """
    if not isinstance(expression, str):
        raise FilterError(f"a filter is a text such as \"year >= 2020 AND lang = 'en'\", not {expression!r:.80}")
    if not expression.strip():
        raise FilterError("the filter is empty; leave it out to search everything")
    if len(expression) > LONGEST:
        raise FilterError(f"the filter has {len(expression):,} characters; at most {LONGEST:,} are read")
    if bad := re.search("[\0\ud800-\udfff]", expression):
        raise error(expression, bad.start(), "a NUL or half a surrogate pair cannot be compared with stored text")
    return expression


def error(expression: str, at: int, problem: str) -> FilterError:
    """Returns an error that shows where in the expression the problem is."""
    there = expression[at : at + _SHOWN]
    place = f"{there!r}{'...' if at + _SHOWN < len(expression) else ''}" if there else "its end"
    return FilterError(f"filter, character {at + 1}, at {place}: {problem}")

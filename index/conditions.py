"""From a filter to SQL: checks the tree against the declared columns, and writes a condition that SQLite answers.

Nothing of the expression reaches the SQL text: columns become numbers of our own, values are bound. NOT is driven down
to the leaves first, where unknown and false need no telling apart, because neither matches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .contract import FilterError
from .fields import OWN, TYPES, Field, Scalar, date
from .filters import And, Column, Comparison, Constant, Contains, In, IsNull, Like, Literal, Node, Not, Or, Truth, parse
from .tokens import error

# SQLite binds 999 values before 3.32; its parser keeps a stack of 100, a pattern has at most 50,000 bytes, and an
# expression tree is at most 1,000 deep, so that chains are cut into groups.
MOST_VALUES = 900
MOST_CONDITIONS = 1000
DEEPEST_SQL = 20
LONGEST_PATTERN = 50_000
_CHAIN = 32
_FEW = 16  # values of a list that are bound one by one; more of them go as one JSON array

_OPPOSITE = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_PYTHON = {"text": str, "date": str, "integer": (int, float), "number": (int, float), "boolean": bool}
_WRITTEN = {
    "text": "text in single quotes",
    "integer": "a number",
    "number": "a number",
    "boolean": "TRUE or FALSE",
    "date": TYPES["date"].expected,
}


class Condition(NamedTuple):
    """A filter as SQLite takes it.

    Attributes:
        table: the table whose rows it is asked of: "attribute", or "document" where only its own columns are named.
        sql: what follows WHERE, with a ? for each parameter.
        parameters: what is bound.
    """

    table: str
    sql: str
    parameters: tuple[Scalar | None, ...]


def condition(expression: str, fields: Iterable[Field]) -> Condition:
    """Returns the condition that a filter stands for.

    Args:
        expression: see `filters`.
        fields: the declared columns.

    Raises:
        FilterError: the filter cannot be read, names an unknown column, or a value does not fit a column's type.
    """
    return _Writing(expression, {field.name: field for field in fields}).condition(parse(expression))


class _Writing:
    def __init__(self, expression: str, fields: Mapping[str, Field]) -> None:
        self._expression, self._fields = expression, fields
        self._parameters: list[Scalar | None] = []
        self._leaves = 0
        self._table = "document"

    def condition(self, node: Node) -> Condition:
        if any(column.name in self._fields for column in _columns(node)):
            self._table = "attribute"
        sql = self._sql(node, False)
        if len(self._parameters) > MOST_VALUES or self._leaves > MOST_CONDITIONS:
            raise FilterError(
                f"the filter has {self._leaves:,} conditions with {len(self._parameters):,} values; at most "
                f"{MOST_CONDITIONS:,} and {MOST_VALUES:,} are answered: put texts and whole numbers into one IN (...)"
            )
        if _depth(sql) > DEEPEST_SQL:
            raise FilterError("the filter has too many ANDs and ORs inside one another; write it flatter")
        return Condition(self._table, sql, tuple(self._parameters))

    def _sql(self, node: Node, negative: bool) -> str:
        """Returns the SQL of a node or of its negation."""
        if isinstance(node, Not):
            return self._sql(node.part, not negative)
        if isinstance(node, (And, Or)):
            parts = [self._sql(part, negative) for part in node.parts]
            return _chained("AND" if isinstance(node, And) is not negative else "OR", parts)
        self._leaves += 1
        if isinstance(node, Constant):
            return "1" if node.value is (not negative) else "0"
        if isinstance(node, Contains):
            return self._contains(node, negative)
        return self._leaf(node, negative)

    # Leaves

    def _leaf(self, node: Any, negative: bool) -> str:
        """Returns a leaf; one on a document's own columns is asked of that table, where it is not asked already."""
        field = self._field(node.column)
        if field.many and not isinstance(node, IsNull):
            raise self._error(node.column, f"{_known(field)} is a list: ask 'value' IN {field.name}, or CONTAINS")
        own = field.number < 0
        sql = _LEAVES[type(node)](self, node, field, field.name if own else f"f{field.number}", negative)
        if own and self._table == "attribute":
            return f"position IN (SELECT position FROM document WHERE {sql})"  # noqa: S608  # written by us
        return sql

    def _truth(self, node: Truth, field: Field, name: str, negative: bool) -> str:
        if field.kind != "boolean":
            raise self._error(node.column, f"{_known(field)} is no condition by itself; compare it with a value")
        return f"{name} = {int(not negative)}"

    def _comparison(self, node: Comparison, field: Field, name: str, negative: bool) -> str:
        return f"{name} {_OPPOSITE[node.operator] if negative else node.operator} {self._bound(field, node.value)}"

    def _in(self, node: In, field: Field, name: str, negative: bool) -> str:
        return self._among(name, [self._value(field, value) for value in node.values], negative)

    def _is_null(self, node: IsNull, field: Field, name: str, negative: bool) -> str:
        return f"{name} IS {'NOT ' if negative else ''}NULL"

    def _like(self, node: Like, field: Field, name: str, negative: bool) -> str:
        if field.kind != "text":
            raise self._error(node.column, f"{_known(field)} is no text; LIKE and ILIKE compare text")
        try:
            pattern = glob_of(str(node.pattern.value), node.escape, any_case=node.any_case)
        except ValueError as problem:
            raise self._error(node.pattern, str(problem)) from None
        self._parameters.append(pattern)
        return f"{name} {'NOT ' if negative else ''}GLOB ?"

    def _contains(self, node: Contains, negative: bool) -> str:
        field = self._field(node.column)
        if not field.many:
            raise self._error(node.column, f"{_known(field)} is no list; ask {field.name} = value, or IN (...)")
        values = [self._value(field, value) for value in node.values]
        if None in values:
            raise self._error(node.values[values.index(None)], "no list holds NULL")
        among = self._among("value", values, False)
        found = f"SELECT position FROM item WHERE field = {field.number} AND {among}"  # noqa: S608  # written by us
        if negative:
            return f"(f{field.number} IS NOT NULL AND position NOT IN ({found}))"
        return f"position IN ({found})"

    # Columns and values

    def _field(self, column: Column) -> Field:
        if column.name in self._fields:
            return self._fields[column.name]
        if column.name in OWN:
            return Field(-1, column.name, "text")
        declared = ", ".join(map(_known, self._fields.values())) or "none"
        hint = "" if self._fields else "; add one with: plait fields INDEX --add name:type"
        raise self._error(
            column,
            f"there is no column {column.name!r}; declared: {declared}; every document has: {', '.join(OWN)}{hint}",
        )

    def _value(self, field: Field, literal: Literal) -> Scalar | None:
        """Returns what is bound for a literal."""
        value = literal.value
        if value is None:
            return None
        if isinstance(value, _PYTHON[field.kind]) and (isinstance(value, bool) is (field.kind == "boolean")):
            if field.kind != "date":
                return int(value) if isinstance(value, bool) else value
            try:
                if (moment := date(value)) is not None:
                    return moment
            except (ValueError, OverflowError):
                pass
        raise self._error(literal, f"{_known(field)} is compared with {_WRITTEN[field.kind]}")

    def _bound(self, field: Field, literal: Literal) -> str:
        self._parameters.append(self._value(field, literal))
        return "?"

    def _among(self, name: str, values: Sequence[Scalar | None], negative: bool) -> str:
        """Returns whether a column is one of several values. Fractions are bound: SQLite reads their digits roughly."""
        plain = [] if len(values) <= _FEW else [value for value in values if not isinstance(value, float)]
        single = values if not plain else [value for value in values if isinstance(value, float)]
        parts = []
        if plain:
            self._parameters.append(json.dumps(plain))
            parts.append("(SELECT value FROM json_each(?))")
        if single:
            self._parameters.extend(single)
            parts.append(f"({', '.join('?' * len(single))})")
        word, joined = ("NOT IN", "AND") if negative else ("IN", "OR")
        return _chained(joined, [f"{name} {word} {part}" for part in parts])

    def _error(self, node: Column | Literal, problem: str) -> FilterError:
        return error(self._expression, node.at, problem)


_LEAVES: dict[type, Any] = {
    Truth: _Writing._truth,
    Comparison: _Writing._comparison,
    In: _Writing._in,
    IsNull: _Writing._is_null,
    Like: _Writing._like,
}


def glob_of(pattern: str, escape: str | None, *, any_case: bool) -> str:
    """Returns a LIKE pattern as one for GLOB, which is the same in every build of SQLite and minds case.

    Args:
        pattern: % stands for any run of characters, _ for any one.
        escape: the character that makes the next one stand for itself.
        any_case: whether a letter also stands for itself in the other case.

    Raises:
        ValueError: the escape stands before nothing that it could escape, or the pattern is too long.
    """
    made, characters = [], iter(pattern)
    for character in characters:
        if character == escape:
            character = next(characters, "")
            if character not in {"%", "_", escape}:
                raise ValueError(f"after the escape {escape!r} comes %, _ or the escape itself")
            made.append(_literal(character, any_case))
        else:
            made.append({"%": "*", "_": "?"}.get(character) or _literal(character, any_case))
    glob = "".join(made)
    if len(glob.encode()) > LONGEST_PATTERN:
        raise ValueError(f"this pattern is too long; at most {LONGEST_PATTERN:,} bytes are compared")
    return glob


def _literal(character: str, any_case: bool) -> str:
    cases = {character, character.lower(), character.upper()} if any_case else {character}
    cases = sorted(case for case in cases if len(case) == 1)
    return f"[{''.join(cases)}]" if len(cases) > 1 or character in "*?[" else character


def _known(field: Field) -> str:
    return f"{field.name} ({field.type})"


def _columns(node: Node) -> Iterable[Column]:
    if isinstance(node, Not):
        yield from _columns(node.part)
    elif isinstance(node, (And, Or)):
        for part in node.parts:
            yield from _columns(part)
    elif not isinstance(node, Constant):
        yield node.column


def _chained(word: str, parts: list[str]) -> str:
    """Returns conditions joined by AND or OR, in groups of groups where there are many."""
    while len(parts) > _CHAIN:
        parts = [_chained(word, parts[i : i + _CHAIN]) for i in range(0, len(parts), _CHAIN)]
    return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"


def _depth(sql: str) -> int:
    deepest = depth = 0
    for character in sql:
        if character in "()":
            depth += 1 if character == "(" else -1
            deepest = max(deepest, depth)
    return deepest

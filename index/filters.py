"""The filter language: conditions over declared columns, written as in SQL's WHERE, parsed into small trees.

    expression  = condition { AND condition | OR condition }, NOT, parentheses; NOT binds tightest, then AND, then OR
    condition   = column ( = | == | != | <> | < | <= | > | >= ) value       or the other way round: value < column
                | column [NOT] BETWEEN value AND value
                | column [NOT] IN ( value, ... )
                | column [NOT] LIKE text [ESCAPE text]     % is any run of characters, _ any one; ILIKE ignores case
                | column IS [NOT] NULL
                | value [NOT] IN column                    for columns that hold lists
                | column [NOT] CONTAINS value              the same
                | column [NOT] CONTAINS ANY ( value, ... ) | ... ALL ( value, ... )
                | column                                   for boolean columns
                | TRUE | FALSE | NULL
    value       = 'text', '' for a quote inside | 12 | -1.5e3 | TRUE | FALSE | NULL
    column      = a name, bare or in "double quotes", as it was declared; id, title and parent need no declaration

Keywords are read in capitals or not. Truth has three values as in SQL: whatever is asked of a missing value is unknown,
and only documents for which the whole is true match. LIKE and ILIKE read a text with a NUL in it as far as that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .contract import FilterError
from .fields import number_of
from .tokens import COMPARISONS, Token, check_text, error, tokens

DEEPEST = 100  # parentheses and NOTs inside one another

_SWAPPED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BINDING = {"OR": 1, "AND": 2}
_NOT_BINDING = 3
_VALUE = "a value: 'text', a number, TRUE, FALSE or NULL"


@dataclass(frozen=True)
class Column:
    """A column by its name; `at` is where it stands in the expression."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Literal:
    """A value as it was written."""

    value: str | int | float | bool | None
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Constant:
    """TRUE, FALSE, or NULL for unknown."""

    value: bool | None


@dataclass(frozen=True)
class Truth:
    """A boolean column by itself."""

    column: Column


@dataclass(frozen=True)
class Comparison:
    """column operator value; the operator is one of = <> < <= > >=."""

    column: Column
    operator: str
    value: Literal


@dataclass(frozen=True)
class In:
    """column IN (values)."""

    column: Column
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class Like:
    """column LIKE pattern, or ILIKE, which ignores case."""

    column: Column
    pattern: Literal
    escape: str | None = None
    any_case: bool = False


@dataclass(frozen=True)
class IsNull:
    """column IS NULL."""

    column: Column


@dataclass(frozen=True)
class Contains:
    """column CONTAINS ANY (values)."""

    column: Column
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class Not:
    """NOT part."""

    part: Node


@dataclass(frozen=True)
class And:
    """Two parts or more, all of them; none is an And itself."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """Two parts or more, any of them; none is an Or itself."""

    parts: tuple[Node, ...]


Node = Constant | Truth | Comparison | In | Like | IsNull | Contains | Not | And | Or


def parse(expression: str) -> Node:
    """Returns an expression as a tree. BETWEEN becomes two comparisons, CONTAINS ALL several CONTAINS.

    Raises:
        FilterError: it is no filter; the message says where, what stands there, and what was expected.
    """
    return _Parser(check_text(expression)).parse()


def _joined(kind: type[And | Or], parts: list[Node]) -> Node:
    """Returns one node for several; a part of the same kind is taken apart, so that chains stay flat."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,))]
    return kind(tuple(flat)) if len(flat) > 1 else flat[0]


def _negated(part: Node) -> Node:
    return part.part if isinstance(part, Not) else Not(part)


class _Parser:
    """Precedence climbing over the tokens, one ahead."""

    def __init__(self, expression: str) -> None:
        self._expression, self._tokens, self._depth = expression, tokens(expression), 0
        self._next = next(self._tokens)

    def parse(self) -> Node:
        node = self._chain(0)
        if self._next.kind != "end":
            raise self._expected("AND, OR or the end")
        return node

    # Expressions

    def _chain(self, least: int) -> Node:
        """Parses a condition and what is joined to it by words that bind tighter than `least`."""
        left = self._condition()
        while (binding := _BINDING.get(self._word(), 0)) > least:
            word, parts = self._word(), [left]
            while self._took(word):
                parts.append(self._chain(binding))
            left = _joined(And if word == "AND" else Or, parts)
        return left

    def _condition(self) -> Node:
        token = self._next
        if self._took("NOT"):
            return _negated(self._nested(token, _NOT_BINDING))
        if self._took("("):
            node = self._nested(token, 0)
            self._take(")", "AND, OR or )")
            return node
        if token.kind == "name":
            return self._about(self._column())
        literal = self._value("a condition, as year >= 2020")
        if self._next.kind == "sign" and self._next.value in COMPARISONS:
            return self._comparison_with(literal)
        if self._word() in ("NOT", "IN"):
            negative = self._took("NOT")
            self._take("IN", "IN")
            node = Contains(self._column(), (literal,))
            return Not(node) if negative else node
        if literal.value is None or isinstance(literal.value, bool):
            return Constant(literal.value)
        raise self._expected("a comparison with a column, or IN and a column that holds lists")

    def _nested(self, token: Token, least: int) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise error(self._expression, token.at, f"nested more than {DEEPEST} deep; write the filter flatter")
        node = self._chain(least)
        self._depth -= 1
        return node

    def _comparison_with(self, literal: Literal) -> Node:
        operator = _SWAPPED[self._advance().value]
        return Comparison(self._column(), operator, literal)

    def _about(self, column: Column) -> Node:
        """Parses what is said of a column."""
        if self._next.kind == "sign" and self._next.value in COMPARISONS:
            return Comparison(column, self._advance().value, self._value())
        if self._took("IS"):
            negative = self._took("NOT")
            self._take("NULL", "NULL")
            return Not(IsNull(column)) if negative else IsNull(column)
        negative = self._took("NOT")
        word = self._word()
        if word not in _SAID:
            if negative:
                raise self._expected("BETWEEN, IN, LIKE, ILIKE or CONTAINS")
            return self._truth(column)
        self._advance()
        node = _SAID[word](self, column)
        return _negated(node) if negative else node

    def _truth(self, column: Column) -> Node:
        if self._word() in ("AND", "OR") or self._next.kind == "end" or self._is(")"):
            return Truth(column)
        raise self._expected("a comparison, IS, BETWEEN, IN, LIKE, ILIKE or CONTAINS")

    def _between(self, column: Column) -> Node:
        low = self._value()
        self._take("AND", "AND and the upper end")
        return And((Comparison(column, ">=", low), Comparison(column, "<=", self._value())))

    def _in(self, column: Column) -> Node:
        return In(column, self._values())

    def _like(self, column: Column) -> Node:
        pattern = self._text("a pattern in single quotes")
        escape = self._text("one character in single quotes") if self._took("ESCAPE") else None
        if escape is not None and len(str(escape.value)) != 1:
            raise error(self._expression, escape.at, "the escape is one character")
        return Like(column, pattern, None if escape is None else str(escape.value))

    def _ilike(self, column: Column) -> Node:
        found: Any = self._like(column)
        return Like(column, found.pattern, found.escape, any_case=True)

    def _contains(self, column: Column) -> Node:
        if self._took("ANY"):
            return Contains(column, self._values())
        if self._took("ALL"):
            return _joined(And, [Contains(column, (value,)) for value in self._values()])
        return Contains(column, (self._value(),))

    # Values

    def _values(self) -> tuple[Literal, ...]:
        self._take("(", "( and values")
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        self._take(")", ", or )")
        return tuple(values)

    def _value(self, expected: str = _VALUE) -> Literal:
        token = self._next
        if token.kind == "text":
            return Literal(self._advance().value, token.at)
        if token.kind == "keyword" and token.value in _LITERALS:
            return Literal(_LITERALS[self._advance().value], token.at)
        if token.kind == "number" or (token.kind == "sign" and token.value in "+-"):
            return self._number()
        raise self._expected(expected)

    def _number(self) -> Literal:
        token = self._next
        sign = self._advance().value if token.kind == "sign" else ""
        if self._next.kind != "number":
            raise self._expected("a number")
        try:
            return Literal(number_of(sign + self._advance().value), token.at)
        except OverflowError:
            raise error(self._expression, token.at, "this number is too large") from None

    def _text(self, expected: str) -> Literal:
        if self._next.kind != "text":
            raise self._expected(expected)
        token = self._advance()
        return Literal(token.value, token.at)

    def _column(self) -> Column:
        if self._next.kind != "name":
            raise self._expected("a column; a name that is a keyword goes in double quotes")
        token = self._advance()
        return Column(token.value, token.at)

    # Tokens

    def _word(self) -> str:
        return self._next.value if self._next.kind == "keyword" else ""

    def _is(self, value: str) -> bool:
        return self._next.kind in ("keyword", "sign") and self._next.value == value

    def _advance(self) -> Token:
        token, self._next = self._next, self._next if self._next.kind == "end" else next(self._tokens)
        return token

    def _took(self, value: str) -> bool:
        """Steps over a keyword or sign if it is next."""
        if taken := self._is(value):
            self._advance()
        return taken

    def _take(self, value: str, expected: str) -> None:
        if not self._took(value):
            raise self._expected(expected)

    def _expected(self, what: str) -> FilterError:
        hint = ""
        if what == _VALUE and self._next.kind == "name":
            hint = "; text goes in single quotes, and a column is compared with values only"
        return error(self._expression, self._next.at, f"expected {what}{hint}")


_LITERALS: dict[str, bool | None] = {"TRUE": True, "FALSE": False, "NULL": None}
_SAID = {
    "BETWEEN": _Parser._between,
    "IN": _Parser._in,
    "LIKE": _Parser._like,
    "ILIKE": _Parser._ilike,
    "CONTAINS": _Parser._contains,
}

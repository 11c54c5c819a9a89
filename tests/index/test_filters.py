"""Filters: what they become, what they say of mistakes, and that SQLite answers as SQL's logic of three values does."""

from __future__ import annotations

import json
import math
import operator
import random
import re
import sqlite3
from contextlib import closing
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.index import Field, FilterError, attributes, database
from plait.index.conditions import MOST_CONDITIONS, MOST_VALUES, condition, glob_of
from plait.index.filters import (
    And,
    Column,
    Comparison,
    Constant,
    Contains,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    Truth,
    parse,
)
from plait.retriever import Document

TYPES = {
    "year": "integer",
    "price": "number",
    "lang": "text",
    "open": "boolean",
    "day": "date",
    "tags": "text[]",
    "sizes": "number[]",
    'o"dd été': "text",
}
FIELDS = [Field(number, name, type) for number, (name, type) in enumerate(TYPES.items(), 1)]
YEAR, LANG, TAGS, OPEN = Column("year"), Column("lang"), Column("tags"), Column("open")


# What is read


@pytest.mark.parametrize(
    ("expression", "tree"),
    [
        ("year >= 2020", Comparison(YEAR, ">=", Literal(2020))),
        ("2020 < year", Comparison(YEAR, ">", Literal(2020))),
        ("year != -1", Comparison(YEAR, "<>", Literal(-1))),
        ("year==+ 1", Comparison(YEAR, "=", Literal(1))),
        ("price < .5e-1", Comparison(Column("price"), "<", Literal(0.05))),
        ("lang = 'O''Brien'", Comparison(LANG, "=", Literal("O'Brien"))),
        ('"o""dd été" = \'\'', Comparison(Column('o"dd été'), "=", Literal(""))),
        ("été = NULL", Comparison(Column("été"), "=", Literal(None))),
        ("year IN (1, NULL)", In(YEAR, (Literal(1), Literal(None)))),
        ("year not in (1)", Not(In(YEAR, (Literal(1),)))),
        ("year between 1 and 2", And((Comparison(YEAR, ">=", Literal(1)), Comparison(YEAR, "<=", Literal(2))))),
        (
            "year NOT BETWEEN 1 AND 2 AND open",
            And((Not(And((Comparison(YEAR, ">=", Literal(1)), Comparison(YEAR, "<=", Literal(2))))), Truth(OPEN))),
        ),
        ("lang LIKE 'a!%%' ESCAPE '!'", Like(LANG, Literal("a!%%"), "!")),
        ("lang Not iLike 'a'", Not(Like(LANG, Literal("a"), None, True))),
        ("lang IS NULL", IsNull(LANG)),
        ("lang IS NOT NULL", Not(IsNull(LANG))),
        ("'x' IN tags", Contains(TAGS, (Literal("x"),))),
        ("'x' NOT IN tags", Not(Contains(TAGS, (Literal("x"),)))),
        ("tags CONTAINS 'x'", Contains(TAGS, (Literal("x"),))),
        ("tags contains any ('x', 'y')", Contains(TAGS, (Literal("x"), Literal("y")))),
        ("tags CONTAINS ALL ('x', 'y')", And((Contains(TAGS, (Literal("x"),)), Contains(TAGS, (Literal("y"),))))),
        ("tags NOT CONTAINS ALL ('x')", Not(Contains(TAGS, (Literal("x"),)))),
        ("open OR NOT open", Or((Truth(OPEN), Not(Truth(OPEN))))),
        ("NOT NOT open", Truth(OPEN)),
        ("TRUE", Constant(True)),
        ("not null", Not(Constant(None))),
        # NOT binds tightest, then AND, then OR; chains stay flat, whatever the parentheses.
        (
            "NOT open AND open OR open AND open",
            Or((And((Not(Truth(OPEN)), Truth(OPEN))), And((Truth(OPEN), Truth(OPEN))))),
        ),
        ("open AND (open AND (open))", And((Truth(OPEN),) * 3)),
        ("(open OR open) AND open", And((Or((Truth(OPEN), Truth(OPEN))), Truth(OPEN)))),
        ("open\tAND\n open", And((Truth(OPEN), Truth(OPEN)))),
    ],
)
def test_what_an_expression_means(expression, tree):
    assert parse(expression) == tree


@pytest.mark.parametrize(
    ("expression", "table", "sql", "parameters"),
    [
        ("year >= 2020", "attribute", "f1 >= ?", (2020,)),
        ("NOT year >= 2020", "attribute", "f1 < ?", (2020,)),
        (
            "NOT (year = 1 AND lang LIKE 'a_%' OR open)",
            "attribute",
            "((f1 <> ? OR f3 NOT GLOB ?) AND f4 = 0)",
            (1, "a?*"),
        ),
        ("price IN (1, 2.5, NULL)", "attribute", "f2 IN (?, ?, ?)", (1, 2.5, None)),
        ("price NOT IN (1)", "attribute", "f2 NOT IN (?)", (1,)),
        ("open = FALSE", "attribute", "f4 = ?", (0,)),
        ("day > '2021-03-04T01:00:00+02:00'", "attribute", "f5 > ?", ("2021-03-03T23:00:00",)),
        (
            "'x' IN tags",
            "attribute",
            "position IN (SELECT position FROM item WHERE field = 6 AND value IN (?))",
            ("x",),
        ),
        (
            "NOT sizes CONTAINS ANY (1, 2.5)",
            "attribute",
            "(f7 IS NOT NULL AND position NOT IN (SELECT position FROM item WHERE field = 7 AND value IN (?, ?)))",
            (1, 2.5),
        ),
        ("tags IS NOT NULL", "attribute", "f6 IS NOT NULL", ()),
        ("id = 'a' OR parent IS NULL", "document", "(id = ? OR parent IS NULL)", ("a",)),
        (
            "title = 'a' AND NOT open",
            "attribute",
            "(position IN (SELECT position FROM document WHERE title = ?) AND f4 = 0)",
            ("a",),
        ),
        ("NULL", "document", "0", ()),
        ("NOT NULL", "document", "0", ()),
        ("NOT FALSE", "document", "1", ()),
    ],
)
def test_what_sqlite_is_asked(expression, table, sql, parameters):
    assert condition(expression, FIELDS) == (table, sql, parameters)


@pytest.mark.parametrize(("sign", "opposite"), [("=", "<>"), ("<", ">="), (">", "<=")])
def test_not_turns_comparisons_round(sign, opposite):
    assert condition(f"NOT year {sign} 1", FIELDS).sql == f"f1 {opposite} ?"
    assert condition(f"NOT year {opposite} 1", FIELDS).sql == f"f1 {sign} ?"


def test_long_lists_are_bound_as_one_value_and_fractions_one_by_one():
    numbers = list(range(50))
    asked = condition(f"price IN ({', '.join(map(str, numbers))}, 0.1, 0.7)", FIELDS)
    assert asked.sql == "(f2 IN (SELECT value FROM json_each(?)) OR f2 IN (?, ?))"
    assert asked.parameters == (json.dumps(numbers), 0.1, 0.7)
    asked = condition(f"price NOT IN ({', '.join(map(str, numbers))}, 0.1)", FIELDS)
    assert asked.sql == "(f2 NOT IN (SELECT value FROM json_each(?)) AND f2 NOT IN (?))"


# What is wrong, and where

VALUE = "expected a value: 'text', a number, TRUE, FALSE or NULL"
SHOWN = ", ".join(f"{name} ({type})" for name, type in TYPES.items())


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (None, "a filter is a text such as \"year >= 2020 AND lang = 'en'\", not None"),
        ({"year": 2020}, "a filter is a text such as \"year >= 2020 AND lang = 'en'\", not {'year': 2020}"),
        (" \n", "the filter is empty; leave it out to search everything"),
        ("year >> 2020", f"filter, character 7, at '> 2020': {VALUE}"),
        ("year >=", f"filter, character 8, at its end: {VALUE}"),
        ("year", "filter, character 1, at 'year': year (integer) is no condition by itself; compare it with a value"),
        (
            "year 2020",
            "filter, character 6, at '2020': expected a comparison, IS, BETWEEN, IN, LIKE, ILIKE or CONTAINS",
        ),
        ("year NOT 2020", "filter, character 10, at '2020': expected BETWEEN, IN, LIKE, ILIKE or CONTAINS"),
        ("year IS 5", "filter, character 9, at '5': expected NULL"),
        ("year IN ()", f"filter, character 10, at ')': {VALUE}"),
        ("year IN (1; 2)", "filter, character 11, at '; 2)': this character means nothing here"),
        ("year IN (1 2)", "filter, character 12, at '2)': expected , or )"),
        ("year IN 5", "filter, character 9, at '5': expected ( and values"),
        ("year BETWEEN 1, 2", "filter, character 15, at ', 2': expected AND and the upper end"),
        ("(open", "filter, character 6, at its end: expected AND, OR or )"),
        ("open)", "filter, character 5, at ')': expected AND, OR or the end"),
        ("open AND", "filter, character 9, at its end: expected a condition, as year >= 2020"),
        (
            "open open",
            "filter, character 6, at 'open': expected a comparison, IS, BETWEEN, IN, LIKE, ILIKE or CONTAINS",
        ),
        ("in = 1", "filter, character 1, at 'in = 1': expected a condition, as year >= 2020"),
        ("5 = in", "filter, character 5, at 'in': expected a column; a name that is a keyword goes in double quotes"),
        (
            "5",
            "filter, character 2, at its end: expected a comparison with a column, or IN and a column that holds lists",
        ),
        ("1 = 1", "filter, character 5, at '1': expected a column; a name that is a keyword goes in double quotes"),
        ("-year = 1", "filter, character 2, at 'year = 1': expected a number"),
        ("year = 1e400", "filter, character 8, at '1e400': this number is too large"),
        (
            'lang = "en"',
            f"filter, character 8, at '\"en\"': {VALUE}; text goes in single quotes, "
            "and a column is compared with values only",
        ),
        (
            "lang = 'en",
            "filter, character 8, at \"'en\": this quote has no end; inside a text '' stands for a quote, "
            'inside a name ""',
        ),
        (
            "lang = ‘en’",
            "filter, character 8, at '‘en’': text goes in straight single quotes, a name in straight double quotes",
        ),
        (
            "lang = 'a\0b'",
            'filter, character 10, at "\\x00b\'": a NUL or half a surrogate pair cannot be compared with',
        ),
        (
            "lang = '\ud800'",
            'filter, character 9, at "\\ud800\'": a NUL or half a surrogate pair cannot be compared with',
        ),
        ("lang LIKE 5", "filter, character 11, at '5': expected a pattern in single quotes"),
        ("lang LIKE 'a' ESCAPE ''", "filter, character 22, at \"''\": the escape is one character"),
        (
            "lang LIKE 'a!b' ESCAPE '!'",
            "filter, character 11, at \"'a!b' ESCAPE '!'\": after the escape '!' comes %, _ or the escape itself",
        ),
        (f"lang LIKE '{'a' * 50_001}'", "this pattern is too long; at most 50,000 bytes are compared"),
        (
            "year LIKE '2%'",
            "filter, character 1, at \"year LIKE '2%'\": year (integer) is no text; LIKE and ILIKE compare",
        ),
        ("year = '2020'", "filter, character 8, at \"'2020'\": year (integer) is compared with a number"),
        ("year = TRUE", "filter, character 8, at 'TRUE': year (integer) is compared with a number"),
        ("price IN (1, 'a')", "filter, character 14, at \"'a')\": price (number) is compared with a number"),
        ("lang = 1", "filter, character 8, at '1': lang (text) is compared with text in single quotes"),
        ("id > 5", "filter, character 6, at '5': id (text) is compared with text in single quotes"),
        ("open = 1", "filter, character 8, at '1': open (boolean) is compared with TRUE or FALSE"),
        (
            "day BETWEEN '2021-01-01' AND 'now'",
            "filter, character 30, at \"'now'\": day (date) is compared with an ISO 8601 date or time, "
            "as '2021-03-04' or '2021-03-04T05:06:07Z'",
        ),
        (
            "tags = 'x'",
            "filter, character 1, at \"tags = 'x'\": tags (text[]) is a list: ask 'value' IN tags, or CONTAINS",
        ),
        ("5 IN tags", "filter, character 1, at '5 IN tags': tags (text[]) is compared with text in single quotes"),
        ("5 IN year", "filter, character 6, at 'year': year (integer) is no list; ask year = value, or IN (...)"),
        ("tags CONTAINS NULL", "filter, character 15, at 'NULL': no list holds NULL"),
        (
            "langs = 'en'",
            f"filter, character 1, at \"langs = 'en'\": there is no column 'langs'; declared: {SHOWN}; "
            "every document has: id, title, parent",
        ),
        ("Year = 2020", "there is no column 'Year'; declared: year (integer)"),
        ("(" * 10_000, "filter, character 101, at '(((((((((((((((((((((((('...: nested more than 100 deep; write the"),
        ("NOT " * 10_000 + "open", "nested more than 100 deep"),
        ("lang = '" + "a" * 1_000_000 + "'", "the filter has 1,000,009 characters; at most 1,000,000 are read"),
        (
            " OR ".join(["open"] * 1001),
            "the filter has 1,001 conditions with 0 values; at most 1,000 and 900 are answered",
        ),
        (" OR ".join(["year = 1"] * 901), "the filter has 901 conditions with 901 values; at most 1,000 and 900"),
        (f"price IN ({', '.join(['0.5'] * 901)})", "the filter has 1 conditions with 901 values"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_mistake_is_shown_where_it_is(expression, message):
    with pytest.raises(FilterError) as told:
        condition(expression, FIELDS)
    assert str(told.value).startswith(message) or message in str(told.value)
    assert len(str(told.value)) < 500


def test_without_fields_the_error_says_how_to_declare_one():
    with pytest.raises(FilterError, match=r"declared: none; .* add one with: plait fields INDEX --add name:type"):
        condition("year = 1", [])


def test_ands_and_ors_inside_one_another_have_a_limit_below_that_of_sqlite():
    def nested(depth):
        return "open" if not depth else f"year = 1 {'AND' if depth % 2 else 'OR'} ({nested(depth - 1)})"

    with pytest.raises(FilterError, match="too many ANDs and ORs inside one another"):
        condition(nested(40), FIELDS)


# What is answered


def declared(folder):
    """Returns a connection to a database with the declared fields and no documents."""
    database.create(folder)
    made = database.open_writer(folder)
    made.execute("PRAGMA synchronous = OFF")
    for name, type in TYPES.items():
        attributes.declare(made, attributes.new_field(made, name, type))
    return made


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    with closing(declared(tmp_path_factory.mktemp("filters"))) as made:
        yield made


def matching(connection, expression, documents):
    """Returns the indices of the documents that SQLite lets through."""
    connection.execute("BEGIN")
    try:
        first = database.insert_documents(connection, documents, [1] * len(documents))
        found = attributes.select(connection, condition(expression, attributes.fields(connection)))
    finally:
        connection.execute("ROLLBACK")
    return [position - first for position in found.tolist()]


def described(*metadata):
    return [Document(id=f"d{i}", text="x", title=f"T{i}", metadata=values) for i, values in enumerate(metadata)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("lang = 'x'' OR 1=1 --'", []),
        ("lang = '; DROP TABLE document; --'", [1]),
        ("'''); DELETE FROM item; --' IN tags", [1]),
        ("lang LIKE '%''); DROP%' OR year = 5", [0]),
        ('"o""dd été" = \'"\'', [2]),
        ("lang ILIKE 'ÉT_'", [2]),
        ("lang LIKE 'ÉT_'", []),
        ("lang = 'été'", [2]),
        ("year = 9223372036854775807", [2]),
        ("year < -9223372036854775807", [1]),
        ("year < 9223372036854775808", [0, 1, 2]),
        ("year > 9223372036854775806.0", []),
        ("TRUE", [0, 1, 2, 3]),
        ("id IN ('d0', 'd3')", [0, 3]),
        ("id >= 'd2' AND tags IS NULL", [3]),
        ("title = 'T1' OR year = 5", [0, 1]),
        ("NOT title = 'T1' AND parent IS NULL", [0, 2, 3]),
        ("NOT 'a' IN tags", [1, 2]),
        ("tags IS NOT NULL AND NOT tags CONTAINS ANY ('a', 'b')", [1, 2]),
        ("lang <> 'été'", [1]),
    ],
)
def test_answers(connection, expression, expected):
    documents = described(
        {"year": 5, "tags": ["a", "b"]},
        {"year": -(2**63), "lang": "; DROP TABLE document; --", "tags": ["'); DELETE FROM item; --"]},
        {"year": 2**63 - 1, "lang": "été", 'o"dd été': '"', "tags": []},
        {},
    )
    assert matching(connection, expression, documents) == expected


@pytest.mark.parametrize("word", ["AND", "OR"])
def test_the_largest_filters_are_answered(connection, word):
    documents = described({"year": 5, "open": True, "tags": [f"t{i}" for i in range(MOST_VALUES)]}, {})
    chains = [
        f" {word} ".join(["open"] * MOST_CONDITIONS),
        f" {word} ".join(["year = 5"] * MOST_VALUES),
        f" {word} ".join([f"'t{i}' IN tags" for i in range(MOST_VALUES)]),
        f"year IN ({', '.join(map(str, range(100_000)))})",
        f"tags CONTAINS ANY ({', '.join(repr(f't{i}') for i in range(20_000))})",
        "(" * 100 + "open" + ")" * 100,
        "NOT " * 100 + "open",
    ]
    assert [matching(connection, chain, documents) for chain in chains] == [[0]] * len(chains)


def test_the_deepest_filters_are_answered(connection):
    documents = described({"year": 5, "open": True, "tags": ["a"]})
    many = f"tags CONTAINS ANY ({', '.join(repr(f't{i}') for i in range(100))})"

    def nested(depth):
        return many if not depth else f"{many} {'AND' if depth % 2 else 'OR'} ({nested(depth - 1)})"

    depths = range(1, 40)
    allowed = next(depth for depth in depths if refused(nested(depth))) - 1
    assert allowed > 15
    assert [matching(connection, nested(depth), documents) for depth in range(allowed)] == [[]] * allowed


def refused(expression):
    try:
        condition(expression, FIELDS)
    except FilterError as error:
        return "inside one another" in str(error)
    return False


# Against a plain evaluator of SQL's three values

TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "é",
    "É",
    "aé%",
    "a_b",
    "*",
    "[a]",
    "]",
    "^",
    "O'Brien",
    '"',
    "\\",
    "日本",
    "😀",
    "-- x",
    "a\nb",
]
INTEGERS = [-(2**63), -2, -1, 0, 1, 2, 2**53 + 1, 2**63 - 1]
NUMBERS = [*INTEGERS, -1.5, 0.1, 0.30000000000000004, 1.0, 1e300, 5e-324, float(2**53)]
DATES = [
    "2021-03-04",
    "2021-03-04T00:00:00Z",
    "2021-03-04T05:06",
    "2021-03-04 05:06:00.25",
    "2021-03-04T05:06:00.250001",
    "2021-03-04T06:36:00,25+01:30",
    "2021-03-03T23:00:00-01",
    "0001-01-01",
    "9999-12-31T23:59:59.999999Z",
]
VALUES = {"text": TEXTS, "integer": INTEGERS, "number": NUMBERS, "boolean": [True, False], "date": DATES}
OPERATORS = {
    "=": operator.eq, "==": operator.eq, "<>": operator.ne, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def every(values):
    values = list(values)
    return False if False in values else None if None in values else True


def some(values):
    values = list(values)
    return True if True in values else None if None in values else False


def no(value):
    return None if value is None else not value


def moment(text):
    """Returns a date as Python's own reads it, in UTC."""
    text = re.sub(r"([+-]\d\d)$", r"\1:00", text.replace(",", ".").replace("Z", "+00:00").replace(" ", "T"))
    text = re.sub(r"(T\d\d:\d\d)(?!:)", r"\1:00", text, count=1)
    text = re.sub(r"\.(\d+)", lambda found: f".{found[1]:0<6}", text)
    read = datetime.fromisoformat(text)
    return read.replace(tzinfo=timezone.utc) if read.tzinfo is None else read.astimezone(timezone.utc)


def worth(kind, value):
    """Returns a value as it compares; None stays None."""
    return moment(value) if kind == "date" and value is not None else value


def written(value):
    """Returns a value as a filter spells it."""
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "false"}[value]
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def quoted(name):
    return name if name.isidentifier() else '"' + name.replace('"', '""') + '"'


def scalar_names():
    return [name for name, type in TYPES.items() if not type.endswith("[]")] + ["id", "title", "parent"]


def value_in(document, name):
    return getattr(document, name) if name in ("id", "title", "parent") else document.metadata.get(name)


def compared(kind, known, test, value):
    left, right = worth(kind, known), worth(kind, value)
    return None if left is None or right is None else bool(test(left, right))


@st.composite
def comparisons(draw):
    name = draw(st.sampled_from(scalar_names()))
    kind = TYPES.get(name, "text")
    values = st.one_of(st.none(), st.sampled_from(VALUES[kind]), st.just("d1") if name == "id" else st.nothing())
    sign = draw(st.sampled_from(list(OPERATORS)))
    value = draw(values)
    text = f"{quoted(name)} {sign} {written(value)}"
    if draw(st.booleans()):
        text = f"{written(value)}{FLIPPED.get(sign, sign)}{quoted(name)}"
    if draw(st.booleans()):
        return f"NOT {text}", lambda d: no(compared(kind, value_in(d, name), OPERATORS[sign], value))
    return text, lambda d: compared(kind, value_in(d, name), OPERATORS[sign], value)


@st.composite
def ranges(draw):
    name = draw(st.sampled_from(scalar_names()))
    kind = TYPES.get(name, "text")
    low, high = (draw(st.one_of(st.none(), st.sampled_from(VALUES[kind]))) for _ in range(2))

    def inside(document):
        known = value_in(document, name)
        return every([compared(kind, known, operator.ge, low), compared(kind, known, operator.le, high)])

    return maybe_not(draw, quoted(name), f"BETWEEN {written(low)} AND {written(high)}", inside)


@st.composite
def lists(draw):
    name = draw(st.sampled_from(scalar_names()))
    kind = TYPES.get(name, "text")
    values = draw(st.lists(st.sampled_from([*VALUES[kind], None]), min_size=1, max_size=25))

    def inside(document):
        return some(compared(kind, value_in(document, name), operator.eq, value) for value in values)

    return maybe_not(draw, quoted(name), f"IN ({', '.join(map(written, values))})", inside)


@st.composite
def patterns(draw):
    name = draw(st.sampled_from(["lang", 'o"dd été', "title", "parent"]))
    escape = draw(st.sampled_from([None, "\\", "!", "^", "]", "a", "%"]))
    any_case = draw(st.booleans())
    plain = [c for c in 'aAbéÉ*?[]^-!\\"日😀T1\n' if escape or c not in "%_"] + (["%", "_"] if escape else [])
    parts = draw(st.lists(st.one_of(st.sampled_from(["any", "one"]), st.sampled_from(plain)), max_size=6))
    if escape == "%":
        parts = [part for part in parts if part != "any"]
    like = "".join({"any": "%", "one": "_"}.get(p) or (f"{escape}{p}" if p in ("%", "_", escape) else p) for p in parts)
    regex = "".join({"any": ".*", "one": "."}.get(part) or re.escape(part) for part in parts)
    test = re.compile(regex, re.DOTALL | (re.IGNORECASE if any_case else 0)).fullmatch

    def fits(document):
        known = value_in(document, name)
        return None if known is None else test(known) is not None

    rest = "" if escape is None else f" ESCAPE {written(escape)}"
    return maybe_not(draw, quoted(name), f"{'I' if any_case else ''}LIKE {written(like)}{rest}", fits)


@st.composite
def memberships(draw):
    name = draw(st.sampled_from(["tags", "sizes"]))
    pool = VALUES[TYPES[name].removesuffix("[]")]
    values = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=20))
    how = draw(st.sampled_from(["IN", "CONTAINS", "ANY", "ALL"]))

    def holds(document):
        known = document.metadata.get(name)
        if known is None:
            return None
        return (all if how == "ALL" else any)(
            value in known for value in (values[:1] if how in ("IN", "CONTAINS") else values)
        )

    if how == "IN":
        return maybe_not(draw, written(values[0]), f"IN {name}", holds)
    said = written(values[0]) if how == "CONTAINS" else f"{how} ({', '.join(map(written, values))})"
    return maybe_not(draw, name, f"CONTAINS {said}", holds)


def maybe_not(draw, left, right, test):
    return (f"{left} NOT {right}", lambda d: no(test(d))) if draw(st.booleans()) else (f"{left} {right}", test)


@st.composite
def small(draw):
    name = draw(st.sampled_from([*TYPES, "parent"]))
    return draw(
        st.sampled_from(
            [
                (f"{quoted(name)} IS NULL", lambda d: value_in(d, name) is None),
                (f"{quoted(name)} is  not null", lambda d: value_in(d, name) is not None),
                ("open", lambda d: d.metadata.get("open")),
                ("TRUE", lambda d: True),
                ("False", lambda d: False),
                ("NULL", lambda d: None),
            ]
        )
    )


def joined(inner):
    """Returns negations and chains of conditions; a chain's parts are parenthesised."""

    @st.composite
    def chain(draw):
        parts = draw(st.lists(inner, min_size=1, max_size=3))
        word = draw(st.sampled_from(["AND", "or", "NOT"]))
        if word == "NOT":
            text, test = parts[0]
            return f"not ({text})", lambda d: no(test(d))
        fold = every if word == "AND" else some
        return f" {word} ".join(f"({text})" for text, _ in parts), lambda d: fold(test(d) for _, test in parts)

    return chain()


conditions = st.one_of(comparisons(), ranges(), lists(), patterns(), patterns(), memberships(), small())
expressions = st.recursive(conditions, joined, max_leaves=8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two hundred documents with every kind of value, and what finds their indices in the database."""
    rng = random.Random(7)

    def value(type):
        if type.endswith("[]"):
            return rng.choice([None, rng.choices(VALUES[type[:-2]], k=rng.randrange(5))])
        return rng.choice([None, *rng.choices(VALUES[type], k=5)])

    documents = [
        Document(
            id=f"d{i}",
            text="x",
            title=rng.choice(TEXTS),
            parent=rng.choice([None, "p", "é"]),
            metadata={name: value(type) for name, type in TYPES.items() if rng.random() < 0.9},
        )
        for i in range(200)
    ]
    connection = declared(tmp_path_factory.mktemp("corpus"))
    database.begin(connection)
    first = database.insert_documents(connection, documents, [1] * len(documents))
    connection.execute("COMMIT")

    def answered(expression):
        found = attributes.select(connection, condition(expression, FIELDS))
        return [position - first for position in found.tolist()]

    with closing(connection):
        yield documents, answered


@settings(max_examples=400)
@given(expression=expressions)
def test_sqlite_agrees_with_the_plain_evaluator(corpus, expression):
    documents, answered = corpus
    text, test = expression
    assert answered(text) == [i for i, document in enumerate(documents) if test(document) is True]


@given(text=st.text(alphabet="abAND ORNOTIN()'\",=<>%_1.5-+\0é", max_size=60))
def test_whatever_is_typed_is_answered_or_refused(connection, text):
    try:
        matching(connection, text, described({"a": 1}))
    except FilterError as error:
        assert str(error)  # noqa: PT017


@given(value=st.floats(allow_nan=False, allow_infinity=False), other=st.integers(-(2**70), 2**70))
def test_numbers_compare_as_they_are(connection, value, other):
    """Every float finds itself, bound alone or in a long list; integers beyond 64 bits compare as floats."""
    held = other if -(2**63) <= other < 2**63 else float(other)
    many = ", ".join(map(str, range(30)))
    documents = described({"price": value}, {"price": other}, {})
    assert matching(connection, f"price = {value!r}", documents)[:1] == [0]
    assert matching(connection, f"price IN ({many}, {value!r})", documents)[:1] == [0]
    assert matching(connection, f"price IN ({many}, {other})", documents)[-1:] == [1]
    below = [i for i, known in enumerate([value, held]) if known < held]
    assert matching(connection, f"price < {other}", documents) == below
    assert not math.isnan(value)


def test_like_patterns_become_globs():
    assert glob_of("a%b_c", None, any_case=False) == "a*b?c"
    assert glob_of("*?[]^", None, any_case=False) == "[*][?][[]]^"
    assert glob_of("a!%!!", "!", any_case=False) == "a%!"
    assert glob_of("aß1", None, any_case=True) == "[Aa]ß1"


def test_the_tables_are_emptied_with_the_documents(connection):
    connection.execute("BEGIN")
    try:
        first = database.insert_documents(
            connection, described({"tags": ["a", "b"], "year": 1}, {"tags": ["a"]}), [1, 1]
        )
        database.bury(connection, [first])
        assert connection.execute("SELECT position FROM attribute").fetchall() == [(first + 1,)]
        assert connection.execute("SELECT value, position FROM item").fetchall() == [("a", first + 1)]
        with pytest.raises(sqlite3.IntegrityError):
            attributes.insert(connection, [(first + 1, "again", {})])
    finally:
        connection.execute("ROLLBACK")

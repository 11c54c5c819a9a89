"""Queries for a batch, from a file or standard input: JSONL, TSV, or one query a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

from .documents import IngestError, check_id, kind_of_value
from .readers import ID_KEYS, parse_object, record_id
from .streams import STANDARD_INPUT, kind_of, open_stream, rejecter

Line = tuple[int, str]
Query = tuple[str, str]
Form = Callable[[int, str], "Query | None"]  # (line number, line) -> query, or None for a line without one


class RepeatedQueryError(IngestError):
    """A query whose id another text has already.

    Attributes:
        query: the id.
    """

    def __init__(self, query: str, problem: str, *, path: str | None = None, line: int | None = None) -> None:
        self.query = query
        super().__init__(problem, path=path, line=line)

    def at(self, path: str, line: int | None = None) -> RepeatedQueryError:
        """Returns the same problem with its place."""
        return RepeatedQueryError(self.query, self.problem, path=path, line=line)


def read_queries(
    path: str | Path,
    *,
    skip_bad: bool = False,
    on_bad: Callable[[IngestError], None] | None = None,
) -> list[Query]:
    """Returns (query id, text) pairs in the order of the file; "-" is standard input.

    A line is a JSON object (`_id` or `id`, `text`), an id, a tab and a text, or a text alone, whose id is its line
    number. The suffix says which (.jsonl, .ndjson, .tsv); of any other file and of standard input, the first line.

    Args:
        path: the file, also compressed.
        skip_bad: pass over bad lines instead of raising.
        on_bad: told of each line that was passed over.

    Raises:
        IngestError: a missing file, a broken line, an empty query, an id used twice, or no query at all.
    """
    reject = rejecter(skip_bad=skip_bad, on_bad=on_bad)
    standard = str(path) == STANDARD_INPUT
    name = "standard input" if standard else str(path)
    queries: dict[str, tuple[str, int]] = {}
    with open_stream(None if standard else Path(path), name) as stream:
        form, lines = _form(kind_of(Path(path)), stream.lines(reject), name)
        for number, line in lines:
            try:
                if (parsed := form(number, line)) is None:
                    continue
                query, text = parsed
                if query in queries:
                    raise repeated(query, text, *queries[query])
            except IngestError as error:
                reject(error.at(name, number))
            else:
                queries[query] = text, number
    if not queries:
        raise IngestError("holds no query; expected one a line", path=name)
    return [(query, text) for query, (text, _number) in queries.items()]


def _form(suffix: str, lines: Iterator[Line], name: str) -> tuple[Form, Iterator[Line]]:
    """Returns how to read each line, and the lines."""
    if suffix in FORMS:
        return FORMS[suffix], lines
    if suffix not in PLAIN_SUFFIXES:
        known = " ".join([*FORMS, *filter(None, PLAIN_SUFFIXES)])
        raise IngestError(f"cannot tell how its queries are written; known are {known}, and no suffix", path=name)
    first = list(islice(lines, 1))
    text = first[0][1] if first else ""
    form = _object if text.lstrip().startswith("{") else _row if "\t" in text else _line
    return form, chain(first, lines)


def _object(_number: int, line: str) -> Query | None:
    if not line.strip():
        return None
    record = parse_object(line)
    key = next((key for key in ID_KEYS if key in record), None)
    if key is None or "text" not in record:
        raise IngestError(f"a query needs '_id' or 'id', and 'text'; found {', '.join(map(repr, record)) or 'nothing'}")
    return check_query(record_id(record[key]), record["text"])


def _row(number: int, line: str) -> Query | None:
    query, tab, text = line.partition("\t")
    if number == 1 and (query.lower(), text.lower()) in HEADERS:
        return None
    if line.strip() and not tab:
        raise IngestError("no tab in the line; expected a query id, a tab and a text")
    return check_query(query or str(number), text)


def _line(number: int, line: str) -> Query | None:
    return check_query(str(number), line)


def repeated(query: str, text: str, first: str, line: int) -> IngestError:
    """Returns the error of a query id that was seen before: a `RepeatedQueryError` where it had another text there."""
    problem = f"duplicate query id {query!r}, first seen on line {line}"
    return IngestError(problem) if text == first else RepeatedQueryError(query, f"{problem} with another text")


def check_query(query: object, text: object) -> Query:
    """Returns (id, text without outer white space).

    Raises:
        IngestError: a bad id, an empty text, or one that UTF-8 cannot hold.
    """
    name = check_id(query, "query id")
    if not isinstance(text, str):
        raise IngestError(f"the text of query {name!r} is {kind_of_value(text)}; expected a string")
    if not text.strip():
        raise IngestError(f"query {name!r} is empty; give it a text, or remove the line")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise IngestError(
            f"the text of query {name!r} holds half a surrogate pair at character {error.start + 1}, which UTF-8 "
            "cannot hold; repair or remove it"
        ) from None
    return name, text.strip()


FORMS: dict[str, Form] = {".jsonl": _object, ".ndjson": _object, ".tsv": _row}
PLAIN_SUFFIXES = ("", ".txt")
HEADERS = {(name, text) for name in ("id", "_id", "qid", "query-id", "query_id") for text in ("text", "query")}

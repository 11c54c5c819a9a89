"""TREC runs and qrels, read and written; BEIR's form of qrels too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from ..index.ranking import ranked
from ..retriever.documents import IngestError, check_id
from ..retriever.log import MOST
from ..retriever.streams import open_stream
from .contract import EvalError, Qrels, Run

TAG = "plait"


def read_run(path: str | Path) -> dict[str, dict[str, float]]:
    """Returns the run in a file of `query Q0 document rank score tag` lines, also compressed.

    The rank column is not used: rank follows from the scores, and of equal ones from the ids, as in trec_eval.

    Raises:
        EvalError: a missing file, a line that is not six fields, a score that is no number, a document ranked twice.
    """
    run: dict[str, dict[str, float]] = {}
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise _broken(path, number, f"{len(fields)} fields; expected six: query Q0 document rank score tag")
        query, _q0, document, _rank, score, _tag = fields
        hits = run.setdefault(query, {})
        if document in hits:
            raise _broken(path, number, f"document {document!r} is ranked twice for query {query!r}; keep one")
        hits[document] = _number(path, number, score)
    return run


def write_run(run: Run, target: str | Path | TextIO, *, tag: str = TAG, k: int | None = None) -> None:
    """Writes a run in TREC form, each query's hits in rank order, the first k of them when k is given.

    Scores are written so that reading them gives the same numbers, hence the same order.
    """
    lines = (line for query, hits in run.items() for line in run_lines(query, hits, tag=tag, k=k))
    _write(lines, target)


def run_lines(query: str, hits: Mapping[str, float], *, tag: str = TAG, k: int | None = None) -> Iterator[str]:
    """Yields the lines of one query, ranks from 1; for a batch that is written while it is searched."""
    _checked(query, "query id")
    _checked(tag, "run tag")
    for rank, (document, score) in enumerate(ranked(hits, k), start=1):
        if math.isnan(score):
            raise EvalError(f"document {document!r} has no number for a score in query {query!r}; expected one")
        yield f"{query} Q0 {_checked(document, 'document id')} {rank} {float(score)!r} {tag}\n"


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Returns qrels: relevance by query and document.

    A line is `query document relevance` as in BEIR, whose files have a header, or `query 0 document relevance` as in
    TREC, its columns parted by tabs or, where these make no three or four, leave one empty, or part TREC's four into
    three, by white space. 1.0 is 1.

    Raises:
        EvalError: a missing file, a malformed line, a relevance beyond a million, two judgements of one pair that
            differ, or no judgement at all.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = _fields(line)
        if number == 1 and fields[0].lower() in QRELS_HEADERS and not _is_integer(fields[-1]):
            continue
        if len(fields) not in (3, 4) or not _is_integer(fields[-1]):
            raise _broken(path, number, f"{line.strip()!r} is no judgement; expected query, document and an integer")
        query, document, relevance = fields[0], fields[-2], _relevance(path, number, fields[-1])
        if qrels.setdefault(query, {}).setdefault(document, relevance) != relevance:
            other = qrels[query][document]
            raise _broken(path, number, f"{document!r} is judged {relevance} for query {query!r}, and before {other}")
    if not qrels:
        raise EvalError(f"{path}: holds no judgement; expected query, document and relevance on each line")
    return qrels


def _fields(line: str) -> list[str]:
    columns, words = [column.strip() for column in line.strip().split("\t")], line.split()
    mixed = len(columns) == 3 and len(words) == 4 and words[1] in ITERATIONS  # a tab, and TREC's second column
    return columns if len(columns) in (3, 4) and all(columns) and not mixed else words


def write_qrels(qrels: Qrels, target: str | Path | TextIO) -> None:
    """Writes qrels in BEIR's form where the file is called .tsv, in TREC's otherwise."""
    name = str(getattr(target, "name", target))
    _write(_beir_lines(qrels) if name.endswith(".tsv") else _trec_lines(qrels), target)


ITERATIONS = ("0", "Q0")  # what stands in TREC's second column
QRELS_HEADERS = ("query-id", "query_id", "qid", "query", "topic")


def _beir_lines(qrels: Qrels) -> Iterator[str]:
    yield "query-id\tcorpus-id\tscore\n"
    yield from (f"{q}\t{d}\t{relevance}\n" for q, judged in qrels.items() for d, relevance in judged.items())


def _trec_lines(qrels: Qrels) -> Iterator[str]:
    return (f"{q} 0 {d} {relevance}\n" for q, judged in qrels.items() for d, relevance in judged.items())


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yields (number, line) of a text file, blank lines left out."""
    try:
        with open_stream(Path(path), str(path)) as stream:
            yield from ((number, line) for number, line in stream.lines(_raise) if line.strip())
    except IngestError as error:
        raise EvalError(str(error)) from None


def _raise(error: IngestError) -> None:
    raise error


def _write(lines: Iterator[str], target: str | Path | TextIO) -> None:
    if not isinstance(target, (str, Path)):
        target.writelines(lines)
        return
    with Path(target).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def _number(path: str | Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise _broken(path, line, f"the score {text!r} is no number")
    return value


def _relevance(path: str | Path, line: int, text: str) -> int:
    try:
        value = int(text.partition(".")[0])
    except ValueError:  # more digits than Python reads
        value = MOST + 1
    if abs(value) > MOST:
        raise _broken(path, line, f"the relevance {text[:30]} is beyond {MOST:,}; expected a few levels, as 0 to 3")
    return value


def _is_integer(text: str) -> bool:
    whole, _point, rest = text.partition(".")
    return whole.removeprefix("-").isdecimal() and not rest.strip("0")


def _checked(value: str, what: str) -> str:
    try:
        return check_id(value, what)
    except IngestError as error:
        raise EvalError(str(error)) from None


def _broken(path: str | Path, line: int, problem: str) -> EvalError:
    return EvalError(f"{path}, line {line}: {problem}")

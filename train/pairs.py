"""What training reads: queries with the documents that answer them, from pairs, BEIR folders or bare documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import numpy as np

from ..eval import EvalError, load_beir
from ..retriever import Document, IngestError, read_documents
from ..retriever.documents import kind_of_value
from ..retriever.ingest import Passages
from ..retriever.readers import READERS, parse_object
from ..retriever.sources import Source, find_sources
from ..retriever.streams import OPENERS, Reject, kind_of, rejecter
from .errors import TrainError
from .generate import SHORTEST, Common, at_least, check_ways, generate
from .sets import Count, Positions, TrainingSet, digest, normalised, split, without

__all__ = ["Count", "TrainingSet", "normalised", "read_training", "split", "without"]

Item = TypeVar("Item")

_JSON_LINES = (".jsonl", ".ndjson")
_FILE_NAME = re.compile(rf"\S+(?:{'|'.join(map(re.escape, READERS))})", re.IGNORECASE)


class _Record(NamedTuple):
    query: str
    positive: str
    negatives: tuple[str, ...] = ()


class _Part(NamedTuple):
    """A source: its kind, a key of `_READ`, and the paths to read."""

    name: str
    kind: str
    path: Path


class _Options(NamedTuple):
    limit: int | None
    seed: int
    ways: tuple[str, ...]
    each: int
    reject: Reject


def read_training(
    paths: str | Path | Iterable[str | Path],
    *,
    limit: int | None = None,
    seed: int = 0,
    generate: str | Sequence[str] | None = None,
    each: int = 1,
    skip_bad: bool = False,
) -> TrainingSet:
    """Returns what is to be learned from files and folders.

    A file of JSON lines with "query", "positive" and perhaps "negative" or "negatives" (a string or a list) holds
    pairs, other keys are passed over; a folder with such files is read as those files. A BEIR folder with a train
    split gives its train judgements and its whole corpus; the other splits are never opened. Everything else is read
    as documents, for which queries are made.

    Args:
        paths: one or several; files may be compressed.
        limit: the most pairs of a source; a random choice where it has more. Of documents so many are read.
        seed: of all choices.
        generate: how queries are made for documents, names from `generate.WAYS`; None for the default ways.
        each: how many ways a document goes through, at most.
        skip_bad: count broken lines as left out, instead of raising.

    Raises:
        TrainError: a missing file, a broken line, a line without a query or positive, or nothing is left.
    """
    ways = check_ways(generate)
    if (limit is not None and limit < 1) or each < 1:
        raise TrainError(f"limit and each are 1 or more, not {limit} and {each}")
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    gathering = _Gathering()
    try:
        for part in _named([part for path in given for part in _parts(Path(path))]):
            bad: list[IngestError] = []
            options = _Options(limit, seed, ways, each, rejecter(skip_bad=skip_bad, on_bad=bad.append))
            gathering.take(part, _READ[part.kind](part, options), len(bad), bad)
    except (IngestError, EvalError) as error:
        raise TrainError(str(error)) from error
    return gathering.done(given)


# Which sources a path names


def _parts(path: Path) -> Iterator[_Part]:
    """Yields the sources at a path, told apart by what they hold."""
    if str(path) == "-":
        raise TrainError("training reads files and folders, not standard input; write it to a file")
    if not path.exists():
        raise TrainError(f"{path}: there is no such file or folder; check the path")
    if path.is_dir():
        yield from _folder(path)
    else:
        yield _Part(_stem(path), _kind(path), path)


def _folder(folder: Path) -> Iterator[_Part]:
    if any((folder / f"corpus.jsonl{suffix}").is_file() for suffix in ("", *OPENERS)):
        judged = any((folder / "qrels").glob("train.tsv*"))
        yield _Part(folder.resolve().name, "beir" if judged else "documents", folder)
        return
    files = (file for file in sorted(folder.rglob("*")) if not _hidden(file.relative_to(folder)))
    lines = [file for file in files if file.is_file() and kind_of(file) in _JSON_LINES]
    pairs = [file for file in lines if _kind(file) == "pairs"]
    yield from (_Part(_stem(file), "pairs", file) for file in pairs)
    if not pairs:
        yield _Part(folder.resolve().name, "documents", folder)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _kind(file: Path) -> str:
    """Returns "pairs" for JSON lines the first of which speaks of a query or a positive, else "documents"."""
    if kind_of(file) not in _JSON_LINES:
        return "documents"
    (source,) = find_sources(file, _raise)
    with source.open() as stream:
        first = next(((number, line) for number, line in stream.lines(_raise) if line.strip()), None)
    if first is None:
        raise TrainError(f"{file}: is empty; expected one JSON object a line")
    try:
        record = parse_object(first[1])
    except IngestError as error:
        raise error.at(str(file), first[0]) from None
    return "pairs" if {"query", "positive"} & set(record) else "documents"


def _raise(error: IngestError) -> None:
    raise error


def _stem(path: Path) -> str:
    while path.suffix.lower() in OPENERS or path.suffix.lower() in READERS:
        path = path.with_suffix("")
    return path.name


def _named(parts: Sequence[_Part]) -> list[_Part]:
    """Returns sources that have names of their own: a path where two would have the same."""
    often = Counter(part.name for part in parts)
    return [part if often[part.name] == 1 else part._replace(name=str(part.path)) for part in parts]


# How each kind is read


class _Read(NamedTuple):
    """Records, documents that have no query, and how many records were passed over by reason."""

    records: list[_Record]
    documents: Iterable[str]
    dropped: Counter[str]


def _read_pairs(part: _Part, options: _Options) -> _Read:
    dropped: Counter[str] = Counter()
    (source,) = find_sources(part.path, options.reject)
    found = _fitting(_pairs_in(source, options.reject), dropped)
    return _Read(_sampled(found, options.limit, _random(part, options.seed)), (), dropped)


def _pairs_in(source: Source, reject: Reject) -> Iterator[_Record]:
    with source.open() as stream:
        for number, line in stream.lines(reject):
            if line.strip():
                try:
                    yield _record(parse_object(line))
                except IngestError as error:
                    reject(error.at(source.name, number))


def _record(values: Mapping[str, Any]) -> _Record:
    """Returns the pair on a line.

    Raises:
        IngestError: a key is missing, or a value is not text.
    """
    for key in ("query", "positive"):
        if key not in values:
            found = ", ".join(map(repr, list(values)[:8])) or "nothing"
            raise IngestError(f'no "{key}": expected "query" and "positive", found {found}')
    wrong = [one for key in ("negative", "negatives") for one in _listed(values.get(key))]
    query, positive, *negatives = (_text(one) for one in (values["query"], values["positive"], *wrong))
    return _Record(query, positive, tuple(negatives))


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise IngestError(f"a query, positive or negative is {kind_of_value(value)}; expected a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise IngestError("a text holds half a surrogate pair, which UTF-8 cannot hold; repair it") from None
    return value.strip()


def _read_beir(part: _Part, options: _Options) -> _Read:
    dropped: Counter[str] = Counter()
    dataset = load_beir(part.path, "train", skip_bad=True)
    texts = {document.id: document.full_text for document in dataset.documents()}
    judged = ((query, document) for query, found in dataset.qrels.items() for document, r in found.items() if r > 0)

    def records() -> Iterator[_Record]:
        for query, document in judged:
            if query in dataset.queries and document in texts:
                yield _Record(dataset.queries[query], texts[document])
            else:
                dropped["judged without a text"] += 1

    found = _sampled(_fitting(records(), dropped), options.limit, _random(part, options.seed))
    return _Read(found, texts.values(), dropped)


def _read_made(part: _Part, options: _Options) -> _Read:
    dropped: Counter[str] = Counter()
    random = _random(part, options.seed)
    whole = [way for way in options.ways if way == "heading"]  # which wants files as they are, not cut into passages
    others = [way for way in options.ways if way not in whole]
    readings: tuple[tuple[list[str], Passages], ...] = ((whole, "never"), (others, "auto"))
    records: list[_Record] = []
    for ways, passages in readings:
        if ways:
            documents = read_documents(part.path, passages=passages, skip_bad=True, on_bad=options.reject)
            kept = _sampled(documents, options.limit, random)
            records += _fitting(_made(kept, ways, options), dropped)
    if not records:
        raise TrainError(f"{part.path}: no query could be made by {', '.join(options.ways)}; name other ways")
    return _Read(_sampled(records, options.limit, random), (), dropped)


def _made(documents: Sequence[Document], ways: Sequence[str], options: _Options) -> Iterator[_Record]:
    common = Common.count(document.full_text for document in documents) if "keywords" in ways else None
    for query, text in generate(documents, ways, seed=options.seed, each=options.each, common=common):
        yield _Record(query, text)


_READ: dict[str, Callable[[_Part, _Options], _Read]] = {
    "pairs": _read_pairs,
    "beir": _read_beir,
    "documents": _read_made,
}


def _fitting(records: Iterable[_Record], dropped: Counter[str]) -> Iterator[_Record]:
    """Yields the records that can teach something; counts the others."""
    for record in records:
        problem = _problem(record)
        if problem:
            dropped[problem] += 1
        else:
            yield record


def _problem(record: _Record) -> str:
    if not at_least(record.query, 1):
        return "without a word in the query"
    if _FILE_NAME.fullmatch(record.query):
        return "with a file's name for a query"
    if not at_least(record.positive, SHORTEST):
        return f"with a document of under {SHORTEST} words"
    return "with a query that is the document" if normalised(record.query) == normalised(record.positive) else ""


def _sampled(items: Iterable[Item], limit: int | None, random: np.random.Generator) -> list[Item]:
    """Returns all items, or `limit` of them at random in their order, holding no more at a time (a reservoir)."""
    if limit is None:
        return list(items)
    kept: list[tuple[int, Item]] = []
    for number, item in enumerate(items):
        if number < limit:
            kept.append((number, item))
        elif (place := int(random.integers(number + 1))) < limit:
            kept[place] = number, item
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


def _random(part: _Part, seed: int) -> np.random.Generator:
    """Returns a source's own generator: what is chosen of it does not depend on the other sources."""
    return np.random.default_rng([seed, crc32(part.path.name.encode("utf-8", "surrogateescape"))])


# From records to a set


class _Gathering:
    """Pairs as they come, every document once."""

    def __init__(self) -> None:
        self.documents: list[str] = []
        self.known: dict[bytes, int] = {}
        self.queries: list[str] = []
        self.positives: list[int] = []
        self.groups: list[int] = []
        self.negatives: list[Positions] = []
        self.counts: list[Count] = []
        self._pairs: set[tuple[bytes, int]] = set()

    def take(self, part: _Part, read: _Read, bad: int, errors: Sequence[IngestError]) -> None:
        """Adds a source."""
        before, dropped = len(self.queries), Counter(read.dropped)
        for record in read.records:
            if not self._add(record, len(self.counts)):
                dropped["seen before"] += 1
        for text in read.documents:
            if at_least(text, SHORTEST):
                self._position(text)
        if bad:
            dropped[f"broken, the first: {errors[0]}"] = bad
        self.counts.append(Count(part.name, part.kind, len(self.queries) - before, dict(dropped)))

    def _add(self, record: _Record, group: int) -> bool:
        positive = self._position(record.positive)
        pair = digest(normalised(record.query)), positive
        if pair in self._pairs:
            return False
        self._pairs.add(pair)
        self.queries.append(record.query)
        self.positives.append(positive)
        self.groups.append(group)
        wrong = dict.fromkeys(self._position(text) for text in record.negatives if at_least(text, SHORTEST))
        self.negatives.append(np.array([position for position in wrong if position != positive], np.int64))
        return True

    def _position(self, text: str) -> int:
        found = self.known.setdefault(digest(normalised(text)), len(self.documents))
        if found == len(self.documents):
            self.documents.append(text)
        return found

    def done(self, given: Sequence[str | Path]) -> TrainingSet:
        """Returns the set."""
        if not self.queries:
            said = "; ".join(map(str, self.counts)) or "no file was named"
            raise TrainError(f"{', '.join(map(str, given)) or 'nothing'}: no pair is left to train on ({said})")
        return TrainingSet(
            self.documents,
            self.queries,
            np.array(self.positives, np.int64),
            np.array(self.groups, np.int32),
            tuple(count.name for count in self.counts),
            self.negatives if any(found.size for found in self.negatives) else None,
            tuple(self.counts),
        )

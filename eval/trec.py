"""Test collections of topics, qrels and documents, as TREC, MIRACL and Mr. TyDi publish them.

A folder holds them under names that say what they are; parts may lie in folders of their own and be compressed:

- topics*, topic*, queries*: SGML `<top><num><title>`, TSV (id, tab, text), or JSONL;
- qrels*, or any file in a folder qrels: `query 0 document relevance`, or BEIR's three columns;
- documents: JSONL (docid, title, text), or `<DOC><DOCNO>` in files called .trec, .sgml, .sgm or .xml.

Where topics or qrels are of several splits, the split stands in the name: qrels.miracl-v1.0-sw-dev.tsv.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..retriever.documents import Document, IngestError, check_document
from ..retriever.queries import check_query, read_queries, repeated
from ..retriever.readers import ID_KEYS, from_record, parse_object
from ..retriever.streams import Reject, Stream, kind_of, open_stream, rejecter
from .beir import judged_texts
from .contract import EvalError
from .dataset import Dataset
from .runs import read_qrels

SPLITS = ("train", "dev", "test", "valid", "validation", "trial", "testa", "testb")
DOCUMENT_IDS = ("docid", "docno", "doc_id")  # beside those that every reader knows
_TOPIC = re.compile(r"<top\b[^>]*>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"<num>\s*(?:number:)?\s*([^\s<]+)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(?:topic:)?\s*([^<]*)", re.IGNORECASE)
_DOCNO = re.compile(r"<docno>\s*(.*?)\s*</docno>", re.DOTALL | re.IGNORECASE)
_HEADING = re.compile(r"<(title|headline|hl|ti)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_TEXT = re.compile(r"<text>(.*?)</text>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def is_trec(folder: Path) -> bool:
    """Returns whether a folder holds topics and qrels under names that say so."""
    files = _files(folder)
    return bool(_topics(files)) and bool(_qrels(files))


def load_trec(folder: str | Path, split: str = "test", *, skip_bad: bool = False) -> Dataset:
    """Returns the test collection in a folder of topics, qrels and documents.

    Args:
        folder: see above.
        split: which topics and qrels, where there are several.
        skip_bad: judged queries without a text are not asked, and count as 0, instead of being an error.

    Raises:
        EvalError: a part is missing, or not there for the split; a malformed line.
    """
    folder = Path(folder)
    files = _files(folder)
    topics = _of_split(_topics(files), split, folder, "topics")
    judgements = _of_split(_qrels(files), split, folder, "qrels")
    documents = [path for path in files if kind_of(path) in READERS and path not in (*_topics(files), *_qrels(files))]
    if not documents:
        raise EvalError(f"{folder}: holds no documents; expected files called {', '.join(READERS)}, also compressed")
    qrels = read_qrels(judgements)
    texts = judged_texts(topics, judgements, qrels, read_topics, skip_bad=skip_bad)
    named = {"corpus" if len(documents) == 1 else f"corpus {path.relative_to(folder)}": path for path in documents}
    return Dataset(
        folder.resolve().name,
        split,
        documents[0] if len(documents) == 1 else folder,
        texts,
        qrels,
        {**named, "queries": topics, "qrels": judgements},
        TrecReader(documents),
    )


def read_topics(
    path: Path, *, skip_bad: bool = False, on_bad: Callable[[IngestError], None] | None = None
) -> list[tuple[str, str]]:
    """Returns (query id, text) pairs: titles of SGML topics, or whatever `read_queries` reads.

    Raises:
        IngestError: a missing file, a topic without a number or a title, a number used twice, or no topic at all.
    """
    reject = rejecter(skip_bad=skip_bad, on_bad=on_bad)
    with open_stream(path, str(path)) as stream:
        first = next((line for _, line in stream.lines(reject) if line.strip()), "")
    if not first.lstrip().startswith("<"):
        return read_queries(path, skip_bad=skip_bad, on_bad=on_bad)
    with open_stream(path, str(path)) as stream:
        text = stream.text()
    found: dict[str, tuple[str, int]] = {}
    for match in _TOPIC.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        number, title = _NUMBER.search(match[1]), _TITLE.search(match[1])
        try:
            if number is None or title is None:
                raise IngestError("a topic needs <num> and <title>")
            query, words = check_query(number[1], " ".join(html.unescape(title[1]).split()))
            if query in found:
                raise repeated(query, words, *found[query])
            found[query] = words, line
        except IngestError as error:
            reject(error.at(str(path), line))
    if not found:
        raise IngestError("holds no topic; expected <top> <num> ... <title> ... </top>", path=str(path))
    return [(query, words) for query, (words, _line) in found.items()]


class TrecReader:
    """Reads documents from files in TREC's or MIRACL's form.

    Args:
        files: in the order in which they are read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._paths = tuple(files)

    def __call__(
        self,
        *,
        skip_bad: bool = False,
        on_bad: Callable[[IngestError], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Iterator[Document]:
        """Yields the documents, whole.

        Raises:
            IngestError: a malformed document, with its file and line.
        """
        reject = rejecter(skip_bad=skip_bad, on_bad=on_bad)
        for path in self._paths:
            counted = 0
            with open_stream(path, str(path)) as stream:
                for document in READERS[kind_of(path)](stream, reject):
                    position = stream.position()
                    if on_bytes is not None:
                        on_bytes(position - counted)
                    counted = position
                    yield document


def read_records(stream: Stream, reject: Reject) -> Iterator[Document]:
    """Yields the documents of a JSONL file whose ids may be called docid, as MIRACL and Mr. TyDi do."""
    for number, line in stream.lines(reject):
        if not line.strip():
            continue
        try:
            record = parse_object(line)
            key = next((key for key in DOCUMENT_IDS if key in record), None)
            if key is not None and not any(known in record for known in ID_KEYS):
                record["_id"] = record.pop(key)
            document = check_document(from_record(record))
        except IngestError as error:
            reject(error.at(stream.name, number))
        else:
            yield document


def read_sgml(stream: Stream, reject: Reject) -> Iterator[Document]:
    """Yields the documents of a file of `<DOC>` elements, of which one at a time is held."""
    began, lines = 0, []
    for number, line in stream.lines(reject):
        if not began and "<doc>" in line.lower():
            began, lines = number, []
        if began:
            lines.append(line)
        if began and "</doc>" in line.lower():
            try:
                yield check_document(_document("\n".join(lines)))
            except IngestError as error:
                reject(error.at(stream.name, began))
            began = 0
    if began:
        reject(IngestError("this <DOC> has no </DOC>; the file is cut short", path=stream.name, line=began))


READERS: dict[str, Callable[[Stream, Reject], Iterator[Document]]] = {
    ".jsonl": read_records, ".ndjson": read_records, ".trec": read_sgml, ".sgml": read_sgml, ".sgm": read_sgml,
    ".xml": read_sgml,
}  # fmt: skip


def _document(text: str) -> Document:
    """Returns the document in a `<DOC>`: the text of its `<TEXT>`s, or all there is, without tags."""
    number = _DOCNO.search(text)
    if number is None:
        raise IngestError("a <DOC> needs a <DOCNO>")
    heading = _HEADING.search(text)
    rest = _HEADING.sub(" ", _DOCNO.sub(" ", text, count=1), count=1)
    parts = _TEXT.findall(rest) or [rest]
    return Document(number[1], _plain("\n".join(parts)), _plain(heading[2]) if heading else "")


def _plain(markup: str) -> str:
    return html.unescape(_TAG.sub(" ", markup)).strip()


def _files(folder: Path) -> list[Path]:
    """Returns the files below a folder, sorted, without hidden ones."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _topics(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.name.lower().startswith(("topic", "queries")) and path not in _qrels(files)]


def _qrels(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.name.lower().startswith("qrels") or path.parent.name.lower() == "qrels"]


def _of_split(files: Sequence[Path], split: str, folder: Path, what: str) -> Path:
    """Returns the file whose name holds the split, or the only one whose name holds none.

    Raises:
        EvalError: there is none, or more than one.
    """
    words = {path: {*re.split(r"[^a-z0-9]+", path.name.lower())} for path in files}
    named = [path for path in files if split.lower() in words[path]]
    plain = [path for path in files if not words[path] & {*SPLITS}]
    chosen = named or plain
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        names = ", ".join(str(path.relative_to(folder)) for path in chosen)
        raise EvalError(f"{folder}: several files of {what} for the split {split!r}: {names}; keep one")
    known = sorted({word for path in files for word in words[path] & {*SPLITS}})
    there = f"the splits here are {', '.join(known)}" if known else f"expected a file called {what}..."
    raise EvalError(f"{folder}: no {what} for the split {split!r}; {there}")

"""A test collection in BEIR's form: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..retriever.documents import IngestError
from ..retriever.queries import RepeatedQueryError, read_queries
from ..retriever.streams import OPENERS
from .contract import EvalError, Qrels
from .dataset import Dataset
from .runs import read_qrels


def load_beir(folder: str | Path, split: str = "test", *, skip_bad: bool = False) -> Dataset:
    """Returns the test collection in a folder; files may be compressed.

    Args:
        folder: holds corpus.jsonl, queries.jsonl and qrels/.
        split: which judgements.
        skip_bad: judged queries without a text are not asked, and count as 0, instead of being an error.

    Raises:
        EvalError: a missing file, a malformed judgement, or a judged query that has no text.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvalError(f"{folder}: there is no such folder; expected one with corpus.jsonl, queries.jsonl and qrels/")
    corpus, queries, judgements = _files(folder, split)
    qrels = read_qrels(judgements)
    texts = judged_texts(queries, judgements, qrels, read_queries, skip_bad=skip_bad)
    files = {"corpus": corpus, "queries": queries, "qrels": judgements}
    return Dataset(folder.resolve().name, split, corpus, texts, qrels, files)


def _files(folder: Path, split: str) -> tuple[Path, Path, Path]:
    names = ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")
    found = {name: _existing(folder, name) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        splits = sorted(path.name.split(".")[0] for path in (folder / "qrels").glob("*.tsv*"))
        hint = f"; the splits here are {', '.join(splits)}" if splits and names[2] in missing else ""
        raise EvalError(f"{folder} is no BEIR folder for the split {split!r}: {', '.join(missing)} missing{hint}")
    corpus, queries, judgements = (path for path in found.values() if path is not None)
    return corpus, queries, judgements


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for suffix in ("", *OPENERS) if (path := folder / f"{name}{suffix}").is_file()), None)


def judged_texts(
    path: Path, judgements: Path, qrels: Qrels, read: Callable[..., Iterable[tuple[str, str]]], *, skip_bad: bool
) -> dict[str, str]:
    """Returns the texts of the judged queries.

    A broken line matters only where it leaves one without: many collections hold lines that no judgement needs.

    Args:
        path: the file of queries.
        judgements: the file of the judgements, for the message.
        qrels: what it holds.
        read: reads the file, as `read_queries` does.
        skip_bad: judged queries without a text are left out; of two texts the first is taken.

    Raises:
        EvalError: a file without queries, or a judged query without a text, or with two.
    """
    broken: list[IngestError] = []
    try:
        texts = dict(read(path, skip_bad=True, on_bad=broken.append))
    except IngestError as error:
        raise EvalError(str(broken[0] if broken else error)) from None
    missing = [query for query in qrels if query not in texts]
    if missing and not skip_bad:
        raise EvalError(_missing(path, judgements, missing, broken))
    twice = [error for error in broken if isinstance(error, RepeatedQueryError) and error.query in qrels]
    if twice and not skip_bad:
        raise EvalError(f"{twice[0]}, and it is judged; keep one, or skip bad input to take the first")
    return {query: texts[query] for query in qrels if query in texts}


def _missing(path: Path, judgements: Path, missing: list[str], broken: list[IngestError]) -> str:
    shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
    also = f" ({len(broken)} bad lines there, the first: {broken[0]})" if broken else ""
    return (
        f"{judgements}: judged queries without a text in {path}: {len(missing)}, namely {shown}{also}; add their "
        "texts, or skip bad input to count them as 0"
    )

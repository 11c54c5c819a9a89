"""Learned vectors of a large collection, kept in a folder: encoded once, shard by shard, for sparse.py.

The lines of the collection are put into a random order that a seed fixes, so that the first n rows of the shards are a
sample of n passages, whatever n. The last lines of that order are held out: queries are made of them.

    facts.json    how many passages, held-out ones, rows a shard, which seed, which encoder
    order.npy     int64, the line of each row
    0000.npz ...  scipy matrices of weights; the last shard holds the held-out rows as well, which nobody reads
    queries.json  texts of the held-out passages and the first words of their titles
    short.npz, long.npz  both encoded, as queries and as documents
    literal.npy   int64, for each term the passages whose own text holds it, held-out ones not counted: for IDF
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

import json
import lzma
import sys
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray
from plait.encoders import load_learned
from plait.index.impacts import idf, quantised, step_for
from rows import Rows
from scipy.sparse import load_npz, save_npz
from vectors import SIAMESE_TERMS, strongest

SHARD, HELD_OUT, SEED, MAX_LENGTH = 8192, 512, 7, 256
TITLE_WORDS = 3  # of a title that serves as a short query: about six wordpieces
FORMS = ("short", "long")


def prepare(
    path: Path, folder: Path, *, held_out: int = HELD_OUT, shard: int = SHARD, max_length: int = MAX_LENGTH,
    threads: int = 1,
) -> None:  # fmt: skip
    """Encodes the passages of a file into a folder; what is there already is not encoded again.

    Args:
        path: .jsonl.xz, lines of `title` and `text`.
        folder: of the vectors.
        held_out: passages that become queries.
        shard: rows to a shard.
        max_length: wordpieces that the encoder reads of a passage.
        threads: of the encoder.
    """
    texts, titles = _read(path)
    if len(texts) <= held_out:
        common.fail(f"{path} has {len(texts):,} passages; expected more than the {held_out:,} to hold out")
    encoder = load_learned(max_length=max_length, threads=threads)
    facts = {
        "documents": len(texts) - held_out, "held_out": held_out, "shard": shard, "seed": SEED,
        "max_length": max_length, "encoder": encoder.identity.to_json(),
    }  # fmt: skip
    _keep_facts(folder, facts)
    order = np.random.default_rng(SEED).permutation(len(texts))
    np.save(folder / "order.npy", order)
    held = [(titles[i], texts[i]) for i in order[facts["documents"] :].tolist()]
    (folder / "queries.json").write_text(json.dumps([dict(zip(FORMS, pair, strict=True)) for pair in held], indent=0))
    _save(folder / "short.npz", lambda: encoder.encode_queries([title for title, _ in held]))
    _save(folder / "long.npz", lambda: encoder.encode_documents([text for _, text in held]))
    if not (folder / "literal.npy").exists():
        np.save(folder / "literal.npy", _literal(encoder, [texts[i] for i in order[: facts["documents"]].tolist()]))
    for number in range(-(-len(texts) // shard)):
        chosen = order[number * shard : (number + 1) * shard].tolist()
        began = time.perf_counter()
        if _save(folder / f"{number:04d}.npz", lambda rows=chosen: encoder.encode_documents([texts[i] for i in rows])):
            rate = len(chosen) / (time.perf_counter() - began)
            print(f"shard {number}: {len(chosen):,} passages, {rate:.0f} a second", file=sys.stderr)


def _read(path: Path) -> tuple[list[str], list[str]]:
    """Returns the passages' full texts, and the first words of their titles: about six wordpieces."""
    texts, titles = [], []
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            title = row.get("title") or ""
            texts.append(f"{title} {row['text']}".strip())
            titles.append(" ".join((title or row["text"]).split()[:TITLE_WORDS]))
    return texts, titles


def _keep_facts(folder: Path, facts: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "facts.json"
    if path.exists() and (found := json.loads(path.read_text(encoding="utf-8"))) != facts:
        other = [key for key in facts if facts[key] != found.get(key)]
        common.fail(f"{path} is of other vectors ({', '.join(other)} differ); expected the same, or an empty folder")
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _save(path: Path, encode: Any) -> bool:
    """Writes vectors unless they are there; renamed into place, so an interrupted run leaves none that is half."""
    if path.exists():
        return False
    made = path.with_name(f".{path.name}")
    save_npz(made, encode())
    made.rename(path)
    return True


def _literal(encoder: Any, texts: list[str]) -> NDArray[np.int64]:
    counts = np.zeros(0, np.int64)
    for start in range(0, len(texts), SHARD):
        rows = encoder.encode_queries(texts[start : start + SHARD])
        counts = (counts if counts.size else np.zeros(rows.shape[1], np.int64)) + rows.getnnz(axis=0)
    return counts


def facts_of(folder: Path) -> dict[str, Any]:
    """Returns what is known of a folder of vectors."""
    path = common.existing(folder, "a folder of vectors; `sparse.py prepare DATA VECTORS` makes one") / "facts.json"
    common.existing(path, "what `sparse.py prepare` writes")
    return json.loads(path.read_text(encoding="utf-8"))


def available(folder: Path) -> int:
    """Returns how many documents there are vectors of: all of them, once `prepare` has come to its end."""
    facts, number = facts_of(folder), 0
    while (folder / f"{number:04d}.npz").exists():
        number += 1
    return min(facts["documents"], number * facts["shard"])


def documents(folder: Path, count: int, *, bits: int = 8, in_file_order: bool = True) -> Rows:
    """Returns the impacts of the first passages of the random order, quantised as plait does it.

    Args:
        folder: of the vectors.
        count: how many passages.
        bits: of the largest impact there can be; the step grows accordingly.
        in_file_order: as they lie in the collection's file; else in the random order.
    """
    facts = facts_of(folder)
    if count > facts["documents"]:
        common.fail(f"{folder} has {facts['documents']:,} documents; {count:,} were asked for")
    step, parts = 0.0, []
    for number in range(-(-count // facts["shard"])):
        path = common.existing(folder / f"{number:04d}.npz", "a shard; `sparse.py prepare` makes the missing ones")
        rows: Any = load_npz(path).tocsr()[: count - number * facts["shard"]]
        rows.sort_indices()
        step = step or step_for(rows.data)
        parts.append((np.diff(rows.indptr), rows.indices.astype(np.uint16), _coarse(rows.data, step, bits)))
    lengths, terms, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    found = Rows(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), terms, values)
    return found.taken(np.argsort(np.load(folder / "order.npy")[:count])) if in_file_order else found


def _coarse(weights: NDArray[np.float32], step: float, bits: int) -> NDArray[np.uint8]:
    largest = 2**bits - 1
    return np.minimum(quantised(weights, step * 255 / largest), largest).astype(np.uint8)


def queries(folder: Path, form: str, count: int, *, levels: int = 255) -> Rows:
    """Returns queries with whole weights: the largest of a query is `levels`, the others in proportion, at least 1.

    Args:
        folder: of the vectors.
        form: "short": wordpieces of held-out titles, weighted by IDF; "long": vectors of held-out passages, cut to
            their largest weights.
        count: how many at most; a query without any term is left out.
        levels: the largest weight.
    """
    found: Any = load_npz(common.existing(folder / f"{form}.npz", "queries that `sparse.py prepare` encodes")).tocsr()
    found.sort_indices()
    if form == "short":
        weights = idf(np.load(folder / "literal.npy"), facts_of(folder)["documents"])[found.indices]
    else:
        found = strongest(found, SIAMESE_TERMS)
        weights = found.data
    kept = np.flatnonzero(np.diff(found.indptr))[:count]
    return _whole(found, weights.astype(np.float64), levels).taken(kept)


def _whole(rows: Any, weights: NDArray[np.float64], levels: int) -> Rows:
    lengths = np.diff(rows.indptr)
    filled = np.maximum.reduceat(weights, rows.indptr[:-1][lengths > 0])
    largest = np.repeat(filled, lengths[lengths > 0])
    values = np.clip(np.rint(weights * levels / largest), 1, levels).astype(np.uint8)
    return Rows(rows.indptr.astype(np.int64), rows.indices.astype(np.uint16), values)

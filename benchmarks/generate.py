"""Documents made up from real ones, for collections larger than the real one, and a table that says how alike they are.

A made-up document crosses two real ones that are near one another. A term that both have stays; a term of the first
stays with a probability that is drawn for the document, a term of the second with what is missing to one. So every
posting is inherited as often as every other, and the curve of document frequencies, the lengths and the distribution of
impacts stay as they are. Impacts get some noise.

Each document draws its random numbers from a seed and its own number alone: any part can be made by itself.
"""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import shards
from numba import njit
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rows import Rows

SEED = 11
NEIGHBOURS = 8  # of a real document that it is crossed with, one after another
LEAF = 512  # documents among which neighbours are looked for
DIMENSIONS = 128  # of the random projection in which they are
CHUNK = 16_384  # documents that are projected at a time
SHARE = 0.6  # least probability with which a term of the first parent stays; the largest is 1
NOISE = 0.05  # standard deviation of the logarithm of what an impact is multiplied with

NOTES = (
    "Both have the same number of documents and the same queries (all held-out passages). `generated` crosses every "
    "real document once; `from an eighth` makes the collection from an eighth of the real documents, each used eight "
    "times, as a collection of eight times the real size is made.",
    "Scores are relative: the best one to the sum of query weight times 255, the others to the best one. The bound of "
    "a block is the sum of query weight times the largest impact of the term in 32 neighbouring documents; pruning "
    "works where it is far below the 10th score.",
    "Similarities are cosines of impacts, of 200 documents with all others, and of neighbours in the order.",
)


def write(
    vectors: Path, folder: Path, count: int, *, bits: int = 8, order: str = "file", parents: int | None = None
) -> None:
    """Writes made-up documents into a folder, as rows.

    Args:
        vectors: folder of the real ones.
        folder: to write into.
        count: how many documents.
        bits: of the largest impact.
        order: "file": one pass over the real documents after another, in the order of their file; "random": any.
        parents: how many real documents to make them from; else all.
    """
    real = shards.documents(vectors, parents or shards.available(vectors))
    near = neighbours(real)
    first, number = sources(real.size, count)
    if order == "random":
        shuffled = np.random.default_rng(SEED).permutation(count)
        first, number = first[shuffled], number[shuffled]
    second = near[first, number % NEIGHBOURS]
    starts = np.zeros(count + 1, np.int64)
    _lengths(*real, first, second, number, starts[1:])
    np.cumsum(starts, out=starts)
    folder.mkdir(parents=True, exist_ok=True)
    terms, values = (
        open_memmap(folder / f"{name}.npy", "w+", kind, (int(starts[-1]),))
        for name, kind in (("terms", np.uint16), ("values", np.uint8))
    )
    _cross(*real, first, second, number, 2**bits - 1, starts, terms, values)
    terms.flush()
    values.flush()
    np.save(folder / "starts.npy", starts)


def sources(real: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the first parent of each document, and how often that parent was used before; the last pass is spread."""
    whole, rest = divmod(count, real)
    last = np.arange(rest, dtype=np.int64) * real // max(rest, 1)
    first = np.concatenate([np.tile(np.arange(real, dtype=np.int64), whole), last])
    return first, np.arange(count, dtype=np.int64) // real


def neighbours(rows: Rows) -> NDArray[np.int32]:
    """Returns documents that are near each document, nearest first, int32 (n, NEIGHBOURS)."""
    points = _projected(rows)
    order = np.arange(rows.size, dtype=np.int32)
    _tree(points, order, LEAF)
    near = np.empty((rows.size, NEIGHBOURS), np.int32)
    _nearest(points, order, LEAF, near)
    return near


def _projected(rows: Rows) -> NDArray[np.float32]:
    """Returns a random projection of the rows, terms weighted by their rarity, scaled to length 1."""
    frequency = np.bincount(rows.terms, minlength=rows.width)
    rarity = np.log1p(rows.size / (frequency + 1.0))[:, None]
    directions = (np.random.default_rng(SEED).normal(size=(rows.width, DIMENSIONS)) * rarity).astype(np.float32)
    points = np.empty((rows.size, DIMENSIONS), np.float32)
    for start in range(0, rows.size, CHUNK):
        points[start : start + CHUNK] = rows.part(start, start + CHUNK).matrix(np.float32, rows.width) @ directions
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)


@njit(cache=True)
def _random(state):  # noqa: ANN001, ANN202  # numba infers them, here and below
    """Returns the next state and a number in [0, 1): splitmix64."""
    state += np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return state, np.float64(z >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True)
def _tree(points, order, leaf):  # noqa: ANN001, ANN202
    """Orders documents so that every run of a leaf's size is a cluster: halves, again and again, at the median."""
    starts, stops, depth = np.zeros(128, np.int64), np.zeros(128, np.int64), 1
    stops[0] = order.size
    state = np.uint64(SEED)
    while depth:
        depth -= 1
        start, stop = starts[depth], stops[depth]
        if stop - start <= leaf:
            continue
        members = order[start:stop]
        state, at = _random(state)
        state, other = _random(state)
        direction = points[members[int(at * members.size)]] - points[members[int(other * members.size)]]
        for _ in range(2):  # the difference of the means of both sides, from a sample
            direction = _refined(points, members, direction)
        along = np.empty(members.size, np.float32)
        for i in range(members.size):
            along[i] = np.dot(points[members[i]], direction)
        order[start:stop] = members[np.argsort(along)]
        middle = start + (stop - start) // (2 * leaf) * leaf + (leaf if (stop - start) < 2 * leaf else 0)
        starts[depth], stops[depth] = start, middle
        starts[depth + 1], stops[depth + 1] = middle, stop
        depth += 2


@njit(cache=True)
def _refined(points, members, direction):  # noqa: ANN001, ANN202
    step = max(1, members.size // 512)
    along = np.empty((members.size + step - 1) // step, np.float32)
    for i in range(along.size):
        along[i] = np.dot(points[members[i * step]], direction)
    middle = np.median(along)
    refined = np.zeros_like(direction)
    for i in range(along.size):
        if along[i] > middle:
            refined += points[members[i * step]]
        else:
            refined -= points[members[i * step]]
    return refined


@njit(cache=True)
def _nearest(points, order, leaf, near):  # noqa: ANN001, ANN202
    """Fills in the nearest of a document's leaf; itself, should the leaf have too few."""
    count = near.shape[1]
    for start in range(0, order.size, leaf):
        members = order[start : start + leaf]
        inside = points[members]
        products = np.dot(inside, inside.T)
        for i in range(members.size):
            products[i, i] = -2
            best = np.argsort(-products[i])
            for j in range(count):
                near[members[i], j] = members[best[j % max(1, members.size - 1)]]


@njit(cache=True)
def _state(document, number):  # noqa: ANN001, ANN202
    state = np.uint64(SEED) * np.uint64(0x9E3779B97F4A7C15) ^ (np.uint64(document) << np.uint64(20)) ^ np.uint64(number)
    return _random(_random(state)[0])


@njit(cache=True)
def _lengths(starts, terms, values, first, second, number, lengths):  # noqa: ANN001, ANN202
    """Fills in how many terms each document has: the same draws as `_cross` makes."""
    room_terms, room_values = np.empty(65536, np.uint16), np.empty(65536, np.uint8)
    for d in range(first.size):
        lengths[d] = _one(starts, terms, values, first[d], second[d], number[d], 255, room_terms, room_values)


@njit(cache=True)
def _cross(starts, terms, values, first, second, number, largest, to, new_terms, new_values):  # noqa: ANN001, ANN202
    """Fills in the documents."""
    for d in range(first.size):
        inside_terms, inside_values = new_terms[to[d] : to[d + 1]], new_values[to[d] : to[d + 1]]
        _one(starts, terms, values, first[d], second[d], number[d], largest, inside_terms, inside_values)


@njit(cache=True)
def _one(starts, terms, values, first, second, number, largest, new_terms, new_values):  # noqa: ANN001, ANN202
    """Crosses two documents, merging their terms, and returns how many terms there are."""
    state, share = _state(first, number)
    share = SHARE + (1 - SHARE) * share
    i, end_i, j, end_j, size = starts[first], starts[first + 1], starts[second], starts[second + 1], 0
    while i < end_i or j < end_j:
        from_first = j >= end_j or (i < end_i and terms[i] <= terms[j])
        both = from_first and j < end_j and i < end_i and terms[i] == terms[j]
        state, draw = _random(state)
        state, noise = _random(state)
        state, more = _random(state)
        keep = both or draw < (share if from_first else 1 - share)
        if keep:
            value = values[i] if from_first and not (both and draw >= share) else values[j]
            new_terms[size] = terms[i] if from_first else terms[j]
            # The sum of two uniform numbers less one has a standard deviation of 1 / sqrt(6).
            value = value * np.exp(NOISE * 2.449 * (noise + more - 1)) * largest / 255
            new_values[size] = np.uint8(min(largest, max(1, int(value + 0.5))))
            size += 1
        if both:
            i, j = i + 1, j + 1
        elif from_first:
            i += 1
        else:
            j += 1
    return size


# How alike they are


def calibration(vectors: Path, count: int, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the figures of real and generated documents, by table, row and column.

    Args:
        vectors: folder of the real ones.
        count: documents of each collection.
        folder: for the generated ones.
    """
    from rows import load

    write(vectors, folder / "one", count, parents=count)
    write(vectors, folder / "eighth", count, parents=max(1, count // 8))
    collections = {
        "real": shards.documents(vectors, count),
        "generated": load(folder / "one"),
        "from an eighth": load(folder / "eighth"),
    }
    asked = {form: shards.queries(vectors, form, 10**9) for form in shards.FORMS}
    found = {name: figures(rows, asked) for name, rows in collections.items()}
    titles = next(iter(found.values()))
    return {title: {name: each[title] for name, each in found.items()} for title in titles}


def figures(rows: Rows, asked: Mapping[str, Rows]) -> dict[str, dict[str, float]]:
    """Returns what describes a collection, by table."""
    frequency = np.sort(np.bincount(rows.terms, minlength=rows.width))[::-1]
    tables = {
        "Documents that hold the n-th most frequent term": {
            f"{n:,}": float(frequency[n - 1]) for n in (1, 10, 100, 1000, 3000, 10_000, 20_000) if n <= frequency.size
        },
        "Terms of a document": _described(np.diff(rows.starts)),
        "Impact of a posting": _described(np.asarray(rows.values)),
        "Similarity": _similarity(rows),
    }
    for form, queries in asked.items():
        tables[f"{form} queries".capitalize()] = _answers(rows, queries)
    return tables


def _described(values: NDArray[Any]) -> dict[str, float]:
    shares = (0.01, 0.1, 0.5, 0.9, 0.99)
    quantiles = np.quantile(values, shares)
    return {"mean": float(values.mean()), **{f"{s:.0%}": float(q) for s, q in zip(shares, quantiles, strict=True)}}


def _similarity(rows: Rows) -> dict[str, float]:
    """Returns cosines: of some documents with their 1st, 10th, 100th nearest, and with the next in the order."""
    from contest import CHUNK as STEP

    norms = np.sqrt(np.add.reduceat(np.square(np.append(rows.values, 0).astype(np.int64)), rows.starts[:-1]) + 1e-9)
    chosen = np.linspace(0, rows.size - 2, min(200, rows.size - 1)).astype(np.int64)
    wanted = rows.taken(chosen).matrix(np.float32, rows.width)
    wanted = np.ascontiguousarray(wanted.T.toarray() / norms[chosen])
    best = np.zeros((chosen.size, 101), np.float32)
    for start in range(0, rows.size, STEP):
        part = rows.part(start, start + STEP)
        products = (part.matrix(np.float32, rows.width) @ wanted) / norms[start : start + part.size, None]
        both = np.concatenate([best, products.T.astype(np.float32)], axis=1)
        best = np.partition(both, both.shape[1] - 101, axis=1)[:, -101:]
    best = -np.sort(-best, axis=1)  # the first is the document itself
    after = rows.taken(chosen + 1).matrix(np.float32, rows.width).toarray().T / norms[chosen + 1]
    named = {f"{n}{'st' if n == 1 else 'th'} nearest": float(best[:, n].mean()) for n in (1, 10, 100)}
    return {**named, "next in the order": float((wanted * after).sum(axis=0).mean())}


def _answers(rows: Rows, queries: Rows) -> dict[str, float]:
    """Returns postings and scores of queries, and the bounds of blocks of documents."""
    from contest import best_scores

    best = best_scores(rows, queries, 1000).astype(np.float64)
    most = 255.0 * np.add.reduceat(queries.values, queries.starts[:-1], dtype=np.int64)
    frequency = np.bincount(rows.terms, minlength=65_536)
    inside = best[:, 0] > 0
    shown = {f"score {n}": float((best[inside, n - 1] / best[inside, 0]).mean()) for n in (10, 100, 1000)}
    return {
        "postings": float(frequency[queries.terms].sum() / queries.size),
        "score 1": float((best[:, 0] / most).mean()),
        **shown,
        **_bounds(rows, queries, best),
    }


def _bounds(rows: Rows, queries: Rows, best: NDArray[np.float64], size: int = 32) -> dict[str, float]:
    """Returns the mean bound of blocks, to the best score, and the share of blocks whose bound reaches the 10th."""
    starts, documents, impacts = rows.inverted()
    means, reached = [], []
    for i in range(0, queries.size, 8):
        bounds = np.zeros(-(-rows.size // size))
        for term, weight in zip(*(each.tolist() for each in queries.row(i)), strict=True):
            if term + 1 < starts.size and starts[term] < starts[term + 1]:
                inside = slice(starts[term], starts[term + 1])
                blocks = documents[inside] // size
                first = np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1]))
                bounds[blocks[first]] += weight * np.maximum.reduceat(impacts[inside], first).astype(np.float64)
        if best[i, 0]:
            means.append(bounds.mean() / best[i, 0])
            reached.append(np.count_nonzero(bounds >= best[i, 9]) / bounds.size)
    return {"bound of a block": float(np.mean(means)), "blocks to visit": float(np.mean(reached))}


def table(title: str, columns: Mapping[str, Mapping[str, float]]) -> common.Table:
    """Returns figures as a table: a row a collection."""
    names: Sequence[str] = list(next(iter(columns.values())))
    rows = [(name, *(_shown(each[key]) for key in names)) for name, each in columns.items()]
    return common.Table(title, ("", *names), rows)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

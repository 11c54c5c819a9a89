"""A dense query without a transformer: a row for each word piece, whose sum has the direction of the encoder's vector.

The idea is that of LightRetriever (arXiv 2505.12260): documents keep the transformer's vectors, a query is looked up.
Rows begin with what the encoder says of the piece alone, less the mean of all pieces, and the shorter the commoner the
piece (Model2Vec; SIF, Arora et al., ICLR 2017): so rare pieces are good before any training, and those that no query
has stay as they are. Then gradient steps turn the sums towards the encoder's vectors of whole queries.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import TrainError
from .losses import LOSSES
from .recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .model import Trunk

    Floats = NDArray[np.float32]
    Ids = Sequence[NDArray[np.int64]]

COMMON = 3e-4  # a piece of this share of all pieces begins at half its length
MOMENTS = (0.9, 0.98)  # of Adam
_TINY = 1e-12
_AT_ONCE = 1024  # word pieces encoded in one batch


class StaticTable(NamedTuple):
    """Vectors of word pieces; a query is their sum, projected, at length one.

    Attributes:
        table: float32 (vocabulary, width); rows of special tokens are zero.
        projection: float32 (width, d); None where the width is d.
    """

    table: Floats
    projection: Floats | None

    def encode(self, query_ids: Ids) -> Floats:
        """Returns float32 (queries, d), each at length one; zero for a query without pieces."""
        sums = np.stack(
            [np.zeros(self.table.shape[1], np.float32), *(self.table[ids].sum(axis=0) for ids in query_ids)]
        )
        return unit(sums[1:] if self.projection is None else sums[1:] @ self.projection)


def train_static(
    query_ids: Ids,
    targets: Floats,
    document_vectors: Floats | None = None,
    recipe: Recipe = RECIPES["static-query"],
    *,
    vocabulary: int,
    specials: Sequence[int] = (),
    positives: NDArray[np.int64] | None = None,
    start: Floats | None = None,
    on_step: Callable[[Mapping[str, float]], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
) -> StaticTable:
    """Returns a query table trained towards an encoder's query vectors.

    The same input gives the same table, whether or not the training was interrupted.

    Args:
        query_ids: int (pieces,) of each query, repeats counted; special tokens are left out here.
        targets: (queries, d), the encoder's vectors of them, at length one.
        document_vectors: (documents, d), at length one; for the recipe's `losses`, which compare scores.
        recipe: of strand "dense": `steps`, `queries` a step, `documents` a step, `losses` beside the distance, `scale`
            of scores in them, `rate`, `decay`, `table_width`, `seed`.
        vocabulary: rows of the table.
        specials: ids that have no row.
        positives: int (queries,), the document that answers each query; -1 where none does.
        start: (vocabulary, d), first values, as `first_table` gives; by default what `centroids` gives.
        on_step: told what each step measured.
        checkpoint: a folder; where it holds an interrupted training, that goes on.
        checkpoint_every: steps between savings.

    Raises:
        TrainError: shapes do not fit, an id is outside the vocabulary, no query has a piece, the recipe asks for what
            is not given, or the checkpoint is of another training.
    """
    bags = Bags.of(query_ids, specials)
    _check(bags, targets, document_vectors, recipe, vocabulary, positives, start)
    rows = centroids(bags, targets, vocabulary) if start is None else start
    training = TableTraining(bags, targets, recipe, *narrowed(_without(rows, specials), recipe.table_width))
    training.documents, training.positives = document_vectors, positives
    if checkpoint is not None:
        training.resume(checkpoint)
    for measured in training.run():
        if on_step is not None:
            on_step(measured)
        if checkpoint is not None and (training.done % checkpoint_every == 0 or training.done == recipe.steps):
            training.save(checkpoint)
    return training.result()


# First values


@torch.no_grad()
def encoded_alone(trunk: Trunk, before: int, after: int) -> Floats:
    """Returns float32 (vocabulary, d): each piece encoded alone, as "[CLS] piece [SEP]", mean pooled, at length one.

    Args:
        trunk: the encoder.
        before: the id of [CLS].
        after: the id of [SEP].
    """
    found = []
    for pieces in torch.arange(len(trunk.words)).split(_AT_ONCE):
        ids = torch.stack([torch.full_like(pieces, before), pieces, torch.full_like(pieces, after)], dim=1)
        mask = torch.ones_like(ids, dtype=torch.bool)
        found.append(trunk.above(trunk.below(ids, mask), mask).float().mean(dim=1))
    return unit(torch.cat(found).numpy())


def first_table(alone: Floats, counts: NDArray[Any], specials: Sequence[int] = (), common: float = COMMON) -> Floats:
    """Returns float32 (vocabulary, d), the rows to begin with.

    What all pieces share says nothing of any and is taken away; then a row is as long as a / (a + p), of a piece that
    is the share p of all pieces.

    Args:
        alone: (vocabulary, d), what `encoded_alone` gives.
        counts: (vocabulary,), how often each piece occurs in some text.
        specials: ids whose rows are zero.
        common: a.
    """
    return _of_length(alone - alone.mean(axis=0), counts, specials, common)


def centroids(bags: Bags, targets: Floats, vocabulary: int, common: float = COMMON) -> Floats:
    """Returns float32 (vocabulary, d): the mean target of the queries that have a piece, less that of all queries.

    For want of `encoded_alone`: a piece that no query has is nothing, and one of a single query is that query.
    """
    from scipy.sparse import csr_matrix

    ones = np.ones(bags.ids.size, np.float32)
    holds = csr_matrix((ones, bags.ids, bags.starts), shape=(bags.queries, vocabulary))
    sums = holds.T @ (targets - targets.mean(axis=0))
    return _of_length(sums, np.bincount(bags.ids, minlength=vocabulary), (), common)


def _of_length(directions: Floats, counts: NDArray[Any], specials: Sequence[int], common: float) -> Floats:
    counts = np.array(counts, np.float64)
    counts[list(specials)] = 0
    share = counts / max(counts.sum(), 1.0)
    rows = unit(directions) * (common / (common + share))[:, None]
    rows[list(specials)] = 0
    return rows.astype(np.float32)


def narrowed(rows: Floats, width: int) -> tuple[Floats, Floats | None]:
    """Returns rows and projection of another width: the rows' principal directions; width 0 leaves them as they are."""
    if not width:
        return np.array(rows, np.float32), None
    _, directions = np.linalg.eigh((rows.T @ rows).astype(np.float64))  # ascending
    projection = np.ascontiguousarray(directions[:, ::-1][:, :width].T, np.float32)
    return rows @ projection.T, projection


# Training


class Bags(NamedTuple):
    """Word pieces of queries, one after the other.

    Attributes:
        ids: int64 (pieces,).
        starts: int64 (queries + 1,), where each query begins.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, queries: Ids, specials: Sequence[int] = ()) -> Bags:
        """Returns the pieces of some queries without special tokens."""
        lengths = [len(ids) for ids in queries]
        flat = np.concatenate([np.empty(0, np.int64), *queries]).astype(np.int64)
        kept = ~np.isin(flat, list(specials))
        before = np.concatenate([[0], np.cumsum(kept)])
        return cls(flat[kept], before[np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)])

    def some(self, chosen: NDArray[np.int64]) -> Bags:
        """Returns some of the queries."""
        first, lengths = self.starts[chosen], self.starts[chosen + 1] - self.starts[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Bags(self.ids[np.repeat(first - starts[:-1], lengths) + np.arange(starts[-1])], starts)

    @property
    def queries(self) -> int:
        """How many there are."""
        return len(self.starts) - 1


class Rows:
    """A matrix under Adam that moves only the rows a step has met; the second moment is one number a row.

    A piece seen once moves once, and along its gradient: with a moment for each number it would move as far in every
    coordinate, and pieces that no query of the step has would drift on.

    Args:
        values: (rows, columns), changed in place.
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.first = values, torch.zeros_like(values)
        self.second, self.met = torch.zeros(len(values)), torch.zeros(len(values))

    def move(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Takes one step of some rows against their gradient."""
        self.met[rows] += 1
        met = self.met[rows]
        first = self.first[rows].lerp_(gradient, 1 - MOMENTS[0])
        second = self.second[rows].lerp_(gradient.square().mean(dim=1), 1 - MOMENTS[1])
        self.first[rows], self.second[rows] = first, second
        length = (second / (1 - MOMENTS[1] ** met)).sqrt() + _TINY
        self.values[rows] -= first * (rate / (1 - MOMENTS[0] ** met) / length)[:, None]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Returns everything that moving changes, by name."""
        own = {"values": self.values, "first": self.first, "second": self.second, "met": self.met}
        return {f"{name}.{part}": tensor for part, tensor in own.items()}


class TableTraining:
    """Steps of a recipe over a table; each depends on the recipe, the seed and its number alone.

    Args:
        bags: the queries.
        targets: (queries, d).
        recipe: how.
        table: (vocabulary, width), first values.
        projection: (width, d), or None.
    """

    def __init__(self, bags: Bags, targets: Floats, recipe: Recipe, table: Floats, projection: Floats | None) -> None:
        self.bags, self.targets, self.recipe = bags, targets, recipe
        self.table = Rows(torch.from_numpy(np.array(table, np.float32)))
        self.projection = None if projection is None else Rows(torch.from_numpy(np.array(projection, np.float32)))
        self.documents: Floats | None = None
        self.positives: NDArray[np.int64] | None = None
        self.done = 0
        self._asked = np.flatnonzero(np.diff(bags.starts) > 0)

    def run(self, until: int | None = None) -> Iterator[dict[str, float]]:
        """Yields what each step measured: the distance and the losses beside it."""
        last = self.recipe.steps if until is None else min(until, self.recipe.steps)
        while self.done < last:
            measured = self._step()
            self.done += 1
            yield {"step": self.done, **measured}

    def _step(self) -> dict[str, float]:
        random = np.random.default_rng([self.recipe.seed, self.done])
        wanted = min(self.recipe.queries, len(self._asked))
        chosen = self._asked[random.choice(len(self._asked), wanted, replace=False)]
        bags, target = self.bags.some(chosen), torch.from_numpy(self.targets[chosen]).float()
        rows, place = torch.unique(torch.from_numpy(bags.ids), return_inverse=True)
        held = self.table.values[rows].requires_grad_()
        turned = None if self.projection is None else self.projection.values.clone().requires_grad_()
        vectors = _summed(held, place, torch.from_numpy(bags.starts[:-1]), turned)
        losses = {"distance": (1 - (vectors * target).sum(dim=1)).mean()}
        losses |= self._beside(vectors, target, chosen, random)
        weights = {"distance": 1.0, **self.recipe.losses}
        total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self._learn(total, rows, held, turned)
        return {"loss": float(total.detach()), **{name: float(value.detach()) for name, value in losses.items()}}

    def _beside(
        self, vectors: Tensor, target: Tensor, chosen: NDArray[np.int64], random: np.random.Generator
    ) -> dict[str, Tensor]:
        """Returns the losses over scores, of the step's queries against some answers and some other documents."""
        names = [name for name, weight in self.recipe.losses.items() if weight]
        if not names or self.documents is None:
            return {}
        answers = np.full(len(chosen), -1) if self.positives is None else self.positives[chosen]
        known = answers[answers >= 0][: self.recipe.documents // 2]
        others = random.choice(len(self.documents), min(self.recipe.documents, len(self.documents)), replace=False)
        drawn = np.unique(np.concatenate([known, others[: self.recipe.documents - len(known)]]))
        documents = torch.from_numpy(self.documents[drawn]).float()
        right = torch.from_numpy(answers[:, None] == drawn[None, :])
        scores, wanted = (x @ documents.T * self.recipe.scale for x in (vectors, target))
        return {name: LOSSES[name](scores, wanted, right) for name in names}

    def _learn(self, total: Tensor, rows: Tensor, held: Tensor, turned: Tensor | None) -> None:
        if not math.isfinite(float(total.detach())):
            raise TrainError(f"the loss of step {self.done + 1} is not a number: lower `rate`")
        total.backward()
        left = (self.recipe.steps - self.done) / max(1.0, self.recipe.steps * self.recipe.decay)
        rate = self.recipe.rate * min(1.0, left)
        assert held.grad is not None
        self.table.move(rows, held.grad, rate)
        if self.projection is not None and turned is not None and turned.grad is not None:
            self.projection.move(torch.arange(len(turned)), turned.grad, rate)

    def result(self) -> StaticTable:
        """Returns the table as it is now."""
        projection = None if self.projection is None else self.projection.values.numpy().copy()
        return StaticTable(self.table.values.numpy().copy(), projection)

    def _tensors(self) -> dict[str, Tensor]:
        return self.table.tensors("table") | ({} if self.projection is None else self.projection.tensors("projection"))

    def _about(self) -> dict[str, str]:
        """Returns what an interrupted training must share with this one."""
        known = blake2b(digest_size=16)
        for array in (self.bags.ids, self.bags.starts, self.targets, self.documents, self.positives):
            known.update(b"none" if array is None else np.ascontiguousarray(array).data)
        return {"recipe": json.dumps(self.recipe.to_json(), sort_keys=True), "data": known.hexdigest()}

    def save(self, folder: Path) -> None:
        """Writes all that is needed to go on; the file changes whole or not at all."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{STATE}"
        save_file(self._tensors(), scratch, metadata={"done": str(self.done), **self._about()})
        scratch.replace(folder / STATE)

    def resume(self, folder: Path) -> bool:
        """Goes on from what `save` wrote; tells whether there was something.

        Raises:
            TrainError: it is damaged, or of another recipe or other queries.
        """
        from safetensors import safe_open

        path = folder / STATE
        if not path.is_file():
            return False
        try:
            with safe_open(path, "pt") as file:
                about, theirs = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors' own type, which is not exported everywhere
            raise TrainError(f"{path} cannot be read ({error}): remove it to begin anew") from error
        mine = self._tensors()
        fits = mine.keys() == theirs.keys() and all(mine[name].shape == theirs[name].shape for name in mine)
        if not fits or any((about or {}).get(name) != value for name, value in self._about().items()):
            raise TrainError(f"{path} was made by another recipe or from other queries: give another folder")
        for name, tensor in mine.items():
            tensor.copy_(theirs[name])
        self.done = int(about["done"])
        return True


STATE = "table.safetensors"


def _without(rows: Floats, specials: Sequence[int]) -> Floats:
    rows = np.array(rows, np.float32)
    rows[list(specials)] = 0
    return rows


def unit(vectors: Floats) -> Floats:
    """Returns vectors at length one; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)


def _summed(held: Tensor, place: Tensor, starts: Tensor, projection: Tensor | None) -> Tensor:
    """Returns (queries, d), each the sum of its rows, projected, at length one."""
    sums = torch.nn.functional.embedding_bag(place, held, starts, mode="sum")
    return torch.nn.functional.normalize(sums if projection is None else sums @ projection, dim=1, eps=_TINY)


def _check(
    bags: Bags,
    targets: Floats,
    documents: Floats | None,
    recipe: Recipe,
    vocabulary: int,
    positives: NDArray[np.int64] | None,
    start: Floats | None,
) -> None:
    if recipe.strand != "dense":
        raise TrainError(f"recipe {recipe.name!r} is of strand {recipe.strand!r}: a query table needs strand 'dense'")
    count = bags.queries
    if targets.ndim != 2 or len(targets) != count:
        raise TrainError(f"targets are {targets.shape}, expected ({count}, d): a vector for each query")
    if not bags.ids.size:
        raise TrainError(f"none of {count} queries has a word piece: give queries with words")
    if bags.ids.min() < 0 or bags.ids.max() >= vocabulary:
        raise TrainError(f"ids go from {bags.ids.min()} to {bags.ids.max()}, expected 0 to {vocabulary - 1}")
    width = targets.shape[1]
    if start is not None and start.shape != (vocabulary, width):
        raise TrainError(f"start is {start.shape}, expected ({vocabulary}, {width})")
    if recipe.table_width > width:
        raise TrainError(f"table_width is {recipe.table_width}, but the vectors have {width} numbers: at most that")
    if documents is None and any(recipe.losses.values()):
        names = ", ".join(recipe.losses)
        raise TrainError(f"the losses {names} compare scores: give document_vectors, or a recipe with losses={{}}")
    if documents is not None and (documents.ndim != 2 or documents.shape[1] != width or not len(documents)):
        raise TrainError(f"document_vectors are {documents.shape}, expected (documents, {width}), one at least")
    if positives is None:
        return
    if len(positives) != count or documents is None or positives.max(initial=-1) >= len(documents):
        size = 0 if documents is None else len(documents)
        raise TrainError(
            f"positives are {len(positives)} up to {positives.max(initial=-1)}, expected {count} below {size}"
        )

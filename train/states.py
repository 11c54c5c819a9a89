"""The states that leave the shared, frozen layers, computed once and kept: a step then starts at the branch.

A row of int8 and a scale a token, as the int8 encoder itself rounds them at the next product. 12 million tokens of
width 384 are 4.7 GB on disk, memory-mapped. On a processor the layers are those of the int8 encoder itself: twice as
fast as float32, what the branch will meet in use, and the same pass gives the base's dense vectors, for a teacher.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..encoders.checkpoint import Checkpoint
from ..encoders.graph import INPUT, OUTPUT, ROWS
from ..encoders.heads import trunk_graph
from ..encoders.onnx_runtime import TOKEN_BUDGET, available_cores, batches, in_threads, open_session
from .errors import TrainError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .model import Trunk

SHARD = 4096  # documents in one file
PADDED = 4096  # tokens, padding included, that go through layers at a time
LAST = "codes"  # the part of a shard that is written last
Progress = Callable[[int, int], None]


def grouped(lengths: Sequence[int], budget: int = PADDED) -> list[list[int]]:
    """Returns positions, the longest first, in groups whose padded tokens stay within a budget."""
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        last = groups[-1] if groups else []
        if last and (len(last) + 1) * lengths[last[0]] <= budget:
            last.append(position)
        else:
            groups.append([position])
    return groups


def padded(ids: Sequence[NDArray[np.int64]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns int64 ids and the bool mask of their places, (texts, longest)."""
    longest = max(len(one) for one in ids)
    table = np.zeros((len(ids), longest), np.int64)
    mask = np.zeros((len(ids), longest), bool)
    for row, one in enumerate(ids):
        table[row, : len(one)] = one
        mask[row, : len(one)] = True
    return torch.from_numpy(table).to(device), torch.from_numpy(mask).to(device)


class Live:
    """States computed as they are asked for: for a trunk that learns, or one pass over many texts.

    Args:
        trunk: the model.
        ids: token ids of each document.
        device: where to compute.
    """

    def __init__(self, trunk: Trunk, ids: Sequence[NDArray[np.int64]], device: torch.device) -> None:
        self._trunk, self._ids, self._device = trunk, ids, device

    def __call__(self, documents: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns the states where the branch leaves, (documents, longest, width), and the mask."""
        ids, mask = padded([self._ids[document] for document in documents], self._device)
        return self._trunk.below(ids, mask), mask


class Shard(NamedTuple):
    """What is kept of some documents, one after the other.

    Attributes:
        codes: int8 (tokens, width).
        scales: float32 (tokens,).
        vectors: float32 (documents, width), dense vectors of the base; (0, width) where nobody computed them.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    vectors: NDArray[np.float32]


class Layers(Protocol):
    """Frozen layers that compute what is kept."""

    @property
    def key(self) -> str:
        """A name that changes with whatever moves a state."""
        ...

    def __call__(self, ids: Sequence[NDArray[np.int64]]) -> Shard:
        """Returns the states of some documents, given their token ids."""
        ...


class TorchLayers:
    """The layers below the branch, by torch.

    Args:
        trunk: the frozen model.
        device: where to compute.
        precise: float32 instead of bfloat16.
    """

    def __init__(self, trunk: Trunk, device: torch.device, *, precise: bool = False) -> None:
        self._trunk, self._device, self._precise = trunk, device, precise

    @property
    def key(self) -> str:
        """A name that changes with the shared layers' weights and the precision."""
        digest = hashlib.sha256(json.dumps([self._trunk.shared, "fp32" if self._precise else "bf16"]).encode())
        for name, tensor in self._trunk.shared_tensors():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, ids: Sequence[NDArray[np.int64]]) -> Shard:
        """Returns the states of some documents; no dense vectors.

        Raises:
            TrainError: a state is no number.
        """
        lengths = [len(one) for one in ids]
        shard, starts = _empty(lengths, self._trunk.width, 0)
        live = Live(self._trunk, ids, self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=not self._precise):
            for group in grouped(lengths):
                states, _ = live(group)
                for row, document in enumerate(group):
                    rows = slice(starts[document], starts[document + 1])
                    shard.codes[rows], shard.scales[rows] = _rounded(
                        states[row, : lengths[document]].float().cpu().numpy()
                    )
        return shard


class QuantisedLayers:
    """The layers below the branch, and the base's dense vectors, by the int8 encoder.

    Args:
        checkpoint: the frozen model.
        layers: below the branch.
        threads: batches at the same time; the number of cores where None.
    """

    def __init__(self, checkpoint: Checkpoint, layers: int, threads: int | None = None) -> None:
        self._model = trunk_graph(checkpoint, layers, precision="int8")
        self._width = int(checkpoint.setting("hidden"))
        self._threads = threads or available_cores()
        self._session = open_session(self._model, checkpoint.folder)

    @property
    def key(self) -> str:
        """A name that changes with the weights, the layers, and how they are computed."""
        return hashlib.sha256(self._model).hexdigest()

    def __call__(self, ids: Sequence[NDArray[np.int64]]) -> Shard:
        """Returns the states and dense vectors of some documents.

        Raises:
            TrainError: a state is no number.
        """
        lengths = [len(one) for one in ids]
        shard, starts = _empty(lengths, self._width, len(ids))

        def compute(group: list[int]) -> None:
            given = {INPUT: np.stack([ids[document] for document in group])}
            states, shard.vectors[group] = self._session.run([ROWS, OUTPUT], given)
            codes, scales = _rounded(states)
            for document, part in zip(group, np.split(np.arange(len(states)), len(group)), strict=True):
                rows = slice(starts[document], starts[document + 1])
                shard.codes[rows], shard.scales[rows] = codes[part], scales[part]

        in_threads(compute, batches(lengths, TOKEN_BUDGET), self._threads)
        return shard


def _empty(lengths: Sequence[int], width: int, vectors: int) -> tuple[Shard, NDArray[np.int64]]:
    """Returns room for documents, and where each begins."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = int(starts[-1])
    shard = Shard(
        np.empty((tokens, width), np.int8), np.empty(tokens, np.float32), np.empty((vectors, width), np.float32)
    )
    return shard, starts


class Kept:
    """States read from a folder that `keep` filled.

    Args:
        folder: where the shards are.
        lengths: tokens of each document.
        device: where to put them.
    """

    def __init__(self, folder: Path, lengths: Sequence[int], device: torch.device) -> None:
        self._device = device
        self._lengths = lengths
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        shards = range(len(range(0, len(lengths), SHARD)))
        self._codes, self._scales, self._vectors = (
            [np.load(folder / _name(number, part), mmap_mode="r") for number in shards] for part in Shard._fields
        )

    @property
    def vectors(self) -> NDArray[np.float32] | None:
        """The base's dense vectors, float32 (documents, width); None where they were not computed."""
        found = np.concatenate(self._vectors)
        return found if len(found) == len(self._lengths) else None

    def __call__(self, documents: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns the states where the branch leaves, (documents, longest, width), and the mask."""
        lengths = [self._lengths[document] for document in documents]
        width = self._codes[0].shape[1]
        states = np.zeros((len(documents), max(lengths), width), np.float32)
        for row, document in enumerate(documents):
            shard = document // SHARD
            start = int(self._starts[document] - self._starts[shard * SHARD])
            rows = slice(start, start + lengths[row])
            states[row, : lengths[row]] = self._codes[shard][rows] * self._scales[shard][rows, None]
        mask = np.arange(max(lengths))[None, :] < np.array(lengths)[:, None]
        return torch.from_numpy(states).to(self._device), torch.from_numpy(mask).to(self._device)


def keep(
    layers: Layers,
    ids: Sequence[NDArray[np.int64]],
    folder: Path,
    device: torch.device,
    *,
    on_progress: Progress | None = None,
) -> Kept:
    """Returns the states of all documents, from the folder as far as they are there, computed where they are not.

    Args:
        layers: what computes them.
        ids: token ids of each document.
        folder: a cache; states of other layers or of other texts have other names in it.
        device: where to put them.
        on_progress: told (documents done, of how many).

    Raises:
        TrainError: a state is no number.
    """
    home = folder / _key(layers, ids)
    home.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(ids), SHARD)):
        part = ids[start : start + SHARD]
        if not (home / _name(number, LAST)).is_file():
            _write(home, number, layers(part))
        if on_progress is not None:
            on_progress(start + len(part), len(ids))
    return Kept(home, [len(one) for one in ids], device)


def _rounded(states: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    scales = np.maximum(np.abs(states).max(axis=1) / 127, np.float32(1e-9))
    if not np.isfinite(scales).all():
        raise TrainError("a state of the frozen layers is not a number: the checkpoint is damaged")
    return np.rint(states / scales[:, None]), scales


def _write(home: Path, number: int, shard: Shard) -> None:
    """Writes a shard; the codes last, since they say that it is there."""
    for part in (*(part for part in Shard._fields if part != LAST), LAST):
        scratch = home / f".{_name(number, part)}"
        np.save(scratch, getattr(shard, part), allow_pickle=False)
        scratch.replace(home / _name(number, part))


def _name(number: int, part: str) -> str:
    return f"{number:06d}.{part}.npy"


def _key(layers: Layers, ids: Sequence[NDArray[np.int64]]) -> str:
    """Returns a name that changes with the layers and with the texts."""
    digest = hashlib.sha256(json.dumps([layers.key, len(ids), SHARD]).encode())
    for one in ids:
        digest.update(np.asarray(one, np.int64).tobytes() + b"|")
    return f"states-{digest.hexdigest()[:24]}"


def pieces(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yields items in pieces of a size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

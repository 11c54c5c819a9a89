"""The states that leave the shared, frozen layers, computed once and kept: a step then starts at the branch.

A row of int8 and a scale a token, as the int8 encoder itself rounds them at the next product. 12 million tokens of
width 384 are 4.7 GB on disk, memory-mapped.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .errors import TrainError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .model import Trunk

SHARD = 4096  # documents in one file
PADDED = 4096  # tokens, padding included, that go through layers at a time
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
        shards = range(0, len(lengths), SHARD)
        self._codes = [np.load(folder / _name(number, "codes"), mmap_mode="r") for number, _ in enumerate(shards)]
        self._scales = [np.load(folder / _name(number, "scales"), mmap_mode="r") for number, _ in enumerate(shards)]

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
    trunk: Trunk,
    ids: Sequence[NDArray[np.int64]],
    folder: Path,
    device: torch.device,
    *,
    precise: bool = False,
    on_progress: Progress | None = None,
) -> Kept:
    """Returns the states of all documents, from the folder as far as they are there, computed where they are not.

    Args:
        trunk: the frozen model.
        ids: token ids of each document.
        folder: a cache; states of another trunk or of other texts have other names in it.
        device: where to compute.
        precise: float32 instead of bfloat16.
        on_progress: told (documents done, of how many).

    Raises:
        TrainError: a state is no number.
    """
    home = folder / _key(trunk, ids, precise)
    home.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(ids), SHARD)):
        part = ids[start : start + SHARD]
        if not (home / _name(number, "codes")).is_file():
            _write(home, number, *_computed(trunk, part, device, precise))
        if on_progress is not None:
            on_progress(start + len(part), len(ids))
    return Kept(home, [len(one) for one in ids], device)


def _computed(
    trunk: Trunk, ids: Sequence[NDArray[np.int64]], device: torch.device, precise: bool
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    lengths = [len(one) for one in ids]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    codes = np.empty((int(starts[-1]), trunk.width), np.int8)
    scales = np.empty(int(starts[-1]), np.float32)
    live = Live(trunk, ids, device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=not precise):
        for group in grouped(lengths):
            states, _ = live(group)
            for row, document in enumerate(group):
                rows = slice(starts[document], starts[document + 1])
                codes[rows], scales[rows] = _rounded(states[row, : lengths[document]].float().cpu().numpy())
    return codes, scales


def _rounded(states: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    scales = np.maximum(np.abs(states).max(axis=1) / 127, np.float32(1e-9))
    if not np.isfinite(scales).all():
        raise TrainError("a state of the frozen layers is not a number: the checkpoint is damaged")
    return np.rint(states / scales[:, None]), scales


def _write(home: Path, number: int, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
    """Writes a shard; the codes last, since they say that it is there."""
    for part, array in (("scales", scales), ("codes", codes)):
        scratch = home / f".{_name(number, part)}"
        np.save(scratch, array, allow_pickle=False)
        scratch.replace(home / _name(number, part))


def _name(number: int, part: str) -> str:
    return f"{number:06d}.{part}.npy"


def _key(trunk: Trunk, ids: Sequence[NDArray[np.int64]], precise: bool) -> str:
    """Returns a name that changes with the shared layers' weights, with the texts and with the precision."""
    digest = hashlib.sha256(json.dumps([trunk.shared, len(ids), SHARD] + ["fp32"] * precise).encode())
    for name, tensor in trunk.shared_tensors():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    for one in ids:
        digest.update(np.asarray(one, np.int64).tobytes() + b"|")
    return f"states-{digest.hexdigest()[:24]}"


def pieces(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yields items in pieces of a size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

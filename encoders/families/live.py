"""Checkpoints run by torch: batches under a budget of tokens, halved where one does not fit in memory."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..contract import EncoderError
from ..counting import count
from ..extras import require
from ..graph import OWN
from ..manifest import whole_number
from ..model_files import ModelFiles, read_json
from .heads import Heads
from .reading import Source
from .trunks import open_trunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..onnx_runtime import Ids

BUDGETS = {"cpu": 2048, "other": 32768}  # tokens in a batch, padding included
AT_ONCE = {"cpu": 256, "other": 4096}
SLACK = 0.9  # texts of at least this share of the longest one's length may share its batch
_FULL = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu", "cannot allocate")

Keep = Callable[[list[int], Mapping[str, "NDArray[np.float32]"]], None]


class TorchModel:
    """A checkpoint in memory. Safe to share between threads, which take turns.

    Args:
        source: its folder and recipe.
        precision: "fp32", "bf16" or "fp16".
        device: "cpu", "cuda", "cuda:1", "mps"; where None, a GPU that torch finds, else the CPU.
        threads: torch's threads, for the whole process; unchanged where None.
        token_budget: the most tokens in a batch, padding included; by device where None.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        EncoderError: the checkpoint cannot be opened, or there is no such device.
    """

    def __init__(
        self,
        source: Source,
        *,
        precision: str = "fp32",
        device: str | None = None,
        threads: int | None = None,
        token_budget: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(whole_number(threads, "threads"))
        self.device = _device(device)
        trunk = open_trunk(source, precision=precision, device=self.device, trust_remote_code=trust_remote_code)
        self.heads = Heads(trunk, source)
        kind = "cpu" if self.device == "cpu" else "other"
        self.budget = BUDGETS[kind] if token_budget is None else whole_number(token_budget, "token_budget")
        self.tokenizer_json = tokenizer_json(source, trust_remote_code=trust_remote_code)
        _check_tokenizer(self.tokenizer_json, source, trunk.model.get_input_embeddings().weight.shape[0])
        self.padded = source.recipe.sparse is None or not source.recipe.sparse.echo
        self._turn = threading.Lock()

    @property
    def at_once(self) -> int:
        """How many texts are best given at a time: a GPU's batches are of one length only where there are many."""
        return AT_ONCE["cpu" if self.device == "cpu" else "other"]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the model returns of a text."""
        return self.heads.outputs

    @property
    def dim(self) -> int:
        """Numbers of a dense vector; 0 where the model makes none."""
        return self.heads.dim

    @property
    def vocabulary(self) -> int:
        """Columns of a sparse vector."""
        return self.heads.trunk.vocabulary

    def each(self, ids: Sequence[Ids], wanted: Sequence[str], keep: Keep) -> None:
        """Runs texts in batches, the longest first.

        Args:
            ids: token ids of each text, int64.
            wanted: some of `outputs`.
            keep: called with the positions of a batch and its outputs, float32, (batch, ...).

        Raises:
            EncoderError: a single text does not fit in memory, or a vector has values that are no numbers.
        """
        slack = SLACK if self.padded else 1.0
        waiting = batches([len(one) for one in ids], self.budget, slack)
        while waiting:
            positions = waiting.pop(0)
            try:
                found = self._run([ids[position] for position in positions], tuple(wanted))
            except (MemoryError, RuntimeError) as error:
                self._shrink(positions, ids, error)
                left = [position for batch in [positions, *waiting] for position in batch]
                cut = batches([len(ids[position]) for position in left], self.budget, slack)
                waiting = [[left[place] for place in batch] for batch in cut]
                continue
            keep(positions, found)
            count(sum(len(ids[position]) for position in positions))

    def _run(self, ids: Sequence[Ids], wanted: tuple[str, ...]) -> Mapping[str, NDArray[np.float32]]:
        longest = max(len(one) for one in ids)
        table = np.zeros((len(ids), longest), np.int64)
        mask = np.zeros((len(ids), longest), np.int64)
        for row, one in enumerate(ids):
            table[row, : len(one)], mask[row, : len(one)] = one, 1
        attention = None if mask.all() else torch.from_numpy(mask).to(self.device)
        with self._turn, torch.inference_mode():
            found = self.heads(torch.from_numpy(table).to(self.device), attention, wanted)
            arrays = {name: tensor.float().cpu().numpy() for name, tensor in found.items()}
        for name, array in arrays.items():
            if not np.isfinite(array[mask.astype(bool)] if name == OWN and attention is not None else array).all():
                raise EncoderError(
                    "the model gave values that are no numbers: with precision fp16 try bf16 or fp32; else its weights "
                    "are damaged"
                )
        return arrays

    def _shrink(self, positions: list[int], ids: Sequence[Ids], error: Exception) -> None:
        """Halves the budget to below a batch that did not fit, for good; raises what is no lack of memory."""
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not any(
            part in str(error).lower() for part in _FULL
        ):
            raise error
        if len(positions) == 1:
            length = len(ids[positions[0]])
            raise EncoderError(
                f"a text of {length:,} tokens does not fit in the memory of {self.device}: give a lower max_length, or "
                "NAME:chunks=max to encode it in pieces"
            ) from error
        if self.device != "cpu":
            torch.cuda.empty_cache()
        self.budget = len(positions) // 2 * len(ids[positions[0]])


def batches(lengths: Sequence[int], budget: int, slack: float) -> list[list[int]]:
    """Returns positions in batches of about one length, the longest first.

    Args:
        lengths: tokens of each text.
        budget: the most tokens in a batch, padding included, unless it is one text.
        slack: the shortest text of a batch has at least this share of the longest one's tokens.
    """
    found: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        longest = lengths[found[-1][0]] if found else 0
        fits = found and (len(found[-1]) + 1) * longest <= budget and lengths[position] >= slack * longest
        found[-1].append(position) if fits else found.append([position])
    return found


def tokenizer_json(source: Source, *, trust_remote_code: bool = False) -> str:
    """Returns a checkpoint's tokenizer as the text of a tokenizer.json, converted by transformers where it must be.

    Raises:
        EncoderError: there is none, or not one that can be written so.
    """
    if (source.trunk / "tokenizer.json").is_file():
        return ModelFiles(source.trunk, {}).tokenizer_json
    library = require("transformers", f"reading the tokenizer of {source.trunk}")
    try:
        tokenizer: Any = library.AutoTokenizer.from_pretrained(
            str(source.trunk), local_files_only=True, trust_remote_code=trust_remote_code
        )
        return tokenizer.backend_tokenizer.to_str()
    except Exception as error:  # whatever the libraries below raise about what they cannot read
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise EncoderError(f"{source.trunk} has no tokenizer that can be read: {reason}") from error


def _check_tokenizer(content: str, source: Source, rows: int) -> None:
    tokens = require("tokenizers", "encoding text").Tokenizer.from_str(content).get_vocab()
    largest = max(tokens.values(), default=0)
    if largest >= rows and read_json(source.trunk / "config.json").get("model_type") != "model2vec":
        raise EncoderError(
            f"{source.trunk}: the tokenizer knows token {largest:,}, the model {rows:,} tokens: they do not belong "
            "together"
        )


def _device(name: str | None) -> str:
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise EncoderError(
            f"there is no device {name!r} here ({str(error).splitlines()[0]}): use device=cpu"
        ) from error
    return name

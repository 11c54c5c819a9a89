"""Training of a sparse head: one step, the schedule, and what is kept so that it can go on after an interruption."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .errors import TrainError
from .heads import Sparse
from .losses import LOSSES, PENALTIES
from .states import Live, grouped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .batches import Batches, Step
    from .model import SparseHead, Trunk
    from .recipe import Recipe

Ids = Sequence["NDArray[np.int64]"]
States = Callable[[Sequence[int]], tuple[Tensor, Tensor]]
Scores = Callable[["NDArray[np.int64]", "NDArray[np.int64]"], "NDArray[np.float32]"]

RATE_RISES = 30  # steps in which the learning rate rises from nothing
LOWEST_RATE = 0.02  # of the full rate, at the end
CLIP = 1.0  # the largest norm of a gradient
_CALMER = "lower `rate` or `layer_rate`"


@dataclass(frozen=True)
class Material:
    """Everything a step reads.

    Attributes:
        documents: token ids of each document.
        queries: token ids of each query.
        idf: float32 (vocabulary,), of the training documents; 0 for special tokens.
        states: the states of documents where the branch leaves.
        teacher: scores of queries against documents, by position; None without teachers.
        batches: draws steps.
        dense: float32 (documents, width), what the trunk's dense vectors were; None where nothing keeps them there.
    """

    documents: Ids
    queries: Ids
    idf: NDArray[np.float32]
    states: States
    teacher: Scores | None
    batches: Batches
    dense: NDArray[np.float32] | None = None


class Model:
    """Trunk and head, and how they encode in training.

    Args:
        trunk: shared layers and the dense vector.
        head: the sparse strand.
        recipe: precision and the like.
        device: where to compute.
    """

    def __init__(self, trunk: Trunk, head: SparseHead, recipe: Recipe, device: torch.device) -> None:
        self.trunk, self.head, self.recipe, self.device = trunk.to(device), head.to(device), recipe, device
        self.trunk.eval()  # no dropout: a frozen trunk has none to learn from, and short trainings gain nothing by it
        self.head.eval()
        self.trunk.requires_grad_(recipe.trunk == "tuned")
        self._precise = recipe.precision == "fp32" or not multiplies_bfloat16(device)

    def encode(self, documents: Sequence[int], ids: Ids, states: States) -> tuple[Sparse, NDArray[np.int64], Tensor]:
        """Returns sparse vectors, the documents in the order of their rows, and the branch's pooled dense vectors.

        Args:
            documents: positions.
            ids: token ids of every document.
            states: gives the states where the branch leaves.
        """
        chosen = [ids[document] for document in documents]
        lengths = [len(one) for one in chosen]
        order: list[int] = []
        kept, dense = [], []
        for group in grouped(lengths):
            with self.autocast():  # states too: a trunk that learns computes them here
                below, mask = states([documents[at] for at in group])
                kept.append(self.head.states(below, mask)[mask])
                dense.append(self._dense(below, mask))
            order += group
        flat = torch.from_numpy(np.concatenate([chosen[at] for at in order])).to(self.device)
        rows = [lengths[at] for at in order]
        vectors = self.head(torch.cat(kept).float(), flat, rows, self.trunk.words, precise=self._precise)
        return vectors, np.array([documents[at] for at in order], np.int64), torch.cat(dense)

    def _dense(self, below: Tensor, mask: Tensor) -> Tensor:
        if not self.recipe.keep_dense:
            return below.new_empty(0)
        states = self.trunk.above(below, mask).float() * mask[:, :, None]
        return torch.nn.functional.normalize(states.sum(dim=1), dim=1)

    def autocast(self) -> Any:
        """Returns the context in which products are of bfloat16, where the recipe and the device have them so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=not self._precise)

    def parameters(self) -> list[dict[str, Any]]:
        """Returns parameter groups with their learning rates: what is new, and transformer layers."""
        new = [p for name, p in self.head.named_parameters() if not name.startswith("layers.")]
        layers = [*self.head.layers.parameters(), *(p for p in self.trunk.parameters() if p.requires_grad)]
        groups = [{"params": new, "lr": self.recipe.rate}, {"params": layers, "lr": self.recipe.layer_rate}]
        return [group for group in groups if group["params"]]

    def tensors(self) -> dict[str, Tensor]:
        """Returns everything that training changes, by name."""
        trained = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        if self.recipe.trunk == "tuned":
            trained |= {f"trunk.{name}": tensor for name, tensor in self.trunk.state_dict().items()}
        return trained

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the values that `tensors` gave.

        Raises:
            TrainError: they are of another model.
        """
        mine = self.tensors()
        if mine.keys() != tensors.keys() or any(mine[name].shape != tensors[name].shape for name in mine):
            raise TrainError("the checkpoint is of another recipe or model: begin anew, or give that one")
        for name, tensor in mine.items():
            tensor.copy_(tensors[name])


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tells whether a device has instructions for bfloat16; without them it is much slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    known = getattr(torch.cpu, "get_capabilities", dict)()  # newer than the oldest torch we take
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


class Steps:
    """What the steps of every training of a model share: the optimiser, its rates, and what is kept to go on.

    Args:
        model: what learns.
        recipe: how.
    """

    def __init__(self, model: Model, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.0, betas=(0.9, 0.98))
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self.done = 0

    def run(self, until: int | None = None) -> Iterator[dict[str, float]]:
        """Yields what each step measured."""
        raise NotImplementedError

    def _last(self, until: int | None) -> int:
        return self.recipe.steps if until is None else min(until, self.recipe.steps)

    def _begin(self) -> None:
        """Begins a step: forgets the gradient of the last."""
        self.optimiser.zero_grad(set_to_none=True)

    def _descend(self, total: Tensor) -> None:
        """Adds the gradient of a loss."""
        if not math.isfinite(float(total.detach())):
            raise TrainError(f"the loss of step {self.done + 1} is not a number: {_CALMER}")
        total.backward()

    def _move(self) -> None:
        """Takes the step along what was added."""
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * _rate(self.done, self.recipe)
            norm = torch.nn.utils.clip_grad_norm_(group["params"], CLIP)
            if not math.isfinite(float(norm)):
                raise TrainError(f"the gradient of step {self.done + 1} is not a number: {_CALMER}")
        self.optimiser.step()

    def save(self, folder: Path) -> None:
        """Writes all that is needed to go on; the folder changes whole or not at all."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = self.optimiser.state_dict()["state"]
        moments = {f"{number}.{name}": tensor for number, values in state.items() for name, tensor in values.items()}
        tensors = {f"model.{name}": tensor.contiguous() for name, tensor in self.model.tensors().items()}
        tensors |= {f"moment.{name}": tensor.contiguous() for name, tensor in moments.items()}
        about = {"done": str(self.done), "recipe": json.dumps(self.recipe.to_json(), sort_keys=True)}
        scratch = folder / ".state.safetensors"
        save_file(tensors, scratch, metadata=about)
        scratch.replace(folder / STATE)

    def resume(self, folder: Path) -> bool:
        """Goes on from what `save` wrote; tells whether there was something.

        Raises:
            TrainError: it is damaged, or was made by another recipe.
        """
        from safetensors import safe_open

        path = folder / STATE
        if not path.is_file():
            return False
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata()
                made_with, done = json.loads(about["recipe"]), int(about["done"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except Exception as error:  # safetensors' own type, which is not exported everywhere
            raise TrainError(f"{path} cannot be read ({error}): remove it to begin anew") from error
        changed = self.recipe.steps_differ(made_with)
        if changed:
            other = ", ".join(changed)
            raise TrainError(f"{path} was made by another recipe (other: {other}): give another folder")
        with torch.no_grad():
            self.model.load({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
        state = self.optimiser.state_dict()
        state["state"] = _moments({name[7:]: value for name, value in tensors.items() if name.startswith("moment.")})
        self.optimiser.load_state_dict(state)
        self.done = done
        return True


class Training(Steps):
    """Steps of a recipe over a model; every step depends on the recipe, the seed and its number alone.

    Args:
        model: what learns.
        material: what it learns from.
        recipe: how.
    """

    def __init__(self, model: Model, material: Material, recipe: Recipe) -> None:
        super().__init__(model, recipe)
        self.material = material

    def run(self, until: int | None = None) -> Iterator[dict[str, float]]:
        """Yields what each step measured: losses, penalty, active terms."""
        last = self._last(until)
        with ThreadPoolExecutor(1, thread_name_prefix="plait-batches") as ahead:  # drawn while the step before computes
            drawn = ahead.submit(self._drawn, self.done)
            while self.done < last:
                step, taught = drawn.result()
                drawn = ahead.submit(self._drawn, self.done + 1)
                measured = self._step(step, taught)
                self.done += 1
                yield {"step": self.done, **measured}

    def _drawn(self, number: int) -> tuple[Step, NDArray[np.float32] | None]:
        step, teacher = self.material.batches(number), self.material.teacher
        return step, None if teacher is None else teacher(step.queries, step.documents)

    def _step(self, step: Step, taught: NDArray[np.float32] | None) -> dict[str, float]:
        recipe, device, material = self.recipe, self.model.device, self.material
        vectors, order, dense = self.model.encode(step.documents.tolist(), material.documents, material.states)
        columns, queries, query_vectors = self._queries(step.queries)
        scores = queries @ vectors.gathered(columns).T * recipe.scale
        # rows of `vectors` are in the order of `order`; the step's documents are ascending
        place = torch.from_numpy(np.searchsorted(step.documents, order)).to(device)
        positives = torch.from_numpy(step.positives).to(device)[:, place]
        target = scores.detach() if taught is None else torch.from_numpy(taught).to(device)[:, place]
        losses = {name: LOSSES[name](scores, target, positives) for name, weight in recipe.losses.items() if weight}
        total = sum((recipe.losses[name] * value for name, value in losses.items()), scores.sum() * 0)
        penalty = PENALTIES[recipe.penalty](vectors, recipe.tau)
        warm = min(1.0, (self.done + 1) / max(1.0, recipe.steps * recipe.warm_up)) ** 2
        total = total + recipe.penalty_weight * warm * penalty
        if query_vectors is not None and recipe.query_penalty_weight:
            total = total + recipe.query_penalty_weight * warm * PENALTIES[recipe.penalty](query_vectors, recipe.tau)
        if recipe.keep_dense and self.material.dense is not None:
            kept = torch.from_numpy(self.material.dense[order]).to(device)
            losses["dense"] = (1 - (dense * kept).sum(dim=1)).mean()
            total = total + recipe.keep_dense * losses["dense"]
        self._begin()
        self._descend(total)
        self._move()
        measured = {name: float(value.detach()) for name, value in losses.items()}
        return {
            "loss": float(total.detach()),
            **measured,
            "flops": float(penalty.detach()),
            "active": len(vectors.rows) / len(order),
        }

    def _queries(self, queries: NDArray[np.int64]) -> tuple[Tensor, Tensor, Sparse | None]:
        """Returns the columns that occur, ascending, queries over them, and the vectors of queries with gradient."""
        ids, device = self.material.queries, self.model.device
        if self.recipe.query_side == "encoded":
            live = Live(self.model.trunk, ids, device)
            vectors, order, _ = self.model.encode(queries.tolist(), ids, live)
            columns = torch.unique(vectors.columns)
            place = torch.from_numpy(np.argsort(order)).to(device)
            return columns, vectors.gathered(columns)[place], vectors
        terms = [np.unique(ids[query]) for query in queries.tolist()]
        weighed = self.material.idf > 0
        terms = [one[weighed[one]] for one in terms]
        columns = np.unique(np.concatenate([np.empty(0, np.int64), *terms]))
        table = np.zeros((len(terms), len(columns)), np.float32)
        weights = self.material.idf if self.recipe.query_side == "idf" else (self.material.idf > 0)
        for row, one in enumerate(terms):
            table[row, np.searchsorted(columns, one)] = weights[one]
        return torch.from_numpy(columns).to(device), torch.from_numpy(table).to(device), None


STATE = "state.safetensors"


def _moments(named: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in named.items():
        number, _, part = name.partition(".")
        found.setdefault(int(number), {})[part] = tensor
    return found


def _rate(done: int, recipe: Recipe) -> float:
    """Returns the share of the full learning rate: it rises, stays, and falls in a straight line at the end."""
    rising = min(1.0, (done + 1) / RATE_RISES)
    falling = recipe.steps * recipe.decay
    left = (recipe.steps - done) / falling if falling else 1.0
    return rising * max(LOWEST_RATE, min(1.0, left))

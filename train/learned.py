"""Training of the sparse half, from prepared texts to a model; the part of `plait.train.run` that needs torch."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .batches import Batches
from .errors import TrainError
from .events import STEPS, Event, Tell
from .export import merging
from .live import LiveEncoder
from .loop import Material, Model, Training
from .model import Shape, SparseHead, Trunk
from .prepare import BASE, Base, Encodings, Texts, expansion_terms, hard_negatives, teacher_of, weights_of
from .report import read_log, write_log
from .start import begin, go_on, half_of
from .states import Kept, Live, QuantisedLayers, TorchLayers, grouped, keep, pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recipe import Recipe
    from .states import Layers

SAMPLED = 400  # documents that a new head's first values are found from
LOG = "steps.jsonl"
Judge = Callable[["SparseTraining"], None]


def check_device(name: str | None) -> torch.device:
    """Returns the device to train on.

    Raises:
        TrainError: there is no such one here.
    """
    if name not in (None, "cpu", "cuda"):
        raise TrainError(f"device is {name!r}, expected cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainError("device is cuda, but torch finds none here: take cpu, or install a build of torch for CUDA")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def use_threads(count: int | None) -> None:
    """Sets torch's threads, of the whole process; None leaves them."""
    if count is not None:
        torch.set_num_threads(count)


class SparseTraining:
    """A recipe over a base and texts, ready for its steps.

    Args:
        recipe: what to do.
        base: what to start from.
        texts: what to learn from.
        cache: where vectors and states are kept.
        device: where to compute.
        tell: told how far it is.
    """

    def __init__(
        self, recipe: Recipe, base: Base, texts: Texts, *, cache: Path, device: torch.device, tell: Tell
    ) -> None:
        self.recipe, self.base, self.texts = recipe, base, texts
        self.log: list[dict[str, float]] = []
        self._cache, self._device, self._tell = cache, device, tell
        tell(Event("tokenising"))
        self.documents = base.ids(texts.training.documents, recipe.max_length, "document")
        side = "query" if recipe.query_side == "encoded" else ""
        self.queries = base.ids(texts.training.queries, recipe.max_length, side)
        self.idf = weights_of(self.documents, base)
        self._half, which = half_of(base.checkpoint, recipe)
        tell(Event("starting", note=which))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = self._model()
        self._begin()
        self._training = Training(self.model, self._material(), recipe)

    # What there is before the first step

    def _model(self) -> Model:
        recipe, base = self.recipe, self.base
        trunk = Trunk(base.folder, recipe.branch)
        full = merging(recipe, base.checkpoint).get("full_layers", 0)
        if full > trunk.shared:
            below = f"{trunk.shared} layers below the branch"
            raise TrainError(f"equal tokens merge in layer {full} (full_layers), but {base.folder} has {below}")
        shape = Shape(
            branch=recipe.branch,
            rank=recipe.rank or None,
            activation=recipe.activation,
            pooling=recipe.pooling,
            literal=recipe.literal,
            gelu=recipe.gelu,
        )
        if self._half is not None:
            found = self._half.terms  # the decoder's rows are for these
            terms = None if found is None else found.astype(np.int64)
        else:
            terms = expansion_terms(self.documents, self.queries, base, recipe.terms)
        head = SparseHead(trunk, shape, base.specials, None if terms is None else torch.from_numpy(terms))
        return Model(trunk, head, recipe, self._device)

    def _begin(self) -> None:
        """Sets the head's first values: of the base's sparse half or masked-LM head, where one fits, or new ones."""
        head, trunk, tensors = self.model.head, self.model.trunk, self.base.checkpoint.tensors
        if self._half is not None:
            go_on(head, self._half, self.base.checkpoint)
            return
        own = self.base.checkpoint.has_head and self.recipe.rank == 0
        if own and head.terms is None and np.array_equal(tensors["head.decoder.weight"], tensors["words.weight"]):
            with torch.no_grad():
                for part in ("transform", "norm"):
                    for kind in ("weight", "bias"):
                        given = torch.from_numpy(tensors[f"head.{part}.{kind}"])
                        getattr(getattr(head, part), kind).copy_(given)
                head.bias.copy_(torch.from_numpy(tensors["head.decoder.bias"]))
            return
        random = np.random.default_rng(self.recipe.seed)
        count = min(SAMPLED, len(self.documents))
        chosen = [self.documents[at] for at in random.choice(len(self.documents), count, replace=False)]
        lengths, order, states = [len(ids) for ids in chosen], [], []
        live = Live(trunk, chosen, self._device)
        with torch.no_grad():
            for group in grouped(lengths):
                below, mask = live(group)
                states.append(head.states(below, mask)[mask])
                order += group
        ids = torch.from_numpy(np.concatenate([chosen[at] for at in order])).to(self._device)
        begin(head, trunk.words, torch.cat(states), ids, [lengths[at] for at in order])

    def _material(self) -> Material:
        recipe = self.recipe
        states = self._states()
        encodings = Encodings(self.texts.training, self._cache, self._tell, self.base, recipe.max_length)
        if isinstance(states, Kept) and states.vectors is not None:
            encodings.given[BASE] = states.vectors
        negatives = hard_negatives(recipe, encodings, self._tell)
        teacher = teacher_of(recipe, encodings)
        return Material(
            documents=self.documents,
            queries=self.queries,
            idf=self.idf,
            states=states,
            teacher=None if teacher is None else teacher.scores,
            batches=Batches(self.texts.training, recipe, negatives),
            dense=self._dense() if recipe.keep_dense else None,
        )

    def _states(self) -> Any:
        if self.recipe.trunk == "tuned":
            return Live(self.model.trunk, self.documents, self._device)
        return keep(
            self._frozen(),
            self.documents,
            self._cache / "states",
            self._device,
            on_progress=lambda done, total: self._tell(Event("keeping states of frozen layers", done, total)),
        )

    def _frozen(self) -> Layers:
        """Returns what computes the states that are kept."""
        precise = self.recipe.precision == "fp32"
        if precise or self._device.type == "cuda":
            return TorchLayers(self.model.trunk, self._device, precise=precise)
        return QuantisedLayers(self.base.checkpoint, self.model.trunk.shared)

    def _dense(self) -> NDArray[np.float32]:
        """Returns what the trunk's dense vectors are before training, float32 (documents, width), from the cache."""
        if self.base.checkpoint.pooling != "mean":
            raise TrainError(f"keep_dense is for mean pooling; {self.base.folder} pools {self.base.checkpoint.pooling}")
        key = hashlib.sha256(json.dumps([self.base.hashes, self.recipe.max_length, self.texts.digest]).encode())
        path = self._cache / f"dense-{key.hexdigest()[:24]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
        vectors = np.empty((len(self.documents), self.model.trunk.width), np.float32)
        live, done = Live(self.model.trunk, self.documents, self._device), 0
        for piece in pieces(range(len(self.documents)), 256):
            with torch.no_grad():
                _, order, dense = self.model.encode(piece, self.documents, live)
            vectors[order] = dense.float().cpu().numpy()
            done += len(piece)
            self._tell(Event("keeping the dense vectors of the base", done, len(self.documents)))
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}")
        np.save(scratch, vectors, allow_pickle=False)
        scratch.replace(path)
        return vectors

    # The steps

    @property
    def done(self) -> int:
        """Steps that are done."""
        return self._training.done

    def encoder(self) -> LiveEncoder:
        """Returns the model as it is now, as an encoder."""
        return LiveEncoder(self.model, self.base, self.recipe, self.idf)

    def resume(self, folder: Path) -> None:
        """Goes on from what `save` wrote, where there is something."""
        if self._training.resume(folder):
            self.log = read_log(folder / LOG)[: self.done]

    def save(self, folder: Path) -> None:
        """Writes all that is needed to go on."""
        write_log(folder / LOG, self.log)  # first: steps that the state does not know yet are cut off on reading
        self._training.save(folder)

    def run(self, folder: Path, *, every: int, stop: Callable[[], bool], judge: Judge, judge_every: int) -> bool:
        """Takes the steps that are left; tells whether it was not stopped before the last.

        Args:
            folder: where to save.
            every: steps between two times.
            stop: asked after each step.
            judge: called with this training.
            judge_every: steps between two calls; 0 for none.
        """
        total, saved = self.recipe.steps, self.done
        self._tell(Event(STEPS, self.done, total))
        for measured in self._training.run():
            self.log.append(measured)
            self._tell(Event(STEPS, self.done, total, measured))
            if self.done % every == 0 or self.done == total or stop():
                self.save(folder)
                saved = self.done
            if judge_every and self.done % judge_every == 0 and self.done < total:
                judge(self)
            if stop() and self.done < total:
                if saved < self.done:  # asked between the two looks
                    self.save(folder)
                return False
        return True

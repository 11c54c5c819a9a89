"""Training of a static query table, from prepared texts; the part of `plait.train.run` for the strand "dense"."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .events import STEPS, Event, Tell
from .learned import LOG
from .model import Trunk
from .prepare import BASE, Base, Encodings, Texts
from .report import read_log, write_log
from .static import StaticTable, encoded_alone, first_table, train_static

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recipe import Recipe

PLACE = "table"  # in the folder of the state


class _StoppedError(Exception):
    """The person asked to stop."""


class TableRun:
    """A recipe of the strand "dense" over a base and texts.

    Args:
        recipe: what to do.
        base: whose query vectors the table learns.
        texts: what to learn from.
        cache: where vectors are kept.
        tell: told how far it is.
    """

    def __init__(self, recipe: Recipe, base: Base, texts: Texts, *, cache: Path, tell: Tell) -> None:
        self.recipe, self.base, self.texts = recipe, base, texts
        self.log: list[dict[str, float]] = []
        self._cache, self._tell = cache, tell

    @property
    def done(self) -> int:
        """Steps that are done."""
        return int(self.log[-1]["step"]) if self.log else 0

    def run(self, folder: Path, *, every: int, stop: Callable[[], bool]) -> StaticTable | None:
        """Returns the table; None where it was stopped, with what was saved last in the folder.

        Args:
            folder: where to save.
            every: steps between two times.
            stop: asked after each step; where it says so, the steps go on to the next time of saving.
        """
        training, base = self.texts.training, self.base
        encodings = Encodings(training, self._cache, self._tell, base, self.recipe.max_length)
        compared = any(self.recipe.losses.values())  # with scores of documents; the distance asks for queries alone
        queries = encodings(BASE).queries if compared else encodings.queries(BASE)
        self._tell(Event("tokenising"))
        ids = base.ids(training.queries, self.recipe.max_length)
        saved, asked = read_log(folder / LOG), False

        def on_step(measured: Mapping[str, float]) -> None:
            nonlocal asked
            if asked and (measured["step"] - 1) % every == 0:  # the step before this one is saved
                raise _StoppedError
            if not self.log:  # the first one of this call: what came before was logged by another
                self.log += [line for line in saved if line["step"] < measured["step"]]
            self.log.append(dict(measured))
            self._tell(Event(STEPS, self.done, self.recipe.steps, measured))
            if self.done % every == 0 or self.done == self.recipe.steps:
                write_log(folder / LOG, self.log)
            asked = asked or stop()

        try:
            table = train_static(
                ids,
                _unit(queries),
                _unit(encodings(BASE).documents) if compared else None,
                self.recipe,
                vocabulary=base.vocabulary,
                specials=base.specials,
                positives=training.positives if compared else None,
                start=self._start(ids),
                on_step=on_step,
                checkpoint=folder / PLACE,
                checkpoint_every=every,
            )
        except _StoppedError:
            return None
        self.log = self.log or saved
        return table

    def _start(self, ids: list[NDArray[np.int64]]) -> NDArray[np.float32] | None:
        """Returns first values from pieces encoded alone; None where the base does not pool by the mean."""
        first, last = (self.base.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        if self.base.checkpoint.pooling != "mean" or first is None or last is None:
            return None
        counts = np.bincount(np.concatenate(ids), minlength=self.base.vocabulary)
        return first_table(encoded_alone(Trunk(self.base.folder, 0), first, last), counts, self.base.specials)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)

"""A training from files to a model folder: `train`, the one call behind `plait train`.

The folder `out` then holds `checkpoint` (Hugging Face), `model` (ONNX), `report.json`, `MODEL_CARD.md`, its picture,
and what the next call goes on from: `training` (the state of the steps), `cache` (vectors, states, hard negatives).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..encoders.checkpoint import is_joint
from ..encoders.contract import STATIC, EncoderError
from ..encoders.extras import require
from ..encoders.load import load_dense, load_joint
from ..encoders.manifest import TABLE
from ..eval import EvalError, load_beir
from .card import write_card
from .errors import TrainError
from .events import EVALUATION, Event, Tell, silent
from .export import CHECKPOINT, MODEL, build_model, write_checkpoint, write_lean, write_table
from .judge import HeldOut, Judged, on_beir
from .pairs import read_training
from .prepare import BASE, Base, Texts, divided, open_base
from .recipe import Recipe, recipe_of
from .report import REPORT, TrainReport, checksums, thinned, trainings_of, versions
from .trim import leave_out

if TYPE_CHECKING:
    from .lean import LeanTraining
    from .learned import SparseTraining
    from .static import StaticTable

PACKAGES = ("torch", "transformers", "safetensors", "onnx")
TRAINING, BEGUN, HISTORY = "training", "begun.json", "history.json"


def train(
    recipe: Recipe | str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    base: str | Path | None = None,
    out: str | Path,
    held_out: float = 0.02,
    evaluate: Iterable[str | Path] = (),
    evaluate_every: int = 0,
    checkpoint_every: int = 200,
    cache: str | Path | None = None,
    resume: bool = True,
    device: str | None = None,
    threads: int | None = None,
    exclude: Iterable[str | Path] = (),
    limit: int | None = None,
    generate: str | Sequence[str] | None = None,
    skip_bad: bool = False,
    precision: str = "int8",
    licence: str = "unknown",
    command: str = "",
    on_event: Tell | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainReport:
    """Trains an encoder and returns what came of it; an interrupted call goes on when it is made again.

    Args:
        recipe: one of `RECIPES` by name, a .toml file, or a recipe.
        data: files and folders to learn from, see `read_training`.
        base: the model to start from: a Hugging Face folder of the BERT family, a hub name, or a model that plait
            built, the embedded one where None. Where it has a sparse half of the recipe's make, that goes on; else a
            new one begins.
        out: the folder to make, or to go on in.
        held_out: a share of the documents, or a number of them, that is not trained on but measured with; 0 for none.
        evaluate: BEIR folders to measure with; their test judgements.
        evaluate_every: steps between two evaluations during training; 0: at the end alone.
        checkpoint_every: steps between two times that the state is saved.
        cache: where vectors and states are kept, for this and other trainings; `out`/cache where None.
        resume: go on where there is something to go on with; else begin the steps anew.
        device: "cpu" or "cuda"; where None, cuda if torch finds one.
        threads: torch's threads, for the whole process; unchanged where None.
        exclude: collections (BEIR folders, or any documents) whose queries and documents must not be trained on.
        limit: the most pairs of each source.
        generate: how queries are made for documents that have none, see `plait.train.generate`.
        skip_bad: count broken lines instead of raising.
        precision: of the ONNX model: "int8" or "fp32".
        licence: of the result, for its card.
        command: how to do it again, for its card.
        on_event: told of every phase, step and evaluation.
        stop: asked after every step; where it says so, the state is saved and a report that is not finished returned.

    Raises:
        TrainError: something is missing, wrong or contradictory; the message says what to do.
    """
    began, tell = time.monotonic(), on_event or silent
    _check_packages()
    chosen = recipe if isinstance(recipe, Recipe) else recipe_of(recipe)
    collections = [Path(folder) for folder in evaluate]
    _check(chosen, collections, held_out, evaluate_every, checkpoint_every, precision)
    from .learned import check_device, use_threads

    where = check_device(device)
    use_threads(threads)
    start = open_base(base)
    start.check_length("max_length", chosen.max_length)
    if chosen.strand != "both":  # which reads as many as its base
        start.check_length("encoder_length", chosen.encoder_length)
    tell(Event("reading"))
    given = read_training(data, limit=limit, seed=chosen.seed, generate=generate, skip_bad=skip_bad)
    texts = divided(given, exclude, held_out, chosen.seed)
    tell(Event("reading", note=str(texts.training)))
    job = Job(Path(out), chosen, start, texts, collections, tell, licence, command)
    job.claim(resume=resume)
    kept = job.out / "cache" if cache is None else Path(cache)
    stopped = stop or (lambda: False)
    if chosen.strand == "dense":
        from .tables import TableRun

        tables = TableRun(chosen, start, texts, cache=kept, tell=tell)
        table = tables.run(job.state, every=checkpoint_every, stop=stopped)
        if table is None:
            return job.report(tables.done, began, tables.log, finished=False)
        job.log, job.done = tables.log, tables.done
        job.table(table, precision)
    elif chosen.strand == "both":
        from .lean import LeanTraining

        lean = LeanTraining(chosen, start, texts, cache=kept, device=where, tell=tell)
        lean.resume(job.state)
        if not lean.run(job.state, every=checkpoint_every, stop=stopped):
            return job.report(lean.done, began, lean.log, finished=False)
        job.log, job.done = lean.log, lean.done
        job.lean(lean, precision)
    else:
        from .learned import SparseTraining

        training = SparseTraining(chosen, start, texts, cache=kept, device=where, tell=tell)
        training.resume(job.state)
        job.history = [one for one in job.history if one["step"] <= training.done]
        options = {"every": checkpoint_every, "stop": stopped, "judge": job.judge_live, "judge_every": evaluate_every}
        if not training.run(job.state, **options):
            return job.report(training.done, began, training.log, finished=False)
        job.log, job.done = training.log, training.done
        job.export(training, precision)
    return job.finish(began)


def _check_packages() -> None:
    try:
        for package in PACKAGES:
            require(package, "training", "train")
    except EncoderError as error:
        raise TrainError(str(error)) from error


def _check(
    recipe: Recipe, collections: Sequence[Path], held_out: float, every: int, checkpoint_every: int, precision: str
) -> None:
    if held_out < 0 or every < 0 or checkpoint_every < 1:
        raise TrainError(
            "held_out and evaluate_every are 0 or more, checkpoint_every is 1 or more; not "
            f"{held_out}, {every} and {checkpoint_every}"
        )
    if precision not in ("int8", "fp32"):
        raise TrainError(f"precision is {precision!r}, expected int8 or fp32")
    if recipe.rank % 2:
        raise TrainError(f"rank is {recipe.rank}, expected an even number: the 8-bit head needs pairs of columns")
    if recipe.losses.get("order") and not any(weight for name, weight in recipe.teachers.items() if name != BASE):
        raise TrainError(
            f"recipe {recipe.name} learns from other encoders, and teachers names none: give some, as in "
            "--set \"teachers={base=0.3,'FOLDER'=0.7}\""
        )
    for folder in collections:
        try:
            load_beir(folder, skip_bad=True)
        except EvalError as error:
            raise TrainError(f"cannot evaluate: {error}") from error


class Job:
    """One training in its folder.

    Args:
        out: the folder.
        recipe: what to do.
        base: what to start from.
        texts: what to learn from.
        collections: BEIR folders to measure with.
        tell: told how far it is.
        licence: for the card.
        command: for the card.
    """

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        base: Base,
        texts: Texts,
        collections: Sequence[Path],
        tell: Tell,
        licence: str,
        command: str,
    ) -> None:
        self.out, self.recipe, self.base, self.texts = out, recipe, base, texts
        self._collections, self._tell, self._licence, self._command = collections, tell, licence, command
        held = texts.held
        self._held = None if held is None else HeldOut.of(held, texts.training, recipe.seed)
        self.history: list[dict[str, Any]] = []
        self.log: list[dict[str, float]] = []
        self.done = 0

    @property
    def state(self) -> Path:
        """Where the state of the steps is."""
        return self.out / TRAINING

    # The folder

    def claim(self, *, resume: bool) -> None:
        """Makes the folder ready for this training: new, or where it stopped.

        Raises:
            TrainError: it holds something else, or a training of another recipe, base or other data.
        """
        begun = self.state / BEGUN
        ours = {"recipe": self.recipe.to_json(), "base": self.base.hashes, "data": self.texts.digest}
        if begun.is_file() and resume:
            self._compare(begun, ours)
            if (self.state / HISTORY).is_file():
                self.history = json.loads((self.state / HISTORY).read_text(encoding="utf-8"))
            return
        if begun.is_file():
            shutil.rmtree(self.state)
        elif self.out.is_file() or (self.out.is_dir() and any(self.out.iterdir())):
            raise TrainError(f"{self.out} is not empty and holds no training to go on with: give another folder")
        self.state.mkdir(parents=True, exist_ok=True)
        _write_json(begun, ours)

    def _compare(self, begun: Path, ours: Mapping[str, Any]) -> None:
        try:
            theirs = json.loads(begun.read_text(encoding="utf-8"))
            recipe = theirs["recipe"]
        except (OSError, ValueError, KeyError) as error:
            raise TrainError(f"{begun} cannot be read ({error}): begin anew in another folder") from error
        names = self.recipe.steps_differ(recipe)
        other = "give another folder, the same options as before, or begin the steps anew (resume=False, --fresh)"
        if names:
            changed = ", ".join(f"{name} {recipe.get(name)!r}, now {ours['recipe'][name]!r}" for name in names)
            raise TrainError(f"{self.out} was begun with another recipe ({changed}): {other}")
        for what, told in (("base", "from another base"), ("data", "with other data")):
            if theirs.get(what) != ours[what]:
                raise TrainError(f"{self.out} was begun {told}: {other}")

    # Measuring

    def judge_live(self, training: SparseTraining) -> None:
        """Measures the model as it is now and keeps what it scores."""
        encoder = training.encoder()
        found = [] if self._held is None else [self._held.judge_learned(encoder)]
        self._told(found[-1:], training.done)
        for folder in self._collections:
            with _scratch() as place:
                found.append(on_beir(folder, {"learned": encoder}, place))
            self._told(found[-1:], training.done)
        self.history += [{"step": training.done, **one.to_json()} for one in found]
        _write_json(self.state / HISTORY, self.history)

    def _judge(self) -> Iterator[Judged]:
        """Yields what the exported model scores."""
        model = str(self.out / MODEL)
        static = load_dense(model, queries=STATIC) if (self.out / MODEL / TABLE).is_file() else None
        encoders: dict[str, Any]
        if is_joint(self.out / CHECKPOINT):
            joint = load_joint(model)
            encoders = {"lexical": "english", "learned": joint.learned, "dense": joint.dense}
        else:
            encoders = {"lexical": "english", "dense": load_dense(model)}
        if self._held is not None and self.recipe.strand != "dense":
            yield self._held.judge_learned(encoders["learned"])
        elif self._held is not None and static is not None:
            dense = encoders["dense"]
            yield self._held.judge_dense({"dense": (dense, dense), "dense, static queries": (dense, static)})
        if self._held is not None and self.recipe.losses.get("order"):
            dense, before = encoders["dense"], load_dense(str(self.base.folder))
            yield self._held.judge_dense({"dense": (dense, dense), "dense, the base": (before, before)})
        for folder in self._collections:
            with _scratch() as place:
                yield on_beir(folder, encoders, place, static=static)

    def _told(self, found: Sequence[Judged], step: int) -> None:
        for one in found:
            self._tell(Event(EVALUATION, step, self.recipe.steps, one.values, note=one.name))

    # What is made

    def export(self, training: SparseTraining, precision: str) -> None:
        """Writes the checkpoint and the ONNX model; what is not used is left out, where asked."""
        self._tell(Event("exporting"))
        own = self.recipe.query_side == "idf" and self.recipe.idf == "trained"
        model, weights = training.model, training.idf if own else None
        checkpoint, recipe = self.out / CHECKPOINT, self.recipe
        write_checkpoint(checkpoint, self.base, model.trunk, model.head, recipe, weights)
        self._build(precision)
        if recipe.used or recipe.silent:
            told = self._tell
            leave_out(
                checkpoint,
                self.out / MODEL,
                self.texts.training.documents,
                used=recipe.used,
                silent=recipe.silent,
                on_progress=lambda done, total: told(Event("looking for what is not used", done, total)),
            )
            self._build(precision)

    def table(self, table: StaticTable, precision: str) -> None:
        """Writes the base with a query table, and the ONNX model."""
        self._tell(Event("exporting"))
        write_table(self.out / CHECKPOINT, self.base, table.table, table.projection)
        self._build(precision)

    def lean(self, training: LeanTraining, precision: str) -> None:
        """Writes the base with what was learned, and the ONNX model."""
        self._tell(Event("exporting"))
        model = training.model
        write_lean(self.out / CHECKPOINT, self.base, model.trunk, model.head, self.recipe)
        self._build(precision)

    def _build(self, precision: str) -> None:
        build_model(self.out / CHECKPOINT, self.out / MODEL, name=self.out.resolve().name, precision=precision)

    def finish(self, began: float) -> TrainReport:
        """Measures the exported model and writes report and card."""
        self._tell(Event(EVALUATION, self.done, self.recipe.steps))
        evaluation = []
        for one in self._judge():
            self._told([one], self.done)
            evaluation.append(one.to_json())
        report = self.report(self.done, began, self.log, finished=True, evaluation=evaluation)
        _write_json(self.out / REPORT, report.to_json())
        write_card(report)
        return report

    def report(
        self,
        done: int,
        began: float,
        log: Sequence[Mapping[str, float]],
        *,
        finished: bool,
        evaluation: Sequence[Mapping[str, Any]] = (),
    ) -> TrainReport:
        """Returns the report of what is done."""
        training, held = self.texts.training, self.texts.held
        return TrainReport(
            out=self.out,
            finished=finished,
            steps=done,
            recipe=self.recipe.to_json(),
            base={"name": _name(self.base.folder), "sha256": self.base.hashes},
            data={
                "sources": [{**asdict(count), "dropped": dict(count.dropped)} for count in training.counts],
                "pairs": len(training),
                "documents": len(training.documents),
                "excluded": self.texts.excluded,
                "held_out": 0 if held is None else len(held),
                "sha256": self.texts.digest,
            },
            dense=_dense_half(self.recipe),
            seconds=time.monotonic() - began,
            losses=thinned(log),
            history=self.history,
            evaluation=evaluation,
            licence=self._licence,
            command=self._command,
            files=checksums(self.out, (CHECKPOINT, MODEL)) if finished else {},
            environment=versions(),
            before=trainings_of(self.base.folder, self.base.hashes),
        )


def _dense_half(recipe: Recipe) -> str:
    if recipe.strand == "dense":
        return "unchanged: a query table was added, document vectors are those of the base"
    if recipe.strand == "both":
        merged = f"where equal tokens of long texts merge in layer {recipe.full_layers}"
        if not recipe.losses.get("order"):
            return f"drawn to the base's vectors, {merged}"
        weights = ", ".join(f"{name} ({weight:g})" for name, weight in recipe.teachers.items() if weight)
        return f"learned which texts are alike from {weights}, {merged}"
    if recipe.trunk == "frozen":
        return "unchanged: the trunk was frozen, its vectors are those of the base"
    if recipe.keep_dense:
        return f"tuned with the trunk, and held near the base's vectors (keep_dense {recipe.keep_dense:g})"
    return "tuned with the trunk, and held near nothing: measure it before using it (keep_dense holds it)"


def _name(folder: Path) -> str:
    """Returns what to call a base: a folder called "model" alone says nothing."""
    *_, parent, name = ("", *folder.resolve().parts)
    return f"{parent}/{name}" if name in ("model", CHECKPOINT) else name


@contextmanager
def _scratch() -> Iterator[Path]:
    """Gives a place for an index, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="plait-train-") as folder:
        yield Path(folder) / "index"


def _write_json(path: Path, value: Any) -> None:
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(path)

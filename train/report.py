"""What a training made and how: for people as MODEL_CARD.md, for machines as report.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from ..eval.evaluate import environment

VERSION = 1
REPORT = "report.json"
POINTS = 200  # of the losses over time
PACKAGES = ("torch", "transformers", "tokenizers", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class TrainReport:
    """A training and its result.

    Attributes:
        out: the folder.
        finished: whether all steps were taken; if not, only what is known so far is here.
        steps: how many were taken.
        recipe: every field.
        base: the name of what it started from, and the SHA-256 of its files.
        data: sources with their counts, how many pairs were excluded, held out and trained on.
        dense: what became of the dense half.
        seconds: wall time of this call.
        losses: means over equal spans of steps.
        history: what evaluations during training said, with their step.
        evaluation: what the exported model scores, a `Judged` as JSON each.
        licence: of the result, as it was given.
        command: how to do it again, as it was given.
        files: SHA-256 by path under `out`.
        environment: versions and hardware.
        before: the reports of the trainings that made the base, the first one first; without their files.
    """

    out: Path
    finished: bool
    steps: int
    recipe: Mapping[str, Any]
    base: Mapping[str, Any]
    data: Mapping[str, Any]
    dense: str = ""
    seconds: float = 0.0
    losses: Sequence[Mapping[str, float]] = ()
    history: Sequence[Mapping[str, Any]] = ()
    evaluation: Sequence[Mapping[str, Any]] = ()
    licence: str = "unknown"
    command: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[Mapping[str, Any]] = ()

    @property
    def checkpoint(self) -> Path:
        """The Hugging Face folder."""
        return self.out / "checkpoint"

    @property
    def model(self) -> Path:
        """The ONNX model, for `load_joint`, `load_dense`, `load_learned` and `plait index --learned`."""
        return self.out / "model"

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain JSON values; without the folder, which says nothing elsewhere."""
        return {
            "report": VERSION,
            "finished": self.finished,
            "steps": self.steps,
            "recipe": dict(self.recipe),
            "base": dict(self.base),
            "data": dict(self.data),
            "dense": self.dense,
            "seconds": round(self.seconds, 1),
            "losses": [dict(point) for point in self.losses],
            "history": [dict(one) for one in self.history],
            "evaluation": [dict(one) for one in self.evaluation],
            "licence": self.licence,
            "command": self.command,
            "files": dict(self.files),
            "environment": dict(self.environment),
            "before": [dict(one) for one in self.before],
        }


def trainings_of(base: Path, hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns the reports of the trainings that made a base: none where no report that names its files is beside it.

    Args:
        base: a checkpoint folder.
        hashes: SHA-256 of its files.
    """
    path = base.parent / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        files, earlier = report.pop("files"), report.pop("before", [])
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []
    ours = all(files.get(f"{base.name}/{name}") == digest for name, digest in hashes.items())
    return [*earlier, report] if ours else []


def thinned(log: Sequence[Mapping[str, float]], points: int = POINTS) -> list[dict[str, float]]:
    """Returns the means of what steps measured over at most so many equal spans, each with its last step."""
    span = -(-len(log) // points) or 1
    found = []
    for start in range(0, len(log), span):
        part = log[start : start + span]
        names = [name for name in part[0] if name != "step"]
        means = {name: round(sum(one.get(name, 0.0) for one in part) / len(part), 6) for name in names}
        found.append({"step": part[-1]["step"], **means})
    return found


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns what steps measured; nothing where there is no such file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def write_log(path: Path, log: Sequence[Mapping[str, float]]) -> None:
    """Writes what steps measured, one a line; the file changes whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    scratch.write_text("".join(json.dumps(dict(line)) + "\n" for line in log), encoding="utf-8")
    scratch.replace(path)


def checksums(out: Path, folders: Sequence[str]) -> dict[str, str]:
    """Returns the SHA-256 of every file in some folders under `out`, by path."""
    files = (file for folder in folders for file in sorted((out / folder).rglob("*")) if file.is_file())
    return {file.relative_to(out).as_posix(): _sha256(file) for file in files}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, Any]:
    """Returns versions and hardware."""
    found = environment()
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

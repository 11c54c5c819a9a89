"""Checkpoints as ONNX models that run without torch: by plait's own writer, else by torch's exporter."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..build import build, source_hashes, write_folder
from ..contract import EncoderError
from ..extras import require
from ..graph import INPUT
from ..manifest import JOINT, MANIFEST, MODEL, TOKENIZER, Manifest, sha256
from ..model_files import ModelFiles, UnsupportedModelError, read_json
from .layout import Layout
from .quantised import quantised
from .reading import Source, positions
from .writing import written

if TYPE_CHECKING:
    from .live import TorchModel

PRECISIONS = ("int8", "fp32")
_LONGEST = 32768  # tokens, of a model without a limit of its own
_LOUD = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")


def export(source: Source, out: str | Path, *, precision: str = "int8", name: str | None = None) -> Manifest:
    """Writes a model folder for a checkpoint of any family and returns its manifest.

    plait's own writer makes it where it knows the model; it needs no torch, and its graphs are faster. Else torch's
    exporter does, and what it writes is brought to 8 bits here.

    Args:
        source: the checkpoint and its recipe.
        out: the folder to write; it appears whole or not at all, and replaces a model that is there.
        precision: "int8" or "fp32".
        name: what the manifest calls the model; the folder's name where None.

    Raises:
        EncoderError: the checkpoint is damaged, or torch cannot export it.
        UnsupportedModelError: plait's own writer does not know the model, and torch is not there.
    """
    if precision not in PRECISIONS:
        raise EncoderError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)} with runtime onnx")
    try:
        return _own(source, Path(out), precision, name or source.folder.resolve().name)
    except UnsupportedModelError as error:
        try:
            require("torch", f"exporting {source.folder}")
            require("onnxscript", f"exporting {source.folder}")
        except EncoderError as second:
            raise UnsupportedModelError(f"{error}. But {second}") from second
    return _through_torch(source, Path(out), precision, name or source.folder.resolve().name)


def _own(source: Source, out: Path, precision: str, name: str) -> Manifest:
    recipe = source.recipe
    if not written(recipe):
        raise UnsupportedModelError(f"plait's own writer has no graph for family {recipe.family!r}")
    shape: dict[str, Any] = {"precision": precision, "recipe": recipe, "max_length": recipe.max_length, "name": name}
    if recipe.dense is not None:
        dense = {"pooling": recipe.dense.pooling, "normalize": recipe.dense.normalize}
        return build(source.trunk, out, head="dense", **dense, **shape)
    assert recipe.sparse is not None
    return build(source.trunk, out, head="learned", activation=recipe.sparse.activation, **shape)


def _through_torch(source: Source, out: Path, precision: str, name: str) -> Manifest:
    from .live import TorchModel

    model = TorchModel(source, device="cpu")
    content = exported(model, source)
    if precision == "int8":
        content = quantised(content)
    layout = Layout(model.tokenizer_json, source.trunk, source.recipe)
    facts = {"outputs": {each: each for each in model.outputs}, "vocabulary": model.vocabulary}
    files = {MODEL: content, TOKENIZER: model.tokenizer_json.encode("utf-8")}
    sparse, dense = source.recipe.sparse, source.recipe.dense
    manifest = Manifest(
        name=name,
        head=JOINT if sparse is not None and dense is not None else "learned" if sparse is not None else "dense",
        precision=precision,
        activation=(dense or sparse).formula,  # type: ignore[union-attr]
        dim=model.dim if dense is not None else model.vocabulary,
        max_length=source.recipe.max_length,
        positions=_positions(source),
        specials=layout.specials,
        prompts={side: text for side in ("query", "document") if (text := getattr(source.recipe.prompts, side))},
        idf=dict(source.recipe.idf),
        files={file: sha256(each) for file, each in files.items()},
        source=source_hashes(source.trunk),
        recipe={**source.recipe.to_json(), **facts},
    )
    write_folder(out, {**files, MANIFEST: manifest.to_text().encode("utf-8")})
    return manifest


def _positions(source: Source) -> int:
    found = positions(ModelFiles(source.trunk, read_json(source.trunk / "config.json"))) or _LONGEST
    echo = source.recipe.sparse is not None and source.recipe.sparse.echo
    return found // 2 if echo else found


def exported(model: TorchModel, source: Source) -> bytes:
    """Returns the serialised ONNX model, float32, of a checkpoint in memory: ids, of one length, to its vectors.

    Raises:
        EncoderError: torch's exporter cannot write it, or what it wrote gives other vectors.
    """
    import torch

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = model.heads

        def forward(self, input_ids: Any) -> tuple[Any, ...]:
            found = self.heads(input_ids)
            return tuple(found[name] for name in model.outputs)

    length = _positions(source)
    limit = 2 * length if source.recipe.sparse is not None and source.recipe.sparse.echo else length
    dims = {0: torch.export.Dim("batch", min=1, max=2**16), 1: torch.export.Dim("length", min=2, max=max(limit, 16))}
    ids = torch.arange(14).reshape(2, 7) % model.vocabulary
    try:
        with _silent():
            program = torch.onnx.export(
                Exported().eval(), (ids,), dynamo=True, verbose=False, optimize=True,
                input_names=[INPUT], output_names=list(model.outputs), dynamic_shapes={"input_ids": dims},
            )  # fmt: skip
    except Exception as error:  # the exporter's own, and whatever it meets inside the model
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise EncoderError(f"torch cannot export {source.folder}: {type(error).__name__}: {reason}") from error
    if program is None:
        raise EncoderError(f"torch cannot export {source.folder}")
    return _inlined(program)


def _inlined(program: Any) -> bytes:
    """Returns the model with its weights in it."""
    with tempfile.TemporaryDirectory(prefix="plait-export-") as folder:
        path = Path(folder) / MODEL
        program.save(str(path), external_data=False)
        return path.read_bytes()


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps torch's exporter, which tells of every step, from telling."""
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

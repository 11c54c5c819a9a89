"""Any supported checkpoint to a model folder that runs without torch, in 8 bits or in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .build import build
from .checkpoint import is_joint
from .contract import EncoderError
from .families.export import export
from .families.opening import plain
from .families.reading import Source, read_source
from .families.static import static_folder
from .folders import find_folder
from .manifest import JOINT, Manifest, is_built
from .model_files import UnsupportedModelError, read_json
from .specs import ONNX, parse

HEADS = ("learned", "dense", JOINT)


def export_model(name: str | Path, out: str | Path, *, strand: str, precision: str = "int8") -> Manifest:
    """Writes a model folder, which onnxruntime alone runs, and returns its manifest.

    Args:
        name: a folder or a hub name, with options behind it where its family or prompts must be said; see
            `plait.encoders.specs`.
        out: the folder to write; it appears whole or not at all, and replaces a model that is there.
        strand: "learned", "dense", or "joint" for both in one pass.
        precision: "int8" or "fp32".

    Raises:
        EncoderError: there is no such model, it is built or needs no building, or it cannot be exported; the message
            says why and what to do.
    """
    if strand not in HEADS:
        raise EncoderError(f"strand {strand!r} is not one of {', '.join(HEADS)}")
    spec = parse(str(name))
    if spec.options.get("runtime", ONNX) != ONNX:
        raise EncoderError(f"an exported model runs with {ONNX}: leave out runtime={spec.options['runtime']}")
    folder = find_folder(spec.name, strand, spec.options.get("revision"))
    _refuse(folder, strand)
    if not is_joint(folder):
        source = _source(folder, spec.name, strand, spec.recipe)
        if not plain(source, spec):
            return export(source, out, precision=precision, name=Path(spec.name).name)
    length = spec.options.get("max_length")
    return build(folder, out, head=JOINT if is_joint(folder) else strand, precision=precision, max_length=length)


def _refuse(folder: Path, strand: str) -> None:
    if is_built(folder):
        raise EncoderError(f"{folder} is exported already: use it as it is")
    if strand == "dense" and static_folder(folder) is not None:
        raise EncoderError(f"{folder} is a table of embeddings, which runs without torch as it is")
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise EncoderError(
            f"{folder} is no model: it has no config.json; give the folder that holds it and the weights"
        )
    if (folder / "config.json").is_file():
        read_json(folder / "config.json")


def _source(folder: Path, name: str, strand: str, options: dict[str, Any]) -> Source:
    try:
        return read_source(folder, strand=strand, name=name, options=options)
    except UnsupportedModelError as error:
        raise EncoderError(f"{error}: such a model cannot be exported") from error

"""Builds a model folder (model.onnx, tokenizer.json, plait.json, arrays) from a Hugging Face folder, without torch.

python -m plait.encoders.build FOLDER OUT --head dense --precision int8
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoint import JOINT_KEY, Checkpoint, read_checkpoint
from .contract import EncoderError
from .extras import require
from .graph import DENSE, OUTPUT, WEIGHTS
from .heads import ACTIVATIONS, POOLINGS, dense_graph, joint_graph, learned_graph
from .joint_checkpoint import QueryTable, read_query_table, read_sparse_half
from .manifest import (
    JOINT,
    MANIFEST,
    MERGED,
    MODEL,
    PROJECTION,
    SCALES,
    SHORTEST,
    TABLE,
    TERMS,
    TOKENIZER,
    JointFacts,
    Manifest,
    npy,
    sha256,
    whole_number,
)
from .model_files import TORCH_HINT, UnsupportedModelError
from .precision import PRECISIONS, row_scales

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .families.recipes import Recipe

SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
DENSE_MODULES = {"Transformer", "Pooling", "Normalize"}
SOURCE_FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "idf.json")


@dataclass(frozen=True)
class Written:
    """A model's graph, and what its manifest says of it.

    Attributes:
        model: the bytes of model.onnx.
        activation: as in `Identity`.
        dim: width of the output.
        max_length: the limit that the checkpoint names in a way of this head's own; None where it does not.
        joint: the sparse half of a joint model.
        arrays: file name -> the bytes of an array beside the graph.
    """

    model: bytes
    activation: str
    dim: int
    max_length: int | None = None
    joint: JointFacts | None = None
    arrays: dict[str, bytes] = field(default_factory=dict)


def build(
    folder: str | Path,
    out: str | Path,
    *,
    head: str,
    precision: str = "int8",
    name: str | None = None,
    max_length: int | None = None,
    pooling: str | None = None,
    normalize: bool | None = None,
    activation: str | None = None,
    recipe: Recipe | None = None,
) -> Manifest:
    """Writes a model folder and returns its manifest; the same checkpoint and options give the same bytes.

    Args:
        folder: a Hugging Face folder of the BERT family.
        out: the folder to write; it appears whole or not at all, and replaces a model that is there.
        head: "dense", "learned", or "joint" for both in one pass.
        precision: "int8" or "fp32".
        name: what the manifest calls the model; the folder's name where None.
        max_length: tokens read of a text; the folder's own limit where None.
        pooling: "mean", "cls" or "max"; the folder's own where None. Not for a learned head.
        normalize: whether vectors get length one; the folder's own choice where None. Not for a learned head.
        activation: "log1p" or "log1p_log1p"; the folder's own where None. Not for a dense head.
        recipe: how outputs become vectors where the family of the checkpoint has ways of its own.

    Raises:
        EncoderError: something is missing or broken.
        UnsupportedModelError: the checkpoint is whole but not of a kind that we write.
    """
    checkpoint = read_checkpoint(folder)
    if head not in WRITERS:
        raise EncoderError(f"head {head!r} is not one of {', '.join(WRITERS)}")
    choices = {"pooling": pooling, "normalize": normalize, "activation": activation}
    written = WRITERS[head](checkpoint, precision, **choices)
    tokenizer = checkpoint.tokenizer_json
    files = {MODEL: written.model, TOKENIZER: tokenizer.encode("utf-8"), **written.arrays}
    manifest = Manifest(
        name=name or Path(folder).resolve().name,
        head=head,
        precision=precision,
        activation=written.activation,
        dim=written.dim,
        max_length=_length(checkpoint, written.max_length if max_length is None else max_length),
        positions=_positions(checkpoint),
        specials=_special_ids(tokenizer),
        prompts=checkpoint.prompts,
        idf=dict(recipe.idf) if recipe is not None else {} if head == "dense" else checkpoint.idf,
        joint=written.joint,
        recipe=None if recipe is None else _recipe_facts(recipe, head, checkpoint),
        files={file: sha256(content) for file, content in files.items()},
        source=source_hashes(checkpoint.folder),
        config=checkpoint.shape,
    )
    write_folder(Path(out), {**files, MANIFEST: manifest.to_text().encode("utf-8")})
    return manifest


def _recipe_facts(recipe: Recipe, head: str, checkpoint: Checkpoint) -> dict[str, Any]:
    outputs = {WEIGHTS if head == "learned" else DENSE: OUTPUT}
    return {**recipe.to_json(), "outputs": outputs, "vocabulary": len(checkpoint.tensors["words.weight"])}


def source_hashes(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of a checkpoint that a build reads."""
    names = [*SOURCE_FILES, *(path.name for path in sorted(folder.glob("model-*.safetensors")))]
    return {name: sha256((folder / name).read_bytes()) for name in names if (folder / name).is_file()}


def write_folder(out: Path, files: dict[str, bytes]) -> None:
    """Writes files into a folder beside `out` and then moves each into place, the manifest last."""
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=out))
    try:
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        for name in files:
            (scratch / name).replace(out / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _dense(
    checkpoint: Checkpoint, precision: str, *, pooling: str | None, normalize: bool | None, activation: str | None
) -> Written:
    if activation:
        raise EncoderError(f"activation {activation!r} is for a learned head; a dense one has pooling and normalize")
    pooling, normalize = _pooling(checkpoint, pooling, normalize)
    model = dense_graph(checkpoint, precision=precision, pooling=pooling, normalize=normalize)
    table = None if JOINT_KEY in checkpoint.config else read_query_table(checkpoint)
    arrays = _query_arrays(table) if table else {}
    return Written(model, _dense_formula(pooling, normalize), int(checkpoint.setting("hidden")), arrays=arrays)


def _pooling(checkpoint: Checkpoint, pooling: str | None, normalize: bool | None) -> tuple[str, bool]:
    unknown = sorted(set(checkpoint.modules) - DENSE_MODULES)
    if unknown:
        raise UnsupportedModelError(f"{checkpoint.folder} has a module {unknown[0]}; {TORCH_HINT}")
    return pooling or checkpoint.pooling, checkpoint.normalize if normalize is None else normalize


def _dense_formula(pooling: str, normalize: bool) -> str:
    return f"{pooling}+l2" if normalize else pooling


def _learned(
    checkpoint: Checkpoint, precision: str, *, pooling: str | None, normalize: bool | None, activation: str | None
) -> Written:
    if pooling or normalize is not None:
        raise EncoderError("pooling and normalize are for a dense head; a learned one has activation")
    activation = activation or checkpoint.learned_activation
    model = learned_graph(checkpoint, precision=precision, activation=activation)
    return Written(model, f"max+{activation}", len(checkpoint.tensors["head.decoder.weight"]))


def _joint(
    checkpoint: Checkpoint, precision: str, *, pooling: str | None, normalize: bool | None, activation: str | None
) -> Written:
    half, table = read_sparse_half(checkpoint), read_query_table(checkpoint)
    pooling, normalize = _pooling(checkpoint, pooling, normalize)
    activation = activation or half.activation
    if half.pooling == "sum" and activation != "log1p":
        raise EncoderError(f"activation {activation!r} is for pooling 'max'; this model sums log1p over tokens")
    model = joint_graph(
        checkpoint, half, precision=precision, pooling=pooling, normalize=normalize, activation=activation
    )
    if half.queries != "idf" and checkpoint.idf:
        raise EncoderError(
            f"{checkpoint.folder}: the queries are {half.queries!r}, so idf.json has no use: remove it, or say 'idf'"
        )
    parts = [(half.prune, f">{half.prune:g}"), (half.expansion - 1, f"*{half.expansion:g}"),
             (half.damping, f"/norm^{half.damping:g}")]  # fmt: skip
    finish = "".join(part for differs, part in parts if differs)
    merged = "" if half.full_layers is None else f"{MERGED}{half.full_layers}>={half.long_from}"
    own = "+own" * half.literal + (f"+{half.repeats:g}ln" if half.repeats and half.literal and merged else "")
    formula = f"{half.pooling}{'' if half.silent is None else '-silent'}{merged}+{activation}" + own + finish
    terms = {} if half.terms is None else {TERMS: npy(half.terms)}
    return Written(
        model,
        _dense_formula(pooling + merged, normalize),
        int(checkpoint.setting("hidden")),
        half.max_length,
        JointFacts(
            formula,
            len(checkpoint.tensors["words.weight"]),
            half.literal,
            table is not None,
            half.queries,
            half.prune,
            half.damping,
            half.expansion,
            half.query_expansion,
            [] if half.silent is None else half.silent.tolist(),
            half.full_layers,
            half.long_from,
        ),
        {**terms, **(_query_arrays(table) if table else {})},
    )


def _query_arrays(table: QueryTable) -> dict[str, bytes]:
    """Returns the files of a query table: 8 bits a number, a float32 scale a row."""
    scales = row_scales(table.table)
    codes = np.rint(table.table / scales[:, None]).astype(np.int8)
    arrays: dict[str, NDArray[Any]] = {TABLE: codes, SCALES: scales}
    if table.projection is not None:
        arrays[PROJECTION] = table.projection
    return {name: npy(array) for name, array in arrays.items()}


WRITERS = {"dense": _dense, "learned": _learned, JOINT: _joint}


def _positions(checkpoint: Checkpoint) -> int:
    return len(checkpoint.tensors["positions.weight"])


def _length(checkpoint: Checkpoint, max_length: int | None) -> int:
    if max_length is None:
        return min(checkpoint.max_length, _positions(checkpoint))
    return whole_number(max_length, "max_length", SHORTEST, _positions(checkpoint))


def _special_ids(tokenizer: str) -> list[int]:
    loaded: Any = require("tokenizers", "building a model").Tokenizer.from_str(tokenizer)
    numbers = (loaded.token_to_id(token) for token in SPECIAL_TOKENS)
    return sorted(number for number in numbers if number is not None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m plait.encoders.build", description="Builds an ONNX encoder folder."
    )
    parser.add_argument("folder", help="a Hugging Face folder of the BERT family")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--head", choices=list(WRITERS), required=True)
    parser.add_argument("--precision", choices=list(PRECISIONS), default="int8")
    parser.add_argument("--name", help="what the manifest calls the model")
    parser.add_argument("--max-length", type=int, help="tokens read of a text")
    parser.add_argument("--pooling", choices=list(POOLINGS), help="not for a learned head")
    parser.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="not for a learned head")
    parser.add_argument("--activation", choices=list(ACTIVATIONS), help="not for a dense head")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Builds as the command line says; returns the exit status."""
    try:
        manifest = build(**vars(_parser().parse_args(arguments)))
    except EncoderError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(manifest.to_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

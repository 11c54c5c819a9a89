"""Builds a model folder (model.onnx, tokenizer.json, plait.json) from a Hugging Face folder, without torch.

python -m plait.encoders.build FOLDER OUT --head dense --precision int8
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from .bert_onnx import ACTIVATIONS, POOLINGS, PRECISIONS, dense_graph, learned_graph
from .checkpoint import TORCH_HINT, Checkpoint, UnsupportedModelError, read_checkpoint
from .contract import EncoderError
from .extras import require
from .manifest import MANIFEST, MODEL, SHORTEST, TOKENIZER, Manifest, sha256, whole_number

SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
DENSE_MODULES = {"Transformer", "Pooling", "Normalize"}
SOURCE_FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "idf.json")


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
) -> Manifest:
    """Writes a model folder and returns its manifest; the same checkpoint and options give the same bytes.

    Args:
        folder: a Hugging Face folder of the BERT family.
        out: the folder to write; it appears whole or not at all, and replaces a model that is there.
        head: "dense" or "learned".
        precision: "int8" or "fp32".
        name: what the manifest calls the model; the folder's name where None.
        max_length: tokens read of a text; the folder's own limit where None.
        pooling: "mean", "cls" or "max"; the folder's own where None. Dense only.
        normalize: whether vectors get length one; the folder's own choice where None. Dense only.
        activation: "log1p" or "log1p_log1p"; the folder's own where None. Learned only.

    Raises:
        EncoderError: something is missing or broken.
        UnsupportedModelError: the checkpoint is whole but not of a kind that we write.
    """
    checkpoint = read_checkpoint(folder)
    writers = {"dense": _dense, "learned": _learned}
    if head not in writers:
        raise EncoderError(f"head {head!r} is not one of {', '.join(writers)}")
    choices = {"pooling": pooling, "normalize": normalize, "activation": activation}
    model, formula, dim = writers[head](checkpoint, precision, **choices)
    tokenizer = checkpoint.tokenizer_json
    files = {MODEL: model, TOKENIZER: tokenizer.encode("utf-8")}
    manifest = Manifest(
        name=name or Path(folder).resolve().name,
        head=head,
        precision=precision,
        activation=formula,
        dim=dim,
        max_length=_length(checkpoint, max_length),
        positions=_positions(checkpoint),
        specials=_special_ids(tokenizer),
        prompts=checkpoint.prompts,
        idf=checkpoint.idf if head == "learned" else {},
        files={file: sha256(content) for file, content in files.items()},
        source=source_hashes(checkpoint.folder),
    )
    write_folder(Path(out), {**files, MANIFEST: manifest.to_text().encode("utf-8")})
    return manifest


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
) -> tuple[bytes, str, int]:
    if activation:
        raise EncoderError(f"activation {activation!r} is for a learned head; a dense one has pooling and normalize")
    unknown = sorted(set(checkpoint.modules) - DENSE_MODULES)
    if unknown:
        raise UnsupportedModelError(f"{checkpoint.folder} has a module {unknown[0]}; {TORCH_HINT}")
    pooling = pooling or checkpoint.pooling
    normalize = checkpoint.normalize if normalize is None else normalize
    model = dense_graph(checkpoint, precision=precision, pooling=pooling, normalize=normalize)
    return model, f"{pooling}+l2" if normalize else pooling, int(checkpoint.setting("hidden"))


def _learned(
    checkpoint: Checkpoint, precision: str, *, pooling: str | None, normalize: bool | None, activation: str | None
) -> tuple[bytes, str, int]:
    if pooling or normalize is not None:
        raise EncoderError("pooling and normalize are for a dense head; a learned one has activation")
    activation = activation or checkpoint.learned_activation
    model = learned_graph(checkpoint, precision=precision, activation=activation)
    return model, f"max+{activation}", len(checkpoint.tensors["head.decoder.weight"])


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
    parser.add_argument("--head", choices=["dense", "learned"], required=True)
    parser.add_argument("--precision", choices=list(PRECISIONS), default="int8")
    parser.add_argument("--name", help="what the manifest calls the model")
    parser.add_argument("--max-length", type=int, help="tokens read of a text")
    parser.add_argument("--pooling", choices=list(POOLINGS), help="dense only")
    parser.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="dense only")
    parser.add_argument("--activation", choices=list(ACTIVATIONS), help="learned only")
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

"""plait.json, what a built model folder says about itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .checkpoint import read_json
from .contract import EncoderError, Identity

MANIFEST, MODEL, TOKENIZER = "plait.json", "model.onnx", "tokenizer.json"
FORMAT = 1
SHORTEST = 3  # [CLS], one token, [SEP]


def sha256(content: bytes) -> str:
    """Returns the hexadecimal SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """Everything needed to open a built model without looking into its big files.

    Attributes:
        name: what the model was built from.
        head: "dense" or "learned".
        precision: "fp32" or "int8".
        activation: how token states become a vector, as in `Identity`.
        dim: width of the output.
        max_length: tokens read of a text.
        positions: the most tokens that the model can read.
        specials: ids of [CLS], [SEP] and the like, which are no terms.
        prompts: what is put before a "query" and before a "document".
        idf: query weights by token; empty where the index weights queries.
        files: file name -> SHA-256.
        source: file name -> SHA-256 of what the model was built from.
        format: version of this file.
    """

    name: str
    head: str
    precision: str
    activation: str
    dim: int
    max_length: int
    positions: int
    specials: list[int]
    files: dict[str, str]
    source: dict[str, str]
    prompts: dict[str, str] = field(default_factory=dict)
    idf: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    def to_text(self) -> str:
        """Returns the text of plait.json."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    def identity(self, name: str, max_length: int) -> Identity:
        """Returns the identity of an encoder that opens this model under a name."""
        moved = json.dumps([self.files[MODEL], self.prompts, self.idf], sort_keys=True)
        plain = not self.prompts and not self.idf
        return Identity(
            name=name,
            revision=(self.files[MODEL] if plain else sha256(moved.encode()))[:16],
            tokenizer=self.files[TOKENIZER][:16],
            activation=self.activation,
            max_length=max_length,
            dim=self.dim,
            query_weights="idf" if self.head == "learned" and not self.idf else "encoder",
        )


@dataclass(frozen=True)
class ModelFolder:
    """A built model on disk: model.onnx, tokenizer.json and plait.json.

    Attributes:
        path: the folder.
        manifest: its plait.json.
    """

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file, compared with the manifest.

        Raises:
            EncoderError: the file is missing, or is not the one the manifest describes.
        """
        path = self.path / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EncoderError(f"{path} cannot be read ({error}): build the model again") from error
        if sha256(content) != self.manifest.files[name]:
            raise EncoderError(
                f"{path} does not match the checksum in {MANIFEST}: it is damaged; build the model again"
            )
        return content


def is_built(folder: Path) -> bool:
    """Tells whether a folder holds a model that `build` wrote."""
    return (folder / MANIFEST).is_file()


def open_folder(folder: Path, head: str) -> ModelFolder:
    """Returns a built model, opened for a head.

    Raises:
        EncoderError: plait.json cannot be understood, or the model has the other head.
    """
    path = folder / MANIFEST
    values = read_json(path)
    if values.get("format") != FORMAT:
        raise EncoderError(
            f"{path} has format {values.get('format')!r}, this plait reads {FORMAT}: build the model again"
        )
    try:
        manifest = Manifest(**values)
    except TypeError as error:
        raise EncoderError(f"{path} is not a plait manifest ({error}): build the model again") from error
    if manifest.head != head:
        other = f"load_{manifest.head}"
        raise EncoderError(f"{folder} holds a {manifest.head} encoder, a {head} one was asked for: use {other}")
    return ModelFolder(folder, manifest)


def checked_length(max_length: Any, manifest: Manifest) -> int:
    """Returns how many tokens an encoder reads: what was asked for, or the manifest's own limit.

    Raises:
        EncoderError: it is not a whole number that the model can take.
    """
    if max_length is None:
        return manifest.max_length
    return whole_number(max_length, "max_length", SHORTEST, manifest.positions)


def whole_number(value: Any, what: str, low: int = 1, high: int = 2**31) -> int:
    """Returns a whole number within bounds.

    Raises:
        EncoderError: it is not such a number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise EncoderError(f"{what} is {value!r}, expected a whole number from {low} to {high}")
    return value

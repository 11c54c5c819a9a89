"""plait.json, what a built model folder says about itself."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contract import EncoderError, Identity
from .model_files import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANIFEST, MODEL, TOKENIZER = "plait.json", "model.onnx", "tokenizer.json"
# Arrays of a joint model, where it has them: its expansion terms, its static query table.
TERMS, TABLE, SCALES, PROJECTION = "terms.npy", "queries.npy", "queries-scales.npy", "queries-projection.npy"
JOINT = "joint"
FORMAT = 1
SHORTEST = 3  # [CLS], one token, [SEP]
MERGED = "-merged-in@"  # in a formula, after the pooling: in which layer equal tokens merge, from what length


def sha256(content: bytes) -> str:
    """Returns the hexadecimal SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class JointFacts:
    """What a manifest says of a joint model beside what it says of a dense one.

    Attributes:
        activation: how token states become a sparse vector, as in `Identity`.
        dim: columns of the sparse vector: the vocabulary.
        literal: whether the model weighs a document's own tokens.
        static: whether there is a static query table.
        queries: "idf", "binary" or "encoded", see `joint_checkpoint`; not written where it is "idf".
        prune: terms that weigh no more than this share of a document's largest are left out; not written where it is 0.
        damping: a document's weights are divided by their Euclidean norm to this power; not written where it is 0.
        expansion: terms that are none of a document's own weigh so many times as much; not written where it is 1.
        query_expansion: how much terms near a query weigh in it, see `queries.NearTerms`; not written where it is 0.
        silent: ids of tokens that are no terms either, see `joint_checkpoint`; not written where there are none.
        full_layers: in how many layers attention sees every token, likewise; not written where equal ones never merge.
        long_from: in texts of so many tokens or more, likewise; not written where it is 0.
    """

    activation: str
    dim: int
    literal: bool
    static: bool
    queries: str = "idf"
    prune: float = 0.0
    damping: float = 0.0
    expansion: float = 1.0
    query_expansion: float = 0.0
    silent: list[int] = field(default_factory=list)
    full_layers: int | None = None
    long_from: int = 0


@dataclass(frozen=True)
class Manifest:
    """Everything needed to open a built model without looking into its big files.

    Attributes:
        name: what the model was built from.
        head: "dense", "learned" or "joint".
        precision: "fp32" or "int8".
        activation: how token states become a vector, as in `Identity`; the dense one of a joint model.
        dim: width of the output; of the dense one of a joint model.
        max_length: tokens read of a text.
        positions: the most tokens that the model can read.
        specials: ids of [CLS], [SEP] and the like, which are no terms.
        prompts: what is put before a "query" and before a "document".
        idf: query weights by token; empty where the index weights queries.
        files: file name -> SHA-256.
        source: file name -> SHA-256 of what the model was built from.
        joint: the sparse half of a joint model; None for others, and then not written.
        recipe: how outputs become vectors, of a model of `plait.encoders.families`; None for others, likewise.
        config: what the checkpoint's config.json said of the model itself, so that it can be made a checkpoint again
            (`unbuild`); None of models that others exported or an older plait built, likewise.
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
    joint: JointFacts | None = None
    recipe: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    format: int = FORMAT

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Manifest:
        """Returns the manifest that `to_text` wrote; unknown keys are a TypeError."""
        joint = values.get("joint")
        return cls(**{**values, "joint": None if joint is None else JointFacts(**joint)})

    def to_text(self) -> str:
        """Returns the text of plait.json."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        usual = {each.name: each.default for each in fields(JointFacts)} | {"silent": []}
        for key in [key for key, value in usual.items() if self.joint is not None and values["joint"][key] == value]:
            del values["joint"][key]
        return json.dumps(values, indent=1, sort_keys=True) + "\n"

    def identity(self, name: str, max_length: int) -> Identity:
        """Returns the identity of an encoder that opens this model under a name; of a joint one, its dense half.

        A static query table is no part of it: an index holds documents, which the table does not move.
        """
        learned = self.head == "learned"
        return self._identity(name, max_length, self.activation, self.dim, self.idf, learned=learned)

    def learned_identity(self, name: str, max_length: int) -> Identity:
        """Returns the identity of a joint model's learned half.

        Raises:
            EncoderError: this is no joint model.
        """
        if self.joint is None:
            raise EncoderError(f"{self.name} is a {self.head} model, a joint one was expected")
        return self._identity(name, max_length, self.joint.activation, self.joint.dim, self.idf, learned=True)

    def _identity(
        self, name: str, max_length: int, activation: str, dim: int, idf: dict[str, float], *, learned: bool
    ) -> Identity:
        idf = idf if learned else {}
        terms = [self.files[TERMS]] if learned and TERMS in self.files else []
        moved = json.dumps([self.files[MODEL], self.prompts, idf, *terms], sort_keys=True)
        plain = not self.prompts and not idf and not terms
        return Identity(
            name=name,
            revision=(self.files[MODEL] if plain else sha256(moved.encode()))[:16],
            tokenizer=self.files[TOKENIZER][:16],
            activation=activation,
            max_length=max_length,
            dim=dim,
            query_weights="idf"
            if learned and not idf and (not self.joint or self.joint.queries == "idf")
            else "encoder",
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
        if sha256(content) != self.manifest.files.get(name):
            raise EncoderError(
                f"{path} does not match the checksum in {MANIFEST}: it is damaged; build the model again"
            )
        return content

    def array(self, name: str) -> NDArray[Any]:
        """Returns the array in a .npy file, compared with the manifest.

        Raises:
            EncoderError: the file is missing, is not the one the manifest describes, or holds no array.
        """
        import numpy as np

        content = self.read(name)
        try:
            return np.load(io.BytesIO(content), allow_pickle=False)
        except ValueError as error:
            raise EncoderError(f"{self.path / name} holds no array ({error}): build the model again") from error


def npy(array: NDArray[Any]) -> bytes:
    """Returns the bytes of a .npy file."""
    import numpy as np

    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def is_built(folder: Path) -> bool:
    """Tells whether a folder holds a model that `build` wrote."""
    return (folder / MANIFEST).is_file()


def open_folder(folder: Path, head: str) -> ModelFolder:
    """Returns a built model, opened for a head; a joint model has every head.

    Raises:
        EncoderError: plait.json cannot be understood, or the model has another head.
    """
    path = folder / MANIFEST
    values = read_json(path)
    if values.get("format") != FORMAT:
        raise EncoderError(
            f"{path} has format {values.get('format')!r}, this plait reads {FORMAT}: build the model again"
        )
    try:
        manifest = Manifest.from_json(values)
    except TypeError as error:
        raise EncoderError(f"{path} is not a plait manifest ({error}): build the model again") from error
    if (manifest.head == JOINT and manifest.recipe is None) != (manifest.joint is not None):
        raise EncoderError(f"{path} is not a plait manifest (head and joint contradict each other): build again")
    if manifest.head not in (head, JOINT):
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

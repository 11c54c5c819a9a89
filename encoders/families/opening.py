"""Checkpoints of every family, opened with what suits them: a table, onnxruntime, torch, sentence-transformers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from ..contract import STATIC, TRANSFORMER, EncoderError, no_table
from ..extras import require
from ..graph import DENSE, INPUT
from ..manifest import MODEL, TOKENIZER, ModelFolder, sha256, whole_number
from ..model_files import UnsupportedModelError
from ..onnx_runtime import TOKEN_BUDGET, OnnxModel
from ..specs import ONNX, RUNTIMES, SENTENCE_TRANSFORMERS, TORCH, Spec
from .encoder import FamilyEncoder
from .layout import Layout
from .reading import ELSEWHERE, Source, read_source, recipe_hash
from .recipes import IDF, Recipe
from .static import StaticEncoder, static_folder
from .writing import written

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..onnx_runtime import Ids

_SAMPLED = 2**30  # bytes of a weight file from which on only its ends are hashed
_END = 2**24
_open: WeakValueDictionary[tuple[Any, ...], FamilyEncoder] = WeakValueDictionary()
_opening = threading.Lock()


def opened(
    folder: Path,
    spec: Spec,
    *,
    strand: str,
    name: str,
    build: Callable[[Source, str], ModelFolder],
    fallback: Callable[[], Any],
    own: Callable[[Source], Any] | None = None,
) -> Any:
    """Returns an encoder over a checkpoint: a face of a strand, or both faces' `FamilyEncoder` for "joint".

    Args:
        folder: the checkpoint.
        spec: what was asked for.
        strand: "learned", "dense" or "joint".
        name: what its identity calls it.
        build: makes, or finds, the ONNX model of a source in a precision.
        fallback: opens the folder through sentence-transformers itself.
        own: opens a checkpoint of which plait's own encoders say all.

    Raises:
        EncoderError: it cannot be opened; the message says why and what to do.
    """
    runtime = spec.options.get("runtime")
    if runtime not in (None, *RUNTIMES):
        raise EncoderError(f"runtime {runtime!r} is not one of {', '.join(RUNTIMES)}")
    if static_folder(folder) is not None and runtime in (None, ONNX):
        return _static(folder, spec, strand, name)
    if spec.options.get("family") == "static":
        raise EncoderError(f"{folder} is no static model: it has no table of embeddings, but a transformer")
    spec = _without_queries(spec, strand)
    if runtime == ONNX and spec.options.get("device") not in (None, "cpu"):
        raise EncoderError(f"device {spec.options['device']!r} is for runtime torch: onnx runs on the processor")
    if runtime == SENTENCE_TRANSFORMERS:
        return _elsewhere(fallback, spec)
    try:
        source = read_source(folder, strand=strand, name=spec.name, options=spec.recipe)
    except UnsupportedModelError as error:
        if runtime is not None:
            raise
        return _instead(lambda: _elsewhere(fallback, spec), error)
    if runtime == ONNX or (runtime is None and not _for_torch(spec) and written(source.recipe)):
        precision = spec.options.get("precision", "int8")
        try:
            if own is not None and plain(source, spec):
                return own(source)
            return _face(_onnx(build(source, precision), spec, name), strand)
        except UnsupportedModelError as error:
            if runtime is not None:
                raise
            return _instead(lambda: _face(_torch(source, spec, name), strand), error)
    return _face(_torch(source, spec, name), strand)


def _without_queries(spec: Spec, strand: str) -> Spec:
    """Returns the spec without "transformer", which the dense queries of every checkpoint are; refuses "static"."""
    said = spec.options.get("queries") if strand == "dense" else None
    if said == STATIC:
        raise EncoderError(no_table(spec.name))
    return spec.without("queries") if said == TRANSFORMER else spec


def _for_torch(spec: Spec) -> bool:
    """Tells whether an option names what torch alone has."""
    options = spec.options
    return bool(options.get("device") or options.get("trust_remote_code") or options.get("precision") in _HALVES)


_HALVES = ("bf16", "fp16")


def plain(source: Source, spec: Spec) -> bool:
    """Tells whether a checkpoint is what plait's own ONNX encoders, and their manifests, say all of."""
    recipe = source.recipe
    options = set(spec.recipe) - {"max_length", "precision", *ELSEWHERE}
    if options or source.folder != source.trunk or not written(recipe):
        return False
    if recipe.dense is not None:
        return recipe.family == "sentence-transformers" and recipe.dense.dimensions == 0
    row = recipe.sparse
    return row is not None and row.queries == IDF and not (row.prune or row.top)


def _elsewhere(fallback: Callable[[], Any], spec: Spec) -> Any:
    """Returns what sentence-transformers runs; it has few of our options."""
    known = {"max_length", "threads", "token_budget", "runtime", "revision", *ELSEWHERE}
    said = {key for key, value in spec.options.items() if (key, value) not in _ALWAYS}
    if wrong := sorted(said - known):
        raise EncoderError(
            f"option {wrong[0]!r} is not for {spec.name}, which sentence-transformers itself runs; its options: "
            f"{', '.join(sorted(known))}"
        )
    return fallback()


_ALWAYS = (("precision", "fp32"), ("device", "cpu"))  # what goes without saying


def _instead(other: Callable[[], Any], error: EncoderError) -> Any:
    try:
        return other()
    except EncoderError as second:
        raise EncoderError(f"{error}. But {second}") from second


def _face(encoder: FamilyEncoder, strand: str) -> Any:
    return encoder if strand == "joint" else getattr(encoder, strand)


def _static(folder: Path, spec: Spec, strand: str, name: str) -> StaticEncoder:
    if strand != "dense":
        raise EncoderError(f"{folder} is a static model, which makes dense vectors alone: use load_dense")
    known = {"max_length", "dimensions", "normalize"}
    idle = {"runtime", "revision", "threads", "token_budget", "query_prompt", "document_prompt", *ELSEWHERE}
    said = {key: value for key, value in spec.options.items() if (key, value) not in (*_ALWAYS, ("family", "static"))}
    if wrong := sorted(set(said) - known - idle):
        raise EncoderError(
            f"option {wrong[0]!r} is not for {folder}, which is a table of embeddings; its options: "
            f"{', '.join(sorted(known | idle))}"
        )
    taken = {key: value for key, value in said.items() if key in known}
    prompts = {
        side: spec.options[key] for side, key in (("query", "query_prompt"), ("document", "document_prompt"))
        if key in spec.options
    }  # fmt: skip
    return StaticEncoder(folder, name=name, prompts=prompts or None, **taken)


def _shared(key: tuple[Any, ...], make: Callable[[], FamilyEncoder]) -> FamilyEncoder:
    """Returns the encoder over a model and options: one, while it is in use, for both strands."""
    with _opening:
        found = _open.get(key)
        if found is None:
            found = _open[key] = make()
        return found


# torch


def _torch(source: Source, spec: Spec, name: str) -> FamilyEncoder:
    require("torch", f"running {source.folder}")
    from .live import TorchModel

    given = {key: spec.options[key] for key in _LIVE if key in spec.options}
    precision = given.get("precision", "fp32")
    key = (TORCH, source.folder.resolve(), recipe_hash(source.recipe), *sorted(given.items()))

    def make() -> FamilyEncoder:
        model = TorchModel(source, **given)
        layout = Layout(model.tokenizer_json, source.trunk, source.recipe)
        revision = f"{weights_hash(source)}-{precision}"
        tokenizer = sha256(model.tokenizer_json.encode())[:16]
        return FamilyEncoder(model, layout, name=name, revision=revision, tokenizer=tokenizer)

    return _shared(key, make)


_LIVE = ("precision", "device", "threads", "token_budget", "trust_remote_code")


def weights_hash(source: Source) -> str:
    """Returns a hash of a checkpoint's weights and settings; of very large files, of their ends and their size."""
    found = hashlib.sha256()
    folders = dict.fromkeys((source.folder, source.trunk))
    paths = {
        path for folder in folders for pattern in ("*.safetensors", "*.bin", "*.pt") for path in folder.rglob(pattern)
    }
    for path in sorted([*paths, source.trunk / "config.json"]):
        size = path.stat().st_size
        with path.open("rb") as file:
            found.update(f"{path.name}:{size}:".encode())
            if size < _SAMPLED:
                found.update(file.read())
                continue
            found.update(file.read(_END))
            file.seek(-_END, 2)
            found.update(file.read())
    return found.hexdigest()[:16]


# onnxruntime


def open_built(folder: ModelFolder, spec: Spec, *, strand: str, name: str) -> Any:
    """Returns an encoder over a built model whose manifest has a recipe.

    Raises:
        EncoderError: it is damaged, or an option would need the checkpoint.
    """
    known = {"max_length", "threads", "token_budget", "prune", "top", "query_prompt", "document_prompt", "precision",
             "chunks", "chunk_size", "overlap", "query_model"}  # fmt: skip
    spec = _without_queries(spec, strand)
    if wrong := sorted(set(spec.options) - known):
        raise EncoderError(f"{folder.path} is built; option {wrong[0]!r} is for the checkpoint that it was built from")
    return _face(_onnx(folder, spec, name), strand)


def _onnx(folder: ModelFolder, spec: Spec, name: str) -> FamilyEncoder:
    recipe = _recipe(folder, spec)
    given = {key: spec.options[key] for key in ("threads", "token_budget") if key in spec.options}
    key = (ONNX, folder.path.resolve(), folder.manifest.to_text(), recipe_hash(recipe), *sorted(given.items()))

    def make() -> FamilyEncoder:
        model = OnnxFamily(folder, recipe, **given)
        layout = Layout(folder.read(TOKENIZER).decode("utf-8"), folder.path / TOKENIZER, recipe)
        files = folder.manifest.files
        return FamilyEncoder(model, layout, name=name, revision=files[MODEL], tokenizer=files[TOKENIZER][:16])

    return _shared(key, make)


def _recipe(folder: ModelFolder, spec: Spec) -> Recipe:
    from dataclasses import replace

    from .recipes import checked

    values = {
        key: value for key, value in (folder.manifest.recipe or {}).items() if key not in ("outputs", "vocabulary")
    }
    try:
        recipe = Recipe.from_json(values, folder.manifest.idf)
    except (TypeError, KeyError) as error:
        raise EncoderError(
            f"{folder.path} has a recipe that this plait does not read ({error}): build it again"
        ) from error
    rows = {key: spec.options[key] for key in ("prune", "top") if key in spec.options}
    if recipe.sparse is not None:
        recipe = replace(recipe, sparse=replace(recipe.sparse, **rows))
    names = {"query_prompt": "query", "document_prompt": "document"}
    prompts = {names[key]: spec.options[key] for key in names if key in spec.options}
    length = spec.options.get("max_length")
    if length is not None:
        recipe = replace(recipe, max_length=whole_number(length, "max_length", 3, folder.manifest.positions))
    return checked(replace(recipe, prompts=replace(recipe.prompts, **prompts)))


class OnnxFamily:
    """A built model of a family; see `encoder.Model`.

    Args:
        folder: the model.
        recipe: how its outputs become vectors.
        threads: batches at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
    """

    def __init__(
        self, folder: ModelFolder, recipe: Recipe, *, threads: int | None = None, token_budget: int = TOKEN_BUDGET
    ) -> None:
        facts: Mapping[str, Any] = folder.manifest.recipe or {}
        self._names: Mapping[str, str] = facts["outputs"]
        self.vocabulary, self._row = int(facts["vocabulary"]), recipe.dense
        self._model = OnnxModel(folder, max_length=recipe.max_length, threads=threads, token_budget=token_budget)
        width = folder.manifest.dim if recipe.dense is not None else 0
        self.dim = min(recipe.dense.dimensions or width, width) if recipe.dense is not None else 0

    at_once = 256

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the model returns of a text."""
        return tuple(self._names)

    def each(
        self,
        ids: Sequence[Ids],
        wanted: Sequence[str],
        keep: Callable[[list[int], Mapping[str, NDArray[np.float32]]], None],
    ) -> None:
        """Runs texts in batches of one length, the longest first; `keep` is called from several threads."""
        names = [self._names[name] for name in wanted]

        def work(positions: list[int], batch: Ids) -> None:
            found = dict(zip(wanted, self._model.session.run(names, {INPUT: batch}), strict=True))
            if DENSE in found:
                found[DENSE] = self._cut(found[DENSE])
            keep(positions, found)

        self._model.each_of(ids, work)

    def _cut(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = vectors[:, : self.dim]
        if self._row is None or not self._row.normalize:
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)

"""Encoders by name: embedded models, local folders, hub names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from .checkpoint import is_joint
from .contract import QUERIES, STATIC, TRANSFORMER, DenseEncoder, EncoderError, SparseEncoder, no_table
from .folders import (
    EMBEDDED,
    STATIC_NAMES,
    built_folder,
    checked_name,
    exported_folder,
    find_folder,
    is_embedded,
    plain_name,
)
from .manifest import JOINT, TABLE, ModelFolder, checked_length, is_built, open_folder
from .model_files import UnsupportedModelError
from .specs import RUNTIMES, Spec, parse

if TYPE_CHECKING:
    from .families.encoder import FamilyEncoder
    from .joint import OnnxJointEncoder


_OF_FACES = ("chunks", "chunk_size", "overlap", "query_model")  # options of an encoder of one strand


@dataclass(frozen=True)
class _Kind:
    """What is different between the strands: the ONNX encoder, a joint one's face, torch for what we cannot build."""

    head: str
    onnx: Callable[..., Any]
    face: Callable[..., Any]
    torch: Callable[..., Any]


def _onnx_dense(folder: ModelFolder, **options: Any) -> DenseEncoder:
    from .dense import OnnxDenseEncoder

    return OnnxDenseEncoder(folder, **options)


def _onnx_learned(folder: ModelFolder, **options: Any) -> SparseEncoder:
    from .learned import OnnxSparseEncoder

    return OnnxSparseEncoder(folder, **options)


def _dense_face(joint: OnnxJointEncoder, name: str, queries: str) -> DenseEncoder:
    from .joint import JointDense

    return JointDense(joint, queries=queries, name=name)


def _learned_face(joint: OnnxJointEncoder, name: str, queries: str) -> SparseEncoder:
    from .joint import JointLearned

    del queries
    return JointLearned(joint, name=name)


def _torch_dense(folder: Path, **options: Any) -> DenseEncoder:
    from .torch_models import TorchDenseEncoder

    return TorchDenseEncoder(folder, **options)


def _torch_learned(folder: Path, **options: Any) -> SparseEncoder:
    from .torch_models import TorchSparseEncoder

    return TorchSparseEncoder(folder, **options)


_DENSE = _Kind("dense", _onnx_dense, _dense_face, _torch_dense)
_LEARNED = _Kind("learned", _onnx_learned, _learned_face, _torch_learned)


def load_dense(
    name: str | Path = EMBEDDED,
    *,
    queries: str | None = None,
    max_length: int | None = None,
    threads: int | None = None,
    token_budget: int | None = None,
    precision: str | None = None,
) -> DenseEncoder:
    """Returns a dense encoder.

    Args:
        name: "embedded", a folder (one that `build` wrote, or a Hugging Face folder), or a hub name such as
            "sentence-transformers/all-MiniLM-L6-v2"; options may follow, see `plait.encoders.specs`.
        queries: "transformer", or "static" for the query table of a joint model; where None, what the name says, and
            "transformer" where it says nothing. Document vectors are the same.
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it cannot be opened, or it has no such queries.
    """
    spec = _spec(name, max_length=max_length, threads=threads, token_budget=token_budget, precision=precision)
    if "densify" in spec.options:
        return _densified(spec, str(name))
    return _load(_DENSE, spec.with_options(queries=queries), str(name))


def _densified(spec: Spec, asked: str) -> DenseEncoder:
    from .densified import DensifiedEncoder

    return DensifiedEncoder(_load(_LEARNED, spec.without("densify"), asked), slices=spec.options["densify"])


def load_learned(
    name: str | Path = EMBEDDED,
    *,
    max_length: int | None = None,
    threads: int | None = None,
    token_budget: int | None = None,
    precision: str | None = None,
) -> SparseEncoder:
    """Returns a learned sparse encoder of any family; see `plait.encoders.families.recipes`.

    Args:
        name: "embedded", a folder (one that `build` wrote, or a Hugging Face folder with a masked-LM head or of a joint
            model), or a hub name such as "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill"; options
            may follow, as in "folder:family=splade:top=256", see `plait.encoders.specs`.
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it cannot be opened.
    """
    spec = _spec(name, max_length=max_length, threads=threads, token_budget=token_budget, precision=precision)
    _refuse_static(spec.name, "load_learned")
    return _load(_LEARNED, spec, str(name))


def load_joint(
    name: str | Path = EMBEDDED,
    *,
    max_length: int | None = None,
    threads: int | None = None,
    token_budget: int | None = None,
    precision: str | None = None,
) -> OnnxJointEncoder | FamilyEncoder:
    """Returns a joint encoder: both strands of a document in one forward pass.

    It is the one behind what `load_dense` and `load_learned` return for the same model and options, as long as any of
    them is in use: they share one model in memory.

    Args:
        name: "embedded", a folder (one that `build` wrote, or a joint checkpoint), or a hub name; options may follow.
        max_length: tokens read of a text; the model's own limit where None.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
        precision: "int8" or "fp32"; where None, that of a built model, and int8 for one built on the way.

    Raises:
        EncoderError: there is no such model, or it is no joint one, or it cannot be opened.
    """
    spec = _spec(name, max_length=max_length, threads=threads, token_budget=token_budget, precision=precision)
    _refuse_static(spec.name, "load_joint")
    if wrong := [option for option in _OF_FACES if option in spec.options]:
        raise EncoderError(
            f"option {wrong[0]!r} is not for load_joint, which cuts no texts and encodes no queries: give it to both "
            "load_dense and load_learned, whose encoders still share one pass (their attribute joint)"
        )
    folder = find_folder(spec.name, JOINT, spec.options.get("revision"))
    full_name = _full_name(spec.name, folder, str(name))
    if not is_built(folder) and not is_joint(folder):
        return opening().opened(
            folder, spec, strand=JOINT, name=full_name, build=exported_folder, fallback=lambda: _no_joint(folder)
        )
    built = _built(folder, JOINT, spec.options.get("precision"))
    if built.manifest.recipe is not None:
        return opening().open_built(built, spec, strand=JOINT, name=full_name)
    return _shared(built, full_name, _known_options(spec, dense=False))


def opening() -> Any:
    """Returns the module that opens checkpoints of every family; imported when a checkpoint is opened."""
    from .families import opening

    return opening


def _no_joint(folder: Path) -> Any:
    raise EncoderError(f"{folder} is of a kind that sentence-transformers alone runs, which has no joint encoders")


def _spec(name: str | Path, **given: Any) -> Spec:
    spec = Spec(str(name)) if isinstance(name, Path) else parse(checked_name(name))
    return spec.with_options(**given)


def _load(kind: _Kind, spec: Spec, asked: str) -> Any:
    folder = find_folder(spec.name, kind.head, spec.options.get("revision"))
    full_name = _full_name(spec.name, folder, asked)
    made = _built_or_joint(kind, spec, folder, full_name)
    if made is None and kind is _DENSE and spec.options.get("queries") == STATIC:  # a table is plait's own
        made = _own(kind, spec, folder, full_name)
    if made is None:
        made = opening().opened(
            folder,
            spec,
            strand=kind.head,
            name=full_name,
            build=exported_folder,
            fallback=lambda: kind.torch(
                folder, name=full_name, **_options(spec, "max_length", "threads", "token_budget")
            ),
            own=lambda source: _own(kind, spec, folder, full_name),
        )
    made = _in_pieces(made, spec)
    other = spec.options.get("query_model")
    return made if other is None else _with_queries(kind, made, other)


def _with_queries(kind: _Kind, documents: Any, other: str) -> Any:
    from .paired import PairedDense, PairedLearned

    pair = {"dense": PairedDense, "learned": PairedLearned}[kind.head]
    return pair(documents, _load(kind, parse(other), other))


def _in_pieces(encoder: Any, spec: Spec) -> Any:
    """Returns the encoder, or one that cuts long texts where that is asked for."""
    names = {"chunks": "aggregate", "chunk_size": "size", "overlap": "overlap"}
    given = {names[key]: spec.options[key] for key in names if key in spec.options}
    if not given:
        return encoder
    from .chunked import chunked

    return chunked(encoder, **given)


def _built_or_joint(kind: _Kind, spec: Spec, folder: Path, full_name: str) -> Any:
    """Returns the encoder over a model that `build` wrote or over a joint checkpoint; None for another folder."""
    if is_built(folder):
        built = _opened(folder, kind.head, spec.options.get("precision"))
        if built.manifest.recipe is not None:
            return opening().open_built(built, spec, strand=kind.head, name=full_name)
    elif not is_joint(folder):
        return None
    return _own(kind, spec, folder, full_name)


def _own(kind: _Kind, spec: Spec, folder: Path, full_name: str) -> Any:
    """Returns the encoder over a built model whose manifest says all, building it where it must be."""
    options, name = _known_options(spec, dense=kind is _DENSE), spec.name
    queries = _chosen_queries(name, spec.options.get("queries")) if kind is _DENSE else TRANSFORMER
    given = {key: value for key, value in options.items() if value is not None}
    try:
        built = _built(folder, kind.head, spec.options.get("precision"))
    except UnsupportedModelError:
        _refuse_table(queries, name)
        raise
    if built.manifest.head == JOINT:
        joint = _shared(built, _full_name(STATIC_NAMES.get(plain_name(name), name), folder), options)
        return kind.face(joint, full_name, queries)
    if queries == STATIC and TABLE in built.manifest.files:
        return kind.onnx(built, name=full_name, queries=queries, **given)
    _refuse_table(queries, name)
    return kind.onnx(built, name=full_name, **given)


def _known_options(spec: Spec, *, dense: bool) -> dict[str, Any]:
    """Returns the options of a built model, all of them; queries are made in one way but for dense vectors.

    Raises:
        EncoderError: there is another, or a runtime that there is not.
    """
    known = ("max_length", "threads", "token_budget")
    others = {"precision", "chunks", "chunk_size", "overlap", "revision", "runtime", "query_model"}
    others.add("trust_remote_code")  # there is none
    if dense:
        others.add("queries")
    if wrong := sorted(set(spec.options) - {*known, *others}):
        raise EncoderError(
            f"option {wrong[0]!r} is not for {spec.name!r}, whose vectors are made in one way; its options: "
            f"{', '.join([*known, *sorted(others)])}"
        )
    if (runtime := spec.options.get("runtime")) not in (None, *RUNTIMES):
        raise EncoderError(f"runtime {runtime!r} is not one of {', '.join(RUNTIMES)}")
    return {key: spec.options.get(key) for key in known}


def _options(spec: Spec, *names: str) -> dict[str, Any]:
    return {name: spec.options[name] for name in names if name in spec.options}


def _built(folder: Path, head: str, precision: str | None) -> ModelFolder:
    """Returns the built model in a folder, or the build of the checkpoint in it."""
    if is_built(folder):
        return _opened(folder, head, precision)
    head = JOINT if is_joint(folder) else head
    return open_folder(built_folder(folder, head, precision or "int8"), head)


def _opened(folder: Path, head: str, precision: str | None) -> ModelFolder:
    opened = open_folder(folder, head)
    if precision not in (None, opened.manifest.precision):
        raise EncoderError(
            f"{folder} is built as {opened.manifest.precision}, {precision} was asked for: give the original checkpoint"
        )
    return opened


_joints: WeakValueDictionary[tuple[Any, ...], OnnxJointEncoder] = WeakValueDictionary()
_joining = threading.Lock()


def _shared(folder: ModelFolder, name: str, options: dict[str, Any]) -> OnnxJointEncoder:
    """Returns the joint encoder over a folder with some options: one, while it is in use."""
    from .joint import OnnxJointEncoder

    length = checked_length(options["max_length"], folder.manifest)
    given = {key: value for key, value in options.items() if value is not None}
    rest = tuple((key, value) for key, value in given.items() if key != "max_length")
    key = (folder.path.resolve(), folder.manifest.to_text(), length, *rest)
    with _joining:
        found = _joints.get(key)
        if found is None:
            found = _joints[key] = OnnxJointEncoder(folder, name=name, **given)
        return found


def _chosen_queries(name: str, queries: str | None) -> str:
    says_static = plain_name(name) in STATIC_NAMES
    if says_static and queries == TRANSFORMER:
        other = STATIC_NAMES[plain_name(name)]
        raise EncoderError(f"{name!r} is the name for static queries: use {other!r} with queries={TRANSFORMER!r}")
    chosen = queries or (STATIC if says_static else TRANSFORMER)
    if chosen not in QUERIES:
        raise EncoderError(f"queries {queries!r} is not one of {', '.join(QUERIES)}")
    return chosen


def _refuse_static(name: str, asked: str) -> None:
    if plain_name(name) in STATIC_NAMES:
        raise EncoderError(f"{name!r} is a name for load_dense alone: give {asked} {STATIC_NAMES[plain_name(name)]!r}")


def _refuse_table(queries: str, name: str) -> None:
    if queries == STATIC:
        raise EncoderError(no_table(name))


def _full_name(name: str, folder: Path, asked: str | None = None) -> str:
    """Returns what an identity calls a model: what was asked for, and where it is from for an embedded one."""
    if not is_embedded(name):
        return asked or name
    return f"{EMBEDDED}/{plain_name(name) if plain_name(name) in STATIC_NAMES else folder.name}"

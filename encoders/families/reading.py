"""A folder to its recipe: which family it is of, and what its files and its user change of the family's row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..contract import EncoderError
from ..manifest import SHORTEST, whole_number
from ..model_files import ModelFiles, UnsupportedModelError, read_json, read_text
from .recipes import (
    ALL,
    CAUSAL,
    DENSE_POOLINGS,
    ENCODED,
    FAMILIES,
    IDF,
    MASKED,
    DenseRow,
    Prompts,
    Recipe,
    SparseRow,
    checked,
    family,
)

# sentence-transformers' modules that are read here, in this order; folders with others are left to it.
_ORDER = ("Router", "Transformer", "MLMTransformer", "Pooling", "SpladePooling", "Dense", "Normalize")
SPARSE_LINEAR = ("sparse_linear.pt", "sparse_linear.safetensors")
_POSITIONS = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"}  # the first two are for padding
_LONGEST = 10**6  # transformers writes 1e30 where a tokenizer has no limit
_DEFAULT_LENGTH = 512


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk and what becomes of it.

    Attributes:
        folder: what was named.
        trunk: where config.json, weights and tokenizer are: a part of the folder where queries have a route of their
            own.
        recipe: how it becomes vectors.
    """

    folder: Path
    trunk: Path
    recipe: Recipe


def read_source(
    folder: Path, *, strand: str, name: str | None = None, options: Mapping[str, Any] | None = None
) -> Source:
    """Returns a checkpoint with its recipe.

    Args:
        folder: a folder as transformers or sentence-transformers write it.
        strand: "learned", "dense" or "joint": what is wanted.
        name: the hub name, where it has one, which the catalogue may know.
        options: of `encoders.specs.OPTIONS`.

    Raises:
        UnsupportedModelError: only sentence-transformers itself can run it.
        EncoderError: it is no model folder, or not of a kind that fills the strand; the message says what to do.
    """
    options = options or {}
    routes = _routes(folder)
    _refuse_modules(folder, routes, strand)
    trunk = _trunk(folder, routes)
    files = ModelFiles(trunk, read_json(trunk / "config.json"))
    if read_json(trunk / "sentence_bert_config.json", {}).get("do_lower_case"):
        _leave(folder, "do_lower_case")
    name_of = options.get("family") or _known(name, strand) or _guess(folder, files, strand, routes)
    row = family(name_of)
    for head in ("learned", "dense") if strand == "joint" else (strand,):
        if head not in row.heads:
            raise EncoderError(f"family {name_of!r} fills the strand {row.heads[0]}, not {head}: see `plait models`")
    recipe = Recipe(
        name_of,
        _sparse(row.sparse, folder, files, routes),
        _dense(row.dense, folder, plain=name_of == "sentence-transformers"),
        row.model or _model(files),
        _prompts(row.prompts, ModelFiles(folder, {})),
        min(length_of(files), _limit(files, row.sparse)),
    )
    recipe = _with_options(recipe, strand, options, files)
    wants_idf = recipe.sparse is not None and recipe.sparse.queries == IDF
    return Source(folder, trunk, replace(checked(recipe), idf=_idf(folder, files, routes) if wants_idf else {}))


def length_of(files: ModelFiles) -> int:
    """Returns how many tokens a model reads: what its files say, at most `positions`."""
    sentence = read_json(files.folder / "sentence_bert_config.json", {}).get("max_seq_length")
    tokenizer = read_json(files.folder / "tokenizer_config.json", {}).get("model_max_length")
    said = [int(value) for value in (sentence, tokenizer) if value and value < _LONGEST]
    return min(said[0] if said else _DEFAULT_LENGTH, positions(files) or _LONGEST)


def positions(files: ModelFiles) -> int:
    """Returns the most tokens that a model has positions for; 0 where config.json sets no limit."""
    found = int(files.config.get("max_position_embeddings") or files.config.get("n_positions") or 0)
    return found - 2 if files.config.get("model_type") in _POSITIONS and found > 2 else found


def _limit(files: ModelFiles, row: SparseRow | None) -> int:
    """Returns the most tokens that may be read of a text: each has two positions where texts are read twice."""
    most = positions(files) or _LONGEST
    return most // 2 if row is not None and row.echo else most


def _known(name: str | None, strand: str) -> str | None:
    """Returns the family that the catalogue has for a hub name, where it fills the strand."""
    from ..catalogue import family_of

    found = family_of(name) if name else None
    wanted = {"learned", "dense"} if strand == "joint" else {strand}
    return found if found is not None and found in FAMILIES and wanted <= set(FAMILIES[found].heads) else None


def _guess(folder: Path, files: ModelFiles, strand: str, routes: Mapping[str, list[str]]) -> str:
    made_for = (files.config.get("architectures") or [""])[0]
    if any((folder / name).is_file() for name in SPARSE_LINEAR):
        return "bge-m3"
    if strand == "dense":
        return "sentence-transformers"
    for part, found in _ARCHITECTURES.items():
        if part in made_for:
            return found
    if strand == "joint":
        both = ", ".join(name for name, row in FAMILIES.items() if len(row.heads) > 1)
        raise EncoderError(f"{folder} is no joint checkpoint: if it is of a family of both strands, name it: {both}")
    if "SpladePooling" in ModelFiles(folder, {}).modules and not routes:
        return "splade"
    if _model(files) == CAUSAL:
        raise EncoderError(f"{folder} is a decoder ({made_for}): name its family, as in {_HOW}")
    return "opensearch-doc"


_HOW = "NAME:family=mistral-splade; the families are " + ", ".join(FAMILIES)
_ARCHITECTURES = {"UniCoil": "unicoil", "DeepImpact": "deepimpact"}


def _model(files: ModelFiles) -> str:
    made_for = (files.config.get("architectures") or [""])[0]
    return CAUSAL if "CausalLM" in made_for or "LMHead" in made_for else MASKED


# The routes of a sentence-transformers Router


def _routes(folder: Path) -> Mapping[str, list[str]]:
    """Returns the modules of each route, "query" and "document", as sub-folders; nothing where there is no router."""
    if not (folder / "router_config.json").is_file():
        return {}
    settings = read_json(folder / "router_config.json")
    structure = settings.get("structure", {})
    if not {"query", "document"} <= set(structure):
        raise UnsupportedModelError(f"{folder / 'router_config.json'} has no routes for query and document")
    return {route: list(structure[route]) for route in ("query", "document")}


def _kinds(modules: list[str], routes: Mapping[str, list[str]]) -> list[str]:
    """Returns the classes of the modules that documents pass, in order."""
    return modules + _route(routes, "document")


def _route(routes: Mapping[str, list[str]], side: str) -> list[str]:
    return [part.rpartition("_")[2] for part in routes.get(side, [])]


def _refuse_modules(folder: Path, routes: Mapping[str, list[str]], strand: str) -> None:
    """Raises UnsupportedModelError where modules do what no recipe says."""
    kinds = _kinds(ModelFiles(folder, {}).modules, routes)
    if unknown := sorted(set(kinds) - set(_ORDER)):
        _leave(folder, f"a module {unknown[0]}")
    if kinds != sorted(kinds, key=_ORDER.index):
        _leave(folder, f"modules in an order of their own ({', '.join(kinds)})")
    if routes and (strand == "dense" or _route(routes, "query") != ["SparseStaticEmbedding"]):
        _leave(folder, "a transformer of their own for queries")
    if ModelFiles(folder, {}).module_config("Pooling").get("include_prompt") is False:
        _leave(folder, "a pooling without the prompt")


def _leave(folder: Path, what: str) -> None:
    raise UnsupportedModelError(f"{folder} has {what}, which only sentence-transformers runs")


def _trunk(folder: Path, routes: Mapping[str, list[str]]) -> Path:
    parts = [folder / part for part in routes.get("document", []) if (folder / part / "config.json").is_file()]
    found = [part for part in parts if "model_type" in read_json(part / "config.json")]
    if found or (folder / "config.json").is_file():
        return (found or [folder])[0]
    if not folder.is_dir():
        raise EncoderError(f"{folder} is not a folder: give the folder that holds config.json and model.safetensors")
    raise EncoderError(f"{folder} is no model: it has no config.json; give the folder that holds it and the weights")


# What files say of a row


def _sparse(
    row: SparseRow | None, folder: Path, files: ModelFiles, routes: Mapping[str, list[str]]
) -> SparseRow | None:
    if row is None:
        return None
    holder = ModelFiles(folder, {})
    settings = holder.module_config("SpladePooling")
    if settings:
        row = replace(row, pooling=settings.get("pooling_strategy", row.pooling), activation=holder.splade_activation)
    if routes and row.queries == ENCODED:
        row = replace(row, queries=IDF)
    if row.queries == IDF and routes:
        row = replace(row, specials=ALL)
    return row


def _dense(row: DenseRow | None, folder: Path, *, plain: bool) -> DenseRow | None:
    """Returns the row as sentence-transformers' files have it; `plain` is that of a folder of no family."""
    if row is None:
        return None
    holder = ModelFiles(folder, {})
    poolings = holder.poolings
    if len(poolings) > 1 or not set(poolings) <= set(DENSE_POOLINGS):
        _leave(folder, f"a pooling {'+'.join(poolings)}")
    if holder.modules:
        layers = holder.paths("Dense")
        row = replace(row, pooling=(poolings or [row.pooling])[0], normalize=holder.normalize, layers=layers)
    elif plain:
        row = replace(row, normalize=holder.normalize)
    return replace(row, dimensions=int(holder.sentence_config.get("truncate_dim") or 0))


def _prompts(prompts: Prompts, files: ModelFiles) -> Prompts:
    return replace(prompts, **files.prompts)


def _idf(folder: Path, files: ModelFiles, routes: Mapping[str, list[str]]) -> dict[str, float]:
    for part in [folder / each for each in routes.get("query", [])]:
        if (part / "model.safetensors").is_file():
            return _static_weights(part, folder)
    return ModelFiles(folder, {}).idf or files.idf


def _static_weights(part: Path, folder: Path) -> dict[str, float]:
    from ..extras import require

    (weights,) = require("safetensors.numpy", f"reading {part}").load_file(part / "model.safetensors").values()
    tokenizer = require("tokenizers", f"reading {part}").Tokenizer.from_str(read_text(part / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    if len(weights) < len(vocabulary):
        raise EncoderError(f"{part} has {len(weights)} weights for {len(vocabulary)} tokens: it is damaged")
    return {token: float(weights[number]) for token, number in vocabulary.items()}


# What a user says


def _with_options(recipe: Recipe, strand: str, options: Mapping[str, Any], files: ModelFiles) -> Recipe:
    sparse, dense, taken = recipe.sparse, recipe.dense, set(options) - ELSEWHERE - {"precision"}
    if sparse is not None and strand in ("learned", "joint"):
        sparse = replace(sparse, **{name: options[name] for name in _SPARSE if name in options})
    if dense is not None and strand in ("dense", "joint"):
        dense = replace(dense, **{name: options[name] for name in _DENSE if name in options})
    known = {*_COMMON, *(_SPARSE if strand != "dense" else ()), *(_DENSE if strand != "learned" else ())}
    if wrong := sorted(taken - known):
        raise EncoderError(
            f"option {wrong[0]!r} is not for the strand {strand}; its options: {', '.join(sorted(known))}"
        )
    prompts = {_PROMPTS[name]: options[name] for name in _PROMPTS if name in options}
    length = recipe.max_length
    if "max_length" in options:
        length = whole_number(options["max_length"], "max_length", SHORTEST, _limit(files, sparse))
    return replace(recipe, sparse=sparse, dense=dense, prompts=replace(recipe.prompts, **prompts), max_length=length)


_SPARSE = ("pooling", "activation", "queries", "prune", "top", "specials")
_DENSE = ("pooling", "normalize", "queries", "dimensions")
_PROMPTS = {"query_prompt": "query", "document_prompt": "document"}
_COMMON = ("family", "max_length", *_PROMPTS)
ELSEWHERE = {"chunks", "chunk_size", "overlap", "query_model", "densify"}  # of the options, those that no recipe has


def recipe_hash(recipe: Recipe) -> str:
    """Returns what tells recipes apart, as JSON."""
    return json.dumps([recipe.to_json(), sorted(recipe.idf.items())], sort_keys=True)

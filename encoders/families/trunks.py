"""Checkpoints opened by transformers, their language-model head taken apart so that it can be pooled in tiles."""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..contract import EncoderError
from ..extras import require
from ..model_files import read_json
from .reading import SPARSE_LINEAR, Source
from .recipes import BASE, CAUSAL, LOGITS, MASKED, TOKENS, Recipe

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CLASSES = {BASE: "AutoModel", MASKED: "AutoModelForMaskedLM", CAUSAL: "AutoModelForCausalLM"}
_HEADS = ("tok_proj", "token_proj", "impact_score_encoder", "sparse_linear", "term_proj")  # as their makers call them
_CLOSE = 1e-3


class Trunk(nn.Module):
    """A transformer: token ids to the states of its last layer, and to what meets the rows of its decoder.

    Attributes:
        decoder: (vocabulary, hidden) of a model with a language-model head; None of a trunk alone.
        bias: (vocabulary,), or None.
        width: of the states.
        vocabulary: rows of the word table, or of the decoder.
    """

    def __init__(self, model: Any, kind: str, *, both: bool = False) -> None:
        super().__init__()
        self.model, self.kind, self.both = model, kind, both
        self.decoder: Tensor | None = None
        self.bias: Tensor | None = None
        self.nothing: nn.Module = nn.Identity()
        words = model.get_input_embeddings()
        self.width, self.vocabulary = int(model.config.hidden_size), int(words.weight.shape[0])
        if kind != BASE:
            self._take_apart()

    def _take_apart(self) -> None:
        """Replaces the decoder by nothing, so that the model's logits are what would have met it."""
        head = self.model.get_output_embeddings()
        ids = torch.arange(min(self.vocabulary, 4), device=head.weight.device)[None]
        with torch.no_grad():
            expected = self._call(ids, None).logits
            self._put_in_place_of(head, self.nothing)
            states = self._call(ids, None).logits
            same = states.shape[-1] == head.weight.shape[1]
            found = nn.functional.linear(states, head.weight, head.bias) if same else expected + 1
        self.vocabulary = int(head.weight.shape[0])
        if (found - expected).abs().max() <= _CLOSE * expected.abs().max().clamp(min=1):
            self.decoder, self.bias = head.weight, head.bias
        else:  # something stands behind the decoder, as a cap on logits does
            self._put_in_place_of(self.nothing, head)

    def _put_in_place_of(self, old: nn.Module, new: nn.Module) -> None:
        name = next(name for name, module in self.model.named_modules() if module is old)
        parent, _, last = name.rpartition(".")
        setattr(self.model.get_submodule(parent), last, new)

    def _call(self, ids: Tensor, attention: Tensor | None) -> Any:
        more = {"use_cache": False} if self.kind == CAUSAL else {}
        if self.both:
            more["output_hidden_states"] = True
        return self.model(input_ids=ids, attention_mask=attention, return_dict=True, **more)

    def forward(self, ids: Tensor, attention: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the last layer's states and what meets the decoder, both (batch, length, width).

        The latter are logits already where the head cannot be taken apart.
        """
        found = self._call(ids, attention)
        if self.kind == BASE:
            return found.last_hidden_state, found.last_hidden_state
        return found.hidden_states[-1] if self.both else found.logits, found.logits


def open_trunk(source: Source, *, precision: str, device: str, trust_remote_code: bool = False) -> Trunk:
    """Returns a checkpoint's transformer, ready to run.

    Raises:
        EncoderError: it needs code of its own, lacks the head that its family needs, has weights that are no numbers,
            or cannot be read.
    """
    if precision not in PRECISIONS:
        raise EncoderError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    recipe = source.recipe
    library = require("transformers", f"running {source.folder}")
    _refuse_code(library, source.trunk, trust_remote_code)
    model = _opened(library, source, recipe.model, trust_remote_code)
    _refuse_nan(model, source.trunk)
    model = model.to(dtype=PRECISIONS[precision], device=device).eval().requires_grad_(False)
    row = recipe.sparse
    both = row is not None and row.head == LOGITS and (row.literal or recipe.dense is not None)
    return Trunk(model, recipe.model, both=both).eval()


def _refuse_code(library: Any, folder: Path, trusted: bool) -> None:
    config = read_json(folder / "config.json")
    known = config.get("model_type") in library.models.auto.configuration_auto.CONFIG_MAPPING
    if config.get("auto_map") and not known and not trusted:
        raise EncoderError(
            f"{folder} needs Python code that comes with the model ({next(iter(config['auto_map'].values()))}), which "
            "is not run unless you say so: NAME:trust_remote_code=true"
        )
    if not known and not config.get("auto_map"):
        raise EncoderError(
            f"{folder}: transformers knows no model type {config.get('model_type')!r}: is it a newer one?"
        )


def _opened(library: Any, source: Source, kind: str, trusted: bool) -> Any:
    folder = source.trunk
    try:
        with _quiet(library):
            model, facts = getattr(library, _CLASSES[kind]).from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=trusted,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # whatever the libraries below raise about a folder they cannot read
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise EncoderError(f"transformers cannot open {folder}: {type(error).__name__}: {reason}") from error
    missing = sorted(name for name in facts["missing_keys"] if "pooler" not in name and "position_ids" not in name)
    if missing and kind != BASE:
        raise EncoderError(
            f"{folder} has no {kind} language-model head ({missing[0]} is not in its weights): its head would be "
            f"random. Family {source.recipe.family!r} needs one; use the checkpoint as a dense encoder, or take another"
        )
    if missing:
        raise EncoderError(f"{folder}: the weights have no tensor {missing[0]!r} ({len(missing)} missing)")
    return model


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keeps transformers from drawing progress and telling of weights that we check ourselves."""
    logging = library.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _refuse_nan(model: Any, folder: Path) -> None:
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise EncoderError(f"{folder}: the tensor {name!r} has values that are no numbers: the weights are damaged")


# Heads beside the trunk


def token_head(source: Source, width: int) -> nn.Module:
    """Returns what gives each token one number: linear layers with relu between, as the checkpoint names them.

    Raises:
        EncoderError: there is none.
    """
    tensors = _sparse_linear(source.folder) or _raw(source.trunk, _HEADS)
    names = sorted({name.rpartition(".")[0] for name in tensors})
    layers = [_linear(tensors, name) for name in names if tensors[f"{name}.weight"].ndim == 2]
    if not layers or layers[0].in_features != width or layers[-1].out_features != 1:
        raise EncoderError(
            f"{source.folder} has no layer that weighs tokens ({', '.join(_HEADS)}; or {SPARSE_LINEAR[0]}), which "
            f"family {source.recipe.family!r} needs"
        )
    parts: list[nn.Module] = [part for layer in layers for part in (layer, nn.ReLU())]
    return nn.Sequential(*parts)


def literal_head(source: Source, width: int) -> nn.Module:
    """Returns the linear layer `literal` of a checkpoint: a weight of each own token beside the expansion.

    Raises:
        EncoderError: there is none.
    """
    tensors = _raw(source.trunk, ("literal",))
    if "literal.weight" not in tensors or tensors["literal.weight"].shape[-1] != width:
        raise EncoderError(f"{source.folder} has no tensor literal.weight, which family {source.recipe.family!r} needs")
    return nn.Sequential(_linear(tensors, "literal"), nn.ReLU())


def dense_layers(source: Source) -> nn.Sequential:
    """Returns the linear layers behind the pooling: sentence-transformers' Dense modules, DupMAE's projection."""
    recipe = source.recipe
    parts: list[nn.Module] = []
    for name in recipe.dense.layers if recipe.dense else ():
        parts += _dense_module(source.folder / name)
    if recipe.dense is not None and recipe.dense.projected:
        tensors = _raw(source.trunk, ("cls_projection",))
        parts += [_linear(tensors, "cls_projection")] if tensors else []
    return nn.Sequential(*parts)


def _dense_module(folder: Path) -> list[nn.Module]:
    settings = read_json(folder / "config.json")
    activation = settings.get("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if activation not in ("Tanh", "Identity", "ReLU", "GELU"):
        raise EncoderError(f"{folder}: activation {activation!r} is not one of Tanh, Identity, ReLU, GELU")
    tensors = _raw(folder, ("linear",))
    return [_linear(tensors, "linear"), getattr(nn, activation)()]


def _linear(tensors: Mapping[str, Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[f"{name}.weight"].float(), tensors.get(f"{name}.bias")
    for part in (weight, bias):
        if part is not None and not bool(torch.isfinite(part).all()):
            raise EncoderError(f"the layer {name} has values that are no numbers: the weights are damaged")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = bias.float()
    return layer


def _sparse_linear(folder: Path) -> dict[str, Tensor]:
    """Returns BGE-M3's file of its own, under its name."""
    for name in SPARSE_LINEAR:
        if (folder / name).is_file():
            return {f"sparse_linear.{key}": tensor for key, tensor in _tensors(folder / name).items()}
    return {}


def _raw(folder: Path, starts: Sequence[str]) -> dict[str, Tensor]:
    """Returns the tensors of a folder whose names begin so, whatever stands before."""
    found: dict[str, Tensor] = {}
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        for name, tensor in _tensors(path, starts).items():
            found[name[min(name.find(start) for start in starts if start in name) :]] = tensor
    return found


def _tensors(path: Path, parts: Sequence[str] = ("",)) -> dict[str, Tensor]:
    """Returns the tensors of a file whose names contain one of some parts; never runs what a pickle says."""
    try:
        if path.suffix != ".safetensors":
            every = torch.load(path, map_location="cpu", weights_only=True)
            return {name: tensor for name, tensor in every.items() if any(part in name for part in parts)}
        with require("safetensors", f"reading {path}").safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if any(part in name for part in parts)}  # noqa: SIM118
    except Exception as error:  # types of their own
        raise EncoderError(f"{path} cannot be read: {error}") from error


def weighs_tokens(recipe: Recipe) -> bool:
    """Tells whether a recipe's sparse weights are numbers of a text's own tokens alone."""
    return recipe.sparse is not None and recipe.sparse.head != LOGITS


__all__ = ["PRECISIONS", "TOKENS", "Trunk", "dense_layers", "literal_head", "open_trunk", "token_head", "weighs_tokens"]

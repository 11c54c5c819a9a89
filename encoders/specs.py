"""Encoders as they are named: `NAME`, or with options, `NAME:family=splade:max_length=256`, or `NAME:{"top": 128}`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .contract import EncoderError
from .folders import is_folder

ONNX, TORCH, SENTENCE_TRANSFORMERS = "onnx", "torch", "sentence-transformers"
RUNTIMES = (ONNX, TORCH, SENTENCE_TRANSFORMERS)
_OPTION = re.compile(r":(?=\s*\w+\s*=)")


def split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Returns the name in `NAME:option=value:option=value`, and its options with their values, as they are written.

    A colon begins an option only where a word and an equals sign follow, so paths and values may have colons.
    """
    name, *parts = _OPTION.split(text)
    pairs = [part.partition("=") for part in parts]
    return name, [(option.strip(), value) for option, _, value in pairs]


def _boolean(text: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class Option:
    """What can be said behind a name.

    Attributes:
        kind: text to value.
        help: what it does, for the documentation.
        recipe: whether it changes how texts become vectors, rather than where and how fast.
    """

    kind: Callable[[str], Any]
    help: str
    recipe: bool = True


OPTIONS: Mapping[str, Option] = {
    "family": Option(str, "the row of the table of families; where not given, the catalogue or the files decide"),
    "queries": Option(
        str, "what a query is: encoded, own, summed, binary, idf; for dense vectors encoded, lookup or static"
    ),
    "pooling": Option(str, "max, sum or last of logits; mean, cls, max, last or weightedmean of states"),
    "activation": Option(str, "log1p, log1p_log1p or relu"),
    "prune": Option(float, "leave out weights up to this share of a document's largest"),
    "top": Option(int, "keep this many terms, the heaviest; 0 keeps all"),
    "specials": Option(str, "which special tokens are no terms: all, first, none"),
    "normalize": Option(_boolean, "whether dense vectors are brought to length one"),
    "dimensions": Option(int, "keep the first numbers of a dense vector (Matryoshka)"),
    "query_prompt": Option(_as_it_is, "what stands before a query, spaces at its end included"),
    "document_prompt": Option(_as_it_is, "what stands before a document"),
    "query_model": Option(str, "another model of the same vectors, which encodes queries"),
    "max_length": Option(int, "tokens read of a text"),
    "chunks": Option(str, "longer texts are cut, encoded and joined by max, mean or sum"),
    "chunk_size": Option(int, "tokens in such a piece"),
    "overlap": Option(int, "tokens that neighbouring pieces share"),
    "densify": Option(int, "a sparse model's vectors in so many slices, as dense ones"),
    "precision": Option(str, "int8 or fp32 with onnx; fp32, bf16 or fp16 with torch"),
    "runtime": Option(str, f"what runs the model: {', '.join(RUNTIMES)}", recipe=False),
    "device": Option(str, "where torch runs: cpu, cuda, cuda:1, mps", recipe=False),
    "threads": Option(int, "batches at the same time", recipe=False),
    "token_budget": Option(int, "the most tokens in a batch", recipe=False),
    "trust_remote_code": Option(_boolean, "run Python code that comes with the model", recipe=False),
    "revision": Option(str, "a branch, tag or commit on the hub", recipe=False),
}


@dataclass(frozen=True)
class Spec:
    """A name and what was said behind it.

    Attributes:
        name: an embedded name, a folder, or a hub name.
        options: of `OPTIONS`, as values.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, **given: Any) -> Spec:
        """Returns the spec with more options; None says nothing, and what is given here goes first."""
        return Spec(self.name, {**self.options, **{name: value for name, value in given.items() if value is not None}})

    def without(self, *names: str) -> Spec:
        """Returns the spec without some options."""
        return Spec(self.name, {name: value for name, value in self.options.items() if name not in names})

    @property
    def recipe(self) -> dict[str, Any]:
        """The options that change how texts become vectors."""
        return {name: value for name, value in self.options.items() if OPTIONS[name].recipe}


def parse(text: str) -> Spec:
    """Returns what a text names; a text that is a folder has no options.

    Raises:
        EncoderError: an option that there is not, given twice, or with a value of another kind.
    """
    text = text.lstrip()
    if text.rstrip().endswith("}") and ":{" in text:
        name, _, rest = text.partition(":{")
        return Spec(_named(name, text), _from_json("{" + rest, text))
    name, pairs = split(text)
    if not pairs or is_folder(text):
        return Spec(text.strip())
    return Spec(_named(name, text), _values(pairs, text))


def _named(name: str, text: str) -> str:
    if not name.strip():
        raise EncoderError(f"{text!r} names no model: begin with a name or a folder")
    return name.strip()


def _values(pairs: Sequence[tuple[str, Any]], text: str) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise EncoderError(f"{text!r} gives an option twice")
    return {key: _value(key, value, text) for key, value in pairs}


def _from_json(content: str, text: str) -> dict[str, Any]:
    try:
        return json.loads(content, object_pairs_hook=lambda pairs: _values(pairs, text))
    except json.JSONDecodeError as error:
        raise EncoderError(f"the options of {text!r} are no JSON: {error}") from error


def _value(key: str, value: Any, text: str) -> Any:
    if key not in OPTIONS:
        raise EncoderError(f"{text!r}: there is no option {key!r}; there are: {', '.join(OPTIONS)}")
    kind = OPTIONS[key].kind
    if kind in (str, _as_it_is) and not isinstance(value, str):
        raise EncoderError(f"{text!r}: {key} is {value!r}, expected a text in quotation marks")
    try:
        given = value if isinstance(value, str) else json.dumps(value)
        return kind(given if kind is _as_it_is else given.strip())
    except ValueError as error:
        wanted = {int: "a whole number", float: "a number", _boolean: "true or false"}[kind]
        raise EncoderError(f"{text!r}: {key} is {value!r}, expected {wanted}") from error

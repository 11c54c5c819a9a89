"""Texts cut into overlapping windows of an encoder's own tokens, at the end of a word where one is near."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .contract import EncoderError
from .onnx_runtime import well_formed

LEAST_SIZE = 8  # tokens of a window: special ones, and a few words
LEAST_ROOM = 2

# A word is a run without white space, at most 40 characters of it. Scripts written without spaces count by characters:
# two of Chinese or Japanese, five of Thai, Lao, Burmese or Khmer are about a word (as passages are counted).
_IDEOGRAPHS = r"\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]{{1,2}}|[{_UNSPACED}]{{1,5}}|[^\s{_IDEOGRAPHS}{_UNSPACED}]{{1,40}}")
WORDS_OF = (3, 4)  # a window of 256 tokens holds about 192 words


class Pieces(NamedTuple):
    """The tokens of a text, or its words: where each begins and ends in characters, and whether it begins a word."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    fresh: NDArray[np.bool_]


@dataclass(frozen=True)
class Windows:
    """How texts are cut. Two are equal where they cut alike, if their tokenizers do.

    Attributes:
        size: tokens of a window at most, special ones and the prompt included.
        overlap: tokens that neighbours share.
        prompt: what the encoder puts before and after each window.
        tokenizer: the encoder's; None where it is not known: words are counted then, three for four tokens.
    """

    size: int
    overlap: int
    prompt: tuple[str, str] = ("", "")
    tokenizer: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Returns the form in which an identity holds it."""
        return f"size={self.size}:overlap={self.overlap}" + ("" if self.tokenizer is not None else ":words")

    def __call__(self, text: str) -> list[str]:
        """Returns the text itself where it fits into one window, else windows that cover every token of it, in order.

        Windows are about equally long: the last is no remnant.

        Raises:
            EncoderError: the prompt leaves no room for a text.
        """
        if self.tokenizer is None:
            words, overlap = (max(1, tokens * WORDS_OF[0] // WORDS_OF[1]) for tokens in (self.size, self.overlap))
            pieces = _words(text)
            return [text] if pieces.starts.size <= words else _cut(text, pieces, words, overlap if self.overlap else 0)
        whole = well_formed(text)
        if self._tokens(whole) <= self.size:
            return [text]
        return self._fitting(whole, self._room)

    def _fitting(self, text: str, room: int) -> list[str]:
        """Returns windows of at most `room` tokens, and of fewer where a window read by itself has more."""
        found = []
        for window in _cut(text, self._pieces(text), room, self.overlap):
            excess = self._tokens(window) - self.size
            smaller = room - max(1, excess)
            found += [window] if excess <= 0 or smaller < LEAST_ROOM else self._fitting(window, smaller)
        return found

    def _tokens(self, text: str) -> int:
        before, after = self.prompt
        return len(self._whole.encode(before + text + after).ids)

    def _pieces(self, text: str) -> Pieces:
        found = self._whole.encode(text, add_special_tokens=False)
        spans = np.array(found.offsets, np.int64).reshape(-1, 2)
        words = found.word_ids
        fresh = [
            words[i] != words[i - 1] or any(map(str.isspace, text[max(0, start - 1) : start + 1]))
            for i, start in enumerate(spans[:, 0].tolist())
        ]
        return Pieces(spans[:, 0], spans[:, 1], np.array(fresh, bool))

    @cached_property
    def _whole(self) -> Any:
        """A copy of the tokenizer that reads texts to their end."""
        copy = type(self.tokenizer).from_str(self.tokenizer.to_str())
        copy.no_truncation()
        copy.no_padding()
        return copy

    @cached_property
    def _room(self) -> int:
        """Tokens of a text in a window."""
        room = self.size - self._tokens("")
        if room < LEAST_ROOM:
            prompt = "...".join(self.prompt)
            raise EncoderError(
                f"a window of {self.size} tokens has no room beside the prompt {prompt!r}: give a larger size"
            )
        return room


def windows_for(encoder: Any, size: int, overlap: int) -> Windows:
    """Returns how an encoder's texts are cut; by words where its tokenizer cannot be found."""
    outer = [holder for holder in (encoder, _has(encoder, "joint")) if holder is not None]
    inner = [_has(holder, name) for holder in outer for name in ("layout", "model", "_model")]
    holders = [*outer, *(holder for holder in inner if holder is not None)]
    tokenizer = next((found for holder in holders if (found := _tokenizer(holder)) is not None), None)
    prompt = next((found for holder in holders if any(found := _prompt(holder))), ("", ""))
    return Windows(size, overlap, prompt, tokenizer)


def _has(holder: Any, name: str) -> Any:
    return getattr(holder, name, None)


def _tokenizer(holder: Any) -> Any:
    """Returns the `tokenizers.Tokenizer` that something holds: as it is, or inside our or transformers' own."""
    for held in (_has(holder, "tokenizer"), _has(holder, "_tokenizer")):
        candidates = (held, _has(held, "_tokenizer"), _has(held, "backend_tokenizer"))
        if (found := next((one for one in candidates if hasattr(one, "to_str")), None)) is not None:
            return found
    return None


def _prompt(holder: Any) -> tuple[str, str]:
    """Returns what something puts before and after a document."""
    recipe, prompts, prompt = _has(holder, "recipe"), _has(holder, "_prompts"), _has(holder, "_prompt")
    if recipe is not None:
        return recipe.prompts.around("document")
    if isinstance(prompts, dict):
        return str(prompts.get("document", "") or ""), ""
    return (prompt, "") if isinstance(prompt, str) else ("", "")


def _words(text: str) -> Pieces:
    spans = np.array([match.span() for match in _WORD.finditer(text)], np.int64).reshape(-1, 2)
    return Pieces(spans[:, 0], spans[:, 1], np.ones(len(spans), bool))


def _cut(text: str, pieces: Pieces, room: int, overlap: int) -> list[str]:
    """Returns windows of at most `room` pieces that cover all of them."""
    found, first, count = [], 0, pieces.starts.size
    fresh = [*np.flatnonzero(pieces.fresh).tolist(), count]
    shared = min(overlap, room // 2)
    while True:
        end = _end(fresh, first, count, room, shared)
        found.append(text[int(pieces.starts[first]) : int(pieces.ends[end - 1])])
        if end == count:
            return found
        # No more than half of a window is read twice, however long its words are.
        low = max(end - shared, (first + end + 1) // 2)
        first = _between(fresh, low, end) if shared else end
        first = low if first is None else first


def _end(fresh: Sequence[int], first: int, count: int, room: int, overlap: int) -> int:
    """Returns the piece before which a window ends: such that those to come can be as long, and a word ends there."""
    rest = count - first
    if rest <= room:
        return count
    windows = -(-(rest - overlap) // (room - overlap))
    fair = first + min(room, -(-(rest + (windows - 1) * overlap) // windows))
    later = _between(fresh, fair, first + room)
    if later is not None:
        return later
    earlier = _between(fresh, fair - room // 4, fair, last=True)
    return max(first + 1, fair if earlier is None else earlier)


def _between(sorted_numbers: Sequence[int], low: int, high: int, *, last: bool = False) -> int | None:
    """Returns the first number from low to high, or the last; None where there is none."""
    start, stop = bisect_left(sorted_numbers, low), bisect_right(sorted_numbers, high)
    return None if start == stop else sorted_numbers[stop - 1 if last else start]

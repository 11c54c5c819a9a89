"""Texts to what a model reads: prompts around them, cut where they are too long, read twice where a family wants it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..contract import EncoderError
from ..onnx_runtime import TextTokenizer, check_texts, well_formed
from .recipes import ALL, FIRST, Recipe

if TYPE_CHECKING:
    from ..onnx_runtime import Ids

_SHORTEST_TEXT = 1


class Word(NamedTuple):
    """A word of a text, as the tokenizer parts words, and the place of its first token among the text's ids."""

    text: str
    place: int


class Layout:
    """A tokenizer and a recipe: texts to token ids.

    Args:
        content: the text of a tokenizer.json.
        origin: where it is from, for errors.
        recipe: what stands around texts, and how long they may be.

    Raises:
        EncoderError: it is no tokenizer, or the prompts leave no room for a text.

    Attributes:
        tokenizer: cut at the recipe's length.
        specials: ids of tokens that are no words, ascending.
        dropped: ids of tokens that are no terms.
    """

    def __init__(self, content: str, origin: object, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizer = TextTokenizer(content, origin, recipe.max_length)
        self._whole = TextTokenizer(content, origin, None)
        added = json.loads(content).get("added_tokens") or []
        self.specials = sorted(int(token["id"]) for token in added if token.get("special"))
        empty = next(self._whole.id_lists([""]), [])
        self._begins = int(bool(empty) and self._begins_with(empty[0]))
        row = recipe.sparse
        kinds = {ALL: self.specials, FIRST: empty[: self._begins]}
        self.dropped = kinds.get(row.specials, []) if row is not None else []
        self._check_room()

    def _begins_with(self, special: int) -> bool:
        return next(self._whole.id_lists(["a"]))[0] == special

    def _check_room(self) -> None:
        prompts = dict.fromkeys("".join(self.recipe.prompts.around(side)) for side in ("query", "document"))
        longest = max(len(ids) for ids in self._whole.id_lists(list(prompts)))
        if longest + _SHORTEST_TEXT > self.recipe.max_length:
            raise EncoderError(
                f"the prompt has {longest} tokens, the model reads {self.recipe.max_length}: raise max_length, or give "
                "a shorter prompt"
            )

    def ids(self, texts: Sequence[str], side: str) -> list[Ids]:
        """Returns the token ids of each text, int64, with what stands around it; none of a text without tokens.

        Raises:
            EncoderError: one is no text.
        """
        check_texts(texts)
        before, after = self.recipe.prompts.around(side)
        if after:
            found = self._whole.ids([before + self._cut(text, before, after) + after for text in texts])
        else:
            found = self.tokenizer.ids([before + text for text in texts] if before else texts)
        if self.recipe.sparse is not None and self.recipe.sparse.echo:
            seconds = [one[self._begins :] for one in found]
            return [np.concatenate([one, two]) if len(two) else two for one, two in zip(found, seconds, strict=True)]
        return found

    def bare(self, texts: Sequence[str]) -> list[Ids]:
        """Returns the token ids of each text alone, int64: no prompt, no special tokens."""
        check_texts(texts)
        return [np.array(ids, dtype=np.int64) for ids in self.tokenizer.id_lists(texts, specials=False)]

    def framed(self, numbers: Sequence[int]) -> list[Ids]:
        """Returns the ids of queries of one token each, with the prompt and the special tokens around them."""
        (frame,) = self.ids([""], "query")
        end = len(frame)
        while end > self._begins and int(frame[end - 1]) in self.specials:
            end -= 1
        return [np.insert(frame, end, number) for number in numbers]

    def own(self, text: str) -> set[int]:
        """Returns the ids of a text's own words, lower-cased, each read alone: PromptReps' terms (arXiv 2404.18424)."""
        lists = self._whole.id_lists(_words(text.lower()), specials=False)
        return {number for ids in lists for number in ids} - set(self.specials)

    def words(self, text: str, side: str) -> list[Word]:
        """Returns the distinct words of a text, punctuation left out, each at its first token, in order."""
        before, _ = self.recipe.prompts.around(side)
        found: dict[str, Word] = {}
        for word, place in self.tokenizer.words(before + text):
            if any(character.isalnum() for character in word):
                found.setdefault(word, Word(word, place))
        return list(found.values())

    def _cut(self, text: str, before: str, after: str) -> str:
        """Returns a text that leaves room for what stands around it."""
        text = well_formed(text)
        (around,) = self._whole.id_lists([before + after])
        room = self.recipe.max_length - len(around)
        ends = self._whole.ends(text)
        return text if len(ends) <= room else text[: ends[room - 1]]


def _words(text: str) -> list[str]:
    from ..stopwords import STOP_WORDS

    stop = STOP_WORDS["english"]
    parts = "".join(character if character.isalnum() else " " for character in text).split()
    return [word for word in dict.fromkeys(parts) if word not in stop]

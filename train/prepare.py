"""What a training is made of before its first step: the base, the texts, their tokens, teachers, hard negatives."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders.build import SPECIAL_TOKENS, source_hashes
from ..encoders.checkpoint import Checkpoint, read_checkpoint
from ..encoders.contract import EncoderError
from ..encoders.extras import require
from ..encoders.folders import EMBEDDED, find_folder, unbuilt_folder
from ..encoders.load import load_dense
from ..encoders.manifest import is_built
from ..index.impacts import idf
from ..retriever import IngestError, read_documents, read_queries
from ..retriever.streams import OPENERS
from .encoded import Vectors, encode, encode_queries, load_encoder
from .errors import TrainError
from .events import Event, Tell
from .mining import ENCODERS, mined
from .sets import TrainingSet, normalised, split, without
from .teachers import ensemble, from_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recipe import Recipe

Ids = list["NDArray[np.int64]"]

BASE = "base"  # the name of the base as a teacher and as a way of mining
A_WAY = 24  # hard negatives that each way of mining gives a query; a step draws from them
DEPTH = 60  # documents that each way looks at for them


@dataclass(frozen=True)
class Base:
    """The model that a training starts from.

    Attributes:
        folder: where it is.
        checkpoint: what it says of itself.
        tokenizer: a `tokenizers.Tokenizer`, without padding.
        specials: ids of [CLS], [SEP] and the like, which are no terms.
        vocabulary: how many ids there are.
        hashes: SHA-256 of its files.
    """

    folder: Path
    checkpoint: Checkpoint
    tokenizer: Any
    specials: list[int]
    vocabulary: int
    hashes: dict[str, str]

    def ids(self, texts: Sequence[str], length: int, side: str = "") -> Ids:
        """Returns the token ids of texts, special tokens included.

        Args:
            texts: what to read.
            length: the most tokens.
            side: "query" or "document" puts the base's prompt, where it has one, before each.
        """
        prompt = self.checkpoint.prompts.get(side, "")
        self.tokenizer.enable_truncation(length)
        given = [prompt + text for text in texts]
        return [np.array(found.ids, np.int64) for found in self.tokenizer.encode_batch(given)]

    def check_length(self, what: str, length: int) -> None:
        """Raises a TrainError where the base cannot read so many tokens."""
        positions = len(self.checkpoint.tensors["positions.weight"])
        if length > positions:
            raise TrainError(f"{what} is {length}, but {self.folder} reads at most {positions} tokens")


def open_base(name: str | Path | None) -> Base:
    """Returns the model to start from; where None, the embedded one.

    A built model, as the embedded one is, is made a checkpoint again: `plait.encoders.unbuild` tells what that costs.

    Raises:
        TrainError: there is none, or it is not of a kind that can be trained.
    """
    try:
        folder = find_folder(EMBEDDED if name is None else str(name), "dense")
        if is_built(folder):
            folder = unbuilt_folder(folder)
        checkpoint = read_checkpoint(folder)
        vocabulary = len(checkpoint.tensors["words.weight"])
        tokenizer = require("tokenizers", "training").Tokenizer.from_str(checkpoint.tokenizer_json)
    except EncoderError as error:
        raise TrainError(f"the base cannot be used: {error}") from error
    tokenizer.no_padding()
    numbers = (tokenizer.token_to_id(token) for token in SPECIAL_TOKENS)
    specials = sorted(number for number in numbers if number is not None)
    return Base(folder, checkpoint, tokenizer, specials, vocabulary, source_hashes(folder))


# Texts


@dataclass(frozen=True)
class Texts:
    """What is trained on, and what is kept from it.

    Attributes:
        training: the pairs.
        held: pairs of documents that are not trained on; None where none are held out.
        excluded: how many pairs were left out because their texts are in the excluded collections.
    """

    training: TrainingSet
    held: TrainingSet | None
    excluded: int

    @property
    def digest(self) -> str:
        """A digest of all that is trained on."""
        digest = hashlib.sha256(json.dumps(self.training.positives.tolist()).encode())
        for text in (*self.training.queries, *self.training.documents):
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        return digest.hexdigest()


def divided(training: TrainingSet, exclude: Iterable[str | Path], held_out: float, seed: int) -> Texts:
    """Returns what is trained on, without excluded collections and without what is held out.

    Raises:
        TrainError: a collection cannot be read, or nothing is left.
    """
    texts = [text for folder in exclude for text in collection_texts(folder)]
    training, excluded = without(training, texts) if texts else (training, 0)
    if not held_out:
        return Texts(training, None, excluded)
    training, held = split(training, held_out, seed)
    return Texts(training, held if len(held) else None, excluded)


def collection_texts(folder: str | Path) -> Iterator[str]:
    """Yields every query, of all splits, and every document of a collection, with and without its title.

    Raises:
        TrainError: it cannot be read.
    """
    folder = Path(folder)
    if not folder.exists():  # which reading with skip_bad takes for a broken line
        raise TrainError(f"what is to be left out cannot be read: there is no {folder}")
    try:
        for document in read_documents(folder, passages="never", skip_bad=True):
            yield document.text
            yield document.full_text
        for suffix in ("", *OPENERS):
            if (queries := folder / f"queries.jsonl{suffix}").is_file():
                yield from (text for _, text in read_queries(queries, skip_bad=True))
    except (IngestError, OSError) as error:
        raise TrainError(f"what is to be left out cannot be read: {error}") from error


# Words


def frequencies(texts: Ids, vocabulary: int) -> NDArray[np.int64]:
    """Returns in how many texts each id occurs, int64 (vocabulary,)."""
    found = [np.unique(ids) for ids in texts]
    return np.bincount(np.concatenate([np.empty(0, np.int64), *found]), minlength=vocabulary)


def weights_of(documents: Ids, base: Base) -> NDArray[np.float32]:
    """Returns the inverse document frequency of each id, float32 (vocabulary,); 0 for special tokens."""
    found = idf(frequencies(documents, base.vocabulary), len(documents))
    found[base.specials] = 0
    return found


def expansion_terms(documents: Ids, queries: Ids, base: Base, least: int) -> NDArray[np.int64] | None:
    """Returns the ids that documents may be expanded to: those in so many texts; None for all.

    Raises:
        TrainError: there is none.
    """
    if not least:
        return None
    often = frequencies(documents, base.vocabulary) + frequencies(queries, base.vocabulary)
    often[base.specials] = 0
    terms = np.flatnonzero(often >= least)
    if not terms.size:
        raise TrainError(f"no word piece is in {least} of the training texts: set terms lower, 0 for all word pieces")
    return terms


# Teachers and hard negatives


class Encodings:
    """The vectors of a training set by any encoder, each made once.

    Args:
        training: what to encode.
        cache: the folder where vectors are kept.
        tell: told how far it is.
        base: the encoder that is called "base".
        length: tokens that it reads.

    Attributes:
        given: name -> vectors of the documents, where these are there already.
    """

    def __init__(self, training: TrainingSet, cache: Path, tell: Tell, base: Base, length: int) -> None:
        self.training, self.cache, self._tell = training, cache, tell
        self._base, self._length = base, length
        self.given: dict[str, Any] = {}
        self._encoders: dict[str, Any] = {}
        self._vectors: dict[str, Vectors] = {}

    def identity(self, name: str) -> dict[str, Any]:
        """Returns what moves a vector of a named encoder; its name does not."""
        return {key: value for key, value in self._encoder(name).identity.to_json().items() if key != "name"}

    def __call__(self, name: str) -> Vectors:
        """Returns the vectors by a named encoder.

        Raises:
            TrainError: there is no such encoder.
        """
        if name not in self._vectors:
            told = self._tell
            try:
                self._vectors[name] = encode(
                    self._encoder(name),
                    self.training,
                    documents=self.given.get(name),
                    cache_folder=self.cache / "vectors",
                    on_progress=lambda side, done, total: told(Event(f"encoding {side}, {name}", done, total)),
                )
            except EncoderError as error:
                raise TrainError(f"the teacher {name!r} cannot encode the training texts: {error}") from error
        return self._vectors[name]

    def queries(self, name: str) -> Any:
        """Returns the vectors of the queries alone by a named encoder."""
        return encode_queries(
            self._encoder(name),
            self.training.queries,
            cache_folder=self.cache / "vectors",
            on_progress=lambda side, done, total: self._tell(Event(f"encoding {side}, {name}", done, total)),
        )

    def _encoder(self, name: str) -> Any:
        if name not in self._encoders:
            try:
                self._encoders[name] = self._loaded(name)
            except EncoderError as error:
                raise TrainError(
                    f"the teacher {name!r} is unknown: {error}. Teachers are 'base', 'dense', 'bm25', or an encoder's "
                    "name or folder"
                ) from error
        return self._encoders[name]

    def _loaded(self, name: str) -> Any:
        if name != BASE:
            return load_encoder(name)
        return load_dense(str(self._base.folder), max_length=self._length)


def teacher_of(recipe: Recipe, encodings: Encodings) -> Any:
    """Returns the recipe's teachers as one; None where no loss asks for any."""
    names = [name for name, weight in recipe.teachers.items() if weight]
    asked = any(recipe.losses.get(name) for name in ("kl", "margin_mse"))
    if not names or not asked:
        return None
    teachers = [from_vectors(encodings(name), name=name) for name in names]
    weights = [recipe.teachers[name] for name in names]
    return ensemble(teachers, recipe.teacher_norm, weights, recipe.teacher_scale)


def hard_negatives(recipe: Recipe, encodings: Encodings, tell: Tell) -> NDArray[np.int32] | None:
    """Returns each query's hard negatives, int32 (queries, n), -1 where there are fewer; None for none.

    Those that the data name come first, then those that are mined.
    """
    training = encodings.training
    given = _given(training)
    room = len(training.documents) - max(Counter(map(normalised, training.queries)).values())
    count = min(A_WAY * len(recipe.mining), room)
    if count < 1:
        return given
    found = _mined(recipe.mining, count, encodings, tell)
    return found if given is None else np.concatenate([given, found], axis=1)


def _given(training: TrainingSet) -> NDArray[np.int32] | None:
    if training.negatives is None:
        return None
    table = np.full((len(training), max(map(len, training.negatives))), -1, np.int32)
    for row, wrong in zip(table, training.negatives, strict=True):
        row[: len(wrong)] = wrong
    return table


def _mined(ways: Sequence[str], count: int, encodings: Encodings, tell: Tell) -> NDArray[np.int32]:
    """Returns mined negatives, from the cache where they are there."""
    training = encodings.training
    encoders = {way: ENCODERS[way] for way in ways}
    made = [count, DEPTH, {way: encodings.identity(name) for way, name in encoders.items()}]
    key = hashlib.sha256((json.dumps(made) + Texts(training, None, 0).digest).encode()).hexdigest()[:24]
    path = encodings.cache / f"negatives-{key}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    vectors = {way: encodings(name) for way, name in encoders.items()}
    found = mined(
        training,
        ways=ways,
        negatives=count,
        depth=DEPTH,
        pick="top",
        vectors=vectors,
        on_progress=lambda what, done, total: tell(Event(what, done, total)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    np.save(scratch, found, allow_pickle=False)
    scratch.replace(path)
    return found

"""Texts to model outputs: a tokenizer, batches of one length under a token budget, an onnxruntime session.

A batch holds texts of one token count, so nothing is padded and nothing masked. Batches run in threads of ours, one
onnxruntime thread each: on documents that is faster than one batch on all cores, and a batch stays in a core's cache.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from .contract import EncoderError
from .counting import count
from .extras import require
from .graph import GROUPS, INPUT, KEPT, OUTPUT
from .manifest import MODEL, TOKENIZER, ModelFolder, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

TOKEN_BUDGET = 512
_TOKENIZED_AT_ONCE = 1024
_POLL_SECONDS = 0.1


def check_texts(texts: Sequence[str]) -> None:
    """Checks that every text is a str.

    Raises:
        EncoderError: one is not; the message names its position.
    """
    if isinstance(texts, str):
        raise EncoderError("expected a list of texts, got one str: put it in a list")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise EncoderError(f"text {position} is a {type(text).__name__}, expected a str")


class TextTokenizer:
    """A tokenizer.json: texts to ids, cut at a length, never padded.

    Args:
        content: the text of the file.
        origin: where it is from, for the error.
        max_length: tokens read of a text, special ones included; None for no limit.
    """

    def __init__(self, content: str, origin: object, max_length: int | None) -> None:
        api = require("tokenizers", "encoding text")
        try:
            self._tokenizer = api.Tokenizer.from_str(content)
        except Exception as error:  # tokenizers raises bare Exception
            raise EncoderError(f"{origin} is no tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if max_length is not None:
            self._tokenizer.enable_truncation(max_length)

    @classmethod
    def of(cls, folder: ModelFolder, max_length: int) -> TextTokenizer:
        """Returns the tokenizer of a built model."""
        return cls(folder.read(TOKENIZER).decode("utf-8"), folder.path / TOKENIZER, max_length)

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """Returns the token ids of each text, special tokens included."""
        return [np.array(ids, dtype=np.int64) for ids in self.id_lists(texts)]

    def id_lists(self, texts: Sequence[str], *, specials: bool = True) -> Iterator[list[int]]:
        """Yields the token ids of each text, with special tokens or without."""
        for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
            chunk = [well_formed(text) for text in texts[start : start + _TOKENIZED_AT_ONCE]]
            yield from (encoding.ids for encoding in self._encode(chunk, specials))

    def _encode(self, texts: list[str], specials: bool) -> list[Any]:
        if len(texts) == 1:  # encode_batch would start its threads
            return [self._tokenizer.encode(texts[0], add_special_tokens=specials)]
        return self._tokenizer.encode_batch_fast(texts, add_special_tokens=specials)

    def ends(self, text: str) -> list[int]:
        """Returns where each token of a text ends, in characters; without special tokens."""
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def words(self, text: str) -> Iterator[tuple[str, int]]:
        """Yields each word of a text, normalised, and the place of its first token among the ids of `ids`."""
        text = well_formed(text)
        encoding, seen = self._tokenizer.encode(text), set()
        normal = self._tokenizer.normalizer
        for place, number in enumerate(encoding.word_ids):
            if number is not None and number not in seen:
                seen.add(number)
                start, end = encoding.word_to_chars(number)
                word = text[start:end]  # some normalisers put spaces around ideographs
                yield (normal.normalize_str(word).strip() if normal is not None else word), place

    def vocabulary(self) -> dict[str, int]:
        """Returns every token with its id."""
        return self._tokenizer.get_vocab()

    def token(self, number: int) -> str:
        """Returns the token with an id."""
        return self._tokenizer.id_to_token(number) or f"[{number}]"

    def number(self, token: str) -> int | None:
        """Returns the id of a token; None for an unknown one."""
        return self._tokenizer.token_to_id(token)


def well_formed(text: str) -> str:
    """Returns the text with U+FFFD for lone surrogates, which no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def merged_by_id(ids: Ids) -> dict[str, Ids]:
    """Returns how the equal tokens of texts merge, ids (batch, length), of which each has as many different ones.

    Returns:
        `KEPT`, int64 (batch, n): the places where a token comes for the first time, ascending; and `GROUPS`, int64
        (batch, length): for each token, which of them has it.
    """
    kept, groups = [], []
    for one in ids:
        _, first, inverse = np.unique(one, return_index=True, return_inverse=True)
        order = first.argsort()
        kept.append(first[order])
        groups.append(order.argsort()[inverse])
    return {KEPT: np.stack(kept).astype(np.int64), GROUPS: np.stack(groups).astype(np.int64)}


def apart(ids: Ids) -> dict[str, Ids]:
    """Returns what `merged_by_id` does where no tokens merge."""
    places = np.tile(np.arange(ids.shape[1], dtype=np.int64), (len(ids), 1))
    return {KEPT: places, GROUPS: places}


def batches(lengths: Sequence[int], token_budget: int, kinds: Sequence[int] | None = None) -> list[list[int]]:
    """Returns positions in batches of one length, the longest first; no batch exceeds the budget unless it is one text.

    Args:
        lengths: tokens of each text.
        token_budget: the most tokens in a batch.
        kinds: a number for each text that the texts of a batch shall share, too; None: none.
    """
    found: list[list[int]] = []
    alike = list(zip(lengths, kinds or [0] * len(lengths), strict=True))
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], alike[position], position)):
        last = found[-1] if found else []
        fits = last and alike[last[0]] == alike[position] and (len(last) + 1) * lengths[position] <= token_budget
        found[-1].append(position) if fits else found.append([position])
    return found


class OnnxModel:
    """A model and its tokenizer; the session opens when the first text is encoded. Safe to share between threads.

    Args:
        folder: the built model.
        max_length: tokens read of a text.
        threads: batches encoded at the same time; the number of cores where None.
        token_budget: the most tokens in a batch.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        max_length: int,
        threads: int | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        self.folder = folder
        self.tokenizer = TextTokenizer.of(folder, max_length)
        self.threads = available_cores() if threads is None else whole_number(threads, "threads")
        self.token_budget = whole_number(token_budget, "token_budget")
        self._session: Any = None
        self._opening = threading.Lock()

    @property
    def session(self) -> Any:
        """The onnxruntime session, opened on first use.

        Raises:
            EncoderError: the model is damaged, or onnxruntime refuses it.
        """
        with self._opening:
            if self._session is None:
                self._session = open_session(self.folder.read(MODEL), self.folder.path / MODEL)
            return self._session

    def run(self, texts: Sequence[str], keep: Callable[[list[int], NDArray[np.float32]], None]) -> None:
        """Encodes texts batch by batch, in any order.

        Args:
            texts: what to encode.
            keep: called with the positions of a batch and its output (len(positions), width), from several threads.
        """
        self.each_batch(texts, lambda positions, ids: keep(positions, self.output(ids)))

    def each_batch(self, texts: Sequence[str], work: Callable[[list[int], Ids], None]) -> None:
        """Cuts texts into batches, in any order.

        Args:
            texts: what to encode.
            work: called with the positions of a batch and its ids (len(positions), length), from several threads.
        """
        self.each_of(self.tokenizer.ids(texts), work)

    def each_of(self, ids: Sequence[Ids], work: Callable[[list[int], Ids], None]) -> None:
        """Cuts the ids of texts into batches, in any order; see `each_batch`."""
        self.each_alike(ids, work)

    def each_alike(
        self, ids: Sequence[Ids], work: Callable[[list[int], Ids], None], kinds: Sequence[int] | None = None
    ) -> None:
        """Cuts the ids of texts into batches of one length and, where there are kinds, of one kind."""

        def one_batch(positions: list[int]) -> None:
            batch = np.stack([ids[position] for position in positions])
            work(positions, batch)
            count(batch.size)

        in_threads(one_batch, batches([len(one) for one in ids], self.token_budget, kinds), self.threads)

    def output(self, ids: Ids) -> NDArray[np.float32]:
        """Returns the only output of the model for ids (batch, length)."""
        return self.session.run([OUTPUT], {INPUT: ids})[0]


def in_threads(work: Callable[[list[int]], None], items: list[list[int]], threads: int) -> None:
    """Runs the work on every item, in order of start; after the first error, Ctrl-C included, nothing more starts."""
    if threads == 1 or len(items) < 2:
        for item in items:
            work(item)
        return
    waiting, stop = deque(items), threading.Event()

    def drain() -> None:
        while not stop.is_set():
            try:
                item = waiting.popleft()
            except IndexError:
                return
            work(item)

    pool = ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="plait-encode")
    try:
        pending = {pool.submit(drain) for _ in range(min(threads, len(items)))}
        while pending:  # in short waits: Ctrl-C does not end a long one everywhere
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
    finally:
        stop.set()
        pool.shutdown()


def open_session(content: bytes, origin: object) -> Any:
    """Returns an onnxruntime session of one thread.

    Args:
        content: the serialised model.
        origin: where it is from, for the error.

    Raises:
        EncoderError: onnxruntime refuses it.
    """
    runtime = require("onnxruntime", "running an encoder")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # The graph is written fused as measured; further fusions (SkipLayerNormalization) make it slower.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # shapes differ from batch to batch: there is no pattern to keep
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen exception types without a public base
        raise EncoderError(f"onnxruntime refuses {origin}: {error}") from error


def available_cores() -> int:
    """Returns the number of cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1

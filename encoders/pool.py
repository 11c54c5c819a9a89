"""Encoders over several processes: each holds its own copy of a model, documents are dealt out, queries stay here.

It pays where one process does not keep all cores or GPUs busy. What onnxruntime runs does, with threads.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from .contract import EncoderError, Identity
from .counting import count
from .manifest import whole_number
from .onnx_runtime import available_cores, check_texts
from .specs import OPTIONS, TORCH, parse
from .worker import DENSE, LEARNED, READY, Message, receive, send

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Piece = list[int]  # positions of texts
    Done = tuple[Piece, list[NDArray[Any]]]

PIECE_TEXTS, PIECE_CHARS = 512, 1 << 20  # the most of a piece
_LEAST_CHARS = 1 << 14  # a smaller piece would make poor batches
_ROUNDS = 4  # pieces for each process, so that all end at about the same time
_MEANS = ("threads", "token_budget")  # options that loaders take apart from the name
_FORGOTTEN = frozenset((*_MEANS, "device", "trust_remote_code"))  # of this job: an index that remembers has its own
_AT_ONCE, _AT_ONCE_ON_DEVICE = 256, 2048  # texts for each process that are best given in one call
_POLL_SECONDS = 0.1
_END_SECONDS = 2.0
_CODE = "import sys; sys.path[:] = {path!r}; from plait.encoders.worker import serve; serve()"
# A process group of its own: Ctrl-C reaches this process alone, which then ends the others.
_APART: dict[str, Any] = (
    {"creationflags": 0x200} if sys.platform == "win32" else {"start_new_session": True}
)  # fmt: skip


def pieces(texts: Sequence[str], processes: int) -> list[Piece]:
    """Returns positions in pieces of like length, the longest texts first; none is over a bound unless it is one text.

    Args:
        texts: what is to be encoded.
        processes: how many share the work.
    """
    order = sorted(range(len(texts)), key=lambda position: (-len(texts[position]), position))
    share = sum(map(len, texts)) // (processes * _ROUNDS)
    most = min(max(share, _LEAST_CHARS), PIECE_CHARS)
    most_texts = min(max(1, -(-len(texts) // processes)), PIECE_TEXTS)
    found: list[Piece] = []
    room = 0
    for position in order:
        room -= len(texts[position])
        if not found or room < 0 or len(found[-1]) == most_texts:
            found.append([])
            room = most - len(texts[position])
        found[-1].append(position)
    return found


class Worker:
    """One process that holds encoders.

    Args:
        models: by strand, the name of a model and the options it is loaded with.
        label: what errors call it.
    """

    def __init__(self, models: Mapping[str, Any], label: str) -> None:
        self.label = label
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # what it says on stderr, for when it dies
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(path=sys.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, **_APART,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        self._say(models)

    def ready(self) -> Message:
        """Returns what the process found when it had loaded its encoders.

        Raises:
            EncoderError: it could not, or it died.
        """
        return self._hear()

    def encode(self, strand: str, texts: Sequence[str]) -> list[NDArray[Any]]:
        """Returns the arrays of the documents' vectors, and counts their tokens.

        Raises:
            EncoderError: they could not be encoded, or the process died.
        """
        self._say({"strand": strand, "texts": texts})
        facts, arrays = self._hear()
        count(facts["tokens"])
        return arrays

    def kill(self) -> None:
        """Ends the process, in the middle of whatever it does."""
        self.process.kill()

    def close(self) -> None:
        """Ends the process and waits until it has ended."""
        for stream in (self._to, self._from):
            with contextlib.suppress(OSError):  # it has gone before it read all
                stream.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._said.close()

    def _say(self, facts: Mapping[str, Any]) -> None:
        try:
            send(self._to, facts)
        except OSError:
            raise EncoderError(self._death()) from None

    def _hear(self) -> Message:
        try:
            message = receive(self._from)
        except (EOFError, OSError):
            raise EncoderError(self._death()) from None
        if "error" in message.facts:
            raise EncoderError(message.facts["error"])
        if "failed" in message.facts:
            raise EncoderError(f"{self.label} failed: {message.facts['failed']}")
        return message

    def _death(self) -> str:
        """Returns what to say of a process that is no more."""
        status = self.process.wait()  # its output has ended, so it has, or is about to
        if status == -9:
            return (
                f"{self.label} was killed, as systems do when memory runs out: use fewer processes, or a smaller "
                "token_budget or max_length"
            )
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return f"{self.label} ended with status {status}{f': {lines[-1]}' if lines else ' and said nothing'}"


class Pool:
    """Processes that encode documents, started when they are first needed and ended with this object.

    An error or Ctrl-C ends them all; the next call starts them anew.

    Args:
        models: by strand ("learned", "dense"), the name of a model.
        processes: how many; one for each device where None.
        devices: where the processes run their models, by turns, as ["cuda:0", "cuda:1"]; what the loader chooses
            where None.
        options: by strand, more of `plait.encoders.specs.OPTIONS`. A process has its share of the cores as `threads`
            unless told otherwise.

    Raises:
        EncoderError: a number or a strand is out of range.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        *,
        processes: int | None = None,
        devices: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if isinstance(devices, str) or (devices is not None and not all(devices)):
            raise EncoderError(f"devices is {devices!r}, expected a list of names, as ['cuda:0', 'cuda:1']")
        if unknown := {name for given in (options or {}).values() for name in given} - set(OPTIONS):
            raise EncoderError(f"there is no option {unknown.pop()!r}; there are: {', '.join(OPTIONS)}")
        if unknown := set(models) - {LEARNED, DENSE} or not models:
            raise EncoderError(f"a pool has models for {LEARNED} and {DENSE}, not {unknown or 'none'}")
        self.models, self.devices = dict(models), list(devices or [])
        self.processes = whole_number((len(self.devices) or 1) if processes is None else processes, "processes")
        self.at_once = self.processes * (_AT_ONCE_ON_DEVICE if self.devices else _AT_ONCE)
        self._options = {strand: dict((options or {}).get(strand, {})) for strand in models}
        self._workers: list[Worker] = []
        self._facts: dict[str, Any] = {}
        self._busy = threading.Lock()
        self._end = weakref.finalize(self, _end_all, self._workers)

    @property
    def facts(self) -> dict[str, Any]:
        """What the processes say of their encoders: identities by strand, and whether they are halves of one."""
        with self._busy:
            return self._started()

    def encode(self, strand: str, texts: Sequence[str]) -> list[Any]:
        """Returns the documents' vectors, in their order: a sparse or dense matrix, or for "joint" both.

        Raises:
            EncoderError: a text is no str, a model cannot encode it, or a process died.
        """
        check_texts(texts)
        with self._busy:
            self._started()
            waiting = deque(pieces(texts, self.processes))
            done: dict[int, Done] = {}
            try:
                self._share_out(strand, texts, waiting, done)
            except BaseException:
                self._stop()
                raise
        return _assembled(strand, self._facts, [done[number] for number in sorted(done)], len(texts))

    def here(self, strand: str) -> Any:
        """Returns the encoder of a strand, loaded in this process: for queries."""
        from .load import load_dense, load_learned

        name, means = self._asked(strand, 0)
        return {DENSE: load_dense, LEARNED: load_learned}[strand](name, **means)

    def load_name(self, strand: str) -> str:
        """Returns the name, with options, that loads an encoder of equal vectors."""
        options = {**self._runtime(strand), **self._options[strand]}
        return _named(self.models[strand], {name: options[name] for name in options if name not in _FORGOTTEN})

    def _runtime(self, strand: str) -> dict[str, str]:
        """Returns that torch runs a model on devices: without one another runtime might be chosen, of other vectors."""
        said = not self.devices or "runtime" in parse(self.models[strand]).options
        return {} if said else {"runtime": TORCH}

    def close(self) -> None:
        """Ends the processes; a later call starts them anew."""
        with self._busy:
            self._stop()

    def _asked(self, strand: str, number: int, **means: Any) -> tuple[str, dict[str, Any]]:
        """Returns what a process loads: a name with options, and by what means."""
        device = {"device": self.devices[number % len(self.devices)]} if self.devices else {}
        options = {**means, **device, **self._runtime(strand), **self._options[strand]}
        named = {name: value for name, value in options.items() if name not in _MEANS}
        return _named(self.models[strand], named), {name: options[name] for name in _MEANS if name in options}

    def _started(self) -> dict[str, Any]:
        if self._workers:
            return self._facts
        threads = max(1, available_cores() // self.processes)
        try:
            for number in range(self.processes):
                asked = {strand: self._asked(strand, number, threads=threads) for strand in self.models}
                self._workers.append(Worker(asked, f"encoding process {number + 1} of {self.processes}"))
            found = [worker.ready().facts for worker in self._workers]
            self._facts = _agreed(found)
        except BaseException:
            self._stop()
            raise
        return self._facts

    def _stop(self) -> None:
        _end_all(self._workers)

    def _share_out(self, strand: str, texts: Sequence[str], waiting: deque[Piece], done: dict[int, Any]) -> None:
        """Has every process encode the next piece until there is none; an error ends all at once."""

        def drain(worker: Worker) -> None:
            while True:
                try:
                    piece = waiting.popleft()
                except IndexError:
                    return
                done[piece[0]] = piece, worker.encode(strand, [texts[position] for position in piece])

        with ThreadPoolExecutor(self.processes, thread_name_prefix="plait-pool") as threads:
            pending: set[Future[None]] = {threads.submit(drain, worker) for worker in self._workers}
            try:
                while pending:  # in short waits: Ctrl-C does not end a long one everywhere
                    finished, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
                    for future in finished:
                        future.result()
            except BaseException:
                waiting.clear()
                for worker in self._workers:  # so that no thread waits for an answer
                    worker.kill()
                raise


def _named(name: str, options: Mapping[str, Any]) -> str:
    """Returns a name with more options behind it."""
    if not options:
        return name
    spec = parse(name).with_options(**options)
    return f"{spec.name}:{json.dumps(spec.options)}"


def _end_all(workers: list[Worker]) -> None:
    while workers:
        workers.pop().close()


def _agreed(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what all processes say alike.

    Raises:
        EncoderError: their encoders would give different vectors.
    """
    for number, facts in enumerate(found[1:], start=2):
        for strand, values in facts[READY].items():
            first = Identity.from_json(found[0][READY][strand])
            if changed := first.differences(Identity.from_json(values)):
                raise EncoderError(
                    f"the {strand} encoders of processes 1 and {number} differ in {', '.join(changed)}: give devices "
                    "of one kind"
                )
    return found[0]


def _assembled(strand: str, facts: Mapping[str, Any], done: list[Done], n: int) -> list[Any]:
    """Returns the vectors of all pieces, in the order of the texts."""
    dims = {name: identity["dim"] for name, identity in facts[READY].items()}
    found: list[Any] = []
    if strand != DENSE:
        found.append(_sparse(done, (n, dims[LEARNED])))
    if strand != LEARNED:
        found.append(_dense([(piece, arrays[-1]) for piece, arrays in done], (n, dims[DENSE])))
    return found


def _sparse(done: list[Done], shape: tuple[int, int]) -> csr_matrix:
    from scipy.sparse import csr_matrix, vstack

    parts = [
        csr_matrix((data, indices, indptr), shape=(len(piece), shape[1])) for piece, (indptr, indices, data, *_) in done
    ]
    if not parts:
        return csr_matrix(shape, dtype=np.float32)
    order = np.concatenate([piece for piece, _ in done])
    return vstack(parts, format="csr")[np.argsort(order)]  # type: ignore[index]


def _dense(done: list[tuple[Piece, NDArray[Any]]], shape: tuple[int, int]) -> NDArray[np.float32]:
    found = np.empty(shape, np.float32)
    for piece, vectors in done:
        found[piece] = vectors
    return found

"""The far end of a pool: a process that holds encoders and answers over its standard input and output.

A message is one line of JSON and then the arrays that it announces, as raw bytes. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .contract import EncoderError
from .counting import counting

if TYPE_CHECKING:
    from numpy.typing import NDArray

READY, DENSE, LEARNED, JOINT = "ready", "dense", "learned", "joint"


class Message(NamedTuple):
    """What is said, and arrays to go with it."""

    facts: dict[str, Any]
    arrays: list[NDArray[Any]]


def send(stream: IO[bytes], facts: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
    """Writes a message."""
    shapes = [[array.dtype.str, array.shape] for array in arrays]
    stream.write(json.dumps({"facts": facts, "arrays": shapes}).encode("ascii") + b"\n")
    for array in arrays:
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def receive(stream: IO[bytes]) -> Message:
    """Returns the next message.

    Raises:
        EOFError: the other process has gone.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    said = json.loads(line)
    return Message(said["facts"], [_array(stream, *shape) for shape in said["arrays"]])


def _array(stream: IO[bytes], dtype: str, shape: list[int]) -> NDArray[Any]:
    found = np.empty(shape, dtype)
    if found.size and stream.readinto(found.reshape(-1).view(np.uint8).data) != found.nbytes:  # type: ignore[attr-defined]
        raise EOFError
    return found


def serve() -> None:
    """Answers until standard input ends: whoever asks has closed it, or died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    asked: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    models = asked.get().facts
    encoders: dict[str, Any] = {}
    _answer(out, lambda: _loaded(models, encoders))
    while True:
        facts = asked.get().facts
        _answer(out, lambda facts=facts: _encoded(encoders[facts["strand"]], facts["texts"]))


def _listen(asked: queue.SimpleQueue[Message]) -> None:
    """Hears what is asked; the end of it ends the process, also in the middle of a batch."""
    try:
        while True:
            asked.put(receive(sys.stdin.buffer))
    except BaseException:
        os._exit(0)


def _answer(out: IO[bytes], work: Any) -> None:
    try:
        facts, arrays = work()
    except EncoderError as error:
        facts, arrays = {"error": str(error)}, []
    except Exception as error:  # of torch, CUDA, a model's own code: told by who asked
        facts, arrays = {"failed": f"{type(error).__name__}: {error}"}, []
    send(out, facts, arrays)


def _loaded(models: Mapping[str, Any], encoders: dict[str, Any]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Loads encoders by strand, and returns their identities and whether they are halves of one."""
    from .load import load_dense, load_learned

    loaders = {DENSE: load_dense, LEARNED: load_learned}
    for strand, (name, options) in models.items():
        encoders[strand] = loaders[strand](name, **options)
    facts = {strand: encoder.identity.to_json() for strand, encoder in encoders.items()}
    joint = [getattr(encoders.get(strand), "joint", None) for strand in (LEARNED, DENSE)]
    is_joint = joint[0] is not None and joint[0] is joint[1]
    if is_joint:
        encoders[JOINT] = joint[0]
    return {READY: facts, JOINT: is_joint}, []


def _encoded(encoder: Any, texts: list[str]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Returns the tokens that were read and the vectors: arrays of a sparse matrix, an array of dense ones, or both."""
    with counting() as tokens:
        made = encoder.encode_documents(texts)
    arrays: list[NDArray[Any]] = []
    for vectors in made if isinstance(made, tuple) else (made,):
        arrays += [vectors] if isinstance(vectors, np.ndarray) else [vectors.indptr, vectors.indices, vectors.data]
    return {"tokens": tokens.total}, arrays

"""How many tokens models read, told to whoever listens.

An encoder says `count(tokens)` after each batch; nothing else happens unless somebody counts.

Example:
    >>> from plait.encoders.counting import count, counting
    >>> with counting() as tokens:
    ...     count(12)  # an encoder does this
    ...     count(30)
    >>> tokens.total
    42
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_changing = threading.Lock()
_listening: tuple[Tokens, ...] = ()


class Tokens:
    """A counter.

    Attributes:
        total: the tokens that models have read since it began to count; special tokens count, padding does not, and
            a text that two models read counts for both.
    """

    def __init__(self) -> None:
        self.total = 0


def count(tokens: int) -> None:
    """Tells those who count, if there are any, that a model has read so many tokens; from any thread."""
    if _listening:
        with _changing:
            for one in _listening:
                one.total += tokens


@contextmanager
def counting(counter: Tokens | None = None) -> Iterator[Tokens]:
    """Yields a counter of the tokens that all threads of this process encode meanwhile, and its pools' processes.

    Args:
        counter: one to go on with; a new one where None.
    """
    global _listening
    mine = counter or Tokens()
    with _changing:
        _listening = (*_listening, mine)
    try:
        yield mine
    finally:
        with _changing:
            _listening = tuple(one for one in _listening if one is not mine)

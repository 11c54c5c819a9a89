"""What can go wrong for a user of this room, and the one tuple that catches every error of plait's own."""

from __future__ import annotations

from ..encoders.contract import EncoderError as EncoderError
from ..index.contract import CorruptError as CorruptError
from ..index.contract import FilterError as FilterError
from ..index.contract import LockedError as LockedError
from ..index.contract import StoreError as StoreError
from .documents import IngestError


class QueryError(ValueError):
    """A search was asked for that cannot be answered; the message says what to change."""


class LevelError(QueryError):
    """The level of parents is of another commit than the passages that are searched; a moment later it may not be."""


class MismatchError(StoreError):
    """The encoders at hand are not the ones that built the index."""


#: `except PlaitError:` catches whatever is a user's mistake in indexing or searching, or a broken file, and nothing
#: that is a bug. The rooms above have errors of their own: `EvalError`, `TrainError`.
PlaitError = (EncoderError, StoreError, IngestError, QueryError, FilterError)

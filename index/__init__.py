"""Vectors and documents on disk -> candidates. This room knows no model.

`create` makes an index, `Writer` fills it, `Snapshot` searches it; `reference` defines what a sparse score is.
"""

from .contract import CorruptError, Hits, Layout, LockedError, Row, StoreError
from .ranking import order, ranked
from .snapshot import Snapshot
from .store import create
from .writer import Writer

__all__ = [
    "CorruptError",
    "Hits",
    "Layout",
    "LockedError",
    "Row",
    "Snapshot",
    "StoreError",
    "Writer",
    "create",
    "order",
    "ranked",
]

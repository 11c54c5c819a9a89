"""Vectors and documents on disk -> candidates. This room knows no model.

`create` makes an index, `Writer` fills it, `Snapshot` searches it; `reference` defines what a sparse score is.
"""

from .check import Problem, Report, check
from .contract import CorruptError, FilterError, Hits, Layout, LockedError, Row, StoreError
from .fields import Field
from .ranking import ranked
from .selections import Selection
from .snapshot import Snapshot
from .store import create
from .writer import Writer

__all__ = [
    "CorruptError",
    "Field",
    "FilterError",
    "Hits",
    "Layout",
    "LockedError",
    "Problem",
    "Report",
    "Row",
    "Selection",
    "Snapshot",
    "StoreError",
    "Writer",
    "check",
    "create",
    "ranked",
]

"""What an index keeps of how it was made; `Retriever.info` tells what acts, which may be less."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from ..index import Snapshot


def stored(index: Path) -> dict[str, Any]:
    """Returns the steps that an index keeps, or None, and how its dense vectors are searched, had it any."""
    with closing(Snapshot(index)) as snapshot:
        return {"pipeline": snapshot.settings.get("pipeline"), "dense_index": snapshot.layout.dense_index}

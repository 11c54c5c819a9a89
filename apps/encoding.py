"""`--cache`, `--processes` and `--devices`: encoders made ready for a large job; and `plait cache`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from ..encoders.cache import LEAST_BYTES, VectorCache
from ..index import Snapshot
from ..retriever import QueryError
from ..retriever.encoders import OWN_TERMS
from ..retriever.strands import STRANDS, parse_strands
from . import console

AUTO = "auto"
_MODELS = ("learned", "dense")


@dataclass(frozen=True)
class Encoding:
    """How documents are to be encoded, as the options say it."""

    cache: str | None = None
    processes: int | None = None
    devices: str | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing is asked for."""
        return self == Encoding()

    @property
    def device_names(self) -> list[str] | None:
        """The devices, or None where none are named."""
        if self.devices is None:
            return None
        names = [name.strip() for name in self.devices.split(",")]
        if not all(names):
            raise QueryError(f"--devices takes names, as cuda:0,cuda:1; not {self.devices!r}")
        return names


class Ready(NamedTuple):
    """Options for the retriever, encoders among them, and the cache before these, if there is one."""

    chosen: dict[str, Any]
    cache: VectorCache | None


@contextmanager
def ready(index: Path, chosen: Mapping[str, Any], encoding: Encoding) -> Iterator[Ready]:
    """Yields what was chosen, with encoders where there were names; their processes end with the block.

    Args:
        index: the folder of the index, which may be there already.
        chosen: options of `Retriever.create` or `Retriever.open`.
        encoding: how documents are to be encoded.
    """
    if encoding.plain:
        yield Ready(dict(chosen), None)
        return
    from ..encoders.preparing import prepared

    with ExitStack() as stack:
        cache = None if encoding.cache is None else stack.enter_context(_opened(encoding.cache))
        names = _names(index, chosen)
        made = prepared(**names, cache=cache, processes=encoding.processes, devices=encoding.device_names)
        yield Ready({**chosen, **stack.enter_context(made)}, cache)


def _names(index: Path, chosen: Mapping[str, Any]) -> dict[str, str]:
    """Returns the models of an index by strand, as far as they have names."""
    names: dict[str, Any]
    if (index / "plait.db").exists():
        with closing(Snapshot(index)) as snapshot:
            names = {strand: facts["source"] for strand, facts in snapshot.settings["encoders"].items()}
    else:
        names = dict.fromkeys(parse_strands(chosen.get("strands", STRANDS)), "embedded")
    names |= {strand: chosen[strand] for strand in _MODELS if strand in chosen}
    return {strand: names[strand] for strand in _MODELS if names.get(strand) not in (None, OWN_TERMS)}


def _opened(folder: str) -> VectorCache:
    return VectorCache(None if folder == AUTO else folder, on_problem=console.note)


def show_cache(folder: str, *, clear: bool, limit: float | None, as_json: bool) -> None:
    """Says what a vector cache holds, after having emptied it or set its bound where that is asked for."""
    if folder != AUTO and limit is None and not Path(folder).is_dir():
        raise QueryError(f"there is no folder {folder}; --cache of index and add makes it")
    with _opened(folder) as cache:
        forgotten = cache.clear() if clear else 0
        if limit is not None:
            _bound(cache, limit)
        kept = cache.kept()
        facts = {"folder": str(cache.folder), "bytes": cache.size, "max_bytes": cache.max_bytes, "forgotten": forgotten}
    if as_json:
        console.print_json({**facts, "encoders": [asdict(one) for one in kept]})
        return
    if kept:
        table = Table("encoder", "kind", "side", "vectors", "MB", box=None)
        for one in kept:
            table.add_row(one.name, one.kind, one.side, f"{one.vectors:,}", f"{one.bytes / 1e6:,.1f}")
        console.print_table(table)
    if clear:
        console.out.print(f"forgot {forgotten:,} vectors")
    room = f"{facts['bytes'] / 1e6:,.1f} MB of at most {facts['max_bytes'] / 1e9:,.1f} GB"
    console.out.print(f"{facts['folder']}: {room}", soft_wrap=True)


def _bound(cache: VectorCache, gigabytes: float) -> None:
    if not LEAST_BYTES <= gigabytes * 1e9 < 2**63:  # what SQLite can keep
        raise QueryError(f"--limit takes gigabytes, from 0.002 on; not {gigabytes:g}")
    cache.bound_to(int(gigabytes * 1e9))

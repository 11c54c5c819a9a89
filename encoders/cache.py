"""Vectors that were computed before, kept on disk: one SQLite file for all encoders, safe for several processes.

A cache helps, and may never cost a job: where its file is damaged it begins anew, where the disk is full it stops
keeping, and says so once.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeVar

from filelock import FileLock

from .cache_file import NAME, PAGE, checked, connected, is_damage, made, marks, portions, sealed, unsealed
from .contract import EncoderError, Identity

T = TypeVar("T")

MAX_BYTES = 10_000_000_000
LEAST_BYTES = 1 << 20
_KEEP = 0.9  # of the bound, after an eviction
_TOUCH_SECONDS = 3600  # a use is noted if the last one noted is older
_VALUES = "SELECT id, key, used, value FROM entry JOIN vector USING (id) WHERE space = ? AND key IN ({})"
_IDS = "SELECT id, key FROM entry WHERE space = ? AND key IN ({})"


class CacheWarning(UserWarning):
    """The vector cache could not do its part; encoding goes on without it."""


class Space(NamedTuple):
    """Whose vectors: everything that moves one, as JSON, and the encoder's name, which does not."""

    key: str
    name: str

    @classmethod
    def of(cls, identity: Identity, kind: str, side: str) -> Space:
        """Returns the space of one encoder's vectors.

        Args:
            identity: the encoder's.
            kind: "dense" or "sparse".
            side: "document" or "query".
        """
        moving = {name: value for name, value in identity.to_json().items() if name != "name"}
        return cls(json.dumps({**moving, "kind": kind, "side": side}, sort_keys=True), identity.name)


@dataclass(frozen=True)
class Kept:
    """What a cache holds of one encoder.

    Attributes:
        name: the encoder's name when its first vector came.
        kind: "dense" or "sparse".
        side: "document" or "query".
        vectors: how many.
        bytes: their size, without what the database adds.
    """

    name: str
    kind: str
    side: str
    vectors: int
    bytes: int


def key_of(text: str) -> bytes:
    """Returns the 16 bytes under which the vectors of a text are kept."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class VectorCache:
    """A folder with vectors by encoder and text. Safe to share between threads; for processes, open one in each.

    As a context manager it closes when the block ends.

    Args:
        folder: where the file is; made where it is missing. "vectors" in plait's cache folder where None.
        max_bytes: the most room that vectors may take, from 1 MiB; remembered in the file, and 10 GB where nobody
            ever said. Beyond it those go that were not used for longest.
        on_problem: told what went wrong; a `CacheWarning` where None.
        clock: seconds since the epoch.

    Raises:
        EncoderError: the folder cannot be made, or the bound is too small.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        max_bytes: int | None = None,
        on_problem: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection: sqlite3.Connection | None = None
        self.folder = made(folder)
        self.path = self.folder / NAME
        self._tell, self._clock = on_problem or _warn, clock
        self._lock, self._numbers, self._keeps = threading.RLock(), dict[str, int](), True
        self.asked = self.found = 0  # texts that were looked up, and those that were there
        self._opening = FileLock(self.folder / "opening.lock")
        self._open()
        if max_bytes is not None:
            self.bound_to(max_bytes)

    # What it is for

    def get(self, space: Space, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns the values there are, by key, as they were put."""
        with self._lock:
            found, stale = self._try(lambda: self._read(space, keys), ({}, []))
            if stale and self._keeps:
                self._try(lambda: self._touch(stale), None)
            return found

    def put(self, values: Mapping[Space, Mapping[bytes, bytes]]) -> None:
        """Keeps values by key for some spaces, in one transaction."""
        with self._lock:
            if self._keeps and any(values.values()):
                self._try(lambda: self._write(values), None)

    def counted(self, *, asked: int, found: int) -> None:
        """Counts texts that were looked up, for `asked` and `found`."""
        with self._lock:
            self.asked += asked
            self.found += found

    # What people ask

    @property
    def max_bytes(self) -> int:
        """The most room that vectors may take."""
        return self._try(self._bound, MAX_BYTES)

    @property
    def size(self) -> int:
        """The room that vectors take on disk, in bytes."""
        return self._try(self._taken, 0)

    def bound_to(self, max_bytes: int) -> None:
        """Sets the most room that vectors may take, for all who use this cache.

        Raises:
            EncoderError: it is under 1 MiB.
        """
        if max_bytes < LEAST_BYTES:
            raise EncoderError(f"max_bytes is {max_bytes}, expected at least {LEAST_BYTES}")
        self._try(lambda: self._bound_to(max_bytes), None)

    def kept(self) -> list[Kept]:
        """Returns what is there, by encoder; most room first."""
        return self._try(self._kept, [])

    def clear(self) -> int:
        """Forgets all vectors, gives their room back, and returns how many there were."""
        return self._try(self._cleared, 0)

    def close(self) -> None:
        """Lets go of the file; nothing is found or kept any more."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> VectorCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    # Reading and writing; each may raise sqlite3.Error

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _read(self, space: Space, keys: Sequence[bytes]) -> tuple[dict[bytes, bytes], list[int]]:
        """Returns what is found and the entries whose last use is to be noted anew."""
        found, stale, old = {}, [], int(self._clock()) - _TOUCH_SECONDS
        number = self._number(space, make=False)
        for some in portions(keys) if number is not None else ():
            for id, key, used, value in self._db.execute(_VALUES.format(marks(some)), (number, *some)):
                if (whole := unsealed(value)) is not None:
                    found[key] = whole
                    if used < old:
                        stale.append(id)
        return found, stale

    def _touch(self, ids: Sequence[int]) -> None:
        now = int(self._clock())
        with self._transaction():
            self._db.executemany("UPDATE entry SET used = ? WHERE id = ?", ((now, id) for id in ids))

    def _write(self, values: Mapping[Space, Mapping[bytes, bytes]]) -> None:
        now = int(self._clock())
        with self._transaction():
            for space, pairs in values.items():
                number = self._number(space, make=True)
                for keys in portions(list(pairs)):
                    self._put(number, [(key, sealed(pairs[key])) for key in keys], now)
            self._evict()

    def _put(self, number: int | None, rows: Sequence[tuple[bytes, bytes]], now: int) -> None:
        self._db.executemany(
            "INSERT INTO entry (space, key, used, size) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (space, key) DO UPDATE SET used = excluded.used, size = excluded.size",
            ((number, key, now, len(value)) for key, value in rows),
        )
        values = dict(rows)
        ids = self._db.execute(_IDS.format(marks(values)), (number, *values)).fetchall()
        self._db.executemany("INSERT OR REPLACE INTO vector VALUES (?, ?)", ((id, values[key]) for id, key in ids))

    def _evict(self) -> None:
        """Makes room: entries go, the longest unused first, until a tenth of the bound is free."""
        bound = self._bound()
        if self._taken() <= bound:
            return
        while (excess := self._taken() - int(_KEEP * bound)) > 0:
            going = []
            for id, size in self._db.execute("SELECT id, size FROM entry ORDER BY used, id"):
                going.append((id,))
                excess -= size
                if excess <= 0:
                    break
            if not going:
                return
            self._db.executemany("DELETE FROM vector WHERE id = ?", going)
            self._db.executemany("DELETE FROM entry WHERE id = ?", going)

    def _number(self, space: Space, *, make: bool) -> int | None:
        if space.key not in self._numbers:
            if make:
                self._db.execute("INSERT OR IGNORE INTO space (key, name) VALUES (?, ?)", space)
            row = self._db.execute("SELECT number FROM space WHERE key = ?", (space.key,)).fetchone()
            if row is None:
                return None
            if self._db.in_transaction:  # which may yet be rolled back
                return row[0]
            self._numbers[space.key] = row[0]
        return self._numbers[space.key]

    def _bound(self) -> int:
        row = self._db.execute("SELECT value FROM setting WHERE key = 'max_bytes'").fetchone()
        return MAX_BYTES if row is None else row[0]

    def _bound_to(self, most: int) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO setting VALUES ('max_bytes', ?)", (most,))
            self._evict()

    def _taken(self) -> int:
        pages, free = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        return (pages - free) * PAGE

    def _kept(self) -> list[Kept]:
        query = (
            "SELECT space.key, name, count(*), sum(size) FROM entry JOIN space ON space.number = entry.space "
            "GROUP BY space.number ORDER BY sum(size) DESC, space.number"
        )
        rows = [(json.loads(key), *rest) for key, *rest in self._db.execute(query)]
        return [Kept(name, facts["kind"], facts["side"], vectors, size) for facts, name, vectors, size in rows]

    def _cleared(self) -> int:
        with self._transaction():
            self._db.execute("DELETE FROM vector")
            count = self._db.execute("DELETE FROM entry").rowcount
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself takes back what found no room
                self._db.execute("ROLLBACK")
            raise

    # Opening, and what goes wrong

    def _try(self, work: Callable[[], T], otherwise: T) -> T:
        """Returns what comes of some work with the file, or something else where there is none or it fails."""
        with self._lock:
            if self._connection is None:
                return otherwise
            try:
                return work()
            except sqlite3.Error as error:
                if is_damage(error):
                    self._begin_anew(error)
                else:
                    self._go_without(error)
            return otherwise

    def _go_without(self, error: sqlite3.Error) -> None:
        """Keeps nothing more, and after a second error of a kind that lasts reads nothing more."""
        if self._keeps:
            self._keeps = False
            self._tell(f"the vector cache {self.path} keeps nothing from here on: {error}")
        else:
            self.close()
            self._tell(f"the vector cache {self.path} is not read from here on: {error}")

    def _open(self) -> None:
        try:
            with self._opening:
                self._connection = connected(self.path)
        except sqlite3.Error as error:
            if is_damage(error):
                self._begin_anew(error)
            else:
                self._tell(f"the vector cache {self.path} cannot be opened, so nothing is kept: {error}")
        except OSError as error:
            self._tell(f"the vector cache {self.folder} cannot be used, so nothing is kept: {error.strerror}")

    def _begin_anew(self, error: sqlite3.Error) -> None:
        """Puts a damaged file aside, if no other process has done so by now, and opens a new one."""
        self.close()
        self._numbers.clear()
        aside = self.path.with_name(f"{NAME}.damaged")
        try:
            with self._opening:
                with contextlib.suppress(sqlite3.Error):
                    self._connection = checked(connected(self.path))
                    return
                for ending in ("", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        self.path.with_name(NAME + ending).replace(aside.with_name(aside.name + ending))
                self._connection = connected(self.path)
            self._tell(f"the vector cache {self.path} was damaged ({error}): it is {aside.name} now, and begun anew")
        except (OSError, sqlite3.Error) as second:
            self._tell(f"the vector cache {self.path} is damaged ({error}) and cannot be begun anew: {second}")


def _warn(message: str) -> None:
    warnings.warn(message, CacheWarning, stacklevel=2)

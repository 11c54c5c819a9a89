"""The index behind the server: searches in a few threads, writes in one, and newer commits as they come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

from ...index.database import NAME
from ...retriever import PlaitError, QueryError, Retriever, specs
from ...retriever.choice import Steps
from ...retriever.pipeline import NONE, listed, pipeline
from ..searching import Patience
from ..stored import stored
from .answers import answer_json, document_json, to_bytes
from .errors import ApiError, told
from .journal import Journal
from .metrics import Metrics
from .queueing import Jobs
from .schemas import MOST_DEPTH, WHOLE
from .settings import Settings

T = TypeVar("T")
_EVERY = 30  # looks after which the index is opened anew even where its files seem the same
_FILES = (NAME, f"{NAME}-wal")


class Found(NamedTuple):
    """The body of an answer, and the milliseconds by stage of each search in it."""

    body: bytes
    milliseconds: tuple[Mapping[str, float], ...]


class Engine:
    """A Retriever for many clients.

    Args:
        retriever: what is searched; closed with the engine.
        settings: how many threads, how long a queue.
        journal: told of failures.
    """

    def __init__(self, retriever: Retriever, settings: Settings, journal: Journal) -> None:
        self.retriever, self.settings, self.journal = retriever, settings, journal
        self.metrics = Metrics()
        self.stale = False
        self.searches = Jobs("search", threads=settings.threads, waiting=settings.queue)
        self.writes = Jobs("write", threads=1, waiting=settings.writes, unbroken=True)
        self._seen: Any = None
        self._patient = Patience(retriever, partial(self.refresh, anyway=True))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows the commits of other processes while it is open; at its end, what was accepted is done first."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Writes what was accepted, ends the searches that run, and lets go of the index."""
        self.writes.close()
        self.searches.close()
        self.retriever.close()

    # Reading

    async def search(self, asked: Mapping[str, Any]) -> bytes:
        """Returns the answer to one query, or to each of `queries`."""
        found = await self._read(lambda: self._patient(lambda: self._search(dict(asked))))
        for milliseconds in found.milliseconds:
            self.metrics.searched(milliseconds)
        return found.body

    async def document(self, id: str) -> bytes:
        """Returns a stored document."""
        return await self._read(partial(self._document, id))

    async def info(self) -> bytes:
        """Returns what a client may know of the index."""
        return await self._read(self._info)

    def health(self) -> dict[str, Any]:
        """Returns how the server is; "stale" where newer commits cannot be opened."""
        return {"status": "stale" if self.stale else "ok", **self._state()}

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Returns the values of the moment for the metrics."""
        return {
            "plait_documents": ("Documents in the index.", len(self.retriever)),
            "plait_commit": ("The commit that is searched.", self.retriever.version),
            "plait_stale": ("1 where newer commits cannot be opened.", float(self.stale)),
            "plait_searches_inside": ("Requests that read, running or waiting.", self.searches.inside),
            "plait_writes_inside": ("Requests that write, running or waiting.", self.writes.inside),
        }

    # Writing

    async def add(self, documents: Sequence[Mapping[str, Any]]) -> bytes:
        """Adds documents, or replaces those whose ids are known; returns when they are committed."""
        return await self._write(partial(self._add, documents))

    async def delete(self, ids: Sequence[str]) -> bytes:
        """Deletes documents, and all passages of parents; returns when that is committed."""
        return await self._write(partial(self._delete, ids))

    async def relevance(self, asked: Mapping[str, Any]) -> bytes:
        """Appends to the log of queries what a client found relevant."""
        return await self._read(partial(self._relevance, **asked))

    # Inside

    async def _read(self, work: Callable[[], T]) -> T:
        return await self.searches.run(work, seconds=self.settings.seconds)

    async def _write(self, work: Callable[[], dict[str, Any]]) -> bytes:
        return await self.writes.run(partial(self._committed, work), seconds=self.settings.seconds)

    def _search(self, asked: dict[str, Any]) -> Found:
        began, commit = time.perf_counter(), self.retriever.version
        options = {"explain": True, **_given(asked)}
        self._check_pipeline(options.get("pipeline"))
        queries = options.pop("queries", None)
        one = queries is None
        if one:
            answers = [self.retriever.search(options.pop("query"), **options)]
        else:
            answers = self.retriever.search_batch(queries, **options)
        told = [answer_json(answer) for answer in answers]
        about = {"took": round(1000 * (time.perf_counter() - began), 3), "commit": commit}
        body = to_bytes({**told[0], **about} if one else {"answers": told, **about})
        return Found(body, tuple(answer.milliseconds for answer in answers))

    def _check_pipeline(self, given: Any) -> None:
        """Raises a QueryError where a step would read a model that is not the index's own, or go too deep."""
        if given is None:
            return
        steps = pipeline(given)
        models = _models(given)
        if strange := models and models - _models(stored(self.retriever.folder)["pipeline"] or NONE):
            raise QueryError(
                f"a step names the model {min(strange)!r}, which this server does not open for clients; "
                "`plait settle --pipeline` keeps a step with a model in the index"
            )
        if steps.reach > MOST_DEPTH:
            raise QueryError(f"the steps look at {steps.reach:,} candidates; a server allows {MOST_DEPTH:,}")

    def _document(self, id: str) -> bytes:
        found = None if "\0" in id else self.retriever.get(id)
        if found is None:
            raise ApiError(404, "there is no document with this id")
        return to_bytes(document_json(found))

    def _relevance(self, query: str, id: str, relevance: float = 1) -> bytes:
        if self.retriever.log is None:
            raise ApiError(404, "this server keeps no log of queries; whoever runs it can start it with --log FILE")
        if "\0" in id or id not in self.retriever:
            raise ApiError(404, "there is no document with this id")
        self.retriever.log.judged(query, id, int(relevance))  # 1.0 is a whole number to JSON Schema
        return to_bytes({"query": query, "id": id, "relevance": int(relevance)})

    def _info(self) -> bytes:
        facts = self.retriever.info()
        shown = {name: facts[name] for name in ("documents", "weights", "fusion", "pipeline", "fields")}
        strands = {name: _public(facts["encoders"].get(name, {})) for name in facts["strands"]}
        about = {"name": self.retriever.folder.resolve().name, "strands": strands, "writable": self.settings.writable}
        return to_bytes({**shown, **about, "commit": self.retriever.version, "version": version("plait")})

    def _add(self, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        added = self.retriever.add([_given(one) for one in documents])
        return {"added": added.added, "replaced": added.replaced, "unchanged": added.unchanged}

    def _delete(self, ids: Sequence[str]) -> dict[str, Any]:
        return {"deleted": self.retriever.delete(ids)}

    def _committed(self, work: Callable[[], dict[str, Any]]) -> bytes:
        """Returns what a write did, after its commit; of one that fails nothing stays."""
        try:
            done = work()
            self.retriever.commit()
        except BaseException:
            self.retriever.rollback()
            raise
        finally:
            if self.writes.inside <= 1:  # nobody else waits: other processes may write
                self.retriever.release()
        return to_bytes({**done, **self._state()})

    def _state(self) -> dict[str, int]:
        return {"documents": len(self.retriever), "commit": self.retriever.version}

    async def _follow(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(self.settings.reload)
            looks += 1
            await asyncio.to_thread(self.refresh, anyway=looks % _EVERY == 0)

    def refresh(self, *, anyway: bool = False) -> None:
        """Searches the newest commit from now on, if the files of the index have changed or it is wanted anyway."""
        now = [_signature(self.retriever.folder / name) for name in _FILES]  # before: a commit meanwhile is seen later
        if now == self._seen and not anyway:
            return
        try:
            self.retriever.refresh()
        except (*PlaitError, OSError) as error:
            if not self.stale:
                self.journal.failure(error, "looking for newer commits")
            self.stale = True
        else:
            self.stale, self._seen = False, now


def failure(engine: Engine, error: Exception) -> ApiError:
    """Returns what a client is told of an error; what it is not told is in the log."""
    known = told(error)
    if known is None or (known.status == 503 and known is not error and known.code is None):
        engine.journal.failure(error, "answering a request")
    return known or ApiError(500, "something went wrong in the server; its log says what")


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is not null; 10.0 is a whole number to JSON Schema, and 10 to us."""
    given = {name: value for name, value in asked.items() if value is not None}
    return {name: int(value) if name in WHOLE else value for name, value in given.items()}


def _signature(path: Any) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def _models(given: Steps) -> set[str]:
    """Returns the models that the steps of a pipeline name: folders, files or names of a hub."""
    options = [step.options if isinstance(step, specs.Spec) else step for step in listed(given)]
    return {str(each["model"]) for each in options if "model" in each}


def _public(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an encoder's identity; of a folder only its last part."""
    name = str(identity.get("name", ""))
    path = name.startswith(("/", "~", ".")) or "\\" in name
    return {**identity, "name": name.replace("\\", "/").rstrip("/").rpartition("/")[2] if path else name}

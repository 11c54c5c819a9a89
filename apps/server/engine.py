"""The index behind the server: searches in a few threads, writes in one, and newer commits as they come."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

from ...index.database import NAME
from ...retriever import Answer, PlaitError, QueryError, Retriever, specs
from ...retriever.pipeline import NONE, listed, pipeline
from ...retriever.search import check_texts
from ..searching import Patience
from .answers import answer_json, document_json, to_bytes
from .errors import ApiError, told
from .journal import Journal
from .metrics import Metrics
from .queueing import Jobs
from .schemas import MOST_COMPARED, MOST_DEPTH, WHOLE
from .settings import Settings

T = TypeVar("T")
_EVERY = 30  # looks after which the index is opened anew even where its files seem the same
_FILES = (NAME, f"{NAME}-wal")
AT_ONCE = 16  # queries of a batch that are searched between two looks whether anybody waits for it still
_COMPARING = ("mmr", "clusters", "collaborative")  # steps whose memory grows with the square of their candidates
_BUSY = 20  # writes in a row after which other processes may write
PAUSE = 0.1  # seconds that they have for it


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
        self._in_a_row = 0  # writes since the lock was last let go of
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
        self.searches.close(seconds=self.settings.grace)
        self.retriever.close()

    # Reading

    async def search(self, asked: Mapping[str, Any]) -> bytes:
        """Returns the answer to one query, or to each of `queries`."""
        left = threading.Event()  # nobody waits for the answer any more
        try:
            found = await self._read(lambda: self._patient(lambda: self._search(dict(asked), left)))
        finally:
            left.set()
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

    def _search(self, asked: dict[str, Any], left: threading.Event) -> Found:
        try:
            return self._found(asked, left)
        except QueryError as error:  # it may name the file of a model
            raise type(error)(self._without_paths(str(error))) from error

    def _found(self, asked: dict[str, Any], left: threading.Event) -> Found:
        began, commit = time.perf_counter(), self.retriever.version
        options = {"explain": True, **_given(asked)}
        if "pipeline" in options:
            options["pipeline"] = self._checked_pipeline(options["pipeline"])
        queries = options.pop("queries", None)
        one = queries is None
        if one:
            answers = [self.retriever.search(options.pop("query"), **options)]
        else:
            answers = list(self._batch(queries, options, left))
        told = [self._told(answer) for answer in answers]
        about = {"took": round(1000 * (time.perf_counter() - began), 3), "commit": commit}
        body = to_bytes({**told[0], **about} if one else {"answers": told, **about})
        return Found(body, tuple(answer.milliseconds for answer in answers))

    def _batch(self, queries: Sequence[str], options: Mapping[str, Any], left: threading.Event) -> Iterator[Answer]:
        """Yields the answer to each query; none any more when nobody waits for them."""
        check_texts(queries)
        for start in range(0, len(queries), AT_ONCE):
            if left.is_set():
                return
            yield from self.retriever.search_batch(queries[start : start + AT_ONCE], **options)

    def _told(self, answer: Answer) -> dict[str, Any]:
        found = answer_json(answer)
        if "model=" not in answer.pipeline:
            return found
        steps = {
            step: {**note, "model": self._without_paths(str(note["model"]))} if "model" in note else note
            for step, note in answer.notes.items()
        }
        return {**found, "pipeline": self._without_paths(answer.pipeline), "steps": steps}

    def _checked_pipeline(self, given: Any) -> Any:
        """Returns steps that a client names, with the paths of the index's own models in place of their last parts.

        Raises:
            QueryError: a step would read a model that is not the index's own, or go too deep.
        """
        steps, own = pipeline(given), self._own_models()
        if steps.reach > MOST_DEPTH:
            raise QueryError(f"the steps look at {steps.reach:,} candidates; a server allows {MOST_DEPTH:,}")
        items = [_as_mapping(item) for item in listed(given)]
        for item in items:
            if item["step"] in _COMPARING and (reach := pipeline([item]).reach) > MOST_COMPARED:
                raise QueryError(
                    f"{item['step']} compares {reach:,} candidates with one another; a server allows {MOST_COMPARED:,}"
                )
        if not any("model" in item for item in items):
            return given
        return [{**item, "model": _one_of(own, str(item["model"]))} if "model" in item else item for item in items]

    def _own_models(self) -> list[str]:
        """Returns the models that the index's own steps name, the longest first."""
        items = map(_as_mapping, listed(self.retriever.settings["pipeline"] or NONE))
        return sorted({str(item["model"]) for item in items if "model" in item}, key=len, reverse=True)

    def _without_paths(self, text: str) -> str:
        """Returns a text for clients, in which the index's own models have the last part of their paths as names."""
        for model in self._own_models():
            text = text.replace(model, _last(model)).replace(repr(model)[1:-1], _last(model))
        return text

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
        given = int(relevance)  # 1.0 is a whole number to JSON Schema
        if not self.retriever.log.judged(query, id, given):
            raise ApiError(
                503, "nothing was kept: the log of queries cannot be written now; whoever runs this can see why"
            )
        return to_bytes({"query": query, "id": id, "relevance": given})

    def _info(self) -> bytes:
        facts = self.retriever.info()
        shown = {name: facts[name] for name in ("documents", "weights", "fusion", "pipeline", "fields")}
        shown["pipeline"] = self._without_paths(shown["pipeline"])
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
            self._in_a_row += 1
            if self.writes.inside <= 1 or self._in_a_row >= _BUSY:
                self._let_others_write(self.writes.inside > 1)
        return to_bytes({**done, **self._state()})

    def _let_others_write(self, waited_for: bool) -> None:
        """Lets go of the writer's lock; under steady writes for a moment, so that who waits for it finds it free."""
        self._in_a_row = 0
        self.retriever.release()
        if waited_for:
            time.sleep(PAUSE)

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


def _as_mapping(item: Any) -> dict[str, Any]:
    """Returns a step as a mapping: its name under "step", and its options."""
    return {"step": item.name, **item.options} if isinstance(item, specs.Spec) else dict(item)


def _one_of(own: Sequence[str], named: str) -> str:
    """Returns the model of an index that a client names, by its path or the last part of it.

    Raises:
        QueryError: there is no such model, or more than one.
    """
    found = [model for model in own if named in (model, _last(model))]
    if len(found) != 1:
        why = "of which there are several" if found else "which this server does not open for clients"
        raise QueryError(
            f"a step names the model {named!r}, {why}; `plait settle --pipeline` keeps a step with a model in the index"
        )
    return found[0]


def _public(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an encoder's identity; of a folder only its last part."""
    return {**identity, "name": _last(str(identity.get("name", "")))}


def _last(name: str) -> str:
    """Returns the last part of a path; a name of a hub, as org/model, stays as it is."""
    path = name.startswith(("/", "~", ".")) or "\\" in name
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] if path else name

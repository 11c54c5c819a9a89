"""The one class a user needs: make an index, fill it, search it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import compress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from ..index import Layout, Row, Snapshot, StoreError, Writer
from ..index import create as create_index
from ..index.database import digest
from ..index.writer import TIDIED, Compaction, check_compaction
from . import parents
from . import search as searching
from .choice import SETTINGS, Steps, as_numbers, check_probability, checked_settings, chosen_for
from .documents import Document, IngestError
from .encoders import Encoders, Given, Neighbour, made_with, remembered
from .errors import MismatchError, QueryError
from .fusion import check_weights, chosen
from .hits import Answer
from .intake import as_document, chunks, fitting, unique
from .log import QueryLog
from .pipeline import kept
from .ranking import Ranking
from .strands import LUCENE, LUCENE_IMPACT, STRANDS, Strand, parse_strands


@dataclass(frozen=True)
class Added:
    """What `Retriever.add` did.

    Attributes:
        added: documents encoded and stored, replaced ones included.
        unchanged: documents that were there already, word for word, and cost nothing.
        removed: what an earlier call made of the same documents otherwise: passages that their parent no longer has,
            or all of them where it is cut no more; whole documents that are cut now.
        replaced: how many of `added` took the place of a document with the same id.
    """

    added: int = 0
    unchanged: int = 0
    removed: int = 0
    replaced: int = 0

    @property
    def new(self) -> int:
        """How many of `added` have ids that were not there."""
        return self.added - self.replaced


class Retriever:
    """An index and the encoders that fill and query it.

    Made by `Retriever.create` or `Retriever.open`. Searches see the last commit, this Retriever's own included. As a
    context manager it commits when the block ends without an exception; `close` alone forgets what is not committed.
    Searching from several threads is safe; writing is for one thread.

    Example:
        >>> from plait.retriever import Document, Retriever
        >>> with Retriever.create("my.index") as r:  # doctest: +SKIP
        ...     r.add([Document(id="1", text="Snow falls in winter."), Document(id="2", text="Bees make honey.")])
        ...     r.commit()
        ...     r.search("insects", k=1)[0].id
        '2'
    """

    def __init__(
        self,
        folder: Path,
        snapshot: Snapshot,
        encoders: Encoders,
        *,
        verify: bool | None = None,
        compaction: Compaction = "auto",
        log: QueryLog | None = None,
    ) -> None:
        self.folder, self._snapshot, self._encoders, self._verify = folder, snapshot, encoders, verify
        self._compaction: Compaction = compaction
        self.log = log
        self._writer: Writer | None = None
        self._closed = False
        self._moving, self._refreshing = threading.Lock(), threading.RLock()
        self._compiling: threading.Thread | None = None

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        strands: str | Sequence[str] = STRANDS,
        dense: Given = "embedded",
        learned: Given = "embedded",
        lexical: Given = "english",
        lucene: Neighbour | None = None,
        lucene_impact: Neighbour | None = None,
        k1: float = 0.9,
        b: float = 0.4,
        fusion: str = "convex",
        weights: Mapping[str, float] | None = None,
        pipeline: str | Sequence[str | Mapping[str, Any]] | None = None,
        dense_index: str = "auto",
        sample_queries: Sequence[str] = (),
        fields: Mapping[str, str] | None = None,
        compaction: Compaction = "auto",
    ) -> Retriever:
        """Makes an empty index.

        Args:
            path: the folder to make; it must not exist, or be empty.
            strands: which of "lexical", "learned" and "dense" the index has; those of a Lucene index that is named here
                are added to them.
            dense: "embedded", a model folder, a hub name, or a DenseEncoder.
            learned: the same, or a SparseEncoder.
            lexical: the language of the text (a Snowball language or its ISO code, "none" to leave words as they are),
                or a SparseEncoder that returns counts.
            lucene: the folder of a Lucene index of texts that the strand "lucene" searches by BM25, perhaps with
                options, as "path:k1=0.82:b=0.68"; or a `plait.retriever.lucene.Lucene`.
            lucene_impact: the same of a Lucene index of weighted terms, for the strand "lucene-impact", as
                "path:encoder=MODEL"; or a `LuceneImpact`.
            k1: BM25's saturation of term counts.
            b: BM25's share of length normalisation.
            fusion: how searches of this index combine strands unless told otherwise, as "convex" or "rrf:k=20" (see
                `plait.retriever.fusion`).
            weights: the strands' weights; None takes the fusion's own.
            pipeline: the steps of its searches, as "feedback,mmr" (see `plait.retriever.pipeline`); None takes plait's
                own, "none" takes none.
            dense_index: how dense vectors are searched: "auto" chooses by the number of documents, "flat" scans all,
                and a FAISS factory string ("HNSW32", "IVF1024,SQ8") names what proposes the documents to score.
            sample_queries: some queries like those to come, if they are known: the dense search of large segments is
                tuned to them instead of to means of documents.
            fields: metadata that filters may ask for, by name, with its type (see `declare`).
            compaction: "auto" merges small segments after a commit, in bounded time; "off" leaves all to `compact`.

        Raises:
            StoreError: there is something at `path` already, it cannot be written, `dense_index` is not understood, or
                a field cannot be declared.
            EncoderError: a model cannot be loaded; the message says what to install.
        """
        check_compaction(compaction)
        neighbours = {LUCENE: lucene, LUCENE_IMPACT: lucene_impact}
        named = [name for name, given in neighbours.items() if given is not None]
        chosen = parse_strands([*parse_strands(strands), *named])
        searching.check_fusion(fusion, weights, chosen)
        if not (0 <= k1 < float("inf") and 0 <= b <= 1):
            raise QueryError(f"BM25 takes k1 >= 0 and 0 <= b <= 1, not k1={k1}, b={b}")
        encoders = made_with(chosen, {"lexical": lexical, "learned": learned, "dense": dense, **neighbours})
        dim = encoders.strand("dense").identity.dim if "dense" in chosen else 0
        settings = {
            "encoders": encoders.to_json(),
            "fusion": fusion,
            "weights": None if weights is None else as_numbers(weights),
            "pipeline": None if pipeline is None else kept(pipeline, chosen),
        }
        queries = encoders.dense_queries(sample_queries) if dim and sample_queries else None
        layout = Layout(k1=k1, b=b, dim=dim, dense_index=dense_index)
        create_index(Path(path), layout, settings, fields, queries=queries)
        return cls(Path(path), Snapshot(Path(path)), encoders, compaction=compaction)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        dense: Given | None = None,
        learned: Given | None = None,
        lexical: Given | None = None,
        lucene: Neighbour | None = None,
        lucene_impact: Neighbour | None = None,
        verify: bool | None = None,
        compaction: Compaction = "auto",
        log: str | PathLike[str] | QueryLog | None = None,
    ) -> Retriever:
        """Opens an index.

        Args:
            path: the folder.
            dense: an encoder to use instead of the one that the index names; needed where the index was made with an
                encoder object of your own.
            learned: the same for the learned strand.
            lexical: the same for the lexical strand.
            lucene: a Lucene index for the strand "lucene", see `create`; the strand is there then also where the index
                was made without, and what Lucene holds now counts, whatever it held before.
            lucene_impact: the same for the strand "lucene-impact".
            verify: True reads every file and compares checksums; None does so for small segments; False never.
            compaction: "auto" merges small segments after a commit, in bounded time; "off" leaves all to `compact`.
            log: a file to which every answer of `search` and `search_batch` is appended (see `plait.retriever.log`).

        Raises:
            StoreError: there is no index at `path`, it is of another format, or the log cannot be written.
            CorruptError: a file is missing, damaged or cut short.
            MismatchError: an encoder differs from the one that built the index, or is of a strand that it has not.
        """
        check_compaction(compaction)
        kept = log if log is None or isinstance(log, QueryLog) else QueryLog(log)
        snapshot = Snapshot(Path(path), verify=verify)
        try:
            encoders = remembered(
                snapshot.settings["encoders"],
                {
                    "lexical": lexical,
                    "learned": learned,
                    "dense": dense,
                    LUCENE: lucene,
                    LUCENE_IMPACT: lucene_impact,
                },
                Path(path),
            )
        except BaseException:
            snapshot.close()
            raise
        return cls(Path(path), snapshot, encoders, verify=verify, compaction=compaction, log=kept)

    # Writing

    def add(
        self,
        documents: Iterable[Document | Mapping[str, Any]],
        *,
        commit_every: int | None = None,
        replace_parents: bool = False,
        on_progress: Callable[[int], None] | None = None,
        on_bad: Callable[[IngestError], None] | None = None,
    ) -> Added:
        """Encodes and stores documents; one whose id is known replaces the older. Visible after `commit`.

        Args:
            documents: Documents, or mappings with "id" and "text" and perhaps "title", "metadata".
            commit_every: commit after this many documents, so that an interrupted run loses little.
            replace_parents: what the index holds of the same documents in another form is removed: passages that a
                parent has there but not among these documents, all passages of a document that comes whole now, and
                the whole document of which passages come. It goes last, when all documents of the call are known.
            on_progress: called with the number of documents done since the last call.
            on_bad: told of each document that is passed over because its metadata does not fit a declared field;
                without it that is an error.

        Raises:
            IngestError: a document is malformed or does not fit a declared field, or its id comes twice in this call.
                What came before it is kept.
            LockedError: another writer is at work.
        """
        writer, done, uncommitted = self._writing(), Added(), 0
        ids, whole, owners = set[str](), set[str](), set[str]()
        size = self._encoders.at_once if commit_every is None else max(1, min(self._encoders.at_once, commit_every))
        for chunk in chunks(fitting(unique(map(as_document, documents), ids), writer.fields, on_bad), size):
            fresh, known = self._fresh(writer, chunk)
            if fresh:
                if len(fresh) == size:  # there is more to come, and time to compile
                    self._compile_aside()
                vectors = self._encoders.encode_documents([d.full_text for d in fresh])
                writer.add(fresh, vectors.sparse, vectors.dense, literal=vectors.literal)
            if replace_parents:
                whole.update(document.id for document in chunk if document.parent is None)
                owners.update(document.parent for document in chunk if document.parent is not None)
            unchanged = done.unchanged + len(chunk) - len(fresh)
            done = Added(done.added + len(fresh), unchanged, replaced=done.replaced + known)
            uncommitted += len(fresh)
            if commit_every is not None and uncommitted >= commit_every:
                self.commit()
                uncommitted = 0
            if on_progress is not None:
                on_progress(len(chunk))
        return replace(done, removed=self._remove_older_forms(writer, ids, whole, owners))

    def delete(self, ids: str | Iterable[str]) -> int:
        """Deletes documents by id, and all passages of a parent by the parent's id. Visible after `commit`.

        Returns:
            How many documents went; ids that are unknown count for nothing.
        """
        return self._writing().delete([ids] if isinstance(ids, str) else ids)

    def declare(self, name: str, type: str) -> None:
        """Lets filters ask for a metadata name, in all documents, old and new. Visible after `commit`.

        Args:
            name: the metadata name.
            type: "text", "integer", "number", "boolean" or "date" (ISO 8601), or a list of them, as "text[]".

        Raises:
            StoreError: the name or type cannot be, or a document's value does not fit; nothing is changed then.
            LockedError: another writer is at work.
        """
        self._writing().declare(name, type)

    def undeclare(self, name: str) -> None:
        """Takes a name away from filters again; documents keep their metadata. Visible after `commit`.

        Raises:
            StoreError: it is not declared.
            LockedError: another writer is at work.
        """
        self._writing().undeclare(name)

    def commit(self) -> None:
        """Makes what was added and deleted durable and visible, or none of it if that fails.

        Raises:
            StoreError: a full disk, for instance; the index is as it was after the last commit.
        """
        if self._writer is not None and self._writer.pending:
            # Nobody sees the commit before the level of parents has followed it; without one, nobody need wait.
            with self._refreshing if parents.is_kept(self._snapshot) else nullcontext():
                self._writer.commit()
                self._move_on(self._writer, most=TIDIED)

    def compact(self) -> int:
        """Commits, then merges all segments into one: less to search, deleted documents gone, BM25's lengths fresh.

        Searches go on meanwhile, here and in other processes. The disk needs room for the new segment beside the old
        ones, which go when nobody searches them any more.

        Returns:
            How many segments were merged, or written anew; 0 when there was nothing to gain.

        Raises:
            StoreError: a full disk, for instance; the index is as it was after the last commit.
            LockedError: another writer is at work.
        """
        writer = self._writing()
        if parents.is_kept(self._snapshot):  # the level follows what awaits the commit now, not behind a long merge
            self.commit()
        merged = writer.compact()
        self._move_on(writer)
        return merged

    def keep_parents(self) -> None:
        """Commits, and keeps a level of parents from now on, for the step `parents`; every commit brings it up to date.

        It is made of what is stored: no model runs. Asked again, it catches up after a commit that was cut short.

        Raises:
            StoreError: a full disk, for instance.
            LockedError: another writer is at work.
        """
        self._writing()
        self.commit()
        self.refresh()
        with self._reading() as snapshot:
            parents.keep(snapshot)

    def rollback(self) -> None:
        """Forgets what was added and deleted since the last commit."""
        if self._writer is not None:
            self._writer.rollback()

    def refresh(self) -> None:
        """Moves searches on to the newest commit, whoever made it.

        Raises:
            MismatchError: the folder holds another index by now, made with other encoders.
        """
        self._refresh(lambda _older, _newer: None)

    def release(self) -> None:
        """Lets other writers in, until this one writes again; what is not committed is forgotten."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        """Lets go of the index; what is not committed is forgotten."""
        self._closed = True
        if self._compiling is not None:
            self._compiling.join()
        self._snapshot.close()  # before the writer: who closes last empties SQLite's log, and a reader may not
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._encoders.close()

    def __enter__(self) -> Retriever:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    def settle(self, **settings: Any) -> None:
        """Changes how searches of this index rank when they do not say it themselves. Visible after `commit`.

        Args:
            settings: `fusion`, `weights`, `pipeline`, `calibration` (as `Calibration.to_json` returns it), and `tuned`,
                where they came from, as JSON values. None takes a setting back to plait's own.

        Raises:
            QueryError: a setting is unknown, its value is, or a search cannot take these steps.
            LockedError: another writer is at work.
        """
        changed = checked_settings(self._snapshot.settings, self.strands, settings)
        if changed.get("pipeline") is not None:
            after = {**self._snapshot.settings, **changed}  # rather now than in every search
            self.run({"a": "a"}, 1, fusion=after["fusion"], weights=after["weights"], pipeline=after["pipeline"])
        writer = self._writing()
        for name, value in changed.items():
            writer.put_setting(name, value)

    # Reading

    @property
    def strands(self) -> tuple[str, ...]:
        """The strands this index has."""
        return tuple(self._encoders.names)

    @property
    def settings(self) -> dict[str, Any]:
        """What `settle` takes, as the index keeps it as of the last commit; None for what is plait's own."""
        return deepcopy({name: self._snapshot.settings.get(name) for name in SETTINGS})

    def strand(self, name: str) -> Strand:
        """Returns a strand of this index: its encoder, its queries and its scores (see `plait.retriever.strands`).

        Raises:
            QueryError: the index has no such strand.
        """
        (known,) = parse_strands([name], self.strands)
        return self._encoders.strand(known)

    def steps(
        self,
        strands: str | Sequence[str] | None = None,
        *,
        fusion: str | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Steps:
        """Returns the steps of a search that names none, as `search` takes them and the index keeps them.

        What `info` and answers call a pipeline is its name, which cannot always be read again: options may be lists
        and maps.

        Args:
            strands: as of the search, and so are the others.
            fusion: its fusion.
            weights: its weights; where they leave one strand alone there is no step.

        Raises:
            QueryError: a name is unknown, or a weight out of range.
        """
        if weights is not None:
            check_weights(weights)
        names = self.strands if strands is None else parse_strands(strands, self.strands)
        return deepcopy(chosen_for(self._snapshot.settings, names, fusion, weights, None, every=self.strands).steps)

    @property
    def fields(self) -> dict[str, str]:
        """The types of the declared fields by name, as of the last commit."""
        return {field.name: field.type for field in self._snapshot.fields}

    @property
    def version(self) -> int:
        """The number of the commit that searches see; every commit has a higher one."""
        return self._snapshot.commit

    def __len__(self) -> int:
        """Returns the number of committed documents."""
        return self._snapshot.documents

    def __contains__(self, id: str) -> bool:
        with self._reading() as snapshot:
            return bool(snapshot.positions([id]))

    def get(self, id: str) -> Document | None:
        """Returns a committed document by its id, or None."""
        with self._reading() as snapshot:
            found = snapshot.positions([id])
            return _stored(snapshot.rows([found[id]])[0]) if found else None

    def sample(self, count: int, *, seed: int = 0) -> list[Document]:
        """Returns so many committed documents, chosen at random; all of them where there are fewer."""
        with self._reading() as snapshot:
            ids = sorted(snapshot.all_ids())
            chosen = ids if len(ids) <= count else random.Random(seed).sample(ids, count)
            rows = snapshot.rows(sorted(snapshot.positions(chosen).values()))
        return [_stored(row) for row in rows]

    def passages(self, parent: str) -> list[Document]:
        """Returns the committed passages of a parent by their place in its text."""
        with self._reading() as snapshot:
            found = snapshot.positions(snapshot.passages(parent))
            rows = snapshot.rows(sorted(found.values()))
        return sorted(map(_stored, rows), key=lambda passage: passage.start)

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        strands: str | Sequence[str] | None = None,
        fusion: str | None = None,
        weights: Mapping[str, float] | None = None,
        pipeline: Steps | None = None,
        depth: int = searching.DEPTH,
        explain: bool = False,
        filter: str | None = None,
        exactness: float = 1.0,
        prove: bool = False,
        min_score: float | None = None,
        min_probability: float | None = None,
    ) -> Answer:
        """Returns the k best documents, best first; fewer when fewer match.

        Args:
            query: what is looked for.
            k: how many hits are wanted, at least 1.
            strands: which strands take part, as "lexical,dense" or a sequence; None takes all of the index, but of
                convex fusions without steps those that weigh nothing.
            fusion: a fusion by name and options, as "rrf:k=20"; None takes the index's own.
            weights: the strands' weights, by name; None takes the index's own.
            pipeline: steps after fusion, as "feedback,mmr:trade=0.5", or a list of texts, mappings and functions (see
                `plait.retriever.pipeline`); "none" for none. None takes the index's own where strands are fused, and
                none where one strand speaks alone.
            depth: how many candidates each strand proposes; every candidate is then scored by every strand.
            explain: also fill `Hit.matches`.
            filter: only documents for which this holds, as "year >= 2020 AND 'ml' IN tags" (see `plait.index.filters`);
                they are chosen before anything is scored, so that k hits come whenever k documents match.
            exactness: 1 lets the sparse strands propose their exact top; less, above 0, lets them miss some of it and
                be faster on large indexes (see `Snapshot.sparse_search`). A strand's own scores are true either way,
                and fused ones by `norm` or `raw`; by what is measured from a strand's best (`bounds` and the others)
                they move with what was missed, and so with k and depth.
            prove: widen the candidates until no other document can be among the k best; all dense vectors are scanned
                then, and sparse strands search with exactness 1, whatever is asked. `Answer.proof` tells what it took.
            min_score: leave out hits whose fused score is lower.
            min_probability: leave out hits that are less probably relevant, by the index's calibration; it knows no
                filter, so the two do not go together.

        Raises:
            QueryError: the query is empty, a number is out of range, a name is unknown, the fusion cannot be proven, or
                the index has no calibration for these settings.
            FilterError: the filter cannot be read, or asks what the declared fields cannot answer.
        """
        options = self._options(
            k, strands, fusion, weights, pipeline, depth=depth, explain=explain, filter=filter, exactness=exactness,
            prove=prove, min_score=min_score, min_probability=min_probability,
        )  # fmt: skip
        with self._reading() as snapshot:
            return self._logged(
                next(searching.search(snapshot, self._strands(options.strands), [query], options)), options
            )

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        strands: str | Sequence[str] | None = None,
        fusion: str | None = None,
        weights: Mapping[str, float] | None = None,
        pipeline: Steps | None = None,
        depth: int = searching.DEPTH,
        explain: bool = False,
        filter: str | None = None,
        exactness: float = 1.0,
        prove: bool = False,
        min_score: float | None = None,
        min_probability: float | None = None,
    ) -> list[Answer]:
        """Returns the hits of each query, in the order of the queries; the arguments are those of `search`."""
        options = self._options(
            k, strands, fusion, weights, pipeline, depth=depth, explain=explain, filter=filter, exactness=exactness,
            prove=prove, min_score=min_score, min_probability=min_probability,
        )  # fmt: skip
        with self._reading() as snapshot:
            answers = searching.search(snapshot, self._strands(options.strands), queries, options)
            return [self._logged(answer, options) for answer in answers]

    def run(
        self,
        queries: Mapping[str, str],
        k: int = 1000,
        *,
        strands: str | Sequence[str] | None = None,
        fusion: str | None = None,
        weights: Mapping[str, float] | None = None,
        pipeline: Steps | None = None,
        depth: int = searching.DEPTH,
        filter: str | None = None,
        exactness: float = 1.0,
        prove: bool = False,
        min_score: float | None = None,
        min_probability: float | None = None,
    ) -> dict[str, dict[str, float]]:
        """Returns a TREC run, {query id: {document id: score}}, best first, without reading the documents' texts."""
        options = self._options(
            k, strands, fusion, weights, pipeline, depth=depth, explain=False, filter=filter, exactness=exactness,
            prove=prove, min_score=min_score, min_probability=min_probability,
        )  # fmt: skip
        with self._reading() as snapshot:
            answers = searching.rankings(snapshot, self._strands(options.strands), list(queries.values()), options)
            return dict(zip(queries, answers, strict=True))

    def candidates(
        self,
        queries: Sequence[str],
        *,
        strands: str | Sequence[str] | None = None,
        fusion: str | None = None,
        weights: Mapping[str, float] | None = None,
        depth: int = searching.DEPTH,
        filter: str | None = None,
    ) -> Iterator[Ranking]:
        """Returns an iterator over what the strands say of every query's candidates, fused, before any step.

        One search is enough to try many weights: `Ranking.weighed` gives the ranking by others. A ranking reads from
        the index, so take what is wanted of it before the next is asked for; the other arguments are those of `search`.
        """
        options = self._options(
            depth, strands, fusion, weights, "none", depth=depth, explain=False, filter=filter, exactness=1.0,
            prove=False, min_score=None, min_probability=None, whole=True,
        )  # fmt: skip
        return self._candidates(queries, options)

    def info(self) -> dict[str, Any]:
        """Returns what there is to know of the index, as JSON values."""
        self._check_open()
        settings = self._snapshot.settings
        return {
            "path": str(self.folder),
            "strands": list(self.strands),
            **chosen_for(settings, self.strands, None, None, None, every=self.strands).to_json(),
            "tuned": settings.get("tuned"),
            "bm25": {"k1": self._snapshot.layout.k1, "b": self._snapshot.layout.b},
            "dense_index": self._snapshot.layout.dense_index if "dense" in self.strands else None,
            "fields": self.fields,
            **self._snapshot.facts(),
            "encoders": {name: facts["identity"] for name, facts in self._encoders.to_json().items()},
        }

    # Inside

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"this Retriever of {self.folder} is closed; open it again")

    @contextmanager
    def _reading(self) -> Iterator[Snapshot]:
        """Holds the current snapshot open, whatever is committed or refreshed meanwhile."""
        self._check_open()
        with ExitStack() as stack:
            with self._moving:
                snapshot = stack.enter_context(self._snapshot)
            yield snapshot

    def _writing(self) -> Writer:
        self._check_open()
        if self._writer is None:
            self._writer = Writer(self._snapshot.folder, compaction=self._compaction)
        return self._writer

    def _refresh(self, between: Callable[[Snapshot, Snapshot], None]) -> None:
        """Moves searches on to the newest commit, after `between` of both snapshots, even where that fails."""
        self._check_open()
        with self._refreshing:  # two at once would follow one snapshot, and one of the new ones never be closed
            older = self._snapshot
            newer = Snapshot(older.folder, verify=self._verify, older=older)
            if newer.settings["encoders"] != older.settings["encoders"]:
                newer.close()
                raise MismatchError(f"{self.folder} was made anew with other encoders; open it again")
            try:
                between(older, newer)
            finally:
                with self._moving:
                    self._snapshot = newer
                older.close()

    def _move_on(self, writer: Writer, most: int | None = None) -> None:
        """Searches the newest commit from now on, and removes what older ones needed."""
        self._refresh(parents.handed_on)
        if writer.shorten_log():
            self.refresh()
        writer.tidy(most)

    def _fresh(self, writer: Writer, chunk: list[Document]) -> tuple[list[Document], int]:
        """Returns the documents to store, and how many of them replace an older one."""
        known = writer.digests(d.id for d in chunk)
        fresh = [d for d in chunk if known.get(d.id) != digest(d)]
        return fresh, sum(d.id in known for d in fresh)

    def _remove_older_forms(self, writer: Writer, ids: set[str], whole: set[str], owners: set[str]) -> int:
        """Deletes passages of what came whole or in passages, and whole documents of which passages came; not `ids`."""
        held = [*writer.passages(whole | owners), *writer.wholes(owners)]
        stale = [id for id in held if id not in ids]
        return writer.delete(stale, passages=False) if stale else 0

    def _compile_aside(self) -> None:
        """Starts compiling the search kernels while encoding keeps the processor's other cores busy anyway."""
        if self._compiling is None:
            from ..index.compiled import load_kernels

            self._compiling = threading.Thread(target=load_kernels, name="plait-kernels")
            self._compiling.start()

    def _candidates(self, queries: Sequence[str], options: searching.Options) -> Iterator[Ranking]:
        with self._reading() as snapshot:
            yield from searching.candidates(snapshot, self._strands(options.strands), queries, options)

    def _logged(self, answer: Answer, options: searching.Options) -> Answer:
        if self.log is not None:
            self.log.searched(answer, k=options.k, filter=options.filter)
        return answer

    def _strands(self, names: Sequence[str]) -> list[Strand]:
        return [self._encoders.strand(name) for name in names]

    def _options(
        self,
        k: int,
        strands: str | Sequence[str] | None,
        fusion: str | None,
        weights: Mapping[str, float] | None,
        pipeline: Steps | None,
        *,
        depth: int,
        explain: bool,
        filter: str | None,
        exactness: float,
        prove: bool,
        min_score: float | None,
        min_probability: float | None,
        whole: bool = False,
    ) -> searching.Options:
        """Returns a search's settings, checked; `whole` asks strands that weigh nothing, too."""
        searching.check_numbers(k, depth, exactness, min_score)
        searching.check_switches(explain=explain, prove=prove)
        if fusion is not None:
            chosen(fusion)  # what is nothing, as "", would else count as not given
        if weights is not None:
            check_weights(weights)
        names = self.strands if strands is None else parse_strands(strands, self.strands)
        if not names:
            raise QueryError("no strand was named")
        choice = chosen_for(self._snapshot.settings, names, fusion, weights, pipeline, every=self.strands)
        check_probability(choice.calibration, min_probability, filtered=filter is not None)
        calibration = choice.calibration if filter is None else None  # it was fitted to what all documents hold
        asked = strands is not None or whole  # by name, or by whoever will try other weights
        heard = choice.weights >= 0 if asked else choice.heard
        taking = tuple(compress(names, heard))
        return searching.Options(
            int(k), taking, choice.fusion, choice.weights[heard], int(depth), explain, filter, exactness,
            choice.pipeline, prove, min_score, choice.weights_from, calibration, min_probability,
            full="dense" not in names if asked else not choice.dense,
        )  # fmt: skip


def _stored(row: Row) -> Document:
    return Document(
        id=row.id, text=row.text, title=row.title, metadata=row.metadata, parent=row.parent, start=row.start
    )

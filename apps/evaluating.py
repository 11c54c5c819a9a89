"""`plait eval`: index a BEIR folder if need be, measure every strand and their fusion, print one table."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import eval as measuring
from ..eval.report import per_query, summary
from ..retriever import QueryError, Retriever
from ..retriever.search import check_fusion
from ..retriever.strands import STRANDS, parse_strands
from . import console
from .ingesting import Skipped
from .render import scores_table
from .searching import answered

DEEP = 1000  # how many hits are asked for where no measure looks further down
LOOKED_UP = 1000  # relevant documents that are looked for in an index, to see that it is one of this corpus


@dataclass(frozen=True)
class Request:
    """What `plait eval` was asked for."""

    data: Path
    split: str
    index: Path | None
    measures: str | None
    runs: tuple[Path, ...]
    save_runs: Path | None
    card: Path | None
    per_query: bool
    made_with: Mapping[str, Any]
    strands: str | None
    fusion: str | None
    weights: Mapping[str, float] | None
    depth: int
    skip_bad: bool
    as_json: bool


def evaluate(request: Request) -> None:
    """Measures and prints."""
    _check(request)
    measures = measuring.parse_measures(measuring.DEFAULT_MEASURES if request.measures is None else request.measures)
    dataset = measuring.load_beir(request.data, request.split, skip_bad=request.skip_bad)
    if unasked := len(dataset.qrels) - len(dataset.queries):
        console.note(f"{unasked:,} judged queries have no text; each counts as 0")
    if request.card is not None:
        request.card.parent.mkdir(parents=True, exist_ok=True)
    if request.runs:
        names = _names(request.runs)
        runs = {name: measuring.read_run(path) for name, path in zip(names, request.runs, strict=True)}
        report = measuring.evaluate_runs(runs, dataset, measures=measures)
    else:
        with _retriever(request, dataset) as retriever:
            report = _searched(retriever, dataset, measures, request)
    if request.card is not None:
        request.card.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
        console.note(f"wrote {request.card}")
    _print(report, request)


def _check(request: Request) -> None:
    """Raises an error for options that are wrong or would be ignored, before an hour of indexing."""
    searching = {
        "--index": request.index, "--save-runs": request.save_runs, "--fusion": request.fusion,
        "--weights": request.weights, "--strands": request.strands, "--dense": request.made_with.get("dense"),
        "--learned": request.made_with.get("learned"), "--language": request.made_with.get("lexical"),
    }  # fmt: skip
    if request.runs and (useless := [name for name, value in searching.items() if value is not None]):
        raise QueryError(f"--run measures finished runs, without searching; {', '.join(useless)} would have no effect")
    strands = STRANDS if request.strands is None else parse_strands(request.strands)
    check_fusion(request.fusion or "convex", request.weights, strands)
    if request.depth < 1:
        raise QueryError(f"--depth is how many are wanted: a whole number of at least 1, not {request.depth}")


def _names(runs: tuple[Path, ...]) -> list[str]:
    """Returns what to call run files: by their names, or by their paths where two have one name."""
    names = [path.name for path in runs]
    return names if len(set(names)) == len(names) else [str(path) for path in runs]


def _searched(
    retriever: Retriever, dataset: measuring.Dataset, measures: tuple[str, ...], request: Request
) -> measuring.Report:
    k = max([DEEP, *(int(cutoff) for name in measures for cutoff in re.findall(r"@(\d+)", name))])
    strands = retriever.strands if request.strands is None else parse_strands(request.strands, retriever.strands)
    info = retriever.info()
    settings = {name: info[name] for name in ("fusion", "weights", "bm25", "documents")} | {"depth": request.depth}
    settings |= {name: value for name, value in (("fusion", request.fusion), ("weights", request.weights)) if value}

    def answer(queries: Mapping[str, str], used: Any) -> Any:
        options: dict[str, Any] = {"fusion": request.fusion, "weights": request.weights}
        if len(used) == 1:
            options = {"weights": {used[0]: 1.0}}
        label = used[0] if len(used) == 1 else "fused"
        # One more than is measured: the document that is the query itself is dropped.
        return answered(
            retriever, queries, f"searching, {label}", {"k": k + 1, "strands": used, "depth": request.depth, **options}
        )

    return measuring.evaluate(
        answer, dataset, strands=strands, measures=measures, encoders=info["encoders"], settings=settings,
        on_run=_saver(request.save_runs),
    )  # fmt: skip


def _saver(folder: Path | None) -> Any:
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name, run: measuring.write_run(run, folder / f"{name}.run", tag=f"plait-{name}")


@contextmanager
def _retriever(request: Request, dataset: measuring.Dataset) -> Iterator[Retriever]:
    """Opens the index that was named, or makes one: there, or in a temporary folder."""
    with ExitStack() as stack:
        if request.index is not None and (request.index / "plait.db").exists():
            models = {name: value for name, value in request.made_with.items() if name != "strands"}
            retriever = stack.enter_context(closing(Retriever.open(request.index, **models)))
            if not len(retriever):  # made by an eval that was interrupted
                _fill(retriever, dataset, skip_bad=request.skip_bad)
            _check_corpus(retriever, dataset)
            yield retriever
            return
        folder = request.index or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-eval-"))) / "index"
        retriever = stack.enter_context(closing(Retriever.create(folder, **request.made_with)))
        _fill(retriever, dataset, skip_bad=request.skip_bad)
        _check_corpus(retriever, dataset)
        yield retriever


def _check_corpus(retriever: Retriever, dataset: measuring.Dataset) -> None:
    """Says so where relevant documents are not in the index: it may be of another corpus, or of passages."""
    relevant = {id: None for judged in dataset.qrels.values() for id, relevance in judged.items() if relevance > 0}
    looked_up = list(relevant)[:LOOKED_UP]
    if missing := sum(id not in retriever for id in looked_up):
        of = f"{missing:,} of {len(looked_up):,} relevant documents"
        console.note(f"{of} are not in the index; scores are low if it is not an index of {dataset.corpus}")


def _fill(retriever: Retriever, dataset: measuring.Dataset, *, skip_bad: bool) -> None:
    from ..retriever import read_documents
    from ..retriever.sources import total_bytes

    meter = console.Meter(f"indexing {dataset.name}", total_bytes([dataset.corpus]))
    try:
        documents = read_documents(
            [dataset.corpus], skip_bad=skip_bad, on_bad=Skipped(), on_bytes=meter.bytes_read, passages="never"
        )
        retriever.add(documents, on_progress=meter.documents_done)
    finally:
        meter.close()
    retriever.commit()


def _print(report: measuring.Report, request: Request) -> None:
    if request.as_json:
        console.print_json(report.to_json())
        return
    about = report.dataset
    title = f"{about['name']} {about['split']}, {about['queries']} queries"
    console.print_table(scores_table(*summary(report), title=title))
    if request.per_query:
        for measure in report.measures:
            console.print_table(scores_table(*per_query(report, measure), title=measure))

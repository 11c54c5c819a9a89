"""`plait eval`: index a BEIR folder if need be, measure every strand and their fusion, print one table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import eval as measuring
from ..eval.report import per_query, summary
from ..retriever import Retriever
from ..retriever.strands import parse_strands
from . import console
from .render import scores_table

K = 1001  # one more than the deepest usual cutoff: the document that is the query itself is dropped


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
    as_json: bool


def evaluate(request: Request) -> None:
    """Measures and prints."""
    dataset = measuring.load_beir(request.data, request.split)
    measures = request.measures or measuring.DEFAULT_MEASURES
    if request.runs:
        runs = {path.name: measuring.read_run(path) for path in request.runs}
        report = measuring.evaluate_runs(runs, dataset, measures=measures)
    else:
        with _retriever(request, dataset) as retriever:
            report = _searched(retriever, dataset, measures, request)
    if request.card is not None:
        request.card.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
        console.note(f"wrote {request.card}")
    _print(report, request)


def _searched(retriever: Retriever, dataset: measuring.Dataset, measures: Any, request: Request) -> measuring.Report:
    strands = retriever.strands if request.strands is None else parse_strands(request.strands, retriever.strands)
    info = retriever.info()
    settings = {name: info[name] for name in ("fusion", "weights", "bm25", "documents")} | {"depth": request.depth}
    settings |= {name: value for name, value in (("fusion", request.fusion), ("weights", request.weights)) if value}

    def answer(queries: Mapping[str, str], used: Any) -> Any:
        options = (
            {"fusion": request.fusion, "weights": request.weights} if len(used) > 1 else {"weights": {used[0]: 1.0}}
        )
        return retriever.run(queries, K, strands=used, depth=request.depth, **options)

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
            yield stack.enter_context(closing(Retriever.open(request.index, **models)))
            return
        folder = request.index or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-eval-"))) / "index"
        retriever = stack.enter_context(closing(Retriever.create(folder, **request.made_with)))
        _fill(retriever, dataset)
        yield retriever


def _fill(retriever: Retriever, dataset: measuring.Dataset) -> None:
    from ..retriever import read_documents
    from ..retriever.sources import total_bytes

    meter = console.Meter(f"indexing {dataset.name}", total_bytes([dataset.corpus]))
    try:
        documents = read_documents([dataset.corpus], on_bytes=meter.bytes_read)
        retriever.add(documents, on_progress=meter.documents_done)
    finally:
        meter.close()
    retriever.commit()


def _print(report: measuring.Report, request: Request) -> None:
    if request.as_json:
        console.print_json(report.to_json())
        return
    about = report.dataset
    console.out.print(
        scores_table(*summary(report), title=f"{about['name']} {about['split']}, {about['queries']} queries")
    )
    if request.per_query:
        for measure in report.measures:
            console.out.print(scores_table(*per_query(report, measure), title=measure))

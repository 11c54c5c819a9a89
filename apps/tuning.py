"""`plait tune`: what an index's own judgements say of its weights, and what it keeps of that."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..eval import EvalError, load_beir, read_qrels
from ..eval.calibrating import calibrate
from ..eval.contract import Qrels
from ..eval.diagram import reliability_page
from ..eval.gains import measure_named
from ..eval.judged import Judged, judge
from ..eval.label_free import calibrate_label_free, label_free
from ..eval.ranker import TRAINERS, seen, train
from ..eval.trial import Trial, try_out
from ..eval.tuning import Tuned, tune
from ..retriever import QueryError, Retriever
from ..retriever.log import read_log
from . import console, searching
from .render import scores_table

LABEL_FREE = "label-free"


@dataclass(frozen=True)
class Request:
    """What `plait tune` was asked for."""

    index: Path
    queries: Path | None = None
    qrels: Path | None = None
    data: Path | None = None
    log: Path | None = None
    split: str = "test"
    measure: str = "nDCG@10"
    depth: int = 200
    seed: int = 0
    calibrate: str | None = None
    report: Path | None = None
    ranker: str | None = None
    out: Path | None = None
    label_free: bool = False
    reset: bool = False
    dry_run: bool = False
    skip_bad: bool = False
    as_json: bool = False
    models: Mapping[str, Any] = field(default_factory=dict)


def run(request: Request) -> None:
    """Does what was asked for, and prints it."""
    _check(request)
    with closing(Retriever.open(request.index, **request.models)) as retriever:
        if request.reset:
            _reset(retriever, request)
        elif request.label_free:
            _label_free(retriever, request)
        elif request.calibrate is not None:
            _calibration(retriever, request)
        elif request.ranker is not None:
            _ranker(retriever, request)
        else:
            _weights(retriever, request)


def _check(request: Request) -> None:
    """Raises an error where an option lacks, or would be ignored."""
    files = request.queries is not None or request.qrels is not None
    unlabelled = request.label_free or request.calibrate == LABEL_FREE
    given = [files, request.data is not None, request.log is not None, unlabelled, request.reset]
    if sum(given) != 1 or (files and (request.queries is None or request.qrels is None)):
        raise QueryError(
            "say what to learn from: --queries FILE and --qrels FILE, --data FOLDER or --log FILE; or nothing, with "
            "--label-free or --reset"
        )
    if request.report is not None and request.calibrate is None:
        raise QueryError("--report goes with --calibrate")
    if (request.ranker is None) != (request.out is None):
        raise QueryError("--ranker and --out go together, as: --ranker logistic --out model.json")
    jobs = {
        "--reset": request.reset, "--label-free": request.label_free, "--calibrate": request.calibrate,
        "--ranker": request.ranker,
    }  # fmt: skip
    asked = [name for name, value in jobs.items() if value]
    if len(asked) > 1:
        raise QueryError(f"{' and '.join(asked)} are jobs of their own; give one at a time")
    measure_named(request.measure)
    if request.ranker is not None and request.ranker not in TRAINERS:
        raise EvalError(f"no ranker {request.ranker!r}; there are: {', '.join(TRAINERS)}")
    if request.depth < 1:
        raise QueryError(f"--depth is how many are wanted: a whole number of at least 1, not {request.depth}")


def _reset(retriever: Retriever, request: Request) -> None:
    if not request.dry_run:
        retriever.settle(fusion=None, weights=None, calibration=None, tuned=None)
        retriever.commit()
    facts = retriever.info()
    if request.as_json:
        console.print_json({"reset": not request.dry_run, "weights": facts["weights"], "fusion": facts["fusion"]})
        return
    done = "would go" if request.dry_run else "are"
    console.out.print(f"{request.index}: fusion and weights {done} back to plait's own, and no calibration is kept")


def _weights(retriever: Retriever, request: Request) -> None:
    queries, qrels, source = _collection(request)
    judged = _judged(retriever, queries, qrels, source, request)
    facts = retriever.info()
    own = facts["weights"] if facts["weights_from"] == "the index" and facts["tuned"] is None else None
    found = tune(judged, prior=own, measure=request.measure, seed=request.seed)
    trial = try_out(retriever, judged, found, prior=own, seed=request.seed)
    written = trial.better and not request.dry_run
    if written:
        about = {"source": found.source, "queries": found.queries, "measure": found.measure}
        record = {**about, **trial.to_json(), "date": now(), "plait": version("plait")}
        retriever.settle(fusion=found.fusion, weights=found.weights, tuned=record)
        retriever.commit()
    if request.as_json:
        told_of = {"had": facts["weights"], "searched": trial.to_json(), "written": written}
        console.print_json({**found.to_json(), **told_of})
        return
    _print(found, trial, facts, request, written=written)


def _calibration(retriever: Retriever, request: Request) -> None:
    if request.calibrate == LABEL_FREE:
        found = calibrate_label_free(retriever, seed=request.seed)
    else:
        queries, qrels, source = _collection(request)
        found = calibrate(retriever, queries, qrels, kind=request.calibrate or "", source=source, seed=request.seed)
    if not request.dry_run:
        retriever.settle(calibration=found.calibration.to_json())
        retriever.commit()
    if request.report is not None:
        request.report.parent.mkdir(parents=True, exist_ok=True)
        request.report.write_text(reliability_page(found), encoding="utf-8")
        console.note(f"wrote {request.report}")
    if request.as_json:
        console.print_json({**found.to_json(), "written": not request.dry_run})
        return
    rows = [(f"{low:.3f}", f"{seen:.3f}", f"{count:,}") for low, seen, count in found.near.bins]
    console.out.print(
        f"{found.calibration.kind} calibration, {found.queries:,} queries, first 10 hits, cross-validated"
    )
    console.print_table(scores_table(("predicted", "observed", "hits"), rows))
    if request.calibrate == LABEL_FREE:
        console.note(
            "queries made of documents have one right answer: where people's have more, probabilities are far too low"
        )
    console.out.print(
        f"expected calibration error {found.near.error:.4f}, Brier {found.near.brier:.4f} "
        f"(of the mean alone {found.near.base:.4f}); documents that nobody judged count as not relevant"
    )
    if request.dry_run:
        console.out.print("nothing was written: --dry-run")
    else:
        console.out.print(f"{request.index} keeps it for searches with these settings; hits have a probability now")


def _label_free(retriever: Retriever, request: Request) -> None:
    found = label_free(
        retriever, seed=request.seed, on_way=lambda way: console.note(f"trying queries made in the way {way!r}")
    )
    if request.as_json:
        console.print_json({**found.to_json(), "written": False})
        return
    rows = [
        (each.way, f"{each.queries:,}", f"{each.present:.4f}", f"{each.best:.4f}", told(each.weights))
        for each in found.witnesses
    ]
    console.print_table(scores_table(("made of", "queries", "as it is", "best", "by the weights"), rows))
    console.out.print(f"{found.note}; so nothing was written")
    if found.suggestion is not None:
        console.out.print(f"worth a try, a quarter of the way to those of titles: --weights {told(found.suggestion)}")


def _ranker(retriever: Retriever, request: Request) -> None:
    queries, qrels, source = _collection(request)
    judged = _judged(retriever, queries, qrels, source, request, look=seen)
    found = train(judged, kind=request.ranker or "", measure=request.measure, seed=request.seed)
    if request.out is not None and not request.dry_run:
        request.out.parent.mkdir(parents=True, exist_ok=True)
        held = {**found.ranker.to_json(), "trained": {**found.to_json(), "plait": version("plait"), "date": now()}}
        request.out.write_text(console.json_text(held) + "\n", encoding="utf-8")
        console.note(f"wrote {request.out}")
    if request.as_json:
        console.print_json({**found.to_json(), "written": not request.dry_run})
        return
    console.out.print(
        f"{found.ranker.kind} on {found.queries:,} queries: {found.measure} {found.after:.4f} cross-validated, "
        f"{found.before:.4f} without; gain {found.after - found.before:+.4f} "
        "({:+.4f} to {:+.4f})".format(*found.gain)
    )
    console.out.print(f"use it with --pipeline rescore:model={request.out}, where it gains enough to be worth it")


def now() -> str:
    """Returns the time in UTC, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _collection(request: Request) -> tuple[Mapping[str, str], Qrels, str]:
    """Returns queries, judgements, and where they came from."""
    if request.data is not None:
        dataset = load_beir(request.data, request.split, skip_bad=request.skip_bad)
        return dataset.queries, dataset.qrels, "qrels"
    if request.log is not None:
        learnt = read_log(request.log, skip_bad=request.skip_bad, on_bad=searching.Skipped())
        if not learnt.qrels:
            raise EvalError(
                f"{request.log}: none of its {learnt.searches:,} searches says what was relevant; QueryLog.clicked and "
                'POST /api/relevance append that, as lines {"event": "relevance", "query": ..., "id": ..., '
                '"relevance": 1}'
            )
        return learnt.queries, learnt.qrels, "log"
    if request.queries is None or request.qrels is None:
        raise EvalError("weights need queries and judgements")
    queries = searching.queries_from(request.queries, skip_bad=request.skip_bad)
    return queries, read_qrels(request.qrels), "qrels"


def _judged(
    retriever: Retriever, queries: Mapping[str, str], qrels: Qrels, source: str, request: Request, **more: Any
) -> Judged:
    meter = console.Meter("searching", len(set(queries) & set(qrels)), unit="queries")

    def done(count: int) -> None:
        meter.bytes_read(count)
        meter.documents_done(count)

    try:
        judged = judge(retriever, queries, qrels, depth=request.depth, source=source, on_query=done, **more)
    finally:
        meter.close()
    if judged.unknown:
        console.note(
            f"{judged.unknown:,} of the documents judged relevant are not in the index; they count as not found"
        )
    return judged


def _print(found: Tuned, trial: Trial, facts: Mapping[str, Any], request: Request, *, written: bool) -> None:
    rows = [
        ("as it is", told(facts["weights"]), f"{found.before:.4f}", ""),
        ("tuned", told(found.weights), f"{found.after:.4f}", "{:.4f} to {:.4f}".format(*found.interval)),
        *((f"{strand} alone", "", f"{value:.4f}", "") for strand, value in found.alone.items()),
    ]
    title = f"{found.queries:,} judged queries, before any step"
    console.print_table(scores_table(("", "weights", found.measure, "95 % interval"), rows, title=title))
    console.out.print(
        f"as searches are, with their steps: {trial.before:.4f} as it is ({facts['pipeline']}), "
        f"{trial.after:.4f} tuned ({trial.pipeline}); it gains {trial.after - trial.before:+.4f} "
        "({:+.4f} to {:+.4f})".format(*trial.gain)
    )
    console.out.print("tuned is cross-validated: each query is ranked by weights that others chose")
    if written:
        console.out.print(f"{request.index} keeps {told(found.weights)}; plait tune --reset takes them back")
        if facts["calibrated"]:
            console.note("its calibration was fitted to other weights and tells nothing now; fit it anew: --calibrate")
    elif trial.better:
        console.out.print("nothing was written: --dry-run")
    else:
        console.out.print("nothing was written: searches gain no more than a standard error, which may be luck")


def told(weights: Mapping[str, float]) -> str:
    """Returns weights as `--weights` takes them."""
    return ",".join(f"{strand}={weight:g}" for strand, weight in weights.items())

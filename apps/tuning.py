"""`plait tune`: what an index's own judgements say of its weights, and what it keeps of that."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..eval import EvalError, load_beir, read_qrels
from ..eval.calibrating import KINDS, calibrate
from ..eval.contract import Qrels
from ..eval.diagram import reliability_page
from ..eval.gains import measure_named
from ..eval.judged import Judged, judge
from ..eval.label_free import calibrate_label_free, label_free
from ..eval.ranker import TRAINERS, seen, train
from ..eval.trial import Trial, try_out
from ..eval.tuning import Tuned, tune
from ..retriever import QueryError, Retriever
from ..retriever.choice import Steps
from ..retriever.log import read_log
from ..retriever.pipeline import NONE, pipeline
from . import console, searching
from .render import scores_table

LABEL_FREE = "label-free"
CALIBRATIONS = (*KINDS, LABEL_FREE)


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
    given = [files, request.data is not None, request.log is not None, _unlabelled(request), request.reset]
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
    if request.calibrate is not None and request.calibrate not in CALIBRATIONS:
        raise EvalError(f"no calibration {request.calibrate!r}; there are: {', '.join(CALIBRATIONS)}")
    if request.depth < 1:
        raise QueryError(f"--depth is how many are wanted: a whole number of at least 1, not {request.depth}")
    _check_heard(request)
    for option, path in (("--report", request.report), ("--out", request.out)):
        if path is not None:
            searching.check_no_folder(option, path)
    if request.out is not None and "," in str(request.out):
        raise QueryError(f"{request.out}: a comma ends a step, so that no --pipeline can name it; give another --out")


def _check_heard(request: Request) -> None:
    """Raises an error where an option is given that nothing would hear."""
    judged = "--queries, --data or --log"
    plain = request.reset or request.label_free or request.calibrate is not None
    deaf = [
        ("split", request.data is None, "--data"),
        ("skip_bad", request.reset or _unlabelled(request), judged),
        ("measure", plain, "weights and --ranker"),
        ("depth", plain, "weights and --ranker"),
        ("seed", request.reset, "what is drawn by chance, and --reset draws nothing"),
    ]
    for name, ignored, wanted in deaf:
        if ignored and getattr(request, name) != getattr(Request, name):
            raise QueryError(f"--{name.replace('_', '-')} goes with {wanted}; leave it out")


def _unlabelled(request: Request) -> bool:
    return request.label_free or request.calibrate == LABEL_FREE


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
    _hold(retriever, request)
    queries, qrels, source = _collection(request)
    judged = _judged(retriever, queries, qrels, source, request)
    facts = retriever.info()
    found = tune(judged, measure=request.measure, seed=request.seed)
    trial = try_out(retriever, judged, found, seed=request.seed)
    same = (facts["fusion"], facts["weights"]) == (found.fusion, found.weights)
    written = trial.better and not same and not request.dry_run
    if written:
        about = {"source": found.source, "queries": found.queries, "measure": found.measure}
        record = {**about, **trial.to_json(), "date": now(), "plait": version("plait")}
        retriever.settle(fusion=found.fusion, weights=found.weights, tuned=record)
        retriever.commit()
    if request.as_json:
        told_of = {"had": facts["weights"], "searched": trial.to_json(), "written": written}
        console.print_json({**found.to_json(), **told_of})
        return
    plain_steps = retriever.settings["pipeline"] is None
    _print(found, trial, facts, request, written=written, same=same, plain_steps=plain_steps)


def _hold(retriever: Retriever, request: Request) -> None:
    """Takes the writer's lock where something may be written, so that another writer is met before the work."""
    if not request.dry_run:
        retriever.settle()


def _calibration(retriever: Retriever, request: Request) -> None:
    _hold(retriever, request)
    if request.calibrate == LABEL_FREE:
        found = calibrate_label_free(retriever, seed=request.seed)
    else:
        queries, qrels, source = _collection(request)
        found = calibrate(retriever, queries, qrels, kind=request.calibrate or "", source=source, seed=request.seed)
    written = found.better and not request.dry_run
    if written:
        retriever.settle(calibration=found.calibration.to_json())
        retriever.commit()
    if request.report is not None:
        request.report.parent.mkdir(parents=True, exist_ok=True)
        request.report.write_text(reliability_page(found), encoding="utf-8")
        console.note(f"wrote {request.report}")
    if request.as_json:
        console.print_json({**found.to_json(), "written": written})
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
    if written:
        near = (
            ", where the query comes as near to a document as 19 of 20 of these"
            if found.calibration.floor is not None
            else ""
        )
        console.out.print(
            f"{request.index} keeps it for searches with these settings; hits have a probability now{near}"
        )
    elif found.better:
        console.out.print("nothing was written: --dry-run")
    else:
        console.out.print(
            "nothing was written: the scores say no more of relevance than its mean does, by the Brier score of "
            "queries that had no say"
        )


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
    steps = retriever.steps()
    judged = _judged(retriever, queries, qrels, source, request, look=seen, steps=pipeline(steps))
    found = train(judged, kind=request.ranker or "", measure=request.measure, seed=request.seed)
    written = request.out is not None and not request.dry_run
    if request.out is not None and written:
        request.out.parent.mkdir(parents=True, exist_ok=True)
        held = {**found.ranker.to_json(), "trained": {**found.to_json(), "plait": version("plait"), "date": now()}}
        request.out.write_text(console.json_text(held) + "\n", encoding="utf-8")
        console.note(f"wrote {request.out}")
    if request.as_json:
        console.print_json({**found.to_json(), "written": written})
        return
    console.out.print(
        f"{found.ranker.kind} on {found.queries:,} queries: {found.measure} {found.after:.4f} cross-validated, behind "
        f"the steps of searches ({pipeline(steps).name}), {found.before:.4f} without; gain "
        f"{found.after - found.before:+.4f} " + "({:+.4f} to {:+.4f})".format(*found.gain)
    )
    if not found.better:
        console.out.print("that may be luck: searches are better left as they are")
    elif written:
        console.out.print(f"use it with {_behind(steps, request.out)}")


def _behind(steps: Steps, model: Path | None) -> str:
    """Returns how to search with a ranker behind the steps that searches take now."""
    step = f"rescore:model={model}"
    if not isinstance(steps, str):  # its options may be lists and mappings, which one text cannot hold
        return f"the step {step} behind those that the index keeps"
    return f"--pipeline {shlex.quote(step if steps == NONE else f'{steps},{step}')}"


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


def _print(
    found: Tuned,
    trial: Trial,
    facts: Mapping[str, Any],
    request: Request,
    *,
    written: bool,
    same: bool,
    plain_steps: bool,
) -> None:
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
    if trial.own is not None:
        steps = " and steps" if plain_steps else ", with this index's steps,"
        console.out.print(f"with plait's own weights{steps} searches have {trial.own:.4f}")
    console.out.print("tuned is cross-validated: each query is ranked by weights that others chose")
    strongest = max(found.alone, key=lambda strand: found.alone[strand])
    if found.strand is None and found.alone[strongest] > found.after:
        console.out.print(f"{strongest} alone has more before any step, but not by two standard errors")
    console.out.print(_outcome(trial, facts, request, told(found.weights), written=written, same=same))
    if written and facts["calibrated"]:
        console.note("its calibration was fitted to other weights and tells nothing now; fit it anew: --calibrate")


def _outcome(
    trial: Trial, facts: Mapping[str, Any], request: Request, weights: str, *, written: bool, same: bool
) -> str:
    """Returns what was written, or why nothing was."""
    if written:
        by_hand = facts["weights_from"] == "the index" and facts["tuned"] is None
        lost = f", not to {told(facts['weights'])}, which somebody set" if by_hand else ""
        return f"{request.index} keeps {weights}; plait tune --reset goes back to plait's own weights{lost}"
    if same:
        return "nothing was written: the index has these weights"
    if trial.better:
        return "nothing was written: --dry-run"
    if trial.own is not None and trial.own > max(trial.after, trial.before):
        return "nothing was written: plait's own weights have more; plait tune --reset goes back to them"
    return "nothing was written: searches gain no more than a standard error, which may be luck"


def told(weights: Mapping[str, float]) -> str:
    """Returns weights as `--weights` takes them."""
    return ",".join(f"{strand}={weight:g}" for strand, weight in weights.items())

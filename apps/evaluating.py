"""`plait eval`: index collections if need be, measure systems on them, compare, and print tables or a report."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import eval as measuring
from ..eval.comparing import baseline_among
from ..eval.dataset import sha256
from ..eval.many import check_runs
from ..eval.plans import unique
from ..eval.report import curve, lacking, out_of_reach, overview, per_query, significance, summary
from ..eval.sizes import check_sizes
from ..eval.statistics import SAMPLES
from ..retriever import QueryError, Retriever, read_documents
from ..retriever.search import check_fusion
from ..retriever.sources import check_paths
from ..retriever.strands import NEIGHBOURS, STRANDS, parse_strands
from . import console, corpora
from .render import scores_table, shift_lines
from .searching import batches, check_no_folder

COLLECTION = "{collection}"
DEPTH = 200
SHOWN = 3  # wins, and losses, that --per-query prints of each system


@dataclass(frozen=True)
class Request:
    """What `plait eval` was asked for."""

    data: tuple[str, ...]
    split: str = "test"
    index: Path | None = None
    measures: str | None = None
    runs: tuple[Path, ...] = ()
    save_runs: Path | None = None
    card: Path | None = None
    report: Path | None = None
    per_query: bool = False
    made_with: Mapping[str, Any] = field(default_factory=dict)
    strands: str | None = None
    fusion: str | None = None
    weights: Mapping[str, float] | None = None
    pipeline: str | Sequence[Mapping[str, Any]] | None = None
    depth: int = DEPTH
    systems: tuple[str, ...] = ()
    systems_file: Path | None = None
    defaults: bool = True
    baseline: str | None = None
    latency: int = 0
    sizes: tuple[int, ...] = ()
    distractors: Path | None = None
    seed: int = 0
    samples: int = SAMPLES
    skip_bad: bool = False
    as_json: bool = False

    @property
    def searches(self) -> bool:
        """Whether anything is to be searched; finished runs alone need no index."""
        return not self.runs or bool(self.searching)

    @property
    def searching(self) -> list[str]:
        """The options given that mean a search."""
        options = {
            "--index": self.index, "--save-runs": self.save_runs, "--fusion": self.fusion, "--weights": self.weights,
            "--pipeline": self.pipeline, "--depth": self.depth if self.depth != DEPTH else None,
            "--strands": self.strands, "--dense": self.made_with.get("dense"),
            "--learned": self.made_with.get("learned"), "--language": self.made_with.get("lexical"),
            "--lucene": self.made_with.get("lucene"), "--lucene-impact": self.made_with.get("lucene_impact"),
            "--system": self.systems or None, "--systems": self.systems_file, "--latency": self.latency or None,
            "--sizes": self.sizes or None, "--distractors": self.distractors,
        }  # fmt: skip
        return [name for name, value in options.items() if value is not None]


def evaluate(request: Request) -> None:
    """Measures and prints."""
    _check(request)
    measures = measuring.parse_measures(measuring.DEFAULT_MEASURES if request.measures is None else request.measures)
    named = _named(request)
    datasets = corpora.loaded(request.data, request.split, skip_bad=request.skip_bad)
    names = _run_names(request.runs)
    unique([*(plan.name for plan in named), *names])
    files = [_run_files(request.runs, names, dataset, several=len(datasets) > 1) for dataset in datasets]
    _check_systems(request, datasets, files, named)
    for path in (request.card, request.report):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if request.save_runs is not None:
        request.save_runs.mkdir(parents=True, exist_ok=True)
    with closing(_collections(request, datasets, files, named)) as found:  # whatever happens, its index is closed
        evaluation = measuring.evaluate_many(
            found, measures=measures, baseline=request.baseline, latency=request.latency, sizes=request.sizes,
            seed=request.seed, samples=request.samples, answer=answered,
            on_run=_saver(request.save_runs, several=len(datasets) > 1),
        )  # fmt: skip
    card = evaluation.to_json()
    if request.card is not None:
        request.card.write_text(console.json_text(card, indent=1, default=str) + "\n", encoding="utf-8")
        console.note(f"wrote {request.card}")
    if request.report is not None:
        request.report.write_text(measuring.html_report(evaluation), encoding="utf-8")
        console.note(f"wrote {request.report}")
    if request.as_json:
        console.print_json(card)
    else:
        _print(evaluation, request)


def answered(
    retriever: Retriever, plan: measuring.Plan, queries: Mapping[str, str], k: int
) -> dict[str, Mapping[str, float]]:
    """Returns the run of many queries, with progress where it takes time."""
    found: dict[str, Mapping[str, float]] = {}
    for batch in batches(queries, f"searching, {plan.name}"):
        found.update(plan.run(retriever, batch, k))
    return found


def _check(request: Request) -> None:
    """Raises an error for options that are wrong or would be ignored, before an hour of indexing."""
    if not request.data:
        raise QueryError("name one or more test collections, as: plait eval beir/scifact")
    strands = STRANDS if request.strands is None else parse_strands(request.strands)
    check_fusion(request.fusion or "convex", request.weights, strands)
    if request.depth < 1:
        raise QueryError(f"--depth is how many are wanted: a whole number of at least 1, not {request.depth}")
    if request.latency < 0:
        raise QueryError(f"--latency is how many queries are timed: a whole number, not {request.latency}")
    if not request.defaults and request.searches and not (request.systems or request.systems_file):
        raise QueryError("--no-defaults leaves nothing to measure; name a system with --system or --systems")
    if not request.defaults and (ours := _of_ours(request)):
        raise QueryError(f"{', '.join(ours)}: of our systems, which --no-defaults leaves out; say it of a --system")
    for option, path in (("--card", request.card), ("--report", request.report)):
        if path is not None:
            check_no_folder(option, path)
    if request.save_runs is not None and request.save_runs.exists() and not request.save_runs.is_dir():
        raise QueryError(f"{request.save_runs} is a file; --save-runs takes the folder to write into")
    if request.distractors is not None:
        check_paths(request.distractors)
        if not Path(request.distractors).is_file():
            raise QueryError(f"{request.distractors} is no file; --distractors takes one file of documents")
        read_documents(request.distractors)  # refuses a kind of file that nothing reads; no document is asked for yet


def _of_ours(request: Request) -> list[str]:
    """Returns the options given that say how the strands alone and their fusion are searched."""
    options = {
        "--fusion": request.fusion, "--weights": request.weights, "--pipeline": request.pipeline,
        "--depth": request.depth if request.depth != DEPTH else None,
    }  # fmt: skip
    return [name for name, value in options.items() if value is not None]


def _check_systems(
    request: Request,
    datasets: Sequence[measuring.Dataset],
    files: Sequence[Mapping[str, Path]],
    named: Sequence[measuring.Plan],
) -> None:
    """Raises an error for runs, systems, a baseline or sizes that a collection cannot have, before any is indexed."""
    for dataset, paths in zip(datasets, files, strict=True):
        check_runs({name: measuring.read_run(path) for name, path in paths.items()}, dataset)
        wanted = _wanted(request, dataset, named, several=len(datasets) > 1)
        if request.strands and not request.defaults and corpora.is_there(wanted.place):
            raise QueryError(
                f"{wanted.place} has its strands, and --no-defaults leaves out our systems: --strands would do "
                "nothing; say it of a --system"
            )
        plans = _plans(request, named, corpora.strands_of(wanted)) if request.searches else []
        names = [*(plan.name for plan in plans), *paths]
        unique(names)
        baseline_among(names, request.baseline)
        if request.sizes:
            check_sizes(request.sizes, corpora.ids_of(wanted), dataset.qrels)


def _named(request: Request) -> list[measuring.Plan]:
    """Returns the systems that the request names, those of the file first."""
    named = [] if request.systems_file is None else list(measuring.read_plans(request.systems_file))
    return [*named, *map(measuring.parse_plan, request.systems)]


def _plans(
    request: Request, named: Sequence[measuring.Plan], available: Sequence[str]
) -> list[measuring.Plan]:  # fmt: skip
    """Returns the systems to search with an index that has these strands."""
    if not request.defaults:
        return list(named)
    strands = available if request.strands is None else parse_strands(request.strands, available)
    chosen = {"fusion": request.fusion, "weights": request.weights, "pipeline": request.pipeline}
    fused = {name: value for name, value in chosen.items() if value is not None} | {"depth": request.depth}
    return [*measuring.default_plans(strands, alone={"depth": request.depth}, fused=fused), *named]


def _collections(
    request: Request,
    datasets: Sequence[measuring.Dataset],
    files: Sequence[Mapping[str, Path]],
    named: Sequence[measuring.Plan],
) -> Generator[measuring.Collection, None, None]:
    """Yields one collection after the other, its index open until the next is asked for."""
    for dataset, paths in zip(datasets, files, strict=True):
        runs = {name: measuring.read_run(path) for name, path in paths.items()}
        about = {name: {"name": path.name, "sha256": sha256(path)} for name, path in paths.items()}
        if not request.searches:
            yield measuring.Collection(dataset, runs=runs, files=about)
            continue
        wanted = _wanted(request, dataset, named, several=len(datasets) > 1)
        with corpora.opened(wanted) as (retriever, settings):
            plans = _plans(request, named, retriever.strands)
            yield measuring.Collection(dataset, retriever, plans, runs, about, settings)


def _wanted(
    request: Request, dataset: measuring.Dataset, named: Sequence[measuring.Plan], *, several: bool
) -> corpora.Wanted:
    """Returns the index of a collection that the request means."""
    return corpora.Wanted(
        corpora.place_of(request.index, dataset, several=several), dataset,
        _made_with(request, dataset, several=several), skip_bad=request.skip_bad, distractors=request.distractors,
        plans=lambda strands: _plans(request, named, strands),
    )  # fmt: skip


def _made_with(request: Request, dataset: measuring.Dataset, *, several: bool) -> dict[str, Any]:
    """Returns what makes or opens a collection's index: each collection has a Lucene index of its own."""
    made = dict(request.made_with)
    for name in NEIGHBOURS:
        key = name.replace("-", "_")
        if (given := made.get(key)) is None:
            continue
        if several and COLLECTION not in given:
            raise QueryError(f"with several collections each has a Lucene index: --{name} 'indexes/{COLLECTION}'")
        made[key] = given.replace(COLLECTION, corpora.folder_name(dataset.name))
    return made


def run_file(path: Path, collection: str) -> Path:
    """Returns a run file of a collection, {collection} in its path replaced.

    Raises:
        QueryError: it is not there, or no file.
    """
    found = named_of(path, collection)
    if found.is_dir():
        raise QueryError(f"{found} is a folder; --run takes the file of a run, once for each")
    if not found.is_file():
        raise QueryError(f"{found}: there is no such file; check the path")
    return found


def named_of(path: str | Path, collection: str) -> Path:
    """Returns a path with {collection} replaced."""
    return Path(str(path).replace(COLLECTION, corpora.folder_name(collection)))


def _run_names(runs: tuple[Path, ...]) -> list[str]:
    """Returns what to call run files: by their names, or by their paths where two have one name."""
    names = [path.name for path in runs]
    return names if len(set(names)) == len(names) else [str(path) for path in runs]


def _run_files(
    runs: Sequence[Path], names: Sequence[str], dataset: measuring.Dataset, *, several: bool
) -> dict[str, Path]:
    """Returns the run files of a collection by name; they are read when its turn comes, and must be there now."""
    found = {}
    for name, path in zip(names, runs, strict=True):
        if several and COLLECTION not in str(path):
            raise QueryError(f"with several collections a run has a file for each: --run 'runs/{COLLECTION}/bm25.run'")
        found[name] = run_file(path, dataset.name)
    return found


def _saver(folder: Path | None, *, several: bool) -> Any:
    if folder is None:
        return None

    def save(collection: str, name: str, run: measuring.Run) -> None:
        place = folder / corpora.folder_name(collection) if several else folder
        place.mkdir(parents=True, exist_ok=True)
        measuring.write_run(run, place / f"{name}.run", tag="-".join(["plait", *name.split()]))

    return save


def _print(evaluation: measuring.Evaluation, request: Request) -> None:
    for report in evaluation.reports:
        about = report.dataset
        size = f", index {report.index['bytes'] / 1e6:,.1f} MB" if "bytes" in report.index else ""
        title = f"{about['name']} {about['split']}, {about['queries']} queries{size}"
        console.print_table(scores_table(*summary(report), title=title))
        for sentence in lacking(report):
            console.note(sentence)
        if request.per_query:
            for measure in report.measures:
                console.print_table(scores_table(*per_query(report, measure), title=measure))
            for line in shift_lines(evaluation.shifts[report.name], evaluation.baseline, report.measures[0], SHOWN):
                console.out.print(line, soft_wrap=True)
        if report.name in evaluation.curves:
            found = evaluation.curves[report.name]
            console.out.print(f"{evaluation.measures[0]} by corpus size; {found.judged:,} judged documents are in each")
            console.print_table(scores_table(*curve(evaluation, report.name)))
    if len(evaluation.reports) > 1:
        console.print_table(scores_table(*overview(evaluation), title=f"{evaluation.measures[0]} by collection"))
    if evaluation.compared.comparisons:
        title = f"{evaluation.measures[0]} against {evaluation.baseline}"
        console.print_table(scores_table(*significance(evaluation, evaluation.measures[0]), title=title))
        if (caution := out_of_reach(evaluation.compared)) is not None:
            console.note(caution)

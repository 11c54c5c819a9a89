"""`plait reproduce`: measure again what a run card holds, and say what differs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import eval as measuring
from ..eval.card import plans_of
from ..eval.dataset import sha256
from ..eval.loading import IR_DATASETS, load_dataset
from ..retriever import Retriever
from ..retriever.strands import NEIGHBOURS
from . import console, corpora
from .evaluating import answered, named_of, run_file
from .render import scores_table

FACTS = 20  # differing facts that are shown
SAMPLES = 100  # intervals are made and not looked at


@dataclass(frozen=True)
class Request:
    """What `plait reproduce` was asked for."""

    card: Path
    data: tuple[str, ...] = ()
    index: Path | None = None
    runs: tuple[Path, ...] = ()
    distractors: Path | None = None
    tolerance: float = 0.0
    other_data: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    as_json: bool = False


def reproduce(request: Request) -> bool:
    """Measures, prints, and returns whether every value is within the tolerance."""
    card = measuring.read_card(request.card)
    measuring.compare_cards(card, card, tolerance=request.tolerance)  # a bad tolerance is told now
    datasets = [_dataset(request, part, several=len(card["collections"]) > 1) for part in card["collections"]]
    files = _run_files(request, card["collections"])
    contradictions = measuring.contradictions(
        card, tolerance=request.tolerance, queries=_queries(datasets, card["collections"])
    )
    parts = _without_runs(card["collections"], files)
    before = {**card, "collections": parts}
    with closing(_collections(request, parts, datasets, files)) as collections:
        evaluation = measuring.evaluate_many(
            collections, measures=before["measures"], costs=False, samples=SAMPLES, answer=answered
        )
    found = measuring.compare_cards(before, evaluation.to_json(), tolerance=request.tolerance)
    found = replace(found, contradictions=contradictions)
    if request.as_json:
        console.print_json(found.to_json())
    else:
        _print(found)
    return found.succeeded


def _dataset(request: Request, part: Mapping[str, Any], *, several: bool) -> measuring.Dataset:
    """Returns a collection of the card, where the request says it is.

    Raises:
        EvalError: it is not there, or holds other files than those measured.
    """
    about = part["dataset"]
    dataset = load_dataset(
        _place(request, about["name"], several=several), about["split"], skip_bad=bool(part["settings"].get("skip_bad"))
    )
    changed = [name for name, digest in about["sha256"].items() if dataset.checksums.get(name) != digest]
    if changed and not request.other_data:
        files = ", ".join(str(dataset.files.get(name, name)) for name in changed)
        raise measuring.EvalError(
            f"{about['name']}: not the data that the card is of: another checksum of {files}; give the same files, or "
            "--other-data to compare all the same"
        )
    if dataset.name == about["name"]:
        return dataset
    return replace(dataset, name=about["name"])  # its folder is called otherwise here


def _queries(datasets: Sequence[measuring.Dataset], parts: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns the queries of collections whose judgements are those of the card, in their order."""
    return {
        dataset.name: list(dataset.qrels)
        for dataset, part in zip(datasets, parts, strict=True)
        if dataset.checksums.get("qrels") == part["dataset"]["sha256"].get("qrels")
    }


def _place(request: Request, name: str, *, several: bool) -> str:
    if name.startswith(IR_DATASETS):
        return name
    places = [Path(given) / name for given in request.data] + [Path(given) for given in request.data]
    for place in places:
        if place.is_dir() and (place.resolve().name == name or (not several and len(request.data) == 1)):
            return str(place)
    raise measuring.EvalError(
        f"the card is of the collection {name!r}; name its folder, or the one that holds it, with --data"
    )


def _run_files(request: Request, parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Path]]:
    """Returns the files that were given of each collection's finished runs, by the systems' names.

    A file is the one whose SHA-256 the card has; else the one that the system is named after, which is a path where two
    have one name; else one that is called so. Each is taken once: of equal files each is one system's.
    """
    given = [[run_file(path, part["dataset"]["name"]) for path in request.runs] for part in parts]
    digests = {path: sha256(path) for paths in given for path in paths}
    wanted = [(at, s["name"], s["file"]) for at, part in enumerate(parts) for s in part["systems"] if "file" in s]
    found: list[dict[str, Path]] = [{} for _ in parts]
    used: set[Path] = set()
    ways: tuple[Callable[[Path, Path, Mapping[str, str]], bool], ...] = (
        lambda path, name, file: digests[path] == file["sha256"] and _ends(path, name),
        lambda path, _name, file: digests[path] == file["sha256"],
        lambda path, name, _file: _ends(path, name),
        lambda path, _name, file: path.name == file["name"],
    )
    for fits in ways:
        for at, system, file in wanted:
            if system in found[at]:
                continue
            name = named_of(system, parts[at]["dataset"]["name"])
            path = next((path for path in given[at] if path not in used and fits(path, name, file)), None)
            if path is not None:
                found[at][system] = path
                used.add(path)
    for path in digests:
        if path not in used:
            console.note(f"{path} is none of the card's finished runs, by its SHA-256 or name; it is not measured")
    return found


def _ends(path: Path, name: Path) -> bool:
    """Returns whether a path is another, or ends with it."""
    return path.parts[-len(name.parts) :] == name.parts


def _without_runs(parts: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Path]]) -> list[dict[str, Any]]:
    """Returns the card's parts without finished runs that were not given: there is nothing to measure them from.

    Raises:
        EvalError: no system is left that was measured on all collections.
    """
    lacking = [
        [s["name"] for s in part["systems"] if "file" in s and s["name"] not in paths]
        for part, paths in zip(parts, files, strict=True)
    ]
    kept = [
        {**part, "systems": [s for s in part["systems"] if s["name"] not in names]}
        for part, names in zip(parts, lacking, strict=True)
    ]
    if any(lacking) and not set.intersection(*({s["name"] for s in part["systems"]} for part in kept)):
        asked = "; ".join(
            f"{part['dataset']['name']}: {', '.join(names)}"
            for part, names in zip(parts, lacking, strict=True)
            if names
        )
        raise measuring.EvalError(
            f"no system of the card can be measured{' on all its collections' if len(parts) > 1 else ''} without its "
            f"finished runs; give their files with --run, of {asked}"
        )
    for part, names in zip(parts, lacking, strict=True):
        of = f" of {part['dataset']['name']}" if len(parts) > 1 else ""
        for name in names:
            console.note(f"{name} is a finished run{of}; give its file with --run to measure it, too")
    return kept


def _collections(
    request: Request,
    parts: Sequence[Mapping[str, Any]],
    datasets: Sequence[measuring.Dataset],
    files: Sequence[Mapping[str, Path]],
) -> Generator[measuring.Collection, None, None]:
    for part, dataset, paths in zip(parts, datasets, files, strict=True):
        plans = plans_of(part)
        runs = {name: measuring.read_run(path) for name, path in paths.items()}
        about = {name: {"name": path.name, "sha256": sha256(path)} for name, path in paths.items()}
        if not plans:
            yield measuring.Collection(dataset, runs=runs, files=about)
            continue
        distractors = _distractors(request, part)
        wanted = corpora.Wanted(
            corpora.place_of(request.index, dataset, several=len(parts) > 1), dataset, _made_with(request, part),
            skip_bad=bool(part["settings"].get("skip_bad")), distractors=distractors, plans=lambda _: (),
        )  # fmt: skip
        with corpora.opened(wanted) as (retriever, settings):
            yield measuring.Collection(dataset, retriever, plans, runs, about, settings)


def _made_with(request: Request, part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `Retriever.create` that make the index that the card is of."""
    settings, known = part["settings"], inspect.signature(Retriever.create).parameters
    made = {name: value for name, value in settings.items() if name in known and value is not None}
    given = {**settings.get("bm25", {}), **settings.get("sources", {})}
    others = {name: value for name, value in given.items() if name in known and value is not None}
    others = {name: value for name, value in others.items() if name not in NEIGHBOURS}  # a card holds no paths
    models = {name: value for name, value in request.models.items() if name.replace("_", "-") in part["encoders"]}
    return {"strands": list(part["encoders"]), **made, **others, **models}


def _distractors(request: Request, part: Mapping[str, Any]) -> Path | None:
    """Returns the file of distractors.

    Raises:
        EvalError: the card names one and it was not given, or is another.
    """
    named = part["settings"].get("distractors")
    if named is None:
        return None
    if request.distractors is None:
        raise measuring.EvalError(f"the card is of a corpus with distractors from {named['name']}; give --distractors")
    if sha256(request.distractors) != named["sha256"] and not request.other_data:
        raise measuring.EvalError(f"{request.distractors}: another checksum than the card's {named['name']}")
    return request.distractors


def _print(found: measuring.Reproduction) -> None:
    rows = (
        (each.measure, f"{each.difference:.6f}", f"{each.before:.6f}", f"{each.after:.6f}",
         f"{each.collection}: {each.system}, query {each.query}" if each.difference else "")
        for each in found.largest
    )  # fmt: skip
    columns = ("measure", "largest difference", "card", "now", "where")
    console.print_table(scores_table(columns, rows, title="largest differences"))
    for fact in found.facts[:FACTS]:
        console.out.print(f"{fact.name}: {_told(fact.before)} then, {_told(fact.after)} now", soft_wrap=True)
    if len(found.facts) > FACTS:
        console.out.print(f"... and {len(found.facts) - FACTS} more facts")
    for each in found.contradictions[:FACTS]:
        told = f"{_told(each.before)} in the card, and its own values give {_told(each.after)}"
        console.out.print(f"{each.name}: {told}", soft_wrap=True)
    if len(found.contradictions) > FACTS:
        console.out.print(f"... and {len(found.contradictions) - FACTS} more that its values do not give")
    if found.lacking:
        console.out.print(f"{found.lacking:,} values were measured only once")
    verdict = "reproduced" if found.succeeded else "NOT reproduced"
    allowed = f"tolerance {found.tolerance:g}" if found.tolerance else "four decimals"
    console.out.print(
        f"{verdict}: of {found.values:,} values {found.equal:,} are equal and {found.within:,} within {allowed}"
    )


def _told(value: object) -> str:
    return "unknown" if value is None else str(value)

"""`plait reproduce`: measure again what a run card holds, and say what differs."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import eval as measuring
from ..eval.card import plans_of
from ..eval.dataset import sha256
from ..eval.loading import IR_DATASETS, load_dataset
from ..retriever import Retriever
from ..retriever.strands import NEIGHBOURS
from . import console, corpora
from .evaluating import answered
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
    before = measuring.read_card(request.card)
    measuring.compare_cards(before, before, tolerance=request.tolerance)  # a bad tolerance is told now
    datasets = [_dataset(request, part, several=len(before["collections"]) > 1) for part in before["collections"]]
    parts = [_without_runs(part, request) for part in before["collections"]]
    before = {**before, "collections": parts}
    with closing(_collections(request, parts, datasets)) as collections:
        evaluation = measuring.evaluate_many(
            collections, measures=before["measures"], costs=False, samples=SAMPLES, answer=answered
        )
    found = measuring.compare_cards(before, evaluation.to_json(), tolerance=request.tolerance)
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
    return dataset


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


def _without_runs(part: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Returns a part of the card without finished runs that were not given: there is nothing to measure them from."""
    given = {path.name for path in request.runs}
    kept = []
    for system in part["systems"]:
        if system.get("file") and system["file"].get("name") not in given:
            console.note(f"{system['name']} is a finished run; give its file with --run to measure it, too")
        else:
            kept.append(system)
    return {**part, "systems": kept}


def _collections(
    request: Request, parts: list[dict[str, Any]], datasets: list[measuring.Dataset]
) -> Generator[measuring.Collection, None, None]:
    for part, dataset in zip(parts, datasets, strict=True):
        plans = plans_of(part)
        runs, files = _runs(request, part)
        if not plans:
            yield measuring.Collection(dataset, runs=runs, files=files)
            continue
        distractors = _distractors(request, part)
        wanted = corpora.Wanted(
            corpora.place_of(request.index, dataset, several=len(parts) > 1), dataset, _made_with(request, part),
            skip_bad=bool(part["settings"].get("skip_bad")), distractors=distractors, plans=lambda _: (),
        )  # fmt: skip
        with corpora.opened(wanted) as (retriever, settings):
            yield measuring.Collection(dataset, retriever, plans, runs, files, settings)


def _runs(request: Request, part: Mapping[str, Any]) -> tuple[dict[str, measuring.Run], dict[str, dict[str, str]]]:
    paths = {path.name: path for path in request.runs}
    named = {s["name"]: paths[s["file"]["name"]] for s in part["systems"] if s.get("file")}
    return {name: measuring.read_run(path) for name, path in named.items()}, {
        name: {"name": path.name, "sha256": sha256(path)} for name, path in named.items()
    }


def _made_with(request: Request, part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `Retriever.create` that make the index that the card is of."""
    settings, known = part["settings"], inspect.signature(Retriever.create).parameters
    made = {name: value for name, value in settings.items() if name in known and value is not None}
    sources = {name: source for name, source in settings.get("sources", {}).items() if source is not None}
    sources = {name: source for name, source in sources.items() if name not in NEIGHBOURS}  # a card holds no paths
    models = {name: value for name, value in request.models.items() if name.replace("_", "-") in part["encoders"]}
    return {"strands": list(part["encoders"]), **made, **settings.get("bm25", {}), **sources, **models}


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
    if found.lacking:
        console.out.print(f"{found.lacking:,} values were measured only once")
    verdict = "reproduced" if found.succeeded else "NOT reproduced"
    allowed = f"tolerance {found.tolerance:g}" if found.tolerance else "four decimals"
    console.out.print(
        f"{verdict}: of {found.values:,} values {found.equal:,} are equal and {found.within:,} within {allowed}"
    )


def _told(value: object) -> str:
    return "unknown" if value is None else str(value)

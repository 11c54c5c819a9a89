"""`plait search --hierarchy` and `--group`: the step `parents` among the others, and hits under their parents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from ..retriever import Answer, QueryError, Retriever, grouped
from ..retriever.hierarchy import hierarchical
from . import console
from .render import hit_text


def with_parents(retriever: Retriever, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a search with the step `parents` in the pipeline that would act without it."""
    steps = options["pipeline"]
    if steps is None:
        steps = retriever.steps(options["strands"], fusion=options["fusion"], weights=options["weights"])
    return {**options, "pipeline": hierarchical(steps)}


def check_group(*, group: bool, many: bool, prove: bool) -> None:
    """Raises an error where there is not one list of hits to group, or where an option would be ignored."""
    if group and many:
        raise QueryError("--group is for one query: a run is a list of documents; leave --group or --queries out")
    if group and prove:
        raise QueryError("--group shows no proof; leave --group or --prove out")


def print_groups(answer: Answer, *, as_json: bool) -> None:
    """Prints hits under their parents, the parent with the best hit first."""
    groups = grouped(answer)
    if as_json:
        told = [
            {"parent": group.parent, "score": group.score, "hits": [hit.to_json() for hit in group.hits]}
            for group in groups
        ]
        console.print_json({"query": answer.query, "groups": told})
        return
    if not groups:
        console.out.print("nothing found")
    for group in groups:
        score = "" if group.score is None else f"  {group.score:.3f}"
        whole = all(hit.parent is None for hit in group.hits)
        count = "" if whole else f"  {console.counted(len(group.hits), 'passage')}"
        console.out.print(Text.assemble((console.visible(group.parent), "bold"), (score, "cyan"), (count, "dim")))
        for hit in group.hits:
            console.out.print(hit_text(hit, console.out.width), soft_wrap=True)

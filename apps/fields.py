"""`plait fields`: which metadata filters may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from ..index import Snapshot, Writer
from ..retriever import QueryError
from . import console
from .options import parsed_fields


def fields(index: Path, *, add: Sequence[str] | None, drop: Sequence[str] | None, as_json: bool) -> None:
    """Drops and declares fields, all or none of them, without the index's encoders; prints those there are then."""
    wanted = parsed_fields(add, option="--add") or {}
    if drop or wanted:
        with closing(Writer(index)) as writer:
            for name in drop or ():
                writer.undeclare(name)
            for name, type in wanted.items():
                writer.declare(name, type)
            writer.commit()
    with closing(Snapshot(index)) as snapshot:
        declared = {field.name: field.type for field in snapshot.fields}
    if as_json:
        console.print_json({"index": str(index), "fields": declared})
        return
    for name, type in declared.items():
        console.out.print(console.visible(f"{name}:{type}"), soft_wrap=True)
    if not declared:
        message = f"{index} declares no fields; add one with: plait fields {index} --add year:integer"
        console.out.print(message, soft_wrap=True)


def check_declared(out: Path, asked: Mapping[str, str], declared: Mapping[str, str]) -> None:
    """Raises an error where fields were asked for that an index, made earlier, does not declare so."""
    for name, type in asked.items():
        if name not in declared:
            raise QueryError(
                f"{out} was made without the field {name!r}; declare it with: plait fields {out} --add {name}:{type}"
            )
        if declared[name] != type:
            raise QueryError(
                f"{out} declares {name!r} as {declared[name]}, not {type}; leave --field {name}:{type} out"
            )

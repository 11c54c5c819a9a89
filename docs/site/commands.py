"""The page of commands: `plait --help` and every command's, as typer tells them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from generated import READ_TOGETHER, directive, plain, title
from plait.apps.cli import app as command_line


def commands() -> dict[str, Any]:
    """Returns the commands by name, in the order of the help."""
    group: Any = typer.main.get_command(command_line)
    return dict(group.commands)


def pages() -> Iterator[str]:
    """Yields the page: a section for each command."""
    for name, command in commands().items():
        yield from section(name, command)


def section(name: str, command: Any) -> Iterator[str]:
    """Yields a command's section: what it does, how it is called, its arguments and options."""
    context = command.make_context(name, [], resilient_parsing=True)
    context.info_name = f"plait {name}"
    yield from title(f"plait {name}", "-")
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        yield from (plain(paragraph), "")
    yield from ("::", "", f"   {' '.join(command.get_usage(context).removeprefix('Usage: ').split())}", "")
    yield from (f".. program:: plait {name}", "")
    for parameter in command.params:
        yield from _option(parameter, context)


def _option(parameter: Any, context: Any) -> Iterator[str]:
    record = parameter.get_help_record(context)
    if record is None:  # it is hidden
        return
    # An option that can be said in two ways (-o, --out) is one entry; a switch and its opposite (--a / --b) too.
    named, told = record
    yield from (f".. option:: {' '.join(named.split()).replace(' / ', ', ')}", "", f"   {plain(told)}", "")


def setup(app: Any) -> dict[str, bool]:
    """Adds the directive `plait-commands`."""
    app.add_directive("plait-commands", directive(pages))
    return READ_TOGETHER

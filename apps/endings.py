"""How a command ends: a user's mistake in one line on stderr, Ctrl-C with 130, a closed pipe in silence."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from ..retriever import PlaitError
from . import console


class Commands(TyperGroup):
    """Runs a command; what goes wrong through no fault of plait's ends without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Returns what the command returned.

        Raises:
            typer.Exit: with code 1 after a user's mistake, 130 after Ctrl-C.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            console.note("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            if (message := _told(error)) is None:
                raise
            console.note(f"error: {message}")
            raise typer.Exit(1) from None
        return result


def utf8_output() -> None:
    """Makes output that no person sees UTF-8, as JSON and TREC files are; nothing fails for want of a character."""
    if sys.stdout is None:  # closed: nobody wants to hear
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in filter(None, (sys.stdout, sys.stderr)):
        encoding = None if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace")  # type: ignore[attr-defined]


def _told(error: Exception) -> str | None:
    """Returns what to tell of an error, or None where it is a bug and deserves its traceback."""
    from ..eval.contract import EvalError
    from ..train.errors import TrainError

    if isinstance(error, (*PlaitError, EvalError, TrainError)):
        return str(error)
    if isinstance(error, OSError):  # a full disk, a folder that may not be written
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    if getattr(error, "option_name", None) and not getattr(error, "possibilities", True):
        error.message += " (put -- before an argument that begins with a dash)"  # type: ignore[attr-defined]
    return None


def _discard_output() -> None:
    """Sends what is still to be written nowhere: whoever read it has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

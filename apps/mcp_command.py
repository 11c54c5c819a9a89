"""`plait mcp`: an index as tools for language models, by the Model Context Protocol."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ..encoders.extras import require
from ..retriever import QueryError, Retriever
from . import console
from .options import IndexArgument, LuceneImpactOption, LuceneOption, MovedDense, MovedLearned
from .searching import query_log, warm

HOST = "127.0.0.1"  # there the SDK refuses other names of the host too


def mcp_command(
    index: IndexArgument,
    http: Annotated[
        int | None,
        typer.Option("--http", min=1, max=65535, help="Serve http://127.0.0.1:PORT/mcp instead of standard input."),
    ] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Append every query and its hits to this file.")] = None,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
) -> None:
    """Offer an index to language models, as an MCP server.

    It has the tools search and fetch, and speaks on standard input and output. It reads only, and follows new
    commits. With --http it speaks streamable HTTP, to this machine alone.
    """
    require("mcp.server.mcpserver", "serving MCP", "mcp")
    if http is not None:
        _check_free(http)
    elif sys.stdin is None:
        raise QueryError(
            "standard input is closed, through which MCP clients speak; start it from a client, or use --http PORT"
        )
    from .mcp_server import make_server

    models = {"dense": dense, "learned": learned, "lucene": lucene, "lucene_impact": lucene_impact}
    kept = query_log(log, many=False, as_json=False)
    with closing(Retriever.open(index, **models, log=kept)) as retriever:  # type: ignore[arg-type]
        warm(retriever)
        server = make_server(retriever)
        if http is None:
            server.run()
        else:
            console.note(f"serving {index} at http://{HOST}:{http}/mcp")
            server.run("streamable-http", host=HOST, port=http)


def _check_free(port: int) -> None:
    """Raises an OSError where nothing can listen on the port, before a model is loaded; the SDK would end mid-way."""
    with socket.socket() as tried:
        if os.name == "posix":  # elsewhere it would hide that another server has the port
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            told = f"cannot listen on {HOST}, port {port}: {error.strerror or error}; choose another --http"
            raise OSError(told) from None

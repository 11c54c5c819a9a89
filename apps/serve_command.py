"""`plait serve`: an index over HTTP, with a page to search it."""

from __future__ import annotations

import gc
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from ..encoders.extras import require
from ..retriever import QueryLog, Retriever
from . import console
from .options import IndexArgument, LuceneImpactOption, LuceneOption, MovedDense, MovedLearned
from .searching import warm


def serve_command(
    index: IndexArgument,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 lets the system choose.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="PLAIT_TOKEN", help="What clients show to write; better in the environment."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another name of this server, as behind a proxy; once for each."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Searches at the same time; one for each processor.")
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Requests that may wait; more are answered 429.")] = 64,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that a request may wait.")] = 10.0,
    max_body: Annotated[int, typer.Option("--max-body", min=1024, help="The largest request, in bytes.")] = 8 << 20,
    reload: Annotated[
        float, typer.Option("--reload", min=0.05, help="Seconds between two looks for commits of other processes.")
    ] = 1.0,
    log: Annotated[Path | None, typer.Option("--log", help="Append queries and their hits to this file.")] = None,
    access_log: Annotated[
        str | None, typer.Option("--access-log", help="Append a line of JSON for each request; - is standard error.")
    ] = None,
    dense: MovedDense = None,
    learned: MovedLearned = None,
    lucene: LuceneOption = None,
    lucene_impact: LuceneImpactOption = None,
) -> None:
    """Serve an index over HTTP: a page, an API in JSON, metrics.

    Only this machine reaches it unless --host says otherwise; clients write with the token alone. SIGTERM and Ctrl-C
    end it when what runs is answered and what was accepted is written.
    """
    for module in ("uvicorn", "starlette", "httptools", "orjson"):
        require(module, "serving", "serve")
    from ..encoders.onnx_runtime import available_cores
    from .server.settings import Settings, checked

    settings = checked(
        Settings(
            host=host, port=port, token=token, hosts=tuple(name.lower() for name in allow_host or ()),
            threads=threads or available_cores(), queue=queue, seconds=timeout, body=max_body, reload=reload,
        )
    )  # fmt: skip
    kept = None if log is None else QueryLog(log, on_failure=console.note)
    models: dict[str, Any] = {
        "dense": dense, "learned": learned, "lucene": lucene, "lucene_impact": lucene_impact,
    }  # fmt: skip
    _serve(index, settings, access_log, {**models, "log": kept})


def _serve(index: Path, settings: Any, access_log: str | None, options: dict[str, Any]) -> None:
    from .server.engine import Engine
    from .server.journal import Journal
    from .server.running import address, listening, run

    # It listens before the models are loaded: a port that is taken shows at once.
    with closing(Journal(access_log)) as journal, listening(settings) as bound:
        retriever = Retriever.open(index, **options)
        try:
            warm(retriever)
            engine = Engine(retriever, settings, journal)
            gc.collect()
            gc.freeze()  # what lives as long as the server is not looked through again in the midst of a search
        except BaseException:
            retriever.close()
            raise
        reading = "" if settings.writable else "; it only reads: set PLAIT_TOKEN to let clients write"
        told = f"{index} is served at {address(bound)}{reading}"
        run(engine, bound, ready=lambda: console.note(told))

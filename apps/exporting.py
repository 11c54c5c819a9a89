"""`plait export`: a checkpoint in, a folder out that runs without torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import console
from .options import JsonFlag


def export_command(
    model: Annotated[
        str, typer.Argument(help="A folder or a hub name, with options behind it: NAME:family=splade:max_length=256.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    strand: Annotated[str, typer.Option("--strand", help="learned, dense, or joint for both in one pass.")],
    precision: Annotated[str, typer.Option("--precision", help="int8 or fp32.")] = "int8",
    as_json: JsonFlag = False,
) -> None:
    """Write a checkpoint as an ONNX model that runs without torch.

    BERT and DistilBERT need the extra "export"; other models are exported by torch, from the extra "torch".
    """
    from ..encoders.export import export_model

    started = time.perf_counter()
    manifest = export_model(model, out, strand=strand, precision=precision)
    facts: dict[str, Any] = {
        "model": str(out), "name": manifest.name, "head": manifest.head, "precision": manifest.precision,
        "dim": manifest.dim, "max_length": manifest.max_length,
        "megabytes": round(sum(path.stat().st_size for path in out.iterdir()) / 1e6, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    if as_json:
        console.print_json(facts)
        return
    console.out.print(
        f"{out}: {manifest.head}, {manifest.precision}, {facts['megabytes']} MB, {facts['seconds']} s", soft_wrap=True
    )
    strands = ("learned", "dense") if manifest.head == "joint" else (manifest.head,)
    console.note("use it with " + " ".join(f"--{name} {out}" for name in strands))

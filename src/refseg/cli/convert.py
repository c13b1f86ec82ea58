"""`refseg convert`: published checkpoints to model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from refseg.cli.options import JsonOption


def convert(
    method: Annotated[str, typer.Argument(help="lavt or lgformer.")],
    checkpoint: Annotated[Path, typer.Argument(help="Published checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new model.")],
    encoders: Annotated[
        Path | None, typer.Option(help="Folder that holds bert-base-uncased with its tokenizer; else the hub is asked.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a published CHECKPOINT of METHOD into a model folder; nothing in the file is executed."""
    if method not in ("lavt", "lgformer"):
        raise ValueError(f"method {method!r}: there is no converter; lavt and lgformer are accepted")
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such file; a published .pth checkpoint is accepted")
    from refseg.weights.convert.lavt import convert_lavt
    from refseg.weights.convert.lgformer import convert_lgformer

    found = (convert_lavt if method == "lavt" else convert_lgformer)(checkpoint, out, encoders)
    if as_json:
        typer.echo(json.dumps(found | {"model": str(out)}))
        return
    typer.echo(f"{found['parameters'] / 1e6:.1f} M parameters, depths {found['depths']} -> {out}")

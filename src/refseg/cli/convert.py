"""`refseg convert`: published checkpoints to model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from refseg.cli.options import JsonOption, OverwriteOption


def convert(
    method: Annotated[str, typer.Argument(help="lavt or lgformer.")],
    checkpoint: Annotated[Path, typer.Argument(help="Published checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new model.")],
    encoders: Annotated[
        Path | None, typer.Option(help="Folder that holds bert-base-uncased with its tokenizer; else the hub is asked.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a published CHECKPOINT of METHOD into a model folder; nothing in the file is executed."""
    if method not in ("lavt", "lgformer"):
        raise ValueError(f"method {method!r}: there is no converter; lavt and lgformer are accepted")
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such file; a published .pth checkpoint is accepted")
    if not overwrite:
        _refuse_others(out)
    from refseg.weights.convert.lavt import convert_lavt
    from refseg.weights.convert.lgformer import convert_lgformer

    found = (convert_lavt if method == "lavt" else convert_lgformer)(checkpoint, out, encoders)
    if as_json:
        typer.echo(json.dumps(found | {"model": str(out)}))
        return
    typer.echo(f"{found['parameters'] / 1e6:.1f} M parameters, depths {found['depths']} -> {out}")


def _refuse_others(out: Path) -> None:
    """Makes sure that nothing is replaced but a model that was converted.

    Raises:
        ValueError: The folder holds something else.
    """
    from refseg.fields import parse_json, read_text
    from refseg.weights.store import strangers_in

    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if out.is_dir() and not strangers_in(out):
        try:
            config = parse_json(read_text(out / "config.json"), "config.json")
            if str(config["training"]["source"]).startswith("converted from"):
                return
        except (ValueError, KeyError, TypeError):
            pass
    raise ValueError(f"{out}: holds what this command did not write; a new folder is accepted, or --overwrite")

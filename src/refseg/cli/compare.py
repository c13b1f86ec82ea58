"""`refseg compare`: the paired difference of two evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from refseg.cli.options import (
    JsonOption,
)


def compare(
    a: Annotated[Path, typer.Argument(help="Folder of an evaluation (`refseg eval --out`), or its report.json.")],
    b: Annotated[Path, typer.Argument(help="The same of the model of interest.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the 95 % intervals.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Say how much better B is than A on the same expressions: the paired difference with its 95 % interval."""
    from refseg.scoring.compare import compare as compare_reports
    from refseg.scoring.compare import comparison_table

    found = compare_reports(a, b, seed)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console

    Console(width=110).print(comparison_table(found))

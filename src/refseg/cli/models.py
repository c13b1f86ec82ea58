"""`refseg models`: what can be used and trained."""

from __future__ import annotations

import json

import typer

from refseg.cli.options import (
    JsonOption,
)


def models(as_json: JsonOption = False) -> None:
    """List the models whose weights ship with the package, and the presets that can be trained."""
    from refseg.scoring.runs import models_report, models_table

    report = models_report()
    if as_json:
        typer.echo(json.dumps(report))
    else:
        from rich.console import Console

        Console(width=120).print(*models_table(report))

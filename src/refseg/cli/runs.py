"""`refseg runs` and `refseg report`: what was trained, and how it went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from refseg.cli.options import JsonOption, OverwriteOption


def runs(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR...", help="Folders to look in and below; here by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the training runs in and below DIR: preset, steps, loss, best score, age, and which are running."""
    from refseg.training.listing import list_runs, runs_table

    rows = list_runs(folders or [Path()])
    if as_json:
        typer.echo(json.dumps(rows))
        return
    from rich.console import Console

    Console(width=120).print(runs_table(rows))


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of one run, or of several.")],
    out: Annotated[
        Path | None, typer.Option(help="File of the page; RUN/report.html of a single run by default.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write one page about RUN: losses, learning rate, scores and answers over the steps; several over each other."""
    from refseg.pages import write_page
    from refseg.training.history import read_history
    from refseg.training.run_page import GENERATOR, write_for

    different = list({path.resolve(): path for path in folders}.values())
    if out is None and len(different) > 1:
        raise ValueError(f"{len(different)} runs: --out FILE.html with a name for their page is needed")
    page = out if out is not None else different[0] / "report.html"
    histories = {path: read_history(path) for path in different}
    write_page(page, write_for(different, histories), GENERATOR, overwrite)
    typer.echo(f"report: {page}")

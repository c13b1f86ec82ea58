"""`refseg push`: a model to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refseg.cli.options import OverwriteOption, complain


def push(
    model: Annotated[str, typer.Argument(help="Packaged name, or folder of a model or run.")],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Where to on the Hugging Face hub.")],
    yes: Annotated[bool, typer.Option("--yes", help="Send it; without this nothing is sent.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository that only you see.")] = False,
    revision: Annotated[str, typer.Option(metavar="BRANCH", help="Branch; it is made where there is none.")] = "main",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print all that would be sent, the card too; ask nothing of the hub.")
    ] = False,
    reports: Annotated[
        list[Path] | None,
        typer.Option("--report", help="Folder of `refseg eval --out` of this model, whose scores go into the card."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights in the hub's spelling, as cc-by-4.0.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Send MODEL to the Hugging Face hub as USER/NAME, with a card that says what it is and what was measured."""
    from refseg.weights.push import CARD, check_place, find_own_model, make_parcel, send

    if yes and dry_run:
        raise ValueError("--yes and --dry-run: one of the two is accepted")
    place = check_place(repository, revision)
    folder = find_own_model(model)
    from refseg.scoring.standing import measured_by
    from refseg.weights.store import load_model

    loaded = load_model(folder)  # what is damaged is not sent
    measured = [measured_by(path, loaded.identity) for path in reports or ()]
    parcel = make_parcel(folder, place, revision, private, measured, licence)
    typer.echo(f"to:     {place}, branch {revision}, {'private' if private else 'public'} if it is new")
    for name, size in parcel.sizes.items():
        typer.echo(f"file:   {name}, {size:,} bytes")
    for note in parcel.notes:
        typer.echo(f"note:   {note}")
    if dry_run:
        card = parcel.files[CARD]
        assert isinstance(card, bytes)
        typer.echo(f"\n{card.decode()}")
    if not yes:
        complain("nothing was sent" + ("" if dry_run else "; --yes sends it, --dry-run prints the card too"))
        raise typer.Exit(0 if dry_run else 2)
    address, notes = send(parcel, overwrite)
    for note in notes:
        typer.echo(f"note:   {note}")
    typer.echo(f"sent:   {address}")

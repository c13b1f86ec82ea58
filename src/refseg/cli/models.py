"""`refseg models`: what can be used and trained."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refseg.cli.options import JsonOption
from refseg.presets import preset_table
from refseg.weights.folders import DEFAULT_MODEL, PACKAGED, packaged_models

if TYPE_CHECKING:
    from rich.table import Table


def models(
    wanted: Annotated[
        str | None, typer.Argument(metavar="FILTER", help="Only names with this in them, as eavl or /queries.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that ship with the package, open models of photos, and the presets that can be trained."""
    report = models_report(wanted or "")
    if not any(report.values()):
        raise ValueError(f"filter {wanted!r}: no model or preset has this in its name; `refseg models` lists them all")
    if as_json:
        typer.echo(json.dumps(report))
    else:
        from rich.console import Console

        Console(width=120).print(*models_table(report))


def models_report(wanted: str = "") -> dict[str, Any]:
    """Packaged models with how they were trained, open models of the hub, and presets with the papers' scores.

    Args:
        wanted: Only names that have this in them, in upper or lower case.

    Returns:
        Both sorted as a person counts: `queries-8` before `queries-16`.
    """
    from refseg.hub_models.catalogue import CATALOGUE

    packaged = []
    for name in sorted(packaged_models(), key=_as_counted):
        config = json.loads((PACKAGED / name / "config.json").read_text(encoding="utf-8"))
        packaged.append(
            {
                "name": name,
                "method": config["method"],
                "default": name == DEFAULT_MODEL,
                "bytes": (PACKAGED / name / "model.safetensors").stat().st_size,
                "training": config["training"],
            }
        )
    listed = sorted(preset_table().values(), key=lambda entry: ("/" in entry["name"], _as_counted(entry["name"])))
    return {
        "packaged": [entry for entry in packaged if wanted.lower() in entry["name"]],
        "hub": [asdict(model) for name, model in CATALOGUE.items() if wanted.lower() in name],
        "presets": [entry for entry in listed if wanted.lower() in entry["name"]],
    }


def _as_counted(name: str) -> list[tuple[int, str]]:
    """A key by which 8 comes before 16."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def models_table(report: dict[str, Any]) -> list[Table]:
    """The same as tables; one that would be empty is left out."""
    from rich.markup import escape
    from rich.table import Table

    packaged = Table(title="models with weights in the package")
    for column in ("model", "method", "trained on", "steps", "loss", "mIoU % on the first of val"):
        packaged.add_column(column)
    for entry in report["packaged"]:
        training = entry["training"]
        miou = 100 * training["val"]["mIoU"]
        name = entry["name"] + (" (default)" if entry["default"] else "")
        loss = " + ".join(training["loss"])
        packaged.add_row(
            name, entry["method"], training["data"], str(training["steps"]), loss,
            f"{miou:.1f} ({training['val']['expressions']})",
        )  # fmt: skip
    hub = Table(title="open models of photos, downloaded from the Hugging Face hub when they are first used")
    for column in ("model", "MB", "licence", "trained on", "published, by its authors' rules"):
        hub.add_column(column, justify="right" if column == "MB" else "left")
    for entry in report["hub"]:
        access = f"; access is asked for at {entry['gated']}" if entry["gated"] else ""
        hub.add_row(
            entry["name"], f"{entry['megabytes']:,}", entry["licence"] + access, entry["trained_on"],
            entry["published"] or "none found",
        )  # fmt: skip
    known = Table(title="presets for `refseg train`")
    for column in ("preset", "from", "score of the paper, %"):
        known.add_column(column)
    for entry in report["presets"]:
        main = (item for item in entry["scores"].items() if not item[0].split()[-1].startswith("P@"))
        first = next(main, None)
        known.add_row(entry["name"], escape(entry["source"]), f"{first[1]} {first[0]}" if first else "")
    return [table for table, key in ((packaged, "packaged"), (hub, "hub"), (known, "presets")) if report[key]]

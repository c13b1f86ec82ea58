"""What the commands say: plain data for `--json`, and tables of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.table import Table

from refseg import __version__
from refseg.data.shapes import RefShapes
from refseg.evaluation import Words, evaluate, evaluate_baselines
from refseg.metrics import THRESHOLDS, Scores
from refseg.predictor import Predictor
from refseg.presets import presets
from refseg.weights import DEFAULT_MODEL, PACKAGED, packaged_models

METRICS = ("oIoU", "mIoU", *(f"P@{threshold}" for threshold in THRESHOLDS))


def evaluation_report(
    predictor: Predictor,
    name: str,
    data: RefShapes,
    limit: int | None,
    words: Words,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Scores a model and the guessers; numbers are fractions of 1."""
    scores, took = evaluate(predictor, data, limit, words, progress=progress)
    return {
        "model": name,
        "data": data.name,
        "split": data.split,
        "protocol": "original",
        "words": words,
        "images": took["images"],
        "expressions": took["expressions"],
        **scores.summary(),
        "by_kind": scores.by_kind(),
        "baselines": {guesser: _guessed(found) for guesser, found in evaluate_baselines(data, limit).items()},
        "seconds": round(took["seconds"], 2),
        "training": predictor.model.training,
        "version": __version__,
    }


def _guessed(scores: Scores) -> dict[str, Any]:
    return {"expressions": len(scores.pairs), **scores.summary(), "by_kind": scores.by_kind()}


def evaluation_table(report: dict[str, Any]) -> Table:
    """The report as a table, in percent: the model, its kinds of expression, and the guessers."""
    where = f"{report['model']} on {report['data']} {report['split']}"
    table = Table(title=f"{where}, protocol {report['protocol']}, percent")
    table.add_column("")
    table.add_column("expressions", justify="right")
    for metric in METRICS:
        table.add_column(metric, justify="right")

    def row(name: str, numbers: dict[str, Any], count: int | str) -> None:
        table.add_row(name, str(count), *(f"{100 * numbers[metric]:.2f}" for metric in METRICS))

    row("all" if report["words"] == "true" else f"words {report['words']}", report, report["expressions"])
    for kind, numbers in report["by_kind"].items():
        row(f"  {kind}", numbers, numbers["expressions"])
    table.add_section()
    for guesser, numbers in report["baselines"].items():
        row(f"{guesser} (true words)" if report["words"] != "true" else guesser, numbers, numbers["expressions"])
    loss = " + ".join(report["training"].get("loss", ["unknown"]))
    table.caption = f"{report['images']} images, {report['seconds']} s; trained with the loss {loss}"
    return table


def models_report() -> dict[str, Any]:
    """Packaged models with how they were trained, and all presets with their switches and the papers' scores."""
    packaged = []
    for name in packaged_models():
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
    listed = [
        {
            "name": preset.name,
            "method": preset.method,
            "source": preset.source,
            "scores": dict(preset.scores),
            "note": preset.note,
            "steps": preset.recipe.steps,
            "switches": asdict(preset.model),
        }
        for preset in presets().values()
    ]
    return {"packaged": packaged, "presets": listed}


def models_table(report: dict[str, Any]) -> list[Table]:
    """The same as two tables."""
    packaged = Table(title="models with weights in the package")
    for column in ("model", "method", "trained on", "steps", "loss", "mIoU % on the first of val"):
        packaged.add_column(column)
    for entry in report["packaged"]:
        training = entry["training"]
        miou = 100 * training["val"]["mIoU"]
        name = entry["name"] + (" (default)" if entry["default"] else "")
        loss = " + ".join(training["loss"])
        packaged.add_row(
            name,
            entry["method"],
            training["data"],
            str(training["steps"]),
            loss,
            f"{miou:.1f} ({training['val']['expressions']})",
        )
    known = Table(title="presets for `refseg train`")
    for column in ("preset", "from", "score of the paper, %"):
        known.add_column(column)
    for entry in report["presets"]:
        first = next(iter(entry["scores"].items()), None)
        known.add_row(entry["name"], entry["source"], f"{first[1]} {first[0]}" if first else "")
    return [packaged, known]

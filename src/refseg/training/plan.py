"""What training a preset takes and what its paper reached, told without training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.markup import escape
from rich.table import Table
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from refseg.data.formats.refer import EXPECTED, NAMED
from refseg.layers.neck import SentenceNorm
from refseg.layers.switch_norm import SwitchNorm2d
from refseg.methods import Segmenter
from refseg.presets import presets
from refseg.presets.base import Preset, Recipe
from refseg.training.memory import RUNTIME, StepMemory, network_without_values, step_memory
from refseg.training.settings import own_steps
from refseg.training.step import PRECISIONS, Precision

GB = 1e9
METRICS = {
    "oIoU": "overall IoU, intersections over unions, each summed over all expressions",
    "mIoU": "mean IoU, the IoU of every expression, averaged",
    "P@": "precision, the share of expressions whose IoU reaches X",
}


def plan_report(
    preset: Preset,
    gpu_memory: float | None = None,
    processes: int = 1,
    precision: Precision = "fp32",
    gradient_checkpointing: bool = False,
    references: int | None = None,
    steps: int | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """What a preset's training takes, ready for JSON; memory in bytes, scores in percent as printed.

    The effective batch is the preset's however a step is divided: `images` of a division is the largest part, and no
    part has more than one image less.

    Args:
        preset: What would be trained.
        gpu_memory: GB (1e9 bytes) of a GPU, for which the division of a step is worked out.
        processes: How many train together, one per GPU.
        precision: What the network computes in.
        gradient_checkpointing: Whether the inside of blocks is computed again on the way back.
        references: Training references of the data, or images where a step takes several expressions of each.
        steps: Steps of the run; None for as many as it would take itself.
        warnings: What else a user should know; see `refseg.training.pace`.

    Raises:
        ValueError: A number is not positive, there are too many processes, or the precision is unknown.
    """
    _check(preset.recipe, gpu_memory, processes, precision, references)
    recipe = replace(preset.recipe, steps=steps or own_steps(preset, references))
    network = network_without_values(preset)
    memory = step_memory(preset, processes, precision, gradient_checkpointing)
    smallest = 2 if any(isinstance(module, SentenceNorm) for module in network.modules()) else 1
    divisions = _divisions(recipe, processes, memory, smallest)
    return {
        **_training(preset, recipe, network),
        "data": _data(preset),
        "references": None if references is None else _passes(preset, recipe.steps, references),
        "precision": precision,
        "gradient_checkpointing": gradient_checkpointing,
        "processes": processes,
        "batch_statistics": _batch_statistics(network, processes, smallest),
        "memory": {
            "runtime": round(RUNTIME),
            "weights": memory.weights,
            "gradients": memory.gradients,
            "optimiser": memory.optimiser,
            "averaging": memory.averaging,
            "activations_fixed": memory.activations_fixed,
            "activations_per_expression": memory.activations_per_image // recipe.expressions_per_image,
            "working_per_expression": memory.working_per_image // recipe.expressions_per_image,
        },
        "divisions": _some(divisions),
        "gpu": None if gpu_memory is None else _fit(divisions, gpu_memory, precision, gradient_checkpointing),
        "warnings": list(warnings),
        "scores": _scores(preset),
        "unusable": preset.unusable,
        "note": preset.note.replace(preset.unusable, "").strip() if preset.unusable else preset.note,
    }


def _check(recipe: Recipe, gpu_memory: float | None, processes: int, precision: str, references: int | None) -> None:
    if gpu_memory is not None and not (math.isfinite(gpu_memory) and gpu_memory > 0):
        raise ValueError(f"GPU memory {gpu_memory}: a positive number of GB is accepted")
    if not 1 <= processes <= recipe.images_per_batch:
        raise ValueError(f"{processes} processes: 1 to {recipe.images_per_batch}, the images of a step, are accepted")
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: unknown; accepted are {', '.join(PRECISIONS)}")
    if references is not None and references < 1:
        raise ValueError(f"{references} references: at least 1 is needed")


def _training(preset: Preset, recipe: Recipe, network: Segmenter) -> dict[str, Any]:
    """What the preset says about itself, and the parameter groups that its method makes."""
    known = presets().get(preset.name)
    parts = ("model", "input", "recipe")
    groups = network.param_groups(recipe.lr, recipe.weight_decay)
    return {
        "preset": preset.name,
        "method": preset.method,
        "source": preset.source,
        "changed": [part for part in parts if known is not None and getattr(known, part) != getattr(preset, part)],
        "parameters": sum(x.numel() for x in network.parameters()),
        "trained": sum(x.numel() for x in network.parameters() if x.requires_grad),
        "input": {"size": list(preset.input.size), "resize": preset.input.resize, "tokens": preset.input.max_tokens},
        "steps": recipe.steps,
        "images_per_step": recipe.images_per_batch,
        "expressions_per_step": recipe.images_per_batch * recipe.expressions_per_image,
        "groups": [
            {
                "parameters": sum(x.numel() for x in group["params"]),
                "lr": group["lr"],
                "weight_decay": group["weight_decay"],
            }
            for group in groups
        ],
        "schedule": _schedule(recipe),
        "clip": recipe.clip,
        "select": recipe.select,
    }


def _schedule(recipe: Recipe) -> str:
    """The learning rate over the steps, in words."""
    warm = f"grows from 0 over {recipe.warmup} steps, " if recipe.warmup else "no warm-up, "
    if recipe.steps <= recipe.warmup:
        warm = f"grows over {recipe.warmup} steps, more than the run has (--set recipe.warmup={recipe.steps // 10}), "
    return f"{warm}falls as (1 - step / {recipe.steps}) ** {recipe.power:g}"


def _data(preset: Preset) -> list[dict[str, Any]]:
    """How long and with which settings the paper's data sets are trained, its main one first; unknown ones left out."""
    named = dict.fromkeys([preset.data, *(key.split()[0] for key in preset.scores)])
    found = []
    for name in named:
        if (references := _references(name)) is None:
            continue
        found.append(
            {
                "data": name,
                "references": references,
                "epochs": preset.epochs,
                # Whole batches only, as the papers' code has it.
                "steps": preset.epochs * (references // preset.recipe.images_per_batch),
                "settings": dict(preset.by_data.get(name, {})),
            }
        )
    return found


def _references(data: str) -> int | None:
    """Training references of a published data set; None where no number is known."""
    if data not in NAMED:
        return None
    folder, stem = NAMED[data]
    counts = EXPECTED.get((folder, stem.split("(")[1].rstrip(")")))
    return None if counts is None else counts["train"][0]


def _passes(preset: Preset, steps: int, references: int) -> dict[str, Any]:
    """How often the steps go through data of that size, and the steps for as many passes as in the paper."""
    recipe = preset.recipe
    return {
        "references": references,
        "unit": "references" if recipe.expressions_per_image == 1 else "images",
        "epochs": steps * recipe.images_per_batch / references,
        "steps": preset.epochs * max(1, references // recipe.images_per_batch) or None,
    }


def _batch_statistics(network: nn.Module, processes: int, smallest: int) -> str:
    """What the batch norms of a network see when a step is divided; empty if it has none."""
    kinds = [type(module) for module in network.modules() if isinstance(module, _BatchNorm | SwitchNorm2d)]
    if not kinds:
        return ""
    told = ["batch statistics are those of a micro-batch, not of the whole step"]
    if processes > 1:
        told.append("on GPUs of the micro-batches of all processes together")
        if SwitchNorm2d in kinds:
            told.append("those of the switchable norms of one process")
    if smallest > 1:
        told.append("the batch norm over sentences needs 2 expressions in each")
    return "; ".join(told)


def _divisions(recipe: Recipe, processes: int, memory: StepMemory, smallest: int) -> list[dict[str, int]]:
    """Every way to divide a step into micro-batches, the largest first.

    Args:
        recipe: Says what a step holds.
        processes: How many share it.
        memory: What a micro-batch needs.
        smallest: Expressions that every micro-batch must have.

    Raises:
        ValueError: So many processes have too few expressions each.
    """
    found: list[dict[str, int]] = []
    images, each = recipe.images_per_batch, recipe.expressions_per_image
    for accumulate in range(1, images // processes + 1):
        parts = processes * accumulate
        if images // parts * each < smallest:
            break
        largest = -(-images // parts)  # as the loader divides: no part has more than one image more than another
        if not found or largest < found[-1]["images"]:
            found.append(
                {
                    "accumulate": accumulate,
                    "images": largest,
                    "expressions": largest * each,
                    "bytes": memory.total(largest),
                }
            )
    if not found:
        raise ValueError(
            f"{processes} processes: the batch norm over sentences needs {smallest} expressions in each; at most "
            f"{images * each // smallest} are accepted"
        )
    return found


def _some(divisions: list[dict[str, int]]) -> list[dict[str, int]]:
    """The first, the last, and between them those that halve the micro-batch."""
    some = divisions[:1]
    for division in divisions[1:]:
        if 2 * division["images"] <= some[-1]["images"] or division is divisions[-1]:
            some.append(division)
    return some


def _fit(
    divisions: list[dict[str, int]], gpu_memory: float, precision: str, gradient_checkpointing: bool
) -> dict[str, Any]:
    """The largest micro-batch that fits, or what the smallest needs and what helps."""
    fitting = [division for division in divisions if division["bytes"] <= gpu_memory * GB]
    if fitting:
        return {"gb": gpu_memory, "fits": True, **fitting[0], "helps": []}
    helps = [] if precision != "fp32" else ["--precision bf16"]
    helps += [] if gradient_checkpointing else ["--gradient-checkpointing"]
    helps.append(f"a GPU of more than {divisions[-1]['bytes'] / GB:.1f} GB")
    return {"gb": gpu_memory, "fits": False, **divisions[-1], "helps": helps}


def _scores(preset: Preset) -> list[dict[str, Any]]:
    """The paper's scores, row by row."""
    found = []
    for key, score in preset.scores.items():
        data, split, metric = key.split()
        found.append({"data": data, "split": split, "metric": metric, "score": score})
    return found


def plan_table(report: dict[str, Any]) -> list[Table]:
    """The same as tables: training, memory, the paper's scores if it prints some, and what is to be said of them."""
    scores = [_score_table(report)] if report["scores"] else []
    return [_training_table(report), _memory_table(report), *scores, _remarks(report)]


def _training_table(report: dict[str, Any]) -> Table:
    table = Table(title=escape(f"{report['preset']}: {report['source']}"), show_header=False)

    def row(name: str, text: str) -> None:
        table.add_row(name, escape(text))

    if report["changed"]:
        row("changed", f"{', '.join(report['changed'])}: scores and epochs are those of the preset as it is named")
    row("parameters", f"{report['parameters'] / 1e6:.1f} M, {report['trained'] / 1e6:.1f} M of them trained")
    height, width = report["input"]["size"]
    row("input", f"{height} x {width} pixels ({report['input']['resize']}), {report['input']['tokens']} tokens")
    each = report["expressions_per_step"] // report["images_per_step"]
    up_to = "" if each == 1 else f", up to {each} of each image"
    row("a step", f"{report['images_per_step']} images, {report['expressions_per_step']} expressions{up_to}")
    row("steps", f"{report['steps']:,}")
    for data in report["data"]:
        settings = "".join(f" --set {key}={value}" for key, value in data["settings"].items())
        row(
            f"  {data['data']}",
            f"{data['epochs']} epochs of {data['references']:,} references: --steps {data['steps']}{settings}",
        )
    if not report["data"]:
        row("  refshapes", "drawn anew without end; the number of steps is ours, not a paper's")
    if (own := report["references"]) is not None:
        same = own["steps"] in (None, report["steps"])
        as_paper = "" if same else f"; as many epochs as in the paper: --steps {own['steps']}"
        row("  your data", f"{own['epochs']:,.1f} epochs of {own['references']:,} {own['unit']}{as_paper}")
    for group in report["groups"]:
        row(
            "AdamW",
            f"learning rate {group['lr']:g}, weight decay {group['weight_decay']:g}: "
            f"{group['parameters'] / 1e6:.1f} M parameters",
        )
    for warning in report["warnings"]:
        row("  mind", warning)
    clip = f"; gradients clipped to {report['clip']:g}" if report["clip"] else ""
    row("learning rate", f"{report['schedule']}{clip}")
    row("best weights", f"by {report['select']} on val")
    if report["note"]:
        row("note", report["note"])
    return table


def _memory_table(report: dict[str, Any]) -> Table:
    how = report["precision"] + (", gradient checkpointing" if report["gradient_checkpointing"] else "")
    table = Table(title=f"memory of each of {report['processes']} process(es), {how}: an estimate")
    for column in ("--accumulate", "images at a time", "expressions", "GB"):
        table.add_column(column, justify="right")
    for division in report["divisions"]:
        table.add_row(
            str(division["accumulate"]), str(division["images"]), str(division["expressions"]),
            f"{division['bytes'] / GB:.1f}",
        )  # fmt: skip
    return table


def _score_table(report: dict[str, Any]) -> Table:
    table = Table(title="score of the paper, %")
    metrics = list(dict.fromkeys(score["metric"] for score in report["scores"]))
    where = list(dict.fromkeys((score["data"], score["split"]) for score in report["scores"]))
    printed = {(x["data"], x["split"], x["metric"]): f"{x['score']:.2f}" for x in report["scores"]}
    for column in ("data", "split", *metrics):
        table.add_column(column, justify="left" if column in ("data", "split") else "right")
    for data, split in where:
        table.add_row(data, split, *(printed.get((data, split, metric), "") for metric in metrics))
    return table


def _remarks(report: dict[str, Any]) -> Table:
    """What stands below the tables."""
    table = Table(show_header=False)
    memory, gpu = report["memory"], report["gpu"]
    parts = ("runtime", "weights", "gradients", "optimiser", "averaging", "activations_fixed")
    held = ", ".join(f"{name.replace('_', ' ')} {memory[name] / GB:.2f}" for name in parts if memory[name] >= 5e6)
    each = f"{memory['activations_per_expression'] / GB:.2f} of activations"
    moment = f"{memory['working_per_expression'] / GB:.2f} for a moment"
    rows = [
        ("memory", f"GB: {held}; and for every expression {each} and {moment}. --ema keeps the weights once more"),
        ("batch norm", report["batch_statistics"]),
        ("unusable", report["unusable"]),
    ]
    if gpu is not None and gpu["fits"]:
        told = f"--accumulate {gpu['accumulate']}: at most {gpu['images']} images at a time, {gpu['bytes'] / GB:.1f} GB"
        rows.insert(0, (f"{gpu['gb']:g} GB", f"{told}; the effective batch stays {report['expressions_per_step']}"))
    elif gpu is not None:
        told = f"not even the smallest micro-batch fits; what helps: {', '.join(gpu['helps'])}"
        rows.insert(0, (f"{gpu['gb']:g} GB", told))
    for start, text in METRICS.items():
        if any(score["metric"].startswith(start) for score in report["scores"]):
            rows.append((start.replace("@", "@X"), text))
    if not report["scores"] and not report["unusable"]:
        rows.append(("score", "no paper prints one for this preset"))
    for name, text in rows:
        if text:
            table.add_row(name, escape(text))
    return table

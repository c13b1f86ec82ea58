"""`refseg train`: training a preset, or the plan of it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from refseg.cli.options import (
    DeviceOption,
    ImagesOption,
    JsonOption,
    MaskValuesOption,
    OrientationOption,
    OverlapOption,
    OverwriteOption,
    SkipBadOption,
    read_as,
)
from refseg.progress import ProgressBar


def train(
    context: typer.Context,
    preset: Annotated[
        str | None, typer.Argument(help="Name of a preset; `refseg models` lists them. --resume knows its own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run: checkpoints, log, last and best weights.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="As for eval; refshapes for compact presets, which learn it, else needed. Given several times, all "
            "are trained on, without any image of their val and test splits; val of the first chooses the best."
        ),
    ] = None,
    images: ImagesOption = None,
    overlap: OverlapOption = "union",
    mask_values: MaskValuesOption = None,
    orientation: OrientationOption = "fitting",
    skip_bad: SkipBadOption = False,
    trust_data: Annotated[
        bool, typer.Option("--trust-data", help="Begin without looking at the sizes of all images and masks.")
    ] = False,
    init: Annotated[
        str | None, typer.Option(help="Start from the weights of this model: packaged name, folder, or user/name.")
    ] = None,
    encoders: Annotated[
        Path | None, typer.Option(help="Folder with the published encoders; docs/train.md has their names.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; the preset's by default.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data, instead of --steps.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the preset: recipe.lr=1e-4, input.max_tokens=22, ..."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, order and expressions.")] = 0,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16; what `accelerate launch` was told, else fp32.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Divide each step into so many parts, to need less memory.")
    ] = 1,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Need less memory and a third more time.")
    ] = False,
    ema: Annotated[
        float, typer.Option(min=0, max=1, help="Score and save averaged weights, with this decay; 0 for none.")
    ] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    keep: Annotated[int, typer.Option(min=1, help="How many checkpoints stay.")] = 2,
    eval_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations on val; a pass over the data by default.")
    ] = None,
    eval_limit: Annotated[
        int | None, typer.Option(min=1, help="Expressions of such an evaluation; all by default.")
    ] = None,
    eval_batch: Annotated[int, typer.Option(min=1, help="Images, and expressions, at a time in it.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write OUT/tensorboard.")] = False,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what training needs and what the paper reached; train nothing.")
    ] = False,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.1, help="With --plan: GB of a GPU, for which --accumulate is worked out.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="With --plan: how many of them.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train PRESET; the best and the last weights are models that every other command takes.

    `accelerate launch -m refseg train ...` trains with several processes, one per GPU, on one machine or several.
    """
    from refseg.presets import check_preset, get_preset

    if preset is None:
        if not resume or plan or out is None:
            raise ValueError("no PRESET is given: its name is needed, or --resume --out DIR with the folder of a run")
        _resume(context, out)
        return
    check_preset(preset)
    if not plan and out is None:
        raise ValueError(f"preset {preset!r}: --out DIR with the folder of the run is needed")
    from refseg.training.settings import with_settings

    chosen = with_settings(get_preset(preset), change or [])
    how = checked_precision(precision)
    reading = read_as(images, overlap, mask_values, orientation, skip_bad)
    if plan:
        from refseg.data.mixture import open_training
        from refseg.training.loop import plan_warnings
        from refseg.training.plan import plan_report, plan_table

        items = open_training(data, chosen.recipe.expressions_per_image == 1, reading) if data else None
        many = None if items is None or items.train.endless else len(items.train)
        if epochs is not None:
            raise ValueError(
                f"--epochs {epochs} with --plan: --steps is accepted; the plan says how many epochs that is"
            )
        told = (
            []
            if items is None or many is None
            else plan_warnings(chosen, items, steps, eval_every, eval_limit, workers)
        )
        report = plan_report(chosen, gpu_memory, gpus, how, gradient_checkpointing, many, steps, told)
        if as_json:
            typer.echo(json.dumps(report))
        else:
            from rich.console import Console

            Console(width=110).print(*plan_table(report))
        return
    if gpu_memory is not None or gpus != 1 or as_json:
        raise ValueError("--gpu-memory, --gpus or --json without --plan: they say what is planned; --plan is accepted")
    assert out is not None
    if not data:
        if not chosen.compact:
            raise ValueError(f"preset {preset!r}: is trained on photos; --data with a data set or its folder is needed")
        data = ["refshapes"]
    from refseg.training.config import Run

    run = Run(
        preset=chosen, data=tuple(data), out=out, steps=steps, epochs=epochs, seed=seed, save_every=save_every,
        keep=keep, eval_every=eval_every, eval_limit=eval_limit, eval_batch=eval_batch, workers=workers, device=device,
        encoders=encoders, reading=reading, trust_data=trust_data, init=init, precision=how,
        accumulate=accumulate, recompute=gradient_checkpointing, ema=ema, tensorboard=tensorboard, overwrite=overwrite,
    )  # fmt: skip
    _go(run, resume)


def _resume(context: typer.Context, out: Path) -> None:
    """Goes on with the run in a folder as it was told; what is given now replaces what was."""
    if not out.is_dir():
        raise ValueError(f"{out}: no such folder; the folder of a run is accepted")
    from refseg.training.config import READING, read_run
    from refseg.training.settings import with_settings

    run = read_run(out)
    given = {name: value for name, value in context.params.items() if is_given(context, name)}
    settings = given.pop("change", None) or []
    renamed = {"gradient_checkpointing": "recompute"}
    changes = {renamed.get(name, name): value for name, value in given.items() if name not in ("resume", "out")}
    if planned := [name for name in ("gpu_memory", "gpus", "as_json") if name in changes]:
        raise ValueError(f"--{planned[0].replace('_', '-').replace('as-', '')} with --resume: says what is planned; "
                         "--plan is accepted")  # fmt: skip
    if "data" in changes:
        changes["data"] = tuple(changes["data"])
    if read := {name: changes.pop(name) for name in READING if name in changes}:
        told = {name: getattr(run.reading, name) for name in READING}
        changes["reading"] = read_as(**(told | read))
    if "precision" in changes:
        changes["precision"] = checked_precision(changes["precision"])
    if "steps" in changes:
        changes.setdefault("epochs", None)
    if "epochs" in changes:
        changes.setdefault("steps", None)
    _go(replace(run, preset=with_settings(run.preset, settings), **changes), resume=True)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, and has not its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _go(run: Any, resume: bool) -> None:
    """Trains with everybody that the launcher started."""
    from refseg.training.loop import train as train_run
    from refseg.training.processes import find_processes

    out = run.out
    with find_processes(run.device) as team:
        with ProgressBar("training", None, hidden=not team.main) as bar:
            looked = ProgressBar("looking at the images", None, hidden=not team.main or not sys.stderr.isatty())
            train_run(run, resume, bar.at, lambda message: typer.echo(message, err=True), team, looked.reached)
        if team.main:
            typer.echo(f"trained; the weights are in {out / 'best'} and {out / 'last'}")


def checked_precision(name: str | None) -> Any:
    """What is asked for, or what `accelerate launch --mixed_precision` put into the environment."""
    chosen = name or os.environ.get("ACCELERATE_MIXED_PRECISION", "no").replace("no", "fp32")
    if chosen not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"--precision {chosen!r}: unknown; accepted are fp32, bf16, fp16")
    return chosen
